"""Ctrl-C, forks, processes that end, exceptions inside callbacks: the user's own exception, at
once, and nothing left running."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from slow import slow_but

import ondax as ox
from ondax.backends import workers
from ondax.backends.devito.kernel import Kernel

GRID = ox.Grid((31, 26), 10.0)
VP = jnp.full(GRID.shape, 2000.0)


def propagator(shots: int = 2, threads: int = 2) -> ox.Propagator:
    survey = ox.Survey(
        ox.line((50.0, 40.0), (250.0, 40.0), shots),
        [[100.0, 60.0]],
        ox.ricker(12.0, 150, 0.002),
        0.002,
    )
    settings = ox.Settings(threads=threads)
    return ox.Propagator(
        ox.Acoustic(4), GRID, survey, 2600.0, boundary=ox.Sponge(8), settings=settings
    )


SETUP = """
import os, signal, sys, threading, time
import jax, jax.numpy as jnp, numpy as np, optax, ondax as ox
from ondax.backends.devito.kernel import Kernel

ran, run = [], Kernel.__call__
def slow(self, *args):  # every shot takes a while
    ran.append(1)
    run(self, *args)
    time.sleep(float(os.environ.get("SHOT_SECONDS", "0")))
Kernel.__call__ = slow
sources = ox.line((50.0, 40.0), (250.0, 40.0), 40)
survey = ox.Survey(sources, [[100.0, 60.0]], ox.ricker(12.0, 150, 0.002), 0.002)
F = ox.Propagator(
    ox.Acoustic(4), ox.Grid((31, 26), 10.0), survey, 2600.0,
    boundary=ox.Sponge(8), settings=ox.Settings(threads=2),
)
VP = jnp.full((31, 26), 2000.0)
d = F(VP + 50.0, shots=np.arange(2))
os.environ["SHOT_SECONDS"] = "0.4"  # 8 s for all of them
"""


def script(body: str, **environment: str) -> subprocess.Popen[str]:
    code = textwrap.dedent(SETUP) + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=-1,
        stderr=-1,
        text=True,
        env={**os.environ, **environment},
    )


CALLS = {
    "eager": "F(VP)",
    "eager, one thread": "F.replace(settings=ox.Settings(threads=1))(VP)",
    "gradient": "jax.grad(lambda v: jnp.sum(F(v) ** 2))(VP)",
    "Jacobian": "F.jacobian(VP).mv(VP)",
    "lsrtm": "ox.lsrtm(F, jnp.ones((40, 1, 150)), VP, iterations=1, progress=False)",
}


@pytest.mark.parametrize("call", slow_but(CALLS, "eager"))
def test_ctrl_c_is_a_keyboard_interrupt_at_the_next_shot(call: str):
    """Of forty shots of 0.4 s, a few have run; the process is free to end. Twice in `lsrtm`, which
    finishes its iteration."""
    process = script(
        f"""
        print("go", flush=True)
        ran.clear()
        try:
            {CALLS[call]}
        except BaseException as error:
            print(type(error).__name__, len(ran), flush=True)
        """
    )
    assert process.stdout.readline() == "go\n"
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    if call == "lsrtm":
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    said, errors = process.communicate(timeout=60)
    name, ran = said.split()
    assert name == "KeyboardInterrupt", errors
    assert int(ran) < 30
    assert time.monotonic() - begin < 5.0


def test_under_a_jit_of_the_users_the_signal_comes_again():
    process = script(
        """
        f = jax.jit(F)
        f(VP, shots=jnp.arange(2))
        print("go", flush=True)
        try:
            try:
                f(VP, shots=jnp.arange(40))
            except Exception as error:
                time.sleep(5)
                print("missed")
        except KeyboardInterrupt:
            print("KeyboardInterrupt", len(ran), flush=True)
        """
    )
    assert process.stdout.readline() == "go\n"
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert said.startswith("KeyboardInterrupt"), said + errors


@pytest.mark.slow
def test_the_first_ctrl_c_in_fwi_finishes_the_iteration():
    process = script(
        """
        os.environ["SHOT_SECONDS"] = "0.05"
        print("go", flush=True)
        try:
            observed = jnp.zeros((40, 1, 150))
            ox.fwi(F, observed, VP, optimizer=optax.adam(1.0), iterations=50, progress=False)
        except ox.Interrupted as stopped:
            print(len(stopped.result.history), flush=True)
        """
    )
    assert process.stdout.readline() == "go\n"
    time.sleep(6.0)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert 0 < int(said) < 50, errors
    assert "press Ctrl-C again to stop at once" in errors


def test_sigint_ignored_by_the_parent_stays_ignored():
    """As in `nohup`, and for `&` in a script."""
    process = script(
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ["SHOT_SECONDS"] = "0"
        def press(*_):
            os.kill(os.getpid(), signal.SIGINT)
        observed = jnp.ones((40, 1, 150))
        quiet = {"progress": False, "callback": press}
        ox.fwi(F, observed, VP, optimizer=optax.adam(1.0), iterations=3, **quiet)
        F(VP)
        print("done", signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
        """
    )
    said, errors = process.communicate(timeout=120)
    assert said == "done True\n", errors


