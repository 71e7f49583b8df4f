"""Devito as ondax needs it, whatever its environment variables and its user's settings say.

Devito keeps its settings in one dictionary, `devito.configuration`, filled from `DEVITO_*`
variables when it is first imported. Some change the code that it generates, and some break it:
`DEVITO_MPI=1` needs a package of its own, and `DEVITO_PLATFORM=nvidiaX` makes code for another
machine. It also asks the C compiler for its version whenever it generates code, and would wait for
ever for one that does not answer. Kernels of ondax are kept from run to run, so they must not
depend on any of this. This module is imported before `devito` (see `_symbolic`): it hides those
variables while Devito is imported. For what else a program does with Devito, set
`devito.configuration`.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._symbolic import DEVITO_LOCK


@contextmanager
def _without_variables() -> Iterator[None]:
    theirs = [
        name
        for name in os.environ
        if name.startswith("DEVITO_") or name in ("CC", "CXX", "CFLAGS", "LDFLAGS")
    ]
    hidden = {name: os.environ.pop(name) for name in theirs}
    try:
        yield
    finally:
        os.environ.update(hidden)


with _without_variables():
    from devito import configuration
    from devito.arch.compiler import CustomCompiler
    from devito.logger import logger
    from devito.parameters import init_configuration


class _Unasked(CustomCompiler):
    """What Devito takes for the C compiler. We run our own; this one is made once, and never
    asked."""

    def __new_with__(self, **kwargs: Any) -> _Unasked:
        return self


def _set(values: dict[str, Any]) -> None:
    """Put values in place as they are: setting them the usual way calls what makes them from
    names."""
    for name, value in values.items():
        OrderedDict.__setitem__(configuration, name, value)


def _defaults() -> dict[str, Any]:
    """Devito's settings where nobody has changed any. Whoever imported Devito before us keeps
    theirs."""
    theirs, level = dict(configuration), logger.level
    try:
        with _without_variables():
            _set(configuration._defaults)
            init_configuration()
            compiler = _Unasked(name="custom")
        return {
            **configuration,
            "compiler": compiler,
            "opt-options": {},
        }  # the default is one dictionary, which programs may have changed
    finally:
        _set(theirs)
        logger.setLevel(level)


_OURS = _defaults()


@contextmanager
def our_devito() -> Iterator[None]:
    """Within it, Devito has its default settings and is quiet, and this thread has it to itself."""
    with DEVITO_LOCK:
        theirs, level = dict(configuration), logger.level
        _set(_OURS)
        logger.setLevel("ERROR")
        try:
            yield
        finally:
            _set(theirs)
            logger.setLevel(level)
