"""What keeps an inversion within reason: regularisation, projections, criteria to stop, and the
record of what it did."""

import logging
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import isotonic_regression
from test_fwi import LBFGS, N_SHOTS, OBSERVED, SGD, START, TRUE, N, toy

import ondax as ox
from ondax.inversion import fwi
from ondax.inversion.constraints import bounded, derivatives_of_clipping
from ondax.inversion.encoding import polarities
from ondax.inversion.gauss_newton import conjugate_gradients
from ondax.inversion.step import Aim, Setting, gauss_newton
from ondax.inversion.stopping import STALLED, stands_still

invert = partial(fwi, toy, OBSERVED, START, progress=False)
LINE = ox.Grid((N,), 10.0)
PLANE = ox.Grid((12, 9), (10.0, 5.0))


def plane(seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(2000.0, 50.0, PLANE.shape), jnp.float32)


# ---------------------------------------------------------------- regularisation


def test_a_penalty_is_added_to_the_misfit():
    penalty = ox.regularizers.tikhonov(LINE, 1e3)
    result = invert(optimizer=SGD, iterations=2, regularize=penalty)

    def objective(m: Any) -> Any:
        return 0.5 * jnp.sum((toy(m) - OBSERVED) ** 2) + penalty(m)

    start = START + jnp.linspace(-0.1, 0.1, N)
    result = fwi(toy, OBSERVED, start, progress=False, optimizer=SGD, iterations=1,
                 regularize=penalty)  # fmt: skip
    value, gradient = jax.value_and_grad(objective)(start)
    np.testing.assert_allclose(result.history.misfit, [value], rtol=1e-5)
    np.testing.assert_allclose(result.history.regularization, [penalty(start)], rtol=1e-5)
    np.testing.assert_allclose(result.model, start - 1e-3 * gradient, rtol=1e-5)


