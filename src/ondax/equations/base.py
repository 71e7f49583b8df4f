"""What a wave equation is: physics stated once, as symbols, and a map from parameters to
coefficients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import sympy
from jax import lax
from jaxtyping import Array, Float

from .plausible import Plausible
from .system import SURFACE_GAIN, Expr, Symbols, System
from .time_stepping import TimeStepping

Parameters = Any  # a pytree of arrays: one array, or a dict of arrays by name


class Conditions(NamedTuple):
    """What a boundary's strength depends on: along one axis, in SI units.

    Attributes:
        spacing: metres.
        max_velocity: m/s.
        frequency: dominant, Hz.
        dt: internal time step, s.
    """

    spacing: float
    max_velocity: float
    frequency: float
    dt: float


class AbstractBoundary(eqx.Module):
    """What surrounds the model. Equations ask it for damping; the rest is done to their schemes
    (see `stretched`)."""

    @abstractmethod
    def face(self, axis: str, side: str) -> AbstractLayer:
        """The layer at one end ("low" or "high") of an axis ("x", "y" or "z")."""

    def widths(self, axes: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Cells added below and above along each axis."""
        return tuple((self.face(a, "low").width, self.face(a, "high").width) for a in axes)

    @property
    def free_surface(self) -> bool:
        """Is there a free surface at the top?"""
        return self.face("z", "low").mirrors

    def damping(self, symbols: Symbols, field: Any) -> Expr:
        """The symbol of the damping rate of sponges, 1/s, at the points where `field` lives."""
        total = sympy.S.Zero
        for dimension in symbols.dimensions:
            if any(self.face(dimension.name, side).damps for side in ("low", "high")):
                index = field.indices[field.dimensions.index(dimension)]
                total += symbols.profile("gamma", dimension, staggered=index != dimension)
        return total

    def profiles(
        self,
        symbols: Symbols,
        shape: Sequence[int],
        spacing: Sequence[float],
        conditions: Conditions,
    ) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        """Values of every profile symbol of a scheme, by name; `conditions.spacing` is left to be
        filled in."""
        made = {}
        for symbol in symbols.profiles:
            (dimension,) = symbol.dimensions
            axis = symbols.dimensions.index(dimension)
            here, points = conditions._replace(spacing=spacing[axis]), shape[axis]
            kind = symbol.name.rsplit("_", 1)[0]
            index = np.arange(points) + (0.5 if symbol.indices[0] != dimension else 0.0)
            values = np.zeros(points)
            if kind == SURFACE_GAIN:  # the cell of a node on the surface is only half a cell
                values = np.where(index == 0.0, 2.0, 1.0)
            for side, cells in (("low", index), ("high", points - 1 - index)):
                layer = self.face(dimension.name, side)
                if kind in layer.profile_kinds and layer.width > 0:
                    # The last half point lies half a cell beyond the grid: a depth of more than 1
                    # would make alpha of a CPML negative there, and a mode at zero frequency grow.
                    depth = np.clip((layer.width - cells) / layer.width, 0.0, 1.0)
                    values = np.where(depth > 0.0, layer.values(kind, depth, here), values)
            made[symbol.name] = values
        return made


class AbstractLayer(AbstractBoundary):
    """One kind of boundary, on any face."""

    width: eqx.AbstractVar[int]
    profile_kinds: ClassVar[tuple[str, ...]] = ()
    mirrors: ClassVar[bool] = False

    def face(self, axis: str, side: str) -> AbstractLayer:
        return self

    @property
    def damps(self) -> bool:
        """Does it damp fields in time?"""
        return "gamma" in self.profile_kinds

    @property
    def stretches(self) -> bool:
        """Does it give derivatives a memory?"""
        return "pml_take" in self.profile_kinds

    @abstractmethod
    def values(self, kind: str, depth: np.ndarray, conditions: Conditions) -> np.ndarray:
        """The values of a profile at points of a depth in the layer, as a fraction of its width,
        greater than 0, at most 1."""


