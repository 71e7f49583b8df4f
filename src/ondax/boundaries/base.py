"""What surrounds a model: what every boundary says of itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import numpy as np
import sympy

from ..scheme.symbols import SURFACE_GAIN, Expr, Symbols

Profile = np.ndarray[Any, np.dtype[np.float64]]


class Conditions(NamedTuple):
    """What a boundary's strength depends on: along one axis, in SI units.

    Attributes:
        spacing: metres.
        max_velocity: m/s.
        frequency: dominant, Hz.
        dt: internal time step, s.
    """

    spacing: float
    max_velocity: float
    frequency: float
    dt: float


class AbstractBoundary(eqx.Module):
    """What surrounds the model. Equations ask it for damping; the rest is done to their schemes
    (see `stretched`)."""

    @abstractmethod
    def face(self, axis: str, side: str) -> AbstractLayer:
        """The layer at one end ("low" or "high") of an axis ("x", "y" or "z")."""

    def widths(self, axes: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Cells added below and above along each axis."""
        return tuple((self.face(a, "low").width, self.face(a, "high").width) for a in axes)

    @property
    def free_surface(self) -> bool:
        """Is there a free surface at the top?"""
        return self.face("z", "low").mirrors

    def damping(self, symbols: Symbols, field: Any) -> Expr:
        """The symbol of the damping rate of sponges, 1/s, at the points where `field` lives."""
        total = sympy.S.Zero
        for dimension in symbols.dimensions:
            if any(self.face(dimension.name, side).damps for side in ("low", "high")):
                index = field.indices[field.dimensions.index(dimension)]
                total += symbols.profile("gamma", dimension, staggered=index != dimension)
        return total

    def profiles(
        self,
        symbols: Symbols,
        shape: Sequence[int],
        spacing: Sequence[float],
        conditions: Conditions,
    ) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        """Values of every profile symbol of a scheme, by name; `conditions.spacing` is left to be
        filled in."""
        made = {}
        for symbol in symbols.profiles:
            (dimension,) = symbol.dimensions
            axis = symbols.dimensions.index(dimension)
            here, points = conditions._replace(spacing=spacing[axis]), shape[axis]
            kind = symbol.name.rsplit("_", 1)[0]
            index = np.arange(points) + (0.5 if symbol.indices[0] != dimension else 0.0)
            values = np.zeros(points)
            if kind == SURFACE_GAIN:  # the cell of a node on the surface is only half a cell
                values = np.where(index == 0.0, 2.0, 1.0)
            for side, cells in (("low", index), ("high", points - 1 - index)):
                layer = self.face(dimension.name, side)
                if kind in layer.profile_kinds and layer.width > 0:
                    # The last half point lies half a cell beyond the grid: a depth of more than 1
                    # would make alpha of a CPML negative there, and a mode at zero frequency grow.
                    depth = np.clip((layer.width - cells) / layer.width, 0.0, 1.0)
                    values = np.where(depth > 0.0, layer.values(kind, depth, here), values)
            made[symbol.name] = values
        return made


class AbstractLayer(AbstractBoundary):
    """One kind of boundary, on any face."""

    width: eqx.AbstractVar[int]
    profile_kinds: ClassVar[tuple[str, ...]] = ()
    mirrors: ClassVar[bool] = False

    def face(self, axis: str, side: str) -> AbstractLayer:
        return self

    @property
    def damps(self) -> bool:
        """Does it damp fields in time?"""
        return "gamma" in self.profile_kinds

    @property
    def stretches(self) -> bool:
        """Does it give derivatives a memory?"""
        return "pml_take" in self.profile_kinds

    @abstractmethod
    def values(self, kind: str, depth: np.ndarray, conditions: Conditions) -> np.ndarray:
        """The values of a profile at points of a depth in the layer, as a fraction of its width,
        greater than 0, at most 1."""
