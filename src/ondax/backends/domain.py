"""The domain of a run: the grid and the layers around it, as kernels see them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


@dataclass(eq=False)
class Domain:
    """A padded grid, with the boundary around it in numbers.

    Attributes:
        shape: points per axis, absorbing layer included.
        spacing: metres per axis.
        origin: coordinates of the padded grid's first node, metres.
        interpolation: "sinc" or "linear".
        dtype: "float32" or "float64".
        profiles: one-dimensional functions of the boundary, by name.
        strips: points in the strip along one edge, by axis name and "low" or "high", where fields
            may be confined to it.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    interpolation: str
    dtype: str
    profiles: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    strips: dict[tuple[str, str], int] = field(default_factory=dict)

    @cached_property
    def boundary_key(self) -> Hashable:
        """Equal for domains whose boundaries have the same numbers."""
        profiles = tuple((name, values.tobytes()) for name, values in sorted(self.profiles.items()))
        return self.shape, self.dtype, profiles

    @cached_property
    def key(self) -> Hashable:
        """Equal for domains on which the same experiment gives the same wavefields."""
        return self.boundary_key, self.spacing, self.origin, self.interpolation
