"""The class of parametrisations, and pieces that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from ..projections import Projection

WIDER = 16.0 * float(np.finfo(np.float32).eps)  # of bounds, for the rounding of models on them

Function = Callable[[PyTree], PyTree]


@final
class Parametrization:
    """A function from what is inverted for to a model, and its inverse; `|` composes two.

    Args:
        to_model: a JAX function from what is inverted for to the model.
        from_model: its inverse, a JAX function.
        bounds: a function `(lower, upper) -> (lower, upper)`, from bounds of the model to those of
            what is inverted for; None where models between bounds are no such box.
        name: of the parametrisation, for messages.
    """

    def __init__(
        self,
        to_model: Function,
        from_model: Function,
        bounds: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]] | None = None,
        *,
        name: str = "this parametrisation",
    ) -> None:
        self._to_model, self._from_model, self._bounds = to_model, from_model, bounds
        self.name = name

    def __call__(self, inverted: PyTree) -> PyTree:
        """The model, from what is inverted for."""
        return self._to_model(inverted)

    def from_model(self, model: PyTree) -> PyTree:
        """What is inverted for, from the model.

        Raises:
            ValueError: no value of what is inverted for gives this model.
        """
        return self._from_model(jax.tree.map(jnp.asarray, model))

    def bounds(self, lower: PyTree, upper: PyTree) -> tuple[PyTree, PyTree]:
        """Bounds for `fwi`, from those of the model.

        They are wider by two parts in a million, so that rounding does not put a model that lies on
        a bound, such as water, outside.

        Args:
            lower: of the model: a number, or a tree that fits it.
            upper: likewise.

        Raises:
            ValueError: the lower bound is not below the upper one; or the models between these
                bounds are not those between any bounds of what is inverted for.
        """
        check_order(lower, upper)

        def moved(bound: Any, by: float) -> Any:
            values = jnp.asarray(bound, float)
            return values + by * jnp.abs(values)

        below = jax.tree.map(lambda bound: moved(bound, -WIDER), lower)
        above = jax.tree.map(lambda bound: moved(bound, WIDER), upper)
        return self._mapped(below, above)

    def projection(self, of_model: Function) -> Projection:
        """A projection of models as one of what is inverted for:
        `fwi(..., project=p.projection(ox.projections.box(lower, upper)))`.

        Args:
            of_model: from a model to one of the set, such as those of `ox.projections`.
        """
        return Projection(lambda inverted: self._from_model(of_model(self._to_model(inverted))))

    def __or__(self, other: Parametrization) -> Parametrization:
        if not isinstance(other, Parametrization):
            raise TypeError(
                f"{other!r} has no inverse: compose parametrisations with others, such as "
                "ox.parametrizations.Parametrization(to_model, from_model)"
            )
        return Parametrization(
            lambda inverted: other(self(inverted)),
            lambda model: self.from_model(other.from_model(model)),
            lambda lower, upper: self._mapped(*other._mapped(lower, upper)),
            name=f"{self.name} | {other.name}",
        )

    def __repr__(self) -> str:
        return f"<parametrisation {self.name}>"

    def _mapped(self, lower: PyTree, upper: PyTree) -> tuple[PyTree, PyTree]:
        """Bounds of what is inverted for, from those of the model as they are."""
        if self._bounds is None:
            raise ValueError(
                f"bounds of the model are no bounds of what {self.name} inverts for, because its "
                "values depend on each other: leave `bounds` out, and give "
                "fwi(project=p.projection(ox.projections.box(lower, upper))), where p is the "
                "parametrisation"
            )
        return self._bounds(lower, upper)


def known(value: Any) -> bool:
    """Whether a value is at hand, and not traced by JAX."""
    return not isinstance(value, Tracer)


def same_structure(a: PyTree, b: PyTree) -> tuple[PyTree, PyTree]:
    """Two trees, one of which may be the upper part of the other, as trees of the same structure.

    Raises:
        ValueError: neither is the upper part of the other.
    """
    if len(jax.tree.leaves(a)) < len(jax.tree.leaves(b)) or not isinstance(a, Mapping):
        return jax.tree.broadcast(a, b), b
    return a, jax.tree.broadcast(b, a)


def check_order(lower: PyTree, upper: PyTree) -> None:
    """Refuse a lower bound that is not below the upper one.

    Raises:
        ValueError: it is not.
    """
    for low, high in zip(*map(jax.tree.leaves, same_structure(lower, upper)), strict=True):
        if not np.all(np.asarray(low) < np.asarray(high)):
            raise ValueError(
                f"bounds {ends(lower, upper)}: the lower bound must be below the upper one "
                "everywhere"
            )


def sort(a: PyTree, b: PyTree) -> tuple[PyTree, PyTree]:
    """Bounds in their order, which a falling function has reversed."""
    a, b = same_structure(a, b)
    return jax.tree.map(jnp.minimum, a, b), jax.tree.map(jnp.maximum, a, b)


def ends(lower: PyTree, upper: PyTree) -> str:
    """The least and the largest value of bounds, in words."""
    low = min(float(np.min(v)) for v in jax.tree.leaves(lower))
    high = max(float(np.max(v)) for v in jax.tree.leaves(upper))
    return f"{low:g} to {high:g}"


def check_names(what: str, model: Any, names: tuple[str, ...]) -> None:
    """Refuse what is no dict that has these parameters.

    Raises:
        ValueError: it is not.
    """
    given = f"one of {', '.join(sorted(model))}" if isinstance(model, Mapping) else "a single array"
    missing = [n for n in names if not isinstance(model, Mapping) or n not in model]
    if missing:
        raise ValueError(f"{what} needs a dict of {', '.join(names)}, but was given {given}")
