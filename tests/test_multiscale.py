"""Inversion in stages: filters of wavelets and data agree, models go from grid to grid, and a run
goes on where it stopped."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import difference

import ondax as ox
from ondax.inversion.multiscale import (
    coarse_grid,
    filtered_survey,
    filtered_traces,
    first_step,
    resampled,
)

GRID = ox.Grid((41, 31), 10.0)
WAVELET = ox.ricker(15.0, 150, 0.002)
SURVEY = ox.Survey(
    [[80.0, 20.0], [320.0, 20.0]], ox.line((20.0, 30.0), (380.0, 30.0), 10), WAVELET, 0.002, nt=250
)
F = ox.Propagator(ox.Acoustic(4), GRID, SURVEY, 2600.0, boundary=ox.CPML(8))
START = jnp.full(GRID.shape, 2000.0)
TRUE = START.at[15:26, 12:20].add(150.0)


def test_filtering_wavelets_is_filtering_traces():
    """Up to the ends of the record, where a filter of traces finds zeros and waves do not."""
    modelled = F.with_survey(filtered_survey(SURVEY, 0.0, 12.0))(START)
    expected = filtered_traces(np.asarray(F(START)), 0.002, 0.0, 12.0)
    assert modelled.shape == expected.shape
    inner = slice(20, -60)
    assert difference(modelled[..., inner], expected[..., inner]) < 1e-2
    gathers = list(np.asarray(F(START)))
    for filtered, whole in zip(filtered_traces(gathers, 0.002, 0.0, 12.0), expected, strict=True):
        np.testing.assert_allclose(filtered, whole, atol=1e-6)


def test_filters_pass_their_band():
    t = np.arange(2000) * 0.002
    window = np.hanning(2000)
    for frequency, low, high, gain in (
        (5.0, 0.0, 10.0, 1.0 / (1.0 + 0.5**8)),
        (10.0, 0.0, 10.0, 0.5),
        (20.0, 0.0, 10.0, 1.0 / (1.0 + 2.0**8)),
        (5.0, 5.0, 50.0, 0.5),
    ):
        wave = window * np.cos(2.0 * np.pi * frequency * (t - 2.0))
        found = filtered_traces(wave[None], 0.002, low, high)[0]
        middle = slice(900, 1100)
        ratio = np.vdot(found[middle], wave[middle]) / np.vdot(wave[middle], wave[middle])
        assert ratio == pytest.approx(gain, rel=0.02, abs=2e-3)  # the window's bandwidth


def test_models_between_grids():
    coarse = coarse_grid(GRID, 20.0)
    assert coarse.shape == (21, 16)
    assert coarse_grid(GRID, 30.0).extent[0][1] >= GRID.extent[0][1]
    x, z = np.meshgrid(np.arange(41) * 10.0, np.arange(31) * 10.0, indexing="ij")
    plane = jnp.asarray(1500.0 + 2.0 * x + 3.0 * z, jnp.float32)
    down = resampled(plane, GRID, coarse)
    inner = down[1:-1, 1:-1]
    np.testing.assert_allclose(inner, plane[2:-2:2, 2:-2:2], rtol=1e-6)  # averages of planes
    np.testing.assert_allclose(
        resampled(down, coarse, GRID)[2:-2, 2:-2], plane[2:-2, 2:-2], rtol=1e-6
    )
    both = resampled({"vp": plane, "rho": 2.0 * plane}, GRID, coarse)
    np.testing.assert_allclose(both["rho"], 2.0 * both["vp"], rtol=1e-6)
    assert resampled(plane, GRID, GRID) is plane


def test_stages_fit_the_data(tmp_path: Any):
    """On a coarse grid first; saved and resumed to the same bits."""
    observed = F(TRUE)
    stages = [
        ox.Stage(high=8.0, iterations=2, spacing=20.0),
        ox.Stage(high=15.0, iterations=2),
    ]
    how: dict[str, Any] = {
        "optimizer": optax.adam(4.0),
        "progress": False,
        "bounds": (1800.0, 2300.0),
        "regularize": lambda grid: ox.regularizers.tikhonov(grid, 1e-9),
    }
    result = ox.multiscale(F, observed, START, stages, **how)
    assert [r.model.shape for r in result.stages] == [(21, 16), GRID.shape]
    assert result.model.shape == GRID.shape
    for stage in result.stages:
        assert stage.history.misfit[-1] < stage.history.misfit[0]
    assert jnp.linalg.norm(result.model - TRUE) < jnp.linalg.norm(START - TRUE)
    saved = tmp_path / "line"
    ox.multiscale(F, observed, START, stages[:1], save=saved, **how)
    again = ox.multiscale(F, observed, START, stages, save=saved, **how)
    np.testing.assert_array_equal(again.model, result.model)
    once_more = ox.multiscale(F, observed, START, stages, save=saved, **how)
    np.testing.assert_array_equal(once_more.model, result.model)


@pytest.mark.slow
def test_the_source_is_estimated_anew():
    """With a wrong wavelet, the data are fitted better after an estimate."""
    observed = F(TRUE)
    wrong = F.with_survey(SURVEY.replace(wavelet=np.roll(WAVELET, 8) * 0.5))
    stages = [ox.Stage(high=12.0, iterations=1)]
    how: dict[str, Any] = {"optimizer": optax.adam(1.0), "progress": False}
    kept, estimated = (
        ox.multiscale(wrong, observed, START, stages, reestimate=r, **how).stages[0].history.misfit
        for r in (False, True)
    )
    assert estimated[0] < 0.1 * kept[0]


def test_stages_that_cannot_be():
    with pytest.raises(ValueError, match="low=5.0 must be below high=5.0"):
        ox.Stage(high=5.0, iterations=1, low=5.0)
    with pytest.raises(ValueError, match="spacing=0.0"):
        ox.Stage(high=5.0, iterations=1, spacing=0.0)
    with pytest.raises(ValueError, match="at least one"):
        ox.multiscale(F, jnp.zeros((2, 10, 250)), START, [])


@pytest.mark.parametrize("name", ["slowness", "squared_slowness", "logarithm"])
def test_the_first_step_is_in_units_of_the_model(name: str):
    """20 m/s in the root mean square, whatever is inverted for."""
    parameters = getattr(ox.parametrizations, name)()
    x = parameters.from_model(START)
    step = jnp.full_like(x, first_step(x, parameters) / x.size**0.5)
    moved = jax.jvp(parameters, (x,), (step,))[1]
    assert float(jnp.sqrt(jnp.mean(moved**2))) == pytest.approx(20.0, rel=1e-3)
