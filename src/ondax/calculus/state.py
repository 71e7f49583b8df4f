"""The state of a scheme: the values that the next step reads, from which a run can be taken up."""

from __future__ import annotations

from ..scheme.symbols import Field
from ..scheme.system import System
from ..scheme.terms import accesses, time_offset


def levels(system: System) -> dict[Field, int]:
    """How many values in time of each field make the state between two steps: the newest, and the
    one before it where that is read, too.

    Fields that live in strips only, and of which the next step reads nothing, are left out: each
    step computes them anew.
    """
    read = {(a.function, time_offset(a)) for u in system.updates for a in accesses(u.rhs)}
    kept = {u.field for u in system.updates if u.keep != 0}
    found = {}
    for field in system.fields:
        before = (field, -1) in read
        confined = bool(system.symbols.traits_of(field).region)
        if before or (field, 0) in read or field in kept or not confined:
            found[field] = 2 if before else 1
    return found


def early(system: System) -> set[Field]:
    """Fields of first order that others read, in the same step, at their new time: as in a
    leapfrog, each of their values holds half a step before those of the others."""
    read = {a.function for u in system.updates for a in accesses(u.rhs) if time_offset(a) == 1}
    return {f for f in system.fields if f.time_order == 1 and f in read}
