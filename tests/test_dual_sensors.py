"""`AcousticDensity` with particle velocities beside the pressure, and forces as sources."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import difference, dot, norm
from slow import slow_but

import ondax as ox
from ondax.calculus.idle import idle, without
from ondax.face import schemes

SHAPE, H, DT = (17, 15), 10.0, 0.0015
BOUNDARIES = {
    "sponge": ox.Sponge(4),
    "surface": ox.Faces(ox.Sponge(4), top=ox.FreeSurface(), right=ox.CPML(4)),
}
ENDS = ("source", "force_x", "force_z"), ("velocity_x", "velocity_z", "pressure")


@pytest.fixture(autouse=True)
def quick_compilers(quick_compilers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports are tested here, not the optimiser."""
    monkeypatch.setenv("ONDAX_CFLAGS", "-O0")


@cache
def propagator(boundary: str) -> ox.Propagator:
    """Two shots of two random sources of all kinds, into receivers of all kinds."""
    rng = np.random.default_rng(5)
    sources, receivers = rng.uniform(30.0, 110.0, (2, 2, 2)), rng.uniform(20.0, 120.0, (2, 3, 2))
    sources[0, 0, 1], receivers[:, 0, 1] = 13.0, 6.0
    # Forces of N fire waves as strong as those of volumes: over lengths of about a cell.
    w = rng.normal(size=(2, 3, 2, 50)) * np.array([1.0, H, H])[:, None, None]
    survey = ox.Survey(sources, receivers, w, DT, source=ENDS[0], receiver=ENDS[1])
    return ox.Propagator(
        ox.AcousticDensity(2),
        ox.Grid(SHAPE, H),
        survey,
        2300.0,
        boundary=BOUNDARIES[boundary],
        min_points_per_wavelength=0.0,
    )


def model(dtype: str = "float64") -> dict[str, jax.Array]:
    rng = np.random.default_rng(1)
    ranges = {"vp": (1800.0, 2200.0), "rho": (1000.0, 2000.0)}
    return {n: jnp.asarray(rng.uniform(*ends, SHAPE), dtype) for n, ends in ranges.items()}


def scaled(traces: jax.Array) -> jax.Array:
    """Velocities as large as pressures, so that either counts."""
    impedance = jnp.asarray([2e6, 2e6, 1.0], traces.dtype)
    return traces * impedance[:, None, None]


def assert_dots(boundary: str, dtype: str, allowed: float) -> None:
    F, m, rng = propagator(boundary), model(dtype), np.random.default_rng(3)
    w = jnp.asarray(F.survey.wavelet, dtype)
    y = jnp.asarray(rng.normal(size=jax.eval_shape(F, m).shape), dtype)
    d, pull = jax.vjp(lambda m, w: scaled(F(m, wavelet=w)), m, w)
    assert min(norm(d[:, n]) for n in range(3)) > 0.01 * norm(d)
    assert abs(dot(d, y) - dot(w, pull(y)[1])) < allowed * norm(d) * norm(y)
    dm = jax.tree.map(
        lambda a: jnp.asarray(0.1 * float(a.mean()) * rng.normal(size=a.shape), dtype), m
    )
    J, (_, back) = F.jacobian(m), jax.vjp(lambda m: scaled(F(m)), m)
    assert ox.dot_test(lambda dm: scaled(J.mv(dm)), lambda d: back(d)[0], dm, y) < allowed


@pytest.mark.parametrize("boundary", slow_but(BOUNDARIES, "surface"))
@pytest.mark.slow
def test_adjoints(boundary: str, x64: None):
    assert_dots(boundary, "float64", 1e-12)


@pytest.mark.slow
def test_adjoints_in_single_precision():
    assert_dots("surface", "float32", 1e-5)


@pytest.mark.parametrize("name", slow_but(["vp", "rho"], "rho"))
def test_taylor(name: str, x64: None):
    """`|F(m + h dm) - F(m) - h J dm|` falls as h^2, for each component: the density at receivers
    and at forces counts too."""
    F, m, rng = propagator("surface"), model(), np.random.default_rng(4)
    dm = {n: 0.1 * float(a.mean()) * rng.normal(size=a.shape) * (n == name) for n, a in m.items()}
    dm = jax.tree.map(jnp.asarray, dm)
    d, born = F(m), F.jacobian(m).mv(dm)
    steps = 0.1 * 0.5 ** np.arange(5)
    moved = [F(jax.tree.map(lambda a, v, h=h: a + h * v, m, dm)) for h in steps]
    for n in range(3):
        errors = [norm(x[:, n] - d[:, n] - h * born[:, n]) for x, h in zip(moved, steps)]
        slopes = np.log2(np.array(errors[:-1]) / errors[1:])
        assert np.all((slopes > 1.95) & (slopes < 2.05)), (ENDS[1][n], slopes)


def test_what_is_not_asked_for_costs_nothing():
    """Neither fields nor memories: the scheme is that of the pressure alone. Forces without
    velocities, and the other way round, have their own fields only."""
    boundary = ox.CPML(4)

    def fields(inputs: tuple[str, ...], outputs: tuple[str, ...]) -> list[str]:
        equation = ox.AcousticDensity(2)
        system = schemes.program(
            equation, boundary, 2, "float32", inputs, outputs, False, False, frozenset()
        ).program.system
        return [f.name for f in system.fields if not f.name.startswith("memory")]

    assert fields(("source",), ("receiver",)) == ["p"]
    assert fields(("source",), ("pressure", "velocity_z")) == ["v_z", "p"]
    assert fields(("force_x",), ("pressure",)) == ["f_x", "p"]
    assert fields(("force_x",), ("velocity_z",)) == ["f_x", "v_z", "p"]
    symbols = ox.Symbols(2, 2)
    stated = ox.AcousticDensity(2).system(symbols, boundary)
    alone = without(stated, idle(stated, ("source",), ("receiver",)))
    assert [p.name for p in (*alone.inputs, *alone.outputs)] == ["source", "receiver", "pressure"]
    elastic = ox.Elastic(2).system(symbols, boundary)
    assert not idle(elastic, ("force_x",), ("curl",))
    assert without(elastic, ()) is elastic


def test_pressure_is_the_same_beside_velocities(x64: None):
    """Alone, under either name, to the bit. Beside velocities, to its interpolation half a step
    back in time, a cubic: (omega dt)^4 / 40 at three times 15 Hz, 2e-4."""
    common: dict[str, Any] = {"boundary": ox.Sponge(4), "time_dispersion": "raw"}
    common |= {"min_points_per_wavelength": 0.0}
    w, points = ox.ricker(15.0, 200, 1e-3), ([[60.0, 60.0]], [[100.0, 80.0]])
    default, alone, beside = (
        ox.Propagator(
            ox.AcousticDensity(2),
            ox.Grid(SHAPE, H),
            ox.Survey(*points, w, 1e-3, receiver=kind),
            2300.0,
            **common,
        )(model())
        for kind in (None, "pressure", ("pressure", "velocity_z"))
    )
    np.testing.assert_array_equal(default, alone)
    assert difference(beside[:, 0], alone) < 1e-3
