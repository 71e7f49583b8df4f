"""Shots side by side: a pool of threads inside one callback, and sums whose bits do not depend on
it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from .. import _forks
from . import interrupts

S = TypeVar("S")
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


class AbstractVisits(ABC):
    """Where shots are visited."""

    @abstractmethod
    def each(
        self,
        shots: Sequence[S],
        visit: Callable[[S], T],
        take: Callable[[S, T], None],
        threads: int,
    ) -> None:
        """Visit all shots, and hand over what each visit finds, one at a time and in any order.

        Args:
            shots: the shots.
            visit: what to do with one; may run side by side with others.
            take: takes what a visit of a shot has found.
            threads: of this machine, that may be used.
        """


class Threads(AbstractVisits):
    """Shots are visited by threads of this process."""

    def each(
        self,
        shots: Sequence[S],
        visit: Callable[[S], T],
        take: Callable[[S, T], None],
        threads: int,
    ) -> None:
        """See `AbstractVisits`."""
        lock = threading.Lock()

        def bound(shot: S) -> Callable[[], None]:
            def run() -> None:
                found = visit(shot)
                with lock:
                    take(shot, found)

            return run

        each([bound(shot) for shot in shots], threads)


_PLACES: list[AbstractVisits] = [Threads()]
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
