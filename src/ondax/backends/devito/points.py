"""Sources and receivers in a kernel: sparse points, each a separable window of weights on the grid.

Devito's own sparse functions average on staggered fields when reading but not when injecting; ours
read and inject with the same weights, so they are each other's transpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._devito import Dimension, Function, Inc
from ...scheme.plan import Above
from ...scheme.symbols import Equation, Expr, Spatial, Symbols
from ...scheme.terms import location, product


class Points:
    """The symbols of one set of points: first grid index and weights along each axis, and their
    samples in time.

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
        self.made: dict[str, Spatial] = {}

    def _function(self, name: str, dimensions: tuple, dtype: Any = None) -> Spatial:
        return Function(
            name=name,
            dimensions=dimensions,
            shape=(4,) * len(dimensions),
            space_order=0,
            dtype=dtype or self.symbols.dtype.type,
        )

    def _axis(self, dimension: Any, half: bool, above: Above) -> tuple[Spatial, Spatial]:
        """First grid index and weights of every point along one axis, on nodes or half points."""
        suffix = dimension.name + ("h" if half else "")
        first, weight = f"{self.name}_first_{suffix}", f"{self.name}_weight_{suffix}"
        if dimension is self.symbols.dimensions[-1]:
            weight += above.value
        if first not in self.made:  # one object a name: Devito tells symbols apart by identity
            self.made[first] = self._function(first, (self.point,), np.int32)
        if weight not in self.made:
            self.made[weight] = self._function(weight, (self.point, self.taps[dimension]))
        return self.made[first], self.made[weight]

    def _window(self, where: Mapping[Any, bool], above: Above) -> tuple[dict[Any, Expr], Expr]:
        """Index substitutions that move an expression into a point's window, and the weight
        there."""
        moves, weights = {}, []
        for d in self.symbols.dimensions:
            first, weight = self._axis(d, where.get(d, False), above)
            moves[d] = first + self.taps[d]
            weights.append(weight)
        return moves, product(weights)

    def inject(
        self, target: Expr, amount: Expr, where: Mapping[Any, bool], above: Above = Above.NOTHING
    ) -> Equation:
        """Add `amount * sample` to `target`, both pointwise expressions that live at `where`, in
        every window."""
        moves, weight = self._window(where, above)
        return Inc(target.subs(moves), weight * self.samples * moved(amount, moves))

    def read(self, source: Expr, factor: float, above: Above = Above.NOTHING) -> Equation:
        """Add `factor * source`, interpolated at every point, to the samples."""
        moves, weight = self._window(location(source), above)
        return Inc(self.samples, factor * weight * moved(source, moves))


def moved(expr: Expr, moves: Mapping[Any, Expr]) -> Expr:
    return expr.subs(moves) if hasattr(expr, "subs") else expr
