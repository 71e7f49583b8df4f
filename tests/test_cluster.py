"""Shots on Dask workers: the same bits as here, whatever runs them."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clusters import GRID, START, TRUE, gradient, propagator, same_bits, within, workers
from distributed import Client
from problems import difference

import ondax as ox
from ondax.backends.workers import Shared
from ondax.cluster import active, calls
from ondax.cluster.calls import Call
from ondax.cluster.parcels import Opener, Packer
from ondax.cluster.worker import Worker
from ondax.cluster.workforce import Workforce
from ondax.streaming.rtm import correlation
from ondax.streaming.tasks import Caller, Imaged, Modelled


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with workers(2) as client:
        yield client


@pytest.fixture
def observed() -> np.ndarray:
    return np.asarray(propagator()(TRUE))


class Stored:
    """Traces that a worker can read, or not."""

    def __init__(self, traces: np.ndarray, travels: bool = True) -> None:
        self.traces = traces
        self.lock = None if travels else threading.Lock()

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return self.traces[numbers]


class InParts(Stored):
    """Traces of which those of some shots can be sent, but not all."""

    def of_shots(self, shots: list[int]) -> Stored:
        return Stored(self.traces[shots])


def test_a_function_compiled_before_gives_the_same_bits_there(client: Client, observed: Any):
    F = propagator()
    function = gradient(F, observed)
    expected, traces = function(START), F(TRUE)
    with ox.cluster(client):
        assert active() is not None
        assert same_bits(within(lambda: function(START)), expected)
        assert same_bits(within(lambda: F(TRUE)), traces)
    assert active() is None
    assert same_bits(function(START), expected)


KINDS = {
    "array": lambda traces: traces,
    "read there": Stored,
    "read here": partial(Stored, travels=False),
    "sent in parts": partial(InParts, travels=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_objective_visits_shots_there(client: Client, observed: Any, kind: str):
    """Traces are modelled a shot at a time, as one thread here does."""
    F = propagator(settings=ox.Settings(threads=1))
    objective = ox.Objective(F, KINDS[kind](observed))
    function = jax.jit(jax.value_and_grad(objective))
    shots = jnp.array([5, 1, 2])
    expected, of_some = function(START), objective(START, shots=shots)
    with ox.cluster(client):
        assert same_bits(within(lambda: function(START)), expected)
        assert same_bits(within(lambda: objective(START, shots=shots)), of_some)


@pytest.mark.slow
def test_an_objective_of_xla(client: Client, observed: Any):
    F = propagator(settings=ox.Settings(threads=1, backend="xla"))
    function = jax.value_and_grad(ox.Objective(F, observed))
    value, expected = function(START)
    with ox.cluster(client):
        found, there = within(lambda: function(START))
    np.testing.assert_allclose(found, value, rtol=1e-5)
    assert jnp.linalg.norm(there - expected) < 1e-5 * jnp.linalg.norm(expected)


def test_a_function_of_items(client: Client):
    with ox.cluster(client) as cluster:
        found = dict(within(lambda: list(cluster.map(lambda x: x * x, range(7)))))
        assert found == {n: n * n for n in range(7)}
        with pytest.raises(ZeroDivisionError):
            within(lambda: list(cluster.map(lambda x: 1 / x, range(3))))


@pytest.mark.slow
def test_a_mapped_file_that_was_changed_in_memory(client: Client, observed: Any, tmp_path: Path):
    F = propagator(settings=ox.Settings(threads=1))
    np.save(tmp_path / "traces.npy", observed)
    mapped = np.load(tmp_path / "traces.npy", mmap_mode="c")
    mapped *= 2.0
    objective = ox.Objective(F, mapped)
    expected = objective(START)
    with ox.cluster(client) as cluster:
        assert same_bits(within(lambda: objective(START)), expected)
        sums = dict(within(lambda: list(cluster.map(np.sum, list(mapped)))))
    assert sums == {n: np.sum(traces) for n, traces in enumerate(mapped)}


@pytest.mark.parametrize("wrong", [TypeError, AttributeError])
def test_what_fails_where_traces_are_read_here(client: Client, observed: Any, wrong: Any):
    class Failing(Stored):
        def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
            if 3 in numbers and reads:
                raise wrong("of my own")
            return super().__getitem__(numbers)

    reads: list[int] = []
    F = propagator()
    failing = Failing(observed, travels=False)
    objective = ox.Objective(F, failing)
    reads.append(1)
    with ox.cluster(client) as cluster:
        with pytest.raises(wrong, match="of my own"):
            within(lambda: objective(START))
        with pytest.raises(wrong, match="of my own"):
            within(lambda: ox.rtm(F, failing, START, progress=False))
        with pytest.raises(wrong):
            within(lambda: list(cluster.map(len, _Items(wrong))))


class _Items(Sequence[str]):
    """Two items, of which one cannot be read."""

    def __init__(self, wrong: Any) -> None:
        self.wrong = wrong

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: Any) -> Any:
        if number:
            raise self.wrong("of my own")
        return "item"


@pytest.mark.parametrize("ends", [SystemExit, KeyboardInterrupt])
def test_what_would_end_a_worker_is_raised_here(client: Client, ends: Any):
    def ending(item: int) -> int:
        if item == 1:
            raise ends(3)
        return os.getpid()

    before = set(client.run(os.getpid).values())
    with ox.cluster(client) as cluster:
        said = pytest.warns(RuntimeWarning, match=rf"shot 1 of this call raised {ends.__name__}")
        with said, pytest.raises(ends) as raised:
            within(lambda: list(cluster.map(ending, range(3))))
        assert raised.value.args == (3,)
    assert set(client.run(os.getpid).values()) == before


def test_a_closed_client(client: Client):
    said = "client was closed.*make a client again"
    F = propagator()
    other = Client(client.scheduler.address, set_as_default=False)
    with ox.cluster(other) as cluster:
        begun = cluster.map(abs, range(100))
        next(begun)
        other.close()
        for call in (lambda: F(TRUE), lambda: list(begun), lambda: list(cluster.map(abs, [1]))):
            with pytest.raises(ConnectionError, match=said):
                within(call)
    with pytest.raises(ConnectionError, match=said), ox.cluster(other):
        pass


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Addresses of the workers from which something has come."""
    busy: set[str] = set()
    fetched = Call._fetched

    def noted(call: Call, futures: Any) -> Any:
        found = fetched(call, futures)
        busy.update(done.address for done in found)
        return found

    monkeypatch.setattr(Call, "_fetched", noted)
    return busy


