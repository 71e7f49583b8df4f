"""The acoustic wave equation with constant density."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp

from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import ODD, Symbols
from ..scheme.system import Port, System, Update
from . import stability
from .base import AbstractWaveEquation
from .time_stepping import LEAPFROG, TimeStepping


@final
class Acoustic(AbstractWaveEquation):
    """The acoustic wave equation with constant density, `(1/vp^2) u_tt - laplace(u) = w(t)
    delta(x - xs)`.

    Model: an array of vp, m/s, of the grid's shape. Receivers read u. The scheme is of second order
    in time (Alford et al., 1974).

    At a free surface, u = 0: u continues above it with opposite sign (odd), and so do sources and
    the values that receivers read.

    Attributes:
        space_order: even accuracy order in space, 2 to 16. With 2, traces are inaccurate. Removing
            time dispersion (see `Propagator`) makes this worse, as it hides a part of the error.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("vp",)
    contrasts: ClassVar[Mapping[str, float] | None] = {}
    time_stepping: ClassVar[TimeStepping | None] = LEAPFROG
    stretchable: ClassVar[bool | None] = True
    space_order: int = eqx.field(static=True, default=8)

    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        u = symbols.field("u", image=ODD)
        m = symbols.coefficient("m")
        return System(
            symbols=symbols,
            coefficients=(m,),
            updates=(Update.of(m * u.dt2 - u.laplace, u),),
            inputs=(Port("source", ((u, 1.0),)),),
            outputs=(Port("receiver", ((u, 1.0),)),),
        )

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {"m": 1.0 / parameters["vp"] ** 2}

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        return jnp.min(parameters["vp"]), jnp.max(parameters["vp"])

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        bound = stability.second_derivative_bound(self.space_order)
        return stability.largest_step(bound, spacing, max_velocity)
