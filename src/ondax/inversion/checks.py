"""Refusals of `fwi`: each says what is wrong with which argument, and what to do."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def match(observed: Any, predicted: jax.ShapeDtypeStruct) -> Array:
    """The observed traces in the dtype of the predicted ones, after checking that they can be compared."""
    shape = tuple(np.shape(observed))
    if shape != predicted.shape:
        raise ValueError(
            f"observed has shape {shape}, but the propagator predicts {predicted.shape}, (shot, receiver, time): "
            "give it the survey that the traces were recorded with"
        )
    traces = jnp.asarray(observed, dtype=predicted.dtype)
    if not bool(jnp.isfinite(traces).all()):
        raise ValueError(
            "observed holds NaN or infinite values: set dead traces to zero, and leave them out by the misfit"
        )
    return traces


def check_whole(name: str, value: Any, at_least: int, at_most: int | None = None) -> None:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < at_least or (at_most is not None and value > at_most):
        limit = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise ValueError(f"{name}={value!r} must be a whole number {limit}")


def usable(path: Path) -> Path:
    if not path.parent.is_dir():
        raise ValueError(f"save={str(path)!r}: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise ValueError(f"save={str(path)!r} is a folder; give the path of a file")
    return path


def check_search(searches: bool, compares: bool, batch_size: Any, mask: Any, precondition: Any) -> None:
    """Refuses what would make a line search or L-BFGS work with wrong numbers."""
    if batch_size is not None and (searches or compares):
        raise ValueError(
            f"batch_size={batch_size} does not go with L-BFGS or a line search: they compare gradients of "
            "successive iterations, which would belong to different shots. Use all shots (batch_size=None), or "
            "a first-order optimiser such as optax.adam"
        )
    remedy = "invert for scaled variables instead: F = lambda x, **kw: propagator(start + scale * x, **kw)"
    if searches and precondition is not None:
        raise ValueError(
            "precondition does not go with a line search, which needs the slope of the misfit itself; " + remedy
        )
    binary = mask is None or all(bool(jnp.all((m == 0) | (m == 1))) for m in jax.tree.leaves(mask))
    if searches and not binary:
        raise ValueError(
            "a mask with values other than 0 and 1 does not go with a line search, which needs the slope of the "
            "misfit itself; round the mask, or " + remedy
        )
