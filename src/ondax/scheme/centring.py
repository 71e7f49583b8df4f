"""When fields hold, so that every equation of a system is centred in time.

A field of second order holds at whole steps, and so do the forces in its equation. Those in the
equation of a field of first order hold half a step after the field, between its present and its
next value. So a field of first order is either half a step off the fields that drive it, as
velocities are off stresses, or it is averaged over a step where it drives others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from .._devito import TimeFunction
from .continuous import Pde
from .symbols import Expr, Field
from .terms import EquationError, accesses, map_accesses, time_offset

HALF = Fraction(1, 2)
WHOLE = None  # stands for all fields of second order


def centred(equations: Iterable[tuple[Field, Pde | None]]) -> Iterator[Pde | None]:
    """The equations of a system, with every field in them read when it holds.

    A field that is written without a time, such as `v`, and that an earlier update of the step has
    advanced, is read as `v.forward`, as `v`, or as the mean of both, whichever is centred. A field
    that is not advanced yet is read at the present. One that is written with a time, such as
    `v.forward`, stays as it is.

    Args:
        equations: fields in the order of their updates, each with its equation, or with None if
            its update is stated otherwise.

    Raises:
        EquationError: no choice is centred; names the equation and the field.
    """
    known = tuple(equations)
    instants = _Instants()
    open_reads: list[tuple[Pde, Field]] = []
    advanced: set[Field] = set()
    for field, pde in known:
        for other, offsets in _reads(pde).items():
            if pde and offsets == {0} and other in advanced:
                open_reads.append((pde, other))
            else:
                middle = Fraction(min(offsets) + max(offsets), 2)
                if not instants.settle(field, other, _middle(field) - middle):
                    raise _not_centred(field, other)
        advanced.add(field)
    chosen: dict[tuple[Field, Field], Fraction] = {}
    for pde, other in open_reads:
        after = instants.between(pde.field, other)
        if after is None:
            after = _usual(other)
            instants.settle(pde.field, other, after)
        chosen[pde.field, other] = _middle(pde.field) - after
        if chosen[pde.field, other] not in (0, HALF, 1):
            raise _not_centred(pde.field, other)

    def read(pde: Pde) -> Pde:
        def rule(access: Any) -> Expr:
            when = chosen.get((pde.field, access.function), Fraction(0))
            mean = (access.forward + access) / 2 if when == HALF else None
            return mean if mean is not None else access.forward if when == 1 else access

        return replace(pde, forces=map_accesses(pde.forces, rule)) if chosen else pde

    return (pde and read(pde) for _, pde in known)


def _reads(pde: Pde | None) -> Mapping[Field, set[int]]:
    """The other fields that an equation reads, each with the times at which it does, in steps."""
    found: dict[Field, set[int]] = {}
    if pde is None:
        return found
    for access in accesses(pde.forces):
        other: Field = access.function
        if isinstance(access, TimeFunction) and other is not pde.field:
            found.setdefault(other, set()).add(time_offset(access))
    return found


def _middle(field: Field) -> Fraction:
    """When the forces in a field's equation hold, in steps after the field's present value."""
    return HALF if field.time_order == 1 else Fraction(0)


def _usual(other: Field) -> Fraction:
    """How much later than a field another one holds, in steps, where nothing tells: a field of
    first order that has been advanced is half a step before what it drives."""
    return -HALF if other.time_order == 1 else HALF


def _not_centred(field: Field, other: Field) -> EquationError:
    return EquationError(
        f"the equation of {field.name} is not centred in time: what it reads of {other.name} holds "
        f"earlier or later than {field.name} and its forces do. Update {other.name} earlier in the "
        f"step, write the time at which {other.name} is read, such as {other.name}.forward, or "
        f"state the scheme by ox.Update({field.name}, mass, rhs)"
    )


class _Instants:
    """How much later fields hold than each other, in steps, as far as that is settled."""

    def __init__(self) -> None:
        self._after: dict[Field, tuple[Field | None, Fraction]] = {}

    def between(self, field: Field, other: Field) -> Fraction | None:
        """How much later the other field holds; None if it is not settled."""
        (a, later), (b, other_later) = self._found(field), self._found(other)
        return other_later - later if a is b else None

    def settle(self, field: Field, other: Field, after: Fraction) -> bool:
        """Say how much later the other field holds. False: it is known to be otherwise."""
        known = self.between(field, other)
        if known is not None:
            return known == after
        (a, later), (b, other_later) = self._found(field), self._found(other)
        if b is WHOLE:
            self._after[a] = (b, other_later - after - later)
        else:
            self._after[b] = (a, later + after - other_later)
        return True

    def _found(self, field: Field) -> tuple[Field | None, Fraction]:
        """The field that others are compared with, and how much later than it this one holds."""
        at: Field | None = WHOLE if field.time_order == 2 else field
        later = Fraction(0)
        while at in self._after:
            at, more = self._after[at]
            later += more
        return at, later
