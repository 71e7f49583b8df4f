"""Says how far a call on a cluster has come, where somebody is looking."""

from __future__ import annotations

import logging
import sys
import time

from .._waiting import LOG, SECONDS, looked_at, say

EVERY = 10.0  # seconds between two lines


class Progress:
    """Of one call.

    Args:
        shots: how many it has.
    """

    def __init__(self, shots: int) -> None:
        self.shots, self.done = shots, 0
        self._began = time.monotonic()
        self._next = self._began + SECONDS
        self._looked_at = looked_at()

    def show(self, workers: int) -> None:
        """Say shots done, workers and rate, if it is time to."""
        now = time.monotonic()
        if self._looked_at and now >= self._next:
            self._next = now + EVERY
            say(f"ondax: {self._text(workers, now - self._began)} ...", sys.stderr)

    def end(self, workers: int) -> None:
        """All is done, which is logged."""
        if LOG.isEnabledFor(logging.INFO):
            LOG.info("%s", self._text(workers, time.monotonic() - self._began))

    def _text(self, workers: int, seconds: float) -> str:
        rate = self.done / max(seconds, 1e-9)
        return f"{self.done} of {self.shots} shots done on {workers} workers, {rate:.3g} a second"
