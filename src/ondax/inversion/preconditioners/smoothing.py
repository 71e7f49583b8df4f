"""Smoothing of model perturbations, as a symmetric linear operator."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.lax.linalg import tridiagonal_solve
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from ...grid import Grid
from .model import structure_on

ROUNDS = 2  # each there and back through all axes
STEPS = 2 * ROUNDS  # of diffusion along each axis


def smoothing(
    grid: Grid,
    length: float | Sequence[float] | Float[ArrayLike, "*lengths"],
    *,
    like: PyTree | None = None,
) -> lx.FunctionLinearOperator:
    """Gaussian smoothing of model perturbations: four implicit steps of the diffusion equation
    along each axis.

    A wave of wavenumber k is multiplied by `(1 + (k length)**2 / 8) ** -4`, which is close to the
    `exp(-(k length)**2 / 2)` of a Gaussian. The operator is symmetric and positive definite. It
    leaves constants as they are, and the sum over the grid: nothing diffuses through a face.

    The length may vary from place to place, as wavelengths do: `smoothing(grid, 0.5 * vp /
    frequency)`. Where it is zero, a perturbation stays as it is, and does not spread to its
    neighbours. So lengths of zero in the water keep the sharp contrast at the seabed.

    Args:
        grid: the grid of the model.
        length: standard deviation of the Gaussian, m: a number; one for each axis; one for each
            point of the grid; or an array of those for each axis, (axis, x[, y], z).
        like: as in `top_mute`.

    Raises:
        ValueError: a length that is negative or not finite, another shape, or a model that does not
            fit the grid.
    """
    passes = [
        _pass(along, n, h, axis)
        for axis, (along, n, h) in enumerate(
            zip(_of_axes(grid, length), grid.shape, grid.spacing, strict=True)
        )
    ]
    order = [*passes, *reversed(passes)] * ROUNDS  # the same backwards, so it is symmetric

    def smoothed(m: Array) -> Array:
        for one in order:
            m = one(m)
        return m

    return lx.FunctionLinearOperator(
        lambda model: jax.tree.map(smoothed, model),
        structure_on(grid, like),
        (lx.symmetric_tag, lx.positive_semidefinite_tag),
    )


def _of_axes(grid: Grid, length: Any) -> list[np.ndarray]:
    """Lengths along each axis: a number, or one for each point of the grid.

    Raises:
        ValueError: a length that is negative or not finite, or another shape.
    """
    given = np.asarray(length, np.float64)
    per_axis = (grid.ndim,), (grid.ndim, *grid.shape)
    if given.shape not in ((), grid.shape, *per_axis):
        raise ValueError(
            f"length has shape {given.shape}: give a number, one for each of {grid.ndim} axes, or "
            f"an array of the grid's shape, {grid.shape}"
        )
    if not (np.all(np.isfinite(given)) and np.all(given >= 0.0)):
        raise ValueError(
            f"length must be finite and at least 0 m, but its least is {float(given.min()):g} m, "
            f"and its largest {float(given.max()):g} m"
        )
    return (
        [np.asarray(along) for along in given] if given.shape in per_axis else [given] * grid.ndim
    )


def _pass(length: np.ndarray, n: int, spacing: float, axis: int) -> Callable[[Array], Array]:
    """One implicit step of diffusion along an axis of n points: it solves `(1 - d/dx k d/dx) u =
    m`, which is tridiagonal and symmetric."""
    along = np.moveaxis(length, axis, -1) if length.ndim else np.full(n, length)
    between = along[..., :-1] * along[..., 1:] / (2.0 * STEPS * spacing**2)
    none = [(0, 0)] * (between.ndim - 1)
    before, after = np.pad(between, [*none, (1, 0)]), np.pad(between, [*none, (0, 1)])
    bands = (-before, 1.0 + before + after, -after)

    def step(m: Array) -> Array:
        moved = jnp.moveaxis(m, axis, -1)
        lower, diagonal, upper = (
            jnp.broadcast_to(jnp.asarray(band, m.dtype), moved.shape) for band in bands
        )
        solved = tridiagonal_solve(lower, diagonal, upper, moved[..., None])[..., 0]
        return jnp.moveaxis(solved, -1, axis)

    return step
