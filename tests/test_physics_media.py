"""Elastic, anisotropic and viscoacoustic ondax against exact solutions, and against each other
where they coincide."""

from typing import Any

import numpy as np
import pytest
from analytic import filtered, green
from analytic_elastic import (
    pressure_of_explosion,
    pressure_of_force,
    pressure_of_moment,
    velocity_of_explosion,
    velocity_of_force,
    velocity_of_moment,
)
from analytic_media import (
    arrival_time,
    elliptic_waves,
    fluid_reflection,
    sls_attenuation,
    sls_modulus,
    sls_phase_velocity,
    tilted_axis,
    viscoacoustic_green,
)
from media import DELAY, FREQUENCY, RHO, VP, VS, lag, pulse, reach, relative, shoot, square, times
from slow import slow

import ondax as ox

pytestmark = pytest.mark.usefixtures("x64")  # errors fall below single precision

SOLID = dict(vp=VP, vs=VS, rho=RHO)


# ---------------------------------------------------------------- elastic


def in_a_solid(h: float, **options: Any) -> np.ndarray:
    """Relative errors (shot, component) of an explosion, a force and a moment tensor, off the
    grid."""
    duration, distance = 0.38, 130.0
    t = times(duration, 0.5 * ox.Elastic().largest_step((h, h), VP))
    w, dt = pulse(t), t[1]
    moment = np.array([[0.7, -0.6], [-0.6, -0.4]])
    shot = np.eye(3)[:, :, None]  # of a column, the shots where it is 1
    weights = {"explosive": shot[0], "force_z": shot[1]}
    weights |= {
        "moment_xx": 0.7 * shot[2],
        "moment_zz": -0.4 * shot[2],
        "moment_xz": -0.6 * shot[2],
    }
    source, receivers = (
        np.array([0.3, -0.2]) * h,
        np.array([[90.0, 60.0], [-40.0, 80.0], [0.0, -70.0]]),
    )
    survey = ox.Survey(
        np.tile(source, (3, 1)),
        receivers,
        w,
        dt,
        source=weights,
        receiver=("velocity_x", "velocity_z", "pressure"),
    )
    d = shoot(ox.Elastic(), SOLID, square(reach(duration, distance, VP), h), survey, VP, **options)
    exact = np.zeros_like(d)
    for i, x in enumerate(receivers - source):
        exact[0, :2, i] = velocity_of_explosion(w, dt, x, VP, RHO)
        exact[1, :2, i] = velocity_of_force(w, dt, x, 1, **SOLID)
        exact[2, :2, i] = velocity_of_moment(w, dt, x, moment, **SOLID)
        exact[0, 2, i] = pressure_of_explosion(w, dt, x, **SOLID)
        exact[1, 2, i] = pressure_of_force(w, dt, x, 1, **SOLID)
        exact[2, 2, i] = pressure_of_moment(w, dt, x, moment, **SOLID)
    return relative(d, exact, (2, 3))


@pytest.mark.slow
def test_elastic_waves_in_the_plane():
    """P and S waves with ten and twenty points a dominant S wavelength, at half of the largest
    step.

    The step hastens a wave by the fraction (omega dt)^2 / 24 of its travel time T, an error of
    omega T (omega dt)^2 / 24: with omega = 2 pi 22 Hz, where the spectra of S waves are centred, dt
    = 1 ms and T = 0.1 s, 1.1 %. A quarter of it is left on the fine grid, and 1e-3 of the
    interpolation kernel, whose error does not fall with the spacing.
    """
    coarse, fine = (in_a_solid(h, time_dispersion="raw") for h in (7.3, 3.65))
    print("elastic", coarse, fine)
    assert np.all(coarse < 0.011)
    assert np.all(fine < 0.011 / 4 + 1e-3)
    assert np.all(fine < coarse / 2)


@pytest.mark.slow
def test_elastic_waves_in_the_plane_without_the_error_of_the_step():
    """On the coarse grid of the test above: the kernel's 1e-3 and, of the wavelet's highest
    frequencies, the grid's."""
    coarse = in_a_solid(7.3)
    print("elastic, corrected", coarse)
    assert np.all(coarse < 3e-3)


