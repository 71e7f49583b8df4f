"""Arrays of an `.npz` file, mapped into memory: the system reads what is looked at, and takes it
out of memory again where that is short."""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
from typing import Any

import numpy as np

LOCAL_HEADER = 30  # bytes, before the name and what else a zip file says of a member
LENGTHS = struct.Struct("<26xHH")  # of the name and of the rest, in that header


def mapped(path: Any) -> dict[str, np.ndarray]:
    """The arrays by name; those that are not compressed are mapped, and must not be written to.

    Raises:
        OSError: there is no such file.
        ValueError, KeyError, zipfile.BadZipFile: it is no such file, or damaged.
    """
    found = {}
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        if os.fstat(file.fileno()).st_size == 0:
            raise ValueError("it is empty")
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for member in archive.infolist():
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }.get(version)
                if read is None:
                    raise ValueError(f"{member.filename} is of NumPy's format {version}")
                shape, by_column, dtype = read(stream)
                if dtype.hasobject:
                    raise ValueError(f"{member.filename} holds objects")
                before = stream.tell()
                count = int(np.prod(shape, dtype=np.int64))
                if member.compress_type == zipfile.ZIP_STORED and count:
                    name, rest = LENGTHS.unpack_from(memory, member.header_offset)
                    start = member.header_offset + LOCAL_HEADER + name + rest + before
                    values = np.frombuffer(memory, dtype, count, start)
                else:
                    values = np.frombuffer(stream.read(), dtype, count)
            values = values.reshape(shape[::-1]).T if by_column else values.reshape(shape)
            found[member.filename.removesuffix(".npy")] = values
    return found


def let_go(array: np.ndarray) -> None:
    """Take what was looked at of a mapped array's file out of this process's memory; nothing, if
    the array is not mapped."""
    base: Any = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    memory = base.obj if isinstance(base, memoryview) else base
    if isinstance(memory, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED)
