"""What the tests of physics in solids, anisotropic and absorbing media share."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from analytic import ricker

import ondax as ox

VP, VS, RHO, FREQUENCY = 2000.0, 1100.0, 1300.0, 15.0  # dominant wavelengths of 133 m and 73 m
DELAY = 2.0 / FREQUENCY  # the wavelet starts at 1e-15 of its peak


def times(duration: float, dt: float) -> np.ndarray:
    """Samples of about dt apart that end at a duration."""
    return np.linspace(0.0, duration, int(np.ceil(duration / dt)) + 1)


def pulse(t: np.ndarray) -> np.ndarray:
    return ricker(t, FREQUENCY, DELAY)


def shoot(
    equation: ox.AbstractWaveEquation,
    medium: Mapping[str, float | np.ndarray],
    grid: ox.Grid,
    survey: ox.Survey,
    max_velocity: float,
    boundary: ox.AbstractBoundary | None = None,
    dtype: str = "float64",
    **options: Any,
) -> np.ndarray:
    """Traces of all shots; the default boundary is for grids whose edges are out of reach.
    `options` of the propagator."""
    boundary = ox.Sponge(width=4) if boundary is None else boundary
    F = ox.Propagator(
        equation, grid, survey, max_velocity=max_velocity, boundary=boundary, **options
    )
    return np.asarray(
        F({k: jnp.broadcast_to(jnp.asarray(v, dtype), grid.shape) for k, v in medium.items()})
    )


def square(half_width: float, spacing: float, ndim: int = 2) -> ox.Grid:
    """A grid around the origin."""
    n = 2 * int(np.ceil(half_width / spacing - 1e-9)) + 1
    return ox.Grid(shape=(n,) * ndim, spacing=spacing, origin=-(n // 2) * spacing)


def reach(duration: float, distance: float, max_velocity: float) -> float:
    """The half width of a square in whose middle no echo of the edges is heard at a distance.

    The wavelet is below 1e-8 of its peak until 1.5 periods before it.
    """
    return ((duration - DELAY + 1.5 / FREQUENCY) * max_velocity + distance) / 2


def relative(
    d: np.ndarray, exact: np.ndarray, axis: int | Sequence[int] | None = None
) -> np.ndarray:
    """Relative error, of all together or along axes."""
    axis = axis if axis is None or isinstance(axis, int) else tuple(axis)
    return np.sqrt(np.sum((d - exact) ** 2, axis) / np.sum(exact**2, axis))


def lag(d: np.ndarray, like: np.ndarray, dt: float) -> float:
    """How much later a trace is than another one like it, in s: the maximum of their correlation,
    refined."""
    n, finer = 2 * len(d), 20
    product = np.fft.irfft(np.fft.rfft(d, n) * np.fft.rfft(like, n).conj(), finer * n)
    at = int(np.argmax(product))
    return ((at + finer * n // 2) % (finer * n) - finer * n // 2) * dt / finer
