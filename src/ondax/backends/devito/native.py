"""C code of our own, beside what is generated: stepping two kernels in turns, and half precision.

It is one file, `native.c`, compiled when it is first needed and kept with the kernels.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any

import numpy as np

from .compiled import compiled
from .compiler import processor, toolchain
from .kernel import Kernel, Prepared, run
from .slots import Slots

SOURCE = "native.c"


class _Call(ctypes.Structure):
    """`struct call` of native.c."""

    _fields_ = (
        ("run", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("last", ctypes.c_void_p),
    )


class _History(ctypes.Structure):
    """`struct history` of native.c."""

    _fields_ = (("data", ctypes.c_void_p), ("base", ctypes.c_void_p), ("stride", ctypes.c_int64))


@dataclass(frozen=True)
class Turns:
    """Which steps of a run go by the kernel that works on the history, and where that finds it; see
    `in_turns` of native.c.

    Attributes:
        first: first step.
        last: one past the last step.
        backward: in time.
        slots: of the arrays of the history, which all have groups alike.
        reach: first and last of a group's steps, counted from the multiple of `every` that the
            group belongs to.
        groups: one past the last group that has slots.
        shift: what kernels' step numbers are larger by.
    """

    first: int
    last: int
    backward: bool
    slots: Slots
    reach: tuple[int, int]
    groups: int
    shift: int = 0


def in_turns(
    on_history: tuple[Kernel, Prepared],
    others: tuple[Kernel, Prepared],
    histories: Mapping[str, np.ndarray],
    turns: Turns,
) -> None:
    """Run some steps by one kernel and the others by another.

    Args:
        on_history: the kernel that writes or reads the history, and its arguments. Those that are
            arrays of the history stand for group 0.
        others: the kernel that does not, and its arguments.
        histories: the arrays of the history, by name.
        turns: which steps.
    """
    kernel, call = on_history
    moved = [
        _History(call.address(name), call.data(name), array[0].nbytes)
        for name, array in histories.items()
        if call.has(name)
    ]
    calls = [
        _Call(
            ctypes.cast(k.function, ctypes.c_void_p),
            ctypes.addressof(c.values),
            c.address("time_m"),
            c.address("time_M"),
        )
        for k, c in ((kernel, call), others)
    ]
    t, slots = turns, turns.slots
    run(
        lambda: _native().in_turns(
            *map(ctypes.byref, calls),
            (_History * len(moved))(*moved),
            len(moved),
            *(t.first, t.last - 1, int(t.backward), slots.every),
            *(*t.reach, slots.low, slots.width, t.groups, t.shift),
        )
    )


@dataclass(frozen=True)
class Halves:
    """Arrays packed into 16 bits a value; see native.c. It is a `Packing`.

    Attributes:
        group: see `Slots`. Only packing asks.
    """

    group: int = 1

    def pack(self, values: np.ndarray, packed: np.ndarray) -> np.ndarray:
        """See `Packing.pack`."""
        chunk = ctypes.c_int64.in_dll(_native(), "chunk").value
        exponents = np.empty((len(packed), -(-values[0].size // chunk)), np.int32)
        self._call("pack", values, packed, (values, packed, exponents), self.group)
        return exponents

    def unpack(self, packed: np.ndarray, exponents: np.ndarray, values: np.ndarray) -> None:
        """See `Packing.unpack`."""
        self._call("unpack", values, packed, (packed, exponents, values))

    def _call(
        self,
        name: str,
        values: np.ndarray,
        packed: np.ndarray,
        arrays: Sequence[np.ndarray],
        *more: int,
    ) -> None:
        whole = all(a.flags.c_contiguous for a in arrays)
        alike = packed.shape == (len(values) + 1, *values.shape[1:])
        if not (whole and alike and packed.dtype == np.uint16):
            raise TypeError("arrays that cannot be packed: this is a bug in ondax")
        real = {np.dtype("float32"): "float", np.dtype("float64"): "double"}[values.dtype]
        function = getattr(_native(), f"{name}_{real}")
        addresses = [ctypes.c_void_p(a.__array_interface__["data"][0]) for a in arrays]
        counts = map(ctypes.c_int64, (len(values), values[0].size, *more))
        run(partial(function, *addresses, *counts))


@cache
def _native() -> Any:
    """The compiled library."""
    source = (files(__package__ or "ondax.backends.devito") / SOURCE).read_text()
    tools = toolchain()
    parts = "\n".join([source, tools.identity, processor()])
    key = hashlib.sha256(parts.encode()).hexdigest()[:32]
    library, _ = compiled(key, lambda: (source, {}), tools, parallel=False)
    return library
