"""What is sent to workers: pickles out of which what many shots share is taken, to be sent once."""

from __future__ import annotations

import io
import mmap
import pickle
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cloudpickle
import jax
import numpy as np

from ..backends.workers import Shared

LARGE = 1 << 20  # bytes from which a parcel counts as a model
KEPT_LARGE, KEPT_SMALL = 3, 64  # of a misfit with its survey, a model, and how it changes


@dataclass(frozen=True)
class Parcel:
    """A pickle; to Dask, one thing that it does not look into.

    Attributes:
        token: names what is in it.
        content: the pickle, without its large arrays.
        buffers: these arrays, as bytes.
        mapped: whether some of its numbers are a part of a file that is mapped into memory, or were
            changed there only.
    """

    token: str
    content: bytes
    buffers: tuple[np.ndarray, ...]
    mapped: bool = False

    @property
    def nbytes(self) -> int:
        """How much is sent."""
        return len(self.content) + sum(b.nbytes for b in self.buffers)

    def __sizeof__(self) -> int:
        return self.nbytes


class _Pickler(cloudpickle.Pickler):
    """Takes what is `Shared` out, by its token; but for what is pickled now."""

    def __init__(self, file: io.BytesIO, packed: Any, token_of: Callable[[Shared], str]) -> None:
        self.buffers: list[np.ndarray] = []
        self.shared: list[Shared] = []
        self.mapped = False
        self.written: list[np.memmap] = []
        self._packed, self._token_of = packed, token_of
        super().__init__(file, protocol=5, buffer_callback=self._take)

    def _take(self, buffer: pickle.PickleBuffer) -> None:
        self.buffers.append(np.frombuffer(buffer.raw(), np.uint8))

    def persistent_id(self, obj: Any) -> str | None:
        if not isinstance(obj, Shared) or obj is self._packed:
            return None
        self.shared.append(obj)
        return self._token_of(obj)

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not np.memmap:
            return super().reducer_override(obj)
        if not _in_its_file(obj):
            self.mapped = True
            return np.asarray(obj).__reduce_ex__(5)
        if obj.mode != "r":
            self.written.append(obj)
        return _reduced_memmap(obj)


def _in_its_file(array: np.memmap) -> bool:
    """Can a memory-mapped array be read from its file by others? Not if it is a part of one, nor if
    what is written to it stays in this process."""
    return isinstance(array.base, mmap.mmap) and array.filename is not None and array.mode != "c"


def _reduced_memmap(array: np.memmap) -> Any:
    """By the name of its file: its numbers may be more than memory."""
    array.flush()
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return np.memmap, (array.filename, array.dtype, "r", array.offset, array.shape, order)


class Packer:
    """Packs what is shared once, as long as it is in use now and then: on the client."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, _Packed] = OrderedDict()
        self._lock = threading.RLock()

    def flush(self) -> None:
        """See to it that files which are mapped into memory hold what was written there since they
        were sent, by their names."""
        with self._lock:
            for packed in self._known.values():
                for array in packed.written:
                    array.flush()

    def packed(self, what: Any) -> tuple[Parcel, list[Parcel]]:
        """A parcel, and all those without which it cannot be opened."""
        needed: dict[str, Parcel] = {}

        def token_of(shared: Shared) -> str:
            parcel = self._of(shared, token_of)
            needed[parcel.token] = parcel
            return parcel.token

        with self._lock:
            parcel = _packed(what, token_of).parcel
            found = list(needed.values())
            drop_old(self._known, lambda packed: packed.parcel.nbytes)
        return parcel, found

    def _of(self, shared: Shared, token_of: Callable[[Shared], str]) -> Parcel:
        key = type(shared), shared.content
        if key not in self._known:
            self._known[key] = _packed(shared, token_of)
        self._known.move_to_end(key)
        packed = self._known[key]
        for other in packed.shared:
            token_of(other)
        return packed.parcel


class Opener:
    """Opens parcels, and what they share once: on a worker."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._lock = threading.RLock()

    def opened(self, parcel: Parcel, needed: Sequence[Parcel]) -> tuple[Any, list[Any]]:
        """What is in a parcel, and what it shares with others.

        Args:
            parcel: the parcel.
            needed: those without which it cannot be opened.
        """
        by_token = {p.token: p for p in needed}
        with self._lock:
            found = _loads(parcel, lambda token: self._of(token, by_token))
            shared = [self._of(p.token, by_token) for p in needed]
            drop_old(self._known, lambda entry: entry[0])
        return found, shared

    def _of(self, token: str, by_token: Mapping[str, Parcel]) -> Any:
        if token not in self._known:
            parcel = by_token[token]
            made = _loads(parcel, lambda other: self._of(other, by_token))
            self._known[token] = parcel.nbytes, made
        self._known.move_to_end(token)
        return self._known[token][1]


class _Packed(NamedTuple):
    """A parcel, what is shared in it, and mapped files that it names and that may be written to."""

    parcel: Parcel
    shared: list[Shared]
    written: list[np.memmap]


def _packed(what: Any, token_of: Callable[[Shared], str]) -> _Packed:
    """A parcel of something.

    Args:
        what: anything that cloudpickle can pickle.
        token_of: called for each `Shared` in it: packs that too, and returns its token.
    """
    file = io.BytesIO()
    pickler = _Pickler(file, what, token_of)
    pickler.dump(what)
    token, buffers = uuid.uuid4().hex, tuple(pickler.buffers)
    parcel = Parcel(token, file.getvalue(), buffers, pickler.mapped)
    return _Packed(parcel, pickler.shared, pickler.written)


class _Unpickler(pickle.Unpickler):
    def __init__(self, parcel: Parcel, made: Callable[[str], Any]) -> None:
        super().__init__(io.BytesIO(parcel.content), buffers=parcel.buffers)
        self._made = made

    def persistent_load(self, pid: str) -> Any:
        return self._made(pid)


def _loads(parcel: Parcel, made: Callable[[str], Any]) -> Any:
    # Else JAX would make numbers of 32 bits of those of 64, in a process that has not been told of
    # them; shorter ones stay as they are.
    with jax.enable_x64(True):
        return _Unpickler(parcel, made).load()


def drop_old(kept: OrderedDict[Any, Any], size: Callable[[Any], int]) -> None:
    """Drop the oldest beyond a few large and some small ones."""
    large = [k for k, v in kept.items() if size(v) >= LARGE]
    small = [k for k, v in kept.items() if size(v) < LARGE]
    for keys, most in ((large, KEPT_LARGE), (small, KEPT_SMALL)):
        for key in keys[: max(0, len(keys) - most)]:
            del kept[key]
