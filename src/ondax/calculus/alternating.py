"""A scheme for the alternating motion, in which every field changes its sign from step to step. It
has the highest frequency that the time step resolves.

A leapfrog scheme becomes unstable when the time step is so long that the alternating motion,
`f[n+1] = -f[n]`, solves it: two of its eigenvalues then meet at -1. So the equations of this
motion, in which the time step is a parameter, give the largest stable step of any explicit scheme
whose damping is centred. Damping, and the memory variables of attenuation, cancel in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..scheme.symbols import Expr, Field
from ..scheme.system import System, Update
from ..scheme.terms import accesses, at_offset, map_accesses, pointwise, time_offset
from .check import checked


@dataclass(frozen=True)
class Balance:
    """The equation of one field's amplitude in the alternating motion, `field == -take / inertia *
    forces`.

    Attributes:
        field: the field.
        inertia: the pointwise divisor of the forces.
        take: the pointwise factor of the forces.
        forces: linear in the amplitudes of the other fields, and in derivatives of the field's own.
            An access of `other.forward` stands for an amplitude from a balance earlier in the list.
    """

    field: Field
    inertia: Expr
    take: Expr
    forces: Expr


def alternating(system: System) -> tuple[Balance, ...]:
    """The balances of a scheme, in the order of its updates: of the fields that act on others or on
    themselves, which memories of attenuation do not.

    Raises:
        EquationError: the scheme is not linear, not explicit, or inconsistently staggered.
    """
    return _acting(tuple(map(_balance, checked(system).updates)))


def carried(balances: Sequence[Balance]) -> tuple[str, ...]:
    """The names of the fields of whose amplitudes all others are made in one sweep through the
    balances."""
    read = {(a.function.name, time_offset(a)) for b in balances for a in accesses(b.forces)}
    return tuple(b.field.name for b in balances if (b.field.name, 0) in read)


def _acting(balances: tuple[Balance, ...]) -> tuple[Balance, ...]:
    acting = {a.function.name for b in balances for a in accesses(b.forces)}
    needed = tuple(b for b in balances if b.field.name in acting)
    return needed if len(needed) == len(balances) else _acting(needed)


def _balance(update: Update) -> Balance:
    """The balance of one update."""
    known = {a.function for a in accesses(update.rhs) if time_offset(a) == 1}

    def amplitude(access: Expr) -> Expr:
        function = access.function
        if not getattr(function, "is_TimeFunction", False):
            return access
        sign = -1 if time_offset(access) else 1
        # One symbol for all times of a field, so that the terms of averages in time cancel.
        return sign * at_offset(function, 1 if function in known else 0)

    rhs = map_accesses(update.rhs, amplitude)
    own, forces = pointwise(rhs, update.field)
    # mass * new == rhs, and new = keep * old + take * rhs / mass, both with new = -old.
    inertia = update.mass * (1 + update.keep) + update.take * own
    return Balance(update.field, inertia, update.take, forces)
