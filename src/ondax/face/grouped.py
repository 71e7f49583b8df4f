"""A sum over shots of a misfit of each shot's traces, a few shots at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int

from ..misfits import of_weighted
from .fetching import Source, fetched
from .host import HostModel
from .lever import Lever
from .operands import Operands
from .records import traces_of
from .rules import differentiable, perturbed_of, values_of

Misfit = Callable[[Any, Any], Float[Array, ""]]
IDLE = 0.25  # of the time of all threads, at most, that the last shots of a group may leave them


class Terms(NamedTuple):
    """What the sum is taken of.

    Attributes:
        operands: what a run depends on; `shots` are all that are summed over.
        lever: see there; None in gradients.
        observed: traces of all shots of the survey; None where they are fetched.
        scale: factor of predicted traces; None for 1.
        weights: of the traces of all shots of the survey, (shot, receiver); None for 1.
    """

    operands: Operands
    lever: Lever | None
    observed: Any
    scale: Any = None
    weights: Any = None


def group_size(shots: int, threads: int) -> int:
    """How many shots are visited together: a power of two, so that groups are branches of the tree
    by which gradients are summed, that keeps so many threads busy."""
    size = 1
    while size < shots and size < -(-size // threads) * threads * (1.0 - IDLE):
        size *= 2
    return size


@runtime_checkable
class Way(Protocol):
    """How a misfit is summed over shots."""

    def value(self, terms: Terms) -> Float[Array, ""]:
        """The sum."""
        ...

    def value_and_gradients(
        self, terms: Terms, names: tuple[str, ...]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The sum, and its gradients in the named coefficients."""
        ...


def modelled(host: HostModel) -> Callable[[Operands, Lever | None, Any], Any]:
    """From operands, a lever and a factor of traces, or None, to the traces of the operands'
    shots."""
    record, problem = differentiable(host), host.problem

    def traces(operands: Operands, lever: Lever | None, scale: Any) -> Any:
        predicted = traces_of(problem.records, record(operands), operands.shots)
        if lever is not None:
            predicted = lever.leave(predicted)
        return predicted if scale is None else predicted * scale

    return traces


class InGroups:
    """A few shots at a time, one group of shots after another; see `Way`. Value and gradient of a
    group are found together, so that no more histories are held than those of a group.

    Args:
        host: the host model.
        misfit: of predicted and observed traces, a sum over shots.
        source: where observed traces are fetched from; None if they are among the terms.
        threads: that visit shots.
    """

    def __init__(self, host: HostModel, misfit: Misfit, source: Any, threads: int) -> None:
        self._modelled = modelled(host)
        self._misfit, self._source, self._threads = misfit, source, threads

    def _of_group(self, coefficients: Any, terms: Terms, shots: Int[Array, " shot"]) -> Any:
        operands = terms.operands._replace(coefficients=coefficients, shots=shots)
        predicted = self._modelled(operands, terms.lever, terms.scale)
        weights = None if terms.weights is None else terms.weights[shots]
        observed = fetched_for(self._source, terms.observed, shots, predicted)
        return of_weighted(self._misfit, predicted, observed, weights)

    def value(self, terms: Terms) -> Any:
        """See `Way`."""
        one = partial(self._of_group, terms.operands.coefficients, terms)
        return sum_over_groups(one, terms.operands.shots, self._threads)

    def value_and_gradients(self, terms: Terms, names: tuple[str, ...]) -> Any:
        """See `Way`."""
        coefficients = terms.operands.coefficients

        def one(shots: Any) -> Any:
            def of(moved: Any) -> Any:
                return self._of_group({**coefficients, **moved}, terms, shots)

            return jax.value_and_grad(of)({n: coefficients[n] for n in names})

        return sum_over_groups(one, terms.operands.shots, self._threads)


