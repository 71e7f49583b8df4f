"""The unrolled LS-RTM example: a shortened training on a tiny problem, and the weights that come
with it."""

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PARTS = ("classical", "evaluation", "metrics", "models", "network", "problem", "training")


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield SimpleNamespace(
            **{name: importlib.import_module(f"unrolled.{name}") for name in PARTS}
        )
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def tiny(example):
    # module-wide fixtures come before the one that sets it
    os.environ.setdefault("ONDAX_CFLAGS", "-O1")
    return example.problem.make_problem(
        example.problem.Layout(
            shape=(32, 24),
            spacing=25.0,
            nt=140,
            n_sources=4,
            encodings=8,
            max_shift=0.1,
            absorbing=8,
        )
    )


@pytest.fixture(scope="module")
def plan(example):
    return example.training.Plan(steps=16, batch=2, rate=1e-2, seed=3, save_every=4)


def begin(example):
    return example.network.Unrolled(jax.random.key(0), iterations=2, channels=8, memory=1)


def same_bits(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture(scope="module")
def trained(example, tiny, plan):
    return example.training.train(tiny, begin(example), plan)


@pytest.mark.slow
def test_training_lowers_the_loss(example, tiny, plan, trained):
    """On the models of the first step, before and after; the losses of the steps are on different
    models."""
    vp0, x, shots, keys = example.training.batch(tiny, plan, 0)
    loss = eqx.filter_jit(example.training.loss)
    before, after = (loss(n, tiny, vp0, x, shots, keys) for n in (begin(example), trained.network))
    # float32, other order of sums
    assert float(before) == pytest.approx(float(trained.losses[0]), rel=1e-4)
    assert float(after) < 0.9 * float(before)  # each step is on two other models


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(example, tiny, plan, trained):
    again = example.training.train(tiny, begin(example), plan)
    assert same_bits(again, trained)


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(example, tiny, plan, trained, tmp_path):
    path = tmp_path / "state.eqx"
    stopped = example.training.train(tiny, begin(example), plan, path, stop_after=5)
    assert int(stopped.step) == 5
    assert not same_bits(stopped.network, trained.network)
    told = []
    resumed = example.training.train(tiny, begin(example), plan, path, tell=told.append)
    assert told[0].startswith("going on after step 5")
    assert same_bits(resumed, trained)
    assert list(tmp_path.iterdir()) == [path]  # no temporary file is left


@pytest.mark.slow
def test_the_state_of_another_run_is_refused(example, tiny, plan, trained, tmp_path):
    path = tmp_path / "state.eqx"
    example.training.save_state(path, trained, tiny, plan)
    other = example.training.Plan(steps=16, batch=2, rate=1e-2, seed=4, save_every=4)
    with pytest.raises(ValueError, match="saved by another run.*Delete the file to start afresh"):
        example.training.train(tiny, begin(example), other, path)


def test_an_untrained_network_is_gradient_descent(example, tiny):
    case = jax.tree.map(lambda a: a[0], example.evaluation.unseen(tiny, 1))
    network = begin(example)

    @eqx.filter_jit
    def both(network, problem, case):
        x = jnp.zeros_like(case.vp0)
        for block in network.blocks:
            x = problem.mask * (
                x - block.step * problem.gradient(case.vp0, case.shot, x, case.data)
            )
        return network(problem, case.vp0, case.shot, case.data), x

    found, x = both(network, tiny, case)
    np.testing.assert_allclose(found, x, atol=1e-5 * float(jnp.abs(x).max()))  # float32


def test_conjugate_gradients_fit_the_data_better_than_descent(example, tiny):
    """Both minimise the misfit over nested Krylov spaces; conjugate gradients reach its minimum
    there."""
    case = jax.tree.map(lambda a: a[0], example.evaluation.unseen(tiny, 1))
    misfits = {}
    for method in (example.classical.descent, example.classical.conjugate):
        iterates = eqx.filter_jit(method)(tiny, case.vp0, case.shot, case.data, 4)
        predicted = jax.jit(jax.vmap(lambda x: tiny.born(case.vp0, case.shot, x)))(iterates)
        misfits[method] = np.linalg.norm(predicted - case.data, axis=(1, 2)) / np.linalg.norm(
            case.data
        )
    descent, conjugate = misfits.values()
    assert 1.0 > descent[0] > descent[1] > descent[2] > descent[3]
    assert descent[0] == pytest.approx(conjugate[0], rel=1e-4)  # the first steps are the same
    assert np.all(conjugate[1:] < descent[1:])


def test_metrics(example):
    true = jnp.asarray(np.random.default_rng(0).standard_normal((40, 30)), jnp.float32)
    noise = jnp.asarray(np.random.default_rng(1).standard_normal((40, 30)), jnp.float32)
    noise = 0.1 * noise * jnp.linalg.norm(true) / jnp.linalg.norm(noise)
    metrics = example.metrics
    assert float(metrics.relative_error(true + noise, true)) == pytest.approx(0.1, rel=1e-4)
    assert float(metrics.snr(true + noise, true)) == pytest.approx(20.0, abs=1e-3)
    assert float(metrics.ssim(true, true)) == pytest.approx(1.0, abs=1e-5)
    # Windows of constants a and b have no variance: (2 a b + c1) / (a^2 + b^2 + c1), c1 from the
    # range of values, which one corner point sets to 1; the windows that see it are 1 of 100 and
    # each differs by less than 1.
    ones = jnp.ones((20, 20)).at[0, 0].set(2.0)
    c1 = 0.01**2
    assert float(metrics.ssim(jnp.full((20, 20), 1.5), ones)) == pytest.approx(
        (3 + c1) / (3.25 + c1), abs=0.01
    )
    np.testing.assert_allclose(metrics.best_scaled(3.0 * true, true), true, rtol=1e-5)


def test_training_and_evaluation_share_no_part_of_the_section(example, monkeypatch):
    reached = {}
    bilinear = example.models.bilinear
    for purpose in ("training", "evaluation"):
        columns = []
        monkeypatch.setattr(
            example.models,
            "bilinear",
            lambda v, x, z, seen=columns: seen.append((x.min(), x.max())) or bilinear(v, x, z),
        )
        for seed in range(30):
            example.models.overthrust_window(np.random.default_rng(seed), (96, 64), 25.0, purpose)
        reached[purpose] = np.array(columns)
    # one point further for interpolation
    assert reached["training"].max() + 1 < reached["evaluation"].min()
    assert reached["evaluation"].max() <= 400


@pytest.mark.slow
def test_shipped_weights_beat_least_squares_migration(example):
    """On one unseen model of either kind; the figures of the table are from many more."""
    problem = example.problem.make_problem(example.problem.Layout())
    path = EXAMPLES / "unrolled" / "weights.eqx"
    assert path.stat().st_size < 1_000_000
    network = example.training.load_weights(path, example.network.Unrolled(jax.random.key(0)))
    outcome = example.evaluation.compare(
        problem, network, example.evaluation.unseen(problem, 2), long=5
    )
    evaluation = example.evaluation
    # dB; over 24 models they are at least 0.83 and 0.99
    assert np.all(evaluation.gain(outcome, evaluation.UNROLLED, evaluation.CONJUGATE) > 0.5)
    assert np.all(evaluation.gain(outcome, evaluation.UNROLLED, evaluation.DESCENT) > 0.5)
    assert np.all(evaluation.gain(outcome, evaluation.CONJUGATE, evaluation.RTM) > 0.5)
