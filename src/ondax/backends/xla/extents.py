"""Extended sources: weights on the whole grid times a wavelet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ...acquisition.extents import Along, from_nodes
from ...scheme.plan import Above, Plan, PlannedPort
from ...scheme.system import Touch
from ..domain import Domain
from .boxes import Box, Stored
from .parts import Parts

Place = tuple[tuple[bool, ...], Above, str | None]
"""Where a field lives, how it continues above the surface, and the axis of a derivative."""


class Extent:
    """An extended source as a port feeds it: the same methods as `Points`.

    Args:
        plan: the scheme's.
        domain: of a shot.
        port: which fields it touches.
        weights: (shot, *grid), of a device's part of the grid.
        parts: which part of the domain each device has; what the source reads is to be summed over
            devices.
    """

    count, sparse = 1, False

    def __init__(
        self, plan: Plan, domain: Domain, port: PlannedPort, weights: Any, parts: Parts
    ) -> None:
        self.port = port
        self._plan, self._domain, self._parts = plan, domain, parts
        weights = parts.whole(weights, 1)
        self._moved = {
            place: parts.here(_through(weights, _lines(plan, domain, place), back=False), 1)
            for place in dict.fromkeys(self._place(t) for t in port.touches)
        }

    def _place(self, touch: Touch) -> Place:
        return touch.field.halves, self._plan.continued(self.port, touch), touch.along

    def _shares(self, place: Place) -> Any:
        """How much of a cell belongs to each point of a column."""
        column = np.ones(self._domain.shape[-1], self._domain.dtype)
        if self._plan.ghosts and not place[0][-1]:
            column[0] = 0.5
        return self._parts.here(column.reshape(*(1,) * self._plan.ndim, -1), 1)

    def read(self, fields: Any) -> Any:
        """The sum over the grid of the fields, each times its weights, (shot, 1)."""
        total: Any = 0.0
        for t in self.port.touches:
            place = self._place(t)
            weights = t.factor * self._moved[place] * self._shares(place)
            product = weights * fields(t.field.name).array
            total = total + jnp.sum(product, axis=tuple(range(1, product.ndim)))
        return total[:, None]

    def fed(self, field: str) -> Iterable[_Fed]:
        """What the source does to one field."""
        return [
            _Fed(self._moved[self._place(t)], t.factor)
            for t in self.port.touches
            if t.field.name == field
        ]

    def correlated(self, fields: Any, sample: Any) -> list[Any]:
        """What a step adds to the gradient of the weights, of each place; sample: (shot, 1)."""
        found = dict.fromkeys(self._moved, 0.0)
        for t in self.port.touches:
            values = fields(t.field.name).array
            term = (t.factor * sample).reshape(-1, *(1,) * (values.ndim - 1)) * values
            found[self._place(t)] = found[self._place(t)] + term
        return list(found.values())

    def nothing(self) -> list[Any]:
        """Zeros for the gradient of the weights, of each place."""
        return [jnp.zeros_like(w) for w in self._moved.values()]

    def collected(self, sums: Sequence[Any]) -> Any:
        """The gradient of the weights, (shot, *grid)."""
        total: Any = 0.0
        for place, part in zip(self._moved, sums, strict=True):
            lines = _lines(self._plan, self._domain, place)
            given = self._parts.whole(part * self._shares(place), 1)
            total = total + _through(given, lines, back=True)
        return self._parts.here(total, 1)


class _Fed:
    """How an extended source feeds one field."""

    dense = True

    def __init__(self, weights: Any, factor: float) -> None:
        self._weights, self.factor = weights, factor

    def everywhere(self, samples: Any) -> Any:
        """Samples (shot, 1) times weights, (shot, *grid)."""
        return samples.reshape(-1, *(1,) * (self._weights.ndim - 1)) * self._weights

    def added(self, stored: Stored, grid: Box, samples: Any, gain: Any) -> Stored:
        """Never called: it is fed everywhere at once."""
        raise AssertionError


def _lines(plan: Plan, domain: Domain, place: Place) -> list[tuple[int, Along]]:
    """By axis, how the weights at nodes are fed at the points of a field, where these are
    others, or near a free surface, or derived."""
    halves, above, along = place
    found = []
    for axis, (half, points) in enumerate(zip(halves, domain.shape, strict=True)):
        below = above if axis == len(domain.shape) - 1 else Above.NOTHING
        derive = plan.axes[axis] == along
        if half or derive or below is not Above.NOTHING:
            kind = domain.interpolation
            made = from_nodes(points, kind, half, below, plan.space_order, derive)
            if derive:
                made = made._replace(weights=made.weights / domain.spacing[axis])
            found.append((axis, made))
    return found


def _through(values: Any, lines: Sequence[tuple[int, Along]], back: bool) -> Any:
    """Values (shot, *grid) spread along axes; `back` for the transpose."""
    for axis, line in lines:
        moved = jnp.moveaxis(values, 1 + axis, -1)
        total: Any = jnp.zeros_like(moved)
        for tap in range(line.weights.shape[1]):
            rows, weights = line.first + tap, line.weights[:, tap].astype(moved.dtype)
            if back:
                total = total + moved[..., rows] * weights
            else:
                total = total.at[..., rows].add(moved * weights)
        values = jnp.moveaxis(total, -1, 1 + axis)
    return values
