"""The inversion loop: against a small algebraic stand-in for a propagator, and on waves."""

import os
import signal
import subprocess
import sys
import textwrap
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from slow import slow, slow_but

import ondax as ox
from ondax.inversion import Interrupted, fwi
from ondax.inversion.batches import shot_batch
from ondax.inversion.fingerprint import fingerprint

N_SHOTS, N_RECEIVERS, NT, N = 6, 4, 5, 8
_random = np.random.default_rng(0)
MATRIX = jnp.asarray(_random.normal(size=(N_SHOTS, N_RECEIVERS, NT, N)), jnp.float32)
TRUE = jnp.asarray(_random.uniform(1.0, 2.0, size=N), jnp.float32)
START = jnp.full((N,), 1.5, jnp.float32)
LBFGS = optax.lbfgs()
SGD = optax.sgd(1e-3)  # compiles in a moment, for where the optimiser does not matter


def toy(model, shots=None):
    """Traces of six shots, mildly nonlinear in the model."""
    matrix = MATRIX if shots is None else MATRIX[shots]
    return matrix @ model + 0.1 * (matrix @ model) ** 2


OBSERVED = toy(TRUE)
invert = partial(fwi, toy, OBSERVED, START, progress=False)


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD,
        optax.adam(0.05),
        LBFGS,
        optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20, store_grad=True)),
        optax.polyak_sgd(),
    ],
    ids=["sgd", "adam", "lbfgs", "backtracking", "polyak"],
)
def test_reduces_the_misfit(optimizer):
    result = invert(optimizer=optimizer, iterations=60)
    assert result.history.misfit[-1] < 0.1 * result.history.misfit[0]
    assert len(result.history) == 60 or "found no better model" in str(result.stopped)
    assert result.model.shape == START.shape


def test_lbfgs_finds_the_model():
    result = invert(optimizer=LBFGS, iterations=25)
    np.testing.assert_allclose(result.model, TRUE, atol=1e-3)


def test_lbfgs_is_compiled_once_and_reuses_the_search():
    traced, solved = [], []

    def counting(model, shots=None):
        traced.append(1)
        jax.debug.callback(lambda: solved.append(1))
        return toy(model, shots)

    fwi(counting, OBSERVED, START, optimizer=LBFGS, iterations=2, progress=False)
    once = len(traced)
    traced.clear(), solved.clear()
    fwi(counting, OBSERVED, START, optimizer=LBFGS, iterations=8, progress=False)
    jax.effects_barrier()
    assert len(traced) == once
    assert len(solved) < 20  # without reuse, every iteration costs one more than its search


def test_history_describes_the_first_step():
    result = invert(optimizer=SGD, iterations=1)
    value, gradient = jax.value_and_grad(lambda m: 0.5 * jnp.sum((toy(m) - OBSERVED) ** 2))(START)
    np.testing.assert_allclose(result.history.misfit, [value], rtol=1e-6)
    np.testing.assert_allclose(result.history.gradient_norm, [jnp.linalg.norm(gradient)], rtol=1e-6)
    change = jnp.sqrt(jnp.mean((result.model - START) ** 2))
    np.testing.assert_allclose(result.history.model_change, [change], rtol=1e-6)
    np.testing.assert_allclose(result.model, START - 1e-3 * gradient, rtol=1e-6)


def test_a_model_may_be_a_tree_with_other_things_in_it():
    def two(model, shots=None):
        assert model["note"] == "kept"
        return toy(model["a"] * model["b"], shots)

    start = {"a": START, "b": np.ones((), np.float32), "note": "kept", "count": 3}
    result = fwi(
        two,
        OBSERVED,
        start,
        optimizer=LBFGS,
        iterations=20,
        progress=False,
        bounds=({"a": 0.5, "b": 0.9, "note": None, "count": None}, 3.0),
        mask={"a": 1.0, "b": 0.0, "note": None, "count": None},
    )
    assert result.model["note"] == "kept"
    assert result.model["count"] == 3
    assert float(result.model["b"]) == 1.0
    np.testing.assert_allclose(result.model["a"], TRUE, atol=1e-2)


