"""Surveys as they are: shots with their own numbers of sources and receivers, weights of traces,
records that begin before or after the wavelets."""

import functools
import pickle
import tracemalloc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import difference, dot, norm
from registry import EQUATIONS
from slow import slow, slow_but

import ondax as ox

GRID = ox.Grid((31, 26), 10.0)
SOURCES = [[60.0, 20.0], [150.0, 40.0], [230.0, 30.0]]
RECEIVERS = [ox.line((10.0, 30.0), (290.0, 60.0), n) for n in (4, 6, 3)]
WAVELET = ox.ricker(15.0, 130, 0.002)


def survey(**kinds: Any) -> ox.Survey:
    return ox.Survey(SOURCES, RECEIVERS, WAVELET, 0.002, **kinds)


def propagator(of: ox.Survey, equation: Any = None, **how: Any) -> ox.Propagator:
    equation = ox.Acoustic(4) if equation is None else equation
    return ox.Propagator(equation, GRID, of, 2600.0, **how)


def velocity(dtype: Any = jnp.float32) -> jax.Array:
    return jnp.asarray(2000.0 + 10.0 * np.arange(26) * np.ones((31, 1)), dtype)


def both(a: Any, b: Any) -> list[tuple[Any, Any]]:
    return list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("name", slow_but(EQUATIONS, "Acoustic"))
@pytest.mark.kernels
def test_a_ragged_survey_equals_its_shots_one_by_one(name: str, x64: None):
    """To the bit, but for XLA's matrix products, which depend on the shape, in the correction of
    time dispersion; and its adjoint and Born modelling pass the dot test."""
    entry = EQUATIONS[name]
    how: dict[str, Any] = {"boundary": ox.Sponge(6), "min_points_per_wavelength": 0.0}
    F = propagator(survey(), entry.make(4), time_dispersion="raw", **how)
    given = entry.model(GRID.shape, "float64")
    model = given if len(given) > 1 else next(iter(given.values()))
    y = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 130)))
    traces, (_, pull) = F(model), jax.vjp(F, model)
    for n, receivers in enumerate(RECEIVERS):
        alone = F.with_survey(ox.Survey(SOURCES[n : n + 1], receivers, WAVELET, 0.002))
        np.testing.assert_array_equal(traces[n, : len(receivers)], alone(model)[0])
        assert not np.any(traces[n, len(receivers) :])
        _, of_shot = jax.vjp(lambda m, n=n: F(m, shots=[n]), model)
        _, of_alone = jax.vjp(alone, model)
        gradients = of_shot(y[n : n + 1])[0], of_alone(y[n : n + 1, : len(receivers)])[0]
        for a, b in both(*gradients):
            np.testing.assert_array_equal(a, b)
    dm = jax.tree.map(lambda m: 0.01 * m, model)
    born, gradient = F.jacobian(model).mv(dm), pull(y)[0]
    assert abs(dot(born, y) - dot(dm, gradient)) < 1e-12 * norm(born) * norm(y)
    w = jnp.asarray(F.survey.wavelet)
    adjoint = F.adjoint(model, y)
    assert abs(dot(traces, y) - dot(w, adjoint)) < 1e-12 * norm(traces) * norm(y)


@pytest.mark.kernels
def test_shots_with_their_own_sources():
    sources = [np.array(SOURCES[:2]), np.array(SOURCES[2:])]
    wavelets = [np.stack([WAVELET, -0.5 * WAVELET]), WAVELET[None]]
    F = propagator(ox.Survey(sources, RECEIVERS[0], wavelets, 0.002), time_dispersion="raw")
    traces = F(velocity())
    for n in range(2):
        alone = F.with_survey(ox.Survey(sources[n][None], RECEIVERS[0], wavelets[n], 0.002))
        np.testing.assert_array_equal(traces[n], alone(velocity())[0])
    # What is given to a source that is not there makes no difference.
    given = jnp.asarray(F.survey.wavelet, jnp.float32)
    spoilt = given.at[1, 1].set(given[0, 0])
    expected, found = (F(velocity(), wavelet=w) for w in (given, spoilt))
    np.testing.assert_array_equal(found, expected)


