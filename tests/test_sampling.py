"""Gradients from every k-th step of a history are those from every step, wherever they are
accepted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import norm
from registry import ENCLOSED, EQUATIONS, SPONGE, mixed
from slow import slow, slow_but

import ondax as ox
from ondax.acquisition.resampling import upsample
from ondax.histories.sampled import Sampling, check_sampling, smoothed

PROMISED = 1e-6  # of a gradient's size: what the docstring of Settings.store_every says
STEP = 1e-3  # s, internal


class Line:
    """Waves along a line, with a receiver in the model's middle and one at its edge.

    Args:
        steps_per_sample: internal steps of 1 ms between two trace samples.
        frequency: of the Ricker wavelet, Hz.
        store_every: steps between those kept.
        delay: of the wavelet, s.
        history: how it is kept.
    """

    def __init__(
        self,
        steps_per_sample: int,
        store_every: int | None,
        frequency: float = 12.0,
        delay: float | None = None,
        history: str = "auto",
    ) -> None:
        dt = steps_per_sample * STEP
        wavelet = ox.ricker(frequency, 1 + 300 // steps_per_sample, dt, delay)
        survey = ox.Survey([[25.0]], [[72.0], [150.0]], wavelet, dt)
        self.F = ox.Propagator(
            ox.Acoustic(space_order=4),
            ox.Grid((31,), 5.0),
            survey,
            max_velocity=3800.0,
            boundary=ox.Sponge(width=8),
            min_points_per_wavelength=0.0,
            settings=ox.Settings(threads=1, store_every=store_every, history=history),
        )
        assert self.F.steps_per_sample == steps_per_sample
        self.vp = jnp.asarray(np.random.default_rng(0).uniform(1450, 1650, 31))

    def gradient(self, noise: bool = True) -> np.ndarray:
        """Of the product of the traces with noise, or with a residual that does not end with the
        record."""
        traces, pull = jax.vjp(self.F, self.vp)
        cotangent = (
            np.random.default_rng(1).normal(size=traces.shape) if noise else np.ones(traces.shape)
        )
        return np.asarray(pull(jnp.asarray(cotangent))[0])


QUICK = [(2, 2, True), (2, 8, True), (4, 6, False)]
CASES = [(r, k, noise) for r in (1, 2, 4) for k in (2, 3, 4, 6, 8) for noise in (True, False)]


@pytest.mark.parametrize(
    ("steps_per_sample", "store_every", "noise"),
    slow_but(CASES, *QUICK),
)
def test_every_kth_step_is_enough(x64: None, steps_per_sample: int, store_every: int, noise: bool):
    """Also in the receivers' cells, whether or not k has a factor in common with the steps between
    two samples, for cotangents that are noise or are cut off by the end of the record."""
    sparse = Line(steps_per_sample, store_every).gradient(noise)
    every = Line(steps_per_sample, 1).gradient(noise)
    assert not np.array_equal(sparse, every)
    assert norm(sparse - every) < PROMISED * norm(every)
    cells = [14, 15, 29, 30]
    assert norm(sparse[cells] - every[cells]) < PROMISED * norm(every[cells])


@pytest.mark.parametrize(
    ("store_every", "frequency", "delay", "largest"),
    [
        (9, 12.0, None, "at most store_every=8"),  # 9 steps are more than a tenth of the period
        (1000000, 12.0, None, "at most store_every=8"),
        (4, 30.0, None, "at most store_every=3"),
        (2, 12.0, 0.07, "allow store_every=1 only.*begin or end abruptly"),
    ],
)
def test_more_than_the_wavelet_allows_is_refused(
    store_every: int, frequency: float, delay: float, largest: str
):
    with pytest.raises(ValueError, match=rf"store_every={store_every}: the wavelets.*{largest}"):
        Line(2, store_every, frequency, delay)


def test_wavelets_that_end_abruptly_are_refused():
    wavelet = ox.ricker(12.0, 251, STEP)
    check_sampling(Sampling(4), wavelet, STEP)
    check_sampling(Sampling(4), 0.0 * wavelet, STEP)
    with pytest.raises(ValueError, match="end abruptly"):
        check_sampling(Sampling(4), np.stack([wavelet, np.cumsum(wavelet + 0.001)]), STEP)


def test_wavelets_of_a_call_are_checked_too(x64: None):
    line = Line(2, 4)
    noise = jnp.asarray(np.random.default_rng(0).normal(size=line.F.survey.wavelet.shape))
    with pytest.raises(Exception, match="store_every=4: the wavelets have frequencies too high"):
        jax.grad(lambda m: jnp.sum(line.F(m, wavelet=noise)))(line.vp)


@pytest.mark.parametrize(
    ("frequency", "steps"),
    [(15.0, 3), slow(20.0, 2), slow(60.0, 1)],
)
def test_steps_are_chosen(x64: None, frequency: float, steps: int):
    """The most that the wavelet allows, and what runs may go on for beyond 300 steps: 18."""
    line, every = Line(1, None, frequency, history="sampled"), Line(1, None, frequency)
    way = line.F.cost().history
    assert (way.every, way.sampling.beyond <= 18) == (steps, True)
    for noise in (True, False):
        got, expected = line.gradient(noise), every.gradient(noise)
        assert norm(got - expected) < PROMISED * norm(expected)
        assert np.array_equal(got, expected) == (steps == 1)


def test_all_steps_are_kept_of_other_wavelets(x64: None):
    """The steps were chosen for the survey's; nobody has asked for them."""
    line, every = Line(2, None, history="sampled"), Line(2, None)
    wavelet = line.F.survey.wavelet
    sharp = jnp.asarray(np.random.default_rng(0).normal(size=wavelet.shape))
    for given, same in ((jnp.asarray(1.5 * wavelet), False), (sharp, True)):
        got, expected = (
            np.asarray(jax.grad(lambda m, F=x.F, w=given: jnp.sum(F(m, wavelet=w) ** 2))(line.vp))
            for x in (line, every)
        )
        assert norm(got - expected) < PROMISED * norm(expected)
        assert np.array_equal(got, expected) == same


