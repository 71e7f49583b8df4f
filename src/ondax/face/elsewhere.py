"""Misfits of shots that are visited elsewhere: what goes out, and what comes back.

Where shots are visited elsewhere (see `backends.workers`), an objective binds one primitive in
place of its loop over groups of shots. A visit of a shot models its traces, compares them with
those observed, and goes back, where it is made. So a model goes out, a value and a gradient come
back, and traces stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from .. import _forks
from .._once import Once
from ..backends.workers import HERE, AbstractVisits, Arrays, Shared, Unread, visits
from ..misfits import of_weighted
from . import checks
from .callback_errors import as_raised
from .fetching import Source
from .grouped import Misfit, Terms, modelled
from .host import HostModel, Hosts
from .operands import Operands
from .problem import Problem
from .transport import register_host_primitive

Names = tuple[str, ...]
visit_p = Primitive("ondax_visit")
visit_p.multiple_results = True

_ELSEWHERE = jax.make_user_context(default_value=None)
"""Whether shots are visited elsewhere. JAX keeps what it has compiled apart by it: a function that
was compiled before visits anew, and one that was not, when they are over."""


def elsewhere() -> bool:
    """Whether shots are visited elsewhere, for what is traced now."""
    return bool(_ELSEWHERE.value)


@contextmanager
def retraced() -> Iterator[None]:
    """Within it, as in `visiting`, what is traced takes note of where shots are visited."""
    before = _ELSEWHERE.get_global()
    _ELSEWHERE.set_global(True)
    try:
        yield
    finally:
        _ELSEWHERE.set_global(before)


_forks.in_child(lambda: _ELSEWHERE.set_global(None))


# ---------------------------------------------------------------- what is sent


class Rest(NamedTuple):
    """What else all shots of a call share: `Terms`, without coefficients, shots and traces."""

    operands: Operands
    lever: Any
    scale: Any


class Total:
    """A value and gradients, summed over shots: a `Term`."""

    def __init__(self, arrays: tuple[np.ndarray, ...]) -> None:
        self.arrays = arrays

    def plus(self, other: Total) -> Total:
        """See `Term`."""
        pairs = zip(self.arrays, other.arrays, strict=True)
        return Total(tuple(np.asarray(a + b) for a, b in pairs))

    def copy(self) -> Total:
        """See `Term`: sums are made in memory of their own."""
        return self

    def give_back(self) -> None:
        """See `Term`."""

    @property
    def nbytes(self) -> int:
        """See `Term`."""
        return sum(a.nbytes for a in self.arrays)


@dataclass(frozen=True)
class Gather:
    """A shot of an objective, as it arrives: a `Shot`.

    Attributes:
        index: its place in the call.
        cost: see `Shot`.
        number: in the survey.
        observed: its traces, (1, [component,] receiver, time); or what they are read from; None for
            what all shots are read from.
        weights: of them, (1, receiver); None for 1.
    """

    index: tuple[int, ...]
    cost: float
    number: int
    observed: np.ndarray | Source | None
    weights: np.ndarray | None
    mark: None = None


Read = Callable[[int], np.ndarray | Source | None]
"""From the number of a shot to what is sent as its `Gather.observed`."""


@dataclass(frozen=True)
class UnreadGather(Unread):
    """The same before it is sent: its traces are read when its turn comes."""

    index: tuple[int, ...]
    cost: float
    number: int
    read: Read
    weights: Any
    mark: None = None

    def arrives(self) -> Gather:
        """See `Unread`."""
        weights = None if self.weights is None else self.weights[self.number][None]
        observed = self.read(self.number)
        return Gather(self.index, self.cost, self.number, observed, weights)


class ShotMisfits(Shared):
    """The misfit of one shot after another, as a function of coefficients. It travels once.

    Args:
        problem: what is computed.
        dtype: "float32" or "float64".
        misfit: of predicted and observed traces.
        source: where observed traces are read from; None if they come with the shots.
    """

    def __init__(self, problem: Problem, dtype: str, misfit: Misfit, source: Source | None) -> None:
        self._given = problem, dtype, misfit, source
        self._made = Once()

    def __reduce__(self) -> Any:
        return ShotMisfits, self._given

    def settle(self, threads: int, memory: int) -> None:
        """See `Shared`."""
        problem, dtype, *_ = self._given

        def made() -> HostModel:
            settings = problem.settings.lent(threads, memory)
            return Hosts(replace(problem, settings=settings)).of(dtype)

        solver = self._made.of("host", made).solver
        if isinstance(solver, Shared):
            solver.settle(threads, memory)

    def visit(
        self, names: Names, coefficients: Arrays, rest: Rest, shot: Gather
    ) -> tuple[None, Total]:
        """The misfit of a shot, and its gradients in the named coefficients."""
        _, dtype, _, source = self._given
        numbers, observed = np.array([shot.number], np.int32), shot.observed
        values = coefficients.values
        moving = {n: values[n] for n in names}
        still = {n: v for n, v in values.items() if n not in names}
        with jax.enable_x64(dtype == "float64"), as_raised():
            shape = self._host.problem.trace_shape(1)[1:]
            if observed is None:
                assert source is not None
                (observed,) = source.call(shape, dtype)(numbers)
            elif isinstance(observed, Source):
                (observed,) = observed.call(shape, dtype)(np.zeros(1, np.int32))
            function = self._made.of(names, lambda: jax.jit(self._function(bool(names))))
            found = function(moving, still, rest, numbers, observed, shot.weights)
            return None, Total(tuple(np.asarray(x) for x in jax.tree.leaves(found)))

    @property
    def _host(self) -> HostModel:
        return self._made.of("host", lambda: None)

    def _function(self, gradients: bool) -> Callable[..., Any]:
        misfit, predict = self._given[2], modelled(self._host)

        def value(
            moving: Any, still: Any, rest: Rest, numbers: Any, observed: Any, weights: Any
        ) -> Any:
            operands = rest.operands._replace(coefficients={**still, **moving}, shots=numbers)
            predicted = predict(operands, rest.lever, rest.scale)
            return of_weighted(misfit, predicted, observed, weights)

        return jax.value_and_grad(value) if gradients else value


# ---------------------------------------------------------------- on this side


class Elsewhere:
    """The sum of a misfit over shots that are visited elsewhere; see `grouped.Way`.

    Args:
        host: the host model.
        misfit: of predicted and observed traces, a sum over shots.
        source: where observed traces are fetched from; None if they are among the terms.
    """

    def __init__(self, host: HostModel, misfit: Misfit, source: Source | None) -> None:
        self._host, self._misfit, self._source = host, misfit, source
        self._dtype = host.dtype.name
        self._made = Once()

    def value(self, terms: Terms) -> Any:
        """See `grouped.Way`."""
        return self._bound(terms, ())[0]

    def value_and_gradients(self, terms: Terms, names: Names) -> tuple[Any, dict[str, Any]]:
        """See `grouped.Way`."""
        value, *gradients = self._bound(terms, names)
        return value, dict(zip(sorted(names), gradients, strict=True))

    def _bound(self, terms: Terms, names: Names) -> list[Any]:
        leaves, structure = jax.tree.flatten(terms)
        kind = jax.eval_shape(partial(self._of_one, terms)).dtype
        return visit_p.bind(*leaves, way=self, structure=structure, names=names, kind=kind)

    def _of_one(self, terms: Terms) -> Any:
        """As of the first shot; what it says of a misfit that cannot be traced, it says here."""
        operands = terms.operands._replace(shots=terms.operands.shots[:1])
        predicted = modelled(self._host)(operands, terms.lever, terms.scale)
        weights = None if terms.weights is None else terms.weights[:1]
        return of_weighted(self._misfit, predicted, jnp.zeros_like(predicted), weights)

    def types(self, names: Names, kind: Any) -> list[ShapedArray]:
        """Those of a value and of gradients."""
        return [
            ShapedArray((), kind),
            *[ShapedArray(self._host.shape, self._host.dtype)] * len(names),
        ]

    def call(self, structure: Any, names: Names) -> Callable[..., tuple[np.ndarray, ...]]:
        """The one long-lived function of these parameters."""
        return self._made.of(
            (structure, names), lambda: partial(self._run, structure, tuple(sorted(names)))
        )

    def _run(self, structure: Any, names: Names, *leaves: Any) -> tuple[np.ndarray, ...]:
        terms = jax.tree.unflatten(structure, [np.asarray(x) for x in leaves])
        place, numbers, host = visits(), terms.operands.shots, self._host
        if place is HERE:
            raise RuntimeError(
                "a value of this objective was asked for within ox.cluster, but is computed after "
                "its end: call jax.block_until_ready(value) within it"
            )
        checks.shot_range(numbers, host.problem.survey.n_shots)
        read, sent = self._reading(place, terms)
        cost = float(np.prod(host.shape_of_shot)) * host.steps * (3 if names else 1)
        weights = terms.weights
        shots = [UnreadGather((i,), cost, int(n), read, weights) for i, n in enumerate(numbers)]
        operands = terms.operands._replace(coefficients={}, shots=None)
        rest = Rest(operands, terms.lever, terms.scale)
        visit = partial(sent.visit, names, Arrays(terms.operands.coefficients), rest)
        size = len(names) * int(np.prod(host.shape)) * host.dtype.itemsize
        return place.each(shots, visit, None, 1, sums=max(size, 1))[()].arrays

    def _reading(self, place: AbstractVisits, terms: Terms) -> tuple[Read, ShotMisfits]:
        """What of observed traces is sent with each shot, and what visits shots there."""
        problem, source = self._host.problem, self._source
        if source is None:
            return (lambda n: terms.observed[n][None]), self._sent(None)
        if source.parts:
            return source.part, self._sent(None)
        if self._made.of("travels", lambda: place.sends(source)):
            return (lambda n: None), self._sent(source)
        shape = problem.trace_shape(1)[1:]
        fetch = source.call(shape, self._dtype)
        return (lambda n: fetch(np.array([n], np.int32))[0]), self._sent(None)

    def _sent(self, source: Source | None) -> ShotMisfits:
        problem = self._host.problem
        return self._made.of(
            ("sent", source), lambda: ShotMisfits(problem, self._dtype, self._misfit, source)
        )


@visit_p.def_abstract_eval
def _types(*leaves: Any, way: Elsewhere, structure: Any, names: Names, kind: Any) -> Any:
    return way.types(names, kind)


register_host_primitive(visit_p, lambda way, structure, names, kind: way.call(structure, names))


def _batched(leaves: Any, axes: Any, **params: Any) -> Any:
    """One model after another."""
    rows = [jnp.moveaxis(x, a, 0) for x, a in zip(leaves, axes) if a is not None]

    def one(moving: Any) -> Any:
        given = iter(moving)
        return visit_p.bind(
            *(x if a is None else next(given) for x, a in zip(leaves, axes)), **params
        )

    found = jax.lax.map(one, rows)
    return found, [0] * len(found)


batching.primitive_batchers[visit_p] = _batched


def _no_derivatives(primals: Any, tangents: Any, **params: Any) -> Any:
    raise NotImplementedError(
        "second derivatives of ox.Objective are not available within ox.cluster: take "
        "objective.normal, or ox.hvp of the misfit, whose traces come back to be differentiated"
    )


ad.primitive_jvps[visit_p] = _no_derivatives
