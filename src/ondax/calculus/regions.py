"""Which part of an expression lives where on the grid."""

from __future__ import annotations

import sympy
from devito.finite_differences import Derivative

from ..scheme.symbols import EVERYWHERE, Expr, Region, Symbols
from ..scheme.system import System
from ..scheme.terms import is_access, total, with_operand


def exists(region: Region) -> bool:
    """Opposite strips have no point in common."""
    return len({axis for axis, _ in region}) == len(region)


def by_region(expr: Expr, symbols: Symbols) -> dict[Region, Expr]:
    """An expression as a sum of parts, each zero outside its region: that of the confined field in
    it.

    The reach of derivatives is not added: regions are wide enough for it.
    """
    parts: dict[Region, list[Expr]] = {}

    def add(region: Region, part: Expr) -> None:
        if part != 0 and exists(region):
            parts.setdefault(region, []).append(part)

    if is_access(expr):
        add(symbols.traits_of(expr.function).region, expr)
    elif isinstance(expr, Derivative):
        for region, part in by_region(expr.expr, symbols).items():
            add(region, with_operand(expr, part))
    elif expr.is_Add:
        for arg in expr.args:
            for region, part in by_region(arg, symbols).items():
                add(region, part)
    elif expr.is_Mul:
        found: dict[Region, list[Expr]] = {EVERYWHERE: [sympy.S.One]}
        for arg in expr.args:
            inner = by_region(arg, symbols)
            products: dict[Region, list[Expr]] = {}
            for region, terms in found.items():
                for where, part in inner.items():
                    products.setdefault(region | where, []).extend(part * term for term in terms)
            found = products
        for region, terms in found.items():
            add(region, total(terms))
    else:
        add(EVERYWHERE, expr)
    # In an order that does not depend on the process, and strips along the last axis first: their
    # loops can be part of a loop over whole rows.
    return {region: total(parts[region]) for region in sorted(parts, key=_rank)}


def reach(system: System) -> int:
    """How many points beyond a layer something can be felt, within a step, of what is zero outside
    of it.

    Half a point more on one side, where fields live at half points, is half a point less that a
    derivative reaches there.
    """
    return max(_nesting(update.rhs) for update in system.updates) * system.symbols.space_order // 2


def _nesting(expr: Expr) -> int:
    if is_access(expr) or not expr.args:
        return 0
    return max(map(_nesting, expr.args)) + isinstance(expr, Derivative)


def _rank(region: Region) -> tuple[bool, list[tuple[int, str]]]:
    return bool(region), sorted((-ord(axis), side) for axis, side in region)
