"""What is inverted for in place of the model: there and back, bounds, gradients, and inversions
with conditioned gradients."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from slow import slow
from test_fwi import LBFGS, OBSERVED, SGD, START, N, toy

import ondax as ox
from ondax.inversion import fwi

par, pre = ox.parametrizations, ox.preconditioners

GRID = ox.Grid((7, 9), 10.0)
LINE = ox.Grid((N,), 10.0)
WATER = np.arange(9)[None, :] < 3


def rocks(dtype: Any, *names: str) -> Any:
    """A model of a few parameters, or of vp alone."""
    random = np.random.default_rng(0)
    vp = random.uniform(1800.0, 4000.0, GRID.shape)
    model = {"vp": vp, "vs": vp / random.uniform(1.6, 2.2, vp.shape), "rho": 310.0 * vp**0.25}
    model["Q"] = random.uniform(50.0, 200.0, vp.shape)
    chosen = {n: jnp.asarray(model[n], dtype) for n in names}
    return chosen if chosen else jnp.asarray(vp, dtype)


ALL = {
    "slowness": lambda: (par.slowness(), ()),
    "slowness of some": lambda: (par.slowness("vp", "vs"), ("vp", "vs", "rho")),
    "squared_slowness": lambda: (par.squared_slowness("vp"), ("vp", "rho")),
    "logarithm": lambda: (par.logarithm(), ("vp", "rho")),
    "scaled": lambda: (par.scaled({"vp": 100.0, "rho": 50.0}), ("vp", "rho")),
    "scaled by the model": lambda: (
        par.scaled(like=rocks(np.float32, "vp", "rho")),
        ("vp", "rho"),
    ),
    "between": lambda: (par.between(20.0, {"vp": 5000.0, "Q": 300.0}), ("vp", "Q")),
    "gardner": lambda: (par.gardner(), ("vp", "rho")),
    "impedance and vp": lambda: (par.impedance("vp"), ("vp", "rho", "Q")),
    "impedance and rho": lambda: (par.impedance("rho"), ("vp", "vs", "rho")),
    "lame": lambda: (par.lame(), ("vp", "vs", "rho")),
    "scaled slowness": lambda: (par.scaled(1e-4) | par.slowness(), ()),
    "scaled logarithms of Lamé": lambda: (
        par.scaled(0.1) | par.logarithm("mu", "rho") | par.lame(),
        ("vp", "vs", "rho"),
    ),
}


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("name", ALL)
def test_there_and_back(name: str, dtype: str):
    """Each way rounds a few times. The logarithm of a pressure is up to 25, and its rounding is a
    relative error of the pressure. The least Q is a sixth of the interval that it is in."""
    p, names = ALL[name]()
    model = rocks(dtype, *names)
    inverted = p.from_model(model)
    larger = 25.0 if "logarithm" in name else 6.0 if name == "between" else 1.0
    tolerance = 8.0 * larger * float(jnp.finfo(dtype).eps)
    for found, expected in zip(*map(jax.tree.leaves, (p(inverted), model)), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance)
    again = p.from_model(p(inverted))
    for found, expected in zip(*map(jax.tree.leaves, (again, inverted)), strict=True):
        # Differences, such as lambda, may be smaller than what they are differences of.
        size = 10.0 * float(jnp.max(jnp.abs(expected)))
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=tolerance * size)


def test_what_is_inverted_for():
    model = rocks(np.float32, "vp", "vs", "rho", "Q")
    vp, vs, rho = (np.asarray(model[n], np.float64) for n in ("vp", "vs", "rho"))
    for p, expected in (
        (par.slowness("vp"), {"vp": 1.0 / vp, "vs": vs, "rho": rho}),
        (par.squared_slowness("vs"), {"vp": vp, "vs": vs**-2, "rho": rho}),
        (par.scaled({"vp": 2.0, "vs": 3.0, "rho": 4.0, "Q": 1.0}), {"vp": vp / 2.0, "vs": vs / 3}),
        (par.impedance("vp"), {"vp": vp, "vs": vs, "impedance": vp * rho}),
        (
            par.impedance("rho"),
            {"impedance": vp * rho, "shear_impedance": vs * rho, "rho": rho},
        ),
        (
            par.lame(),
            {"lambda": rho * (vp**2 - 2.0 * vs**2), "mu": rho * vs**2, "rho": rho},
        ),
    ):
        found = p.from_model(model)
        np.testing.assert_array_equal(found["Q"], model["Q"])
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5 * values.max())
    # The first of a composition is nearest to what is inverted for.
    x = jnp.asarray([2.0, 4.0])
    np.testing.assert_allclose((par.scaled(1e-4) | par.slowness())(x), [5000.0, 2500.0], rtol=1e-6)
    sizes = par.scaled(like={"a": jnp.asarray([3.0, -3.0]), "b": jnp.asarray([40.0])})
    one = sizes.from_model({"a": jnp.asarray([3.0, 6.0]), "b": jnp.asarray([4.0])})
    np.testing.assert_allclose(one["a"], [1.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(one["b"], [0.1], rtol=1e-6)


def test_density_follows_velocity_where_it_is_not_known():
    vp = rocks(np.float32)
    model = par.gardner(known=np.where(WATER, 1025.0, np.nan) * np.ones(GRID.shape))(vp)
    assert np.all(model["rho"][:, :3] == 1025.0)
    np.testing.assert_allclose(model["rho"][:, 3:], 310.0 * vp[:, 3:] ** 0.25, rtol=1e-6)
    assert par.gardner()(jnp.asarray([3000.0]))["rho"][0] == pytest.approx(2294.2, abs=0.1)


def test_fluids_stay_fluid_in_lame_parameters(x64: None):
    model = rocks(np.float64, "vp", "vs", "rho")
    model["vs"] = jnp.where(WATER, 0.0, model["vs"])
    p = par.lame()
    inverted = p.from_model(model)
    assert np.all(inverted["mu"][:, :3] == 0.0)
    np.testing.assert_allclose(p(inverted)["vs"], model["vs"], rtol=1e-14)
    slope = jax.grad(lambda x: sum(jnp.sum(v) for v in p(x).values()))(inverted)
    assert all(np.all(np.isfinite(s)) for s in slope.values())
    assert np.all(slope["mu"][:, :3] == 0.0)
    assert np.all(slope["lambda"] > 0.0)


# ---------------------------------------------------------------- bounds


def test_bounds_of_the_model_become_ordered_bounds():
    for p, expected in (
        (par.slowness(), (1.0 / 4500.0, 1.0 / 1500.0)),
        (par.squared_slowness(), (4500.0**-2, 1500.0**-2)),
        (par.logarithm(), (np.log(1500.0), np.log(4500.0))),
        (par.scaled(100.0), (15.0, 45.0)),
        (par.scaled(1e-4) | par.slowness(), (1e4 / 4500.0, 1e4 / 1500.0)),
        (par.logarithm() | par.gardner(), (np.log(1500.0), np.log(4500.0))),
    ):
        np.testing.assert_allclose(p.bounds(1500.0, 4500), expected, rtol=1e-5)
        with pytest.raises(ValueError, match="4500 to 1500: the lower bound must be below"):
            p.bounds(4500.0, 1500)
    lower, upper = par.slowness("vp").bounds({"vp": 1500.0, "rho": 1000.0}, {"vp": 5e3, "rho": 3e3})
    np.testing.assert_allclose([lower["vp"], upper["vp"]], [1 / 5e3, 1 / 1500.0], rtol=1e-5)
    np.testing.assert_allclose([lower["rho"], upper["rho"]], [1000.0, 3000.0], rtol=1e-5)
    lower, upper = par.scaled({"vp": 10.0, "rho": 2.0}).bounds(1000.0, {"vp": 5e3, "rho": 3e3})
    assert (float(lower["vp"]), float(lower["rho"])) == pytest.approx((100.0, 500.0), rel=1e-5)
    least, most = par.slowness().bounds(0.0, np.inf)
    assert (float(least), float(most)) == (0.0, np.inf)


@pytest.mark.parametrize("name", ["slowness", "squared_slowness", "logarithm", "scaled"])
def test_a_model_on_its_bounds_stays_within(name: str, x64: None):
    """Whatever the rounding, here of bounds in float64 and a model in float32: `fwi` refuses a
    start outside of its bounds, in the model's dtype."""
    random = np.random.default_rng(1)
    p = par.scaled(7.0) if name == "scaled" else getattr(par, name)()
    for v in random.uniform(100.0, 9000.0, 40):
        lower, upper = (b.astype(jnp.float32) for b in p.bounds(v, 2.0 * v))
        ends = p.from_model(jnp.asarray([v, 2.0 * v], jnp.float32))
        assert np.all((lower <= ends) & (ends <= upper))


