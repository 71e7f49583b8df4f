"""Wavelets: shape, spectrum, start, and refusals."""

from functools import partial

import numpy as np
import pytest
from scipy.signal import hilbert

from ondax import wavelets as w

NT, DT = 1000, 0.002
WAVELETS = {
    "ricker": partial(w.ricker, 8.0),
    "gaussian": partial(w.gaussian, 8.0),
    "gaussian2": partial(w.gaussian, 8.0, derivative=2),
    "gaussian6": partial(w.gaussian, 8.0, derivative=6),
    "ormsby": partial(w.ormsby, (4.0, 8.0, 30.0, 40.0)),
    "klauder": partial(w.klauder, 6.0, 60.0, 10.0),
    "sweep": partial(w.sweep, 6.0, 60.0, 1.5),
    "tone_burst": partial(w.tone_burst, 12.0),
}
every_wavelet = pytest.mark.parametrize("wavelet", WAVELETS.values(), ids=WAVELETS)


def amplitude(wavelet: np.ndarray, dt: float = DT) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and amplitude spectrum, finely sampled."""
    size = 16 * len(wavelet)
    return np.fft.rfftfreq(size, dt), np.abs(np.fft.rfft(wavelet, size))


@every_wavelet
def test_starts_and_ends_near_zero_with_unit_peak(wavelet):
    samples = wavelet(nt=NT, dt=DT)
    assert samples.shape == (NT,)
    assert samples.dtype == np.float64
    assert abs(samples[0]) < 1e-6
    assert abs(samples[-1]) < 1e-6
    assert 0.97 < np.abs(samples).max() <= 1.0 + 1e-12


@every_wavelet
def test_samples_do_not_depend_on_their_number(wavelet):
    np.testing.assert_allclose(wavelet(nt=2 * NT, dt=DT)[:NT], wavelet(nt=NT, dt=DT), atol=1e-12)
    np.testing.assert_allclose(
        wavelet(nt=2 * NT, dt=DT / 2)[::2], wavelet(nt=NT, dt=DT), atol=1e-12
    )


@pytest.mark.parametrize("name", ["ricker", "gaussian", "gaussian2", "gaussian6"])
def test_peak_frequency(name):
    f, a = amplitude(WAVELETS[name](nt=NT, dt=DT))
    assert abs(f[a.argmax()] - 8.0) < 0.1
    assert a[f > 3.1 * 8.0].max() < 0.05 * a.max()


@pytest.mark.parametrize("name", ["ricker", "ormsby", "klauder"])
def test_zero_phase_around_the_delay(name):
    delay = 0.6
    samples = WAVELETS[name](nt=NT, dt=DT, delay=delay)
    centre = round(delay / DT)
    assert samples.argmax() == centre
    np.testing.assert_allclose(samples[centre], 1.0, atol=1e-12)
    np.testing.assert_allclose(
        samples[centre - 200 : centre], samples[centre + 200 : centre : -1], atol=1e-9
    )


def test_ricker_is_minus_the_second_derivative():
    np.testing.assert_allclose(
        w.gaussian(8.0, NT, DT, derivative=2, delay=0.5),
        -w.ricker(8.0, NT, DT, delay=0.5),
        atol=1e-12,
    )


def test_first_derivative_changes_sign_at_its_delay():
    samples = w.gaussian(8.0, NT, DT, delay=0.5)
    np.testing.assert_allclose(samples[250], 0.0, atol=1e-12)
    assert samples[245] > 0 > samples[255]  # the slope of a Gaussian


def test_ormsby_is_a_trapezoid():
    f, a = amplitude(w.ormsby((4.0, 8.0, 30.0, 40.0), 2000, DT, delay=1.5))
    flat = a[np.abs(f - 20.0).argmin()]
    for frequency, expected in (
        (10.0, 1.0),
        (28.0, 1.0),
        (6.0, 0.5),
        (35.0, 0.5),
        (2.0, 0.0),
        (44.0, 0.0),
    ):
        assert abs(a[np.abs(f - frequency).argmin()] / flat - expected) < 0.03


def test_klauder_is_the_autocorrelation_of_the_sweep():
    nt = 12000
    sweep = w.sweep(6.0, 60.0, 10.0, nt, DT, taper=0.0)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(sweep, 2 * nt)) ** 2)[:100]
    delay = 5.0  # a long window, to change little near the peak
    klauder = w.klauder(6.0, 60.0, 10.0, nt, DT, delay=delay)[round(delay / DT) :][:100]
    np.testing.assert_allclose(klauder, correlation / correlation[0], atol=0.02)


def test_sweep_sweeps():
    duration = 1.5
    samples = w.sweep(6.0, 60.0, duration, NT, DT)
    phase = np.unwrap(np.angle(hilbert(samples)))
    frequency = np.gradient(phase, DT) / (2 * np.pi)
    t = np.arange(NT) * DT
    inner = (t > 0.3) & (t < 1.2)
    np.testing.assert_allclose(frequency[inner], 6.0 + 54.0 * t[inner] / duration, rtol=0.05)
    assert not samples[t > duration].any()


def test_tone_burst_lasts_its_cycles():
    samples = w.tone_burst(12.0, NT, DT, cycles=3)
    t = np.arange(NT) * DT
    assert not samples[t >= 3 / 12.0].any()
    rising = (samples[:-1] < -1e-3) & (samples[1:] >= -1e-3)
    assert rising.sum() == 3
    f, a = amplitude(samples)
    assert abs(f[a.argmax()] - 12.0) < 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: w.ricker(0.0, NT, DT), "frequency=0.0 must be a positive, finite number"),
        (lambda: w.ricker(float("nan"), NT, DT), "frequency=nan"),
        (lambda: w.ricker(8.0, 0, DT), "nt=0 must be"),
        (lambda: w.ricker(8.0, NT, -0.1), "dt=-0.1 must be"),
        (lambda: w.ricker(8.0, NT, DT, delay=-1.0), "delay=-1.0"),
        (
            lambda: w.ricker(120.0, NT, DT),
            "300 Hz, above the Nyquist frequency 250 Hz of dt=0.002 s; use dt <= 0.00167",
        ),
        (
            lambda: w.ricker(8.0, 100, DT),
            "nt=100 samples of dt=0.002 s hold only 0.2 s; use nt >= 188",
        ),
        (
            lambda: w.gaussian(8.0, NT, DT, derivative=0),
            "derivative=0 must be an integer from 1 to 6",
        ),
        (lambda: w.ormsby((4.0, 8.0, 40.0, 30.0), NT, DT), "must be four rising frequencies"),
        (lambda: w.ormsby((4.0, 8.0, 40.0), NT, DT), "must be four rising frequencies"),
        (lambda: w.ormsby((4.0, 8.0, 30.0, 40.0), NT, DT, delay=0.0), "delay=0.0 leaves no room"),
        (lambda: w.klauder(60.0, 6.0, 10.0, NT, DT), "must be rising positive frequencies"),
        (lambda: w.sweep(6.0, 60.0, 1.0, NT, DT, taper=0.7), "taper=0.7 must be"),
        (lambda: w.sweep(6.0, 60.0, 10.0, NT, DT), "use nt >= 5000"),
        (lambda: w.tone_burst(12.0, NT, DT, cycles=0), "cycles=0 must be at least 1"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
