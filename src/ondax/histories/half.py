"""Histories in half precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, final

import numpy as np

from .base import (
    AbstractSampledHistory,
    LayoutOf,
    Recorder,
    Rerun,
    Stretch,
    borrowed,
    lent,
    short_stretches,
)
from .buffers import Layout, Stored
from .revolve import Revolve
from .store import Kept

# Steps packed together, of those that are kept, at least. Each piece has slots to spare, and while
# it is packed or unpacked it takes four bytes a value: so it is a tenth of a short history.
SHORT, PIECE, PARTS = 8, 32, 10


class _Piece(NamedTuple):
    """Steps that are packed together.

    Attributes:
        first: first step.
        last: one past the last step.
        layout: the arrays of their stretch.
        slots: where they are packed, by the name of the array.
        exponents: as `Packing` gives them, by the name of the array; once it is packed.
    """

    first: int
    last: int
    layout: Layout
    slots: Mapping[str, slice]
    exponents: dict[str, np.ndarray]


@final
class Half(AbstractSampledHistory):
    """All of it, or every k-th step of it, in 16 bits a value (see `Packing`): runs write a short
    stretch, which is packed before the next. A history that does not fit alone is computed anew
    instead, as it is without packing.
    """

    def chosen(self, fits: bool) -> str:
        """See `AbstractHistory.chosen`."""
        return (Half if fits else Revolve).__name__

    def held(self, steps: int, layout: LayoutOf) -> Layout:
        """See `AbstractHistory.held`."""
        pieces = self._pieces(steps, layout)
        return tuple(
            Stored(s.name, (pieces[-1].slots[s.name].stop, *s.shape[1:]), "uint16")
            for s in pieces[-1].layout
        )

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        """See `AbstractHistory.record`."""
        kept = room(self.held(run.steps, run.layout))
        pieces = self._pieces(run.steps, run.layout)
        for piece in pieces:
            with borrowed(run, piece.first, piece.last) as stretch:
                run.advance(piece.first, piece.last, stretch)
                if kept is None:
                    continue
                for name, slots in piece.slots.items():
                    packed = kept.arrays[name][slots]
                    piece.exponents[name] = run.packing.pack(stretch.arrays[name], packed)
        if kept is not None:
            kept.note = pieces
        return kept

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        """See `AbstractHistory.replay`."""
        if kept is None:
            yield from Revolve(self.every, self.lobes).replay(None, rerun, backward)
            return
        for piece in reversed(kept.note) if backward else kept.note:
            with lent(piece.layout) as arrays:
                for name, slots in piece.slots.items():
                    packed = kept.arrays[name][slots]
                    rerun.packing.unpack(packed, piece.exponents[name], arrays[name])
                yield Stretch(piece.first, piece.last, arrays)

    def _pieces(self, steps: int, layout: LayoutOf) -> list[_Piece]:
        """A run, cut up."""
        pieces: list[_Piece] = []
        begin: dict[str, int] = {}
        least = min(PIECE, max(SHORT, steps // self.every // PARTS))
        for first, last in short_stretches(steps, layout, self.every, least):
            slots = {}
            for stored in layout(first, last):
                start, count = begin.get(stored.name, 0), stored.shape[0] + 1
                begin[stored.name] = start + count
                slots[stored.name] = slice(start, start + count)
            pieces.append(_Piece(first, last, layout(first, last), slots, {}))
        return pieces
