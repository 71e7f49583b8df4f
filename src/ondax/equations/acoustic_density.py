"""The acoustic wave equation with variable density."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp

from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import EVEN, ODD, Symbols
from ..scheme.system import Port, System, Update
from . import stability
from .averages import half_points
from .base import AbstractWaveEquation
from .plausible import DENSITY, Plausible
from .schemes import as_fed, to_half, to_node
from .time_stepping import LEAPFROG, TimeStepping


@final
class AcousticDensity(AbstractWaveEquation):
    """The acoustic wave equation with variable density, `(1/(rho vp^2)) p_tt - div((1/rho) (grad(p)
    - f)) = w(t) delta(x - xs)`.

    Model: a dict of vp, m/s, and rho, kg/m3, each of the grid's shape. The scheme has nested
    staggered differences, the inverse of rho averaged to the half points, and is of second order in
    time (Virieux, 1984, with velocities eliminated).

    Sources: "source" (default), w(t), the second time derivative of an injected volume, m3/s2 (per
    metre in 2-D); "force_x", ..., a body force f in N. Receivers: "receiver" (default) or
    "pressure", p in Pa; "velocity_x", ..., the particle velocity v in m/s, where `rho v_t = f -
    grad(p)`. Forces and velocities are on the staggered grid of `Elastic`, of which this is the
    fluid, and cost fields of their own, only where a survey asks for them. Pressure that is
    recorded together with velocities is interpolated in time.

    At a free surface, p = 0: p continues above it with opposite sign (odd), and so do sources and
    the values that receivers read, but for vertical forces and velocities, which are not zero
    there. Values of these above the surface are extrapolated from those below.

    Attributes:
        space_order: even accuracy order in space, 2 to 16. With 2, traces are inaccurate. Removing
            time dispersion (see `Propagator`) makes this worse, as it hides a part of the error.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("vp", "rho")
    plausible: ClassVar[Mapping[str, Plausible]] = {"rho": DENSITY}
    time_stepping: ClassVar[TimeStepping | None] = LEAPFROG
    positive_parameters: ClassVar[tuple[str, ...]] = ("rho",)
    contrasts: ClassVar[Mapping[str, float] | None] = {"rho": stability.DENSITY_CONTRAST}
    stretchable: ClassVar[bool | None] = True
    space_order: int = eqx.field(static=True, default=8)

    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        p = symbols.field("p", image=ODD)
        compressibility = symbols.coefficient("compressibility")
        axes, dt = symbols.dimensions, symbols.dt
        buoyancy = {d: symbols.coefficient(f"buoyancy_{d.name}", staggered=d) for d in axes}
        # Along the surface nothing moves what has no pressure.
        images = {d: EVEN if d == axes[-1] else ODD for d in axes}
        force, velocity = (
            {
                d: symbols.field(f"{n}_{d.name}", time_order=1, staggered=d, image=images[d])
                for d in axes
            }
            for n in "fv"
        )
        slope = {d: to_half(p, d) - force[d].forward for d in axes}
        flux = sum(to_node(buoyancy[d] * slope[d], d) for d in axes)
        updates = [as_fed(f) for f in force.values()]
        updates += [Update(v, 1 / dt, v / dt - buoyancy[d] * slope[d]) for d, v in velocity.items()]
        updates.append(Update.of(compressibility * p.dt2 - flux, p))
        inputs = [Port("source", ((p, 1.0),))]
        inputs += [Port(f"force_{d.name}", ((f, 1.0),)) for d, f in force.items()]
        outputs = [Port(n, ((p, 1.0),)) for n in ("receiver", "pressure")]
        outputs += [
            Port(f"velocity_{d.name}", ((velocity[d], 1.0),), time=-0.5) for d in reversed(axes)
        ]
        coefficients = (compressibility, *buoyancy.values())
        return System(symbols, coefficients, tuple(updates), tuple(inputs), tuple(outputs))

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        vp, rho = parameters["vp"], parameters["rho"]
        names = {1: "z", 2: "xz", 3: "xyz"}[rho.ndim]
        buoyancies = {f"buoyancy_{n}": 1.0 / half_points(rho, axis) for axis, n in enumerate(names)}
        return {"compressibility": 1.0 / (rho * vp**2), **buoyancies}

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        return jnp.min(parameters["vp"]), jnp.max(parameters["vp"])

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        return stability.staggered_step(self.space_order, spacing, max_velocity)
