"""Too little memory: what is not in use goes first, then histories are checkpointed, then one line
says what a shot needs."""

import gc
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ondax as ox
from ondax.backends import settings
from ondax.histories import buffers
from ondax.histories.store import STORE

GRID = ox.Grid((61, 56), 10.0)
VP = jnp.full(GRID.shape, 2000.0)
SHOTS = 3


def propagator(**given: object) -> ox.Propagator:
    survey = ox.Survey(
        ox.line((50.0, 40.0), (550.0, 40.0), SHOTS),
        ox.line((0.0, 60.0), (600.0, 60.0), 7),
        ox.ricker(12.0, 150, 0.002),
        0.002,
    )
    return ox.Propagator(
        ox.Acoustic(4), GRID, survey, 2600.0, boundary=ox.Sponge(8), settings=ox.Settings(**given)
    )


def gradient(F: ox.Propagator) -> np.ndarray:
    return np.asarray(jax.grad(lambda v: 0.5 * jnp.sum((F(v) - 1.0) ** 2))(VP))


class Scarce:
    """A system that gives no more than so many bytes in arrays at least as large as a history's."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, limit: int, from_size: int, error: Exception
    ) -> None:
        self.limit, self.from_size, self.error = limit, from_size, error
        self.given: list[weakref.ref[np.ndarray]] = []
        self.real = buffers._zeros
        monkeypatch.setattr(buffers, "_zeros", self.zeros)

    def zeros(self, shape: tuple[int, ...], dtype: object, halo: int = 0) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size < self.from_size:
            return self.real(shape, dtype, halo)
        held = sum(a.nbytes for ref in self.given if (a := ref()) is not None)
        if held + size > self.limit:
            raise self.error
        made = self.real(shape, dtype, halo)
        self.given.append(weakref.ref(made))
        return made


ERRORS = [MemoryError(), OSError(12, "Cannot allocate memory")]


@pytest.fixture(autouse=True)
def empty() -> None:
    ox.release_memory()


def size_of_history() -> int:
    jax.vjp(propagator(), VP)
    size = STORE.nbytes // SHOTS
    ox.release_memory()
    return size


@pytest.mark.parametrize("error", ERRORS, ids=["MemoryError", "ENOMEM"])
@pytest.mark.parametrize("histories", [3.5, 1.5, 0.5])
def test_a_failed_allocation_costs_time_only(
    histories: float, error: Exception, monkeypatch: pytest.MonkeyPatch
):
    """Room for all shots' histories, for one, for none: the same gradient, to the bit or to
    checkpointing's rounding."""
    right, size = gradient(propagator()), size_of_history()
    F = propagator(threads=1)
    for i in range(3):  # fills the memo with what may go
        F.jacobian(VP + i).T.mv(jnp.ones((SHOTS, 7, 150)))
    Scarce(monkeypatch, int(histories * size), size // 2, error)
    found = gradient(F)
    assert np.max(np.abs(found - right)) <= 1e-5 * np.max(np.abs(right))


@pytest.mark.parametrize("error", ERRORS, ids=["MemoryError", "ENOMEM"])
def test_too_little_for_a_shot_is_said_in_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
):
    F = propagator()
    Scarce(monkeypatch, 0, 1 << 10, error)
    with pytest.raises(
        MemoryError,
        match=r"out of memory: .*A shot needs about \d+ bytes.*threads=.*narrower boundary",
    ) as e:
        F(VP)
    assert "\n" not in str(e.value)
    monkeypatch.undo()
    assert np.all(np.isfinite(F(VP)))  # nothing is left in disorder


def test_other_backgrounds_take_a_quarter_at_most():
    size = size_of_history()
    F = propagator(memory=16 * SHOTS * size)
    for i in range(30):
        F.jacobian(VP + i).T.mv(jnp.ones((SHOTS, 7, 150)))
        assert STORE.nbytes <= (4 + 1) * SHOTS * size
    assert len(STORE) == (4 + 1) * SHOTS


