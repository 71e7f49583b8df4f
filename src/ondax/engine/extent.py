"""The arrays of an extended source: its weights, and their gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..calculus.terms import location
from ..equations.system import Port, Spatial, Symbols
from .discretisation import Discretisation
from .extended import OF_WEIGHTS, WEIGHTS, halves, named
from .shot import POOL, allocated, interior, with_halo


class Extent:
    """Kernel arrays of an extended source, shared by all ports: the same attributes as `Geometry`.

    Args:
        symbols: the scheme's.
        grid: the discretisation.
        ports: what the source feeds.
        weights: on the grid, the layer included.
    """

    points = copies = count = 1

    def __init__(self, symbols: Symbols, grid: Discretisation, ports: Sequence[Port], weights: np.ndarray) -> None:
        self._symbols, self._grid, self._weights = symbols, grid, weights
        self.bounds: dict[str, int] = {}
        self._places = [location(field) for port in ports for field, _ in port.terms]
        self.arrays = {name: with_halo(c, weights, symbols, grid) for name, c in self._functions(WEIGHTS).items()}

    def _functions(self, name: str) -> dict[str, Spatial]:
        """A function at each place where a field is fed, by name."""
        made = (self._symbols.coefficient(named(name, where), staggered=halves(where)) for where in self._places)
        return {c.name: c for c in made}

    def by_cell(self) -> dict[str, np.ndarray]:
        """The weights times how much of a cell belongs to each point."""
        return {
            name: with_halo(c, self._weights * cells(c, self._symbols, self._grid), self._symbols, self._grid)
            for name, c in self._functions(WEIGHTS).items()
        }

    def gradients(self) -> dict[str, np.ndarray]:
        """Zeroed arrays for the gradient of the weights, from the pool."""
        arrays = {}
        for name, c in self._functions(OF_WEIGHTS).items():
            arrays[name] = POOL.take("gradient", allocated(c, self._grid.shape, self._grid.dtype), self._grid.dtype)
            arrays[name].fill(0)
        return arrays

    def collected(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The gradient of the weights, from arrays that are given back to the pool."""
        total = np.zeros(self._grid.shape, self._grid.dtype)
        for name, c in self._functions(OF_WEIGHTS).items():
            total += arrays[name][interior(c, self._grid.shape)] * cells(c, self._symbols, self._grid)
            POOL.give("gradient", arrays[name])
        return total


def cells(function: Spatial, symbols: Symbols, grid: Discretisation) -> np.ndarray:
    """How much of a cell belongs to each point of a column: half of one to a node on a free surface."""
    column = np.ones(grid.shape[-1], grid.dtype)
    if grid.surface and not location(function)[symbols.dimensions[-1]]:
        column[0] = 0.5
    return column