@pytest.mark.parametrize("optimizer", [optax.adam(0.05), LBFGS], ids=["adam", "lbfgs"])
def test_models_stay_within_bounds_even_while_searching(optimizer):
    lower, upper, seen = 1.2, np.linspace(1.6, 1.9, N, dtype=np.float32), []

    def watched(model, shots=None):
        jax.debug.callback(lambda m: seen.append(np.array(m)), model)
        return toy(model, shots)

    result = fwi(
        watched,
        OBSERVED,
        START,
        optimizer=optimizer,
        iterations=60,
        bounds=(lower, upper),
        progress=False,
    )
    jax.effects_barrier()
    assert all((np.float32(lower) <= m).all() and (m <= upper).all() for m in seen)

    # At the solution, the gradient vanishes inside the bounds and points out of them on the bounds.
    gradient = jax.grad(lambda m: 0.5 * jnp.sum((toy(m) - OBSERVED) ** 2))(result.model)
    low, high = result.model <= lower, result.model >= upper
    assert low.any() or high.any()
    scale = jnp.abs(jax.grad(lambda m: 0.5 * jnp.sum((toy(m) - OBSERVED) ** 2))(START)).max()
    assert jnp.all(
        jnp.where(
            low, gradient >= 0, jnp.where(high, gradient <= 0, jnp.abs(gradient) < 0.02 * scale)
        )
    )


@pytest.mark.parametrize("optimizer", [optax.adam(0.05), LBFGS], ids=["adam", "lbfgs"])
def test_mask_holds_values_fixed(optimizer):
    mask = jnp.arange(N) % 2
    result = invert(optimizer=optimizer, iterations=10, mask=mask)
    changed = result.model != START
    np.testing.assert_array_equal(changed, mask == 1)


MOVERS = {
    "weight decay": {"optimizer": optax.adamw(0.05, weight_decay=1e-2)},
    "noise": {
        "optimizer": optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.adam(0.05))
    },
    "smoothing": {
        "optimizer": optax.adam(0.05),
        "precondition": lambda g: g + jnp.roll(g, 1) + jnp.roll(g, -1),
    },
}


@pytest.mark.parametrize("setting", MOVERS.values(), ids=MOVERS)
def test_mask_holds_what_has_no_gradient_but_is_moved(setting):
    mask = jnp.arange(N) % 2
    changed = invert(iterations=3, mask=mask, **setting).model != START
    np.testing.assert_array_equal(changed, mask == 1)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("limit", [1.0, 30.0, 1e3])
def test_clipping_is_in_units_of_the_data(size, limit):
    """A threshold of Adam's gradients means what it does in a loop by hand, whatever the size of
    the misfit."""
    optimizer = optax.chain(optax.clip_by_global_norm(limit), optax.adam(0.05, eps=0.0))

    def misfit(predicted, observed):
        return 0.5 * size * jnp.sum((predicted - observed) ** 2)

    model, state = START, optimizer.init(START)
    for _ in range(4):
        gradient = jax.grad(lambda m: misfit(toy(m), OBSERVED))(model)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, state = optimizer.update(gradient, state, model)
        model = optax.apply_updates(model, updates)
    found = invert(optimizer=optimizer, iterations=4, misfit=misfit).model
    np.testing.assert_allclose(found, model, rtol=1e-5)


def test_mask_and_preconditioner_multiply_the_gradient():
    plain = invert(optimizer=SGD, iterations=1).model - START
    mask = jnp.linspace(0.0, 1.0, N)
    shaped = (
        invert(optimizer=SGD, iterations=1, mask=mask, precondition=lambda g: 2.0 * g).model - START
    )
    np.testing.assert_allclose(shaped, 2.0 * mask * plain, atol=1e-6)


def test_any_function_is_a_misfit():
    result = invert(
        optimizer=optax.adam(0.05), iterations=3, misfit=lambda p, o: jnp.sum(jnp.abs(p - o))
    )
    np.testing.assert_allclose(
        result.history.misfit[0], np.abs(toy(START) - OBSERVED).sum(), rtol=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 6])
def test_batches_use_every_shot_equally_often(batch_size):
    rows = [shot_batch(i, N_SHOTS, batch_size, seed=3) for i in range(N_SHOTS)]
    assert {row.shape for row in rows} == {(batch_size,)}
    stream = np.concatenate(rows).reshape(-1, N_SHOTS)
    np.testing.assert_array_equal(
        np.sort(stream, axis=1), np.tile(np.arange(N_SHOTS), (batch_size, 1))
    )
    assert not np.array_equal(
        np.concatenate(rows),
        np.concatenate([shot_batch(i, N_SHOTS, batch_size, 4) for i in range(N_SHOTS)]),
    )


