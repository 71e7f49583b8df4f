"""What is made once, and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _forks


class Once:
    """Things made when first asked for, by key. Compared by identity; copies make their own."""

    def __init__(self) -> None:
        self._made: dict[Any, Any] = {}
        self._lock = _forks.lock()

    def of(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is made under a key, now or before."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()
