"""Free surfaces and perfectly matched layers of ondax against exact solutions, and against larger
models."""

import numpy as np
import pytest
from analytic import filtered
from analytic_elastic import rayleigh_speed, velocity_of_force
from analytic_media import green_below_surface
from media import FREQUENCY, RHO, VP, VS, lag, pulse, relative, shoot, times
from slow import slow_but

import ondax as ox

SOLID = dict(vp=VP, vs=VS, rho=RHO)
ANISOTROPIC = dict(vp=VP, epsilon=0.2, delta=0.05)
FASTEST = VP * np.sqrt(1.4)  # of the anisotropic P waves


# ---------------------------------------------------------------- free surface


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "equation", slow_but([ox.Acoustic, ox.AcousticDensity], ox.AcousticDensity)
)
def test_free_surface_mirrors(equation: type):
    """Source and receivers off the grid, some of them within a cell of the surface, whose images
    must then be right.

    At 10 m, 13 points a wavelength, the error is the step's, omega T (omega dt)^2 / 24 with omega =
    2 pi 17 Hz (where the spectrum is centred), dt = 1.3 ms and T up to 0.08 s: 0.7 %, and up to
    half more where direct wave and ghost cancel. At 5 m a quarter of it is left, and 1e-3 of the
    interpolation kernel.
    """
    duration, half, surface = 0.4, 400.0, 50.0
    source, receivers = (
        np.array([2.0, 63.0]),
        np.array([[120.0, 74.0], [-60.0, 130.0], [0.0, 200.0], [80.0, 53.0]]),
    )
    medium, scale = (dict(vp=VP), 1.0) if equation is ox.Acoustic else (dict(vp=VP, rho=RHO), RHO)
    errors = []
    for h in (10.0, 5.0):
        t = times(duration, 0.4 * equation().largest_step((h, h), VP))
        # no echo of the other edges before 0.4 s
        grid = ox.Grid(
            shape=(round(2 * half / h) + 1, round(half / h) + 1), spacing=h, origin=(-half, surface)
        )
        survey = ox.Survey(source[None], receivers, pulse(t), t[1])
        d = shoot(
            equation(), medium, grid, survey, VP, ox.Faces(ox.Sponge(width=4), top=ox.FreeSurface())
        )[0]
        exact = [
            scale * green_below_surface(pulse(t), t[1], source, x, VP, surface) for x in receivers
        ]
        errors.append(relative(d, np.stack(exact), 1))
    print("free surface", equation.__name__, errors)
    assert np.all(errors[0] < 0.0105)
    assert np.all(errors[1] < 0.0105 / 4 + 1e-3)


def lamb(w: np.ndarray, dt: float, x: float, depth: float, z: float) -> np.ndarray:
    """Velocity (axis, time) at depth z below a free surface, from a vertical force w at another
    depth, in 2-D.

    The wave of the force in full space, and what takes its traction off the surface: of plane waves
    exp(i k x), with potentials a exp(-p z) and b exp(-s z), u = grad(phi) + curl(psi), p^2 = k^2 -
    kp^2, s^2 = k^2 - ks^2 and m = 2 k^2
    - ks^2, and Rayleigh's determinant m^2 - 4 k^2 p s. Frequencies are complex (see `filtered`), so
    that no pole lies on the real axis of k; it is sampled at a fifth of their distance, for an
    error of exp(-2 pi 5), to where nothing is left.
    """
    k = np.linspace(0, 0.8, 801)

    def reflected(omega: np.ndarray) -> np.ndarray:
        u = np.zeros((2, len(omega)), complex)
        for i in np.flatnonzero(np.abs(omega) < 2 * np.pi * 5 * FREQUENCY):
            ks2 = (omega[i] / VS) ** 2
            p, s, m = np.sqrt(k**2 - (omega[i] / VP) ** 2), np.sqrt(k**2 - ks2), 2 * k**2 - ks2
            # of the upgoing waves, at the surface
            phi = -np.exp(-p * depth) / (2 * RHO * omega[i] ** 2)
            psi = -1j * k * np.exp(-s * depth) / (2 * s * RHO * omega[i] ** 2)
            # their tractions over mu
            shear, normal = (
                2j * k * p * phi - m * psi,
                m * phi + 2j * k * s * psi,
            )
            determinant = m**2 - 4 * k**2 * p * s
            a = (2j * k * s * shear - m * normal) / determinant * np.exp(-p * z)
            b = (m * shear + 2j * k * p * normal) / determinant * np.exp(-s * z)
            u[:, i] = (
                (1j * k * a + s * b) @ (1j * np.sin(k * x)),
                (1j * k * b - p * a) @ np.cos(k * x),
            )
            u[1, i] -= (1j * k * b - p * a)[0] / 2  # the trapezium rule
        return 1j * omega * u * k[1] / np.pi

    spectra = {}  # `filtered` asks for the same frequencies twice
    response = lambda omega: spectra.setdefault(len(omega), reflected(omega))  # noqa: E731
    back = np.stack([filtered(w, dt, lambda omega, i=i: response(omega)[i]) for i in range(2)])
    return back + velocity_of_force(w, dt, (x, z - depth), 1, **SOLID)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_waves_along_the_surface_of_a_solid():
    """Lamb's problem: P, S, and the Rayleigh wave, which carries most of the energy here.

    The images see the surface to second order in the spacing, whatever the order of the
    derivatives, which lets the Rayleigh wave go too fast: by 0.35 % with 13 points a wavelength of
    it (measured), or omega T 0.35 % = 9 % of its amplitude after 0.3 s.
    """
    duration, depth, points = (
        1.0,
        35.0,
        np.array([[300.0, 35.0], [100.0, 30.0], [300.0, 0.0], [700.0, 0.0]]),
    )
    errors, spacings = [], (5.0, 3.65)
    for h in spacings:
        t = times(duration, 0.5 * ox.Elastic().largest_step((h, h), VP))
        grid = ox.Grid(shape=(round(900 / h), round(250 / h)), spacing=h, origin=(-100.0, 0.0))
        names = ("velocity_x", "velocity_z")
        survey = ox.Survey([[0.0, depth]], points, pulse(t), t[1], source="force_z", receiver=names)
        d = shoot(
            ox.Elastic(),
            SOLID,
            grid,
            survey,
            VP,
            ox.Faces(ox.Sponge(width=60), top=ox.FreeSurface()),
        )[0]
        exact = np.stack([lamb(pulse(t), t[1], x, depth, z) for x, z in points[:2]], 1)
        errors.append(relative(d[:, :2], exact, 2))
        speed = 400.0 / lag(d[1, 3], d[1, 2], t[1])
        print("surface", h, errors[-1], speed / rayleigh_speed(VP, VS))
        assert abs(speed / rayleigh_speed(VP, VS) - 1) < 0.01
    slopes = np.log(errors[0] / errors[1]) / np.log(spacings[0] / spacings[1])
    print("slopes", slopes)
    assert np.all(errors[0] < 0.12)
    assert np.all(slopes > 1.6)


