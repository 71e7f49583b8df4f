"""The tangent of a scheme: the product rule, applied to symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sympy

from .._devito import Derivative
from ..scheme.symbols import Field, Spatial
from ..scheme.system import Port, System, Update
from ..scheme.terms import (
    EquationError,
    Expr,
    at_offset,
    depends_on,
    is_access,
    product,
    replace_function,
    total,
    with_operand,
)
from .check import checked

Tangents = Mapping[Spatial, Spatial]


def tangent_of(expr: Expr, tangents: Tangents) -> Expr:
    """The derivative of an expression in a direction.

    Args:
        expr: the expression.
        tangents: the direction: the tangent of each function; functions without one are constant.

    Raises:
        EquationError: the expression is not a polynomial.
    """
    if is_access(expr):
        tangent = tangents.get(expr.function)
        return sympy.S.Zero if tangent is None else replace_function(expr, tangent)
    if not expr.args or not depends_on(expr, tangents):
        return sympy.S.Zero
    if isinstance(expr, Derivative):
        return with_operand(expr, tangent_of(expr.expr, tangents))
    if expr.is_Add:
        return total(tangent_of(arg, tangents) for arg in expr.args)
    if expr.is_Mul:
        parts = expr.args
        return total(
            product((*parts[:i], tangent_of(part, tangents), *parts[i + 1 :]))
            for i, part in enumerate(parts)
        )
    if expr.is_Pow and expr.exp.is_Integer and expr.exp > 0:
        return expr.exp * expr.base ** (expr.exp - 1) * tangent_of(expr.base, tangents)
    raise EquationError(f"{expr} cannot be differentiated: it is not a polynomial")


def distinct(system: System, prefix: str) -> str:
    """The prefix, repeated as often as needed so that, before a name of the system, it never makes
    a name that is already taken."""
    functions = (*system.fields, *system.coefficients)
    names = {f.name for f in functions} | {p.name for p in (*system.inputs, *system.outputs)}
    longer = prefix
    while any(longer + name in names for name in names):
        longer += prefix
    return longer


def scattering(update: Update, coefficient_tangents: Tangents) -> Expr:
    """What a perturbation of the coefficients adds to the right-hand side of the tangent update.

    Args:
        update: an update of the scheme.
        coefficient_tangents: the perturbation of each coefficient.
    """
    return tangent_of(update.rhs, coefficient_tangents) + sympy.S.NegativeOne * tangent_of(
        update.mass, coefficient_tangents
    ) * at_offset(update.field, 1)


def linearize(system: System, prefix: str = "d") -> System:
    """The scheme and its tangent, as one system that advances both together.

    The result has the fields, coefficients, inputs and outputs of `system`, and a tangent of each,
    whose name has the prefix. It is an ordinary system: it can be transposed, or linearised again.

    Args:
        system: the scheme to linearise.
        prefix: put before the name of every tangent; see `distinct`.

    Raises:
        EquationError: the system cannot be transformed; see `checked`.
    """
    system = checked(system)
    prefix = distinct(system, prefix)
    field_tangents: dict[Field, Field] = {f: system.symbols.like(f, prefix) for f in system.fields}
    coefficient_tangents = {c: system.symbols.like(c, prefix) for c in system.coefficients}
    updates = []
    for update in (replace(u, pde=None) for u in system.updates):
        updates.append(update)
        rhs = tangent_of(update.rhs, field_tangents) + scattering(update, coefficient_tangents)
        updates.append(replace(update, field=field_tangents[update.field], rhs=rhs))

    def tangent_port(port: Port) -> Port:
        return port.between(field_tangents, prefix + port.name)

    return System(
        symbols=system.symbols,
        coefficients=(*system.coefficients, *coefficient_tangents.values()),
        updates=tuple(updates),
        inputs=(*system.inputs, *map(tangent_port, system.inputs)),
        outputs=(*system.outputs, *map(tangent_port, system.outputs)),
    )