def test_shots_of_one_background_may_take_it_all(kernel_runs: list[object]):
    F = propagator(memory=SHOTS * size_of_history())
    J = F.jacobian(VP)
    J.mv(VP)
    del kernel_runs[:]
    J.mv(VP)
    assert len(kernel_runs) == SHOTS  # Born runs only: all histories are kept


def test_release_memory_empties_all_pools():
    gradient(propagator())
    assert STORE.nbytes > 0
    ox.release_memory()
    assert STORE.nbytes == 0
    assert not any(pool._free for pool in pools())


def pools() -> list[buffers.Pool]:
    from ondax.histories.buffers import POOL

    return [POOL]


GROUPS = {
    "no limit": ({"memory.max": "max\n"}, "0::/\n", None),
    "container of version 2": ({"memory.max": "1000\n"}, "0::/\n", 1000),
    "nested group of version 2": (
        {"a/memory.max": "max\n", "a/b/memory.max": "2000\n"},
        "0::/a/b\n",
        2000,
    ),
    "a parent's limit": ({"a/memory.max": "500\n", "a/b/memory.max": "2000\n"}, "0::/a/b\n", 500),
    "version 1": (
        {"memory/a/memory.limit_in_bytes": "3000\n"},
        "5:memory:/a\n4:cpu,cpuacct:/a\n",
        3000,
    ),
    "version 1 in a container": (
        {"memory/memory.limit_in_bytes": "700\n"},
        "5:memory:/docker/12\n",
        700,
    ),
    "both": (
        {"memory.max": "900\n", "memory/memory.limit_in_bytes": "800\n"},
        "0::/\n5:memory:/\n",
        800,
    ),
    "version 1, unlimited": (
        {"memory/memory.limit_in_bytes": "9223372036854771712\n"},
        "5:memory:/\n",
        9223372036854771712,
    ),
}


@pytest.mark.parametrize("case", GROUPS)
def test_limits_of_cgroups(case: str, tmp_path: Path):
    files, groups, limit = GROUPS[case]
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "self").write_text(groups)
    found = list(settings._limits_of_groups(tmp_path / "self", tmp_path / "cgroup"))
    assert min(found, default=None) == limit


def test_limits_of_the_process_count_and_are_asked_once():
    code = """
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (20 << 30, 40 << 30))
    from ondax.backends.settings import machine_memory
    first = machine_memory()
    resource.setrlimit(resource.RLIMIT_AS, (10 << 30, 40 << 30))
    print(first <= 20 << 30, machine_memory() == first)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.stdout == "True True\n", done.stderr


@pytest.mark.slow
def test_under_ulimit_the_memo_makes_room():
    """400 backgrounds under a limit that holds a few hundred histories."""
    code = """
    import resource, jax.numpy as jnp, numpy as np, ondax as ox
    survey = ox.Survey([[100.0, 40.0]], [[300.0, 60.0]], ox.ricker(12.0, 500, 0.002), 0.002)
    grid = ox.Grid((61, 56), 10.0)
    F = ox.Propagator(ox.Acoustic(4), grid, survey, 2600.0, boundary=ox.Sponge(8))
    v, d = jnp.full((61, 56), 2000.0), jnp.ones((1, 1, 500))
    F.jacobian(v).T.mv(d)
    now = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 29), now + (1 << 29)))
    for i in range(400):
        F.jacobian(v + i / 100).T.mv(d)
    print("all")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.stdout == "all\n", done.stderr


def test_dropped_propagators_are_collected():
    """With their host models, though JAX keeps what it has compiled."""
    F = propagator()
    F(VP)
    gradient(F)
    F.jacobian(VP).T.mv(jnp.ones((SHOTS, 7, 150)))
    left = [weakref.ref(host) for host in [F._hosts.of("float32")]]
    assert left
    del F
    ox.release_memory()
    gc.collect()
    assert [ref() for ref in left] == [None] * len(left)