def test_bounds_with_weights_of_the_variables():
    around = jnp.asarray([2000.0, 2000.0, 1500.0])
    weights = jnp.asarray([2.0, -0.5, 0.0])
    p = par.conditioned(around, lx.DiagonalLinearOperator(weights))
    lower, upper = p.bounds(1500.0, 3000.0)
    np.testing.assert_allclose(lower, [-250.0, -2000.0, -np.inf], rtol=1e-4)
    np.testing.assert_allclose(upper, [500.0, 1000.0, np.inf], rtol=1e-4)
    model = jnp.asarray([2500.0, 1600.0, 1500.0])
    np.testing.assert_allclose(p.from_model(model), [250.0, 800.0, 0.0])
    np.testing.assert_array_equal(p(p.from_model(model)), model)


def test_between_keeps_any_number_within():
    p = par.between(1500.0, 4500.0)
    x = jnp.asarray([-1e6, 0.0, 1400.0, 3000.0, 3010.0, 9000.0, 1e6])
    model = p(x)
    assert np.all((model >= 1500.0) & (model <= 4500.0))
    assert np.all(np.diff(model) >= 0.0)
    np.testing.assert_allclose(model[3:5], [3000.0, 3010.0], atol=1e-2)  # like the model


def test_projections_of_models_with_values_that_depend_on_each_other():
    p = par.impedance("vp")
    project = p.projection(ox.projections.box({"vp": 2000.0, "rho": 2100.0}, 3000.0))
    inverted = p.from_model(rocks(np.float32, "vp", "rho"))
    model = p(project(inverted))
    assert np.any(p(inverted)["vp"] > 3000.0)
    for name, low in (("vp", 2000.0), ("rho", 2100.0)):
        assert np.all(model[name] >= low * (1.0 - 1e-6))
        assert np.all(model[name] <= 3000.0 * (1.0 + 1e-6))


