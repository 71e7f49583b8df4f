"""float32, the default, against float64: the same scheme, so that all of the difference is
rounding.

What is allowed is derived. A step of second order in time kicks u by half an ulp, 2^-24 of it, and
so its rate by 2^-24 / dt; n kicks at random add up to sqrt(n) of them, which oscillate with an
amplitude of `2^-24 sqrt(n) / (omega dt)`, omega being that of the slowest wave of a medium.
Coefficients and weights that are rounded once change speeds by 2^-24, and phases at a time T by
`2^-24 omega T`. Systems of first order in time are kicked in u only, by a factor omega dt less. A
factor of the update that was rounded would be a thousand kicks in one
direction: the time axis would be stretched, at 0.1 ms by thirty times the error that is allowed.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import difference

import ondax as ox

FREQUENCY, FASTEST, SHAPE, SPACING = 15.0, 2200.0, (31, 29), 10.0
OMEGA, UNIT = 2 * np.pi * FREQUENCY, 2.0**-24

EQUATIONS = {
    "Acoustic": (ox.Acoustic(4), ("vp",)),
    "AcousticDensity": (ox.AcousticDensity(4), ("vp", "rho")),
    "Elastic": (ox.Elastic(4), ("vp", "vs", "rho")),
    "VTI": (ox.VTI(4), ("vp", "epsilon", "delta")),
    "elliptic": (ox.VTI(4), ("vp", "elliptic")),
    "TTI": (ox.TTI(4), ("vp", "epsilon", "delta", "theta")),
    "Viscoacoustic": (ox.Viscoacoustic(4, frequency=FREQUENCY), ("vp", "rho", "Q")),
}
RANGES = {
    "vp": (1650, 1750),
    "vs": (800, 850),
    "rho": (1000, 1100),
    "epsilon": (0.12, 0.2),
    "delta": (0.0, 0.1),
    "theta": (0.2, 0.6),
    "Q": (20, 60),
}
BOUNDARIES = {
    "sponge": ox.Sponge(10),
    "cpml": ox.CPML(10),
    "surface": ox.Faces(ox.Sponge(10), top=ox.FreeSurface()),
    "mirrors": ox.Sponge(0),
}


def model(name: str) -> dict[str, np.ndarray]:
    """Rough in every cell, representable in float32."""
    rng, made = np.random.default_rng(2), {}
    for parameter in EQUATIONS[name][1]:
        low, high = RANGES.get(parameter, (0.05, 0.1))
        values = rng.uniform(low, high, SHAPE).astype("float32").astype("float64")
        made |= (
            {"epsilon": values, "delta": values} if parameter == "elliptic" else {parameter: values}
        )
    return made


@cache
def propagator(
    name: str, boundary: str, dt: float, steps: int, max_velocity: float = FASTEST
) -> ox.Propagator:
    t = np.arange(steps + 1) * dt
    a = (np.pi * FREQUENCY * (t - 0.1)) ** 2
    w = ((1 - 2 * a) * np.exp(-a)).astype("float32")
    survey = ox.Survey([[103.0, 98.0]], [[210.0, 120.0], [55.0, 170.0]], w, dt)
    return ox.Propagator(
        EQUATIONS[name][0],
        ox.Grid(SHAPE, SPACING),
        survey,
        max_velocity=max_velocity,
        boundary=BOUNDARIES[boundary],
        time_dispersion="raw",
        min_points_per_wavelength=0.0,
    )


def given(name: str, kind: str) -> Any:
    made = {k: jnp.asarray(v, kind) for k, v in model(name).items()}
    return made if len(made) > 1 else next(iter(made.values()))


def slowest(name: str) -> float:
    """Frequency of the slowest wave that rounding kicks, over that of the wave in view, at one
    wavelength. Media with epsilon > delta carry a second wave, the slower the closer the two are:
    `q_tt` is `2 (epsilon - delta)` times what `(1 + 2 epsilon)` times makes of `p_tt`."""
    if not {"epsilon", "delta"} <= set(EQUATIONS[name][1]):
        return 1.0
    medium = model(name)
    return float(
        np.sqrt(
            2 * np.min(medium["epsilon"] - medium["delta"]) / (1 + 2 * np.max(medium["epsilon"]))
        )
    )


def allowed(name: str, dt: float, steps: int) -> float:
    at_random = np.sqrt(steps) / (slowest(name) * OMEGA * dt)
    # A kick is half of the largest one, on average, and a walk at random may end twice as far as it
    # does on average.
    return UNIT * (2 * 0.5 * at_random + 4 * OMEGA * dt * steps)


def assert_close(name: str, boundary: str, dt: float, steps: int) -> None:
    F = propagator(name, boundary, dt, steps)
    single, double = (F(given(name, kind)) for kind in ("float32", "float64"))
    error, bound = difference(single, double), allowed(name, dt, steps)
    print(name, boundary, dt, steps, f"{error:.1e} of {bound:.1e}")
    assert error < bound


def test_the_time_axis_is_not_stretched(x64: None):
    """Steps of 0.1 ms, in a box whose waves stay: several times as much when the factors of the
    update are rounded apart."""
    assert_close("Acoustic", "mirrors", 1e-4, 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("name", EQUATIONS)
def test_traces(x64: None, name: str, boundary: str):
    if boundary == "cpml" and not EQUATIONS[name][0].stretchable:
        pytest.skip("unstable in perfectly matched layers")
    for dt, steps in ((2e-3, 2_000), (5e-4, 4_000), (1e-4, 10_000)):
        assert_close(name, boundary, dt, steps)


def left(name: str, boundary: str, kind: str, steps: int) -> np.ndarray:
    """The largest amplitude in every tenth of a long record, over that of the first."""
    F = propagator(name, boundary, 7.5e-4, steps)
    d = np.abs(np.asarray(F(given(name, kind))))[0, 0]
    parts = np.array([part.max() for part in np.array_split(d, 10)])
    return parts / parts[0]


def test_nothing_grows_where_media_are_elliptic():
    """Where epsilon = delta nothing pulls p - s r back, so rounding must not kick it: after 10,000
    steps in a sponge it was 2e-3 of the wave, and 1 after 40,000. Now it is what the sponge has not
    yet taken."""
    assert left("elliptic", "sponge", "float32", 10_000)[-1] < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["sponge", "cpml", "surface"])
@pytest.mark.parametrize("name", EQUATIONS)
def test_nothing_grows(x64: None, name: str, boundary: str):
    """What float64 leaves of the wave after 40,000 steps, and rounding at the level that it has
    from step to step."""
    if boundary == "cpml" and not EQUATIONS[name][0].stretchable:
        pytest.skip("unstable in perfectly matched layers")
    single, double = (left(name, boundary, kind, 40_000) for kind in ("float32", "float64"))
    print(name, boundary, single, double)
    assert np.all(single < 1.1 * double + 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dt", [2e-3, 5e-4])
@pytest.mark.parametrize("name", EQUATIONS)
def test_gradients(x64: None, name: str, dt: float):
    """Of a misfit with data of white noise, and of the model's own waves. Products of two waves,
    each as good as its traces, and of second differences in time that are formed of what they are
    made of, not of rounded values."""
    steps = round(1.0 / dt)
    F = propagator(name, "sponge", dt, steps)
    w = F.survey.wavelet[0, 0]
    y = np.stack([np.roll(w, steps // 3), -np.roll(w, steps // 4)])[None].astype("float32")
    single, double = (
        jax.vjp(F, given(name, kind))[1](jnp.asarray(y, kind))[0] for kind in ("float32", "float64")
    )
    errors = jax.tree.map(difference, single, double)
    print(name, dt, errors)
    assert max(jax.tree.leaves(errors)) < max(2e-5, 2 * allowed("Acoustic", dt, steps))
