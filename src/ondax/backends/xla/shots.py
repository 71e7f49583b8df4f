"""What determines the wavefields of some shots, and the run of many of them, group by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .tape import Tape
from .windows import Places


@dataclass(frozen=True)
class Situation:
    """What determines the wavefields of some shots, as JAX arrays; without batch axes.

    Attributes:
        coefficients: of the scheme, by name, on the domain.
        source: samples at internal steps, (shot or 1, port and source, step).
        sources: where points feed; None for extended sources.
        receivers: where they read.
        starts: of each shot, the first point of its part of the domain, (shot, axis); None where
            shots see the whole.
        weights: of extended sources, (shot, *domain).
        initial: the state before the first step, by field name, (shot, level, *points).
        by_position: samples are also fed by derivatives by position; see `Experiment`.
        tape: the history of a forward run; None if it is to be made.
    """

    coefficients: Mapping[str, Any]
    source: Any
    sources: Places | None
    receivers: Places
    starts: Any = None
    weights: Any = None
    initial: Mapping[str, Any] | None = None
    by_position: bool = False
    tape: Tape | None = None

    @property
    def shots(self) -> int:
        """How many."""
        return self.receivers.live.shape[0]

    @property
    def samples(self) -> Any:
        """Those of the sources of all shots, (shot, port and source, step)."""
        return jnp.broadcast_to(self.source, (self.shots, *self.source.shape[1:]))

    @property
    def before(self) -> int:
        """Samples that are recorded before the first step."""
        return 0 if self.initial is None else 1


def by_groups(run: Callable[[Any], Any], args: Any, group: int, summed: Any = None) -> Any:
    """A function of some shots, a group of shots after another.

    Args:
        run: of arguments whose arrays, but for coefficients, have the shots as their first axis.
        args: of all shots.
        group: so many.
        summed: where the first result is a sum over shots, its zeros; None otherwise.
    """
    situation = args if isinstance(args, Situation) else args[0]
    shots = situation.shots
    if group >= shots:
        return run(args)
    groups = -(-shots // group)
    size = -(-shots // groups)
    numbers = np.arange(groups * size, dtype=np.int32).reshape(groups, size)
    there = numbers < shots

    def one(args: Any, numbers: Any, there: Any) -> Any:
        which = jnp.minimum(numbers, shots - 1)
        return run(_chosen(args, which, there))

    if summed is None:
        found = lax.map(lambda x: one(args, *x), (numbers, there))
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:shots], found)

    def add(total: Any, x: Any) -> Any:
        part, others = one(args, *x)
        return jax.tree.map(jnp.add, total, part), others

    total, others = lax.scan(add, summed[0], (numbers, there))
    return total, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:shots], others)


def _chosen(args: Any, which: Any, there: Any) -> Any:
    """The arguments of some shots; silent where they are not `there`."""
    if isinstance(args, Situation):
        return _shots_of(args, which, there)
    situation, *others = args

    def some(array: Any) -> Any:
        return jnp.where(there.reshape(-1, *(1,) * (array.ndim - 1)), array[which], 0)

    return _shots_of(situation, which, there), *jax.tree.map(some, others)


def _shots_of(x: Situation, which: Any, there: Any) -> Situation:
    """Some of the shots, without points where they are not `there`."""

    def some(array: Any) -> Any:
        return None if array is None else array[which]

    def places(p: Places | None) -> Any:
        if p is None:
            return None
        live = p.live[which] & there[:, None]
        return p._replace(positions=p.positions[which], live=live, origin=p.origin[which])

    common = x.source.shape[0] == 1 and x.shots > 1
    return replace(
        x,
        source=x.source if common else x.source[which],
        sources=places(x.sources),
        receivers=places(x.receivers),
        starts=some(x.starts),
        weights=some(x.weights),
        initial=None if x.initial is None else {n: v[which] for n, v in x.initial.items()},
    )
