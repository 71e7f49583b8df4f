"""The part of the grid that each shot sees: its sources and receivers, and a margin around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ..grid import Grid
from ..survey import Survey

ROUND = 8  # points, to which windows are widened
FREE = 0.5  # of the aperture, by which positions given with a call may leave those of the survey


@dataclass(frozen=True)
class Windows:
    """The windows of all shots: equally large, so that the same kernels and buffers serve them all,
    and as deep as the grid.

        the grid    |......................................|
        shot 0         |<- aperture s r r r aperture ->|
        shot 1               |<- aperture s r r r aperture ->|

    Attributes:
        shape: points along each axis.
        starts: the first point of each shot's window, (shot, axis).
        low: coordinates that no source or receiver of a shot may fall below, metres, (shot, axis).
        high: coordinates that none may exceed, likewise.
    """

    shape: tuple[int, ...]
    starts: Int[np.ndarray, "shot axis"]
    low: Float[np.ndarray, "shot axis"]
    high: Float[np.ndarray, "shot axis"]


def windows(survey: Survey, grid: Grid, aperture: float) -> Windows:
    """The windows of a survey's shots.

    Args:
        survey: its sources are points.
        grid: the model's.
        aperture: metres on either side of a shot's sources and receivers, along horizontal axes.
    """
    lowest, highest = zip(*(points.extremes() for points in survey.points), strict=True)
    low, high = np.minimum(*lowest), np.maximum(*highest)
    origin, spacing, shape = (np.array(x) for x in (grid.origin, grid.spacing, grid.shape))
    first = np.floor((low - aperture - origin) / spacing + 1e-6).astype(int)
    last = np.ceil((high + aperture - origin) / spacing - 1e-6).astype(int)
    first, last = np.clip(first, 0, shape - 1), np.clip(last, 0, shape - 1)
    first[:, -1], last[:, -1] = 0, shape[-1] - 1
    sizes = last - first + 1
    size = np.minimum(-(-sizes.max(axis=0) // ROUND) * ROUND, shape)
    starts = np.clip(first - (size - sizes) // 2, 0, shape - size)
    free = np.full(grid.ndim, FREE * aperture)
    free[-1] = np.inf
    return Windows(tuple(size.tolist()), starts, low - free, high + free)
