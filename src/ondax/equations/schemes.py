"""Time differences that equations share, with the boundary's damping built in."""

from __future__ import annotations

from typing import Any

from devito import Derivative

from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import Expr, Symbols
from ..scheme.system import Update


def second_order_in_time(
    symbols: Symbols, boundary: AbstractBoundary, field: Any, density: Expr, forces: Expr
) -> Update:
    """`density (d2/dt2 + gamma d/dt) field = forces`, centred differences of second order."""
    dt, gamma = symbols.dt, boundary.damping(symbols, field)
    after, before = 1 / dt**2 + gamma / (2 * dt), 1 / dt**2 - gamma / (2 * dt)
    return Update(
        field, density * after, forces + density * (2 / dt**2 * field - before * field.backward)
    )


def first_order_in_time(
    symbols: Symbols, boundary: AbstractBoundary, field: Any, density: Expr, forces: Expr
) -> Update:
    """`density (d/dt + gamma) field = forces`, from one step to the next, centred between them."""
    dt, gamma = symbols.dt, boundary.damping(symbols, field)
    return Update(
        field, density * (1 / dt + gamma / 2), forces + density * (1 / dt - gamma / 2) * field
    )


def to_half(expr: Expr, dimension: Any) -> Expr:
    """The staggered first derivative, from nodes to the points half a cell beyond."""
    return Derivative(expr, (dimension, 1), x0={dimension: dimension + dimension.spacing / 2})


def to_node(expr: Expr, dimension: Any) -> Expr:
    """The staggered first derivative, from half points back to the nodes."""
    return Derivative(expr, (dimension, 1), x0={dimension: dimension})
