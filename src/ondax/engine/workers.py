"""Shots side by side: a pool of threads inside one callback, and sums whose bits do not depend on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Generic, TypeVar

T = TypeVar("T")


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="ondax")


def each(tasks: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """Run all tasks, at most `threads` at a time; the first exception is raised once all have ended."""
    if threads == 1 or len(tasks) == 1:
        return [task() for task in tasks]
    futures = [_executor(threads).submit(task) for task in tasks]
    for future in futures:
        future.exception()  # wait for all of them: they share buffers
    return [future.result() for future in futures]


class OrderedSum(Generic[T]):
    """Adds contributions in the order of their numbers, whichever comes first, so that every run gives the same bits.

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
