"""The numbers of one run: grid, steps and layer, as the kernels see them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


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
