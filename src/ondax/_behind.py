"""Jobs that run behind the run: one at a time, on a thread of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Behind(Generic[T]):
    """A thread that does one job at a time, while its owner does something else; a context, at
    whose end it has done all."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ondax-behind")

    def start(self, job: Callable[[], T]) -> Future[T]:
        """Begin a job; its result is to be asked of what is returned."""
        try:
            return self._thread.submit(job)
        except RuntimeError:  # the process is ending, or the system has no more threads
            return _done_now(job)

    def __enter__(self) -> Behind[T]:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(wait=True)


def _done_now(job: Callable[[], T]) -> Future[T]:
    done: Future[T] = Future()
    try:
        done.set_result(job())
    except Exception as error:
        done.set_exception(error)
    return done
