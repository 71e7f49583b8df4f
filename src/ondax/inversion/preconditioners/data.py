"""Weights and filters of traces, (shot, [component,] receiver, time). Each acts on every shot
alone."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float

from ..._validate import whole
from ...survey import Survey

Traces = Float[Array, "shot *components receiver time"]

SILENCE = 0.01  # of a wavelet's peak: below it, the wavelet is over
SLOWEST = 20.0  # m/s: a speed as low as that is in km/s


def mute_direct(
    survey: Survey,
    velocity: float,
    taper: float,
    *,
    delay: float | None = None,
    dtype: Any = jnp.float32,
) -> lx.DiagonalLinearOperator:
    """Zero before the direct wave is over, at `offset / velocity + delay`, then a cosine flank;
    symmetric.

    Args:
        survey: whose traces it acts on. Of several sources in a shot, the last to arrive counts.
        velocity: of the direct wave, m/s: a lower one mutes more.
        taper: length of the flank, s; 0 for none.
        delay: how long the wave lasts, s. Default: until the wavelets stay below 1 % of their peak.
        dtype: of the traces.

    Raises:
        ValueError: a velocity that looks like km/s, a negative taper or delay, or nothing left.
    """
    if not (math.isfinite(velocity) and velocity >= SLOWEST):
        raise ValueError(
            f"velocity={velocity!r} must be a speed in m/s (one below {SLOWEST:g} looks like km/s)"
        )
    if delay is None:
        loud = np.abs(survey.wavelet).max(axis=tuple(range(survey.wavelet.ndim - 1)))
        delay = float(np.flatnonzero(loud >= SILENCE * loud.max())[-1] * survey.dt)
    for name, value in (("taper", taper), ("delay", delay)):
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name}={value!r} must be a time of at least 0 s")
    apart = survey.receivers[:, None] - survey.sources[:, :, None]  # (shot, source, receiver, axis)
    over = np.linalg.norm(apart, axis=-1).max(axis=1) / velocity + delay
    since = np.arange(survey.nt) * survey.dt - over[..., None]
    passed = np.clip(since / taper, 0.0, 1.0) if taper > 0.0 else (since > 0.0).astype(float)
    if not passed.any():
        raise ValueError(
            f"velocity={velocity!r} m/s and delay={delay:g} s mute every sample of traces that "
            "last "
            f"{(survey.nt - 1) * survey.dt:g} s: take a faster velocity or a shorter delay"
        )
    weights = jnp.asarray(0.5 - 0.5 * np.cos(np.pi * passed), dtype)
    shape = _shape(survey, None)
    return lx.DiagonalLinearOperator(
        jnp.broadcast_to(
            weights.reshape(weights.shape[0], *(1,) * (len(shape) - 3), *weights.shape[1:]), shape
        )
    )


def time_gain(
    survey: Survey, power: float, *, shots: int | None = None, dtype: Any = jnp.float32
) -> lx.DiagonalLinearOperator:
    """A power of time, one at 1 s; symmetric, and the inverse of the gain of the opposite power.

    The first sample, at time 0, takes the gain of the second, so that it can be divided by.

    Args:
        survey: whose traces it acts on.
        power: the exponent; in 3-D, 1 undoes the spreading of a primary reflection.
        shots: number of shots that the traces have, where it is not the survey's: of super-shots,
            say.
        dtype: of the traces.

    Raises:
        ValueError: a power that is not finite.
    """
    if not math.isfinite(power):
        raise ValueError(f"power={power!r} must be a finite number")
    time = np.maximum(np.arange(survey.nt), 1) * survey.dt
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
    """A filter without phase, whose gain is the square of a Butterworth filter's, a half at both
    corners; symmetric.

    Applied as a product in the frequency domain, with as many zeros behind each trace as it has
    samples, so that nothing wraps around.

    Args:
        survey: whose traces it acts on.
        low: lower corner, Hz; 0 lets all low frequencies pass.
        high: upper corner, Hz.
        order: of the Butterworth filter: the gain falls by `12 * order` dB an octave.
        shots: number of shots that the traces have, where it is not the survey's: of super-shots,
            say.
        dtype: of the traces.

    Raises:
        ValueError: corners that are not `0 <= low < high <= 1 / (2 dt)`.

    References:
        Butterworth (1930), On the theory of filter amplifiers, Experimental Wireless 7, 536-541.
    """
    whole("order", order, at_least=1)
    nyquist = 0.5 / survey.dt
    if not 0.0 <= low < high <= nyquist:
        raise ValueError(
            f"low={low!r}, high={high!r} must be 0 <= low < high <= {nyquist:g} Hz, the Nyquist "
            f"frequency of dt={survey.dt:g} s"
        )
    size = _fast(2 * survey.nt)
    f = np.fft.rfftfreq(size, survey.dt)
    gain = 1.0 / (1.0 + (f / high) ** (2 * order))
    if low > 0.0:
        gain *= (f / low) ** (2 * order) / (1.0 + (f / low) ** (2 * order))
    return lx.FunctionLinearOperator(
        _filter(gain, size, dtype),
        jax.ShapeDtypeStruct(_shape(survey, shots), dtype),
        lx.symmetric_tag,
    )


def fractional_derivative(
    survey: Survey, order: float, *, shots: int | None = None, dtype: Any = jnp.float32
) -> lx.FunctionLinearOperator:
    """A derivative in time of any real order, an integral where it is negative; order 1/2 takes the
    tail off 2-D waves.

    Gruenwald-Letnikov differences: `((1 - delay) / dt) ** order` as a power series in the delay by
    one sample. That makes it causal, its transpose anticausal, and operators of opposite orders
    each other's inverse on every trace, exactly but for rounding, which grows with the number of
    samples for integrals. In frequency it is `(i w) ** order` but for a delay of `order / 2`
    samples and a factor `sinc(f dt) ** order`, which is 1 - 0.016 order at a fifth of the Nyquist
    frequency.

    Args:
        survey: whose traces it acts on.
        order: of the derivative, -2 to 2.
        shots: number of shots that the traces have, where it is not the survey's: of super-shots,
            say.
        dtype: of the traces.

    Raises:
        ValueError: an order out of its range.

    References:
        Oldham, Spanier (1974), The Fractional Calculus, Academic Press, chapter 3.
    """
    if not -2.0 <= order <= 2.0:
        raise ValueError(f"order={order!r} must be a number from -2 to 2")
    k = np.arange(1, survey.nt)
    response = np.cumprod(np.concatenate([[1.0], 1.0 - (order + 1.0) / k])) / survey.dt ** float(
        order
    )
    size = _fast(2 * survey.nt)
    return lx.FunctionLinearOperator(
        _filter(np.fft.rfft(response, size), size, dtype),
        jax.ShapeDtypeStruct(_shape(survey, shots), dtype),
    )


def _filter(spectrum: np.ndarray, size: int, dtype: Any) -> Callable[[Traces], Traces]:
    """Multiplies the spectra of traces, padded with zeros to `size` samples."""
    single = jnp.dtype(dtype) == jnp.float32
    factors = jnp.asarray(spectrum.astype(np.complex64 if single else np.complex128))

    def apply(traces: Traces) -> Traces:
        filtered = jnp.fft.irfft(factors * jnp.fft.rfft(traces, size), size)
        return filtered[..., : traces.shape[-1]]

    return apply


def _fast(size: int) -> int:
    """The least length of at least `size` that has no prime factors above 5, for the Fourier
    transform."""
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def _shape(survey: Survey, shots: int | None) -> tuple[int, ...]:
    """Of the survey's traces, or of so many shots like them."""
    if shots is not None:
        whole("shots", shots, at_least=1)
    components = (len(survey.receiver),) if isinstance(survey.receiver, tuple) else ()
    return (survey.n_shots if shots is None else shots, *components, survey.n_receivers, survey.nt)
