"""Equations that are still continuous in time, and the explicit updates that centred differences
make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy

from .._devito import Derivative, TimeFunction
from .symbols import Expr, Field
from .terms import EquationError, accesses, is_access, pointwise, product, time_offset, total


@dataclass(frozen=True)
class Pde:
    """The equation of one field, of order n in time, with n = 1 or 2, the field's:

        inertia (d/dt)^n field + loss (d/dt)^(n - 1) field == forces

    Attributes:
        field: of time order n.
        inertia: pointwise; of coefficients.
        loss: likewise.
        forces: linear in the fields, without derivatives in time. They hold at the time of the
            field, if it is of second order, or half a step later, if it is of first order.
    """

    field: Field
    inertia: Expr
    loss: Expr
    forces: Expr

    def discretised(
        self, damping: Expr = sympy.S.Zero, pull: Expr = sympy.S.Zero
    ) -> tuple[Expr, Expr]:
        """The mass and the right-hand side of the update, by centred differences.

        Args:
            damping: a rate, 1/s, that is added to every derivative in time.
            pull: the factor of a force that pulls the field back, 1/s^2, for fields of second
                order. It is averaged in time, so that the step's limit is that without it.
        """
        field, dt = self.field, self.field.time_dim.spacing
        if field.time_order == 1:
            mass = self.inertia * (1 / dt + damping / 2)
            kept = self.inertia * (1 / dt - damping / 2)
            if self.loss != 0:
                mass, kept = mass + self.loss / 2, kept - self.loss / 2
            return mass, self.forces + kept * field
        after, before = 1 / dt**2 + damping / (2 * dt), 1 / dt**2 - damping / (2 * dt)
        if pull != 0:
            after, before = after + pull / 4, before + pull / 4
        now = 2 / dt**2 - pull / 2
        mass = self.inertia * after
        rhs = self.forces + self.inertia * (now * field - before * field.backward)
        if self.loss != 0:
            lost = self.loss / (2 * dt)
            mass, rhs = mass + lost, rhs + lost * field.backward
        return mass, rhs


def pde(expression: Expr, field: Field) -> Pde:
    """The equation `expression == 0` of a field, solved for the field's derivatives in time.

    Raises:
        EquationError: it cannot be discretised by centred differences, explicitly; says why, and
            the remedy.
        TypeError: `field` is not a field.
    """
    if not (isinstance(field, TimeFunction) and is_access(field) and field is field.function):
        raise TypeError(f"Update.of(expression, field): {field} is not a field of the scheme")
    name, order = field.name, field.time_order
    if getattr(expression, "is_Relational", False):
        expression = expression.lhs - expression.rhs
    parts = _by_order(sympy.sympify(expression), field, 0)
    highest = max((n for n, factor in parts.items() if factor != 0), default=0)
    if highest == 0:
        raise EquationError(
            f"the equation of {name}, {expression}, has no derivative of {name} in time: write "
            f"{name}.dt2 or {name}.dt"
        )
    if highest > 2:
        raise EquationError(
            f"the equation of {name} has a derivative of order {highest} in time: write it as "
            "equations of first and second order"
        )
    if highest != order:
        raise EquationError(
            f"the equation of {name} is of order {highest} in time, but the field of order {order}:"
            f" make it with symbols.field({name!r}, time_order={highest})"
        )
    inertia, loss, rest = (parts.get(n, sympy.S.Zero) for n in (order, order - 1, 0))
    for access in accesses(rest):
        if access.function is field and time_offset(access) != 0:
            raise EquationError(
                f"the equation of {name} holds {access}: write {name}, without a time, as its "
                f"values in time are chosen here; or state the scheme by ox.Update({name}, mass, "
                "rhs)"
            )
    if order == 1:
        loss, rest = pointwise(rest, field)
    if _in_time(inertia) or _in_time(loss):
        raise EquationError(f"the equation of {name}, {expression}, is not linear in the fields")
    if inertia.as_coeff_Mul()[0].is_negative:
        raise EquationError(
            f"the equation of {name} has the factor {inertia} at its highest derivative in time: "
            "multiply it by -1, because sources add to the side of that derivative's sign"
        )
    for access in accesses(rest):
        if access.function is field and order == 1:
            raise EquationError(
                f"the equation of {name}, of first order in time, differentiates {name} in space: "
                "centred in time it would be implicit. Write it as a system of two fields, each "
                "driven by the other, or with u_tt"
            )
    return Pde(field, inertia, loss, -rest)


def _by_order(expr: Expr, field: Field, n: int) -> dict[int, Expr]:
    """The n-th derivative in time of an expression: the factors of the field's derivatives by
    their order, and at 0 all that has no derivative in time.

    Raises:
        EquationError: it is not linear in them, or has others.
    """
    if isinstance(expr, Derivative) and any(d.is_Time for d in expr.dims):
        _check_plain(expr, field)
        return _by_order(expr.expr, field, n + expr.deriv_order[0])
    varies = _in_time if n else _differentiated
    if not varies(expr):
        return {} if n else {0: expr}
    if is_access(expr):
        function: Field = expr.function
        if function is not field:
            raise EquationError(
                f"the equation of {field.name} has a derivative of {function.name} in time: "
                "put what the equation of that field says in its place, or a difference of its "
                "values, such as (q.forward - q) / symbols.dt for a field q of first order that "
                "is updated earlier in the step"
            )
        if time_offset(expr) != 0:
            raise EquationError(f"the equation of {field.name} differentiates {expr} in time")
        return {n: sympy.S.One}
    if isinstance(expr, Derivative):
        raise EquationError(
            f"{expr}: centred in time, a derivative in space of one in time would be implicit. "
            f"State the scheme by ox.Update({field.name}, mass, rhs), with a difference of known "
            "values, such as (u - u.backward) / symbols.dt"
        )
    if expr.is_Add:
        found: dict[int, Expr] = {}
        for arg in expr.args:
            for order, factor in _by_order(arg, field, n).items():
                found[order] = total((found.get(order, sympy.S.Zero), factor))
        return found
    varying = [arg for arg in expr.args if varies(arg)]
    if not expr.is_Mul or len(varying) > 1:
        raise EquationError(f"the term {expr} is not linear in derivatives in time")
    others = product(arg for arg in expr.args if arg is not varying[0])
    return {
        order: product((others, factor))
        for order, factor in _by_order(varying[0], field, n).items()
    }


def _check_plain(derivative: Derivative, field: Field) -> None:
    """A derivative in time must leave to us how it is discretised."""
    if len(derivative.dims) > 1:
        raise EquationError(f"{derivative} is in time and in space at once: see {field.name}.dt")
    if derivative.side is not None or derivative.x0 or derivative.weights is not None:
        raise EquationError(
            f"the equation of {field.name} chooses how {derivative} is discretised: write "
            f"{field.name}.dt or {field.name}.dt2, which are centred"
        )


def _differentiated(expr: Any) -> bool:
    """Does an expression hold a derivative in time?"""
    if isinstance(expr, Derivative):
        return any(d.is_Time for d in expr.dims) or _differentiated(expr.expr)
    return not is_access(expr) and any(map(_differentiated, expr.args))


def _in_time(expr: Any) -> bool:
    """Does an expression depend on time?"""
    return any(isinstance(access, TimeFunction) for access in accesses(expr))
