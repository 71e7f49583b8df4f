"""The solvers of a linear inversion."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ..gathers import over_components
from ..jacobian import Jacobian
from ..survey import Survey
from . import visits
from .batches import shot_batch
from .checks import check_linear_search, check_representable, check_units
from .encoding import encoded_propagator, encoded_traces, encoded_wavelets, polarities
from .linear_steps import (
    GradientDescent,
    LinearNumbers,
    Misfit,
    Operator,
    cgls_step,
    make_gradient_step,
    migrated,
    start_cgls,
)
from .resized import Resized, of_size_one, power_of_source
from .sizes import ignores_size, norm, shifted, size_of_tree, times_power_of_two
from .step import compares_gradients, power_of, power_of_size, searches_line, seen_from, strong

AFRESH = 10  # iterations after which the slope of the misfit is computed afresh


@final
class Method(NamedTuple):
    """An iterative solver.

    Attributes:
        start: the first state, a tree of arrays.
        step: makes one iteration; from the number of iterations done before and the state, it
            returns the next state and the numbers of the iteration.
        image: the image in a state.
    """

    start: Any
    step: Callable[[int, Any], tuple[Any, LinearNumbers]]
    image: Callable[[Any], PyTree]


def composed(left: Operator | None, J: Operator, right: Operator | None) -> Operator:
    """`L @ J @ R`; operators that are None are left out."""
    A = J if right is None else J @ right
    return A if left is None else left @ A


def with_trace_weights(
    survey: Survey, traces: jax.ShapeDtypeStruct, left: Operator | None
) -> Operator | None:
    """`left`, applied to traces times the weights that the survey gives them.

    Args:
        survey: the survey.
        traces: the shape and type of its traces.
        left: weights of the traces, or None.
    """
    if not survey.weighs_traces:
        return left
    weights = over_components(survey.trace_weights, len(traces.shape))
    factors = jnp.asarray(weights[..., None], traces.dtype)
    tags = frozenset({lx.symmetric_tag, lx.diagonal_tag})
    weighted = lx.FunctionLinearOperator(lambda t: t * factors, traces, tags)
    return weighted if left is None else left @ weighted


@final
class Sized(NamedTuple):
    """The linear problem `A x = b` of a migration, whose parts are divided by their sizes, powers
    of two.

    Attributes:
        A: `L J R`, each of the three divided by its size.
        b: `L d`, the weighted data, divided by their size.
        left: L, divided by its size, or None.
        right: R, divided by its size, or None.
        of_source: J is divided by `2**of_source`.
        of_image: the image is `2**of_image * right(x)`.
        of_x: the user's x is `2**of_x * x`.
        of_data: the weighted data are `2**of_data * b`.
    """

    A: Operator
    b: Array
    left: Operator | None
    right: Operator | None
    of_source: int
    of_image: int
    of_x: int
    of_data: int

    def damping(self, damping: float, more: int = 0) -> float:
        """The damping of this problem that stands for the user's.

        Args:
            damping: the user's, in units of `(traces / x)**2`.
            more: a further power of two: the unknown is `2**-more * x`.

        Raises:
            ValueError: the result cannot be represented in the dtype of the data.
        """
        found = damping * 2.0 ** (2 * (self.of_x + more - self.of_data))
        if damping > 0.0 and not 0.0 < float(jnp.asarray(found, self.b.dtype)) < math.inf:
            raise ValueError(
                f"damping={damping!r} is out of all proportion to the squared norm of the "
                "Jacobian: it is a weight in units of (traces / x)**2"
            )
        return found

    def slope(self, norm: float, more: int = 0) -> float:
        """The norm of the gradient in the user's units.

        Args:
            norm: the norm of the gradient of this problem, for the unknown `2**-more * x`.
            more: see `norm`.
        """
        return times_power_of_two(norm, 2 * self.of_data - self.of_x - more)


def sized(J: Jacobian, traces: Array, left: Operator | None, right: Operator | None) -> Sized:
    """The problem of fitting `L traces` by `L J R x`.

    Args:
        J: the Jacobian.
        traces: the data.
        left: L, or None.
        right: R, or None.

    Raises:
        ValueError: `L traces` is zero.
    """
    L, of_left = of_size_one(left)
    R, of_right = of_size_one(right)
    of_source = power_of_source(J.propagator.survey)
    b, of_data = _weighted(L, traces)
    A = composed(L, Resized(J, -of_source), R)
    of_image = of_data - of_source
    return Sized(A, b, L, R, of_source, of_image, of_image - of_right, of_data + of_left)


def _weighted(left: Operator | None, traces: Array) -> tuple[Array, int]:
    """The weighted data, divided by `2**power`, their size; and `power`.

    Raises:
        ValueError: they are all zero.
    """
    first = size_of_tree(traces)
    data = _applied(left, shifted(traces, -first))
    if not float(jnp.max(jnp.abs(data))) > 0.0:
        raise ValueError("the observed traces, times `left`, are zero: there is nothing to fit")
    second = size_of_tree(data)
    return shifted(data, -second), first + second


def _applied(operator: Operator | None, vector: PyTree) -> PyTree:
    """The product of an operator with a vector; without an operator, the vector."""
    return vector if operator is None else operator.mv(vector)


@final
class SizedState(NamedTuple):
    """A solver's state in numbers of size one.

    Attributes:
        state: the solver's own state.
        power: of CGLS, the unknown that it works with is `2**-power * x`; of an optimiser, see
            `step.seen_from`. NaN until it is known.
    """

    state: Any
    power: np.ndarray


def conjugate_gradients(
    J: Jacobian, traces: Array, left: Operator | None, right: Operator | None, damping: float
) -> Method:
    """Conjugate gradients on the normal equations (CGLS; Hestenes and Stiefel, 1952).

    Where that takes fewer wave solves, an iteration visits each shot once (see `Visits`), and the
    slope is handed on from iteration to iteration. As rounding errors add up in it, it is computed
    afresh every few iterations (Bjorck, Elfving and Strakos, 1998).

    Args:
        J: the Jacobian.
        traces: the data.
        left: weights of the traces, or None.
        right: preconditioner of the image, or None.
        damping: weight of the squared norm of x.

    Raises:
        ValueError: the data, times `left`, are zero.
    """
    p = sized(J, traces, left, right)
    size = optax.tree.norm(p.b)
    A: Any = p.A
    if (left is None or lx.is_diagonal(left)) and visits.pay(J):
        factors = visits.factors_of(p.left, J.out_structure())
        A = visits.Visits(J, factors, p.right, -p.of_source)

    def step(done: int, at: Any) -> tuple[Any, LinearNumbers]:
        state, power = at
        handed_on = A is not p.A and bool(state.followed) and done % AFRESH != 0
        slope = state.image if handed_on else migrated(state, p.A)
        if not np.isfinite(power):  # from the first slope, so that the solution is of size one
            length, more = norm(slope)
            power = np.array(float(power_of_size(float(length)) - int(more)))
        q = int(power)
        dtype = traces.dtype
        numbers = jnp.asarray(2.0**q, dtype), size, jnp.asarray(p.damping(damping, q), dtype)
        state, residual, steepness = cgls_step(state, slope, A, *numbers)
        return SizedState(state, power), LinearNumbers(
            float(residual), p.slope(float(steepness), q)
        )

    def image(at: Any) -> PyTree:
        q = int(at.power) if np.isfinite(at.power) else 0
        return shifted(_applied(p.right, at.state.x), p.of_image + q)

    return Method(SizedState(start_cgls(p.A, p.b), np.array(math.nan)), step, image)


def solve_at_once(
    J: Jacobian,
    traces: Array,
    left: Operator | None,
    right: Operator | None,
    damping: float,
    solver: lx.AbstractLinearSolver,
    iterations: int,
) -> tuple[PyTree, LinearNumbers, dict[str, Any]]:
    """Solve by a lineax solver, which makes all iterations in one call.

    Args:
        J: the Jacobian.
        traces: the data.
        left: weights of the traces, or None.
        right: preconditioner of the image, or None.
        damping: weight of the squared norm of x.
        solver: the solver.
        iterations: how many it may make.

    Returns:
        The image; the residuals at it; and the solver's statistics.

    Raises:
        ValueError: the data, times `left`, are zero.
    """
    p = sized(J, traces, left, right)
    solver = _with_steps(solver, iterations)
    damping = p.damping(damping)
    root = damping**0.5

    @eqx.filter_jit
    def solve(A: Operator, b: PyTree) -> tuple[PyTree, Array, Array, Any, Any]:
        if damping > 0.0:  # lineax has no damping, so it is made of further rows below those of A
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), A.in_structure())
            rows = lx.FunctionLinearOperator(
                lambda x: (A.mv(x), optax.tree.scale(root, x)), A.in_structure()
            )
            found = lx.linear_solve(rows, (b, zeros), solver, throw=False)
        else:
            found = lx.linear_solve(A, b, solver, throw=False)
        residual = optax.tree.sub(b, A.mv(found.value))
        slope = optax.tree.add_scale(A.T.mv(residual), -damping, found.value)
        left_over = optax.tree.norm(residual) / optax.tree.norm(b)
        return found.value, left_over, optax.tree.norm(slope), found.result, found.stats

    x, left_over, slope, result, stats = solve(p.A, p.b)
    numbers = LinearNumbers(float(left_over), p.slope(float(slope)))
    report: dict[str, Any] = {"num_steps": iterations}
    for name, value in stats.items():
        report[name] = value.item() if isinstance(value, jax.Array) else value
    successful = bool(result == lx.RESULTS.successful)
    report["result"] = "successful" if successful else lx.RESULTS[result]
    return shifted(_applied(p.right, x), p.of_image), numbers, report


def _with_steps(solver: Any, iterations: int) -> Any:
    """The same solver, limited to a number of steps; solvers that keep no such number stay as they
    are."""
    names = {f.name for f in dataclasses.fields(solver)}
    if "max_steps" in names:
        return dataclasses.replace(solver, max_steps=iterations)
    if "inner_solver" in names:
        return dataclasses.replace(
            solver, inner_solver=_with_steps(solver.inner_solver, iterations)
        )
    return solver


def gradient_descent(
    J: Jacobian,
    traces: Array,
    left: Operator | None,
    right: Operator | None,
    damping: float,
    optimizer: optax.GradientTransformation,
    batch_size: int | None,
    encodings: int | None,
    seed: int,
) -> Method:
    """Gradient steps of an optax optimiser, on all shots, on minibatches or on simultaneous shots.

    Args:
        J: the Jacobian.
        traces: the data.
        left: weights of the traces, or None.
        right: preconditioner of the image, or None.
        damping: weight of the squared norm of x.
        optimizer: the optimiser.
        batch_size: number of shots in a batch, or None.
        encodings: number of super-shots, or None.
        seed: seed of batches and polarities.

    Raises:
        ValueError: the data, times `left`, are zero; or they change from iteration to iteration,
            which the optimiser does not allow.
        FloatingPointError: misfits are too far from 1 for the optimiser.
    """
    L, of_left = of_size_one(left)
    on_shots = L if encodings is None else None  # with encodings, `left` acts on super-shots
    b, of_data = _weighted(on_shots, traces)
    A = composed(on_shots, Resized(J, -of_data), right)
    unit = 2 * (of_data + of_left)  # the misfit is `2**unit` times that of sized data
    x = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), A.in_structure())
    extended = optax.with_extra_args_support(optimizer)
    opt_state = strong(extended.init(x))
    searches, compares = searches_line(opt_state), compares_gradients(opt_state)
    check_linear_search(searches or compares, batch_size, encodings)
    check_units(unit, searches and not compares)
    if batch_size is not None:
        misfit, arrays = _of_batches(J, of_data, b, L, right, batch_size, seed)
    elif encodings is not None:
        misfit, arrays = _of_supershots(J, of_data, b, L, right, encodings, seed)
    else:
        misfit, arrays = _of_all_shots(A, b)
    indifferent = not (searches or compares) and ignores_size(extended, x)
    power = math.nan if indifferent else float(unit)
    if compares:  # the first step of L-BFGS has the length of the gradient, but 1 at most
        length, more = norm(A.T.mv(b))
        power = float(power_of_size(float(length)) - int(more))
    root = jnp.asarray(damping**0.5 * 2.0 ** (-unit / 2), traces.dtype)
    run = make_gradient_step(misfit, extended, searches)

    def step(done: int, at: Any) -> tuple[Any, LinearNumbers]:
        seen = seen_from(at.power)
        state, seen, residual, found = run(at.state, arrays(done), root, seen)
        slope = times_power_of_two(float(found.gradient_norm), int(found.of_norm) + unit)
        if not (compares or indifferent):
            check_representable(slope, traces.dtype)
        return SizedState(state, power_of(seen)), LinearNumbers(float(residual), slope)

    start = SizedState(GradientDescent(x, opt_state), np.array(power))
    return Method(start, step, lambda at: _applied(right, at.state.x))


Arrays = Callable[[int], Any]
"""From the number of iterations done to the arrays that the misfit of the next one is given."""


def _half_square(values: Array) -> Array:
    """Half the sum of squares."""
    return 0.5 * jnp.vdot(values, values)


def _of_all_shots(A: Operator, b: Array) -> tuple[Misfit, Arrays]:
    """The misfit over all shots, `0.5 ||A x - b||^2`, and its arrays."""

    def of(x: PyTree, arrays: Any) -> Array:
        A, b = arrays
        return _half_square(A.mv(x) - b)

    return Misfit(of, lambda arrays: _half_square(arrays[1])), lambda done: (A, b)


def _of_batches(
    J: Jacobian,
    of_data: int,
    b: Array,
    left: Operator | None,
    right: Operator | None,
    batch_size: int,
    seed: int,
) -> tuple[Misfit, Arrays]:
    """The misfit over a batch of shots, scaled up to all of them, and its arrays.

    Args:
        J: the Jacobian.
        of_data: data and Jacobian are divided by `2**of_data`.
        b: the weighted data.
        left: weights of the traces of all shots, or None.
        right: preconditioner of the image, or None.
        batch_size: number of shots in a batch.
        seed: seed of the order of shots.
    """
    n_shots, F = b.shape[0], J.propagator
    weight = n_shots / batch_size

    def of(x: PyTree, arrays: Any) -> Array:
        model, left, right, b, shots = arrays
        born = Resized(F.jacobian(model, shots=shots), -of_data).mv(_applied(right, x))
        if left is not None:
            # `left` acts on all shots, so those outside the batch are set to zero. A batch that
            # reaches into the next epoch may hold a shot twice, which then is added in halves.
            times = jnp.zeros(n_shots, born.dtype).at[shots].add(1.0)[shots]
            share = born / times.reshape(-1, *(1,) * (born.ndim - 1))
            everything = jnp.zeros((n_shots, *born.shape[1:]), born.dtype).at[shots].add(share)
            born = left.mv(everything)[shots]
        return weight * _half_square(born - b[shots])

    def of_zero(arrays: Any) -> Array:
        *_, b, shots = arrays
        return weight * _half_square(b[shots])

    def arrays_of(done: int) -> Any:
        return J.model, left, right, b, shot_batch(done, n_shots, batch_size, seed)

    return Misfit(of, of_zero), arrays_of


def _of_supershots(
    J: Jacobian,
    of_data: int,
    traces: Array,
    left: Operator | None,
    right: Operator | None,
    encodings: int,
    seed: int,
) -> tuple[Misfit, Arrays]:
    """The mean misfit over super-shots, and its arrays.

    Args:
        J: the Jacobian.
        of_data: data and Jacobian are divided by `2**of_data`.
        traces: the data.
        left: weights of the traces of super-shots, or None.
        right: preconditioner of the image, or None.
        encodings: number of super-shots.
        seed: seed of the polarities.

    Raises:
        ValueError: the shots have different receivers.
    """
    n_shots, E = traces.shape[0], encoded_propagator(J.propagator, encodings)
    wavelet = jnp.asarray(J.propagator.survey.wavelet, traces.dtype)

    def data(arrays: Any) -> Array:
        _, left, _, traces, codes = arrays
        return _applied(left, encoded_traces(codes, traces))

    def of(x: PyTree, arrays: Any) -> Array:
        model, left, right, _, codes = arrays
        encoded = Resized(E.jacobian(model, wavelet=encoded_wavelets(codes, wavelet)), -of_data)
        return _half_square(composed(left, encoded, right).mv(x) - data(arrays)) / encodings

    def of_zero(arrays: Any) -> Array:
        return _half_square(data(arrays)) / encodings

    def arrays_of(done: int) -> Any:
        codes = jnp.asarray(polarities(done, encodings, n_shots, seed), traces.dtype)
        return J.model, left, right, traces, codes

    return Misfit(of, of_zero), arrays_of