@pytest.mark.slow
def test_elastic_waves_in_space():
    """An explosion and a force with eleven points a P wavelength and seven an S wavelength; the
    error is as above, with dt = 1.35 ms and T = 0.08 s at most: omega T (omega dt)^2 / 24 = 1.5
    %."""
    h, vs, duration = 12.0, 1300.0, 0.26
    solid = SOLID | dict(vs=vs)
    t = times(duration, 0.5 * ox.Elastic().largest_step((h,) * 3, VP))
    w, dt, source = pulse(t), t[1], np.array([3.0, 2.0, -4.0])
    receivers = np.array([[50.0, -20.0, 40.0], [-30.0, 60.0, 5.0]])
    weights = {"explosive": np.array([[1.0], [0.0]]), "force_y": np.array([[0.0], [1.0]])}
    names = ("velocity_x", "velocity_y", "velocity_z")
    survey = ox.Survey(np.tile(source, (2, 1)), receivers, w, dt, source=weights, receiver=names)
    d = shoot(ox.Elastic(), solid, square(reach(duration, 80.0, VP), h, 3), survey, VP)
    exact = np.zeros_like(d)
    for i, x in enumerate(receivers - source):
        exact[0, :, i] = velocity_of_explosion(w, dt, x, VP, RHO)
        exact[1, :, i] = velocity_of_force(w, dt, x, 1, **solid)
    print("elastic 3-D", relative(d, exact, (1, 2, 3)))
    assert np.all(relative(d, exact, (1, 2, 3)) < 0.015)


@pytest.mark.slow
def test_components_together_are_those_apart():
    """Velocities to rounding; pressure, then known half a step off the samples, to the
    interpolation's (u''''/ 4!) (1/2) (1/2) (3/2) (5/2) dt^4."""
    h, duration = 7.3, 0.3
    t = times(duration, 0.9 * ox.Elastic().largest_step((h, h), VP))
    points = np.array([[1.0, 2.0]]), np.array([[60.0, 50.0], [-40.0, 10.0]])

    def record(receiver: str | tuple[str, ...]) -> np.ndarray:
        survey = ox.Survey(*points, pulse(t), t[1], source="force_z", receiver=receiver)
        return shoot(ox.Elastic(), SOLID, square(reach(duration, 80.0, VP), h), survey, VP)[0]

    together = record(("velocity_x", "velocity_z", "pressure"))
    velocities, pressure = record(("velocity_x", "velocity_z")), record("pressure")
    assert together.shape == (3, 2, len(t))
    print("velocities", relative(together[:2], velocities))
    np.testing.assert_allclose(
        together[:2], velocities, rtol=0, atol=1e-12 * np.abs(velocities).max()
    )
    spectrum = np.abs(np.fft.rfft(pressure, 4 * len(t)))
    weight = (2 * np.pi * np.fft.rfftfreq(4 * len(t), t[1]) * t[1]) ** 4 * 15 / 16 / 24
    expected = np.linalg.norm(weight * spectrum) / np.linalg.norm(spectrum)
    print("pressure", relative(together[2], pressure), expected)
    assert relative(together[2], pressure) < 1.1 * expected
    assert expected < 5e-3


@pytest.mark.slow
def test_elastic_fluid_is_acoustic():
    """Without shear the velocities can be eliminated, which leaves `AcousticDensity`'s scheme, in a
    perfectly matched layer and below a free surface too: equal to rounding.

    The pressure of the moment rate w is that of w' / kappa, with the scheme's own derivative of w.
    """
    h, t = 8.0, times(0.5, 1.6e-3)
    grid = ox.Grid(shape=(40, 36), spacing=h)
    rng = np.random.default_rng(3)
    vp, rho = rng.uniform(1600, VP, grid.shape), rng.uniform(1000, 2000, grid.shape)
    vp[4:27, :19], rho[4:27, :19] = VP, RHO  # kappa, where the source is
    points = np.array([[121.0, 70.0]]), np.array([[200.0, 90.0], [60.0, 215.0]])
    rate = (pulse(t + t[1] / 2) - pulse(t - t[1] / 2)) / t[1]
    elastic = ox.Survey(*points, pulse(t), t[1], receiver="pressure")
    acoustic = ox.Survey(*points, rate / (RHO * VP**2), t[1])
    boundary = ox.Faces(ox.CPML(width=10, frequency=FREQUENCY), top=ox.FreeSurface())
    # it is the schemes that are the same, and the derivative of w is theirs
    raw = dict(time_dispersion="raw")
    p = shoot(ox.Elastic(), dict(vp=vp, vs=0.0, rho=rho), grid, elastic, VP, boundary, **raw)
    q = shoot(ox.AcousticDensity(), dict(vp=vp, rho=rho), grid, acoustic, VP, boundary, **raw)
    print("fluid", relative(p, q))
    assert relative(p, q) < 1e-10