def test_batches_compile_once_and_converge():
    traced = []

    def counting(model, shots=None):
        traced.append(shots)
        return toy(model, shots)

    result = fwi(
        counting,
        OBSERVED,
        START,
        optimizer=optax.adam(0.05),
        iterations=100,
        batch_size=4,
        progress=False,
    )
    assert len(traced) == 2  # once for the shape of the traces, once for the step
    np.testing.assert_allclose(result.model, TRUE, atol=0.1)


def test_callback_sees_every_iteration():
    seen = []
    invert(
        optimizer=SGD,
        iterations=3,
        callback=lambda i, model, history: seen.append((i, model.shape, len(history))),
    )
    assert seen == [(1, (N,), 1), (2, (N,), 2), (3, (N,), 3)]


def test_progress_shows_the_misfit(capsys):
    fwi(toy, OBSERVED, START, optimizer=SGD, iterations=2)
    assert "2/2" in (shown := capsys.readouterr().err)
    assert "misfit=" in shown
    invert(optimizer=SGD, iterations=2)
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------- saving

OPTIMIZERS = {
    "adam": {"optimizer": optax.adam(0.05, mu_dtype=jnp.bfloat16), "batch_size": 4},
    "lbfgs": {"optimizer": LBFGS},
    "noisy": {"optimizer": optax.noisy_sgd(1e-3, key=jax.random.key(0))},
}


@pytest.mark.parametrize("name", slow_but(OPTIMIZERS, "adam", "noisy"))
def test_resuming_gives_the_same_bits(tmp_path, name):
    setting = OPTIMIZERS[name]
    path = tmp_path / "state.npz"
    straight = invert(iterations=9, **setting)
    invert(iterations=4, save=path, **setting)
    resumed = invert(iterations=9, save=path, **setting)
    np.testing.assert_array_equal(resumed.model, straight.model)
    np.testing.assert_array_equal(resumed.history.misfit, straight.history.misfit)
    again = invert(iterations=9, save=path, **setting)
    np.testing.assert_array_equal(again.model, straight.model)
    assert os.listdir(tmp_path) == ["state.npz"]


def test_the_state_is_readable_without_ondax(tmp_path):
    result = invert(optimizer=optax.adam(0.05), iterations=3, save=tmp_path / "s")
    with np.load(tmp_path / "s") as file:
        np.testing.assert_array_equal(file["model"], result.model)
        assert file["history"].shape == (3, 6)


def test_save_every(tmp_path):
    path, lengths = tmp_path / "s.npz", []

    def look(iteration, model, history):
        lengths.append(len(np.load(path)["history"]) if path.exists() else 0)

    invert(optimizer=SGD, iterations=5, save=path, save_every=2, callback=look)
    assert lengths == [0, 2, 2, 4, 5]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"optimizer": optax.adam(0.01)}, "optimizer"),
        ({"misfit": lambda p, o: jnp.sum((p - o) ** 4)}, "misfit"),
        ({"batch_size": 2}, "batches"),
        ({"batch_size": 3, "seed": 1}, "batches"),
        ({"bounds": (0.0, 5.0)}, "bounds"),
        ({"mask": 1.0}, "mask"),
        ({"precondition": lambda g: g}, "precondition"),
    ],
)
def test_a_state_of_another_problem_is_refused(tmp_path, change, part):
    setting = {"optimizer": optax.adam(0.05), "save": tmp_path / "s.npz", "batch_size": 3}
    invert(iterations=2, **setting)
    with pytest.raises(ValueError, match=f"belongs to another inversion, which differs in {part}"):
        invert(iterations=4, **(setting | change))
    with pytest.raises(ValueError, match="differs in observed traces, initial model"):
        fwi(toy, 2 * OBSERVED, START + 0.1, iterations=4, progress=False, **setting)
    with pytest.raises(ValueError, match="holds 2 iterations"):
        invert(iterations=1, **setting)


