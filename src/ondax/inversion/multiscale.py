"""Full-waveform inversion from low to high frequencies, and from coarse to fine grids."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from .._validate import not_negative, positive, whole
from ..face.fetching import in_memory
from ..grid import Grid
from ..misfits import least_squares
from ..propagator import Propagator
from ..survey import Survey
from .filters import band_gain, fast_length
from .fwi import fwi
from .result import FWIResult
from .signature import estimate_wavelet

ORDER = 4  # of the Butterworth filter whose squared gain is used
BEYOND = 1.6  # of the upper corner: what an estimated wavelet may hold at most
RINGING = 4.0  # periods of the upper corner after which the filter's response has died away


@final
class Stage(eqx.Module):
    """One stage of a multiscale inversion.

    Args:
        high: upper corner of the filter, Hz.
        iterations: how many, at most.
        low: lower corner, Hz; with 0, all low frequencies pass.
        spacing: of the stage's grid, metres, the same along each axis. Default: that of F.
        optimizer: of optax. Default: that of `multiscale`.

    Raises:
        ValueError: a number out of its range.
    """

    high: float
    iterations: int
    low: float = 0.0
    spacing: float | None = None
    optimizer: Any = None

    def __check_init__(self) -> None:
        positive("high", self.high, "Hz")
        not_negative("low", self.low)
        whole("iterations", self.iterations, at_least=1)
        if self.low >= self.high:
            raise ValueError(f"low={self.low!r} must be below high={self.high!r} Hz")
        if self.spacing is not None:
            positive("spacing", self.spacing, "metres")


@final
class MultiscaleResult(NamedTuple):
    """The result of `multiscale`.

    Attributes:
        model: the last model, on the grid of F.
        stages: what `fwi` returned in each stage, on its grid.
        propagators: of each stage, on its grid, with the filtered wavelets that it was made with.
        observed: the filtered traces of each stage; those that do not lie in memory are read, and
            filtered, when asked for.
    """

    model: PyTree
    stages: list[FWIResult]
    propagators: list[Propagator]
    observed: list[Any]


def multiscale(
    F: Propagator,
    observed: Any,
    initial: PyTree,
    stages: Sequence[Stage],
    *,
    optimizer: optax.GradientTransformation | None = None,
    misfit: Callable[..., Any] = least_squares,
    reestimate: bool = False,
    window: Any = None,
    regularize: Callable[[Grid], Callable[[PyTree], Any]] | None = None,
    project: Callable[[Grid], Callable[[PyTree], PyTree]] | None = None,
    parameters: Callable[[PyTree], PyTree] | None = None,
    save: str | os.PathLike | None = None,
    **options: Any,
) -> MultiscaleResult:
    """Full-waveform inversion in stages, each of which takes in higher frequencies than the one
    before (Bunks et al., 1995), on a grid as fine as these need.

    In each stage, wavelets and observed traces go through the same zero-phase filter, whose gain is
    the square of that of a Butterworth filter of order 4; the model of the stage before is brought
    to the stage's grid, by averages over its cells or linear interpolation; and `fwi` runs.

    Args:
        F: the propagator, with the unfiltered wavelets, on the finest grid.
        observed: as for `fwi`.
        initial: the model to start from, on the grid of F: an array or a dict of arrays.
        stages: the stages, in their order.
        optimizer: of optax, for all stages that have none of their own. Default: L-BFGS, whose
            first step changes the model by 20 m/s in the root mean square.
        misfit: as for `fwi`.
        reestimate: estimate the wavelet anew in the model that each stage starts from, see
            `estimate_wavelet`.
        window: of that estimate.
        regularize: from a grid to a penalty, such as `lambda grid: ox.regularizers.tv(grid, 1e-3)`.
        project: from a grid to a projection.
        parameters: as for `fwi`.
        save: path of a file, beside which each stage saves its state under its own name: `save`
            followed by ".stage0.npz" and so on. The same call goes on where it was stopped.
        options: of `fwi`, for all stages: bounds that are numbers, batch_size, stop, progress, ...

    Returns:
        The model, and the result of each stage.

    Raises:
        ValueError: there is no stage, or `fwi` refuses what it is given.
        Interrupted: Ctrl-C was pressed in a stage.
    """
    if not stages:
        raise ValueError("stages=[]: give at least one, such as ox.Stage(high=5.0, iterations=10)")
    model, grid = initial, F.grid
    results: list[FWIResult] = []
    propagators: list[Propagator] = []
    filtered: list[Any] = []
    for number, stage in enumerate(stages):
        fine = F.grid if stage.spacing is None else coarse_grid(F.grid, stage.spacing)
        model, grid = resampled(model, grid, fine), fine
        survey = filtered_survey(F.survey, stage.low, stage.high)
        data = filtered_traces(observed, survey.dt, stage.low, stage.high)
        if reestimate:
            G = F.replace(grid=fine, survey=survey)
            seen = model if parameters is None else parameters(model)
            survey = _tapered(estimate_wavelet(G, data, seen, window=window).survey, stage.high)
        method = stage.optimizer or optimizer or _lbfgs(model)
        P = F.replace(grid=fine, survey=survey)
        result = fwi(
            P,
            data,
            model,
            optimizer=method,
            iterations=stage.iterations,
            misfit=misfit,
            parameters=parameters,
            regularize=None if regularize is None else regularize(fine),
            project=None if project is None else project(fine),
            save=None if save is None else Path(f"{os.fspath(save)}.stage{number}.npz"),
            **options,
        )
        model = result.model
        results.append(result)
        propagators.append(P)
        filtered.append(data)
    return MultiscaleResult(resampled(model, grid, F.grid), results, propagators, filtered)


def _lbfgs(model: PyTree) -> optax.GradientTransformation:
    """L-BFGS whose first step has 20 m/s in the root mean square."""
    first = 20.0 * optax.tree.size(model) ** 0.5
    return optax.lbfgs(optax.piecewise_constant_schedule(first, {1: 1.0 / first}))


# ---------------------------------------------------------------- filters


def filtered_survey(survey: Survey, low: float, high: float) -> Survey:
    """The survey with filtered wavelets, which begin earlier, as the filter has zero phase."""
    before = int(np.ceil(RINGING / high / survey.dt))
    samples = survey.wavelet.shape[-1]
    given = survey.wavelet[:1] if survey.one_wavelet else survey.wavelet
    padded = np.pad(given, [*[(0, 0)] * (given.ndim - 1), (before, before)])
    wavelet = _filtered(padded, survey.dt, low, high)
    shape = (*survey.wavelet.shape[:-1], samples + 2 * before)
    return survey.replace(
        wavelet=np.broadcast_to(wavelet, shape),
        wavelet_start=survey.wavelet_start - before * survey.dt,
        nt=survey.nt,
    )


def _tapered(survey: Survey, high: float) -> Survey:
    """The survey with wavelets that rise from zero and fall to it, within a period of the upper
    corner, and that hold nothing far above that corner: an estimate may have noise at its ends, and
    where the filter has left next to nothing to tell it by."""
    samples = survey.wavelet.shape[-1]
    flank = min(samples // 4, int(np.ceil(1.0 / high / survey.dt)))
    rising = 0.5 - 0.5 * np.cos(np.pi * (np.arange(flank) + 0.5) / flank)
    taper = np.ones(samples)
    taper[:flank], taper[samples - flank :] = rising, rising[::-1]
    held = _filtered(survey.wavelet * taper, survey.dt, 0.0, BEYOND * high, order=2 * ORDER)
    return survey.replace(wavelet=held * taper, nt=survey.nt)


def filtered_traces(observed: Any, dt: float, low: float, high: float) -> Any:
    """Observed traces, filtered: those in memory now, others when they are read."""
    if not in_memory(observed):
        return _Filtered(observed, partial(_filtered, dt=dt, low=low, high=high))
    if isinstance(observed, (list, tuple)):
        return [_filtered(np.asarray(g), dt, low, high) for g in observed]
    return _filtered(np.asarray(observed), dt, low, high)


@final
class _Filtered:
    """Traces that are read when asked for, and filtered then."""

    def __init__(self, observed: Any, apply: Callable[[np.ndarray], np.ndarray]) -> None:
        self.observed, self.apply = observed, apply

    def __getitem__(self, numbers: np.ndarray) -> Any:
        given = self.observed[numbers]
        if isinstance(given, (list, tuple)):
            return [self.apply(np.asarray(g)) for g in given]
        return self.apply(np.asarray(given))


def _filtered(
    signals: Float[np.ndarray, "*batch time"],
    dt: float,
    low: float,
    high: float,
    order: int = ORDER,
) -> Float[np.ndarray, "*batch time"]:
    """Signals after a zero-phase band-pass filter; dead ones stay as they are, NaN included."""
    samples = signals.shape[-1]
    size = fast_length(2 * samples)
    gain = band_gain(np.fft.rfftfreq(size, dt), low, high, order)
    spectra = np.fft.rfft(np.asarray(signals, np.float64), size)
    return np.fft.irfft(spectra * gain, size)[..., :samples].astype(signals.dtype)


# ---------------------------------------------------------------- grids


def coarse_grid(grid: Grid, spacing: float) -> Grid:
    """The grid of another spacing that begins at the same point and ends at, or just beyond, the
    same one: no source or receiver leaves it."""
    shape = [
        int(np.ceil((high - low) / spacing - 1e-6)) + 1 if high > low else 1
        for low, high in grid.extent
    ]
    return Grid(shape, spacing, grid.origin)


def resampled(model: PyTree, grid: Grid, to: Grid) -> PyTree:
    """A model on another grid: along each axis, averages over its cells (with a triangle as
    weights) where it is coarser, linear interpolation where it is finer. Beyond the last point, the
    last value goes on.

    Args:
        model: an array or a tree of arrays, on `grid`.
        grid: where it is.
        to: where it is to be.
    """
    if grid == to:
        return model
    matrices = [
        _between(n, h, o, m, k, p)
        for n, h, o, m, k, p in zip(
            grid.shape, grid.spacing, grid.origin, to.shape, to.spacing, to.origin, strict=True
        )
    ]

    def moved(m: Array) -> Array:
        for axis, matrix in enumerate(matrices):
            product = jnp.tensordot(jnp.asarray(matrix, m.dtype), m, axes=((1,), (axis,)))
            m = jnp.moveaxis(product, 0, axis)
        return m

    return jax.tree.map(lambda m: moved(jnp.asarray(m)), model)


def _between(n: int, h: float, origin: float, m: int, k: float, other: float) -> np.ndarray:
    """From n points of spacing h to m points of spacing k: (m, n)."""
    x = other + k * np.arange(m)
    x = np.clip(x, origin, origin + (n - 1) * h)
    apart = np.abs(x[:, None] - (origin + h * np.arange(n))[None, :])
    weights = np.maximum(0.0, 1.0 - apart / max(h, k))
    return weights / weights.sum(axis=1, keepdims=True)
