"""The pseudo-acoustic wave equation with a vertical axis of symmetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from devito import Derivative

from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import ODD, Symbols
from ..scheme.system import Port, System
from . import stability
from .base import AbstractWaveEquation
from .plausible import THOMSEN, Plausible
from .schemes import second_order_in_time
from .time_stepping import LEAPFROG, TimeStepping


class VTI(AbstractWaveEquation):
    """Vertically transverse isotropy, for horizontal and vertical stress p and r, with `s = sqrt(1
    + 2 delta)`:

        (1/vp^2) p_tt = (1 + 2 epsilon) (p_xx + p_yy) + s r_zz + w(t) delta(x - xs)
        (1/vp^2) r_tt = s (p_xx + p_yy) + r_zz + (1/s) w(t) delta(x - xs)

    (Duveneck and Bakker, 2011, at constant density). It conserves an energy, and so is stable,
    where epsilon >= delta.

    Stepped in time are p and `q = p - s r`, of which `(1/vp^2) q_tt = 2 (epsilon - delta) (p_xx +
    p_yy)`. Where epsilon = delta nothing pulls q back: it stays exactly zero, where stepping p and
    r would let their rounding add up to it without end. So sources feed p alone, and r by 1/s of
    it: where epsilon = delta they radiate the elliptic wave and nothing else.

    Model: a dict of vp, m/s, and the Thomsen (1986) parameters epsilon and delta, each of the
    grid's shape. Receivers: "receiver" (default) reads p; "vertical" reads s r, which is p where
    epsilon = delta. Without anisotropy both are `Acoustic`'s pressure.

    A free surface is where both stresses are zero: above it, they have the opposite sign (odd), and
    so do sources and what receivers read.

    Attributes:
        space_order: even accuracy order in space, 2 to 16. At 2, traces are inaccurate, the more so
            as time dispersion, which hides a part of the error, is taken out (see `Propagator`).
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("vp", "epsilon", "delta")
    plausible: ClassVar[Mapping[str, Plausible]] = {"epsilon": THOMSEN, "delta": THOMSEN}
    contrasts: ClassVar[Mapping[str, float] | None] = {}
    time_stepping: ClassVar[TimeStepping | None] = LEAPFROG
    stretchable: ClassVar[bool | None] = True
    space_order: int = eqx.field(static=True, default=8)

    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        *across, depth = symbols.dimensions
        return transverse_system(
            symbols,
            boundary,
            across=lambda p: sum(Derivative(p, (d, 2)) for d in across),
            along=lambda r: Derivative(r, (depth, 2)),
        )

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return transverse(parameters)

    def constraints(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return thomsen_constraints(parameters)

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        return thomsen_speeds(parameters)

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        bound = stability.second_derivative_bound(self.space_order)
        return stability.largest_step(bound, spacing, max_velocity)


def transverse_system(
    symbols: Symbols,
    boundary: AbstractBoundary,
    across: Callable[[Any], Any],
    along: Callable[[Any], Any],
    axis: Sequence[Any] = (),
) -> System:
    """The scheme of transverse isotropy about any axis, for p and `q = p - s r`.

    Args:
        symbols: the scheme's.
        boundary: what surrounds the model.
        across: the operator on p, of second order across the axis.
        along: the operator on r, of second order along the axis.
        axis: further coefficients, which the operators hold.
    """
    p, q = symbols.field("p", image=ODD), symbols.field("q", image=ODD)
    m, s, inverse, excess = (symbols.coefficient(n) for n in ("m", "mixed", "inverse", "excess"))
    stretched = across(p)
    of_q = excess * stretched
    of_p = of_q + s * (s * stretched + along(inverse * (p - q)))
    updates = (
        second_order_in_time(symbols, boundary, q, m, of_q),
        second_order_in_time(symbols, boundary, p, m, of_p),
    )
    inputs = (Port("source", ((p, 1.0),)),)
    outputs = (Port("receiver", ((p, 1.0),)), Port("vertical", ((p, 1.0), (q, -1.0))))
    return System(symbols, (m, s, inverse, excess, *axis), updates, inputs, outputs)


def transverse(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Coefficients of transverse isotropy, whatever its axis. The excess is a difference of
    parameters, not of coefficients, so that it is exactly zero where they are equal."""
    mixed = jnp.sqrt(1.0 + 2.0 * parameters["delta"])
    return {
        "m": 1.0 / parameters["vp"] ** 2,
        "mixed": mixed,
        "inverse": 1.0 / mixed,
        "excess": 2.0 * (parameters["epsilon"] - parameters["delta"]),
    }


def thomsen_constraints(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What must not be negative. Where epsilon < delta, the pseudo-acoustic equations have growing
    solutions."""
    epsilon, delta = parameters["epsilon"], parameters["delta"]
    return {"epsilon - delta": epsilon - delta, "1 + 2 delta": 1.0 + 2.0 * delta}


def thomsen_speeds(parameters: Mapping[str, Any]) -> tuple[Any, Any]:
    """Of P waves in any direction: between the slowest, and the horizontal and vertical one."""
    vp, epsilon, delta = (parameters[n] for n in ("vp", "epsilon", "delta"))
    slow = vp * jnp.sqrt(1.0 + 2.0 * jnp.minimum(delta, 0.0))
    fast = vp * jnp.sqrt(1.0 + 2.0 * jnp.maximum(epsilon, 0.0))
    return jnp.min(slow), jnp.max(fast)
