"""Histories that are kept where they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple, final

from .base import AbstractSampledHistory, Recorder, Rerun, Stretch
from .buffers import Layout
from .revolve import Revolve
from .store import Kept
from .whole import Whole


@final
class Automatic(AbstractSampledHistory):
    """Whole where there is room for it, else computed anew from checkpoints."""

    def chosen(self, fits: bool) -> str:
        """See `AbstractHistory.chosen`."""
        return (Whole if fits else Revolve).__name__

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        """See `AbstractHistory.record`."""
        return _ways(self.every, self.lobes).record(run, room)

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        """See `AbstractHistory.replay`."""
        ways = _ways(self.every, self.lobes)
        replay = ways.anew if kept is None else ways.replay
        yield from replay(kept, rerun, backward)


class _Ways(NamedTuple):
    """What it chooses from."""

    record: Callable[[Recorder, Callable[[Layout], Kept | None]], Kept | None]
    replay: Callable[[Kept | None, Rerun, bool], Iterator[Stretch]]
    anew: Callable[[Kept | None, Rerun, bool], Iterator[Stretch]]


@cache
def _ways(every: int, lobes: int) -> _Ways:
    """Made once: modules take long to make, and to bind methods."""
    whole = Whole(every, lobes)
    return _Ways(whole.record, whole.replay, Revolve(every, lobes).replay)
