"""What runs on workers."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ..backends.devito.compiler import CompilerError, processor, toolchain
from ..backends.settings import machine_memory
from ..backends.workers import Totals, Trees
from .parcels import Opener, Parcel

MEMORY_SHARE = 0.6  # of a worker's limit, for its process with all histories: Dask pauses it at 0.8
LEAST = 1 << 20  # bytes for histories
_OPENER = Opener()


@dataclass(frozen=True)
class Terms:
    """What each shot of a block is given.

    Attributes:
        threads: that a shot may use.
        memory: bytes that all histories of a worker may take; 0 for what it finds itself.
    """

    threads: int
    memory: int


@dataclass
class Done:
    """What a block of shots has come to.

    Attributes:
        address: of the worker.
        found: what is kept of each shot.
        totals: what was summed over them, of each batch element.
    """

    address: str
    found: list[Any] = field(default_factory=list)
    totals: Totals = field(default_factory=dict)

    def __sizeof__(self) -> int:
        return 1000 + sum(getattr(t, "nbytes", 0) for t in self.totals.values())


class Ended(Exception):
    """Something by which Python ends a process, such as `SystemExit`, was raised in a shot: on a
    worker it would end that. Its argument is what was raised."""


def carry(parcel: Parcel) -> Parcel:
    """A parcel, as a task of the graph: it is sent again where its worker is lost."""
    return parcel


def visit(block: Parcel, terms: Terms, *needed: Parcel) -> Done:
    """Visit some shots, one after another.

    Args:
        block: how to visit a shot, and the shots, numbered from a multiple of a power of two on.
        terms: see there.
        needed: what the block cannot be opened without.

    Raises:
        Ended: a shot has raised something that is no `Exception`.
    """
    try:
        return _visited(block, terms, needed)
    except Exception:
        raise
    except BaseException as error:
        raise Ended(error) from None


def _visited(block: Parcel, terms: Terms, needed: Sequence[Parcel]) -> Done:
    from distributed import get_worker

    worker = get_worker()
    (how, shots), shared = _OPENER.opened(block, needed)
    memory = terms.memory or _room(worker)
    for thing in shared:
        thing.settle(terms.threads, memory)
    done = Done(worker.address)
    trees = Trees(shot.index[:-1] for shot in shots)
    first = {shot.index[:-1]: shot.index[-1] for shot in reversed(shots)}
    for shot in shots:
        found, term = how(shot)
        *batch, number = shot.index
        trees.put((*batch, number - first[tuple(batch)]), term)
        done.found.append(found)
    done.totals = {p: total.copy() for p, total in trees.totals.items()}
    for total in trees.totals.values():
        total.give_back()
    return done


def join(a: Done, b: Done) -> Done:
    """The sums of two blocks. Not in their memory: either may be needed again, if a worker is
    lost."""
    ((position, total),), (other,) = a.totals.items(), b.totals.values()
    return Done(a.address, totals={position: total.copy().plus(other)})


def found_of(done: Done) -> Done:
    """What is kept of each shot, without the sums."""
    return Done(done.address, done.found)


@dataclass(frozen=True)
class Worker:
    """What is to be known of a worker.

    Attributes:
        host: its machine.
        pid: its process.
        threads: shots that it runs side by side.
        limit: bytes at which Dask would end it; 0 for none.
        machine: bytes of memory that its machine lends to processes.
        used: bytes that its process takes without any shot.
        kind: of machine that kernels are compiled for; nothing without a compiler.
    """

    host: str
    pid: int
    threads: int
    limit: int
    machine: int
    used: int
    kind: str

    def room(self, workers: int) -> int:
        """Bytes for histories.

        Args:
            workers: on its machine, which share that where they have no limits.
        """
        return max(LEAST, int(MEMORY_SHARE * (self.limit or self.machine // workers)) - self.used)


@cache
def _room(worker: Any) -> int:
    """Bytes for histories of a worker of which the client does not know yet, as it was when it was
    first asked for."""
    return examine(worker).room(1)


def examine(dask_worker: Any) -> Worker:
    """This worker; `Client.run` knows the argument by its name."""
    import psutil

    try:
        flags = toolchain().flags
        kind = processor() if any("native" in flag for flag in flags) else " ".join(flags)
    except CompilerError:
        kind = ""
    return Worker(
        host=socket.gethostname(),
        pid=os.getpid(),
        threads=dask_worker.state.nthreads,
        limit=dask_worker.memory_manager.memory_limit or 0,
        machine=machine_memory(),
        used=psutil.Process().memory_info().rss,
        kind=kind,
    )
