"""From equations to a compiled kernel: Devito writes the C, we compile it once and keep it on disk.

Devito's own cache is keyed by generated code alone, so a change of compiler, flags or processor
would go unnoticed, and it lowers the equations again in every process. Ours is keyed by everything
that matters, looked up before any lowering, and holds the shared object with a description of its
arguments: a warm start neither lowers nor compiles.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from ..._devito import Function, Operator, Timer, finite_difference
from ..._devito_settings import our_devito
from ...scheme.system import text
from .compiled import compiled
from .compiler import Toolchain, processor, toolchain
from .fusion import FusedTooFar, check_loops, check_order, in_order, side_by_side
from .kernel import Argument, Kernel, Signature, callable_from_values, kernel_of

FORMAT = "8"  # of the files in the cache: raise it when they change
EMITTERS = (
    "build",
    "extended",
    "fusion",
    "lagged",
    "loops",
    "lower",
    "mirror",
    "points",
    "schedule",
    "scratch",
)
WEIGHT_DIGITS = 20


def build(
    equations: Sequence[Any],
    dtype: str,
    parallel: bool,
    meanwhile: Callable[[], object] | None = None,
) -> tuple[str, Kernel]:
    """A kernel, compiled now or taken from the cache, and its key there.

    Args:
        equations: Devito equations of one time step.
        dtype: "float32" or "float64".
        parallel: with OpenMP inside the kernel.
        meanwhile: called if it has to be compiled, before the compiler starts.

    Raises:
        CompilerError: there is no C compiler, or it failed.
    """
    tools = toolchain()

    def generate() -> tuple[str, dict[str, Any]]:
        code, signature = _generate(equations, dtype, parallel)
        if meanwhile is not None:
            meanwhile()
        return code, asdict(signature)

    key = key_of(equations, dtype, parallel, tools)
    library, described = compiled(key, generate, tools, parallel)
    return key, kernel_of(library, described)


def key_of(equations: Sequence[Any], dtype: str, parallel: bool, tools: Toolchain) -> str:
    """A name for a kernel that changes with everything its code depends on, and with nothing
    else."""
    parts = [
        FORMAT,
        _sources(),
        version("devito"),
        version("sympy"),
        dtype,
        "openmp" if parallel else "serial",
    ]
    parts += [tools.identity, processor(), *(_identity(e) for e in equations)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def _sources() -> str:
    """A digest of the files that turn equations into code: between two versions of ondax no number
    tells them apart."""
    folder = files(__package__ or "ondax.backends.devito")
    return hashlib.sha256(
        b"".join((folder / f"{name}.py").read_bytes() for name in EMITTERS)
    ).hexdigest()


def _identity(equation: Any) -> str:
    """A text that tells apart all equations that compile to different code."""
    where = [getattr(equation.subdomain, "name", ""), str(equation.implicit_dims)]
    return " ".join(
        [
            type(equation).__name__,
            text(equation.lhs),
            "=",
            text(equation.rhs),
            _layout(equation),
            *where,
        ]
    )


def _layout(equation: Any) -> str:
    """Storage that the equation's text leaves out: time buffers and halos."""
    functions = {f for f in equation.free_symbols if isinstance(f, Function)}
    functions |= {f.function for side in (equation.lhs, equation.rhs) for f in side.find(Function)}
    return str(
        sorted(
            (f.name, str(getattr(f, "save", "")), str(f.halo), getattr(f, "time_order", 0))
            for f in functions
        )
    )


def _generate(equations: Sequence[Any], dtype: str, parallel: bool) -> tuple[str, Signature]:
    options = {"name": "kernel", "language": "openmp" if parallel else "C"}
    with our_devito(), _exact_weights():
        operator = _lowered(list(equations), options)
        parameters: Any = operator.parameters
        # Interior points stand aligned, not arrays: nothing is said of these.
        code = re.sub(r" aligned\([^)]*\)", "", str(operator.ccode))
    arguments = []
    for parameter in parameters:
        if isinstance(parameter, Function):
            kind = "array"
        elif isinstance(parameter, Timer):
            kind = "timers"
        else:
            kind = "real" if "float" in str(parameter.dtype) else "int"
        arguments.append(Argument(parameter.name, kind))
    loops = len(re.findall(r"for \(int time\b", code))
    if loops != 1:
        raise RuntimeError(
            f"Devito made {loops} loops over time of one step's equations: this is a bug in ondax"
        )
    if "y_M" not in {a.name for a in arguments}:
        # The steps of a 2-D grid are short and even: handing out rows one by one costs more than it
        # balances (measured: two threads 0.6 times as fast as one on 281 x 281 points, against 1.4
        # times with equal shares).
        code = code.replace("schedule(dynamic,1)", "schedule(static)")
    signature = Signature(tuple(arguments), dtype)
    return code + callable_from_values(signature), signature


@contextmanager
def _exact_weights() -> Iterator[None]:
    """Within it, Devito keeps the weights of finite differences to the last digit. It rounds them
    to 9 digits otherwise, in float64 too: its schemes would be off by 1e-10. One thread at a time
    may be in it."""
    digits = finite_difference._PRECISION
    finite_difference._PRECISION = WEIGHT_DIGITS
    try:
        yield
    finally:
        finite_difference._PRECISION = digits


def _lowered(equations: list[Any], options: dict[str, Any]) -> Any:
    """Devito's operator; with fewer loops fused where it would fuse too many, and without any of
    its optimisations where even that does not help: slow, and right."""
    ways = (side_by_side, {}), (in_order, {}), (nullcontext, {"opt": "noop"})
    operator, left = None, len(ways)
    for way, more in ways:
        with way():
            operator = Operator(equations, **options, **more)
        left -= 1
        try:
            check_loops(operator)
            check_order(operator, equations)
            break
        except FusedTooFar:
            if not left:
                raise
    return operator
