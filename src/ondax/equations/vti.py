"""The pseudo-acoustic wave equation with a vertical axis of symmetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from devito import Derivative

from . import stability
from .base import AbstractBoundary, AbstractWaveEquation
from .schemes import second_order_in_time
from .system import ODD, Port, Symbols, System
from .time_stepping import LEAPFROG, TimeStepping


class VTI(AbstractWaveEquation):
    """Vertically transverse isotropy, for horizontal and vertical stress p and r, with `s = sqrt(1 + 2 delta)`:

        (1/vp^2) p_tt = (1 + 2 epsilon) (p_xx + p_yy) + s r_zz + w(t) delta(x - xs)
        (1/vp^2) r_tt = s (p_xx + p_yy) + r_zz + w(t) delta(x - xs)

    (Duveneck and Bakker, 2011, at constant density). It conserves an energy, and so is stable, where epsilon >= delta.

    Model: a dict of vp, m/s, and the Thomsen (1986) parameters epsilon and delta, each of the grid's shape. Receivers:
    "receiver" (default) reads p, "vertical" reads r; without anisotropy both are `Acoustic`'s pressure.

    Attributes:
        space_order: even accuracy order in space, 2 to 16.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("vp", "epsilon", "delta")
    time_stepping: ClassVar[TimeStepping | None] = LEAPFROG
    space_order: int = eqx.field(static=True, default=8)

    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        p, r = symbols.field("p", image=ODD), symbols.field("r", image=ODD)
        m, horizontal, mixed = (symbols.coefficient(n) for n in ("m", "horizontal", "mixed"))
        *across, depth = symbols.dimensions
        along = sum(Derivative(p, (d, 2)) for d in across)
        down = Derivative(r, (depth, 2))
        updates = (
            second_order_in_time(symbols, boundary, p, m, horizontal * along + mixed * down),
            second_order_in_time(symbols, boundary, r, m, mixed * along + down),
        )
        return System(symbols, (m, horizontal, mixed), updates, *stress_ports(p, r))

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return transverse(parameters)

    def constraints(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return thomsen_constraints(parameters)

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        return thomsen_speeds(parameters)

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        bound = stability.second_derivative_bound(self.space_order)
        return stability.largest_step(bound, spacing, max_velocity)


def stress_ports(p: Any, r: Any) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of the two stresses: sources feed both alike."""
    receivers = (Port("receiver", ((p, 1.0),)), Port("vertical", ((r, 1.0),)))
    return (Port("source", ((p, 1.0), (r, 1.0))),), receivers


def transverse(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Coefficients of transverse isotropy, whatever its axis."""
    return {
        "m": 1.0 / parameters["vp"] ** 2,
        "horizontal": 1.0 + 2.0 * parameters["epsilon"],
        "mixed": jnp.sqrt(1.0 + 2.0 * parameters["delta"]),
    }


def thomsen_constraints(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What must not be negative. Where epsilon < delta, the pseudo-acoustic equations have growing solutions."""
    epsilon, delta = parameters["epsilon"], parameters["delta"]
    return {"epsilon - delta": epsilon - delta, "1 + 2 delta": 1.0 + 2.0 * delta}


def thomsen_speeds(parameters: Mapping[str, Any]) -> tuple[Any, Any]:
    """Of P waves in any direction: between the slowest, and the horizontal and vertical one."""
    vp, epsilon, delta = (parameters[n] for n in ("vp", "epsilon", "delta"))
    slow = vp * jnp.sqrt(1.0 + 2.0 * jnp.minimum(delta, 0.0))
    fast = vp * jnp.sqrt(1.0 + 2.0 * jnp.maximum(epsilon, 0.0))
    return jnp.min(slow), jnp.max(fast)
