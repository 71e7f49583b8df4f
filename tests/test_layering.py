"""Strata that meet a perfectly matched layer: which make waves grow, and that nobody is left to find out."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ondax as ox
from ondax.layering import LIMIT, WINDOW, layering, matters

Model = dict[str, np.ndarray]
H = 10.0


def medium(vp: Any, ratio: Any = 1.8, rho: Any = 2000.0) -> Model:
    vp = np.asarray(vp, float)
    return {"vp": vp, "vs": vp / ratio, "rho": np.broadcast_to(rho, vp.shape).astype(float)}


def across(model: Model, columns: int) -> Model:
    """Profiles in depth, everywhere in x."""
    return {n: np.broadcast_to(v, (columns, v.size)).copy() for n, v in model.items()}


def strata(thickness: int, count: int, ratio: float, slow: float = 1600.0) -> np.ndarray:
    """Speeds of so many fast beds, between slow ones of the same thickness."""
    fast = np.concatenate([np.zeros(4), np.tile(np.repeat([1.0, 0.0], thickness), count), np.zeros(4)])
    return slow * np.where(fast == 1.0, ratio, 1.0)


def measured(model: Model, boundary: ox.AbstractBoundary | None = None) -> float:
    ndim = next(iter(model.values())).ndim
    named = {n: jnp.asarray(v) for n, v in model.items()}
    return float(layering(ox.Elastic(), boundary or ox.CPML(), ndim, named))


# ---------------------------------------------------------------- what is measured


@pytest.mark.usefixtures("x64")
def test_layering_of_strata():
    """A bed between others has one interface that reflects upwards and one downwards: `2 n R^2` for n beds."""
    reflection = (1.5 - 1.0) / (1.5 + 1.0)
    for thickness in (1, 2, 8):
        for count in (1, 3):
            model = across(medium(strata(thickness, count, 1.5)), 5)
            assert measured(model) == pytest.approx(2 * count * reflection**2, rel=1e-12)
            turned = {n: v.T for n, v in model.items()}
            assert measured(turned) == measured(model)
            deep = {n: np.broadcast_to(v, (4, *v.shape)) for n, v in model.items()}
            assert measured(deep) == measured(model)


@pytest.mark.usefixtures("x64")
def test_what_does_not_turn_back_has_no_layering():
    z = np.arange(200)
    sea = z < 30
    bottom = {
        "vp": np.where(sea, 1500.0, 1800.0 + 10.0 * z),
        "vs": np.where(sea, 0.0, 600.0 + 7.0 * z),
        "rho": np.where(sea, 1000.0, 2000.0),
    }
    for model in (medium(np.full(50, 2000.0)), medium(np.where(z < 90, 1500.0, 4500.0)), bottom):
        assert measured(across(model, 5)) < 1e-12
        assert measured(across(model, 5), ox.Faces(ox.CPML(), top=ox.FreeSurface())) < 1e-12
    waves = medium(2000.0 + 500.0 * np.sin(2.0 * np.pi * z / 200.0))
    assert measured(across(waves, 5)) < LIMIT


@pytest.mark.usefixtures("x64")
def test_layering_is_of_faces_with_perfectly_matched_layers():
    rough = across(medium(strata(2, 5, 2.0)), 30)
    inside = {n: np.pad(v[5:-5], ((5, 5), (0, 0)), constant_values=float(v[0, 0])) for n, v in rough.items()}
    assert measured(inside) == 0.0
    one = {n: np.concatenate([inside[n][:-1], v[-1:]]) for n, v in rough.items()}
    assert measured(one) > LIMIT
    assert measured(one, ox.Faces(ox.CPML(), right=ox.Sponge(20))) == 0.0
    assert not matters(ox.Elastic(), ox.Sponge(), 2)
    assert not matters(ox.Acoustic(), ox.CPML(), 2)


@pytest.mark.usefixtures("x64")
def test_a_free_surface_reflects():
    """A stiff bed on a soft ground is a plate: nothing above reflects all, `R^2` of it below is what counts."""
    model = across(medium(np.where(np.arange(60) < 8, 3000.0, 1500.0)), 5)
    assert measured(model) == 0.0
    assert measured(model, ox.Faces(ox.CPML(), top=ox.FreeSurface())) == pytest.approx(2.0 / 9.0, rel=1e-12)


@pytest.mark.usefixtures("x64")
def test_layering_looks_so_far_and_as_wide_as_a_wave():
    """Interfaces may be spread over a few cells; beds farther apart than the window do not add up."""
    sharp = strata(16, 1, 2.0)
    padded = np.pad(sharp, 3, mode="edge")
    spread = np.convolve(padded, np.ones(4) / 4.0, mode="valid")
    assert 0.7 * measured(across(medium(sharp), 5)) < measured(across(medium(spread), 5))
    far = np.concatenate([sharp, np.full(WINDOW, 1600.0), sharp])
    assert measured(across(medium(far), 5)) == pytest.approx(measured(across(medium(sharp), 5)), rel=1e-12)


# ---------------------------------------------------------------- who is told


def modelling(boundary: ox.AbstractBoundary | None = None) -> ox.Propagator:
    survey = ox.Survey(np.full((1, 2), 50.0), np.full((1, 2), 60.0), ox.ricker(5.0, 20, 1e-3), 1e-3)
    options: dict[str, Any] = dict(time_dispersion="raw", min_points_per_wavelength=0.0)
    return ox.Propagator(ox.Elastic(4), ox.Grid((9, 28), H), survey, 3200.0, boundary=boundary, **options)


ROUGH = across(medium(strata(2, 5, 2.0)), 9)


def test_a_call_warns_once():
    F = modelling()
    smooth = across(medium(np.full(28, 2000.0)), 9)
    model = {n: v.astype("float32") for n, v in ROUGH.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F({n: v.astype("float32") for n, v in smooth.items()})
    with pytest.warns(ox.GrowthInLayers, match=r"Elastic.*may grow.*boundary=ox\.Sponge\(\)") as seen:
        F(model)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F(model)
    with pytest.warns(ox.GrowthInLayers, match="may grow"):  # known only inside the callback
        jax.block_until_ready(jax.jit(modelling())(model))
