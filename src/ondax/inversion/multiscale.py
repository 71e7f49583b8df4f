"""Full-waveform inversion from low to high frequencies, and from coarse to fine grids."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
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
from .observed import stamp_of
from .parametrizations import Parametrization, conditioned
from .result import FWIResult
from .signature import estimate_wavelet

FIRST_STEP = 20.0  # m/s, of the default optimiser
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
    condition: Callable[[Propagator, PyTree], lx.AbstractLinearOperator] | None = None,
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
        parameters: as for `fwi`, of models on any of the grids.
        condition: from the propagator of a stage and what it starts from to an operator, by which
            gradients are conditioned in this stage, see `ox.parametrizations.conditioned`:
            `lambda F, vp: ox.preconditioners.smoothing(F.grid, 500.0 / F.dominant_frequency)`. It
            acts on what is inverted for. Penalties, the callback and all results are as without it,
            but the states that are saved, and the result in `Interrupted`, hold its x. Bounds,
            masks and projections do not go with it.
        save: path of a file, beside which each stage saves its state under its own name: `save`
            followed by ".stage0.npz" and so on. The same call goes on where it was stopped.
        options: of `fwi`, for all stages: bounds that are numbers, batch_size, stop, progress, ...

    Returns:
        The model, and the result of each stage.

    Raises:
        ValueError: there is no stage, `parameters` does not fit the grid of one, bounds, masks or
            projections are given with `condition`, or `fwi` refuses what it is given.
        Interrupted: Ctrl-C was pressed in a stage.
    """
    if not stages:
        raise ValueError("stages=[]: give at least one, such as ox.Stage(high=5.0, iterations=10)")
    if condition is not None:
        _check_conditioned(options | {"project": project})
    grids = [F.grid if s.spacing is None else coarse_grid(F.grid, s.spacing) for s in stages]
    if parameters is not None:
        _check_fits(parameters, initial, F.grid, grids)
    model, grid = initial, F.grid
    results: list[FWIResult] = []
    propagators: list[Propagator] = []
    filtered: list[Any] = []
    for number, (stage, fine) in enumerate(zip(stages, grids, strict=True)):
        model, grid = resampled(model, grid, fine), fine
        survey = filtered_survey(F.survey, stage.low, stage.high)
        data = filtered_traces(observed, survey.dt, stage.low, stage.high)
        if reestimate:
            G = F.replace(grid=fine, survey=survey)
            seen = model if parameters is None else parameters(model)
            survey = _tapered(estimate_wavelet(G, data, seen, window=window).survey, stage.high)
        method = stage.optimizer or optimizer or _lbfgs(first_step(model, parameters))
        P = F.replace(grid=fine, survey=survey)
        run = partial(
            fwi,
            P,
            data,
            optimizer=method,
            iterations=stage.iterations,
            misfit=misfit,
            save=None if save is None else Path(f"{os.fspath(save)}.stage{number}.npz"),
        )
        penalty = None if regularize is None else regularize(fine)
        if condition is None:
            result = run(
                model,
                parameters=parameters,
                regularize=penalty,
                project=None if project is None else project(fine),
                **options,
            )
        else:
            x = conditioned(model, condition(P, model))
            result = _conditioned_run(run, x, model, parameters, penalty, options)
        model = result.model
        results.append(result)
        propagators.append(P)
        filtered.append(data)
    return MultiscaleResult(resampled(model, grid, F.grid), results, propagators, filtered)


def _lbfgs(first: float) -> optax.GradientTransformation:
    """L-BFGS whose first step has this norm, as long as a line search keeps to it."""
    return optax.lbfgs(optax.piecewise_constant_schedule(first, {1: 1.0 / first}))


def first_step(inverted: PyTree, parameters: Callable[[PyTree], PyTree] | None) -> float:
    """The norm of a step of what is inverted for that changes the model by 20 m/s, in the root mean
    square.

    Args:
        inverted: what is inverted for.
        parameters: from that to the model; None if they are the same.
    """
    norm = FIRST_STEP * optax.tree.size(inverted) ** 0.5
    if parameters is None:
        return norm
    ones = jax.tree.map(jnp.ones_like, inverted)
    moved = jax.jvp(parameters, (inverted,), (ones,))[1]
    size = float(optax.tree.norm(moved)) / optax.tree.size(moved) ** 0.5
    return norm / size if size > 0.0 else norm


