"""The samples that enter and leave a shot."""

from __future__ import annotations

import numpy as np


class Terminals:
    """The samples of all inputs, or of all outputs, of one shot: an array (step, point) for each
    port.

    Args:
        arrays: zeroed, by kernel argument, in the order of the ports.
        lead: steps before step 0.
        steps: number of steps.
        points: number of points.
        slopes: how many copies of the points, with weights of derivatives, follow them.
    """

    def __init__(
        self, arrays: dict[str, np.ndarray], lead: int, steps: int, points: int, slopes: int = 0
    ) -> None:
        self.arrays, self.points, self.slopes = arrays, points, slopes
        self._views = [array[lead : lead + steps] for array in arrays.values()]

    def fill(self, rows: np.ndarray) -> None:
        """Set the samples, (port and point, step)."""
        for view, part in zip(self._views, np.split(rows, len(self._views)), strict=True):
            view[:, : self.points] = part.T

    def columns(self) -> np.ndarray:
        """A copy of the samples: (step, port and point), then as many columns for the slopes along
        each axis."""
        copies = range(1 + self.slopes)
        return np.concatenate(
            [v[:, c * self.points : (c + 1) * self.points] for c in copies for v in self._views],
            axis=1,
        )