def test_given_positions_are_those_of_the_shot():
    """Rows beyond a shot's own are nothing, wherever they are."""
    F = propagator(survey())
    moved = jnp.asarray(F.survey.receivers, jnp.float32) + 3.0
    elsewhere = moved.at[0, 4:].set(jnp.asarray([-1e5, 1e5]))
    expected = F.with_survey(survey().replace(receivers=[r + 3.0 for r in RECEIVERS]))(velocity())
    found, pull = jax.vjp(lambda r: F(velocity(), receivers=r), elsewhere)
    assert difference(found, expected) < 1e-5
    (slope,) = pull(jnp.ones_like(found))
    assert np.any(slope[0, :4])
    assert not np.any(slope[0, 4:])


# ---------------------------------------------------------------- weights


def test_weights_of_traces():
    """Dead traces and those that are not there count for nothing, whatever is in them."""
    weights = [np.ones(4), np.array([1.0, 0.0, 0.5, 1.0, 1.0, 1.0]), np.ones(3)]
    of = survey(trace_weights=weights)
    F = propagator(of)
    predicted = F(velocity())
    observed = np.asarray(0.5 * F(velocity() + 80.0)).copy()
    observed[1, 1] = np.nan
    insensitive = ox.misfits.global_correlation, ox.misfits.traveltime
    for misfit in (
        ox.misfits.least_squares,
        ox.misfits.l1,
        functools.partial(ox.misfits.huber, threshold=0.1),
        ox.misfits.envelope,
        ox.misfits.global_correlation,
        functools.partial(ox.misfits.traveltime, dt=0.002),
    ):
        value, gradient = jax.value_and_grad(ox.Objective(F, observed, misfit))(velocity())
        total = 0.0
        for n, w in enumerate(weights):
            for i in np.flatnonzero(w):
                pair = w[i] * predicted[n, i], w[i] * observed[n, i]
                if getattr(misfit, "func", misfit) in insensitive:
                    total += w[i] * misfit(*pair)
                else:
                    total += misfit(*pair)
        assert np.isclose(value, total, rtol=1e-4, atol=1e-9)
        assert np.all(np.isfinite(gradient))


def test_a_misfit_of_two_arguments_sees_zeros_on_both_sides():
    F, seen = propagator(survey()), []

    @ox.misfits.per_shot
    def misfit(predicted: Any, observed: Any) -> Any:
        jax.debug.callback(lambda *traces: seen.append(traces), predicted, observed)
        return jnp.sum((predicted - observed) ** 2)

    observed = np.ones((3, 6, 130), np.float32)
    ox.Objective(F, observed, misfit)(velocity())
    jax.effects_barrier()
    live = F.survey.points[1].live()
    found = [np.concatenate(side) for side in zip(*seen, strict=True)]
    assert not np.any(found[0][~live])
    assert not np.any(found[1][~live])
    assert np.any(found[0][live])
    assert np.all(found[1][live] == 1.0)


class Lazy:
    """Gathers that are read when asked for."""

    def __init__(self, gathers: list[np.ndarray]) -> None:
        self.gathers = gathers

    def __getitem__(self, numbers: np.ndarray) -> list[np.ndarray]:
        return [self.gathers[n] for n in numbers]


def test_observed_as_gathers():
    F = propagator(survey())
    observed = 0.9 * F(velocity())
    gathers = F.survey.gathers(observed)
    assert [g.shape for g in gathers] == [(4, 130), (6, 130), (3, 130)]
    np.testing.assert_array_equal(F.survey.padded(gathers), observed)
    values = [ox.Objective(F, o)(velocity()) for o in (observed, gathers, Lazy(gathers))]
    assert values[0] == values[1] == values[2] > 0.0
    with pytest.raises(ValueError, match=r"gather of shot 1 has shape \(4, 130\)"):
        ox.Objective(F, [gathers[0]] * 3)
    with pytest.raises(ValueError, match=r"up to \(6, 130\)"):
        jax.block_until_ready(ox.Objective(F, Lazy([np.ones((7, 130))] * 3))(velocity()))


