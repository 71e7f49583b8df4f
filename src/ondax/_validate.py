"""Checks of single values, which name the value at fault and the remedy; they import nothing of
ondax, so every module can use them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def positive(name: str, value: float, unit: str) -> float:
    """A positive, finite number.

    Raises:
        ValueError: it is not.
    """
    number = float(value)
    if not (math.isfinite(number) and number > 0.0):
        raise ValueError(f"{name}={value!r} must be a positive number, in {unit}")
    return number


def not_negative(name: str, value: float) -> float:
    """A finite number, 0 or more.

    Raises:
        ValueError: it is not.
    """
    number = float(value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name}={value!r} must be a number, 0 or more")
    return number


def fraction(name: str, value: float) -> float:
    """A number above 0 and up to 1.

    Raises:
        ValueError: it is not.
    """
    number = float(value)
    if not 0.0 < number <= 1.0:
        raise ValueError(f"{name}={value!r} must be above 0 and at most 1")
    return number


def whole(name: str, value: Any, at_least: int, at_most: int | None = None) -> int:
    """The value as an int.

    Raises:
        ValueError: it is not a whole number within its limits.
    """
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or value < at_least or (at_most is not None and value > at_most):
        limit = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise ValueError(f"{name}={value!r} must be a whole number {limit}")
    return int(value)


def one_of(name: str, value: T, choices: Sequence[T]) -> T:
    """The value, which is one of the choices.

    Raises:
        ValueError: it is none of them.
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r}: choose one of {', '.join(map(repr, choices))}")
    return value
