"""Ctrl-C while shots run: seen by all threads that run them, though Python tells the main one only.

Python's own handler waits until the main thread is back in Python. While that is inside XLA, which
has called us from another thread, nobody would hear of a Ctrl-C before all shots are done. So calls
that are made from Python, not from within a program compiled by the user, listen to the pipe into
which Python writes the number of every signal as it comes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .. import _forks

CALLBACK = "called_by_jax"  # name of the function through which all host calls come

_heard = 0  # Ctrl-C's since the outermost `listening` began
_enough = 0  # of them that end the runs; 0 while nobody listens
_pipe = -1  # where the numbers of signals come out


@contextmanager
def listening(enough: int = 1) -> Iterator[None]:
    """Within it, `check` raises once Ctrl-C has been pressed so many times. Only in the main
    thread, where signals arrive; if Ctrl-C is to interrupt, and has no other meaning to the
    program; and if no other part of it, such as asyncio, has Python write signals elsewhere."""
    global _heard, _enough, _pipe
    here = threading.current_thread() is threading.main_thread()
    if _enough or not here or not interrupting(signal.getsignal(signal.SIGINT)):
        yield  # an outer one listens, or it is not for us
        return
    try:
        out, into = os.pipe()
    except OSError:  # no file can be opened any more: the call itself needs none
        yield
        return
    before = -1
    try:
        os.set_blocking(into, False)
        os.set_blocking(out, False)
        before = signal.set_wakeup_fd(into, warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        else:
            _heard, _enough, _pipe = 0, enough, out
        yield
    finally:
        if before == -1:
            _enough, _pipe = 0, -1
            signal.set_wakeup_fd(-1)
        os.close(into)
        os.close(out)


def _deaf() -> None:
    """In a forked child, which shares the pipe: what it hears is not for the parent."""
    global _enough, _pipe
    if _pipe != -1:
        _enough, _pipe = 0, -1
        with suppress(ValueError):
            signal.set_wakeup_fd(-1)


_forks.in_child(_deaf)


def interrupting(handler: Any) -> bool:
    """Does a handler of Ctrl-C end in a KeyboardInterrupt?"""
    return getattr(handler, "interrupts", handler is signal.default_int_handler)


def check() -> None:
    """Raises KeyboardInterrupt if enough of them have come. From any thread, before each shot."""
    global _heard
    pipe = _pipe
    if pipe == -1:
        return
    with suppress(OSError):  # nothing has come; or whoever listened has gone
        _heard += os.read(pipe, 64).count(signal.SIGINT)
    if _enough and _heard >= _enough:
        raise KeyboardInterrupt


def heard_here() -> bool:
    """Does a call of ours listen, which will raise KeyboardInterrupt itself?"""
    return _enough > 0


def again() -> None:
    """Send the main thread the signal once more, when it has left the callback in which the first
    was raised: JAX makes an error from what is raised there, and `except KeyboardInterrupt` would
    miss it."""

    def later() -> None:
        main = threading.main_thread().ident
        for _ in range(1000):  # at most ten seconds
            frame = sys._current_frames().get(main or 0)
            while frame is not None and frame.f_code.co_name != CALLBACK:
                frame = frame.f_back
            if frame is None:
                break
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT) if main is None else signal.pthread_kill(
            main, signal.SIGINT
        )

    threading.Thread(target=later, daemon=True).start()
