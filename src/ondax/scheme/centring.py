"""When fields hold, so that every equation of a system is centred in time.

A field of second order holds at whole steps, and so do the forces in its equation. Those in the
equation of a field of first order hold half a step after the field, between its present and its
next value. So a field of first order is either half a step off the fields that drive it, as
velocities are off stresses, or it is averaged over a step where it drives others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import sympy

from .._devito import Derivative, TimeFunction
from .continuous import Pde
from .symbols import Expr, Field
from .system import Port
from .terms import (
    EquationError,
    accesses,
    is_access,
    map_accesses,
    product,
    time_offset,
    with_operand,
)

HALF = Fraction(1, 2)
WHOLE = None  # stands for all fields of second order


@dataclass(frozen=True)
class Centred:
    """The equations of a system, centred in time.

    Attributes:
        fields: in the order of their updates.
        equations: theirs; None of a field whose update is stated otherwise.
        instants: when the fields hold.
    """

    fields: Sequence[Field]
    equations: Sequence[Pde | None]
    instants: _Instants

    def timed(self, port: Port, *, feeds: bool) -> Port:
        """A port, with the time at which the forces hold that it feeds, or the values that it
        reads; as it is if its time is stated.

        Raises:
            EquationError: that is not one time.
        """
        if port.time is not None:
            return port
        times = {self._time(touch.field, feeds) for touch in port.touches}
        if len(times) > 1:
            raise EquationError(
                f"port {port.name} {'feeds' if feeds else 'reads'} fields that hold at different "
                f"times: {sorted(map(float, times))} steps after the "
                f"{'beginning' if feeds else 'end'} of a step. Give each a port of its own, or "
                f"state one time, ox.Port({port.name!r}, ..., time=...)"
            )
        return replace(port, time=float(times.pop()) if times else 0.0)

    def _time(self, field: Field, feeds: bool) -> Fraction:
        """When an equation's forces hold, after the beginning of a step, or its field, after the
        end. A step ends when fields of second order hold, or else the last one that it updates."""
        known = dict(zip(self.fields, self.equations, strict=True))
        if known.get(field) is None:
            return Fraction(0)
        whole = next((f for f in self.fields if f.time_order == 2), self.fields[-1])
        later = self.instants.between(whole, field) or Fraction(0)
        return later + _middle(field) if feeds else later


def centred(equations: Iterable[tuple[Field, Pde | None]]) -> Centred:
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
        for other, middles in _reads(pde).items():
            if pde and middles == {0} and other in advanced and not _is_timed(pde, other):
                open_reads.append((pde, other))
                continue
            for middle in middles:
                if middle is None or not instants.settle(field, other, _middle(field) - middle):
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

    return Centred([f for f, _ in known], [pde and read(pde) for _, pde in known], instants)


def _reads(pde: Pde | None) -> Mapping[Field, set[Fraction | None]]:
    """The other fields that an equation reads, each with the times about which its terms are
    centred, in steps; None of a term that is not."""
    found: dict[Field, set[Fraction | None]] = {}
    if pde is None:
        return found
    for other in {a.function: None for a in accesses(pde.forces) if isinstance(a, TimeFunction)}:
        if other is not pde.field:
            found[other] = {_centre(weights) for weights in _weights(pde.forces, other)}
    return found


def _is_timed(pde: Pde, other: Field) -> bool:
    """Does an equation read another field at other times than the present, too?"""
    return any(a.function is other and time_offset(a) for a in accesses(pde.forces))


def _centre(weights: Mapping[int, Expr]) -> Fraction | None:
    """The time about which a sum of values at several times is a mean or a difference: the same
    weights, or opposite ones, as long before it as after it."""
    middle = Fraction(min(weights) + max(weights), 2)
    mirrored = {int(2 * middle) - t: w for t, w in weights.items()}
    if mirrored.keys() != weights.keys():
        return None
    for sign in (1, -1):
        if all(sympy.expand(w - sign * mirrored[t]) == 0 for t, w in weights.items()):
            return middle
    return None


def _weights(expr: Expr, other: Field) -> Iterator[Mapping[int, Expr]]:
    """Of each term that does the same to a field at several times, the weight of each time."""
    found: dict[Expr, dict[int, Expr]] = {}
    for number, term, when in _terms(expr, other):
        weights = found.setdefault(term, {})
        weights[when] = weights.get(when, sympy.S.Zero) + number
    for weights in found.values():
        if kept := {t: w for t, w in weights.items() if w != 0}:
            yield kept


def _terms(expr: Expr, other: Field) -> Iterator[tuple[Expr, Expr, int]]:
    """The terms in which a field occurs: a number, the rest with the field at the present, and the
    time at which it is read. Sums are taken apart, also within derivatives."""
    if is_access(expr):
        if expr.function is other:
            yield sympy.S.One, other, time_offset(expr)
        return
    if isinstance(expr, Derivative):
        for number, term, when in _terms(expr.expr, other):
            yield (*_apart(with_operand(expr, term), number), when)
        return
    if expr.is_Add:
        for arg in expr.args:
            yield from _terms(arg, other)
        return
    reading = [a for a in expr.args if any(x.function is other for x in accesses(a))]
    if len(reading) != 1:  # none; or it is not linear, which `calculus.check` says
        return
    rest = product(a for a in expr.args if a is not reading[0])
    for number, term, when in _terms(reading[0], other):
        for part in sympy.Add.make_args(sympy.expand(rest)):
            yield (*_apart(part * term, number), when)


def _apart(term: Expr, number: Expr) -> tuple[Expr, Expr]:
    """A number times a term as the number and what is not one."""
    more, rest = term.as_coeff_Mul()
    return number * more, rest


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
