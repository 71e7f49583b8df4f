"""Environment variables that change how ondax runs: what each of those that are set does."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator

from .._waiting import PROGRESS
from .finding import Finding

OURS = {
    "ONDAX_CFLAGS": "flags of the compiler, in place of ours for speed",
    "ONDAX_COMPILER_SECONDS": "how long one kernel may take to compile",
    "ONDAX_CACHE_DIR": "where compiled kernels are kept",
    PROGRESS: "whether to say on standard error what takes longer than a second",
}
OTHERS = {
    "CC": "the C compiler",
    "XDG_CACHE_HOME": "compiled kernels are kept in its folder ondax",
    "TMPDIR": "where the compiler keeps what it needs for a moment",
    "JAX_PLATFORMS": "what JAX runs on",
    "JAX_ENABLE_X64": "whether JAX has float64",
    "XLA_FLAGS": "read by XLA",
    "OMP_NUM_THREADS": "not read: ox.Settings(threads=...) sets ondax's threads",
}
FOR_TESTS = "ONDAX_TEST_"


def variables() -> Iterator[Finding]:
    """Those that are set."""
    names = [name for name in (*OURS, *OTHERS) if os.environ.get(name)]
    for name in names:
        value = os.environ[name]
        remedy = _objection(name, value)
        what = f"{name}={value}: {(OURS | OTHERS)[name]}"
        yield Finding("variable", "fail" if remedy else "ok", what, remedy)
    unknown = [
        n
        for n in os.environ
        if n.startswith("ONDAX_") and n not in OURS and not n.startswith(FOR_TESTS)
    ]
    for name in sorted(unknown):
        known = {n.removeprefix("ONDAX_"): n for n in OURS}
        meant = difflib.get_close_matches(name.removeprefix("ONDAX_"), known, 1)
        if meant:
            remedy = f"rename it, if you mean {known[meant[0]]}; else unset it"
        else:
            remedy = f"unset it: ondax knows {', '.join(OURS)}"
        yield Finding("variable", "warn", f"{name} is not a variable of ondax", remedy)
    ignored = sorted(n for n in os.environ if n.startswith("DEVITO_"))
    if ignored:
        what = f"{', '.join(ignored)}: not read, kernels of ondax do not depend on them"
        yield Finding("variable", "ok", what)
    if not names and not unknown:
        yield Finding("variable", "ok", "none of those is set that change how ondax runs")


def _objection(name: str, value: str) -> str:
    """What to do about a value that ondax does not take; empty where it does."""
    if name == PROGRESS and value not in ("0", "1"):
        return f"set {name} to 1 or 0, or unset it"
    if name == "ONDAX_COMPILER_SECONDS":
        try:
            good = float(value) > 0.0
        except ValueError:
            good = False
        return "" if good else f"set {name} to a number of seconds, or unset it"
    return ""
