"""Checks of values that name the value at fault and the remedy. Imports nothing of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

T = TypeVar("T")


CONSTRAINT_ROUNDING = 1e-6  # of float32 parameters of order one


def positive(name: str, value: float | int, unit: str) -> float:
    """A positive, finite number.

    Raises:
        ValueError: it is not.
    """
    number = float(value)
    if not (math.isfinite(number) and number > 0.0):
        raise ValueError(f"{name}={value!r} must be a positive number, in {unit}")
    return number


def not_negative(name: str, value: float | int) -> float:
    """A finite number, 0 or more.

    Raises:
        ValueError: it is not.
    """
    number = float(value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name}={value!r} must be a number, 0 or more")
    return number


def fraction(name: str, value: float | int) -> float:
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


def floating_type(arrays: Sequence[Any]) -> Any:
    """float64 if any input is, else float32.

    Raises:
        TypeError: an input is not real and floating.
    """
    types = []
    for x in arrays:
        dtype = jnp.result_type(x)
        if dtype not in (jnp.float32, jnp.float64):
            raise TypeError(f"an input has type {dtype}: use float32 or float64")
        types.append(dtype)
    return jnp.float64 if jnp.dtype("float64") in types else jnp.float32


def shape(name: str, values: Any, expected: tuple[int, ...]) -> None:
    """Check a shape.

    Raises:
        ValueError: another shape.
    """
    if jnp.shape(values) != expected:
        hint = ""
        if len(jnp.shape(values)) == len(expected) and jnp.shape(values) == expected[::-1]:
            hint = ": transpose it, depth is the last axis"
        raise ValueError(f"{name} has shape {jnp.shape(values)}, expected {expected}{hint}")


def shaped(name: str, values: Any, expected: tuple[int, ...], dtype: Any) -> Array:
    """The values as an array of the given type.

    Raises:
        ValueError: another shape.
    """
    shape(name, values, expected)
    array = values if isinstance(values, jax.Array) else jnp.asarray(values)
    return array if array.dtype == dtype else array.astype(dtype)


def told_apart(a: float, b: float) -> tuple[str, str]:
    """Two different numbers as texts that differ."""
    for digits in range(2, 17):
        texts = f"{a:.{digits}g}", f"{b:.{digits}g}"
        if texts[0] != texts[1]:
            return texts[0], f"{b:g}" if f"{b:g}" != texts[0] else texts[1]
    return repr(a), repr(b)


def finite_speeds(slowest: float, fastest: float) -> None:
    """Check that a model's slowest and fastest speed, m/s, are speeds.

    Raises:
        ValueError: not finite or not positive.
    """
    if not (math.isfinite(slowest) and math.isfinite(fastest)):
        raise ValueError("the model's wave speed is NaN or infinite somewhere")
    if slowest <= 0.0:
        raise ValueError(f"the model's slowest wave speed is {slowest:g} m/s: it must be positive")


def least_values(positive: Mapping[str, float], constraints: Mapping[str, float]) -> None:
    """Check the least values of parameters that must be positive, and of combinations that must not
    be negative.

    Raises:
        ValueError: names the first at fault.
    """
    for name, value in positive.items():
        if value <= 0.0:  # NaN is found among the coefficients
            raise ValueError(
                f"the model's least {name} is {value:g}: it must be positive everywhere"
            )
    for name, value in constraints.items():
        if value < -CONSTRAINT_ROUNDING:
            raise ValueError(
                f"the model's least {name} is {value:g}: it must not be negative anywhere"
            )


def all_finite(values: np.ndarray) -> bool:
    """Are there neither NaN nor infinities? Seen in the extremes, which take a fifth of the time
    of a sum in double precision."""
    if not values.size:
        return True
    return math.isfinite(values.max()) and math.isfinite(values.min())


def finite_coefficient(name: str, values: np.ndarray) -> None:
    """Check the values of a scheme's coefficient.

    Raises:
        ValueError: one is not finite.
    """
    if not all_finite(values):
        raise ValueError(
            f"the model gives the coefficient {name} values that are not finite: look for NaN, inf "
            "or 0"
        )
