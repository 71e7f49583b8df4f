"""Parametrisations that change each value by itself."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..constraints import spread
from .base import Parametrization, check_names, check_order, ends, known, same_structure, sort


def slowness(*names: str) -> Parametrization:
    """Slowness, s/m, the inverse of velocity: travel times are linear in it.

    Args:
        names: of the parameters to which this applies, in a model that is a dict, such as "vp";
            the others stay as they are, and all keep their names. Default: to all arrays.
    """
    return _of_values("slowness", names, lambda s: 1.0 / s, lambda v: 1.0 / v)


def squared_slowness(*names: str) -> Parametrization:
    """The square of slowness, s2/m2, which is the coefficient of the acoustic equation.

    Args:
        names: as in `slowness`.
    """
    return _of_values("squared_slowness", names, lambda m: m**-0.5, lambda v: v**-2.0)


def logarithm(*names: str) -> Parametrization:
    """The natural logarithm: equal steps are equal ratios, so that parameters of different units
    become comparable, and no value turns negative (Tarantola, 2005).

    Args:
        names: as in `slowness`.
    """
    return _of_values("logarithm", names, jnp.exp, jnp.log)


def scaled(sizes: PyTree = None, *, like: PyTree = None) -> Parametrization:
    """Several parameters, each divided by a size, so that an optimiser sees numbers of the same
    size: `scaled({"vp": 100.0, "rho": 50.0})`.

    In gradient descent, the step of a parameter grows with the square of its size, and L-BFGS
    begins like this. Sizes like the changes that are expected are a good choice.

    Args:
        sizes: a number, or a tree that fits the model: an array has a size for each point.
        like: in place of `sizes`, a model: the sizes are the root mean squares of its arrays.

    Raises:
        ValueError: a size that is not positive and finite; both arguments, or neither.
    """
    if (sizes is None) == (like is None):
        raise ValueError("scaled: give either sizes or like=model, of which sizes are taken")
    if like is not None:
        sizes = jax.tree.map(lambda m: float(np.sqrt(np.mean(np.square(m, dtype=float)))), like)
    for size in jax.tree.leaves(sizes):
        if not (np.all(np.isfinite(size)) and np.all(np.asarray(size) > 0.0)):
            raise ValueError(f"sizes={sizes!r} must be positive and finite; leave zeros out")

    def larger(x: PyTree) -> PyTree:
        return jax.tree.map(jnp.multiply, x, spread("sizes", sizes, x))

    def smaller(model: PyTree) -> PyTree:
        return jax.tree.map(jnp.divide, model, spread("sizes", sizes, model))

    def bounds(lower: PyTree, upper: PyTree) -> tuple[PyTree, PyTree]:
        def over(bound: PyTree) -> PyTree:
            values, by = same_structure(bound, sizes)
            return jax.tree.map(lambda v, s: v / jnp.asarray(s, v.dtype), values, by)

        return over(lower), over(upper)

    return Parametrization(larger, smaller, bounds, name="scaled")


def between(lower: PyTree, upper: PyTree) -> Parametrization:
    """Models that stay between bounds whatever is inverted for: `middle + half * tanh((x - middle)
    / half)`, with the half of the interval (for such changes of variables, see Habashy and
    Abubakar, 2004).

    In the middle of the interval, x is the model itself, in its units. It goes on to infinity where
    the model approaches a bound. So this keeps bounds together with `conditioned`, where bounds of
    the model are no bounds of what is inverted for: `b = between(1450.0, 4500.0)`, then
    `conditioned(b.from_model(vp0), operator) | b`.

    Args:
        lower: a number, or a tree that fits the model, in its units.
        upper: likewise.

    Raises:
        ValueError: the lower bound is not below the upper one.
    """
    check_order(lower, upper)

    def interval(model: PyTree) -> tuple[PyTree, PyTree]:
        low, high = spread("lower bound", lower, model), spread("upper bound", upper, model)
        middle = jax.tree.map(lambda a, b: 0.5 * (a + b), low, high)
        return middle, jax.tree.map(lambda a, b: 0.5 * (b - a), low, high)

    def to_model(x: PyTree) -> PyTree:
        return jax.tree.map(lambda x, m, h: m + h * jnp.tanh((x - m) / h), x, *interval(x))

    def from_model(model: PyTree) -> PyTree:
        def back(value: Array, middle: Array, half: Array) -> Array:
            share = (value - middle) / half
            if known(share) and not np.all(np.abs(share) < 1.0):
                raise ValueError(
                    f"the model, {float(jnp.min(value)):g} to {float(jnp.max(value)):g}, must lie "
                    f"within the bounds of `between`, {ends(lower, upper)}, and not on them: "
                    "widen the bounds"
                )
            return middle + half * jnp.arctanh(share)

        return jax.tree.map(back, model, *interval(model))

    def bounds(low: PyTree, high: PyTree) -> tuple[PyTree, PyTree]:
        raise ValueError(
            f"the models of `between` already keep to {ends(lower, upper)}: leave `bounds` out, "
            "or change those"
        )

    return Parametrization(to_model, from_model, bounds, name="between")


def _of_values(
    name: str,
    names: tuple[str, ...],
    to_model: Callable[[Array], Array],
    from_model: Callable[[Array], Array],
) -> Parametrization:
    """A monotone function of each positive value, of all arrays or those named."""

    def over(function: Callable[[Array], Array], model: PyTree) -> PyTree:
        if not names:
            return jax.tree.map(lambda value: function(jnp.asarray(value)), model)
        check_names(name, model, names)
        return {n: function(jnp.asarray(v)) if n in names else v for n, v in model.items()}

    def inverse(model: PyTree) -> PyTree:
        def back(value: Array) -> Array:
            if known(value) and not np.all(np.asarray(value) > 0.0):
                raise ValueError(
                    f"{name} takes positive values, but the least of the model is "
                    f"{float(jnp.min(value)):g}: name the parameters that it is meant for, such as "
                    f'{name}("vp")'
                )
            return from_model(value)

        return over(back, model)

    def bounds(lower: PyTree, upper: PyTree) -> tuple[PyTree, PyTree]:
        def back(value: Array) -> Array:
            if not np.all(np.asarray(value) >= 0.0):
                raise ValueError(
                    f"the bound {float(jnp.min(value)):g} of {name} must not be negative"
                )
            return from_model(value)

        return sort(over(back, lower), over(back, upper))

    return Parametrization(lambda x: over(to_model, x), inverse, bounds, name=name)
