"""Weights that place sources and receivers between grid points."""

from __future__ import annotations

from typing import Any

import numpy as np

HALF_WIDTH = {"sinc": 4, "linear": 1}
SHAPE = 6.31  # of the Kaiser window, the optimum for half-width 4 and wavenumbers up to 2/3 of Nyquist (Hicks, 2002)

Floats = np.ndarray[Any, np.dtype[np.float64]]


def window_weights(offset: Floats, kind: str) -> Floats:
    """The weight of grid points at a signed distance, in cells, from a source or receiver.

    Args:
        offset: grid point minus position, any shape.
        kind: "sinc" (Kaiser-windowed sinc, Hicks 2002) or "linear".
    """
    if kind == "linear":
        return np.maximum(0.0, 1.0 - np.abs(offset))
    inside = np.abs(offset) < HALF_WIDTH["sinc"]
    root = np.sqrt(np.where(inside, 1.0 - (offset / HALF_WIDTH["sinc"]) ** 2, 0.0))
    return np.where(inside, np.sinc(offset) * np.i0(SHAPE * root) / np.i0(SHAPE), 0.0)


def window_slopes(offset: Floats, kind: str) -> Floats:
    """The derivative of `window_weights` with respect to the position, per cell."""
    if kind == "linear":
        return np.where(np.abs(offset) < 1.0, np.sign(offset), 0.0)
    r = HALF_WIDTH["sinc"]
    inside = np.abs(offset) < r
    x = np.where(inside, offset, 0.0)
    root = np.sqrt(1.0 - (x / r) ** 2)
    window = np.i0(SHAPE * root) / np.i0(SHAPE)
    # I0' = I1, and I1(z)/z tends to 1/2: written as a ratio so that the centre and the edge need no special case.
    window_slope = -(x / r**2) * SHAPE**2 * _i1_over_z(SHAPE * root) / np.i0(SHAPE)
    small = np.abs(x) < 1e-4
    safe = np.where(small, 1.0, x)
    sinc_slope = np.where(small, -(np.pi**2) * x / 3.0, (np.cos(np.pi * safe) - np.sinc(safe)) / safe)
    slope = sinc_slope * window + np.sinc(x) * window_slope
    return np.where(inside, -slope, 0.0)  # the offset falls as the position grows


def _i1_over_z(z: Floats) -> Floats:
    """I1(z)/z by its power series, which converges fast for the arguments of a Kaiser window (z <= 6.31)."""
    quarter = z * z / 4.0
    term = np.full_like(z, 0.5)
    total = term.copy()
    for k in range(1, 32):
        term = term * quarter / (k * (k + 1))
        total += term
    return total


def images(offset: Floats, half: bool, cells: Floats, first: Any) -> tuple[Floats, Floats]:
    """The mirror images of windows above a free surface through the first node.

    Args:
        offset: grid points minus positions, (point, tap).
        half: the field lives half a cell beyond the nodes.
        cells: positions in cells from the first node.
        first: the first grid index of every window.

    Returns:
        The images of the grid points minus positions, and 0 where a point is its own image, else 1.
    """
    below = (first[:, None] + np.arange(offset.shape[1])[None, :]) + (0.5 if half else 0.0)
    return -below - cells[:, None], np.where(below == 0.0, 0.0, 1.0)


def place(
    cells: Floats, points: int, kind: str, on_grid: bool, half: bool
) -> tuple[np.ndarray[Any, np.dtype[np.int32]], Floats]:
    """Windows of a set of positions along one axis.

    Args:
        cells: positions in cells from the first node of the padded grid, shape (point,).
        points: number of grid points along the axis.
        kind: "sinc" or "linear".
        on_grid: every position is known to lie on a point of the field: one tap suffices.
        half: the field lives half a cell beyond the nodes.

    Returns:
        First grid index (point,), and the offsets (point, tap) of grid points from positions, in cells; windows are
        moved inside the grid, so that points of a window beyond it are dropped.
    """
    cells = cells - 0.5 if half else cells
    if on_grid:
        first = np.rint(cells).astype(np.int32)
        return first, np.zeros((cells.size, 1))
    taps = min(2 * HALF_WIDTH[kind], points)
    first = np.clip(np.floor(cells).astype(np.int64) - taps // 2 + 1, 0, points - taps).astype(np.int32)
    offset = first[:, None] + np.arange(taps)[None, :] - cells[:, None]
    return first, offset


def lies_on_grid(cells: Floats, rounding: float) -> bool:
    """Do all positions, in cells, lie on nodes, but for the rounding of their coordinates (in cells, too)?"""
    return bool(np.all(np.abs(cells - np.rint(cells)) <= 8 * rounding))
