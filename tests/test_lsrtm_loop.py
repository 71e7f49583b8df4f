"""The loop of least-squares migration: saving, resuming, interrupting, reporting and refusing."""

import os
import signal
from functools import partial

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from migration import NT, background, data, migrate, propagator
from slow import slow_but

import ondax as ox
from ondax.inversion import Interrupted

pre = ox.preconditioners


# ---------------------------------------------------------------- the loop

ADAM = optax.adam(1.0)
RUNS = {
    "cgls": ("density", {"damping": 1e-9}),
    "batches": ("density", {"solver": ADAM, "batch_size": 2}),
    "encodings": ("acoustic", {"solver": ADAM, "encodings": 1}),
    "lbfgs": ("acoustic", {"solver": optax.lbfgs()}),
}


@pytest.mark.parametrize("name", slow_but(RUNS, "cgls"))
def test_resuming_gives_the_same_bits(tmp_path, name: str):
    equation, setting = RUNS[name]
    F = propagator(equation)
    model = background(F)
    run = partial(
        migrate,
        F,
        data(F, model),
        model,
        right=pre.depth_scaling(F.grid, 0.5, like=model),
        **setting,
    )
    path = tmp_path / "state.npz"
    straight = run(iterations=6)
    run(iterations=2, save=path)
    resumed = run(iterations=6, save=path)
    for a, b in zip(jax.tree.leaves(straight.image), jax.tree.leaves(resumed.image), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a).max() > 0.0
    np.testing.assert_array_equal(resumed.history.data_residual, straight.history.data_residual)
    np.testing.assert_array_equal(resumed.history.normal_residual, straight.history.normal_residual)
    assert os.listdir(tmp_path) == ["state.npz"]


def test_states_of_other_problems_are_refused(tmp_path):
    F = propagator()
    model = background(F)
    path, observed = tmp_path / "s.npz", data(F, model)
    right = pre.depth_scaling(F.grid, 1.0)
    run = partial(migrate, iterations=3, save=path)
    run(F, observed, model, right=right)
    for change, part in [
        (dict(right=pre.depth_scaling(F.grid, 1.1)), "right"),
        (dict(right=right, left=pre.band_pass(F.survey, 0.0, 50.0)), "left"),
        (dict(right=right, damping=1.0), "damping"),
        (dict(right=right, solver=optax.sgd(1.0)), "solver"),
    ]:
        with pytest.raises(
            ValueError, match=f"belongs to another inversion, which differs in {part}"
        ):
            run(F, observed, model, **change)
    with pytest.raises(ValueError, match="differs in observed traces, background"):
        run(F, 2 * observed, model + 1.0, right=right)
    with pytest.raises(ValueError, match="holds 3 iterations, more than iterations=2"):
        run(F, observed, model, right=right, iterations=2)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    F = propagator()
    model = background(F)
    path = tmp_path / "s.npz"
    run = partial(migrate, F, data(F, model), model, iterations=5)

    def press(iteration, image, history):
        if iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(
        Interrupted, match=r"stopped after 2 of 5 iterations; .*s\.npz holds the state"
    ) as caught:
        run(save=path, save_every=10, callback=press)
    assert len(caught.value.result.history) == 2
    assert caught.value.result.image.shape == model.shape
    np.testing.assert_array_equal(run(save=path).image, run().image)


def test_callback_and_progress(capsys):
    F = propagator()
    model = background(F)
    seen = []
    ox.lsrtm(
        F,
        data(F, model),
        model,
        iterations=2,
        callback=lambda i, x, h: seen.append((i, x.shape, len(h))),
    )
    assert seen == [(1, (8, 8), 1), (2, (8, 8), 2)]
    assert "residual=" in (shown := capsys.readouterr().err)
    assert "2/2" in shown
    seen.clear()
    migrate(
        F,
        data(F, model),
        model,
        iterations=2,
        solver=lx.LSMR(0.0, 0.0, max_steps=9),
        callback=lambda *a: seen.append(a),
    )
    assert [i for i, *_ in seen] == [2]
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_lineax_solvers_report(x64: None):
    """Too few steps are reported, not raised; with as many as it takes, the tolerance counts."""
    F = propagator()
    model = background(F, "float64")
    observed = data(F, model)
    few = migrate(F, observed, model, iterations=3, solver=lx.LSMR(1e-12, 1e-12))
    assert few.report["num_steps"] == 3
    assert "maximum number of solver steps" in few.report["result"]
    assert len(few.history) == 1
    assert 0.0 < few.history.data_residual[0] < 1.0
    enough = migrate(F, observed, model, iterations=300, solver=lx.LSMR(1e-3, 1e-3))
    assert enough.report["num_steps"] < 300
    assert enough.report["result"] == "successful"
    assert migrate(F, observed, model, iterations=1).report == {}


