"""Source wavelets that are estimated from traces, and field traces as line sources would give
them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from analytic import green
from problems import difference, norm

import ondax as ox

GRID = ox.Grid((41, 31), 10.0)
NT, DT = 150, 0.002
SOURCES = [[60.0, 20.0], [200.0, 40.0], [340.0, 30.0]]
RECEIVERS = ox.line((10.0, 30.0), (390.0, 60.0), 9)
# Neither the shape nor the size nor the time of the survey's wavelet.
TRUE = 3e3 * ox.ricker(12.0, NT, DT, delay=0.13) - 2e3 * ox.ricker(15.0, NT, DT, delay=0.17)

# The estimate is damped by 1e-4 of the mean energy of responses to the pulse. Those at the
# frequencies of TRUE, 6 to 24 Hz, have at least a tenth of it: so a thousandth is lost at most.
EXACT = 1e-3


def survey(**kinds: Any) -> ox.Survey:
    arguments: dict[str, Any] = {"receivers": RECEIVERS, "wavelet": ox.ricker(15.0, NT, DT)}
    return ox.Survey(SOURCES, **(arguments | kinds), dt=DT)


def propagator(of: ox.Survey | None = None, equation: Any = None, **how: Any) -> ox.Propagator:
    equation = ox.Acoustic(4) if equation is None else equation
    return ox.Propagator(equation, GRID, survey() if of is None else of, 2600.0, **how)


def velocity(dtype: Any = jnp.float32) -> jax.Array:
    return jnp.asarray(2000.0 + 10.0 * np.arange(31) * np.ones((41, 1)), dtype)


def fired(F: ox.Propagator, wavelet: np.ndarray, model: Any = None, **how: Any) -> jax.Array:
    model = velocity() if model is None else model
    return F(model, wavelet=jnp.asarray(wavelet, jnp.float32), **how)


# ---------------------------------------------------------------- exact data


def test_the_wavelet_of_its_own_data():
    F = propagator()
    observed = fired(F, TRUE)
    found = ox.estimate_wavelet(F, observed, velocity())
    assert found.wavelet.shape == (NT,)
    assert found.start == 0.0
    assert difference(found.wavelet, TRUE) < EXACT
    # What damping takes from the wavelet, it takes from traces, by the same fraction at most.
    assert 0.0 <= 1.0 - found.explained < EXACT**2
    assert difference(F.with_survey(found.survey)(velocity()), observed) < EXACT
    assert difference(fired(F, found.wavelet), observed) < EXACT
    # Undamped, what is left is the rounding of traces in float32, some 1e-6, amplified by 10 to 30
    # at frequencies where responses have a hundredth to a thousandth of the energy.
    undamped = ox.estimate_wavelet(F, observed, velocity(), damping=0.0)
    assert difference(undamped.wavelet, TRUE) < 3e-5


@pytest.mark.slow
def test_noise_averages_out():
    """Noise of a fifth of the traces' size, on 27 traces of 150 samples, against a wavelet that has
    40 degrees of freedom: 150 samples of 2 ms up to 39 Hz hold 2 * 39 * 0.3 = 24, and some at the
    ends. A fit by as many numbers as f out of n takes up a fraction sqrt(f / n) of the noise."""
    F = propagator()
    exact = np.asarray(fired(F, TRUE))
    rng = np.random.default_rng(0)
    noise = rng.normal(size=exact.shape)
    noise *= 0.2 * norm(exact) / norm(noise)
    found = ox.estimate_wavelet(F, exact + noise, velocity())
    # sqrt(40 / 4050) = 0.1 of 20 %, with a margin of 2 as the spectrum of traces is not flat
    assert difference(found.wavelet, TRUE) < 2 * 0.1 * 0.2
    # what is not explained is the noise, 4 % of the exact energy
    assert abs(found.explained - 1.0 / 1.04) < 0.01


@pytest.mark.slow
def test_each_shot_has_its_own():
    F = propagator()
    factors = np.array([1.0, -0.5, 2.0])
    wavelets = np.stack([f * np.roll(TRUE, -n) for n, f in enumerate(factors)])[:, None]
    observed = fired(F, wavelets)
    found = ox.estimate_wavelet(F, observed, velocity(), per_shot=True)
    assert found.wavelet.shape == (3, 1, NT)
    assert difference(found.wavelet, wavelets) < EXACT
    assert found.explained.shape == (3,)
    assert np.all(1.0 - found.explained < EXACT**2)
    assert difference(fired(F, found.wavelet), observed) < EXACT
    shared = ox.estimate_wavelet(F, observed, velocity())
    assert shared.explained < 0.9
    # Shots are independent of each other.
    alone = F.with_survey(F.survey[1])
    one = ox.estimate_wavelet(alone, observed[1:2], velocity())
    assert difference(one.wavelet, found.wavelet[1, 0]) < 1e-6


@pytest.mark.slow
def test_several_sources_fire_the_same():
    F = propagator(_pairs())
    observed = fired(F, TRUE)
    found = ox.estimate_wavelet(F, observed, velocity(), per_shot=True)
    assert found.wavelet.shape == (2, 2, NT)
    assert difference(found.wavelet, np.broadcast_to(TRUE, (2, 2, NT))) < EXACT
    assert difference(fired(F, found.wavelet), observed) < EXACT


def _pairs() -> ox.Survey:
    pairs = [[[60.0, 20.0], [80.0, 20.0]], [[200.0, 40.0], [240.0, 40.0]]]
    return ox.Survey(pairs, RECEIVERS, ox.ricker(15.0, NT, DT), DT)


def test_an_acausal_wavelet_of_another_length():
    """Centred at time 0, of 0.24 s from -0.12 s, though the survey's begins at 0; and a record that
    begins late."""
    length, start = 121, -0.12
    centred = 1e3 * ox.ricker(15.0, length, DT, delay=0.12)
    of = survey(start=0.05, nt=NT)
    truth = propagator(of.replace(wavelet=centred, wavelet_start=start))
    observed = truth(velocity())
    F = propagator(of)
    found = ox.estimate_wavelet(F, observed, velocity(), length=length, start=start)
    assert found.wavelet.shape == (length,)
    assert found.start == found.survey.wavelet_start == start
    assert found.survey.nt == NT
    assert difference(found.wavelet, centred) < EXACT
    assert difference(F.with_survey(found.survey)(velocity()), observed) < EXACT


def test_ragged_gathers_with_dead_traces():
    rows = [ox.line((10.0, 30.0), (390.0, 60.0), n) for n in (4, 7, 5)]
    weights = [np.ones(4), np.array([1.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0]), np.ones(5)]
    F = propagator(survey(receivers=rows, trace_weights=weights))
    gathers = [g.copy() for g in F.survey.gathers(fired(F, TRUE))]
    gathers[1][1] = np.nan
    found = ox.estimate_wavelet(F, gathers, velocity())
    assert difference(found.wavelet, TRUE) < EXACT

    class Archive:
        """Traces that are read when they are asked for."""

        def __getitem__(self, numbers: np.ndarray) -> list[np.ndarray]:
            return [gathers[n] for n in numbers]

    again = ox.estimate_wavelet(F, Archive(), velocity())
    np.testing.assert_array_equal(again.wavelet, found.wavelet)
    live = F.with_survey(F.survey.replace(trace_weights=None))
    with pytest.raises(ValueError, match="observed holds NaN"):
        ox.estimate_wavelet(live, gathers, velocity())


@pytest.mark.slow
def test_two_components():
    receiver = ("velocity_x", "velocity_z")
    medium = {"vp": velocity(), "vs": 0.7 * velocity(), "rho": jnp.full(GRID.shape, 2000.0)}
    kinds = {"source": {"force_z": 1.0, "force_x": 0.5}, "receiver": receiver}
    F = propagator(survey(**kinds), ox.Elastic(4), boundary=ox.Sponge(10))
    observed = fired(F, TRUE, medium)
    ones = np.ones((3, 2, 9, NT))
    for window in (None, ones, lambda distance, time: np.ones_like(distance * time)):
        found = ox.estimate_wavelet(F, observed, medium, window=window)
        assert difference(found.wavelet, TRUE) < EXACT


# ---------------------------------------------------------------- windows


def test_a_window_of_the_direct_wave():
    """Below 220 m the model is wrong, which the direct wave does not know. The wavelet lasts from
    0.02 to 0.18 s. The reflection comes after 390 m at 2000 m/s, so at 0.195 s + 0.02 s at the
    source, and at 0.22 s at 100 m, where the window ends at 0.23 s: by then it has reached 3e-6 of
    its peak."""
    true = 1e3 * ox.ricker(18.0, NT, DT, delay=0.1)
    model = jnp.full(GRID.shape, 2000.0, jnp.float32)
    of = survey(receivers=ox.line((10.0, 30.0), (390.0, 30.0), 9), wavelet=ox.ricker(20.0, NT, DT))
    F = propagator(of.replace(sources=[[60.0, 20.0], [200.0, 20.0], [340.0, 20.0]]))
    observed = fired(F, true, model.at[:, 22:].set(2590.0))

    def window(distance: np.ndarray, time: np.ndarray) -> np.ndarray:
        return (distance < 100.0) * (time < distance / 2000.0 + 0.18)

    plain = ox.estimate_wavelet(F, observed, model)
    assert difference(plain.wavelet, true) > 10 * EXACT
    windowed = ox.estimate_wavelet(F, observed, model, window=window)
    assert difference(windowed.wavelet, true) < EXACT
    # as an array, with the flank of the mute; it holds some of the reflection far from the source
    mute = ox.preconditioners.mute_direct(F.survey, 2000.0, 0.04, delay=0.17)
    muted = ox.estimate_wavelet(F, observed, model, length=100, window=1.0 - mute.diagonal)
    assert difference(muted.wavelet, true[:100]) < 2 * EXACT


@pytest.mark.slow
def test_a_window_of_ones_is_none():
    """Two ways to the same matrix, to rounding in float64 over the least pivot, the ridge."""
    F = propagator()
    observed = fired(F, TRUE)
    one = ox.estimate_wavelet(F, observed, velocity())
    other = ox.estimate_wavelet(F, observed, velocity(), window=np.ones(NT))
    assert difference(other.wavelet, one.wavelet) < 1e-6
    assert abs(other.explained - one.explained) < 1e-9


@pytest.mark.slow
def test_a_water_level_needs_whole_waves():
    """Division of spectra is right where the record is long enough for the waves, and wrong where
    it cuts them off; the fit in time does not mind. A wave in 2-D never ends: the tail of the
    responses to the pulse, which has energy at zero frequency, falls like 1/t, so that half a per
    cent of error is left when the record is twice as long."""
    errors = {}
    for nt in (NT, 2 * NT):
        F = propagator(survey(wavelet=np.pad(ox.ricker(15.0, NT, DT), (0, nt - NT))))
        true = np.pad(TRUE, (0, nt - NT))
        for method in ("water_level", "least_squares"):
            found = ox.estimate_wavelet(
                F, fired(F, true), velocity(), length=NT, method=method, damping=1e-6
            )
            errors[method, nt] = difference(found.wavelet, TRUE)
            assert 0.9 < found.explained <= 1.0
    assert errors["water_level", 2 * NT] < 0.01 < errors["water_level", NT]
    assert max(errors["least_squares", nt] for nt in (NT, 2 * NT)) < EXACT


# ---------------------------------------------------------------- equations


@pytest.mark.slow
def test_the_density_factor():
    """The wavelet of `Acoustic` is rho times that of `AcousticDensity`: exactly so in a homogeneous
    fluid, but for the two grids' errors."""
    rho = 1030.0
    vp = jnp.full(GRID.shape, 2000.0)
    dense, plain = propagator(equation=ox.AcousticDensity(4)), propagator()
    observed = fired(dense, TRUE, {"vp": vp, "rho": jnp.full(GRID.shape, rho)})
    found = ox.estimate_wavelet(plain, observed, vp)
    # at order 4, 8 points per wavelength at 24 Hz, and up to 3 wavelengths: the phase of plain and
    # of staggered differences is wrong by 0.3 and 0.1 % of 20 rad at most
    assert difference(found.wavelet, rho * TRUE) < 0.04