# ---------------------------------------------------------------- perfectly matched layers

CASES = {
    "acoustic": (ox.Acoustic(), dict(vp=VP), VP, {}),
    "elastic": (
        ox.Elastic(),
        SOLID,
        VP,
        dict(source="force_z", receiver=("velocity_x", "velocity_z")),
    ),
    "vti": (ox.VTI(), ANISOTROPIC, FASTEST, dict(receiver=("receiver", "vertical"))),
}


def echoes(case: str, boundary: ox.AbstractBoundary) -> np.ndarray:
    """The energy that a small model's edges send back, over that of the direct wave, by receiver.

    Source and receivers are 150 m above an edge, which sees them under angles of up to 60 degrees.
    The large model's edges are out of reach.
    """
    equation, medium, fastest, components = CASES[case]
    h, above, duration = 10.0, 15, 0.9
    t = times(duration, 1e-3)
    x = 2 * above * h * np.tan(np.radians([5.0, 15.0, 30.0, 45.0, 60.0]))
    traces = []
    for pad in (0, int(fastest * duration / 2 / h) + 5):
        grid = ox.Grid((90 + 2 * pad, 41 + 2 * pad), h, ((-20 - pad) * h, (above - 40 - pad) * h))
        survey = ox.Survey([[0.0, 0.0]], np.stack([x, 0 * x], 1), pulse(t), t[1], **components)
        traces.append(
            shoot(equation, medium, grid, survey, fastest, boundary, "float32").reshape(
                -1, 5, len(t)
            )
        )
    small, large = traces
    return np.sum((small - large) ** 2, (0, 2)) / np.sum(large**2, (0, 2))


@pytest.mark.parametrize("case", slow_but(CASES, "acoustic"))
def test_perfectly_matched_layers_are_quiet(case: str):
    """Of 20 cells, one and a half P wavelengths: below 1e-4 of the energy, 1 % of the amplitude.

    Measured, with a `reflection` of 1e-5: at most 2e-9 (acoustic), 2e-7 (vti, of its slow waves). A
    sponge as wide returns 3e-2 at 60 degrees, and one of 40 cells 1e-3.
    """
    quiet = echoes(case, ox.CPML(width=20))
    print("cpml", case, quiet)
    assert np.all(quiet < 1e-6)


def test_sponges_are_louder():
    """The figures that `CPML` is compared with above."""
    for width, energy in ((20, 0.05), (40, 2e-3)):
        loud = echoes("acoustic", ox.Sponge(width=width))
        print("sponge", width, loud)
        assert loud[-1] < energy
        assert np.all(loud > 1e-5)


@pytest.mark.parametrize("case", slow_but(CASES, "acoustic"))
def test_perfectly_matched_layers_do_not_grow(case: str):
    """20,000 steps at 99 % of the largest stable one, in single precision: what is left in the last
    fifth is below what was left in the second, and below 1 % of the peak."""
    equation, medium, fastest, components = CASES[case]
    h, n, every, steps = 10.0, 16, 5, 20000
    dt = 0.99 * every * equation.largest_step((h, h), fastest)
    t = dt * np.arange(steps // every + 1)
    at = h * np.arange(1.0, n, 4.0)
    receivers = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
    survey = ox.Survey([[63.0, 97.0]], receivers, pulse(t), dt, **components)
    d = shoot(
        equation,
        medium,
        ox.Grid((n, n), h),
        survey,
        fastest,
        ox.CPML(20, frequency=FREQUENCY),
        "float32",
    )
    loudest = np.abs(d).reshape(-1, len(t)).max(0)
    parts = [float(p.max()) for p in np.array_split(loudest / loudest.max(), 5)]
    print("long", case, parts)
    assert parts[4] <= parts[1] < 0.01
