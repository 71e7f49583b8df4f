"""Weights that place sources and receivers between grid points."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from ..equations.stability import staggered_weights
from ..scheme.plan import Above

HALF_WIDTH = {"sinc": 4, "linear": 1}
# of the Kaiser window, the optimum for half-width 4 and wavenumbers up to 2/3 of Nyquist (Hicks,
# 2002)
SHAPE = 6.31
EVEN_WAVES, ODD_WAVES, PENALTY = 1.25, 1.0, 1e-5
"""Of extrapolation to the rows above a free surface: chosen so that, half a cell from the nearest
known row, the error is below 0.2 % at 40 points a wavelength, 0.6 % at 20 and 2.5 % at 10, with
weights whose sizes add up to 10 at most."""

Floats = np.ndarray[Any, np.dtype[np.float64]]
Values = Any  # an array of NumPy, or of its like, in double precision


def window_weights(offset: Values, kind: str, xp: Any = np) -> Values:
    """The weight of grid points at a signed distance, in cells, from a source or receiver.

    Args:
        offset: grid point minus position, any shape.
        kind: "sinc" (Kaiser-windowed sinc, Hicks 2002) or "linear".
        xp: NumPy, or its like whose arrays these are.
    """
    if kind == "linear":
        return xp.maximum(0.0, 1.0 - xp.abs(offset))
    inside = xp.abs(offset) < HALF_WIDTH["sinc"]
    square = xp.where(inside, 1.0 - (offset / HALF_WIDTH["sinc"]) ** 2, 0.0)
    return xp.where(inside, xp.sinc(offset) * _window(square), 0.0)


def window_slopes(offset: Values, kind: str, xp: Any = np) -> Values:
    """The derivative of `window_weights` with respect to the position, per cell.

    Where weights have a kink, which they have for positions on grid points, it is the slope towards
    growing coordinates; on the last point of a grid, of linear weights, towards falling ones.
    """
    if kind == "linear":
        onward = xp.where(offset > 0.0, 1.0 * (offset <= 1.0), -1.0 * (offset > -1.0))
        back = xp.where(offset >= 0.0, 1.0 * (offset < 1.0), -1.0 * (offset >= -1.0))
        return xp.where(offset[..., -1:] == 0.0, back, onward)
    r = HALF_WIDTH["sinc"]
    inside = (offset > -r) & (offset <= r)
    x = xp.where(inside, offset, 0.0)
    square = 1.0 - (x / r) ** 2
    window = _window(square)
    # I0' = I1, and I1(z)/z tends to 1/2: written as a ratio so that the centre and the edge need no
    # special case.
    window_slope = -(x / r**2) * SHAPE**2 * _i1_over_z(SHAPE**2 * square) / float(np.i0(SHAPE))
    small = xp.abs(x) < 1e-4
    safe = xp.where(small, 1.0, x)
    sinc_slope = xp.where(
        small, -(np.pi**2) * x / 3.0, (xp.cos(np.pi * safe) - xp.sinc(safe)) / safe
    )
    slope = sinc_slope * window + xp.sinc(x) * window_slope
    return xp.where(inside, -slope, 0.0)  # the offset falls as the position grows


def _window(square: Values) -> Values:
    """The Kaiser window, I0(SHAPE sqrt(square)) / I0(SHAPE), by the power series of I0, which
    converges fast for SHAPE = 6.31."""
    quarter = SHAPE**2 * square / 4.0
    term = 0.0 * quarter + 1.0
    total = term
    for k in range(1, 32):
        term = term * quarter / (k * k)
        total = total + term
    return total / float(np.i0(SHAPE))


def _i1_over_z(square: Values) -> Values:
    """I1(z)/z by its power series, from the square of z, likewise."""
    quarter = square / 4.0
    term = 0.0 * quarter + 0.5
    total = term
    for k in range(1, 32):
        term = term * quarter / (k * (k + 1))
        total = total + term
    return total


def window_below(
    shape: Callable[[Values, str, Any], Values],
    kind: str,
    above: Above,
    cells: Values,
    first: Any,
    taps: int,
    half: bool,
    space_order: int,
    xp: Any = np,
) -> Values:
    """Windows at and below a free surface through the first node, in place of those that reach
    above it.

    Args:
        shape: `window_weights` or `window_slopes`.
        kind: "sinc" or "linear".
        above: how the field continues.
        cells: positions in cells from the first node, (point,).
        first: the first grid index of every window.
        taps: points of a window.
        half: the field lives half a cell beyond the nodes.
        space_order: of the scheme.
        xp: NumPy, or its like whose arrays these are.

    Returns:
        Weights or slopes, (point, tap).
    """
    lift = 0.5 if half else 0.0
    rows = first[:, None] + np.arange(taps)[None, :] + lift
    found = shape(rows - cells[:, None], kind, xp)
    if above is Above.ODD:
        return found - shape(-rows - cells[:, None], kind, xp)
    if above is Above.EVEN:
        return found + xp.where(rows == 0.0, 0.0, shape(-rows - cells[:, None], kind, xp))
    known = tuple(np.arange(taps) + lift)
    missing = tuple(lift - np.arange(1, HALF_WIDTH[kind] + 1))
    at_top = first[:, None] == 0
    if above is Above.LOST:
        known, missing = known[1:], (0.0, *missing)
        found = xp.where(at_top & (np.arange(taps) == 0), 0.0, found)
    bent = bends(space_order, half, len(known)) if above is Above.SMOOTH else (0.0,) * len(known)
    values, slope = extrapolation(known, bent, missing)
    lost = taps - len(known)
    added = shape(np.asarray(missing) - cells[:, None], kind, xp) @ values
    added = added - xp.outer(found[:, lost:] @ np.asarray(bent), slope)
    return found + xp.where(at_top, xp.pad(added, ((0, 0), (lost, 0))), 0.0)


@cache
def bends(space_order: int, half: bool, rows: int) -> tuple[float, ...]:
    """What a staggered scheme adds to a field that it takes for even about a free surface, per
    slope at the surface and cell.

    Of a field with a slope, staggered differences of order 4 and more see the kink that its even
    image makes. What the scheme works with are the differences, and they come out right to the
    first order in the spacing. So the field does not: next to the surface it is bent such that,
    seen with its image, its differences are those of a straight line.
    """
    reach = space_order // 2
    offsets = [Fraction(2 * i + 1, 2) for i in range(-reach, reach)]
    weights = dict(zip(offsets, staggered_weights(space_order), strict=True))
    count = rows + 2 * reach  # far below the surface nothing is bent
    lift = Fraction(1, 2) if half else Fraction(0)
    matrix, missed = np.zeros((count, count)), np.ones(count)
    for i in range(count):
        point = i + Fraction(1) if half else i + Fraction(1, 2)
        for offset, weight in weights.items():
            row = abs(point + offset)
            missed[i] -= weight * float(row)
            if row - lift < count:
                matrix[i, int(row - lift)] += weight
    return tuple(np.linalg.solve(matrix, missed)[:rows])


@cache
def extrapolation(
    known: tuple[float, ...], bent: tuple[float, ...], wanted: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Weights that give a field's values near a surface, and its slope there, from values at other
    places.

    They are exact for parabolas. Beyond that, their squared error is least over waves cos(k z) of
    up to EVEN_WAVES radians a cell, as waves that strike the surface at right angles are, and over
    sin(k z) of up to ODD_WAVES, as slanting and evanescent ones are in part; a small penalty on the
    weights' size keeps noise down.

    Args:
        known: where values are known, in cells from the surface.
        bent: how many times the slope at the surface, per cell, they exceed the field.
        wanted: where the field is wanted.

    Returns:
        Weights of the values, (wanted, known), and of the slope, (known,).
    """
    fractions = (np.arange(64)[:, None] + 0.5) / 64
    degree = min(3, len(known))

    def seen(places: Floats, values: Floats, slopes: Floats) -> tuple[Any, Any]:
        """What waves, and powers, have of so many times their value at a place and their slope at
        the surface."""
        even = np.cos(EVEN_WAVES * fractions * places) * values
        odd = np.sin(ODD_WAVES * fractions * places) * values + ODD_WAVES * fractions * slopes
        powers = [places**n * values + (n == 1) * slopes for n in range(degree)]
        return np.concatenate([even, odd]) / np.sqrt(2 * len(fractions)), np.stack(powers)

    waves, powers = seen(np.array(known), np.ones(len(known)), np.array(bent))
    goal = np.array([1.0] * len(wanted) + [0.0])
    wanted_waves, wanted_powers = seen(np.array([*wanted, 0.0]), goal, 1.0 - goal)
    size = waves.T @ waves + PENALTY * np.eye(len(known))
    conditions = np.block([[size, powers.T], [powers, np.zeros((degree, degree))]])
    found: Any = np.linalg.solve(
        conditions, np.concatenate([waves.T @ wanted_waves, wanted_powers])
    )
    found = found[: len(known)].T
    return found[:-1], found[-1]