def _conditioned_run(
    run: Callable[..., FWIResult],
    x: Parametrization,
    model: PyTree,
    parameters: Callable[[PyTree], PyTree] | None,
    penalty: Callable[[PyTree], Any] | None,
    options: dict[str, Any],
) -> FWIResult:
    """A stage that inverts for the x of `conditioned`; what it returns is in terms of the model
    that it starts from.

    Args:
        run: `fwi` with all that does not depend on x.
        x: the parametrisation.
        model: that the stage starts from.
        parameters: of `fwi`, from such a model to the one that its propagator takes.
        penalty: of such a model.
        options: of `fwi`.
    """
    callback = options.get("callback")
    if callback is not None:
        options = options | {"callback": lambda done, at, log: callback(done, x(at), log)}
    result = run(
        x.from_model(model),
        parameters=x if parameters is None else _Both(x, parameters),
        regularize=None if penalty is None else _Both(x, penalty),
        **options,
    )
    return dataclasses.replace(result, model=x(result.model))


@final
class _Both:
    """One function after another."""

    def __init__(self, first: Callable[[Any], Any], second: Callable[[Any], Any]) -> None:
        self.first, self.second = first, second

    def __call__(self, given: Any) -> Any:
        return self.second(self.first(given))


def _check_conditioned(options: dict[str, Any]) -> None:
    """Refuse what would act on the x of `conditioned`, and not on the model.

    Raises:
        ValueError: names the argument and what to do.
    """
    for name, remedy in {
        "bounds": "give parameters=b, b = ox.parametrizations.between(lower, upper), and start "
        "from b.from_model(model)",
        "project": "leave it out, or give a penalty",
        "mask": "give an operator that has weights of zero, such as ox.preconditioners.top_mute",
    }.items():
        if options.get(name) is not None:
            raise ValueError(f"{name} does not go with condition: {remedy}")


def _check_fits(
    parameters: Callable[[PyTree], PyTree], initial: PyTree, grid: Grid, grids: Sequence[Grid]
) -> None:
    """Refuse a parametrisation that is made for one grid where stages have others.

    Raises:
        ValueError: it does not give models on the grid of a stage.
    """
    for other in grids:
        if other.shape == grid.shape:
            continue
        moved = jax.eval_shape(lambda model, to=other: resampled(model, grid, to), initial)
        try:
            shapes = {leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(parameters, moved))}
        except (TypeError, ValueError) as error:
            reason: Exception | None = error
        else:
            reason = None
            if shapes <= {(), other.shape}:
                continue
        raise ValueError(
            f"parameters does not give models of the shape {other.shape}, that of a stage's grid: "
            f"what it holds was made for another one, such as that of F, {grid.shape}. Give "
            "parameters that fit any grid, and operators by condition=lambda F, model: ..., which "
            "is asked anew in each stage; or leave out the spacing of the stages"
        ) from reason


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

    def __init__(self, observed: Any, apply: partial[np.ndarray]) -> None:
        self.observed, self.apply = observed, apply

    def __len__(self) -> int:
        """Shots.

        Raises:
            TypeError: what is filtered does not tell.
        """
        return len(self.observed)

    def __getitem__(self, numbers: np.ndarray) -> Any:
        given = self.observed[numbers]
        if isinstance(given, (list, tuple)):
            return [self.apply(np.asarray(g)) for g in given]
        return self.apply(np.asarray(given))

    @property
    def stamp(self) -> Callable[[], str]:
        """See `observed.stamp_of`.

        Raises:
            AttributeError: what is filtered has none.
        """
        stamp = stamp_of(self.observed)
        if stamp is None:
            raise AttributeError("stamp")
        return lambda: f"{stamp} {sorted(self.apply.keywords.items())}"


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