# ---------------------------------------------------------------- refusals


def test_what_cannot_be_estimated():
    F = propagator()
    observed = np.asarray(fired(F, TRUE))

    def estimate(F: ox.Propagator = F, observed: Any = observed, **how: Any) -> Any:
        return ox.estimate_wavelet(F, observed, velocity(), **how)

    with pytest.raises(ValueError, match="observed is zero in every shot.*check"):
        estimate(observed=0.0 * observed)
    with pytest.raises(ValueError, match="observed is zero in every shot"):
        estimate(observed=0.0 * observed, method="water_level")
    dead = observed * np.array([1.0, 0.0, 1.0])[:, None, None]
    with pytest.raises(ValueError, match=r"zero in shot 1.*survey\[numbers\]"):
        estimate(observed=dead, per_shot=True)
    with pytest.raises(ValueError, match="zero in every shot"):
        estimate(window=np.zeros(NT))
    # the field is at rest at time 0, exactly so in raw traces
    raw, ones = propagator(time_dispersion="raw"), np.ones_like(observed)
    with pytest.raises(ValueError, match="modelled traces are zero"):
        estimate(raw, ones, window=lambda distance, time: (time == 0.0) * (distance >= 0.0))
    with pytest.raises(ValueError, match="length=151 must be .* from 2 to 150"):
        estimate(length=151)
    with pytest.raises(ValueError, match="length=20 samples is too short for .* 39.2 Hz"):
        estimate(length=20)
    with pytest.raises(ValueError, match="whole samples"):
        estimate(start=-0.0013)
    with pytest.raises(ValueError, match="observed has shape"):
        estimate(observed=observed[:2])
    with pytest.raises(ValueError, match="window has shape"):
        estimate(window=np.ones(NT + 1))
    with pytest.raises(ValueError, match=r"window\(distance, time\) has shape"):
        estimate(window=lambda distance, time: np.ones(7))
    with pytest.raises(ValueError, match="method='wiener'"):
        estimate(method="wiener")
    with pytest.raises(ValueError, match="damping=-1"):
        estimate(damping=-1.0)
    pairs = _pairs()
    wavelet = np.array(pairs.wavelet)
    wavelet[0, 1] *= -1.0
    with pytest.raises(ValueError, match="different wavelets"):
        estimate(propagator(pairs.replace(wavelet=wavelet)))
    with pytest.raises(ValueError, match="wavelets are zero"):
        estimate(F.with_survey(F.survey.replace(wavelet=np.zeros(NT))))
    extended = ox.Survey(ox.Extended(3), RECEIVERS, ox.ricker(15.0, NT, DT), DT)
    with pytest.raises(ValueError, match="extended"):
        estimate(F.with_survey(extended))


