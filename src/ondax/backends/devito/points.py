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
from .names import of_window


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
        self.taps: dict[str, Any] = {}
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

    def _axis(
        self, dimension: Any, half: bool, above: Above, derived: bool
    ) -> tuple[Spatial, Any, Spatial]:
        """First grid index, taps and weights of every point along one axis, on nodes or half
        points. Where a derivative is `derived` along the axis, windows are wider."""
        names = of_window(self.name, dimension.name, half, derived)
        weight = names.weight + (above.value if dimension is self.symbols.dimensions[-1] else "")
        # One object a name: Devito tells symbols apart by identity.
        if names.first not in self.made:
            self.made[names.first] = self._function(names.first, (self.point,), np.int32)
        if names.tap not in self.taps:
            self.taps[names.tap] = Dimension(name=names.tap)
        tap = self.taps[names.tap]
        if weight not in self.made:
            self.made[weight] = self._function(weight, (self.point, tap))
        return self.made[names.first], tap, self.made[weight]

    def _window(
        self, where: Mapping[Any, bool], above: Above, along: Any
    ) -> tuple[dict[Any, Expr], Expr]:
        """Index substitutions that move an expression into a point's window, and the weight
        there."""
        moves, weights = {}, []
        for d in self.symbols.dimensions:
            first, tap, weight = self._axis(d, where.get(d, False), above, d is along)
            moves[d] = first + tap
            weights.append(weight)
        return moves, product(weights)

    def inject(
        self,
        target: Expr,
        amount: Expr,
        where: Mapping[Any, bool],
        above: Above = Above.NOTHING,
        along: Any = None,
    ) -> Equation:
        """Add `amount * sample` to `target`, both pointwise expressions that live at `where`, in
        every window; with `along`, as a dipole along that axis."""
        moves, weight = self._window(where, above, along)
        return Inc(target.subs(moves), weight * self.samples * moved(amount, moves))

    def read(
        self, source: Expr, factor: float, above: Above = Above.NOTHING, along: Any = None
    ) -> Equation:
        """Add `factor * source`, interpolated at every point, to the samples; with `along`, its
        derivative along that axis."""
        moves, weight = self._window(location(source), above, along)
        return Inc(self.samples, factor * weight * moved(source, moves))


def moved(expr: Expr, moves: Mapping[Any, Expr]) -> Expr:
    return expr.subs(moves) if hasattr(expr, "subs") else expr
