"""The file in which an inversion is saved, so that it can be resumed.

It is one `.npz` file without pickles, so `numpy.load(path)["model"]` reads it anywhere. It holds
the leaves of the model and of the optimiser's state by name, the history, and a JSON text with the
fingerprints of the problem. Each save writes a temporary file with a random name beside it, flushes
that to disk and renames it. So a process that is killed at any moment leaves either the old state
or the new one.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .. import _forks
from .._files import NOFOLLOW, replacing
from .fingerprint import Problem

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

_FORMAT = 4


def save_state(path: Path, tree: PyTree, problem: Problem) -> None:
    """Write a tree of arrays, and the fingerprints of the problem it belongs to, at one stroke.

    Args:
        path: of the file.
        tree: a tree of arrays, whose leaves get their paths in the tree as names.
        problem: the problem.

    Raises:
        OSError: the disk is full, for example; the state saved before is then still there.
    """
    write_arrays(path, tree, {"problem": problem.fingerprints, "histories": problem.histories})


def write_arrays(path: Path, tree: PyTree, header: dict[str, Any]) -> None:
    """Write a tree of arrays, and what can be said in JSON, at one stroke.

    Raises:
        OSError: the disk is full, for example; the file that was there before then still is.
    """
    said = json.dumps({"format": _FORMAT, **header})
    arrays: dict[str, Any] = {name: _to_numpy(leaf) for name, leaf in _named_leaves(tree)}
    with replacing(path) as file:
        np.savez(file, header=np.array(said), **arrays)


def load_state(path: Path, like: PyTree, problem: Problem) -> PyTree:
    """Read a tree of arrays back.

    Args:
        path: of the file.
        like: a tree of the structure, shapes and dtypes that are expected.
        problem: the problem that the state has to belong to.

    Returns:
        A tree with the structure of `like`.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: the file is not such a state, is damaged, or belongs to another problem; the
            message says in which parts the problems differ.
    """
    try:
        arrays, header = _read(path)
        fingerprints = {str(name): str(value) for name, value in header["problem"].items()}
        missing = [name for name, _ in _named_leaves(like) if name not in arrays]
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy, zipfile and json raise errors of many types
        raise ValueError(
            f"{_no_state(path)} ({type(error).__name__}: {_first_line(error)}). {_REMEDY}"
        ) from error
    differing = problem.differing(fingerprints)
    if differing:
        raise ValueError(
            f"{path} belongs to another inversion, which differs in {', '.join(differing)}. "
            "Restore what it was saved with to go on; or delete the file or give another path to "
            "start afresh; or, if you vouch that the difference does not matter, pass "
            f"trust={tuple(differing)!r}"
        )
    if missing:
        raise ValueError(f"{_no_state(path)} (it lacks {', '.join(missing)}). {_REMEDY}")
    try:
        leaves = [_from_numpy(name, arrays[name], leaf) for name, leaf in _named_leaves(like)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{_no_state(path)} ({_first_line(error)}). {_REMEDY}") from error
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a file holds: arrays by name, and what is said beside them.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is no such file, or damaged.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy, zipfile and json raise errors of many types
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise ValueError(f"{_no_state(path)} ({reason})") from error


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("header")))
    if header["format"] != _FORMAT:
        raise ValueError(f"its format is {header['format']}, this version of ondax reads {_FORMAT}")
    return arrays, header


_REMEDY = "Delete it, or give another path to `save`, to start afresh"


def _first_line(error: Exception) -> str:
    """The first line of an error's message; some have none."""
    return (str(error).splitlines() or [""])[0]


def _no_state(path: Path) -> str:
    """The beginning of the message for a file that cannot be read."""
    return f"{path} is not a state saved by ox.fwi or ox.lsrtm, or it is damaged"


@contextmanager
def only_writer(path: Path | None, argument: str = "save") -> Iterator[None]:
    """Within it, no other call can write to the same path: it holds a lock file beside that.

    Without effect where the system or the disk has no locks, or if `path` is None.

    Args:
        path: of the file.
        argument: by which the user has named it.

    Raises:
        ValueError: another call holds the lock, in this process or another.
    """
    if path is None or fcntl is None:
        yield
        return
    beside = path.with_name(path.name + ".lock")
    try:
        handle = _locked(beside)
    except BlockingIOError as error:
        raise ValueError(
            f"{argument}={str(path)!r}: process {error.filename} is writing to it. Let it end, or "
            f"give another path to `{argument}`"
        ) from None
    except OSError:  # the disk has no locks (over a network, for example), or no room for a file
        handle = None
    if handle is None:
        yield
        return
    owner = os.getpid()
    _HELD.add(handle)
    try:
        yield
    finally:
        if os.getpid() == owner:  # not in a forked child, where `_let_go` has closed the handle
            _HELD.discard(handle)
            with suppress(OSError):
                os.unlink(beside)
            os.close(handle)


_HELD: set[int] = set()  # handles of the lock files that this process holds


def _let_go() -> None:
    """In a forked child, close the handles of locks: they are the parent's, and the child must not
    keep them locked after the parent has ended."""
    for handle in _HELD:
        with suppress(OSError):
            os.close(handle)
    _HELD.clear()


_forks.in_child(_let_go)


def _locked(beside: Path) -> int:
    """Open and lock a file; the system removes the lock when the process ends, in whatever way.

    Args:
        beside: path of the lock file.

    Returns:
        The handle of the file, in which the number of this process is written.

    Raises:
        BlockingIOError: another call has locked it; `filename` is the number of its process.
        OSError: the file cannot be opened or locked.
    """
    assert fcntl is not None
    while True:
        handle = os.open(beside, os.O_CREAT | os.O_RDWR | NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            named = os.stat(beside, follow_symlinks=False)
            if os.path.samestat(named, os.fstat(handle)):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
            os.close(handle)  # its owner has just removed it, and another one has the name
        except FileNotFoundError:
            os.close(handle)
        except BlockingIOError as error:
            owner = os.read(handle, 32).decode(errors="replace").strip() or "?"
            os.close(handle)
            raise BlockingIOError(error.errno, error.strerror, owner) from None
        except BaseException:
            os.close(handle)
            raise


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """The leaves of a tree with their paths in it, such as "optimizer.0.mu"."""
    leaves = jax.tree.leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def _is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed key of JAX's random numbers."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(leaf: Any) -> np.ndarray:
    """A leaf as it is saved; see `_from_numpy`."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _from_numpy(name: str, array: np.ndarray, like: Any) -> Any:
    """A leaf as it was saved, of the type of `like`.

    Raises:
        ValueError: it has another shape.
    """
    grows = name == "history"  # has one row for each iteration
    if not grows and not _is_key(like) and array.shape != np.shape(like):
        raise ValueError(f"{name} has shape {array.shape}, not {np.shape(like)}")
    if isinstance(like, np.ndarray):
        return array
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    if array.dtype.kind == "V":  # NumPy reads bfloat16 and similar types back as plain bytes
        array = array.view(like.dtype)
    return jnp.asarray(array)
