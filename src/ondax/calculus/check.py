"""The check of what the calculus cannot transform; errors name the term at fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .._devito import Derivative, Function
from ..scheme.symbols import Field, Spatial, Symbols
from ..scheme.system import System, Update
from ..scheme.terms import (
    EquationError,
    Expr,
    accesses,
    depends_on,
    explicit,
    is_access,
    location,
    summands,
    time_offset,
)


def checked(system: System) -> System:
    """Check a system, and state where on the grid each of its derivatives is evaluated.

    Returns:
        The same system, with an evaluation point (`x0`) in every derivative.

    Raises:
        EquationError: an update is not linear in the fields, not polynomial in the coefficients,
            inconsistently staggered, not explicit, or uses a symbol that the system does not
            declare, or a number that is not real.
    """
    fields = set(system.fields)
    if len(fields) != len(system.updates):
        raise EquationError("a field is updated twice in one step")
    names = [f.name for f in (*system.fields, *system.coefficients, *system.symbols.profiles)]
    for name in names:
        if names.count(name) > 1:
            raise EquationError(
                f"two symbols are called {name}: kernels tell arrays apart by name, so give each "
                "its own"
            )
    known = fields | set(system.coefficients) | set(system.symbols.profiles)
    advanced: set[Field] = set()
    updates = []
    for update in system.updates:
        update = _with_points(update)
        for access in (
            a for e in (update.rhs, update.mass, update.keep, update.take) for a in accesses(e)
        ):
            if access.function not in known:
                raise EquationError(
                    f"{access} is neither a field nor a coefficient nor a profile of this equation"
                )
        for expr in (update.rhs, update.mass, update.keep, update.take):
            _check_constants(expr, update, system.symbols)
        _check_mass(update, fields)
        _check_memory(update, set(system.symbols.profiles))
        _check_order(update, advanced, fields)
        for term in summands(update.rhs) if update.rhs != 0 else ():
            degree = field_degree(term, fields)
            if degree != 1:
                raise EquationError(
                    f"the update of {update.field.name} is not linear in the fields: the term "
                    f"{term} has degree {degree}"
                )
            _check_polynomial(term)
        _check_location(update)
        advanced.add(update.field)
        updates.append(update)
    for port in (*system.inputs, *system.outputs):
        for touch in port.touches:
            if touch.field not in fields:
                raise EquationError(
                    f"port {port.name} refers to {touch.field}, which no update advances"
                )
    return replace(system, updates=tuple(updates))


def _with_points(update: Update) -> Update:
    """The update with an evaluation point in every derivative of its right-hand side."""
    where = location(update.field)
    return replace(update, rhs=explicit(update.rhs, where))


def field_degree(expr: Expr, fields: set[Field]) -> int:
    """The polynomial degree of an expression in the fields.

    Raises:
        EquationError: it is not a polynomial in them, or not homogeneous.
    """
    if is_access(expr):
        return int(expr.function in fields)
    if isinstance(expr, Derivative):
        return field_degree(expr.expr, fields)
    if expr.is_Mul:
        return sum(field_degree(arg, fields) for arg in expr.args)
    if expr.is_Add:
        degrees = {field_degree(arg, fields) for arg in expr.args}
        if len(degrees) > 1:
            raise EquationError(f"the term {expr} is not linear in the fields")
        return degrees.pop()
    if depends_on(expr, fields):
        raise EquationError(f"the term {expr} is not linear in the fields")
    return 0


def _check_constants(expr: Expr, update: Update, symbols: Symbols) -> None:
    """What is no function must be a finite real number, the time step or a spacing of the grid."""
    if is_access(expr):
        return
    if isinstance(expr, Derivative):
        _check_constants(expr.expr, update, symbols)
        return
    for arg in expr.args:
        _check_constants(arg, update, symbols)
    name = update.field.name
    if expr.is_Symbol and expr not in {symbols.dt, *(d.spacing for d in symbols.dimensions)}:
        raise EquationError(
            f"the update of {name} holds the symbol {expr}, whose value kernels do not know: give "
            "a number, or, of what varies in space, make a coefficient"
        )
    if not expr.args and not expr.is_Symbol and not (expr.is_real and expr.is_finite):
        raise EquationError(
            f"the update of {name} holds {expr}, which is no finite real number: write the real "
            "and the imaginary part as fields of their own"
        )


def _check_mass(update: Update, fields: set[Field]) -> None:
    """The mass must be pointwise, without fields, and polynomial in the coefficients."""
    if depends_on(update.mass, fields):
        raise EquationError(f"the mass of {update.field.name}, {update.mass}, contains a field")
    if update.mass.has(Derivative):
        raise EquationError(
            f"the mass of {update.field.name}, {update.mass}, contains a derivative: it must be "
            "pointwise"
        )
    _check_polynomial(update.mass)


def _check_memory(update: Update, profiles: set[Spatial]) -> None:
    """`keep` and `take` may consist of profiles and numbers only; with `keep`, so may the mass."""
    for name, expr in (("keep", update.keep), ("take", update.take)):
        if any(access.function not in profiles for access in accesses(expr)) or expr.has(
            Derivative
        ):
            raise EquationError(
                f"{name} of {update.field.name}, {expr}, may consist of profiles and numbers only"
            )
    if update.keep != 0 and any(
        access.function not in profiles for access in accesses(update.mass)
    ):
        raise EquationError(
            f"{update.field.name} keeps part of itself, so its mass, {update.mass}, must be fixed"
        )


def _check_order(update: Update, advanced: set[Field], fields: set[Field]) -> None:
    """Only fields that have been updated earlier in the step may be read at the next time, and only
    those of second order in time at the previous one."""
    for access in accesses(update.rhs):
        field: Any = access.function
        if field in fields and time_offset(access) == -1 and field.time_order < 2:
            raise EquationError(
                f"the update of {update.field.name} reads {access}, but {field.name} is of first "
                "order in time, whose values before the present are not kept: make it with "
                "time_order=2"
            )
        if (
            access.function in fields
            and time_offset(access) == 1
            and access.function not in advanced
        ):
            raise EquationError(
                f"the update of {update.field.name} reads {access}, which is not known yet: only "
                "fields updated earlier in the step can be read at the next time"
            )


def _check_polynomial(expr: Expr) -> None:
    """Coefficients may stand only in sums, products, derivatives and positive integer powers."""
    if is_access(expr):
        return
    holds_function = any(isinstance(a, Function) for a in accesses(expr))
    power = expr.is_Pow and expr.exp.is_Integer and expr.exp > 0
    if holds_function and not (power or expr.is_Add or expr.is_Mul or isinstance(expr, Derivative)):
        raise EquationError(
            f"{expr} is not polynomial in the coefficients: make it a coefficient of its own, "
            "computed from the parameters"
        )
    for arg in expr.args:
        _check_polynomial(arg)


def _check_location(update: Update) -> None:
    """Mass and terms must live where the updated field does."""
    target = location(update.field)
    for part in (update.mass, *summands(update.rhs)):
        for d, half in location(part).items():
            if target.get(d, half) != half:
                raise EquationError(
                    f"inconsistent staggering in the update of {update.field.name}: {part} lives "
                    f"at another point along {d}"
                )
