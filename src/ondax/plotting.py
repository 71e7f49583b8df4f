"""Plots of sections and gathers as geophysicists draw them: distances in km, depth and time
downward.

They need matplotlib, `pip install 'ondax[plot]'`, which is imported by the first call.
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
    """An empty matplotlib figure. It is made without pyplot, so that it needs no display.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        ImportError: matplotlib is missing.
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
    """Draw a 2-D section, with horizontal distance and depth in km and to the same scale.

    Args:
        axes: the matplotlib axes to draw on.
        values: one number per grid point, shape (x, z).
        spacing: distance between grid points, m; one number for both axes, or one for each.
        origin: position of the first point, m; one number for both axes, or one for each.
        limits: values at the ends of the colour scale. Default: the range of the values. With
            `signed`: plus and minus the 99th percentile of their size, because gradients have peaks
            at sources.
        signed: use a blue-white-red scale with white at zero, for gradients and differences.
        label: text beside the colour scale; if empty, the scale is left out.
        title: text above the section.

    Returns:
        The image that has been drawn.

    Raises:
        ValueError: `values` is not two-dimensional.
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
    """Draw the traces of one shot in shades of grey, with time downward.

    Args:
        axes: the matplotlib axes to draw on.
        traces: traces of shape (receiver, time).
        dt: time between samples, s.
        offsets: positions of the first and the last receiver, m. Default: receivers are numbered.
        clip: the amplitude that is drawn black; its negative is drawn white. Default: the 98th
            percentile of the absolute amplitudes.
        title: text above the gather.

    Returns:
        The image that has been drawn.

    Raises:
        ValueError: `traces` is not two-dimensional.
    """
    traces = _two_dimensional(traces)
    if clip is None:
        clip = float(np.percentile(np.abs(traces), 98)) or 1.0
    if offsets is None:
        first, last = 0.0, traces.shape[0] - 1.0
    else:
        first, last = 1e-3 * offsets[0], 1e-3 * offsets[1]
    extent = (first, last, dt * (traces.shape[1] - 1), 0.0)
    image = axes.imshow(
        traces.T, extent=extent, aspect="auto", cmap="gray_r", vmin=-clip, vmax=clip
    )
    axes.set(
        xlabel="receiver" if offsets is None else "receiver at (km)", ylabel="time (s)", title=title
    )
    return image


def _two_dimensional(values: Any) -> np.ndarray:
    """The values as a NumPy array.

    Raises:
        ValueError: they are not two-dimensional.
    """
    array = np.asarray(values)
    if array.ndim != 2:
        raise ValueError(f"need a 2-D array, got one of shape {array.shape}; take a slice of it")
    return array
