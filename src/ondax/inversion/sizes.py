"""The sizes of data, misfits and gradients: what an inversion finds must not depend on the units of
the data.

Misfits of ondax know how they grow with the traces, so the loop evaluates them for traces of size
one. Gradients are taken of the misfit over its own value, and brought by powers of two, which leave
all digits alone, to the size that an optimiser needs.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from .misfits import envelope, global_correlation, huber, l1, least_squares, traveltime

DEGREES: dict[Any, int] = {
    least_squares: 2,
    l1: 1,
    huber: 2,
    global_correlation: 0,
    envelope: 2,
    traveltime: 0,
}
"""How misfits grow with predicted and observed traces: like this power of their size."""
IN_UNITS_OF_DATA: dict[Any, tuple[str, ...]] = {huber: ("threshold",)}
"""Their arguments that must grow along with the traces."""

FITS = 90  # binary exponent up to which values and gradients leave room on either side in float32
ALIKE = 1e-4  # relative difference of two updates that are the same but for an optimiser's epsilon
SIZES = (
    1.0,
    2.0**-8,
    2.0**10,
    2.0**40,
)  # of gradients: below, an epsilon of 1e-8 would show; above, squares overflow
SWELL = (1.0, 4.0, 0.25, 2.0)  # what successive gradients are multiplied by


class SizedMisfit(NamedTuple):
    """A misfit of traces over their size.

    Attributes:
        of: predicted and observed traces, both times `2**-of_traces`, to a value.
        of_traces: that power.
        of_value: the misfit is the value times two to this power.
    """

    of: Callable[[Any, Any], Any]
    of_traces: int
    of_value: int


def sized(misfit: Callable[[Any, Any], Any], power: int) -> SizedMisfit:
    """The misfit for traces over `2**power`; a function that is not of ondax sees them as they
    are."""
    inner: Any = misfit
    arguments: dict[str, Any] = {}
    if isinstance(misfit, functools.partial) and not misfit.args:
        inner, arguments = misfit.func, misfit.keywords
    if inner not in DEGREES:
        return SizedMisfit(misfit, 0, 0)
    moved = {
        n: math.ldexp(float(arguments[n]), -power)
        for n in IN_UNITS_OF_DATA.get(inner, ())
        if n in arguments
    }
    return SizedMisfit(
        functools.partial(inner, **(arguments | moved)), power, DEGREES[inner] * power
    )


def power_above(peak: float) -> int:
    """The binary exponent of a positive number; 0 for zero and for what is not finite."""
    return math.frexp(peak)[1] if 0.0 < peak < math.inf else 0


def size_of_tree(tree: PyTree) -> int:
    """The binary exponent of the largest absolute value of any array of a tree."""
    return power_above(
        max((float(jnp.max(jnp.abs(x), initial=0.0)) for x in jax.tree.leaves(tree)), default=0.0)
    )


# ---------------------------------------------------------------- in JAX


def shifted(tree: PyTree, power: Any) -> PyTree:
    """A tree of arrays times `2**power`, in two steps, as one of the two may be out of range.

    The barrier keeps XLA from multiplying the constants of several shifts by each other first: what
    is made larger and then smaller again would pass through infinity, or through zero.
    """
    half = jnp.asarray(power, jnp.int32) // 2

    def shift(x: Array) -> Array:
        factors = tuple(jnp.ldexp(jnp.ones((), x.dtype), p) for p in (half, power - half))
        first, second = jax.lax.optimization_barrier(factors)
        return x * first * second

    return jax.tree.map(shift, tree)


def exponent(x: Any) -> Array:
    """The binary exponent of the largest absolute value; 0 if it is zero or not finite."""
    largest = jnp.max(jnp.abs(x), initial=0.0)
    return jnp.frexp(jnp.where(jnp.isfinite(largest), largest, 0.0))[1]


def norm(tree: PyTree) -> tuple[Array, Array]:
    """The L2 norm as a number of moderate size and a power of two that it is to be multiplied
    by."""
    power = functools.reduce(jnp.maximum, [exponent(x) for x in jax.tree.leaves(tree)])
    return optax.tree.norm(shifted(tree, -power)), power


def relative_gradient(
    objective: Callable[[PyTree], Array], params: PyTree
) -> tuple[Array, PyTree, Array]:
    """Value, gradient over `2**power`, and that power: about the size of the value, so that it does
    not matter."""
    value, pull = jax.vjp(objective, params)
    power = exponent(value)
    (gradient,) = pull(shifted(jnp.ones_like(value), -power))
    return value, gradient, power


def power_to_one(size: Any, power: Any) -> Any:
    """The power of two that brings `size * 2**power` to between 1 and 2."""
    return 1 - jnp.frexp(size)[1] - power


# ---------------------------------------------------------------- optimisers and preconditioners


def ignores_size(optimizer: optax.GradientTransformationExtraArgs, params: PyTree) -> bool:
    """Whether an optimiser makes the same steps whatever all gradients are multiplied by, as Adam
    does, but for the small number that it adds to its denominators.

    Its first step would not tell: clipped or not, Adam's is the same. So gradients grow and shrink
    from step to step, and are tried at sizes far apart, between some of which a threshold shows.
    """

    def steps(size: float) -> list[np.ndarray]:
        random, state = np.random.default_rng(0), optimizer.init(params)
        found: list[np.ndarray] = []
        for i in range(
            64
        ):  # the first steps of a schedule, or of gradients that are added up, may be zero
            value = jnp.asarray(size, jnp.float32)
            factor = size * SWELL[i % len(SWELL)]
            gradient = jax.tree.map(
                lambda x, f=factor: jnp.asarray(f * _gradient_like(x, random), x.dtype), params
            )
            updates, state = optimizer.update(
                gradient,
                state,
                params,
                value=value,
                grad=gradient,
                value_fn=lambda params, value=value: value,
            )
            arrays = [np.asarray(u, np.float64) for u in jax.tree.leaves(updates)]
            if found or any(u.any() for u in arrays):
                found += arrays
            if len(found) >= len(SWELL) * len(arrays):
                return found
        return found

    try:
        with jax.numpy_dtype_promotion("standard"):
            first, *others = (steps(size) for size in SIZES)
    except Exception:  # it needs more than can be made up here: take it as it is
        return False
    return bool(first) and all(
        len(first) == len(other)
        and all(
            np.linalg.norm(a - b) <= ALIKE * np.linalg.norm(a)
            for a, b in zip(first, other, strict=True)
        )
        for other in others
    )


def _gradient_like(x: Array, random: np.random.Generator) -> np.ndarray:
    return random.choice([-1.0, 1.0], x.shape) * random.uniform(0.5, 1.5, x.shape)


def keeps_size(precondition: Callable[[PyTree], PyTree], params: PyTree) -> bool:
    """Whether a function of gradients makes a thousand times larger ones a thousand times
    larger."""
    random = np.random.default_rng(0)
    gradient = jax.tree.map(lambda x: jnp.asarray(_gradient_like(x, random), x.dtype), params)
    small, large = (jax.tree.leaves(precondition(shifted(gradient, power))) for power in (0, 10))
    return all(
        np.allclose(1024.0 * np.asarray(a), b, rtol=1e-5) for a, b in zip(small, large, strict=True)
    )
