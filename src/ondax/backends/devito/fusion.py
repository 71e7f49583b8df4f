"""Loops that Devito fuses must not read what they have yet to compute.

Devito reorders loops so that those over the same points become neighbours, and fuses neighbours. It
keeps what must come first before what follows, but not apart where the second reads the points
around those that the first computes: fused, it reads the next point before that has been computed
(Devito 4.8.23). If it then takes the derivatives that the second reads in a loop of their own, that
one comes before both, and reads what an earlier step has computed. So what Devito has made is
checked, and made again in the order of the equations where either has happened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..._devito import (
    Backward,
    Expression,
    FindNodes,
    Iteration,
    cpu,
    fusion,
    retrieve_indexed,
)
from .loops import cell_of, cells_read


@contextmanager
def side_by_side() -> Iterator[None]:
    """Within it, loops over the same rows become parts of one also where Devito, which thinks of
    grids shared out among processes, would have exchanged halos between them."""

    def fuse(clusters: Any, toposort: Any = False, options: Any = None) -> Any:
        inside = [c for c in clusters if not c.is_halo_touch]
        return fusing(inside, toposort=toposort, options=options)

    fusing = cpu.fuse
    cpu.fuse = fuse
    try:
        yield
    finally:
        cpu.fuse = fusing


@contextmanager
def in_order() -> Iterator[None]:
    """Within it, Devito leaves equations in the order in which they are given, and fuses fewer
    loops."""

    def fuse(clusters: Any, toposort: Any = False, options: Any = None) -> Any:
        return fusion.fuse(clusters, toposort=False, options=options)

    reordering = cpu.fuse
    cpu.fuse = fuse
    try:
        yield
    finally:
        cpu.fuse = reordering


class FusedTooFar(RuntimeError):
    """A loop reads around a point what it computes, or reads what is computed after it."""


def check_order(operator: Any, equations: Sequence[Any]) -> None:
    """Check that a step reads what it computes as often computed as its equations do.

    Raises:
        FusedTooFar: something is read too early, or too late.
    """
    given = [e for e in equations if e.lhs != e.rhs]  # Devito leaves out what changes nothing
    wanted = _versions((cell_of(e.lhs), [cell for cell, _ in cells_read(e.rhs)]) for e in given)
    statements = [node.expr for node in FindNodes(Expression).visit(operator)]
    found = _versions((_place(e.lhs), map(_place, retrieve_indexed(e.rhs))) for e in statements)
    for cell in wanted.keys() & found.keys():
        if wanted[cell] != found[cell]:
            raise FusedTooFar(
                f"Devito made a step that reads {cell[0]} after {sorted(found[cell])} of its "
                f"computations, in place of {sorted(wanted[cell])}: this is a bug in ondax"
            )


def _versions(statements: Iterable[tuple[Any, Iterable[Any]]]) -> dict[Any, set[int]]:
    """Of each cell that a step computes and reads, how often it has been computed when it is read.

    Args:
        statements: in order, each with the cell that it computes and those that it reads.
    """
    computed: dict[Any, int] = defaultdict(int)
    read: dict[Any, set[int]] = defaultdict(set)
    for written, cells in statements:
        for cell in cells:
            read[cell].add(computed[cell])
        computed[written] += 1
    return {cell: versions for cell, versions in read.items() if computed[cell]}


def _place(indexed: Any) -> Any:
    """The cell of an access in what Devito has made; see `loops.cell_of`."""
    function: Any = getattr(indexed, "function", None)
    if not getattr(function, "is_DiscreteFunction", False):
        return str(indexed), ""
    pairs = [(d, i) for d, i in zip(function.dimensions, indexed.indices, strict=True) if d.is_Time]
    if pairs and pairs[0][0].is_Stepping:
        (_, at), buffers = pairs[0], function.shape_allocated[0]
        return function.name, str(int(at.offset - at.root) % buffers)
    return function.name, str([i for _, i in pairs])


def check_loops(operator: Any) -> None:
    """Check that no loop over space reads around a point what it computes, but where the loop has
    been there before.

    Raises:
        FusedTooFar: one does: its results would depend on the order of its points.
    """
    for loop in FindNodes(Iteration).visit(operator):
        if loop.dim.is_Time:
            continue
        expressions = [node.expr for node in FindNodes(Expression).visit(loop)]
        written = [(i, a) for i, e in enumerate(expressions) for a in retrieve_indexed(e.lhs)]
        read = [(i, a) for i, e in enumerate(expressions) for a in retrieve_indexed(e.rhs)]
        for i, one in written:
            for j, other in read:
                if i != j and not _in_time(loop, one, other, computed_first=i < j):
                    raise FusedTooFar(
                        f"Devito made a loop over {loop.dim} that computes {one} and reads "
                        f"{other}: this is a bug in ondax"
                    )


def _in_time(loop: Any, one: Any, other: Any, computed_first: bool) -> bool:
    """Does what is read hold the value that it would hold if one loop computed all of it, before or
    after another reads?"""
    function = one.function
    if function is not other.function or not function.is_DiscreteFunction:
        return True
    pairs = list(zip(function.dimensions, one.indices, other.indices, strict=True))
    if any(d.is_Time and a != b for d, a, b in pairs):  # another array
        return True
    apart = [b - a for _, a, b in pairs if a != b and (_moves(a, loop.dim) or _moves(b, loop.dim))]
    if not apart:
        return True
    if loop.is_Parallel or len(apart) > 1 or not apart[0].is_Integer:
        return False
    ahead = (apart[0] > 0) == (loop.direction is not Backward)
    return ahead != computed_first


def _moves(index: Any, dimension: Any) -> bool:
    """Does an index change along with a loop's dimension, or a block of it?"""
    return any(dimension in getattr(s, "_defines", {s}) for s in index.free_symbols)
