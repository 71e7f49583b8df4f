"""A misfit summed over shots, a few of them at a time: the same numbers as of all at once, in less
memory."""

import copy
import functools
import pickle
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import difference, norm
from slow import slow_but

import ondax as ox
from ondax.face.grouped import group_size
from ondax.histories.store import STORE, HistoryStore

SHOTS = 7
GRID = ox.Grid((41, 31), 10.0)
SURVEY = ox.Survey(
    ox.line((20.0, 30.0), (380.0, 30.0), SHOTS),
    ox.line((0.0, 20.0), (400.0, 20.0), 21),
    ox.ricker(15.0, 150, 0.003),
    0.003,
)
# In float32, programs of several shots and of one round otherwise, and so do sums: each of two
# results is off by up to 1e-5.
ROUNDING = 2e-5


def propagator(threads: int = 2, **options: Any) -> ox.Propagator:
    settings = ox.Settings(threads=threads)
    return ox.Propagator(ox.Acoustic(4), GRID, SURVEY, 2600.0, settings=settings, **options)


def true_model() -> jax.Array:
    return jnp.full(GRID.shape, 2000.0).at[15:25, 12:20].set(2300.0)


@pytest.fixture(scope="module")
def observed() -> np.ndarray:
    return np.asarray(propagator()(true_model()))


START = jnp.full(GRID.shape, 2000.0)


class Fetched:
    """Traces that are read shot by shot."""

    def __init__(self, traces: np.ndarray) -> None:
        self.traces, self.asked = traces, []

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        self.asked.append(np.asarray(numbers).tolist())
        return self.traces[numbers]


MISFITS = {
    "least squares": ox.misfits.least_squares,
    "huber": functools.partial(ox.misfits.huber, threshold=1e-3),
    "of the user": ox.misfits.per_shot(lambda p, o: 0.3 * jnp.sum((p - o) ** 2)),
}


@pytest.mark.parametrize("threads", slow_but([1, 2, 3], 2))
@pytest.mark.parametrize("misfit", MISFITS)
def test_value_and_gradient(misfit: str, threads: int, observed: np.ndarray):
    """Groups of 1, 2 and 4, of 7 shots."""
    F, of = propagator(threads), MISFITS[misfit]
    expected, slope = jax.value_and_grad(lambda m: of(F(m), jnp.asarray(observed)))(START)
    objective = ox.Objective(F, observed, of)
    for transform in (lambda f: f, jax.jit):
        value, gradient = transform(jax.value_and_grad(objective))(START)
        assert abs(value - expected) < ROUNDING * expected
        assert difference(gradient, slope) < ROUNDING
    assert abs(objective(START) - expected) < ROUNDING * expected
    assert norm(slope) > 0.0


def test_some_shots_and_traced_numbers(observed: np.ndarray):
    F = propagator()
    objective = ox.Objective(F, observed)
    some = np.array([5, 0, 3])
    expected, slope = jax.value_and_grad(
        lambda m: ox.misfits.least_squares(F(m, shots=some), jnp.asarray(observed[some]))
    )(START)
    at = jax.jit(jax.value_and_grad(lambda m, shots: objective(m, shots=shots)))
    value, gradient = at(START, some)
    assert abs(value - expected) < ROUNDING * expected
    assert difference(gradient, slope) < ROUNDING


def test_traces_are_fetched_a_few_shots_at_a_time(observed: np.ndarray):
    F, source = propagator(), Fetched(observed)
    lazily, at_once = ox.Objective(F, source), ox.Objective(F, observed)
    assert difference(jax.grad(lazily)(START), jax.grad(at_once)(START)) < ROUNDING
    assert sorted(n for numbers in source.asked for n in numbers) == list(range(SHOTS))
    assert max(map(len, source.asked)) == 2
    with pytest.raises(ValueError, match=r"observed\[\[0, 1\]\] has shape \(2, 20, 150\)"):
        ox.Objective(F, Fetched(observed[:, 1:]))(START)


