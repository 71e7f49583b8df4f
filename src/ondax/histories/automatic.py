"""Histories that are kept where they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, final

import equinox as eqx

from .base import AbstractHistory, Recorder, Rerun, Stretch
from .buffers import Layout
from .revolve import Revolve
from .sampled import LOBES
from .store import Kept
from .whole import Whole


@final
class Automatic(AbstractHistory):
    """Whole where there is room for it, else computed anew from checkpoints.

    Attributes:
        every: every `every`-th step is kept.
        lobes: half the length of the smoothing of residuals, in kept steps; see `sampled`.
    """

    keeps: ClassVar[bool] = True
    every: int = eqx.field(static=True, default=1)
    lobes: int = eqx.field(static=True, default=LOBES[-1])

    def every_step(self) -> AbstractHistory:
        """See `AbstractHistory.every_step`."""
        return Automatic()

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        """See `AbstractHistory.record`."""
        return Whole(self.every, self.lobes).record(run, room)

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        """See `AbstractHistory.replay`."""
        way = (Revolve if kept is None else Whole)(self.every, self.lobes)
        yield from way.replay(kept, rerun, backward)