def derived(
    weights: Values,
    first: Values,
    points: int,
    half: bool,
    above: Above,
    space_order: int,
    xp: Any = np,
) -> tuple[Values, Values]:
    """Windows on the points of a field that read its derivative along the axis, from windows on the
    points where the derivative is: half a cell off those of the field.

    They are convolved with the staggered difference. So of a constant they read exactly zero, and
    the error relative to the derivative does not grow with the wavelength, as it would if the
    interpolating function were differentiated.

    Args:
        weights: on the points of the derivative, (point, tap).
        first: the first grid index of each window.
        points: of the axis.
        half: the field lives half a cell beyond the nodes.
        above: how the derivative continues above a free surface.
        space_order: of the scheme.
        xp: NumPy, or its like whose arrays these are.

    Returns:
        First grid indices, and weights, (point, tap), to be divided by the spacing.
    """
    reach, taps = space_order // 2, weights.shape[1]
    wider = min(taps + space_order - 1, points)
    # The difference at the derivative's point of index j reads the field at j + shift.
    shifts = range(-reach + (not half), reach + (not half))
    starts = xp.clip(first + shifts[0], 0, points - wider).astype(np.int32)
    targets = starts[:, None] + np.arange(wider)
    found = 0.0 * targets
    for shift, c in zip(shifts, staggered_weights(space_order), strict=True):
        for tap in range(taps):
            rows, values = first + (tap + shift), float(c) * weights[:, tap]
            if above is not Above.NOTHING:  # the field has images
                mirrored = rows < 0
                if above is Above.EVEN:  # odd ones, as its derivative is even
                    values = xp.where(mirrored, -values, values)
                rows = xp.where(mirrored, -rows - half, rows)
            found = found + xp.where(targets == rows[:, None], values[:, None], 0.0)
    return starts, found