@pytest.mark.slow
def test_fwi_and_lsrtm_leave_dead_traces_out():
    """What stands in them makes no difference."""
    of = survey(trace_weights=[np.ones(4), np.array([0.0, 1, 1, 1, 1, 1]), np.ones(3)])
    F = propagator(of)
    observed = np.asarray(F(velocity() + 20.0)).copy()
    spoilt = observed.copy()
    spoilt[1, 0] = np.nan
    spoilt[0, 4:] = 1e3

    def inverted(traces: Any, **how: Any) -> Any:
        kw = {"iterations": 1, "progress": False, **how}
        return ox.fwi(F, traces, velocity(), optimizer=optax.sgd(1e-3), **kw).model

    def migrated(traces: Any, **how: Any) -> Any:
        data = np.nan_to_num(traces) - np.asarray(F(velocity()))
        return ox.lsrtm(F, data, velocity(), iterations=2, progress=False, **how).image

    np.testing.assert_array_equal(inverted(spoilt), inverted(observed))
    np.testing.assert_array_equal(
        inverted(spoilt, batch_size=2), inverted(F.survey.gathers(observed), batch_size=2)
    )
    np.testing.assert_array_equal(migrated(spoilt), migrated(observed))
    plain = propagator(survey(), time_dispersion="raw")
    assert np.any(
        migrated(observed)
        != ox.lsrtm(
            plain, observed - plain(velocity()), velocity(), iterations=2, progress=False
        ).image
    )
    with pytest.raises(ValueError, match="encodings=2"):
        migrated(observed, solver=optax.sgd(1.0), encodings=2)


@pytest.mark.slow
def test_fwi_and_lsrtm_read_what_they_need(tmp_path: Any):
    """The same bits as with all traces in memory; other traces are another problem."""
    F = propagator(survey(trace_weights=[np.ones(4), np.array([0.0, 1, 1, 1, 1, 1]), np.ones(3)]))
    gathers = F.survey.gathers(np.asarray(F(velocity() + 20.0)))
    gathers[1] = gathers[1].copy()
    gathers[1][0] = np.nan
    how: dict[str, Any] = {"optimizer": optax.adam(5.0), "progress": False}
    for more in ({}, {"batch_size": 2}, {"misfit": ox.misfits.global_correlation}):
        found, expected = (
            ox.fwi(F, data, velocity(), iterations=2, **how, **more)
            for data in (Lazy(gathers), gathers)
        )
        np.testing.assert_array_equal(found.model, expected.model)
        np.testing.assert_array_equal(found.history.misfit, expected.history.misfit)
    own = ox.fwi(
        F, Lazy(gathers), velocity(), iterations=1, misfit=lambda p, o: jnp.max((p - o) ** 2), **how
    )
    assert np.any(own.model != velocity())  # no sum over shots: all traces are read
    migrated = [
        ox.lsrtm(F, data, velocity(), iterations=1, progress=False).image
        for data in (Lazy(gathers), gathers)
    ]
    np.testing.assert_array_equal(*migrated)
    saved = tmp_path / "state.npz"
    ox.fwi(F, Lazy(gathers), velocity(), iterations=1, save=saved, **how)
    again = ox.fwi(F, Lazy(gathers), velocity(), iterations=2, save=saved, **how)
    assert len(again.history) == 2
    other = [2.0 * g for g in gathers]
    with pytest.raises(ValueError, match="differs in observed traces"):
        ox.fwi(F, Lazy(other), velocity(), iterations=3, save=saved, **how)
    gathers[0] = gathers[0] * np.inf
    with pytest.raises(ValueError, match="NaN or infinite values in shot 0"):
        ox.fwi(F, Lazy(gathers), velocity(), iterations=1, **how)


# ---------------------------------------------------------------- the clock of a record


def test_records_begin_before_or_after_the_wavelets():
    """Traces are those of one long record, cut; a wavelet may begin before time 0."""
    F = propagator(survey().replace(nt=180), time_dispersion="raw")
    whole = np.asarray(F(velocity()))

    def traces(**times: Any) -> np.ndarray:
        return np.asarray(F.with_survey(survey(**times))(velocity()))

    np.testing.assert_array_equal(traces(nt=90, start=0.1), whole[..., 50:140])
    early = traces(nt=90, start=-0.02)
    np.testing.assert_array_equal(early[..., 10:], whole[..., :80])
    assert not np.any(early[..., :10])
    np.testing.assert_array_equal(traces(nt=90, wavelet_start=-0.1), whole[..., 50:140])
    of = survey(nt=90, start=0.1)
    assert np.isclose(of.times[0], 0.1)
    assert len(of.times) == 90


