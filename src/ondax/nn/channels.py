"""Conversion of models: networks have the parameters as channels of one array, equations by
name."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..propagator import Propagator


def from_channels(F: Propagator, channels: Float[Array, "parameter *grid"]) -> dict[str, Any]:
    """The parameters of a propagator's equation by name, from an array with one channel for each.

    Raises:
        ValueError: another shape; the message names the parameters in the order of the channels.
    """
    names = F.equation.required(F.grid.ndim)
    if channels.shape != (len(names), *F.grid.shape):
        raise ValueError(
            f"a model of shape {channels.shape}: give (parameter, *grid) = "
            f"{(len(names), *F.grid.shape)}, the parameters being {', '.join(names)}; jax.vmap "
            "adds a batch axis"
        )
    return dict(zip(names, channels, strict=True))


def to_channels(F: Propagator, model: Any) -> Float[Array, "parameter *grid"]:
    """The parameters of a model as channels of one array.

    Args:
        F: the propagator, whose equation says the order.
        model: an array or a dict of arrays, as F takes it.
    """
    named = F.equation.named(model)
    return jnp.stack([named[name] for name in F.equation.required(F.grid.ndim)])
