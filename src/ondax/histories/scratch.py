"""Room on a disk for what does not fit into memory: files that have no name.

A file loses its name in the moment in which it is made. The system frees its room when it is
closed, or when the process ends, in whatever way: there is nothing to clean up, and nobody sees a
file that is half written. A forked child closes its own copies, which takes nothing from its
parent.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .. import _forks

SHARE_OF_FILES = 4  # one in so many of the files that the process may have open
STALLED = 120.0  # seconds, after which those that hold the disk are taken not to use it any more
PATIENCE = 1.0  # seconds, after which the disk is looked at again: others give room back, too


FULL = (errno.ENOSPC, errno.EDQUOT)  # what systems say of a disk without room


class DiskFull(OSError):
    """A disk has no room for what is to be written: a history, or the traces of a survey."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.ENOSPC


def default_folder() -> str:
    """The system's folder for temporary files, which `TMPDIR` names."""
    return tempfile.gettempdir()


class File:
    """Arrays of one history or of one run's states, at offsets of their own.

    Args:
        folder: on whose disk it lies.
        size: bytes, at most.

    Raises:
        OSError: it cannot be made; the message names the folder.
    """

    def __init__(self, folder: str, size: int) -> None:
        self.folder, self.size = folder, size
        self._device = _device_of(folder)
        self._handle = _nameless(folder)
        self._held = _Held(size)
        _SPACE.enter(self._device, self._held)
        self.close = weakref.finalize(
            self, _let_go, self._handle, self._device, self._held, os.getpid()
        )

    def write(self, offset: int, array: np.ndarray) -> None:
        """Write a C-contiguous array.

        Raises:
            DiskFull: there is no room on the disk.
            OSError: another fault of the disk.
        """
        view = array.reshape(-1).view(np.uint8).data
        try:
            while len(view):
                done = os.pwrite(self._handle, view, offset)
                view, offset = view[done:], offset + done
                self._held.written += done
                _SPACE.active = time.monotonic()
        except OSError as error:
            if error.errno not in FULL:
                raise OSError(f"folder {self.folder}: cannot be written to ({error})") from error
            raise _full(self.folder, self.size, _free(self.folder)) from None

    def read(self, offset: int, array: np.ndarray) -> None:
        """Fill a C-contiguous array with what was written.

        Raises:
            OSError: a fault of the disk.
        """
        view = array.reshape(-1).view(np.uint8).data
        while len(view):
            done = os.preadv(self._handle, [view], offset)
            if done == 0:
                raise OSError(f"folder {self.folder}: a file there is shorter than was written")
            _SPACE.active = time.monotonic()
            view, offset = view[done:], offset + done


@dataclass(eq=False)
class _Held:
    """Room of one file.

    Attributes:
        size: bytes, at most.
        written: of these, so far: the rest is still to be had from the disk. Bytes that are written
            twice count twice; a file is never written to beyond its size for the first time then.
    """

    size: int
    written: int = 0

    @property
    def owed(self) -> int:
        return max(0, self.size - self.written)


class _Sum(NamedTuple):
    """Room of several files: bytes written, and still to be written."""

    written: int
    owed: int


class _Space:
    """The files of this process, by disk."""

    def __init__(self) -> None:
        self.changed = threading.Condition(_forks.lock())
        self._files: dict[int, set[_Held]] = {}
        self.active = time.monotonic()  # when a file was last used

    def enter(self, device: int, held: _Held) -> None:
        with self.changed:
            self._files.setdefault(device, set()).add(held)
            self.active = time.monotonic()

    def leave(self, device: int, held: _Held) -> None:
        with self.changed:
            self._files.get(device, set()).discard(held)
            self.active = time.monotonic()
            self.changed.notify_all()

    def of(self, device: int) -> _Sum:
        """What this process holds on a disk."""
        with self.changed:
            held = self._files.get(device, set())
            return _Sum(sum(min(h.size, h.written) for h in held), sum(h.owed for h in held))

    def count(self) -> int:
        with self.changed:
            return sum(map(len, self._files.values()))


