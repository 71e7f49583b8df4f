"""Histories that are kept whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import final

from .base import AbstractSampledHistory, Recorder, Rerun, Stretch, unkept
from .buffers import Layout
from .store import Kept


@final
class Whole(AbstractSampledHistory):
    """All of it in memory, or every k-th step of it."""

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        """See `AbstractHistory.record`."""
        kept = room(run.layout(0, run.steps))
        if kept is None:
            unkept(run, self.every)
        else:
            run.advance(0, run.steps, run.begin(0, run.steps, kept.arrays))
        return kept

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        """See `AbstractHistory.replay`.

        Raises:
            MemoryError: it was not kept.
        """
        if kept is None:
            with rerun.run() as run:
                need = sum(s.nbytes for s in run.layout(0, run.steps))
            raise MemoryError(
                f"a memory budget of {rerun.memory} bytes does not hold a whole history of {need} "
                'bytes. Raise Settings(memory=...), or take history="auto", which computes anew '
                "what does not fit"
            )
        yield Stretch(0, rerun.steps, kept.arrays)
