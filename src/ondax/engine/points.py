"""Sources and receivers in a kernel: sparse points, each a separable window of weights on the grid.

Devito's own sparse functions average on staggered fields when reading but not when injecting; ours read and inject
with the same weights, so they are each other's transpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from devito import Dimension, Function, Inc

from ..calculus.terms import location, product
from ..equations.system import Equation, Expr, Spatial, Symbols


class Points:
    """The symbols of one set of points: first grid index and weights along each axis, and their samples in time.

    Args:
        symbols: the scheme's symbols.
        name: prefix of every symbol.
    """

    def __init__(self, symbols: Symbols, name: str) -> None:
        self.symbols = symbols
        self.name = name
        self.point = Dimension(name=f"{name}_p")
        self.taps = {d: Dimension(name=f"{name}_tap_{d.name}") for d in symbols.dimensions}
        time = symbols.grid.time_dim
        self.samples = self._function(f"{name}_samples", (time, self.point))
        self.placed: dict[tuple[Any, bool], tuple[Spatial, Spatial]] = {}

    def _function(self, name: str, dimensions: tuple, dtype: Any = None) -> Spatial:
        return Function(
            name=name,
            dimensions=dimensions,
            shape=(4,) * len(dimensions),
            space_order=0,
            dtype=dtype or self.symbols.dtype.type,
        )

    def _axis(self, dimension: Any, half: bool) -> tuple[Spatial, Spatial]:
        """First grid index and weights of every point along one axis, on nodes or half points."""
        if (dimension, half) not in self.placed:
            suffix = dimension.name + ("h" if half else "")
            self.placed[dimension, half] = (
                self._function(f"{self.name}_first_{suffix}", (self.point,), np.int32),
                self._function(f"{self.name}_weight_{suffix}", (self.point, self.taps[dimension])),
            )
        return self.placed[dimension, half]

    def _window(self, where: Mapping[Any, bool]) -> tuple[dict[Any, Expr], Expr]:
        """Index substitutions that move an expression into a point's window, and the weight there."""
        moves, weights = {}, []
        for d in self.symbols.dimensions:
            first, weight = self._axis(d, where.get(d, False))
            moves[d] = first + self.taps[d]
            weights.append(weight)
        return moves, product(weights)

    def inject(self, target: Expr, amount: Expr, where: Mapping[Any, bool]) -> Equation:
        """Add `amount * sample` to `target`, both pointwise expressions that live at `where`, in every window."""
        moves, weight = self._window(where)
        return Inc(target.subs(moves), weight * self.samples * moved(amount, moves))

    def read(self, source: Expr, factor: float) -> Equation:
        """Add `factor * source`, interpolated at every point, to the samples."""
        moves, weight = self._window(location(source))
        return Inc(self.samples, factor * weight * moved(source, moves))


def moved(expr: Expr, moves: Mapping[Any, Expr]) -> Expr:
    return expr.subs(moves) if hasattr(expr, "subs") else expr
