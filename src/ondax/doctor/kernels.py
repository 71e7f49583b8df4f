"""What kernels need: a folder to keep them in, and a compiler that works."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..backends.devito import kernel_cache
from ..backends.devito.compiler import CompilerError, Toolchain, toolchain
from ..backends.devito.kernel_cache import KernelCacheWarning, Unusable
from ..backends.devito.library import load
from .finding import Finding, in_a_line

MIB = 2**20
LITTLE_ROOM = 100 * MIB  # on the disk: some hundred kernels
PATIENCE = "60"  # seconds for a program of three lines; a kernel may take ten times as long
COMPILER_REMEDY = "set CC to a compiler that works, or ONDAX_CFLAGS to flags it takes"
OPENMP_REMEDY = (
    "install OpenMP for this compiler (clang on Debian: apt-get install libomp-dev; on macOS: brew "
    "install libomp), or set CC=gcc"
)
LOADING_REMEDY = "set ONDAX_CACHE_DIR to a folder whose files may be run, or CC to another compiler"
FOLDER_REMEDY = "set TMPDIR, or ONDAX_CACHE_DIR, to a folder of yours that can be written to"
ANSWER = 42
PROGRAM = f"int kernel_of_values(void) {{ return {ANSWER}; }}\n"
SHARED = """#include <omp.h>
int kernel_of_values(void) {
  int found = 0;
  #pragma omp parallel for num_threads(2) reduction(+:found)
  for (int i = 0; i < 42; i++) found += omp_get_num_threads() > 0;
  return found;
}
"""


def cache() -> Iterator[Finding]:
    """The folder in which compiled kernels are kept."""
    try:
        folder = kernel_cache.trusted(kernel_cache.chosen())
        with (
            kernel_cache.room_for(folder),
            tempfile.NamedTemporaryFile(dir=folder, prefix="building-") as tried,
        ):
            tried.write(b"tried")
            tried.flush()
    except Unusable as why:
        yield Finding(
            "cache",
            "warn",
            f"{why}: every process builds its kernels anew",
            "set ONDAX_CACHE_DIR to a folder of yours, or mend this one",
        )
        return
    kernels = list(folder.glob("*/kernel.so"))
    size = sum(_size(file) for kernel in kernels for file in kernel.parent.iterdir())
    found = f"{folder}, kernels: {len(kernels)}, {size / MIB:.1f} MiB"
    room = shutil.disk_usage(folder).free
    if room < LITTLE_ROOM:
        yield Finding(
            "cache",
            "warn",
            f"{found}; only {room / MIB:.0f} MiB are left on its disk",
            "make room there, or set ONDAX_CACHE_DIR to a folder on another disk",
        )
    else:
        yield Finding("cache", "ok", found)


def compiler_found() -> Iterator[Finding]:
    """Which compiler is taken, and with which flags."""
    try:
        tools = toolchain()
    except CompilerError as error:
        what, _, remedy = in_a_line(error).partition(": install ")
        mend = f"install {remedy}" if remedy else "set that variable anew, or unset it"
        yield Finding("compiler", "fail", what, mend)
        return
    version = _version(tools)
    found = f"{' '.join(tools.command)}{version and f' ({version})'}, {' '.join(tools.flags)}"
    if not any(f in ("-O1", "-O2", "-O3", "-Ofast") for f in tools.flags):
        yield Finding(
            "compiler",
            "warn",
            f"{found}: without optimisation, kernels run several times slower",
            "unset ONDAX_CFLAGS, or add -O3 to it",
        )
    else:
        yield Finding("compiler", "ok", found)


def compiler_works() -> Iterator[Finding]:
    """Programs of a few lines, compiled as kernels are, loaded and run."""
    try:
        tools = toolchain()
    except CompilerError:
        yield Finding("compiling", "skip", "not tried until there is a compiler")
        return
    try:
        with trial_folder() as folder:
            found = _compiled(tools, folder)
    except OSError as error:
        found = Finding(
            "compiling", "fail", f"no folder to compile in: {in_a_line(error)}", FOLDER_REMEDY
        )
    yield found


def _compiled(tools: Toolchain, folder: Path) -> Finding:
    """What comes of a program for one thread, and of one that two share."""
    tried = ((False, "a small program", PROGRAM), (True, "with OpenMP, a small program", SHARED))
    for openmp, what, program in tried:
        work = folder / ("shared" if openmp else "alone")
        work.mkdir()
        (work / "kernel.c").write_text(program)
        try:
            with variable("ONDAX_COMPILER_SECONDS", PATIENCE):
                tools.compile(work, openmp)
        except CompilerError as error:
            remedy = OPENMP_REMEDY if openmp else COMPILER_REMEDY
            return Finding("compiling", "fail", f"{what}: {in_a_line(error)}", remedy)
        try:
            answer = load(work / "kernel.so").kernel_of_values()
        except OSError as error:
            problem = f"{what} is compiled, but cannot be loaded: {in_a_line(error)}"
            return Finding("compiling", "fail", problem, LOADING_REMEDY)
        if answer != ANSWER:
            problem = f"{what} is compiled, but returns {answer} in place of {ANSWER}"
            return Finding("compiling", "fail", problem, COMPILER_REMEDY)
    return Finding("compiling", "ok", "small programs, with and without OpenMP")


@contextmanager
def trial_folder() -> Iterator[Path]:
    """A folder for a moment, within that of the kernels: on its disk, with its rights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KernelCacheWarning)  # `cache` has said it
        within = kernel_cache.writable(kernel_cache.readable())
    # So named that it is swept up, should this process be killed.
    with tempfile.TemporaryDirectory(dir=within, prefix="building-") as made:
        yield Path(made)


@contextmanager
def empty_cache() -> Iterator[Path]:
    """Within it, kernels are kept in a folder that is empty at first, and removed at the end."""
    with trial_folder() as folder, variable("ONDAX_CACHE_DIR", str(folder)):
        yield folder


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Within it, an environment variable has a value."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _version(tools: Toolchain) -> str:
    """What the compiler calls itself; empty if it does not say."""
    with suppress(OSError, subprocess.SubprocessError), tempfile.TemporaryDirectory() as elsewhere:
        said = subprocess.run(
            [*tools.command, "--version"],
            cwd=elsewhere,  # whatever it is, it leaves nothing in the user's folder
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=10.0,
            text=True,
            errors="replace",
        )
        if said.returncode == 0 and said.stdout.strip():
            return said.stdout.splitlines()[0].strip()
    return ""


def _size(file: Path) -> int:
    """Bytes of a file, none if it has vanished."""
    with suppress(OSError):
        return file.stat().st_size
    return 0
