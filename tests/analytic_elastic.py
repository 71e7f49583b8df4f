"""Exact solutions of rho v_t = div sigma + f, sigma_t = C : strain(v) - m in an unbounded
homogeneous elastic solid.

The force density f is w(t) e_j delta(x - x_s) and the moment rate density m is w(t) M delta(x -
x_s). In 3-D the sources are points; in 2-D (plane strain) they are lines, w is per metre of line
and the axes are those of the plane. `offset` is receiver minus source, in metres; its length is the
number of dimensions. Everything is in SI units.

With g(k, r) the solution of lap g + k^2 g = -delta for exp(+i omega t), kp = omega / vp and ks =
omega / vs, Green's displacement is, in 2-D as in 3-D,

    G_ij = g(ks) delta_ij / (rho vs^2) + d_i d_j (g(ks) - g(kp)) / (rho omega^2)

(Aki and Richards 2002, section 4.2; Kausel 2006, Fundamental Solutions in Elastodynamics). The
functions ending in `_in_time` are the explicit 3-D formulas 4.23 and 4.29 of Aki and Richards, with
the near field by quadrature: they share nothing with the others. Wavelets given as samples must be
band-limited and vanish at both ends.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from analytic import filtered, green, ricker
from jaxtyping import Complex, Float
from scipy.integrate import cumulative_simpson
from scipy.optimize import brentq
from scipy.special import erf, hankel2

Offset = Sequence[float] | Float[np.ndarray, " axis"]
Wavelet = Callable[[np.ndarray], np.ndarray]


def ricker_rate(
    t: Float[np.ndarray, " time"], frequency: float, delay: float
) -> Float[np.ndarray, " time"]:
    """Time derivative of Ricker's wavelet: b (4 a - 6) s exp(-a), a = b s^2, b = (pi f)^2, s = t -
    delay."""
    b, s = (np.pi * frequency) ** 2, t - delay
    return b * (4 * b * s**2 - 6) * s * np.exp(-b * s**2)


def bulk_modulus(vp: float, vs: float, rho: float, ndim: int) -> float:
    """Of -(trace sigma) / ndim = -K div u: lambda + 2 mu / 3 in 3-D, lambda + mu in 2-D."""
    return rho * (vp**2 - 2 * (ndim - 1) / ndim * vs**2)


def rayleigh_speed(vp: float, vs: float) -> float:
    """Speed of the Rayleigh wave on a half-space: the root x = (c / vs)^2 in (0, 1) of the
    rationalised equation.

    (2 - x)^2 = 4 sqrt(1 - x) sqrt(1 - q x), q = (vs / vp)^2 (Aki and Richards 2002, chapter 5),
    squared and divided by x, is x^3 - 8 x^2 + (24 - 16 q) x - 16 (1 - q) = 0, which is negative at
    0, 1 at 1 and has one root between.
    """
    q = (vs / vp) ** 2
    return vs * float(
        np.sqrt(
            brentq(lambda x: ((x - 8) * x + 24 - 16 * q) * x - 16 * (1 - q), 0.0, 1.0, xtol=1e-15)
        )
    )


# In the frequency domain, 2-D and 3-D.


def _radial(
    k: Complex[np.ndarray, " f"], r: float, ndim: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The solution of lap g + k^2 g = -delta and its three derivatives in r, the last two from the
    equation itself."""
    if ndim == 2:
        g, g1 = -0.25j * hankel2(0, k * r), 0.25j * k * hankel2(1, k * r)
    else:
        g = np.exp(-1j * k * r) / (4 * np.pi * r)
        g1 = -(1j * k + 1 / r) * g
    g2 = -(k**2) * g - (ndim - 1) * g1 / r
    return g, g1, g2, -(k**2) * g1 - (ndim - 1) * (g2 / r - g1 / r**2)


