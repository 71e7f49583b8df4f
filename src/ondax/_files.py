"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
BINARY = getattr(os, "O_BINARY", 0)


@contextmanager
def replacing(path: Any) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of another at one stroke when all is written. If
    something fails before, what was there stays.

    Raises:
        OSError: the disk is full, for example.
    """
    target = os.path.abspath(os.fspath(path))
    # A name that nobody can foresee: otherwise somebody could put a link there, and it would be
    # written to where that leads.
    temporary = f"{target}.{os.urandom(8).hex()}.part"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | NOFOLLOW | BINARY
    handle = os.open(temporary, flags, 0o666)
    try:
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with suppress(OSError):  # flush the new name to disk too; not every system can do this
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
