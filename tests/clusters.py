"""A small survey for tests on Dask workers, and what these tests share."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
import jax
import jax.numpy as jnp
import numpy as np
from distributed import Client, LocalCluster

import ondax as ox
from ondax.cluster.local import SETTINGS

GRID = ox.Grid((41, 31), 10.0)
# Of no other test: kernels, which a process loads once, are compiled as those of workers are.
BOUNDARY = ox.Sponge(13)
SECONDS = 240.0  # that nothing here takes, on a machine however busy


def survey(shots: int = 8, **options: Any) -> ox.Survey:
    return ox.Survey(
        ox.line((20.0, 30.0), (380.0, 30.0), shots),
        ox.line((0.0, 20.0), (400.0, 20.0), 21),
        ox.ricker(15.0, 150, 0.003),
        0.003,
        **options,
    )


def propagator(shots: int = 8, equation: Any = None, **options: Any) -> ox.Propagator:
    options.setdefault("settings", ox.Settings(threads=2))
    options.setdefault("boundary", BOUNDARY)
    return ox.Propagator(equation or ox.Acoustic(4), GRID, survey(shots), 2600.0, **options)


START = jnp.full(GRID.shape, 2000.0, jnp.float32)
TRUE = START.at[15:25, 12:20].set(2300.0)


def gradient(F: Any, observed: Any) -> Any:
    return jax.jit(jax.value_and_grad(lambda m: 0.5 * jnp.sum((F(m) - observed) ** 2)))


def same_bits(a: Any, b: Any) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in leaves)


@contextmanager
def workers(count: int, threads: int = 1, memory: str | int = "2GB") -> Iterator[Client]:
    """A client of so many workers on this machine, whose kernels are compiled as those of tests
    are."""
    quiet = {"silence_logs": logging.CRITICAL, "dashboard_address": "127.0.0.1:0"}
    compiled = {"ONDAX_CFLAGS": os.environ.get("ONDAX_CFLAGS", "-O1")}
    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            n_workers=count, threads_per_worker=threads, memory_limit=memory, env=compiled, **quiet
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


def within(run: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What a function returns, or raises, in a thread that is given up if it takes too long."""
    found: list[Any] = []

    def attempt() -> None:
        try:
            found.append((run(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, f"it hangs: nothing came in {seconds:g} s"
    result, error = found[0]
    if error is not None:
        raise error
    return result
