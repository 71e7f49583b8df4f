"""Positions given to a call: in double precision until they are weights, also where JAX has only
float32."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .. import _validate
from .._resolution import check_resolution


def known_to_jax(values: Any) -> bool:
    """Are the values, or some of them, JAX arrays? Those may be float32 for want of anything
    better."""
    return any(isinstance(x, jax.Array) for x in jax.tree.leaves(values))


def as_pairs(
    name: str, values: Any, shape: tuple[int, ...], dtype: Any, nearest: float
) -> tuple[Float[Array, "shot point axis 2"], bool]:
    """Positions as pairs of numbers that sum to them: what a type cannot hold of a position, the
    second number holds.

    Args:
        name: of the positions, for messages.
        values: metres, of the given shape. NumPy arrays and lists are taken in double precision.
        shape: (shot, point, axis).
        dtype: of the pairs.
        nearest: the coordinate in the grid that is nearest to 0, metres: float32 resolves nothing
            better than there.

    Returns:
        The pairs, and whether the positions came in single precision, so that their resolution must
        be checked once they are known.

    Raises:
        ValueError: another shape, or a resolution worse than a millimetre.
    """
    _validate.shape(name, values, shape)
    if not known_to_jax(values):
        given = np.asarray(values)
        check_resolution(name, given, given.dtype)
        return jnp.asarray(paired(given.astype(np.float64), dtype)), False
    positions = jnp.asarray(values)
    seen = np.array([nearest]) if isinstance(positions, Tracer) else np.asarray(positions)
    check_resolution(name, seen, positions.dtype)
    high = positions.astype(dtype)
    low = jax.lax.stop_gradient(positions - high.astype(positions.dtype)).astype(dtype)
    return jnp.stack([high, low], axis=-1), positions.dtype != jnp.float64


def paired(exact: np.ndarray, dtype: Any) -> np.ndarray:
    """Numbers in double precision as pairs that sum to them."""
    high = exact.astype(dtype)
    return np.stack([high, (exact - high).astype(dtype)], axis=-1)


def from_pairs(pairs: np.ndarray) -> np.ndarray:
    """Positions in double precision."""
    return pairs.astype(np.float64).sum(axis=-1)
