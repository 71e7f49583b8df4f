"""Histories in half precision: what they lose, and what they do not."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Problem, difference, norm
from registry import ENCLOSED, EQUATIONS, SPONGE, mixed
from slow import slow, slow_but

import ondax as ox
from ondax.backends.devito.native import Halves, _native
from ondax.histories.store import STORE

HALVES = Halves()
FLAGS = {"fast": None, "exact": "-O1"}  # those that users have say -ffast-math
ROUNDING = 2.0**-11  # of a difference: half of the last of 11 significant bits
FLOOR = 2.0**-29  # of the largest difference nearby: what is smaller becomes zero


@pytest.fixture(params=FLAGS)
def flags(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiled by these flags, whatever other tests have left."""
    value = FLAGS[request.param]
    if value is None:
        monkeypatch.delenv("ONDAX_CFLAGS", raising=False)
    else:
        monkeypatch.setenv("ONDAX_CFLAGS", value)
    _native.cache_clear()
    yield
    _native.cache_clear()


def round_trip(values: np.ndarray, group: int = 1) -> np.ndarray:
    packed = np.empty((len(values) + 1, *values.shape[1:]), np.uint16)
    exponents = Halves(group).pack(values, packed)
    back = np.full_like(values, 7.0)
    HALVES.unpack(packed, exponents, back)
    return back


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_differences_keep_eleven_bits(dtype: str, size: float):
    """2500 points are two chunks and a half. Errors do not add up: each slot is packed relative to
    what the one before is unpacked to."""
    rng = np.random.default_rng(0)
    sizes = 2.0 ** rng.uniform(-20, 0, (1, 50, 50))
    steps = sizes * rng.normal(size=(40, 50, 50))
    steps[:, 3, :] = 2.0 - 2.0 ** -rng.uniform(5, 22, (40, 50))  # rounded up to a power of two
    steps[5] = 0.0
    values = (size * np.cumsum(steps, axis=0)).astype(dtype)
    back = round_trip(values)
    change = np.diff(values.astype(np.float64), axis=0)
    eps = float(np.finfo(dtype).eps)
    error = np.abs(back.astype(np.float64) - values)
    # A difference is from what is unpacked, which is off by as much as the slot before.
    bound = ROUNDING * (np.abs(change) + error[:-1]) + FLOOR * np.abs(change).max()
    assert np.all(error[1:] <= bound + 4 * eps * np.abs(values[1:]))
    # the first slot is packed in two parts
    assert np.all(error[0] <= 2 * ROUNDING**2 * np.abs(values[0]) + FLOOR * size)
    assert error.max() > 0


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("group", [2, 3])
def test_differences_within_groups_keep_eleven_bits(dtype: str, group: int):
    """Though values change from group to group by a thousand times as much."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(12, group, 1500))
    steps[:, 0] *= 1000.0
    values = np.cumsum(steps.reshape(-1, 1500), axis=0).astype(dtype)
    back = round_trip(values, group)
    eps = float(np.finfo(dtype).eps)
    error = np.abs(back.astype(np.float64) - values)
    between = np.diff(values.astype(np.float64), axis=0)[group - 1 :: group]
    assert np.all(error <= 2 * ROUNDING * np.abs(between).max() + 4 * eps * np.abs(values))
    for later in range(1, group):
        true = values[later::group].astype(np.float64) - values[later - 1 :: group]
        got = back[later::group].astype(np.float64) - back[later - 1 :: group]
        bound = ROUNDING * np.abs(true) + FLOOR * np.abs(true).max()
        assert np.all(np.abs(got - true) <= bound + 4 * eps * np.abs(values).max())


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("group", [1, 2])
def test_zeros_and_what_is_not_finite(group: int, dtype: str):
    assert not round_trip(np.zeros((3, 5), dtype)).any()
    tiny = np.full((2, 5), np.finfo(dtype).tiny, dtype)
    assert np.all(np.abs(round_trip(tiny) - tiny) <= tiny)
    for bad in (np.inf, -np.inf, np.nan, np.finfo(dtype).max):
        values = np.ones((4, 3000), dtype)
        values[2, 10] = bad
        back = round_trip(values, group)
        assert np.array_equal(back[:2], values[:2])
        assert np.isnan(back[2:, 10]).all()
        assert np.array_equal(back[:, 2900:], values[:, 2900:])  # another chunk


def history(problem: Problem, name: str = "half", **settings: object) -> ox.Propagator:
    return problem.propagator(settings=ox.Settings(history=name, **settings))


# Rounding takes 2^-11 of what a step changes, and 300 to 1000 steps are summed; of the differences
# that gradients are made of, some are small. Measured: 5e-6 (one product) to 3e-4 (differences of
# fields), and up to ten times as much where few steps are kept.
LOST = {"half": 1e-3, "sampled half": 1e-2}


@pytest.mark.parametrize("dtype", ["float64", slow("float32")])
@pytest.mark.parametrize("physics", ["acoustic", "density"])
def test_gradients_lose_little(physics: str, dtype: str):
    with jax.enable_x64(dtype == "float64"):
        problem = Problem(physics, 1, 4, dtype=dtype)
        model, y = problem.model(), problem.cotangent()
        traces, pull = jax.vjp(problem.propagator(), model)
        got, pull_half = jax.vjp(history(problem), model)
        assert np.array_equal(got, traces)
        assert 0 < difference(pull_half(y)[0], pull(y)[0]) < LOST["half"]


@pytest.mark.parametrize("backend", ["devito", slow("xla")])
def test_few_steps_lose_little_of_traces_in_the_band(backend: str):
    """What a field changes by in a step keeps its bits, also where it changes in the 30 steps from
    one that is kept to the next by as much as it is large. Two factors of a gradient are rounded,
    of errors that partly average out; before, it was 1e-3 (C) and 2e-2 (XLA)."""
    rng = np.random.default_rng(0)
    model = {"vp": rng.uniform(1450.0, 1650.0, 31), "rho": rng.uniform(1000.0, 1800.0, 31)}
    survey = ox.Survey([[25.0]], [[72.0], [100.0]], ox.ricker(5.0, 3001, 2e-4), 2e-4)
    gradients = {}
    with jax.enable_x64(True):
        for way in ("whole", "sampled half"):
            F = ox.Propagator(
                ox.AcousticDensity(4),
                ox.Grid(31, 5.0),
                survey,
                2000.0,
                boundary=ox.CPML(8),
                min_points_per_wavelength=0.0,
                settings=ox.Settings(history=way, backend=backend),
            )
            assert way == "whole" or F.cost().history.every > 20
            gradients[way] = jax.grad(lambda m, F=F: 0.5 * jnp.sum(F(m) ** 2))(model)
    for name, whole in gradients["whole"].items():
        assert 0 < difference(gradients["sampled half"][name], whole) < ROUNDING


@pytest.mark.parametrize("dtype", ["float64", slow("float32")])
@pytest.mark.parametrize("physics", ["acoustic", "density"])
def test_born_modelling_and_migration_are_transposes(physics: str, dtype: str):
    """They read the same rounded history, so the dot test holds to rounding."""
    with jax.enable_x64(dtype == "float64"):
        problem = Problem(physics, 1, 4, dtype=dtype)
        J = history(problem).jacobian(problem.model())
        exact = problem.propagator().jacobian(problem.model())
        x, y = problem.perturbation(), problem.cotangent()
        data, image = J.mv(x), J.T.mv(y)
        a = sum(jnp.vdot(p, q) for p, q in zip(*map(jax.tree.leaves, (data, y)), strict=True))
        b = sum(jnp.vdot(p, q) for p, q in zip(*map(jax.tree.leaves, (x, image)), strict=True))
        tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
        assert abs(a - b) < tolerance * norm(data) * norm(y)
        assert 0 < difference(data, exact.mv(x)) < LOST["half"]


def test_what_does_not_fit_is_computed_anew_and_loses_nothing():
    with jax.enable_x64(True):
        problem = Problem("density", 1, 4, dtype="float64")
        model, y = problem.model(), problem.cotangent()
        exact = jax.vjp(problem.propagator(), model)[1](y)[0]
        ox.release_memory()
        F = history(problem, memory=9_000, threads=1)
        assert F.cost().bytes_of_history > 9_000
        assert difference(jax.vjp(F, model)[1](y)[0], exact) < 1e-12
        assert len(STORE) == 0


def survey_of(points: int, nt: int) -> ox.Survey:
    extent = 10.0 * (points - 1)
    line = ox.line((0.0, 20.0), (extent, 20.0), 11)
    return ox.Survey([[0.45 * extent, 20.0]], line, ox.ricker(8.0, nt, 1e-3), 1e-3)


def test_memory_is_half():
    """Of 600 steps, 32 are packed together, with one more for the first slot's second part and one
    that is there for the adjoint's sake."""
    sizes = {}
    for name in ("auto", "half", "sampled", "sampled half"):
        F = ox.Propagator(
            ox.Acoustic(8),
            ox.Grid((61, 61), 10.0),
            survey_of(61, 601),
            2500.0,
            settings=ox.Settings(history=name, threads=1),
        )
        sizes[name] = F.cost().bytes_of_history
        if name != "half":
            continue
        ox.release_memory()
        _, pull = jax.vjp(F, jnp.full((61, 61), 2000.0))
        assert STORE.nbytes == sizes[name]
        del pull
    assert sizes["half"] < 0.55 * sizes["auto"]
    assert sizes["sampled"] < 0.3 * sizes["auto"]
    assert sizes["sampled half"] < 0.16 * sizes["auto"]


