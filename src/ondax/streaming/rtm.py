"""Images of a whole survey, summed shot by shot."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .. import _validate
from .._types import Model
from ..backends.workers import TreeSum
from ..face import modelling
from ..face.fetching import check_count
from ..inversion.preconditioners.model import compensating, wavelength_of
from ..inversion.progress import Progress
from ..inversion.resized import Resized, power_of_source
from ..io import open_shots, scan
from ..jacobian import Jacobian
from ..propagator import Propagator
from ..survey import Survey
from .runner import in_groups, runner
from .tasks import Imaged, Imaging

CONDITIONS = ("correlation", "illumination")
WATER_LEVEL = 1e-3  # of the largest illumination


def rtm(
    F: Propagator,
    observed: Any,
    model: Model,
    *,
    imaging: str | Imaging = "correlation",
    progress: bool = True,
) -> PyTree:
    """Reverse-time migration of a survey of any size: the images of shots are summed one by one.

    A few shots are in memory at a time, as many as run side by side: their traces, which are read
    when they are needed, their histories and their images. Images are added by a binary tree over
    the numbers of shots, so that the C kernels give the same bits for any number of threads.

    Traces are migrated as they are, but for `Survey(trace_weights=...)`, by which they are
    multiplied: take the direct wave out first, by a mute for example.

    Args:
        F: the propagator. Its survey's sources are points.
        observed: traces (shot, [component,] receiver, time), an array; a list with those of each
            shot; a catalogue, `ox.io.scan(...)`; what `ox.io.open_shots` opens; the path of a zarr
            group or of SEG-Y files; or anything that gives the traces of some shots by
            `observed[numbers]`.
        model: the smooth background, as F takes it.
        imaging: how an image is made of a shot:

            - "correlation": the wavefields of source and receivers are correlated, each as the
              equation says: `F.jacobian(model).T.mv(traces)`, the transpose of Born modelling.
            - "illumination": that, divided by the illumination: the diagonal of the Gauss-Newton
              Hessian, smoothed over a wavelength (Plessix and Mulder, 2004). One random vector for
              each shot estimates it, so it is the better the more shots there are (see
              `ox.preconditioners.illumination`). Takes two wave solves more.
            - a function of your own, `imaging(J, traces)`, of the Jacobian of one shot and its
              traces (1, [component,] receiver, time), to a tree of arrays, in JAX. These are summed
              over shots: booleans are counted, and numbers of 8 or 16 bits are summed in wider
              ones. `J.T.mv(traces)` is the first of the above; `J.shots` is the shot's number,
              `J.propagator` is F.
        progress: whether to show a bar.

    Returns:
        The image, like the model: a perturbation for "illumination", in the model's units if the
        traces are in those of F. With a function of your own, the sum of what it returns.

    Raises:
        ValueError: no such condition; extended sources; traces of more or fewer shots or of another
            shape than the survey's, or not finite; or as for `F.jacobian`.
        OverflowError: whole numbers of a condition of your own, whose sum is too large for JAX's.

    Example:
        >>> image = ox.rtm(F, ox.io.scan("shots.segy"), smooth)
    """
    if F.survey.extended:
        raise ValueError(
            "the survey's sources are extended, and their weights are given with each call: sum "
            "images of F.jacobian(model, weights=w, shots=numbers) yourself"
        )
    if not callable(imaging):
        _validate.one_of("imaging", imaging, CONDITIONS)
    dtype = modelling.type_of(model)
    model = jax.tree.map(lambda x: np.asarray(x, dtype), model)
    survey, place = F.survey, runner()
    source = opened(observed, survey)
    task = Imaged(F, model, source, _condition(F, imaging), not callable(imaging))
    groups = in_groups(
        range(survey.n_shots), place.together(survey.n_shots, F.settings.worker_threads)
    )
    total: TreeSum[PyTree] = TreeSum(survey.n_shots, _plus)
    with Progress("rtm", survey.n_shots, progress) as bar:
        for shots, images in place.each(task, groups):
            for shot, image in zip(shots, images, strict=True):
                total.put(shot, jax.tree.map(_wide, image))
            bar.update({}, len(shots))
    found = jax.tree.map(_as_jax, total.total)
    return _compensated(F, model, *found) if imaging == "illumination" else found


def opened(observed: Any, survey: Survey) -> Any:
    """What gives traces by the numbers of shots, from a path or from itself.

    Raises:
        ValueError: it has traces of more or fewer shots than the survey; or it is an array of
            another shape.
    """
    if isinstance(observed, (str, os.PathLike)):
        path = Path(observed)
        observed = open_shots(path) if path.suffix.lower() == ".zarr" else scan(path)
    elif isinstance(observed, (list, tuple)):
        observed = _Listed(observed)
    elif isinstance(observed, jax.Array):
        observed = np.asarray(observed)  # which refuses shots that are not there
    check_count(observed, survey.n_shots)
    if isinstance(observed, np.ndarray):
        _validate.shape("observed", observed, survey.trace_shape(survey.n_shots))
    return observed


class _Listed:
    """A list of gathers that is asked for several."""

    def __init__(self, gathers: Sequence[Any]) -> None:
        self._gathers = gathers

    def __len__(self) -> int:
        return len(self._gathers)

    def __getitem__(self, numbers: Any) -> list[Any]:
        return [self._gathers[n] for n in numbers]


def _wide(image: np.ndarray | np.generic) -> np.ndarray | np.generic:
    """An image in a type in which many of its kind can be summed."""
    if image.dtype == bool or jnp.issubdtype(image.dtype, jnp.signedinteger):
        return image.astype(np.int64)
    if jnp.issubdtype(image.dtype, jnp.unsignedinteger):
        return image.astype(np.uint64)
    if jnp.issubdtype(image.dtype, jnp.floating) and image.dtype.itemsize < 4:
        return image.astype(np.float32)
    return image


def _as_jax(total: np.ndarray | np.generic) -> Array:
    """A sum as an array of JAX.

    Raises:
        OverflowError: JAX has no whole numbers of 64 bits now, and those of 32 are too short.
    """
    found = jnp.asarray(total)
    if np.issubdtype(total.dtype, np.integer) and np.any(np.asarray(found) != total):
        raise OverflowError(
            f"imaging returns whole numbers whose sums reach from {total.min()} to {total.max()}, "
            f"which {found.dtype} cannot hold: return floating-point numbers, or let JAX have "
            "longer whole ones, jax.config.update('jax_enable_x64', True)"
        )
    return found


def _plus(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(np.add, a, b)


def _condition(F: Propagator, imaging: str | Imaging) -> Imaging:
    if imaging == "correlation":
        return correlation
    if imaging == "illumination":
        return F._hosts.once("illuminated", lambda: Illuminated(power_of_source(F.survey)))
    return imaging  # type: ignore[return-value]


def correlation(J: Jacobian, traces: Array) -> PyTree:
    """The transpose of Born modelling."""
    return J.T.mv(traces)


class Illuminated:
    """The transpose of Born modelling, and a random estimate of the Hessian's diagonal.

    Args:
        power: of two, that Born traces are divided by.
    """

    def __init__(self, power: int) -> None:
        self._power = power

    def __call__(self, J: Jacobian, traces: Array) -> PyTree:
        A = Resized(J, -self._power)
        assert J.shots is not None
        leaves, structure = jax.tree.flatten(J.model)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), J.shots[0]), len(leaves))
        signs = [
            jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)
        ]
        v = jax.tree.unflatten(structure, signs)
        return J.T.mv(traces), jax.tree.map(jnp.multiply, v, A.T.mv(A.mv(v)))


def _compensated(F: Propagator, model: Model, image: PyTree, diagonal: PyTree) -> PyTree:
    """An image divided by its illumination."""
    length, power = wavelength_of(F, model), power_of_source(F.survey)
    weights: Callable[[Any], Any] = lambda d: compensating(F.grid, d, length, WATER_LEVEL, power)  # noqa: E731
    roots = jax.tree.map(weights, diagonal)
    return jax.tree.map(lambda x, w: x * w * w, image, roots)
