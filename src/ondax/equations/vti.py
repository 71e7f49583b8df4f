"""The pseudo-acoustic wave equation with a vertical axis of symmetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp

from .._symbolic import devito
from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import ODD, Symbols
from ..scheme.system import Flux, Port, System, Update
from . import stability
from .base import AbstractWaveEquation
from .plausible import THOMSEN, Plausible
from .time_stepping import LEAPFROG, TimeStepping


@final
class VTI(AbstractWaveEquation):
    """The pseudo-acoustic wave equation with a vertical axis of symmetry (vertical transverse
    isotropy), for the horizontal stress p and the vertical stress r. With `s = sqrt(1 + 2 delta)`:

        (1/vp^2) p_tt = (1 + 2 epsilon) (p_xx + p_yy) + s r_zz + w(t) delta(x - xs)
        (1/vp^2) r_tt = s (p_xx + p_yy) + r_zz + (1/s) w(t) delta(x - xs)

    (Duveneck and Bakker, 2011, at constant density). It conserves an energy, and so is stable,
    where epsilon >= delta.

    The fields that are stepped in time are p and `q = p - s r`, for which `(1/vp^2) q_tt = 2
    (epsilon - delta) (p_xx + p_yy)`. Where epsilon = delta, nothing acts on q, so it stays exactly
    zero. If p and r were stepped instead, their rounding errors would make a q that grows without
    limit. Sources feed p, and r with 1/s of that, so they do not feed q: where epsilon = delta,
    only the elliptic wave is radiated.

    Model: a dict of vp, m/s, and the Thomsen (1986) parameters epsilon and delta, each of the
    grid's shape. Receivers: "receiver" (default) reads p; "vertical" reads s r, which is p where
    epsilon = delta. Without anisotropy both are the pressure of `Acoustic`.

    At a free surface, both stresses are zero: they continue above it with opposite sign (odd), and
    so do sources and the values that receivers read.

    Attributes:
        space_order: even accuracy order in space, 2 to 16. With 2, traces are inaccurate. Removing
            time dispersion (see `Propagator`) makes this worse, as it hides a part of the error.
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
            across=lambda p: sum(devito.Derivative(p, (d, 2)) for d in across),
            along=lambda r: devito.Derivative(r, (depth, 2)),
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


class Joint(NamedTuple):
    """The flux of transverse isotropy, `f = (I - n n') grad p + n n' grad r` with the axis n. The
    second derivatives of p across the axis are the divergence of its part across the axis, those of
    r along the axis that of its part along it.

    Attributes:
        flux: of p and r: its component along each axis of the grid, by name.
        divergences: of the name of an axis of the grid, and a flux along it: the divergences of the
            two parts of it, across n and along n.
    """

    flux: Callable[[Any, Any], Mapping[str, Any]]
    divergences: Callable[[str, Any], tuple[Any, Any]]


def transverse_system(
    symbols: Symbols,
    across: Callable[[Any], Any],
    along: Callable[[Any], Any],
    axis: Sequence[Any] = (),
    joint: Joint | None = None,
) -> System:
    """The scheme of transverse isotropy about any axis, for p and `q = p - s r`.

    Args:
        symbols: of the scheme.
        across: the second derivatives of p across the axis, as an expression.
        along: the second derivative of r along the axis, as an expression.
        axis: further coefficients, which occur in these expressions.
        joint: the flux that both second derivatives are made of, if layers may damp it.
    """
    p, q = symbols.field("p", image=ODD), symbols.field("q", image=ODD)
    m, s, inverse, excess = (symbols.coefficient(n) for n in ("m", "mixed", "inverse", "excess"))
    r = inverse * (p - q)

    def forces(of_p: Any, of_r: Any) -> dict[Any, Any]:
        """What drives q and p, of the second derivatives of p and of r."""
        common = excess * of_p
        return {q: common, p: common + s * (s * of_p + of_r)}

    updates = tuple(
        Update.of(m * field.dt2 - force, field)
        for field, force in forces(across(p), along(r)).items()
    )
    inputs = (Port("source", ((p, 1.0),)),)
    outputs = (Port("receiver", ((p, 1.0),)), Port("vertical", ((p, 1.0), (q, -1.0))))
    flux = joint and Flux(joint.flux(p, r), lambda name, f: forces(*joint.divergences(name, f)))
    return System(symbols, (m, s, inverse, excess, *axis), updates, inputs, outputs, flux)


def transverse(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The coefficients of transverse isotropy that do not depend on the axis.

    The coefficient "excess" is computed from the difference of epsilon and delta, so that it is
    exactly zero where they are equal.

    Args:
        parameters: vp, m/s, epsilon and delta.
    """
    mixed = jnp.sqrt(1.0 + 2.0 * parameters["delta"])
    return {
        "m": 1.0 / parameters["vp"] ** 2,
        "mixed": mixed,
        "inverse": 1.0 / mixed,
        "excess": 2.0 * (parameters["epsilon"] - parameters["delta"]),
    }


def thomsen_constraints(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Combinations of parameters that must not be negative, by what to call them.

    Where epsilon < delta, the pseudo-acoustic equations have growing solutions.
    """
    epsilon, delta = parameters["epsilon"], parameters["delta"]
    return {"epsilon - delta": epsilon - delta, "1 + 2 delta": 1.0 + 2.0 * delta}


def thomsen_speeds(parameters: Mapping[str, Any]) -> tuple[Any, Any]:
    """Bounds of the speed of P waves in any direction, m/s: one not above the slowest, and the
    fastest, along the axis or across it."""
    vp, epsilon, delta = (parameters[n] for n in ("vp", "epsilon", "delta"))
    slow = vp * jnp.sqrt(1.0 + 2.0 * jnp.minimum(delta, 0.0))
    fast = vp * jnp.sqrt(1.0 + 2.0 * jnp.maximum(epsilon, 0.0))
    return jnp.min(slow), jnp.max(fast)
