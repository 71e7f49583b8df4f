"""Shots on the workers of a Dask cluster. Nothing of Dask is imported before it is asked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .. import _validate

if TYPE_CHECKING:
    from .place import Cluster


def cluster(
    client: Any = None,
    *,
    threads: int | None = None,
    block: int | None = None,
    memory: int | float | None = None,
) -> Cluster:
    """A context in which shots run on the workers of a Dask cluster.

        with ox.cluster(client):
            value, gradient = jax.jit(jax.value_and_grad(objective))(vp)

    Every script runs in it as it stands, jitted or not: C kernels are called by the workers in
    place of this process, in all of its threads, and results have the same bits as here, whatever
    the number of workers and whatever happens to them, provided that they run on the same kind of
    processor and have room for the same histories. A call returns these results or raises; shots
    are never missing from them. `ox.Objective`, and `ox.fwi` with it, sends the model only: traces
    are modelled, compared and migrated in one visit of each shot, on either backend, and observed
    data are read there, if they can be sent (an array of zarr, a catalogue of `ox.io.scan`, a
    memory-mapped file); its gradients have the same bits as here, its values those of
    `ox.Settings(threads=1)`. Where a program calls XLA itself (`backend="xla"`, without an
    objective), it runs here.

    Workers keep the histories of their shots. One that dies costs time: its shots run again
    elsewhere. Workers are to be processes with ondax installed, one for each core, or for each
    machine with several threads. See the page on clusters.

    Args:
        client: a `dask.distributed.Client` that is not asynchronous. Default: workers on this
            machine, one process of one thread for each core, started at the beginning of the
            context and ended with it. A script that starts any needs
            `if __name__ == "__main__":`.
        threads: of a worker's process that a shot may use. Default: 1.
        block: shots in one task, a power of two. Default: as many as run for half a second, but
            few enough that all workers have some.
        memory: bytes that the workers on this machine may take together, where they are started
            here. Histories get 0.6 of it, less what the processes take. Default: the machine's.

    Returns:
        The context, which may be entered again. Its `map(function, items)` applies a function to
        items on the workers.

    Raises:
        ImportError: `distributed` is not installed.
        TypeError: `client` is none.
        ValueError: it is asynchronous; or a number out of its range; or `memory` for workers of a
            client, which have their own limits.
    """
    threads = 1 if threads is None else _validate.whole("threads", threads, 1)
    if block is not None and (block < 1 or block & (block - 1)):
        raise ValueError(f"block={block}: give a power of two, so that sums keep their bits")
    if memory is not None:
        memory = int(_validate.positive("memory", memory, "bytes"))
        if client is not None:
            raise ValueError(
                f"memory={memory!r} with a client: its workers have limits already, by the "
                "memory_limit= that they were started with"
            )
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "ox.cluster needs dask.distributed: pip install 'ondax[cluster]'"
        ) from error
    from .place import Cluster

    return Cluster(client, threads=threads, block=block, memory=memory)


def active() -> Cluster | None:
    """The cluster whose workers visit shots now; None if this process visits them."""
    place = sys.modules.get(f"{__name__}.place")
    return None if place is None else place.active()
