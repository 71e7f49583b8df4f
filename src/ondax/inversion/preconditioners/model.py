"""Weights of model perturbations: diagonal operators, symmetric, and invertible where no weight is
zero."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..._validate import whole
from ...callback_errors import as_raised
from ...grid import Grid
from ...propagator import Propagator
from ..resized import Resized, of_size_one, power_of_source
from ..sizes import shifted

Image = Float[Array, "*axes"]


def top_mute(
    grid: Grid, depth: float, taper: float, *, like: PyTree | None = None
) -> lx.DiagonalLinearOperator:
    """Zero down to a depth, a cosine flank below it, one from there on: keeps images clear of
    sources and of water.

    Args:
        grid: of the model.
        depth: coordinate z in metres down to which nothing passes.
        taper: length of the flank, metres; 0 for none.
        like: a model, array or dict of arrays, whose structure and type the operator takes; one
            float32 array if None.

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
    """A power of depth, one at the bottom: undoes geometrical spreading, roughly.

    Amplitudes of reflections fall like `1 / z` in 3-D and `1 / sqrt(z)` in 2-D each way. The
    inverse is the operator of the opposite power. Depth counts from the first point of the grid,
    which itself is given the depth of the second, so that it can be divided by.

    Args:
        grid: of the model.
        power: the exponent.
        like: as for `top_mute`.

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
    """The inverse square root of the diagonal of the Gauss-Newton Hessian `J' J`, which knows both
    what sources light up and what receivers see; as a right preconditioner it brings that diagonal
    to about one.

    The diagonal is estimated by random probing: for vectors v of random signs, `v * (J' J v)` has
    it as its mean (Hutchinson, 1990; Bekas et al., 2007). Its scatter comes from the off-diagonal
    entries, which are as large as the diagonal within a wavelength, so it is averaged over probes
    and in space. That makes it a smooth illumination map, as those that stand for the diagonal in
    Plessix and Mulder (2004) and Rickett (2003); a dict of parameters gets one map each, in which
    cross-talk averages out, and becomes free of units. Costs two wave solves a shot and probe,
    besides the background.

    Args:
        F: the propagator.
        model: the background, array or dict of arrays.
        probes: number of random vectors.
        smoothing: standard deviation of the Gaussian that averages in space, metres. Default: one
            wavelength of the fastest wave at the survey's dominant frequency.
        water_level: added to the diagonal, as a fraction of its maximum: bounds what is amplified
            where nothing is seen. Small by default, as the maximum is next to the sources.
        left: weights of the traces, as in `lsrtm`: the Hessian is then `J' L' L J`.
        seed: of the random vectors.

    Returns:
        A diagonal operator on perturbations like `model`, in units of a perturbation over those of
        the traces.

    Raises:
        ValueError: a number out of its range; a model at which nothing that is recorded depends on
            a parameter.

    References:
        - Hutchinson (1990), A stochastic estimator of the trace of the influence matrix,
          Communications in Statistics 19(2).
        - Bekas, Kokiopoulou, Saad (2007), An estimator for the diagonal of a matrix, Applied
          Numerical Mathematics 57.
        - Rickett (2003), Illumination-based normalization for wave-equation depth migration,
          Geophysics 68(4), 1371-1379.
        - Plessix, Mulder (2004), Frequency-domain finite-difference amplitude-preserving migration,
          Geophysical Journal International 157(3), 975-987.
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

    @eqx.filter_jit  # the operators are arguments: as constants, XLA would fold what it can of them
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
        # Probing may leave a negative average where the diagonal is small.
        smooth = jnp.maximum(_smoothed(diagonal / probes, F.grid, length), 0.0)
        largest = jnp.max(smooth)
        if not float(largest) > 0.0:
            raise ValueError(
                "the traces do not depend on a parameter of the model: leave it out, or look for a "
                "wavelet or weights of "
                "the traces that are zero"
            )
        return shifted(1.0 / jnp.sqrt(smooth + water_level * largest), -(of_source + of_left))

    return lx.DiagonalLinearOperator(jax.tree.map(weights, total))


def _smoothed(values: Image, grid: Grid, length: float) -> Image:
    """A Gaussian average that uses what there is near the edges, so that constants stay as they
    are."""
    if length == 0.0:
        return values
    for axis, (n, h) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        apart = h * np.subtract.outer(np.arange(n), np.arange(n)) / length
        kernel = np.exp(-0.5 * apart**2)
        matrix = jnp.asarray(kernel / kernel.sum(axis=1, keepdims=True), values.dtype)
        values = jnp.moveaxis(jnp.tensordot(matrix, values, axes=(1, axis)), 0, axis)
    return values


def _of_depth(grid: Grid, weights: np.ndarray, like: Any) -> lx.DiagonalLinearOperator:
    """A function of depth as a diagonal operator on a model."""
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
