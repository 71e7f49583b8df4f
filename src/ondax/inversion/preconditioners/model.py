"""Weights of model perturbations, as diagonal operators. They are symmetric, and those without a
zero weight are invertible."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..._validate import whole
from ...face.callback_errors import as_raised
from ...grid import Grid
from ...propagator import Propagator
from ..resized import Resized, of_size_one, power_of_source
from ..sizes import shifted

Image = Float[Array, "*axes"]


def top_mute(
    grid: Grid, depth: float, taper: float, *, like: PyTree | None = None
) -> lx.DiagonalLinearOperator:
    """Weights that mute the top of a model: zero down to a depth, then a cosine flank up to one.

    They keep artefacts at sources, and changes of the water, out of images.

    Args:
        grid: the grid of the model.
        depth: coordinate z down to which the weights are zero, m.
        taper: length of the flank, m; 0 for none.
        like: a model, array or dict of arrays, whose structure and dtype the operator takes; None
            for a single float32 array.

    Raises:
        ValueError: a depth outside the grid, a negative taper, a model that does not fit the grid.
    """
    first, last = grid.extent[-1]
    if not first <= depth <= last:
        raise ValueError(
            f"depth={depth!r} must lie within the grid, from z = {first:g} to {last:g} m"
        )
    if not (math.isfinite(taper) and taper >= 0.0):
        raise ValueError(f"taper={taper!r} must be a length of at least 0 m")
    z = np.linspace(first, last, grid.shape[-1])
    below = np.clip((z - depth) / taper, 0.0, 1.0) if taper > 0.0 else (z > depth).astype(float)
    return _of_depth(grid, 0.5 - 0.5 * np.cos(np.pi * below), like)


def depth_scaling(
    grid: Grid, power: float, *, like: PyTree | None = None
) -> lx.DiagonalLinearOperator:
    """Weights that are a power of depth, and one at the bottom: they undo geometrical spreading,
    roughly.

    On each of the two ways of a reflection, amplitudes fall like `1 / z` in 3-D and `1 / sqrt(z)`
    in 2-D. The inverse operator is that of the opposite power. To this end, the first point of the
    grid, from which depth is counted, has the weight of the second.

    Args:
        grid: the grid of the model.
        power: the exponent.
        like: as in `top_mute`.

    Raises:
        ValueError: a power that is not finite, a model that does not fit the grid.
    """
    if not math.isfinite(power):
        raise ValueError(f"power={power!r} must be a finite number")
    steps = np.maximum(np.arange(grid.shape[-1]), 1)
    return _of_depth(grid, (steps / steps[-1]) ** float(power), like)


@as_raised()
def illumination(
    F: Propagator,
    model: PyTree,
    *,
    probes: int = 2,
    smoothing: float | None = None,
    water_level: float = 1e-3,
    left: lx.AbstractLinearOperator | None = None,
    seed: int = 0,
) -> lx.DiagonalLinearOperator:
    """Weights that compensate for illumination: the inverse square root of the diagonal of the
    Gauss-Newton Hessian `J' J`.

    The diagonal is large where sources send much energy and receivers record it. With this operator
    as right preconditioner, it becomes about one everywhere.

    The diagonal is estimated with random vectors v of signs: it is the mean of `v * (J' J v)`
    (Hutchinson, 1990; Bekas, Kokiopoulou and Saad, 2007). The off-diagonal entries of the Hessian,
    which are as large as the diagonal within a wavelength, make each of these products noisy. So it
    is averaged over several vectors and in space. The result is a smooth illumination map, similar
    to those that replace the diagonal in Plessix and Mulder (2004) and Rickett (2003). A model of
    several parameters gets one map for each; the influence of the other parameters averages out.
    With the operator, x has the same units for all parameters. Each vector costs two wave solves
    for each shot; the wavefields of the background are modelled once.

    Args:
        F: the propagator.
        model: the background, array or dict of arrays.
        probes: number of random vectors.
        smoothing: standard deviation of the Gaussian that averages in space, m. Default: one
            wavelength of the fastest wave at the survey's dominant frequency.
        water_level: added to the diagonal, as a fraction of its maximum, so that places without
            illumination are not amplified without limit. It is small by default, because the
            maximum is next to the sources.
        left: weights of the traces, as in `lsrtm`: the Hessian is then `J' L' L J`.
        seed: seed of the random vectors.

    Returns:
        A diagonal operator on perturbations like `model`, in units of a perturbation over those of
        the traces.

    Raises:
        ValueError: a number out of its range; or the traces do not depend on a parameter of the
            model.
    """
    whole("probes", probes, at_least=1)
    if not (math.isfinite(water_level) and water_level > 0.0):
        raise ValueError(f"water_level={water_level!r} must be a positive fraction, such as 1e-3")
    J = F.jacobian(model)
    if smoothing is None:
        fastest = float(jnp.max(F.equation.speeds(F.equation.named(J.model))[1]))
        smoothing = fastest / F.dominant_frequency
    if not (math.isfinite(smoothing) and smoothing >= 0.0):
        raise ValueError(f"smoothing={smoothing!r} must be a length of at least 0 m")
    of_source = power_of_source(F.survey)
    L, of_left = of_size_one(left)
    A = Resized(J, -of_source) if L is None else L @ Resized(J, -of_source)

    # The operator is an argument: if its arrays were constants of the program, XLA would spend time
    # on computing with them.
    @eqx.filter_jit
    def probed(A: Any, model: PyTree, key: Array) -> PyTree:
        leaves, structure = jax.tree.flatten(model)
        keys = jax.random.split(key, len(leaves))
        signs = [
            jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)
        ]
        v = jax.tree.unflatten(structure, signs)
        return jax.tree.map(jnp.multiply, v, A.T.mv(A.mv(v)))

    total = jax.tree.map(jnp.zeros_like, J.model)
    for key in jax.random.split(jax.random.key(seed), probes):
        total = jax.tree.map(jnp.add, total, probed(A, J.model, key))
    length = smoothing

    def weights(diagonal: Image) -> Image:
        # The average of the products may be negative where the diagonal is small.
        smooth = jnp.maximum(_smoothed(diagonal / probes, F.grid, length), 0.0)
        largest = jnp.max(smooth)
        if not float(largest) > 0.0:
            raise ValueError(
                "the traces do not depend on a parameter of the model: leave it out, or look for a "
                "wavelet or weights of the traces that are zero"
            )
        return shifted(1.0 / jnp.sqrt(smooth + water_level * largest), -(of_source + of_left))

    return lx.DiagonalLinearOperator(jax.tree.map(weights, total))


def _smoothed(values: Image, grid: Grid, length: float) -> Image:
    """A Gaussian average; near the edges, of the points inside the grid only. So constants stay as
    they are.

    Args:
        values: one number per grid point.
        grid: the grid.
        length: standard deviation of the Gaussian, m.
    """
    # `scipy.ndimage.gaussian_filter1d` has no such edges: with "nearest", a value on the edge would
    # stand for all that is beyond it, and values next to sources are the largest of all.
    if length == 0.0:
        return values
    for axis, (n, h) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        apart = h * np.subtract.outer(np.arange(n), np.arange(n)) / length
        kernel = np.exp(-0.5 * apart**2)
        matrix = jnp.asarray(kernel / kernel.sum(axis=1, keepdims=True), values.dtype)
        values = jnp.moveaxis(jnp.tensordot(matrix, values, axes=(1, axis)), 0, axis)
    return values


def _of_depth(grid: Grid, weights: np.ndarray, like: Any) -> lx.DiagonalLinearOperator:
    """Weights that depend on depth only, as a diagonal operator on a model.

    Args:
        grid: the grid.
        weights: one for each point along z.
        like: a model of the structure and dtype that the operator takes; None for one float32
            array.

    Raises:
        ValueError: the model does not fit the grid.
    """
    like = jnp.zeros(grid.shape, jnp.float32) if like is None else like
    for leaf in jax.tree.leaves(like):
        if jnp.shape(leaf) != grid.shape:
            raise ValueError(
                f"like holds an array of shape {jnp.shape(leaf)}, the grid has {grid.shape}"
            )
    dtype = jnp.result_type(*jax.tree.leaves(like))
    return lx.DiagonalLinearOperator(
        jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(weights, dtype), grid.shape), like)
    )