def summed(names: tuple[str, ...], way: Way) -> Callable[[Terms], Float[Array, ""]]:
    """The sum as a function that JAX differentiates by the coefficients.

    Args:
        names: of all coefficients.
        way: how to sum.
    """

    def forward_pass(terms: Any) -> Any:
        values, moving = values_of(terms), perturbed_of(terms)
        moved = tuple(n for n in values.operands.coefficients if moving.operands.coefficients[n])
        total, gradients = way.value_and_gradients(values, moved)
        return total, (gradients, values.lever)

    def backward_pass(residuals: Any, cotangent: Any) -> Any:
        gradients, lever = residuals
        nothing = Operands(dict.fromkeys(names), None, None)
        if isinstance(cotangent, SymbolicZero):
            return (Terms(nothing, None, None),)
        if lever is not None:
            cotangent = lever.enter(cotangent)
        found = {n: cotangent * g for n, g in gradients.items()}
        coefficients = {**nothing.coefficients, **found}
        return (Terms(nothing._replace(coefficients=coefficients), None, None),)

    function = jax.custom_vjp(way.value)
    function.defvjp(forward_pass, backward_pass, symbolic_zeros=True)
    return jax.jit(function)


def fetched_for(source: Source | None, observed: Any, shots: Any, like: Any) -> Any:
    """The observed traces of some shots.

    Args:
        source: where they are fetched from; None if they are at hand.
        observed: those of all shots, if they are at hand.
        shots: numbers of the shots.
        like: traces of the same shape and type.
    """
    return observed[shots] if source is None else fetched(source, shots, like)


def sum_over_groups(one: Callable[[Any], Any], shots: Int[Array, " shot"], threads: int) -> Any:
    """The sum of a function of groups of shots, by a binary tree over their numbers."""
    total, _ = over_groups(lambda group: (one(group), None), shots, threads)
    return total


def over_groups(
    one: Callable[[Any], tuple[Any, Any]], shots: Int[Array, " shot"], threads: int
) -> tuple[Any, Any]:
    """A function of groups of shots, which are visited one after another.

    Partial sums wait on a stack, one for each level of the tree, as the bits of a binary counter
    do: after 6 groups, those of 0 to 3 wait on level 2, and those of 4 and 5 on level 1.

    Args:
        one: from the numbers of a group's shots to what is summed over groups, by a binary tree
            over their numbers, and to what is kept of each shot, arrays (shot, ...).
        shots: numbers of all shots.
        threads: that visit shots.
    """
    size = group_size(shots.shape[0], threads)
    whole, rest = divmod(shots.shape[0], size)
    groups = shots[: whole * size].reshape(whole, size)
    last = shots[whole * size :]
    if whole == 0:
        return one(last)
    if whole == 1:
        first, kept = one(groups[0])
        waiting = [first]
    else:
        shapes, _ = jax.eval_shape(one, groups[0])
        levels = whole.bit_length()
        stack = jax.tree.map(lambda s: jnp.zeros((levels, *s.shape), s.dtype), shapes)
        numbers = np.arange(whole, dtype=np.int32)
        stack, kept = lax.scan(partial(_counted, one), stack, (numbers, groups))
        kept = jax.tree.map(lambda k: k.reshape(whole * size, *k.shape[2:]), kept)
        waiting = [jax.tree.map(lambda s, n=n: s[n], stack) for n in range(levels)]
    total = None
    if rest:
        total, of_rest = one(_after(waiting, last))
        kept = jax.tree.map(lambda k, r: jnp.concatenate([k, r]), kept, of_rest)
    for level, branch in enumerate(waiting):
        if whole >> level & 1:
            total = branch if total is None else _plus(branch, total)
    return total, kept


def _after(results: Any, shots: Any) -> Any:
    """The numbers of shots as they are, but not before the results are there: XLA runs what does
    not depend on each other in any order, and the histories of both would be held. (It takes
    barriers out before it decides.)"""
    firsts = [jnp.abs(r.ravel()[0]) for r in jax.tree.leaves(results)]
    zero = jnp.nan_to_num(jnp.minimum(sum(firsts), 0.0))  # which XLA does not see
    return shots + zero.astype(shots.dtype)


def _counted(one: Callable[[Any], Any], stack: Any, number_and_group: Any) -> Any:
    """One step of the counter."""
    number, group = number_and_group

    def carries(state: Any) -> Any:
        level, _ = state
        return (number >> level) & 1 == 1

    def carry(state: Any) -> Any:
        level, total = state
        return level + 1, _plus(jax.tree.map(lambda s: s[level], stack), total)

    found, kept = one(group)
    level, total = lax.while_loop(carries, carry, (jnp.zeros((), np.int32), found))
    return jax.tree.map(lambda s, t: s.at[level].set(t), stack, total), kept


def _plus(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
