"""A scheme at the highest frequency that its time step resolves: where every field changes sign
from step to step.

A leapfrog becomes unstable when the time step is so long that such a motion, `f[n+1] = -f[n]`,
solves it: two of its eigenvalues then meet at -1. So the symbols of this motion, with the time step
as a parameter, tell the largest stable step of any explicit scheme whose damping is centred.
Damping, and the memories of attenuation, cancel in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy
from devito.finite_differences import Derivative

from ..scheme.symbols import Expr, Field
from ..scheme.system import System, Update
from ..scheme.terms import accesses, at_offset, is_access, map_accesses, product, time_offset, total
from .check import checked


@dataclass(frozen=True)
class Balance:
    """The amplitude of one field in such a motion, `field == -gain * forces`.

    Attributes:
        field: the field.
        inertia: what its amplitude is divided by; pointwise.
        take: what it is multiplied by; pointwise.
        forces: linear in the amplitudes of the other fields, and of its own where that is
            differentiated. An access of `other.forward` stands for an amplitude that comes from a
            balance earlier in the list.
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
    known = {a.function for a in accesses(update.rhs) if time_offset(a) == 1}

    def amplitude(access: Expr) -> Expr:
        function = access.function
        if not getattr(function, "is_TimeFunction", False):
            return access
        sign = -1 if time_offset(access) else 1
        # All times of one field as one amplitude, so that what is averaged in time cancels.
        return sign * at_offset(function, 1 if function in known else 0)

    rhs = map_accesses(update.rhs, amplitude)
    own = _pointwise(rhs, update.field)
    forces = _without(rhs, update.field)
    # mass * new == rhs, and new = keep * old + take * rhs / mass, both with new = -old.
    inertia = update.mass * (1 + update.keep) + update.take * own
    return Balance(update.field, inertia, update.take, forces)


def _pointwise(expr: Expr, field: Field) -> Expr:
    """The factor of a field in an expression, where it is not differentiated."""
    if is_access(expr):
        return sympy.S.One if expr.function is field else sympy.S.Zero
    if isinstance(expr, Derivative) or not _holds(expr, field):
        return sympy.S.Zero
    if expr.is_Add:
        return total(_pointwise(arg, field) for arg in expr.args)
    (varying,) = (arg for arg in expr.args if _holds(arg, field))
    return product((*(arg for arg in expr.args if arg is not varying), _pointwise(varying, field)))


def _without(expr: Expr, field: Field) -> Expr:
    """The expression without what `_pointwise` finds."""
    if is_access(expr):
        return sympy.S.Zero if expr.function is field else expr
    if isinstance(expr, Derivative) or not _holds(expr, field):
        return expr
    if expr.is_Add:
        return total(_without(arg, field) for arg in expr.args)
    return product(_without(arg, field) if _holds(arg, field) else arg for arg in expr.args)


def _holds(expr: Expr, field: Field) -> bool:
    return any(access.function is field for access in accesses(expr))
