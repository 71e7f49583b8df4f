"""What a boundary does to a scheme: memories in perfectly matched layers, mirror images at a free
surface."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import sympy
from devito.finite_differences import Derivative

from ..scheme.symbols import EVERYWHERE, Expr, Field, Region, Symbols
from ..scheme.system import System, Update, text
from ..scheme.terms import EquationError, is_access, location, point, summands, total, with_operand
from .check import checked
from .images import image_of

KEEP, TAKE = "pml_keep", "pml_take"  # names of a perfectly matched layer's profiles
SHARE_OF_ORDER_4 = 0.92


def stretched(
    system: System, layers: Collection[tuple[str, str]], whole: Collection[str] = ()
) -> System:
    """The scheme with perfectly matched layers: every derivative along an axis gets memories in the
    layers at its ends.

    A first derivative `D e` becomes `D e + psi`, where `psi[n+1] = keep psi[n] + take D e`; a
    second derivative `D2 e` becomes `D2 e + D psi + zeta`, with psi the memory of `D e` at half
    points, and zeta that of `D2 e + D psi`.

    The layers at the two ends of an axis have memories of their own, each confined to a strip.
    Strips are taken to have no point in common, so where few points lie between two layers, the
    axis has to be named in `whole`.

    Args:
        system: the scheme.
        layers: axis name, and "low" or "high", of each layer.
        whole: names of the axes along which one memory, not confined to a strip, serves both
            layers. It is zero between them, because the profile `take` is.
    """
    system = checked(system)
    if not layers:
        return system
    stretch = _Stretch(system.symbols, layers, whole)
    updates: list[Update] = []
    for update in system.updates:
        rhs = stretch(update.rhs)
        updates += stretch.new
        stretch.new = []
        updates.append(replace(update, rhs=rhs))
    return replace(system, updates=tuple(updates))


class _Stretch:
    """Adds memories to derivatives; equal derivatives share theirs."""

    def __init__(
        self, symbols: Symbols, layers: Collection[tuple[str, str]], whole: Collection[str]
    ) -> None:
        self.symbols, self.layers, self.whole = symbols, layers, whole
        self.new: list[Update] = []
        self.made: dict[str, Expr] = {}
        self.count = 0

    def __call__(self, expr: Expr) -> Expr:
        if is_access(expr) or not expr.args or not expr.has(Derivative):
            return expr
        if not isinstance(expr, Derivative):
            return expr.func(*map(self, expr.args))
        key = text(expr)
        if key not in self.made:
            self.made[key] = self._derivative(expr)
        return self.made[key]

    def _derivative(self, expr: Derivative) -> Expr:
        plain = with_operand(expr, self(expr.expr))
        if not any(d.name == axis for d in expr.dims for axis, _ in self.layers):
            return plain
        if len(expr.dims) > 1 or expr.deriv_order[0] > 2:
            raise EquationError(
                f"{expr}: perfectly matched layers take first and second derivatives along one "
                "axis at a time"
            )
        (dimension,) = expr.dims
        if expr.deriv_order[0] == 1:
            return plain + self._memories(plain, dimension)
        if location(expr.expr)[dimension]:
            raise EquationError(
                f"{expr}: a second derivative at half points has no perfectly matched layer"
            )
        slopes = _slopes(expr.fd_order[0])

        def slope(operand: Expr, half: bool) -> Expr:
            x0 = {dimension: point(dimension, half)}
            return total(
                w * Derivative(operand, (dimension, 1), x0=x0, fd_order=n)
                for n, w in slopes.items()
            )

        psi = self._memories(slope(expr.expr, True), dimension)
        plain = plain + total(slope(p, False) for p in summands(psi))
        return plain + self._memories(plain, dimension)

    def _memories(self, derivative: Expr, dimension: Any) -> Expr:
        memories = []
        halves = [d for d, half in location(derivative).items() if half]
        keep, take = (self.symbols.profile(n, dimension, dimension in halves) for n in (KEEP, TAKE))
        for region in self._strips(dimension.name):
            memory: Field = self.symbols.field(
                f"memory{self.count}",
                time_order=1,
                staggered=tuple(halves) or None,
                image=image_of(derivative, self.symbols),
                region=region,
            )
            self.count += 1
            self.new.append(Update(memory, sympy.S.One, derivative, keep, take))
            memories.append(memory.forward)
        return total(memories)

    def _strips(self, axis: str) -> list[Region]:
        """Where the memories of derivatives along an axis are stored, each a region."""
        if axis in self.whole:
            return [EVERYWHERE]
        return [
            frozenset({(axis, side)}) for side in ("low", "high") if (axis, side) in self.layers
        ]


def _slopes(order: int) -> dict[int, float]:
    """The staggered first difference that goes with a second difference of an order: weights of
    differences by their order.

    Two of the same order would exceed the second difference at high wavenumbers, and the layer
    would amplify them: it is stable where they do not (Routh-Hurwitz). Two of an order less by two
    do not, but with order 4 the difference would be seen (an echo of 1 %). With `s = 2 sin(k h /
    2)`, the second difference of order 4 is `s^2 (1 + s^2 / 12)`, and two differences with the
    weight w on order 4 are `s^2 (1 + w s^2 / 24)^2`: not more up to `w = 6 (sqrt(4/3) - 1) =
    0.928`.
    """
    return (
        {2: 1.0 - SHARE_OF_ORDER_4, 4: SHARE_OF_ORDER_4} if order == 4 else {max(2, order - 2): 1.0}
    )
