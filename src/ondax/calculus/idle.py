"""Fields that do nothing between the chosen ports of a scheme, and the scheme without them.

An equation states all that its sources may feed and its receivers may read. What a survey does not
ask for costs nothing, because it is left out before a boundary acts and before anything is derived.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import sympy

from ..scheme.symbols import Expr, Field, Spatial
from ..scheme.system import Port, System, Update
from ..scheme.terms import accesses, depends_on, map_accesses


def idle(system: System, inputs: Collection[str], outputs: Collection[str]) -> frozenset[str]:
    """The names of fields that are zero, as nothing feeds them, or that nobody reads.

    Args:
        system: the scheme, as its equation states it.
        inputs: names of the ports where samples enter.
        outputs: names of the ports where they leave.
    """
    if system.flux is not None:  # what layers make of it may read any field
        return frozenset()
    fed = _touched(system.inputs, inputs)
    read = _touched(system.outputs, outputs) | fed
    found = {u.field for u in system.updates if u.rhs == 0 and u.field not in read}
    needed = set(read)
    while True:
        more = {
            a.function
            for u in system.updates
            if u.field in needed
            for a in accesses(u.rhs)
            if a.function in system.fields and a.function not in found
        }
        if more <= needed:
            return frozenset(f.name for f in system.fields if f not in needed)
        needed |= more


def without(system: System, names: Collection[str]) -> System:
    """The scheme without some idle fields, and without the ports that touch them."""
    if not names:
        return system
    gone = {f for f in system.fields if f.name in names}

    def rule(access: Spatial) -> Expr:
        return sympy.S.Zero if access.function in gone else access

    def rid(update: Update) -> Update:
        if not depends_on(update.rhs, gone):
            return update
        pde = update.pde
        if pde is not None:
            pde = replace(pde, forces=map_accesses(pde.forces, rule))
        return replace(update, rhs=map_accesses(update.rhs, rule), pde=pde)

    return replace(
        system,
        updates=tuple(rid(u) for u in system.updates if u.field not in gone),
        inputs=tuple(p for p in system.inputs if not _fields(p) & gone),
        outputs=tuple(p for p in system.outputs if not _fields(p) & gone),
    )


def _touched(ports: Collection[Port], names: Collection[str]) -> set[Field]:
    return {field for p in ports if p.name in names for field in _fields(p)}


def _fields(port: Port) -> set[Field]:
    return {t.field for t in port.touches}
