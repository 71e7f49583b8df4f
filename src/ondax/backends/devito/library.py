"""Loading a compiled kernel, and calling it without touching the caller's floating-point state."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import struct
from pathlib import Path
from typing import Any

# A thread that waits for its team should give its core away soon: by default it spins for about a
# millisecond, which made a run 500 times slower when another process wanted the core. Read when
# libgomp loads, with our first OpenMP kernel.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


ENTRY = "kernel_of_values"  # what every shared object of ours has


class FloatState:
    """Saves the calling thread's floating-point environment and restores it.

    Kernels flush denormals to zero for speed and leave it so; NumPy in the same thread would
    follow.
    """

    def __init__(self) -> None:
        self._libm = ctypes.CDLL(ctypes.util.find_library("m"))

    def save(self) -> Any:
        state = ctypes.create_string_buffer(256)  # fenv_t takes 32 bytes on x86-64, 16 on ARM
        self._libm.fegetenv(state)
        return state

    def restore(self, state: Any) -> None:
        self._libm.fesetenv(state)


FLOAT_STATE = FloatState()


def load(path: Path) -> Any:
    """A shared object of ours.

    Raises:
        OSError: it cannot be loaded, or has no function ENTRY; the message says why.
    """
    if is_cut(path.read_bytes()[:64], path.stat().st_size):
        raise OSError(f"{path.name} is shorter than its own header says")
    state = FLOAT_STATE.save()
    try:
        library = ctypes.CDLL(str(path))
        getattr(library, ENTRY)
    except AttributeError as error:
        raise OSError(f"{path.name} has no function `{ENTRY}`") from error
    finally:
        FLOAT_STATE.restore(state)
    return library


def is_cut(header: bytes, size: int) -> bool:
    """Does an ELF file of 64 bits end before its table of sections, which comes last? To load it
    would kill the process."""
    if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
        return False  # another format, or nothing that the loader accepts
    (table,) = struct.unpack_from("<Q", header, 0x28)
    entry, count = struct.unpack_from("<HH", header, 0x3A)
    return size < table + entry * count