def _direction(offset: Offset) -> tuple[float, np.ndarray, np.ndarray]:
    """Distance, unit vector and identity."""
    x = np.asarray(offset, dtype=float)
    if x.shape not in ((2,), (3,)):
        raise ValueError(f"An offset has two or three components, not the shape {x.shape}.")
    r = float(np.linalg.norm(x))
    return r, x / r, np.eye(len(x))


def _hessian(offset: Offset, g1: np.ndarray, g2: np.ndarray) -> Complex[np.ndarray, "axis axis f"]:
    """d_i d_j of a function of r."""
    r, n, eye = _direction(offset)
    return np.multiply.outer(np.outer(n, n), g2 - g1 / r) + np.multiply.outer(eye, g1 / r)


def _displacement(
    omega: np.ndarray, offset: Offset, vp: float, vs: float, rho: float
) -> np.ndarray:
    """G_ij, (i, j, frequency)."""
    r, n, eye = _direction(offset)
    p, s = _radial(omega / vp, r, len(n)), _radial(omega / vs, r, len(n))
    hessian = _hessian(offset, s[1] - p[1], s[2] - p[2])
    return np.multiply.outer(eye, s[0] / (rho * vs**2)) + hessian / (rho * omega**2)


def _gradient(omega: np.ndarray, offset: Offset, vp: float, vs: float, rho: float) -> np.ndarray:
    """d G_ij / d x_k, (i, j, k, frequency)."""
    r, n, eye = _direction(offset)
    p, s = _radial(omega / vp, r, len(n)), _radial(omega / vs, r, len(n))
    d1, d2, d3 = (b - a for a, b in zip(p[1:], s[1:], strict=True))
    mixed = (
        np.einsum("i,jk->ijk", n, eye)
        + np.einsum("j,ik->ijk", n, eye)
        + np.einsum("k,ij->ijk", n, eye)
    )
    third = np.multiply.outer(np.einsum("i,j,k->ijk", n, n, n), d3 - 3 * d2 / r + 3 * d1 / r**2)
    third = third + np.multiply.outer(mixed, d2 / r - d1 / r**2)
    return np.multiply.outer(np.einsum("ij,k->ijk", eye, n), s[1] / (rho * vs**2)) + third / (
        rho * omega**2
    )


def _traces(
    w: Float[np.ndarray, " time"],
    dt: float,
    ndim: int,
    response: Callable[[np.ndarray], np.ndarray],
) -> Float[np.ndarray, "axis time"]:
    """`filtered` for a response (axis, frequency)."""
    return np.stack([filtered(w, dt, lambda omega, i=i: response(omega)[i]) for i in range(ndim)])


def displacement_of_force(
    w: Float[np.ndarray, " time"],
    dt: float,
    offset: Offset,
    axis: int,
    vp: float,
    vs: float,
    rho: float,
) -> Float[np.ndarray, "axis time"]:
    """Displacement of a point (line) force w along `axis`."""
    return _traces(
        w, dt, len(offset), lambda omega: _displacement(omega, offset, vp, vs, rho)[:, axis]
    )


def velocity_of_force(
    w: Float[np.ndarray, " time"],
    dt: float,
    offset: Offset,
    axis: int,
    vp: float,
    vs: float,
    rho: float,
) -> Float[np.ndarray, "axis time"]:
    """Particle velocity of a point (line) force w along `axis`: rho v_t = div sigma + w(t) e_axis
    delta."""
    return _traces(
        w,
        dt,
        len(offset),
        lambda omega: 1j * omega * _displacement(omega, offset, vp, vs, rho)[:, axis],
    )


def pressure_of_force(
    w: Float[np.ndarray, " time"],
    dt: float,
    offset: Offset,
    axis: int,
    vp: float,
    vs: float,
    rho: float,
) -> Float[np.ndarray, " time"]:
    """-(trace sigma) / ndim of a point (line) force: -K div u, where div u = d_j g(kp) w / (rho
    vp^2)."""
    r, n, _ = _direction(offset)
    scale = -bulk_modulus(vp, vs, rho, len(n)) / (rho * vp**2) * n[axis]
    return filtered(w, dt, lambda omega: scale * _radial(omega / vp, r, len(n))[1])


