"""From the words of headers to metres in the model's axes: scalars, signs of depths, directions."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

CHUNK = 1 << 20  # pairs of a point and a segment that are compared at a time


def scaled(values: Any, scalars: Any) -> Float[np.ndarray, " trace"]:
    """Words times their scalars: a positive one multiplies, a negative one divides, 0 is 1."""
    scalars = np.asarray(scalars, np.float64)
    factors = np.maximum(scalars, 0.0) + (scalars <= 0.0)
    divisors = np.maximum(-scalars, 0.0) + (scalars >= 0.0)
    return np.asarray(values, np.float64) * factors / divisors


class Elevations(NamedTuple):
    """Heights of all traces in metres, as the headers give them."""

    receiver: np.ndarray
    source: np.ndarray
    source_depth: np.ndarray

    def depths(self, rule: str) -> tuple[np.ndarray, np.ndarray]:
        """Depths of sources and of receivers, by a rule, "up" or "down"."""
        sign = -1.0 if rule == "up" else 1.0
        # 0.0 is added as the depth of what stands at 0 would be -0.0.
        return self.source_depth + sign * self.source + 0.0, sign * self.receiver + 0.0


def depths(
    heights: Elevations, rule: str, counted: Bool[np.ndarray, " trace"], trace_name: Any
) -> tuple[np.ndarray, np.ndarray, str]:
    """Depths of sources and receivers.

    Args:
        heights: of all traces.
        rule: "up": elevations are heights above the datum, as SEG-Y defines them; "down": they are
            meant as depths; "auto": "up", unless all points would lie above the datum.
        counted: which traces the rule is found from.
        trace_name: of a trace's number, for messages.

    Returns:
        Depths of sources, of receivers, and what should be said of them, or nothing.

    Raises:
        ValueError: "auto", and some points would lie above and others below the datum.
    """
    if rule != "auto":
        return *heights.depths(rule), ""
    zs, zr = heights.depths("up")
    above = counted & ((zs < 0.0) | (zr < 0.0))
    below = counted & ((zs > 0.0) | (zr > 0.0))
    if not above.any():
        return zs, zr, ""
    if below.any():
        a, b = int(np.argmax(above)), int(np.argmax(below))
        raise ValueError(
            f"taken as heights, elevations put {trace_name(a)} above the datum (source at z = "
            f"{zs[a]:g} m, receiver at z = {zr[a]:g} m) and {trace_name(b)} below it (source at z "
            f'= {zs[b]:g} m, receiver at z = {zr[b]:g} m): say elevation="up" if elevations are '
            'heights, as the standard defines them, or elevation="down" if they are meant as depths'
        )
    said = (
        'elevations are positive for all points: they were taken as depths. elevation="down" says '
        'so without this notice; elevation="up" takes them as heights above the datum'
    )
    return *heights.depths("down"), said


# -------------------------------------------------------------------- directions


def turned(
    points: Float[np.ndarray, "point 3"], origin: tuple[float, float], azimuth: float
) -> Float[np.ndarray, "point 3"]:
    """Map coordinates (east, north, z) in axes of which x points to an azimuth, degrees clockwise
    from north, and y to the left of it."""
    angle = math.radians(azimuth)
    # Directions along the map's axes must come out without rounding.
    sine, cosine = (round(value, 15) for value in (math.sin(angle), math.cos(angle)))
    east, north = points[:, 0] - origin[0], points[:, 1] - origin[1]
    x, y = east * sine + north * cosine, north * sine - east * cosine
    return np.stack([x, y, points[:, 2]], axis=-1)


def along_straight(
    points: Float[np.ndarray, "point 2"], ahead: Float[np.ndarray, " 2"]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Distances along the straight line that fits points best, in the sense of least squares of
    their distances from it.

    Args:
        points: horizontal positions.
        ahead: the line points to this side.

    Returns:
        Distances along the line, from its foot of the points' mean; distances from it; its azimuth.
    """
    middle = points.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((points - middle).T, bias=True))
    direction = vectors[:, -1]
    forward = float(direction @ ahead) or float(direction @ [1.0, 1e-3])
    direction = direction if forward > 0.0 else -direction
    across = np.array([-direction[1], direction[0]])
    azimuth = math.degrees(math.atan2(direction[0], direction[1])) % 360.0
    return (points - middle) @ direction, np.abs((points - middle) @ across), azimuth


def along_crooked(
    points: Float[np.ndarray, "point 2"], corners: Float[np.ndarray, "corner 2"]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances along a line of straight segments, to the place nearest to each point.

    Args:
        points: horizontal positions.
        corners: of the line. Its first and last segments go on without end.

    Returns:
        Distances along the line, from its first corner; distances from it.

    Raises:
        ValueError: fewer than two different corners.
    """
    apart = np.any(np.diff(corners, axis=0) != 0.0, axis=1)
    corners = corners[np.concatenate([[True], apart])]
    if len(corners) < 2:
        raise ValueError(
            "a crooked line runs along the sources, and these are all at one place: project on a "
            "straight line, on_line()"
        )
    starts, steps = corners[:-1], np.diff(corners, axis=0)
    lengths = np.sqrt(np.sum(steps**2, axis=1))
    before = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    units = steps / lengths[:, None]
    low, high = np.zeros(len(steps)), lengths.copy()
    low[0], high[-1] = -np.inf, np.inf
    x, off = np.empty(len(points)), np.empty(len(points))
    size = max(1, CHUNK // len(steps))
    for first in range(0, len(points), size):
        some = slice(first, first + size)
        away = points[some, None, :] - starts
        along = np.clip(np.sum(away * units, axis=-1), low, high)
        distances = np.sqrt(np.sum((away - along[..., None] * units) ** 2, axis=-1))
        nearest = np.argmin(distances, axis=1)
        rows = np.arange(len(nearest))
        x[some] = before[nearest] + along[rows, nearest]
        off[some] = distances[rows, nearest]
    return x, off
