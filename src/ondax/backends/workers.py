"""Shots side by side: a pool of threads inside one callback, and sums whose bits do not depend on
it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Generic, TypeVar

from .. import _forks
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


class OrderedSum(Generic[T]):
    """Adds contributions in the order of their numbers, whichever comes first, so that every run
    gives the same bits.

    Args:
        add: adds one contribution to the sum.
    """

    def __init__(self, add: Callable[[T], None]) -> None:
        self._add = add
        self._waiting: dict[int, T] = {}
        self._next = 0
        self._lock = threading.Lock()

    def put(self, number: int, contribution: T) -> None:
        with self._lock:
            self._waiting[number] = contribution
            while self._next in self._waiting:
                self._add(self._waiting.pop(self._next))
                self._next += 1
