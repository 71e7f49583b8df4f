"""The C compiler: which one, with which flags, and how it is run."""

from __future__ import annotations

import math
import os
import platform
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SECONDS = 600.0  # that the compiler may take; the largest kernels take half a minute


class CompilerError(RuntimeError):
    """The C compiler is missing, cannot be started, takes too long, or did not make a kernel."""


@dataclass(frozen=True)
class Toolchain:
    """The C compiler and its flags.

    Attributes:
        command: the compiler, and what comes before or after it: ("ccache", "gcc").
        flags: for every kernel.
        openmp_flags: for kernels that share out a shot, and for linking them.
    """

    command: tuple[str, ...]
    flags: tuple[str, ...]
    openmp_flags: tuple[str, ...]

    @property
    def identity(self) -> str:
        """A text that changes when the compiler does; asking it for its version would cost
        milliseconds."""
        files = []
        for word in self.command:
            found = shutil.which(word)
            if found:
                path = Path(found).resolve()
                stat = path.stat()
                files.append(f"{path} {stat.st_size} {stat.st_mtime_ns}")
        return f"{files} {self.command[1:]} {self.flags} {self.openmp_flags}"

    def compile(self, folder: Path, openmp: bool) -> None:
        """Make `kernel.so` from `kernel.c` in a folder.

        Raises:
            CompilerError: it failed, took too long, or left no kernel.
        """
        flags = [*self.flags, *(self.openmp_flags if openmp else ("-fopenmp-simd",))]
        _run([*self.command, *flags, "-c", "kernel.c", "-o", "kernel.o"], folder)
        # Linked without -ffast-math, which would make loading the kernel flush denormals for the
        # whole thread.
        libraries = self.openmp_flags if openmp else ()
        link = [*self.command, "-shared", "-fPIC", *libraries, "kernel.o", "-o", "kernel.so", "-lm"]
        _run(link, folder)
        if folder.exists() and not (folder / "kernel.so").is_file():
            raise CompilerError(
                f"{shlex.join(link)} ended well but made no kernel.so: is it a C compiler?"
            )


def toolchain() -> Toolchain:
    """The compiler named by `$CC`, else the first of gcc, cc and clang; `$ONDAX_CFLAGS` replaces
    the flags for speed.

    Raises:
        CompilerError: there is none, or a variable cannot be read.
    """
    named = _words("CC", os.environ.get("CC", ""))
    candidates = [named] if named else [("gcc",), ("cc",), ("clang",)]
    found = next((c for c in candidates if shutil.which(c[0])), None)
    if found is None:
        names = ", ".join(shlex.join(c) for c in candidates)
        raise CompilerError(
            f"no C compiler found (looked for {names}): install gcc or clang "
            "(Debian: apt-get install gcc; macOS: xcode-select --install) or set CC to its path"
        )
    # Absolute, as it runs in another folder.
    command = (os.path.abspath(shutil.which(found[0]) or found[0]), *found[1:])
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    openmp = ("-Xclang", "-fopenmp") if platform.system() == "Darwin" else ("-fopenmp",)
    # Not -O2: with gcc 12 it made the adjoints of elastic and TTI models a tenth slower.
    optimisation = _words(
        "ONDAX_CFLAGS", os.environ.get("ONDAX_CFLAGS", f"-O3 {native} -ffast-math")
    )
    return Toolchain(command, (*optimisation, "-std=gnu99", "-fPIC", "-w"), openmp)


@cache
def processor() -> str:
    """A text that changes when code compiled for this processor may not run: its model and
    instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _words(name: str, value: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise CompilerError(
            f"the environment variable {name} cannot be read ({error}): {value}"
        ) from error


def _seconds() -> float | None:
    """How long a compiler may take; None: as long as it likes."""
    value = os.environ.get("ONDAX_COMPILER_SECONDS", str(SECONDS))
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not seconds > 0.0:
        raise CompilerError(
            f"ONDAX_COMPILER_SECONDS={value}: give a number of seconds above 0, or inf"
        )
    return None if math.isinf(seconds) else seconds


def _run(command: Sequence[str], folder: Path) -> None:
    """Run the compiler, and stop it with all that it has started when its time is over or we are
    interrupted."""
    limit = _seconds()
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a group of its own, which can be stopped as one
        )
    except OSError as error:
        if not folder.exists():
            raise
        raise CompilerError(f"the C compiler {command[0]} could not be started: {error}") from error
    try:
        _, said = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        _stop(process)
        raise CompilerError(
            f"{shlex.join(command)} was stopped after {limit:g} s. If it only needs longer, set "
            "ONDAX_COMPILER_SECONDS; else see whether it works at all, or set CC to another "
            "compiler"
        ) from error
    except BaseException:
        _stop(process)
        raise
    if process.returncode != 0 and folder.exists():
        ended = f"failed with status {process.returncode}"
        raise CompilerError(
            f"{shlex.join(command)} {ended}:\n{said.decode(errors='replace')[-2000:]}"
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
