"""Reading and rebuilding Devito expressions: accesses, locations on the staggered grid,
derivatives.

Expressions here are trees of sums, products, integer powers, derivatives, accesses to functions,
and constants. Derivatives are never expanded to the points that they read, so that Devito can still
optimise what the calculus returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sympy

from .._devito import Derivative, Function, TimeFunction
from .errors import EquationError as EquationError
from .symbols import Expr, Field, Spatial

Location = Mapping[Any, bool]
"""Where something lives, by dimension: False on a node, True half a cell beyond it. Dimensions
along which it is constant are missing."""


def is_access(expr: Expr) -> bool:
    """Whether an expression is a Devito function, at its own grid points and at some time."""
    return isinstance(expr, Function)


def accesses(expr: Expr) -> Iterator[Spatial]:
    """All accesses to functions in an expression, each as often as it occurs."""
    if is_access(expr):
        yield expr
        return
    for arg in expr.args:
        yield from accesses(arg)


def depends_on(expr: Expr, functions: Mapping[Spatial, Any] | set[Spatial]) -> bool:
    """Whether any of some functions occurs in an expression."""
    return any(access.function in functions for access in accesses(expr))


def pointwise(expr: Expr, field: Field) -> tuple[Expr, Expr]:
    """The factor of a field in the terms of an expression that do not differentiate it, and the
    expression without those terms.

    Raises:
        EquationError: such a term is not linear in the field.
    """
    if is_access(expr):
        own = expr.function is field
        return (sympy.S.One, sympy.S.Zero) if own else (sympy.S.Zero, expr)
    if isinstance(expr, Derivative) or not depends_on(expr, {field}):
        return sympy.S.Zero, expr
    if expr.is_Add:
        found = [pointwise(arg, field) for arg in expr.args]
        return total(factor for factor, _ in found), total(rest for _, rest in found)
    varying = [arg for arg in expr.args if depends_on(arg, {field})]
    if not expr.is_Mul or len(varying) > 1:
        raise EquationError(f"the term {expr} is not linear in {field.name}")
    others = product(arg for arg in expr.args if arg is not varying[0])
    factor, rest = pointwise(varying[0], field)
    return product((others, factor)), product((others, rest))


def time_offset(access: Spatial) -> int:
    """The time of an access in steps: 0 for the current one, 1 for `field.forward`, -1 for
    `field.backward`.

    Raises:
        EquationError: it is at another time.
    """
    if not isinstance(access, TimeFunction):
        return 0
    function: Field = access.function
    shift = (access.indices[0] - function.indices[0]) / access.time_dim.spacing
    if shift not in (-1, 0, 1):
        raise EquationError(f"{access} reaches beyond the previous and the next time step")
    return int(shift)


def at_offset(field: Field, offset: int) -> Spatial:
    """The access of `field` at a time offset of -1, 0 or 1."""
    return {-1: field.backward, 0: field, 1: field.forward}[offset]


def replace_function(access: Spatial, other: Spatial) -> Spatial:
    """An access of another function, at the same time."""
    if isinstance(access, TimeFunction) and isinstance(other, TimeFunction):
        return at_offset(other, time_offset(access))
    return other


def map_accesses(expr: Expr, rule: Callable[[Spatial], Expr]) -> Expr:
    """Rebuild an expression with `rule(access)` in place of every access."""
    if is_access(expr):
        return rule(expr)
    if isinstance(expr, Derivative):
        return with_operand(expr, map_accesses(expr.expr, rule))
    if not expr.args:
        return expr
    return expr.func(*[map_accesses(arg, rule) for arg in expr.args])


def with_operand(
    derivative: Derivative, operand: Expr, x0: Mapping[Any, Expr] | None = None
) -> Expr:
    """The same derivative of another expression; numbers are taken out of it.

    Args:
        derivative: the derivative.
        operand: the expression.
        x0: where the result is evaluated, by dimension; by default, where the derivative was.
    """
    if operand == 0:
        return sympy.S.Zero
    orders = [(d, n) for d, n in zip(derivative.dims, derivative.deriv_order, strict=True)]
    numbers = [f for f in factors(operand) if f.is_Number]
    operand = product(f for f in factors(operand) if not f.is_Number) if numbers else operand
    moved = Derivative(
        operand, *orders, fd_order=tuple(derivative.fd_order), x0=dict(x0 or derivative.x0)
    )
    return product((*numbers, moved))


def point(dimension: Any, half: bool) -> Expr:
    """The coordinate symbol of a node, or of the point half a cell beyond it."""
    return dimension + dimension.spacing / 2 if half else dimension


def location(expr: Expr) -> dict[Any, bool]:
    """Where on the staggered grid an expression lives; see `Location`.

    Raises:
        EquationError: the operands of a sum or product live at different points, or an access is
            shifted.
    """
    if is_access(expr):
        return _access_location(expr)
    if isinstance(expr, Derivative):
        where = location(expr.expr)
        for d in expr.dims:
            if d in expr.x0:
                where[d] = _is_half(expr.x0[d], d)
            elif d not in where:
                raise EquationError(
                    f"{expr} differentiates along {d} something that does not vary along it"
                )
        return where
    merged: dict[Any, bool] = {}
    for arg in expr.args:
        for d, half in location(arg).items():
            if merged.setdefault(d, half) != half:
                raise EquationError(
                    f"inconsistent staggering in {expr}: its parts live at different points along "
                    f"{d}. Give derivatives an evaluation point (x0) and average coefficients to "
                    "the points where they are used"
                )
    return merged


def _access_location(access: Spatial) -> dict[Any, bool]:
    """Where a function lives.

    Raises:
        EquationError: the access is shifted from the function's own points.
    """
    where = {}
    for d, index in zip(access.function.dimensions, access.indices, strict=True):
        if not d.is_Space:
            continue
        where[d] = _is_half(index, d)
        own = access.function.indices[access.function.dimensions.index(d)]
        if index != own:
            raise EquationError(
                f"{access} is shifted along {d}: use derivatives instead of shifted accesses"
            )
    return where


def _is_half(index: Expr, dimension: Any) -> bool:
    """Whether an index is half a cell beyond a node.

    Raises:
        EquationError: it is neither that nor a node.
    """
    shift = (index - dimension) / dimension.spacing
    if shift not in (0, sympy.Rational(1, 2)):
        raise EquationError(f"the point {index} is neither a node nor half a cell beyond one")
    return shift != 0


def explicit(expr: Expr, at: Location | None = None) -> Expr:
    """State the evaluation point of every derivative that has none.

    As in Devito, that is where the context of the derivative lives: at the points `at`, those of
    the updated field; else where the other factors of its product live; else at the points of its
    operand.

    Raises:
        EquationError: there is a derivative in time, or of a kind whose transpose is not known.
    """
    if isinstance(expr, Derivative):
        if any(d.is_Time for d in expr.dims):
            raise EquationError(
                f"{expr}: write time differences with field.forward, field and field.backward"
            )
        if expr.side is not None or expr.weights is not None or expr.method != "FD":
            raise EquationError(f"{expr}: only centred finite differences can be transposed")
        operand = explicit(expr.expr)
        where = location(operand)
        x0 = dict(expr.x0)
        for d in expr.dims:
            if d not in x0:
                half = at[d] if at is not None and d in at else where.get(d, False)
                x0[d] = point(d, half)
        for d, n, order in zip(expr.dims, expr.deriv_order, expr.fd_order, strict=True):
            if n % 2 and order == 2 and _is_half(x0[d], d) == where.get(d, False):
                raise EquationError(
                    f"{expr}: of order 2, Devito takes a one-sided difference here. Use "
                    "space_order=4 or more, or stagger it"
                )
        return with_operand(expr, operand, x0)
    if is_access(expr) or not expr.args:
        return expr
    if expr.is_Mul and at is None:
        at = location(product(arg for arg in expr.args if not arg.has(Derivative)))
    return expr.func(*[explicit(arg, at) for arg in expr.args])


def factors(expr: Expr) -> tuple[Expr, ...]:
    """The factors of a product; any other expression is its only factor."""
    return tuple(expr.args) if expr.is_Mul else (expr,)


def summands(expr: Expr) -> tuple[Expr, ...]:
    """The terms of a sum; any other expression is its only term."""
    return tuple(expr.args) if expr.is_Add else (expr,)


def product(parts: Any) -> Expr:
    """The product of Devito expressions, as a Devito expression."""
    result: Expr = sympy.S.One
    for part in parts:
        result = result * part
    return result


def total(parts: Any) -> Expr:
    """The sum of Devito expressions, as a Devito expression."""
    result: Expr = sympy.S.Zero
    for part in parts:
        result = result + part
    return result
