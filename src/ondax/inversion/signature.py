"""The source wavelet, estimated from traces.

Traces depend linearly on the wavelet. So, in a given model, the wavelet that fits observed traces
best is found in closed form (Pratt, 1999). It is looked for among the sums of shifted copies of a
short pulse, which holds all frequencies that the grid can carry. The responses to this pulse are
modelled once for all; the copies of them, shifted alike, are fitted to the observed traces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import GivenShots, Model, Traces
from .._validate import not_negative, one_of
from .._validate import shape as check_shape
from ..face.fetching import Source
from ..points import finite
from ..propagator import Propagator
from ..survey import Survey
from .filters import fast_length
from .observed import check_finite

Window = Any  # an array, or a function of distance and time
METHODS = ("least_squares", "water_level")

AT_HIGHEST = 0.01  # what is left of the pulse's spectrum at the grid's highest frequency
WIDTHS = 4.0  # half-length of the pulse, in standard deviations: its ends are 3e-4 of its peak
# Above the grid's highest frequency, the pulse and its responses are about zero, and noise alone
# would tell how much of it there is. A small number on the diagonal, as a fraction of it, sets it
# to zero: it is far below the responses to lower frequencies (1e-4), and above their rounding in
# float32 (1e-7), squared. In float32, it must also be above the rounding of the sums themselves.
RIDGE = 1e-9
RIDGE_IN_ROUNDING = 100.0


@final
class Signature(NamedTuple):
    """An estimate of source wavelets.

    Attributes:
        wavelet: samples (time,), the same for all shots; or, with `per_shot=True`, (shot,
            [component,] source, time). `F(model, wavelet=...)` takes them, unless another start or
            length than the survey's was asked for; see `survey`. Their units are those in which
            `F` gives traces in the units of the observed ones.
        start: time of the first sample, s.
        explained: the fraction of the energy (sum of squares) of the observed traces that the
            estimate explains, weighted as in the estimate. 1 is a perfect fit. Of all shots; or,
            with `per_shot=True`, of each, (shot,).
        survey: F's survey with the estimate as its wavelets: `F.with_survey(found.survey)`.
    """

    wavelet: Float[np.ndarray, "*shot_source time"]
    start: float
    explained: float | Float[np.ndarray, " shot"]
    survey: Survey


def estimate_wavelet(
    F: Propagator,
    observed: Any,
    model: Model,
    *,
    per_shot: bool = False,
    length: int | None = None,
    start: float | None = None,
    window: Window = None,
    damping: float = 1e-4,
    method: str = "least_squares",
) -> Signature:
    """Estimate the source wavelet: the one with which modelled traces fit the observed ones best
    (Pratt, 1999).

    The estimate holds frequencies up to `F.highest_frequency`, that of the survey's own wavelet,
    whose shape does not matter otherwise: give the survey a wavelet with the band of the data. It
    begins and ends smoothly. All sources of a shot fire the same wavelet, but for the weights of
    `Survey(source={...})`.

    The wavelet takes up what the model gets wrong. So make it no longer than the source lasts,
    and restrict the fit to waves that the model explains, such as the direct wave:
    `window=1.0 - ox.preconditioners.mute_direct(F.survey, 1500.0, 0.05).diagonal`.

    An estimate belongs to the wave equation of `F`. The wavelet of `Acoustic` is `rho` times that
    of `AcousticDensity`, where `rho` is the density at the source, kg/m3: the first solves
    `(1/vp^2) u_tt - laplace(u) = w`, the second `(1/(rho vp^2)) p_tt - div(grad(p)/rho) = w`.

    Args:
        F: the propagator. Its survey's sources are points.
        observed: traces (shot, [component,] receiver, time), a list with those of each shot, or
            anything that gives those of some shots by `observed[numbers]`. Those of weight 0 (see
            `Survey(trace_weights=...)`) may hold anything.
        model: the model in which waves travel, as F takes it.
        per_shot: estimate a wavelet for each shot. Default: one for all.
        length: samples of the wavelet. Default: those of the survey's.
        start: time of the first sample, s; before 0 for an acausal wavelet. Default: the survey's
            `wavelet_start`.
        window: weights of samples, an array that fits the shape of the traces; or a function
            `window(distance, time)` of the distance of receivers from the shot's nearest source,
            metres, (receiver, 1), and of time, s, (time,), that gives weights (receiver, time).
            They multiply the survey's `trace_weights`. Default: 1.
        damping: how strongly frequencies that are weak in the traces are held back, a fraction; 0
            for not at all. See `method`.
        method: "least_squares": the wavelet of the stated length for which the sum of squared
            differences, weighted, plus `damping` times the energy of the wavelet, is least. (That
            energy is multiplied by the modelled traces' energy for a pulse of energy 1.)
            Differences are weighted after modelling, so windows and the end of the record do no
            harm. "water_level": division of spectra, whose denominator is raised to `damping`
            times its peak where it is less (Clayton and Wiggins, 1976). It is quicker. As both
            traces are weighted before, it is exact only for waves that the window and the record
            hold whole; so let windows have smooth flanks.

    Returns:
        The wavelet, and how well it explains the traces.

    Raises:
        ValueError: extended sources, or sources of a shot whose wavelets in the survey differ;
            observed traces or windows of another shape, not finite, or zero wherever they count; a
            wavelet longer than what is modelled, or too short for its highest frequency; or
            another argument out of its range.
    """
    one_of("method", method, METHODS)
    not_negative("damping", damping)
    pulses = _pulses(F, length, start)
    fetch, weigh = _fetching(F, observed), _weighing(F, window)
    filters, explained = [], []
    total: Any = None
    n_shots = F.survey.n_shots
    at_once = max(1, F.settings.worker_threads)
    for first in range(0, n_shots, at_once):
        numbers = np.arange(first, min(first + at_once, n_shots))
        modelled = np.asarray(pulses.F(model, shots=numbers.tolist()), np.float64)
        weights = weigh(numbers)
        seen = _seen(fetch(numbers), weights, numbers)
        for n, *traces in zip(numbers, modelled, seen, weights, strict=True):
            found = _sums(method, pulses, *traces)
            if per_shot:
                _check_energies(found, f"shot {n}")
                h, fit = _solved(method, pulses, found, damping)
                filters.append(h)
                explained.append(fit)
            else:
                total = found if total is None else jax.tree.map(np.add, total, found)
    if not per_shot:
        _check_energies(total, "every shot")
        h, fit = _solved(method, pulses, total, damping)
        filters, explained = [h], [fit]
    wavelets = np.stack([pulses.wavelet(h) for h in filters])
    shape = F.survey.wavelet.shape[:-1]
    if per_shot:
        each = wavelets.reshape(n_shots, *(1,) * (len(shape) - 1), -1)
        wavelet = np.broadcast_to(each, (*shape, pulses.length)).copy()
    else:
        wavelet = wavelets[0]
    survey = F.survey.replace(wavelet=wavelet, wavelet_start=pulses.start, nt=F.survey.nt)
    fits = np.array(explained) if per_shot else explained[0]
    return Signature(wavelet, pulses.start, fits, survey)


@final
class ProjectedWavelet(eqx.Module):
    """Modelling with the wavelet that fits observed traces best: `G = ProjectedWavelet(F,
    observed)`, and `traces = G(model)`.

    The wavelet is found anew in closed form for each model, as `estimate_wavelet` does by least
    squares, so a misfit of `G(model)` depends on the model alone: variable projection (Golub and
    Pereyra, 1973; in waveform inversion, Rickett, 2013). `ox.fwi(G, observed, ...)` inverts for the
    model so. Traces cost one modelling, and their gradient one more run backward, as those of `F`.

    For the least-squares misfit, with the same weights, gradients may hold the wavelet fixed, as
    the misfit is least with respect to it (but for the damping). For other misfits, differentiate
    through the estimate.

    `fwi` applies the survey's weights of traces, as it does for `F`. On a batch of shots, the
    wavelet is estimated from this batch.

    Args:
        F: the propagator. Its survey's sources are points.
        observed: traces (shot, [component,] receiver, time), or a list with those of each shot.
        per_shot: a wavelet for each shot. Default: one for all.
        length: as for `estimate_wavelet`.
        start: as for `estimate_wavelet`.
        window: as for `estimate_wavelet`. Only the estimate is restricted to it.
        damping: as for `estimate_wavelet`.
        through: differentiate through the estimate. Default: hold the wavelet fixed in derivatives.

    Raises:
        ValueError: as for `estimate_wavelet`.
    """

    observed: Array
    weights: Array
    damping: float = eqx.field(static=True)
    per_shot: bool = eqx.field(static=True)
    through: bool = eqx.field(static=True)
    _F: Propagator
    _lags: int = eqx.field(static=True)
    _before: int = eqx.field(static=True)
    _pulse: Array

    def __init__(
        self,
        F: Propagator,
        observed: Any,
        *,
        per_shot: bool = False,
        length: int | None = None,
        start: float | None = None,
        window: Window = None,
        damping: float = 1e-4,
        through: bool = False,
    ) -> None:
        self.damping = not_negative("damping", damping)
        self.per_shot, self.through = bool(per_shot), bool(through)
        pulses = _pulses(F, length, start)
        numbers = np.arange(F.survey.n_shots)
        weights = _weighing(F, window)(numbers)
        seen = _seen(_fetching(F, observed)(numbers), weights, numbers)
        counted = np.abs(weights * seen).reshape(len(seen), -1).max(axis=1)
        for n, peak in enumerate(counted if per_shot else [counted.max()]):
            if peak == 0.0:
                raise ValueError(_nothing("observed is", f"shot {n}" if per_shot else "every shot"))
        self.observed, self.weights = jnp.asarray(seen), jnp.asarray(weights)
        self._F, self._lags, self._before = pulses.F, pulses.lags, pulses.before
        self._pulse = jnp.asarray(pulses.pulse)

    @property
    def survey(self) -> Survey:
        """Of its propagator; the estimated wavelet takes the place of this survey's."""
        return self._F.survey

    def __call__(self, model: Model, *, shots: GivenShots | None = None) -> Traces:
        """Traces (shot, [component,] receiver, time) for the wavelet that fits best.

        Args:
            model: as F takes it.
            shots: numbers of the shots to fire, and to fit; default all. May be traced.

        Raises:
            ValueError: as for `Propagator.__call__`.
        """
        modelled = self._F(model, shots=shots)
        numbers = slice(None) if shots is None else jnp.asarray(shots)
        dtype = modelled.dtype
        seen, weights = (a[numbers].astype(dtype) for a in (self.observed, self.weights))
        given = modelled if self.through else jax.lax.stop_gradient(modelled)
        # Of sizes near one, so that squares can be represented.
        sizes = [jax.lax.stop_gradient(jnp.max(jnp.abs(a))) for a in (given, seen)]
        p, d = (jnp.where(s > 0.0, s, 1.0) for s in sizes)

        def fitted(gathers: Array, observed: Array, weights: Array) -> Array:
            parts = (_rows(a) for a in (gathers / p, observed / d, weights))
            normal, right, _ = _equations(*parts, lags=self._lags, before=self._before)
            return _least_squares(normal, right, self._pulse.astype(dtype), damping=self.damping)

        if self.per_shot:
            h = jax.vmap(fitted)(given, seen, weights)
            h = h.reshape(len(h), *(1,) * (modelled.ndim - 2), -1)
        else:
            h = fitted(given, seen, weights)
        size = fast_length(modelled.shape[-1] + self._lags)
        filtered = jnp.fft.irfft(jnp.fft.rfft(modelled / p, size) * jnp.fft.rfft(h, size), size)
        nt = self.observed.shape[-1]
        return d * filtered[..., self._before : self._before + nt]


# ---------------------------------------------------------------- pulses


@final
class _Pulses(NamedTuple):
    """What a wavelet is made of: copies of a pulse, shifted by 0, 1, ... samples.

    Attributes:
        F: models the responses to the first of them, from the wavelet's start or that of the
            record, whichever is earlier, to the record's end.
        pulse: its samples.
        lags: how many copies there are.
        before: samples of the responses before the record.
        nt: samples of the record.
        length: samples of the wavelet; those after the last copy are zero.
        start: time of the first, s.
    """

    F: Propagator
    pulse: Float[np.ndarray, " sample"]
    lags: int
    before: int
    nt: int
    length: int
    start: float

    @property
    def size(self) -> int:
        """Samples of padded records, so that no lag wraps around."""
        return fast_length(self.nt + max(self.nt, self.lags))

    def wavelet(self, h: Float[np.ndarray, " lag"]) -> Float[np.ndarray, " time"]:
        made = np.convolve(h, self.pulse)
        return np.pad(made, (0, self.length - len(made)))


def _pulses(F: Propagator, length: int | None, start: float | None) -> _Pulses:
    """The pulses of a wavelet.

    The pulse is a Gaussian: of all pulses as short, it has the least energy above its band.

    Raises:
        ValueError: there is no such wavelet; see `estimate_wavelet`.
    """
    survey = F.survey
    if survey.extended:
        raise ValueError(
            "the survey's sources are extended, so its traces depend on weights, too, that are not "
            "known here: estimate the wavelet with a survey of point sources"
        )
    in_shot = survey.wavelet.reshape(survey.n_shots, -1, survey.wavelet.shape[-1])
    live = survey.points[0].live()  # sources that a shot does not have count for nothing
    live = np.tile(live, in_shot.shape[1] // live.shape[1])
    if np.any((in_shot != in_shot[:, :1]) & live[..., None]):
        raise ValueError(
            "sources of a shot have different wavelets in the survey, and traces do not tell them "
            "apart: give all the same, and their strengths by source={name: weights}"
        )
    if F.highest_frequency <= 0.0:
        raise ValueError(
            "the survey's wavelets are zero, so the band of the estimate is not known: give the "
            "survey a wavelet with the band of the data, such as ox.ricker(...)"
        )
    start = survey.wavelet_start if start is None else float(start)
    lead = round((survey.start - start) / survey.dt)
    modelled = survey.nt + lead
    samples = survey.wavelet.shape[-1] if length is None else int(length)
    if length is not None and (length != samples or not 2 <= samples <= modelled):
        raise ValueError(
            f"length={length!r} must be a whole number of samples, from 2 to {modelled}: those "
            f"from the wavelet's start, at {start:g} s, to the end of the traces"
        )
    width = math.sqrt(-2.0 * math.log(AT_HIGHEST)) / (2.0 * math.pi * F.highest_frequency)
    half = math.ceil(WIDTHS * width / survey.dt)
    pulse = np.exp(-0.5 * (np.arange(-half, half + 1) * survey.dt / width) ** 2)
    lags = min(samples, modelled) - 2 * half
    if lags < 1:
        raise ValueError(
            f"a wavelet of length={samples} samples is too short for frequencies up to "
            f"{F.highest_frequency:.3g} Hz: it needs at least {2 * half + 1} samples of "
            f"{survey.dt:g} s"
        )
    responses = survey.replace(
        wavelet=pulse,
        wavelet_start=start,
        start=min(start, survey.start),
        nt=survey.nt + max(0, lead),
    )
    before = max(0, lead)
    made = F.with_survey(responses)
    return _Pulses(made, pulse, lags, before, survey.nt, samples, start)


# ---------------------------------------------------------------- traces and their weights


def _fetching(F: Propagator, observed: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function that gives the observed traces of shots in float64.

    Raises:
        ValueError: traces of another shape than the survey's.
    """
    survey = F.survey
    shape = F._problem.trace_shape(survey.n_shots)
    if isinstance(observed, (list, tuple)):
        observed = survey.padded(observed)
    if isinstance(observed, (np.ndarray, jax.Array)):
        check_shape("observed", observed, shape)
        if isinstance(observed, jax.Array):
            observed = np.asarray(observed)
    call = Source(observed).call(shape[1:], "float64")
    return lambda numbers: call(numbers)[0]


def _weighing(F: Propagator, window: Window) -> Callable[[np.ndarray], np.ndarray]:
    """A function that gives the weights of the traces of shots, (shot, [component,] receiver, time
    or 1).

    Raises:
        ValueError: a window of another shape, or not finite.
    """
    survey = F.survey
    shape = F._problem.trace_shape(survey.n_shots)
    fixed: Any = None
    if window is not None and not callable(window):
        values: Any = window
        try:
            fixed = np.broadcast_to(finite("window", values), shape)
        except ValueError:
            raise ValueError(
                f"window has shape {np.shape(window)}, but traces are {shape}: it must be the "
                "same, or lack axes along which it does not change"
            ) from None

    receivers = survey.receivers if callable(window) else np.empty(0)  # padded once

    def of_shot(shot: int) -> np.ndarray:
        traces = np.broadcast_to(survey.weights_of([shot])[0].astype(np.float64), shape[1:-1])
        if window is None:
            return traces[..., None]
        if fixed is not None:
            return traces[..., None] * fixed[shot]
        apart = receivers[shot][:, None] - survey.points[0].of(shot)
        distance = np.linalg.norm(apart, axis=-1).min(axis=1)
        answer: Any = window(distance[:, None], survey.times)
        given = finite("window(distance, time)", answer)
        expected = (survey.n_receivers, survey.nt)
        try:
            return traces[..., None] * np.broadcast_to(given, expected)
        except ValueError:
            raise ValueError(
                f"window(distance, time) has shape {given.shape}, expected {expected}"
            ) from None

    return lambda numbers: np.stack([of_shot(int(n)) for n in numbers])


def _seen(observed: np.ndarray, weights: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Observed traces, with zeros where their weight is zero.

    Raises:
        ValueError: others are not finite.
    """
    seen = np.where(weights == 0.0, 0.0, observed)
    check_finite(seen, numbers)
    return seen


def _check_energies(sums: tuple[Any, Any, Any], where: str) -> None:
    """Refuse traces from which nothing can be estimated.

    Raises:
        ValueError: observed or modelled traces are zero.
    """
    modelled, _, observed = sums
    if not np.sum(observed) > 0.0:
        raise ValueError(_nothing("observed is", where))
    if not np.max(modelled) > 0.0:
        raise ValueError(_nothing("modelled traces are", where))


def _nothing(what: str, where: str) -> str:
    return (
        f"{what} zero in {where}, wherever trace_weights and window are not: check these, and "
        "units, or leave dead shots out, survey[numbers]"
    )


# ---------------------------------------------------------------- estimates


def _sums(method: str, pulses: _Pulses, *traces: np.ndarray) -> tuple[Any, Any, Any]:
    """What an estimate needs of a shot, which is added up over shots."""
    modelled, observed, weights = (_rows(a) for a in traces)
    if method == "water_level":
        p = np.fft.rfft(weights * modelled[:, pulses.before :], pulses.size)
        d = np.fft.rfft(weights * observed, pulses.size)
        return (
            np.sum(np.abs(p) ** 2, axis=0),
            np.sum(np.conj(p) * d, axis=0),
            np.sum(np.abs(d) ** 2, axis=0),
        )
    with jax.enable_x64(True):
        found = _equations(modelled, observed, weights, lags=pulses.lags, before=pulses.before)
        return tuple(map(np.asarray, found))


def _solved(
    method: str, pulses: _Pulses, sums: tuple[Any, Any, Any], damping: float
) -> tuple[np.ndarray, float]:
    """The factors of the pulses, and the fraction of the observed energy that is explained."""
    if method == "water_level":
        (powers, cross, energies), size = sums, pulses.size
        level = max(damping, np.finfo(np.float64).eps) * powers.max()
        h = np.fft.irfft(cross / np.maximum(powers, level), size)[: pulses.lags]
        found = np.fft.rfft(h, size)
        missed = energies - 2.0 * np.real(np.conj(found) * cross) + np.abs(found) ** 2 * powers
        twice = np.full(len(powers), 2.0)  # negative frequencies
        twice[0] = 1.0
        twice[-1] = 1.0 if size % 2 == 0 else 2.0
        return h, 1.0 - float(np.sum(twice * missed) / np.sum(twice * energies))
    normal, right, energy = sums
    with jax.enable_x64(True):
        h = np.asarray(_least_squares(normal, right, pulses.pulse, damping=damping))
    return h, float((2.0 * h @ right - h @ normal @ h) / energy)


@partial(jax.jit, static_argnames=("lags", "before"))
def _equations(
    modelled: Float[Array, "trace sample"],
    observed: Float[Array, "trace time"],
    weights: Float[Array, "trace #time"],
    lags: int,
    before: int,
) -> tuple[Float[Array, "lag lag"], Float[Array, " lag"], Float[Array, ""]]:
    """Matrix and right-hand side of the normal equations for the factors of the pulses, and the
    energy of the observed traces, weighted.

    The matrix holds scalar products of modelled traces that are shifted by two lags. Where weights
    do not change with time, each follows from that of lags less by one: only one sample enters the
    record, and one leaves it.
    """
    nt, size = observed.shape[-1], fast_length(modelled.shape[-1] + lags)
    squares = weights**2
    spectra = jnp.conj(jnp.fft.rfft(modelled, size))

    def products(traces: Array) -> Array:
        """Scalar products of traces of the record with modelled ones, shifted by each lag."""
        later = jnp.pad(traces, ((0, 0), (before, 0)))
        return jnp.fft.irfft(jnp.sum(jnp.fft.rfft(later, size) * spectra, axis=0), size)[:lags]

    right = products(squares * observed)
    energy = jnp.sum(squares * observed**2)
    # So that sample `before + t - lag` of the modelled traces is never before their first one.
    padded = jnp.pad(modelled, ((0, 0), (lags, 0)))
    if weights.shape[-1] > 1:
        places = lags + before + np.arange(nt)[:, None] - np.arange(lags)

        def add(total: Array, trace: tuple[Array, Array]) -> tuple[Array, None]:
            responses, factors = trace
            shifted = responses[places]
            return total + shifted.T @ (factors[:, None] * shifted), None

        empty = jnp.zeros((lags, lags), modelled.dtype)
        return jax.lax.scan(add, empty, (padded, squares))[0], right, energy

    def between(place: int) -> Array:
        """Products of single samples, that many after the first, less the lags."""
        samples = padded[:, lags + place - np.arange(lags)]
        return samples.T @ (squares * samples)

    changes = between(before - 1) - between(before + nt - 1)
    first = products(squares * modelled[:, before : before + nt])

    def following(row: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        change, start = at
        return jnp.concatenate([start[None], (row + change)[:-1]]), row

    starts = jnp.concatenate([first[1:], first[:1]])  # the last is for a row that is not there
    return jax.lax.scan(following, first, (changes, starts))[1], right, energy


@partial(jax.jit, static_argnames="damping")
def _least_squares(
    normal: Float[Array, "lag lag"],
    right: Float[Array, " lag"],
    pulse: Float[Array, " sample"],
    damping: float,
) -> Float[Array, " lag"]:
    """The factors of the pulses that make the damped sum of squares least."""
    lags = len(right)
    overlaps = jnp.correlate(pulse, pulse, mode="full")[len(pulse) - 1 :]
    overlaps = jnp.pad(overlaps, (0, max(0, lags - len(pulse))))[:lags]
    apart = np.abs(np.arange(lags)[:, None] - np.arange(lags))
    energy = overlaps[apart] / overlaps[0]  # of the wavelet, as a quadratic form of the factors
    ridge = max(RIDGE, RIDGE_IN_ROUNDING * float(jnp.finfo(normal.dtype).eps))
    held = damping * energy + ridge * jnp.eye(lags, dtype=normal.dtype)
    return jnp.linalg.solve(normal + normal[0, 0] * held, right)


def _rows(traces: Any) -> Any:
    """Traces one below the other, (trace, time)."""
    return traces.reshape(-1, traces.shape[-1])
