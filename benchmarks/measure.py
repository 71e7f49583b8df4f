"""Measuring contenders in turns, so that a disturbance of the machine hits all of them."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .worker import Worker


@dataclass(frozen=True)
class Contender:
    """An action of a worker, under the name that the table uses."""

    worker: Worker
    action: str


@dataclass(frozen=True)
class Times:
    """Seconds of one contender, round by round."""

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def over(self, other: Times) -> float:
        """The median over rounds of the ratio to another contender, measured moments apart."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def in_turns(contenders: Mapping[str, Contender], rounds: int) -> dict[str, Times]:
    """Run every contender once to warm up, then once a round, in rotating order."""
    for contender in contenders.values():
        contender.worker.run(contender.action)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(contenders[name].worker.run(contenders[name].action)[0])
    return {name: Times(s) for name, s in seconds.items()}


class BusyCore:
    """Another process that keeps one core busy, when asked to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        self._process.send_signal(signal.SIGSTOP)

    @contextmanager
    def busy(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def alone_and_disturbed(contender: Contender, rounds: int) -> tuple[Times, Times]:
    """Seconds on an idle machine, and while another process keeps one core busy, in turns."""
    alone, disturbed = [], []
    neighbour = BusyCore()
    try:
        contender.worker.run(contender.action)
        for _ in range(rounds):
            alone.append(contender.worker.run(contender.action)[0])
            with neighbour.busy():
                disturbed.append(contender.worker.run(contender.action)[0])
    finally:
        neighbour.close()
    return Times(alone), Times(disturbed)
