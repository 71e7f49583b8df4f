"""Finite differences as offsets and weights."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import Any

from sympy import Rational, finite_diff_weights


@cache
def taps(derivative: int, order: int, shift: Fraction) -> tuple[tuple[int, float], ...]:
    """Offsets, in points, and weights, for a spacing of 1, of a centred difference.

    They are those that Devito takes, but from exact fractions: Devito rounds its own to nine
    digits.

    Args:
        derivative: its order.
        order: of its error.
        shift: how many cells it is evaluated beyond the points of what it differentiates.
    """
    if derivative == 1 and order == 2:
        order = 1
    reach = Fraction(order, 2)
    low, high = math.ceil(shift - reach), math.floor(shift + reach)
    if low == high:
        high += 1
    offsets = range(low, high + 1)
    at: Any = Rational(shift.numerator, shift.denominator)
    weights = finite_diff_weights(derivative, [Rational(o) for o in offsets], at)[-1][-1]
    return tuple((o, float(w)) for o, w in zip(offsets, weights, strict=True) if w != 0)