# ---------------------------------------------------------------- within an inversion


@pytest.mark.slow
def test_projection_is_the_estimate():
    F = propagator()
    observed = fired(F, TRUE)
    wrong = velocity() + 50.0
    for per_shot in (False, True):
        G = ox.ProjectedWavelet(F, observed, per_shot=per_shot)
        found = ox.estimate_wavelet(F, observed, wrong, per_shot=per_shot)
        expected = F.with_survey(found.survey)(wrong)
        # In float32, the ridge is 1e-5 of the diagonal rather than 1e-9.
        assert difference(G(wrong), expected) < 1e-3
    some = G(wrong, shots=[2, 0])
    assert difference(some, expected[jnp.array([2, 0])]) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("through", "damping"), [(False, 0.0), (True, 0.0), (True, 0.01)])
def test_gradients_of_the_projection(through: bool, damping: float, x64: None):
    """The derivative along a change of the model, against differences of values. Holding the
    wavelet fixed is exact where the misfit is least in it, so undamped."""
    F = propagator()
    observed = F(velocity(jnp.float64), wavelet=jnp.asarray(TRUE))
    G = ox.ProjectedWavelet(F, observed, through=through, damping=damping)
    scale = 1.0 / jnp.sum(observed**2)

    def misfit(model: jax.Array) -> jax.Array:
        return 0.5 * scale * jnp.sum((G(model) - observed) ** 2)

    at = velocity(jnp.float64) + 30.0
    change = jnp.zeros_like(at).at[10:30, 8:20].set(20.0)
    slope = jnp.vdot(jax.grad(misfit)(at), change)
    h = 0.01
    measured = (misfit(at + h * change) - misfit(at - h * change)) / (2 * h)
    # differences err by h^2, and by rounding in float64; the ridge of 1e-9 is what is not exact
    assert abs(slope / measured - 1.0) < 1e-4


