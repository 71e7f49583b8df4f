"""Ctrl-C at a convenient moment."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[list[bool]]:
    """Yields a list that is empty until Ctrl-C is pressed; a second Ctrl-C interrupts at once.

    An interrupt in the midst of a compiled step would surface as an error of JAX, and lose the iteration.
    Outside the main thread, where Python delivers no signals, nothing is changed.
    """
    pressed: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    before = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def note(signum, frame):
        pressed.append(True)
        signal.signal(signal.SIGINT, before)
        # Not print: the handler may have interrupted one.
        os.write(2, b"\nfinishing this iteration; press Ctrl-C again to stop at once\n")

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
