"""Strata that meet a perfectly matched layer: which make waves grow, and that nobody is left to
find out."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ondax as ox
from ondax.stability.layering import LIMIT, WINDOW, layering, matters

Model = dict[str, np.ndarray]
H = 10.0


def medium(vp: Any, ratio: Any = 1.8, rho: Any = 2000.0) -> Model:
    vp = np.asarray(vp, float)
    return {"vp": vp, "vs": vp / ratio, "rho": np.broadcast_to(rho, vp.shape).astype(float)}


POINTS = 240  # in depth: models of one shape are compiled once


def across(model: Model, points: int = POINTS, columns: int = 5) -> Model:
    """Profiles in depth, which go on by their last value, everywhere in x."""
    longer = {n: np.pad(v, (0, points - v.size), mode="edge") for n, v in model.items()}
    return {n: np.broadcast_to(v, (columns, points)).copy() for n, v in longer.items()}


def strata(thickness: int, count: int, ratio: float, slow: float = 1600.0) -> np.ndarray:
    """Speeds of so many fast beds, between slow ones of the same thickness."""
    fast = np.concatenate(
        [np.zeros(4), np.tile(np.repeat([1.0, 0.0], thickness), count), np.zeros(4)]
    )
    return slow * np.where(fast == 1.0, ratio, 1.0)


def measured(model: Model, boundary: ox.AbstractBoundary | None = None) -> float:
    ndim = next(iter(model.values())).ndim
    named = {n: jnp.asarray(v) for n, v in model.items()}
    return float(layering(ox.Elastic(), boundary or ox.CPML(), ndim, named))


# ---------------------------------------------------------------- what is measured


@pytest.mark.usefixtures("x64")
def test_what_is_measured():
    """A bed between others has one interface that reflects upwards and one downwards: `2 n R^2` for
    n beds. What only gets stiffer, a sea floor included, has none. Interfaces may be spread over a
    few cells; what is farther apart than the window does not add up."""
    square = 0.2**2  # of the reflection coefficient between speeds of 1 and 1.5
    for thickness, count in ((1, 1), (2, 3), (8, 3)):
        assert measured(across(medium(strata(thickness, count, 1.5)))) == pytest.approx(
            2 * count * square, rel=1e-12
        )
    z = np.arange(POINTS)
    sea = z < 30
    bottom = {
        "vp": np.where(sea, 1500.0, 1800.0 + 10.0 * z),
        "vs": np.where(sea, 0.0, 600.0 + 7.0 * z),
        "rho": np.where(sea, 1000.0, 2000.0),
    }
    for model in (
        medium(np.full(POINTS, 2000.0)),
        medium(np.where(z < 90, 1500.0, 4500.0)),
        bottom,
    ):
        assert measured(across(model)) < 1e-12
    assert measured(across(medium(2000.0 + 400.0 * np.sin(2.0 * np.pi * z / 200.0)))) < LIMIT
    bed = strata(16, 1, 2.0)
    spread = np.convolve(np.pad(bed, 3, mode="edge"), np.ones(4) / 4.0, mode="valid")
    assert 0.7 * measured(across(medium(bed))) < measured(across(medium(spread)))
    far = np.concatenate([bed, np.full(WINDOW, 1600.0), bed])
    assert measured(across(medium(far))) == pytest.approx(measured(across(medium(bed))), rel=1e-12)


@pytest.mark.usefixtures("x64")
def test_faces():
    """Only what meets a perfectly matched layer counts. A free surface reflects: a stiff bed on a
    soft ground is a plate."""
    assert not matters(ox.Elastic(), ox.Sponge(), 2)
    assert not matters(ox.Acoustic(), ox.CPML(), 2)
    assert matters(ox.Elastic(), ox.Faces(ox.Sponge(), right=ox.CPML()), 3)
    rough = across(medium(strata(2, 5, 2.0)))
    inside = {
        n: np.concatenate([v[:1] * 0 + v[:1, :1], v[1:-1], v[:1] * 0 + v[:1, :1]])
        for n, v in rough.items()
    }
    assert measured(inside) < 1e-12 < measured(rough)
    plate = across(medium(np.where(np.arange(60) < 8, 3000.0, 1500.0)))
    assert measured(plate) < 1e-12
    surface = ox.Faces(ox.CPML(), top=ox.FreeSurface())
    assert measured(plate, surface) == pytest.approx(2.0 / 9.0, rel=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_faces_in_three_dimensions():
    """Lines along both axes of a face."""
    rough = across(medium(strata(2, 5, 2.0)), 60)
    expected = measured(rough)
    assert expected > LIMIT
    deep = {n: np.broadcast_to(v, (4, *v.shape)) for n, v in rough.items()}
    for axes in ((0, 1, 2), (0, 2, 1), (2, 0, 1)):
        assert measured({n: v.transpose(axes) for n, v in deep.items()}) == pytest.approx(
            expected, rel=1e-12
        )


def window_by_window(model: Model, surface: bool) -> float:
    """The definition, in NumPy, of a model in 2-D with perfectly matched layers all around, or with
    a free surface on top."""
    vp, vs, rho = model["vp"], model["vs"], model["rho"]
    largest = 0.0
    for quantity in (vp, vs, rho * vp, rho * vs):
        columns = [(line, surface) for line in quantity[[0, -1]]]
        rows = [(line, False) for line in quantity.T[[-1] if surface else [0, -1]]]
        for line, below_surface in columns + rows:
            before = np.full(8, 0.0 if below_surface else line[0])
            long = np.concatenate([before, line, np.full(8, line[-1])])
            for lag in (1, 2, 4, 8):
                later, earlier = long[8:], long[8 - lag : -lag]
                squares = ((later - earlier) / (later + earlier)) ** 2 / lag
                upwards, downwards = squares * (later > earlier), squares * (later < earlier)
                for start in range(max(1, squares.size - WINDOW + 1)):
                    window = slice(start, start + WINDOW)
                    least = min(upwards[window].sum(), downwards[window].sum())
                    largest = max(largest, 2.0 * least)
    return largest


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(30, 300), (300, 30), (20, 60)])
@pytest.mark.parametrize("surface", [False, True])
def test_rectangles(shape: tuple[int, int], surface: bool):
    """Lines of several lengths are looked at together, and each as if it were alone."""
    vp, rho = 2000.0 + 1000.0 * np.random.default_rng(3).random((2, *shape))
    boundary = ox.Faces(ox.CPML(), top=ox.FreeSurface()) if surface else ox.CPML()
    model = medium(vp, 1.8, rho)
    expected = window_by_window(model, surface)
    assert measured(model, boundary) == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------- who is told


def modelling(boundary: ox.AbstractBoundary | None = None) -> ox.Propagator:
    survey = ox.Survey(np.full((1, 2), 50.0), np.full((1, 2), 60.0), np.hanning(20), 1e-3)
    options: dict[str, Any] = dict(time_dispersion="raw", min_points_per_wavelength=0.0)
    return ox.Propagator(
        ox.Elastic(4), ox.Grid((9, 28), H), survey, 3200.0, boundary=boundary, **options
    )


ROUGH = across(medium(strata(2, 5, 2.0)), 28, 9)


def test_a_call_warns():
    """Before anything is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ox.GrowthInLayers, match=r"Elastic.*may grow.*boundary=ox\.Sponge\(\)"):
            modelling()(ROUGH)


