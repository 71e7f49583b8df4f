"""Receivers along a fibre: the strain rate over a gauge length."""

import pickle
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import difference, dot, norm

import ondax as ox

GRID, DT, GAUGE = ox.Grid((25, 23), 10.0), 0.002, 30.0
SOURCES = [[60.0, 50.0], [150.0, 70.0]]
# Of each shot; the ends of their gauge lengths, too, are off the grid points, where windows have
# kinks.
CHANNELS = [ox.line((61.3, 62.7), (181.3, 152.7), n) for n in (3, 2)]
TANGENTS = [np.array([[1.0, 0.0], [3.0, 4.0], [0.0, -2.0]]), np.array([[1.0, 1.0], [-1.0, 2.0]])]
FIBRE = ox.Fibre(TANGENTS, GAUGE)


@pytest.fixture(autouse=True)
def quick_compilers(quick_compilers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers are tested here, not the optimiser."""
    monkeypatch.setenv("ONDAX_CFLAGS", "-O0")


def survey(receiver: Any, channels: Any = CHANNELS, **kinds: Any) -> ox.Survey:
    return ox.Survey(SOURCES, channels, ox.ricker(15.0, 100, DT), DT, receiver=receiver, **kinds)


def propagator(of: ox.Survey, **options: Any) -> ox.Propagator:
    # Schemes are compared here, not physics: 15 Hz are high for order 2.
    plain = {"time_dispersion": "raw", "min_points_per_wavelength": 0.0}
    options = {"boundary": ox.CPML(4)} | plain | options
    return ox.Propagator(ox.AcousticDensity(2), GRID, of, 2300.0, **options)


@cache
def fibre() -> ox.Propagator:
    return propagator(survey(FIBRE))


def model() -> dict[str, jax.Array]:
    rng = np.random.default_rng(1)
    vp, rho = (jnp.asarray(rng.uniform(*ends, GRID.shape)) for ends in ((1800, 2200), (1000, 2000)))
    return {"vp": vp, "rho": rho}


# ---------------------------------------------------------------- traces


def velocities() -> np.ndarray:
    """At both ends of all gauge lengths, (shot, channel, end, component, time); zeros where a shot
    has no such channel."""
    ends = [
        (rows[:, None] + GAUGE / 2 * sign * (t / np.linalg.norm(t, axis=1, keepdims=True))[:, None])
        for rows, t in zip(CHANNELS, TANGENTS, strict=True)
        for sign in (1, -1)
    ]
    places = [np.concatenate(ends[n : n + 2], axis=1).reshape(-1, 2) for n in (0, 2)]
    traces = propagator(survey(("velocity_x", "velocity_z"), places))(model())
    return np.moveaxis(np.asarray(traces).reshape(2, 2, 3, 2, -1), 1, 3)


def test_traces_are_differences_of_velocities(x64: None):
    """Over the gauge length, along the fibre; in a ragged survey, alone and beside other
    components."""
    plus, minus = np.moveaxis(velocities(), 2, 0)
    t = np.zeros((2, 3, 2, 1))
    for row, rows in zip(t, TANGENTS, strict=True):
        row[: len(rows), :, 0] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = (t * (plus - minus)).sum(2) / GAUGE
    assert difference(fibre()(model()), expected) < 1e-12
    straight = ox.Fibre([1.0, 0.0], 20.0)
    several = survey(("velocity_z", straight, FIBRE))
    traces = propagator(several)(model())
    assert traces.shape == (2, 3, 3, 100)
    assert difference(traces[:, 2], expected) < 1e-12
    single = propagator(survey("velocity_z"))(model())
    assert difference(traces[:, 0], single) < 1e-12
    assert difference(traces[:, 1], propagator(survey(straight))(model())) < 1e-12


@pytest.mark.slow
def test_a_fibre_is_reciprocal_to_a_pair_of_forces(x64: None):
    """Opposite forces at the two ends, by their directions and over the gauge length. To rounding
    of 100 steps."""
    channel, tangent, other = np.array([120.0, 100.0]), np.array([0.6, 0.8]), [[60.0, 60.0]]
    w = ox.ricker(15.0, 100, DT)
    there = ox.Survey(other, [channel], w, DT, source="force_z", receiver=ox.Fibre(tangent, GAUGE))
    ends = [channel + s * GAUGE / 2 * tangent for s in (1, -1)]
    pair = {
        f"force_{axis}": np.array([[t, -t]]) / GAUGE for axis, t in zip("xz", tangent, strict=True)
    }
    back = ox.Survey([ends], other, w, DT, source=pair, receiver="velocity_z")
    assert difference(propagator(there)(model()), propagator(back)(model())) < 1e-11


# ---------------------------------------------------------------- calculus


def test_adjoints(x64: None):
    """Of modelling, in the wavelets, and of Born modelling: density and velocity."""
    F, m, rng = fibre(), model(), np.random.default_rng(3)
    w, y = (
        jnp.asarray(rng.normal(size=shape))
        for shape in (F.survey.wavelet.shape, jax.eval_shape(F, m).shape)
    )
    d, pull = jax.vjp(lambda m, w: F(m, wavelet=w), m, w)
    assert abs(dot(d, y) - dot(w, pull(y)[1])) < 1e-12 * norm(d) * norm(y)
    dm = jax.tree.map(lambda a: jnp.asarray(0.1 * a.mean() * rng.normal(size=a.shape)), m)
    J, (_, back) = F.jacobian(m), jax.vjp(F, m)
    assert ox.dot_test(J.mv, lambda d: back(d)[0], dm, y) < 1e-12


def test_gradients_in_positions(x64: None):
    """They move whole gauge lengths. Against a central difference of the misfit; steps are 1e-3 m,
    and waves 130 m long: 1e-8."""
    F, m, rng = fibre(), model(), np.random.default_rng(4)
    at = jnp.asarray(F.survey.receivers)
    y, move = (jnp.asarray(rng.normal(size=s)) for s in ((2, 3, 100), at.shape))

    def value(r: jax.Array) -> jax.Array:
        return jnp.vdot(y, F(m, receivers=r))

    e = 1e-3
    numerical = float(value(at + e * move) - value(at - e * move)) / (2 * e)
    analytic = float(jnp.vdot(jax.grad(value)(at), move))
    assert abs(numerical - analytic) < 1e-5 * abs(analytic)


# ---------------------------------------------------------------- surveys


def directions(of: ox.Survey) -> np.ndarray:
    """Of the last component that it records."""
    kind: Any = of.receiver
    return (kind[-1] if isinstance(kind, tuple) else kind).direction


def test_a_survey_keeps_directions_with_its_receivers():
    one = survey(("pressure", FIBRE))[1:]
    np.testing.assert_array_equal(directions(one), [TANGENTS[1]])
    np.testing.assert_array_equal(directions(pickle.loads(pickle.dumps(one))), [TANGENTS[1]])
    less = survey(FIBRE, CHANNELS).inside(ox.Grid((25, 13), 10.0))  # without channels below 120 m
    np.testing.assert_array_equal(directions(less)[0, :2], TANGENTS[0][:2])
    np.testing.assert_array_equal(directions(less)[1, 0], TANGENTS[1][0])
    straight = survey(ox.Fibre((0.0, 1.0), 5.0))
    assert directions(straight.replace(receivers=CHANNELS[0])).shape == (2,)
    assert repr(straight.receiver) == "Fibre(direction (2,), gauge=5)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ox.Fibre((0.0, 0.0), 10.0), r"direction=.* not zero"),
        (lambda: ox.Fibre((1.0, np.nan), 10.0), "not finite"),
        (lambda: ox.Fibre((1.0, 0.0), 0.0), "gauge=0.0 must be a positive number, in metres"),
        (lambda: survey(ox.Fibre((1.0, 0.0, 0.0), 10.0)), r"shape \(3,\): give \(2,\)"),
        (lambda: survey(ox.Fibre(TANGENTS[::-1], 10.0)), "give one vector for each"),
        (lambda: survey(None, source=FIBRE), "a fibre records only"),
        (
            lambda: ox.Propagator(ox.Acoustic(4), GRID, survey(FIBRE), 2300.0),
            "reads velocity_x, velocity_z, and this equation offers receiver",
        ),
        (
            lambda: propagator(survey(ox.Fibre((1.0, 0.0), 130.0))),
            "the ends of gauge lengths: 4 of 10 lie outside the grid",
        ),
        (
            lambda: propagator(survey(FIBRE), aperture=25.0),
            "aperture=25.0 is less than the gauge length of the fibre, 30 m",
        ),
    ],
)
def test_what_fibres_cannot_be(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_positions_given_with_a_call_are_checked():
    """All ends of gauge lengths must lie in the grid."""
    away = np.array(fibre().survey.receivers)
    away[1, 0] = [238.0, 60.0]  # its gauge length ends 10.6 m further
    single = jax.tree.map(lambda a: a.astype("float32"), model())
    with pytest.raises(ValueError, match=r"the ends of gauge lengths: 1 of 10 lie outside"):
        fibre()(single, receivers=away)
