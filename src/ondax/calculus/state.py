"""The state of a scheme: the values that the next step reads, from which a run can be taken up."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import partial

import sympy

from ..scheme.symbols import Expr, Field, Spatial
from ..scheme.system import System, Update
from ..scheme.terms import accesses, at_offset, map_accesses, time_offset


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


@dataclass(frozen=True)
class Ends:
    """What joins the adjoint scheme to cotangents of the states before and after a run.

    With the multipliers a of `transpose`, the state after step N, f[N] and f[N-1], is read by its
    cotangents as receivers read fields at the steps N - 1 and N - 2: they are added to the
    right-hand sides of those steps of the adjoint scheme. The cotangent of the state before step 0
    is made of the multipliers of the steps that read it: for f[0], those of step 0, and of step 1
    where its updates read values one step back; for f[-1], those of step 0 that do.

    Attributes:
        settling: a scheme that turns cotangents, as the present values of its fields, into what
            they add to the adjoint fields after a step, as their new values: what the other fields
            read of that in the same step, included.
        settled: the field of it for each of the adjoint fields.
        starting: a scheme whose new values are the cotangents of the state before step 0, made of
            the adjoint fields when step 0 is their newest: but for what memories keep of
            themselves.
        newest: the field of it for f[0], for each field of the forward scheme.
        before: likewise for f[-1], where that is a part of the state.
    """

    settling: System
    settled: Mapping[Field, Field]
    starting: System
    newest: Mapping[Field, Field]
    before: Mapping[Field, Field]


def ends(system: System, transposed: System, adjoints: Mapping[Field, Field]) -> Ends:
    """See `Ends`.

    Args:
        system: the scheme.
        transposed: its adjoint.
        adjoints: the adjoint of each field.
    """
    symbols, updates = system.symbols, {u.field: u for u in transposed.updates}
    settled = {a: symbols.like(a, "settled_", 1) for a in updates}
    settling = []
    for adjoint, update in updates.items():
        own = settled[adjoint]
        rhs = own + map_accesses(update.rhs, partial(_only, 1, settled, 1))
        settling.append(replace(update, field=own, rhs=rhs, keep=sympy.S.Zero))
    newest, before, starting = {}, {}, []
    for field, count in levels(system).items():
        adjoint = adjoints[field]
        newest[field] = symbols.like(adjoint, "start_", 1)
        read = map_accesses(updates[adjoint].rhs, partial(_without_newest, updates))
        starting.append(Update(newest[field], sympy.S.One, read))
        if count == 2:
            before[field] = symbols.like(adjoint, "before_", 1)
            read = map_accesses(
                updates[adjoint].rhs, partial(_only, -1, {a: a for a in updates}, 0)
            )
            starting.append(Update(before[field], sympy.S.One, read))
    made = [
        System(symbols, system.coefficients, tuple(chosen), (), ())
        for chosen in (settling, starting)
    ]
    return Ends(made[0], settled, made[1], newest, before)


def _only(offset: int, others: Mapping[Field, Field], at: int, access: Spatial) -> Expr:
    """Fields at one offset in time as others at another; zero in place of those at others."""
    if access.function not in others:
        return access
    if time_offset(access) != offset:
        return sympy.S.Zero
    return at_offset(others[access.function], at)


def _without_newest(fields: Container[Field], access: Spatial) -> Expr:
    """Zero in place of new values of fields."""
    return sympy.S.Zero if access.function in fields and time_offset(access) == 1 else access


def of_step_before(term: Expr, adjoints: Container[Field]) -> Expr:
    """What one step adds to a gradient, for the step before step 0, whose multipliers are zero:
    only summation by parts in time leaves something there, of a run that does not start at rest
    (see `increments.by_parts`).

    Args:
        term: what a step adds; the `forward` of an adjoint field stands for that of this step.
        adjoints: the adjoint fields.

    Returns:
        An expression in which an adjoint field itself is that of step 0.
    """
    return map_accesses(term, partial(_without_newest, adjoints))
