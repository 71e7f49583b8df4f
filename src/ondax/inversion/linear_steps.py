"""One iteration of a linear inversion, as a compiled function from state to state."""

from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
from jaxtyping import Array, Bool, Float, PyTree

from .step import Seen, optimizer_step
from .visits import Visits

Operator = lx.AbstractLinearOperator
Scalar = Float[Array, ""]


@final
class LinearNumbers(NamedTuple):
    """What an iteration reports; see `LinearHistory`.

    Attributes:
        data_residual: norm of the data residual over that of the data.
        normal_residual: norm of the gradient.
    """

    data_residual: float
    normal_residual: float


@final
class ConjugateGradients(NamedTuple):
    """The whole state of CGLS (conjugate gradients on the normal equations): saved and restored, it
    goes on to the same bits.

    Attributes:
        x: the solution so far.
        residual: `b - A x`.
        direction: of the last step; zero before the first.
        slope: squared norm of `A' residual - damping x` before that step.
        steepest: the largest slope so far.
        image: `A' residual`, if it has been followed; else zero.
        followed: whether it has.
    """

    x: PyTree
    residual: PyTree
    direction: PyTree
    slope: Scalar
    steepest: Scalar
    image: PyTree
    followed: Bool[Array, ""]


ROUNDING = 10.0  # rounding error of a wave solve: units in the last place of its largest values


def start_cgls(A: Operator, b: PyTree) -> ConjugateGradients:
    """The state of CGLS at x = 0, for the problem `A x = b`."""
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), A.in_structure())
    one = jnp.ones((), jax.tree.leaves(b)[0].dtype)
    return ConjugateGradients(zeros, b, zeros, one, 0.0 * one, zeros, jnp.asarray(False))


@eqx.filter_jit
def migrated(state: ConjugateGradients, A: Operator) -> PyTree:
    """Compute `A' residual`, the first half of a step of CGLS."""
    return A.T.mv(state.residual)


@eqx.filter_jit
def cgls_step(
    state: ConjugateGradients,
    migrated: PyTree,
    A: Operator | Visits,
    up: Scalar,
    size: Scalar,
    damping: Scalar,
) -> tuple[ConjugateGradients, Scalar, Scalar]:
    """One step of conjugate gradients on the normal equations (CGLS; Hestenes and Stiefel, 1952).

    The normal equations are never formed: a step takes one product with A' (see `migrated`) and one
    with A. A step is a function of its own, because the loop of lineax is a closed `while_loop`:
    between our steps, the state can be saved, shown and interrupted. The product with A' comes
    first, so that no wave solve is needed before the first step.

    Args:
        state: of the iteration.
        migrated: `A' residual`.
        A: the operator, or the same in visits: then the next state has followed `A' residual`.
        up: A is applied to `up * x`, a multiple of x that is of size one.
        size: norm of the data.
        damping: factor of the squared norm of x.

    Returns:
        The next state; the norm of the residual over `size`; the norm of the slope before the step.
    """
    s = optax.tree.add_scale(optax.tree.scale(up, migrated), -damping, state.x)
    slope = _inner(s, s)
    steepest = jnp.maximum(state.steepest, slope)
    # A slope that consists of rounding errors only has no meaning: steps along it would add up, and
    # lead away from the solution.
    arrived = slope <= (ROUNDING * jnp.finfo(slope.dtype).eps) ** 2 * steepest
    direction = optax.tree.add_scale(s, _ratio(slope, state.slope), state.direction)
    if isinstance(A, Visits):
        moved, back = A.there_and_back(optax.tree.scale(up, direction))
    else:
        moved, back = A.mv(optax.tree.scale(up, direction)), None
    curvature = _inner(moved, moved) + damping * _inner(direction, direction)
    alpha = jnp.where(arrived, jnp.zeros_like(slope), _ratio(slope, curvature))
    x = optax.tree.add_scale(state.x, alpha, direction)
    residual = optax.tree.add_scale(state.residual, -alpha, moved)
    left = jnp.sqrt(_inner(residual, residual)) / size
    image, followed = state.image, jnp.asarray(back is not None)
    if back is not None:
        image = optax.tree.add_scale(migrated, -alpha, back)
    state = ConjugateGradients(x, residual, direction, slope, steepest, image, followed)
    return state, left, jnp.sqrt(slope)


def _inner(x: PyTree, y: PyTree) -> Scalar:
    """The inner product of two trees of arrays."""
    return jnp.asarray(optax.tree.vdot(x, y))


def _ratio(above: Scalar, below: Scalar) -> Scalar:
    """`above / below`, or zero if `below` is zero."""
    return jnp.where(below > 0.0, above / jnp.where(below > 0.0, below, 1.0), 0.0)


@final
class GradientDescent(NamedTuple):
    """The state of a gradient descent.

    Attributes:
        x: the solution so far.
        optimizer: the state of the optax optimiser.
    """

    x: PyTree
    optimizer: PyTree


@final
class Misfit(NamedTuple):
    """Half the squared norm of the data residual, as functions of x and of an iteration's arrays.

    Attributes:
        of: the value, a function of x and arrays.
        of_zero: the value at x = 0, a function of arrays only; it costs no wave solve.
    """

    of: Callable[[PyTree, Any], Scalar]
    of_zero: Callable[[Any], Scalar]


def make_gradient_step(
    misfit: Misfit, optimizer: optax.GradientTransformationExtraArgs, searches: bool
) -> Any:
    """Compile one iteration, `step(state, arrays, root, seen) -> state, seen, residual, numbers`.

    It minimises the misfit plus half the squared norm of `root * x`, the damping. `residual` is the
    norm of the data residual over that of the data, before the step; the others are as in
    `optimizer_step`.

    Args:
        misfit: the misfit, without damping.
        optimizer: the optimiser.
        searches: whether its state keeps value and gradient at the end of a line search.
    """

    @eqx.filter_jit
    def step(state: GradientDescent, arrays: Any, root: Scalar, seen: Seen) -> Any:
        def damping(x):
            scaled = optax.tree.scale(root, x)
            return 0.5 * _inner(scaled, scaled)

        def objective(x):
            return misfit.of(x, arrays) + damping(x)

        x, opt_state, seen, numbers = optimizer_step(
            optimizer, objective, state.x, state.optimizer, seen, searches
        )
        of_data = jnp.maximum(numbers.misfit - damping(state.x), 0.0)
        residual = jnp.sqrt(_ratio(of_data, misfit.of_zero(arrays)))
        return GradientDescent(x, opt_state), seen, residual, numbers

    return step
