"""Sets of models in which an inversion is kept: `fwi(..., project=ox.projections.box(...))`.

A projection is a JAX function from a model to the nearest one of the set. All models that `fwi`
evaluates are projected, those of a line search included. Projections are composed by `|`, applied
from left to right: `box(1500.0, 4500.0) | smooth(grid, 100.0)`. (The last one holds exactly; the
others, but for what the last changes.) Any JAX function that leaves alone what it has projected
will do as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._validate import not_negative, positive
from ..grid import Grid
from .constraints import bounded, spread
from .regularizers import padded_differences

DESCENT = 200  # steps of the dual descent of a projection on a ball of total variation
HALVINGS = 30  # of the interval in which its multiplier is looked for


@final
class Projection:
    """A function from a model to a model; `|` composes two.

    Args:
        function: from a model, an array or a tree of arrays, to the projected one.
    """

    def __init__(self, function: Callable[[PyTree], PyTree]) -> None:
        self.function = function

    def __call__(self, model: PyTree) -> PyTree:
        return self.function(model)

    def __or__(self, other: Callable[[PyTree], PyTree]) -> Projection:
        first = self.function
        return Projection(lambda model: other(first(model)))


def box(lower: PyTree, upper: PyTree) -> Projection:
    """Models between bounds; the same as `fwi(bounds=(lower, upper))`.

    Args:
        lower: a number, or a tree that fits the model.
        upper: likewise.
    """

    def project(model: PyTree) -> PyTree:
        low, high = spread("lower bound", lower, model), spread("upper bound", upper, model)
        return bounded(model, low, high)

    return Projection(project)


def smooth(grid: Grid, shortest: float) -> Projection:
    """Models without structure finer than a length: their cosine transforms are zero above the
    wavenumber `1 / shortest` along each axis.

    This is linear, so that gradients are exact: it also works with L-BFGS.

    Args:
        grid: the model's.
        shortest: shortest wavelength that is kept, metres.

    Raises:
        ValueError: a length that is not positive.
    """
    shortest = positive("shortest", shortest, "metres")
    passes = []
    for n, h in zip(grid.shape, grid.spacing, strict=True):
        with np.errstate(divide="ignore"):
            wavelengths = 2.0 * n * h / np.arange(n)
        kept = _cosines(n)[wavelengths >= shortest * (1.0 - 1e-9)]
        passes.append(kept.T @ kept)

    def project(m: Array) -> Array:
        first = m.ndim - grid.ndim
        for axis, matrix in enumerate(passes, first):
            moved = jnp.tensordot(jnp.asarray(matrix, m.dtype), m, axes=((1,), (axis,)))
            m = jnp.moveaxis(moved, 0, axis)
        return m

    return Projection(partial(jax.tree.map, project))


def monotone(grid: Grid) -> Projection:
    """Models that do not decrease with depth: in each column, the nearest such values in the least
    squares sense (isotonic regression; Barlow et al., 1972).

    Gradients pass through as if the projection were not there.

    Args:
        grid: the model's, whose last axis is depth.
    """
    points = np.arange(grid.shape[-1])

    def project(m: Array) -> Array:
        # The value at z is the largest over first <= z of the smallest over last >= z of the mean
        # between first and last.
        shifted = m - m.mean()  # so that sums are small
        sums = jnp.cumsum(shifted, axis=-1)

        def from_first(first: Any, best: Array) -> Array:
            counts = jnp.maximum(points - first + 1, 1).astype(m.dtype)
            before = jax.lax.dynamic_index_in_dim(sums - shifted, first, -1)
            means = jnp.where(points >= first, (sums - before) / counts, jnp.inf)
            least = jax.lax.cummin(means, axis=m.ndim - 1, reverse=True)
            return jnp.where(points >= first, jnp.maximum(best, least), best)

        lowest = jnp.full_like(m, -jnp.inf)
        found = jax.lax.fori_loop(0, len(points), from_first, lowest) + m.mean()
        # Rounding must not move what is in the set.
        inside = jnp.all(jnp.diff(m, axis=-1) >= 0.0, axis=-1, keepdims=True)
        return jnp.where(inside, m, found)

    return Projection(partial(jax.tree.map, _straight_through(project)))


def tv_ball(grid: Grid, radius: float) -> Projection:
    """Models whose total variation, `integral |grad m|`, is at most a radius: the nearest one is
    what total-variation denoising gives (Rudin, Osher and Fatemi, 1992), made by accelerated
    descent in its dual (Beck and Teboulle, 2009), at the multiplier that meets the radius.

    Gradients pass through as if the projection were not there.

    Args:
        grid: the model's.
        radius: in units of the model times metres to the number of axes less one.

    Raises:
        ValueError: a negative radius.
    """
    radius, cell = not_negative("radius", radius), float(np.prod(grid.spacing))
    spacing = np.array(grid.spacing)
    step = 1.0 / float(4.0 * np.sum(1.0 / spacing**2))

    def gradient(m: Array) -> Array:
        return jnp.stack(padded_differences(m, grid))

    def denoised(m: Array, weight: Array) -> Array:
        back: Any = jax.linear_transpose(gradient, jax.ShapeDtypeStruct(m.shape, m.dtype))

        def primal(dual: Array) -> Array:
            return m - weight * back(dual)[0]

        def descend(_: Any, state: Any) -> Any:
            dual, ahead, momentum = state
            moved = ahead + (step / weight) * gradient(primal(ahead))
            size = jnp.sqrt(jnp.sum(moved**2, axis=0, keepdims=True))
            moved = moved / jnp.maximum(1.0, size)
            faster = 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * momentum**2))
            return moved, moved + ((momentum - 1.0) / faster) * (moved - dual), faster

        zeros = jnp.zeros((grid.ndim, *m.shape), m.dtype)
        start = (zeros, zeros, jnp.ones((), m.dtype))
        return primal(jax.lax.fori_loop(0, DESCENT, descend, start)[0])

    def variation(m: Array) -> Array:
        return cell * jnp.sum(jnp.sqrt(jnp.sum(gradient(m) ** 2, axis=0)))

    def project(m: Array) -> Array:
        # A weight of the largest deviation times the size of the model leaves nothing but the mean.
        most = jnp.max(jnp.abs(m - m.mean())) * float(np.sum(np.array(grid.shape) * spacing))

        def halve(_: Any, ends: Any) -> Any:
            low, high = ends
            middle = 0.5 * (low + high)
            over = variation(denoised(m, middle)) > radius
            return jnp.where(over, middle, low), jnp.where(over, high, middle)

        ends = (jnp.zeros_like(most), jnp.maximum(most, jnp.finfo(m.dtype).tiny))

        def shrunk(_: Any) -> Array:
            _, weight = jax.lax.fori_loop(0, HALVINGS, halve, ends)
            return denoised(m, weight)

        allowed = variation(m) <= radius * (1.0 + 1e-4)
        return jax.lax.cond(allowed, lambda _: m, shrunk, None)

    return Projection(partial(jax.tree.map, _straight_through(project)))


def _straight_through(project: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A projection whose gradient is that of the identity: where a model is in the set already,
    that is the slope of what is minimised."""

    def through(m: Array) -> Array:
        held = jax.lax.stop_gradient(m)
        return project(held) + (m - held)

    return through


def _cosines(n: int) -> np.ndarray:
    """The orthonormal cosine transform of n points, (wavenumber, point)."""
    k, x = np.arange(n)[:, None], np.arange(n)[None, :]
    rows = np.cos(np.pi * k * (x + 0.5) / n) * np.sqrt(2.0 / n)
    rows[0] /= np.sqrt(2.0)
    return rows
