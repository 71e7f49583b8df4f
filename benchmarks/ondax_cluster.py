"""Calls on Dask workers of this machine beside the same calls by threads of this process."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import jax
import numpy as np
from dask import config
from distributed import Client, LocalCluster

import ondax as ox
from ondax.cluster.local import SETTINGS

from .cases import CASES
from .ondax_contender import loss_function, propagator
from .worker import Actions, serve

LOOPBACK = "/sys/class/net/lo/statistics/tx_bytes"
# On workers: how often the history of a shot was made.
COUNT = "_ondax_histories"


@contextmanager
def client_of(workers: int) -> Iterator[Client]:
    """A client of so many workers of one thread each."""
    with (
        config.set(SETTINGS),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


def count_histories() -> None:
    """On a worker: count from now on."""
    from ondax.backends.devito.solver import Solver

    record = Solver._record
    setattr(Solver, COUNT, 0)

    def counted(self: Any, *args: Any, **named: Any) -> Any:
        setattr(Solver, COUNT, getattr(Solver, COUNT) + 1)
        return record(self, *args, **named)

    Solver._record = counted  # type: ignore[method-assign]


def histories() -> int:
    """On a worker: how many were made since the last time."""
    from ondax.backends.devito.solver import Solver

    made = getattr(Solver, COUNT)
    setattr(Solver, COUNT, 0)
    return made


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    workers = options["workers"]
    settings = ox.Settings(threads=workers, backend="devito")
    F, velocity = propagator(CASES[options["case"]], settings)
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    np.save(f"{folder}/observed.npy", np.asarray(F(velocity)))
    observed = np.load(f"{folder}/observed.npy", mmap_mode="r")  # read where shots are visited
    objective = ox.Objective(F, observed)
    functions = {
        "forward": jax.jit(F),
        "gradient": jax.jit(jax.value_and_grad(loss_function(F))),
        "objective": jax.jit(jax.value_and_grad(objective)),
    }
    stack = ExitStack()
    atexit.register(stack.close)
    client = stack.enter_context(client_of(workers))
    client.run(count_histories)
    there = ox.cluster(client)
    numbers = count(1)

    def fresh() -> jax.Array:
        """A model that nobody knows yet."""
        return jax.block_until_ready(velocity * (1.0 - 1e-6 * next(numbers)))

    def called(name: str, away: bool) -> Callable[[], None]:
        def call() -> None:
            model = fresh()
            with ExitStack() as within:
                if away:
                    within.enter_context(there)
                jax.block_until_ready(functions[name](model))

        return call

    def traffic() -> float:
        """Bytes on the loopback device in a call of the objective, but for the model's way from the
        scheduler to the worker, over model and gradient."""
        model = fresh()
        with there:
            before = int(open(LOOPBACK).read())  # noqa: SIM115
            jax.block_until_ready(functions["objective"](model))
            after = int(open(LOOPBACK).read())  # noqa: SIM115
        host = F._hosts.of("float32")
        size = len(host.coefficient_names) * int(np.prod(host.shape)) * 4
        return (after - before - size) / (2 * size)

    def made_again() -> float:
        """Histories that were made in gradients beyond one a shot, as a part of the shots."""
        client.run(histories)
        calls = 4
        for _ in range(calls):
            called("gradient", True)()
        shots = calls * F.survey.n_shots
        return sum(client.run(histories).values()) / shots - 1.0

    def one_killed() -> float:
        """Seconds of a gradient in which a worker is killed."""
        client.wait_for_workers(workers, timeout=300)
        pid = next(iter(client.run(os.getpid).values()))
        model = fresh()
        with there:
            threading.Timer(options.get("after", 0.2), os.kill, (pid, signal.SIGKILL)).start()
            began = time.perf_counter()
            jax.block_until_ready(functions["gradient"](model))
            return time.perf_counter() - began

    actions: dict[str, Callable[[], Any]] = {
        f"{name} {'there' if away else 'here'}": called(name, away)
        for name in functions
        for away in (False, True)
    }
    actions |= {"traffic": traffic, "made again": made_again, "one killed": one_killed}
    return {}, actions


if __name__ == "__main__":
    serve(start)
