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
        late: for each output port, whether what it reads holds half a step after the time of a
            sample.
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
        """Samples from what was read at every step: (step, copy, port and point) to (sample, copy,
        port and point)."""
        if not any(self.late):
            return columns[self.record_every - 1 :: self.record_every]
        samples = np.zeros((self.samples, columns.shape[1]), columns.dtype)
        for part, taps in self._parts(columns.shape[1], points):
            for weight, steps, known in taps:
                samples[known, part] += columns.dtype.type(weight) * columns[steps, part]
        return samples

    def unrecorded(self, rows: np.ndarray, points: int) -> np.ndarray:
        """The transpose of `recorded`: traces (port and point, sample) spread over the steps they
        were made of."""
        spread = np.zeros((rows.shape[0], self.steps), rows.dtype)
        for part, taps in self._parts(rows.shape[0], points):
            for weight, steps, known in taps:
                spread[part, steps] += rows.dtype.type(weight) * rows[part, known]
        return spread

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
                missing = max(
                    0, -((self.record_every - 1 - back) // self.record_every)
                )  # before the first step
                start = missing * self.record_every + self.record_every - 1 - back
                steps = slice(start, self.steps - back, self.record_every)
                taps.append((weight, steps, slice(missing, None)))
            yield slice(first, first + points), taps