@pytest.mark.slow
def test_velocities_and_forces_of_a_fluid():
    """Those of `AcousticDensity` are those of `Elastic` without shear, in rough media, in a
    perfectly matched layer and below a free surface: equal to rounding. Forces and a source of
    pressure fire together, and velocities are recorded beside the pressure."""
    h, t = 8.0, times(0.25, 1.6e-3)
    grid = ox.Grid(shape=(28, 26), spacing=h)
    rng = np.random.default_rng(3)
    vp, rho = rng.uniform(1600, VP, grid.shape), rng.uniform(1000, 2000, grid.shape)
    vp[4:22, :16], rho[4:22, :16] = VP, RHO  # kappa, where the source is
    points = np.array([[101.0, 50.0]]), np.array([[150.0, 60.0], [60.0, 155.0], [90.0, 5.0]])
    rate = (pulse(t + t[1] / 2) - pulse(t - t[1] / 2)) / t[1] / (RHO * VP**2)
    forces = 1e-3 * np.stack([pulse(t), pulse(t + 0.01)])[None, :, None]
    receivers = ("velocity_x", "velocity_z", "pressure")
    traces = []
    for equation, name, w in (
        (ox.Elastic(2), "explosive", pulse(t)),
        (ox.AcousticDensity(2), "source", rate),
    ):
        wavelets = np.concatenate([w[None, None, None], forces], axis=1)
        survey = ox.Survey(
            *points, wavelets, t[1], source=(name, "force_x", "force_z"), receiver=receivers
        )
        medium = dict(vp=vp, rho=rho) | ({"vs": 0.0} if name == "explosive" else {})
        boundary = ox.Faces(ox.CPML(width=8, frequency=FREQUENCY), top=ox.FreeSurface())
        options: dict[str, Any] = dict(time_dispersion="raw", min_points_per_wavelength=0.0)
        traces.append(shoot(equation, medium, grid, survey, VP, boundary, **options)[0])
    errors = relative(traces[1], traces[0], axis=-1)
    print("velocities of a fluid", errors)
    # Next to the surface, `Elastic` extrapolates what vanishes on it in fluids only: the horizontal
    # velocity, and a part of the pressure.
    errors[[0, 2], 2] = 0.0
    assert np.max(errors) < 1e-10


# ---------------------------------------------------------------- anisotropic


AZIMUTH = 0.9
MEDIA = dict(epsilon=0.2, delta=0.05)


def in_anisotropy(
    h: float, tilt: float | None, epsilon: float, delta: float, offsets: np.ndarray, duration: float
) -> tuple[np.ndarray, np.ndarray]:
    """Stresses p and s r (component, receiver, time) and their times; without a tilt, of `VTI`."""
    equation = ox.VTI() if tilt is None else ox.TTI()
    ndim, fastest = offsets.shape[1], VP * np.sqrt(1 + 2 * epsilon)
    t = times(duration, 0.5 * equation.largest_step((h,) * ndim, fastest))
    source = np.array([0.3, 0.1, -0.2])[-ndim:] * h
    survey = ox.Survey(
        source[None], source + offsets, pulse(t), t[1], receiver=("receiver", "vertical")
    )
    medium = dict(vp=VP, epsilon=epsilon, delta=delta) | ({} if tilt is None else dict(theta=tilt))
    if ndim == 3:
        medium["phi"] = AZIMUTH
    half = reach(duration, float(np.linalg.norm(offsets, axis=1).max()), fastest)
    return shoot(equation, medium, square(half, h, ndim), survey, fastest)[0], t


