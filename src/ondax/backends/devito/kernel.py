"""Calling a compiled kernel through ctypes, without the GIL and without touching the caller's
floating-point state."""

from __future__ import annotations

import ctypes
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .library import ENTRY, FLOAT_STATE
from .names import ghost_rows

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


@cache
def _implied(name: str) -> int | str:
    """The value of an argument that the generated code has named, or the scalar that it is: block
    edges, ghost rows, widths of strips.

    Raises:
        KeyError: there is no such argument.
    """
    if "_blk" in name:
        return BLOCK
    if (rows := ghost_rows(name)) is not None:
        return rows
    if strip := re.fullmatch(r"([xyz])_([lr])tkn\d+", name):
        return f"{strip[1]}_{'low' if strip[2] == 'l' else 'high'}"
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
        self._spare: list[Prepared] = []

    @cache  # noqa: B019 (kernels live as long as the process)
    def named(self, prefix: str) -> tuple[str, ...]:
        """The arguments of the signature whose names begin so."""
        return tuple(a.name for a in self.signature.arguments if a.name.startswith(prefix))

    def __call__(
        self,
        arrays: Mapping[str, np.ndarray],
        scalars: Mapping[str, float],
        offsets: Mapping[str, int] | None = None,
    ) -> None:
        """Run the time loop; see `prepared` for the arguments."""
        with self.prepared(arrays, scalars, offsets) as call:
            run(lambda: self.function(call.values))

    @contextmanager
    def prepared(
        self,
        arrays: Mapping[str, np.ndarray],
        scalars: Mapping[str, float],
        offsets: Mapping[str, int] | None = None,
    ) -> Iterator[Prepared]:
        """The arguments of a call, as long as the context lasts.

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
        try:
            call = self._spare.pop()  # of an earlier call; no other thread has them now
        except IndexError:
            call = Prepared(self.signature, self.dtype)
        call.set(arrays, scalars, offsets or {})
        yield call
        self._spare.append(call)


def kernel_of(library: Any, described: Mapping[str, Any]) -> Kernel:
    """A kernel from its shared object and what describes it in the cache, its signature."""
    arguments = tuple(Argument(**a) for a in described["arguments"])
    return Kernel(library, Signature(arguments, described["dtype"]))


class Prepared:
    """The arguments of one call, as C takes them. Most of those of the next call are the same, as
    arrays come from pools: they stay as they are.

    Args:
        signature: of the kernel.
        dtype: its floating-point type.

    Attributes:
        values: the addresses of all arguments, in order. They hold as long as this object lives.
    """

    def __init__(self, signature: Signature, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        real = ctypes.c_float if dtype == np.float32 else ctypes.c_double
        self._places: dict[str, Any] = {}
        self._arrays: list[tuple[str, Array]] = []
        self._scalars: list[tuple[str, Any, type]] = []
        for argument in signature.arguments:
            name = argument.name
            if argument.kind == "array":
                place = Array()
                self._arrays.append((name, place))
            elif argument.kind == "timers":
                place = (ctypes.c_double * MAX_SECTIONS)()
            else:
                number = int if argument.kind == "int" else float
                place = ctypes.c_int() if argument.kind == "int" else real()
                self._scalars.append((name, place, number))
            self._places[name] = place
        addresses = map(ctypes.addressof, self._places.values())
        self.values = (ctypes.c_void_p * len(self._places))(*addresses)
        # What each array was described from: weakly, as histories may be large.
        self._described: list[tuple[Any, int]] = [(_nothing, 0)] * len(self._arrays)

    def set(
        self,
        arrays: Mapping[str, np.ndarray],
        scalars: Mapping[str, float],
        offsets: Mapping[str, int],
    ) -> None:
        """See `Kernel.prepared`."""
        for n, (name, described) in enumerate(self._arrays):
            array, offset = arrays[name], offsets.get(name, 0)
            known, at = self._described[n]
            if known() is not array or at != offset:
                self._describe(described, name, array, offset)
                self._described[n] = (weakref.ref(array), offset)
        for name, place, number in self._scalars:
            given = scalars.get(name)
            if given is None:
                implied = _implied(name)
                given = scalars[implied] if isinstance(implied, str) else implied
            place.value = number(given)

    def has(self, name: str) -> bool:
        """Is there such an argument?"""
        return name in self._places

    def address(self, name: str) -> int:
        """Where an argument stands. A description of an array begins with the address of its
        data."""
        return ctypes.addressof(self._places[name])

    def data(self, name: str) -> int:
        """The address of an array's data. Who changes it must put it back."""
        return self._places[name].data

    def _describe(self, described: Array, name: str, array: np.ndarray, offset: int) -> None:
        wanted = np.dtype(np.int32) if "_first_" in name else self._dtype
        if array.dtype != wanted or not array.flags.c_contiguous:
            raise TypeError(
                f"kernel argument {name}: need contiguous {wanted}, got {array.dtype} "
                f"{array.strides}"
            )
        address = array.__array_interface__["data"][0]  # a tenth of the time of array.ctypes
        if (address % wanted.itemsize or offset % wanted.itemsize) and array.size:
            raise TypeError(f"kernel argument {name} is not aligned to its values")
        described.data, described.size = address + offset, _sizes(array.shape)
        described.nbytes = array.nbytes


def _nothing() -> None:
    """Stands for a reference to an array that is gone."""


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
