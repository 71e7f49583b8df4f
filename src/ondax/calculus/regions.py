"""Which part of an expression lives where on the grid."""

from __future__ import annotations

import sympy
from devito.finite_differences import Derivative

from ..equations.system import EVERYWHERE, Expr, Region, Symbols
from .terms import is_access, total, with_operand


def exists(region: Region) -> bool:
    """Opposite strips have no point in common."""
    return len({axis for axis, _ in region}) == len(region)


def by_region(expr: Expr, symbols: Symbols) -> dict[Region, Expr]:
    """An expression as a sum of parts, each zero outside its region: that of the confined field in it.

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
    return {region: total(terms) for region, terms in parts.items()}
