"""The exact discrete adjoint of a scheme, term by term.

A step of the scheme is `M_f f[n+1] = sum_g A_fgo g[n+o] + S q[n]`, for fields f and g and time
offsets o, with sources q. Let `a_f[n]` be the Lagrange multiplier of this equation, and r the
residual of receivers, which R reads. Stationarity with respect to `g[n+1]` gives `M_g a_g[n] =
sum_f A_fgo' a_f[n+1-o] + R' r[n+1]`. Read backward in time, with `a[n]` as the new value, this is
again an explicit step: an access at offset o has become an access of the adjoint field at the same
offset o. For a memory variable, `f[n+1] = K f[n] + T ...`, the adjoint field is `T a_f`; its step
has the same form, K times the old value plus T times the rest. So the transpose of a system is a
system, whose updates run in reverse order, and whose inputs and outputs are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import sympy

from .._devito import Derivative
from ..scheme.symbols import Field, Spatial
from ..scheme.system import System, Update, text
from ..scheme.terms import (
    EquationError,
    Expr,
    accesses,
    at_offset,
    is_access,
    location,
    point,
    product,
    time_offset,
    total,
    with_operand,
)
from .check import checked
from .linearize import distinct


def pull(
    pairs: Iterable[tuple[Expr, Expr]], wanted: Callable[[Spatial], bool]
) -> Iterator[tuple[Spatial, Expr]]:
    """Transpose expressions that are linear in the wanted accesses.

    This is reverse accumulation: cotangents from all places where an expression occurs are summed
    before they are passed on. So an operator that several updates share is transposed once, and
    applied once.

    Args:
        pairs: expressions, each with the cotangent of its value, at the points where it lives.
        wanted: whether an access is one of the variables.

    Yields:
        An access, and its cotangent.

    Raises:
        EquationError: an expression is not linear in the variables.
    """
    waiting: dict[int, dict[str, tuple[Expr, list[Expr]]]] = {}

    def push(expr: Expr, cotangent: Expr) -> None:
        if any(wanted(access) for access in accesses(expr)):
            waiting.setdefault(height(expr), {}).setdefault(text(expr), (expr, []))[1].append(
                cotangent
            )

    for expr, cotangent in pairs:
        push(expr, cotangent)
    while waiting:
        for expr, cotangents in waiting.pop(max(waiting)).values():
            cotangent = total(cotangents)
            if is_access(expr):
                yield expr, cotangent
            elif isinstance(expr, Derivative):
                push(expr.expr, _transposed_derivative(expr, cotangent))
            elif expr.is_Add:
                for arg in expr.args:
                    push(arg, cotangent)
            elif expr.is_Mul:
                varying = [
                    arg for arg in expr.args if any(wanted(access) for access in accesses(arg))
                ]
                if len(varying) > 1:
                    raise EquationError(
                        f"{expr} is not linear: {' and '.join(map(str, varying))} are multiplied"
                    )
                others = (arg for arg in expr.args if arg is not varying[0])
                push(varying[0], product((*others, cotangent)))
            else:
                raise EquationError(f"{expr} is not linear")


def height(expr: Expr) -> int:
    """How deep an expression is nested; 0 for an access or a number."""
    return 0 if is_access(expr) or not expr.args else 1 + max(map(height, expr.args))


def _transposed_derivative(derivative: Derivative, cotangent: Expr) -> Expr:
    """The transpose of a derivative, applied to a cotangent.

    Those of centred differences have the same weights, with the opposite sign for odd orders; the
    result lives where the operand of the derivative does.
    """
    where = location(derivative.expr)
    x0 = {d: point(d, where.get(d, False)) for d in derivative.dims}
    sign = (-1) ** sum(derivative.deriv_order)
    return sympy.Integer(sign) * with_operand(derivative, cotangent, x0)


def _adjoint(system: System, update: Update, prefix: str) -> Field:
    """The adjoint of a field. It is read at as many times as the field's update reads others at:
    one of first order in time that is made of values before the present has an adjoint of second
    order."""
    before = any(time_offset(a) == -1 for a in accesses(update.rhs) if a.function in system.fields)
    return system.symbols.like(update.field, prefix, 2 if before else None)


def transpose(system: System, prefix: str = "a") -> System:
    """The adjoint scheme, which steps backward in time, as a system of its own.

    The `forward` of its fields is the earlier time. Its inputs are the outputs of `system`, and its
    outputs the inputs. It does not contain the gradients of the coefficients: for these, see
    `couple`.

    Args:
        system: the scheme to transpose.
        prefix: put before the name of every adjoint field; see `distinct`.

    Raises:
        EquationError: the system cannot be transformed; see `checked`.
    """
    system = checked(system)
    prefix = distinct(system, prefix)
    adjoints = {u.field: _adjoint(system, u, prefix) for u in system.updates}
    contributions: dict[Field, list[Expr]] = {f: [] for f in system.fields}
    for offset in (-1, 0, 1):
        pairs = [(u.rhs, at_offset(adjoints[u.field], offset)) for u in system.updates]

        def read(access: Spatial, offset: int = offset) -> bool:
            return access.function in adjoints and time_offset(access) == offset

        for access, term in pull(pairs, read):
            contributions[access.function].append(term)

    return System(
        symbols=system.symbols,
        coefficients=system.coefficients,
        updates=tuple(
            replace(u, field=adjoints[u.field], rhs=total(contributions[u.field]), pde=None)
            for u in reversed(system.updates)
        ),
        inputs=tuple(port.between(adjoints) for port in system.outputs),
        outputs=tuple(port.between(adjoints) for port in system.inputs),
    )
