"""Shots side by side: a pool of threads inside one callback, and sums whose bits do not depend on
it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from .. import _forks
from ..histories.store import Content
from . import interrupts

T = TypeVar("T")


_executors: dict[int, ThreadPoolExecutor] = {}
_forks.in_child(_executors.clear)  # their threads stayed behind


def _executor(threads: int) -> ThreadPoolExecutor:
    if threads not in _executors:
        made = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="ondax")
        return _executors.setdefault(threads, made)
    return _executors[threads]


def each(tasks: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """Run all tasks, at most `threads` at a time; here, one after another, where there are no
    threads any more because the process is ending.

    When one fails, or Ctrl-C is pressed, those that have not begun are given up, and the first
    exception is raised once those that have begun are done: they share buffers.
    """
    if threads == 1 or len(tasks) == 1:
        return [_run(task) for task in tasks]
    once = [_Once(task) for task in tasks]
    futures: list[Future[T]] = []
    # From atexit or a thread that lives on, no more futures are taken. Where the system has no more
    # threads, the one that was to be started for has been queued all the same.
    with suppress(RuntimeError):
        for task in once:
            futures.append(_executor(threads).submit(task))
    try:
        left = [task() for task in once[len(futures) :]]
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        for future in futures:
            future.cancel()
        _finished(futures)
    for future in futures:
        if not future.cancelled() and (error := future.exception()) is not None:
            raise error
    return [future.result() for future in futures] + left


class _Once(Generic[T]):
    """A task that is run by whoever comes first; others wait for it, and get what came of it."""

    def __init__(self, task: Callable[[], T]) -> None:
        self._task = task
        self._lock = threading.Lock()
        self._found: list[T] = []
        self._error: BaseException | None = None

    def __call__(self) -> T:
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._found:
                try:
                    self._found.append(_run(self._task))
                except BaseException as error:
                    self._error = error
                    raise
            return self._found[0]


def _run(task: Callable[[], T]) -> T:
    interrupts.check()
    return task()


def _finished(futures: Sequence[Future[T]]) -> None:
    """Wait for what has begun, whatever keys are pressed meanwhile; the last of them is raised
    afterwards."""
    pressed = None
    while True:
        try:
            wait(futures)
            break
        except KeyboardInterrupt as error:
            pressed = error
    if pressed is not None:
        raise pressed


class Shared:
    """What many shots of a call have in common, such as their medium: where shots are visited by
    other processes, each of these is sent it once, and then finds it by its content."""

    @property
    def content(self) -> Hashable:
        """Equal for what need not be sent again. By default, of the same object only."""
        return self

    def settle(self, threads: int, memory: int) -> None:
        """It has arrived in another process, which lends a shot so many threads, and has so many
        bytes for histories."""

    @property
    def burden(self) -> str:
        """What a visit takes that depends on this, in words, for messages; nothing if unknown."""
        return ""


class Arrays(Shared):
    """Arrays by name, such as the coefficients of a medium, or how they change."""

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self.values = values
        self._content = (tuple(values), Content(list(values.values())))

    def __reduce__(self) -> Any:
        return Arrays, (self.values,)

    @property
    def content(self) -> Hashable:
        """See `Shared`."""
        return self._content


@runtime_checkable
class Shot(Protocol):
    """What is visited. Where it is sent elsewhere, it is pickled when its turn comes; if it is
    `Unread`, what it `arrives` as is."""

    @property
    def index(self) -> tuple[int, ...]:
        """Its place in results, (*batch, shot)."""
        ...

    @property
    def cost(self) -> float:
        """About how much work it is: points times steps."""
        ...

    @property
    def mark(self) -> Hashable:
        """Equal for visits that had better be made in one place, as a history is there; None if
        there is no such place."""
        ...


class Unread(ABC):
    """A `Shot` whose data are read when its turn comes: before it is pickled, so that errors of
    reading are not those of pickling."""

    @abstractmethod
    def arrives(self) -> Any:
        """The `Shot` that is visited elsewhere, with its data."""


@runtime_checkable
class Addend(Protocol):
    """What a tree adds."""

    def plus(self, other: Any) -> Any:
        """The sum, which may be made in the memory of either."""
        ...


@runtime_checkable
class Term(Addend, Protocol):
    """What is summed over shots."""

    def copy(self) -> Any:
        """The same in memory of its own."""
        ...

    def give_back(self) -> None:
        """Hand over what memory it has borrowed: it is not used any more."""
        ...

    @property
    def nbytes(self) -> int:
        """Its size."""
        ...


Visit = Callable[[Any], "tuple[Any, Term | None]"]
"""From a shot to what is kept of it, and to what is summed over shots."""
Totals = dict[tuple[int, ...], Any]
"""What was summed over the shots of each batch element, by its position."""


class AbstractVisits(ABC):
    """Where shots are visited."""

    @abstractmethod
    def each(
        self,
        shots: Sequence[Any],
        visit: Visit,
        take: Callable[[Any, Any], None] | None,
        threads: int,
        sums: int = 0,
    ) -> Totals:
        """Visit all shots; hand over what is kept of each, one at a time and in any order; and sum
        over the shots of each batch element, by the tree of `TreeSum`.

        Args:
            shots: a `Shot` each: of every batch element, all of its shots.
            visit: what to do with one; may run side by side with others.
            take: takes a shot and what is kept of it; None where nothing is.
            threads: of this machine, that may be used.
            sums: bytes of what is summed over the shots of a batch element; 0 for nothing.
        """

    def sends(self, what: Any) -> bool:
        """Can something be sent to where shots are visited, or is it here?"""
        return True


class Threads(AbstractVisits):
    """Shots are visited by threads of this process."""

    def each(
        self,
        shots: Sequence[Any],
        visit: Visit,
        take: Callable[[Any, Any], None] | None,
        threads: int,
        sums: int = 0,
    ) -> Totals:
        """See `AbstractVisits`."""
        lock, trees = threading.Lock(), Trees(shot.index[:-1] for shot in shots)

        def bound(shot: Any) -> Callable[[], None]:
            def run() -> None:
                found, term = visit(shot)
                with lock:
                    trees.put(shot.index, term)
                    if take is not None:
                        take(shot, found)

            return run

        each([bound(shot) for shot in shots], threads)
        return trees.totals


HERE = Threads()
_PLACES: list[AbstractVisits] = [HERE]
"""The last of them is where shots are visited: one for the process, as JAX's threads, in which
callbacks run, know nothing of what holds in the thread that called."""


def visits() -> AbstractVisits:
    """Where shots are visited now."""
    return _PLACES[-1]


@contextmanager
def visiting(elsewhere: AbstractVisits) -> Iterator[None]:
    """Within it, shots are visited elsewhere."""
    _PLACES.append(elsewhere)
    try:
        yield
    finally:
        _PLACES.remove(elsewhere)


_forks.in_child(lambda: _PLACES.__setitem__(slice(None), [HERE]))  # what leads elsewhere stayed


class TreeSum(Generic[T]):
    """A sum over shots by a binary tree over their numbers, whichever comes first, so that its bits
    depend neither on threads nor on how shots are grouped.

        0   1   2   3   4        (0 + 1), (2 + 3), 4
         \\ /     \\ /    |        ((0 + 1) + (2 + 3)), 4
           \\ _ /      |        (((0 + 1) + (2 + 3)) + 4)

    Args:
        count: how many contributions there will be.
        add: the sum of two contributions, which may use their memory.

    Attributes:
        total: the sum, once all have come; None before, or if there are none.
    """

    def __init__(self, count: int, add: Callable[[T, T], T]) -> None:
        self._count, self._add = count, add
        self._waiting: dict[tuple[int, int], T] = {}
        self.total: T | None = None

    def put(self, number: int, contribution: T) -> None:
        """Add a contribution; not from two threads at once."""
        level, left = 0, self._count
        while left > 1:
            sibling = number ^ 1
            if sibling < left:
                other = self._waiting.pop((level, sibling), None)
                if other is None:
                    self._waiting[level, number] = contribution
                    return
                pair = (other, contribution) if sibling < number else (contribution, other)
                contribution = self._add(*pair)
            level, number, left = level + 1, number // 2, (left + 1) // 2
        self.total = contribution


class Trees:
    """Such a sum for each element of a batch.

    Args:
        batch: the position of the element that each contribution is for.

    Attributes:
        totals: the sums, of the elements that had contributions.
    """

    def __init__(self, batch: Iterable[tuple[int, ...]]) -> None:
        counts = Counter(batch)
        self._trees = {p: TreeSum(n, lambda a, b: a.plus(b)) for p, n in counts.items()}

    def put(self, index: tuple[int, ...], term: Addend | None) -> None:
        """Add the contribution of a shot, (*batch, shot), if there is one."""
        if term is not None:
            self._trees[index[:-1]].put(index[-1], term)

    @property
    def totals(self) -> Totals:
        return {p: tree.total for p, tree in self._trees.items() if tree.total is not None}
