"""Samples of traces, read from files when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from .. import _forks
from .headers import IBM, SAMPLE_TYPES, TRACE_HEADER_BYTES, Layout
from .ibm import from_ibm

READ = 1 << 26  # bytes in one read, at most


def samples(
    files: Sequence[Layout], file: Int[np.ndarray, " trace"], number: Int[np.ndarray, " trace"]
) -> Float32[np.ndarray, "trace time"]:
    """The samples of traces.

    Args:
        files: those of a catalogue, with as many samples a trace.
        file: which file each trace is in.
        number: its number there.

    Raises:
        ValueError: a file has changed.
    """
    traces = np.empty((len(file), files[0].samples), np.float32)
    order = np.lexsort((number, file))
    for run in _runs(files, file[order], number[order]):
        some = order[run]
        layout = files[int(file[some[0]])]
        raw = np.empty((len(some), layout.stride), np.uint8)
        # Each read opens the file for itself, so that threads do not share a place in it.
        with open(layout.path, "rb", buffering=0) as opened:
            layout.check(os.fstat(opened.fileno()))
            opened.seek(layout.first + int(number[some[0]]) * layout.stride)
            _fill(opened, raw.reshape(-1), layout)
        traces[some] = decoded(raw[:, TRACE_HEADER_BYTES:], layout)
    return traces


def _runs(files: Sequence[Layout], file: np.ndarray, number: np.ndarray) -> Iterator[slice]:
    """Parts of a sorted list in which traces are neighbours in one file."""
    ends = np.flatnonzero((np.diff(file) != 0) | (np.diff(number) != 1)) + 1
    bounds = [0, *ends.tolist(), len(file)]
    for first, end in pairwise(bounds):
        size = max(1, READ // files[file[first]].stride) if end > first else 1
        for start in range(first, end, size):
            yield slice(start, min(start + size, end))


def _fill(opened: Any, buffer: np.ndarray, layout: Layout) -> None:
    """Read until the buffer is full: the system may return less at a time."""
    view, done = buffer.data, 0
    while done < len(view):
        count = opened.readinto(view[done:])
        if not count:
            raise ValueError(f"{layout.path} ended while it was read: scan it again")
        done += count


def decoded(raw: np.ndarray, layout: Layout) -> Float32[np.ndarray, "trace time"]:
    """Samples from their bytes, (trace, byte)."""
    kind = np.dtype(layout.order + SAMPLE_TYPES[layout.format])
    values = np.ascontiguousarray(raw).view(kind)
    if layout.format == IBM:
        return from_ibm(values.astype(np.uint32))
    return values.astype(np.float32)


class ReadAhead:
    """Gathers of shots, of which those that are probably asked for next are read in the background.

    When shots are asked for in their order, the next group of the same size is read meanwhile; no
    more than one group waits in memory. May be used by several threads.

    Args:
        read: gathers of shots, by their numbers.
        shots: how many there are.
    """

    def __init__(self, read: Callable[[np.ndarray], list[np.ndarray]], shots: int) -> None:
        self._read, self._shots = read, shots
        self._lock = _forks.lock()
        self._expected = 0  # the shot that comes next, if shots are visited in order
        self._waiting: tuple[dict[int, int], Future[list[np.ndarray]], int] | None = None

    def gathers(self, numbers: Int[np.ndarray, " shot"]) -> list[np.ndarray]:
        """The gathers of shots."""
        asked = numbers.tolist()
        with self._lock:
            places, future = self._ahead()
            if future is not None and any(n in places for n in asked):
                self._waiting = None
        found = {}
        if future is not None and any(n in places for n in asked):
            gathers = future.result()
            found = {n: gathers[places[n]] for n in asked if n in places}
        missing = np.array([n for n in dict.fromkeys(asked) if n not in found], np.int64)
        if missing.size:
            found |= dict(zip(missing.tolist(), self._read(missing), strict=True))
        self._look_ahead(asked)
        return [found[n] for n in asked]

    def _ahead(self) -> tuple[dict[int, int], Future[list[np.ndarray]] | None]:
        """What is read in the background: by whom in a process that was forked since, nobody."""
        if self._waiting is None or self._waiting[2] != os.getpid():
            return {}, None
        return self._waiting[:2]

    def _look_ahead(self, asked: list[int]) -> None:
        """Start to read the next group, if this one followed the one before it."""
        if not asked:
            return
        first, last = asked[0], asked[-1]
        in_order = asked == list(range(first, last + 1))
        with self._lock:
            follows = in_order and first in (0, self._expected)
            self._expected = (last + 1) % self._shots
            # Not around the end: whoever visits all shots once would read the first ones in vain.
            following = np.arange(last + 1, min(last + 1 + len(asked), self._shots))
            if not follows or not following.size:
                return
            places = {n: k for k, n in enumerate(following.tolist())}
            self._waiting = places, _background().submit(self._read, following), os.getpid()


_pool: ThreadPoolExecutor | None = None


def _background() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(1, thread_name_prefix="ondax-reads-ahead")
    return _pool


def _without_threads() -> None:
    """The thread of the parent does not exist in a forked child."""
    global _pool
    _pool = None


_forks.in_child(_without_threads)
