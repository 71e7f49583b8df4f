"""Source wavelets, sampled in float64 NumPy with unit peak.

The first sample of a wavelet is time zero, and the field of a simulation starts at rest. A wavelet
which does not start near zero therefore starts with a step, which radiates energy at every
frequency. Each function here starts at zero or, for `ricker` and `gaussian`, below 1e-6 of its
peak: the zero-phase ones (`ricker`, `gaussian`, `ormsby`, `klauder`) are moved later by `delay`
seconds, and so are all the arrivals in the traces. Subtract `delay` to read travel times off the
peaks.

Zero-phase or minimum-phase? Zero-phase wavelets suit synthetic studies: the peak is the arrival.
Air guns and dynamite emit wavelets close to minimum phase; for those, pass the measured or
estimated signature (any array of `nt` samples is a wavelet) or convert a zero-phase one with
`scipy.signal.minimum_phase`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

Wavelet = Float64[np.ndarray, " time"]


def ricker(frequency: float, nt: int, dt: float, delay: float | None = None) -> Wavelet:
    """Ricker wavelet `(1 - 2 a) exp(-a)`, `a = (pi frequency (t - delay))**2`: the usual choice for
    acoustic modelling.

    Args:
        frequency: peak frequency of the spectrum, Hz. There is energy up to about 2.5 times it.
        nt: number of samples.
        dt: time between samples, s.
        delay: time of the peak, s. Default `1.5 / frequency`: the first sample is then 1e-8 of the
            peak.

    Returns:
        Array of shape (nt,), peak 1.

    Raises:
        ValueError: if the wavelet does not fit into `nt` samples or is aliased at `dt`.

    References:
        Ricker (1953), The form and laws of propagation of seismic wavelets, Geophysics 18(1),
        10-40.
    """
    _positive(frequency=frequency)
    t = _times(nt, dt, delay, half_length=1.5 / frequency, highest=2.5 * frequency)
    a = (math.pi * frequency * t) ** 2
    return (1.0 - 2.0 * a) * np.exp(-a)


def gaussian(
    frequency: float, nt: int, dt: float, derivative: int = 1, delay: float | None = None
) -> Wavelet:
    """The n-th time derivative of a Gaussian, scaled to peak 1.

    `derivative=2` is the negative of `ricker`; `derivative=1` is its integral, with more energy at
    low frequencies.

    Args:
        frequency: peak frequency of the spectrum, Hz.
        nt: number of samples.
        dt: time between samples, s.
        derivative: order of the derivative, 1 to 6.
        delay: time of the centre, s. Default: 7 standard deviations of the Gaussian, `7
            sqrt(derivative) / (2 pi frequency)`.

    Returns:
        Array of shape (nt,).

    Raises:
        ValueError: if `derivative` is not in 1..6, or the wavelet does not fit or is aliased.
    """
    if derivative not in range(1, 7):
        raise ValueError(f"derivative={derivative!r} must be an integer from 1 to 6")
    _positive(frequency=frequency)
    sigma = math.sqrt(derivative) / (2.0 * math.pi * frequency)
    # Beyond this, the spectrum f^n exp(-(f sigma)^2 / 2) is below 4 % of its maximum.
    highest = (1.0 + 2.1 / math.sqrt(derivative)) * frequency
    t = _times(nt, dt, delay, half_length=7.0 * sigma, highest=highest)
    hermite = np.polynomial.hermite_e.HermiteE.basis(derivative)

    def shape(x):
        return (-1.0) ** derivative * hermite(x) * np.exp(-0.5 * x**2)

    # The extrema of He_n exp(-x^2/2) are the roots of He_(n+1).
    extrema = np.polynomial.hermite_e.HermiteE.basis(derivative + 1).roots()
    return shape(t / sigma) / np.max(np.abs(shape(extrema)))


def ormsby(corners: Sequence[float], nt: int, dt: float, delay: float | None = None) -> Wavelet:
    """Ormsby wavelet: zero phase, with a trapezoid as its spectrum.

    A Hann window of half-length `delay` makes it start and end at zero; it rounds the corners by
    about `1 / delay` Hz.

    Args:
        corners: four rising frequencies in Hz: the spectrum rises over the first two, is flat, and
            falls over the last two.
        nt: number of samples.
        dt: time between samples, s.
        delay: time of the peak, s. Default `3 / corners[1]`.

    Returns:
        Array of shape (nt,), peak 1.

    Raises:
        ValueError: if the corners do not rise from zero or above, or the wavelet does not fit or is
            aliased.

    References:
        Ryan (1994), Ricker, Ormsby, Klauder, Butterworth: a choice of wavelets, CSEG Recorder
        19(7).
    """
    if len(corners) != 4 or corners[0] < 0 or not all(a < b for a, b in pairwise(corners)):
        raise ValueError(
            f"corners={tuple(corners)!r} must be four rising frequencies in Hz, the first not "
            "negative"
        )
    f1, f2, f3, f4 = (float(f) for f in corners)
    t = _times(nt, dt, delay, half_length=3.0 / f2, highest=f4)

    def ramp(low, high):
        return (high**2 * np.sinc(high * t) ** 2 - low**2 * np.sinc(low * t) ** 2) / (high - low)

    return (ramp(f3, f4) - ramp(f1, f2)) / (f4 + f3 - f2 - f1) * _hann(t, -t[0])


def klauder(
    start: float, end: float, duration: float, nt: int, dt: float, delay: float | None = None
) -> Wavelet:
    """Klauder wavelet: the autocorrelation of a linear sweep, which is the wavelet in correlated
    vibrator data.

    A Hann window of half-length `delay` makes it start and end at zero.

    Args:
        start: first frequency of the sweep, Hz.
        end: last frequency of the sweep, Hz, above `start`.
        duration: length of the sweep, s. Only the wavelet has to fit into the samples, not the
            sweep.
        nt: number of samples.
        dt: time between samples, s.
        delay: time of the peak, s. Default `3 / start`, or `duration` if that is shorter.

    Returns:
        Array of shape (nt,), peak 1.

    Raises:
        ValueError: if the frequencies do not rise, or the wavelet does not fit or is aliased.

    References:
        Klauder, Price, Darlington, Albersheim (1960), The theory and design of chirp radars, Bell
        System Technical Journal 39.
    """
    _rising(start, end)
    _positive(duration=duration)
    t = _times(nt, dt, delay, half_length=min(3.0 / start, duration), highest=end)
    band = end - start
    overlap = np.maximum(0.0, 1.0 - np.abs(t) / duration)
    return (
        overlap
        * np.sinc(band * t * overlap)
        * np.cos(math.pi * (start + end) * t)
        * _hann(t, -t[0])
    )


def sweep(
    start: float, end: float, duration: float, nt: int, dt: float, taper: float = 0.05
) -> Wavelet:
    """Linear vibrator sweep from `start` to `end` Hz, zero after `duration`: the source of
    uncorrelated vibrator data.

    Args:
        start: frequency at time 0, Hz.
        end: frequency at `duration`, Hz, above `start`.
        duration: length, s.
        nt: number of samples.
        dt: time between samples, s.
        taper: fraction of `duration` over which each end is tapered by a cosine, 0 to 0.5.

    Returns:
        Array of shape (nt,), amplitude 1.

    Raises:
        ValueError: if the frequencies do not rise, `taper` is outside 0..0.5, or the sweep does not
            fit or is aliased.
    """
    _rising(start, end)
    _positive(duration=duration)
    if not 0.0 <= taper <= 0.5:
        raise ValueError(f"taper={taper!r} must be a fraction from 0 to 0.5 of the duration")
    t = _times(nt, dt, 0.0, half_length=duration, highest=end)
    edge = np.minimum(t, duration - t)
    ramp = np.ones_like(t) if taper == 0.0 else np.clip(edge / (taper * duration), 0.0, 1.0)
    envelope = np.where(edge >= 0.0, 0.5 - 0.5 * np.cos(math.pi * ramp), 0.0)
    return envelope * np.sin(2.0 * math.pi * (start + 0.5 * (end - start) / duration * t) * t)


def tone_burst(frequency: float, nt: int, dt: float, cycles: int = 5) -> Wavelet:
    """A sine of a few cycles under a Hann window: the usual signal of ultrasound transducers and of
    dispersion tests.

    Args:
        frequency: frequency of the sine, Hz. The spectrum is `4 / cycles` times it wide.
        nt: number of samples.
        dt: time between samples, s.
        cycles: number of cycles, at least 1.

    Returns:
        Array of shape (nt,), amplitude at most 1, zero after `cycles / frequency`.

    Raises:
        ValueError: if `cycles` is below 1, or the burst does not fit or is aliased.
    """
    _positive(frequency=frequency)
    if cycles < 1:
        raise ValueError(f"cycles={cycles!r} must be at least 1")
    half = 0.5 * cycles / frequency
    t = _times(nt, dt, 0.0, half_length=2.0 * half, highest=frequency * (1.0 + 2.0 / cycles))
    return np.sin(2.0 * math.pi * frequency * t) * _hann(t - half, half)


def _times(nt: int, dt: float, delay: float | None, half_length: float, highest: float) -> Wavelet:
    """Sample times relative to `delay` (default `half_length`), after checking that the wavelet
    fits and is not aliased."""
    _positive(dt=dt)
    if not isinstance(nt, (int, np.integer)) or nt < 1:
        raise ValueError(f"nt={nt!r} must be a positive number of samples")
    if highest > 0.5 / dt:
        raise ValueError(
            f"the wavelet has energy up to {highest:g} Hz, above the Nyquist frequency "
            f"{0.5 / dt:g} Hz "
            f"of dt={dt:g} s; use dt <= {0.5 / highest:.3g} s or a lower frequency"
        )
    delay = half_length if delay is None else float(delay)
    if not 0.0 <= delay < math.inf:
        raise ValueError(f"delay={delay!r} must be a time in seconds, not negative")
    needed = math.ceil((delay + half_length) / dt)
    if nt < needed:
        raise ValueError(
            f"the wavelet ends at {delay + half_length:.3g} s, but nt={nt} samples of dt={dt:g} s "
            "hold only "
            f"{nt * dt:.3g} s; use nt >= {needed}, a higher frequency or a smaller delay"
        )
    return np.arange(nt, dtype=np.float64) * dt - delay


def _hann(t: Wavelet, half_length: float) -> Wavelet:
    """Hann window around t = 0, zero beyond `half_length`."""
    if half_length <= 0.0:
        raise ValueError(
            "delay=0.0 leaves no room for half of the wavelet; give none for the default"
        )
    return np.where(np.abs(t) < half_length, np.cos(0.5 * math.pi * t / half_length) ** 2, 0.0)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name}={value!r} must be a positive, finite number")


def _rising(start: float, end: float) -> None:
    if not 0.0 < start < end < math.inf:
        raise ValueError(
            f"start={start!r} and end={end!r} must be rising positive frequencies in Hz"
        )
