"""Sources that feed a derivative of a field, and receivers that read one."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devito import Derivative
from problems import difference, dot, norm
from slow import slow, slow_but

import ondax as ox
from ondax.acquisition.interpolation import derived, place, window_below, window_weights
from ondax.calculus.images import Above
from ondax.calculus.program import Program
from ondax.equations.schemes import slope
from ondax.scheme.system import Port

SHAPE, H, DT = (27, 25), 10.0, 0.002
ENDS = "value", "slope_x", "slope_z"
SURFACE = ox.Faces(ox.CPML(4), top=ox.FreeSurface())


@final
class Slopes(ox.AbstractWaveEquation):
    """`Acoustic`, whose sources and receivers may be derivatives of the field along an axis."""

    parameter_names: ClassVar[tuple[str, ...]] = ("vp",)
    time_stepping: ClassVar[ox.TimeStepping | None] = ox.LEAPFROG
    stretchable: ClassVar[bool | None] = True
    contrasts: ClassVar[Mapping[str, float] | None] = {}
    space_order: int = 4

    def system(self, symbols: ox.Symbols, boundary: ox.AbstractBoundary) -> ox.System:
        system = ox.Acoustic(self.space_order).system(symbols, boundary)
        (u,) = system.fields
        terms = {"value": u} | {f"slope_{d.name}": slope(u, d) for d in symbols.dimensions}
        return replace(
            system,
            inputs=tuple(Port(f"{n}_source", ((t, 1.0),)) for n, t in terms.items()),
            outputs=tuple(Port(n, ((t, 1.0),)) for n, t in terms.items()),
        )

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return ox.Acoustic().coefficients(parameters)

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        return ox.Acoustic().speeds(parameters)

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        return ox.Acoustic(self.space_order).largest_step(spacing, max_velocity)


@pytest.fixture(autouse=True)
def quick_compilers(quick_compilers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports are tested here, not the optimiser."""
    monkeypatch.setenv("ONDAX_CFLAGS", "-O0")


def propagator(
    sources: Any, receivers: Any, source: Any, receiver: Any, wavelet: Any = None, **options: Any
) -> ox.Propagator:
    w = ox.ricker(10.0, 150, DT) if wavelet is None else wavelet
    survey = ox.Survey(sources, receivers, w, DT, source=source, receiver=receiver)
    how: dict[str, Any] = {"boundary": SURFACE} | options
    return ox.Propagator(Slopes(), ox.Grid(SHAPE, H), survey, 2600.0, **how)


def model(dtype: str = "float64") -> jax.Array:
    rng = np.random.default_rng(1)
    return jnp.asarray(2000.0 + rng.uniform(-200.0, 200.0, SHAPE), dtype)


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("kind", ["sinc", "linear"])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("order", [2, 4, 8])
@pytest.mark.parametrize("above", [Above.NOTHING, Above.EVEN])
def test_windows_read_slopes(kind: str, half: bool, order: int, above: Above):
    """Of sin(k z) they read k cos(k z), on grid points or off them; with odd images, up to the
    surface.

    Allowed: what differences of the order lose, and interpolation, which for a sinc is 1e-3.
    """
    k, n = 0.2, 60
    rows = np.arange(n) + 0.5 * half
    low = 0.0 if above is Above.EVEN else 12.0
    cells = np.sort(np.concatenate([low + np.arange(0.0, 12.0, 0.5), low + 12 * np.arange(9) / 9]))
    first, offset = place(cells, n, kind, on_grid=False, half=not half)
    if above is Above.NOTHING:
        weights = window_weights(offset, kind)
    else:
        at = (kind, above, cells, first, offset.shape[1], not half, order)
        weights = window_below(window_weights, *at)
    first, weights = derived(weights, first, n, half, above, order)
    taken = first[:, None] + np.arange(weights.shape[1])
    read = np.sum(weights * np.sin(k * rows)[taken], axis=1)
    # linear: k^2 / 8 of the value at most; order 2: k^2 / 24; order 4: 3 k^4 / 640
    allowed = (k**2 / 8 if kind == "linear" else 1e-3) + {2: k**2 / 24, 4: 1e-5, 8: 1e-8}[order]
    assert np.max(np.abs(read - k * np.cos(k * cells))) < k * allowed
    if above is Above.NOTHING:
        assert np.max(np.abs(weights.sum(1))) < 1e-13  # of a constant, nothing


# ---------------------------------------------------------------- traces


STEPS, SHARES = (10.0, 20.0, 30.0), (3 / 4, -3 / 20, 1 / 60)
"""Of a central difference of sixth order: shares of the values so many metres ahead, less those
behind. Its error relative to the slope is (k h)^6 / 140: 2e-5 at twice the dominant frequency."""


