"""What a run keeps of its wavefields, for those that linearise around it: the interface.

A forward run hands its history over while it runs (`record`). A run that linearises around it, Born
forward in time or a gradient backward, gets it back a stretch of steps at a time (`replay`). What
is handed over in between is one value, `Kept`, which the store files, and which may be None for a
history that is computed anew.

    forward run   --- record --->   Kept | None   --- replay --->   stretches   --->   linear run
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import numpy as np

from .buffers import POOL, Layout, layout_bytes
from .sampled import LOBES, Sampling
from .store import Kept

SCRATCH = 8 << 20  # bytes of history that a run without room for all of it writes and forgets
State = Mapping[str, np.ndarray]
LayoutOf = Callable[[int, int], Layout]  # what arrays hold a stretch, from its first and last step


@dataclass(frozen=True)
class Stretch:
    """The history of the steps `first <= n < last`.

    Attributes:
        first: first step.
        last: one past the last step.
        arrays: as kernels take them, by name.
    """

    first: int
    last: int
    arrays: Mapping[str, np.ndarray]


@runtime_checkable
class Packing(Protocol):
    """Packs arrays into 16 bits a value.

    Kept of each slot is what it differs by from the slot before, with 11 significant bits, of
    differences down to 2^-30 of the largest nearby. The first slot is kept in two parts. Where
    values are not finite, those nearby and those of the slots that follow come back as NaN.
    """

    def pack(self, values: np.ndarray, packed: np.ndarray) -> np.ndarray:
        """Pack slots.

        Args:
            values: (slot, ...), float32 or float64.
            packed: (slot + 1, ...), uint16; filled.

        Returns:
            The binary exponents of what was packed, which `unpack` needs.
        """
        ...

    def unpack(self, packed: np.ndarray, exponents: np.ndarray, values: np.ndarray) -> None:
        """The opposite of `pack`: fills `values`."""
        ...


@runtime_checkable
class Recorder(Protocol):
    """A forward run that can be stopped, saved and taken up again.

    Attributes:
        steps: of the whole run.
    """

    steps: int

    @property
    def packing(self) -> Packing:
        """Packs arrays of a history into half of their memory."""
        ...

    @property
    def state_bytes(self) -> int:
        """Memory that a saved state takes."""
        ...

    def layout(self, first: int, last: int) -> Layout:
        """What arrays hold a stretch."""
        ...

    def begin(self, first: int, last: int, arrays: Mapping[str, np.ndarray]) -> Stretch:
        """A stretch in these arrays, with what is known of it before its first step; the run stands
        there."""
        ...

    def advance(self, first: int, last: int, into: Stretch | None) -> None:
        """Run some steps from the present state, keeping their history if there is a stretch for
        it."""
        ...

    def save(self) -> State:
        """A copy of the present state."""
        ...

    def restore(self, state: State) -> None:
        """Go on from a saved state."""
        ...


class Rerun(NamedTuple):
    """What a replay may use to compute anew what was not kept.

    Attributes:
        steps: of the run.
        run: the run from its beginning, as a context.
        memory: bytes that histories may take.
        shots: that run side by side.
        packing: packs arrays of a history into half of their memory.
    """

    steps: int
    run: Callable[[], AbstractContextManager[Recorder]]
    memory: int
    shots: int
    packing: Packing


class Taken(NamedTuple):
    """What a history takes of a shot, bytes.

    Attributes:
        memory: while the shot is run, and for as long as it is kept.
        disk: on the disk.
    """

    memory: int
    disk: int = 0


class AbstractHistory(eqx.Module):
    """A way to keep histories.

    It holds settings only, as static fields, so that two that are equal keep histories alike.

    Attributes:
        every: every `every`-th step is kept; 1, unless it samples in time.
        keeps: whether `record` keeps anything.
    """

    every: eqx.AbstractVar[int]
    keeps: eqx.AbstractClassVar[bool]

    @property
    def lobes(self) -> int:
        """Half the length of the smoothing of residuals, in kept steps; see `sampled`."""
        return LOBES[-1]

    @property
    def sampling(self) -> Sampling:
        """Which steps are kept."""
        return Sampling(self.every, self.lobes)

    @abstractmethod
    def every_step(self) -> AbstractHistory:
        """The same way of keeping, but every step: for Born modelling and migration. They are each
        other's transpose because both read the same history, whatever it has lost."""

    def held(self, steps: int, layout: LayoutOf) -> Layout:
        """What `record` asks room for, of a run of so many steps with these arrays."""
        return layout(0, steps)

    def takes(self, steps: int, layout: LayoutOf) -> Taken:
        """What a history of so many steps takes that is kept."""
        return Taken(layout_bytes(self.held(steps, layout)))

    def chosen(self, fits: bool) -> str:
        """The name of what is done, where there is a choice.

        Args:
            fits: whether the history of one shot fits into the memory of all histories.
        """
        return type(self).__name__

    @abstractmethod
    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        """Run all steps, and keep what `replay` needs.

        Args:
            run: at rest, before its first step.
            room: returns buffers, or None where there is no memory. Call it at most once, before
                the first step. It may raise to end a run made only to keep a history.

        Returns:
            What `room` returned, filled; or None if nothing was kept. Any other object is refused.
        """

    @abstractmethod
    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        """The history of all steps, in stretches that follow each other, forward or backward in
        time. Each is valid until the next is asked for.

        Arrays that did not come from `room` or `borrowed` must have the shapes and types that
        `Recorder.layout` says and be C-contiguous. Kernels are fastest with those that
        `zeros(shape, dtype, row_halo)` of `ondax.histories` makes.

        Args:
            kept: what was recorded; None for nothing.
            rerun: how to compute it anew.
            backward: from the last step to the first.

        Raises:
            MemoryError: there is not enough for it.
        """


