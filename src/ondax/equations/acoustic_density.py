"""The acoustic wave equation with variable density."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp

from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import ODD, Symbols
from ..scheme.system import Port, System, Update
from . import stability
from .averages import half_points
from .base import AbstractWaveEquation
from .plausible import DENSITY, Plausible
from .schemes import to_half, to_node
from .time_stepping import LEAPFROG, TimeStepping


@final
class AcousticDensity(AbstractWaveEquation):
    """The acoustic wave equation with variable density, `(1/(rho vp^2)) p_tt - div((1/rho) grad(p))
    = w(t) delta(x - xs)`.

    Model: a dict of vp, m/s, and rho, kg/m3, each of the grid's shape. Receivers read the pressure
    p. The scheme has nested staggered differences, the inverse of rho averaged to the half points,
    and is of second order in time (Virieux, 1984, with velocities eliminated).

    At a free surface, p = 0: p continues above it with opposite sign (odd), and so do sources and
    the values that receivers read.

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
        buoyancies = tuple(
            symbols.coefficient(f"buoyancy_{d.name}", staggered=d) for d in symbols.dimensions
        )
        fluxes = (
            to_node(b * to_half(p, d), d)
            for b, d in zip(buoyancies, symbols.dimensions, strict=True)
        )
        return System(
            symbols=symbols,
            coefficients=(compressibility, *buoyancies),
            updates=(Update.of(compressibility * p.dt2 - sum(fluxes), p),),
            inputs=(Port("source", ((p, 1.0),)),),
            outputs=(Port("receiver", ((p, 1.0),)),),
        )

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        vp, rho = parameters["vp"], parameters["rho"]
        names = {1: "z", 2: "xz", 3: "xyz"}[rho.ndim]
        buoyancies = {f"buoyancy_{n}": 1.0 / half_points(rho, axis) for axis, n in enumerate(names)}
        return {"compressibility": 1.0 / (rho * vp**2), **buoyancies}

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        return jnp.min(parameters["vp"]), jnp.max(parameters["vp"])

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        return stability.staggered_step(self.space_order, spacing, max_velocity)
