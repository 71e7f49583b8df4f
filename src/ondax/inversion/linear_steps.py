"""One iteration of a linear inversion as one compiled function, `step(state, problem, ...) ->
state, numbers`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
from jaxtyping import Array, Float, PyTree

from .step import Seen, evaluated, strong

Operator = lx.AbstractLinearOperator
Scalar = Float[Array, ""]


class LinearNumbers(NamedTuple):
    """What an iteration reports: norms of the data residual, relative to that of the data, and of
    the slope."""

    data_residual: float
    normal_residual: float


class ConjugateGradients(NamedTuple):
    """The whole state of CGLS, so that whatever stops it, it goes on to the same bits.

    Attributes:
        x: the solution so far.
        residual: `b - A x`.
        direction: of the last step; zero before the first.
        slope: squared norm of `A' residual - damping x` before that step.
        steepest: the largest slope so far.
    """

    x: PyTree
    residual: PyTree
    direction: PyTree
    slope: Scalar
    steepest: Scalar


ROUNDING = 10.0  # units in the last place that a wave solve is off, relative to its largest values


def start_cgls(A: Operator, b: PyTree) -> ConjugateGradients:
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), A.in_structure())
    one = jnp.ones((), jax.tree.leaves(b)[0].dtype)
    return ConjugateGradients(zeros, b, zeros, one, 0.0 * one)


@eqx.filter_jit
def migrated(state: ConjugateGradients, A: Operator) -> PyTree:
    """`A' residual`, the first half of a step of CGLS."""
    return A.T.mv(state.residual)


@eqx.filter_jit
def cgls_step(
    state: ConjugateGradients,
    migrated: PyTree,
    A: Operator,
    up: Scalar,
    size: Scalar,
    damping: Scalar,
) -> tuple[ConjugateGradients, Scalar, Scalar]:
    """One step of conjugate gradients on the normal equations, which are never formed: one product
    with A' and one with A.

    A loop of our own around it, and not lineax's, which is a closed `while_loop`: between two
    steps, everything can be saved, shown and interrupted. The product with A' comes first, so that
    no solve is spent before the first step.

    Args:
        state: where the iteration stands.
        migrated: `A' residual`.
        A: the operator.
        up: x times this is what A is given.
        size: norm of the data.
        damping: times the squared norm of x.

    Returns:
        The next state; the norm of the residual over `size`; the norm of the slope before the step.
    """
    s = optax.tree.add_scale(optax.tree.scale(up, migrated), -damping, state.x)
    slope = _inner(s, s)
    steepest = jnp.maximum(state.steepest, slope)
    # A slope that is all rounding has no direction: steps along it would add up and lead away
    # again.
    arrived = slope <= (ROUNDING * jnp.finfo(slope.dtype).eps) ** 2 * steepest
    direction = optax.tree.add_scale(s, _ratio(slope, state.slope), state.direction)
    moved = A.mv(optax.tree.scale(up, direction))
    curvature = _inner(moved, moved) + damping * _inner(direction, direction)
    alpha = jnp.where(arrived, jnp.zeros_like(slope), _ratio(slope, curvature))
    x = optax.tree.add_scale(state.x, alpha, direction)
    residual = optax.tree.add_scale(state.residual, -alpha, moved)
    left = jnp.sqrt(_inner(residual, residual)) / size
    return ConjugateGradients(x, residual, direction, slope, steepest), left, jnp.sqrt(slope)


def _inner(x: PyTree, y: PyTree) -> Scalar:
    return jnp.asarray(optax.tree.vdot(x, y))


def _ratio(above: Scalar, below: Scalar) -> Scalar:
    """Zero where there is nothing to divide by."""
    return jnp.where(below > 0.0, above / jnp.where(below > 0.0, below, 1.0), 0.0)


class GradientDescent(NamedTuple):
    """The state of an optax optimiser, and the solution so far."""

    x: PyTree
    optimizer: PyTree


class Misfit(NamedTuple):
    """Half the squared norm of the data residual, as functions of x and of an iteration's arrays.

    Attributes:
        of: x and arrays to the value.
        of_zero: arrays to the value at x = 0, which costs no wave solve.
    """

    of: Callable[[PyTree, Any], Scalar]
    of_zero: Callable[[Any], Scalar]


def make_gradient_step(
    misfit: Misfit, optimizer: optax.GradientTransformationExtraArgs, searches: bool
) -> Any:
    """Compiles `step(state, arrays, root, seen) -> state, seen, numbers`, of which the last are the
    norm of the data residual over that of the data, and what `step.evaluated` reports.

    Args:
        misfit: what to minimise, with half the squared norm of `root * x` added.
        optimizer: sees the objective as `seen` says.
        searches: whether it keeps value and gradient of where its line search ended.
    """

    @eqx.filter_jit
    def step(state: GradientDescent, arrays: Any, root: Scalar, seen: Seen) -> Any:
        def damping(x):
            scaled = optax.tree.scale(root, x)
            return 0.5 * _inner(scaled, scaled)

        def objective(x):
            return misfit.of(x, arrays) + damping(x)

        value, gradient, value_fn, seen, numbers = evaluated(
            objective, state.x, state.optimizer, seen, searches
        )
        with jax.numpy_dtype_promotion(
            "standard"
        ):  # optax mixes dtypes, also for those who forbid it elsewhere
            updates, opt_state = optimizer.update(
                gradient, state.optimizer, state.x, value=value, grad=gradient, value_fn=value_fn
            )
        of_data = jnp.maximum(numbers.misfit - damping(state.x), 0.0)
        left = jnp.sqrt(_ratio(of_data, misfit.of_zero(arrays)))
        return (
            GradientDescent(optax.apply_updates(state.x, updates), strong(opt_state)),
            seen,
            left,
            numbers,
        )

    return step
