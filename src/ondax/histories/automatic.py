"""Histories that are kept where they fit, and the ways by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import ClassVar, NamedTuple, final

import equinox as eqx

from .base import AbstractHistory, Recorder, Rerun, Stretch
from .buffers import Layout
from .revolve import Revolve
from .store import Kept
from .whole import Whole

NAMES = ("auto", "whole", "sampled", "revolve")


@final
class Automatic(AbstractHistory):
    """Whole where there is room for it, else computed anew from checkpoints.

    Attributes:
        every: every `every`-th step is kept.
    """

    keeps: ClassVar[bool] = True
    every: int = eqx.field(static=True, default=1)

    def exact(self) -> AbstractHistory:
        """Every step."""
        return Automatic()

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        """See `AbstractHistory.record`."""
        return _ways(self.every).record(run, room)

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        """See `AbstractHistory.replay`."""
        ways = _ways(self.every)
        replay = ways.anew if kept is None else ways.replay
        yield from replay(kept, rerun, backward)


class _Ways(NamedTuple):
    """What it chooses from."""

    record: Callable[[Recorder, Callable[[Layout], Kept | None]], Kept | None]
    replay: Callable[[Kept | None, Rerun, bool], Iterator[Stretch]]
    anew: Callable[[Kept | None, Rerun, bool], Iterator[Stretch]]


@cache
def _ways(every: int) -> _Ways:
    """Made once: modules take long to make, and to bind methods."""
    whole = Whole(every)
    return _Ways(whole.record, whole.replay, Revolve(every).replay)


def named(history: str | AbstractHistory, every: int) -> AbstractHistory:
    """The way to keep histories that `Settings(history=..., store_every=...)` asks for.

    Raises:
        ValueError: there is no such way, or it does not go with `store_every`.
    """
    if isinstance(history, AbstractHistory):
        if every != 1:
            raise ValueError(f"store_every={every}: {history!r} says itself what it keeps")
        return history
    if history == "sampled" and every == 1:
        raise ValueError('history="sampled" keeps every k-th step: give store_every=k')
    if history == "whole" and every != 1:
        raise ValueError(
            f'history="whole" keeps every step: leave out store_every={every}, or take '
            'history="sampled"'
        )
    ways = {"auto": Automatic, "whole": Whole, "sampled": Automatic, "revolve": Revolve}
    if history not in ways:
        raise ValueError(f"history={history!r}: choose one of {', '.join(map(repr, NAMES))}")
    return ways[history](every)
