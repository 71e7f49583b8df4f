"""Source wavelets as float64 NumPy arrays with a peak of 1.

The first sample of a wavelet is at time zero, when the field of a simulation is at rest. So a
wavelet that does not start near zero starts with a jump, which radiates energy at every frequency.
The wavelets here start at zero, or, for `ricker` and `gaussian`, below 1e-6 of their peak. To this
end, those that are symmetric about their peak (`ricker`, `gaussian`, `ormsby`, `klauder`) are moved
later by `delay` seconds, and so are all arrivals in the traces. Subtract `delay` to read travel
times off the peaks.

Zero-phase or minimum-phase? Zero-phase wavelets suit synthetic studies: the peak is the arrival.
Air guns and dynamite emit wavelets that are close to minimum phase. For those, pass the measured or
estimated signature (any array of `nt` samples is a wavelet), or convert a zero-phase wavelet by
`scipy.signal.minimum_phase`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from ._validate import whole

Wavelet = Float64[np.ndarray, " time"]


def ricker(frequency: float, nt: int, dt: float, delay: float | None = None) -> Wavelet:
    """Ricker wavelet `(1 - 2 a) exp(-a)`, where `a = (pi frequency (t - delay))**2` (Ricker, 1953):
    the usual choice for acoustic modelling.

    Args:
        frequency: peak frequency of the spectrum, Hz. There is energy up to 2.5 times as much.
        nt: number of samples.
        dt: time between samples, s.
        delay: time of the peak, s. Default `1.5 / frequency`: the first sample is then 1e-8 of the
            peak.

    Returns:
        Array of shape (nt,), peak 1.

    Raises:
        ValueError: an argument is out of its range, or the wavelet does not fit into `nt` samples
            or is aliased at `dt`.
    """
    _positive(frequency=frequency)
    t = _times(nt, dt, delay, half_length=1.5 / frequency, highest=2.5 * frequency)
    a = (math.pi * frequency * t) ** 2
    return (1.0 - 2.0 * a) * np.exp(-a)


def gaussian(
    frequency: float, nt: int, dt: float, derivative: int = 1, delay: float | None = None
) -> Wavelet:
    """A time derivative of a Gaussian, scaled so that its largest absolute value is 1.

    `derivative=2` is the negative of `ricker`; `derivative=1` is its integral, with more energy at
    low frequencies.

    Args:
        frequency: peak frequency of the spectrum, Hz.
        nt: number of samples.
        dt: time between samples, s.
        derivative: order of the derivative, 1 to 6.
        delay: time of the centre, s. Default: 7 standard deviations of the Gaussian, which are
            `7 sqrt(derivative) / (2 pi frequency)`.

    Returns:
        Array of shape (nt,).

    Raises:
        ValueError: an argument is out of its range, or the wavelet does not fit into `nt` samples
            or is aliased at `dt`.
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
    """Ormsby wavelet: zero phase, with a trapezoid as its spectrum (Ryan, 1994).

    A Hann window of half-length `delay` makes it start and end at zero. The window also rounds the
    corners of the spectrum, over a width of about `1 / delay` Hz.

    Args:
        corners: four rising frequencies, Hz: the spectrum rises from the first to the second, and
            falls from the third to the fourth.
        nt: number of samples.
        dt: time between samples, s.
        delay: time of the peak, s. Default `3 / corners[1]`.

    Returns:
        Array of shape (nt,), peak 1.

    Raises:
        ValueError: the corners do not rise or the first is negative; another argument is out of its
            range; or the wavelet does not fit into `nt` samples or is aliased at `dt`.
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
    vibrator data (Klauder, Price, Darlington and Albersheim, 1960).

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
        ValueError: the frequencies do not rise; another argument is out of its range; or the
            wavelet does not fit into `nt` samples or is aliased at `dt`.
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
        ValueError: the frequencies do not rise; another argument is out of its range; or the sweep
            does not fit into `nt` samples or is aliased at `dt`.
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
    """A sine of a few cycles under a Hann window: the usual signal of ultrasound transducers, and
    of tests of dispersion.

    Args:
        frequency: frequency of the sine, Hz. The width of the spectrum is `4 / cycles` times as
            much.
        nt: number of samples.
        dt: time between samples, s.
        cycles: number of cycles, at least 1.

    Returns:
        Array of shape (nt,), amplitude at most 1, zero after `cycles / frequency`.

    Raises:
        ValueError: an argument is out of its range, or the burst does not fit into `nt` samples or
            is aliased at `dt`.
    """
    _positive(frequency=frequency)
    if cycles < 1:
        raise ValueError(f"cycles={cycles!r} must be at least 1")
    half = 0.5 * cycles / frequency
    t = _times(nt, dt, 0.0, half_length=2.0 * half, highest=frequency * (1.0 + 2.0 / cycles))
    return np.sin(2.0 * math.pi * frequency * t) * _hann(t - half, half)


def _times(nt: int, dt: float, delay: float | None, half_length: float, highest: float) -> Wavelet:
    """The times of the samples relative to `delay`, s.

    Args:
        nt: number of samples.
        dt: time between samples, s.
        delay: time of the centre of the wavelet, s; None for `half_length`.
        half_length: how long before and after its centre the wavelet lasts, s.
        highest: the highest frequency of the wavelet, Hz.

    Raises:
        ValueError: an argument is out of its range, or the wavelet does not fit into `nt` samples
            or is aliased at `dt`.
    """
    _positive(dt=dt)
    whole("nt", nt, at_least=1)
    if highest > 0.5 / dt:
        raise ValueError(
            f"the wavelet has energy up to {highest:g} Hz, above the Nyquist frequency "
            f"{0.5 / dt:g} Hz of dt={dt:g} s; use dt <= {0.5 / highest:.3g} s or a lower frequency"
        )
    delay = half_length if delay is None else float(delay)
    if not 0.0 <= delay < math.inf:
        raise ValueError(f"delay={delay!r} must be a time in seconds, not negative")
    needed = math.ceil((delay + half_length) / dt)
    if nt < needed:
        raise ValueError(
            f"the wavelet ends at {delay + half_length:.3g} s, but nt={nt} samples of dt={dt:g} s "
            f"hold only {nt * dt:.3g} s; use nt >= {needed}, a higher frequency or a smaller delay"
        )
    return np.arange(nt, dtype=np.float64) * dt - delay


def _hann(t: Wavelet, half_length: float) -> Wavelet:
    """Hann window around t = 0, zero beyond `half_length`.

    Raises:
        ValueError: a `half_length` of zero, which is the delay of a wavelet.
    """
    if half_length <= 0.0:
        raise ValueError(
            "delay=0.0 leaves no room for half of the wavelet; give none for the default"
        )
    return np.where(np.abs(t) < half_length, np.cos(0.5 * math.pi * t / half_length) ** 2, 0.0)


def _positive(**values: float) -> None:
    """Refuse values that are not positive and finite.

    Raises:
        ValueError: names the first.
    """
    for name, value in values.items():
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name}={value!r} must be a positive, finite number")


def _rising(start: float, end: float) -> None:
    """Refuse frequencies of a sweep that are not positive, or do not rise.

    Raises:
        ValueError: they are not, or do not.
    """
    if not 0.0 < start < end < math.inf:
        raise ValueError(
            f"start={start!r} and end={end!r} must be rising positive frequencies in Hz"
        )