@pytest.mark.parametrize(("boundary", "top"), [(SURFACE, 0.0), slow(ox.CPML(4), 95.0)])
@pytest.mark.parametrize("interpolation", slow_but(["sinc", "linear"], "sinc"))
def test_receivers_are_difference_quotients(
    boundary: ox.AbstractBoundary, top: float, interpolation: Any, x64: None
):
    """Of receivers to either side; above the surface, of the mirror image.

    Allowed: twice the dominant frequency has 10 points a wavelength, at which order 4 loses 3 (k
    h)^4 / 640 = 7e-4; and positions are interpolated, to 1e-3 of a value by a sinc, and by linear
    weights to (k h)^2 / 8 = 1.2e-2 at the dominant frequency, which quotients divide by k h = 0.3.
    """
    at = np.array([[150.0, 0.0], [182.3, 5.0], [91.1, 21.7], [130.0, 60.0]]) + [0.0, top]
    apart = [at + sign * step * axis for axis in np.eye(2) for step in STEPS for sign in (1, -1)]
    places = np.concatenate(apart)
    above = places[:, 1] < 0.0
    common: dict[str, Any] = {"boundary": boundary, "interpolation": interpolation}
    source, medium = [[40.0, 205.0]], jnp.full(SHAPE, 2000.0)  # some wavelengths away
    (slopes,) = propagator(source, at, None, ENDS[1:], **common)(medium)
    mirrored = np.where(above[:, None], places * [1.0, -1.0], places)
    (values,) = propagator(source, mirrored, None, None, **common)(medium)
    values = np.where(above, -1.0, 1.0)[:, None] * values
    values = values.reshape(2, 3, 2, len(at), -1)
    shares = np.array(SHARES)[:, None, None] / H
    expected = ((values[:, :, 0] - values[:, :, 1]) * shares).sum(1)
    if top == 0.0:
        assert norm(slopes[0, 0]) < 1e-12 * norm(slopes)  # along the surface nothing changes
    found = [difference(slopes[:, n], expected[:, n]) for n in range(1, len(at))]
    found.append(difference(slopes[1, 0], expected[1, 0]))
    print("slopes", interpolation, found)
    assert max(found) < (5e-3 if interpolation == "sinc" else 0.05)


def test_a_slope_is_reciprocal_to_a_dipole(x64: None):
    """In a rough medium below a free surface: what feeds a derivative is the transpose of what
    reads it. To rounding of 150 steps."""
    a, b = [[120.0, 7.0]], [[171.3, 101.2]]
    there = propagator(a, b, "slope_z_source", "slope_x", time_dispersion="raw")(model())
    # (1/vp^2) u_tt - lap u is symmetric, but row 0 of a free surface has half a cell
    back = propagator(b, a, "slope_x_source", "slope_z", time_dispersion="raw")(model())
    assert difference(there, back) < 1e-11


def test_a_source_of_a_slope_is_a_dipole(x64: None):
    """It fires minus the derivative of a delta function: sources ahead with a plus, and sources
    behind with a minus. The same errors as of receivers."""
    receivers, medium = [[171.3, 101.2], [60.0, 40.0]], jnp.full(SHAPE, 2000.0)
    x = np.array([120.0, 72.3])
    apart = [x + sign * step * np.eye(2)[0] for step in STEPS for sign in (1, -1)]
    shares = np.array([sign * c for c in SHARES for sign in (1, -1)]) / H
    w = shares[:, None] * ox.ricker(10.0, 150, DT)
    one = propagator([x], receivers, "slope_x_source", None)(medium)
    six = propagator([apart], receivers, None, None, w)(medium)
    print("dipole", difference(one, six))
    assert difference(one, six) < 5e-3


# ---------------------------------------------------------------- solids


RATES = ("divergence", "curl", "strain_xx", "strain_zz", "strain_xz")
SOLID = {"vp": 2000.0, "vs": 1200.0, "rho": 1500.0}


