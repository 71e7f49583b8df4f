"""The machine: cores, and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..backends.settings import Settings, available_cores, cores_of_groups, machine_memory
from .finding import Finding

GIB = 2**30
SMALL = 1 * GIB
"""Memory for histories below which many a 2-D shot has to be computed again for its gradient."""
BINDING = ("OMP_PLACES", "GOMP_CPU_AFFINITY")
"""Variables that fix OpenMP's threads to cores, unless OMP_PROC_BIND=false. libgomp reads them when
it is loaded, and binds the thread that loads it. Threads started after inherit that one core."""


def threads() -> Iterator[Finding]:
    """How many cores this process may use, and what keeps it from using them."""
    cores, machine = available_cores(), os.cpu_count() or 1
    found = f"{cores} of {machine} core{'s' if machine > 1 else ''}"
    quota = cores_of_groups()
    if quota is not None and quota < machine:
        found += f" (the container or batch system grants the time of {quota:g})"
    if cores == 1 < machine:
        yield Finding(
            "threads",
            "warn",
            f"{found}: shots run one after another",
            "ask for more (SLURM: --cpus-per-task; docker: --cpus), or see taskset -cp $$",
        )
    else:
        yield Finding("threads", "ok", f"{found}: {cores} shot{'s' if cores > 1 else ''} at a time")
    binding = _binding()
    if binding and machine > 1:
        yield Finding(
            "threads",
            "warn",
            f"{binding} binds all shots to one core, as soon as a kernel shared by threads is run",
            "unset OMP_PROC_BIND, OMP_PLACES and GOMP_CPU_AFFINITY, or set OMP_PROC_BIND=false",
        )
    limit = os.environ.get("OMP_THREAD_LIMIT", "")
    if limit.isdigit() and int(limit) < cores:
        yield Finding(
            "threads",
            "warn",
            f"OMP_THREAD_LIMIT={limit}: a shot is shared by no more threads than that",
            "unset OMP_THREAD_LIMIT",
        )


def _binding() -> str:
    """The variable that binds threads to cores, with its value; empty if none does."""
    bind = os.environ.get("OMP_PROC_BIND", "").strip()
    if bind:
        return "" if bind.lower() == "false" else f"OMP_PROC_BIND={bind}"
    return next((f"{n}={os.environ[n]}" for n in BINDING if os.environ.get(n)), "")


def memory() -> Iterator[Finding]:
    """How much there is, and what histories may take of it."""
    total, budget = machine_memory(), Settings().memory_budget
    found = f"{total / GIB:.1f} GiB"
    if total < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        found += ", a limit of this process (of its container, batch job or ulimit -v)"
    found += f"; histories may take {budget / GIB:.1f} GiB"
    free = _free()
    if budget < SMALL:
        yield Finding(
            "memory",
            "warn",
            f"{found}: gradients of long records are computed from checkpoints, in more time",
            'raise the limit, or take ox.Settings(history="sampled half"), which needs less',
        )
    elif free is not None and free < budget:
        yield Finding(
            "memory",
            "warn",
            f"{found}, but only {free / GIB:.1f} GiB are free now",
            f"end other programs, or give ox.Settings(memory={_round(0.8 * free):.2g})",
        )
    else:
        yield Finding("memory", "ok", found)


def _free() -> int | None:
    """Memory that programs may have without others' being swapped out; None where Linux does not
    tell."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _round(size: float) -> float:
    """At least a megabyte."""
    return max(size, 1e6)
