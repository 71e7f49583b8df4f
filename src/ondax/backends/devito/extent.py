"""The arrays of an extended source: its weights, and their gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from scipy.sparse import csr_array

from ...acquisition.extents import from_nodes
from ...histories.buffers import POOL
from ...scheme.plan import Above, Plan, PlannedPort, Variable
from ..domain import Domain
from .layout import interior, pooled, with_halo
from .names import OF_WEIGHTS, WEIGHTS, of_extent

Fed = tuple[Above, str | None]
"""How it continues above the surface, and the axis of a derivative."""


class Extent:
    """Kernel arrays of an extended source, shared by all ports: the same attributes as `Placement`.

    Args:
        plan: the scheme's.
        domain: the domain.
        ports: what the source feeds.
        weights: on the grid, the layer included.
    """

    points = copies = count = 1

    def __init__(
        self, plan: Plan, domain: Domain, ports: Sequence[PlannedPort], weights: np.ndarray
    ) -> None:
        self._plan, self._domain, self._weights = plan, domain, weights
        self.bounds: dict[str, int] = {}
        self._places = [
            (t.field.halves, plan.continued(port, t), t.along)
            for port in ports
            for t in port.touches
        ]
        self.arrays = {
            name: self._with_halo(c, self._moved(weights, c, how))
            for name, (c, how) in self._functions(WEIGHTS).items()
        }

    def _with_halo(self, c: Variable, values: np.ndarray) -> np.ndarray:
        return with_halo(c, values, self._domain, self._plan.ghosts)

    def _functions(self, name: str) -> dict[str, tuple[Variable, Fed]]:
        """A function at each place where a field is fed, by name, and how it is fed."""
        found = {}
        for halves, above, along in self._places:
            axes = [axis for axis, half in zip(self._plan.axes, halves, strict=True) if half]
            known_as = of_extent(name, axes, above, along)
            found[known_as] = self._plan.variable(known_as, halves), (above, along)
        return found

    def by_cell(self) -> dict[str, np.ndarray]:
        """The weights times how much of a cell belongs to each point."""
        parts = {}
        for name, (c, how) in self._functions(WEIGHTS).items():
            values = self._moved(self._weights, c, how) * self._shares(c)
            parts[name] = self._with_halo(c, values)
        return parts

    def _shares(self, c: Variable) -> np.ndarray:
        """How much of a cell belongs to each point of a column."""
        return self._plan.cell_shares(c, self._domain.shape[-1])

    def gradients(self) -> dict[str, np.ndarray]:
        """Zeroed arrays for the gradient of the weights, from the pool."""
        arrays = {}
        for name, (c, _) in self._functions(OF_WEIGHTS).items():
            arrays[name] = pooled("gradient", c, self._domain.shape, self._domain.dtype)
        return arrays

    def collected(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The gradient of the weights, from arrays that are given back to the pool."""
        total = np.zeros(self._domain.shape, self._domain.dtype)
        for name, (c, how) in self._functions(OF_WEIGHTS).items():
            part = arrays[name][interior(c, self._domain.shape)] * self._shares(c)
            total += self._moved_back(part, c, how)
            POOL.give("gradient", arrays[name])
        return total

    def _moved(self, weights: np.ndarray, c: Variable, how: Fed) -> np.ndarray:
        """The weights as they are fed at the points of a function, as point sources in all nodes
        would be.

        On the surface, where half a cell belongs to a weight, the rows below take over what the
        surface does not.
        """
        for axis, matrix in self._matrices(c, how):
            moved = np.moveaxis(weights, axis, -1)
            flat = matrix @ moved.reshape(-1, moved.shape[-1]).T
            weights = np.moveaxis(flat.T.reshape(moved.shape), -1, axis)
        return np.ascontiguousarray(weights)

    def _moved_back(self, gradient: np.ndarray, c: Variable, how: Fed) -> np.ndarray:
        """The transpose of `_moved`."""
        for axis, matrix in self._matrices(c, how):
            moved = np.moveaxis(gradient, axis, -1)
            flat = matrix.T @ moved.reshape(-1, moved.shape[-1]).T
            gradient = np.moveaxis(flat.T.reshape(moved.shape), -1, axis)
        return gradient

    def _matrices(self, c: Variable, how: Fed) -> list[tuple[int, csr_array]]:
        """By axis, from nodes to the points of a function, where these are others, or near a free
        surface, or derived."""
        above, along = how
        domain, order = self._domain, self._plan.space_order
        found = []
        for axis, (half, points) in enumerate(zip(c.halves, domain.shape, strict=True)):
            upright = axis == len(domain.shape) - 1
            below = above if upright else Above.NOTHING
            derive = self._plan.axes[axis] == along
            if half or derive or below is not Above.NOTHING:
                kind, dtype = domain.interpolation, domain.dtype
                matrix = _from_nodes(points, kind, half, below, order, dtype, derive)
                found.append((axis, matrix / domain.spacing[axis] if derive else matrix))
        return found


@cache
def _from_nodes(
    points: int, kind: str, half: bool, above: Above, space_order: int, dtype: str, derive: bool
) -> csr_array:
    """What each node of an axis gives to the points of a field, as a matrix (point, node); see
    `from_nodes`."""
    first, weights = from_nodes(points, kind, half, above, space_order, derive)
    rows = first[:, None] + np.arange(weights.shape[1])
    columns = np.broadcast_to(np.arange(points)[:, None], rows.shape)
    found = csr_array(
        (weights.ravel(), (rows.ravel(), columns.ravel())), shape=(points, points), dtype=dtype
    )
    found.eliminate_zeros()
    return found
