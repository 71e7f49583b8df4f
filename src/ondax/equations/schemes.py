"""Differences that equations share: in time, with the boundary's damping built in; and in space, on
the staggered grid."""

from __future__ import annotations

from typing import Any

from .._symbolic import devito, sympy
from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import Expr, Symbols
from ..scheme.system import Update


def second_order_in_time(
    symbols: Symbols, boundary: AbstractBoundary, field: Any, density: Expr, forces: Expr
) -> Update:
    """The update for `density (d2/dt2 + gamma d/dt + pull) field = forces`, by centred differences
    of second order.

    Args:
        symbols: of the scheme.
        boundary: gives gamma, the damping rate of its layers, and the pull of theirs (see
            `AbstractBoundary.pull`), whose factor is averaged in time, so that the step's limit is
            the undamped scheme's.
        field: the field; it must be of time order 2.
        density: pointwise; of coefficients.
        forces: linear in the fields.
    """
    damping, pull = boundary.damping(symbols, field), boundary.pull(symbols, field)
    from ..scheme.continuous import Pde

    return Update(field, *Pde(field, density, sympy.S.Zero, forces).discretised(damping, pull))


def first_order_in_time(
    symbols: Symbols, boundary: AbstractBoundary, field: Any, density: Expr, forces: Expr
) -> Update:
    """The update for `density (d/dt + gamma) field = forces`, by differences from one step to the
    next, centred between them.

    Args:
        symbols: of the scheme.
        boundary: gives gamma, the damping rate of its sponges.
        field: the field.
        density: pointwise; of coefficients.
        forces: linear in the fields, half a step later than `field`.
    """
    damping = boundary.damping(symbols, field)
    from ..scheme.continuous import Pde

    return Update(field, *Pde(field, density, sympy.S.Zero, forces).discretised(damping))


def as_fed(field: Any) -> Update:
    """The update of a field that, in each step, is what sources feed to it and nothing else."""
    return Update(field, sympy.S.One, sympy.S.Zero)


def slope(field: Any, dimension: Any) -> Expr:
    """The first derivative of a field, for a port, which evaluates it where sources or receivers
    are."""
    return devito.Derivative(field, (dimension, 1))


def to_half(expr: Expr, dimension: Any) -> Expr:
    """The first derivative along a dimension of what lives at nodes, at the points half a cell
    beyond them.

    Args:
        expr: of fields and coefficients.
        dimension: one of `symbols.dimensions`.
    """
    return devito.Derivative(
        expr, (dimension, 1), x0={dimension: dimension + dimension.spacing / 2}
    )


def to_node(expr: Expr, dimension: Any) -> Expr:
    """The first derivative along a dimension of what lives half a cell beyond the nodes, at the
    nodes.

    Args:
        expr: of fields and coefficients.
        dimension: one of `symbols.dimensions`.
    """
    return devito.Derivative(expr, (dimension, 1), x0={dimension: dimension})
