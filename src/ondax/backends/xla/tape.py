"""What a run keeps of its wavefields for those that linearise around it, in arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...calculus.coupling import Coupling, Quantity
from ...calculus.images import image_kept
from ...scheme.symbols import Symbols
from ...scheme.terms import accesses, time_offset

TOP = 14  # binary exponent of the largest value of a slot in 16 bits, whose range ends at 2^16


class Halves(NamedTuple):
    """Values in 16 bits.

    Attributes:
        values: float16, (..., *box), each slot divided by a power of two.
        power: its exponent, (...).
    """

    values: Any
    power: Any


def halved(values: Any, axes: int) -> Halves:
    """Values in 16 bits, with 11 significant bits down to 2^-28 of the largest of a slot.

    Args:
        values: (..., *box).
        axes: of a box.
    """
    largest = jnp.max(jnp.abs(values), axis=tuple(range(values.ndim - axes, values.ndim)))
    power = jnp.frexp(largest)[1].astype(np.int32) - TOP
    shape = (*power.shape, *(1,) * axes)
    return Halves(jnp.ldexp(values, -power.reshape(shape)).astype(np.float16), power)


def unhalved(halves: Halves, dtype: Any) -> Any:
    """The opposite of `halved`."""
    values, power = halves
    shape = (*power.shape, *(1,) * (values.ndim - power.ndim))
    return jnp.ldexp(values.astype(dtype), power.reshape(shape))


def changes(windows: Sequence[Any]) -> Any:
    """Values at times in a row, as the first of them and what each changes by: gradients are made
    of the changes, which so keep their significant bits when they are halved.

    Args:
        windows: the values at each time, (shot, *box).

    Returns:
        (time, shot, *box); their sums up to each time are the values.
    """
    later = [after - before for before, after in pairwise(windows)]
    return jnp.stack([windows[0], *later])


@dataclass(frozen=True)
class Track:
    """One array of a tape.

    Attributes:
        quantity: what it holds.
        offsets: the times at which gradients of a step, and Born sources, read it, counted in steps
            from that step, in order.
        image: how it continues above a free surface.
    """

    quantity: Quantity
    offsets: tuple[int, ...]
    image: int | None

    @property
    def name(self) -> str:
        """Of the stored symbol."""
        return self.quantity.symbol.name


def tracks_of(coupling: Coupling, symbols: Symbols) -> tuple[Track, ...]:
    """The arrays of a tape for some coefficients."""
    read: dict[str, set[int]] = {}
    for expr in (*coupling.gradients.values(), *coupling.born.values()):
        for access in accesses(expr):
            read.setdefault(access.function.name, set()).add(time_offset(access))
    return tuple(
        Track(q, tuple(sorted(read[q.symbol.name])), image_kept(q.symbol, q.expr, symbols))
        for q in coupling.quantities
        if q.symbol.name in read
    )


class Keep(NamedTuple):
    """How a run keeps its history.

    Attributes:
        coefficients: whose gradients, or perturbations, it is kept for.
        every: every `every`-th step is kept.
        beyond: steps beyond the record's end that the run goes on.
        half: in 16 bits a value.
        anew: it is computed anew, from states saved on the way, also where it could be held.
    """

    coefficients: tuple[str, ...]
    every: int = 1
    beyond: int = 0
    half: bool = False
    anew: bool = False

    def serves(self, other: Keep) -> bool:
        """Does a history that is kept so hold all of one that would be kept otherwise?"""
        return self[1:] == other[1:] and set(self.coefficients) >= set(other.coefficients)


@partial(jax.tree_util.register_dataclass, data_fields=["kept", "before"], meta_fields=["keep"])
@dataclass(frozen=True)
class Tape:
    """The history of a run: of every step, or of every k-th.

    Attributes:
        keep: how it was kept.
        kept: by name. Of every step: the value that the step made, (step, shot, *box). Of every
            k-th: the values that its gradient reads, (step, offset, shot, *box), in 16 bits as
            `changes`.
        before: of fields, those at time 0 and at time -1, by name, (shot, *box); empty for a start
            at rest.
    """

    keep: Keep
    kept: Mapping[str, Any]
    before: Mapping[str, tuple[Any, ...]]


def recalled(tape: Tape, track: Track, n: Any, sampled: bool, dtype: Any) -> list[tuple[int, Any]]:
    """What a step reads of a track: offsets, and values (shot, *box).

    Args:
        tape: the history.
        track: of it.
        n: number of the step; of a tape of every k-th step, of the kept one.
        sampled: it is such a tape.
        dtype: of the values.
    """
    kept = tape.kept[track.name]

    def slot(index: Any) -> Any:
        index = jnp.maximum(index, 0)
        parts = [lax.dynamic_index_in_dim(x, index, 0, keepdims=False) for x in _leaves(kept)]
        return _made(kept, parts, dtype)

    if sampled:
        window = slot(n)
        if tape.keep.half:
            window = jnp.cumsum(window, axis=0)
        return [(offset, window[i]) for i, offset in enumerate(track.offsets)]
    if not track.quantity.at_next:
        return [(0, slot(n))]
    found = []
    for offset in track.offsets:
        value = slot(n + (offset - 1))
        if offset < 1:  # before the first step
            value = _with_start(value, tape.before.get(track.name, ()), n + (offset - 1))
        found.append((offset, value))
    return found


def _with_start(value: Any, before: tuple[Any, ...], index: Any) -> Any:
    """A value, or that of time 0 or -1 where the index is -1 or -2."""
    for back in (1, 2):
        start = before[back - 1] if back <= len(before) else jnp.zeros_like(value)
        value = jnp.where(index == -back, start, value)
    return value


def _leaves(kept: Any) -> tuple[Any, ...]:
    return tuple(kept) if isinstance(kept, Halves) else (kept,)


def _made(kept: Any, parts: list[Any], dtype: Any) -> Any:
    return unhalved(Halves(*parts), dtype) if isinstance(kept, Halves) else parts[0].astype(dtype)
