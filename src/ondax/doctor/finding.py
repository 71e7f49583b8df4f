"""What the doctor has found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, final

from ..backends.devito.compiler import CompilerError


@final
@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: what was looked at, in a word.
        verdict: "ok"; "warn", where ondax works, but worse than it could; "fail", where something
            of it does not work; or "skip", where another finding has to be mended first.
        found: what was found.
        remedy: what to do about it. Warnings and failures have one.
    """

    about: str
    verdict: Literal["ok", "warn", "fail", "skip"]
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:<5} {self.about:<10} {self.found}"
        return f"{line}\n{'':16} -> {self.remedy}" if self.remedy else line


def found_by(about: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds; a finding, not an exception, where the check itself fails."""
    try:
        yield from check()
    except Exception as error:
        yield Finding(
            about,
            "fail",
            f"it could not be looked at: {type(error).__name__}: {in_a_line(error)}",
            "report this line as an error of ondax",
        )


def in_a_line(error: BaseException) -> str:
    """What an exception says, in one line. Of what a compiler has said, the first line that names
    an error is the most telling."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if len(lines) == 1 or not isinstance(error, CompilerError):
        return lines[0].removesuffix(":")
    telling = (line for line in lines[1:] if "error" in line.lower())
    return f"{lines[0]} {next(telling, lines[-1])}"
