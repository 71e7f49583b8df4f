"""The sizes of data, misfits and gradients, so that the result of an inversion does not depend on
the units of the data.

It is known how the misfits of ondax grow with the traces, so they are evaluated for traces that are
divided by their size. The gradient is that of the misfit divided by its own value, and is then
multiplied to the size that an optimiser needs. All factors are powers of two, which change no digit
of a number.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ..misfits import envelope, global_correlation, huber, l1, least_squares, traveltime

DEGREES: dict[Any, int] = {
    least_squares: 2,
    l1: 1,
    huber: 2,
    global_correlation: 0,
    envelope: 2,
    traveltime: 0,
}
"""How misfits grow when predicted and observed traces do: like this power of their size."""
IN_UNITS_OF_DATA: dict[Any, tuple[str, ...]] = {huber: ("threshold",)}
"""Arguments of misfits that have the units of the traces."""

FITS = 90  # numbers of 2**-FITS to 2**FITS can still be multiplied by others in float32
ALIKE = 1e-4  # relative difference of two updates that differ by an optimiser's epsilon only
# Sizes of gradients to try: with smaller ones, an epsilon of 1e-8 would matter; squares of larger
# ones overflow.
SIZES = (1.0, 2.0**-8, 2.0**10, 2.0**40)
SWELL = (1.0, 4.0, 0.25, 2.0)  # factors of successive gradients


@final
class SizedMisfit(NamedTuple):
    """A misfit of traces that are divided by their size.

    Attributes:
        of: a function of predicted and observed traces, both multiplied by `2**-of_traces`.
        of_traces: see `of`.
        of_value: the misfit of the traces themselves is `2**of_value` times what `of` returns.
    """

    of: Callable[[Any, Any], Any]
    of_traces: int
    of_value: int


def sized(misfit: Callable[[Any, Any], Any], power: int) -> SizedMisfit:
    """A misfit for traces that are divided by `2**power`.

    A misfit that is not of ondax gets the traces as they are.

    Args:
        misfit: a misfit; one of ondax may be bound to arguments by `functools.partial`.
        power: binary exponent of the largest sample of the traces.
    """
    inner: Any = misfit
    arguments: dict[str, Any] = {}
    if isinstance(misfit, functools.partial) and not misfit.args:
        inner, arguments = misfit.func, dict(misfit.keywords)
    if inner not in DEGREES:
        return SizedMisfit(misfit, 0, 0)
    for name in IN_UNITS_OF_DATA.get(inner, ()):
        if name in arguments:
            arguments[name] = math.ldexp(float(arguments[name]), -power)
    return SizedMisfit(functools.partial(inner, **arguments), power, DEGREES[inner] * power)


def power_above(peak: float) -> int:
    """The least power of two above a positive number, as its exponent; 0 for zero and for what is
    not finite."""
    return math.frexp(peak)[1] if 0.0 < peak < math.inf else 0


def times_power_of_two(number: float, power: int) -> float:
    """`number * 2**power`; a number that is not finite stays as it is."""
    return math.ldexp(number, power) if math.isfinite(number) else number


def size_of_tree(tree: PyTree) -> int:
    """`power_above` of the largest absolute value in the arrays of a tree."""
    largest = 0.0
    for x in jax.tree.leaves(tree):
        largest = max(largest, float(jnp.max(jnp.abs(x), initial=0.0)))
    return power_above(largest)


# ---------------------------------------------------------------- in JAX


def shifted(tree: PyTree, power: Any) -> PyTree:
    """A tree of arrays times `2**power`.

    It is multiplied twice by the root of that, because `2**power` itself may be out of range. The
    barrier keeps XLA from multiplying the constants of several such calls with each other first:
    numbers that are made larger and then smaller again would pass through infinity, or zero.
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
    """The L2 norm of a tree as two numbers, `found` and `power`: it is `found * 2**power`, and
    `found` can be represented even where the norm cannot."""
    power = functools.reduce(jnp.maximum, [exponent(x) for x in jax.tree.leaves(tree)])
    return optax.tree.norm(shifted(tree, -power)), power


def relative_gradient(
    objective: Callable[[PyTree], Array], params: PyTree
) -> tuple[Array, PyTree, Array]:
    """The value of a function, its gradient divided by `2**power`, and `power`.

    `2**power` is about the value, so that the size of the function makes no difference to the
    numbers in the gradient's computation.
    """
    value, pull = jax.vjp(objective, params)
    power = exponent(value)
    (gradient,) = pull(shifted(jnp.ones_like(value), -power))
    return value, gradient, power


def power_to_one(size: Any, power: Any) -> Any:
    """The power of two by which `size * 2**power` has to be multiplied to lie between 1 and 2."""
    return 1 - jnp.frexp(size)[1] - power


# ---------------------------------------------------------------- optimisers and preconditioners


def ignores_size(optimizer: optax.GradientTransformationExtraArgs, params: PyTree) -> bool:
    """Whether an optimiser's steps stay the same if all gradients are multiplied by a constant, as
    those of Adam do (but for the small number in its denominators).

    This is tried out. The first step alone would not tell: Adam's first step is the same whether or
    not gradients are clipped. So several steps are made, with gradients that grow and shrink; and
    this at sizes far apart, so that a threshold of clipping lies between two of them.

    Args:
        optimizer: the optimiser.
        params: arrays of the model's structure, shapes and dtypes.
    """

    def steps(size: float) -> list[np.ndarray]:
        random, state = np.random.default_rng(0), optimizer.init(params)
        found: list[np.ndarray] = []
        # The first steps may be zero: those of a schedule, or while gradients are accumulated.
        for i in range(64):
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
    except Exception:  # the optimiser needs arguments that cannot be made up here
        return False
    return bool(first) and all(_alike(first, other) for other in others)


def _alike(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    """Whether two lists hold the same updates, but for an optimiser's epsilon."""
    if len(first) != len(second):
        return False
    for a, b in zip(first, second, strict=True):
        if not np.linalg.norm(a - b) <= ALIKE * np.linalg.norm(a):  # also where one is NaN
            return False
    return True


def _gradient_like(x: Array, random: np.random.Generator) -> np.ndarray:
    """Random values of either sign and of a size about one, in the shape of `x`."""
    return random.choice([-1.0, 1.0], x.shape) * random.uniform(0.5, 1.5, x.shape)


def keeps_size(precondition: Callable[[PyTree], PyTree], params: PyTree) -> bool:
    """Whether the result of a function of gradients grows in proportion to them.

    This is tried out on one random gradient, and on the same times 1024.

    Args:
        precondition: the function.
        params: arrays of the gradient's structure, shapes and dtypes.
    """
    random = np.random.default_rng(0)
    gradient = jax.tree.map(lambda x: jnp.asarray(_gradient_like(x, random), x.dtype), params)
    small, large = (jax.tree.leaves(precondition(shifted(gradient, power))) for power in (0, 10))
    return all(
        np.allclose(1024.0 * np.asarray(a), b, rtol=1e-5) for a, b in zip(small, large, strict=True)
    )