# ---------------------------------------------------------------- gradients


def slopes() -> dict[str, tuple[Any, tuple[str, ...], Any]]:
    """By hand: derivatives of the model's parameters with respect to what is inverted for, from a
    model, as {parameter: {variable: derivative}}."""
    return {
        "slowness": (par.slowness("vp"), ("vp",), lambda m: {"vp": {"vp": -(m["vp"] ** 2)}}),
        "squared_slowness": (
            par.squared_slowness("vp"),
            ("vp",),
            lambda m: {"vp": {"vp": -0.5 * m["vp"] ** 3}},
        ),
        "logarithm": (par.logarithm("vp"), ("vp",), lambda m: {"vp": {"vp": m["vp"]}}),
        "scaled": (par.scaled({"vp": 30.0}), ("vp",), lambda m: {"vp": {"vp": 30.0}}),
        "between": (
            par.between(1500.0, 4500.0),
            ("vp",),
            lambda m: {"vp": {"vp": 1.0 - ((m["vp"] - 3000.0) / 1500.0) ** 2}},
        ),
        "impedance and vp": (
            par.impedance("vp"),
            ("vp", "rho"),
            lambda m: {
                "vp": {"vp": 1.0},
                "rho": {"vp": -m["rho"] / m["vp"], "impedance": 1.0 / m["vp"]},
            },
        ),
        "impedance and rho": (
            par.impedance("rho"),
            ("vp", "rho"),
            lambda m: {
                "vp": {"impedance": 1.0 / m["rho"], "rho": -m["vp"] / m["rho"]},
                "rho": {"rho": 1.0},
            },
        ),
        "lame": (
            par.lame(),
            ("vp", "vs", "rho"),
            lambda m: {
                "vp": {
                    "lambda": 0.5 / (m["rho"] * m["vp"]),
                    "mu": 1.0 / (m["rho"] * m["vp"]),
                    "rho": -0.5 * m["vp"] / m["rho"],
                },
                "vs": {"mu": 0.5 / (m["rho"] * m["vs"]), "rho": -0.5 * m["vs"] / m["rho"]},
                "rho": {"rho": 1.0},
            },
        ),
    }


