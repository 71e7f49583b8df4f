"""The table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """A target: at most or at least some value.

    Attributes:
        value: in the row's unit.
        at_most: which side of it is good.
    """

    value: float
    at_most: bool = True

    def holds(self, value: float) -> bool:
        return value <= self.value if self.at_most else value >= self.value

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.value:g}"


def at_most(value: float) -> Limit:
    return Limit(value)


def at_least(value: float) -> Limit:
    return Limit(value, at_most=False)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        case: its letter, or the name of the test.
        what: what is compared.
        value: the figure that counts.
        unit: "x" for ratios.
        limit: its target; None where the figure is reported only.
        ours, theirs: the two medians behind a ratio, in words.
    """

    case: str
    what: str
    value: float
    unit: str = "x"
    limit: Limit | None = None
    ours: str = ""
    theirs: str = ""

    @property
    def missed(self) -> bool:
        return self.limit is not None and not self.limit.holds(self.value)

    @property
    def cells(self) -> tuple[str, ...]:
        figure = f"{self.value:.1e}" if 0 < abs(self.value) < 1e-2 else f"{self.value:.2f}"
        verdict = "" if self.limit is None else "MISS" if self.missed else "pass"
        target = "reported" if self.limit is None else f"{self.limit} {self.unit}"
        return (
            self.case,
            self.what,
            self.ours,
            self.theirs,
            f"{figure} {self.unit}",
            target,
            verdict,
        )


HEADER = ("case", "what", "ondax", "other", "result", "target", "")


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned Markdown."""
    lines = [HEADER, *(row.cells for row in rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(HEADER))]
    lines.insert(1, tuple("-" * w for w in widths))
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value:.3f} s"
