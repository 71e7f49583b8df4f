"""The model's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

ON_GRID = 1e-5  # cells

PerAxis = float | Sequence[float] | NDArray[np.number]


def _per_axis(value: PerAxis, ndim: int, name: str) -> tuple[float, ...]:
    listed: Any = np.ravel(value)
    values = tuple(map(float, listed)) if np.ndim(value) else (float(listed[0]),) * ndim
    if len(values) != ndim:
        raise ValueError(f"{name}={value!r} has {len(values)} entries for a grid of {ndim} axes")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name}={value!r} must be finite")
    return values


class Grid(eqx.Module):
    """A regular grid, axes (x[, y], z) with depth last.

    Args:
        shape: points per axis.
        spacing: metres between points, one number or one per axis.
        origin: coordinates of the first point in metres, one number or one per axis.

    Raises:
        ValueError: a shape, spacing or origin that makes no grid.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    spacing: tuple[float, ...] = eqx.field(static=True)
    origin: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        shape: int | Sequence[int] | NDArray[np.integer],
        spacing: PerAxis,
        origin: PerAxis = 0.0,
    ) -> None:
        given: tuple[Any, ...] = tuple(np.ravel(shape))
        if not 1 <= len(given) <= 3 or any(int(n) != n or n < 1 for n in given):
            raise ValueError(
                f"shape={shape!r}: give 1 to 3 whole numbers of points, each at least 1"
            )
        self.shape = tuple(int(n) for n in given)
        self.spacing = _per_axis(spacing, len(self.shape), "spacing")
        self.origin = _per_axis(origin, len(self.shape), "origin")
        if min(self.spacing) <= 0.0:
            raise ValueError(f"spacing={spacing!r} must be positive, in metres")

    def replace(self, **changes: Any) -> Grid:
        """The same grid but for the arguments given, which are those of `Grid`."""
        return Grid(
            **({"shape": self.shape, "spacing": self.spacing, "origin": self.origin} | changes)
        )

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def holds(self, points: Float[np.ndarray, "point axis"]) -> Bool[np.ndarray, " point"]:
        """Which points, metres, lie in the grid, or so near that float32 may have rounded them."""
        low, high = np.array(self.extent).T
        margin = ON_GRID * np.array(self.spacing)
        return np.all((points >= low - margin) & (points <= high + margin), axis=-1)

    @property
    def extent(self) -> tuple[tuple[float, float], ...]:
        """First and last coordinate along each axis, metres."""
        return tuple(
            (o, o + (n - 1) * h)
            for o, n, h in zip(self.origin, self.shape, self.spacing, strict=True)
        )
