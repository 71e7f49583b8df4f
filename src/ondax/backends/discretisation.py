"""The numbers of one run: grid, steps and layer, as the kernels see them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

HALF_STEP_BACK = (5 / 16, 15 / 16, -5 / 16, 1 / 16)
"""Weights of the newest four of equally spaced values that give the value half way between the
newest two: the cubic through them, exact to fourth order."""


@dataclass(eq=False)
class Discretisation:
    """A padded grid and a number of time steps.

    Attributes:
        shape: points per axis, absorbing layer included.
        spacing: metres per axis.
        origin: coordinates of the padded grid's first node, metres.
        dt: internal time step, s.
        steps: number of time steps.
        record_every: samples are recorded, and residuals injected, at every `record_every`-th step.
        interpolation: "sinc" or "linear".
        dtype: "float32" or "float64".
        profiles: one-dimensional functions of the boundary, by name.
        strips: points in the strip along one edge, by axis name and "low" or "high", where fields
            may be confined to it.
        late: for each output port, whether what it reads holds half a step after the time of a
            sample.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    dt: float
    steps: int
    record_every: int
    interpolation: str
    dtype: str
    profiles: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    strips: dict[tuple[str, str], int] = field(default_factory=dict)
    late: tuple[bool, ...] = (False,)

    @cached_property
    def identity(self) -> Hashable:
        """Equal for grids on which the same experiment gives the same wavefields."""
        profiles = tuple((name, values.tobytes()) for name, values in sorted(self.profiles.items()))
        numbers = (self.shape, self.spacing, self.origin, self.dt, self.steps)
        return (*numbers, self.interpolation, self.dtype, profiles)

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
