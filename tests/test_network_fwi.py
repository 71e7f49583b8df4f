"""The network example, at a size that takes seconds: the loop reaches the weights through the
propagator."""

import importlib.util
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import optax
import pytest

import ondax as ox
from ondax.datasets import overthrust

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    path = Path(__file__).parents[1] / "examples" / "network_fwi.py"
    spec = importlib.util.spec_from_file_location("network_fwi", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def problem(example):
    """Two shots over a corner of the model, 3 km wide and 2 km deep."""
    model = overthrust(decimate=4)
    with jax.numpy_dtype_promotion("standard"):  # the example is written for JAX as users have it
        yield example.setup(model.vp[:31, :21], model.spacing, 2)


def test_gradients_reach_every_leaf_of_the_network(example, problem):
    F, observed, start = problem
    velocity = example.network_velocity(start)
    network = example.Siren(jax.random.key(0), width=8)
    gradient = jax.jit(
        jax.grad(lambda network: ox.misfits.least_squares(F(velocity(network)), observed))
    )(network)
    leaves = jax.tree.leaves(gradient)
    # weights and biases of three layers and the output
    assert len(leaves) == len(jax.tree.leaves(network)) == 2 * 4
    assert all(
        bool(jnp.isfinite(leaf).all()) and float(jnp.abs(leaf).max()) > 0.0 for leaf in leaves
    )


def test_training_lowers_the_misfit_and_counts_wave_solves(example, problem):
    F, observed, start = problem
    velocity = example.network_velocity(start)
    network = example.Siren(jax.random.key(0), width=8)
    vp, (solves, _) = example.invert(
        F,
        observed,
        velocity,
        network,
        optax.adam(3e-3),
        iterations=10,
        batch_size=1,
        progress=False,
    )

    def misfit(vp):
        return float(ox.misfits.least_squares(F(jnp.asarray(vp)), observed))

    assert misfit(vp) < 0.9 * misfit(velocity(network))
    assert solves == 10 * 1 * 2  # iterations, shots, forward and adjoint
