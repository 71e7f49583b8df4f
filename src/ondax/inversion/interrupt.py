"""Ctrl-C at a convenient moment."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from ..backends.interrupts import interrupting


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[list[bool]]:
    """Give a list that is empty until Ctrl-C is pressed; a second Ctrl-C interrupts at once.

    So an iteration can be finished before the loop stops; an interrupt in the middle would lose it.
    Ctrl-C keeps its meaning outside the main thread, where Python delivers no signals, and where
    the process was started to ignore it, as with `nohup` or in the background of a script.
    """
    pressed: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before == signal.SIG_IGN:
        yield pressed
        return
    before = before or signal.default_int_handler

    def note(signum, frame):
        pressed.append(True)
        signal.signal(signal.SIGINT, before)
        # Not print: the handler may have interrupted one.
        with contextlib.suppress(OSError):
            os.write(2, b"\nfinishing this iteration; press Ctrl-C again to stop at once\n")

    note.interrupts = interrupting(before)  # the second time
    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
