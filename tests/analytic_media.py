"""Exact solutions beside a free surface, in anisotropic, viscoacoustic and conducting media, and
between two fluids.

Everything is in SI units and for exp(+i omega t). Wavelets given as samples must be band-limited
and vanish at both ends. Positions and offsets (receiver minus source) are (x, z) or (x, y, z),
depth last.
"""

from collections.abc import Callable, Sequence

import numpy as np
from analytic import filtered, green, ricker
from jaxtyping import Complex, Float
from scipy.integrate import cumulative_simpson, trapezoid
from scipy.optimize import brentq
from scipy.special import hankel2, j0

Vector = Sequence[float] | Float[np.ndarray, " axis"]
Array = float | complex | np.ndarray

VACUUM_PERMITTIVITY = 8.8541878128e-12  # F / m
VACUUM_PERMEABILITY = 4e-7 * np.pi  # H / m


def wave(
    w: Float[np.ndarray, " time"],
    dt: float,
    distance: float,
    wavenumber: Callable[[Complex[np.ndarray, " f"]], Complex[np.ndarray, " f"]],
    ndim: int,
) -> Float[np.ndarray, " time"]:
    """Trace of lap u + k(omega)^2 u = -w delta: `analytic.green` for any causal wavenumber (Im k <
    0: attenuation)."""

    def response(omega: np.ndarray) -> np.ndarray:
        k = wavenumber(omega)
        if ndim == 1:
            return np.exp(-1j * k * distance) / (2j * k)
        if ndim == 2:
            return -0.25j * hankel2(0, k * distance)
        return np.exp(-1j * k * distance) / (4 * np.pi * distance)

    return filtered(w, dt, response)


# A free surface.


def green_below_surface(
    w: Float[np.ndarray, " time"],
    dt: float,
    source: Vector,
    receiver: Vector,
    velocity: float,
    surface: float = 0.0,
) -> Float[np.ndarray, " time"]:
    """u = 0 at depth `surface`, the last axis, above a homogeneous half-space: the source less its
    mirror image.

    (1/v^2) u_tt - lap u = w delta, as `analytic.green`, in as many dimensions as the positions
    have.
    """
    source, receiver = np.asarray(source, dtype=float), np.asarray(receiver, dtype=float)
    image = np.append(source[:-1], 2 * surface - source[-1])
    direct, ghost = (float(np.linalg.norm(receiver - s)) for s in (source, image))
    return green(w, dt, direct, velocity, len(source)) - green(w, dt, ghost, velocity, len(source))


# Vertical and tilted transverse isotropy, pseudo-acoustic: (1/v^2) p_tt = (1 + 2 epsilon) H_perp p
# + sqrt(1 + 2 delta) H_axis r (1/v^2) r_tt = sqrt(1 + 2 delta) H_perp p + H_axis r with H_axis the
# second derivative along the symmetry axis and H_perp the Laplacian less it; v is along the axis.
# Angles are from the axis.


def tilted_axis(tilt: float, azimuth: float | None = None) -> Float[np.ndarray, " axis"]:
    """Unit vector of the symmetry axis: vertical for tilt 0; it leans towards +x, in 3-D towards
    `azimuth` from x.

    In radians: (sin t, cos t) in (x, z), (sin t cos a, sin t sin a, cos t) in (x, y, z).
    """
    if azimuth is None:
        return np.array([np.sin(tilt), np.cos(tilt)])
    return np.array([np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)])


