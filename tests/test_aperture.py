"""Shots that see a part of the model: their adjoints are exact, their kernels the same, and they
tell nearly what shots do that see all of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import difference, dot, norm
from registry import EQUATIONS
from slow import slow

import ondax as ox
from ondax.histories.buffers import POOL
from ondax.histories.store import STORE

H = 10.0
SHAPE = (81, 26)
SOURCES = np.array([[150.0, 20.0], [400.0, 20.0], [690.0, 20.0]])
RECEIVERS = SOURCES[:, None] + np.array([[-60.0, 10.0], [45.0, 30.0], [83.0, 10.0]])
WAVELET = ox.ricker(15.0, 130, 0.002)
SURVEY = ox.Survey(SOURCES, RECEIVERS, WAVELET, 0.002)
SURFACE = ox.Faces(ox.CPML(6), top=ox.FreeSurface())


def propagator(aperture: float | None = 100.0, equation: Any = None, **how: Any) -> ox.Propagator:
    equation = ox.Acoustic(4) if equation is None else equation
    how = {"boundary": ox.CPML(6), "min_points_per_wavelength": 0.0, **how}
    return ox.Propagator(equation, ox.Grid(SHAPE, H), SURVEY, 2600.0, aperture=aperture, **how)


def velocity(dtype: Any = jnp.float32) -> jax.Array:
    x, z = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return jnp.asarray(2000.0 + 8.0 * z + 60.0 * np.sin(0.2 * x + 0.1 * z), dtype)


def medium(name: str) -> Any:
    given = EQUATIONS[name].model(SHAPE, "float64")
    return given if len(given) > 1 else next(iter(given.values()))


@pytest.mark.slow
@pytest.mark.parametrize("surface", [False, True])
@pytest.mark.parametrize("name", EQUATIONS)
def test_adjoints_are_exact(name: str, surface: bool, x64: None):
    """Of modelling in the wavelet, and of Born modelling in all parameters."""
    entry = EQUATIONS[name]
    absorbing = ox.CPML(6) if entry.layers else ox.Sponge(6)
    boundary = ox.Faces(absorbing, top=ox.FreeSurface()) if surface else absorbing
    F = propagator(100.0, entry.make(4), boundary=boundary)
    assert F._problem.shape_of_shots[0] < SHAPE[0]
    model, rng = medium(name), np.random.default_rng(0)
    traces, pull = jax.vjp(F, model)
    y = jnp.asarray(rng.normal(size=traces.shape))
    w = jnp.asarray(SURVEY.wavelet)
    adjoint = F.adjoint(model, y)
    assert abs(dot(F(model), y) - dot(w, adjoint)) < 1e-12 * norm(traces) * norm(y)
    dm = jax.tree.map(lambda m: 0.1 * m * jnp.asarray(rng.normal(size=m.shape)), model)
    born, gradient = F.jacobian(model).mv(dm), pull(y)[0]
    assert abs(dot(born, y) - dot(dm, gradient)) < 1e-12 * norm(born) * norm(y)


@pytest.mark.slow
def test_gradients_by_taylor(x64: None):
    F, m = propagator(), velocity(jnp.float64)
    dm = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE))

    def f(step: float) -> float:
        return float(jnp.sum(F(m + step * dm) ** 2))

    slope = float(jnp.vdot(jax.grad(lambda m: jnp.sum(F(m) ** 2))(m), dm))
    steps = 2.0 ** -np.arange(5)
    left = [abs(f(s) - f(0.0) - s * slope) for s in steps]
    rates = np.log2(np.array(left[:-1]) / left[1:])
    assert np.all((rates > 1.95) & (rates < 2.05))


@pytest.mark.parametrize("boundary", [slow(ox.CPML(6)), SURFACE], ids=["layers", "surface"])
def test_a_shot_sees_its_window(boundary: Any, x64: None):
    """Where nothing changes sideways, that is a model cut to the window; gradients are added where
    the window is."""
    F = propagator(100.0, boundary=boundary)
    layered = jnp.broadcast_to(velocity(jnp.float64)[:1], SHAPE)
    traces, pull = jax.vjp(F, layered)
    y = jnp.ones_like(traces)
    windows = F._problem.windows
    assert windows is not None
    n = windows.shape[0]
    total = np.zeros(SHAPE)
    for shot, (first, _) in enumerate(windows.starts):
        grid = ox.Grid((n, SHAPE[1]), H, origin=(first * H, 0.0))
        alone = ox.Propagator(
            F.equation, grid, SURVEY[shot], 2600.0, boundary=boundary, min_points_per_wavelength=0.0
        )
        expected, pull_alone = jax.vjp(alone, layered[first : first + n])
        assert difference(traces[shot], expected[0]) < 1e-12
        total[first : first + n] += pull_alone(y[shot][None])[0]
    (gradient,) = pull(y)
    # Beyond the window, its layer reads the model, where one that is cut repeats its last column:
    # columns differ, and sums over them agree.
    assert difference(jnp.sum(gradient, 0), jnp.sum(total, 0)) < 1e-12
    (of_second,) = pull(y.at[jnp.array([0, 2])].set(0.0))
    first, last, layer = windows.starts[1, 0], windows.starts[1, 0] + n, 6
    assert np.all(np.any(of_second[first:last], axis=1))
    assert not np.any(of_second[: first - layer])
    assert not np.any(of_second[last + layer :])


@pytest.mark.slow
def test_shots_nearly_see_what_they_would_see_in_all_of_the_model():
    """Waves that come back from beyond the window within the record are missing, and no others:
    here those that travel 400 m at 2,200 m/s, longer than the record of 0.26 s less the wavelet's
    delay."""
    whole, part = propagator(None), propagator(200.0)
    traces, pull = jax.vjp(whole, velocity())
    found, pull_part = jax.vjp(part, velocity())
    assert difference(found, traces) < 3e-3  # the layer's own echo, at 6 cells
    y = traces
    assert difference(pull_part(y)[0], pull(y)[0]) < 2e-2
    assert part._problem.shape_of_shots[0] < SHAPE[0]


def test_a_wide_aperture_is_no_aperture():
    whole, wide = propagator(None), propagator(900.0)
    assert wide._problem.windows is None
    np.testing.assert_array_equal(wide(velocity()), whole(velocity()))


@pytest.mark.slow
def test_the_same_kernels(monkeypatch: pytest.MonkeyPatch):
    """Windows of any survey are run by one set of kernels."""
    F = propagator(100.0)
    jax.grad(lambda m: jnp.sum(F(m) ** 2))(velocity())
    monkeypatch.setattr("ondax.backends.devito.kernels.Kernels._built", None)
    other = propagator(60.0)
    jax.grad(lambda m: jnp.sum(other(m) ** 2))(velocity())


@pytest.mark.slow
def test_everything_else_sees_the_same(x64: None):
    """Objectives, minibatches, traced shots, vmap, Hessians, inversions and layers."""
    F, m = propagator(), velocity(jnp.float64)
    observed = F(m + 30.0)
    objective = ox.Objective(F, observed)
    value, gradient = jax.value_and_grad(objective)(m)
    expected, slope = jax.value_and_grad(lambda m: 0.5 * jnp.sum((F(m) - observed) ** 2))(m)
    assert np.isclose(value, expected, rtol=1e-12)
    assert difference(gradient, slope) < 1e-12
    some = jax.jit(lambda m, s: F(m, shots=s))(m, jnp.array([2, 0]))
    np.testing.assert_array_equal(some, F(m)[jnp.array([2, 0])])
    both = jax.vmap(F)(jnp.stack([m, m + 10.0]))
    np.testing.assert_array_equal(both[1], F(m + 10.0))
    dm = jnp.ones_like(m)
    curved = ox.hvp(lambda t: 0.5 * jnp.sum((t - observed) ** 2), F, m, dm)
    step = 1e-3
    ahead, behind = (jax.grad(objective)(m + s * step * dm) for s in (1.0, -1.0))
    assert difference(curved, (ahead - behind) / (2 * step)) < 1e-6  # of second order in the step
    result = ox.fwi(F, observed, m, optimizer=optax.sgd(1e-4), iterations=1, progress=False)
    assert np.any(result.model != m)
    born = F.jacobian(m).mv(dm)
    image = ox.lsrtm(F, born, m, iterations=2, progress=False).image
    assert np.any(image)
    layer = ox.nn.Modelling(F)
    assert np.any(layer(m[None]))


@pytest.mark.slow
def test_three_dimensions(x64: None):
    grid = ox.Grid((30, 26, 12), H)
    points = np.array([[60.0, 70.0, 20.0], [220.0, 180.0, 20.0]])
    of = ox.Survey(points, points[:, None] + [[15.0, 25.0, 30.0]], WAVELET[:90], 0.002)
    F = ox.Propagator(
        ox.Acoustic(4),
        grid,
        of,
        2600.0,
        boundary=ox.Sponge(4),
        aperture=40.0,
        min_points_per_wavelength=0.0,
    )
    assert F._problem.shape_of_shots[:2] < (30, 26)
    m = jnp.asarray(np.random.default_rng(0).uniform(1900.0, 2100.0, grid.shape))
    traces, pull = jax.vjp(F, m)
    y = jnp.asarray(np.random.default_rng(1).normal(size=traces.shape))
    dm = jnp.asarray(np.random.default_rng(2).normal(size=m.shape))
    born = F.jacobian(m).mv(dm)
    assert abs(dot(born, y) - dot(dm, pull(y)[0])) < 1e-12 * norm(born) * norm(y)


def test_positions_given_with_a_call():
    """They may leave the survey's span by half the aperture, 50 m here."""
    F = propagator(100.0)
    near, far = SOURCES + [-109.0, 0.0], SOURCES + [-111.0, 0.0]  # the leftmost receiver: at -60 m
    assert np.any(F(velocity(), sources=near[:, None]))
    with pytest.raises(ValueError, match=r"3 of 3 lie too far .* aperture=100 m"):
        F(velocity(), sources=far[:, None])


