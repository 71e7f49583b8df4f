"""The arrays of points that feed or read fields: which grid points each of them touches, and with
what weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...acquisition.interpolation import (
    derived,
    in_cells,
    lies_on_grid,
    place,
    window_below,
    window_slopes,
    window_weights,
)
from ...histories.buffers import zeros
from ...scheme.plan import Above, Plan, PlannedPort
from ...scheme.system import Touch
from ..domain import Domain
from .names import of_window


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
        port: PlannedPort,
        positions: np.ndarray,
        slopes: bool = False,
    ) -> None:
        self.points, self.copies = positions.shape[0], 1 + plan.ndim if slopes else 1
        copies = self.copies
        self.count = self.points * copies
        self.arrays: dict[str, np.ndarray] = {}
        self.bounds = {f"{port.name}_p_m": 0, f"{port.name}_p_M": self.count - 1}
        where = np.array(domain.origin), np.array(domain.spacing)
        cells, rounding = in_cells(positions, *where)
        self._plan, self._domain, self._port, self._slopes = plan, domain, port, slopes
        for axis, name in enumerate(plan.axes):
            for derive in (False, True):
                touches = [t for t in port.touches if (t.along == name) == derive]
                if touches:
                    self._place(axis, cells[:, axis], rounding[axis], touches, derive)

    def _place(
        self, axis: int, cells: np.ndarray, rounding: float, touches: list[Touch], derive: bool
    ) -> None:
        """Set the windows along one axis.

        Args:
            axis: its number.
            cells: positions from the domain's first node, (point,).
            rounding: of these.
            touches: of the port, with a derivative along the axis or without.
            derive: with.
        """
        plan, domain, port = self._plan, self._domain, self._port
        name, points = plan.axes[axis], domain.shape[axis]
        reflects = plan.ghosts and axis == plan.ndim - 1
        ways: dict[bool, set[Above]] = {}
        for t in touches:
            above = plan.continued(port, t) if reflects else Above.NOTHING
            ways.setdefault(t.field.is_half(name), set()).add(above)
        # These windows share one loop over taps, so a single tap must suit every field touched.
        lies = {half: half != derive for half in ways}  # a derivative is half a cell off the field
        on_grid = (
            not self._slopes
            and not reflects
            and len(ways) == 1
            and all(lies_on_grid(cells - 0.5 * at_half, rounding) for at_half in lies.values())
        )
        for half in sorted(ways):
            names = of_window(port.name, name, half, derive)
            first, offset = place(cells, points, domain.interpolation, on_grid, lies[half])
            for way in ways[half]:
                start = first
                parts = []
                for weigh in (window_weights, window_slopes)[: 1 + self._slopes]:
                    part = _windows(
                        weigh,
                        way,
                        cells,
                        first,
                        offset,
                        lies[half],
                        domain.interpolation,
                        plan.space_order,
                    )
                    if derive:
                        start, part = derived(part, first, points, half, way, plan.space_order)
                        part /= domain.spacing[axis]
                    parts.append(part)
                rows = [parts[0]] * self.copies
                if self._slopes:
                    rows[1 + axis] = parts[1] / domain.spacing[axis]
                self._set(names.first, np.tile(start, self.copies), np.int32)
                self._set(names.weight + way.value, np.concatenate(rows), domain.dtype)
                self.bounds |= {f"{names.tap}_m": 0, f"{names.tap}_M": parts[0].shape[1] - 1}

    def _set(self, name: str, values: np.ndarray, dtype: Any) -> None:
        self.arrays[name] = zeros(values.shape, dtype)
        self.arrays[name][...] = values


def _windows(
    weigh: Callable[..., np.ndarray],
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