@pytest.mark.slow
def test_rates_of_a_solid_are_difference_quotients(x64: None):
    """Of the velocities beside them, by their definitions. Allowed: shear waves have 12 points a
    wavelength at twice the dominant frequency, for which order 4 loses 4e-4; and what a sinc and
    the quotients lose, as above."""
    h = 5.0
    at = np.array([[90.0, 85.0], [101.3, 62.9]])
    apart = [at + sign * s / H * h * axis for axis in np.eye(2) for s in STEPS for sign in (1, -1)]
    survey = ox.Survey(
        [[42.0, 37.0]],
        np.concatenate([at, *apart]),
        ox.ricker(10.0, 150, DT),
        DT,
        source="force_z",
        receiver=("velocity_x", "velocity_z", *RATES),
    )
    F = ox.Propagator(ox.Elastic(4), ox.Grid(SHAPE, h), survey, 2100.0, boundary=ox.CPML(6))
    (traces,) = np.asarray(F({n: jnp.full(SHAPE, v) for n, v in SOLID.items()}))
    velocities = traces[:2, len(at) :].reshape(2, 2, 3, 2, len(at), -1)
    shares = np.array(SHARES)[:, None, None] / h
    # (component, axis, receiver, time)
    slopes = ((velocities[:, :, :, 0] - velocities[:, :, :, 1]) * shares).sum(2)
    (xx, xz), (zx, zz) = slopes
    expected = np.stack([xx + zz, xz - zx, xx, zz, (xz + zx) / 2])
    found = [difference(a, b) for a, b in zip(traces[2:, : len(at)], expected, strict=True)]
    print("rates", found)
    assert max(found) < 5e-3


def test_rates_in_three_dimensions():
    """A right-handed curl, and six strain rates."""
    symbols = ox.Symbols(3, 2)
    system = ox.Elastic(2).system(symbols, ox.Sponge(4))
    terms = {
        p.name: {f"{t.field.name} {t.along}": t.factor for t in p.touches} for p in system.outputs
    }
    assert terms["curl_x"] == {"v_z y": 1.0, "v_y z": -1.0}
    assert terms["curl_y"] == {"v_x z": 1.0, "v_z x": -1.0}
    assert terms["curl_z"] == {"v_y x": 1.0, "v_x y": -1.0}
    assert terms["divergence"] == {"v_x x": 1.0, "v_y y": 1.0, "v_z z": 1.0}
    assert terms["strain_yz"] == {"v_y z": 0.5, "v_z y": 0.5}
    assert sum(name.startswith("strain_") for name in terms) == 6


@pytest.mark.slow
def test_no_traction_acts_on_a_surface(x64: None):
    """So on it the vertical strain rate is -lambda / (lambda + 2 mu) times the horizontal one, and
    there is no shear. Rates there are extrapolated, to second order: half the spacing leaves a
    quarter of the error, or less."""
    share = 1.0 - 2.0 * (SOLID["vs"] / SOLID["vp"]) ** 2
    errors = []
    for h in (5.0, 2.5):
        grid = ox.Grid((round(200 / h) + 1, round(120 / h) + 1), h)
        survey = ox.Survey(
            [[60.0, 40.0]],
            [[140.0, 0.0]],
            ox.ricker(15.0, 200, 1e-3),
            1e-3,
            source="force_z",
            receiver=("strain_xx", "strain_zz", "strain_xz"),
        )
        F = ox.Propagator(ox.Elastic(4), grid, survey, 2100.0, boundary=SURFACE)
        xx, zz, xz = F({n: jnp.full(grid.shape, v) for n, v in SOLID.items()})[0, :, 0]
        errors.append([difference(zz, -share * xx), norm(xz) / norm(xx)])
    print("strain rates on a surface", errors)
    assert np.all(np.array(errors[1]) < 0.3 * np.array(errors[0]))
    assert max(errors[1]) < 0.05


# ---------------------------------------------------------------- calculus


@cache
def both() -> ox.Propagator:
    """Two shots of two sources of two kinds, into receivers of two, some near the surface."""
    rng = np.random.default_rng(2)
    sources = rng.uniform(40.0, 200.0, (2, 2, 2))
    receivers = rng.uniform(40.0, 200.0, (2, 3, 2))
    sources[0, 0, 1], receivers[:, 0, 1] = 13.0, 4.0
    kinds = ("value_source", "slope_z_source"), ("slope_x", "slope_z")
    w = rng.normal(size=(2, 2, 2, 50))
    return propagator(sources, receivers, *kinds, w, min_points_per_wavelength=0.0)


def assert_dots(dtype: str, allowed: float) -> None:
    """Of modelling, in the wavelets, and of Born modelling."""
    F, m, rng = both(), model(dtype), np.random.default_rng(3)
    w, y, dm = (
        jnp.asarray(rng.normal(size=shape), dtype)
        for shape in (F.survey.wavelet.shape, jax.eval_shape(F, m).shape, SHAPE)
    )
    d, pull = jax.vjp(lambda m, w: F(m, wavelet=w), m, w)
    assert norm(d) > 0.0
    assert abs(dot(d, y) - dot(w, pull(y)[1])) < allowed * norm(d) * norm(y)
    J, (_, back) = F.jacobian(m), jax.vjp(F, m)
    assert ox.dot_test(J.mv, lambda d: back(d)[0], dm, y) < allowed


@pytest.mark.slow
def test_adjoints(x64: None):
    assert_dots("float64", 1e-12)