def velocity_of_moment(
    w: Float[np.ndarray, " time"],
    dt: float,
    offset: Offset,
    moment: Float[np.ndarray, "axis axis"],
    vp: float,
    vs: float,
    rho: float,
) -> Float[np.ndarray, "axis time"]:
    """Particle velocity of a moment tensor: sigma_t = C : strain(v) - w(t) M delta, so that w is
    the moment rate.

    v_n = -M_pq d_q G_np w (Aki and Richards 2002, 3.23; their derivative is in the position of the
    source). 2-D: M is 2 x 2, in the plane, and per metre of line.
    """
    return _traces(
        w,
        dt,
        len(offset),
        lambda omega: -np.einsum("npqf,pq->nf", _gradient(omega, offset, vp, vs, rho), moment),
    )


def pressure_of_moment(
    w: Float[np.ndarray, " time"],
    dt: float,
    offset: Offset,
    moment: Float[np.ndarray, "axis axis"],
    vp: float,
    vs: float,
    rho: float,
) -> Float[np.ndarray, " time"]:
    """-(trace sigma) / ndim of a moment tensor, away from it: div v = -M_pq d_p d_q g(kp) w / (rho
    vp^2)."""
    r, n, _ = _direction(offset)
    scale = bulk_modulus(vp, vs, rho, len(n)) / (rho * vp**2)

    def response(omega: np.ndarray) -> np.ndarray:
        _, g1, g2, _ = _radial(omega / vp, r, len(n))
        return scale / (1j * omega) * np.einsum("pqf,pq->f", _hessian(offset, g1, g2), moment)

    return filtered(w, dt, response)


def velocity_of_explosion(
    w: Float[np.ndarray, " time"], dt: float, offset: Offset, vp: float, rho: float
) -> Float[np.ndarray, "axis time"]:
    """Particle velocity for M = identity: v = -grad g(kp) w / (rho vp^2). There is no S wave, and
    vs may be zero."""
    r, n, _ = _direction(offset)
    return _traces(
        w, dt, len(n), lambda omega: -np.outer(n, _radial(omega / vp, r, len(n))[1]) / (rho * vp**2)
    )


def pressure_of_explosion(
    w: Float[np.ndarray, " time"], dt: float, offset: Offset, vp: float, vs: float, rho: float
) -> Float[np.ndarray, " time"]:
    """-(trace sigma) / ndim for M = identity, away from the source: K / (rho vp^4) g(kp) dw/dt."""
    r, n, _ = _direction(offset)
    scale = bulk_modulus(vp, vs, rho, len(n)) / (rho * vp**4)
    return filtered(w, dt, lambda omega: scale * 1j * omega * _radial(omega / vp, r, len(n))[0])


# In the time domain, 3-D.


