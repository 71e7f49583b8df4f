"""The examination: what is looked at, in which order, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .finding import Finding, found_by
from .gradients import gradients
from .installed import devices, packages, python
from .kernels import cache, compiler_found, compiler_works
from .resources import memory, threads
from .variables import variables

Check = Callable[[], Iterable[Finding]]
LOOKS: dict[str, Check] = {
    "python": python,
    "packages": packages,
    "JAX": devices,
    "variable": variables,
    "threads": threads,
    "memory": memory,
    "cache": cache,
    "compiler": compiler_found,
}
TRIALS: dict[str, tuple[str, Check]] = {
    "compiling": ("compiling small programs", compiler_works),
    "gradient": (
        "building kernels anew, for gradients of a small shot: some ten seconds",
        gradients,
    ),
}


@dataclass
class _Told:
    """Counts what is told."""

    failures: int = 0
    warnings: int = 0

    def tell(self, finding: Finding) -> None:
        print(finding, flush=True)
        self.failures += finding.verdict == "fail"
        self.warnings += finding.verdict == "warn"


def examine(trials: bool) -> int:
    """Print what ondax finds on this machine, a line each, and what to do about what is amiss.

    Args:
        trials: try the compiler, and gradients, too: some ten seconds.

    Returns:
        An exit status: 0 if nothing failed, else 1.
    """
    told = _Told()
    for about, check in LOOKS.items():
        for finding in found_by(about, check):
            told.tell(finding)
    for about, (announced, check) in TRIALS.items() if trials else ():
        if check is gradients and told.failures:
            told.tell(Finding(about, "skip", "not tried until the above is mended"))
            continue
        print(f"...   {about:<10} {announced}", flush=True)
        for finding in found_by(about, check):
            told.tell(finding)
    print(f"{_count(told.failures, 'failure')}, {_count(told.warnings, 'warning')}")
    return 1 if told.failures else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
