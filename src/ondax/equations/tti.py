"""The pseudo-acoustic wave equation with a tilted axis of symmetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp

from .._symbolic import devito
from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import EVEN, ODD, Symbols
from ..scheme.system import System
from . import stability
from .base import AbstractWaveEquation
from .plausible import ANGLE, THOMSEN, Plausible
from .time_stepping import LEAPFROG, TimeStepping
from .vti import Joint, thomsen_constraints, thomsen_speeds, transverse, transverse_system

LAPLACIAN_SHARE = 0.5  # of the Laplacian's part that centred first differences miss, in H


@final
class TTI(AbstractWaveEquation):
    """The pseudo-acoustic wave equation with a tilted axis of symmetry (tilted transverse
    isotropy), for the stress p across the axis n and the stress r along it. With `s = sqrt(1 + 2
    delta)`:

        (1/vp^2) p_tt = (1 + 2 epsilon) (laplace(p) - H p) + s H r + w(t) delta(x - xs)
        (1/vp^2) r_tt = s (laplace(p) - H p) + H r + (1/s) w(t) delta(x - xs)

    Here `H u = div(n (n . grad u))`, which is self-adjoint for any n (Zhang, Zhang and Zhang,
    2011). So is its discrete form, a product of centred first differences and their transpose. But
    centred first differences of an oscillation from point to point are zero, so a term is added: a
    half of the difference between the Laplacian of second differences and that of squared first
    differences. With it, H and the Laplacian minus H are negative semidefinite for any axis, so the
    scheme conserves an energy where epsilon >= delta. Where epsilon > delta, a slow wave is
    radiated too, similar to a shear wave.

    Model: a dict of vp, m/s, the Thomsen (1986) parameters epsilon and delta, and theta, the angle
    between the axis and the vertical, in radians, positive towards x; in 3-D also phi, the azimuth
    of the tilt, in radians from x towards y. Sources and receivers are those of `VTI`, and so are
    the fields that are stepped in time, p and `q = p - s r`. Perfectly matched layers of
    derivatives have growing solutions in a tilted medium (Becache, Fauqueux and Joly, 2003) and are
    refused.
    `JointPML`, the default, damps the flux of both stresses instead, `f = grad(p) - n (n . grad(p -
    r))`, whose parts across n and along it have the second derivatives above as divergences.

    A free surface is as for `VTI`; mirrored at it, the horizontal part of the axis changes its
    sign.

    Attributes:
        space_order: even accuracy order in space, 4 to 16.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("vp", "epsilon", "delta", "theta")
    plausible: ClassVar[Mapping[str, Plausible]] = {
        "epsilon": THOMSEN,
        "delta": THOMSEN,
        "theta": ANGLE,
    }
    contrasts: ClassVar[Mapping[str, float] | None] = {}
    time_stepping: ClassVar[TimeStepping | None] = LEAPFROG
    stretchable: ClassVar[bool | None] = False
    joint_flux: ClassVar[bool] = True
    space_order: int = eqx.field(static=True, default=8)

    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        depth = symbols.dimensions[-1]
        # Mirrored at a free surface, the horizontal part of the axis changes its sign.
        axis = {
            d: symbols.coefficient(f"axis_{d.name}", image=EVEN if d == depth else ODD)
            for d in symbols.dimensions
        }

        def laplacian(u: Any) -> Any:
            return sum(devito.Derivative(u, (d, 2)) for d in symbols.dimensions)

        def along(u: Any) -> Any:
            """`H u`, as in the docstring of the class."""
            slope = sum(n * devito.Derivative(u, (d, 1)) for d, n in axis.items())
            flux = {
                d: n * slope - LAPLACIAN_SHARE * devito.Derivative(u, (d, 1))
                for d, n in axis.items()
            }
            divergence = sum(devito.Derivative(f, (d, 1)) for d, f in flux.items())
            return divergence + LAPLACIAN_SHARE * laplacian(u)

        def flux(p: Any, r: Any) -> dict[str, Any]:
            slope = sum(
                n * (devito.Derivative(r, (d, 1)) - devito.Derivative(p, (d, 1)))
                for d, n in axis.items()
            )
            return {d.name: devito.Derivative(p, (d, 1)) + n * slope for d, n in axis.items()}

        def divergences(name: str, f: Any) -> tuple[Any, Any]:
            own = next(d for d in axis if d.name == name)
            part_along = sum(devito.Derivative(n * axis[own] * f, (d, 1)) for d, n in axis.items())
            return devito.Derivative(f, (own, 1)) - part_along, part_along

        return transverse_system(
            symbols,
            across=lambda p: laplacian(p) - along(p),
            along=along,
            axis=tuple(axis.values()),
            joint=Joint(flux, divergences),
        )

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
