"""What a boundary does to a scheme: memory variables in perfectly matched layers, and how
expressions continue above a free surface."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import sympy

from .._devito import Derivative
from ..scheme.names import PML_KEEP, PML_TAKE
from ..scheme.symbols import Expr, Field, Symbols
from ..scheme.system import System, Update, text
from ..scheme.terms import EquationError, is_access, location, point, summands, total, with_operand
from .check import checked
from .images import image_of
from .regions import strips

SHARE_OF_ORDER_4 = 0.92


def stretched(
    system: System, layers: Collection[tuple[str, str]], whole: Collection[str] = ()
) -> System:
    """The scheme with perfectly matched layers: every derivative along an axis gets memory
    variables in the layers at the ends of that axis (Komatitsch and Martin, 2007).

    A first derivative `D e` becomes `D e + psi`, where `psi[n+1] = keep psi[n] + take D e`. A
    second derivative `D2 e` becomes `D2 e + D psi + zeta`, where psi is the memory of `D e` at half
    points, and zeta that of `D2 e + D psi`.

    Each of the two layers of an axis has its own memory variables, which are stored in a strip
    only. The strips must not overlap; where few points lie between two layers, name the axis in
    `whole`.

    Args:
        system: the scheme.
        layers: axis name, and "low" or "high", of each layer.
        whole: names of the axes along which one memory on the whole grid serves both layers. It is
            zero between them, because the profile `take` is.

    Raises:
        EquationError: the scheme has a derivative that no layer is known for, such as one along two
            axes at a time.
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
    """A transformation of expressions that adds memory variables to derivatives; equal derivatives
    share theirs.

    Attributes:
        new: updates of the memory variables that have been made since it was last emptied.
        made: derivatives with their memory variables, by the text of the derivative.
        count: number of memory variables.
    """

    def __init__(
        self, symbols: Symbols, layers: Collection[tuple[str, str]], whole: Collection[str]
    ) -> None:
        self.symbols, self.layers, self.whole = symbols, layers, whole
        self.new: list[Update] = []
        self.made: dict[str, Expr] = {}
        self.count = 0

    def __call__(self, expr: Expr) -> Expr:
        """The expression with memory variables.

        Raises:
            EquationError: no perfectly matched layer is known for one of its derivatives.
        """
        if is_access(expr) or not expr.args or not expr.has(Derivative):
            return expr
        if not isinstance(expr, Derivative):
            return expr.func(*map(self, expr.args))
        key = text(expr)
        if key not in self.made:
            self.made[key] = self._derivative(expr)
        return self.made[key]

    def _derivative(self, expr: Derivative) -> Expr:
        """A derivative with its memory variables."""
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
        """The sum of the memory variables of a derivative along a dimension; adds their updates to
        `new`."""
        memories = []
        halves = [d for d, half in location(derivative).items() if half]
        keep, take = (
            self.symbols.profile(n, dimension, dimension in halves) for n in (PML_KEEP, PML_TAKE)
        )
        for region in strips(dimension.name, self.layers, self.whole):
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


def _slopes(order: int) -> dict[int, float]:
    """The staggered first difference to be used, in a layer, with a second difference.

    Applied twice, a first difference must not exceed the second difference at any wavenumber:
    otherwise the layer amplifies waves (by the Routh-Hurwitz criterion). One of the same order
    does, at high wavenumbers. One of an order less by two does not; but for order 4 it would differ
    so much from the second difference that the layer returns an echo of 1 %. So for order 4, first
    differences of orders 2 and 4 are mixed. With `s = 2 sin(k h / 2)`, the second difference of
    order 4 is `s^2 (1 + s^2 / 12)`, and the mixture applied twice is `s^2 (1 + w s^2 / 24)^2`,
    where w is the share of order 4. This is not more up to `w = 6 (sqrt(4/3) - 1) = 0.928`.

    Args:
        order: order of the second difference.

    Returns:
        The shares of first differences in the mixture, by their order.
    """
    return (
        {2: 1.0 - SHARE_OF_ORDER_4, 4: SHARE_OF_ORDER_4} if order == 4 else {max(2, order - 2): 1.0}
    )