@pytest.mark.parametrize("name", slopes())
def test_gradients(name: str, x64: None):
    p, names, by_hand = slopes()[name]
    model = rocks(np.float64, *names)
    random = np.random.default_rng(2)
    weights = {n: jnp.asarray(random.normal(size=GRID.shape)) for n in names}
    inverted = p.from_model(model)
    found = jax.grad(lambda x: sum(jnp.vdot(weights[n], p(x)[n]) for n in names))(inverted)
    derivatives = by_hand(model)
    for variable, slope in found.items():
        parts = [weights[n] * d[variable] for n, d in derivatives.items() if variable in d]
        expected = sum(parts, jnp.zeros(GRID.shape))
        np.testing.assert_allclose(slope, expected, rtol=1e-10, atol=1e-13)


def test_the_density_of_gardner_has_a_gradient(x64: None):
    vp = rocks(np.float64)
    known = np.where(WATER, 1025.0, np.nan) * np.ones(GRID.shape)
    slope = jax.grad(lambda v: jnp.sum(par.gardner(known=known)(v)["rho"]))(vp)
    np.testing.assert_allclose(slope, np.where(WATER, 0.0, 77.5 * vp**-0.75), rtol=1e-12)


def test_a_step_of_conditioned_gradients():
    """One step of gradient descent is `-rate C C' gradient`, with a C that is not symmetric."""
    weights = lx.DiagonalLinearOperator(jnp.linspace(0.0, 1.0, N))
    C = weights @ pre.smoothing(LINE, 15.0)
    p = par.conditioned(START, C)
    result = fwi(
        toy, OBSERVED, p.from_model(START), parameters=p, progress=False, optimizer=SGD,
        iterations=1,
    )  # fmt: skip
    gradient = jax.grad(lambda m: 0.5 * jnp.sum((toy(m) - OBSERVED) ** 2))(START)
    matrix = np.asarray(jax.jacobian(C.mv)(START), np.float64)
    assert not np.allclose(matrix, matrix.T)
    expected = START - 1e-3 * matrix @ matrix.T @ np.asarray(gradient)
    np.testing.assert_allclose(p(result.model), expected, rtol=1e-5)
    assert p(result.model)[0] == START[0]


# ---------------------------------------------------------------- inversions


SMOOTH = par.conditioned(START, pre.smoothing(LINE, 8.0))
BOUNDED = par.between(0.5, 3.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda size: par.scaled(size) | par.slowness(),
        lambda size: par.scaled(size) | par.squared_slowness(),
        lambda size: par.scaled(size) | par.logarithm(),
        lambda size: par.between(0.5, 3.0 + size),
        lambda size: par.conditioned(START, pre.smoothing(LINE, 8.0 * size)),
        lambda size: par.conditioned(START, lx.DiagonalLinearOperator(jnp.full(N, size))),
        lambda size: (
            par.conditioned(
                BOUNDED.from_model(START),
                lx.DiagonalLinearOperator(jnp.ones(N)) @ pre.smoothing(LINE, 8.0 * size),
            )
            | BOUNDED
        ),
    ],
    ids=["slowness", "squared", "logarithm", "between", "smoothing", "weights", "composed"],
)
def test_saved_and_resumed(make: Any, tmp_path: Any):
    """The same bits as in one go, from a parametrisation made anew; and no other one."""
    start = make(1.0).from_model(START)
    invert = partial(fwi, toy, OBSERVED, start, progress=False, optimizer=SGD)
    whole = invert(iterations=3, parameters=make(1.0))
    assert whole.history.misfit[-1] < whole.history.misfit[0]
    invert(iterations=2, parameters=make(1.0), save=tmp_path / "state.npz")
    again = invert(iterations=3, parameters=make(1.0), save=tmp_path / "state.npz")
    np.testing.assert_array_equal(again.model, whole.model)
    with pytest.raises(ValueError, match="differs in parameters"):
        invert(iterations=4, parameters=make(1.01), save=tmp_path / "state.npz")


