"""The samples that enter and leave a shot."""

from __future__ import annotations

import numpy as np


class Terminals:
    """The samples of all inputs, or of all outputs, of one shot: (step, column) for each group of
    columns; usually one group for each port.

    Args:
        arrays: zeroed, one for each group, by kernel argument, in the order of the ports. Rows may
            be longer than a group has columns.
        lead: rows before that of step 0.
        steps: number of steps.
        points: number of points, which have the first columns of each group.
        slopes: how many copies of all points follow them in each group. The samples of these copies
            are for derivatives by position.
    """

    def __init__(
        self, arrays: dict[str, np.ndarray], lead: int, steps: int, points: int, slopes: int = 0
    ) -> None:
        self.arrays, self.points, self.slopes = arrays, points, slopes
        self._views = [array[lead : lead + steps] for array in arrays.values()]

    def fill(self, rows: np.ndarray) -> None:
        """Set the samples of the points, (group and point, step); or those of all copies of them,
        (copy, group and point, step) with the first two axes in one."""
        count, groups = self.points, len(self._views)
        for n in range(len(rows) // count if count else 0):
            copy, group = divmod(n, groups)
            columns = slice(copy * count, (copy + 1) * count)
            self._views[group][:, columns] = rows[n * count : (n + 1) * count].T

    def columns(self) -> np.ndarray:
        """A copy of the samples, (step, column), without the rows before step 0. The columns are
        ordered by copy, group and point: all points first, then as many columns for the slopes
        along each axis."""
        if len(self._views) == 1 and not self.slopes:
            return self._views[0][:, : self.points].copy()
        copies = range(1 + self.slopes)
        return np.concatenate(
            [v[:, c * self.points : (c + 1) * self.points] for c in copies for v in self._views],
            axis=1,
        )
