"""Histories that are computed anew, a stretch at a time, from checkpoints."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, final

from checkpoint_schedules import (
    Copy,
    EndReverse,
    Forward,
    Move,
    MultistageCheckpointSchedule,
    Reverse,
    StorageType,
)

from .base import (
    AbstractSampledHistory,
    Recorder,
    Rerun,
    Stretch,
    borrowed,
    step_bytes,
    unkept,
)
from .buffers import Layout
from .states import AbstractStates, InMemory
from .store import Kept


@dataclass(frozen=True)
class Plan:
    """How a history is cut up.

    Attributes:
        stretch: steps whose history is held at a time.
        checkpoints: states held in memory at a time.
        on_disk: states held on a disk at a time.
    """

    stretch: int
    checkpoints: int
    on_disk: int = 0


def plan(
    steps: int, step_bytes: int, state_bytes: int, budget: int, every: int, shots: int = 1
) -> Plan:
    """Split a budget evenly between one stretch of history and checkpoints, or as it goes if that
    leaves no room for one.

    Args:
        steps: number of time steps.
        step_bytes: history of one step.
        state_bytes: one checkpoint.
        budget: bytes for both, and for all shots.
        every: stretches start at multiples of this.
        shots: that run side by side.

    Raises:
        MemoryError: the budget does not hold one step and one checkpoint.
    """
    share = budget // shots
    half = max(1, min(steps, share // 2 // step_bytes - 3) // every) * every
    most = (
        ((share - state_bytes) // step_bytes - 3) // every * every
    )  # that leave room for one checkpoint
    if most < every:
        need = shots * ((every + 3) * step_bytes + state_bytes)
        side_by_side = f", for each of {shots} shots side by side" if shots > 1 else ""
        raise MemoryError(
            f"a memory budget of {budget} bytes is too small: this grid needs at least {need} "
            "bytes for one stretch of "
            f"history and one checkpoint{side_by_side}. Raise "
            f"Settings(memory=...){' or lower threads' * (shots > 1)}"
        )
    stretch = min(half, most)
    checkpoints = min((share - (stretch + 3) * step_bytes) // state_bytes, -(-steps // stretch))
    return Plan(stretch, checkpoints)


@final
class Revolve(AbstractSampledHistory):
    """Nothing is kept: a gradient runs forward again, from states saved on the way, after a
    binomial schedule (Griewank and Walther, 2000).
    """

    keeps: ClassVar[bool] = False

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        """See `AbstractHistory.record`."""
        unkept(run, self.every)

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        """See `AbstractHistory.replay`."""
        with rerun.run() as run:
            size = step_bytes(run.layout, self.every)
            chosen = plan(run.steps, size, run.state_bytes, rerun.memory, self.every, rerun.shots)
            if backward:
                yield from reversed_in_time(run, chosen, self.every)
            else:
                yield from in_time(run, chosen.stretch)


def in_time(run: Recorder, length: int) -> Iterator[Stretch]:
    """The history of a run, `length` steps at a time."""
    for first in range(0, run.steps, length):
        last = min(first + length, run.steps)
        with borrowed(run, first, last) as stretch:
            run.advance(first, last, stretch)
            yield stretch


def reversed_in_time(
    run: Recorder, chosen: Plan, every: int, states: AbstractStates | None = None
) -> Iterator[Stretch]:
    """The history of a run, a stretch at a time, from the last to the first.

    Args:
        run: at its beginning.
        chosen: how it is cut up.
        every: every `every`-th step is kept.
        states: where states are saved; None for memory.
    """
    states = InMemory() if states is None else states
    stretches = -(-run.steps // chosen.stretch)
    stretch: Stretch | None = None

    def at(index: int) -> int:
        return min(index * chosen.stretch, run.steps)

    schedule = MultistageCheckpointSchedule(stretches, chosen.checkpoints, chosen.on_disk)
    actions = deque(islice(schedule, 1))
    with ExitStack() as held:
        while actions:
            action = actions.popleft()
            actions.extend(islice(schedule, 1))
            match action:
                case Forward():
                    first, last = at(action.n0), at(action.n1)
                    if action.write_ics:
                        on_disk = action.storage == StorageType.DISK
                        states.save(action.n0, run.save(), on_disk)
                    stretch = None
                    if action.write_adj_deps:
                        stretch = held.enter_context(borrowed(run, first, last))
                        run.advance(first, last, stretch)
                    else:
                        unkept(run, every, first, last)
                case Reverse():
                    assert stretch is not None
                    if actions and isinstance(actions[0], (Copy, Move)):
                        states.soon(actions[0].n)
                    yield stretch
                    held.close()
                case Copy():
                    run.restore(states.load(action.n))
                case Move():
                    run.restore(states.load(action.n))
                    states.drop(action.n)
                case EndReverse():
                    return
