"""What a wave equation is: physics stated once, as symbols, and a map from parameters to coefficients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .system import Expr, Symbols, System

Parameters = Any  # a pytree of arrays: one array, or a dict of arrays by name


class AbstractBoundary(eqx.Module):
    """What surrounds the model: cells added on every side, and what happens to waves in them."""

    width: eqx.AbstractVar[int]

    @abstractmethod
    def damping(self, symbols: Symbols, field: Any) -> Expr:
        """The symbol of the damping rate, 1/s, at the points where `field` lives."""

    @abstractmethod
    def profiles(
        self, symbols: Symbols, shape: Sequence[int], spacing: Sequence[float], max_velocity: float
    ) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        """Values of every profile symbol that the boundary has handed out, by name."""


class AbstractWaveEquation(eqx.Module):
    """A wave equation: symbols for the scheme, and the physical parameters that feed it.

    Subclasses are final, hold static settings only, and define:

    - `parameter_names`: the physical parameters, in order;
    - `positive_parameters`: those that must be positive everywhere, beside the speeds below (optional);
    - `system`: the scheme, in Devito symbols;
    - `coefficients`: from parameters on the padded grid to the scheme's coefficients, in JAX;
    - `speeds`: the slowest and fastest wave speed of a model, in m/s;
    - `largest_step`: the largest stable time step.
    """

    parameter_names: ClassVar[tuple[str, ...]]
    positive_parameters: ClassVar[tuple[str, ...]] = ()
    space_order: eqx.AbstractVar[int]

    @abstractmethod
    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        """The scheme on a grid of `symbols.ndim` axes."""

    @abstractmethod
    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Coefficients by name, on the padded grid, from parameters on the padded grid (pure JAX)."""

    @abstractmethod
    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        """The slowest and the fastest wave speed of a model, m/s."""

    @abstractmethod
    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        """The largest stable time step in seconds (von Neumann)."""

    def named(self, model: Parameters) -> dict[str, Any]:
        """The model as a dict of its parameters.

        Raises:
            ValueError: parameters are missing or unknown.
        """
        names = self.parameter_names
        if not isinstance(model, Mapping):
            if len(names) == 1:
                return {names[0]: model}
            raise ValueError(
                f"{type(self).__name__} has the parameters {', '.join(names)}: pass a dict with these keys, "
                f"not {type(model).__name__}"
            )
        if set(model) != set(names):
            raise ValueError(
                f"{type(self).__name__} needs the parameters {', '.join(names)}; got {', '.join(map(str, model)) or 'none'}"
            )
        return {name: model[name] for name in names}


def half_points(values: Float[Array, ...], axis: int) -> Float[Array, ...]:
    """The mean of neighbours along an axis: from nodes to the points half a cell beyond; the last is repeated."""
    following = jnp.concatenate(
        [lax.slice_in_dim(values, 1, None, axis=axis), lax.slice_in_dim(values, -1, None, axis=axis)], axis=axis
    )
    return 0.5 * (values + following)
