"""The solvers of a linear inversion, each as where it starts, its step, and the image in its
state."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ..jacobian import Jacobian
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
from .sizes import ignores_size, norm, shifted, size_of_tree
from .step import Seen, compares_gradients, power_of_size, searches_line, strong


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


class Sized(NamedTuple):
    """A linear problem `A x = b` whose parts are of size one.

    Attributes:
        A: `L J R`, each over its size.
        b: the data, times L, over their size.
        right: R over its size.
        of_image: an image is `2**of_image * right(x)`.
        of_x: what the user's x is, likewise.
        of_data: b is what it stands for over two to this power.
    """

    A: Operator
    b: Array
    right: Operator | None
    of_image: int
    of_x: int
    of_data: int

    def damping(self, damping: float, more: int = 0) -> float:
        """The user's damping, for this problem in `2**-more x`.

        Raises:
            ValueError: it cannot be represented.
        """
        found = damping * 2.0 ** (2 * (self.of_x + more - self.of_data))
        if damping > 0.0 and not 0.0 < float(jnp.asarray(found, self.b.dtype)) < math.inf:
            raise ValueError(
                f"damping={damping!r} is out of all proportion to the squared norm of the "
                "Jacobian: it is a weight in "
                "units of (traces / x)**2"
            )
        return found

    def slope(self, norm: float, more: int = 0) -> float:
        """The norm of the user's gradient, from the one of this problem in `2**-more x`."""
        return (
            math.ldexp(norm, 2 * self.of_data - self.of_x - more) if math.isfinite(norm) else norm
        )


def sized(J: Jacobian, traces: Array, left: Operator | None, right: Operator | None) -> Sized:
    """The problem of fitting `L traces` by `L J R x`.

    Raises:
        ValueError: the data, times L, vanish.
    """
    L, of_left = of_size_one(left)
    R, of_right = of_size_one(right)
    of_source = power_of_source(J.propagator.survey)
    b, of_data = _weighted(L, traces)
    A = composed(L, Resized(J, -of_source), R)
    of_image = of_data - of_source
    return Sized(A, b, R, of_image, of_image - of_right, of_data + of_left)


def _weighted(left: Operator | None, traces: Array) -> tuple[Array, int]:
    """The data over their size, a power of two, and that power.

    Raises:
        ValueError: they vanish.
    """
    first = size_of_tree(traces)
    data = _applied(left, shifted(traces, -first))
    if not float(jnp.max(jnp.abs(data))) > 0.0:
        raise ValueError("the observed traces, times `left`, are zero: there is nothing to fit")
    second = size_of_tree(data)
    return shifted(data, -second), first + second


def _applied(operator: Operator | None, vector: PyTree) -> PyTree:
    return vector if operator is None else operator.mv(vector)


class SizedState(NamedTuple):
    """A solver's state, and the power of two that belongs to it: NaN until it is known."""

    state: Any
    power: np.ndarray


def conjugate_gradients(
    J: Jacobian, traces: Array, left: Operator | None, right: Operator | None, damping: float
) -> Method:
    p = sized(J, traces, left, right)
    size = optax.tree.norm(p.b)

    def step(done: int, at: Any) -> tuple[Any, LinearNumbers]:
        state, power = at
        slope = migrated(state, p.A)
        if not np.isfinite(power):  # of the first slope, so that the solution is of size one
            length, more = norm(slope)
            power = np.array(float(power_of_size(float(length)) - int(more)))
        q = int(power)
        dtype = traces.dtype
        numbers = jnp.asarray(2.0**q, dtype), size, jnp.asarray(p.damping(damping, q), dtype)
        state, residual, steepness = cgls_step(state, slope, p.A, *numbers)
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
    """Image, residuals at it, and what the solver says."""
    p = sized(J, traces, left, right)
    solver = _with_steps(solver, iterations)
    damping = p.damping(damping)
    root = damping**0.5

    @eqx.filter_jit
    def solve(A: Operator, b: PyTree) -> tuple[PyTree, Array, Array, Any, Any]:
        if damping > 0.0:  # as rows below A, for lineax's solvers know of no damping
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
    report = {
        name: value.item() if isinstance(value, jax.Array) else value
        for name, value in stats.items()
    }
    report.setdefault("num_steps", iterations)
    words = "successful" if bool(result == lx.RESULTS.successful) else lx.RESULTS[result]
    return shifted(_applied(p.right, x), p.of_image), numbers, report | {"result": words}


def _with_steps(solver: Any, iterations: int) -> Any:
    """The same solver with so many steps at most, wherever it keeps that number."""
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
    """Steps of an optax optimiser, on all shots, on minibatches or on simultaneous shots."""
    L, of_left = of_size_one(left)
    b, of_data = _weighted(
        L if encodings is None else None, traces
    )  # left acts on super-shots elsewhere
    J_, unit = Resized(J, -of_data), 2 * (of_data + of_left)
    A = composed(L if encodings is None else None, J_, right)
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
    power, indifferent = float(unit), not (searches or compares) and ignores_size(extended, x)
    if compares:  # L-BFGS makes its first step as long as the gradient, 1 at most
        length, more = norm(A.T.mv(b))
        power = float(power_of_size(float(length)) - int(more))
    root = jnp.asarray(damping**0.5 * 2.0 ** (-unit / 2), traces.dtype)
    run = make_gradient_step(misfit, extended, searches)

    def step(done: int, at: Any) -> tuple[Any, LinearNumbers]:
        known = bool(np.isfinite(at.power))
        seen = Seen(jnp.asarray(int(at.power) if known else 0, jnp.int32), jnp.asarray(known))
        state, seen, residual, found = run(at.state, arrays(done), root, seen)
        slope = float(found.gradient_norm)
        slope = math.ldexp(slope, int(found.of_norm) + unit) if math.isfinite(slope) else slope
        if not (compares or indifferent):
            check_representable(slope, traces.dtype)
        power = np.array(float(seen.power)) if bool(seen.known) else at.power
        return SizedState(state, power), LinearNumbers(float(residual), slope)

    start = SizedState(GradientDescent(x, opt_state), np.array(math.nan if indifferent else power))
    return Method(start, step, lambda at: _applied(right, at.state.x))


Arrays = Callable[[int], Any]  # from the iterations done to the arrays of the next one


def _half_square(values: Array) -> Array:
    return 0.5 * jnp.vdot(values, values)


def _of_all_shots(A: Operator, b: Array) -> tuple[Misfit, Arrays]:
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
    n_shots, F = b.shape[0], J.propagator
    weight = n_shots / batch_size

    def of(x: PyTree, arrays: Any) -> Array:
        model, left, right, b, shots = arrays
        born = Resized(F.jacobian(model, shots=shots), -of_data).mv(_applied(right, x))
        if left is not None:
            # `left` wants all shots: the others are zero. A batch that reaches into the next epoch
            # may hold a shot twice.
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
    J: Jacobian,
    of_data: int,
    traces: Array,
    left: Operator | None,
    right: Operator | None,
    encodings: int,
    seed: int,
) -> tuple[Misfit, Arrays]:
    n_shots, E = traces.shape[0], encoded_propagator(J.propagator, encodings)
    wavelet = jnp.asarray(J.propagator.survey.wavelet, traces.dtype)

    def data(arrays: Any) -> Array:
        _, left, _, traces, codes = arrays
        return _applied(left, encoded_traces(codes, traces))

    def of(x: PyTree, arrays: Any) -> Array:
        model, left, right, _, codes = arrays
        encoded = Resized(E.jacobian(model, wavelet=encoded_wavelets(codes, wavelet)), -of_data)
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