def test_batches():
    how: dict[str, Any] = {"optimizer": optax.adam(0.05), "batch_size": 2, "iterations": 40}
    result = fwi(toy, OBSERVED, SMOOTH.from_model(START), progress=False, parameters=SMOOTH, **how)
    misfit = [float(jnp.sum((toy(m) - OBSERVED) ** 2)) for m in (START, SMOOTH(result.model))]
    assert misfit[1] < 0.3 * misfit[0]


def test_bounds_are_kept_in_terms_of_the_model():
    p = par.scaled(0.1) | par.slowness()
    result = fwi(
        toy, OBSERVED, p.from_model(START), progress=False, parameters=p, optimizer=LBFGS,
        iterations=8, bounds=p.bounds(1.3, 1.6),
    )  # fmt: skip
    model = p(result.model)
    assert result.history.misfit[-1] < 0.8 * result.history.misfit[0]
    assert np.all((model >= 1.3 * (1 - 1e-5)) & (model <= 1.6 * (1 + 1e-5)))
    on = np.isclose(model, 1.3, rtol=1e-5) | np.isclose(model, 1.6, rtol=1e-5)
    assert on.any()
    assert not on.all()


SEA = ox.Grid((31, 26), 10.0)


@pytest.fixture(scope="module")
def sea() -> tuple[ox.Propagator, jax.Array, jax.Array]:
    """Two shots in water above rock, their traces, and a model to start from."""
    spread = ox.line((20.0, 30.0), (280.0, 30.0), 9)
    wavelet = ox.ricker(15.0, 130, 0.002)
    survey = ox.Survey([[60.0, 20.0], [220.0, 20.0]], spread, wavelet, 0.002)
    F = ox.Propagator(ox.Acoustic(4), SEA, survey, 2600.0, boundary=ox.CPML(6))
    seabed = 6 + (np.arange(31) > 15)[:, None]
    start = jnp.where(np.arange(26)[None, :] < seabed, 1500.0, 2000.0).astype(jnp.float32)
    return F, F(start.at[10:20, 12:18].add(150.0)), start


LONG = optax.lbfgs(optax.piecewise_constant_schedule(300.0, {1: 1 / 300.0}))


@pytest.mark.slow
def test_lbfgs_with_conditioned_gradients(sea: Any):
    """Smooth, tapered, without changes of the water, within bounds: all at once."""
    F, observed, start = sea
    bottom = pre.seabed(SEA, start, 1600.0)
    assert sorted(set(bottom)) == [50.0, 60.0]
    C = (
        pre.top_mute(SEA, bottom, 0.0)
        @ pre.source_taper(SEA, F.survey, 60.0)
        @ pre.receiver_taper(SEA, F.survey, 40.0)
        @ pre.smoothing(SEA, np.where(start > 1600.0, 0.1 * start / 15.0, 0.0))
    )
    held = par.between(1400.0, 2500.0)
    p = par.conditioned(held.from_model(start), C) | held
    result = ox.fwi(
        F, observed, p.from_model(start), parameters=p, optimizer=LONG, iterations=4,
        progress=False,
    )  # fmt: skip
    assert result.history.misfit[-1] < 0.6 * result.history.misfit[0]
    model, before = p(result.model), p(p.from_model(start))
    np.testing.assert_allclose(before, start, rtol=1e-6)
    water = np.asarray(start) < 1600.0
    np.testing.assert_array_equal(model[water], before[water])
    assert np.all(model[~water] != before[~water])
    assert np.all((model > 1400.0) & (model < 2500.0))


def test_water_stays_to_the_last_bit(sea: Any):
    """Around the model itself, without a change of variables behind it, and with the bounds of the
    model; at a source in the rock, too."""
    F, observed, start = sea
    deep = F.survey.replace(sources=[[60.0, 150.0], [220.0, 150.0]])
    C = pre.top_mute(SEA, pre.seabed(SEA, start, 1600.0), 0.0) @ pre.source_taper(SEA, deep, 40.0)
    p = par.conditioned(start, C)
    result = ox.fwi(
        F, observed, p.from_model(start), parameters=p, optimizer=LONG, iterations=2,
        progress=False, bounds=p.bounds(1500.0, 2050.0),
    )  # fmt: skip
    model = np.asarray(p(result.model))
    water = np.asarray(start) < 1600.0
    np.testing.assert_array_equal(model[water], np.asarray(start)[water])
    assert (model[6, 15], model[22, 15]) == (2000.0, 2000.0)
    assert model[14, 14] != 2000.0
    assert np.all((model >= 1500.0) & (model <= 2050.0 * (1.0 + 1e-5)))
    assert result.history.misfit[-1] < result.history.misfit[0]


