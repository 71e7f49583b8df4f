"""What the client knows of its workers: how many shots they run at once, and in how much memory."""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .errors import NoWorkers, UnlikeWorkers
from .worker import Worker, examine

FRESH = 5.0  # seconds for which the list of workers is believed
NOBODY = 10.0  # seconds without any worker, after which it is said
PAUSED = 30.0  # seconds for which all workers may be paused


class Workforce:
    """The workers of a client.

    Args:
        client: of Dask.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._known: dict[str, Worker] = {}
        self._asked: set[str] = set()
        self._status: dict[str, str] = {}
        self._busy = False
        self._looked = -FRESH
        self._warned: set[str] = set()
        self._since: dict[str, float] = {}
        self._burden: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._status)

    @property
    def works(self) -> bool:
        """Does any of them take shots?"""
        return any(status == "running" for status in self._status.values())

    @property
    def at_once(self) -> int:
        """Shots that they run side by side."""
        return sum(w.threads for w in self._here.values())

    @property
    def memory(self) -> int:
        """Bytes for histories that each of them has: as many as the least of them, so that all
        decide alike what to keep. 0 where nobody is there yet."""
        per_host = Counter(w.host for w in self._here.values())
        return min((w.room(per_host[w.host]) for w in self._here.values()), default=0)

    @property
    def limit(self) -> int:
        """The least memory limit of any, bytes; 0 for none."""
        return min((w.limit for w in self._here.values()), default=0)

    def has(self, address: str | None) -> bool:
        """Is there a worker at this address?"""
        return address in self._status

    @property
    def freest(self) -> str | None:
        """The address of the one with the fewest shots to do for its threads; None if nobody takes
        any."""
        taking = [a for a in self._here if self._status[a] == "running"]
        return min(taking, key=lambda a: self._burden[a] / self._known[a].threads, default=None)

    def burden(self, address: str, shots: int) -> None:
        """Count shots that one of them was given, or, if fewer than none, those that it has done or
        that are taken back."""
        with self._lock:
            self._burden[address] += shots

    @property
    def _here(self) -> Mapping[str, Worker]:
        return {a: w for a, w in self._known.items() if a in self._status}

    def look(self, anew: bool = False) -> None:
        """See who is there, and examine who is new: at once where nobody is known, and else beside
        the call, which a newcomer that is still importing does not hold up."""
        if not anew and time.monotonic() - self._looked < FRESH:
            return
        self._looked = time.monotonic()
        found = self._client.scheduler_info()["workers"]
        self._status = {address: w.get("status", "running") for address, w in found.items()}
        counts = [w.get("metrics", {}).get("task_counts", {}) for w in found.values()]
        self._busy = any(c.get("executing") or c.get("long-running") for c in counts)
        new = {a for a in self._status if a not in self._known}
        if new and self._here:
            self._examine_beside(new)
        elif new:  # those who have been asked, too: somebody has to be known
            self._examine(new)
        self._compare()

    def _examine_beside(self, new: set[str]) -> None:
        """Examine in a thread who has not been asked yet. Those who do not answer, because they
        have ended, say, are asked again by a later look."""
        with self._lock:
            new = new - self._asked
            self._asked |= new

        def ask() -> None:
            with suppress(Exception):
                self._examine(new)
            with self._lock:
                self._asked -= new

        if new:
            threading.Thread(target=ask, daemon=True).start()

    def _examine(self, new: set[str]) -> None:
        answers = self._client.run(examine, workers=list(new), on_error="return")
        known = {a: w for a, w in answers.items() if isinstance(w, Worker)}
        with self._lock:
            self._known = self._known | known  # a new one: others may be going through the old one

    def _compare(self) -> None:
        kinds = {w.kind for w in self._here.values()}
        if len(kinds) > 1 and self._first("kinds"):
            warnings.warn(
                f"workers run on {len(kinds)} kinds of machines, for each of which kernels are "
                "compiled on their own: the last digits of results depend on which worker runs "
                "which shot. For the same bits, set ONDAX_CFLAGS='-O3 -march=x86-64-v3 "
                "-ffast-math' for all of them, and for this process",
                UnlikeWorkers,
                stacklevel=2,
            )

    def _first(self, what: str) -> bool:
        first = what not in self._warned
        self._warned.add(what)
        return first

    def watch(self) -> None:
        """While a call waits, and nothing comes: say that nobody is there, or raise if nobody will
        take its shots.

        Raises:
            MemoryError: all workers have been paused, and idle, for long.
        """
        self.look(anew=True)
        if self._lasts("nobody", not self._status) > NOBODY:
            self._since["nobody"] = time.monotonic() + 1e9  # it is said once
            warnings.warn(
                f"no workers for {NOBODY:g} s: this call waits until some come, which may take "
                f"long where jobs are queued (see {self._client.dashboard_link}); Ctrl-C ends it",
                NoWorkers,
                stacklevel=2,
            )
        stuck = bool(self._status) and all(s == "paused" for s in self._status.values())
        if self._lasts("paused", stuck and not self._busy) > PAUSED:
            raise MemoryError(
                f"all {self.count} workers have been paused for {PAUSED:g} s: Dask gives them no "
                "shots while more than 0.8 of memory_limit is in use, and histories cannot be "
                f"spilled. Their memory_limit is {self.limit} bytes, of which {self.memory} were "
                "for histories: give workers a larger memory_limit, or fewer threads each, or set "
                "ox.Settings(memory=...)"
            )

    def _lasts(self, what: str, holds: bool) -> float:
        """For how long something has held, as seen by every watch; seconds."""
        now = time.monotonic()
        if not holds:
            self._since.pop(what, None)
            return 0.0
        return now - self._since.setdefault(what, now)
