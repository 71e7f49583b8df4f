"""One call's shots on the workers of a Dask client: sent in blocks, fetched as they are done.

The same results as of one machine or an exception, and never a missing shot:

- A worker that dies costs its running blocks, which Dask runs elsewhere.
- What Dask cannot make again (large operands, which lie on one worker) may be lost with it: then
  what is missing of the call is sent once more, up to `TRIES` times in a row.
- While nobody works, Dask sets tasks aside. Those that had better run at a worker which has died
  wait for its address, whoever else comes: they are found, and sent once more, to anybody.
- Blocks that end every worker that runs them are named. Dask suspects all that a worker had been
  given when it died; so each suspect is sent once more, with no other of the call beside it.
- What fails in a shot is raised as it would be here.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
import uuid
import warnings
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from ..backends import interrupts
from ..backends.workers import Totals, Trees, Unread, Visit
from .errors import KilledWorkers
from .parcels import Packer, Parcel, drop_old
from .progress import Progress
from .worker import Done, Ended, Terms, carry, found_of, join, visit
from .workforce import Workforce

TRIES = 4  # of what was lost with a worker
CARRIED = 32 << 20  # bytes of an operand that travels in the graph, which survives workers
INLINE = 64 << 10  # bytes of what goes with every block of a call, rather than once
HERE = 256 << 10  # bytes of sums of blocks that are added on the client, which saves tasks
AHEAD = 2  # blocks that are sent for each shot that runs
POLL = 0.2  # seconds between two looks at the keyboard
LOOK = 1.0  # seconds between two looks at the workers, while nothing comes


class Lost(Exception):
    """Something that Dask cannot make again was lost with a worker, or waits for a dead one."""


class Suspected(Lost):
    """Dask gave up a block that may only have been given to workers that another one ended."""


@dataclass(eq=False)
class Block:
    """Some shots of a batch element: from a multiple of a power of two on, as many as that, or as
    are left; so that they are a branch of the tree by which is summed.

    Attributes:
        batch: position of the element.
        number: of the block, in its element.
        shots: the shots.
    """

    batch: tuple[int, ...]
    number: int
    shots: Sequence[Any]

    @property
    def name(self) -> str:
        """For messages."""
        numbers = [shot.index[-1] for shot in self.shots]
        if len(numbers) == 1:
            return f"shot {numbers[0]} of this call"
        return f"shots {numbers[0]} to {numbers[-1]} of this call"


class Operands:
    """What workers hold for more than one call.

    Args:
        client: of Dask.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._held: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, parcel: Parcel) -> Any:
        """A future of a parcel, of the last ones the same as before."""
        with self._lock:
            _, future = self._held.get(parcel.token, (0, None))
            if future is None or future.status in ("lost", "cancelled", "error"):
                future = self.sent(parcel)
                self._held[parcel.token] = parcel.nbytes, future
            self._held.move_to_end(parcel.token)
            drop_old(self._held, lambda entry: entry[0])
            return future

    def sent(self, parcel: Parcel) -> Any:
        """A new future of it."""
        if parcel.nbytes <= CARRIED:
            return submitted(self._client, "parcel", carry, parcel)
        try:
            (future,) = self._client.scatter([parcel], direct=True, hash=False)
        except OSError as error:  # its worker has just died, or none is there
            raise Lost(str(error)) from None
        return future

    def forget(self) -> None:
        """Send all anew."""
        with self._lock:
            self._held.clear()


def submitted(client: Any, name: str, function: Any, *args: Any, near: str | None = None) -> Any:
    """A future of a function's result; run at a worker, or elsewhere if that is gone or busy."""
    from dask import config

    where = {"workers": [near], "allow_other_workers": True} if near else {}
    key = f"ondax-{name}-{uuid.uuid4().hex}"
    with config.set({"distributed.admin.large-graph-warning-threshold": 2 * CARRIED}):
        return client.submit(function, *args, key=key, pure=False, **where)


def check_open(client: Any) -> None:
    """Raises `ConnectionError` for a client that asks nobody any more."""
    if client.status in ("closing", "closed"):
        raise ConnectionError(
            "the Dask client was closed, or has lost its scheduler: make a client again, and go on "
            "from what save= has kept"
        )


