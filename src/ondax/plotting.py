"""Sections and gathers as geophysicists draw them: distances in km, depth and time downward.

Needs matplotlib, which is imported by the first call: `pip install 'ondax[plot]'`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array, Real

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


def figure(width: float, height: float) -> "Figure":
    """An empty figure of a size in inches, apart from pyplot, so that it needs no display.

    Raises:
        ImportError: if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plotting needs matplotlib: pip install 'ondax[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def section(
    axes: "Axes",
    values: Real[Array | np.ndarray, "x z"],
    spacing: float | Sequence[float],
    *,
    origin: float | Sequence[float] = 0.0,
    limits: tuple[float, float] | None = None,
    signed: bool = False,
    label: str = "velocity (m/s)",
    title: str = "",
) -> "AxesImage":
    """Draws a 2-D section, horizontal distance and depth in km to the same scale.

    Args:
        axes: what to draw on.
        values: one number per grid point, shape (x, z).
        spacing: distance between grid points, m, one for both axes or one each.
        origin: position of the first point, m, likewise.
        limits: values at the ends of the colour scale. Default: the range of the values, or, where
            `signed`, symmetric at the 99th percentile of their size, because gradients have peaks
            at sources.
        signed: use a blue-white-red scale with white at zero, for gradients and differences.
        label: of the colour scale; no scale if empty.
        title: above the section.
    """
    values = _two_dimensional(values)
    (x0, z0), (hx, hz) = np.broadcast_to(origin, 2), np.broadcast_to(spacing, 2)
    nx, nz = values.shape
    if limits is None:
        clip = float(np.percentile(np.abs(values), 99)) or 1.0
        limits = (-clip, clip) if signed else (float(values.min()), float(values.max()))
    edges = (x0 - hx / 2, x0 + (nx - 0.5) * hx, z0 + (nz - 0.5) * hz, z0 - hz / 2)
    image = axes.imshow(
        values.T,
        extent=tuple(1e-3 * edge for edge in edges),
        vmin=limits[0],
        vmax=limits[1],
        cmap="RdBu_r" if signed else "viridis",
    )
    axes.set(xlabel="distance (km)", ylabel="depth (km)", title=title)
    if label:
        axes.figure.colorbar(image, ax=axes, label=label, pad=0.01)
    return image


def gather(
    axes: "Axes",
    traces: Real[Array | np.ndarray, "receiver time"],
    dt: float,
    *,
    offsets: tuple[float, float] | None = None,
    clip: float | None = None,
    title: str = "",
) -> "AxesImage":
    """Draws the traces of one shot in shades of grey, time downward.

    Args:
        axes: what to draw on.
        traces: shape (receiver, time).
        dt: time between samples, s.
        offsets: positions of the first and the last receiver, m. Default: count the receivers.
        clip: amplitude drawn black, and its negative white. Default: the 98th percentile of the
            amplitudes.
        title: above the gather.
    """
    traces = _two_dimensional(traces)
    clip = float(np.percentile(np.abs(traces), 98)) or 1.0 if clip is None else clip
    first, last = (
        (0.0, traces.shape[0] - 1.0) if offsets is None else (1e-3 * offsets[0], 1e-3 * offsets[1])
    )
    extent = (first, last, dt * (traces.shape[1] - 1), 0.0)
    image = axes.imshow(
        traces.T, extent=extent, aspect="auto", cmap="gray_r", vmin=-clip, vmax=clip
    )
    axes.set(
        xlabel="receiver" if offsets is None else "receiver at (km)", ylabel="time (s)", title=title
    )
    return image


def _two_dimensional(values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 2:
        raise ValueError(f"need a 2-D array, got one of shape {array.shape}; take a slice of it")
    return array
