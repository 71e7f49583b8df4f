"""A progress bar that costs nothing but itself: where it cannot be shown, the inversion goes on
without."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

BROKEN = (
    OSError,
    ValueError,
    AttributeError,
)  # a closed terminal, a pipe whose reader has gone, no standard error at all


class Progress:
    """tqdm, until it fails.

    Args:
        name: of the bar.
        total: iterations.
        shown: whether to show it.
        done: iterations done before.
    """

    def __init__(self, name: str, total: int, shown: bool, done: int = 0) -> None:
        self._bar: Any = None
        if shown:
            self._try(lambda: self._open(name, total, done))

    def _open(self, name: str, total: int, done: int) -> None:
        self._bar = tqdm(desc=name, initial=done, total=total, dynamic_ncols=True)

    def _try(self, action: Any) -> None:
        try:
            action()
        except BROKEN:
            self._bar = None

    def update(self, shown: dict[str, str], steps: int = 1) -> None:
        """Count steps, and show values."""
        if self._bar is not None:
            self._try(lambda: self._bar.set_postfix(shown, refresh=False))
        if self._bar is not None:
            self._try(lambda: self._bar.update(steps))

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._try(self._bar.close)


def say(text: str) -> None:
    """A line between the bars."""
    try:
        tqdm.write(text)
    except BROKEN:
        return