def _near_field(
    w: Wavelet, t: np.ndarray, r: float, vp: float, vs: float, nodes: int
) -> np.ndarray:
    """Integral of tau w(t - tau) from r / vp to r / vs, by Gauss-Legendre quadrature."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    tau = r / vp + (r / vs - r / vp) * (x + 1) / 2
    return w(t[:, None] - tau) @ (tau * weights) * (r / vs - r / vp) / 2


def displacement_of_force_in_time(
    w: Wavelet,
    t: Float[np.ndarray, " time"],
    offset: Offset,
    axis: int,
    vp: float,
    vs: float,
    rho: float,
    nodes: int = 200,
) -> Float[np.ndarray, "3 time"]:
    """Aki and Richards (2002), 4.23: near, far P and far S field of a force w(t). Given dw/dt for
    w, the velocity."""
    r, n, eye = _direction(offset)
    nn, e = n * n[axis], eye[axis]
    near = np.outer(3 * nn - e, _near_field(w, t, r, vp, vs, nodes)) / r**3
    far = np.outer(nn, w(t - r / vp)) / (vp**2 * r) - np.outer(nn - e, w(t - r / vs)) / (vs**2 * r)
    return (near + far) / (4 * np.pi * rho)


def velocity_of_moment_in_time(
    w: Wavelet,
    rate: Wavelet,
    t: Float[np.ndarray, " time"],
    offset: Offset,
    moment: Float[np.ndarray, "3 3"],
    vp: float,
    vs: float,
    rho: float,
    nodes: int = 200,
) -> Float[np.ndarray, "3 time"]:
    """Aki and Richards (2002), 4.29, for the moment rate w(t) and its derivative `rate`."""
    r, n, _ = _direction(offset)
    nm = moment @ n, moment.T @ n  # sums over q and over p
    nnn, trace = n * (n @ moment @ n), n * np.trace(moment)
    near = 15 * nnn - 3 * (trace + nm[1] + nm[0])
    p, s = 6 * nnn - trace - nm[1] - nm[0], -(6 * nnn - trace - nm[1] - 2 * nm[0])
    v = np.outer(near, _near_field(w, t, r, vp, vs, nodes)) / r**4
    v += np.outer(p, w(t - r / vp)) / (vp * r) ** 2 + np.outer(s, w(t - r / vs)) / (vs * r) ** 2
    v += np.outer(nnn, rate(t - r / vp)) / (vp**3 * r) - np.outer(nnn - nm[0], rate(t - r / vs)) / (
        vs**3 * r
    )
    return v / (4 * np.pi * rho)


def explosion_in_time(
    w: Wavelet,
    rate: Wavelet,
    t: Float[np.ndarray, " time"],
    offset: Offset,
    vp: float,
    vs: float,
    rho: float,
) -> tuple[Float[np.ndarray, "3 time"], Float[np.ndarray, " time"]]:
    """Velocity and pressure, -(trace sigma) / 3, of the moment rate w(t) times the identity."""
    r, n, _ = _direction(offset)
    v = np.outer(n, w(t - r / vp) / r + rate(t - r / vp) / vp) / (4 * np.pi * rho * vp**2 * r)
    return v, bulk_modulus(vp, vs, rho, 3) * rate(t - r / vp) / (4 * np.pi * rho * vp**4 * r)


def _check() -> None:
    """Every function against another one that shares no formula with it, or against a published
    number."""
    vp, vs, rho, f, delay, dt = 2000.0, 1100.0, 1300.0, 15.0, 2 / 15, 1e-3
    t = dt * np.arange(700)
    w, wavelet = ricker(t, f, delay), lambda s: ricker(s, f, delay)
    rate = lambda s: ricker_rate(s, f, delay)  # noqa: E731
    solid = vp, vs, rho
    # not symmetric: single couples too
    moment = np.array([[0.3, -1.1, 0.4], [0.6, 0.9, 0.7], [-0.8, 0.2, -0.5]])

    def compare(name: str, a: np.ndarray, b: np.ndarray, tolerance: float) -> None:
        error = float(np.abs(a - b).max() / np.abs(b).max())
        print(f"{name}: {error:.1e}")
        assert error < tolerance, name

    step = 1e-6
    compare(
        "derivative of the wavelet",
        (wavelet(t + step) - wavelet(t - step)) / (2 * step),
        rate(t),
        1e-7,
    )

    # 3-D: by frequency against by time, near (0.1 wavelengths) and far.
    for offset in ((7.0, -5.0, 9.0), (60.0, 80.0, -45.0), (300.0, -100.0, 50.0)):
        for axis in range(3):
            exact = displacement_of_force_in_time(wavelet, t, offset, axis, *solid)
            compare(
                f"3-D force {axis} at {offset}",
                displacement_of_force(w, dt, offset, axis, *solid),
                exact,
                1e-10,
            )
            exact = displacement_of_force_in_time(rate, t, offset, axis, *solid)
            compare("  velocity", velocity_of_force(w, dt, offset, axis, *solid), exact, 1e-10)
        exact = velocity_of_moment_in_time(wavelet, rate, t, offset, moment, *solid)
        compare("  moment", velocity_of_moment(w, dt, offset, moment, *solid), exact, 1e-10)
        v, p = explosion_in_time(wavelet, rate, t, offset, *solid)
        compare("  explosion", velocity_of_explosion(w, dt, offset, vp, rho), v, 1e-10)
        as_moment = velocity_of_moment_in_time(wavelet, rate, t, offset, np.eye(3), *solid)
        compare("  explosion as a moment", as_moment, v, 1e-10)
        compare("  its pressure", pressure_of_explosion(w, dt, offset, *solid), p, 1e-10)

    # 3-D: a force that stays on leaves Kelvin's static displacement.
    x, nu = np.array([60.0, 80.0, -45.0]), (vp**2 - 2 * vs**2) / (2 * (vp**2 - vs**2))
    r, n, eye = _direction(x)
    kelvin = ((3 - 4 * nu) * eye + np.outer(n, n)) / (16 * np.pi * rho * vs**2 * (1 - nu) * r)

    def on(s: np.ndarray) -> np.ndarray:
        return 0.5 + 0.5 * erf((s - 0.2) / 0.02)

    late = [displacement_of_force_in_time(on, t[-1:], x, j, *solid)[:, 0] for j in range(3)]
    compare("Kelvin's solution", np.stack(late, 1), kelvin, 1e-12)

    # 2-D: a line of 3-D points. y = r sinh(theta) makes the integrand smooth, even and zero at the
    # far end.
    for offset in ((60.0, -80.0), (30.0, 10.0)):
        r, short = float(np.hypot(*offset)), t[:400]
        theta = np.linspace(0, np.arccosh(vp * short[-1] / r), 401)
        weight = 2 * r * np.cosh(theta) * theta[1]
        weight[0] /= 2
        points = [(offset[0], y, offset[1]) for y in r * np.sinh(theta)]
        for axis in range(2):
            columns = (
                displacement_of_force_in_time(rate, short, x, 2 * axis, *solid, nodes=60)[::2]
                for x in points
            )
            line = sum(c * x for c, x in zip(weight, columns, strict=True))
            compare(
                f"2-D force {axis} at {offset}",
                velocity_of_force(w[:400], dt, offset, axis, *solid),
                line,
                1e-8,
            )
        # The plane's identity is diag(1, 0, 1) along the line, since nothing changes along it.
        for name, plane in (("explosion", np.eye(2)), ("moment", moment[::2, ::2])):
            space = np.zeros((3, 3))
            space[::2, ::2] = plane
            columns = (
                velocity_of_moment_in_time(wavelet, rate, short, x, space, *solid, nodes=60)
                for x in points
            )
            line = sum(c * x[::2] for c, x in zip(weight, columns, strict=True))
            compare(f"  {name}", velocity_of_moment(w[:400], dt, offset, plane, *solid), line, 1e-8)
        compare("  explosion without S", velocity_of_explosion(w, dt, offset, vp, rho),
                velocity_of_moment(w, dt, offset, np.eye(2), *solid), 1e-11)  # fmt: skip

    # Pressure: -K times the integral of div v, by differences of sixth order in space.
    fine = ricker(dt / 4 * np.arange(1600), f, delay)
    h, stencil = 0.4, {-3: -1 / 60, -2: 9 / 60, -1: -45 / 60, 1: 45 / 60, 2: -9 / 60, 3: 1 / 60}

    def by_difference(
        offset: tuple[float, ...], velocity: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        axes = np.eye(len(offset))
        divergence = sum(
            c / h * (axis @ velocity(offset + q * h * axis))
            for axis in axes
            for q, c in stencil.items()
        )
        return -bulk_modulus(*solid, len(offset)) * cumulative_simpson(
            divergence, dx=dt / 4, initial=0
        )

    known = dict(vp=vp, vs=vs, rho=rho)
    for offset in ((60.0, -80.0), (60.0, 80.0, -45.0)):
        m, name = moment[: len(offset), : len(offset)], f"{len(offset)}-D pressure of"
        compare(
            f"{name} a force",
            pressure_of_force(fine, dt / 4, offset, 1, *solid),
            by_difference(offset, partial(velocity_of_force, fine, dt / 4, axis=1, **known)),
            1e-6,
        )
        compare(
            f"{name} a moment",
            pressure_of_moment(fine, dt / 4, offset, m, *solid),
            by_difference(offset, partial(velocity_of_moment, fine, dt / 4, moment=m, **known)),
            1e-6,
        )
        compare(
            f"{name} an explosion",
            pressure_of_explosion(fine, dt / 4, offset, *solid),
            by_difference(offset, partial(velocity_of_explosion, fine, dt / 4, vp=vp, rho=rho)),
            1e-6,
        )
    # A fluid: p_tt / K - lap p / rho = w' / K, hence p = g dw/dt / vp^2.
    compare("pressure in a fluid", pressure_of_explosion(w, dt, (60.0, -80.0), vp, 0.0, rho),
            green(ricker_rate(t, f, delay), dt, 100.0, vp, 2) / vp**2, 1e-10)  # fmt: skip

    # Arrivals: nothing before r / vp; far away along the force a P wave alone, across it an S wave
    # alone.
    far, long = 1500.0, 1e-3 * np.arange(1800)
    for ndim in (2, 3):
        for name, speed, offset in (("P", vp, (far, 0.0, 0.0)), ("S", vs, (0.0, far, 0.0))):
            v = velocity_of_force(ricker(long, f, delay), 1e-3, offset[:ndim], 0, *solid)
            scalar = green(ricker_rate(long, f, delay), 1e-3, far, speed, ndim) / (rho * speed**2)
            lags = np.fft.irfft(np.fft.rfft(v[0], 4096) * np.fft.rfft(scalar, 4096).conj(), 4096)
            lag = (np.argmax(lags) + 2048) % 4096 - 2048
            early = np.abs(v[:, long < far / vp + delay - 2 / f]).max() / np.abs(v).max()
            peak = 1e-3 * np.argmax(np.abs(v[0]) if ndim == 2 else -v[0])
            ratio = np.abs(v[0]).max() / np.abs(scalar).max()
            print(
                f"{ndim}-D {name}: before r / vp {early:.1e}; "
                f"lag {lag} ms to the scalar wave at r / {speed:.0f} "
                f"({far / speed + delay:.4f} s; extremum at {peak:.4f} s), "
                f"amplitude ratio {ratio:.4f}"
            )
            assert early < 1e-10
            assert lag == 0
            assert abs(ratio - 1) < 0.01

    # Rayleigh: 0.919402 vs in a Poisson solid, sqrt(2 - 2 / sqrt(3)) exactly; 0.955313 vs if
    # incompressible.
    compare(
        "Rayleigh, Poisson solid",
        np.array(rayleigh_speed(np.sqrt(3), 1.0)),
        np.sqrt(2 - 2 / np.sqrt(3)),
        1e-13,
    )
    compare(
        "Rayleigh, incompressible", np.array(rayleigh_speed(1e6, 1.0)), np.array(0.955313), 1e-6
    )
    c = rayleigh_speed(vp, vs)
    x = (c / vs) ** 2
    assert abs((2 - x) ** 2 - 4 * np.sqrt(1 - x) * np.sqrt(1 - (c / vp) ** 2)) < 1e-12
    print(f"Rayleigh speed for {vp:.0f}, {vs:.0f} m/s: {c:.4f} m/s")


if __name__ == "__main__":
    _check()
