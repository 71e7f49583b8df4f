"""The solvers of a linear inversion, each as where it starts, its step, and the image in its state."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
from jaxtyping import Array, PyTree

from ..jacobian import Jacobian
from .batches import shot_batch
from .checks import check_linear_search
from .encoding import encoded_propagator, encoded_traces, encoded_wavelets, polarities
from .linear_steps import GradientDescent, LinearNumbers, Misfit, Operator, cgls_step, make_gradient_step, start_cgls
from .step import compares_gradients, scale_to_one, searches_line, strong


class Method(NamedTuple):
    """An iterative solver.

    Attributes:
        start: its first state, a tree of arrays.
        step: iterations done and state to the next state and the iteration's numbers.
        image: of a state.
    """

    start: Any
    step: Callable[[int, Any], tuple[Any, LinearNumbers]]
    image: Callable[[Any], PyTree]


def composed(left: Operator | None, J: Operator, right: Operator | None) -> Operator:
    """`L @ J @ R`; operators that are None are left out."""
    A = J if right is None else J @ right
    return A if left is None else left @ A


def _weighted(left: Operator | None, traces: Array) -> Array:
    """The data, which must not vanish.

    Raises:
        ValueError: they do.
    """
    data = _applied(left, traces)
    if not float(optax.tree.norm(data)) > 0.0:
        raise ValueError("the observed traces, times `left`, are zero: there is nothing to fit")
    return data


def _applied(operator: Operator | None, vector: PyTree) -> PyTree:
    return vector if operator is None else operator.mv(vector)


def conjugate_gradients(
    J: Jacobian, traces: Array, left: Operator | None, right: Operator | None, damping: float
) -> Method:
    A, b = composed(left, J, right), _weighted(left, traces)
    size, weight = optax.tree.norm(b), jnp.asarray(damping, traces.dtype)

    def step(done: int, state: Any) -> tuple[Any, LinearNumbers]:
        return cgls_step(state, A, size, weight)

    return Method(start_cgls(A, b), step, lambda state: _applied(right, state.x))


def solve_at_once(
    J: Jacobian,
    traces: Array,
    left: Operator | None,
    right: Operator | None,
    damping: float,
    solver: lx.AbstractLinearSolver,
    iterations: int,
) -> tuple[PyTree, LinearNumbers, dict[str, Any]]:
    """Image, residuals at it, and what the solver says."""
    A, b = composed(left, J, right), _weighted(left, traces)
    solver = _with_steps(solver, iterations)
    root = damping**0.5

    @eqx.filter_jit
    def solve(A: Operator, b: PyTree) -> tuple[PyTree, LinearNumbers, Any, Any]:
        if damping > 0.0:  # as rows below A, for lineax's solvers know of no damping
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), A.in_structure())
            rows = lx.FunctionLinearOperator(lambda x: (A.mv(x), optax.tree.scale(root, x)), A.in_structure())
            found = lx.linear_solve(rows, (b, zeros), solver, throw=False)
        else:
            found = lx.linear_solve(A, b, solver, throw=False)
        residual = optax.tree.sub(b, A.mv(found.value))
        slope = optax.tree.add_scale(A.T.mv(residual), -damping, found.value)
        numbers = LinearNumbers(optax.tree.norm(residual) / optax.tree.norm(b), optax.tree.norm(slope))
        return found.value, numbers, found.result, found.stats

    x, numbers, result, stats = solve(A, b)
    report = {name: value.item() if isinstance(value, jax.Array) else value for name, value in stats.items()}
    report.setdefault("num_steps", iterations)
    words = "successful" if bool(result == lx.RESULTS.successful) else lx.RESULTS[result]
    return _applied(right, x), numbers, report | {"result": words}


def _with_steps(solver: Any, iterations: int) -> Any:
    """The same solver with so many steps at most, wherever it keeps that number."""
    names = {f.name for f in dataclasses.fields(solver)}
    if "max_steps" in names:
        return dataclasses.replace(solver, max_steps=iterations)
    if "inner_solver" in names:
        return dataclasses.replace(solver, inner_solver=_with_steps(solver.inner_solver, iterations))
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
    """Steps of an optax optimiser, on all shots, on minibatches or on simultaneous shots."""
    of_traces = left if encodings is None else None  # on those of super-shots it acts elsewhere
    A, b = composed(of_traces, J, right), _weighted(of_traces, traces)
    x = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), A.in_structure())
    extended = optax.with_extra_args_support(optimizer)
    opt_state = strong(extended.init(x))
    searches, compares = searches_line(opt_state), compares_gradients(opt_state)
    check_linear_search(searches or compares, batch_size, encodings)
    if batch_size is not None:
        misfit, arrays = _of_batches(J, b, left, right, batch_size, seed)
    elif encodings is not None:
        misfit, arrays = _of_supershots(J, traces, left, right, encodings, seed)
    else:
        misfit, arrays = _of_all_shots(A, b)
    # L-BFGS makes its first step as long as the gradient, 1 at most.
    scale = scale_to_one(float(optax.tree.norm(A.T.mv(b)))) if compares else 1.0
    numbers = jnp.asarray(damping, traces.dtype), jnp.asarray(scale, traces.dtype)
    step = make_gradient_step(misfit, extended, searches)

    return Method(
        GradientDescent(x, opt_state),
        lambda done, state: step(state, arrays(done), *numbers),
        lambda state: _applied(right, state.x),
    )


Arrays = Callable[[int], Any]  # from the iterations done to the arrays of the next one


def _half_square(values: Array) -> Array:
    return 0.5 * jnp.vdot(values, values)


def _of_all_shots(A: Operator, b: Array) -> tuple[Misfit, Arrays]:
    def of(x: PyTree, arrays: Any) -> Array:
        A, b = arrays
        return _half_square(A.mv(x) - b)

    return Misfit(of, lambda arrays: _half_square(arrays[1])), lambda done: (A, b)


def _of_batches(
    J: Jacobian, b: Array, left: Operator | None, right: Operator | None, batch_size: int, seed: int
) -> tuple[Misfit, Arrays]:
    n_shots, F = b.shape[0], J.propagator
    weight = n_shots / batch_size

    def of(x: PyTree, arrays: Any) -> Array:
        model, left, right, b, shots = arrays
        born = F.jacobian(model, shots=shots).mv(_applied(right, x))
        if left is not None:
            # `left` wants all shots: the others are zero. A batch that reaches into the next epoch may hold a shot twice.
            times = jnp.zeros(n_shots, born.dtype).at[shots].add(1.0)[shots]
            share = born / times.reshape(-1, *(1,) * (born.ndim - 1))
            everything = jnp.zeros((n_shots, *born.shape[1:]), born.dtype).at[shots].add(share)
            born = left.mv(everything)[shots]
        return weight * _half_square(born - b[shots])

    return (
        Misfit(of, lambda arrays: weight * _half_square(arrays[3][arrays[4]])),
        lambda done: (J.model, left, right, b, shot_batch(done, n_shots, batch_size, seed)),
    )


def _of_supershots(
    J: Jacobian, traces: Array, left: Operator | None, right: Operator | None, encodings: int, seed: int
) -> tuple[Misfit, Arrays]:
    n_shots, E = traces.shape[0], encoded_propagator(J.propagator, encodings)
    wavelet = jnp.asarray(J.propagator.survey.wavelet, traces.dtype)

    def data(arrays: Any) -> Array:
        _, left, _, traces, codes = arrays
        return _applied(left, encoded_traces(codes, traces))

    def of(x: PyTree, arrays: Any) -> Array:
        model, left, right, _, codes = arrays
        encoded = E.jacobian(model, wavelet=encoded_wavelets(codes, wavelet))
        return _half_square(composed(left, encoded, right).mv(x) - data(arrays)) / encodings

    return (
        Misfit(of, lambda arrays: _half_square(data(arrays)) / encodings),
        lambda done: (
            J.model,
            left,
            right,
            traces,
            jnp.asarray(polarities(done, encodings, n_shots, seed), traces.dtype),
        ),
    )