@pytest.mark.parametrize("surround", slow_but(["sponge", "layers", "surface"]))
@pytest.mark.parametrize("name", EQUATIONS)
def test_all_equations(name: str, surround: str):
    """Also in the memories of layers and above a free surface."""
    entry = EQUATIONS[name]
    if surround == "layers" and not entry.layers:
        pytest.skip("unstable in perfectly matched layers")
    boundary = {"sponge": SPONGE, "layers": ENCLOSED, "surface": mixed(name)}[surround]
    with jax.enable_x64(True):
        shape, fastest = (19, 17), 2600.0
        model = entry.model(shape, "float64")
        model = model if len(model) > 1 else next(iter(model.values()))
        extent = 10.0 * (np.array(shape) - 1)
        source, receiver = entry.components
        equation = entry.make(4)
        dt = 0.95 * equation.largest_step((10.0, 10.0), fastest)
        wavelet = ox.ricker(0.1 / (4.2 * dt), 301, dt)
        if isinstance(source, tuple):
            wavelet = np.broadcast_to(wavelet, (1, len(source), 1, wavelet.size))
        receivers = [[0.6, 0.7] * extent, [0.52, 0.5] * extent, [0.9, 0.12] * extent]
        survey = ox.Survey(
            [[0.3, 0.35] * extent], receivers, wavelet, dt, source=source, receiver=receiver
        )
        gradients = {}
        for way in ("auto", *LOST):
            F = ox.Propagator(
                equation,
                ox.Grid(shape, 10.0),
                survey,
                fastest,
                boundary=boundary,
                min_points_per_wavelength=0.0,
                settings=ox.Settings(threads=1, history=way),
            )
            traces, pull = jax.vjp(F, model)
            noise = np.random.default_rng(1).normal(size=traces.shape)
            gradients[way] = pull(jnp.asarray(noise))[0]
        for way, lost in LOST.items():
            assert 0 < difference(gradients[way], gradients["auto"]) < lost, way
