"""Wavelets too high in frequency: for the survey's samples, beside louder ones, or given with a
call."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ondax as ox

GRID, VP = ox.Grid((31, 31), 10.0), jnp.full((31, 31), 1600.0)
POINTS = [[[50.0, 50.0]], [[150.0, 50.0]]], [[250.0, 50.0]]


def propagator(wavelet: np.ndarray, dt: float = 0.002, **options: object) -> ox.Propagator:
    return ox.Propagator(ox.Acoustic(), GRID, ox.Survey(*POINTS, wavelet, dt), 1700.0, **options)


def test_a_weak_wavelet_counts_like_a_loud_one():
    """40 Hz alone is refused: so it is in a shot of a hundredth of the amplitude of another."""
    low, high = ox.ricker(10.0, 200, 0.002, delay=0.16), ox.ricker(40.0, 200, 0.002, delay=0.16)
    with pytest.raises(ValueError, match=r"too few grid points per wavelength: .* 10\d Hz"):
        propagator(np.stack([low, 0.01 * high])[:, None])
    propagator(np.stack([low, 0.01 * low])[:, None])
    propagator(np.stack([low, 1e-14 * high])[:, None])  # the rounding of something else


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("own", [10.0, 0.0])
def test_given_wavelets_are_looked_at(own: float, jitted: bool):
    """Once for a propagator, and only where they go beyond the survey's."""
    low, high = (jnp.asarray(ox.ricker(f, 200, 0.002, delay=0.16), "float32") for f in (10.0, 40.0))
    F = propagator(np.broadcast_to(np.asarray(low) * (own > 0), (2, 1, 200)))
    f = jax.jit(lambda w: F(VP, wavelet=w)) if jitted else lambda w: F(VP, wavelet=w)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(jnp.broadcast_to(low, (2, 1, 200)))
    with pytest.warns(
        ox.CoarseSampling,
        match=r"wavelet=: waves of up to 1\d\d Hz have 1.4\d? grid points per wavelength",
    ):
        f(jnp.broadcast_to(high, (2, 1, 200))).block_until_ready()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(jnp.broadcast_to(high, (2, 1, 200))).block_until_ready()


def test_samples_too_far_apart_for_time_dispersion():
    """Of 12 Hz, with energy to 31 Hz, at 16 ms: corrected traces were 2.8 % wrong. At 8 ms they are
    right to 1e-6."""
    coarse, fine = ox.ricker(12.0, 40, 0.016), ox.ricker(12.0, 80, 0.008)
    with pytest.warns(
        ox.CoarseSampling,
        match=r"up to 31.* Hz in samples of dt=0.016 s: .*Sample the survey at dt=0.01",
    ):
        propagator(coarse, 0.016)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        propagator(fine, 0.008)
        propagator(coarse, 0.016, time_dispersion="raw")
