"""Images of a whole survey, summed shot by shot."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._types import Model
from .._validate import one_of
from ..backends.workers import TreeSum
from ..face import modelling
from ..inversion.preconditioners.model import compensating, wavelength_of
from ..inversion.progress import Progress
from ..inversion.resized import Resized, power_of_source
from ..io import open_shots, scan
from ..jacobian import Jacobian
from ..propagator import Propagator
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
              over shots. `J.T.mv(traces)` is the first of the above; `J.shots` is the shot's
              number, `J.propagator` is F.
        progress: whether to show a bar.

    Returns:
        The image, like the model: a perturbation for "illumination", in the model's units if the
        traces are in those of F. With a function of your own, the sum of what it returns.

    Raises:
        ValueError: no such condition; extended sources; traces of another shape than the survey's,
            or not finite; or as for `F.jacobian`.

    Example:
        >>> image = ox.rtm(F, ox.io.scan("shots.segy"), smooth)
    """
    if F.survey.extended:
        raise ValueError(
            "the survey's sources are extended, and their weights are given with each call: sum "
            "images of F.jacobian(model, weights=w, shots=numbers) yourself"
        )
    if not callable(imaging):
        one_of("imaging", imaging, CONDITIONS)
    dtype = modelling.type_of(model)
    model = jax.tree.map(lambda x: jnp.asarray(x, dtype), model)
    survey, place = F.survey, runner()
    task = Imaged(F, model, opened(observed), _condition(F, imaging), not callable(imaging))
    groups = in_groups(
        range(survey.n_shots), place.together(survey.n_shots, F.settings.worker_threads)
    )
    total: TreeSum[PyTree] = TreeSum(survey.n_shots, _plus)
    with Progress("rtm", survey.n_shots, progress) as bar:
        for shots, images in place.each(task, groups):
            for shot, image in zip(shots, images, strict=True):
                total.put(shot, image)
            bar.update({}, len(shots))
    found = jax.tree.map(jnp.asarray, total.total)
    return _compensated(F, model, *found) if imaging == "illumination" else found


def opened(observed: Any) -> Any:
    """What gives traces by the numbers of shots, from a path or from itself."""
    if isinstance(observed, (str, os.PathLike)):
        path = Path(observed)
        return open_shots(path) if path.suffix.lower() == ".zarr" else scan(path)
    if isinstance(observed, (list, tuple)):
        return _Listed(observed)
    return observed


class _Listed:
    """A list of gathers that is asked for several."""

    def __init__(self, gathers: Any) -> None:
        self._gathers = gathers

    def __getitem__(self, numbers: Any) -> list[Any]:
        return [self._gathers[n] for n in numbers]


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
