"""Histories that are kept on a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, final

import equinox as eqx
import numpy as np

from .._behind import Behind
from . import scratch
from .base import (
    AbstractSampledHistory,
    LayoutOf,
    Recorder,
    Rerun,
    Stretch,
    Taken,
    borrowed,
    lent,
    short_stretches,
    unkept,
)
from .buffers import Layout, layout_bytes
from .revolve import in_time
from .store import STORE, Kept

PIECE = 8  # steps written together, of those that are kept, at least: each has slots to spare
BUFFERS = 2  # one that the run fills or reads, one on its way to the disk or from there


class _Piece(NamedTuple):
    """Steps that are written together.

    Attributes:
        first: first step.
        last: one past the last step.
        layout: the arrays of their stretch.
        offsets: where they lie in the file, by the name of the array.
    """

    first: int
    last: int
    layout: Layout
    offsets: Mapping[str, int]


class _Written(NamedTuple):
    """A history in a file."""

    file: scratch.File
    pieces: Sequence[_Piece]


@final
class Disk(AbstractSampledHistory):
    """All of it, or every k-th step of it, in a file: written behind the run, a short stretch at a
    time, and read ahead of the run that needs it. In memory are two stretches of each shot that
    runs.

    Attributes:
        folder: on whose disk; None for the system's folder of temporary files.
    """

    folder: str | None = eqx.field(static=True, default=None)

    def held(self, steps: int, layout: LayoutOf) -> Layout:
        """See `AbstractHistory.held`."""
        return ()

    def takes(self, steps: int, layout: LayoutOf) -> Taken:
        """See `AbstractHistory.takes`."""
        pieces = self._pieces(steps, layout)
        largest = max(layout_bytes(p.layout) for p in pieces)
        return Taken(min(BUFFERS, len(pieces)) * largest, _size(pieces))

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        """See `AbstractHistory.record`.

        Raises:
            DiskFull: there is no room for it on the disk, even if everything else is dropped.
        """
        kept = room(())
        pieces = self._pieces(run.steps, run.layout)
        file = None
        if kept is not None:
            file = scratch.taken(self.folder, _size(pieces), STORE.let_go_of_files)
        if kept is None or file is None:
            unkept(run, self.every)
            return None
        _write(run, pieces, file)
        kept.note, kept.on_disk = _Written(file, pieces), file.size
        return kept

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        """See `AbstractHistory.replay`.

        Raises:
            DiskFull: there is no room for it on the disk, even if everything else is dropped.
        """
        if kept is not None:
            yield from _read(kept.note, backward)
            return
        with rerun.run() as run:
            pieces = self._pieces(run.steps, run.layout)
            if not backward:
                yield from in_time(run, pieces[0].last)
                return
            # Other shots hold the disk, and give it back.
            file = scratch.taken(self.folder, _size(pieces), STORE.let_go_of_files, wait=True)
            assert file is not None
            try:
                _write(run, pieces, file)
            except BaseException:
                file.close()
                raise
        try:
            yield from _read(_Written(file, pieces), backward)
        finally:
            file.close()

    def _pieces(self, steps: int, layout: LayoutOf) -> list[_Piece]:
        """A run, cut up."""
        pieces: list[_Piece] = []
        end = 0
        for first, last in short_stretches(steps, layout, self.every, PIECE):
            offsets = {}
            for stored in layout(first, last):
                offsets[stored.name] = end
                end += stored.nbytes
            pieces.append(_Piece(first, last, layout(first, last), offsets))
        return pieces


def _size(pieces: Sequence[_Piece]) -> int:
    """Bytes of a history in a file."""
    return sum(layout_bytes(p.layout) for p in pieces)


def _write(run: Recorder, pieces: Sequence[_Piece], file: scratch.File) -> None:
    """Make all steps of a run, and write what is kept of each piece while the next one runs."""
    writing: Future[None] | None = None
    with ExitStack() as written, Behind[None]() as behind:
        for piece in pieces:
            with ExitStack() as own:
                stretch = own.enter_context(borrowed(run, piece.first, piece.last))
                run.advance(piece.first, piece.last, stretch)
                if writing is not None:
                    writing.result()
                    written.close()
                writing = behind.start(partial(_put, file, piece, stretch.arrays))
                written.push(own.pop_all())
        if writing is not None:
            writing.result()


def _put(file: scratch.File, piece: _Piece, arrays: Mapping[str, np.ndarray]) -> None:
    for name, offset in piece.offsets.items():
        file.write(offset, arrays[name])


def _get(file: scratch.File, piece: _Piece, arrays: Mapping[str, np.ndarray]) -> None:
    for name, offset in piece.offsets.items():
        file.read(offset, arrays[name])


def _read(written: _Written, backward: bool) -> Iterator[Stretch]:
    """The history of a file, the next piece of which is read while one is used."""
    pieces = list(reversed(written.pieces)) if backward else list(written.pieces)
    with ExitStack() as ahead, Behind[None]() as behind:

        def begin(piece: _Piece) -> tuple[Any, Future[None]]:
            arrays = ahead.enter_context(lent(piece.layout))
            return arrays, behind.start(partial(_get, written.file, piece, arrays))

        arrays, reading = begin(pieces[0])
        for n, piece in enumerate(pieces):
            reading.result()
            with ahead.pop_all():
                stretch = Stretch(piece.first, piece.last, arrays)
                if n + 1 < len(pieces):
                    arrays, reading = begin(pieces[n + 1])
                yield stretch