def test_a_file_that_is_no_state_is_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    for name in ("text", "other.npz"):
        with pytest.raises(ValueError, match=r"is not a state saved by ox\.fwi"):
            invert(optimizer=SGD, iterations=1, save=tmp_path / name)


def test_fingerprints_know_contents():
    def maker(a):
        return lambda x: a * x

    assert fingerprint(maker(1.0)) == fingerprint(maker(1.0)) != fingerprint(maker(2.0))
    assert fingerprint({"a": 1, "b": np.ones(2)}) == fingerprint({"b": np.ones(2), "a": 1})
    assert fingerprint((1, (2, 3))) != fingerprint(((1, 2), 3))
    assert fingerprint(np.zeros(3)) != fingerprint(np.zeros(3, np.float32))
    assert fingerprint(partial(maker, a=1)) != fingerprint(partial(maker, a=2))
    assert fingerprint(jax.jit(maker(1.0))) != fingerprint(jax.jit(maker(2.0)))
    assert fingerprint(object()) == fingerprint(object())


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    path = tmp_path / "s.npz"
    before = signal.getsignal(signal.SIGINT)

    def press(iteration, model, history):
        if iteration == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(
        Interrupted, match=r"stopped after 3 of 6 iterations; .*s\.npz holds the state"
    ) as caught:
        invert(optimizer=SGD, iterations=6, save=path, save_every=10, callback=press)
    assert len(caught.value.result.history) == 3
    assert signal.getsignal(signal.SIGINT) is before
    resumed = invert(optimizer=SGD, iterations=6, save=path, save_every=10)
    np.testing.assert_array_equal(resumed.model, invert(optimizer=SGD, iterations=6).model)