def test_no_iterations():
    F = propagator()
    result = migrate(F, data(F, background(F)), background(F), iterations=0)
    assert not np.any(result.image)
    assert len(result.history) == 0


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(iterations=-1), "iterations=-1"),
        (dict(save_every=0), "save_every=0"),
        (dict(damping=-1.0), "damping=-1.0 must be a number of at least 0"),
        (dict(solver="lsqr"), "solver='lsqr': give 'cgls'"),
        (dict(batch_size=2), "batch_size=2 is for optax optimisers: cgls needs the same data"),
        (
            dict(encodings=2, solver=lx.LSMR(1e-3, 1e-3)),
            "encodings=2 is for optax optimisers: LSMR",
        ),
        (dict(batch_size=4, solver=ADAM), "batch_size=4 must be a whole number from 1 to 3"),
        (dict(encodings=0, solver=ADAM), "encodings=0"),
        (dict(encodings=1, batch_size=1, solver=ADAM), "give one of the two"),
        (dict(batch_size=2, solver=optax.lbfgs()), "do not go with L-BFGS or a line search"),
        (dict(encodings=2, solver=optax.lbfgs()), "do not go with L-BFGS or a line search"),
        (
            dict(save="s.npz", solver=lx.LSMR(1e-3, 1e-3)),
            "does not go with LSMR, whose loop is closed",
        ),
        (dict(save="/no/such/folder/s.npz"), "does not exist"),
        (dict(left=lx.DiagonalLinearOperator(jnp.ones((2, 5, NT), jnp.float32))), "left acts on"),
        (
            dict(
                encodings=2,
                solver=ADAM,
                left=lx.DiagonalLinearOperator(jnp.ones((3, 5, NT), jnp.float32)),
            ),
            "traces of super-shots are",
        ),
        (dict(right=lx.DiagonalLinearOperator(jnp.ones((8, 7), jnp.float32))), "right gives"),
        (
            dict(
                batch_size=2,
                solver=ADAM,
                left=lx.FunctionLinearOperator(
                    lambda d: d[::-1], jax.ShapeDtypeStruct((3, 5, NT), jnp.float32)
                ),
            ),
            "left mixes shots",
        ),
        (
            dict(
                batch_size=2,
                solver=ADAM,
                left=lx.FunctionLinearOperator(
                    lambda d: d.at[1].add(d[2]), jax.ShapeDtypeStruct((3, 5, NT), jnp.float32)
                ),
            ),
            "left mixes shots",
        ),
    ],
)
def test_bad_arguments(change, message: str):
    F = propagator()
    with pytest.raises(ValueError, match=message):
        migrate(
            F, jnp.ones((3, 5, NT), jnp.float32), background(F), **(dict(iterations=1) | change)
        )


def test_bad_data():
    F = propagator()
    model, observed = background(F), data(F, background(F))
    run = partial(migrate, iterations=1)
    with pytest.raises(
        ValueError,
        match=r"observed has shape \(2, 5, 71\), but the propagator predicts \(3, 5, 71\)",
    ):
        run(F, observed[:2], model)
    with pytest.raises(ValueError, match="there is nothing to fit"):
        run(F, 0.0 * observed, model)
    with pytest.raises(ValueError, match="slowest wave speed is 2 m/s|km/s"):
        run(F, observed, model / 1000.0)
    G = propagator(moving=True)
    with pytest.raises(
        ValueError, match=r"encodings=1 .* receivers at different places.*use batch_size"
    ):
        run(G, observed, model, solver=ADAM, encodings=1)


def test_divergence_is_noticed():
    F = propagator()
    model = background(F)
    with pytest.raises(FloatingPointError, match=r"is (inf|nan) in iteration \d+") as caught:
        migrate(F, data(F, model), model, iterations=200, solver=optax.sgd(1e20))
    assert "optax" in str(caught.value)