class AbstractSampledHistory(AbstractHistory):
    """A way of ours, which can keep every step or some.

    Attributes:
        every: every `every`-th step is kept.
        lobes: half the length of the smoothing of residuals, in kept steps; see `sampled`.
    """

    keeps: ClassVar[bool] = True
    every: int = eqx.field(static=True, default=1)
    lobes: int = eqx.field(static=True, default=LOBES[-1])

    def every_step(self) -> AbstractHistory:
        """See `AbstractHistory.every_step`."""
        return replace(self, every=1, lobes=LOBES[-1])


@dataclass(frozen=True)
class Recording:
    """What a run keeps, and for which coefficients.

    Attributes:
        coefficients: names of the coefficients that are to be perturbed or differentiated, in the
            scheme's order.
        history: the way to keep it.
    """

    coefficients: tuple[str, ...]
    history: AbstractHistory

    def __post_init__(self) -> None:
        # It is a part of many keys, and modules take long to hash.
        object.__setattr__(self, "_hash", hash((self.coefficients, self.history)))

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined]

    # Modules take long to give an attribute, and longer to bind a method.

    @cached_property
    def every(self) -> int:
        """Every `every`-th step is kept."""
        return self.history.every

    @cached_property
    def sampling(self) -> Sampling:
        """Which steps are kept."""
        return self.history.sampling

    @property
    def beyond(self) -> int:
        """How many steps beyond the record's end runs go on."""
        return self.sampling.beyond

    @cached_property
    def record(self) -> Callable[[Recorder, Callable[[Layout], Kept | None]], Kept | None]:
        """See `AbstractHistory.record`."""
        return self.history.record

    @cached_property
    def replay(self) -> Callable[[Kept | None, Rerun, bool], Iterator[Stretch]]:
        """See `AbstractHistory.replay`."""
        return self.history.replay


@contextmanager
def lent(layout: Layout) -> Iterator[dict[str, np.ndarray]]:
    """Arrays in memory that is given back afterwards."""
    arrays = {s.name: POOL.take(s.use, s.shape, s.dtype, s.row_halo) for s in layout}
    try:
        yield arrays
    finally:
        for stored in layout:
            POOL.give(stored.use, arrays[stored.name])


@contextmanager
def borrowed(run: Recorder, first: int, last: int) -> Iterator[Stretch]:
    """A stretch in memory that is given back afterwards; the run stands at its first step."""
    with lent(run.layout(first, last)) as arrays:
        yield run.begin(first, last, arrays)


def step_bytes(layout: LayoutOf, every: int) -> int:
    """Memory that the history of one step takes."""
    more, less = (layout_bytes(layout(0, n * every)) for n in (2, 1))
    return -(-(more - less) // every)


def short_stretches(
    steps: int, layout: LayoutOf, every: int, least: int = 1, first: int = 0
) -> list[tuple[int, int]]:
    """The steps of a run from `first` on, in stretches whose history takes little memory, most of
    it in cache; of at least so many steps that are kept."""
    length = max(least, SCRATCH // step_bytes(layout, every) // every) * every
    return [(n, min(n + length, steps)) for n in range(first, steps, length)]


def unkept(run: Recorder, every: int, first: int = 0, last: int | None = None) -> None:
    """Run all steps, or those from `first` to `last`, keeping nothing.

    The kernel that keeps a history is not, to the bit, the one that does not. Neither traces nor
    gradients must depend on how much memory happened to be free, so it runs all the same, over a
    buffer that is used again and again.
    """
    end = run.steps if last is None else last
    for begin, stop in short_stretches(end, run.layout, every, first=first):
        with borrowed(run, begin, stop) as stretch:
            run.advance(begin, stop, stretch)
