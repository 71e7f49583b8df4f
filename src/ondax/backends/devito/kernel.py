"""Calling a compiled kernel through ctypes, without the GIL and without touching the caller's
floating-point state."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .library import ENTRY, FLOAT_STATE
from .mirror import ghost_rows

BLOCK = 8  # edge of the cache blocks of 3-D loops; others up to 32 are within 3 %
MAX_SECTIONS = 256  # timed sections in one kernel: far more than any has


class Array(ctypes.Structure):
    """Devito's description of an array; kernels read `data` and `size` only."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.POINTER(ctypes.c_int)),
        ("nbytes", ctypes.c_ulong),
        ("npsize", ctypes.c_void_p),
        ("dsize", ctypes.c_void_p),
        ("hsize", ctypes.c_void_p),
        ("hofs", ctypes.c_void_p),
        ("oofs", ctypes.c_void_p),
        ("dmap", ctypes.c_void_p),
    )


@cache
def _sizes(shape: tuple[int, ...]) -> Any:
    return (ctypes.c_int * len(shape))(*shape)


def _implied(name: str, scalars: Mapping[str, float]) -> int | float:
    """The value of an argument that the generated code has named: block edges, ghost rows, widths
    of strips.

    Raises:
        KeyError: there is no such argument.
    """
    if "_blk" in name:
        return BLOCK
    if (rows := ghost_rows(name)) is not None:
        return rows
    if strip := re.fullmatch(r"([xyz])_([lr])tkn\d+", name):
        return scalars[f"{strip[1]}_{'low' if strip[2] == 'l' else 'high'}"]
    raise KeyError(name)


@dataclass(frozen=True)
class Argument:
    """One argument of a compiled kernel.

    Attributes:
        name: as in the equations, or Devito's bounds (`x_m`, `x_M`, ...).
        kind: "array", "int", "real" or "timers".
    """

    name: str
    kind: str


@dataclass(frozen=True)
class Signature:
    """How to call a compiled kernel: its arguments in order, and their floating-point type."""

    arguments: tuple[Argument, ...]
    dtype: str


class Kernel:
    """A compiled kernel: `kernel(arrays, scalars)`.

    Args:
        library: the shared object.
        signature: the arguments of its function.
    """

    def __init__(self, library: Any, signature: Signature) -> None:
        self.signature = signature
        self.dtype = np.dtype(signature.dtype)
        self._library = library
        self.function = getattr(library, ENTRY)
        self.function.restype = ctypes.c_int
        self._real = ctypes.c_float if self.dtype == np.float32 else ctypes.c_double

    def missing(self, arrays: Mapping[str, np.ndarray], prefix: str) -> list[str]:
        """The arrays of the signature whose names begin so and that are not given."""
        return [
            a.name
            for a in self.signature.arguments
            if a.name.startswith(prefix) and a.name not in arrays
        ]

    def __call__(
        self,
        arrays: Mapping[str, np.ndarray],
        scalars: Mapping[str, float],
        offsets: Mapping[str, int] | None = None,
    ) -> None:
        """Run the time loop; see `prepared` for the arguments."""
        call = self.prepared(arrays, scalars, offsets)
        run(lambda: self.function(call.values))

    def prepared(
        self,
        arrays: Mapping[str, np.ndarray],
        scalars: Mapping[str, float],
        offsets: Mapping[str, int] | None = None,
    ) -> Prepared:
        """The arguments of a call.

        Args:
            arrays: every array of the signature, C-contiguous, as allocated (halos
                included). The size of the last axis may exceed what the loops visit.
            scalars: bounds, spacings, time step.
            offsets: bytes to add to the address of arrays whose first element is not that of time
                index 0.

        Raises:
            TypeError: an array of the wrong type or layout: kernels do not check, they corrupt
                memory.
            KeyError: an argument is missing.
        """
        places: dict[str, Any] = {}
        for argument in self.signature.arguments:
            name = argument.name
            if argument.kind == "array":
                places[name] = self._describe(name, arrays[name], (offsets or {}).get(name, 0))
            elif argument.kind == "timers":
                places[name] = (ctypes.c_double * MAX_SECTIONS)()
            else:
                value = scalars[name] if name in scalars else _implied(name, scalars)
                places[name] = (
                    ctypes.c_int(int(value)) if argument.kind == "int" else self._real(value)
                )
        return Prepared(places)

    def _describe(self, name: str, array: np.ndarray, offset: int) -> Array:
        wanted = np.dtype(np.int32) if "_first_" in name else self.dtype
        if array.dtype != wanted or not array.flags.c_contiguous:
            raise TypeError(
                f"kernel argument {name}: need contiguous {wanted}, got {array.dtype} "
                f"{array.strides}"
            )
        address = array.__array_interface__["data"][0]  # a tenth of the time of array.ctypes
        if (address % wanted.itemsize or offset % wanted.itemsize) and array.size:
            raise TypeError(f"kernel argument {name} is not aligned to its values")
        return Array(data=address + offset, size=_sizes(array.shape), nbytes=array.nbytes)


class Prepared:
    """The arguments of a call, which can be made again and again with some of them changed.

    Args:
        places: where each argument stands, by name, in the order of the signature.

    Attributes:
        values: the addresses of the arguments, as the C function takes them. They hold as long as
            this object lives.
    """

    def __init__(self, places: Mapping[str, Any]) -> None:
        self._places = places
        self.values = (ctypes.c_void_p * len(places))(*map(ctypes.addressof, places.values()))

    def has(self, name: str) -> bool:
        """Is there such an argument?"""
        return name in self._places

    def address(self, name: str) -> int:
        """Where an argument stands. A description of an array begins with the address of its
        data."""
        return ctypes.addressof(self._places[name])

    def data(self, name: str) -> int:
        """The address of an array's data."""
        return self._places[name].data


def run(call: Callable[[], int]) -> None:
    """Call C code of ours, which may change the caller's floating-point state.

    Raises:
        RuntimeError: it failed.
    """
    state = FLOAT_STATE.save()
    try:
        code = call()
    finally:
        FLOAT_STATE.restore(state)
    if code != 0:
        raise RuntimeError(f"a kernel failed with code {code}")


def callable_from_values(signature: Signature) -> str:
    """C source of a function of one argument, the addresses of all arguments of `kernel`. Whatever
    the kernel, it is called alike, so that other C code can call it."""
    reals = {"float32": "float", "float64": "double"}
    types = {"int": "int", "real": reals[signature.dtype]}
    values = [
        f"*({types[argument.kind]} *) values[{i}]" if argument.kind in types else f"values[{i}]"
        for i, argument in enumerate(signature.arguments)
    ]
    return f"\n\nint {ENTRY}(void ** values)\n{{\n  return kernel({', '.join(values)});\n}}\n"
