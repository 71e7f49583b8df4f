"""What absorbing layers have in common: how strongly a wave decays in them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import numpy as np

from .base import AbstractBoundary, AbstractLayer, Conditions, Edge, Profile


class AbstractAbsorbingLayer(AbstractLayer):
    """A layer in which waves decay.

    Attributes:
        reflection: amplitude that a wave at normal incidence keeps after crossing the layer twice,
            between 0 and 1.
        power: how sharply the absorption grows with depth.
    """

    reflection: eqx.AbstractVar[float]
    power: eqx.AbstractVar[float]

    @abstractmethod
    def values(self, kind: str, depth: Profile, conditions: Conditions) -> Profile:
        """The values of a profile at points of a depth in the layer, as a fraction of its width,
        greater than 0, at most 1."""

    @property
    @abstractmethod
    def kinds(self) -> tuple[str, ...]:
        """Its profiles, by the names under which they are asked for."""

    def edges(self) -> AbstractBoundary:
        """Nothing."""
        return Edge()

    def shaped(self, kind: str, cells: Profile, conditions: Conditions, values: Profile) -> Profile:
        """See `AbstractLayer.shaped`."""
        if kind not in self.kinds or self.width == 0:
            return values
        # The last half point lies half a cell beyond the grid: a depth of more than 1 would make
        # alpha of a CPML negative there, and a mode at zero frequency grow.
        depth = np.clip((self.width - cells) / self.width, 0.0, 1.0)
        return np.where(depth > 0.0, self.values(kind, depth, conditions), values)

    def changed_at_top(
        self,
        coefficients: Mapping[str, Any],
        at_surface: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        """As they are."""
        return dict(coefficients)

    def _check(self) -> None:
        """Check width, reflection and power.

        Raises:
            ValueError: a value out of its range; names it.
        """
        whole = isinstance(self.width, int | np.integer) and not isinstance(self.width, bool)
        if not whole or self.width < 0:
            raise ValueError(
                f"width={self.width!r}: give the layer's width as a number of cells, 0 or more"
            )
        if not 0.0 < self.reflection < 1.0:
            raise ValueError(
                f"reflection={self.reflection!r} must lie between 0 and 1, for example 1e-3"
            )
        if not 1.0 <= self.power < math.inf:
            raise ValueError(f"power={self.power!r} must be 1 or more: a jump in damping reflects")

    def _decay(self, depth: Profile, conditions: Conditions) -> Profile:
        """The rate per second at which a wave must decay so that `reflection` of it is left when it
        has crossed the layer twice at `max_velocity`."""
        thickness = self.width * conditions.spacing
        peak = (self.power + 1.0) * conditions.max_velocity * math.log(1.0 / self.reflection)
        return peak / (2.0 * thickness) * depth**self.power
