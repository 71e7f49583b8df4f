"""Windows of sources and receivers next to a free surface, and points on it that could do
nothing."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import ondax as ox
from ondax.acquisition.interpolation import (
    bends,
    extrapolation,
    window_below,
    window_slopes,
    window_weights,
)
from ondax.calculus.images import continued
from ondax.calculus.transpose import transpose
from ondax.equations.stability import staggered_weights
from ondax.scheme.plan import Above
from ondax.scheme.symbols import Symbols

SURFACE = ox.Faces(ox.Sponge(4), top=ox.FreeSurface())
GRID = ox.Grid((21, 15), 10.0, (0.0, 50.0))
DEEPER = [[100.0, 80.0]]


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("order", [2, 4, 8, 16])
def test_bends_give_straight_lines_their_slope(order: int, half: bool):
    """Of a straight line, bent next to the surface and even about it, the staggered differences are
    1 everywhere."""
    lift, weights = 0.5 * half, staggered_weights(order)
    rows = np.arange(60) + lift
    bent = rows + bends(order, half, 60)
    values = dict(zip([*rows, *-rows], [*bent, *bent], strict=True))
    for point in np.arange(30) + (1.0 if half else 0.5):
        reach = np.arange(-order // 2, order // 2) + 0.5
        difference = sum(w * values[point + r] for w, r in zip(weights, reach, strict=True))
        assert abs(difference - 1.0) < 1e-12
    assert np.all(np.abs(bent - rows)[order:] < 1e-3)
    if order == 2:
        assert np.all(bent == rows)


@pytest.mark.parametrize("kind", ["sinc", "linear"])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("above", [Above.SMOOTH, Above.LOST])
def test_windows_below_a_surface(kind: str, half: bool, above: Above):
    """They add up as they do away from it, are as exact for straight lines, and have the slopes
    that they say."""
    if above is Above.LOST and half:
        return
    taps, order = {"sinc": 8, "linear": 2}[kind], 8
    depths = np.linspace(0.0, 3.4 if kind == "sinc" else 0.9, 69)
    first = np.zeros(len(depths), np.int32)
    at = (kind, above, depths, first, taps, half, order)
    weights = window_below(window_weights, *at)
    rows = np.arange(taps) + 0.5 * half
    np.testing.assert_allclose(
        weights.sum(1),
        window_weights(np.arange(-9, 10) - depths[:, None] + 0.5 * half, kind).sum(1),
        atol=1e-12,
    )
    if above is Above.LOST:
        assert np.all(weights[:, 0] == 0.0)
    e = 1e-6
    ahead, behind = (
        window_below(window_weights, kind, above, depths + s * e, first, taps, half, order)
        for s in (1, -1)
    )
    slopes = window_below(window_slopes, *at)
    # elsewhere a grid point enters the window, whose edge has a kink
    inside = np.abs(depths % 0.5 - 0.25) < 0.24
    np.testing.assert_allclose(slopes[inside], ((ahead - behind) / (2 * e))[inside], atol=2e-8)
    if kind == "linear" or above is Above.LOST:
        return
    bent = rows + bends(order, half, taps)
    plain = window_weights(np.arange(-9, 10) - depths[:, None] + 0.5 * half, kind) @ (
        np.arange(-9, 10) + 0.5 * half
    )
    np.testing.assert_allclose(weights @ bent, plain, atol=1e-12)


def test_extrapolation_is_exact_for_parabolas():
    known, wanted = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0), (0.0, -1.0)
    values, slope = extrapolation(known, (0.0,) * 7, wanted)
    parabola = lambda z: 3.0 - 2.0 * z + 0.7 * z**2  # noqa: E731
    np.testing.assert_allclose(
        values @ parabola(np.array(known)), parabola(np.array(wanted)), atol=1e-10
    )
    assert abs(slope @ parabola(np.array(known)) + 2.0) < 1e-10


def test_only_what_vanishes_is_odd():
    """Of a solid, by component: the traction on the surface, and the shear strains in it."""
    symbols = Symbols(3, 4)
    system = SURFACE.surround(ox.Elastic(4).system(symbols, SURFACE))
    ways = {
        p.name: [continued(p, t.field, symbols, t.along) for t in p.touches]
        for p in (*system.inputs, *system.outputs)
    }
    odd = {"moment_xz", "moment_yz", "stress_xz", "stress_yz", "stress_zz"}
    assert {
        name for name, found in ways.items() if Above.ODD in found and name != "pressure"
    } == odd
    assert ways["pressure"] == [Above.SMOOTH, Above.SMOOTH, Above.ODD]
    assert ways["explosive"] == [Above.SMOOTH, Above.SMOOTH, Above.LOST]
    assert ways["moment_zz"] == [Above.LOST]
    assert ways["strain_zz"] == [Above.LOST]  # the scheme's own is zero on the surface
    assert ways["strain_xz"] == [Above.STRAIGHT, Above.SMOOTH]
    assert ways["strain_xx"] == [Above.SMOOTH]
    backward = transpose(system)
    assert ways == {
        p.name: [continued(p, t.field, symbols, t.along) for t in p.touches]
        for p in (*backward.inputs, *backward.outputs)
    }


# ---------------------------------------------------------------- silent points


def propagator(equation: ox.AbstractWaveEquation, sources, receivers, **kinds) -> ox.Propagator:
    survey = ox.Survey(sources, receivers, np.hanning(40), 1.5e-3, **kinds)
    return ox.Propagator(
        equation, GRID, survey, 2600.0, boundary=SURFACE, min_points_per_wavelength=0.0
    )


ACOUSTIC = [
    ox.Acoustic(),
    ox.AcousticDensity(),
    ox.VTI(),
    ox.TTI(),
    ox.Viscoacoustic(frequency=15.0),
]


@pytest.mark.parametrize("equation", ACOUSTIC, ids=lambda e: type(e).__name__)
def test_sources_on_the_surface_are_refused(equation: ox.AbstractWaveEquation):
    with pytest.raises(
        ValueError,
        match=r"sources: 1 of 2 .* free surface at z = 50 m.*radiates nothing.*half a cell is 5 m",
    ):
        propagator(equation, [[[100.0, 50.0], [100.0, 60.0]]], DEEPER)
    propagator(equation, [[100.0, 50.1]], DEEPER)


@pytest.mark.parametrize("equation", ACOUSTIC, ids=lambda e: type(e).__name__)
def test_receivers_on_the_surface(equation: ox.AbstractWaveEquation):
    on = ox.line((20.0, 50.0), (180.0, 50.0), 5)
    with pytest.raises(ValueError, match=r"receivers: 5 of 5 .* z = 50 m.*zeros only.*z = 55 m"):
        propagator(equation, DEEPER, on)
    with pytest.warns(ox.SilentReceivers, match=r"receivers: 5 of 6 .* z = 50 m"):
        propagator(equation, DEEPER, [*on, [100.0, 60.0]])


def test_components_that_do_not_vanish_may_stand_on_the_surface():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in (
            "explosive",
            "force_x",
            "force_z",
            "moment_xx",
            "moment_zz",
            {"moment_xz": np.array(1.0), "moment_zz": np.array(0.1)},
        ):
            propagator(ox.Elastic(), [[100.0, 50.0]], DEEPER, source=source)
        for receiver in (
            "velocity_x",
            "velocity_z",
            "stress_xx",
            "pressure",
            ("stress_zz", "velocity_z"),
        ):
            propagator(ox.Elastic(), DEEPER, [[100.0, 50.0]], receiver=receiver)
        ox.nn.WavefieldModelling(propagator(ox.Acoustic(), DEEPER, DEEPER))
        # in a sponge
        ox.Propagator(
            ox.Acoustic(), GRID, ox.Survey([[100.0, 50.0]], DEEPER, np.zeros(40), 1e-3), 2600.0
        )
    with pytest.raises(ValueError, match="'moment_xz' radiates nothing"):
        propagator(ox.Elastic(), [[100.0, 50.0]], DEEPER, source="moment_xz")
    with pytest.raises(ValueError, match="'stress_zz' and 'stress_xz' reads zeros only"):
        propagator(ox.Elastic(), DEEPER, [[100.0, 50.0]], receiver=("stress_zz", "stress_xz"))


def test_positions_given_with_a_call():
    F = propagator(ox.Acoustic(2), DEEPER, DEEPER)
    vp = jnp.full(GRID.shape, 2000.0)
    with pytest.raises(Exception, match="sources: 1 of 1 stand on the free surface at z = 50 m"):
        F(vp, sources=jnp.array([[[100.0, 50.0]]]))
    with pytest.raises(Exception, match="receivers: 1 of 1 stand on the free surface at z = 50 m"):
        F(vp, receivers=jnp.array([[[100.0, 50.0]]]))


# ---------------------------------------------------------------- moments on the surface of a solid


@pytest.mark.slow
def test_moments_on_the_surface():
    """In a free surface the normal strain is `-lambda / (lambda + 2 mu)` times the lateral one. By
    reciprocity a vertical couple of forces there sends out that many times what a horizontal one
    does. 44 points a dominant wavelength of S leave 1 % (measured; second order)."""
    vp, vs, rho, h = 2000.0, 1100.0, 2000.0, 5.0
    grid, t = ox.Grid((81, 41), h), 1e-3 * np.arange(600)
    wavelet = np.zeros((2, 2, 1, len(t)))
    wavelet[0, 0, 0] = wavelet[1, 1, 0] = ox.ricker(5.0, len(t), 1e-3, delay=0.3)
    survey = ox.Survey(
        [[130.0, 0.0], [130.0, 0.0]],
        [[280.0, 10.0]],
        wavelet,
        1e-3,
        source=("moment_xx", "moment_zz"),
        receiver=("velocity_x", "velocity_z"),
    )
    boundary = ox.Faces(ox.Sponge(width=0), top=ox.FreeSurface())
    F = ox.Propagator(ox.Elastic(2), grid, survey, vp, boundary=boundary)
    medium = {"vp": vp, "vs": vs, "rho": rho}
    across, down = np.asarray(F({n: jnp.full(grid.shape, value) for n, value in medium.items()}))[
        :, :, 0
    ]
    expected = -(1.0 - 2.0 * vs**2 / vp**2) * across
    assert np.linalg.norm(expected) > 0.0
    assert np.linalg.norm(down - expected) < 0.04 * np.linalg.norm(expected)
