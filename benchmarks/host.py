"""What the machine is, and what else it was doing while we measured. Linux only, as are the
benchmarks."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path


def processor() -> str:
    """Its name, family and model, where the system tells them."""
    facts = dict(
        [part.strip() for part in line.split(":", 1)]
        for line in reversed(_lines("/proc/cpuinfo"))
        if ":" in line
    )
    if "model name" not in facts:
        return platform.machine()
    numbers = f"family {facts.get('cpu family', '?')}, model {facts.get('model', '?')}"
    return f"{facts['model name']} ({numbers})"


def description() -> str:
    """Processor, cores, memory, load before anything was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    load = ", ".join(f"{x:.2f}" for x in os.getloadavg())
    return f"{processor()}, {cores} cores, {memory:.0f} GiB; load average before: {load}"


class OtherWork:
    """Cores kept busy by processes that are not ours, on average, between its making and
    `cores`."""

    def __init__(self) -> None:
        self._tick = os.sysconf("SC_CLK_TCK")
        self._begin, self._busy, self._ours = time.monotonic(), _busy_ticks(), _own_ticks(())

    def cores(self, pids: Sequence[int]) -> float:
        """Args: pids: processes started since, and still running."""
        busy, ours = _busy_ticks() - self._busy, _own_ticks(pids) - self._ours
        return max(0.0, (busy - ours) / self._tick / (time.monotonic() - self._begin))


def _busy_ticks() -> int:
    user, nice, system, _, _, irq, softirq, steal = map(int, _lines("/proc/stat")[0].split()[1:9])
    return user + nice + system + irq + softirq + steal


def _own_ticks(pids: Sequence[int]) -> int:
    """Of this process, its ended children, and the processes given."""
    total = 0
    for pid in (os.getpid(), *pids):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
