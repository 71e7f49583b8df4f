"""Positions at map coordinates, millions of metres from the origin, where float32 resolves half a
metre."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import difference

import ondax as ox

FAR = 4.5e6
SOURCES, RECEIVERS = np.array([[[152.3, 50.0]]]), np.array([[[403.7, 30.0], [310.1, 55.5]]])


def shifted(points: np.ndarray, origin: float) -> np.ndarray:
    return points + np.array([origin, 0.0])


def at(origin: float, survey_at: float | None = None) -> ox.Propagator:
    """A section whose first coordinate begins at an origin, with a survey at the same place unless
    told otherwise."""
    base = origin if survey_at is None else survey_at
    survey = ox.Survey(
        shifted(SOURCES, base), shifted(RECEIVERS, base), ox.ricker(12.0, 150, 0.002), 0.002
    )
    grid = ox.Grid((61, 21), 10.0, origin=(origin, 0.0))
    return ox.Propagator(
        ox.Acoustic(space_order=4), grid, survey, 2600.0, boundary=ox.Sponge(width=10)
    )


def model(dtype: str = "float32") -> jax.Array:
    return jnp.full((61, 21), 2000.0, dtype)


@pytest.mark.parametrize("origin", [0.0, FAR])
def test_numpy_positions_are_the_surveys(origin: float, dtype: str):
    """Given to a call, they give the traces of the same positions in the survey, at any origin, in
    the model's precision, also under jit. (A pair of float32 numbers is good to 1e-8 m at 4500
    km.)"""
    F = at(origin)
    wanted = F(model(dtype))
    given = {"sources": shifted(SOURCES, origin), "receivers": shifted(RECEIVERS, origin)}
    got, jitted = F(model(dtype), **given), jax.jit(lambda m: F(m, **given))(model(dtype))
    assert got.dtype == jitted.dtype == jnp.dtype(dtype)
    assert difference(got, wanted) < (1e-7 if dtype == "float32" else 1e-15)
    assert difference(jitted, wanted) < (1e-6 if dtype == "float32" else 1e-14)
    # A shift of the coordinates rounds positions to a billionth of a metre, and no more.
    assert difference(wanted, at(0.0)(model(dtype))) < (1e-9 if dtype == "float64" else 1e-6)


def test_gradients_pass_by_numpy_positions():
    F = at(FAR)
    given = {"sources": shifted(SOURCES, FAR), "receivers": shifted(RECEIVERS, FAR)}
    gradient = jax.grad(lambda m: jnp.sum(F(m, **given) ** 2))(model())
    assert difference(gradient, jax.grad(lambda m: jnp.sum(F(m) ** 2))(model())) < 1e-6


def test_jax_positions_in_double(x64: None):
    """They are kept so, and differentiated so: the gradients do not know where the origin is."""

    def slopes(origin: float):
        F = at(origin)
        places = jnp.asarray(shifted(SOURCES, origin)), jnp.asarray(shifted(RECEIVERS, origin))
        return jax.grad(
            lambda s, r: jnp.sum(F(model(), sources=s, receivers=r) ** 2), argnums=(0, 1)
        )(*places)

    here, there = slopes(0.0), slopes(FAR)
    assert all(a.dtype == jnp.float64 for a in there)
    # the wavefield is float64 too; positions are good to 1e-9 of 10 m
    assert difference(there, here) < 1e-7


REFUSED = (
    r"receivers came in float32, which at 450\d{4}(\.\d+)? m resolves 0\.5 m only.*"
    r"NumPy arrays in float64"
)


@pytest.mark.parametrize("kind", ["eager", "NumPy", "jit", "vmap", "grad"])
def test_single_precision_that_has_lost_the_digits_is_refused(kind: str):
    """At once, from the values or, where these are traced, from where the grid lies."""
    F, r = at(FAR), shifted(RECEIVERS, FAR).astype(np.float32)

    def traces(r):
        return F(model(), receivers=r)

    calls = {
        "eager": lambda: traces(jnp.asarray(r)),
        "NumPy": lambda: traces(r),
        "jit": lambda: jax.jit(traces)(r),
        "vmap": lambda: jax.vmap(traces)(jnp.asarray(r)[None]),
        "grad": lambda: jax.grad(lambda r: jnp.sum(traces(r)))(jnp.asarray(r)),
    }
    with pytest.raises(ValueError, match=REFUSED):
        calls[kind]()


def test_single_precision_is_refused_in_the_call_where_only_that_tells():
    """A grid that reaches from 0 to 24 km: traced positions may be resolved to a millimetre, or
    not."""
    grid = ox.Grid((41, 11), (600.0, 600.0))
    survey = ox.Survey([[600.0, 600.0]], [[900.0, 600.0]], ox.ricker(0.4, 100, 0.1), 0.1)
    F = ox.Propagator(ox.Acoustic(space_order=4), grid, survey, 2600.0, boundary=ox.Sponge(width=4))
    v = jnp.full((41, 11), 2500.0)
    run = jax.jit(lambda r: F(v, receivers=r))
    assert np.isfinite(run(jnp.array([[[9000.0, 600.0]]]))).all()
    with pytest.raises(
        Exception, match=r"receivers came in float32, which at 20000 m resolves 0\.00195 m only"
    ):
        jax.block_until_ready(run(jnp.array([[[20000.0, 600.0]]])))
    assert np.isfinite(F(v, receivers=np.array([[[20000.0, 600.0]]]))).all()


@pytest.mark.parametrize("which", ["sources", "receivers"])
def test_surveys_refuse_it_too(which: str):
    points = {"sources": shifted(SOURCES, FAR), "receivers": shifted(RECEIVERS, FAR)}
    points[which] = points[which].astype(np.float32)
    with pytest.raises(ValueError, match=rf"{which} came in float32.*resolves 0\.5 m only"):
        ox.Survey(**points, wavelet=np.ones(5), dt=0.001)


def test_positions_beside_a_node_are_not_moved_onto_it(x64: None):
    """Less than half a millimetre off a node is a position of its own: traces move by as much as
    their slope says. (In float32, a hundredth of the difference is rounding.)"""
    F, step, v = at(0.0), np.array([4e-4, 0.0]), model("float32")
    on_node = np.array([[[400.0, 50.0], [300.0, 50.0]]])
    y = jnp.asarray(np.random.default_rng(0).standard_normal((1, 2, 150)), jnp.float32)
    moved = F(v, receivers=on_node + step) - F(v, receivers=on_node - step)
    slope = jax.grad(lambda r: jnp.vdot(y, F(v, receivers=r).astype(jnp.float32)))(
        jnp.asarray(on_node)
    )
    change = 2 * step[0] * float(slope[..., 0].sum())
    assert abs(float(jnp.vdot(y, moved)) - change) < 0.05 * abs(change)
