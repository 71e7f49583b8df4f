"""What a call has to know of a model before shots are fired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..boundaries.base import AbstractBoundary
from ..equations.base import AbstractWaveEquation
from ..equations.media import coefficients
from ..stability.layering import layering
from .lever import Lever


class Examined(NamedTuple):
    """What a call has to know of a model before shots are fired. All but the coefficients count as
    constant.

    Attributes:
        row: the bounds and then the contrasts, as they travel to the host.
        bounds: slowest and fastest speed, m/s; the least values of parameters that must be
            positive, and of what must not be negative; the largest sizes of those that have
            plausible ones; the layering, where that matters.
        contrasts: of the parameters on whose contrast the time step depends.
        coefficients: of the scheme, on the padded grid; the model enters them by the lever.
        lever: see there.
    """

    row: Float[Array, " number"]
    bounds: Float[Array, " bound"]
    contrasts: Float[Array, " contrast"]
    coefficients: tuple[Float[Array, "..."], ...]
    lever: Lever


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def examined(
    equation: AbstractWaveEquation,
    boundary: AbstractBoundary,
    ndim: int,
    strata_matter: bool,
    names: tuple[str, ...],
    model: Mapping[str, Any],
) -> Examined:
    """All of it in one program: outside of jit, each of its operations would be compiled alone; and
    a program for the coefficients would do again what is done here.

    Args:
        equation: of the propagator.
        boundary: likewise.
        ndim: axes of its grid.
        strata_matter: whether strata along a face can make waves grow.
        names: of the scheme's coefficients, in order.
        model: parameters by name.
    """
    fixed = jax.lax.stop_gradient(dict(model))
    constrained = [fixed[n] for n in equation.positive_parameters]
    constrained += equation.constraints(fixed).values()
    contrasting = [fixed[n] for n in equation.contrasts or ()]
    sized = [jnp.abs(fixed[n]) for n in equation.plausible if n in fixed]
    least = _each(jnp.min, [*constrained, *contrasting])
    largest = _each(jnp.max, [*sized, *contrasting])
    bounds = [*equation.speeds(fixed), *least[: len(constrained)], *largest[: len(sized)]]
    if strata_matter:
        bounds.append(layering(equation, boundary, ndim, fixed))
    contrasts = [
        high / low
        for low, high in zip(least[len(constrained) :], largest[len(sized) :], strict=True)
    ]
    known = coefficients(equation, boundary, fixed, ndim)
    lever = Lever.of(fixed, [known[n] for n in names])
    by_name = coefficients(equation, boundary, lever.enter(dict(model)), ndim)
    values = tuple(by_name[n] for n in names)
    dtype = values[0].dtype
    row = jnp.stack([jnp.asarray(b, dtype) for b in (*bounds, *contrasts)])
    return Examined(
        row,
        row[: len(bounds)],
        row[len(bounds) :],
        values,
        lever,
    )


def _each(reduction: Callable[..., Array], arrays: Sequence[Any]) -> list[Any]:
    """The least or the largest value of each of some arrays that broadcast: by one operation, which
    takes less time to compile than one for each."""
    if not arrays:
        return []
    together = jnp.stack(jnp.broadcast_arrays(*arrays))
    return list(reduction(together, axis=range(1, together.ndim)))