def test_a_step_that_takes_as_much_as_all_is_not_sampled(x64: None):
    """Two values of a field in a row are kept of a step, where every step takes one more."""
    survey = ox.Survey([[50.0]], [[90.0]], ox.ricker(10.0, 301, STEP), STEP)
    gradients, sizes = {}, {}
    for every in (1, 2, 4):
        F = ox.Propagator(
            ox.AcousticDensity(4),
            ox.Grid((31,), 5.0),
            survey,
            3800.0,
            boundary=ox.Sponge(8),
            min_points_per_wavelength=0.0,
            settings=ox.Settings(threads=1, store_every=every),
        )
        model = {"vp": jnp.full(31, 1600.0), "rho": jnp.full(31, 1800.0)}
        gradients[every] = jax.grad(lambda m, F=F: jnp.sum(F(m) ** 2))(model)
        sizes[every] = F.cost().bytes_of_history
    assert jax.tree.all(jax.tree.map(np.array_equal, gradients[1], gradients[2]))
    assert sizes[2] == sizes[1]
    assert sizes[4] < 0.65 * sizes[1]  # two of four, for 56 steps more than 300
    for name, got in gradients[4].items():
        assert 0 < norm(got - gradients[1][name]) < PROMISED * norm(got)


@pytest.mark.slow
def test_any_wavelet_passes_where_nothing_is_sampled(x64: None):
    line = Line(2, 4)
    smooth = jnp.asarray(np.roll(line.F.survey.wavelet, 3, axis=-1))
    noise = jnp.asarray(np.random.default_rng(0).normal(size=smooth.shape))
    assert norm(jax.grad(lambda m: jnp.sum(line.F(m, wavelet=smooth)))(line.vp)) > 0.0
    assert norm(line.F(line.vp, wavelet=noise)) > 0.0
    assert norm(jax.grad(lambda w: jnp.sum(line.F(line.vp, wavelet=w)))(noise)) > 0.0


def test_wavelets_in_single_precision_pass():
    """Their rounding, and that of resampling them, has high frequencies that count for nothing."""
    wavelet = ox.ricker(5.0, 1001, 4 * STEP).astype(np.float32)
    for samples in (
        upsample(jnp.asarray(wavelet), 4, jnp),
        upsample(wavelet.astype(np.float64), 4, np),
    ):
        check_sampling(Sampling(18), np.asarray(samples), STEP)


@pytest.mark.slow
def test_what_sources_are_asked_for_is_not_sampled(x64: None):
    """Gradients in wavelets and positions, asked for together with the model's, are from every
    step."""

    def gradients(store_every: int) -> Any:
        F, vp = (line := Line(2, store_every)).F, line.vp
        sources, w = (jnp.asarray(a) for a in (F.survey.sources, F.survey.wavelet))
        traces, pull = jax.vjp(lambda m, w, s: F(m, wavelet=w, sources=s), vp, w, sources)
        return pull(jnp.asarray(np.random.default_rng(1).normal(size=traces.shape)))

    (model, *others), (of_model, *of_others) = gradients(4), gradients(1)
    assert norm(model - of_model) < PROMISED * norm(of_model)
    for got, expected in zip(others, of_others, strict=True):
        assert norm(got - expected) < 1e-12 * norm(expected)