@pytest.mark.slow
def test_a_handler_of_the_users_keeps_its_meaning():
    """One that notes the signal, and ends nothing."""
    process = script(
        """
        os.environ["SHOT_SECONDS"] = "0.05"
        noted = []
        signal.signal(signal.SIGINT, lambda *_: noted.append(1))
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        print(F(VP).shape, len(noted))
        """
    )
    said, errors = process.communicate(timeout=120)
    assert said == "(40, 1, 150) 1\n", errors


# ---------------------------------------------------------------- forks, exits, transforms

FORKS = {
    "os.fork": """
        pid = os.fork()
        if pid == 0:
            os._exit(0 if np.array_equal(F(VP), right) else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
    "fork while shots run": """
        os.environ["SHOT_SECONDS"] = "0.1"
        busy = threading.Thread(target=lambda: F(VP + 1.0))
        busy.start()
        time.sleep(0.5)
        pid = os.fork()
        if pid == 0:
            os.environ["SHOT_SECONDS"] = "0"
            os._exit(0 if np.array_equal(F(VP), right) else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        busy.join()
        """,
    "fork while a kernel is compiled": """
        from ondax._devito_settings import DEVITO_LOCK
        def build():
            with DEVITO_LOCK:
                time.sleep(3)
        busy = threading.Thread(target=build)
        busy.start()
        time.sleep(0.5)
        pid = os.fork()
        if pid == 0:
            got = DEVITO_LOCK.acquire(timeout=1)
            os._exit(0 if got and np.array_equal(F(VP), right) else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        busy.join()
        """,
    "multiprocessing": """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            alike = [np.array_equal(found, right) for found in pool.map(lambda_of_main, range(4))]
        print(int(not all(alike)))
        """,
    "a gradient in the child leaves the parent's history": """
        slope = jax.grad(lambda v: jnp.sum(F(v) ** 2))
        g = np.asarray(slope(VP))
        J = F.jacobian(VP)
        before = np.asarray(J.mv(VP))
        pid = os.fork()
        if pid == 0:
            slope(VP + 100.0)
            os._exit(0 if np.array_equal(slope(VP), g) else 3)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(code if np.array_equal(J.mv(VP), before) else 4)
        """,
}


@pytest.mark.parametrize("way", slow_but(FORKS, "os.fork"))
def test_forked_children_run(way: str):
    head = """
        def lambda_of_main(_):
            return np.asarray(F(VP))
        os.environ["SHOT_SECONDS"] = "0"
        right = np.asarray(F(VP))
        """
    process = script(textwrap.dedent(head) + textwrap.dedent(FORKS[way]))
    said, errors = process.communicate(timeout=120)
    assert said == "0\n", errors


ENDS = {
    "atexit": "import atexit; atexit.register(lambda: print(np.array_equal(F(VP), right)))",
    "a thread that outlives the main one": """
        def later():
            threading.main_thread().join()
            print(np.array_equal(F(VP), right))
        threading.Thread(target=later).start()
        """,
}


@pytest.mark.parametrize("way", slow_but(ENDS, "atexit"))
def test_calls_while_the_process_ends(way: str):
    head = """
        os.environ["SHOT_SECONDS"] = "0"
        right = np.asarray(F(VP))
        """
    said, errors = script(textwrap.dedent(head) + textwrap.dedent(ENDS[way])).communicate(
        timeout=120
    )
    assert said == "True\n", errors


WITHOUT_JIT = {
    "traces": lambda F: F(VP),
    "gradient": lambda F: jax.grad(lambda v: jnp.sum(F(v) ** 2))(VP),
    "Born": lambda F: F.jacobian(VP).mv(VP),
    "image": lambda F: F.jacobian(VP).T.mv(jnp.ones((2, 1, 150))),
    "adjoint": lambda F: F.adjoint(VP, jnp.ones((2, 1, 150))),
    "vmap": lambda F: jax.vmap(F)(jnp.stack([VP, VP + 10.0])),
    "scan": lambda F: jax.lax.scan(lambda c, m: (c, F(m)), 0, jnp.stack([VP, VP + 10.0]))[1],
    "fwi": lambda F: (
        ox.fwi(
            F, jnp.ones((2, 1, 150)), VP, optimizer=optax.sgd(1.0), iterations=1, progress=False
        ).model
    ),
}


@pytest.mark.parametrize("what", slow_but(WITHOUT_JIT, "traces", "gradient"))
def test_disable_jit(what: str):
    """The same, but for the rounding of what XLA fuses: of the wavelets' maps and the sums of
    losses, 1e-5 of the whole."""
    right = WITHOUT_JIT[what](propagator())
    with jax.disable_jit():
        found = WITHOUT_JIT[what](propagator())
    assert np.max(np.abs(found - right)) <= 1e-5 * np.max(np.abs(right))


# ---------------------------------------------------------------- exceptions


class OddError(Exception):
    """Of nobody else's."""


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kernels fail, and count their calls."""
    calls: list[int] = []

    def fail(self, *args):
        calls.append(1)
        time.sleep(0.02)
        raise OddError("the shot was odd")

    monkeypatch.setattr(Kernel, "__call__", fail)
    return calls


RAISING = {
    "traces": lambda F: F(VP),
    "gradient": lambda F: jax.grad(lambda v: jnp.sum(F(v) ** 2))(VP),
    "Born": lambda F: F.jacobian(VP).mv(VP),
    "vmap": lambda F: jax.vmap(F)(jnp.stack([VP, VP])),
    "hvp": lambda F: ox.hvp(lambda d: jnp.sum(d**2), F, VP, VP),
    "fwi": lambda F: ox.fwi(
        F, jnp.ones((20, 1, 150)), VP, optimizer=optax.sgd(1.0), iterations=1, progress=False
    ),
    "lsrtm": lambda F: ox.lsrtm(F, jnp.ones((20, 1, 150)), VP, iterations=1, progress=False),
}


@pytest.mark.parametrize("what", RAISING)
def test_exceptions_keep_their_type(what: str, failing: list[int]):
    with pytest.raises(OddError) as caught:
        RAISING[what](propagator(20))
    assert str(caught.value) == "the shot was odd"
    notes = getattr(caught.value, "__notes__", [])
    if what not in ("gradient", "vmap"):  # JAX has the last word there
        assert all("of ox." in note for note in notes), (
            "nothing but the iteration comes behind our line"
        )
    assert len(failing) <= 4  # the shots that had not begun are given up


def test_an_error_of_the_users_stays_theirs(failing: list[int], monkeypatch: pytest.MonkeyPatch):
    """Though it quotes one of ours, that came of another call."""
    F = propagator()
    with pytest.raises(Exception, match="the shot was odd") as first:
        jax.jit(F)(VP).block_until_ready()
    monkeypatch.undo()

    def misfit(traces):
        raise ZeroDivisionError(f"trial failed: {first.value}")

    with pytest.raises(ZeroDivisionError, match="trial failed"):
        ox.hvp(misfit, F, VP, VP)


def test_a_thread_that_cannot_start_runs_nothing_twice(monkeypatch: pytest.MonkeyPatch):
    """Its shot was queued all the same: whoever comes first runs it."""
    started, start = [], threading.Thread.start

    def refuse(self):
        if self.name.startswith("ondax"):
            started.append(self)
            if len(started) > 1:
                raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(workers, "_executors", {})
    monkeypatch.setattr(threading.Thread, "start", refuse)
    ran: list[int] = []

    def task(n: int) -> int:
        time.sleep(0.02)
        ran.append(n)
        return n

    assert workers.each([lambda n=n: task(n) for n in range(8)], 4) == [*range(8)]
    assert sorted(ran) == [*range(8)]


def test_under_a_jit_of_the_users_our_line_is_there(failing: list[int]):
    with pytest.raises(Exception, match="OddError: the shot was odd") as caught:
        jax.jit(propagator())(VP).block_until_ready()
    assert str(caught.value).rstrip().endswith("OddError: the shot was odd")


def test_the_first_failure_is_raised_when_all_that_began_have_ended():
    ended = []

    def task(n: int):
        time.sleep(0.05 * n)
        ended.append(n)
        if n in (1, 2):
            raise OddError(str(n))
        return n

    with pytest.raises(OddError, match="1"):
        workers.each([lambda n=n: task(n) for n in range(12)], 3)
    assert sorted(ended) == [*range(len(ended))]
    assert len(ended) < 8
    assert workers.each([lambda n=n: n for n in range(12)], 3) == [*range(12)]
