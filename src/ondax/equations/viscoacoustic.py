"""The acoustic wave equation with attenuation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import ODD, Symbols
from ..scheme.system import Port, System, Update
from . import stability
from .averages import half_points
from .base import AbstractWaveEquation
from .plausible import DENSITY, QUALITY, Plausible
from .schemes import second_order_in_time, to_half, to_node
from .time_stepping import LEAPFROG, TimeStepping


class Viscoacoustic(AbstractWaveEquation):
    """`AcousticDensity` in a standard linear solid: the bulk modulus is `M(omega) = kappa (1 + i
    omega t_e) / (1 + i omega t_s)`.

    With a memory g of `f = div((1/rho) grad(p))`, `g_t = (f - g) / t_s`:

        (1 / kappa_u) p_tt = f - (1 - t_s / t_e) g + w(t) delta(x - xs),  kappa_u = kappa t_e / t_s

    (Robertsson, Blanch and Symes, 1994, with the velocities eliminated). At the reference
    frequency, phase velocity and quality factor are vp and Q, and the attenuation per wavelength is
    largest.

    Model: a dict of vp, m/s, rho, kg/m3, and Q, each of the grid's shape. Receivers read the
    pressure p. `max_velocity` bounds the velocity at high frequency, vp (1 + 1 / 2Q) or so.

    A free surface is where p = 0, and with it f and g: above it, all three have the opposite sign
    (odd), and so do sources and what receivers read.

    Taking time dispersion out of the traces (see `Propagator`) leaves this: a mean over a step
    stands for the memory, so that attenuation acts as if it were `1 - (omega dt)^2 / 8` of itself.
    At the largest step, traces are 0.1 % wrong for Q = 20, less for larger Q and smaller steps.

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
        if not (math.isfinite(self.frequency) and self.frequency > 0.0):
            raise ValueError(f"frequency={self.frequency!r} must be a positive number, in Hz")

    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        dt = symbols.dt
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
        # The memory is known half a step off the pressure, so that each is centred in the other's
        # equation.
        half = (boundary.damping(symbols, g) + rate) / 2
        memory = Update(g, 1 / dt + half, (1 / dt - half) * g + rate * f)
        pressure = second_order_in_time(
            symbols, boundary, p, compressibility, f - loss * (g.forward + g) / 2
        )
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
        """`a = omega t_s = 1 / (omega t_e)` at the reference frequency, and the squared cosine of
        half the loss angle: there M is `kappa / a` times a phase of `atan(1/Q)`."""
        inverse = 1.0 / q
        root = jnp.sqrt(1.0 + inverse**2)
        return root - inverse, 0.5 * (1.0 + 1.0 / root)

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        """At low and at high frequency."""
        vp = parameters["vp"]
        a, cosine_squared = self._relaxation(parameters["Q"])
        return jnp.min(vp * jnp.sqrt(a * cosine_squared)), jnp.max(
            vp * jnp.sqrt(cosine_squared / a)
        )

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        return stability.staggered_step(self.space_order, spacing, max_velocity)