def test_later_maps_are_spread_over_workers_too(client: Client, busy: set[str]):
    """It does not matter where the last call ended."""
    with ox.cluster(client) as cluster:
        for _ in range(2):
            busy.clear()
            within(lambda: list(cluster.map(lambda _: time.sleep(0.05), range(8))))
            assert len(busy) == 2


@pytest.mark.slow
@pytest.mark.parametrize("inline", [calls.INLINE, 0])
def test_later_objectives_are_spread_over_workers_too(
    inline: int, client: Client, observed: Any, busy: set[str], monkeypatch: pytest.MonkeyPatch
):
    """Also where survey and model are sent apart from shots, and one worker happens to get both:
    Dask would then give all shots to that."""
    first, submitted = min(client.scheduler_info()["workers"]), calls.submitted

    def sent(client: Client, name: str, *args: Any, near: str | None = None) -> Any:
        return submitted(client, name, *args, near=first if name == "parcel" else near)

    monkeypatch.setattr(calls, "submitted", sent)
    monkeypatch.setattr(calls, "INLINE", inline)
    objective = ox.Objective(propagator(), observed)
    with ox.cluster(client, block=1):
        for k in range(6):  # with few operands to choose from, it would not
            within(lambda k=k: objective(START * (1.0 + 1e-4 * k), shots=[0]))
        for _ in range(2):
            busy.clear()
            within(lambda: objective(TRUE))
            assert len(busy) == 2