@pytest.mark.parametrize("dispersion", [slow("raw"), "corrected"])
@pytest.mark.parametrize(
    "times", [slow({"start": 0.05}), {"start": -0.05}, slow({"wavelet_start": -0.06})]
)
def test_the_adjoint_of_shifted_records(times: dict[str, float], dispersion: Any, x64: None):
    F = propagator(survey(nt=100, **times), time_dispersion=dispersion)
    m = velocity(jnp.float64)
    y = jnp.asarray(np.random.default_rng(1).normal(size=(3, 6, 100)))
    w = jnp.asarray(F.survey.wavelet)
    traces = F(m)
    assert abs(dot(traces, y) - dot(w, F.adjoint(m, y))) < 1e-12 * norm(traces) * norm(y)
    born, gradient = F.jacobian(m).mv(0.01 * m), jax.vjp(F, m)[1](y)[0]
    assert abs(dot(born, y) - dot(0.01 * m, gradient)) < 1e-12 * norm(born) * norm(y)


def test_records_that_do_not_exist():
    with pytest.raises(ValueError, match="whole samples apart"):
        survey(start=0.0011)
    with pytest.raises(ValueError, match="at least 2 samples"):
        survey(nt=10, start=-1.0)
    with pytest.raises(ValueError, match="nt=1"):
        survey(nt=1)


# ---------------------------------------------------------------- a survey as a value


@pytest.mark.kernels
def test_some_shots_of_a_survey():
    weights = [np.ones(4), np.full(6, 0.5), np.ones(3)]
    of = survey(
        trace_weights=weights, receiver={"receiver": weights}, source={"source": [[1.0]] * 3}
    )
    F = propagator(of)
    traces = F(velocity())
    for which in (1, slice(1, 3), [2, 0], np.array([True, False, True])):
        part = of[which]
        numbers = np.atleast_1d(np.arange(3)[which])
        assert len(part) == part.n_shots == len(numbers)
        found = F.with_survey(part)(velocity())
        np.testing.assert_array_equal(found, traces[numbers][:, : part.n_receivers])
        np.testing.assert_array_equal(
            part.trace_weights, of.trace_weights[numbers][:, : part.n_receivers]
        )
    assert [s.n_receivers for s in of] == [4, 6, 3]  # ends
    with pytest.raises(IndexError):
        of[3]
    with pytest.raises(IndexError, match="no shot"):
        of[5:]


def test_a_survey_says_what_it_is():
    weights = [np.ones(4), np.array([0.0, 1, 1, 1, 1, 1]), np.ones(3)]
    said = repr(survey(trace_weights=weights, start=0.1))
    assert "3 shots of 1 source and 3 to 6 receivers in 2-D" in said
    assert "80 samples of 2 ms from 0.1 s" in said
    assert "1 dead traces" in said
    assert "offsets" in said


def test_copies():
    of = survey(trace_weights=[np.ones(4), np.ones(6), np.ones(3)])
    again = pickle.loads(pickle.dumps(of))
    np.testing.assert_array_equal(again.receivers, of.receivers)
    assert not again.points[1].rows.flags.writeable
    other = of.replace(dt=0.004)
    assert other.dt == 0.004
    assert other.nt == of.nt
    assert other.ragged


@pytest.mark.kernels
def test_ten_thousand_ragged_shots():
    """Described in at most 400 MB: 16 bytes a receiver in 2-D, and no dense copy."""
    rng = np.random.default_rng(0)
    sources = np.stack([np.linspace(0.0, 3000.0, 10_000), np.full(10_000, 20.0)], 1)
    longest = np.ascontiguousarray(ox.line((0.0, 30.0), (3000.0, 30.0), 1100))
    receivers = [longest[: rng.integers(900, 1100)] for _ in range(10_000)]
    grid = ox.Grid((301, 11), 10.0)
    tracemalloc.start()
    try:
        of = ox.Survey(sources, receivers, WAVELET, 0.002)
        F = ox.Propagator(ox.Acoustic(4), grid, of, 2600.0)
        traces = F(jnp.full(grid.shape, 2000.0), shots=[17, 4711])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert traces.shape == (2, of.n_receivers, 130)
    assert most < 400e6


