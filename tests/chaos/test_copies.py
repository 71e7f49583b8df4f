"""Pickles, copies and replacements of everything that users hold: they run, and give the same
bits."""

import copy
import multiprocessing
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ondax as ox

GRID, SHOTS, NT, DT = ox.Grid((31, 26), 10.0), 2, 150, 0.002
VP = jnp.full(GRID.shape, 2000.0).at[:, 13:].set(2300.0)
SURVEY = ox.Survey(
    ox.line((50.0, 40.0), (250.0, 40.0), SHOTS),
    ox.line((0.0, 60.0), (300.0, 60.0), 7),
    ox.ricker(12.0, NT, DT),
    DT,
)
WAYS = {
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def propagator(survey: ox.Survey = SURVEY) -> ox.Propagator:
    return ox.Propagator(ox.Acoustic(4), GRID, survey, 2600.0, boundary=ox.Sponge(8))


def traces(F: ox.Propagator) -> np.ndarray:
    return np.asarray(F(VP))


EXTENDED = SURVEY.replace(sources=ox.Extended(SHOTS))
WEIGHTS = jax.random.normal(jax.random.key(1), (SHOTS, *GRID.shape))
HELD = {
    "grid": (lambda: GRID, lambda g: np.array([*g.shape, *g.spacing, *g.origin])),
    "survey": (lambda: SURVEY, lambda s: traces(propagator(s))),
    "extended survey": (lambda: EXTENDED, lambda s: np.asarray(propagator(s)(VP, weights=WEIGHTS))),
    "propagator": (propagator, traces),
    "jacobian": (lambda: propagator().jacobian(VP), lambda J: np.asarray(J.mv(VP - 2000.0))),
    "its transpose": (
        lambda: propagator().jacobian(VP).T,
        lambda T: np.asarray(T.mv(propagator()(VP))),
    ),
    "modelling layer": (
        lambda: ox.nn.Modelling(propagator()),
        lambda layer: np.asarray(layer(VP[None])),
    ),
    "layer that holds a model": (
        lambda: ox.nn.ExtendedModelling(propagator(EXTENDED), VP),
        lambda layer: np.asarray(layer(WEIGHTS)),
    ),
    "trainable layer": (
        lambda: ox.nn.ExtendedModelling(propagator(EXTENDED), VP, trainable=True),
        lambda layer: np.asarray(layer(WEIGHTS)),
    ),
    "network": (
        lambda: eqx.nn.Sequential(
            [eqx.nn.Lambda(lambda_of_the_module), ox.nn.Modelling(propagator())]
        ),
        lambda net: np.asarray(net(VP[None])),
    ),
}


def lambda_of_the_module(x: jax.Array) -> jax.Array:
    return 1.01 * x


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("held", HELD)
def test_copies_give_the_same_bits(held: str, way: str, used: bool):
    make, result = HELD[held]
    original = make()
    before = result(original) if used else None
    copied = WAYS[way](original)
    assert type(copied) is type(original)
    found = result(copied)
    np.testing.assert_array_equal(found, result(original))
    if before is not None:
        np.testing.assert_array_equal(found, before)


@pytest.mark.parametrize("way", WAYS)
def test_results_and_interrupts(way: str):
    F = propagator()
    result = ox.fwi(
        F, traces(F), VP - 50.0, optimizer=optax.adam(5.0), iterations=1, progress=False
    )
    copied = WAYS[way](ox.Interrupted("stopped", result))
    assert str(copied) == "stopped"
    np.testing.assert_array_equal(copied.result.model, result.model)
    np.testing.assert_array_equal(copied.result.history.misfit, result.history.misfit)


def _of_a_process(given: tuple[ox.Propagator, np.ndarray]) -> np.ndarray:
    F, model = given
    return np.asarray(F(model))


@pytest.mark.slow
def test_spawned_workers_take_propagators():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (found,) = pool.map(_of_a_process, [(propagator(), np.asarray(VP))])
    np.testing.assert_array_equal(found, traces(propagator()))


REPLACED = {
    "max_velocity": 3000.0,
    "survey": SURVEY.replace(wavelet=ox.ricker(10.0, NT, DT)),
    "grid": GRID.replace(shape=(33, 26), origin=(-10.0, 0.0)),
    "boundary": ox.Sponge(12),
    "settings": ox.Settings(threads=1),
    "time_dispersion": "raw",
    "courant": 0.5,
    "interpolation": "linear",
    "equation": ox.Acoustic(8),
}


@pytest.mark.parametrize("name", REPLACED)
def test_a_replaced_propagator_is_the_one_made_anew(name: str):
    own = {
        "equation": ox.Acoustic(4),
        "grid": GRID,
        "survey": SURVEY,
        "max_velocity": 2600.0,
        "boundary": ox.Sponge(8),
    }
    right = ox.Propagator(**(own | {name: REPLACED[name]}))
    found = propagator().replace(**{name: REPLACED[name]})
    model = jnp.full(right.grid.shape, 2000.0)
    np.testing.assert_array_equal(found(model), right(model))


def test_a_step_from_a_model_stays():
    F = ox.Propagator(ox.Acoustic(4), GRID, SURVEY, VP, boundary=ox.Sponge(8))
    assert F.replace(settings=ox.Settings(threads=1)).largest_step == F.largest_step


def test_surveys_do_not_change():
    survey = pickle.loads(pickle.dumps(SURVEY))
    with pytest.raises(AttributeError, match=r"survey\.replace\(dt=\.\.\.\) makes another"):
        survey.dt = 1.0
    with pytest.raises(ValueError, match="read-only"):
        survey.wavelet[0] = 1.0
    assert SURVEY.replace(dt=0.001).dt == 0.001
    kinds = SURVEY.replace(receiver={"receiver": 2.0})
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(kinds)).receiver["receiver"], kinds.receiver["receiver"]
    )


def aligned(values: np.ndarray) -> np.ndarray:
    """The same in float32, at an address that JAX takes as it is."""
    raw = np.empty(values.size * 4 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    made = raw[start : start + values.size * 4].view(np.float32).reshape(values.shape)
    made[...] = values
    return made


@pytest.mark.parametrize("which", ["model", "wavelet", "weights"])
def test_a_jacobian_holds_a_copy(which: str):
    """Also of arrays that are changed in place afterwards."""
    F = propagator(EXTENDED) if which == "weights" else propagator()
    given = {
        "model": aligned(np.asarray(VP)),
        "wavelet": aligned(np.broadcast_to(SURVEY.wavelet, F.survey.wavelet.shape)),
        "weights": aligned(np.asarray(WEIGHTS)) if which == "weights" else None,
    }
    J = F.jacobian(given["model"], wavelet=given["wavelet"], weights=given["weights"])
    before = np.asarray(J.mv(VP - 2000.0))
    given[which] *= 1.1
    np.testing.assert_array_equal(J.mv(VP - 2000.0), before)