@pytest.mark.parametrize("tilt", [slow(None), slow(0.5), -0.8])
@pytest.mark.slow
def test_anisotropic_arrivals(tilt: float | None):
    """Energy travels at the group velocity, which differs by 18 % between along and across the
    axis, or 38 ms here.

    Allowed: what the step hastens it by, T (omega dt)^2 / 24 = 0.13 ms; 0.2 ms by which the
    correlation of a wave whose shape changes with the direction is off (see `analytic_media`); its
    resolution, 0.06 ms.
    """
    angles = np.array([0.0, 0.35, 0.8, 1.2, np.pi / 2, 2.1, 2.6])  # from the vertical
    offsets = 500.0 * np.stack([np.sin(angles), np.cos(angles)], 1)
    (p, _), t = in_anisotropy(10.0, tilt, **MEDIA, offsets=offsets, duration=0.5)
    for x, trace in zip(offsets, p, strict=True):
        arrival = arrival_time(x, VP, **MEDIA, axis=tilted_axis(tilt or 0.0))
        like = green(pulse(t), t[1], VP * arrival, VP, 2)
        early = t < arrival + 2 * DELAY  # before the slow wave that the equations have beside P
        late = lag(trace * early, like * early, t[1])
        print(tilt, "arrival", arrival, late)
        assert abs(late) < 4e-4


def elliptic(
    w: np.ndarray, dt: float, offsets: np.ndarray, epsilon: float, axis: np.ndarray
) -> np.ndarray:
    """p and s r where epsilon = delta, of a source that feeds p by w and r by w / s."""
    s = np.sqrt(1 + 2 * epsilon)
    waves = np.stack(
        [elliptic_waves(w, dt, x, VP, epsilon, axis, into=(1.0, 1 / s)) for x in offsets], 1
    )
    return waves * np.array([1.0, s])[:, None, None]


@pytest.mark.parametrize("tilt", [None, 0.5])
def test_elliptic_waves(tilt: float | None):
    """Where epsilon = delta the waves are known, and s r is p. The step hastens them by (omega
    dt)^2 / 24 of T = 0.13 s at most, with omega = 2 pi 17 Hz and dt = 1.2 ms: omega T (omega dt)^2
    / 24 = 1 %, and 0.2 % of the interpolation kernel."""
    offsets = np.array([[150.0, 220.0], [-200.0, 80.0], [100.0, 0.0], [0.0, -100.0]])
    d, t = in_anisotropy(10.0, tilt, 0.2, 0.2, offsets, 0.42)
    axis = tilted_axis(tilt or 0.0)
    exact = elliptic(pulse(t), t[1], offsets, 0.2, axis)
    print("elliptic", tilt, relative(d, exact, 2))
    assert np.all(relative(d, exact, 2) < 0.012)


@pytest.mark.slow
def test_elliptic_waves_in_space():
    """As above, and that the azimuth turns the axis from x to y. T = 0.04 s and dt = 1.3 ms: 0.4 %,
    and as much of ten points a wavelength (measured; interpolation and the wide stencil of the
    tilted derivatives)."""
    offsets = np.array([[50.0, -20.0, 40.0], [-30.0, 60.0, 5.0], [60.0, 50.0, 30.0]])
    d, t = in_anisotropy(13.0, 0.5, 0.2, 0.2, offsets, 0.25)
    axis = tilted_axis(0.5, AZIMUTH)
    exact = elliptic(pulse(t), t[1], offsets, 0.2, axis)
    print("elliptic 3-D", relative(d, exact, 2))
    assert np.all(relative(d, exact, 2) < 0.008)


@pytest.mark.parametrize("tilt", [None, 0.0, 0.4])
def test_nothing_is_faster_than_p(tilt: float | None):
    """Before P arrives there is what the wavelet has 1.2 periods before its peak, 1e-5, along the
    axis too."""
    axis = tilted_axis(tilt or 0.0)
    d, t = in_anisotropy(10.0, tilt, **MEDIA, offsets=500.0 * axis[None], duration=0.45)
    before = t < 500.0 / VP + DELAY - 1.2 / FREQUENCY
    early = np.abs(d[:, 0, before]).max(1) / np.abs(d[:, 0]).max(1)
    print("early", tilt, early)
    assert np.all(early < 1e-4)


