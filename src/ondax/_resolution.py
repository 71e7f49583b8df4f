"""How finely a floating-point type tells positions apart."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

FINEST = 1e-3  # metres: positions must be resolved at least as finely


def check_resolution(name: str, positions: np.ndarray, dtype: Any) -> None:
    """Check that the type in which positions were given tells points apart that are a millimetre
    from each other.

    Raises:
        ValueError: it does not, at the coordinates given.
    """
    if not jnp.issubdtype(dtype, jnp.floating) or positions.size == 0:
        return
    farthest = float(np.max(np.abs(positions)))
    if not (math.isfinite(farthest) and farthest > 0.0):
        return  # what is not finite is refused elsewhere
    resolved = float(jnp.finfo(dtype).eps) * 2.0 ** math.floor(math.log2(farthest))
    if resolved > FINEST:
        raise ValueError(
            f"{name} came in {jnp.dtype(dtype).name}, which at {farthest:.10g} m resolves "
            f"{resolved:.3g} m only, so that "
            f"their digits are lost (worse than {FINEST:g} m): give them as NumPy arrays in "
            "float64, from the beginning on, or "
            "as JAX arrays with jax.config.update('jax_enable_x64', True), or choose coordinates, "
            "and the grid's origin, near 0"
        )
