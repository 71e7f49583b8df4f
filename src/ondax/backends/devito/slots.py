"""Which slots of a history hold what."""

from __future__ import annotations

from dataclasses import dataclass

from ...scheme.plan import Kept

FIELD = (-1, 1)  # time indices of a field that gradients of a step may read, counted from the step


@dataclass(frozen=True)
class Slots:
    """The slots of one array of a history.

    If every step is kept, slots follow each other as time indices do. If every k-th step is, there
    is a group of slots for each multiple of k: the time indices that its gradient reads.

        every step   |n-1| n |n+1|n+2|n+3| ...
        every k-th   |n-1| n |n+1|   |n+k-1|n+k|n+k+1|   ...
                      group n/k       group n/k + 1

    Attributes:
        every: every `every`-th step is kept.
        low: the first time index that the gradient of a step reads, counted from that step.
        high: the last one.
    """

    every: int
    low: int
    high: int

    @property
    def width(self) -> int:
        """Slots of a group."""
        return self.high - self.low + 1

    @property
    def group(self) -> int:
        """Slots in a row whose time indices are neighbours, apart from those before and after them;
        1 where all are."""
        return self.width if self.every > 1 else 1

    def groups(self, last: int) -> int:
        """One past the last group that a run up to `last`, exclusive, writes to. The steps before a
        multiple of k may belong to its group though it is not among them."""
        return -(-(last - 1) // self.every) + 1

    def number(self, first: int) -> int:
        """The number of the first slot of a stretch from a step on, a multiple of `every`."""
        return first + self.low if self.every == 1 else self.width * (first // self.every)

    def count(self, first: int, last: int) -> int:
        """Number of slots for the steps `first <= n < last`. If every step is kept, one slot after
        those that the steps fill holds zeros."""
        if self.every == 1:
            return last - first + self.width
        return self.width * (self.groups(last) - first // self.every)


def slots_of(kept: Kept, window: tuple[int, int], every: int) -> Slots:
    """The slots of what is kept.

    Args:
        kept: what.
        window: see `Keeping`.
        every: every `every`-th step is kept.
    """
    if every > 1:
        return Slots(every, *window)
    return Slots(1, *(FIELD if kept.at_next else (0, 0)))
