"""Aligned arrays, and a pool that hands large ones out again: page-faulting a new history costs as
much as a solve."""

from __future__ import annotations

import errno
import math
import mmap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _forks

ALIGNMENT = 64  # bytes of a cache line, and of the widest vectors
HUGE = 4 << 20  # bytes; larger buffers ask for huge pages


def row_length(points: int, dtype: Any) -> int:
    """The last axis, rounded up so that every row starts aligned."""
    per_line = ALIGNMENT // np.dtype(dtype).itemsize
    return -(-points // per_line) * per_line


_RELEASES: list[Callable[[], None]] = []


class OutOfMemory(MemoryError):
    """The system gives no more memory, though everything that nobody is using was given back."""


def releasing(release: Callable[[], None]) -> None:
    """Call this when memory is short, and when the user asks for it: it drops what nobody is
    using."""
    _RELEASES.append(release)


def release_memory() -> None:
    """Drop all wavefield histories and spare buffers that no run is using. Nothing depends on them:
    they are computed again when needed."""
    for release in _RELEASES:
        release()


def zeros(shape: Sequence[int], dtype: Any, halo: int = 0) -> np.ndarray:
    """A zeroed, C-contiguous array, in which the points that follow `halo` points of a row stand
    aligned. Large ones come from the system page by page, on huge pages if it can.

    Raises:
        OutOfMemory: there is not enough, not even when spare memory is dropped.
    """
    try:
        return _zeros(shape, dtype, halo)
    except (MemoryError, OSError) as error:
        if not _short(error):
            raise
    release_memory()
    try:
        return _zeros(shape, dtype, halo)
    except (MemoryError, OSError) as error:
        if not _short(error):
            raise
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        raise OutOfMemory(
            f"the system has no {nbytes} bytes for an array of shape {tuple(shape)}"
        ) from None


def _short(error: Exception) -> bool:
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


def _zeros(shape: Sequence[int], dtype: Any, halo: int) -> np.ndarray:
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    nbytes = count * dtype.itemsize
    ahead = -halo * dtype.itemsize % ALIGNMENT
    if nbytes >= HUGE:
        memory = mmap.mmap(
            -1, ahead + nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )  # a forked child's is its own
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        return np.frombuffer(memory, dtype, count, offset=ahead).reshape(shape)
    raw = np.zeros(nbytes + 2 * ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT + ahead
    return raw[start : start + nbytes].view(dtype).reshape(shape)


class Stored(NamedTuple):
    """What one array of a history is.

    Attributes:
        name: the kernel argument.
        shape: as allocated, time first, halo included.
        dtype: "float32" or "float64".
        halo: points on each side of every space axis. Runs read zeros there and do not write them,
            so that arrays of one shape whose halos differ must not take each other's place.
        mirrored: the halo above the surface holds images, where others must find zeros.
        place: which of its points runs write. Rows are rounded up, and strips begin where rows are
            aligned, so that arrays of one shape have others in which zeros must stand.
        slot: the number of its first slot, counted as those of the whole run are.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    halo: tuple[int, ...] = ()
    mirrored: bool = False
    place: tuple[Any, ...] = ()
    slot: int = 0

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def row_halo(self) -> int:
        """Points of a row before those that runs write."""
        return self.halo[-1] if self.halo else 0

    @property
    def use(self) -> str:
        """What its memory may be used for again: what it holds beside the points that runs write
        belongs to it."""
        return f"history {self.halo} {self.mirrored} {self.place}"


Layout = tuple[Stored, ...]


def layout_bytes(layout: Layout) -> int:
    """Memory that arrays take."""
    return sum(s.nbytes for s in layout)


class _Spare(NamedTuple):
    """An array that nobody is using, and the number of the call that was the last to use it."""

    array: np.ndarray
    call: int


class Pool:
    """Arrays given back, by shape, type and use; handed out again with whatever they hold."""

    def __init__(self) -> None:
        self._free: dict[tuple, list[_Spare]] = {}
        self._call = 0
        self._lock = _forks.lock()
        releasing(self.clear)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays that nobody is using."""
        with self._lock:
            return sum(s.array.nbytes for free in self._free.values() for s in free)

    def spare(self, layout: Layout) -> int:
        """How much memory of these arrays is here."""
        with self._lock:
            found = 0
            for key, count in Counter(map(_key_of, layout)).items():
                free = self._free.get(key, ())
                found += sum(s.array.nbytes for s in list(free)[:count])
            return found

    def take(self, use: str, shape: Sequence[int], dtype: Any, halo: int = 0) -> np.ndarray:
        """An array last used for the same purpose, or a new one (zeroed); `halo` as for `zeros`."""
        key = _key(use, shape, dtype, -halo * np.dtype(dtype).itemsize)
        with self._lock:
            free = self._free.get(key)
            if free:
                return free.pop().array
        return zeros(shape, dtype, halo)

    def give(self, use: str, array: np.ndarray) -> None:
        """Hand an array over that nobody uses any more."""
        address = array.__array_interface__["data"][0]
        key = _key(use, array.shape, array.dtype, address)
        with self._lock:
            spare = _Spare(array, self._call)
            self._free.setdefault(key, []).append(spare)

    @property
    def call(self) -> int:
        """The number of the call that runs now."""
        return self._call

    def next_call(self) -> None:
        """Another call begins."""
        with self._lock:
            self._call += 1

    def spare_since(self, call: int) -> int:
        """Memory of the arrays that were last used by a call of this number or later."""
        with self._lock:
            spare = (s for free in self._free.values() for s in free)
            return sum(s.array.nbytes for s in spare if s.call >= call)

    def clear_before(self, call: int) -> None:
        """Let all arrays go that no call of this number or later has used."""
        with self._lock:
            for key, free in list(self._free.items()):
                self._free[key] = [s for s in free if s.call >= call]
                if not self._free[key]:
                    del self._free[key]

    def clear(self, but: Layout = ()) -> None:
        """Let all arrays go, but those of some kinds."""
        stay = set(map(_key_of, but))
        with self._lock:
            for key in [k for k in self._free if k not in stay]:
                del self._free[key]


def _key(use: str, shape: Sequence[int], dtype: Any, address: int) -> tuple[Any, ...]:
    return use, tuple(shape), np.dtype(dtype).str, address % ALIGNMENT


def _key_of(stored: Stored) -> tuple[Any, ...]:
    ahead = -stored.row_halo * np.dtype(stored.dtype).itemsize
    return _key(stored.use, stored.shape, stored.dtype, ahead)


POOL = Pool()
"""The process's one pool."""