@pytest.mark.slow
def test_hessians_and_gradients_of_the_adjoint(x64: None):
    """The first samples its history, the second does not: traces that are fed in may have any
    frequency."""
    sparse, every = Line(2, 4), Line(2, 1)
    v = 100.0 * jnp.asarray(np.random.default_rng(2).normal(size=31))
    got, expected = (
        ox.hvp(lambda d: jnp.sum(d**2), line.F, line.vp, v) for line in (sparse, every)
    )  # fmt: skip
    # a difference of two gradients of its size
    assert 0.0 < norm(got - expected) < 10 * PROMISED * norm(expected)
    data = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2, 151)))
    got, expected = (
        jax.grad(lambda m, F=line.F: jnp.sum(F.adjoint(m, data) ** 2))(line.vp)
        for line in (sparse, every)
    )
    assert norm(got - expected) < 1e-12 * norm(expected)


def test_smoothing_passes_what_is_kept_and_stops_the_rest():
    sampling, length = Sampling(4), 400
    n = np.arange(length)
    middle = slice(2 * sampling.beyond, -2 * sampling.beyond)
    for cycles, gain in (
        (0.0, 1.0),
        (0.05, 1.0),
        (0.2, 0.0),
        (0.45, 0.0),
    ):  # a step; the limit is at 1/8
        wave = np.cos(2 * np.pi * cycles * n)[None]
        assert (
            np.abs(smoothed(wave, sampling)[:, :length][:, middle] - gain * wave[:, middle]).max()
            < PROMISED
        )
    spike = np.zeros((1, length))
    spike[0, -1] = 1.0
    assert smoothed(spike, sampling).shape == (1, length + sampling.beyond)
    assert abs(smoothed(spike, sampling).sum() - 1.0) < 1e-12  # nothing is lost at the end


@pytest.mark.slow
@pytest.mark.parametrize("surround", ["sponge", "layers", "surface"])
@pytest.mark.parametrize("name", EQUATIONS)
def test_all_equations(x64: None, name: str, surround: str):
    """In the receivers' cells and everywhere, at several trace intervals."""
    entry = EQUATIONS[name]
    if surround == "layers" and not entry.layers:
        pytest.skip("unstable in perfectly matched layers")
    boundary = {"sponge": SPONGE, "layers": ENCLOSED, "surface": mixed(name)}[surround]
    shape, h, fastest, steps = (19, 17), 10.0, 2600.0, 240
    model = entry.model(shape, "float64")
    model = model if len(model) > 1 else next(iter(model.values()))
    extent = h * (np.array(shape) - 1)
    source, receiver = entry.components
    equation = entry.make(4)
    step = 0.95 * equation.largest_step((h, h), fastest)
    for steps_per_sample in (2, 3):
        gradients = {}
        for every in (1, 2, 3, 4):
            dt = steps_per_sample * step
            wavelet = ox.ricker(0.1 / (4.2 * step), 1 + steps // steps_per_sample, dt)
            if isinstance(source, tuple):
                wavelet = np.broadcast_to(wavelet, (1, len(source), 1, wavelet.size))
            receivers = [[0.6, 0.7] * extent, [0.52, 0.5] * extent, [0.9, 0.12] * extent]
            survey = ox.Survey(
                [[0.3, 0.35] * extent], receivers, wavelet, dt, source=source, receiver=receiver
            )
            F = ox.Propagator(
                equation,
                ox.Grid(shape, h),
                survey,
                max_velocity=fastest,
                boundary=boundary,
                min_points_per_wavelength=0.0,
                settings=ox.Settings(threads=1, store_every=every),
            )
            assert F.steps_per_sample == steps_per_sample
            traces, pull = jax.vjp(F, model)
            gradients[every] = pull(
                jnp.asarray(np.random.default_rng(1).normal(size=traces.shape))
            )[0]
        for every in (2, 3, 4):
            pairs = zip(
                jax.tree.leaves(gradients[every]), jax.tree.leaves(gradients[1]), strict=True
            )
            for got, expected in pairs:
                assert norm(got - expected) < PROMISED * norm(expected), (steps_per_sample, every)
                for i, j in ((10, 11), (9, 8), (16, 2)):
                    near = (slice(i, i + 2), slice(j, j + 2))
                    assert norm(got[near] - expected[near]) < 3 * PROMISED * norm(expected[near])


@pytest.mark.filterwarnings("error::ondax.CoarseSampling")
@pytest.mark.parametrize("noise", [True, False])
def test_gradients_of_the_adjoint_are_from_every_step(x64: None, noise: bool):
    """What they fire is a cotangent, not a wavelet: it may have any frequencies."""
    gradients = []
    for every in (1, 2):
        line = Line(2, every)
        rng = np.random.default_rng(3)
        y = jnp.asarray(rng.normal(size=(1, 2, line.F.survey.nt)))
        q = rng.normal(size=(1, 1, line.F.survey.nt)) if noise else line.F.survey.wavelet
        slope = jax.grad(lambda v, F=line.F, y=y, q=q: jnp.vdot(jnp.asarray(q), F.adjoint(v, y)))
        gradients.append(slope(line.vp))
    assert norm(gradients[0]) > 0.0
    assert np.array_equal(*gradients)