ROUGH = np.random.default_rng(3)
ROUGH_GRID = ox.Grid(shape=(40, 36), spacing=8.0)
ROUGH_VP, ROUGH_RHO = (
    ROUGH.uniform(1600, VP, ROUGH_GRID.shape),
    ROUGH.uniform(1000, 2000, ROUGH_GRID.shape),
)
ROUGH_TIMES = times(0.4, 1.5e-3)


def rough_survey(receiver: tuple[str, ...] | None = None) -> ox.Survey:
    points = np.array([[121.0, 70.0]]), np.array([[200.0, 90.0], [60.0, 215.0]])
    return ox.Survey(*points, pulse(ROUGH_TIMES), ROUGH_TIMES[1], receiver=receiver)


def test_isotropic_limits():
    """Without anisotropy VTI and TTI, whatever its axis, are `Acoustic` to rounding, in any medium
    and in the sponge."""
    none = dict(vp=ROUGH_VP, epsilon=0.0, delta=0.0)
    u = shoot(ox.Acoustic(), dict(vp=ROUGH_VP), ROUGH_GRID, rough_survey(), VP)[0]
    both, theta = rough_survey(("receiver", "vertical")), ROUGH.uniform(-1, 1, ROUGH_GRID.shape)
    for equation, medium in ((ox.VTI(), none), (ox.TTI(), none | dict(theta=theta))):
        d = shoot(equation, medium, ROUGH_GRID, both, VP)[0]
        print("isotropic", [relative(x, u) for x in d])
        for x in d:
            assert relative(x, u) < 1e-11


def test_upright_axis():
    """Upright, TTI tends to VTI as fast as the order of its derivatives, 8, lets it (on these grids
    the next order takes up to 0.1 (k h)^2 off the slope, with k h of 0.8 to 2 where the differences
    are largest).

    epsilon = delta, for beside P the equations have waves that are ever slower the shorter they
    are, never resolved.
    """
    errors, spacings = [], (10.0, 8.0)
    t = times(0.4, 1.0e-3)
    for h in spacings:
        grid = square(reach(0.4, 340.0, VP * np.sqrt(1.4)), h)
        at = h * np.round(np.array([[240.0, 120.0], [120.0, 240.0]]) / h)
        survey = ox.Survey([[0.0, 0.0]], at, pulse(t), t[1], receiver=("receiver", "vertical"))
        medium = dict(vp=VP, epsilon=0.2, delta=0.2)
        vti = shoot(ox.VTI(), medium, grid, survey, 3000.0)
        errors.append(
            relative(shoot(ox.TTI(), medium | dict(theta=0.0), grid, survey, 3000.0), vti)
        )
    slope = np.log(errors[0] / errors[1]) / np.log(spacings[0] / spacings[1])
    print("upright", errors, slope)
    assert errors[0] < 1e-3
    assert 7 < slope < 8.5


# ---------------------------------------------------------------- attenuation

Q = 30.0
LOSSY = dict(vp=VP, rho=RHO, Q=Q)
UNRELAXED = VP * 1.02  # m/s, the velocity at high frequency