class AbstractWaveEquation(eqx.Module):
    """A wave equation: symbols for the scheme, and the physical parameters that feed it.

    Subclasses are final, hold static settings only, and define:

    - `parameter_names`: the physical parameters, in order;
    - `positive_parameters`: those that must be positive everywhere, beside the speeds below
      (optional);
    - `stretchable`: whether it is stable in perfectly matched layers, if known: where True they are
      the default boundary, where False they are refused, and where None, unless overridden, the
      default depends on a trial (see `ondax.layer_trial`);
    - `system`: the scheme, in Devito symbols;
    - `coefficients`: from parameters on the padded grid to the scheme's coefficients, in JAX;
    - `constraints`: combinations that must not be negative (optional);
    - `plausible`: between what the largest size of a parameter must lie, to notice another unit
      (optional);
    - `reflecting`: what must not vary strongly along a perfectly matched layer (optional; see
      `ondax.layering`);
    - `at_surface`: what a free surface changes in the coefficients (optional);
    - `speeds`: the slowest and fastest wave speed of a model, in m/s;
    - `largest_step`: the largest stable time step for a fastest velocity (optional: without it,
      propagators take the step from a model, `max_velocity=model`);
    - `contrasts`: up to which contrasts that step holds (optional: without them, it is checked for
      every model).
    - `time_stepping`: what its time steps do to frequencies, so that the error can be taken out of
      the traces:
      `ox.LEAPFROG` for centred differences in time. Without it (the default), traces are as the
      scheme makes them.
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
    space_order: eqx.AbstractVar[int]

    @abstractmethod
    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        """The scheme on a grid of `symbols.ndim` axes."""

    @abstractmethod
    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Coefficients by name, on the padded grid, from parameters on the padded grid (pure
        JAX)."""

    def constraints(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Combinations of parameters that must not be negative anywhere, by what to call them;
        unless overridden, none."""
        return {}

    def reflecting(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Quantities, none negative, at whose contrasts those waves are reflected that a perfectly
        matched layer amplifies between strata, by what to call them; unless overridden, none:
        strata do no harm."""
        return {}

    def required(self, ndim: int) -> tuple[str, ...]:
        """The parameters of a model of `ndim` axes."""
        return self.parameter_names

    def at_surface(self, coefficients: Mapping[str, Any]) -> dict[str, Any]:
        """The coefficients as a free surface along the first rows changes them; unless overridden,
        not at all."""
        return dict(coefficients)

    @abstractmethod
    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        """The slowest and the fastest wave speed of a model, m/s."""

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        """The largest stable time step, s, of models whose fastest speed is `max_velocity`, m/s, on
        a grid of so many metres between points.

        Raises:
            ValueError: unless overridden: the equation does not say.
        """
        raise ValueError(
            f"{type(self).__name__} does not say its largest step for a velocity: take the step "
            "from a model, "
            "Propagator(..., max_velocity=model), or define largest_step"
        )

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


def half_points(values: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """The mean of neighbours along an axis: from nodes to the points half a cell beyond; the last
    is repeated."""
    following = jnp.concatenate(
        [
            lax.slice_in_dim(values, 1, None, axis=axis),
            lax.slice_in_dim(values, -1, None, axis=axis),
        ],
        axis=axis,
    )
    return 0.5 * (values + following)


def harmonic_mean(values: Float[Array, "..."], axes: Sequence[int]) -> Float[Array, "..."]:
    """The harmonic mean of neighbours along several axes: from nodes to the points half a cell
    beyond along each; zero where one of them is zero, with a gradient that is finite."""
    positive = values > 0.0
    inverse, zeros = (
        1.0 / jnp.where(positive, values, 1.0),
        jnp.where(positive, 0.0, 1.0).astype(values.dtype),
    )
    for axis in axes:
        inverse, zeros = half_points(inverse, axis), half_points(zeros, axis)
    return jnp.where(zeros == 0.0, 1.0 / inverse, 0.0)
