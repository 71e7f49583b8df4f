"""From equations to a compiled kernel: Devito writes the C, we compile it once and keep it on disk.

Devito's own cache is keyed by generated code alone, so a change of compiler, flags or processor would go unnoticed,
and it lowers the equations again in every process. Ours is keyed by everything that matters, looked up before any
lowering, and holds the shared object with a description of its arguments: a warm start neither lowers nor compiles.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..equations.system import text

FORMAT = "6"  # of the files in the cache: raise it when they change
WEIGHT_DIGITS = 20
LOCK = threading.Lock()  # Devito cannot build from several threads


class CompilerError(RuntimeError):
    """The C compiler is missing, or refused a kernel."""


@dataclass(frozen=True)
class Argument:
    """One argument of a compiled kernel.

    Attributes:
        name: as in the equations, or Devito's bounds (`x_m`, `x_M`, ...).
        kind: "array", "int", "real" or "timers".
    """

    name: str
    kind: str


@dataclass(frozen=True)
class Signature:
    """How to call a compiled kernel: its arguments in order, and their floating-point type."""

    arguments: tuple[Argument, ...]
    dtype: str


def cache_directory() -> Path:
    """Where compiled kernels are kept: `$ONDAX_CACHE_DIR`, else `ondax` in the user's cache directory."""
    chosen = os.environ.get("ONDAX_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ondax"


@cache
def processor() -> str:
    """A text that changes when code compiled for this processor may not run: its model and instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


@dataclass(frozen=True)
class Toolchain:
    """The C compiler and its flags."""

    command: str
    flags: tuple[str, ...]
    openmp_flags: tuple[str, ...]

    @property
    def identity(self) -> str:
        """A text that changes when the compiler does; asking it for its version would cost milliseconds."""
        path = Path(shutil.which(self.command) or self.command).resolve()
        stat = path.stat()
        return f"{path} {stat.st_size} {stat.st_mtime_ns} {self.flags} {self.openmp_flags}"


def toolchain() -> Toolchain:
    """The compiler named by `$CC`, else the first of cc, gcc and clang; `$ONDAX_CFLAGS` replaces the flags for speed.

    Raises:
        CompilerError: there is none.
    """
    named = os.environ.get("CC")
    candidates = [named] if named else ["gcc", "cc", "clang"]
    command = next((c for c in candidates if shutil.which(c)), None)
    if command is None:
        raise CompilerError(
            f"no C compiler found (looked for {', '.join(candidates)}): install gcc or clang "
            "(Debian: apt-get install gcc; macOS: xcode-select --install) or set CC to its path"
        )
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    openmp = ("-Xclang", "-fopenmp") if platform.system() == "Darwin" else ("-fopenmp",)
    optimisation = shlex.split(os.environ.get("ONDAX_CFLAGS", f"-O3 {native} -ffast-math"))
    return Toolchain(command, (*optimisation, "-std=gnu99", "-fPIC", "-w"), openmp)


def build(equations: Sequence[Any], dtype: str, parallel: bool) -> tuple[Path, Signature]:
    """The shared object of a kernel, compiled now or taken from the cache, and its signature.

    Args:
        equations: Devito equations of one time step.
        dtype: "float32" or "float64".
        parallel: with OpenMP inside the kernel.

    Raises:
        CompilerError: there is no C compiler, or it failed.
    """
    tools = toolchain()
    parts = [FORMAT, version("devito"), dtype, "openmp" if parallel else "serial", tools.identity, processor()]
    parts += [_identity(e) for e in equations]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    folder = cache_directory() / key
    if not (folder / "kernel.json").exists():
        with LOCK:
            if not (folder / "kernel.json").exists():
                _compile_into(folder, equations, dtype, parallel, tools)
    described = json.loads((folder / "kernel.json").read_text())
    signature = Signature(tuple(Argument(**a) for a in described["arguments"]), described["dtype"])
    return folder / "kernel.so", signature


def _identity(equation: Any) -> str:
    """A text that tells apart all equations that compile to different code."""
    where = [getattr(equation.subdomain, "name", ""), str(equation.implicit_dims)]
    return " ".join([type(equation).__name__, text(equation.lhs), "=", text(equation.rhs), _layout(equation), *where])


def _layout(equation: Any) -> str:
    """Storage that the equation's text leaves out: time buffers and halos."""
    from devito import Function

    functions = {f for f in equation.free_symbols if isinstance(f, Function)}
    functions |= {f.function for side in (equation.lhs, equation.rhs) for f in side.find(Function)}
    return str(
        sorted((f.name, str(getattr(f, "save", "")), str(f.halo), getattr(f, "time_order", 0)) for f in functions)
    )


def _compile_into(folder: Path, equations: Sequence[Any], dtype: str, parallel: bool, tools: Toolchain) -> None:
    code, signature = _generate(equations, dtype, parallel)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as scratch:
        work = Path(scratch)
        (work / "kernel.c").write_text(code)
        flags = [*tools.flags, *(tools.openmp_flags if parallel else ("-fopenmp-simd",))]
        _run([tools.command, *flags, "-c", "kernel.c", "-o", "kernel.o"], work)
        # Linked without -ffast-math, which would make loading the kernel flush denormals for the whole thread.
        libraries = tools.openmp_flags if parallel else ()
        _run([tools.command, "-shared", "-fPIC", *libraries, "kernel.o", "-o", "kernel.so", "-lm"], work)
        (work / "kernel.json").write_text(json.dumps(asdict(signature)))
        (work / "kernel.o").unlink()
        made = work / "made"
        made.mkdir()
        for name in ("kernel.c", "kernel.so", "kernel.json"):
            (work / name).replace(made / name)
        try:
            made.rename(folder)  # atomic: another process sees all of it or nothing
        except OSError:
            if not (folder / "kernel.json").exists():
                raise


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise CompilerError(f"the C compiler {command[0]} could not be started: {error}") from error
    if done.returncode != 0:
        raise CompilerError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def _generate(equations: Sequence[Any], dtype: str, parallel: bool) -> tuple[str, Signature]:
    from devito import Function, Operator, configuration
    from devito.finite_differences import finite_difference
    from devito.types import Timer

    from .fusion import FusedTooFar, check_loops, in_order

    options = {"name": "kernel", "language": "openmp" if parallel else "C"}
    level, digits = configuration["log-level"], finite_difference._PRECISION
    configuration["log-level"] = "ERROR"
    # Devito rounds finite-difference weights to 9 digits, in float64 too: its schemes would be off by 1e-10.
    finite_difference._PRECISION = WEIGHT_DIGITS
    try:
        operator = Operator(list(equations), **options)
        try:
            check_loops(operator)
        except FusedTooFar:
            with in_order():
                operator = Operator(list(equations), **options)
            check_loops(operator)
    finally:
        configuration["log-level"] = level
        finite_difference._PRECISION = digits
    arguments = []
    parameters: Any = operator.parameters
    for parameter in parameters:
        if isinstance(parameter, Function):
            kind = "array"
        elif isinstance(parameter, Timer):
            kind = "timers"
        else:
            kind = "real" if "float" in str(parameter.dtype) else "int"
        arguments.append(Argument(parameter.name, kind))
    code = str(operator.ccode)
    loops = len(re.findall(r"for \(int time\b", code))
    if loops != 1:
        raise RuntimeError(f"Devito made {loops} loops over time of one step's equations: this is a bug in ondax")
    if "y_M" not in {a.name for a in arguments}:
        # The steps of a 2-D grid are short and even: handing out rows one by one costs more than it balances (measured:
        # two threads 0.6 times as fast as one on 281 x 281 points, against 1.4 times with equal shares).
        code = code.replace("schedule(dynamic,1)", "schedule(static)")
    return code, Signature(tuple(arguments), dtype)
