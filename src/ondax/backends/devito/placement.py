"""The arrays of points that feed or read fields: which grid points each of them touches, and with
what weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...acquisition.interpolation import (
    lies_on_grid,
    place,
    window_below,
    window_slopes,
    window_weights,
)
from ...histories.buffers import zeros
from ...scheme.plan import Above, Plan
from ...scheme.system import Port
from ..domain import Domain


class Placement:
    """Kernel arrays of one set of points, derived from their positions.

    Args:
        plan: the scheme's.
        domain: the domain.
        port: the fields that the points read or feed.
        positions: metres, (point, axis), in double precision.
        slopes: also make copies of the points, one for each axis, whose weights are derivatives
            (per metre).
    """

    def __init__(
        self,
        plan: Plan,
        domain: Domain,
        port: Port,
        positions: np.ndarray,
        slopes: bool = False,
    ) -> None:
        self.points, self.copies = positions.shape[0], 1 + plan.ndim if slopes else 1
        copies = self.copies
        self.count = self.points * copies
        self.arrays: dict[str, np.ndarray] = {}
        self.bounds = {f"{port.name}_p_m": 0, f"{port.name}_p_M": self.count - 1}
        origin, spacing = np.array(domain.origin), np.array(domain.spacing)
        cells = (positions - origin) / spacing
        largest = np.abs(origin) + np.max(np.abs(cells), axis=0, initial=1.0) * spacing
        rounding = np.finfo(np.float64).eps * largest / spacing
        for axis, name in enumerate(plan.axes):
            halves = sorted({field.is_half(name) for field, _ in port.terms})
            reflects = plan.ghosts and axis == plan.ndim - 1
            ways: dict[bool, set[Above]] = {half: set() for half in halves}
            for field, _ in port.terms:
                above = plan.continued(port, field) if reflects else Above.NOTHING
                ways[field.is_half(name)].add(above)
            # All windows of a port share one loop over taps, so a single tap must suit every field
            # it touches.
            on_grid = (
                not slopes
                and len(halves) == 1
                and lies_on_grid(cells[:, axis] - 0.5 * halves[0], rounding[axis])
            )
            on_grid = on_grid and not reflects
            for half in halves:
                first, offset = place(
                    cells[:, axis], domain.shape[axis], domain.interpolation, on_grid, half
                )
                suffix = name + ("h" if half else "")
                self._set(f"{port.name}_first_{suffix}", np.tile(first, copies), np.int32)
                for way in ways[half]:
                    window = (
                        way,
                        cells[:, axis],
                        first,
                        offset,
                        half,
                        domain.interpolation,
                        plan.space_order,
                    )
                    parts = [_windows(window_weights, *window)] * copies
                    if slopes:
                        parts[1 + axis] = _windows(window_slopes, *window) / domain.spacing[axis]
                    self._set(
                        f"{port.name}_weight_{suffix}{way.value}",
                        np.concatenate(parts),
                        domain.dtype,
                    )
                tap = f"{port.name}_tap_{name}"
                self.bounds |= {f"{tap}_m": 0, f"{tap}_M": offset.shape[1] - 1}

    def _set(self, name: str, values: np.ndarray, dtype: Any) -> None:
        self.arrays[name] = zeros(values.shape, dtype)
        self.arrays[name][...] = values


def _windows(
    weigh: Callable[[np.ndarray, str], np.ndarray],
    above: Above,
    cells: np.ndarray,
    first: np.ndarray,
    offset: np.ndarray,
    half: bool,
    kind: str,
    space_order: int,
) -> np.ndarray:
    """Weights of windows, or their slopes, (point, tap); `weigh` makes the ones or the others."""
    if above is Above.NOTHING:
        return weigh(offset, kind)
    return window_below(weigh, kind, above, cells, first, offset.shape[1], half, space_order)
