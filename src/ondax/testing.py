"""Tests of operators that users can run on their own equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def _inner(a: Any, b: Any) -> float:
    """The inner product of two pytrees, summed in float64 so that it adds no rounding of its
    own."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(
        sum(np.vdot(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs)
    )


def dot_test(forward: Callable[[Any], Any], adjoint: Callable[[Any], Any], x: Any, y: Any) -> float:
    """How far a pair of linear operators is from being each other's transpose.

    Args:
        forward: a linear function.
        adjoint: its claimed transpose.
        x: a vector of the domain, any pytree of arrays; random values make a good test.
        y: a vector of the range, likewise.

    Returns:
        `|<forward(x), y> - <x, adjoint(y)>| / (|forward(x)| |y|)`. Exact adjoints give a few times
        the rounding of their
        type: below 1e-12 in float64 and 1e-5 in float32.

    Raises:
        ValueError: `forward(x)` or `y` is zero, which tests nothing.
    """
    image = forward(x)
    scale = np.sqrt(_inner(image, image) * _inner(y, y))
    if scale == 0.0:
        raise ValueError(
            "forward(x) or y is zero: this tests nothing; use random vectors and a source that is "
            "heard"
        )
    return abs(_inner(image, y) - _inner(x, adjoint(y))) / float(scale)
