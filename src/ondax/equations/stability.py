"""Von Neumann bounds of centred finite differences."""

from __future__ import annotations

from functools import cache
from typing import Any

from sympy import Rational
from sympy.calculus.finite_diff import finite_diff_weights

_ZERO: Any = 0


@cache
def second_derivative_weights(space_order: int) -> tuple[float, ...]:
    """Of the centred second difference, times h^2."""
    half = space_order // 2
    return tuple(map(float, finite_diff_weights(2, list(range(-half, half + 1)), _ZERO)[2][-1]))


def second_derivative_bound(space_order: int) -> float:
    """The largest eigenvalue, times h^2, of minus the centred second difference: sum of |weights|."""
    return sum(map(abs, second_derivative_weights(space_order)))


@cache
def staggered_derivative_bound(space_order: int) -> float:
    """The largest singular value, times h, of the staggered first difference: sum of |weights|."""
    half = space_order // 2
    points = [Rational(2 * i + 1, 2) for i in range(-half, half)]
    weights = finite_diff_weights(1, points, _ZERO)[1][-1]
    return float(sum(abs(w) for w in weights))


def largest_step(per_axis: float, spacing: tuple[float, ...], max_velocity: float) -> float:
    """The limit of leapfrog: `dt <= 2 / (v sqrt(sum_d bound / h_d^2))`, with `per_axis` the bound of one axis."""
    return 2.0 / (max_velocity * sum(per_axis / h**2 for h in spacing) ** 0.5)
