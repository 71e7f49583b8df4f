"""A scheme for the alternating motion, in which every field changes its sign from step to step. It
has the highest frequency that the time step resolves.

A leapfrog scheme becomes unstable when the time step is so long that the alternating motion,
`f[n+1] = -f[n]`, solves it: two of its eigenvalues then meet at -1. So the equations of this
motion, in which the time step is a parameter, give the largest stable step of any explicit scheme
whose damping is centred. Damping, and the memory variables of attenuation, cancel in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from .._devito import Derivative
from ..scheme.symbols import Expr, Field
from ..scheme.system import System, Update
from ..scheme.terms import accesses, at_offset, is_access, map_accesses, product, time_offset, total
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
    """The balances of a scheme, in the order of its updates.

    Raises:
        EquationError: the scheme is not linear, not explicit, or inconsistently staggered.
    """
    return tuple(map(_balance, checked(system).updates))


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
    own = _pointwise(rhs, update.field)
    forces = _without(rhs, update.field)
    # mass * new == rhs, and new = keep * old + take * rhs / mass, both with new = -old.
    inertia = update.mass * (1 + update.keep) + update.take * own
    return Balance(update.field, inertia, update.take, forces)


def _pointwise(expr: Expr, field: Field) -> Expr:
    """The factor of a field in the terms of an expression that do not differentiate it."""
    if is_access(expr):
        return sympy.S.One if expr.function is field else sympy.S.Zero
    if isinstance(expr, Derivative) or not _holds(expr, field):
        return sympy.S.Zero
    if expr.is_Add:
        return total(_pointwise(arg, field) for arg in expr.args)
    (varying,) = (arg for arg in expr.args if _holds(arg, field))
    return product((*(arg for arg in expr.args if arg is not varying), _pointwise(varying, field)))


def _without(expr: Expr, field: Field) -> Expr:
    """The expression without the terms whose factors `_pointwise` adds up."""
    if is_access(expr):
        return sympy.S.Zero if expr.function is field else expr
    if isinstance(expr, Derivative) or not _holds(expr, field):
        return expr
    if expr.is_Add:
        return total(_without(arg, field) for arg in expr.args)
    return product(_without(arg, field) if _holds(arg, field) else arg for arg in expr.args)


def _holds(expr: Expr, field: Field) -> bool:
    """Whether a field stands anywhere in an expression."""
    return any(access.function is field for access in accesses(expr))