def test_a_penalty_in_batches_counts_by_their_share():
    penalty = ox.regularizers.reference(LINE, 3.0, TRUE)
    whole = invert(optimizer=SGD, iterations=1, regularize=penalty)
    part = invert(optimizer=SGD, iterations=1, regularize=penalty, batch_size=2)
    ratio = part.history.regularization[0] / whole.history.regularization[0]
    assert ratio == pytest.approx(2 / N_SHOTS, rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_a_penalty_is_in_units_of_the_misfit(scale: float):
    """Traces of any size: the ratio of the two parts of the objective stays what was asked for."""
    penalty = ox.regularizers.tikhonov(LINE, 1e-2)
    result = fwi(
        lambda m, shots=None: scale * toy(m, shots),
        scale * OBSERVED,
        START + 0.01 * jnp.arange(N, dtype=jnp.float32),
        progress=False,
        optimizer=LBFGS,
        iterations=3,
        regularize=lambda m: penalty(m) * scale * scale,
    )
    found = np.asarray(result.model)
    if scale == 1.0:
        test_a_penalty_is_in_units_of_the_misfit.found = found  # type: ignore[attr-defined]
    expected = getattr(test_a_penalty_is_in_units_of_the_misfit, "found", found)
    np.testing.assert_allclose(found, expected, rtol=1e-3)  # misfits in float32, of line searches


def test_penalties():
    m = plane()
    area = 50.0
    dx, dz = np.diff(m, axis=0) / 10.0, np.diff(m, axis=1) / 5.0
    expected = 0.5 * 2.0 * area * (np.sum(dx**2) + np.sum(dz**2))
    np.testing.assert_allclose(ox.regularizers.tikhonov(PLANE, 2.0)(m), expected, rtol=1e-5)
    step = jnp.where(jnp.arange(12)[:, None] < 6, 1500.0, 2500.0) * jnp.ones(PLANE.shape)
    tv = ox.regularizers.tv(PLANE, 1.0, rounding=1e-3)(step)
    np.testing.assert_allclose(tv, 1000.0 * 9 * 5.0, rtol=1e-3)  # a jump times its length
    away = ox.regularizers.reference(PLANE, 2.0, m)(m + 3.0)
    np.testing.assert_allclose(away, 0.5 * 2.0 * 9.0 * area * m.size, rtol=1e-5)
    both = 2.0 * ox.regularizers.tikhonov(PLANE, 1.0) + ox.regularizers.tv(PLANE, 1.0)
    assert both({"vp": m, "rho": m}) == pytest.approx(2.0 * float(both(m)), rel=1e-5)
    flat = jnp.full(PLANE.shape, 2000.0)
    slope = jax.grad(ox.regularizers.tv(PLANE, 1.0))(flat)
    assert not np.any(slope)
    for name in ("tikhonov", "tv"):
        with pytest.raises(ValueError, match="weight"):
            getattr(ox.regularizers, name)(PLANE, -1.0)


# ---------------------------------------------------------------- projections


def test_a_box_is_what_bounds_are():
    lower, upper = 1.2, 1.7
    for optimizer in (optax.adam(0.05), LBFGS):
        within = invert(optimizer=optimizer, iterations=5, bounds=(lower, upper))
        box = invert(optimizer=optimizer, iterations=5, project=ox.projections.box(lower, upper))
        np.testing.assert_array_equal(within.model, box.model)


@pytest.mark.parametrize("optimizer", [optax.adam(0.05), LBFGS], ids=["adam", "lbfgs"])
def test_all_models_are_in_the_set(optimizer: Any):
    """Also those that a line search tries, and the initial one."""
    seen = []

    def watched(model: Any, shots: Any = None) -> Any:
        jax.debug.callback(lambda m: seen.append(np.array(m)), model)
        return toy(model, shots)

    project = ox.projections.monotone(LINE) | ox.projections.box(1.1, 1.9)
    start = START - 0.05 * jnp.arange(N, dtype=jnp.float32)
    result = fwi(
        watched, OBSERVED, start, progress=False, optimizer=optimizer, iterations=6, project=project
    )
    jax.effects_barrier()
    assert len(seen) >= 6
    for model in [*seen, np.asarray(result.model)]:
        assert np.all(np.diff(model) >= -1e-6)
        assert model.min() >= 1.1 - 1e-6
        assert model.max() <= 1.9 + 1e-6


def test_monotone_models_are_isotonic_regressions():
    m = plane()
    found = ox.projections.monotone(PLANE)(m)
    for column, expected in zip(found, np.asarray(m, np.float64), strict=True):
        np.testing.assert_allclose(column, isotonic_regression(expected).x, rtol=1e-5)
    np.testing.assert_array_equal(ox.projections.monotone(PLANE)(found), found)
    pushed = jax.grad(lambda m: jnp.vdot(ox.projections.monotone(PLANE)(m), m * 0.0 + 3.0))(found)
    np.testing.assert_allclose(pushed, 3.0)


def test_smooth_models_have_no_short_waves(x64: None):
    project = ox.projections.smooth(PLANE, 45.0)
    m = plane().astype(jnp.float64)
    found = project(m)
    np.testing.assert_allclose(project(found), found, rtol=1e-12)  # a projection
    # An orthogonal one: what it takes away is perpendicular to what it leaves.
    assert abs(jnp.vdot(m - found, found)) < 1e-9 * jnp.vdot(m, m)
    np.testing.assert_allclose(found.mean(), m.mean(), rtol=1e-12)
    x = np.arange(12)[:, None] + 0.5
    long = jnp.asarray(np.cos(np.pi * 5 * x / 12) * np.ones(PLANE.shape))  # of 48 m
    short = jnp.asarray(np.cos(np.pi * 6 * x / 12) * np.ones(PLANE.shape))  # of 40 m
    np.testing.assert_allclose(project(long), long, atol=1e-12)
    np.testing.assert_allclose(project(short), 0.0, atol=1e-12)


def test_models_in_a_ball_of_total_variation():
    project, radius = ox.projections.tv_ball(PLANE, 20_000.0), 20_000.0
    variation = ox.regularizers.tv(PLANE, 1.0, rounding=1e-6)
    m = plane()
    assert variation(m) > 2.0 * radius
    found = project(m)
    # Halvings of the multiplier and steps of the descent end within a part in a thousand.
    assert variation(found) == pytest.approx(radius, rel=2e-3)
    np.testing.assert_allclose(found.mean(), m.mean(), rtol=1e-5)
    inside = jnp.full(PLANE.shape, 2000.0) + 1e-3 * plane(1)
    assert variation(inside) < radius
    np.testing.assert_array_equal(project(inside), inside)
    # The nearest: no other model of the ball on the way to some of its members is nearer.
    distance = float(jnp.linalg.norm(found - m))
    for seed in range(5):
        other = project(plane(seed + 2))
        for t in (0.01, 0.1, 0.5):
            assert float(jnp.linalg.norm((1 - t) * found + t * other - m)) > distance * (1 - 1e-4)


# ---------------------------------------------------------------- when to stop


def test_criteria_to_stop():
    history = invert(optimizer=SGD, iterations=30).history
    by_misfit = invert(optimizer=SGD, iterations=30, stop=ox.Stop(misfit=history.misfit[4] * 1.001))
    assert len(by_misfit.history) == 5
    assert "the misfit has fallen to" in str(by_misfit.stopped)
    by_count = invert(optimizer=SGD, iterations=30, stop=ox.Stop(evaluations=7))
    assert len(by_count.history) == 7
    assert "7 misfits have been evaluated" in str(by_count.stopped)
    ratio = 1.0 - history.misfit[3] / history.misfit[2]
    relative = invert(optimizer=SGD, iterations=30, stop=ox.Stop(relative=float(ratio) * 1.0001))
    assert len(relative.history) <= 4
    assert "less than" in str(relative.stopped)
    assert invert(optimizer=SGD, iterations=2, stop=ox.Stop(seconds=1e-9)).history.misfit.size == 1
    assert invert(optimizer=SGD, iterations=2).stopped is None
    with pytest.raises(ValueError, match="relative=0"):
        ox.Stop(relative=0.0)


def test_a_stalled_line_search_stops():
    """The absolute value has a corner at the minimum, where no step is small enough."""
    result = fwi(
        toy, toy(START), START + 1e-7, progress=False, optimizer=LBFGS, iterations=40,
        misfit=ox.misfits.l1,
    )  # fmt: skip
    assert "found no better model" in str(result.stopped)
    assert len(result.history) < 10


def test_a_stopped_inversion_stays_stopped(tmp_path: Any):
    how: dict[str, Any] = {"optimizer": SGD, "iterations": 9, "stop": ox.Stop(evaluations=4)}
    first = invert(save=tmp_path / "state.npz", **how)
    again = invert(save=tmp_path / "state.npz", **how)
    assert len(again.history) == 4
    assert again.stopped == first.stopped
    np.testing.assert_array_equal(again.model, first.model)
    more = invert(save=tmp_path / "state.npz", **(how | {"stop": None}))
    assert len(more.history) == 9
    np.testing.assert_array_equal(more.model, invert(optimizer=SGD, iterations=9).model)


@pytest.mark.parametrize("name", ["regularize", "project"])
def test_other_penalties_and_projections_are_another_problem(tmp_path: Any, name: str):
    made = {
        "regularize": lambda w: ox.regularizers.tikhonov(LINE, w),
        "project": lambda w: ox.projections.box(0.5, 3.0 + w),
    }[name]
    how: dict[str, Any] = {"optimizer": SGD, "save": tmp_path / "state.npz"}
    invert(iterations=1, **{name: made(1.0)}, **how)
    assert len(invert(iterations=2, **{name: made(1.0)}, **how).history) == 2
    with pytest.raises(ValueError, match=f"differs in {name}"):
        invert(iterations=3, **{name: made(2.0)}, **how)


# ---------------------------------------------------------------- the record


def test_evaluations_are_counted():
    solved = []

    def counting(model: Any, shots: Any = None) -> Any:
        jax.debug.callback(lambda: solved.append(1))
        return toy(model, shots)

    history = fwi(counting, OBSERVED, START, progress=False, optimizer=LBFGS, iterations=5).history
    jax.effects_barrier()
    # Beside the searches: the gradient that scales the first step, and where the first one starts.
    assert len(solved) == history.evaluations.sum() + 2
    assert np.all(invert(optimizer=SGD, iterations=3).history.evaluations == 1)


def test_iterations_are_logged(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="ondax.inversion"):
        invert(optimizer=SGD, iterations=3, stop=ox.Stop(evaluations=2))
    lines = [r.getMessage() for r in caplog.records]
    assert lines[0].startswith("fwi: iteration 1, misfit ")
    assert len(lines) == 3
    assert "fwi stopped after 2 of 3 iterations: 2 misfits have been evaluated" in lines[-1]


def test_results_and_states_are_read_without_their_script(tmp_path: Any):
    def two(model: Any, shots: Any = None) -> Any:
        return toy(model["a"] * model["b"], shots)

    start = {"a": START, "b": jnp.ones(())}
    result = fwi(
        two, OBSERVED, start, progress=False, optimizer=SGD, iterations=3,
        save=tmp_path / "state.npz", stop=ox.Stop(evaluations=3),
    )  # fmt: skip
    result.save(tmp_path / "result.npz")
    for name in ("state.npz", "result.npz"):
        found = ox.FWIResult.load(tmp_path / name)
        assert sorted(found.model) == ["a", "b"]
        np.testing.assert_array_equal(found.model["a"], result.model["a"])
        np.testing.assert_array_equal(found.history.misfit, result.history.misfit)
    assert ox.FWIResult.load(tmp_path / "result.npz").stopped == result.stopped
    plain = invert(optimizer=SGD, iterations=1)
    plain.save(tmp_path / "plain.npz")
    np.testing.assert_array_equal(ox.FWIResult.load(tmp_path / "plain.npz").model, plain.model)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"broken\.npz"):
        ox.FWIResult.load(tmp_path / "broken.npz")
    np.savez(tmp_path / "other.npz", x=1)
    with pytest.raises(ValueError, match=r"other\.npz"):
        ox.FWIResult.load(tmp_path / "other.npz")


