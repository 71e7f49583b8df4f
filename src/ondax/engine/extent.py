"""The arrays of an extended source: its weights, and their gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..calculus.terms import location
from ..equations.system import Port, Spatial, Symbols
from .discretisation import Discretisation
from .extended import OF_WEIGHTS, WEIGHTS, halves, named
from .interpolation import HALF_WIDTH, Above, extrapolation
from .mirror import continued
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
        terms = [(port, field) for port in ports for field, _ in port.terms]
        self._places = [
            (location(field), continued(port, field, symbols) if grid.surface else Above.NOTHING)
            for port, field in terms
        ]
        self.arrays = {
            name: with_halo(c, self._moved(weights, above), symbols, grid)
            for name, (c, above) in self._functions(WEIGHTS).items()
        }

    def _functions(self, name: str) -> dict[str, tuple[Spatial, Above]]:
        """A function at each place where a field is fed, by name, and how what is fed there continues above the surface."""
        made = (
            (self._symbols.coefficient(named(name, where, above), staggered=halves(where)), above)
            for where, above in self._places
        )
        return {c.name: (c, above) for c, above in made}

    def by_cell(self) -> dict[str, np.ndarray]:
        """The weights times how much of a cell belongs to each point."""
        parts = {}
        for name, (c, above) in self._functions(WEIGHTS).items():
            values = self._moved(self._weights, above) * cells(c, self._symbols, self._grid)
            parts[name] = with_halo(c, values, self._symbols, self._grid)
        return parts

    def gradients(self) -> dict[str, np.ndarray]:
        """Zeroed arrays for the gradient of the weights, from the pool."""
        arrays = {}
        for name, (c, _) in self._functions(OF_WEIGHTS).items():
            arrays[name] = POOL.take("gradient", allocated(c, self._grid.shape, self._grid.dtype), self._grid.dtype)
            arrays[name].fill(0)
        return arrays

    def collected(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The gradient of the weights, from arrays that are given back to the pool."""
        total = np.zeros(self._grid.shape, self._grid.dtype)
        for name, (c, above) in self._functions(OF_WEIGHTS).items():
            part = arrays[name][interior(c, self._grid.shape)] * cells(c, self._symbols, self._grid)
            total += self._moved_back(part, above)
            POOL.give("gradient", arrays[name])
        return total

    def _moved(self, weights: np.ndarray, above: Above) -> np.ndarray:
        """The weights as they are fed: those on the surface, half a cell of them, to the rows below if its row is lost."""
        if above is not Above.LOST:
            return weights
        shares = self._shares()
        moved = weights.copy()
        moved[..., 0] = 0.0
        moved[..., 1 : 1 + len(shares)] += weights[..., :1] * shares
        return moved

    def _moved_back(self, gradient: np.ndarray, above: Above) -> np.ndarray:
        """The transpose of `_moved`."""
        if above is not Above.LOST:
            return gradient
        shares = self._shares()
        moved = gradient.copy()
        moved[..., 0] = gradient[..., 1 : 1 + len(shares)] @ shares
        return moved

    def _shares(self) -> np.ndarray:
        """How much of a weight on the surface goes to each row below, as a point source there would."""
        taps = min(2 * HALF_WIDTH[self._grid.interpolation], self._grid.shape[-1])
        rows = tuple(np.arange(1.0, taps))
        values, _ = extrapolation(rows, (0.0,) * len(rows), (0.0,))
        return 0.5 * values[0].astype(self._grid.dtype)


def cells(function: Spatial, symbols: Symbols, grid: Discretisation) -> np.ndarray:
    """How much of a cell belongs to each point of a column: half of one to a node on a free surface."""
    column = np.ones(grid.shape[-1], grid.dtype)
    if grid.surface and not location(function)[symbols.dimensions[-1]]:
        column[0] = 0.5
    return column
