"""Workers on this machine, with settings under which long shots in large memory go well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .._waiting import waiting
from ..backends.settings import available_cores, machine_memory

SETTINGS = {
    # A worker that was killed is started again, which takes longer on a busy machine than the 15 s
    # after which Dask would close it for good.
    "distributed.deploy.lost-worker-timeout": "300s",
    # Whoever asks a dead worker for something gives up after this time, not 30 s.
    "distributed.comm.timeouts.connect": "5s",
    # Adjoints stay where the histories of their shots are.
    "distributed.scheduler.work-stealing": False,
}


@contextmanager
def local_client(memory: int | None = None) -> Iterator[Any]:
    """A client of as many workers as this process may use cores, of one thread each.

    Args:
        memory: bytes that all of them may take together; default: the machine's.
    """
    from dask import config
    from distributed import Client, LocalCluster

    cores = available_cores()
    # Rooms of workers are for kernels; arrays of JAX stay on the processor, too.
    environment = {"JAX_PLATFORMS": "cpu"} if "JAX_PLATFORMS" not in os.environ else {}
    options: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "env": environment}
    with config.set(SETTINGS):
        with waiting(f"starting {cores} workers"):
            workers = LocalCluster(
                n_workers=cores,
                threads_per_worker=1,
                processes=True,
                memory_limit=(memory or machine_memory()) // cores,
                host="127.0.0.1",
                **options,
            )
        with workers, Client(workers, set_as_default=False) as client:
            yield client
