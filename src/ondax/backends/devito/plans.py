"""What runs need to know of a program, kept beside the kernels, so that it is not derived again.

Symbols take seconds, in every process. A plan takes a millisecond, if it is found by a key that is
had without them. That key is made of all that the symbols depend on (see `face.content`); where it
is not known, the program is derived.
"""

from __future__ import annotations

import base64
import hashlib
import pickle
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

from ... import _forks
from ...scheme.plan import Keeping, Plan
from . import kernel_cache
from .kernel_cache import Damaged, KernelCacheWarning, Unusable

Program = Any  # a `calculus.program.Program`, whose module is imported where one is derived
PREFIX = "plan-"  # of the names of entries in the cache of kernels


class Planned:
    """A program that is derived when something has to be built of it. Compared by identity.

    Args:
        derive: makes the program.
        content: returns a text that changes with all that the program depends on; None if that is
            not known, or has changed since the program was derived, so that nothing of it is kept.
        recipe: a function and its arguments that give the same in another process, which is what
            is pickled; None if there are none.
    """

    def __init__(
        self,
        derive: Callable[[], Program],
        content: Callable[[], str | None] = lambda: None,
        recipe: tuple[Callable[..., Planned], tuple[Any, ...]] | None = None,
    ) -> None:
        self._derive, self._content, self._recipe = derive, content, recipe
        self._lock = _forks.lock()
        self._known: dict[str, Any] = {}
        self._program: Program | None = None

    @staticmethod
    def of(program: Program) -> Planned:
        """A program at hand."""
        return Planned(lambda: program)

    def __reduce__(self) -> Any:
        if self._recipe is None:
            raise TypeError("this program was made by hand, and cannot be sent to other processes")
        return self._recipe

    @property
    def portable(self) -> bool:
        """Can it be pickled?"""
        return self._recipe is not None

    @property
    def program(self) -> Program:
        """The program, with its symbols."""
        with self._lock:
            if self._program is None:
                self._program = self._derive()
            return self._program

    @cached_property
    def plan(self) -> Plan:
        """What runs need to know of the scheme."""
        return self.piece("plan", lambda: self.program.plan)

    @cached_property
    def transposed(self) -> Plan:
        """What they need to know of its adjoint."""
        return self.piece("transposed", lambda: self.program.transposed_plan)

    def keeping(self, coefficients: tuple[str, ...]) -> Keeping:
        """What a history keeps for the named coefficients."""
        name = f"keeping {' '.join(coefficients)}"
        return self.piece(name, lambda: self.program.keeping(coefficients))

    def piece(self, name: str, make: Callable[[], Any]) -> Any:
        """What has that name: known, kept on disk, or made now and kept. It must hold no
        symbols."""
        found = self.kept(name)
        if found is None:
            found = make()
            self.keep(name, found)
        return found

    def kept(self, name: str) -> Any:
        """What was kept under that name; None if nothing was."""
        if name not in self._known and (content := self._content()) is not None:
            found = _read(_key(content, name))
            if found is not None:
                self._known[name] = found
        return self._known.get(name)

    def keep(self, name: str, what: Any) -> None:
        """Keep something, in place of what had that name."""
        self._known[name] = what
        if (content := self._content()) is not None:
            _write(_key(content, name), what)


def _key(content: str, name: str) -> str:
    """The name of an entry of the cache."""
    return PREFIX + hashlib.sha256(f"{content}\n{name}".encode()).hexdigest()[:32]


def _read(key: str) -> Any:
    """What is kept under a key; None if nothing is, or not all of it."""
    try:
        described = kernel_cache.read(kernel_cache.readable(), key)
        return None if described is None else _decoded(described)
    except Damaged as damage:
        warnings.warn(
            f"the plan {key} beside the compiled kernels is damaged and is made again: {damage}",
            KernelCacheWarning,
            stacklevel=2,
        )
        return None


def _write(key: str, what: Any) -> None:
    """Keep something under a key, in place of what is there; not at all on a disk without room,
    where kernels are kept for this process only."""
    folder = kernel_cache.readable()
    try:
        with kernel_cache.room_for(folder):
            kernel_cache.put_aside(folder / key)
            kernel_cache.write(folder, key, lambda _: _encoded(what), files=())
    except Unusable:
        return


def _encoded(what: Any) -> dict[str, str]:
    """As JSON can hold it. Like the libraries beside it, it is read from a folder that nobody else
    can write to, and after a look at its digest."""
    return {"pickle": base64.b85encode(pickle.dumps(what)).decode()}


def _decoded(described: dict[str, str]) -> Any:
    try:
        return pickle.loads(base64.b85decode(described["pickle"]))
    except Exception as error:  # whatever unpickling meets
        raise Damaged("it cannot be read") from error
