"""Means of neighbours, from nodes to the points half a cell beyond."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def half_points(values: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """The mean of neighbours along an axis: from nodes to the points half a cell beyond; the last
    is repeated.

    Args:
        values: at the nodes; any shape.
        axis: of the array.

    Returns:
        An array of the same shape.
    """
    following = jnp.concatenate(
        [
            lax.slice_in_dim(values, 1, None, axis=axis),
            lax.slice_in_dim(values, -1, None, axis=axis),
        ],
        axis=axis,
    )
    return 0.5 * (values + following)


def harmonic_mean(values: Float[Array, "..."], axes: Sequence[int]) -> Float[Array, "..."]:
    """The harmonic mean of neighbours along several axes: from nodes to the points half a cell
    beyond along each; zero where one of them is zero, with a gradient that is finite.

    Args:
        values: at the nodes, not negative; any shape.
        axes: of the array.

    Returns:
        An array of the same shape.
    """
    positive = values > 0.0
    inverse, zeros = (
        1.0 / jnp.where(positive, values, 1.0),
        jnp.where(positive, 0.0, 1.0).astype(values.dtype),
    )
    for axis in axes:
        inverse, zeros = half_points(inverse, axis), half_points(zeros, axis)
    return jnp.where(zeros == 0.0, 1.0 / inverse, 0.0)
