"""Bounds and masks on a model, as functions of a pytree."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

Bounds = tuple[PyTree, PyTree]


def spread(name: str, values: Any, model: PyTree) -> PyTree:
    """Broadcast values to a model: one array per leaf of `model`, of its shape and dtype.

    Args:
        name: what the values are, for the error message.
        values: a number; or a tree whose structure is the model's, or the upper part of it, and
            whose leaves broadcast to those of the model.
        model: a tree of arrays.

    Raises:
        ValueError: the structures or shapes do not agree.
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
    """Lower and upper bounds as trees of one array per leaf of `model`, which must lie within them.

    Args:
        bounds: a pair (lower, upper), each as `spread` takes it, in units of the model.
        model: a tree of arrays.

    Raises:
        ValueError: `bounds` is not a pair or does not fit the model; a lower bound is not below the
            upper one; or the model lies outside.
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
                f"bounds, {float(low.min()):g} to {float(high.max()):g}; widen them or clip the "
                "model first"
            )
    return lower, upper


_AS_CLIPPING = ContextVar("_AS_CLIPPING", default=False)


@contextmanager
def derivatives_of_clipping() -> Iterator[None]:
    """Within it, `bounded` has the derivatives of clipping, forward and back, as products with
    second derivatives need: one where the model lies within its bounds or on them, and zero beyond.
    """
    token = _AS_CLIPPING.set(True)
    try:
        yield
    finally:
        _AS_CLIPPING.reset(token)


def bounded(model: PyTree, lower: PyTree, upper: PyTree) -> PyTree:
    """The model clipped to its bounds; its gradient is zero where a step against the gradient would
    leave them.

    An objective of `bounded(model)` is defined for every model, so a line search cannot leave the
    bounds. Its gradient is the projected gradient, which is zero at a minimum that lies on a bound.
    Clipping the model changes neither value nor gradient.
    """
    if not _AS_CLIPPING.get():
        return _bounded(model, lower, upper)

    def clipped(m: Array, low: Array, high: Array) -> Array:
        return jnp.where((m < low) | (m > high), jax.lax.stop_gradient(jnp.clip(m, low, high)), m)

    return jax.tree.map(clipped, model, lower, upper)


@jax.custom_vjp
def _bounded(model: PyTree, lower: PyTree, upper: PyTree) -> PyTree:
    return optax.projections.projection_box(model, lower, upper)


def _bounded_fwd(model, lower, upper):
    return _bounded(model, lower, upper), (model, lower, upper)


def _bounded_bwd(residuals, gradient):
    model, lower, upper = residuals

    def project(g, m, low, high):  # a step goes against the gradient
        outward = ((m <= low) & (g > 0)) | ((m >= high) & (g < 0))
        return jnp.where(outward, jnp.zeros_like(g), g)

    return jax.tree.map(project, gradient, model, lower, upper), None, None


_bounded.defvjp(_bounded_fwd, _bounded_bwd)


def masked(model: PyTree, mask: PyTree) -> PyTree:
    """The model itself, but with its gradient multiplied by `mask`, a tree like the model."""

    def weigh(m, weight):
        held = jax.lax.stop_gradient(m)
        return held + weight * (m - held)

    return jax.tree.map(weigh, model, mask)
