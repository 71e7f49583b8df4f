"""The exact discrete adjoint of a scheme, term by term.

For a step `M_f f[n+1] = sum_g A_fgo g[n+o] + S q[n]` with multiplier `a_f[n]`, stationarity with
respect to `g[n+1]` gives `M_g a_g[n] = sum_f A_fgo' a_f[n+1-o] + R' r[n+1]`. Read backward in time,
with `a[n]` as the new value, this is again an explicit step in which an access at offset `o` has
become one at the same offset `o` of the adjoint field. Of a memory, `f[n+1] = K f[n] + T ...`, it
is `T a_f` that is stepped: likewise `K` times the old value and `T` times the rest. So the
transpose of a system is a system, whose updates run in reverse order and whose inputs and outputs
are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import sympy
from devito.finite_differences import Derivative

from ..scheme.symbols import Field, Spatial
from ..scheme.system import System, text
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

    Reverse accumulation: what reaches an expression from everywhere it stands is summed before it
    is passed on. So an operator that several updates share is transposed once, and applied once.

    Args:
        pairs: each expression with the cotangent of its value, at the points where it lives.
        wanted: which accesses are the variables.

    Yields:
        An access, and its cotangent.
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
    """How deep an expression is nested."""
    return 0 if is_access(expr) or not expr.args else 1 + max(map(height, expr.args))


def _transposed_derivative(derivative: Derivative, cotangent: Expr) -> Expr:
    """Centred differences: odd orders change sign, and the result lives where the operand lived."""
    where = location(derivative.expr)
    x0 = {d: point(d, where.get(d, False)) for d in derivative.dims}
    sign = (-1) ** sum(derivative.deriv_order)
    return sympy.Integer(sign) * with_operand(derivative, cotangent, x0)


def transpose(system: System, prefix: str = "a") -> System:
    """The adjoint scheme, stepping backward in time, as a system of its own.

    Its `forward` is the earlier time. Its inputs are the outputs of `system` and the other way
    round. It holds no gradients of the coefficients: see `coefficient_gradients`.

    Args:
        system: the scheme to transpose.
        prefix: put before the name of every adjoint field, as often as it takes to make all names
            different.
    """
    system = checked(system)
    prefix = distinct(system, prefix)
    adjoints: dict[Field, Field] = {f: system.symbols.like(f, prefix) for f in system.fields}
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
            replace(u, field=adjoints[u.field], rhs=total(contributions[u.field]))
            for u in reversed(system.updates)
        ),
        inputs=tuple(port.between(adjoints) for port in system.outputs),
        outputs=tuple(port.between(adjoints) for port in system.inputs),
    )
