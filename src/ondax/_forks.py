"""What a forked child must not take over as it is: locks that threads hold, and threads, which do
not exist there.

`multiprocessing` forks by default on Linux up to Python 3.13.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

_LOCKS: WeakSet[Any] = WeakSet()
_RENEWALS: list[Callable[[], None]] = []


def lock() -> Any:
    """A reentrant lock that is free in a forked child, whoever held it."""
    made = threading.RLock()
    _LOCKS.add(made)
    return made


def in_child(renew: Callable[[], None]) -> None:
    """Call this in every forked child, before anything else of ondax runs there."""
    _RENEWALS.append(renew)


def _renew() -> None:
    for held in _LOCKS:
        held._at_fork_reinit()
    for renew in _RENEWALS:
        renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
