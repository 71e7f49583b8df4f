"""From a model to the coefficients of a scheme, on the grid and the layers around it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import AXIS_NAMES
from .base import AbstractWaveEquation


@partial(jax.jit, static_argnums=(0, 1, 3))
def coefficients(
    equation: AbstractWaveEquation, boundary: AbstractBoundary, model: Any, ndim: int
) -> dict[str, Float[Array, "..."]]:
    """The scheme's coefficients on the padded grid, by name (plain JAX). The model continues into
    layers by its edges. Each parameter is padded by itself: one array of all would make
    coefficients depend on parameters that nobody differentiates."""
    padded = {}
    widths = boundary.widths(AXIS_NAMES[ndim])
    for name, values in equation.named(model).items():
        padded[name] = jnp.pad(values, widths, mode="edge") if any(map(any, widths)) else values
    by_name = equation.coefficients(padded)
    return boundary.changed(by_name, equation.at_surface)
