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
from numpy.typing import ArrayLike
from scipy.spatial import KDTree

from ..._validate import not_negative, positive, shape, whole
from ...face.callback_errors import as_raised
from ...grid import Grid
from ...propagator import Propagator
from ...survey import Survey
from ..resized import Resized, of_size_one, power_of_source
from ..sizes import shifted

Image = Float[Array, "*axes"]


def top_mute(
    grid: Grid,
    depth: float | Float[ArrayLike, "*horizontal"],
    taper: float,
    *,
    like: PyTree | None = None,
) -> lx.DiagonalLinearOperator:
    """Weights that mute the top of a model: zero down to a depth, then a cosine flank up to one.

    They keep artefacts at sources, and changes of the water, out of images and models. The depth of
    the water may be given for each column: `top_mute(grid, seabed(grid, vp, 1600.0), 0.0)`.

    Args:
        grid: the grid of the model.
        depth: coordinate z down to which the weights are zero, m: a number; or one for each column,
            (x[, y]), which is -inf where nothing is to be muted.
        taper: length of the flank, m; 0 for none.
        like: a model, array or dict of arrays, whose structure and dtype the operator takes; None
            for a single float32 array.

    Raises:
        ValueError: a depth outside the grid, a negative taper, a model that does not fit the grid.
    """
    first, last = grid.extent[-1]
    depths = np.asarray(depth, np.float64)
    if depths.shape not in ((), grid.shape[:-1]):
        raise ValueError(
            f"depth has shape {depths.shape}: give a number, or one for each column of the grid, "
            f"{grid.shape[:-1]}"
        )
    above = np.isneginf(depths) if depths.ndim else np.zeros((), bool)
    wrong = ~(above | ((depths >= first) & (depths <= last)))
    if np.any(wrong):
        given = repr(depth) if np.ndim(depth) == 0 else f"{depths[wrong][0]:g} of a column"
        raise ValueError(
            f"depth={given} must lie within the grid, from z = {first:g} to {last:g} m"
        )
    if not (math.isfinite(taper) and taper >= 0.0):
        raise ValueError(f"taper={taper!r} must be a length of at least 0 m")
    below = np.linspace(first, last, grid.shape[-1]) - depths[..., None]
    flank = np.clip(below / taper, 0.0, 1.0) if taper > 0.0 else (below > 0.0).astype(float)
    return weights_on(grid, 0.5 - 0.5 * np.cos(np.pi * flank), like)


def seabed(
    grid: Grid, vp: Float[ArrayLike, "*axes"], velocity: float
) -> Float[np.ndarray, "*horizontal"]:
    """The depth of the water in each column of a model, for `top_mute`.

    Args:
        grid: the grid of the model.
        vp: velocities, m/s.
        velocity: what is faster than this is no water, m/s.

    Returns:
        The coordinate z of the last sample above the first one that is faster, m, (x[, y]); -inf in
        columns without water, and the bottom of the grid in those that hold nothing else.

    Raises:
        ValueError: another shape than that of the grid, or a velocity that is not positive.
    """
    shape("vp", vp, grid.shape)
    fast = np.asarray(vp) > positive("velocity", velocity, "m/s")
    water = np.where(fast.any(axis=-1), fast.argmax(axis=-1), grid.shape[-1])  # samples of it
    z = np.linspace(*grid.extent[-1], grid.shape[-1])
    return np.asarray(np.concatenate([[-np.inf], z])[water])


def source_taper(
    grid: Grid,
    survey: Survey,
    radius: float,
    *,
    inner: float = 0.0,
    like: PyTree | None = None,
) -> lx.DiagonalLinearOperator:
    """Weights that rise from zero at each source of a survey to one at a distance from it.

    Gradients are largest next to sources and receivers, where wavefields are singular, and say
    nothing of the model there.

    Args:
        grid: the grid of the model.
        survey: whose sources.
        radius: distance from the nearest source beyond which the weights are one, m. The flank is a
            cosine.
        inner: distance up to which they are zero, m. Where a source stands between grid points, a
            spacing or two make sure that the points around it are zero.
        like: as in `top_mute`.

    Raises:
        ValueError: a radius that is not positive, or not larger than `inner`; sources that fill the
            model; a survey or a model that does not fit the grid.
    """
    if survey.extended:
        raise ValueError("source_taper: the sources of this survey fill the model; leave it out")
    return _taper(grid, survey.points[0].rows, radius, inner, like)