def test_a_second_ctrl_c_stops_at_once():
    def press(iteration, model, history):
        # in this thread: two that another thread gets may become one
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("not reached")

    with pytest.raises(KeyboardInterrupt) as caught:
        invert(optimizer=SGD, iterations=6, callback=press)
    assert not isinstance(caught.value, Interrupted)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": -1}, "iterations=-1 must be a whole number at least 0"),
        ({"save_every": 0}, "save_every=0"),
        ({"batch_size": 7}, "batch_size=7 must be a whole number from 1 to 6"),
        ({"bounds": (2.0, 1.0)}, "lower bound must be below"),
        ({"bounds": (1.6, 2.0)}, "the initial model, 1.5 to 1.5, leaves its bounds, 1.6 to 2"),
        ({"bounds": (np.zeros(3), 2.0)}, "lower bound does not fit the model"),
        ({"mask": {"vp": 1.0}}, "mask does not fit the model"),
        ({"optimizer": LBFGS, "batch_size": 3}, "does not go with L-BFGS or a line search"),
        ({"optimizer": optax.scale_by_lbfgs(), "batch_size": 3}, "does not go with L-BFGS"),
        (
            {"optimizer": LBFGS, "precondition": lambda g: g},
            "precondition does not go with a line search",
        ),
        ({"optimizer": LBFGS, "mask": 0.5}, "values other than 0 and 1"),
        ({"save": "/no/such/folder/s.npz"}, "does not exist"),
        ({"save": "."}, "is a folder"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        invert(**({"optimizer": optax.adam(0.1), "iterations": 1} | change))


@pytest.mark.parametrize(
    "change", [{"iterations": 1.5}, {"bounds": 3.0}, {"bounds": (1.0, 2.0, 3.0)}]
)
def test_bad_types(change):
    with pytest.raises(
        (ValueError, TypeError)
    ):  # which of them depends on whether annotations are being checked
        invert(**({"optimizer": optax.adam(0.1), "iterations": 1} | change))


def test_bad_data_and_models():
    run = partial(fwi, toy, optimizer=SGD, iterations=1, progress=False)
    with pytest.raises(
        ValueError, match=r"observed has shape \(2, 4, 5\), but the propagator predicts \(6, 4, 5\)"
    ):
        run(OBSERVED[:2], START)
    with pytest.raises(ValueError, match="observed holds NaN"):
        run(OBSERVED.at[0, 0, 0].set(jnp.nan), START)
    with pytest.raises(ValueError, match="no floating-point array"):
        run(OBSERVED, {"name": "vp"})


def test_a_misfit_that_is_not_finite_names_the_iteration(tmp_path):
    def explode(predicted, observed):
        misfit = 0.5 * jnp.sum((predicted - observed) ** 2)
        return jnp.where(misfit < 20.0, jnp.nan, misfit)

    path = tmp_path / "s.npz"
    with pytest.raises(FloatingPointError, match=r"misfit is nan in iteration (\d+)") as caught:
        invert(optimizer=optax.adam(0.05), iterations=100, misfit=explode, save=path)
    saved = np.load(path)
    assert f"iteration {len(saved['history']) + 1}:" in str(caught.value)
    assert np.isfinite(saved["model"]).all()


def test_an_error_in_the_propagator_names_the_iteration():
    def fail(model):
        def raise_(m):
            raise RuntimeError("out of luck")

        return jax.pure_callback(
            raise_,
            jax.ShapeDtypeStruct(OBSERVED.shape, OBSERVED.dtype),
            jax.lax.stop_gradient(model),
        )

    with pytest.raises(Exception, match="out of luck") as caught:
        fwi(fail, OBSERVED, START, optimizer=optax.adam(0.1), iterations=1, progress=False)
    assert any("iteration 1" in note for note in caught.value.__notes__)


# ---------------------------------------------------------------- on waves

SCRIPT = textwrap.dedent(
    """
    import os, signal, sys
    import numpy as np, optax
    import ondax as ox

    name, folder = sys.argv[1:]
    grid = ox.Grid(shape=(41, 31), spacing=10.0)
    survey = ox.Survey(
        ox.line((50.0, 20.0), (350.0, 20.0), 4),
        ox.line((0.0, 30.0), (400.0, 30.0), 21),
        ox.ricker(15.0, nt=150, dt=0.002),
        0.002,
    )
    F = ox.Propagator(ox.Acoustic(), grid, survey, max_velocity=2600.0, boundary=ox.Sponge(40))
    true = np.full(grid.shape, 2000.0, np.float32)
    true[15:25, 12:20] = 2300.0
    observed = np.asarray(F(true))
    lbfgs = optax.lbfgs(optax.piecewise_constant_schedule(300.0, {1: 1 / 300}))
    optimizer, batch = {"adam": (optax.adam(20.0), 2), "lbfgs": (lbfgs, None)}[name]

    def run(**setting):
        return ox.fwi(F, observed, np.full(grid.shape, 2000.0, np.float32), optimizer=optimizer,
                      batch_size=batch, iterations=5, bounds=(1500.0, 2500.0), progress=False,
                      **setting)

    def kill(iteration, model, history):
        if iteration == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    if os.path.exists(folder + "/state.npz"):
        result = run(save=folder + "/state.npz")
        np.savez(folder + "/resumed.npz", model=result.model, misfit=result.history.misfit)
    else:
        result = run()
        np.savez(folder + "/straight.npz", model=result.model, misfit=result.history.misfit)
        run(save=folder + "/state.npz", callback=kill)
    """
)


@pytest.mark.parametrize("name", ["adam", slow("lbfgs")])
def test_a_killed_inversion_goes_on_to_the_same_bits(tmp_path, name):
    def run():
        command = [sys.executable, "-c", SCRIPT, name, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    killed = run()
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with np.load(tmp_path / "state.npz") as state:
        assert len(state["history"]) == 2
    resumed = run()
    assert resumed.returncode == 0, resumed.stderr
    expected, got = np.load(tmp_path / "straight.npz"), np.load(tmp_path / "resumed.npz")
    np.testing.assert_array_equal(got["model"], expected["model"])
    np.testing.assert_array_equal(got["misfit"], expected["misfit"])
    assert got["misfit"][-1] < 0.9 * got["misfit"][0]


def test_fingerprints_know_propagators():
    def propagator(frequency=10.0, width=20):
        survey = ox.Survey(
            [[50.0, 50.0]], [[60.0, 50.0]], ox.ricker(frequency, nt=200, dt=0.002), 0.002
        )
        grid, boundary = ox.Grid(shape=(21, 21), spacing=10.0), ox.Sponge(width=width)
        return ox.Propagator(ox.Acoustic(), grid, survey, max_velocity=2000.0, boundary=boundary)

    prints = [
        fingerprint(F) for F in (propagator(), propagator(), propagator(11.0), propagator(width=21))
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
