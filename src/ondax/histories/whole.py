"""Histories that are kept whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, final

import equinox as eqx

from .base import AbstractHistory, Recorder, Rerun, Stretch, unkept
from .buffers import Layout
from .sampled import LOBES
from .store import Kept


@final
class Whole(AbstractHistory):
    """All of it in memory, or every k-th step of it.

    Attributes:
        every: every `every`-th step is kept.
        lobes: half the length of the smoothing of residuals, in kept steps; see `sampled`.
    """

    keeps: ClassVar[bool] = True
    every: int = eqx.field(static=True, default=1)
    lobes: int = eqx.field(static=True, default=LOBES[-1])

    def every_step(self) -> AbstractHistory:
        """See `AbstractHistory.every_step`."""
        return Whole()

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
