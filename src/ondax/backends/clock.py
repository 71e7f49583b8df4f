"""The clock of a run: its steps, and the samples that are recorded on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

HALF_STEP_BACK = (5 / 16, 15 / 16, -5 / 16, 1 / 16)
"""Weights of the newest four of equally spaced values that give the value half way between the
newest two: the cubic through them, exact to fourth order."""


@dataclass(frozen=True)
class Clock:
    """A number of time steps, and when samples are taken.

    Attributes:
        dt: internal time step, s.
        steps: number of time steps.
        record_every: samples are recorded, and residuals injected, at every `record_every`-th step.
        late: for each output port, whether its values are half a step later than the sample's
            time.
    """

    dt: float
    steps: int
    record_every: int = 1
    late: tuple[bool, ...] = (False,)

    @property
    def samples(self) -> int:
        """Recorded samples: one after each `record_every` steps."""
        return self.steps // self.record_every

    def recorded(self, columns: np.ndarray, points: int) -> np.ndarray:
        """Samples, made of what was read at every step.

        Args:
            columns: (step, column); columns are ordered by copy, port and point.
            points: number of points of each port.

        Returns:
            (sample, column), with the columns in the same order.
        """
        if not any(self.late):
            return columns[self.record_every - 1 :: self.record_every]
        found = np.zeros((self.samples, columns.shape[1]), columns.dtype)
        for part, taps in self._parts(columns.shape[1], points):
            for weight, steps, samples in taps:
                found[samples, part] += columns.dtype.type(weight) * columns[steps, part]
        return found

    def spread(self, rows: np.ndarray, points: int) -> np.ndarray:
        """The transpose of `recorded`: each sample is spread over the steps that it is made of.

        Args:
            rows: (port and point, sample).
            points: number of points of each port.

        Returns:
            (port and point, step); zero at the steps that no sample is made of.
        """
        if self.record_every == 1 and not any(self.late):
            return rows + rows.dtype.type(0)  # as below, where -0 becomes 0
        found = np.zeros((rows.shape[0], self.steps), rows.dtype)
        for part, taps in self._parts(rows.shape[0], points):
            for weight, steps, samples in taps:
                found[part, steps] += rows.dtype.type(weight) * rows[part, samples]
        return found

    def _parts(
        self, columns: int, points: int
    ) -> Iterator[tuple[slice, list[tuple[float, slice, slice]]]]:
        """The columns of each port (and copy), with the weights, steps and samples that are to be
        combined."""
        for first in range(0, columns, points):
            taps = []
            for back, weight in enumerate(
                HALF_STEP_BACK if self.late[first // points % len(self.late)] else (1.0,)
            ):
                # The samples before it would need a step before the first.
                first_sample = max(0, -((self.record_every - 1 - back) // self.record_every))
                start = first_sample * self.record_every + self.record_every - 1 - back
                steps = slice(start, self.steps - back, self.record_every)
                taps.append((weight, steps, slice(first_sample, None)))
            yield slice(first, first + points), taps