def _squared(theta: Array, epsilon: float, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """(V / v)^2 and its derivative in theta.

    With X = sin^2 and Z = cos^2, the determinant of [[(1 + 2 e) X - l, s Z], [s X, Z - l]], s^2 = 1
    + 2 d, is l^2 - l a + 2 (e - d) X Z, a = (1 + 2 e) X + Z, of which l is the larger root
    (Alkhalifah 2000, Geophysics 65, 1239).
    """
    x = np.sin(theta) ** 2
    a, b = 1 + 2 * epsilon * x, 8 * (epsilon - delta) * x * (1 - x)
    root = np.sqrt(a**2 - b)
    slope = epsilon + (2 * a * epsilon - 4 * (epsilon - delta) * (1 - 2 * x)) / (2 * root)  # in x
    return (a + root) / 2, slope * np.sin(2 * np.asarray(theta))


def phase_velocity(theta: Array, vp: float, epsilon: float, delta: float) -> np.ndarray:
    """Of the P wave whose wavenumber is at the angle theta to the axis."""
    return vp * np.sqrt(_squared(theta, epsilon, delta)[0])


def group_velocity(
    theta: Array, vp: float, epsilon: float, delta: float
) -> tuple[np.ndarray, np.ndarray]:
    """Speed and angle to the axis of the energy of the P wave whose wavenumber is at the angle
    theta.

    The vector has the components V along the wavenumber and dV / dtheta across it (Thomsen 1986, 13
    and 14).
    """
    squared, slope = _squared(theta, epsilon, delta)
    along = vp * np.sqrt(squared)
    across = vp * slope / (2 * np.sqrt(squared))
    return np.hypot(along, across), theta + np.arctan2(across, along)


def arrival_time(
    offset: Vector, vp: float, epsilon: float, delta: float, axis: Vector | None = None
) -> float:
    """Travel time of the P wave's energy over `offset`, in any number of dimensions; `axis` is
    vertical by default."""
    offset = np.asarray(offset, dtype=float)
    axis = (
        np.eye(len(offset))[-1]
        if axis is None
        else np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    )
    distance, along = float(np.linalg.norm(offset)), float(offset @ axis)
    angle = float(np.arctan2(np.linalg.norm(offset - along * axis), abs(along)))
    excess = lambda theta: float(group_velocity(theta, vp, epsilon, delta)[1]) - angle  # noqa: E731
    if (
        excess(0.0) >= 0 or excess(np.pi / 2) <= 0
    ):  # along or across the axis, where both velocities are parallel
        return distance / float(phase_velocity(0.0 if angle < 1 else np.pi / 2, vp, epsilon, delta))
    theta = brentq(excess, 0.0, np.pi / 2, xtol=1e-14)
    return distance / float(group_velocity(theta, vp, epsilon, delta)[0])


def elliptic_waves(
    w: Float[np.ndarray, " time"],
    dt: float,
    offset: Vector,
    vp: float,
    epsilon: float,
    axis: Vector | None = None,
    into: tuple[float, float] = (1.0, 1.0),
) -> tuple[Float[np.ndarray, " time"], Float[np.ndarray, " time"]]:
    """p and r of the system above for delta = epsilon, 2-D or 3-D, away from the source.

    a w delta is added to the first right-hand side and b w delta to the second, (a, b) = `into`.
    With s^2 = 1 + 2 epsilon, p - s r only ever feels its own source, (a - s b) w delta, so that it
    is -(v / omega)^2 (a - s b) w delta, and p obeys (1/v^2) p_tt = s^2 H_perp p + H_axis p + a w
    delta - H_axis (p - s r). Distances across the axis divided by s make that isotropic. The last
    term leaves its mark if a differs from s b.
    """
    offset = np.asarray(offset, dtype=float)
    ndim = len(offset)
    axis = (
        np.eye(ndim)[-1] if axis is None else np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    )
    s, z = np.sqrt(1 + 2 * epsilon), float(offset @ axis)
    d = float(np.hypot(np.linalg.norm(offset - z * axis) / s, z))
    left = into[0] - s * into[1]

    def response(omega: np.ndarray) -> np.ndarray:
        k = omega / vp
        if ndim == 2:
            g, g1 = -0.25j * hankel2(0, k * d), 0.25j * k * hankel2(1, k * d)
        else:
            g = np.exp(-1j * k * d) / (4 * np.pi * d)
            g1 = -(1j * k + 1 / d) * g
        g2 = -(k**2) * g - (ndim - 1) * g1 / d
        return (into[0] * g + left / k**2 * ((z / d) ** 2 * (g2 - g1 / d) + g1 / d)) / s ** (
            ndim - 1
        )

    p = filtered(w, dt, response)
    return p, p / s


# The standard linear solid: M = kR (1 + i omega tau_eps) / (1 + i omega tau_sigma), with 1 / Q
# largest at `frequency`, where it is 1 / q and where the phase velocity is vp.


def relaxation_times(q: float, frequency: float) -> tuple[float, float]:
    """tau_sigma = (sqrt(1 + 1/Q^2) - 1/Q) / w0 and tau_eps = 1 / (w0^2 tau_sigma) (Blanch et al.
    1995)."""
    w0 = 2 * np.pi * frequency
    tau_sigma = (np.sqrt(1 + 1 / q**2) - 1 / q) / w0
    return tau_sigma, 1 / (w0**2 * tau_sigma)


def relaxed_modulus(vp: float, rho: float, q: float, frequency: float) -> float:
    """kR = rho vp^2 a cos^2(phi / 2), a = w0 tau_sigma, phi = atan(1 / Q).

    At w0, |M| = kR / a, arg M = phi, and 1 / Re(1 / c) = |c| / cos(phi / 2) with |c|^2 = |M| / rho.
    """
    a = 2 * np.pi * frequency * relaxation_times(q, frequency)[0]
    return rho * vp**2 * a * np.cos(np.arctan(1 / q) / 2) ** 2


def sls_modulus(omega: Array, vp: float, rho: float, q: float, frequency: float) -> np.ndarray:
    """Complex bulk modulus."""
    tau_sigma, tau_eps = relaxation_times(q, frequency)
    omega = np.asarray(omega)
    return (
        relaxed_modulus(vp, rho, q, frequency)
        * (1 + 1j * omega * tau_eps)
        / (1 + 1j * omega * tau_sigma)
    )


def sls_velocity(omega: Array, vp: float, q: float, frequency: float) -> np.ndarray:
    """Complex velocity, sqrt(M / rho); the wavenumber is omega over it."""
    return np.sqrt(sls_modulus(omega, vp, 1.0, q, frequency))


def sls_phase_velocity(omega: Array, vp: float, q: float, frequency: float) -> np.ndarray:
    """1 / Re(1 / c), vp at `frequency`."""
    return 1 / np.real(1 / sls_velocity(omega, vp, q, frequency))


def sls_attenuation(omega: Array, vp: float, q: float, frequency: float) -> np.ndarray:
    """alpha = -omega Im(1 / c), per metre: plane waves fall as exp(-alpha x)."""
    return -np.asarray(omega) * np.imag(1 / sls_velocity(omega, vp, q, frequency))


def sls_quality(omega: Array, q: float, frequency: float) -> np.ndarray:
    """Re M / Im M, q at `frequency`."""
    modulus = sls_modulus(omega, 1.0, 1.0, q, frequency)
    return modulus.real / modulus.imag


def viscoacoustic_green(
    w: Float[np.ndarray, " time"],
    dt: float,
    distance: float,
    vp: float,
    rho: float,
    q: float,
    frequency: float,
    ndim: int,
) -> Float[np.ndarray, " time"]:
    """Pressure for -omega^2 p / M - div(grad(p) / rho) = w delta: a sheet (1-D), line (2-D) or
    point (3-D) source.

    It is `AcousticDensity`'s convention: M = rho vp^2 gives rho times `analytic.green`.
    """
    return rho * wave(
        w, dt, distance, lambda omega: omega / sls_velocity(omega, vp, q, frequency), ndim
    )


# Ground-penetrating radar, 2-D TM: epsilon E_tt + sigma E_t - lap E / mu0 = w delta.


def radar_wavenumber(omega: Array, relative_permittivity: float, conductivity: float) -> np.ndarray:
    """k = omega sqrt(mu0 (epsilon - i sigma / omega)): phase velocity omega / Re k, attenuation -Im
    k per metre."""
    omega = np.asarray(omega)
    epsilon = relative_permittivity * VACUUM_PERMITTIVITY
    return omega * np.sqrt(VACUUM_PERMEABILITY * (epsilon - 1j * conductivity / omega))


def radar_green(
    w: Float[np.ndarray, " time"],
    dt: float,
    distance: float,
    relative_permittivity: float,
    conductivity: float,
    ndim: int = 2,
) -> Float[np.ndarray, " time"]:
    """E at a distance from a line source. w is -dJ/dt, if J is the density of current in Maxwell's
    equations."""
    wavenumber = lambda omega: radar_wavenumber(omega, relative_permittivity, conductivity)  # noqa: E731
    return VACUUM_PERMEABILITY * wave(w, dt, distance, wavenumber, ndim)


def radar_green_in_time(
    w: Callable[[np.ndarray], np.ndarray],
    t: Float[np.ndarray, " time"],
    distance: float,
    relative_permittivity: float,
    conductivity: float,
) -> Float[np.ndarray, " time"]:
    """The same in 2-D from the time domain, sharing nothing with it.

    E = exp(-a t) F, a = sigma / (2 epsilon), turns the telegraph equation into F_tt - c^2 lap F -
    a^2 F = 0, whose line source answers with cosh(a s) / (2 pi s), s^2 = t^2 - (r / c)^2 (Morse and
    Feshbach 1953, chapter 7). With t = r / c cosh(theta), dt / s is dtheta and the trapezium rule
    converges faster than any power.
    """
    epsilon = relative_permittivity * VACUUM_PERMITTIVITY
    a, delay = conductivity / (2 * epsilon), distance * np.sqrt(VACUUM_PERMEABILITY * epsilon)
    theta = np.linspace(0, np.arccosh(1 + t[-1] / delay), 2001)
    late, s = delay * np.cosh(theta), delay * np.sinh(theta)
    decay = (np.exp(-a * (late - s)) + np.exp(-a * (late + s))) / 2
    return VACUUM_PERMEABILITY / (2 * np.pi) * trapezoid(w(t[:, None] - late) * decay, theta)


# Two fluids.


def fluid_reflection(angle: Array, vp1: float, rho1: float, vp2: float, rho2: float) -> np.ndarray:
    """Ratio of reflected to incident pressure of a plane wave from fluid 1, up to the critical
    angle (radians).

    R = (Z2 - Z1) / (Z2 + Z1), Z = rho v / cos(angle), with Snell's law (Brekhovskikh and Godin
    1990, chapter 2). What goes through is 1 + R.
    """
    sine = np.sin(angle) * vp2 / vp1
    if np.any(np.abs(sine) >= 1):
        raise ValueError("An angle is beyond the critical one.")
    z1, z2 = rho1 * vp1 / np.cos(angle), rho2 * vp2 / np.sqrt(1 - sine**2)
    return (z2 - z1) / (z2 + z1)


def _quasi_p(
    w: Callable[[np.ndarray], np.ndarray],
    t: Float[np.ndarray, " time"],
    offset: Vector,
    vp: float,
    epsilon: float,
    delta: float,
    axis: Vector,
    into: tuple[float, float] = (1.0, 1.0),
) -> Float[np.ndarray, " time"]:
    """p of the P branch of the pseudo-acoustic system in 2-D, by a sum over plane waves; t evenly
    spaced.

    p = (1 / 4 pi^2) int Omega h(Omega, t) S(Omega) dOmega, where h is the response of an oscillator
    of frequency Omega, S = int C cos(Omega n.r / V) / V^2 dtheta, and C is the part of the source
    in the branch, (A - l_minus) / (l_plus - l_minus) times `into`. The other branch is a slow wave,
    and a near field while the wavelet lasts.
    """
    refine = 10
    fine = np.linspace(t[0], t[-1], refine * (len(t) - 1) + 1)
    samples = w(fine)
    # The Ricker wavelet of 15 Hz has fallen by exp(-36) at 90 Hz.
    x, weights = np.polynomial.legendre.leggauss(900)
    cycles = np.pi * 90 * (x + 1)
    weights = weights * np.pi * 90
    alpha = 2 * np.pi * np.arange(2048) / 2048
    normals = np.stack([np.sin(alpha), np.cos(alpha)])  # at the angle alpha to the vertical
    cosine = np.asarray(axis) @ normals
    theta = np.arccos(np.clip(cosine, -1, 1))
    squared = _squared(theta, epsilon, delta)[0]
    horizontal, vertical, s = np.sin(theta) ** 2, np.cos(theta) ** 2, np.sqrt(1 + 2 * delta)
    other = (1 + 2 * epsilon) * horizontal + vertical - squared
    part = (((1 + 2 * epsilon) * horizontal - other) * into[0] + s * vertical * into[1]) / (
        squared - other
    )
    slowness = (np.asarray(offset) @ normals) / (vp * np.sqrt(squared))
    sums = np.cos(np.outer(cycles, slowness)) @ (part / (vp**2 * squared)) * (2 * np.pi / 2048)
    out = np.zeros(len(t))
    for c, weight, total in zip(cycles, weights, sums, strict=True):
        phase = np.exp(1j * c * fine)
        past = cumulative_simpson(samples * phase.conj(), x=fine, initial=0)
        out += weight * total * vp**2 * (phase * past).imag[::refine]  # Omega h
    return out / (4 * np.pi**2)


def _check() -> None:
    """Every function against another one that shares no formula with it, or against a limit that is
    known."""
    vp, rho, f, delay, dt = 2000.0, 1300.0, 15.0, 2 / 15, 1e-3
    t = dt * np.arange(600)
    w, wavelet = ricker(t, f, delay), lambda s: ricker(s, f, delay)

    def compare(name: str, a: Array, b: Array, tolerance: float) -> None:
        error = float(np.max(np.abs(np.asarray(a) - b)) / np.max(np.abs(b)))
        print(f"{name}: {error:.1e}")
        assert error < tolerance, name

    # Free surface: zero there, with twice the gradient of the source alone, and symmetric in source
    # and receiver.
    for source in ((0.0, 60.0), (0.0, 10.0, 60.0)):
        ndim = len(source)
        at, h = (80.0, 30.0)[: ndim - 1] + (0.0,), 0.01
        strength = np.abs(
            green(w, dt, float(np.linalg.norm(np.subtract(at, source))), vp, ndim)
        ).max()
        assert np.abs(green_below_surface(w, dt, source, at, vp)).max() < 1e-14 * strength
        below, above = (np.append(at[:-1], q * h) for q in (1, -1))
        alone = [green(w, dt, float(np.linalg.norm(x - source)), vp, ndim) for x in (below, above)]
        gradient = green_below_surface(w, dt, source, below, vp)
        compare(f"{ndim}-D gradient at a free surface", gradient, alone[0] - alone[1], 1e-12)
        there = green_below_surface(w, dt, source, below + 50, vp, -20.0)
        back = green_below_surface(w, dt, below + 50, source, vp, -20.0)
        compare("  reciprocity", there, back, 1e-14)
    near = green_below_surface(w, dt, (60.0,), (140.0,), vp)
    pulses = wavelet(t - 0.04) - wavelet(t - 0.1)
    compare("1-D ghost", near, vp / 2 * cumulative_simpson(pulses, x=t, initial=0), 1e-4)

    # Anisotropy: the determinant, the derivative, the duality of slowness and arrival, and known
    # limits.
    theta = np.linspace(0, np.pi / 2, 91)
    for epsilon, delta in ((0.25, 0.1), (0.1, 0.1), (0.2, -0.1), (0.0, 0.0), (0.05, 0.12)):
        media = vp, epsilon, delta
        s, x = np.sqrt(1 + 2 * delta), np.sin(theta) ** 2
        a = np.array([[(1 + 2 * epsilon) * x, s * (1 - x)], [s * x, 1 - x]]).transpose(2, 0, 1)
        print(f"epsilon {epsilon}, delta {delta}")
        compare(
            "  phase velocity",
            phase_velocity(theta, *media),
            vp * np.sqrt(np.linalg.eigvals(a).real.max(1)),
            1e-9,
        )
        v, h = phase_velocity(theta, *media), 1e-5
        slope = (phase_velocity(theta + h, *media) - phase_velocity(theta - h, *media)) / (2 * h)
        compare("  group velocity", group_velocity(theta, *media)[0], np.hypot(v, slope), 1e-9)
        dense = np.linspace(0, np.pi / 2, 200001)
        offsets = 700 * np.stack([np.sin(theta), np.cos(theta)], 1)
        rows = np.stack([np.sin(dense), np.cos(dense)]) / phase_velocity(dense, *media)
        times = [arrival_time(o, *media) for o in offsets]
        # The arrival is the support function of the (convex) slowness curve.
        compare("  arrival", times, np.array([(o @ rows).max() for o in offsets]), 1e-10)
        compare(
            "  along and across",
            [times[0], times[-1]],
            [700 / vp, 700 / (vp * np.sqrt(1 + 2 * epsilon))],
            1e-14,
        )
        normal = (arrival_time((7.0, 700.0), *media) ** 2 - (700 / vp) ** 2) / 7**2
        compare(
            "  normal moveout 1 / (v^2 (1 + 2 delta))", normal, 1 / (vp**2 * (1 + 2 * delta)), 2e-3
        )
    axis = tilted_axis(0.4)
    turned = np.array([[axis[1], axis[0]], [-axis[0], axis[1]]])  # takes the vertical to the axis
    assert np.allclose(turned @ [0, 1], axis)
    compare("tilt in 2-D", arrival_time(turned @ [300.0, 500.0], vp, 0.25, 0.1, axis),
            arrival_time((300.0, 500.0), vp, 0.25, 0.1), 1e-13)  # fmt: skip
    axis = tilted_axis(0.4, 0.9)
    across = np.cross(axis, [1.0, 2.0, 3.0])
    across /= np.linalg.norm(across)
    compare("tilt in 3-D", arrival_time(300 * across - 500 * axis, vp, 0.25, 0.1, axis),
            arrival_time((300.0, 500.0), vp, 0.25, 0.1), 1e-13)  # fmt: skip

    # The waves themselves, by plane waves: where delta = epsilon exactly, elsewhere in their time
    # far away.
    late = t > 2 * delay  # the near field of the wavelet's double integral is over
    for into in ((1.0, 1.0), (1.0, 0.0), (0.3, 1.2)):
        axis = tilted_axis(0.4)
        exact = elliptic_waves(w, dt, (150.0, 220.0), vp, 0.2, axis, into)[0]
        summed = _quasi_p(wavelet, t, (150.0, 220.0), vp, 0.2, 0.2, axis, into)
        compare(f"elliptic, into {into}", summed[late], exact[late], 1e-6)
    compare(
        "isotropic",
        elliptic_waves(w, dt, (30.0, -40.0), vp, 0.0)[0],
        green(w, dt, 50.0, vp, 2),
        1e-12,
    )
    # A line of 3-D points across the plane of the axis makes the 2-D wave, as in analytic_elastic.
    short, offset, axis, epsilon = w[:350], np.array([150.0, 220.0]), tilted_axis(0.4), 0.2
    along = offset @ axis
    stretch = np.sqrt(1 + 2 * epsilon)
    d = float(np.hypot(np.linalg.norm(offset - along * axis) / stretch, along))
    theta = np.linspace(0, np.arccosh(vp * dt * len(short) / d), 251)
    weight = 2 * stretch * d * np.cosh(theta) * theta[1]
    weight[0] /= 2
    for into in ((1.0, 1.0), (1.0, 0.0)):
        points = [(offset[0], stretch * d * np.sinh(x), offset[1]) for x in theta]
        line = sum(c * elliptic_waves(short, dt, x, vp, epsilon, tilted_axis(0.4, 0.0), into)[1]
                   for c, x in zip(weight, points, strict=True))  # fmt: skip
        compare(
            f"elliptic, 3-D into {into}",
            line,
            elliptic_waves(short, dt, offset, vp, epsilon, axis, into)[1],
            1e-8,
        )
    for epsilon, delta in ((0.25, 0.1), (0.2, -0.05)):
        for angle in (0.2, 0.8, 1.3):
            axis, window = tilted_axis(0.3), dt * np.arange(1600)
            offset = 2000 * tilted_axis(0.3 + angle)
            time = arrival_time(offset, vp, epsilon, delta, axis)
            assert time + 2 * delay < window[-1]
            p = _quasi_p(wavelet, window, offset, vp, epsilon, delta, axis)
            like = green(ricker(window, f, delay), dt, vp * time, vp, 2)
            n = 2 * len(window)
            pad = np.fft.rfft(p, n) * np.fft.rfft(like, n).conj()
            product = np.fft.irfft(pad, 20 * n)
            lag = (np.argmax(product) + 10 * n) % (20 * n) - 10 * n
            scaled = p * (like @ like) / (p @ like)
            shape = np.linalg.norm(scaled - like) / np.linalg.norm(like)
            print(
                f"epsilon {epsilon}, delta {delta}, {angle} rad from the axis: "
                f"{lag * dt / 20 * 1e6:.0f} us after {time:.5f} s, shape {shape:.1e}"
            )
            assert abs(lag) <= 4  # 0.2 ms, 0.02 radians

    # Standard linear solid.
    q, w0 = 30.0, 2 * np.pi * f
    compare("phase velocity at f", sls_phase_velocity(w0, vp, q, f), vp, 1e-14)
    compare("quality at f", sls_quality(w0, q, f), q, 1e-13)
    around = w0 * np.linspace(0.5, 2, 301)
    assert np.argmin(sls_quality(around, q, f)) == 100  # 1 / Q is largest at f itself
    # alpha = omega / (2 Q c) for large Q, from amplitude and velocity alone.
    compare("attenuation", sls_attenuation(w0, vp, 1000.0, f), w0 / (2 * 1000 * vp), 1e-5)
    for ndim in (1, 2, 3):
        compare(f"{ndim}-D without loss", viscoacoustic_green(w, dt, 120.0, vp, rho, 1e9, f, ndim),
                rho * green(w, dt, 120.0, vp, ndim), 1e-6)  # fmt: skip
    # By plane waves that obey the differential equation in time, through the three roots of its
    # polynomial.
    tau_sigma, tau_eps = relaxation_times(q, f)
    kr = relaxed_modulus(vp, rho, q, f)
    x, weights = np.polynomial.legendre.leggauss(1500)
    ks, weights = (x + 1) / 2 * 1.2, weights / 2 * 1.2
    # after the wavelet, whose samples are then summed to all orders
    ends = np.array([300, 340, 400, 450])
    waves = np.zeros((len(ks), len(ends)))
    for row, k in zip(waves, ks, strict=True):
        b = kr * k**2 / rho
        s = np.roots([tau_sigma, 1, b * tau_eps, b])
        residues = kr * (1 + s * tau_eps) / (3 * tau_sigma * s**2 + 2 * s + b * tau_eps)
        for i, end in enumerate(ends):
            row[i] = (
                (np.exp(np.outer(s, t[end] - t[: end + 1])) @ w[: end + 1] * dt * residues)
                .sum()
                .real
            )
    r = 150.0
    compare("1-D standard linear solid", viscoacoustic_green(w, dt, r, vp, rho, q, f, 1)[ends],
            (weights * np.cos(ks * r)) @ waves / np.pi, 1e-7)  # fmt: skip
    compare("2-D standard linear solid", viscoacoustic_green(w, dt, r, vp, rho, q, f, 2)[ends],
            (weights * ks * j0(ks * r)) @ waves / (2 * np.pi), 1e-6)  # fmt: skip
    d = viscoacoustic_green(w, dt, 600.0, vp, rho, q, f, 2)
    front = 600 / np.sqrt(kr * tau_eps / tau_sigma / rho)  # at the unrelaxed velocity
    early = np.abs(d[t < front + delay - 2 / f + 0.02]).max() / np.abs(d).max()
    lost = 1 - np.abs(d).max() / np.abs(rho * green(w, dt, 600.0, vp, 2)).max()
    print(
        f"2-D: before r / (unrelaxed velocity) {early:.1e}; loses {lost:.0%} of its peak over 600 m"
    )
    assert early < 1e-9

    # Radar at 100 MHz.
    dt, f = 2e-10, 1e8
    delay, t = 2 / f, dt * np.arange(500)
    w, wavelet = ricker(t, f, delay), lambda s: ricker(s, f, delay)
    for permittivity, conductivity in ((9.0, 0.0), (9.0, 0.01), (16.0, 0.05)):
        for distance in (0.5, 2.0):
            compare(
                f"radar, {permittivity}, {conductivity} S/m at {distance} m",
                radar_green(w, dt, distance, permittivity, conductivity),
                radar_green_in_time(wavelet, t, distance, permittivity, conductivity),
                1e-9,
            )
    speed = 1 / np.sqrt(9 * VACUUM_PERMITTIVITY * VACUUM_PERMEABILITY)
    lossless = VACUUM_PERMEABILITY * green(w, dt, 2.0, speed, 2)
    compare("radar without loss", radar_green(w, dt, 2.0, 9.0, 0.0), lossless, 1e-11)
    k = radar_wavenumber(2 * np.pi * 1e9, 9.0, 0.01)
    # sigma / 2 sqrt(mu / epsilon) at low loss.
    compare("radar attenuation", -k.imag, 0.005 * VACUUM_PERMEABILITY * speed, 1e-3)

    # Two fluids: pressure and normal velocity match, and energy is conserved.
    for angle in (0.0, 0.3, 0.6):
        v1, rho1, v2, rho2 = 1500.0, 1000.0, 2200.0, 1900.0
        refracted = np.arcsin(np.sin(angle) * v2 / v1)
        y1, y2 = np.cos(angle) / (rho1 * v1), np.cos(refracted) / (rho2 * v2)
        solved = np.linalg.solve([[-1.0, 1.0], [y1, y2]], [1.0, y1])
        reflected = fluid_reflection(angle, v1, rho1, v2, rho2)
        compare(f"reflection at {angle}", reflected, solved[0], 1e-13)
        compare("  energy", reflected**2 + y2 / y1 * (1 + reflected) ** 2, 1.0, 1e-13)
    compare(
        "same velocity, any angle",
        fluid_reflection(1.2, 1500.0, 1000.0, 1500.0, 2000.0),
        1 / 3,
        1e-13,
    )


if __name__ == "__main__":
    _check()
