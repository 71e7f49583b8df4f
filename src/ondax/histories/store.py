"""The memo of wavefield histories: what a forward run leaves on the host for the runs that
linearise around it.

It is a memo and never state. An entry is found by the content of everything that determines it;
whoever does not find one computes it anew. So callbacks stay pure, and JAX may repeat, drop or
reorder them.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import _forks
from .buffers import POOL, Layout, OutOfMemory, Pool, layout_bytes, releasing

SHARE_OF_OTHERS = (
    0.25  # of the budget: for histories of backgrounds that are not in use now, but may be again
)
MUCH_MORE = 3  # times what a call has needed: former calls' memory beyond that is given back,
LITTLE = 64 << 20  # bytes, unless it is less than this
CALLS = 32  # that only model, after which memory for gradients is given back


class Content:
    """Arrays compared by content: equal when all their bytes are. Cheaper and safer than a
    digest."""

    __slots__ = ("_hash", "arrays")

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = tuple(np.ascontiguousarray(a) for a in arrays)
        sample = (a.reshape(-1)[:: max(1, a.size // 256)] for a in self.arrays)
        self._hash = hash(
            tuple(
                (a.shape, a.dtype.str, zlib.crc32(s.tobytes())) for a, s in zip(self.arrays, sample)
            )
        )

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if (
            not isinstance(other, Content)
            or self._hash != other._hash
            or len(self.arrays) != len(other.arrays)
        ):
            return False
        return all(same_bytes(a, b) for a, b in zip(self.arrays, other.arrays, strict=True))


def same_bytes(a: np.ndarray, b: np.ndarray) -> bool:
    """Are two arrays equal to the bit, so that NaN equals itself and 0 is not -0?"""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    word = np.dtype(f"u{a.dtype.itemsize}")
    return bool((a.view(word) == b.view(word)).all())


@dataclass(eq=False)
class Kept:
    """What was kept of one shot's run; one value, which can be handed on.

    A way to keep histories fills `arrays` and sets `note`; all else is the store's.

    Attributes:
        arrays: by symbol name, as the kernels take them.
        layout: what they are.
        nbytes: their size.
        used: its gradient has been taken, so that it is the first to make room.
        pins: runs that are reading or writing it now.
        loose: it was handed out by `acquire`, and is neither filed nor given back yet.
        note: what else the way to keep it needs to read it.
        on_disk: bytes that the note holds in a file.
        call: number of the last call that has used it.
        recorded: what else is left of that run, by what determines it.
        key: under which it is filed.
        background: what its key has in common with those of other shots over the same model.
    """

    arrays: dict[str, np.ndarray]
    layout: Layout
    nbytes: int
    used: bool = False
    pins: int = 0
    loose: bool = False
    note: Any = field(default=None, repr=False)
    on_disk: int = 0
    call: int = 0
    recorded: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    key: Any = field(default=None, repr=False)
    background: Hashable = field(default=None, repr=False)


class HistoryStore:
    """Histories by content, bounded by a budget given with each request.

    The pool of spare memory counts too: what it holds is given up before any history.

    Args:
        pool: where the memory of histories comes from, and goes back to.
    """

    def __init__(self, pool: Pool | None = None) -> None:
        self._pool = Pool() if pool is None else pool
        self._entries: OrderedDict[Hashable, Kept] = OrderedDict()
        self._changed = threading.Condition(_forks.lock())
        self._loose = 0  # buffers handed out and not yet kept or dropped
        self._loose_bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the histories that are kept, or being written."""
        with self._changed:
            return self._held()

    def __len__(self) -> int:
        with self._changed:
            return len(self._entries)

    def find(self, key: Hashable) -> Kept | None:
        """The entry of this content, pinned; `release` it when done."""
        with self._changed:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                entry.pins += 1
                entry.call = self._pool.call
            return entry

    def acquire(
        self,
        layout: Layout,
        budget: int,
        protected: Callable[[Hashable], bool],
        wait: bool,
        background: Hashable = None,
        company: Collection[Hashable] = (None,),
    ) -> Kept | None:
        """Buffers for a new history, pinned; None where the budget, or the system, has no room.

        Args:
            layout: the arrays needed.
            budget: bytes that all histories may take.
            protected: keys that must not make room.
            wait: wait for runs that hold buffers now, rather than give up.
            background: what the history belongs to.
            company: backgrounds that are in use together with it. Of others, a part of the budget
                is kept at most.
        """
        size = layout_bytes(layout)
        with self._changed:
            while True:
                found = self._make_room(layout, size, budget, protected, company)
                if found is not None:
                    found.background = background
                    return found
                busy = any(e.pins for e in self._entries.values()) or self._loose > 0
                if not (wait and busy and size <= budget):
                    return None
                self._changed.wait()

    def _make_room(
        self,
        layout: Layout,
        size: int,
        budget: int,
        protected: Callable[[Hashable], bool],
        company: Collection[Hashable],
    ) -> Kept | None:
        if size > budget:
            return None
        self._drop_used_up(layout, protected)
        self._drop_others(budget, company)
        needed = size - self._pool.spare(layout)
        if self._total() + needed > budget:
            self._pool.clear(but=layout)
            self._evict(needed, budget, protected)
            if self._total() + needed > budget:
                self._pool.clear()
                if self._held() + size > budget:
                    return None
        arrays: dict[str, np.ndarray] = {}
        try:
            for s in layout:
                arrays[s.name] = self._pool.take(s.use, s.shape, s.dtype, s.row_halo)
        except OutOfMemory:
            self._give_back(layout, arrays)
            return None
        self._loose += 1
        self._loose_bytes += size
        return Kept(arrays, layout, size, pins=1, loose=True, call=self._pool.call)

    def _drop_used_up(self, layout: Layout, protected: Callable[[Hashable], bool]) -> None:
        """Give the memory of a history whose gradient has been taken back to the pool, if that is
        what is needed now: it is cheaper than new memory."""
        if self._pool.spare(layout) == layout_bytes(layout):
            return
        for key, entry in self._entries.items():
            if entry.used and not entry.pins and entry.layout == layout and not protected(key):
                self._drop(key)
                return

    def _drop_others(self, budget: int, company: Collection[Hashable]) -> None:
        """Drop histories of backgrounds that are not in use, the oldest first, beyond their share
        of the budget."""
        others = [(k, e) for k, e in self._entries.items() if e.background not in company]
        for key, entry in others:
            if entry.on_disk and not entry.pins:  # the budget says nothing of the disk
                self._drop(key)
        others = [(k, e) for k, e in others if k in self._entries]
        held = sum(e.nbytes for _, e in others)
        for key, entry in others:
            if held <= SHARE_OF_OTHERS * budget:
                return
            if not entry.pins:
                self._drop(key)
                held -= entry.nbytes

    def _evict(self, size: int, budget: int, protected: Callable[[Hashable], bool]) -> None:
        """Drop used entries, then the least recently used, until the request fits."""
        for key in sorted(self._entries, key=lambda k: not self._entries[k].used):
            if self._total() + size <= budget:
                return
            if not self._entries[key].pins and not protected(key):
                del self._entries[key]

    def let_go_of_files(self, unused: bool) -> None:
        """Drop histories on disks that no run is using.

        Args:
            unused: also those whose gradients have not been taken yet.
        """
        with self._changed:
            for key, entry in list(self._entries.items()):
                if entry.on_disk and not entry.pins and (entry.used or unused):
                    self._drop(key)

    def trim(self, budget: int, of_histories: bool = False) -> None:
        """At the end of a call, let spare memory go: what does not fit into a budget together with
        the histories, and what was needed by former calls only, if that is much more than what
        this one has needed.

        Args:
            budget: bytes.
            of_histories: the call has kept or read histories. Calls that only model, between those
                that take gradients, say little of what these will need.
        """
        with self._changed:
            if self._total() > budget:
                self._pool.clear()
            call = self._pool.call
            since = call if of_histories else call - CALLS
            needed = self._pool.spare_since(call)
            needed += sum(e.nbytes for e in self._entries.values() if e.call >= call)
            used_up = {
                k: e.nbytes
                for k, e in self._entries.items()
                if e.used and not e.pins and e.call < since
            }
            idle = self._pool.nbytes - self._pool.spare_since(since) + sum(used_up.values())
            if idle > MUCH_MORE * needed + LITTLE:
                for key in used_up:
                    del self._entries[key]
                self._pool.clear_before(since)
            self._pool.next_call()

    def keep(self, key: Hashable, history: Kept) -> None:
        """File a history under its content. It stays pinned until released."""
        with self._changed:
            # Else another run was faster, and this one's memory is given back when released.
            if key not in self._entries:
                self._forget_loose(history)
                history.key = key
                self._entries[key] = history
            self._changed.notify_all()

    def release(self, history: Kept, used: bool = False) -> None:
        """Unpin a history; the memory of one that was never filed is given back."""
        with self._changed:
            history.pins = max(0, history.pins - 1)
            history.used |= used
            if history.loose and history.pins == 0:
                self._forget_loose(history)
                self._give_back(history.layout, history.arrays)
                history.arrays = {}
            self._changed.notify_all()

    def _forget_loose(self, history: Kept) -> None:
        history.loose = False
        self._loose -= 1
        self._loose_bytes -= history.nbytes

    def unread(self, key: Hashable) -> bool:
        """Is there an entry of this content whose gradient has not been taken?"""
        with self._changed:
            entry = self._entries.get(key)
            return entry is not None and not entry.used

    def drop(self, key: Hashable) -> None:
        """Forget an entry, unless a run is using it."""
        with self._changed:
            entry = self._entries.get(key)
            if entry is not None and not entry.pins:
                self._drop(key)

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key)
        self._give_back(entry.layout, entry.arrays)

    def _give_back(self, layout: Layout, arrays: Mapping[str, np.ndarray]) -> None:
        for s in layout:
            if s.name in arrays:
                self._pool.give(s.use, arrays[s.name])

    def clear(self) -> None:
        """Drop everything that no run is using."""
        with self._changed:
            for key in [k for k, e in self._entries.items() if not e.pins]:
                del self._entries[key]
            self._pool.clear()
            self._changed.notify_all()

    def forget(self) -> None:
        """All of it, whoever held it: in a forked child, where the runs that did do not exist."""
        self.__init__(self._pool)

    def _held(self) -> int:
        return sum(e.nbytes for e in self._entries.values()) + self._loose_bytes

    def _total(self) -> int:
        return self._held() + self._pool.nbytes


STORE = HistoryStore(POOL)
"""The process's one memo."""
_forks.in_child(STORE.forget)
releasing(STORE.clear)
