"""Extended sources in a kernel: weights on the whole grid times a wavelet, `weights(x) *
samples(t)`.

Unlike a point, whose samples are per cell, an extended source is a density: no cell volume, and no
gain at a free surface.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._devito import Dimension, Eq, Function, Inc
from ...scheme.plan import Above
from ...scheme.symbols import Equation, Expr, Spatial, Symbols
from ...scheme.terms import at_offset, location, time_offset
from .names import OF_WEIGHTS, SUMS, WEIGHTS, of_extent


class Extended:
    """The symbols of an extended source: the same methods as `Points`.

    Args:
        symbols: the scheme's.
        name: the port's.
        known: functions shared by all ports, by name; grows. Devito tells symbols apart by
            identity.
    """

    def __init__(self, symbols: Symbols, name: str, known: dict[str, Spatial]) -> None:
        self.symbols, self._known = symbols, known
        time, across = symbols.grid.time_dim, symbols.dimensions[0]
        point = Dimension(name=f"{name}_p")
        self._samples = self._series(f"{name}_samples", (time, point))
        self.samples = self._samples[time, 0]
        # Devito averages what is not where the left-hand side is: sums of what lives half a cell
        # along the axis have a symbol that does so too.
        self.sums = {
            half: self._series(f"{name}_{sums}", (time, across), across if half else None)
            for half, sums in SUMS.items()
        }

    def _series(self, name: str, dimensions: tuple[Any, ...], staggered: Any = None) -> Spatial:
        return Function(
            staggered=staggered,
            name=name,
            dimensions=dimensions,
            shape=(4, 4),
            space_order=0,
            dtype=self.symbols.dtype.type,
        )

    def _everywhere(
        self, name: str, where: Mapping[Any, bool], above: Above, along: Any
    ) -> Spatial:
        """A function on the grid, at the points of a field."""
        halves_of = [d.name for d, half in where.items() if half]
        name = of_extent(name, halves_of, above, None if along is None else along.name)
        if name not in self._known:
            self._known[name] = self.symbols.coefficient(name, staggered=halves(where))
        return self._known[name]

    def inject(
        self,
        target: Expr,
        amount: Expr,
        where: Mapping[Any, bool],
        above: Above = Above.NOTHING,
        along: Any = None,
    ) -> Equation:
        """Add `amount * weights * sample` to `target`, both at `where`; the weights of a derivative
        are minus their own derivative."""
        weights = self._everywhere(WEIGHTS, where, above, along)
        return Eq(target, target + amount * weights * self.samples)

    def read(
        self, source: Expr, factor: float, above: Above = Above.NOTHING, along: Any = None
    ) -> Equation:
        """Add `factor * weights * source` over the grid to the sums: of each row along the first
        axis apart, for accuracy."""
        where = location(source)
        weights = self._everywhere(WEIGHTS, where, above, along)
        half = where[self.symbols.dimensions[0]]
        return Inc(self.sums[half], factor * weights * source)

    def correlate(
        self, source: Expr, factor: float, above: Above, along: Any = None, later: bool = False
    ) -> Equation:
        """Add `factor * sample * source` to the gradient of the weights, everywhere; `later` for
        the step done before."""
        where = location(source)
        gradient = self._everywhere(OF_WEIGHTS, where, above, along)
        sample = self.samples
        if later:
            time = self.symbols.grid.time_dim
            sample, source = (
                self._samples[time + 1, 0],
                at_offset(source.function, time_offset(source) - 1),
            )
        return Eq(gradient, gradient + factor * sample * source)


def halves(where: Mapping[Any, bool]) -> tuple[Any, ...] | None:
    return tuple(d for d, half in where.items() if half) or None