def test_whole_surveys_are_streamed_there(client: Client, observed: Any, tmp_path: Path):
    """Traces to a file, and an image of traces that are read there, or here."""
    F = propagator()
    expected = ox.rtm(F, observed, START, progress=False)
    sources = observed, Stored(observed), Stored(observed, travels=False)
    with ox.cluster(client):
        written = within(lambda: ox.model(F, TRUE, tmp_path / "shots.segy", progress=False))
        images = [within(lambda o=o: ox.rtm(F, o, START, progress=False)) for o in sources]
    # XLA takes time dispersion out of one shot and of several by sums in another order.
    assert difference(np.stack(list(ox.io.scan(written))), observed) < 1e-6
    assert all(same_bits(image, expected) for image in images)


@pytest.mark.slow
def test_whole_surveys_of_64_bits_are_streamed_there(client: Client, tmp_path: Path):
    """Workers begin with JAX's numbers of 32 bits; random signs are those made here, too."""
    F = propagator(settings=ox.Settings(threads=1))

    def found() -> tuple[np.ndarray, np.ndarray]:
        with jax.enable_x64(True):  # of this thread only
            start, true = jnp.asarray(START, jnp.float64), jnp.asarray(TRUE, jnp.float64)
            path = tmp_path / f"{active() is None}.zarr"
            ox.model(F, true, path, progress=False)
            image = ox.rtm(F, path, start, imaging="illumination", progress=False)
            return np.stack(ox.io.open_shots(path)[:]), np.asarray(image)

    expected = found()
    with ox.cluster(client):
        there = within(found)
    assert all(a.dtype == b.dtype == np.float64 for a, b in zip(there, expected, strict=True))
    assert same_bits(there, expected)