@pytest.mark.slow
def test_illumination_with_lbfgs(sea: Any):
    F, observed, start = sea
    weights = pre.illumination(F, start)
    size = float(jnp.sqrt(jnp.mean(weights.diagonal**2)))
    p = par.scaled(1.0 / size) | par.conditioned(start, weights)
    result = ox.fwi(
        F, observed, p.from_model(start), parameters=p, optimizer=LONG, iterations=4,
        progress=False,
    )  # fmt: skip
    assert result.history.misfit[-1] < 0.6 * result.history.misfit[0]


@pytest.mark.slow
def test_gauss_newton_with_conditioned_gradients(sea: Any, tmp_path: Any):
    F, observed, start = sea

    def invert(iterations: int, save: Any = None) -> Any:
        C = pre.top_mute(SEA, 60.0, 0.0) @ pre.smoothing(SEA, 10.0)
        p = par.conditioned(start, C)
        result = ox.fwi(
            F, observed, p.from_model(start), parameters=p, iterations=iterations, save=save,
            optimizer=ox.GaussNewton(iterations=4), progress=False,
        )  # fmt: skip
        return result, p(result.model)

    result, model = invert(2)
    assert result.history.misfit[-1] < 0.5 * result.history.misfit[0]
    np.testing.assert_array_equal(model[:, :7], start[:, :7])
    invert(1, tmp_path / "state.npz")
    np.testing.assert_array_equal(invert(2, tmp_path / "state.npz")[1], model)


def test_bounds_beyond_what_the_propagator_was_made_for(sea: Any):
    """Found before anything is modelled, though the lower bound of slowness is at fault."""
    F, observed, start = sea
    for p in (par.slowness(), par.conditioned(start, pre.top_mute(SEA, 60.0, 0.0))):
        with pytest.raises(ValueError, match="vp may become 3000.* max_velocity=2600"):
            ox.fwi(
                F, observed, p.from_model(start), parameters=p, optimizer=SGD, iterations=1,
                bounds=p.bounds(1400.0, 3000.0),
            )  # fmt: skip


@pytest.mark.slow
def test_lame_parameters_of_different_sizes():
    """Elastic waves, below water: L-BFGS sees numbers of size one, and what is fluid stays so."""
    spread = ox.line((20.0, 40.0), (280.0, 40.0), 9)
    survey = ox.Survey([[60.0, 20.0], [220.0, 20.0]], spread, ox.ricker(9.0, 180, 0.002), 0.002)
    F = ox.Propagator(ox.Elastic(4), SEA, survey, 2600.0, boundary=ox.CPML(6))
    rock = np.arange(26)[None, :] >= 6
    ones = np.ones(SEA.shape)
    model = {
        "vp": jnp.asarray(np.where(rock, 2000.0, 1500.0) * ones, jnp.float32),
        "vs": jnp.asarray(np.where(rock, 1200.0, 0.0) * ones, jnp.float32),
        "rho": jnp.asarray(np.where(rock, 2000.0, 1000.0) * ones, jnp.float32),
    }
    true = model | {"vp": model["vp"].at[10:20, 12:18].add(150.0)}
    true["vs"] = true["vs"].at[10:20, 12:18].add(80.0)
    lame = par.lame()
    p = par.scaled(like=lame.from_model(model)) | lame
    start = p.from_model(model)
    size = [float(jnp.sqrt(jnp.mean(x**2))) for x in start.values()]
    np.testing.assert_allclose(size, 1.0, rtol=1e-4)
    result = ox.fwi(
        F, F(true), start, parameters=p, optimizer=optax.lbfgs(), iterations=5, progress=False
    )
    assert result.history.misfit[-1] < 0.7 * result.history.misfit[0]
    found = p(result.model)
    np.testing.assert_array_equal(found["vs"][:, :6], 0.0)
    assert float(jnp.max(jnp.abs(found["vs"] - model["vs"]))) > 1.0