@pytest.mark.slow
def test_fwi_does_not_know_the_wavelet():
    F = propagator()
    observed = fired(F, TRUE)
    G = ox.ProjectedWavelet(F, observed)
    start = velocity() + 40.0
    result = ox.fwi(G, observed, start, optimizer=optax.adam(8.0), iterations=4, progress=False)
    assert result.history.misfit[-1] < 0.7 * result.history.misfit[0]
    # Held fixed, the wavelet is that of an inversion with the estimate.
    fixed = F.with_survey(ox.estimate_wavelet(F, observed, start).survey)
    projected, expected = (
        jax.grad(lambda m, f=f: ox.misfits.least_squares(f(m), observed))(start) for f in (G, fixed)
    )
    assert difference(projected, expected) < 0.05
    batches = ox.fwi(
        G, observed, start, optimizer=optax.adam(8.0), iterations=2, batch_size=2, progress=False
    )
    assert np.all(np.isfinite(batches.history.misfit))
    with pytest.raises(ValueError, match="observed is zero"):
        ox.ProjectedWavelet(F, 0.0 * observed)


# ---------------------------------------------------------------- from 3-D to 2-D


@pytest.mark.parametrize(("wavelengths", "error"), [(4.0, 0.05), (16.0, 0.0125)])
def test_point_sources_become_line_sources(wavelengths: float, error: float, x64: None):
    """Green's functions of homogeneous space. The gain changes within the wavelet, which lasts for
    about 0.2 / frequency on either side of its centre: by a fraction 0.1 / wavelengths of it, and
    double that at its ends."""
    nt, dt, frequency, v = 1000, 0.001, 20.0, 2000.0
    distance = wavelengths * v / frequency
    wavelet = ox.ricker(frequency, nt, dt)
    of = ox.Survey([[0.0, 0.0]], [[distance, 0.0]], wavelet, dt)
    correction = ox.preconditioners.to_2d(of, v, delay=1.5 / frequency, dtype="float64")
    point = jnp.asarray(green(wavelet, dt, distance, v, 3))[None, None]
    line = green(wavelet, dt, distance, v, 2)
    got = np.asarray(correction.mv(point))[0, 0]
    assert difference(got, line) < error
    assert abs(got @ line / (line @ line) - 1.0) < 2e-3  # amplitude
    per_sample = ox.preconditioners.to_2d(
        of, np.full(nt, v), delay=1.5 / frequency, dtype="float64"
    )
    assert difference(per_sample.mv(point), got[None, None]) < 1e-14


