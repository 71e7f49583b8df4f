"""The acoustic wave equation with attenuation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp

from .._validate import positive
from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import ODD, Symbols
from ..scheme.system import Port, System, Update
from . import stability
from .averages import half_points
from .base import AbstractWaveEquation
from .plausible import DENSITY, QUALITY, Plausible
from .schemes import to_half, to_node
from .time_stepping import LEAPFROG, TimeStepping


@final
class Viscoacoustic(AbstractWaveEquation):
    """The acoustic wave equation with variable density and attenuation: the medium is a standard
    linear solid, with the bulk modulus `M(omega) = kappa (1 + i omega t_e) / (1 + i omega t_s)`.

    With `f = div((1/rho) grad(p))` and a memory variable g of it, `g_t = (f - g) / t_s`:

        (1 / kappa_u) p_tt = f - (1 - t_s / t_e) g + w(t) delta(x - xs),  kappa_u = kappa t_e / t_s

    (Robertsson, Blanch and Symes, 1994, with the velocities eliminated). At the reference
    frequency, the phase velocity is vp, the quality factor is Q, and the attenuation per wavelength
    is largest.

    Model: a dict of vp, m/s, rho, kg/m3, and Q, each of the grid's shape. Receivers read the
    pressure p. `max_velocity` has to bound the velocity at high frequency, which is about
    `vp (1 + 1 / (2 Q))`.

    At a free surface, p, f and g are zero: they continue above it with opposite sign (odd), and so
    do sources and the values that receivers read.

    One error in time is left after time dispersion has been removed (see `Propagator`): the scheme
    averages g over a step, which reduces the attenuation by the factor `1 - (omega dt)^2 / 8`. At
    the largest step, traces are then 0.1 % wrong for Q = 20, less for larger Q or smaller steps.

    Attributes:
        frequency: the reference frequency, Hz.
        space_order: even accuracy order in space, 2 to 16.

    Raises:
        ValueError: a frequency that is not positive.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("vp", "rho", "Q")
    plausible: ClassVar[Mapping[str, Plausible]] = {"rho": DENSITY, "Q": QUALITY}
    time_stepping: ClassVar[TimeStepping | None] = LEAPFROG
    positive_parameters: ClassVar[tuple[str, ...]] = ("rho", "Q")
    contrasts: ClassVar[Mapping[str, float] | None] = {"rho": stability.DENSITY_CONTRAST}
    stretchable: ClassVar[bool | None] = True
    frequency: float = eqx.field(static=True, kw_only=True)
    space_order: int = eqx.field(static=True, default=8)

    def __check_init__(self) -> None:
        positive("frequency", self.frequency, "Hz")

    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        p, g = symbols.field("p", image=ODD), symbols.field("g", time_order=1, image=ODD)
        compressibility, loss, rate = (
            symbols.coefficient(n) for n in ("compressibility", "loss", "rate")
        )
        buoyancies = tuple(
            symbols.coefficient(f"buoyancy_{d.name}", staggered=d) for d in symbols.dimensions
        )
        f = sum(
            to_node(b * to_half(p, d), d)
            for b, d in zip(buoyancies, symbols.dimensions, strict=True)
        )
        # The memory variable is half a step off the pressure, so that each of the two is centred in
        # time in the equation of the other.
        memory = Update.of(g.dt + rate * g - rate * f, g)
        pressure = Update.of(compressibility * p.dt2 - f + loss * (g.forward + g) / 2, p)
        return System(
            symbols=symbols,
            coefficients=(compressibility, loss, rate, *buoyancies),
            updates=(memory, pressure),
            inputs=(Port("source", ((p, 1.0),)),),
            outputs=(Port("receiver", ((p, 1.0),)),),
        )

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        vp, rho, q = (parameters[n] for n in self.parameter_names)
        a, cosine_squared = self._relaxation(q)
        names = {1: "z", 2: "xz", 3: "xyz"}[rho.ndim]
        return {
            "compressibility": a / (rho * vp**2 * cosine_squared),
            "loss": 1.0 - a**2,
            "rate": 2.0 * jnp.pi * self.frequency / a,
            **{f"buoyancy_{n}": 1.0 / half_points(rho, axis) for axis, n in enumerate(names)},
        }

    def _relaxation(self, q: Any) -> tuple[Any, Any]:
        """Two numbers at the reference frequency: `a = omega t_s = 1 / (omega t_e)`, and the
        squared cosine of half the loss angle. (There, M has the size `kappa / a`, and its phase is
        the loss angle, `atan(1/Q)`.)"""
        inverse = 1.0 / q
        root = jnp.sqrt(1.0 + inverse**2)
        return root - inverse, 0.5 * (1.0 + 1.0 / root)

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        """The slowest wave speed, at low frequency, and the fastest, at high frequency, m/s."""
        vp = parameters["vp"]
        a, cosine_squared = self._relaxation(parameters["Q"])
        return jnp.min(vp * jnp.sqrt(a * cosine_squared)), jnp.max(
            vp * jnp.sqrt(cosine_squared / a)
        )

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        return stability.staggered_step(self.space_order, spacing, max_velocity)