def test_a_relative_path_is_that_of_the_client(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    F = propagator(settings=ox.Settings(threads=1))
    monkeypatch.chdir(tmp_path)
    ox.model(F, TRUE, "shots.zarr", progress=False)
    expected = ox.rtm(F, "shots.zarr", START, progress=False)
    with ox.cluster(client):
        assert same_bits(within(lambda: ox.rtm(F, "shots.zarr", START, progress=False)), expected)


def test_tasks_of_streaming_keep_to_what_a_worker_lends():
    F = propagator(settings=ox.Settings(threads=2, memory=1 << 20))
    for platform, backend in (("cpu", "devito"), ("gpu", "xla")):  # as on the client
        asked = {"caller": Caller(platform=platform)}
        for task in (Modelled(F, START, **asked), Imaged(F, START, None, correlation, **asked)):
            settings = task.settled(threads=1, memory=1 << 30).F.settings
            assert (settings.threads, settings.memory) == (1, 1 << 20)
            assert settings.backend == backend


def test_what_fails_there_is_raised_here(client: Client, observed: Any):
    F = propagator()
    J = F.jacobian(START)
    with ox.cluster(client):
        with pytest.raises(FloatingPointError, match="grew beyond all bounds"):
            within(lambda: J.mv(jnp.full(GRID.shape, jnp.inf)))
        with pytest.raises(ValueError, match="NaN|finite"):
            within(lambda: ox.Objective(F, observed)(START.at[3, 3].set(jnp.nan)))
        assert same_bits(within(lambda: F(TRUE)), observed)


def test_what_cannot_be_sent(client: Client, observed: Any):
    lock = threading.Lock()

    @ox.misfits.per_shot
    def misfit(p: Any, o: Any) -> Any:
        assert lock is not None
        return jnp.sum((p - o) ** 2)

    with ox.cluster(client), pytest.raises(ValueError, match=r"cannot be sent to workers.*lock"):
        within(lambda: ox.Objective(propagator(), observed, misfit)(START))


def test_workers_of_its_own_and_their_memory(observed: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONDAX_CFLAGS", os.environ.get("ONDAX_CFLAGS", "-O1"))  # as tests compile
    function = gradient(propagator(), observed)
    expected = function(START)
    with ox.cluster(memory=4e9) as cluster:
        there = cluster.client.scheduler_info()["workers"].values()
        assert sum(worker["memory_limit"] for worker in there) == pytest.approx(4e9, rel=1e-6)
        assert same_bits(within(lambda: function(START)), expected)


def test_refused(client: Client, observed: Any):
    with pytest.raises(ValueError, match="memory_limit="):
        ox.cluster(client, memory=4e9)
    with pytest.raises(ValueError, match="memory=0"):
        ox.cluster(memory=0)
    with pytest.raises(TypeError, match="give a dask.distributed.Client"):
        ox.cluster("tcp://127.0.0.1:8786")
    with pytest.raises(ValueError, match="block=3: give a power of two"):
        ox.cluster(client, block=3)
    with pytest.raises(ValueError, match="threads"):
        ox.cluster(client, threads=0)

    async def asynchronous() -> None:
        async with Client(client.scheduler.address, asynchronous=True) as other:
            with pytest.raises(ValueError, match="asynchronous"):
                ox.cluster(other)

    within(lambda: asyncio.run(asynchronous()))


def test_on_the_client_s_own_loop(client: Client):
    F = propagator()

    async def called() -> Any:
        return F(TRUE)

    with ox.cluster(client):
        future = asyncio.run_coroutine_threadsafe(called(), client.loop.asyncio_loop)
        with pytest.raises(RuntimeError, match=r"asyncio\.to_thread"):
            within(lambda: future.result(60.0))


def _in_a_task(given_up: bool) -> Any:
    from distributed import get_client, worker_client

    F = propagator(2)
    if given_up:
        with worker_client() as there, ox.cluster(there):
            return np.asarray(F(TRUE))
    with ox.cluster(get_client()):
        return np.asarray(F(TRUE))


def test_in_a_task(client: Client):
    """A task that waits for shots on its own cluster gives its place to them, or is refused."""
    import cloudpickle
    import clusters

    module = sys.modules[__name__]
    for sent in (module, clusters):
        cloudpickle.register_pickle_by_value(sent)
    try:
        tasks = [client.submit(_in_a_task, True, pure=False) for _ in range(2)]
        for found in within(lambda: client.gather(tasks)):
            assert same_bits(found, propagator(2)(TRUE))
        with pytest.raises(RuntimeError, match="worker_client"):
            within(lambda: client.submit(_in_a_task, False, pure=False).result())
    finally:
        for sent in (module, clusters):
            cloudpickle.unregister_pickle_by_value(sent)


def test_nothing_of_dask_is_imported_before():
    code = "import sys, ondax; ondax.Objective; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# ---------------------------------------------------------------- without workers


class Large(Shared):
    def __init__(self, values: Any, inner: Any = None) -> None:
        self.values, self.inner = values, inner

    def __reduce__(self) -> Any:
        return Large, (self.values, self.inner)


def test_what_is_shared_is_sent_and_made_once(tmp_path: Any):
    inner = Large(np.arange(5))
    outer = Large(np.arange(1000.0), inner)
    packer, opener = Packer(), Opener()
    first, needed = packer.packed((outer, inner, 1))
    second, again = packer.packed((outer, 2))
    assert {p.token for p in needed} == {p.token for p in again}
    (one, own, _), _ = opener.opened(first, needed)
    (other, _), _ = opener.opened(second, again)
    assert one is other
    assert one.inner is own
    assert first.nbytes < 200
    np.testing.assert_array_equal(one.values, outer.values)


def test_a_mapped_file_travels_by_its_name(tmp_path: Any):
    values = np.arange(100_000, dtype=np.float32).reshape(100, 1000)
    np.save(tmp_path / "traces.npy", values)
    mapped = np.load(tmp_path / "traces.npy", mmap_mode="r")
    parcel, _ = Packer().packed(mapped)
    assert parcel.nbytes < 1000
    found, _ = Opener().opened(parcel, [])
    np.testing.assert_array_equal(found, values)
    part, _ = Packer().packed(mapped[3:5])
    assert part.mapped
    np.testing.assert_array_equal(Opener().opened(part, [])[0], values[3:5])


def test_arrays_of_jax_keep_their_types():
    """Also where JAX has no numbers of 64 bits, as in a worker that begins; those in a misfit of
    the user's, for example."""
    with jax.enable_x64(True):
        sent = {
            "w": jnp.linspace(0.0, 0.7, 3),
            "n": jnp.arange(3),
            "short": jnp.ones(3, jnp.float32),
        }
        parcel, _ = Packer().packed(sent)
    found, _ = Opener().opened(parcel, [])
    assert {k: v.dtype for k, v in found.items()} == {k: v.dtype for k, v in sent.items()}
    assert np.asarray(found["w"]).tobytes() == np.asarray(sent["w"]).tobytes()


def test_what_was_changed_in_a_mapped_file_travels(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    """In memory only, by its numbers; else by its name, once it is in the file."""
    np.save(tmp_path / "traces.npy", np.zeros(4000, np.float32))
    copied = np.load(tmp_path / "traces.npy", mmap_mode="c")
    copied += 1.0
    parcel, _ = Packer().packed(copied)
    assert parcel.mapped
    np.testing.assert_array_equal(Opener().opened(parcel, [])[0], np.ones(4000))
    flushed: list[str | None] = []
    monkeypatch.setattr(np.memmap, "flush", lambda array: flushed.append(array.mode))
    written = np.load(tmp_path / "traces.npy", mmap_mode="r+")
    packer = Packer()
    _, (parcel,) = packer.packed([Large(written)])
    assert parcel.nbytes < 1000
    assert flushed == ["r+"]
    packer.flush()  # before each call
    assert flushed == ["r+", "r+"]


class Crew:
    """In place of a client: workers as they are said to be."""

    dashboard_link = "http://nowhere"

    def __init__(self, *statuses: str, limit: int = 1000 << 20) -> None:
        self.statuses, self.limit = statuses, limit

    def scheduler_info(self) -> Any:
        return {"workers": {str(n): {"status": s} for n, s in enumerate(self.statuses)}}

    def run(self, function: Any, workers: Any, on_error: str) -> Any:
        return {
            a: Worker(
                host="h",
                pid=int(a),
                threads=2,
                limit=self.limit,
                machine=8000 << 20,
                used=(200 + int(a)) << 20,
                kind="",
            )
            for a in workers
        }


def test_memory_is_that_of_the_least_worker():
    force = Workforce(Crew("running", "running"))
    force.look()
    assert (force.at_once, force.memory) == (4, int(0.6 * (1000 << 20)) - (201 << 20))
    force = Workforce(Crew("running", "running", limit=0))
    force.look()
    assert force.memory == int(0.6 * (4000 << 20)) - (201 << 20)


class Slow(Crew):
    """One of which only worker 0 answers at once."""

    def __init__(self, *there: str) -> None:
        super().__init__()
        self.there, self.answers, self.asked = there, threading.Event(), []

    def scheduler_info(self) -> Any:
        return {"workers": {address: {"status": "running"} for address in self.there}}

    def run(self, function: Any, workers: Any, on_error: str) -> Any:
        self.asked.append(list(workers))
        if workers != ["0"]:
            assert self.answers.wait(60.0)
            if len(self.asked) == 2:
                raise OSError("it has ended")
        return super().run(function, workers, on_error)


def test_newcomers_hold_nobody_up():
    """One who comes while others work is examined beside them, and counts from its answer on."""
    crew = Slow("0")
    force = Workforce(crew)
    force.look(anew=True)
    crew.there = ("0", "1")
    force.look(anew=True)
    force.look(anew=True)
    assert (force.count, force.at_once, force.freest) == (2, 2, "0")
    crew.answers.set()
    give_up = time.monotonic() + 60.0
    while force.at_once != 4:  # asked again, after the first answer did not come
        assert time.monotonic() < give_up
        force.look(anew=True)
        time.sleep(0.01)
    assert crew.asked == [["0"], ["1"], ["1"]]


def test_the_only_one_is_waited_for():
    """Nobody else is known any more: how much memory there is, is to be known before a call."""
    crew = Slow("0")
    force = Workforce(crew)
    force.look(anew=True)
    crew.there = ("0", "1")
    force.look(anew=True)
    crew.there = ("1",)
    threading.Timer(0.2, crew.answers.set).start()
    force.look(anew=True)
    assert force.at_once == 2
    assert force.memory > 0


def test_paused_workers_and_none(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stuck, nobody = Workforce(Crew("paused", "paused")), Workforce(Crew())
    for force in (stuck, nobody):
        force.watch()
    now[0] = 11.0
    stuck.watch()
    with pytest.warns(ox.NoWorkers, match="http://nowhere"):
        nobody.watch()
    now[0] = 31.0
    nobody.watch()
    with pytest.raises(MemoryError, match="memory_limit is 1048576000 bytes"):
        stuck.watch()
