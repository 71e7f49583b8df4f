"""What surrounds the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from .base import AbstractBoundary
from .system import Expr, Symbols


class Sponge(AbstractBoundary):
    """An absorbing sponge: every time derivative becomes `d/dt + gamma`, with gamma growing into the layer.

    `gamma = gamma_max (depth / thickness)^power` along each axis, and the sum over axes, after Cerjan et al. (1985) and
    Sochacki et al. (1987). `gamma_max` is chosen so that a plane wave at normal incidence, travelling at `max_velocity`
    to the outer edge and back, is damped to `reflection` of its amplitude.

    Attributes:
        width: cells added on every side; 0 gives reflecting edges.
        reflection: amplitude left after crossing the layer twice, between 0 and 1.
        power: how sharply the damping grows.

    Raises:
        ValueError: a value out of its range.
    """

    width: int = eqx.field(static=True, default=40)
    reflection: float = eqx.field(static=True, default=1e-3)
    power: float = eqx.field(static=True, default=2.0)

    def __check_init__(self) -> None:
        if not isinstance(self.width, int) or self.width < 0:
            raise ValueError(f"width={self.width!r}: give the layer's width as a number of cells, 0 or more")
        if not 0.0 < self.reflection < 1.0:
            raise ValueError(f"reflection={self.reflection!r} must lie between 0 and 1, for example 1e-3")
        if self.power < 1.0:
            raise ValueError(f"power={self.power!r} must be 1 or more: a jump in damping reflects")

    def damping(self, symbols: Symbols, field: Any) -> Expr:
        """The symbol of gamma, 1/s, at the points where `field` lives."""
        parts = []
        for dimension in symbols.dimensions:
            index = field.indices[field.dimensions.index(dimension)]
            parts.append(symbols.profile("gamma", dimension, staggered=index != dimension))
        return sum(parts[1:], start=parts[0])

    def profile(
        self, points: int, spacing: float, max_velocity: float, staggered: bool
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        """gamma along one axis of the padded grid, 1/s.

        Args:
            points: padded number of points along the axis.
            spacing: metres.
            max_velocity: m/s.
            staggered: at half points rather than at nodes.
        """
        if self.width == 0:
            return np.zeros(points)
        index = np.arange(points) + (0.5 if staggered else 0.0)
        depth = np.maximum(np.maximum(self.width - index, index - (points - 1 - self.width)), 0.0)
        thickness = self.width * spacing
        peak = (self.power + 1.0) * max_velocity * math.log(1.0 / self.reflection) / thickness
        return peak * (depth / self.width) ** self.power

    def profiles(
        self, symbols: Symbols, shape: Sequence[int], spacing: Sequence[float], max_velocity: float
    ) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        """Values of every profile symbol that `damping` has handed out, by name."""
        made = {}
        for symbol in symbols.profiles:
            axis = symbols.dimensions.index(symbol.dimensions[0])
            staggered = symbol.indices[0] != symbol.dimensions[0]
            made[symbol.name] = self.profile(shape[axis], spacing[axis], max_velocity, staggered)
        return made
