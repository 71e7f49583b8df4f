"""Where compiled kernels are kept from run to run, and how a damaged one is noticed and made again.

    <folder>/                      0700 and ours, or it is not trusted: what lies there is run
        <key>/                     one kernel, complete or absent: renamed into place
            kernel.c               as generated, to be read by people
            kernel.so              what is loaded
            kernel.json            its arguments, and a digest of every file
        building-<key>.lock        one process makes that kernel now, and others wait
        plan-<key>/                what runs need to know of a program: a description, no files
        building-*/                being made; litter, once it is an hour old

Nothing is loaded whose digest is not right: a cut library kills the process, and one flipped bit
may give another gradient. A kernel with anything wrong is put aside and built again, with one line
of warning.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

from ..._files import NOFOLLOW

LITTER_SECONDS = 3600.0  # what is being made is done sooner
DESCRIPTION = "kernel.json"
FILES = ("kernel.c", "kernel.so")
TRIES = 3  # of building in a folder that vanishes meanwhile
WAIT = 0.05  # seconds between two looks at whether another process has made a kernel


class KernelCacheWarning(UserWarning):
    """A compiled kernel was damaged and is built again, or the folder of compiled kernels cannot be
    used."""


class Damaged(Exception):
    """An entry of the cache is not as it was written; the message says in what."""


class Unusable(Exception):
    """A folder cannot keep kernels; the message says why."""


def read(folder: Path, key: str) -> dict[str, Any] | None:
    """The description of an entry whose files are all as they were written; None if there is no
    such entry.

    Raises:
        Damaged: there is, but something is wrong with it.
    """
    entry = folder / key
    if not os.path.lexists(entry):
        return None
    try:
        described = json.loads((entry / DESCRIPTION).read_bytes())
        sealed = described.pop("digest")
        if sealed != _digest(_canonical(described)) or described["key"] != key:
            raise Damaged(f"{DESCRIPTION} is not as it was written")
        for name, digest in described["files"].items():
            if _digest((entry / name).read_bytes()) != digest:
                raise Damaged(f"{name} is not as it was written")
        return described["content"]
    except OSError as error:
        if not os.path.lexists(entry):
            return None  # somebody has emptied the cache in this moment
        raise Damaged(f"{Path(error.filename or DESCRIPTION).name}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{DESCRIPTION} cannot be read") from error


def write(
    folder: Path,
    key: str,
    make: Callable[[Path], Mapping[str, Any]],
    files: Sequence[str] = FILES,
) -> None:
    """Make an entry in a folder of its own and rename it into place, whatever lies there.

    Args:
        folder: the cache.
        key: of the entry.
        make: writes files into a folder and returns what describes them.
        files: which; by default those of a kernel.
    """
    for attempt in range(TRIES):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                dir=folder, prefix="building-", ignore_cleanup_errors=True
            ) as scratch:
                work = Path(scratch)
                content = make(work)
                _publish(work, folder / key, content, files)
                return
        except FileNotFoundError:
            if attempt + 1 == TRIES:
                raise  # it was there and has vanished, again and again


def _publish(work: Path, entry: Path, content: Mapping[str, Any], files: Sequence[str]) -> None:
    made = work / "made"
    made.mkdir()
    for name in files:
        (work / name).replace(made / name)
    digests = {name: _digest((made / name).read_bytes()) for name in files}
    described = {"key": entry.name, "content": dict(content), "files": digests}
    sealed = {**described, "digest": _digest(_canonical(described))}
    (made / DESCRIPTION).write_text(json.dumps(sealed))
    for name in (*files, DESCRIPTION):
        _to_disk(made / name)
    _to_disk(made)
    for _ in range(TRIES):
        try:
            made.rename(entry)  # atomic: another process sees all of it or nothing
            break
        except OSError:
            if _is_whole(entry):
                return  # another process was first
            put_aside(entry)
    else:
        made.rename(entry)
    _to_disk(entry.parent)


def _is_whole(entry: Path) -> bool:
    try:
        return read(entry.parent, entry.name) is not None
    except Damaged:
        return False


def put_aside(entry: Path) -> None:
    """Remove an entry: first its name, in one step, then what it holds, as far as that is
    possible."""
    aside = entry.parent / f"building-{os.urandom(8).hex()}"
    try:
        entry.rename(aside)
    except FileNotFoundError:
        return
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what builds that were killed have left, an hour after."""
    now = time.time()
    for left in folder.glob("building-*"):
        try:
            if now - left.lstat().st_mtime > LITTER_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
                left.unlink(missing_ok=True)  # if it is a lock
        except OSError:
            continue  # its own process was faster