def waves() -> tuple[ox.Propagator, jax.Array, jax.Array]:
    """A propagator of two shots, traces, and a model to start from."""
    grid = ox.Grid((31, 26), 10.0)
    spread = ox.line((20.0, 30.0), (280.0, 30.0), 9)
    wavelet = ox.ricker(15.0, 130, 0.002)
    of = ox.Survey([[60.0, 20.0], [220.0, 20.0]], spread, wavelet, 0.002)
    F = ox.Propagator(ox.Acoustic(4), grid, of, 2600.0, boundary=ox.CPML(6))
    start = jnp.full(grid.shape, 2000.0)
    return F, F(start.at[10:20, 10:16].add(100.0)), start


def test_super_shots():
    """All shots at once, with polarities that a resumed run draws again; their misfit is that of
    encoded traces."""
    F, observed, start = waves()
    how: dict[str, Any] = {"optimizer": optax.sgd(1e3), "progress": False, "encodings": 1}
    result = ox.fwi(F, observed, start, iterations=3, seed=1, **how)
    codes = jnp.asarray(polarities(0, 1, 2, 1))
    of_traces = jnp.einsum("es,srt->ert", codes, F(start) - observed)
    np.testing.assert_allclose(
        result.history.misfit[0], 0.5 * jnp.sum(of_traces**2), rtol=1e-4
    )  # by linearity in the wavelet
    other = ox.fwi(F, observed, start, iterations=3, seed=2, **how)
    assert np.any(other.model != result.model)
    with pytest.raises(ValueError, match="encodings=1 does not go with batch_size"):
        ox.fwi(F, observed, start, iterations=1, batch_size=1, **how)
    with pytest.raises(ValueError, match=r"no ox\.Propagator"):
        invert(optimizer=SGD, iterations=1, encodings=1)
    with pytest.raises(ValueError, match="L-BFGS or a line search"):
        ox.fwi(F, observed, start, iterations=1, **(how | {"optimizer": LBFGS}))
    moved = F.with_survey(F.survey.replace(receivers=F.survey.receivers + [[[0.0, 0.0]], [[5, 0]]]))
    with pytest.raises(ValueError, match="receivers at different places"):
        ox.fwi(moved, observed, start, iterations=1, **how)