@pytest.mark.slow
def test_adjoints_in_single_precision():
    assert_dots("float32", 1e-5)


@pytest.mark.slow
def test_taylor(x64: None):
    """`|F(m + h dm) - F(m) - h J dm|` falls as h^2."""
    F, m = both(), model()
    dm = 20.0 * jnp.asarray(np.random.default_rng(5).normal(size=SHAPE))
    d, born = F(m), F.jacobian(m).mv(dm)
    steps = 0.5 ** np.arange(5)
    errors = np.array([norm(F(m + h * dm) - d - h * born) for h in steps])
    slopes = np.log2(errors[:-1] / errors[1:])
    assert np.all((slopes > 1.9) & (slopes < 2.1)), slopes


@pytest.mark.slow
def test_gradients_in_positions(x64: None):
    """Against central differences of the misfit, whose error is of second order: with steps of 1e-3
    m of waves of 100 m and more, 1e-8."""
    F, m, rng = both(), model(), np.random.default_rng(4)
    places = tuple(jnp.asarray(p) for p in (F.survey.sources, F.survey.receivers))
    y = jnp.asarray(rng.normal(size=jax.eval_shape(F, m).shape))

    def value(s: jax.Array, r: jax.Array) -> jax.Array:
        return jnp.vdot(y, F(m, sources=s, receivers=r))

    slopes = jax.grad(value, argnums=(0, 1))(*places)
    e, moves = 1e-3, tuple(jnp.asarray(rng.normal(size=p.shape)) for p in places)
    pairs = list(zip(places, moves, strict=True))
    for n in range(2):  # sources, receivers
        ends = [
            value(*(p + s * e * v if n == i else p for i, (p, v) in enumerate(pairs)))
            for s in (1, -1)
        ]
        numerical = float(ends[0] - ends[1]) / (2 * e)
        analytic = float(jnp.vdot(slopes[n], moves[n]))
        print("positions", n, numerical, analytic)
        assert abs(numerical - analytic) < 1e-5 * abs(analytic)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS[1:])
def test_extended_sources(name: str, x64: None):
    """They fire minus the derivative of their weights: as one of those values does. Their adjoint
    is the transpose.

    Allowed: the patch is a Gaussian of 25 m, whose waves have 2 pi 2.5 points at one standard
    deviation: differences of order 4 lose 3 (1 / 2.5)^4 / 640 = 1e-4.
    """
    receivers = [[171.3, 101.2], [60.0, 40.0]]
    axis = ENDS.index(name) - 1
    x = np.meshgrid(*(np.arange(n) * H for n in SHAPE), indexing="ij")
    centre, width = (130.0, 110.0), 25.0
    w = np.exp(-sum((xi - c) ** 2 for xi, c in zip(x, centre, strict=True)) / (2 * width**2))
    derivative = -(x[axis] - centre[axis]) / width**2 * w
    F, plain = (propagator(ox.Extended(1), receivers, f"{n}_source", None) for n in (name, "value"))
    found = F(model(), weights=jnp.asarray(w)[None])
    assert difference(found, plain(model(), weights=-jnp.asarray(derivative)[None])) < 1e-3
    y = jax.random.normal(jax.random.key(0), found.shape)
    wj = jnp.asarray(np.random.default_rng(0).normal(size=(1, *SHAPE)))
    adjoint = lambda d: F.adjoint(model(), d)  # noqa: E731
    assert ox.dot_test(lambda w: F(model(), weights=w), adjoint, wj, y) < 1e-12


# ---------------------------------------------------------------- what is refused


def test_what_ports_cannot_be():
    symbols = ox.Symbols(2, 4)
    x, z = symbols.dimensions
    system = Slopes().system(symbols, SURFACE)
    (u,) = system.fields

    def program(term: Any, **traits: Any) -> Program:
        port = Port("odd", ((term, 1.0),), **traits)
        return Program(SURFACE.surround(replace(system, outputs=(port,))))

    for term in (Derivative(u, (x, 2)), 2.0 * u, u.forward, Derivative(u, (x, 1), (z, 1)), u.dt):
        with pytest.raises(ox.EquationError, match="port odd: .* must be a field, or a first"):
            program(term)
    with pytest.raises(ox.EquationError, match="strains=True"):
        program(Derivative(u, (z, 1)), strains=True)
    q = symbols.field("q", time_order=1)  # says nothing of what is above a surface
    more = (ox.Update(q, 1 / symbols.dt, q / symbols.dt + u),)
    system = replace(system, updates=(*system.updates, *more))
    with pytest.raises(ox.EquationError, match=r"vertical derivative of q .*image=ODD"):
        program(Derivative(q, (z, 1)))