@pytest.mark.slow
def test_histories_of_windows():
    """Every way of keeping gives the same gradients."""

    def gradient(**how: Any) -> Any:
        F = propagator(settings=ox.Settings(threads=2, **how))
        return jax.grad(lambda m: jnp.sum(F(m) ** 2))(velocity())

    expected = gradient()
    np.testing.assert_array_equal(gradient(history="whole"), expected)
    # Traces of runs that keep nothing come from another kernel, which rounds otherwise.
    assert difference(gradient(history="revolve"), expected) < 1e-5
    assert difference(gradient(memory=400_000), expected) < 1e-5
    assert difference(gradient(store_every=2), expected) < 1e-5


def test_memories_of_layers_are_counted_in_layers():
    """Which are a tenth of this grid, halos aside; u and a coefficient are on all of it."""
    grid = ox.Grid((201, 201), H)
    layers, sponge = (
        ox.Propagator(ox.Acoustic(4), grid, SURVEY, 2600.0, boundary=b).cost().bytes_of_fields
        for b in (ox.CPML(6), ox.Sponge(6))
    )
    assert sponge < layers < 1.4 * sponge


@pytest.mark.parametrize(
    ("aperture", "boundary", "said"),
    [
        (0.0, ox.CPML(6), "aperture=0.0 must be a positive"),
        (-5.0, ox.CPML(6), "metres, or None"),
        (50.0, ox.Faces(ox.CPML(6), left=ox.Sponge(0)), "both sides along x"),
    ],
)
def test_apertures_that_cannot_be(aperture: float, boundary: Any, said: str):
    with pytest.raises(ValueError, match=said):
        propagator(aperture, boundary=boundary)


@pytest.mark.kernels
def test_costs_are_told():
    """Steps, points and memory of a shot; and what is kept is as large as was told."""
    F = propagator(100.0, settings=ox.Settings(memory=3_000_000, threads=2))
    cost = F.cost()
    n = F._problem.shape_of_shots[0]
    assert cost.points == (n + 12, SHAPE[1] + 12)
    assert (cost.shots, cost.steps, cost.dt) == (3, F._problem.steps, F.dt)
    told = cost.bytes_of_history
    assert told > 4 * cost.steps * np.prod(cost.points)  # one field at every step
    assert cost.shots_that_fit == 3_000_000 // told < 3
    assert 0.0 < cost.seconds < 60.0
    said = str(cost)
    assert f"{n + 12} x {SHAPE[1] + 12} points, CPML(width=6)" in said
    assert propagator(None).cost().bytes_of_history > 1.7 * told
    ox.release_memory()
    G = propagator(100.0, settings=ox.Settings(threads=1, history="whole"))
    jax.grad(lambda m: jnp.sum(G(m) ** 2))(velocity())
    assert POOL.nbytes + STORE.nbytes >= told