def place(
    cells: Values, points: int, kind: str, on_grid: bool, half: bool, xp: Any = np
) -> tuple[Values, Values]:
    """Windows of a set of positions along one axis.

    Args:
        cells: positions in cells from the first node of the padded grid, shape (point,).
        points: number of grid points along the axis.
        kind: "sinc" or "linear".
        on_grid: every position is known to lie on a point of the field: one tap suffices.
        half: the field lives half a cell beyond the nodes.
        xp: NumPy, or its like whose arrays these are.

    Returns:
        First grid index (point,), and the offsets (point, tap) of grid points from positions, in
        cells; windows are moved inside the grid, so that points of a window beyond it are dropped.
    """
    cells = cells - 0.5 if half else cells
    if on_grid:
        return xp.rint(cells).astype(np.int32), xp.zeros((cells.size, 1))
    taps = min(2 * HALF_WIDTH[kind], points)
    first = xp.floor(cells).astype(np.int32) - (taps // 2 - 1)
    first = xp.clip(first, 0, points - taps).astype(np.int32)
    offset = first[:, None] + np.arange(taps)[None, :] - cells[:, None]
    return first, offset


def in_cells(positions: Floats, origin: Floats, spacing: Floats) -> tuple[Floats, Floats]:
    """Positions (point, axis) in cells from a grid's first node; and how much rounding of the
    coordinates may move them along each axis, in cells."""
    cells = (positions - origin) / spacing
    largest = np.abs(origin) + np.max(np.abs(cells), axis=0, initial=1.0) * spacing
    return cells, np.finfo(np.float64).eps * largest / spacing


def lies_on_grid(cells: Floats, rounding: float) -> bool:
    """Do all positions, in cells, lie on nodes, but for the rounding of their coordinates (in
    cells, too)?"""
    return bool(np.all(np.abs(cells - np.rint(cells)) <= 8 * rounding))