# ---------------------------------------------------------------- survey tools


def test_receivers_outside_the_grid_are_left_out():
    sources, receivers = ox.streamer(
        (100.0, 20.0), (280.0, 20.0), 4, channels=8, interval=25.0, nearest=20.0, depth=30.0
    )
    assert receivers[0, 0].tolist() == [80.0, 30.0]
    assert receivers[0, 1].tolist() == [55.0, 30.0]
    of = ox.Survey(sources, receivers, WAVELET, 0.002, trace_weights=np.arange(32.0).reshape(4, 8))
    observed = np.arange(4 * 8 * 130.0).reshape(4, 8, 130)
    with pytest.raises(ValueError, match="lie outside the grid"):
        propagator(of)
    with pytest.warns(ox.ReceiversDropped, match="6 of 32 receivers"):
        inside, gathers = of.inside(GRID, observed)
    assert inside.points[1].counts.tolist() == [4, 6, 8, 8]
    for n, gather in enumerate(gathers):
        count = len(inside.points[1].of(n))
        np.testing.assert_array_equal(gather, observed[n, :count])
        np.testing.assert_array_equal(inside.trace_weights[n, :count], of.trace_weights[n, :count])
    assert inside.inside(GRID) is inside
    with pytest.raises(ValueError, match=r"shots \[0\] have no receiver inside"):
        ox.Survey(sources, receivers - [100.0, 0.0], WAVELET, 0.002).inside(GRID)


def test_nodes_become_shots():
    """Ocean-bottom nodes: as many solves as nodes, and the same traces."""
    sources, nodes = ox.ocean_bottom(
        ox.line((30.0, 20.0), (270.0, 20.0), 7), ox.line((80.0, 200.0), (220.0, 200.0), 2)
    )
    of = ox.Survey(sources, nodes, WAVELET, 0.002)
    F = propagator(of)
    observed = F(velocity())
    swapped, gathers = of.reciprocal(observed)
    assert swapped.n_shots == 2
    assert swapped.n_receivers == 7
    found = F.with_survey(swapped)(velocity())
    assert difference(found, swapped.padded(gathers)) < 1e-5  # rounding of float32
    with pytest.raises(ValueError, match="not reciprocal"):
        of.replace(source="force_z", receiver="velocity_x").reciprocal()
    with pytest.raises(ValueError, match="different wavelets"):
        of.replace(wavelet=np.arange(7.0)[:, None, None] * WAVELET).reciprocal()


def test_wells_and_carpets():
    _, well = ox.vsp([[0.0, 0.0, 5.0]], (100.0, 50.0, 0.0), [0.0, 100.0], dip=30.0, azimuth=90.0)
    np.testing.assert_allclose(well[1], [100.0, 100.0, 86.60254], atol=1e-4)
    carpet = ox.carpet((0.0, 0.0, 10.0), (40.0, 20.0, 10.0), (3, 2))
    assert carpet.shape == (6, 3)
    assert carpet[1].tolist() == [0.0, 20.0, 10.0]
    with pytest.raises(ValueError, match="same depth"):
        ox.carpet((0.0, 0.0, 1.0), (1.0, 1.0, 2.0), (2, 2))
    with pytest.raises(ValueError, match="does not move"):
        ox.streamer((0.0, 1.0), (0.0, 2.0), 2, channels=1, interval=1.0, nearest=0.0)
    with pytest.raises(ValueError, match="as many axes"):
        ox.vsp([[0.0, 1.0]], (0.0, 0.0, 0.0), [1.0])


@pytest.mark.parametrize(
    ("receivers", "said"),
    [
        ([np.zeros((3, 2)), np.zeros((2, 3))], "receivers of shot 1 have shape"),
        ([np.zeros((3, 2)), np.zeros((0, 2))], "receivers of shot 1 have shape"),
        ([np.zeros((3, 2)), np.full((2, 2), np.nan)], "not finite"),
        ([np.zeros((3, 2)), np.zeros((2, 2)), np.zeros((1, 2))], "receivers of 3 shots"),
    ],
)
def test_gathers_that_do_not_fit(receivers: Any, said: str):
    with pytest.raises(ValueError, match=said):
        ox.Survey(SOURCES[:2], receivers, WAVELET, 0.002)
