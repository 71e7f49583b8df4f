"""From the symbols of a program to what runs need to know of it."""

from __future__ import annotations

from typing import Any

import sympy

from ..scheme.plan import Keeping, Kept, Plan, PlannedPort, Variable
from ..scheme.symbols import Expr, Spatial, Symbols
from ..scheme.system import Port, System, Touch
from ..scheme.terms import accesses, is_access, location, time_offset
from .coupling import Coupling
from .images import image_kept
from .regions import reach


def variable(function: Spatial, symbols: Symbols) -> Variable:
    """A function of a scheme, without its symbols."""
    space = [d for d in function.dimensions if d.is_Space]
    where, traits = location(function), symbols.traits_of(function)
    halo = dict(zip(function.dimensions, function.halo, strict=True))
    return Variable(
        name=function.name,
        axes=tuple(d.name for d in space),
        halo=tuple(int(halo[d][0]) for d in space),
        halves=tuple(bool(where[d]) for d in space),
        time_order=int(getattr(function, "time_order", 0)),
        image=traits.image,
        region=traits.region,
    )


def planned(system: System, extended: bool = False) -> Plan:
    """What runs need to know of a scheme.

    Args:
        system: the scheme, in its boundary.
        extended: sources are weights on the whole grid, not points.
    """
    symbols = system.symbols
    fields = {f: variable(f, symbols) for f in system.fields}

    def port(of: Port) -> PlannedPort:
        touches = (
            Touch(fields[t.field], None if t.along is None else t.along.name, float(t.factor))
            for t in of.touches
        )
        return PlannedPort(of.name, tuple(touches), of.time or 0.0, of.strains)

    return Plan(
        axes=symbols.axes,
        space_order=symbols.space_order,
        dtype=symbols.dtype.name,
        ghosts=symbols.ghosts,
        extended=extended,
        coefficients=tuple(variable(c, symbols) for c in system.coefficients),
        profiles=tuple(variable(p, symbols) for p in symbols.profiles),
        kinds={p.name: symbols.kind_of(p) for p in symbols.profiles},
        fields=tuple(fields.values()),
        masses={u.field.name: formula(u.mass, symbols.dt) for u in system.updates},
        inputs=tuple(map(port, system.inputs)),
        outputs=tuple(map(port, system.outputs)),
        felt=reach(system),
    )


def formula(expr: Expr, dt: Expr) -> str:
    """An expression without derivatives as Python has it, of the names of functions and of `dt`."""
    expr = sympy.sympify(expr)
    if is_access(expr):
        return expr.function.name
    if expr == dt:
        return "dt"
    if not expr.args:
        return repr(float(expr)) if expr.is_Number else str(expr)
    sign = {sympy.Add: " + ", sympy.Mul: " * ", sympy.Pow: " ** "}
    parts = [f"({formula(arg, dt)})" for arg in expr.args]
    for kind, between in sign.items():
        if isinstance(expr, kind):
            return between.join(parts)
    return f"{expr.func.__name__}({', '.join(parts)})"


def keeping(coupling: Coupling, symbols: Symbols) -> Keeping:
    """What is kept for some coefficients, without symbols."""
    kept = tuple(
        Kept(
            symbol=variable(q.symbol, symbols),
            field=variable(q.field, symbols),
            at_next=q.at_next,
            image=image_kept(q.symbol, q.expr, symbols),
        )
        for q in coupling.quantities
    )
    return Keeping(kept, window(coupling))


def window(coupling: Coupling) -> tuple[int, int]:
    """The first and the last time index of a history that the gradient of a step reads, counted
    from that step."""
    kept = {q.symbol for q in coupling.quantities}
    offsets: list[Any] = [
        time_offset(access)
        for term in coupling.gradients.values()
        for access in accesses(term)
        if access.function in kept
    ]
    return min(offsets, default=0), max(offsets, default=0)
