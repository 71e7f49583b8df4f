"""Strips of the grid visited as few times as possible.

What is computed on one strip, point by point, shares a loop. Devito fuses equations on one
subdomain, rightly or not (see `Symbols.part`): here they are put on one only where no equation
reads around a point what another computes.

Loops over whole rows come next to each other, so that strips at the ends of rows are visited while
the row is in cache; what happens in strips along other axes waits until it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..._devito import Derivative, Function, Symbol, TimeFunction
from ...scheme.symbols import Equation, Expr, Region, Symbols
from ...scheme.terms import is_access, time_offset

Cell = tuple[str, str]  # of an array: its name and its index in time


@dataclass
class Loop:
    """Equations that share a loop, in order; `region` is None where others must not join."""

    region: Region | None
    equations: list[Equation] = field(default_factory=list)
    writes: set[Cell] = field(default_factory=set)
    reads: set[Cell] = field(default_factory=set)
    around: set[Cell] = field(default_factory=set)

    @property
    def cells(self) -> set[Cell]:
        """All that it reads or writes."""
        return self.writes | self.reads | self.around

    def precedes(self, other: Loop) -> bool:
        """Must it come before the other, which it stands before?"""
        return bool(
            self.writes & (other.reads | other.around | other.writes)
            or (self.reads | self.around) & other.writes
        )

    def admits(self, other: Loop) -> bool:
        """May another loop over the same strip be made part of this one, before what it does
        already?"""
        return self.region is not None and self.region == other.region and not self.clashes(other)

    def clashes(self, other: Loop) -> bool:
        """Does one read around a point what the other computes?"""
        return bool(other.writes & self.around or other.around & self.writes)

    def prepend(self, other: Loop) -> None:
        self.equations[:0] = other.equations
        self.writes |= other.writes
        self.reads |= other.reads
        self.around |= other.around


def in_few_loops(equations: list[Equation], symbols: Symbols) -> list[Equation]:
    """The equations of one step, reordered without changing what they compute, on as few subdomains
    as possible."""
    loops: list[Loop] = []
    for equation in reversed(equations):
        loop = loop_of(equation)
        for later in loops:
            if later.admits(loop):
                later.prepend(loop)
                break
            if loop.precedes(later):
                loops.insert(0, loop)
                break
        else:
            loops.insert(0, loop)
    for axis in reversed(symbols.axes[:-1]):
        loops = _strips_last(loops, axis)
    ordered: list[Equation] = []
    for loop in loops:
        if loop.region is None:
            ordered += loop.equations
            continue
        part = symbols.part(
            loop.region, "_".join(sorted({e.lhs.function.name for e in loop.equations}))
        )
        ordered += [
            e.func(e.lhs, e.rhs, subdomain=part, implicit_dims=e.implicit_dims)
            for e in loop.equations
        ]
    return ordered


def _strips_last(loops: list[Loop], axis: str) -> list[Loop]:
    """The loops with those over strips along an axis put off until another loop needs them."""
    ordered: list[Loop] = []
    held: list[Loop] = []
    for block in _blocks(loops):
        if all(loop.region and axis in dict(loop.region) for loop in block):
            held += block
            continue
        needed = [n for n, h in enumerate(held) if any(h.precedes(loop) for loop in block)]
        if needed:  # with those before them, which they may need
            ordered += held[: needed[-1] + 1]
            held = held[needed[-1] + 1 :]
        ordered += block
    return ordered + held


def _blocks(loops: list[Loop]) -> list[list[Loop]]:
    """The loops in order, in blocks that must stay together: a symbol lives within one loop, so
    nothing may come between its value and who reads that."""
    last = {
        cell: max(
            n for n, loop in enumerate(loops) if cell in loop.reads | loop.around | loop.writes
        )
        for made in loops
        for cell in made.writes
        if not cell[1] and all(not is_access(e.lhs) for e in made.equations)
    }
    blocks: list[list[Loop]] = []
    until = -1
    for n, loop in enumerate(loops):
        if n > until:
            blocks.append([])
        blocks[-1].append(loop)
        until = max([until, *(last[cell] for cell in loop.writes if cell in last)])
    return blocks


def loop_of(equation: Equation) -> Loop:
    """A loop of one equation."""
    written = equation.lhs
    plain = isinstance(written, Symbol) or (
        is_access(written) and written.indices[-1] == written.function.indices[-1]
    )
    region = getattr(equation.subdomain, "region", None) if plain else None
    loop = Loop(frozenset(region.items()) if region else None, [equation], {cell_of(equation.lhs)})
    for cell, differentiated in cells_read(equation.rhs):
        (loop.around if differentiated else loop.reads).add(cell)
    if not plain:
        loop.around |= loop.reads | loop.writes
    return loop


def cells_read(expr: Expr, differentiated: bool = False) -> Iterator[tuple[Cell, bool]]:
    """The cells that an expression reads, and whether around a point."""
    if isinstance(expr, Function) or not expr.args:
        yield cell_of(expr), differentiated
        return
    for arg in expr.args:
        yield from cells_read(arg, differentiated or isinstance(expr, Derivative))


def cell_of(access: Any) -> Cell:
    """The array that an access reads or writes, at its time."""
    if not isinstance(access, Function):
        return str(access), ""
    function: Any = access.function
    if isinstance(access, TimeFunction) and function.indices[0].is_Stepping:
        # What is kept at two times has the value before the present and the next in one place.
        return function.name, str(time_offset(access) % function.shape_allocated[0])
    indices = zip(function.dimensions, access.indices, strict=True)
    return function.name, str([i for d, i in indices if d.is_Time])
