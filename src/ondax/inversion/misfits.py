"""Misfit functions between predicted and observed traces.

Each is plain JAX, `misfit(predicted, observed) -> scalar`, over traces whose last axis is time,
summed over all the others: bind further arguments with `functools.partial(huber, threshold=0.1)`.
Any function of this form is a misfit for `fwi`. All values and gradients are finite for finite
traces, dead (all-zero) ones included.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Traces = Float[Array | np.ndarray, "*batch time"]
Scalar = Float[Array, ""]


def least_squares(predicted: Traces, observed: Traces) -> Scalar:
    """Half the sum of squared differences, `0.5 sum((p - o)**2)`.

    References:
        Tarantola (1984), Inversion of seismic reflection data in the acoustic approximation,
        Geophysics 49(8), 1259-1266.
    """
    return 0.5 * jnp.sum((predicted - observed) ** 2)


def l1(predicted: Traces, observed: Traces) -> Scalar:
    """Sum of absolute differences, `sum(|p - o|)`: insensitive to outliers; the gradient does not
    shrink towards the minimum.

    References:
        Brossier, Operto, Virieux (2010), Which data residual norm for robust elastic
        frequency-domain full waveform inversion?, Geophysics 75(3), R37-R46.
    """
    return jnp.sum(jnp.abs(predicted - observed))


def huber(predicted: Traces, observed: Traces, *, threshold: float) -> Scalar:
    """Quadratic for differences below `threshold` (in units of the data), linear above it, with a
    continuous gradient.

    References:
        Guitton, Symes (2003), Robust inversion of seismic data using the Huber norm, Geophysics
        68(4), 1310-1319.
    """
    if threshold <= 0.0:
        raise ValueError(f"threshold={threshold!r} must be positive, in units of the data")
    size = jnp.abs(predicted - observed)
    inside = jnp.minimum(size, threshold)
    return jnp.sum(inside * (size - 0.5 * inside))


def global_correlation(predicted: Traces, observed: Traces) -> Scalar:
    """One minus the normalised zero-lag cross-correlation, `sum(1 - <p, o> / (|p| |o|))` over
    traces.

    Compares shapes and not amplitudes: each trace counts from 0 (same shape) to 2 (opposite). A
    dead trace counts 1 and has no gradient.

    References:
        Choi, Alkhalifah (2012), Application of multi-source waveform inversion to marine streamer
        data using the global correlation norm, Geophysical Prospecting 60(4), 748-758.
    """
    return jnp.sum(1.0 - jnp.sum(_normalised(predicted) * _normalised(observed), axis=-1))


def envelope(predicted: Traces, observed: Traces) -> Scalar:
    """Half the sum of squared differences of the envelopes, `0.5 sum((E[p] - E[o])**2)`, `E[p] =
    sqrt(p**2 + H[p]**2)`.

    The envelope varies slowly, so this tolerates larger errors of phase, and tells more about low
    wavenumbers, than least squares.

    References:
        - Bozdag, Trampert, Tromp (2011), Misfit functions for full waveform inversion based on
          instantaneous phase and envelope measurements, Geophysical Journal International 185(2),
          845-870.
        - Wu, Luo, Wu (2014), Seismic envelope inversion and modulation signal model, Geophysics
          79(3), WA13-WA24.
    """
    return least_squares(_envelope(predicted), _envelope(observed))


def traveltime(predicted: Traces, observed: Traces, *, dt: float) -> Scalar:
    """Half the sum of squared time shifts, in s**2, each the lag of the largest cross-correlation
    of a pair of traces.

    The lag is refined by a parabola through the three values around the maximum, which makes it
    differentiable. Traces that are dead have no shift. Meant for traces with one dominant arrival:
    window or mute the data first.

    Args:
        predicted: traces (..., time).
        observed: traces (..., time).
        dt: time between samples, s.

    References:
        Luo, Schuster (1991), Wave-equation traveltime inversion, Geophysics 56(5), 645-653.
    """
    if dt <= 0.0:
        raise ValueError(f"dt={dt!r} must be a positive number of seconds")
    nt = predicted.shape[-1]
    size = 2 * nt
    p, o = (jnp.fft.rfft(_normalised(traces), size) for traces in (predicted, observed))
    correlation = jnp.roll(
        jnp.fft.irfft(p * jnp.conj(o), size), nt, axis=-1
    )  # lag zero at sample nt
    peak = jnp.clip(jnp.argmax(correlation, axis=-1, keepdims=True), 1, size - 2)
    before, at, after = (jnp.take_along_axis(correlation, peak + i, axis=-1) for i in (-1, 0, 1))
    curvature = before - 2.0 * at + after
    curved = curvature < 0.0
    refinement = jnp.where(curved, 0.5 * (before - after) / jnp.where(curved, curvature, 1.0), 0.0)
    lag = (peak - nt).astype(predicted.dtype) + refinement
    return 0.5 * jnp.sum(jnp.where(curved, lag * dt, 0.0) ** 2)


def _normalised(traces: Traces) -> Float[Array, "*batch time"]:
    """Each trace divided by its L2 norm; dead traces stay zero."""
    # Scaled by the peak first, so that the squares of tiny traces do not underflow.
    peak = jax.lax.stop_gradient(jnp.max(jnp.abs(traces), axis=-1, keepdims=True))
    scaled = jnp.asarray(traces) / jnp.where(peak > 0.0, peak, 1.0)
    energy = jnp.sum(scaled**2, axis=-1, keepdims=True)
    return scaled / jnp.sqrt(jnp.where(peak > 0.0, energy, 1.0))


def _envelope(traces: Traces) -> Float[Array, "*batch time"]:
    """Modulus of the analytic signal. Zero padding to twice the length keeps the Hilbert transform
    from wrapping around."""
    nt = traces.shape[-1]
    size = 2 * nt
    quadrature = jnp.fft.irfft(-1j * jnp.fft.rfft(traces, size), size)[..., :nt]
    power = jnp.square(traces) + quadrature**2
    # sqrt has no gradient at zero: dead samples take the gradient of a constant.
    alive = power > 0.0
    return jnp.where(alive, jnp.sqrt(jnp.where(alive, power, 1.0)), 0.0)