_SPACE = _Space()
_forks.in_child(lambda: _SPACE.__init__())


def taken(
    folder: str | None, size: int, let_go: Callable[[bool], None], wait: bool = False
) -> File | None:
    """A file of so many bytes.

    Args:
        folder: on whose disk; None for the default.
        size: bytes.
        let_go: drops histories that nobody is using; if it is given True, also those that were not
            used yet.
        wait: wait for those that other runs of this process are using now, rather than give up.

    Returns:
        The file; None where other runs of this process hold too much of the disk.

    Raises:
        DiskFull: nobody else in this process holds what is missing.
        OSError: there is no such folder, or it cannot be written to.
    """
    folder = default_folder() if folder is None else folder
    device = _device_of(folder)
    found = _try(folder, device, size)
    if found is not None:
        return found
    while True:
        # Not under the lock: what is dropped gives its room back, perhaps from another thread.
        let_go(wait)
        with _SPACE.changed:
            found = _try(folder, device, size)
            if found is not None:
                return found
            free = _free(folder)
            stalled = time.monotonic() - _SPACE.active > STALLED
            if stalled or size > free + _SPACE.of(device).written:
                raise _full(folder, size, free)
            if not wait:
                return None
            _SPACE.changed.wait(PATIENCE)


def try_to_take(folder: str | None, size: int) -> File | None:
    """A file of so many bytes, if there is room for it now."""
    folder = default_folder() if folder is None else folder
    return _try(folder, _device_of(folder), size)


def _try(folder: str, device: int, size: int) -> File | None:
    """A file, if the disk has room for it, and the process may open one more."""
    with _SPACE.changed:
        files = _SPACE.count()
        if size > _free(folder) - _SPACE.of(device).owed or files >= _most_files():
            return None
        try:
            return File(folder, size)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and files:
                return None
            raise


def room(folder: str | None) -> int:
    """Bytes that are free on a disk, without what is still to be written there."""
    folder = default_folder() if folder is None else folder
    return max(0, _free(folder) - _SPACE.of(_device_of(folder)).owed)


def _free(folder: str) -> int:
    return shutil.disk_usage(folder).free


def _device_of(folder: str) -> int:
    """The number of a folder's disk.

    Raises:
        OSError: there is no such folder.
    """
    try:
        return os.stat(folder).st_dev
    except OSError as error:
        raise _unusable(folder, error) from None


def _nameless(folder: str) -> int:
    """The handle of a new file without a name."""
    try:
        if hasattr(os, "O_TMPFILE"):
            try:
                return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
            except OSError as error:  # not every file system has such files
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                    raise
        handle, path = tempfile.mkstemp(prefix="ondax-history-", dir=folder)
        os.unlink(path)
        return handle
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        if error.errno in FULL:
            raise _full(folder, 0, _free(folder)) from None
        raise _unusable(folder, error) from None


def _let_go(handle: int, device: int, held: _Held, owner: int) -> None:
    with suppress(OSError):
        os.close(handle)
    if os.getpid() == owner:  # a forked child counts its own
        _SPACE.leave(device, held)


def _most_files() -> int:
    try:
        import resource
    except ImportError:  # not on Windows
        return 128
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else max(1, soft // SHARE_OF_FILES)


def _unusable(folder: str, error: OSError) -> OSError:
    return OSError(
        f"folder {folder}: histories cannot be kept there ({error.strerror or error}). Give a "
        "folder that can be written to, Settings(folder=...), or set TMPDIR"
    )


def _full(folder: str, size: int, free: int) -> DiskFull:
    return DiskFull(
        f"the disk of folder {folder} is full: {size} bytes are needed for what is kept of one "
        f"shot, and {free} are free. Make room there, give a folder on another disk, "
        'Settings(folder=...), or take history="auto", which needs no disk'
    )
