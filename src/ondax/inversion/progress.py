"""A progress bar whose failures never stop an inversion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from tqdm.auto import tqdm

from .._waiting import BROKEN


@final
class Progress:
    """A bar of tqdm; if it fails, it is not shown any more.

    Args:
        name: of the bar.
        total: number of iterations.
        shown: whether to show a bar at all.
        done: number of iterations that were made before.
    """

    def __init__(self, name: str, total: int, shown: bool, done: int = 0) -> None:
        self._bar: Any = None
        if shown:
            self._try(lambda: self._open(name, total, done))

    def _open(self, name: str, total: int, done: int) -> None:
        self._bar = tqdm(desc=name, initial=done, total=total, dynamic_ncols=True)

    def _try(self, action: Callable[[], Any]) -> None:
        """Do something with the bar; if it fails, give the bar up."""
        try:
            action()
        except BROKEN:
            self._bar = None

    def update(self, shown: dict[str, str], steps: int = 1) -> None:
        """Count steps, and show values by name."""
        if self._bar is not None:
            self._try(lambda: self._bar.set_postfix(shown, refresh=False))
        if self._bar is not None:
            self._try(lambda: self._bar.update(steps))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._try(self._bar.close)