def test_viscoacoustic_waves():
    """With a quality of 30 at the dominant frequency, which takes a fifth of the wave at 270 m.

    `Viscoacoustic` adds its sources to the pressure itself, as 1 / kappa_u p_tt = w, where
    `viscoacoustic_green` has its wavelet pass through the modulus: here it is first multiplied by
    kappa_u / M. Allowed: omega T (omega dt)^2 / 24 with omega = 2 pi 17 Hz, T = 0.135 s, dt = 1.1
    ms, 0.8 %, and 0.2 % of the interpolation kernel.
    """
    h, duration = 8.0, 0.5
    offsets = np.array([[150.0, 220.0], [-60.0, 80.0], [0.0, 100.0]])
    t = times(duration, 0.5 * ox.AcousticDensity().largest_step((h, h), UNRELAXED))
    source = np.array([0.3, -0.2]) * h
    survey = ox.Survey(source[None], source + offsets, pulse(t), t[1])
    grid = square(reach(duration, 270.0, UNRELAXED), h)
    d = shoot(ox.Viscoacoustic(frequency=FREQUENCY), LOSSY, grid, survey, UNRELAXED)[0]
    unrelaxed = sls_modulus(1e12, VP, RHO, Q, FREQUENCY).real
    w = filtered(
        pulse(t), t[1], lambda omega: unrelaxed / sls_modulus(omega, VP, RHO, Q, FREQUENCY)
    )
    distances = np.linalg.norm(offsets, axis=1)
    exact = np.stack([viscoacoustic_green(w, t[1], r, VP, RHO, Q, FREQUENCY, 2) for r in distances])
    lossless = np.stack([RHO * green(pulse(t), t[1], r, VP, 2) for r in distances])
    print("visco", relative(d, exact, 1), relative(lossless, exact, 1))
    assert np.all(relative(d, exact, 1) < 0.01)
    assert np.all(relative(lossless, exact, 1) > 0.05)  # attenuation matters


def test_attenuation_along_a_line():
    """In 1-D a plane wave loses exp(-alpha x) and turns by omega x / c between two receivers,
    whatever its source.

    The step changes attenuation by (omega dt)^2 / 12, and hastens the wave by (omega dt)^2 / 24 of
    its travel time.
    """
    h, duration, between = 6.0, 0.75, 600.0
    t = times(duration, 0.25 * ox.AcousticDensity().largest_step((h,), UNRELAXED))
    x = np.array([120.0, 120.0 + between])
    survey = ox.Survey([[0.0]], x[:, None], pulse(t), t[1])
    grid = square(reach(duration, x[1], UNRELAXED), h, 1)
    omega = 2 * np.pi * np.array([8.0, 15.0, 25.0])
    alpha, c = sls_attenuation(omega, VP, Q, FREQUENCY), sls_phase_velocity(omega, VP, Q, FREQUENCY)

    def found(**options: Any) -> tuple[np.ndarray, np.ndarray]:
        """Attenuation, 1/m, and by how many radians the wave is early."""
        d = shoot(ox.Viscoacoustic(frequency=FREQUENCY), LOSSY, grid, survey, UNRELAXED, **options)[
            0
        ]
        # of the derivative, which ends at zero
        spectra = np.exp(-1j * omega[:, None] * t[1:]) @ np.diff(d).T
        ratio = spectra[:, 1] / spectra[:, 0]
        return -np.log(np.abs(ratio)) / between, np.angle(ratio * np.exp(1j * omega * between / c))

    measured, early = found(time_dispersion="raw")
    step = (omega * t[1]) ** 2
    print("line", measured / alpha - 1, step / 12, early, omega * between / c * step / 24)
    np.testing.assert_allclose(measured, alpha, rtol=1e-3 + step[-1] / 12)
    np.testing.assert_allclose(early, omega * between / c * step / 24, rtol=0.1, atol=1e-4)
    measured, early = found()
    # rates act as 1 - (omega dt)^2 / 8 of themselves
    np.testing.assert_allclose(measured, alpha, rtol=1e-3 + step[-1] / 8)
    assert np.all(np.abs(early) < 0.1 * omega * between / c * step / 24 + 1e-4)


def test_no_attenuation():
    """Without loss it is `AcousticDensity` to rounding; with a quality of 1e9, to omega T / Q,
    1e-8."""
    p = shoot(
        ox.AcousticDensity(),
        dict(vp=ROUGH_VP, rho=ROUGH_RHO),
        ROUGH_GRID,
        rough_survey(),
        UNRELAXED,
    )
    for q, tolerance in ((np.inf, 1e-12), (1e9, 3e-8)):
        medium = dict(vp=ROUGH_VP, rho=ROUGH_RHO, Q=q)
        d = shoot(
            ox.Viscoacoustic(frequency=FREQUENCY), medium, ROUGH_GRID, rough_survey(), UNRELAXED
        )
        print("no loss", q, relative(d, p))
        assert relative(d, p) < tolerance