@pytest.mark.slow
def test_impedance_within_bounds_of_density(sea: Any):
    """Bounds of vp and rho, as a projection of vp and impedance."""
    F, _, vp = sea
    F = ox.Propagator(ox.AcousticDensity(4), SEA, F.survey, 2600.0, boundary=ox.CPML(6))
    model = {"vp": vp, "rho": jnp.full(SEA.shape, 2000.0)}
    true = model | {"rho": model["rho"].at[10:20, 12:18].add(300.0)}
    p = par.scaled({"vp": 100.0, "impedance": 2e5}) | par.impedance("vp")
    box = ox.projections.box({"vp": 1400.0, "rho": 1990.0}, {"vp": 2200.0, "rho": 2010.0})
    result = ox.fwi(
        F, F(true), p.from_model(model), parameters=p, optimizer=LONG, iterations=4,
        progress=False, project=p.projection(box),
    )  # fmt: skip
    assert result.history.misfit[-1] < 0.8 * result.history.misfit[0]
    rho = p(result.model)["rho"]
    assert np.all((rho >= 1990.0 * (1.0 - 1e-6)) & (rho <= 2010.0 * (1.0 + 1e-6)))
    assert float(rho.max()) > 2009.9


# ---------------------------------------------------------------- in stages


def test_stages_refuse_what_is_made_for_one_grid(sea: Any):
    F, observed, start = sea
    stages = [ox.Stage(high=10.0, iterations=1, spacing=20.0), ox.Stage(high=20.0, iterations=1)]
    p = par.conditioned(start, pre.smoothing(SEA, 20.0))
    with pytest.raises(ValueError, match=r"a stage's grid.*condition=lambda F, model"):
        ox.multiscale(F, observed, p.from_model(start), stages, parameters=p)
    known = par.gardner(known=np.full(SEA.shape, 2000.0))
    with pytest.raises(ValueError, match=r"shape \(16, 14\), that of a stage's grid"):
        ox.multiscale(F, observed, start, stages, parameters=known)
    condition = lambda F, model: pre.smoothing(F.grid, 20.0)  # noqa: E731
    for name, value in {
        "bounds": (1500.0, 2000.0),
        "mask": 1.0,
        "project": lambda grid: ox.projections.smooth(grid, 30.0),
    }.items():
        with pytest.raises(ValueError, match=f"{name} does not go with condition"):
            ox.multiscale(F, observed, start, stages, condition=condition, **{name: value})


@pytest.mark.parametrize("other", [pytest.param(False, id="velocity"), slow(True)])
def test_stages_with_conditioned_gradients(sea: Any, other: bool, tmp_path: Any):
    """Made anew for each grid; what is inverted for may be slowness, and runs are resumed."""
    F, observed, start = sea
    stages = [ox.Stage(high=12.0, iterations=2, spacing=20.0), ox.Stage(high=20.0, iterations=2)]
    seen, models = [], []

    def condition(P: ox.Propagator, model: Any) -> Any:
        seen.append((P.grid.shape, jnp.shape(model)))
        return pre.top_mute(P.grid, 60.0, 0.0) @ pre.smoothing(P.grid, 20.0)

    p = par.scaled(1e-6) | par.slowness() if other else par.scaled(1.0)
    how: dict[str, Any] = {
        "parameters": p,
        "condition": condition,
        "regularize": lambda grid: ox.regularizers.tikhonov(grid, 0.0),
        "callback": lambda done, model, history: models.append(model),
        "optimizer": None if other else optax.adam(5.0),  # which is compiled faster
        "progress": False,
    }
    found = ox.multiscale(F, observed, p.from_model(start), stages, **how)
    assert seen == [((16, 14), (16, 14)), ((31, 26), (31, 26))]
    for stage, result in zip((0, 1), found.stages, strict=True):
        assert result.history.misfit[-1] < result.history.misfit[0]
        assert result.model.shape == seen[stage][0]
    np.testing.assert_array_equal(models[-1], found.model)
    np.testing.assert_array_equal(found.model, found.stages[1].model)
    if other:
        ox.multiscale(
            F, observed, p.from_model(start), stages, save=tmp_path / "run", **how
        )  # all stages are saved: the same call models nothing, but reads them
        again = ox.multiscale(
            F, observed, p.from_model(start), stages, save=tmp_path / "run", **how
        )
        np.testing.assert_array_equal(again.model, found.model)


