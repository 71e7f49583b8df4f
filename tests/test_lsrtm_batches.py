"""Gradient steps of least-squares migration: on all shots, on minibatches, on simultaneous
shots."""

import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from migration import N_SHOTS, background, data, migrate, propagator, reflectivity
from problems import difference, norm
from slow import slow_but

import ondax as ox
from ondax.inversion.encoding import (
    encoded_propagator,
    encoded_traces,
    encoded_wavelets,
    polarities,
)

pre = ox.preconditioners


SLOWER = optax.adam(optax.cosine_decay_schedule(0.01, 60))


def test_gradient_steps_on_all_shots():
    F = propagator()
    model = background(F)
    observed = data(F, model)
    J = F.jacobian(model)
    result = migrate(F, observed, model, iterations=1, solver=optax.sgd(1e-3))
    assert difference(result.image, 1e-3 * J.T.mv(observed)) < 1e-5
    np.testing.assert_allclose(result.history.data_residual, [1.0], rtol=1e-6)
    np.testing.assert_allclose(result.history.normal_residual, [norm(J.T.mv(observed))], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_batches_add_up(weighted: bool, x64: None):
    """Three batches of one shot, each scaled by three, have the mean of the whole gradient; so have
    batches of two."""
    F = propagator()
    model = background(F, "float64")
    observed = data(F, model)
    left = (
        pre.mute_direct(F.survey, 4000.0, 0.05, delay=0.05, dtype="float64") if weighted else None
    )
    A = F.jacobian(model) if left is None else left @ F.jacobian(model)
    whole = A.T.mv(observed if left is None else left.mv(observed))
    for batch_size in (1, 2):
        steps = []
        for skip in range(
            3
        ):  # the gradient at x = 0 of the batch of each iteration: a rate that is zero but once
            rate = lambda i, skip=skip: jnp.where(i == skip, 1.0, 0.0)  # noqa: E731
            solver = optax.sgd(rate)
            steps.append(
                migrate(
                    F,
                    observed,
                    model,
                    iterations=skip + 1,
                    solver=solver,
                    left=left,
                    batch_size=batch_size,
                ).image
            )
        assert difference(sum(steps) / 3, whole) < 1e-12
        assert difference(steps[0], whole) > 0.1


def test_batches_converge():
    F = propagator()
    model = background(F)
    observed = data(F, model)
    right = pre.illumination(F, model, smoothing=20.0)
    result = migrate(F, observed, model, iterations=60, solver=SLOWER, right=right, batch_size=2)
    assert result.history.data_residual[-5:].max() < 0.2
    born = F.jacobian(model).mv(result.image)
    assert norm(born - observed) < 0.2 * norm(observed)


KINDS = {
    "plain": {},
    "weights": {"source": {"source": [[1.0], [0.5], [-2.0]]}},
}


@pytest.mark.parametrize("name", slow_but(KINDS, "weights"))
def test_supershots_are_sums_of_shots(name: str, x64: None):
    """Born modelling is linear in the sources: that of a super-shot is the sum of Born traces with
    the code's signs."""
    kinds = KINDS[name]
    F = propagator.__wrapped__(**kinds)
    model = background(F, "float64")
    E = encoded_propagator(F, 2)
    codes = jnp.asarray(polarities(0, 2, N_SHOTS, seed=1), jnp.float64)
    J = E.jacobian(model, wavelet=encoded_wavelets(codes, jnp.asarray(F.survey.wavelet)))
    v = reflectivity(model, seed=3)
    assert difference(J.mv(v), encoded_traces(codes, F.jacobian(model).mv(v))) < 1e-12
    assert E.dt == F.dt


@pytest.mark.slow
def test_supershots_of_several_components(x64: None):
    grid = ox.Grid(shape=(12, 10), spacing=10.0)
    survey = ox.Survey(
        [[[30.0, 30.0], [50.0, 35.0]], [[80.0, 30.0], [60.0, 50.0]]],
        ox.line((10.0, 60.0), (90.0, 60.0), 3),
        np.random.default_rng(0).normal(size=(2, 2, 2, 40)),
        0.001,
        source=("force_x", "force_z"),
        receiver=("velocity_x", "velocity_z"),
    )
    F = ox.Propagator(
        ox.Elastic(space_order=2),
        grid,
        survey,
        max_velocity=2500.0,
        boundary=ox.Sponge(width=4),
        min_points_per_wavelength=0.0,
    )
    model = {
        "vp": jnp.full((12, 10), 2000.0),
        "vs": jnp.full((12, 10), 1000.0),
        "rho": jnp.full((12, 10), 1500.0),
    }
    E = encoded_propagator(F, 1)
    codes = jnp.array([[1.0, -1.0]])
    traces = E(model, wavelet=encoded_wavelets(codes, jnp.asarray(survey.wavelet)))
    assert difference(traces, encoded_traces(codes, F(model))) < 1e-12


@pytest.mark.slow
def test_encoded_gradients_are_unbiased(x64: None, monkeypatch: pytest.MonkeyPatch):
    """Over all sign codes of three shots, the cross-talk cancels exactly."""
    F = propagator()
    model = background(F, "float64")
    observed = data(F, model)
    whole = F.jacobian(model).T.mv(observed)
    images = []
    for signs in itertools.product([-1.0, 1.0], repeat=N_SHOTS):
        monkeypatch.setattr(
            "ondax.inversion.linear_solvers.polarities",
            lambda *a, signs=signs: np.array([signs], np.float32),
        )
        images.append(
            migrate(F, observed, model, iterations=1, solver=optax.sgd(1.0), encodings=1).image
        )
    assert difference(sum(images) / len(images), whole) < 1e-12
    assert difference(images[0], whole) > 0.1


def test_polarities():
    codes = [polarities(i, 2, 500, seed=7) for i in range(2)]
    assert set(np.unique(codes)) == {-1.0, 1.0}
    assert abs(np.mean(codes)) < 5 / np.sqrt(2000)
    assert not np.array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[1], polarities(1, 2, 500, seed=7))
    assert not np.array_equal(codes[1], polarities(1, 2, 500, seed=8))


def test_an_encoded_iteration_costs_three_runs_a_supershot(kernel_runs: list):
    F = propagator()
    model = background(F)
    counts = []
    migrate(
        F,
        data(F, model),
        model,
        iterations=4,
        solver=optax.adam(1.0),
        encodings=2,
        callback=lambda *a: counts.append(len(kernel_runs)),
    )
    # less where polarities come back whose wavefields are still at hand
    assert max(np.diff(counts)) == 3 * 2


def test_encodings_converge():
    F = propagator()
    model = background(F)
    observed = data(F, model)
    right = pre.illumination(F, model, smoothing=20.0)
    left = pre.band_pass(F.survey, 0.0, 100.0, shots=2)
    result = migrate(
        F,
        observed,
        model,
        iterations=60,
        solver=SLOWER,
        left=left,
        right=right,
        encodings=2,
        seed=1,
    )
    assert norm(F.jacobian(model).mv(result.image) - observed) < 0.2 * norm(observed)