def test_waves_in_a_regularised_inversion():
    """All of it on waves, in minibatches and with L-BFGS."""
    F, observed, start = waves()
    grid = F.grid
    how: dict[str, Any] = {
        "regularize": ox.regularizers.tv(grid, 1e-9),
        "project": ox.projections.smooth(grid, 30.0) | ox.projections.box(1800.0, 2300.0),
        "iterations": 3,
        "progress": False,
    }
    step = optax.lbfgs(optax.piecewise_constant_schedule(300.0, {1: 1 / 300.0}))
    for optimizer, more in ((step, {}), (optax.adam(5.0), {"batch_size": 1})):
        result = fwi(F, observed, start, optimizer=optimizer, **how, **more)
        assert result.history.misfit[-1] < result.history.misfit[0]
        assert np.all(result.history.regularization >= 0.0)
        assert result.history.regularization[-1] > 0.0


@pytest.mark.slow
def test_gauss_newton(tmp_path: Any):
    """Few steps fit what gradients do not; saved and resumed to the same bits."""
    F, observed, start = waves()
    how: dict[str, Any] = {"progress": False, "optimizer": ox.GaussNewton(iterations=6)}
    result = ox.fwi(F, observed, start, iterations=3, **how)
    assert result.history.misfit[-1] < 0.05 * result.history.misfit[0]
    ox.fwi(F, observed, start, iterations=2, save=tmp_path / "state.npz", **how)
    again = ox.fwi(F, observed, start, iterations=3, save=tmp_path / "state.npz", **how)
    np.testing.assert_array_equal(again.model, result.model)
    for refused, why in (
        ({"batch_size": 1}, "batch_size"),
        ({"encodings": 1}, "encodings"),
        ({"precondition": lambda g: g}, "precondition"),
        ({"mask": 0.5}, "values other than 0 and 1"),
        ({"misfit": ox.misfits.l1}, "without second derivatives"),
    ):
        with pytest.raises(ValueError, match=why):
            ox.fwi(F, observed, start, iterations=1, **how, **refused)


