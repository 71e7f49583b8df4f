"""Shared objects: compiled once, kept on disk, and made again where anything is wrong with one."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ... import _forks
from . import kernel_cache
from .compiler import CompilerError, Toolchain
from .kernel import Kernel, kernel_of
from .kernel_cache import Damaged, KernelCacheWarning, Unusable
from .library import load

Generate = Callable[[], tuple[str, Mapping[str, Any]]]

_failed: dict[str, tuple[float, CompilerError]] = {}
"""By key, when a library could not be made, and why: shots that have waited for it need not try
again."""
_locks: dict[str, Any] = defaultdict(_forks.lock)
_lock = _forks.lock()


def compiled(
    key: str, generate: Generate, tools: Toolchain, parallel: bool
) -> tuple[Any, Mapping[str, Any]]:
    """A shared object, compiled now or taken from the cache, and what describes it.

    Args:
        key: a name that changes with everything that the object depends on.
        generate: returns its C source, and what describes it, as JSON can hold it.
        tools: the compiler.
        parallel: with OpenMP.

    Raises:
        CompilerError: the compiler failed.
    """
    came = time.monotonic()
    folder = kernel_cache.readable()
    found = _found(folder, key, warn=False)
    if found is not None:
        return found
    with _lock:
        lock = _locks[key]
    with lock:
        folder = kernel_cache.writable(folder)
        found = _found(folder, key, warn=True)
        if found is not None:
            return found
        when, error = _failed.get(key, (0.0, None))
        if error is not None and when > came:
            raise error
        try:
            with kernel_cache.alone(folder, key):
                # Meanwhile another process may have made it.
                found = _found(folder, key, warn=False)
                return found or _made(folder, key, generate, tools, parallel)
        except CompilerError as error:
            _failed[key] = time.monotonic(), error
            raise


def known(key: str) -> Kernel | None:
    """A kernel that is in the cache, whole; None if there is none."""
    found = _found(kernel_cache.readable(), key, warn=False)
    return None if found is None else kernel_of(*found)


def _found(folder: Path, key: str, warn: bool) -> tuple[Any, Mapping[str, Any]] | None:
    """A library in a folder, if it is there and whole."""
    try:
        described = kernel_cache.read(folder, key)
        if described is None:
            return None
        try:
            return load(folder / key / "kernel.so"), described
        except OSError as error:
            raise Damaged(f"it cannot be loaded ({error})") from error
    except Damaged as damage:
        if warn:
            warnings.warn(
                f"the compiled kernel {folder / key} is damaged and is built again: {damage}",
                KernelCacheWarning,
                stacklevel=2,
            )
        return None


def _made(
    folder: Path, key: str, generate: Generate, tools: Toolchain, parallel: bool
) -> tuple[Any, Mapping[str, Any]]:
    """A library, compiled and kept in a folder; in a temporary one where that has no room."""
    code, description = generate()
    loaded: list[Any] = []

    def make(work: Path) -> Mapping[str, Any]:
        (work / "kernel.c").write_text(code)
        tools.compile(work, parallel)
        try:
            loaded.append(load(work / "kernel.so"))  # before anybody else sees it
        except OSError as error:
            if not work.exists():
                raise
            raise CompilerError(
                f"{tools.command[0]} made a kernel that cannot be loaded: {error}"
            ) from error
        return description

    try:
        with kernel_cache.room_for(folder):
            kernel_cache.sweep(folder)
            kernel_cache.write(folder, key, make)
    except Unusable as why:
        kernel_cache.write(kernel_cache.temporary(str(why)), key, make)
    return loaded[-1], description
