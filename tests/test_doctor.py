"""`python -m ondax doctor`: whatever is wrong with a machine ends in a line that says what to mend,
and what is right is called so."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

import ondax as ox
from ondax.__main__ import main
from ondax.backends import settings
from ondax.backends.devito import kernel_cache
from ondax.doctor import examination, gradients, installed, kernels, resources
from ondax.doctor.finding import Finding, found_by
from ondax.doctor.variables import OURS, variables

AMISS = ("warn", "fail")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine on which nothing is amiss that this process could see: no variable is set, and
    there is memory to spare."""
    for name in list(os.environ):
        if name.startswith(("ONDAX_", "DEVITO_", "OMP_", "GOMP_")) or name in ("CC", "XLA_FLAGS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(resources, "machine_memory", lambda: 8 * resources.GIB)
    monkeypatch.setattr(settings, "machine_memory", lambda: 8 * resources.GIB)
    monkeypatch.setattr(settings, "MEMORY_SHARE", 0.5)
    monkeypatch.setattr(resources, "_free", lambda: 6 * resources.GIB)
    monkeypatch.setattr(resources, "available_cores", lambda: 4)
    monkeypatch.setattr(resources, "cores_of_groups", lambda: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    kernel_cache.temporary.cache_clear()
    yield
    kernel_cache.temporary.cache_clear()


def script(path: Path, text: str) -> str:
    """A program, which may stand for a compiler."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def only(found: list[Finding]) -> Finding:
    """The one finding that something is amiss. Its two lines, and no more, say what and what to
    do."""
    (one,) = [f for f in found if f.verdict in AMISS]
    assert str(one).count("\n") == 1
    assert one.remedy
    return one


# ---------------------------------------------------------------- all in all


def test_nothing_is_amiss_and_nothing_is_tried_by_info(capsys: pytest.CaptureFixture[str]):
    assert main(["info"]) == 0
    told = capsys.readouterr().out
    for about in examination.LOOKS:
        assert f"ok    {about} " in told
    assert "gradient" not in told
    for name in ("jax", "devito", "sympy"):
        assert f"{name} " in told
    assert told.endswith("0 failures, 0 warnings\n")


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The rest is looked at all the same, and nothing is tried that cannot work."""
    monkeypatch.setenv("PATH", "")
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "fail  compiler   no C compiler found (looked for gcc, cc, clang)\n" in told
    assert "-> install gcc or clang (Debian: apt-get install gcc; " in told
    assert "skip  compiling " in told
    assert "skip  gradient " in told
    assert told.endswith("1 failure, 0 warnings\n")


@pytest.mark.slow
def test_all_of_it_in_an_empty_process(tmp_path: Path):
    """As users run it: six kernels are built, and nothing is left of them."""
    cache = tmp_path / "kernels"
    done = subprocess.run(
        [sys.executable, "-m", "ondax", "doctor"], capture_output=True, text=True, env=os.environ
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("kernels built: 3") == 2
    assert "\nfail" not in done.stdout
    assert list(cache.iterdir()) == []


def test_a_check_that_fails_itself_is_a_finding():
    def broken() -> Iterator[Finding]:
        yield Finding("first", "ok", "well")
        raise RuntimeError("two\nlines")

    first, second = found_by("memory", broken)
    assert first.found == "well"
    assert second.verdict == "fail"
    assert second.found == "it could not be looked at: RuntimeError: two"


# ---------------------------------------------------------------- compilers

BAD: dict[str, tuple[str, str, str]] = {
    "not there": ("", "compiler", "no C compiler found (looked for {cc})"),
    "fails": ("echo 'k.c:1: note: so' >&2; echo 'k.c:9: error: no luck' >&2; exit 1", "compiling",
              "failed with status 1: k.c:9: error: no luck"),
    "fails without a word": ("exit 3", "compiling", "-o kernel.o failed with status 3"),
    "makes nothing": ("exit 0", "compiling", "made no kernel.so: is it a C compiler?"),
    "makes what cannot be loaded": ("echo text > kernel.o; echo text > kernel.so", "compiling",
                                    "is compiled, but cannot be loaded: "),
    "does not end": ("sleep 60", "compiling", "was stopped after 0.2 s"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_compiler_that_does_not_work(case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    text, about, said = BAD[case]
    path = tmp_path / "badcc"
    monkeypatch.setenv("CC", script(path, text) if text else str(path))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    if case == "does not end":
        monkeypatch.setattr(kernels, "PATIENCE", "0.2")
        monkeypatch.setattr(kernels, "_version", lambda tools: "")
    found = only([*kernels.compiler_found(), *kernels.compiler_works()])
    assert found.about == about
    assert said.format(cc=path) in found.found
    assert "CC" in found.remedy
    left = [path for path in sorted(tmp_path.iterdir()) if path.name != "kernels"]
    assert left == before  # nothing in the user's folder


def test_a_variable_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CC", "'gcc")
    found = only([*kernels.compiler_found(), *kernels.compiler_works()])
    assert "CC cannot be read (No closing quotation)" in found.found
    assert found.remedy == "set that variable anew, or unset it"


def test_a_compiler_without_openmp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    real = shutil.which("gcc") or shutil.which("cc")
    refusing = f'case "$*" in *-fopenmp\\ *) echo "error: no omp.h" >&2; exit 1;; esac; {real} "$@"'
    monkeypatch.setenv("CC", script(tmp_path / "cc", refusing))
    found = only(list(kernels.compiler_works()))
    assert "with OpenMP, a small program: " in found.found
    assert "error: no omp.h" in found.found
    assert "install OpenMP" in found.remedy


def test_a_compiler_that_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """However many threads OpenMP may start."""
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")
    (found,) = kernels.compiler_works()
    assert found.verdict == "ok"
    assert list((tmp_path / "kernels").iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "about", "said"),
    [("-O0", "compiler", "several times slower"), ("-O2 --none", "compiling", "--none")],
)
def test_flags(flags: str, about: str, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONDAX_CFLAGS", flags)
    found = only([*kernels.compiler_found(), *kernels.compiler_works()])
    assert found.about == about
    assert said in found.found
    assert "ONDAX_CFLAGS" in found.remedy


# ---------------------------------------------------------------- the cache


def test_folders_that_cannot_keep_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Kernels are built all the same, as by any process of ondax, in a folder for a moment."""
    open_to_all, file = tmp_path / "open", tmp_path / "file"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    file.write_text("")
    for folder, why in (
        (open_to_all, "others may write to"),
        (file / "below", "cannot be made: Not a directory"),
        (Path("/proc/ondax"), "cannot be made"),
    ):
        monkeypatch.setenv("ONDAX_CACHE_DIR", str(folder))
        found = only(list(kernels.cache()))
        assert found.verdict == "warn"
        assert why in found.found
        assert "every process builds its kernels anew" in found.found
        assert "set ONDAX_CACHE_DIR" in found.remedy
    (tried,) = kernels.compiler_works()
    assert tried.verdict == "ok"


def test_a_disk_whose_files_cannot_be_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_NOEXEC))
    assert "mounted noexec" in only(list(kernels.cache())).found


def test_a_disk_that_refuses_files(monkeypatch: pytest.MonkeyPatch):
    """As a folder without the right to write does; this may run as root, who has it."""

    def refuse(**options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kernels.tempfile, "NamedTemporaryFile", refuse)
    assert "cannot be written to: Permission denied" in only(list(kernels.cache())).found


def test_a_disk_that_is_nearly_full(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels.shutil, "disk_usage", lambda path: SimpleNamespace(free=5 << 20))
    found = only(list(kernels.cache()))
    assert "only 5 MiB are left on its disk" in found.found


def test_no_folder_for_what_is_temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Neither that of kernels nor another."""
    monkeypatch.setenv("ONDAX_CACHE_DIR", "/proc/ondax")

    def refuse(**options: Any) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(kernels.kernel_cache.tempfile, "mkdtemp", refuse)
    found = only(list(kernels.compiler_works()))
    assert "No usable temporary directory" in found.found
    assert "TMPDIR" in found.remedy


# ---------------------------------------------------------------- threads, memory, variables


def test_cores_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch):
    (good,) = resources.threads()
    assert (good.verdict, good.found) == ("ok", "4 of 4 cores: 4 shots at a time")
    monkeypatch.setattr(resources, "available_cores", lambda: 1)
    assert only(list(resources.threads())).found.startswith("1 of 4 cores: ")
    monkeypatch.setattr(resources, "cores_of_groups", lambda: 1.5)
    assert "grants the time of 1.5)" in only(list(resources.threads())).found


@pytest.mark.parametrize(("granted", "cores"), [(None, 4), (2.9, 2), (0.5, 1), (16.0, 4)])
def test_threads_are_as_many_as_quotas_grant(
    granted: float | None, cores: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(settings.os, "sched_getaffinity", lambda process: set(range(4)))
    monkeypatch.setattr(settings, "cores_of_groups", lambda: granted)
    assert settings.available_cores() == settings.Settings().worker_threads == cores


@pytest.mark.parametrize(
    ("files", "groups", "cores"),
    [
        ({"a/cpu.max": "150000 100000\n", "cpu.max": "max 100000\n"}, "0::/a\n", 1.5),
        ({"a/cpu.max": "max 100000\n"}, "0::/a\n", None),
        ({"cpu/b/cpu.cfs_quota_us": "200000", "cpu/b/cpu.cfs_period_us": "100000",
          "cpu/cpu.cfs_quota_us": "-1"}, "3:cpu:/b\n1:memory:/c\n", 2.0),
        ({}, "0::/\n", None),
    ],
)  # fmt: skip
def test_cores_that_groups_grant(
    files: dict[str, str], groups: str, cores: float | None, tmp_path: Path
):
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "self").write_text(groups)
    assert settings.cores_of_groups(tmp_path / "self", tmp_path / "cgroup") == cores


@pytest.mark.parametrize(
    ("values", "bound"),
    [
        ({"OMP_PROC_BIND": "true"}, True),
        ({"OMP_PROC_BIND": "close"}, True),
        ({"OMP_PLACES": "cores"}, True),
        ({"GOMP_CPU_AFFINITY": "0-3"}, True),
        ({"OMP_PROC_BIND": "false", "OMP_PLACES": "cores"}, False),
        ({"OMP_NUM_THREADS": "1"}, False),
    ],
    ids=str,
)
def test_threads_bound_to_cores(
    values: dict[str, str], bound: bool, monkeypatch: pytest.MonkeyPatch
):
    """libgomp does what is said of it: a thread that is started after it is loaded has one core."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found = [f for f in resources.threads() if f.verdict in AMISS]
    assert bool(found) == bound
    if bound:
        assert "binds all shots to one core" in found[0].found
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one core only, or none can be told from another")
    code = (
        "import ctypes, os, threading; ctypes.CDLL('libgomp.so.1');"
        "print(len(os.sched_getaffinity(0)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("libgomp is not to be found under its usual name")
    assert (done.stdout == "1\n") == bound


def test_memory(monkeypatch: pytest.MonkeyPatch):
    (good,) = resources.memory()
    assert good.verdict == "ok"
    assert good.found.startswith("8.0 GiB")
    assert good.found.endswith("histories may take 4.0 GiB")
    monkeypatch.setattr(resources, "_free", lambda: 2 * resources.GIB)
    found = only(list(resources.memory()))
    assert "only 2.0 GiB are free now" in found.found
    assert "ox.Settings(memory=1.7e+09)" in found.remedy
    monkeypatch.setattr(settings, "machine_memory", lambda: resources.GIB)
    monkeypatch.setattr(resources, "machine_memory", lambda: resources.GIB)
    found = only(list(resources.memory()))
    assert "a limit of this process" in found.found
    assert "checkpoints" in found.found


def test_variables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("DEVITO_MPI", "1")
    told = [f.found for f in variables()]
    assert any(t.startswith("OMP_NUM_THREADS=3: not read") for t in told)
    assert any(t.startswith("DEVITO_MPI: not read") for t in told)
    assert any(t.endswith("kernels: where compiled kernels are kept") for t in told)


@pytest.mark.parametrize(
    ("name", "value", "verdict", "remedy"),
    [
        ("ONDAX_CFLGAS", "-O2", "warn", "rename it, if you mean ONDAX_CFLAGS;"),
        ("ONDAX_WHITHER", "1", "warn", f"unset it: ondax knows {', '.join(OURS)}"),
        ("ONDAX_PROGRESS", "yes", "fail", "set ONDAX_PROGRESS to 1 or 0, or unset it"),
        ("ONDAX_COMPILER_SECONDS", "long", "fail", "to a number of seconds"),
        ("ONDAX_COMPILER_SECONDS", "0", "fail", "to a number of seconds"),
    ],
)
def test_variables_that_ondax_does_not_take(
    name: str, value: str, verdict: str, remedy: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, value)
    found = only(list(variables()))
    assert found.verdict == verdict
    assert name in found.found
    assert remedy in found.remedy


# ---------------------------------------------------------------- packages and JAX


def test_packages_that_are_too_old_or_missing(monkeypatch: pytest.MonkeyPatch):
    have = {"jax": "0.9.12.dev3", "devito": None, "numpy": "2.0", "scipy": "1.14.0rc1"}
    real = installed._version
    monkeypatch.setattr(installed, "_version", lambda name: have.get(name, real(name)))
    monkeypatch.setattr(
        installed,
        "requires",
        lambda name: ["jax>=0.10", "devito>=4.8.23", "numpy>=2.0.0", "scipy>=1.14",
                      "matplotlib>=999; extra == 'plot'", "ruff>=999; extra == 'dev'"],
    )  # fmt: skip
    found = [f for f in installed.packages() if f.verdict in AMISS]
    assert [(f.found, f.remedy) for f in found[:2]] == [
        ("jax 0.9.12.dev3, older than 0.10", "pip install --upgrade 'jax>=0.10'"),
        ("devito is not installed", "pip install --upgrade 'devito>=4.8.23'"),
    ]
    assert [f.about for f in found[2:]] == ["plots"]


def test_the_bounds_are_those_that_are_stated():
    """Every requirement of ondax itself is understood: none would be left out without a word."""
    stated = [line for line in installed.requires("ondax") or () if "extra" not in line]
    assert len(stated) >= 10
    assert all(installed.REQUIREMENT.fullmatch(line) for line in stated)


def test_jax_that_does_not_start(monkeypatch: pytest.MonkeyPatch):
    def refuse() -> None:
        raise RuntimeError("Unable to initialize backend 'nonsense'\nmore")

    monkeypatch.setenv("JAX_PLATFORMS", "nonsense")
    monkeypatch.setattr(jax, "devices", refuse)
    found = only(list(installed.devices()))
    assert found.found == "it does not start: Unable to initialize backend 'nonsense'"
    assert found.remedy == "JAX_PLATFORMS=nonsense: unset it, or add cpu to it"


# ---------------------------------------------------------------- gradients

# Weights of the adjoint's differences come out 1 % too large.
MISCOMPILES = """
if grep -q 'time -= 1' kernel.c; then sed -i 's/1\\.3333333/1.3466666/g' kernel.c; fi
exec {real} "$@"
"""


def tried(width: int, monkeypatch: pytest.MonkeyPatch) -> Finding:
    """With a sponge of a width of its own, so that no test before has left kernels in memory."""
    monkeypatch.setattr(gradients, "Sponge", lambda _: ox.Sponge(width))
    return gradients._tried("float32", gradients.BOUNDS["float32"])


def test_a_gradient(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONDAX_CFLAGS", "-O1")
    found = tried(5, monkeypatch)
    print(found)
    assert found.verdict == "ok"
    assert found.found.endswith("kernels built: 3")


@pytest.mark.slow
def test_a_compiler_whose_code_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    real = shutil.which("gcc") or shutil.which("cc")
    monkeypatch.setenv("ONDAX_CFLAGS", "-O1")
    monkeypatch.setenv("CC", script(tmp_path / "cc", MISCOMPILES.format(real=real)))
    found = only([tried(6, monkeypatch)])
    print(found)
    assert "another compiler" in found.remedy


def test_kernels_that_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CC", script(tmp_path / "cc", "echo 'error: no luck' >&2; exit 1"))
    found = only([tried(7, monkeypatch)])
    assert found.found.startswith("in float32: ")
    assert found.found.endswith("error: no luck")
    assert "set CC" in found.remedy
