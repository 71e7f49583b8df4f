"""The parts of an expression by the regions of the grid in which they are not zero."""

from __future__ import annotations

from collections.abc import Callable, Collection

import sympy

from .._devito import Derivative
from ..scheme.symbols import EVERYWHERE, Expr, Region, Symbols
from ..scheme.system import System
from ..scheme.terms import is_access, total, with_operand


def exists(region: Region) -> bool:
    """Whether a region has any points: strips along opposite edges have none in common."""
    return len({axis for axis, _ in region}) == len(region)


def by_region(expr: Expr, symbols: Symbols) -> dict[Region, Expr]:
    """An expression as a sum of parts, each of which is zero outside its region.

    A part's region is that of the fields in it that are stored in a strip only. Points that
    derivatives reach beyond it are not added: regions are made wide enough for these.
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
    # In an order that is the same in every process; strips along the last axis come first, because
    # their loops can be part of a loop over whole rows.
    return {region: total(parts[region]) for region in sorted(parts, key=_rank)}


def reach(system: System) -> int:
    """How far, in grid points, one step spreads a field that is zero outside of a layer, or, in the
    transpose, what such a field is made of.

    Staggering makes no difference: if fields at half points lie half a point further out on one
    side, then derivatives reach half a point less far there.
    """
    symbols = system.symbols

    def stored_in_a_strip(access: Expr) -> bool:
        return bool(symbols.traits_of(access.function).region)

    def anything(access: Expr) -> bool:
        return True

    found = (
        _nesting(u.rhs, anything if stored_in_a_strip(u.field) else stored_in_a_strip)
        for u in system.updates
    )
    return max((n for n in found if n is not None), default=0) * symbols.space_order // 2


def strips(axis: str, ends: Collection[tuple[str, str]], whole: Collection[str]) -> list[Region]:
    """The regions in which memory variables of what happens along an axis are stored.

    Args:
        axis: its name.
        ends: axis name, and "low" or "high", of each layer.
        whole: names of the axes along which one memory on the whole grid serves both layers.
    """
    if axis in whole and any(axis == name for name, _ in ends):
        return [EVERYWHERE]
    return [frozenset({(axis, side)}) for side in ("low", "high") if (axis, side) in ends]


def _nesting(expr: Expr, counts: Callable[[Expr], bool]) -> int | None:
    """How many derivatives are nested around the accesses that count; None without any."""
    if is_access(expr):
        return 0 if counts(expr) else None
    inner = [n for arg in expr.args if (n := _nesting(arg, counts)) is not None]
    return max(inner) + isinstance(expr, Derivative) if inner else None


def _rank(region: Region) -> tuple[bool, list[tuple[int, str]]]:
    """A key to sort regions: the whole grid first, then strips along the last axis, and so on."""
    return bool(region), sorted((-ord(axis), side) for axis, side in region)
