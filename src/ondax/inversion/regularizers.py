"""Penalties of models, to be added to the misfit: `fwi(..., regularize=ox.regularizers.tv(grid,
weight))`.

Each call makes a function from a model to a number, the integral over the model's area or volume of
what it penalises, so that its weight does not change with the grid. Sums of them are made by `+`:
`tv(grid, 1.0) + reference(grid, 2.0, start)`. Any JAX function of the model will do as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._validate import not_negative, positive
from ..grid import Grid
from .constraints import spread


@final
class Penalty:
    """A function from a model to a number; penalties can be added and multiplied by numbers.

    Args:
        function: from a model, an array or a tree of arrays, to a scalar.
    """

    def __init__(self, function: Callable[[PyTree], Float[Array, ""]]) -> None:
        self.function = function

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        return self.function(model)

    def __add__(self, other: Callable[[PyTree], Any]) -> Penalty:
        first = self.function
        return Penalty(lambda model: first(model) + other(model))

    def __mul__(self, factor: float) -> Penalty:
        function = self.function
        return Penalty(lambda model: factor * function(model))

    __rmul__ = __mul__


def tikhonov(grid: Grid, weight: float) -> Penalty:
    """Half the squared size of the gradient in space, `0.5 weight integral |grad m|^2`, which makes
    models smooth (Tikhonov and Arsenin, 1977).

    Args:
        grid: the model's.
        weight: in units of the misfit.

    Raises:
        ValueError: a negative weight.
    """
    weight, cell = not_negative("weight", weight), float(np.prod(grid.spacing))

    def penalty(m: Array) -> Array:
        squares = jnp.stack([jnp.sum(d**2) for d in _differences(m, grid)])
        return 0.5 * weight * cell * jnp.sum(squares)

    return _of_leaves(penalty)


def tv(grid: Grid, weight: float, *, rounding: float = 1e-2) -> Penalty:
    """Total variation, `weight integral |grad m|`, which keeps edges between smooth parts (Rudin,
    Osher and Fatemi, 1992).

    Where the model hardly changes, the absolute value is rounded off, so that there is a gradient.

    Args:
        grid: the model's.
        weight: in units of the misfit.
        rounding: size of the gradient below which it is rounded, in units of the model per metre:
            of velocities, (m/s)/m.

    Raises:
        ValueError: a negative weight, or a rounding that is not positive.
    """
    weight, cell = not_negative("weight", weight), float(np.prod(grid.spacing))
    rounding = positive("rounding", rounding, "units of the model per metre")

    def penalty(m: Array) -> Array:
        squares = jnp.sum(jnp.stack(padded_differences(m, grid)) ** 2, axis=0)
        return weight * cell * jnp.sum(jnp.sqrt(squares + rounding**2) - rounding)

    return _of_leaves(penalty)


def reference(grid: Grid, weight: PyTree, model: PyTree) -> Penalty:
    """Half the squared distance from a reference model, `0.5 integral weight (m - reference)^2`
    (Asnaashari et al., 2013).

    Args:
        grid: the model's.
        weight: a number, or an array or tree that fits the model, such as 0 where nothing is known.
        model: the reference.

    Raises:
        ValueError: the weight does not fit the model.
    """
    cell = float(np.prod(grid.spacing))
    fixed = jax.tree.map(lambda x: jnp.asarray(x), model)
    weights = spread("weight", weight, fixed)

    def penalty(m: PyTree) -> Array:
        def of(x: Array, r: Array, w: Array) -> Array:
            return 0.5 * cell * jnp.sum(w * (x - r.astype(x.dtype)) ** 2)

        return jnp.sum(jnp.stack(jax.tree.leaves(jax.tree.map(of, m, fixed, weights))))

    return Penalty(penalty)


def _of_leaves(penalty: Callable[[Array], Any]) -> Penalty:
    """The sum of a penalty over all arrays of a model."""

    def total(model: PyTree) -> Array:
        return jnp.sum(jnp.stack([penalty(leaf) for leaf in jax.tree.leaves(model)]))

    return Penalty(total)


def _differences(m: Array, grid: Grid) -> list[Array]:
    """Differences between neighbours along each axis, per metre."""
    axes = range(m.ndim - grid.ndim, m.ndim)  # networks put further axes first
    return [jnp.diff(m, axis=a) / h for a, h in zip(axes, grid.spacing, strict=True)]


def padded_differences(m: Array, grid: Grid) -> list[Array]:
    """The same, with zeros after the last point, so that all have the shape of the model."""
    first = m.ndim - grid.ndim
    return [
        jnp.pad(d, [(0, int(a == first + i)) for a in range(m.ndim)])
        for i, d in enumerate(_differences(m, grid))
    ]