@pytest.mark.slow
def test_a_call_warns_once():
    F = modelling()
    smooth = across(medium(np.full(28, 2000.0)), 28, 9)
    model = {n: v.astype("float32") for n, v in ROUGH.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F({n: v.astype("float32") for n, v in smooth.items()})
    with pytest.warns(ox.GrowthInLayers, match="may grow") as seen:
        F(model)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F(model)
    with pytest.warns(ox.GrowthInLayers, match="may grow"):  # known only inside the callback
        jax.block_until_ready(jax.jit(modelling())(model))


# ---------------------------------------------------------------- late times


def growth(model: Model, boundary: ox.AbstractBoundary, steps: int = 8000, every: int = 5) -> float:
    """How much louder the last fifth of so many steps is than the second, after a burst of
    noise."""
    equation, shape = ox.Elastic(4), model["vp"].shape
    rng = np.random.default_rng(1)
    burst = np.zeros(steps // every)
    burst[:8] = np.diff(rng.normal(size=10), 2)
    places = rng.uniform(0.0, 1.0, (31, 2)) * (np.array(shape) - 1) * H
    fastest = float(model["vp"].max())
    dt = 0.99 * every * equation.largest_step((H, H), fastest)
    survey = ox.Survey(places[:1], places[1:], burst.astype("float32"), dt)
    options: dict[str, Any] = dict(time_dispersion="raw", min_points_per_wavelength=0.0)
    F = ox.Propagator(equation, ox.Grid(shape, H), survey, fastest, boundary=boundary, **options)
    try:
        traces = np.abs(np.asarray(F({n: v.astype("float32") for n, v in model.items()}), float))[
            0
        ].max(0)
    except Exception as error:
        if "grew beyond all bounds" not in str(error):
            raise
        return np.inf
    parts = [p.max() for p in np.array_split(traces, 5)]
    return float(parts[4] / parts[1])


def searched() -> dict[str, Model]:
    """Regular and random strata, from harmless to fierce, and fluids."""
    depth, rng = np.arange(120), np.random.default_rng(0)
    found = {}
    for thickness, count, ratio in (
        (2, 1, 2.0),
        (2, 5, 1.5),
        (2, 5, 2.0),
        (6, 3, 2.0),
        (8, 6, 1.3),
        (8, 6, 1.06),
        (12, 3, 3.0),
    ):
        found[f"strata {thickness} {count} {ratio}"] = across(
            medium(strata(thickness, count, ratio)), 120, 12
        )
    for size in (0.02, 0.3):
        vp = 2000.0 * np.exp(size * rng.normal(size=120)[depth // 3])
        found[f"random {size}"] = across(medium(vp), 120, 12)
    solid = (depth >= 50) & (depth < 66)
    plate = {
        "vp": np.where(solid, 3000.0, 1500.0),
        "vs": np.where(solid, 1700.0, 0.0),
        "rho": np.where(solid, 2000.0, 1000.0),
    }
    found["solid in a fluid"] = across(plate, 120, 12)
    sea = depth < 30
    bottom = {
        "vp": np.where(sea, 1500.0, 1800.0 + 10.0 * depth),
        "vs": np.where(sea, 0.0, 600.0 + 7.0 * depth),
        "rho": np.where(sea, 1000.0, 2000.0),
    }
    found["sea floor"] = across(bottom, 120, 12)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ondax.GrowthInLayers")
def test_nothing_grows_that_is_not_warned_of():
    """And what is warned of does grow, much of it; a sponge, which the warning names, holds where a
    `CPML` grows most."""
    grown = 0
    for name, model in searched().items():
        value, factor = measured(model), growth(model, ox.CPML(20, frequency=2.0))
        print("layering", name, value, factor)
        assert value > LIMIT or factor < 1.0
        grown += factor > 10.0
    assert grown >= 4
    assert growth(across(medium(strata(2, 5, 2.0)), 120, 12), ox.Sponge(40)) < 1.0
