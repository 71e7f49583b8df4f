"""Host models as parameters of eager calls, which JAX keeps as long as the process lives."""

from __future__ import annotations

import weakref
from typing import Any


class LooselyHeld:
    """A host that nobody is kept from dropping, as a parameter of eager calls: their callers hold
    it."""

    def __init__(self, host: Any) -> None:
        self._host, self._id = weakref.ref(host), id(host)

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, LooselyHeld) and self.host is other.host is not None

    @property
    def host(self) -> Any:
        return self._host()


def strong(host: Any) -> Any:
    """The host itself."""
    return host.host if isinstance(host, LooselyHeld) else host