def test_the_correction_is_an_operator(dtype: str):
    of = survey()
    A = ox.preconditioners.to_2d(of, 1500.0, dtype=dtype)
    B = ox.preconditioners.band_pass(of, 2.0, 40.0, dtype=dtype) @ A
    structure = A.in_structure()
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=structure.shape), dtype) for _ in range(2))
    for operator in (A, B):
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        assert ox.dot_test(operator.mv, operator.T.mv, x, y) < tolerance
    late = jnp.zeros_like(x).at[..., 100].set(1.0)
    assert norm(A.mv(late)[..., :100]) < tolerance * norm(A.mv(late))  # causal
    assert ox.preconditioners.to_2d(of, 1500.0, shots=5, dtype=dtype).in_structure().shape[0] == 5


def test_corrections_that_are_refused():
    with pytest.raises(ValueError, match="looks like km/s"):
        ox.preconditioners.to_2d(survey(), 1.5)
    with pytest.raises(ValueError, match="velocity has shape"):
        ox.preconditioners.to_2d(survey(), np.full(7, 1500.0))
    with pytest.raises(ValueError, match="delay=nan"):
        ox.preconditioners.to_2d(survey(), 1500.0, delay=np.nan)


@pytest.mark.slow
def test_an_inversion_with_the_projection_weighs_traces():
    """A dead trace counts for nothing, and gathers may come as a list."""
    F = propagator()
    observed = np.array(fired(F, TRUE))
    weights = np.ones(observed.shape[:2])
    weights[0, 1] = 0.0
    spoilt = observed.copy()
    spoilt[0, 1] = 1e3 * np.max(np.abs(observed))
    weighed = F.with_survey(F.survey.replace(trace_weights=weights))
    how: dict[str, Any] = {"optimizer": optax.adam(1.0), "iterations": 1, "progress": False}
    first, second = (
        ox.fwi(ox.ProjectedWavelet(weighed, d), d, velocity() + 50.0, **how).history.misfit
        for d in (observed, list(spoilt))
    )
    np.testing.assert_allclose(first, second, rtol=1e-4)
