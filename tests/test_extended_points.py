"""Extended sources are point sources in all nodes, for every component: also where the fields that
they feed live elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow import slow_but

import ondax as ox
from ondax.testing import dot_test

SHAPE, H, DT = (31, 27), 10.0, 0.002
MODEL = {"vp": 2400.0, "vs": 1400.0, "rho": 2000.0}
RECEIVERS = np.array([[95.0, 130.0], [205.0, 130.0], [150.0, 75.0], [150.0, 185.0]])
COMPONENTS = ("explosive", "force_x", "force_z", "moment_xx", "moment_zz", "moment_xz")
DEPTHS = {
    "deep": (130.0, ox.Sponge(12)),
    "at a free surface": (0.0, ox.Faces(ox.Sponge(12), top=ox.FreeSurface())),
}


def propagators(
    component: str, depth: float, boundary: ox.AbstractBoundary
) -> tuple[ox.Propagator, ox.Propagator, np.ndarray]:
    """With extended and with point sources, and the weights: a smooth patch, symmetric about x =
    150 m."""
    below_a_surface = isinstance(boundary.face("z", "low"), ox.FreeSurface)
    x, z = np.meshgrid(*(np.arange(n) * H for n in SHAPE), indexing="ij")
    weights = np.exp(-((x - 150.0) ** 2 + (z - depth) ** 2) / (2 * 25.0**2))
    if component == "moment_xz" and below_a_surface:
        weights[:, 0] = 0.0  # it radiates nothing there, and points are refused
    at = weights > 1e-10
    cell = np.where((z[at] > 0.0) | (not below_a_surface), 1.0, 0.5)
    points = np.stack([x, z], -1)[at]
    wavelet = ox.ricker(12.0, 150, DT)
    kinds = {"source": component, "receiver": ("velocity_x", "velocity_z")}
    extended = ox.Survey(ox.Extended(1), RECEIVERS, wavelet, DT, **kinds)
    single = ox.Survey(
        points[None], RECEIVERS, (weights[at] * cell * H**2)[:, None] * wavelet, DT, **kinds
    )
    grid = ox.Grid(SHAPE, H)
    made = (
        ox.Propagator(ox.Elastic(4), grid, s, 2600.0, boundary=boundary) for s in (extended, single)
    )
    return *made, weights


@pytest.mark.parametrize("where", slow_but(DEPTHS, "at a free surface"))
@pytest.mark.parametrize("component", slow_but(COMPONENTS, "moment_xz"))
def test_they_are_points_in_all_nodes(component: str, where: str, x64: None):
    """To what is left out at weights of 1e-10."""
    depth, boundary = DEPTHS[where]
    extended, single, weights = propagators(component, depth, boundary)
    model = {n: jnp.full(SHAPE, v) for n, v in MODEL.items()}
    found = np.asarray(extended(model, weights=jnp.asarray(weights)[None]))
    right = np.asarray(single(model))
    assert np.linalg.norm(found - right) <= 1e-8 * np.linalg.norm(right)
    # in the vertical velocity, mirrored about x = 150 m
    odd = component in (
        "force_x",
        "moment_xz",
    )
    mirrored = found[0, 1, 1] * (-1.0 if odd else 1.0)
    np.testing.assert_allclose(found[0, 1, 0], mirrored, rtol=0.0, atol=1e-8 * np.abs(found).max())


@pytest.mark.parametrize("where", DEPTHS)
@pytest.mark.parametrize("component", slow_but(["force_x", "force_z", "moment_xz"], "moment_xz"))
def test_their_adjoint_is_the_transpose(component: str, where: str, x64: None):
    depth, boundary = DEPTHS[where]
    extended, _, weights = propagators(component, depth, boundary)
    model = {n: jnp.full(SHAPE, v) for n, v in MODEL.items()}
    w = jnp.asarray(weights)[None]
    d = jax.random.normal(jax.random.key(0), extended(model, weights=w).shape)
    assert (
        dot_test(lambda w: extended(model, weights=w), lambda d: extended.adjoint(model, d), w, d)
        < 1e-12
    )