@contextmanager
def alone(folder: Path, key: str) -> Iterator[None]:
    """Within it, no other process makes that entry, so that processes that start together compile
    each kernel once. The system lets the lock go when its process ends, however that ends; where a
    disk knows no locks, all make it, and the first is kept."""
    path = folder / f"building-{key}.lock"
    handle = _locked(path)
    try:
        yield
    finally:
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)


def _locked(path: Path) -> int | None:
    """A file of that name, opened and locked by this process alone; None where that cannot be."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR | NOFOLLOW, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.lexists(path) and os.fstat(handle).st_ino == path.lstat().st_ino:
                return handle
        except BlockingIOError:
            time.sleep(WAIT)
        except OSError:
            os.close(handle)
            return None
        os.close(handle)  # its owner has removed it meanwhile, or has it still


# ---------------------------------------------------------------- which folder


def chosen() -> Path:
    """Where the user wants compiled kernels: `$ONDAX_CACHE_DIR`, else `ondax` in the user's cache
    directory.

    Raises:
        Unusable: there is no home directory.
    """
    named = os.environ.get("ONDAX_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        if named:
            return Path(named).expanduser().absolute()
        return (Path(base) if base else Path.home() / ".cache").absolute() / "ondax"
    except (RuntimeError, OSError) as error:
        raise Unusable(str(error)) from error


def readable() -> Path:
    """Where compiled kernels are looked for: the chosen folder, or one of this process with a
    warning."""
    try:
        return trusted(chosen())
    except Unusable as why:
        return temporary(str(why))


def writable(folder: Path) -> Path:
    """Where compiled kernels are kept: that folder, or one of this process with a warning."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return temporary(f"{folder} cannot be written to")
    return folder


def trusted(folder: Path) -> Path:
    """A folder whose kernels may be run. It is created if it is not there.

    Raises:
        Unusable: others could have laid something there, or nothing can be; the message says why.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        disk = os.statvfs(folder)
    except OSError as error:
        raise Unusable(f"{folder} cannot be made: {error.strerror}") from error
    if status.st_uid not in (os.geteuid(), 0):  # the administrator may keep a folder for all
        raise Unusable(f"{folder} belongs to another user, and what lies there would be run")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unusable(
            f"others may write to {folder}, and what lies there would be run (chmod go-w {folder})"
        )
    if disk.f_flag & getattr(os, "ST_NOEXEC", 0):
        raise Unusable(f"{folder} is on a disk whose files cannot be run (mounted noexec)")
    return folder


@cache
def temporary(why: str) -> Path:
    """A private folder that ends with the process, and a warning that says why."""
    made = Path(tempfile.mkdtemp(prefix="ondax-kernels-"))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a forked child
            shutil.rmtree(made, ignore_errors=True)

    atexit.register(remove)
    warnings.warn(
        f"compiled kernels are kept for this process only: {why}. Set ONDAX_CACHE_DIR to a folder "
        "of yours",
        KernelCacheWarning,
        stacklevel=2,
    )
    return made


@contextmanager
def room_for(folder: Path) -> Iterator[None]:
    """Turns errors of a disk that is full, or has become read-only, into `Unusable`."""
    try:
        yield
    except OSError as error:
        if error.errno in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EROFS,
            errno.EACCES,
            errno.EPERM,
            errno.ENOTDIR,
        ):
            raise Unusable(f"{folder} cannot be written to: {error.strerror}") from error
        raise


def _canonical(described: Mapping[str, Any]) -> bytes:
    return json.dumps(described, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        with (
            suppress(OSError) if path.is_dir() else nullcontext()
        ):  # some disks know no such thing of folders
            os.fsync(handle)
    finally:
        os.close(handle)
