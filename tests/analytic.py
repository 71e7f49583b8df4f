"""Exact solutions of (1/v^2) u_tt - lap u = w(t) delta(x - x_s) in unbounded homogeneous space, and
of a sponge."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Complex, Float
from scipy.integrate import simpson, trapezoid
from scipy.special import hankel2


def ricker(
    t: Float[np.ndarray, " time"], frequency: float, delay: float
) -> Float[np.ndarray, " time"]:
    """Ricker's wavelet: (1 - 2 a) exp(-a), a = (pi f (t - delay))^2."""
    a = (np.pi * frequency * (t - delay)) ** 2
    return (1 - 2 * a) * np.exp(-a)


def filtered(
    w: Float[np.ndarray, " time"],
    dt: float,
    response: Callable[[Complex[np.ndarray, " f"]], np.ndarray],
) -> Float[np.ndarray, " time"]:
    """Causal convolution of samples with a response given by its Laplace-Fourier transform (exp(+i
    omega t)).

    The frequency runs along omega - i alpha: the tapered signal exp(-alpha t) u(t) has no pole at
    zero frequency and has fallen by exp(-30), 1e-13, when the padded record (8 times as long) wraps
    round. Undoing the taper inside the first eighth multiplies rounding by at most exp(30 / 8) =
    43. What remains is aliasing of `w`.
    """
    n = 8 * len(w)
    alpha = 30.0 / (n * dt)
    t = dt * np.arange(len(w))
    omega = 2 * np.pi * np.fft.rfftfreq(n, dt) - 1j * alpha
    return np.fft.irfft(np.fft.rfft(w * np.exp(-alpha * t), n) * response(omega), n)[
        : len(w)
    ] * np.exp(alpha * t)


def green(
    w: Float[np.ndarray, " time"], dt: float, distance: float, velocity: float, ndim: int
) -> Float[np.ndarray, " time"]:
    """Trace at a distance (m) from a point source, in 1-D, 2-D or 3-D, sampled as the wavelet
    is."""

    def response(omega: np.ndarray) -> np.ndarray:
        k = omega / velocity
        if ndim == 1:
            return np.exp(-1j * k * distance) / (2j * k)
        if ndim == 2:
            return -0.25j * hankel2(0, k * distance)
        return np.exp(-1j * k * distance) / (4 * np.pi * distance)

    return filtered(w, dt, response)


def green_in_time(
    w: Callable[[np.ndarray], np.ndarray],
    t: Float[np.ndarray, " time"],
    distance: float,
    velocity: float,
    ndim: int,
) -> Float[np.ndarray, " time"]:
    """The same from the time domain, with the wavelet as a function: a check of `green` that shares
    nothing with it.

    3-D: the retarded pulse. 2-D: that pulse integrated along a line of sources, which with z = r
    sinh(theta) is the integral of w(t - r/v cosh(theta)) / (2 pi) over theta > 0. The integrand is
    smooth, even in theta and zero at the far end, so the trapezium rule converges faster than any
    power. 1-D: the plane wave of a sheet of sources, with z = v s, the integral of v w(t - r/v - s)
    / 2 over s > 0, by Simpson's rule.
    """
    delay = distance / velocity
    if ndim == 3:
        return w(t - delay) / (4 * np.pi * distance)
    if ndim == 2:
        theta = np.linspace(0, np.arccosh(1 + t[-1] / delay), 2001)
        return trapezoid(w(t[:, None] - delay * np.cosh(theta)), theta) / (2 * np.pi)
    past = np.linspace(0, t[-1], 4001)
    return velocity / 2 * simpson(w(t[:, None] - delay - past), past)


def sponge_reflection(
    omega: Complex[np.ndarray, " f"],
    gamma: Callable[[np.ndarray], np.ndarray],
    thickness: float,
    velocity: float,
    rigid: bool,
) -> Complex[np.ndarray, " f"]:
    """Reflection coefficient, at its face, of a layer in which u_tt + gamma(x) u_t = v^2 u_xx.

    Behind the layer u_x = 0 (rigid) or u = 0. The ratio z = u / u_x obeys z' = 1 - kappa^2 z^2 with
    kappa^2 = (i omega gamma - omega^2) / v^2. Thin layers of constant gamma have the exact solution
    used here, from the back to the face; the error is second order in their thickness.
    """
    edges = np.linspace(0, thickness, 501)
    middles, step = 0.5 * (edges[1:] + edges[:-1]), edges[1] - edges[0]
    z = np.full_like(omega, 1e30 if rigid else 0.0)
    for g in gamma(middles)[::-1]:
        kappa = np.sqrt((1j * omega * g - omega**2) / velocity**2)
        tangent = np.tanh(kappa * step)
        z = (z - tangent / kappa) / (1 - z * kappa * tangent)
    # In front, u = exp(-i k x) + R exp(+i k x): z = (1 + R) / (-i k (1 - R)).
    z = -1j * omega / velocity * z
    return (z - 1) / (z + 1)
