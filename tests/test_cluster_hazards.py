"""What happens on clusters: every feature, workers that die, and shots that kill them. The same
bits as here, or an exception."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clusters import (
    GRID,
    START,
    TRUE,
    gradient,
    propagator,
    same_bits,
    within,
    workers,
)
from distributed import Client, WorkerPlugin

import ondax as ox
from ondax.cluster import calls, place, workforce

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[1] / "examples" / "jax_distributed.py"


@pytest.fixture(scope="module")
def two() -> Iterator[Client]:
    with workers(2) as client:
        yield client


# ---------------------------------------------------------------- bits


@pytest.mark.parametrize("count", [1, 2, 3])
def test_bits_do_not_depend_on_workers_and_blocks(count: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calls, "HERE", 0)  # sums are made on workers
    monkeypatch.setattr(place, "HERE", 0)
    with workers(count) as client:
        for shots in (1, 5, 8):
            F = propagator(shots)
            observed = np.asarray(F(TRUE))
            function = gradient(F, observed)
            objective = ox.Objective(F.replace(settings=ox.Settings(threads=1)), observed)
            both = jax.value_and_grad(objective)
            expected, of_visits = function(START), both(START)
            for block in (1, 2, 8):
                with ox.cluster(client, block=block):
                    where = f"{count} workers, blocks of {block}, {shots} shots"
                    assert same_bits(within(partial(F, TRUE)), observed), where
                    assert same_bits(within(partial(function, START)), expected), where
                    assert same_bits(within(partial(both, START)), of_visits), where


class Lossy(ox.AbstractWaveEquation):
    """A user's equation."""

    parameter_names = ("vp", "loss")
    space_order: int = 4

    def system(self, symbols: Any, boundary: Any) -> ox.System:
        u = symbols.field("u")
        m, s = symbols.coefficient("m"), symbols.coefficient("s")
        update = ox.Update.of(m * u.dt2 + s * u.dt - u.laplace, u)
        ports = (ox.Port("source", ((u, 1.0),)),), (ox.Port("receiver", ((u, 1.0),)),)
        return ox.System(symbols, (m, s), (update,), *ports)

    def coefficients(self, parameters: Any) -> Any:
        return {"m": 1.0 / parameters["vp"] ** 2, "s": parameters["loss"]}


@cache
def features() -> dict[str, Callable[[], Any]]:
    """Everything that shots are run for."""
    F = propagator(6)
    observed = F(TRUE)

    def loss(model: Any, **given: Any) -> Any:
        return 0.5 * jnp.sum((F(model, **given) - observed) ** 2)

    wavelet = jnp.asarray(F.survey.wavelet, jnp.float32) * 1.1
    receivers = jnp.asarray(F.survey.receivers, jnp.float32) * 0.97 + 3.3
    sources = jnp.asarray(F.survey.sources, jnp.float32) + 3.2
    change, some = TRUE - START, jnp.array([5, 1, 2], jnp.int32)
    own = propagator(6, Lossy(), boundary=ox.Sponge(10))
    lossy = {"vp": START, "loss": jnp.full(GRID.shape, 1e-7)}
    free = ox.Faces(ox.CPML(10), top=ox.FreeSurface())
    dense = propagator(6, ox.AcousticDensity(4), boundary=free)
    density = {"vp": START, "rho": jnp.full(GRID.shape, 1500.0)}
    parts = propagator(6, aperture=60.0)
    spread = F.with_survey(
        ox.Survey(ox.Extended(shots=3), F.survey.receivers[0], ox.ricker(15.0, 150, 0.003), 0.003)
    )
    weights = jax.random.normal(jax.random.key(0), (3, *GRID.shape))
    ragged = F.with_survey(
        ox.Survey(
            F.survey.sources,
            [F.survey.receivers[n][: 5 + 2 * n] for n in range(6)],
            ox.ricker(15.0, 150, 0.003),
            0.003,
        )
    )
    models = jnp.stack([START, START * 1.001, START * 0.999])

    def of_batch(model: Any, shots: Any) -> Any:
        return jnp.sum((F(model, shots=shots) - observed[shots]) ** 2)

    def descended() -> Any:
        def step(model: Any, _: Any) -> Any:
            return model - 1e5 * jax.grad(loss)(model), None

        return jax.lax.scan(step, START, None, length=2)[0]

    return {
        "traces": lambda: F(TRUE),
        "gradient": lambda: jax.jit(jax.value_and_grad(loss))(START),
        "traced shots": lambda: jax.jit(jax.value_and_grad(of_batch))(START, some),
        "in the wavelet": lambda: jax.grad(lambda w: loss(START, wavelet=w))(wavelet),
        "in model and wavelet": lambda: jax.grad(lambda m, w: loss(m, wavelet=w), (0, 1))(
            START, wavelet
        ),
        "in positions": lambda: jax.grad(lambda r, s: loss(START, receivers=r, sources=s), (0, 1))(
            receivers, sources
        ),
        "vmap": lambda: jax.vmap(jax.grad(loss))(models),
        "Jacobian": lambda: (
            F.jacobian(START).mv(change),
            F.jacobian(START).T.mv(observed),
        ),
        "adjoint": lambda: F.adjoint(START, observed),
        "hvp": lambda: ox.hvp(lambda t: 0.5 * jnp.sum((t - observed) ** 2), F, START, change),
        "jvp": lambda: F.jvp(START, change),
        "scan": descended,
        "own equation": lambda: jax.grad(lambda m: jnp.sum((own(m) - observed) ** 2))(lossy),
        "density and free surface": lambda: jax.grad(lambda m: jnp.sum(dense(m) ** 2))(density),
        "aperture": lambda: jax.grad(lambda m: jnp.sum((parts(m) - observed) ** 2))(START),
        "extended": lambda: jax.grad(lambda m, w: jnp.sum(spread(m, weights=w) ** 2), (0, 1))(
            START, weights
        ),
        "ragged": lambda: jax.grad(lambda m: jnp.sum(ragged(m) ** 2))(START),
        "lsrtm": lambda: (
            ox.lsrtm(F, F.jacobian(START).mv(change), START, iterations=2, progress=False).image
        ),
        "fwi": lambda: (
            ox.fwi(
                F.replace(settings=ox.Settings(threads=1)),
                observed,
                START,
                optimizer=optax.adam(5.0),
                iterations=2,
                batch_size=4,
                progress=False,
            ).model
        ),
    }


