"""Sources and receivers of usual surveys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


def line(
    first: Sequence[float], last: Sequence[float], count: int
) -> Float[np.ndarray, "point axis"]:
    """Evenly spaced points on a straight line, ends included.

    Args:
        first: coordinates of the first point, metres.
        last: coordinates of the last point, metres.
        count: number of points.

    Raises:
        ValueError: fewer than one point, or ends of different dimension.
    """
    if count < 1:
        raise ValueError(f"count={count}: a line needs at least one point")
    start, stop = np.asarray(first, np.float64), np.asarray(last, np.float64)
    if start.shape != stop.shape or start.ndim != 1:
        raise ValueError(f"the ends {first!r} and {last!r} must be points of the same dimension")
    return np.linspace(start, stop, count)


def streamer(
    first: Sequence[float],
    last: Sequence[float],
    shots: int,
    *,
    channels: int,
    interval: float,
    nearest: float,
    depth: float | None = None,
) -> tuple[Float[np.ndarray, "shot axis"], Float[np.ndarray, "shot receiver axis"]]:
    """Sources and receivers of a marine line: a ship sails straight on, and tows receivers behind
    its source.

    `ox.Survey(*ox.streamer(...), wavelet, dt)` is the survey; `Survey.inside(grid)` leaves out what
    the cable has beyond the model.

    Args:
        first: coordinates of the first source, metres, depth last.
        last: coordinates of the last source, metres. The cable lies opposite to the way from
            `first` to `last`, at the depth of the receivers.
        shots: number of sources on the way, at equal distances.
        channels: receivers of the cable.
        interval: metres between them.
        nearest: metres from a source to its nearest receiver, horizontally.
        depth: of the receivers, metres. Default: that of the sources.

    Returns:
        Sources (shot, axis) and receivers (shot, receiver, axis).

    Raises:
        ValueError: numbers that are not positive, or a line that leads nowhere.
    """
    sources = line(first, last, shots)
    way = np.asarray(last, np.float64) - np.asarray(first, np.float64)
    way[-1] = 0.0
    length = float(np.linalg.norm(way))
    if length == 0.0:
        raise ValueError(f"from {first!r} to {last!r} the ship does not move: give two places")
    if channels < 1 or interval <= 0.0 or nearest < 0.0:
        raise ValueError(
            f"channels={channels}, interval={interval!r} m, nearest={nearest!r} m: a cable has a "
            "channel at least, and lies behind the source"
        )
    behind = nearest + interval * np.arange(channels)
    receivers = sources[:, None] - behind[:, None] * (way / length)
    if depth is not None:
        receivers[..., -1] = depth
    return sources, receivers


def ocean_bottom(
    sources: ArrayLike, nodes: ArrayLike
) -> tuple[Float[np.ndarray, "shot axis"], Float[np.ndarray, "receiver axis"]]:
    """Sources and receivers of a survey of nodes that stay where they are while a ship shoots.

    All shots are recorded by all nodes. With fewer nodes than shots, `Survey.reciprocal` makes
    nodes the shots: `ox.Survey(*ox.ocean_bottom(...), wavelet, dt).reciprocal()`.

    Args:
        sources: metres, (shot, axis), depth last; `ox.line` or `ox.carpet` makes them.
        nodes: metres, (receiver, axis), likewise.

    Returns:
        Sources and receivers for `ox.Survey`.

    Raises:
        ValueError: they do not have as many axes.
    """
    s, r = np.asarray(sources, np.float64), np.asarray(nodes, np.float64)
    if s.ndim != 2 or r.ndim != 2 or s.shape[1] != r.shape[1]:
        raise ValueError(
            f"sources of shape {s.shape} and nodes of shape {r.shape}: give (point, axis), with "
            "as many axes each"
        )
    return s, r


def vsp(
    sources: ArrayLike,
    wellhead: Sequence[float],
    depths: ArrayLike,
    *,
    dip: float = 0.0,
    azimuth: float = 0.0,
) -> tuple[Float[np.ndarray, "shot axis"], Float[np.ndarray, "receiver axis"]]:
    """Sources and receivers of a vertical seismic profile: receivers in a straight well.

    Args:
        sources: metres, (shot, axis), depth last.
        wellhead: coordinates of the well's top, metres.
        depths: (receiver,) of the receivers along the well, metres below its top.
        dip: of the well from the vertical, degrees.
        azimuth: in 3-D, the direction in which it leans, degrees from x towards y.

    Returns:
        Sources and receivers for `ox.Survey`.

    Raises:
        ValueError: they do not have as many axes.
    """
    s, top = np.asarray(sources, np.float64), np.asarray(wellhead, np.float64)
    if s.ndim != 2 or top.shape != s.shape[1:]:
        raise ValueError(
            f"sources of shape {s.shape} and a wellhead {wellhead!r}: give (shot, axis) and one "
            "point with as many axes"
        )
    lean, turn = np.deg2rad(dip), np.deg2rad(azimuth)
    sideways = {1: (), 2: (np.sin(lean),)}.get(
        len(top), (np.sin(lean) * np.cos(turn), np.sin(lean) * np.sin(turn))
    )
    down = np.array([*sideways, np.cos(lean)])
    return s, top + np.asarray(depths, np.float64)[:, None] * down


def carpet(
    first: Sequence[float], last: Sequence[float], counts: tuple[int, int]
) -> Float[np.ndarray, "point axis"]:
    """Points on a horizontal rectangle in 3-D, in rows along y.

    Args:
        first: coordinates of one corner, metres.
        last: coordinates of the opposite one, at the same depth.
        counts: points along x and along y.

    Raises:
        ValueError: corners that are not in 3-D or not at one depth, or counts below 1.
    """
    start, stop = np.asarray(first, np.float64), np.asarray(last, np.float64)
    if start.shape != (3,) or stop.shape != (3,) or start[2] != stop[2]:
        raise ValueError(
            f"the corners {first!r} and {last!r} must be points (x, y, z) at the same depth"
        )
    if min(counts) < 1:
        raise ValueError(f"counts={counts!r}: a carpet has at least one point along each axis")
    x, y = (np.linspace(start[i], stop[i], counts[i]) for i in (0, 1))
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.column_stack([points, np.full(len(points), start[2])])
