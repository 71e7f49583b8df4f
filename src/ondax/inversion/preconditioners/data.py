"""Weights and filters of traces (shot, [component,] receiver, time). Each acts on every trace
alone."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from ..._validate import whole
from ...survey import Survey
from ..filters import band_gain, fast_length

Traces = Float[Array, "shot *components receiver time"]

SILENCE = 0.01  # fraction of its peak below which a wavelet is over
SLOWEST = 20.0  # m/s: a lower speed must have been given in km/s


def mute_direct(
    survey: Survey,
    velocity: float,
    taper: float,
    *,
    delay: float | None = None,
    dtype: Any = jnp.float32,
) -> lx.DiagonalLinearOperator:
    """Weights that mute the direct wave: zero up to the time `offset / velocity + delay`, then a
    cosine flank up to one. The operator is symmetric.

    Args:
        survey: the survey of the traces. If a shot has several sources, the one whose direct wave
            arrives last counts.
        velocity: velocity of the direct wave, m/s; a lower one mutes more.
        taper: length of the flank, s; 0 for none.
        delay: how long the wave lasts, s. Default: until the wavelets stay below 1 % of their peak.
        dtype: dtype of the traces.

    Raises:
        ValueError: a velocity that looks like km/s; a negative taper or delay; or every sample
            would be muted.
    """
    if not (math.isfinite(velocity) and velocity >= SLOWEST):
        raise ValueError(
            f"velocity={velocity!r} must be a speed in m/s (one below {SLOWEST:g} looks like km/s)"
        )
    if delay is None:
        loud = np.abs(survey.wavelet).max(axis=tuple(range(survey.wavelet.ndim - 1)))
        last = np.flatnonzero(loud >= SILENCE * loud.max())[-1]
        delay = max(0.0, float(last * survey.dt + survey.wavelet_start))
    for name, value in (("taper", taper), ("delay", delay)):
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name}={value!r} must be a time of at least 0 s")
    apart = survey.receivers[:, None] - survey.sources[:, :, None]  # (shot, source, receiver, axis)
    over = np.linalg.norm(apart, axis=-1).max(axis=1) / velocity + delay
    since = survey.times - over[..., None]
    passed = np.clip(since / taper, 0.0, 1.0) if taper > 0.0 else (since > 0.0).astype(float)
    if not passed.any():
        raise ValueError(
            f"velocity={velocity!r} m/s and delay={delay:g} s mute every sample of traces that "
            f"end at {survey.times[-1]:g} s: take a faster velocity or a shorter delay"
        )
    weights = jnp.asarray(0.5 - 0.5 * np.cos(np.pi * passed), dtype)
    shape = _shape(survey, None)
    if len(shape) == 4:  # the same weights for all components
        weights = weights[:, None]
    return lx.DiagonalLinearOperator(jnp.broadcast_to(weights, shape))


def time_gain(
    survey: Survey, power: float, *, shots: int | None = None, dtype: Any = jnp.float32
) -> lx.DiagonalLinearOperator:
    """A gain that is a power of time, and one at 1 s.

    The operator is symmetric, and its inverse is the gain of the opposite power. To this end, the
    first sample, at time 0, has the gain of the second.

    Args:
        survey: the survey of the traces.
        power: the exponent; in 3-D, 1 undoes the spreading of a primary reflection.
        shots: number of shots of the traces, if it is not that of the survey: of super-shots, for
            example.
        dtype: dtype of the traces.

    Raises:
        ValueError: a power that is not finite, or a number of shots that is not a positive whole
            number.
    """
    if not math.isfinite(power):
        raise ValueError(f"power={power!r} must be a finite number")
    time = np.maximum(survey.times, survey.dt)
    return lx.DiagonalLinearOperator(
        jnp.broadcast_to(jnp.asarray(time ** float(power), dtype), _shape(survey, shots))
    )


def band_pass(
    survey: Survey,
    low: float,
    high: float,
    *,
    order: int = 4,
    shots: int | None = None,
    dtype: Any = jnp.float32,
) -> lx.FunctionLinearOperator:
    """A zero-phase band-pass filter, whose gain is the square of that of a Butterworth filter
    (Butterworth, 1930), so one half at both corners. The operator is symmetric.

    It is applied as a product in the frequency domain. Before that, as many zeros are added to each
    trace as it has samples, so that nothing wraps around.

    Args:
        survey: the survey of the traces.
        low: lower corner, Hz; with 0, all low frequencies pass.
        high: upper corner, Hz.
        order: order of the Butterworth filter: the gain falls by `12 * order` dB per octave.
        shots: number of shots of the traces, if it is not that of the survey: of super-shots, for
            example.
        dtype: dtype of the traces.

    Raises:
        ValueError: the corners are not `0 <= low < high <= 1 / (2 dt)`; or `order` or `shots` is
            not a positive whole number.
    """
    whole("order", order, at_least=1)
    nyquist = 0.5 / survey.dt
    if not 0.0 <= low < high <= nyquist:
        raise ValueError(
            f"low={low!r}, high={high!r} must be 0 <= low < high <= {nyquist:g} Hz, the Nyquist "
            f"frequency of dt={survey.dt:g} s"
        )
    size = fast_length(2 * survey.nt)  # so many zeros behind a trace that nothing wraps around
    f = np.fft.rfftfreq(size, survey.dt)
    gain = band_gain(f, low, high, order)
    return lx.FunctionLinearOperator(
        _filter(gain, size, dtype),
        jax.ShapeDtypeStruct(_shape(survey, shots), dtype),
        lx.symmetric_tag,
    )


def fractional_derivative(
    survey: Survey, order: float, *, shots: int | None = None, dtype: Any = jnp.float32
) -> lx.FunctionLinearOperator:
    """A derivative in time of any real order; a negative order gives an integral.

    Order 1/2 removes the tail that waves have in 2-D.

    The derivative is made of Gruenwald-Letnikov differences (Oldham and Spanier, 1974, chapter 3):
    the power series of `((1 - delay) / dt) ** order`, where `delay` stands for a delay by one
    sample. So the operator is causal, and its transpose is anticausal. Operators of opposite orders
    are inverse to each other on every trace, but for rounding, which grows with the number of
    samples for integrals. In the frequency domain, the operator is `(i w) ** order`, with a delay
    of `order / 2` samples and a factor `sinc(f dt) ** order`: about 1 - 0.016 order at a fifth of
    the Nyquist frequency.

    Args:
        survey: the survey of the traces.
        order: order of the derivative, -2 to 2.
        shots: number of shots of the traces, if it is not that of the survey: of super-shots, for
            example.
        dtype: dtype of the traces.

    Raises:
        ValueError: an order out of its range, or a number of shots that is not a positive whole
            number.
    """
    if not -2.0 <= order <= 2.0:
        raise ValueError(f"order={order!r} must be a number from -2 to 2")
    response = _binomial(order, survey.nt) / survey.dt ** float(order)
    size = fast_length(2 * survey.nt)  # so many zeros behind a trace that nothing wraps around
    return lx.FunctionLinearOperator(
        _filter(np.fft.rfft(response, size), size, dtype),
        jax.ShapeDtypeStruct(_shape(survey, shots), dtype),
    )


def to_2d(
    survey: Survey,
    velocity: float | Float[ArrayLike, " time"],
    *,
    delay: float = 0.0,
    shots: int | None = None,
    dtype: Any = jnp.float32,
) -> lx.AbstractLinearOperator:
    """From traces of point sources in 3-D, such as field data, to those of line sources, which
    modelling in 2-D gives: `ox.preconditioners.to_2d(survey, 1500.0).mv(observed)`.

    Waves spread in 3-D like 1/r and keep their shape; in 2-D they spread like 1/sqrt(r), and have a
    tail: their phase is turned by 45 degrees. A wave that has travelled for a time t at the
    velocity v, so a distance r = v t, is in 2-D its 3-D trace times `sqrt(2 pi v r) = v sqrt(2 pi
    t)`, integrated in time to the order 1/2, which is a convolution with `1 / sqrt(pi t)`
    (Bleistein, 1986; Forbriger et al., 2014). So this operator is a `time_gain` of power 1/2, times
    `sqrt(2 pi) v`, followed by a `fractional_derivative` of order -1/2. The latter comes a quarter
    of a sample early, which is undone here.

    It is meant for pressure, or whatever an acoustic equation records, far from the source. For a
    Ricker wavelet, traces are wrong by 7 % two wavelengths from it, by 4 % four, and by less in
    proportion to the distance. Most of this comes from the gain, which changes within the wavelet.
    Where the source has the same wavelet in 3-D, at a point, and in 2-D, on each metre of a line,
    amplitudes are right too.

    Args:
        survey: the survey of the traces.
        velocity: m/s, of the waves. In layers, the root-mean-square velocity down to where waves at
            that time come from, (time,).
        delay: when the source fires, s: the time at which the wavelet is centred. Travel times are
            counted from it.
        shots: number of shots of the traces, if it is not that of the survey: of super-shots, for
            example.
        dtype: dtype of the traces.

    Raises:
        ValueError: a velocity that looks like km/s, or of another shape than the time axis; a delay
            that is not finite; or a number of shots that is not a positive whole number.
    """
    v = np.asarray(velocity, np.float64)
    if v.shape not in ((), (survey.nt,)):
        raise ValueError(
            f"velocity has shape {v.shape}: give a number, or one for each of {survey.nt} samples"
        )
    if not (np.all(np.isfinite(v)) and np.all(v >= SLOWEST)):
        raise ValueError(
            f"velocity={velocity!r} must be speeds in m/s (one below {SLOWEST:g} looks like km/s)"
        )
    if not math.isfinite(delay):
        raise ValueError(f"delay={delay!r} must be a time in seconds")
    fired = survey.replace(
        start=survey.start - delay, wavelet_start=survey.wavelet_start - delay, nt=survey.nt
    )
    gain = time_gain(fired, 0.5, shots=shots, dtype=dtype).diagonal
    factors = jnp.asarray(math.sqrt(2.0 * math.pi) * v, dtype)
    half_integral = fractional_derivative(survey, -0.5, shots=shots, dtype=dtype)
    # ((1 + delay) / 2) ** 0.5 delays by a quarter of a sample, and is causal.
    k = np.arange(survey.nt)
    later = _binomial(0.5, survey.nt) * (-1.0) ** k / math.sqrt(2.0)
    size = fast_length(2 * survey.nt)  # so many zeros behind a trace that nothing wraps around
    quarter_later = lx.FunctionLinearOperator(
        _filter(np.fft.rfft(later, size), size, dtype), half_integral.out_structure()
    )
    return quarter_later @ half_integral @ lx.DiagonalLinearOperator(factors * gain)


def _binomial(order: float, terms: int) -> np.ndarray:
    """Coefficients of the power series of `(1 - x) ** order`."""
    k = np.arange(1, terms)
    return np.cumprod(np.concatenate([[1.0], 1.0 - (order + 1.0) / k]))


def _filter(spectrum: np.ndarray, size: int, dtype: Any) -> Callable[[Traces], Traces]:
    """A function that multiplies the spectra of traces, which it pads with zeros to `size`
    samples, by `spectrum`."""
    single = jnp.dtype(dtype) == jnp.float32
    factors = jnp.asarray(spectrum.astype(np.complex64 if single else np.complex128))

    def apply(traces: Traces) -> Traces:
        filtered = jnp.fft.irfft(factors * jnp.fft.rfft(traces, size), size)
        return filtered[..., : traces.shape[-1]]

    return apply


def _shape(survey: Survey, shots: int | None) -> tuple[int, ...]:
    """The shape of a survey's traces; with another number of shots, unless `shots` is None."""
    if shots is not None:
        whole("shots", shots, at_least=1)
    return survey.trace_shape(survey.n_shots if shots is None else shots)