@pytest.mark.kernels
def test_no_more_histories_than_run_side_by_side(
    observed: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    ox.release_memory()
    F = propagator(threads=2)
    held: list[int] = []
    original = HistoryStore.keep

    def keep(self: HistoryStore, key: Any, history: Any) -> None:
        original(self, key, history)
        held.append(len(self))

    monkeypatch.setattr(HistoryStore, "keep", keep)
    jax.block_until_ready(jax.grad(ox.Objective(F, observed))(START))
    assert max(held) == 2
    held.clear()
    loss = lambda m: ox.misfits.least_squares(F(m), jnp.asarray(observed))  # noqa: E731
    jax.block_until_ready(jax.grad(loss)(START))
    assert max(held) >= SHOTS
    assert len(STORE) >= SHOTS


@pytest.mark.kernels
def test_a_value_alone_keeps_nothing(observed: np.ndarray, asked: list):
    jax.block_until_ready(ox.Objective(propagator(), observed)(START))
    assert {call[:2] for call in asked} == {("forward", ())}


def test_batches_of_models(observed: np.ndarray):
    objective = ox.Objective(propagator(), observed)
    models = jnp.stack([START, true_model()])
    both = jax.vmap(jax.grad(objective))(models)
    for model, gradient in zip(models, both, strict=True):
        alone = jax.grad(objective)(model)
        assert norm(gradient - alone) <= ROUNDING * max(norm(alone), norm(both))


def test_it_is_a_pytree(observed: np.ndarray):
    """Passed as an argument, its traces are no constants of the program; copies are alike."""
    objective = ox.Objective(propagator(), observed)
    value = eqx.filter_jit(lambda f, m: f(m))(objective, START)
    for other in (pickle.loads(pickle.dumps(objective)), copy.deepcopy(objective)):
        assert float(other(START)) == float(objective(START))
    assert abs(value - objective(START)) <= ROUNDING * value


@pytest.mark.kernels
def test_inversions_use_it(observed: np.ndarray, asked: list):
    """Groups of two shots, of which the gradient is asked for before the next are modelled."""
    ox.fwi(propagator(), observed, START, optimizer=optax.adam(10.0), iterations=1, progress=False)
    names = [name for name, *_ in asked]
    assert names.count("adjoint") == 4
    assert names[-4:] == ["forward", "adjoint", "forward", "adjoint"]


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 5, 6, 7, 8, 12, 24, 64])
def test_groups(threads: int):
    """Powers of two, of which hardly any thread is idle."""
    size = group_size(10_000, threads)
    assert size & (size - 1) == 0
    rounds = -(-size // threads)
    assert size / (rounds * threads) >= 0.75
    assert size <= 3 * threads
    assert group_size(1, threads) == 1


def test_refusals(observed: np.ndarray):
    F = propagator()
    with pytest.raises(
        ValueError, match="does not say that it is a sum over shots: if it is, mark"
    ):
        ox.Objective(F, observed, lambda p, o: jnp.mean((p - o) ** 2))
    with pytest.raises(ValueError, match=r"observed has shape \(7, 21, 149\), expected"):
        ox.Objective(F, observed[..., 1:])
    extended = ox.Survey(ox.Extended(2), [[200.0, 30.0]], ox.ricker(15.0, 150, 0.003), 0.003)
    with pytest.raises(ValueError, match="sources are extended"):
        ox.Objective(F.with_survey(extended), observed)
    least_squares = ox.misfits.least_squares

    @functools.wraps(least_squares)
    def normalised(p: Any, o: Any) -> Any:  # takes over the mark, but is no such sum
        return least_squares(p / jnp.max(p), o)

    with pytest.raises(ValueError, match="does not say that it is a sum over shots"):
        ox.Objective(F, observed, normalised)
    marked = ox.misfits.per_shot(
        functools.partial(lambda p, o, k: k * jnp.sum((p - o) ** 2), k=2.0)
    )
    for of in (jax.jit(least_squares), marked, functools.partial(least_squares)):
        ox.Objective(F, observed, of)
    broken = ox.Objective(F, observed)
    with pytest.raises(ValueError, match="max_velocity"):
        jax.grad(broken)(2.0 * START)
