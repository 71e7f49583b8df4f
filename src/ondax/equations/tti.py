"""The pseudo-acoustic wave equation with a tilted axis of symmetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from devito import Derivative

from . import stability
from .base import AbstractBoundary, AbstractWaveEquation
from .schemes import second_order_in_time
from .system import EVEN, ODD, Port, Symbols, System
from .vti import thomsen_constraints, thomsen_speeds, transverse


class TTI(AbstractWaveEquation):
    """Tilted transverse isotropy, for the stresses p across and r along the axis n of symmetry, `s = sqrt(1 + 2 delta)`:

        (1/vp^2) p_tt = (1 + 2 epsilon) (laplace(p) - H p) + s H r + w(t) delta(x - xs)
        (1/vp^2) r_tt = s (laplace(p) - H p) + H r + w(t) delta(x - xs)

    with `H u = div(n (n . grad u))`, which is self-adjoint whatever n (Zhang, Zhang and Zhang, 2011). So, where epsilon >=
    delta, the scheme conserves an energy: H is a product of a centred difference and its transpose, and the Laplacian, of
    second differences, exceeds it.

    Model: a dict of vp, m/s, the Thomsen (1986) parameters epsilon and delta, and the axis' angle theta to the vertical, in
    radians, positive towards x; in 3-D also phi, the azimuth of its tilt from x towards y. Receivers as for `VTI`.

    Attributes:
        space_order: even accuracy order in space, 2 to 16.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("vp", "epsilon", "delta", "theta")
    space_order: int = eqx.field(static=True, default=8)

    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        p, r = symbols.field("p", image=ODD), symbols.field("r", image=ODD)
        m, horizontal, mixed = (symbols.coefficient(n) for n in ("m", "horizontal", "mixed"))
        depth = symbols.dimensions[-1]
        # Seen in a free surface, an axis that dips to the right dips to the left.
        axis = {d: symbols.coefficient(f"axis_{d.name}", image=EVEN if d == depth else ODD) for d in symbols.dimensions}

        def along(u: Any) -> Any:
            """H u."""
            slope = sum(n * Derivative(u, (d, 1)) for d, n in axis.items())
            return sum(Derivative(n * slope, (d, 1)) for d, n in axis.items())

        across = sum(Derivative(p, (d, 2)) for d in symbols.dimensions) - along(p)
        updates = (
            second_order_in_time(symbols, boundary, p, m, horizontal * across + mixed * along(r)),
            second_order_in_time(symbols, boundary, r, m, mixed * across + along(r)),
        )
        source = Port("source", ((p, 1.0), (r, 1.0)))
        receivers = (Port("receiver", ((p, 1.0),)), Port("vertical", ((r, 1.0),)))
        return System(symbols, (m, horizontal, mixed, *axis.values()), updates, (source,), receivers)

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        theta = parameters["theta"]
        sine, cosine = jnp.sin(theta), jnp.cos(theta)
        if theta.ndim == 3:
            phi = parameters["phi"]
            axis = {"axis_x": sine * jnp.cos(phi), "axis_y": sine * jnp.sin(phi), "axis_z": cosine}
        else:
            axis = {"axis_x": sine, "axis_z": cosine} if theta.ndim == 2 else {"axis_z": cosine}
        return transverse(parameters) | axis

    def required(self, ndim: int) -> tuple[str, ...]:
        return (*self.parameter_names, "phi") if ndim == 3 else self.parameter_names

    def constraints(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return thomsen_constraints(parameters)

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        return thomsen_speeds(parameters)

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        bound = stability.second_derivative_bound(self.space_order)
        return stability.largest_step(bound, spacing, max_velocity)