def receiver_taper(
    grid: Grid,
    survey: Survey,
    radius: float,
    *,
    inner: float = 0.0,
    like: PyTree | None = None,
) -> lx.DiagonalLinearOperator:
    """Weights that rise from zero at each receiver of a survey to one at a distance from it.

    Args:
        grid: the grid of the model.
        survey: whose receivers.
        radius: as in `source_taper`.
        inner: as in `source_taper`.
        like: as in `top_mute`.

    Raises:
        ValueError: as in `source_taper`.
    """
    return _taper(grid, survey.points[1].rows, radius, inner, like)


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
    return weights_on(grid, (steps / steps[-1]) ** float(power), like)


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
        smoothing = wavelength_of(F, J.model)
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

    def weights(products: Image) -> Image:
        power = of_source + of_left
        return compensating(F.grid, products / probes, length, water_level, power)

    return lx.DiagonalLinearOperator(jax.tree.map(weights, total))


def wavelength_of(F: Propagator, model: PyTree) -> float:
    """That of the fastest wave in a model at the survey's dominant frequency, m."""
    fastest = float(jnp.max(F.equation.speeds(F.equation.named(model))[1]))
    return fastest / F.dominant_frequency


def compensating(
    grid: Grid, diagonal: Image, length: float, water_level: float, power: int
) -> Image:
    """Weights that compensate for illumination, the inverse square root of a Hessian's diagonal.

    Args:
        grid: of the model.
        diagonal: a noisy estimate of it, divided by `2**(2 power)`.
        length: standard deviation of the Gaussian that averages it in space, m.
        water_level: added to it, as a fraction of its maximum.
        power: see above.

    Raises:
        ValueError: it is zero everywhere.
    """
    # The average of the products may be negative where the diagonal is small.
    smooth = jnp.maximum(_smoothed(diagonal, grid, length), 0.0)
    largest = jnp.max(smooth)
    if not float(largest) > 0.0:
        raise ValueError(
            "the traces do not depend on a parameter of the model: leave it out, or look for a "
            "wavelet or weights of the traces that are zero"
        )
    return shifted(1.0 / jnp.sqrt(smooth + water_level * largest), -power)


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


def _taper(
    grid: Grid,
    points: Float[np.ndarray, "point axis"],
    radius: float,
    inner: float,
    like: PyTree | None,
) -> lx.DiagonalLinearOperator:
    """Weights that are zero at points, and one beyond a radius."""
    radius, inner = positive("radius", radius, "metres"), not_negative("inner", inner)
    if inner >= radius:
        raise ValueError(f"inner={inner!r} must be smaller than radius={radius!r} m")
    if points.shape[1] != grid.ndim:
        raise ValueError(
            f"the survey has {points.shape[1]} axes, the grid has {grid.ndim}: give the survey "
            "that was shot on this grid"
        )
    nearest = KDTree(np.unique(points, axis=0))
    axes = [np.linspace(*e, n) for e, n in zip(grid.extent, grid.shape, strict=True)]
    distances = np.empty(grid.shape)
    for i, x in enumerate(axes[0]):  # slice by slice: coordinates of a whole volume are large
        places = np.stack(np.meshgrid([x], *axes[1:], indexing="ij"), axis=-1)
        distances[i] = nearest.query(places, distance_upper_bound=radius)[0][0]
    flank = np.clip((distances - inner) / (radius - inner), 0.0, 1.0)
    return weights_on(grid, 0.5 - 0.5 * np.cos(np.pi * flank), like)


def weights_on(grid: Grid, weights: np.ndarray, like: Any) -> lx.DiagonalLinearOperator:
    """Weights of grid points as a diagonal operator on a model.

    Args:
        grid: the grid.
        weights: of a shape that broadcasts to that of the grid.
        like: as in `structure_on`.

    Raises:
        ValueError: the model does not fit the grid.
    """
    return lx.DiagonalLinearOperator(
        jax.tree.map(
            lambda leaf: jnp.broadcast_to(jnp.asarray(weights, leaf.dtype), grid.shape),
            structure_on(grid, like),
        )
    )


def structure_on(grid: Grid, like: Any) -> PyTree:
    """Shapes and dtypes of what an operator on a model takes.

    Args:
        grid: the grid.
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
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(grid.shape, dtype), like)