# ---------------------------------------------------------------- reflection


def reflections(
    vp2: float, rho2: float, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What an interface 154 m below source and receivers adds to the traces, the wave of the mirror
    image, and angles."""
    h, depth, duration = 7.5, 153.75, 0.5  # halfway between points
    fastest = max(VP, vp2)
    t = times(duration, 0.4 * ox.AcousticDensity().largest_step((h, h), fastest))
    survey = ox.Survey([[0.0, 0.0]], np.stack([offsets, 0 * offsets], 1), pulse(t), t[1])
    grid = square(reach(duration, float(offsets.max()), fastest), h)
    below = h * np.arange(grid.shape[1]) + grid.origin[1] > depth
    without, with_it = (
        shoot(
            ox.AcousticDensity(),
            dict(vp=np.where(below, v, VP), rho=np.where(below, r, RHO)),
            grid,
            survey,
            fastest,
        )
        for v, r in ((VP, RHO), (vp2, rho2))
    )
    image = [RHO * green(pulse(t), t[1], float(np.hypot(x, 2 * depth)), VP, 2) for x in offsets]
    return (with_it - without)[0], np.stack(image), np.arctan(offsets / (2 * depth))


def test_reflection_of_a_density_contrast():
    """Without a contrast of velocity the coefficient does not depend on the angle: the wave is its
    mirror image's.

    Allowed: 0.8 % of the step, omega T (omega dt)^2 / 24 with dt = 0.8 ms, T = 0.2 s, and as much
    of the interface, which the scheme sees to second order: (k h)^2 / 24 = 0.7 % with omega = 2 pi
    17 Hz.
    """
    d, image, angles = reflections(VP, 2000.0, np.array([0.0, 150.0, 300.0]))
    exact = fluid_reflection(angles, VP, RHO, VP, 2000.0)[:, None] * image
    print("density contrast", relative(d, exact, 1))
    assert np.all(relative(d, exact, 1) < 0.016)


def test_reflection_of_an_interface():
    """Steep reflections have the amplitude of plane waves: what the curvature of the wave adds, R''
    / (2 k r) = 4 % of the image, is a quarter of a period off, which adds its square, and so leaves
    out the correlation with the image."""
    d, image, angles = reflections(2400.0, 1800.0, np.array([0.0, 60.0, 120.0]))
    measured = (d * image).sum(1) / (image * image).sum(1)
    exact = fluid_reflection(angles, VP, RHO, 2400.0, 1800.0)
    print("reflection", measured / exact)
    np.testing.assert_allclose(measured, exact, rtol=0.02)


# ---------------------------------------------------------------- dimensions


def test_a_line_of_points_across_space_is_a_point_in_the_plane():
    """To rounding, until waves from the ends of the line, or the grid's edges, arrive."""
    h, duration = 12.0, 0.25
    t = times(duration, 0.8 * ox.Acoustic().largest_step((h,) * 3, VP))
    half = int(reach(duration, 72.0, VP) / h) + 1
    # So that nothing arrives along the line, which is heard once and not twice as late as an echo.
    across = 2 * half
    source, receivers = np.array([2.0, -3.0]), np.array([[60.0, 40.0], [-24.0, 50.0]])
    plane = ox.Grid(shape=(2 * half + 1,) * 2, spacing=h, origin=-half * h)
    space = ox.Grid(
        shape=(2 * half + 1, 2 * across + 1, 2 * half + 1),
        spacing=h,
        origin=(-half * h, -across * h, -half * h),
    )
    y = h * np.arange(-across, across + 1)
    line = np.stack([np.full(y.shape, source[0]), y, np.full(y.shape, source[1])], 1)
    u = shoot(
        ox.Acoustic(), dict(vp=VP), plane, ox.Survey(source[None], receivers, pulse(t), t[1]), VP
    )
    survey = ox.Survey(line[None], np.insert(receivers, 1, 0.0, axis=1), h * pulse(t), t[1])
    v = shoot(ox.Acoustic(), dict(vp=VP), space, survey, VP)
    print("line", relative(v, u))
    assert relative(v, u) < 1e-10
