"""What a wave equation is: physics stated once, as symbols, and a map from parameters to
coefficients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import Symbols
from ..scheme.system import System
from .plausible import Plausible
from .time_stepping import TimeStepping

Parameters = Any  # a pytree of arrays: one array, or a dict of arrays by name


class AbstractWaveEquation(eqx.Module):
    """A wave equation: symbols for the scheme, and the physical parameters that feed it.

    Subclasses are final, and hold static settings only. They must define:

    - `parameter_names`: the physical parameters, in order;
    - `space_order`: the even accuracy order in space, a static field;
    - `system`: the scheme, in Devito symbols;
    - `coefficients`: from parameters on the padded grid to the scheme's coefficients, in JAX.

    They may define:

    - `speeds`: the slowest and fastest wave speed of a model, in m/s; by default, those of the
      symbols (see there);
    - `extreme`: parameters of a uniform medium of a given fastest velocity. Without it, that medium
      is found where one parameter sets the speed;
    - `largest_step`: the largest stable time step for a fastest velocity; by default, that of the
      symbols in this uniform medium;

    - `required(ndim)`: the parameters of a model of `ndim` axes, if they depend on that number; by
      default, all of `parameter_names`;
    - `positive_parameters`: those that must be positive everywhere, beside the speeds above;
    - `constraints`: combinations of parameters that must not be negative;
    - `plausible`: the range in which the largest absolute value of a parameter must lie; a value
      outside suggests another unit;
    - `contrasts`: up to which contrasts that step holds. Without them, it is checked for every
      model;
    - `time_stepping`: what its time steps do to frequencies, so that the error can be taken out of
      the traces: `ox.LEAPFROG` for centred differences in time, which is the default if
      `ox.Update.of` states all updates. Without it, traces are as the scheme makes them;
    - `stretchable`: whether it is stable in perfectly matched layers. True: they are the default
      boundary. False: they are refused. None (the default): a trial decides (see
      `ondax.stability.layer_trial`);
    - `joint_flux`: whether `system` states its flux, so that a `JointPML` can damp it;
    - `reflecting`: quantities that must not vary strongly along a perfectly matched layer (see
      `ondax.stability.layering`);
    - `at_surface`: what a free surface changes in the coefficients.
    """

    parameter_names: ClassVar[tuple[str, ...]]
    positive_parameters: ClassVar[tuple[str, ...]] = ()
    contrasts: ClassVar[Mapping[str, float] | None] = None
    """The parameters on whose contrast, the largest over the least value in a model, `largest_step`
    depends, each with the contrast up to which it holds. Empty: it holds for every model. None: not
    known, so that every model is checked."""
    plausible: ClassVar[Mapping[str, Plausible]] = {}
    time_stepping: ClassVar[TimeStepping | None] = None
    stretchable: ClassVar[bool | None] = None
    joint_flux: ClassVar[bool] = False
    space_order: eqx.AbstractVar[int]

    @abstractmethod
    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        """The scheme on a grid of `symbols.ndim` axes."""

    @abstractmethod
    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Coefficients by name, on the padded grid, from parameters on the padded grid (pure
        JAX)."""

    def constraints(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Combinations of parameters that must not be negative anywhere, by display name; they
        broadcast with the parameters. By default none."""
        return {}

    def reflecting(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Non-negative quantities, by display name. Where they jump, they reflect the waves that a
        perfectly matched layer amplifies. By default none."""
        return {}

    def required(self, ndim: int) -> tuple[str, ...]:
        """The parameters of a model of `ndim` axes."""
        return self.parameter_names

    def at_surface(self, coefficients: Mapping[str, Any]) -> dict[str, Any]:
        """The coefficients as a free surface along the first rows changes them; unless overridden,
        not at all."""
        return dict(coefficients)

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        """The slowest and the fastest wave speed of a model, m/s, in JAX.

        Unless overridden, they are those of plane waves in the principal part of the equation, that
        is its terms of highest order: at every point, and in 16 (2-D) or 49 (3-D) directions if
        they differ. Each call of a propagator computes them. That costs little where one or two
        kinds of waves exist, and as much as many time steps where there are more, as in 3-D elastic
        media. What attenuation or restoring forces do to speeds is left out.
        """
        from .principal import principal_speeds

        return principal_speeds(self, dict(parameters))

    def extreme(self, max_velocity: float) -> Mapping[str, float] | None:
        """The parameters, by name, of a uniform medium in which the fastest waves travel at
        `max_velocity`, m/s. The largest time step of a propagator is the one for this medium, where
        `largest_step` is not defined.

        Unless overridden, None: if the speed depends on one parameter alone, that one is solved
        for; of the others, positive ones are 1, and the rest 0.
        """
        return None

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float | None:
        """The largest stable time step, s, of models whose fastest speed is `max_velocity`, m/s, on
        a grid of so many metres between points.

        Unless overridden, None: it is found from the symbols, in a uniform medium (see `extreme`),
        and every model that is not uniform is checked by itself.
        """
        return None

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
                f"{type(self).__name__} has the parameters {', '.join(names)}: pass a dict with "
                "these keys, "
                f"not {type(model).__name__}"
            )
        names = self.required(max((np.ndim(v) for v in model.values()), default=0))
        if set(model) != set(names):
            raise ValueError(
                f"{type(self).__name__} needs the parameters {', '.join(names)}; got "
                f"{', '.join(map(str, model)) or 'none'}"
            )
        return {name: model[name] for name in names}
