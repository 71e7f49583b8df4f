"""The exact discrete adjoint of a scheme, term by term.

For a step `M_f f[n+1] = sum_g A_fgo g[n+o] + S q[n]` with multiplier `a_f[n]`, stationarity with respect to `g[n+1]`
gives `M_g a_g[n] = sum_f A_fgo' a_f[n+1-o] + R' r[n+1]`. Read backward in time, with `a[n]` as the new value, this is
again an explicit step in which an access at offset `o` has become one at the same offset `o` of the adjoint field. So
the transpose of a system is a system, whose updates run in reverse order and whose inputs and outputs are exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy
from devito.finite_differences import Derivative

from ..equations.system import Field, Port, Spatial, System, Update
from .check import checked
from .linearize import distinct, twin
from .terms import (
    EquationError,
    Expr,
    accesses,
    at_offset,
    depends_on,
    is_access,
    location,
    point,
    product,
    time_offset,
    total,
    with_operand,
)


def pull(expr: Expr, cotangent: Expr, variables: set[Spatial]) -> Iterator[tuple[Spatial, Expr]]:
    """Transpose an expression that is linear in `variables`.

    Args:
        expr: the expression.
        cotangent: the cotangent of its value, at the points where it lives.
        variables: the functions it is linear in.

    Yields:
        An access of a variable, and what the expression contributes to that access's cotangent.
    """
    if is_access(expr):
        if expr.function in variables:
            yield expr, cotangent
    elif isinstance(expr, Derivative):
        if depends_on(expr, variables):
            yield from pull(expr.expr, _transposed_derivative(expr, cotangent), variables)
    elif expr.is_Add:
        for arg in expr.args:
            yield from pull(arg, cotangent, variables)
    elif expr.is_Mul:
        varying = [arg for arg in expr.args if depends_on(arg, variables)]
        if len(varying) > 1:
            raise EquationError(f"{expr} is not linear in {', '.join(sorted(v.name for v in variables))}")
        if varying:
            others = (arg for arg in expr.args if arg is not varying[0])
            yield from pull(varying[0], product((*others, cotangent)), variables)
    elif depends_on(expr, variables):
        raise EquationError(f"{expr} is not linear in {', '.join(sorted(v.name for v in variables))}")


def _transposed_derivative(derivative: Derivative, cotangent: Expr) -> Expr:
    """Centred differences: odd orders change sign, and the result lives where the operand lived."""
    where = location(derivative.expr)
    x0 = {d: point(d, where.get(d, False)) for d in derivative.dims}
    sign = (-1) ** sum(derivative.deriv_order)
    return sympy.Integer(sign) * with_operand(derivative, cotangent, x0)


def transpose(system: System, prefix: str = "a") -> System:
    """The adjoint scheme, stepping backward in time, as a system of its own.

    Its `forward` is the earlier time. Its inputs are the outputs of `system` and the other way round. It holds no
    gradients of the coefficients: see `coefficient_gradients`.

    Args:
        system: the scheme to transpose.
        prefix: put before the name of every adjoint field, as often as it takes to make all names different.
    """
    system = checked(system)
    prefix = distinct(system, prefix)
    adjoints: dict[Field, Field] = {f: twin(f, prefix) for f in system.fields}
    contributions: dict[Field, list[Expr]] = {f: [] for f in system.fields}
    fields = set(system.fields)
    for update in system.updates:
        offsets = {time_offset(a) for a in accesses(update.rhs) if a.function in fields}
        for offset in sorted(offsets):
            cotangent = at_offset(adjoints[update.field], offset)
            for access, term in pull(update.rhs, cotangent, fields):
                if time_offset(access) == offset:
                    contributions[access.function].append(term)

    def adjoint_port(port: Port) -> Port:
        return Port(port.name, tuple((adjoints[f], factor) for f, factor in port.terms))

    return System(
        symbols=system.symbols,
        coefficients=system.coefficients,
        updates=tuple(
            Update(adjoints[u.field], u.mass, total(contributions[u.field])) for u in reversed(system.updates)
        ),
        inputs=tuple(map(adjoint_port, system.outputs)),
        outputs=tuple(map(adjoint_port, system.inputs)),
    )
