"""How the engine runs: threads, memory, sampling of the history."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import equinox as eqx

MEMORY_SHARE = 0.5  # of the machine's memory, unless a budget is given


class Settings(eqx.Module):
    """How wave equations are run. None of it changes what is calculated, but `store_every` gradients by 1e-6 of their size.

    Attributes:
        threads: worker threads; default: the cores this process may use. Shots run side by side, one thread each;
            several threads share a shot only when there are fewer shots than threads.
        memory: bytes that wavefield histories may take; default: half of the machine's memory (or of the container's
            limit). What does not fit is recomputed, and a history that does not fit alone is checkpointed, with the
            same gradient to rounding.
        store_every: keep every k-th step of the history, for gradients from a k-th of the memory. They are the same to
            1e-6 of their size, everywhere and whatever the traces' cotangents are, because wavefields are band-limited in
            time: what wavelets are too high in frequency for is refused, with the largest k that they allow. Of a
            Ricker wavelet, k internal steps may be a tenth of the period of its peak frequency; the wavelets must begin
            and end smoothly. Runs go on for 14 k internal steps beyond the record. Sampled are the gradients of `F` and
            `F.jvp`, and so `ox.hvp`, in the model; those in wavelets, positions and weights, Born modelling and
            migration (`F.jacobian`), and the gradients of `F.adjoint`, are from every step.

    Raises:
        ValueError: a value out of its range.
    """

    threads: int | None = eqx.field(static=True, default=None)
    memory: int | None = eqx.field(static=True, default=None)
    store_every: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        for name in ("threads", "memory", "store_every"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}={value!r}: give a whole number of at least 1")

    @property
    def worker_threads(self) -> int:
        return self.threads or available_cores()

    @property
    def memory_budget(self) -> int:
        return self.memory or int(MEMORY_SHARE * machine_memory())


def available_cores() -> int:
    """Cores this process may run on (its affinity, not the machine's count)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def machine_memory() -> int:
    """Physical memory in bytes, or the container's limit where that is lower."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return physical
    return min(physical, limit)