NAMES = (
    "traces",
    "gradient",
    "traced shots",
    "in the wavelet",
    "in model and wavelet",
    "in positions",
    "vmap",
    "Jacobian",
    "adjoint",
    "hvp",
    "jvp",
    "scan",
    "own equation",
    "density and free surface",
    "aperture",
    "extended",
    "ragged",
    "lsrtm",
    "fwi",
)


def test_all_features_are_listed():
    assert tuple(features()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_feature_has_the_same_bits(name: str, two: Client):
    way = features()[name]
    expected = jax.block_until_ready(way())
    for block in (1, 2):
        with ox.cluster(two, block=block):
            assert same_bits(within(way), expected), f"blocks of {block}"


def test_models_of_an_objective_are_visited_one_after_another(two: Client):
    F = propagator(settings=ox.Settings(threads=1))
    slope = jax.grad(ox.Objective(F, np.asarray(F(TRUE))))
    models = jnp.stack([START, START * 1.001, START * 0.999])
    expected = jnp.stack([slope(m) for m in models])
    with ox.cluster(two):
        assert same_bits(within(lambda: jax.vmap(slope)(models)), expected)


# ---------------------------------------------------------------- deaths


def _pids(client: Client) -> list[int]:
    client.wait_for_workers(2, timeout=200)
    return list(client.run(os.getpid).values())


def _kill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


WHEN = {
    "in the forward runs": ("_visit_forward", 1, False),
    "in the adjoint runs": ("_visit_back", 1, False),
    "both": ("_visit_back", 2, False),
    "the holder of a scattered model": ("_visit_back", 1, True),
}


@pytest.mark.parametrize("when", WHEN)
def test_killed_workers_change_nothing(when: str, two: Client, monkeypatch: pytest.MonkeyPatch):
    """Ten times, of all ways together: at a moment of its own in the call each."""
    method, count, scattered = WHEN[when]
    if scattered:
        monkeypatch.setattr(calls, "CARRIED", 0)
        monkeypatch.setattr(calls, "INLINE", 0)
    F = propagator(12)
    observed = np.asarray(F(TRUE))
    function = gradient(F, observed)
    submitted = calls.submitted
    armed: list[float] = []
    pids: list[int] = []

    def armed_submit(client: Any, name: str, task: Any, *args: Any, **given: Any) -> Any:
        if name == "visit" and armed and call._how.func.__name__ == method:
            threading.Timer(armed.pop(), _kill, (pids[:count],)).start()
        return submitted(client, name, task, *args, **given)

    made = calls.Call.__init__

    def noted(self: Any, *args: Any) -> None:
        nonlocal call
        call = self
        made(self, *args)

    call: Any = None
    monkeypatch.setattr(calls, "submitted", armed_submit)
    monkeypatch.setattr(calls.Call, "__init__", noted)
    for k in range(3):
        model = START * (1.0 + 1e-4 * (k + 1))
        expected = function(model)
        with ox.cluster(two, block=1):
            pids[:] = _pids(two)
            armed[:] = [0.02 * k]
            assert same_bits(within(lambda m=model: function(m)), expected), f"{when}, {k}"
            assert not armed


def test_killed_between_forward_and_adjoint_runs(two: Client):
    F = propagator(12)
    observed = np.asarray(F(TRUE))
    for k in range(3):
        model = START * (1.0 + 1e-4 * (k + 1))
        _, pull = jax.vjp(F, model)
        expected = pull(jnp.asarray(observed))
        with ox.cluster(two, block=1):
            pids = _pids(two)
            _, pull = within(lambda m=model: jax.vjp(F, m))
            _kill(pids[:1])
            assert same_bits(within(lambda p=pull: p(jnp.asarray(observed))), expected)


@pytest.mark.parametrize("here", [True, False])
def test_all_die_at_once_and_others_come(here: bool, two: Client, monkeypatch: pytest.MonkeyPatch):
    """Dask does not give to others what had better run at a worker that died: sums are made here,
    or on workers."""
    for room in (calls, place):
        monkeypatch.setattr(room, "HERE", 1e9 if here else 0)
    monkeypatch.setattr(calls, "INLINE", 1 << 30)  # shots wait for nothing but a worker
    F = propagator()
    observed = F(TRUE)
    (expected,) = jax.vjp(F, START)[1](observed)
    submitted = calls.submitted
    pids: list[int] = []

    def after_their_death(client: Any, name: str, *args: Any, **given: Any) -> Any:
        """Before the first shot is sent, all workers end; the client does not know."""
        if name == "visit" and pids:
            assert given["near"]
            _kill(pids)
            pids.clear()
            while client.scheduler_info()["workers"]:
                time.sleep(0.01)
        return submitted(client, name, *args, **given)

    with ox.cluster(two, block=1):
        pids = _pids(two)
        _, pull = within(lambda: jax.vjp(F, START))
        monkeypatch.setattr(calls, "submitted", after_their_death)
        assert same_bits(within(lambda: pull(observed), 90.0)[0], expected)
        assert not pids


def test_killed_in_an_objective(two: Client):
    F = propagator(12, settings=ox.Settings(threads=1))
    function = jax.jit(jax.value_and_grad(ox.Objective(F, np.asarray(F(TRUE)))))
    for k in range(3):
        model = START * (1.0 + 1e-4 * (k + 1))
        expected = function(model)
        with ox.cluster(two, block=1):
            within(lambda: function(START))
            threading.Timer(0.05 * k, _kill, (_pids(two)[:1],)).start()
            assert same_bits(within(lambda m=model: function(m)), expected)


class Poison(WorkerPlugin):
    """On workers: a shot whose source is at x ends the process, as one that runs out of memory."""

    name = "poison"

    def __init__(self, x: float) -> None:
        self.x = x

    def setup(self, worker: Any) -> None:
        from ondax.backends.devito.solver import Solver

        x = self.x

        def poisoned(run: Any) -> Any:
            def ended(solver: Any, task: Any, *asked: Any, **named: Any) -> Any:
                if abs(task.setup.sources[0, 0] - x) < 1e-3:
                    os.kill(os.getpid(), signal.SIGKILL)
                return run(solver, task, *asked, **named)

            return ended

        for name in ("_run_forward", "_record"):  # of traces, and of gradients
            setattr(Solver, name, poisoned(getattr(Solver, name)))


@pytest.mark.parametrize("summed", [False, True])
def test_a_shot_that_kills_its_workers_is_named(two: Client, summed: bool):
    """And none that was only given to the same workers."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    F = propagator()
    observed = 0.9 * np.asarray(F(TRUE))
    call: Any = jax.value_and_grad(ox.Objective(F, observed)) if summed else F
    _pids(two)
    two.register_plugin(Poison(float(F.survey.sources[2, 0, 0])))
    try:
        with ox.cluster(two, block=1):
            # What a shot needs, an objective does not say.
            needed = "" if summed else "bytes for its wavefields.*"
            said = f"shot 2 of this call ended all 4 workers.*{needed}memory_limit"
            with pytest.raises(ox.KilledWorkers, match=said):
                within(lambda: call(TRUE), 600.0)
    finally:
        two.unregister_worker_plugin("poison")
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        two.restart(timeout=200)
    expected = F(TRUE)
    with ox.cluster(two):
        assert same_bits(within(lambda: F(TRUE)), expected)


def test_no_workers_are_waited_for():
    F = propagator()
    expected = F(TRUE)
    with workers(0) as client, ox.cluster(client):
        found: list[Any] = []
        waits = threading.Thread(target=lambda: found.append(F(TRUE)), daemon=True)
        waits.start()
        with pytest.warns(ox.NoWorkers, match="until some come"):
            waits.join(20.0)
        assert waits.is_alive()
        client.cluster.scale(1)
        waits.join(200.0)
        assert same_bits(found[0], expected)


def _status(client: Client) -> str:
    (worker,) = client.scheduler_info()["workers"].values()
    return worker["status"]


def test_paused_workers_are_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workforce, "PAUSED", 3.0)
    F = propagator()

    def fill() -> None:
        """Takes memory that Dask does not know of: more than it pauses a worker at, and less than
        it ends one at."""
        import psutil

        taken = psutil.Process().memory_info().rss
        sys.held = np.ones(int(0.87e9 - taken) // 8)  # type: ignore[attr-defined]

    with workers(1, memory="1GB") as client, ox.cluster(client):
        within(lambda: F(TRUE))
        client.run(fill)
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline and _status(client) != "paused":
            time.sleep(0.2)
        with pytest.raises(MemoryError, match="memory_limit is 1000000000 bytes"):
            within(lambda: F(START))


def test_threads_call_at_once(two: Client):
    F = propagator()
    function = gradient(F, np.asarray(F(TRUE)))
    models = [START * (1.0 + 1e-4 * k) for k in range(4)]
    expected = [function(m) for m in models]
    found: dict[int, Any] = {}
    _pids(two)
    with ox.cluster(two):
        threads = [
            threading.Thread(target=lambda k=k: found.update({k: function(models[k])}))
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(200.0)
    assert all(same_bits(found[k], expected[k]) for k in range(4))


# ---------------------------------------------------------------- by processes of their own

INTERRUPTED = """
import os, signal, sys, threading, time
sys.path.insert(0, {tests!r})
from clusters import *

if __name__ == "__main__":
    F = propagator(64)
    with workers(2) as client, ox.cluster(client, block=1):
        f = jax.jit(F.__call__) if {jitted} else F
        expected = np.asarray(f(START))
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        try:
            jax.block_until_ready(f(TRUE))
            sys.exit("it was not interrupted")
        except BaseException as error:
            assert "KeyboardInterrupt" in repr(error) + str(error), repr(error)
        took = time.monotonic() - began
        try:
            time.sleep(1.0)
        except KeyboardInterrupt:
            pass
        left = [k for k in client.cluster.scheduler.tasks if "visit" in str(k)]
        assert len(left) <= 2, left
        assert same_bits(f(START), expected)
        print("ended after", took)
"""


@pytest.mark.parametrize("jitted", [False, True])
def test_ctrl_c_ends_a_call(jitted: bool, tmp_path: Path):
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED.format(tests=str(Path(__file__).parent), jitted=jitted))
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    assert "ended after" in run.stdout


COLD = """
import sys
sys.path.insert(0, {tests!r})
from clusters import *

if __name__ == "__main__":
    with workers(2) as client, ox.cluster(client, block=1):
        propagator(6)(TRUE)
"""


def test_kernels_are_compiled_once_for_all_workers(tmp_path: Path):
    """A compiler that writes down each of its runs."""
    log, compiler = tmp_path / "runs", tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec gcc "$@"\n')
    compiler.chmod(0o755)
    script = tmp_path / "cold.py"
    script.write_text(COLD.format(tests=str(Path(__file__).parent)))
    run = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "ONDAX_CACHE_DIR": str(tmp_path / "cache"), "CC": str(compiler)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    compiled = [line for line in log.read_text().splitlines() if " -c kernel.c" in line]
    kernels = [p for p in (tmp_path / "cache").iterdir() if (p / "kernel.so").exists()]
    assert len(compiled) == len(kernels)


def test_jax_distributed_over_two_processes(tmp_path: Path):
    """The example: both processes get the gradient of one process, to rounding."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = [
        [sys.executable, str(EXAMPLE), str(rank), "2", f"--port={port}"]
        + [f"--save={tmp_path / f'{rank}.npz'}"]
        for rank in range(2)
    ]
    running = [
        subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for c in commands
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [p.returncode for p in running] == [0, 0], said
    alone = subprocess.run(
        [sys.executable, str(EXAMPLE), "0", "1", f"--port={port}", f"--save={tmp_path}/one.npz"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert alone.returncode == 0, alone.stderr
    expected = np.load(tmp_path / "one.npz")
    for rank in range(2):
        found = np.load(tmp_path / f"{rank}.npz")
        np.testing.assert_allclose(found["value"], expected["value"], rtol=1e-5)
        error = np.linalg.norm(found["gradient"] - expected["gradient"])
        assert error < 1e-5 * np.linalg.norm(expected["gradient"])