@pytest.mark.slow
def test_the_gauss_newton_hessian(x64: None):
    """Of least squares with weights, bounds, a penalty and a change of variables: against the
    Jacobian, product by product."""
    F, observed, start = waves()
    F = F.with_survey(F.survey.replace(trace_weights=np.linspace(0.0, 1.0, 18).reshape(2, 9)))
    m, v = (
        jnp.asarray(x, jnp.float64)
        for x in (start, np.random.default_rng(0).normal(size=start.shape))
    )
    observed = jnp.asarray(observed, jnp.float64)
    penalty = ox.regularizers.tikhonov(F.grid, 1e-3)
    s = 1e3 / m
    aim = Aim(
        F, None, ox.misfits.least_squares, penalty, 0, n_shots=2, parameters=lambda s: 1e3 / s
    )
    w = jnp.asarray(F.survey.trace_weights)
    setting = Setting(observed, (s * 0.5, s * 2.0), None, jnp.ones(()), w)
    found = gauss_newton(aim, setting, None, s, v)
    J = F.jacobian(m)
    slope = -1e3 / s**2
    weighted = w[..., None].astype(jnp.float64) ** 2
    expected = (
        slope * J.T.mv(weighted * J.mv(slope * v)) + jax.jvp(jax.grad(penalty), (s,), (v,))[1]
    )
    assert float(jnp.linalg.norm(found - expected)) < 1e-10 * float(jnp.linalg.norm(expected))


