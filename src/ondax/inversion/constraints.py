"""Bounds and masks on a model, as functions of a pytree."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

Bounds = tuple[PyTree, PyTree]


def spread(name: str, values: Any, model: PyTree) -> PyTree:
    """`values` (a number, or a tree that is a prefix of the model's, of anything that broadcasts)
    as one array per leaf of `model`.

    Raises:
        ValueError: if the structures or shapes do not agree.
    """

    def fit(value, leaf):
        value = np.asarray(value)
        if np.broadcast_shapes(value.shape, leaf.shape) != leaf.shape:
            raise ValueError(f"has shape {value.shape}, the model has {leaf.shape}")
        return jnp.broadcast_to(jnp.asarray(value, leaf.dtype), leaf.shape)

    try:
        return jax.tree.map(fit, jax.tree.broadcast(values, model), model)
    except ValueError as error:
        raise ValueError(
            f"{name} does not fit the model: {error}. Give a number, or a tree like the model"
        ) from error


def spread_bounds(bounds: tuple[Any, Any], model: PyTree) -> Bounds:
    """Lower and upper bounds, one array per leaf of `model`, which must lie within them.

    Raises:
        ValueError: if `bounds` is not a pair, does not fit the model, is empty somewhere, or
            excludes the model.
    """
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise ValueError(
            f"bounds={bounds!r} must be a pair (lower, upper), each a number or a tree like the "
            "model"
        )
    lower, upper = spread("lower bound", bounds[0], model), spread("upper bound", bounds[1], model)
    for low, high, leaf in zip(*map(jax.tree.leaves, (lower, upper, model)), strict=True):
        if not bool(jnp.all(low < high)):
            raise ValueError(
                f"bounds={bounds!r}: the lower bound must be below the upper one everywhere"
            )
        if not bool(jnp.all((low <= leaf) & (leaf <= high))):
            raise ValueError(
                f"the initial model, {float(leaf.min()):g} to {float(leaf.max()):g}, leaves its "
                "bounds, "
                f"{float(low.min()):g} to {float(high.max()):g}; widen them or clip the model first"
            )
    return lower, upper


@jax.custom_vjp
def bounded(model: PyTree, lower: PyTree, upper: PyTree) -> PyTree:
    """Clips the model to its bounds, and drops from the gradient what would push it further out of
    them.

    An objective of `bounded(model)` is defined for every model, so a line search cannot leave the
    bounds; its gradient is the projected gradient, zero at a minimum that lies on a bound, and it
    stays the same when the model itself is clipped.
    """
    return optax.projections.projection_box(model, lower, upper)


def _bounded_fwd(model, lower, upper):
    return bounded(model, lower, upper), (model, lower, upper)


def _bounded_bwd(residuals, gradient):
    model, lower, upper = residuals

    def project(g, m, low, high):  # a step goes against the gradient
        outward = ((m <= low) & (g > 0)) | ((m >= high) & (g < 0))
        return jnp.where(outward, jnp.zeros_like(g), g)

    return jax.tree.map(project, gradient, model, lower, upper), None, None


bounded.defvjp(_bounded_fwd, _bounded_bwd)


def masked(model: PyTree, mask: PyTree) -> PyTree:
    """The model itself, with its gradient multiplied by `mask`."""

    def weigh(m, weight):
        held = jax.lax.stop_gradient(m)
        return held + weight * (m - held)

    return jax.tree.map(weigh, model, mask)
