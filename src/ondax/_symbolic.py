"""Devito and SymPy, imported when a scheme is derived.

That takes most of a second, and most processes need neither: what a run has to know of its scheme
is kept beside the compiled kernels (see `backends.devito.plans`).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from . import _forks

DEVITO_LOCK = _forks.lock()
"""Devito cannot build from several threads, and has one set of settings for all."""


class Later:
    """A module that is imported when something of it is first asked for.

    Args:
        name: of the module.
        before: of a module that must be imported first; empty for none.
    """

    def __init__(self, name: str, before: str = "") -> None:
        self._name, self._before = name, before

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # whoever looks at this object does not want the module
            raise AttributeError(attribute)
        if self._before:
            import_module(self._before)
        value = getattr(import_module(self._name), attribute)
        setattr(self, attribute, value)
        return value


devito: Any = Later("devito", before="ondax._devito_settings")
sympy: Any = Later("sympy")