def test_gauss_newton_steps_stay_in_a_box():
    """Whether it is given as bounds or as a projection, and where the start lies on it."""
    F, observed, start = waves()
    low, high = float(np.min(start)), float(np.max(start)) + 40.0
    how: dict[str, Any] = {"iterations": 2, "progress": False}
    how["optimizer"] = ox.GaussNewton(iterations=3)
    by_bounds = ox.fwi(F, observed, start, bounds=(low, high), **how)
    box = ox.projections.box(low, high)
    by_projection = ox.fwi(F, observed, start, project=box, **how)
    np.testing.assert_array_equal(by_bounds.model, by_projection.model)
    assert low <= float(np.min(by_bounds.model)) <= float(np.max(by_bounds.model)) <= high
    assert by_bounds.history.misfit[-1] < by_bounds.history.misfit[0]


def test_derivatives_of_a_clipped_model():
    m = jnp.array([1.0, 2.0, 2.5, 3.0, 4.0])
    low, high = jnp.full(5, 2.0), jnp.full(5, 3.0)
    ones = jnp.ones(5)
    clipped, pull = jax.vjp(lambda m: bounded(m, low, high), m)
    np.testing.assert_array_equal(clipped, [2.0, 2.0, 2.5, 3.0, 3.0])
    # A step goes against the gradient.
    np.testing.assert_array_equal(pull(ones)[0], [0.0, 0.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(pull(-ones)[0], [-1.0, -1.0, -1.0, 0.0, 0.0])
    with derivatives_of_clipping():
        moved, back = (
            jax.jvp(lambda m: bounded(m, low, high), (m,), (ones,))[1],
            jax.vjp(lambda m: bounded(m, low, high), m)[1](ones)[0],
        )
    np.testing.assert_array_equal(moved, [0.0, 1.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(back, moved)
    many = jax.vmap(jax.grad(lambda m, up: jnp.sum(bounded(m, low, up))), (None, 0))
    np.testing.assert_array_equal(
        many(m, jnp.stack([high, high + 2.0])), [[0.0, 0.0, 1.0, 1.0, 1.0], [0.0, 0, 1, 1, 1]]
    )


def test_a_search_that_finds_nothing_forgets_and_tries_again(tmp_path: Any):
    """Where bounds come into play, what L-BFGS knows of the curvature leads nowhere."""
    upper = np.linspace(1.6, 1.9, N, dtype=np.float32)
    run = partial(invert, optimizer=LBFGS, bounds=(1.2, upper))
    result = run(iterations=60)
    steps = np.asarray(result.history.model_change)
    size = np.sqrt(np.mean(np.asarray(result.model) ** 2))
    still = np.flatnonzero(steps <= STALLED * np.finfo(np.float32).eps * size)
    assert len(steps) < 60
    assert len(steps) - 1 in still  # the last two found nothing
    assert len(steps) - 2 in still
    assert "found no better model" in str(result.stopped)
    first = int(still[0])
    assert first < len(steps) - 2  # but one before them went on to a better model
    assert result.history.misfit[-1] < result.history.misfit[first]

    def misfit(m: Any) -> Any:
        return 0.5 * jnp.sum((toy(jnp.clip(m, 1.2, upper)) - OBSERVED) ** 2)

    found = jnp.asarray(result.model)
    slope = jax.grad(lambda m: 0.5 * jnp.sum((toy(m) - OBSERVED) ** 2))(found)
    inside = (found > 1.2) & (found < upper)
    at_start = jax.grad(misfit)(START)
    # Values of size one resolve 1e-7 of a misfit, so that its slope is found to the root of that.
    assert float(jnp.max(jnp.abs(jnp.where(inside, slope, 0.0)))) < 1e-3 * float(
        jnp.max(jnp.abs(at_start))
    )
    path = tmp_path / "state.npz"
    run(iterations=first + 1, save=path)  # saved where it has forgotten
    np.testing.assert_array_equal(run(iterations=60, save=path).model, result.model)


def test_gauss_newton_far_from_the_answer():
    """By velocities in m/s, curvatures are small in absolute numbers."""
    F, _, start = waves()
    observed = F(start.at[:, 10:].add(250.0))
    result = ox.fwi(
        F,
        observed,
        start,
        optimizer=ox.GaussNewton(),
        iterations=3,
        progress=False,
        bounds=(1e3, 2600.0),
    )
    assert result.history.misfit[-1] < 0.3 * result.history.misfit[0]
    np.testing.assert_array_equal(result.history.evaluations, 2)


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_conjugate_gradients_whatever_the_size(scale: float):
    rng = np.random.default_rng(0)
    diagonal = jnp.asarray(rng.uniform(1.0, 2.0, 5000), jnp.float32) * scale
    right = jnp.asarray(rng.normal(size=5000), jnp.float32)
    found = conjugate_gradients(lambda x: diagonal * x, right, 30, 1e-6)
    np.testing.assert_allclose(found, right / diagonal, rtol=1e-4)


def test_conjugate_gradients_end_where_nothing_curves_upwards():
    right = jnp.array([1.0, 1.0, 0.1])
    found = conjugate_gradients(lambda x: jnp.array([1.0, 2.0, -30.0]) * x, right, 30, 1e-6)
    assert np.all(np.isfinite(found))
    assert float(jnp.vdot(found, right)) > 0.0  # downhill
    nothing = conjugate_gradients(lambda x: -x, right, 30, 1e-6)
    np.testing.assert_array_equal(nothing, 0.0)


def test_parts_of_a_model_have_sizes_of_their_own():
    """A large part that is held must not make steps of a small one seem nothing."""
    start = {"vp": jnp.full(N, 3e6), "epsilon": 1e-2 * START}

    def F(model: Any, shots: Any = None) -> Any:
        return toy(1e2 * model["epsilon"] + 0.0 * model["vp"], shots)

    first = optax.piecewise_constant_schedule(1e-2, {1: 1e2})
    result = fwi(
        F,
        OBSERVED,
        start,
        optimizer=optax.lbfgs(first),
        iterations=30,
        mask={"vp": 0.0, "epsilon": 1.0},
        progress=False,
    )
    assert result.history.misfit[-1] < 1e-3 * result.history.misfit[0]
    still = stands_still(start, start | {"epsilon": start["epsilon"] * (1.0 + 1e-5)})
    assert not bool(still)
    assert bool(stands_still(start, start | {"vp": start["vp"] * (1.0 + 1e-7)}))


def test_a_rejected_step_is_no_change_of_the_misfit():
    misfits, ones = np.array([2.0, 1.0, 1.0]), np.ones(3)
    stop = ox.Stop(relative=1e-3)
    assert "changed from 1 to 1" in str(stop.reason(misfits, ones, ones))
    assert stop.reason(misfits, ones, ones, moved=False) is None


def test_a_model_that_cannot_be_run_says_what_keeps_models_inside():
    F, observed, start = waves()
    with pytest.raises(ValueError, match="speed") as caught:
        ox.fwi(F, observed, start, optimizer=optax.sgd(1e12), iterations=2, progress=False)
    assert "keep models within bounds" in "".join(caught.value.__notes__)
