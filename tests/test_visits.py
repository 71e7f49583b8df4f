"""Linear inversions whose wavefields do not fit into memory: a shot's Born traces are modelled and
migrated in one visit."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from migration import background, data, migrate, propagator
from problems import difference

import ondax as ox
from ondax.inversion import linear_solvers, visits

pre = ox.preconditioners

SHOTS = 8
# Sums over groups, and recurrences, round otherwise than products with all shots: a few times the
# rounding of float32, which conjugate gradients amplify with every iteration.
ROUNDING = 2e-4


def scarce(shots: int, **options: Any) -> tuple[ox.Propagator, Any]:
    """A propagator in whose memory the histories of so many shots fit, and a background."""
    F = propagator(n_shots=SHOTS, **options)
    model = background(F)
    ox.release_memory()
    size = F._hosts.of("float32").memory(exact=True).history
    return F.replace(settings=ox.Settings(threads=2, memory=int(size * (shots + 0.5)))), model


@pytest.fixture
def solves(kernel_runs: list[object]) -> list[object]:
    """The wave solves that were made."""
    return kernel_runs


@pytest.mark.parametrize("left", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_three_wave_solves_of_a_shot_an_iteration(left: bool, solves: list[object]):
    few, model = scarce(2)
    many = propagator(n_shots=SHOTS)
    traces = data(many, model)
    mute = pre.time_gain(many.survey, 0.5) if left else None
    right = pre.depth_scaling(many.grid, 0.5)
    run = partial(migrate, observed=traces, background=model, left=mute, right=right)
    expected = run(many, iterations=6)
    ox.release_memory()
    found = run(few, iterations=6)
    assert difference(found.image, expected.image) < ROUNDING
    np.testing.assert_allclose(
        found.history.data_residual, expected.history.data_residual, rtol=ROUNDING
    )
    # What is asked at the start of a run is left out by comparing runs of different length.
    counts = []
    for iterations in (2, 5):
        ox.release_memory()
        solves.clear()
        run(few, iterations=iterations)
        counts.append(len(solves))
    assert counts[1] - counts[0] == 3 * SHOTS * 3


@pytest.mark.slow
def test_an_operator_on_traces_that_is_not_diagonal(solves: list[object]):
    """It may mix shots, so that all traces come first."""
    few, model = scarce(2)
    many = propagator(n_shots=SHOTS)
    left = pre.band_pass(many.survey, 2.0, 60.0)
    run = partial(migrate, observed=data(many, model), background=model, left=left, iterations=3)
    assert difference(run(few).image, run(many).image) < ROUNDING


def test_resumed_to_the_bit_and_with_other_memory(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(linear_solvers, "AFRESH", 3)
    few, model = scarce(2)
    many = propagator(n_shots=SHOTS)
    run = partial(migrate, observed=data(many, model), background=model)
    straight = run(few, iterations=7)
    run(few, iterations=2, save=tmp_path / "a.npz")
    resumed = run(few, iterations=7, save=tmp_path / "a.npz")
    np.testing.assert_array_equal(resumed.image, straight.image)
    for first, second in ((few, many), (many, few)):
        path = tmp_path / f"{first is few}.npz"
        run(first, iterations=2, save=path)
        assert difference(run(second, iterations=7, save=path).image, straight.image) < ROUNDING


def test_when_visits_pay():
    for shots, pays in ((1, False), (2, True), (3, True), (4, False), (SHOTS, False)):
        F, model = scarce(shots)
        assert visits.pay(F.jacobian(model)) == pays
    F, model = scarce(2)
    revolve = F.replace(settings=ox.Settings(threads=2, history="revolve"))
    assert not visits.pay(revolve.jacobian(model))


@pytest.mark.slow
def test_trace_weights():
    """A dead trace counts for nothing."""
    few, model = scarce(2)
    traces = np.array(data(few, model))
    traces[3, 2] = 1e3 * np.max(np.abs(traces))
    weights = np.ones((SHOTS, 5))
    weights[3, 2] = 0.0
    images = []
    for F in (few, propagator(n_shots=SHOTS)):
        weighted = F.with_survey(F.survey.replace(trace_weights=weights))
        images.append(migrate(weighted, traces, model, iterations=3).image)
    assert difference(*images) < ROUNDING
    assert np.max(np.abs(images[0])) < 1e3


def huber(predicted: Any, observed: Any) -> Any:
    """With a second derivative that depends on the traces."""
    return ox.misfits.huber(predicted, observed, threshold=1e-3)


@pytest.mark.parametrize(
    "misfit",
    [ox.misfits.per_shot(huber), pytest.param(ox.misfits.least_squares, marks=pytest.mark.slow)],
)
def test_the_normal_product_of_an_objective(misfit: Any):
    """Against J, H by JAX, and J', all shots at once."""
    F, model = scarce(SHOTS)
    change = jax.tree.map(lambda m: 0.01 * m, model)
    observed = F(1.05 * model)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, (SHOTS, 5)).astype("float32")
    shots = jnp.array([1, 4, 6])
    for chosen in (None, shots):
        J = F.jacobian(model, shots=chosen)
        at = slice(None) if chosen is None else np.asarray(chosen)
        w, there = jnp.asarray(weights)[at, :, None], jnp.asarray(observed)[at]

        def of_traces(traces: Any, w: Any = w, there: Any = there) -> Any:
            return misfit(w * traces, w * there)

        predicted = F(model, shots=chosen)
        _, curved = jax.jvp(jax.grad(of_traces), (predicted,), (J.mv(change),))
        for given in (observed, Read(observed)):
            objective = ox.Objective(F, given, misfit, trace_weights=weights)
            found = objective.normal(model, change, shots=chosen)
            assert difference(found, J.T.mv(curved)) < 1e-5  # rounding of float32


class Read:
    """Traces that are read when asked for."""

    def __init__(self, traces: Any) -> None:
        self.traces = np.asarray(traces)

    def __getitem__(self, numbers: Any) -> Any:
        return self.traces[numbers]


@pytest.mark.slow
def test_gauss_newton_steps_on_traces_that_are_read():
    F, model = scarce(2)
    observed = F(1.02 * model)
    how = {"optimizer": ox.GaussNewton(iterations=3), "iterations": 2, "progress": False}
    at_once = ox.fwi(F, observed, model, **how)
    read = ox.fwi(F, Read(observed), model, **how)
    assert at_once.history.misfit[-1] < at_once.history.misfit[0]
    assert difference(read.model, at_once.model) < ROUNDING
