"""A hostile environment: strict dtype promotion, shapes checked at run time, float64 only where a
test asks for it."""

# ruff: noqa: E402  (imports wait for the environment and the hook)

import atexit
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Processes that tests start compile quickly, too.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# As in a script's background job: some tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

install_import_hook("ondax", "typechecking.checked")  # checks shapes and dtypes of public calls
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Most tests make propagators of the same few shapes: XLA compiles a program once for all of them,
# and for all workers, which inherit the environment.
if "ONDAX_TEST_PROGRAMS" not in os.environ:
    os.environ["ONDAX_TEST_PROGRAMS"] = tempfile.mkdtemp(prefix="programs-")
    atexit.register(shutil.rmtree, os.environ["ONDAX_TEST_PROGRAMS"], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ["ONDAX_TEST_PROGRAMS"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

from host_calls import spy_on_host_calls
from registry import OUTCOMES, conformance_test
from systems import float64_everywhere

import ondax as ox
from ondax.backends import settings as engine_settings

# Workers share the machine.
engine_settings.MEMORY_SHARE /= int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

# The gate must be reproducible and must not time a compiler: the same examples every run, and no
# deadline.
settings.register_profile("ondax", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("ondax")


OPTIMISED = ("engine", "half", "demo", "readme", "physics", "compiled")  # tested as users run them


# Files of which one worker works longest come first, so that none is left with one of them at the
# end.
LONGEST = (
    "readme",
    "demo",
    "nn",
    "equations",
    "adjoint",
    "oracle",
    "transforms",
    "history",
    "lsrtm_loop",
    "fwi",
    "units",
)


def length(item: pytest.Item) -> int:
    name = item.path.stem.removeprefix("test_")
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=length)
    if config.getoption("backend") == "xla":
        about_kernels = pytest.mark.skip(reason="counts host calls, or compares bits of C kernels")
        for item in items:
            if item.get_closest_marker("kernels"):
                item.add_marker(about_kernels)


# The README's table tells what the conformance tests have shown: `--record` writes that down.
recorded: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record",
        action="store_true",
        help="write the outcomes of this run's conformance tests to tests/outcomes.json",
    )
    parser.addoption(
        "--backend",
        choices=("devito", "xla"),
        help="what runs propagators that do not name a backend; by default, what they would take",
    )


def pytest_configure(config: pytest.Config) -> None:
    backend = config.getoption("backend")
    if backend is not None:

        def runs_on(self: ox.Settings, platform: str) -> str:
            return backend if self.backend == "auto" else self.backend

        ox.Settings.runs_on = runs_on  # type: ignore[method-assign]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    test = conformance_test(report.nodeid)
    if test is not None and (report.when == "call" or not report.passed):
        recorded[test] = report.outcome  # of the body, or of what went wrong before or after it


def pytest_sessionfinish(session: pytest.Session) -> None:
    in_a_worker = hasattr(session.config, "workerinput")
    if session.config.getoption("record") and not in_a_worker:
        OUTCOMES.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


@pytest.fixture(autouse=True)
def quick_compilers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere compilers would take most of the time: of C, and of XLA's programs."""
    as_users_run_them = any(name in request.module.__name__ for name in OPTIMISED)
    jax.config.update("jax_disable_most_optimizations", not as_users_run_them)
    if not as_users_run_them:
        monkeypatch.setenv("ONDAX_CFLAGS", "-O1")


# Linux grants a process 65,530 mappings of memory. XLA takes several for each program, and crashes
# where there are no more.
MAPPINGS, EVERY = 30_000, 20
tests_done = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Programs of former tests are dropped before they are too many."""
    yield
    maps = Path("/proc/self/maps")
    if next(tests_done) % EVERY == 0 and maps.exists():
        with maps.open() as lines:
            if sum(1 for _ in lines) > MAPPINGS:
                jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def no_histories_left() -> Iterator[None]:
    """What one module leaves in memory, no other needs."""
    yield
    ox.release_memory()


@pytest.fixture
def x64() -> Iterator[None]:
    """Turns float64 on for one test, as a user would inside a program that runs in float32."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def x64_everywhere() -> Iterator[None]:
    """Turns float64 on for all threads, those in which JAX runs callbacks included."""
    with float64_everywhere():
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test in each precision, with float64 on only where it is needed."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Every call of a host function, by name, with its static parameters."""
    return spy_on_host_calls(monkeypatch)


@pytest.fixture
def kernel_runs(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every run of a kernel: a whole shot forward, Born or backward, as all histories fit into
    memory here."""
    from ondax.backends.devito.kernel import Kernel  # after the import hook

    seen: list[object] = []
    original = Kernel.__call__

    def spy(self, *args):
        seen.append(self)
        return original(self, *args)

    monkeypatch.setattr(Kernel, "__call__", spy)
    return seen