class Call:
    """The visits of one call.

    Args:
        client: of Dask.
        force: its workers.
        operands: what they hold.
        packer: what makes parcels.
        places: addresses where shots with some mark were visited.
        how: to visit a shot.
        terms: what each is given.
    """

    def __init__(
        self,
        client: Any,
        force: Workforce,
        operands: Operands,
        packer: Packer,
        places: OrderedDict[Any, str],
        how: Visit,
        terms: Terms,
    ) -> None:
        self._client, self._force, self._operands = client, force, operands
        self._packer, self._places, self._how, self._terms = packer, places, how, terms
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()
        self._progress = Progress(0)
        self._hints = True
        self._sent_to: dict[Block, str] = {}
        self._aside: set[str] = set()
        self._suspects: set[Block] = set()

    def each(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, Done]]:
        """Visit blocks of shots, and hand over what each has come to, in any order."""
        self._progress = Progress(sum(len(b.shots) for b in blocks))
        left, tries = list(blocks), 0
        while True:
            try:
                for block, done in self._flow(left.copy(), self._visit):
                    tries = 0
                    left.remove(block)
                    self._remember(block, done)
                    yield block, done
                self._progress.end(self._force.count)
                return
            except Lost as error:
                tries = self._again(tries, error)

    def summed(self, blocks: Sequence[Block], take: Callable[[Block, Done], None] | None) -> Totals:
        """Visit blocks of shots, and sum over them where they are.

        Args:
            blocks: of shots.
            take: takes what is kept of the shots of a block; None where nothing is.
        """
        tries = 0
        while True:
            self._progress = Progress(sum(len(b.shots) for b in blocks))
            try:
                return self._summed(blocks, take)
            except Lost as error:
                tries = self._again(tries, error)

    def _summed(
        self, blocks: Sequence[Block], take: Callable[[Block, Done], None] | None
    ) -> Totals:
        trees = Trees(b.batch for b in blocks)

        def send(block: Block) -> Any:
            future = self._visit(block)
            trees.put((*block.batch, block.number), _Branch(self, future))
            return future if take is None else self._submit("found", found_of, future)

        for block, done in self._flow(blocks, send, fetch=take is not None):
            if take is not None:
                take(block, done)
        branches = trees.totals
        roots = {Block(batch, 0, ()): branch.future for batch, branch in branches.items()}
        found = dict(self._flow(list(roots), roots.__getitem__))
        self._progress.end(self._force.count)
        return {block.batch: done.totals[block.batch] for block, done in found.items()}

    def _again(self, tries: int, error: Lost) -> int:
        """Another try is made, once there are workers; or none any more. How many have failed, to
        which one that found a suspect does not count."""
        tries += not isinstance(error, Suspected)
        if tries == TRIES:
            raise RuntimeError(
                f"blocks of a call, or their operands, were lost with workers {TRIES} times in a "
                f"row ({error}): see in their logs why workers end, and call again once they stay"
            ) from None
        self._operands.forget()
        time.sleep(LOOK)  # until Dask has noticed, too
        check_open(self._client)
        self._force.look(anew=True)
        while not self._force.count:
            interrupts.check()
            check_open(self._client)
            time.sleep(LOOK)
            self._force.watch()
        return tries

    # ---------------------------------------------------------------- futures

    def _submit(self, name: str, function: Any, *args: Any, near: str | None = None) -> Any:
        future = submitted(self._client, name, function, *args, near=near)
        self._made.add(future)
        return future

    def _visit(self, block: Block) -> Any:
        """A future of what a block comes to."""
        shots = [shot.arrives() if isinstance(shot, Unread) else shot for shot in block.shots]
        try:
            parcel, needed = self._packer.packed((self._how, shots))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{block.name} cannot be sent to workers: {error}. What an equation, a misfit or "
                "observed= refers to must be what cloudpickle can pickle: no open files, locks or "
                "generators"
            ) from error
        few = self._progress.shots / len(block.shots)
        operands = [p if p.nbytes * few <= INLINE else self._operands.of(p) for p in needed]
        payload = parcel if parcel.nbytes <= CARRIED else self._operands.sent(parcel)
        near = self._near(block)
        return self._submit("visit", visit, payload, self._terms, *operands, near=near)

    def _remember(self, block: Block, done: Done) -> None:
        mark = block.shots[0].mark
        if mark is not None:  # else any place is as good, and all shots would go to the last one
            self._places[mark] = done.address

    def _near(self, block: Block) -> str | None:
        """The address of the worker that may hold the histories of a block, or of one that has
        little to do: left to itself, Dask asks only those that hold operands already."""
        if not self._hints:
            return None
        mark = block.shots[0].mark
        near = self._places.get(mark) if mark is not None else None
        if not self._force.has(near):
            near = self._force.freest
        if near is not None:
            self._force.burden(near, len(block.shots))
            self._sent_to[block] = near
        return near

    def _unburden(self, block: Block) -> None:
        address = self._sent_to.pop(block, None)
        if address is not None:
            self._force.burden(address, -len(block.shots))

    def joined(self, a: Any, b: Any) -> Any:
        """A future of the sum of two."""
        return self._submit("sum", join, a, b)

    # ---------------------------------------------------------------- waiting

    def _flow(
        self, blocks: Sequence[Block], send: Callable[[Block], Any], fetch: bool = True
    ) -> Iterator[tuple[Block, Any]]:
        """Send blocks, as many at a time as keep all workers busy, and hand over those that are
        done, with their results if these are to be fetched; cancel all if anything fails. Suspects
        come last, one at a time."""
        left, sent = deque(sorted(blocks, key=self._suspects.__contains__)), {}
        arrived: SimpleQueue[Any] = SimpleQueue()
        try:
            while left or sent:
                while left and len(sent) < self._beside(left[0]):
                    block = left.popleft()
                    future = send(block)
                    sent[future] = block
                    future.add_done_callback(arrived.put)
                done = [f for f in self._next(arrived) if self._is_done(f, sent[f], arrived)]
                results = self._fetched(done) if fetch else [None] * len(done)
                for future, result in zip(done, results, strict=True):
                    block = sent.pop(future)
                    self._unburden(block)
                    self._progress.done += len(block.shots)
                    yield block, result
                del done, results
                self._progress.show(self._force.count)
        except BaseException as error:
            self._cancel(list(self._made))
            if isinstance(error, Exception) and not isinstance(error, Lost):
                check_open(self._client)  # of which Dask says so in many ways
            raise
        finally:
            for block in list(self._sent_to):
                self._unburden(block)

    def _beside(self, block: Block) -> int:
        """How many may be under way when a block has been sent."""
        return 1 if block in self._suspects else max(4, AHEAD * self._force.at_once)

    def _next(self, arrived: SimpleQueue[Any]) -> list[Any]:
        """Futures that are done; meanwhile, it is seen to that somebody is working on them."""
        looked = time.monotonic()
        while True:
            with suppress(Empty):
                found = [arrived.get(timeout=POLL)]
                while not arrived.empty():
                    found.append(arrived.get())
                return found
            interrupts.check()
            check_open(self._client)
            if time.monotonic() - looked > LOOK:
                self._force.watch()
                self._look_aside()
                self._progress.show(self._force.count)
                looked = time.monotonic()

    def _look_aside(self) -> None:
        """Look at what Dask has set aside.

        Raises:
            Lost: it has left something there from one look to the next, though somebody works.
        """
        before, self._aside = self._aside, set()
        if not self._force.works:
            return
        with suppress(OSError):  # the scheduler is gone, which is seen elsewhere
            keys = [future.key for future in self._made]
            states = self._client.sync(self._client.scheduler.get_task_status, keys=keys)
            self._aside = {key for key, state in states.items() if state == "no-worker"}
        if before & self._aside:
            self._hints = False
            raise Lost("all workers have died")

    def _is_done(self, future: Any, block: Block, arrived: SimpleQueue[Any]) -> bool:
        """Whether a future has a result; raises if it never will."""
        if future.status == "finished":
            return True
        if future.status == "error":
            raise self._explained(future.exception(), block)
        if future.status == "cancelled":
            raise Lost(block.name)
        future.add_done_callback(arrived.put)  # lost meanwhile, and made again
        return False

    def _explained(self, error: BaseException, block: Block) -> BaseException:
        """What is raised for an exception of a block."""
        from distributed.scheduler import KilledWorker

        if isinstance(error, Ended):
            (ended,) = error.args
            said = f"{block.name} raised {ended!r} on a worker, which goes on; it is raised here"
            warnings.warn(said, RuntimeWarning, stacklevel=2)  # notes of SystemExit are not shown
            return ended
        if not isinstance(error, KilledWorker):
            return error
        if block.shots and block not in self._suspects:  # it may only have been given to them
            self._suspects.add(block)
            return Suspected(block.name)
        at_fault = getattr(getattr(self._how, "func", self._how), "__self__", None)
        burden = getattr(at_fault, "burden", "")
        name = block.name if block.shots else "the sum over shots"
        return KilledWorkers(
            f"{name} ended all {error.allowed_failures + 1} workers that ran it, the last one at "
            f"{error.last_worker.address}, most likely for want of memory: "
            + (f"{burden}, and " if burden else "")
            + f"of a worker's memory_limit of {self._force.limit} bytes, {self._terms.memory} are "
            "for histories. Give workers a larger memory_limit or fewer threads, run a smaller "
            "grid or aperture, and see their logs"
        )

    def _fetched(self, futures: list[Any]) -> list[Any]:
        """Results, from the workers that have them."""
        try:
            return self._client.gather(futures, direct=True)
        except (CancelledError, asyncio.CancelledError) as error:
            raise Lost(str(error)) from None

    def _cancel(self, futures: list[Any]) -> None:
        with suppress(Exception):
            self._client.cancel(futures, force=True)


class _Branch:
    """A sum that is made on workers: an `Addend`.

    Args:
        call: that it is of.
        future: of the sum.
    """

    def __init__(self, call: Call, future: Any) -> None:
        self._call, self.future = call, future

    def plus(self, other: _Branch) -> _Branch:
        """See `Addend`."""
        return _Branch(self._call, self._call.joined(self.future, other.future))
