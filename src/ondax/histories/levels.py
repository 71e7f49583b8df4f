"""Histories that are computed anew from states in memory and on a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import ClassVar, final

import equinox as eqx

from . import scratch
from .base import AbstractSampledHistory, LayoutOf, Recorder, Rerun, Stretch, Taken, step_bytes
from .buffers import Layout
from .revolve import Plan, Revolve, in_time, plan, reversed_in_time
from .states import OnDisk
from .store import STORE, Kept

ON_THE_WAY = 2  # states in memory that are on their way to the disk, or from there


@final
class RevolveOnDisk(AbstractSampledHistory):
    """As `Revolve`, with further states on a disk: those that are read most often stay in memory
    (Stumm and Walther, 2009). With room for all of them, a gradient takes three wave solves,
    whatever the memory. What the disk has no room for is computed again.

    Attributes:
        folder: on whose disk; None for the system's folder of temporary files.
    """

    keeps: ClassVar[bool] = False
    folder: str | None = eqx.field(static=True, default=None)

    def takes(self, steps: int, layout: LayoutOf) -> Taken:
        """See `AbstractHistory.takes`: what a history that is not kept would take."""
        return Revolve(self.every, self.lobes).takes(steps, layout)

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        """See `AbstractHistory.record`."""
        return Revolve(self.every, self.lobes).record(run, room)

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        """See `AbstractHistory.replay`."""
        with rerun.run() as run:
            step = step_bytes(run.layout, self.every)
            chosen = plan(run.steps, step, run.state_bytes, rerun.memory, self.every, rerun.shots)
            if not backward:
                yield from in_time(run, chosen.stretch)
                return
            size = run.state_bytes
            there = partial(_room, self.folder, rerun.shots)
            chosen, file = with_disk(chosen, run.steps, size, there, self._file)
            if file is None:
                yield from reversed_in_time(run, chosen, self.every)
                return
            with OnDisk(file, size, at_once=chosen.checkpoints == 0) as states:
                yield from reversed_in_time(run, chosen, self.every, states)

    def _file(self, size: int) -> scratch.File | None:
        return scratch.try_to_take(self.folder, size)


def _room(folder: str | None, shots: int) -> int:
    """Bytes on a disk for each of so many shots that run side by side."""
    STORE.let_go_of_files(False)
    return scratch.room(folder) // shots


def with_disk(
    chosen: Plan,
    steps: int,
    state_bytes: int,
    room: Callable[[], int],
    file: Callable[[int], scratch.File | None],
) -> tuple[Plan, scratch.File | None]:
    """A plan with as many states on the disk as help, and a file for them; None where none help,
    or there is no room.

    Args:
        chosen: the plan without a disk.
        steps: of the run.
        state_bytes: what a state takes.
        room: says how many bytes the disk has.
        file: makes a file of so many bytes, if there is room for it.
    """
    missing = -(-steps // chosen.stretch) - 1 - chosen.checkpoints
    if missing <= 0:
        return chosen, None
    # States that are on their way to the disk, or from there, are in memory, too.
    moving = min(ON_THE_WAY, chosen.checkpoints)
    wanted = missing + moving
    while True:
        wanted = min(wanted, room() // state_bytes)
        if wanted <= moving:
            return chosen, None
        made = file(wanted * state_bytes)
        if made is not None:
            return replace(chosen, checkpoints=chosen.checkpoints - moving, on_disk=wanted), made
        wanted //= 2