# ---------------------------------------------------------------- refusals


VP = jnp.full(GRID.shape, 2000.0)
SMOOTHED = par.conditioned(VP, pre.smoothing(GRID, 20.0))
WEIGHTED = par.conditioned(VP, pre.top_mute(GRID, 20.0, 0.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: par.slowness().from_model(VP.at[0].set(0.0)), "least of the model is 0"),
        (
            lambda: par.slowness("vs").from_model({"vp": VP}),
            "a dict of vs, but was given one of vp",
        ),
        (lambda: par.slowness("vp")(VP), "slowness needs a dict of vp"),
        (lambda: par.logarithm().bounds(-1.0, 2.0), "the bound -1 of logarithm must not be"),
        (lambda: par.scaled(), "give either sizes or like=model"),
        (lambda: par.scaled(2.0, like=VP), "give either sizes or like=model"),
        (lambda: par.scaled({"vp": 0.0}), "must be positive and finite"),
        (lambda: par.scaled(like=jnp.zeros(3)), "must be positive and finite"),
        (lambda: par.scaled({"vp": 1.0})({"rho": VP}), "sizes does not fit the model"),
        (lambda: par.between(2.0, 1.0), "lower bound must be below"),
        (lambda: par.between(2000.0, 3000.0).from_model(VP), "2000 to 3000, and not on them"),
        (lambda: par.between(1e3, 3e3).bounds(1500.0, 2e3), "already keep to 1000 to 3000"),
        (lambda: par.gardner(0.31), "give 2.29.* at 3000 m/s: convert them"),
        (lambda: par.gardner(known=np.array([1000.0, -1.0])), "the least density is -1"),
        (lambda: par.gardner().bounds({"vp": 1.0, "rho": 1.0}, 5.0), "bounds of vp only"),
        (lambda: par.impedance("vs"), "keep='vs': choose one of 'vp', 'rho'"),
        (lambda: par.impedance("vp").bounds(1.0, 2.0), r"project=p.projection\(ox.projections.box"),
        (lambda: par.lame().bounds(1.0, 2.0), "bounds of the model are no bounds of what lame"),
        (lambda: (par.scaled(2.0) | par.lame()).bounds(1.0, 2.0), "of what lame inverts for"),
        (lambda: par.lame().from_model({"vp": VP}), "lame needs a dict with vs, rho|vp, vs, rho"),
        (lambda: SMOOTHED.from_model(VP + 1.0), "make it around the model that is to be the start"),
        (lambda: SMOOTHED.bounds(1500.0, 2500.0), "parametrizations.between.lower, upper."),
        (lambda: WEIGHTED.from_model(VP + 1.0), "where the operator's weights are zero"),
        (lambda: WEIGHTED.bounds(2100.0, 2500.0), "2000 to 2000, leaves the bounds 2100 to 2500"),
        (
            lambda: par.conditioned({"vp": VP}, pre.smoothing(GRID, 20.0)),
            "pass like=reference to what made the operator",
        ),
    ],
)
def test_bad_arguments(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_none_of_them():
    with pytest.raises(TypeError, match="has no inverse"):
        par.slowness() | (lambda model: model)  # type: ignore[operator]
    with pytest.raises(TypeError, match="operator"):
        par.conditioned(VP, lambda x: x)  # type: ignore[arg-type]
    own = par.Parametrization(lambda x: x**3, jnp.cbrt, name="cubes")
    np.testing.assert_allclose((own | par.scaled(2.0)).from_model(jnp.asarray([16.0])), [2.0])
    assert repr(own | par.scaled(2.0)) == "<parametrisation cubes | scaled>"


def test_a_line_search_points_to_conditioned():
    with pytest.raises(ValueError, match=r"ox.parametrizations.conditioned\(start, operator\)"):
        fwi(
            toy, OBSERVED, START, progress=False, optimizer=LBFGS, iterations=1,
            precondition=lambda g: g,
        )  # fmt: skip
