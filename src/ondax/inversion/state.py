"""Saving and resuming an inversion.

One `.npz` file without pickles, so `numpy.load(path)["model"]` reads it anywhere. It holds the leaves of the
model and of the optimiser's state by name, the history, and a JSON text with the fingerprints of the problem.
Each save writes a temporary file beside it, flushes that to disk and renames it, so a kill at any moment
leaves either the old state or the new one.
"""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .fingerprint import Problem

_FORMAT = 2


def save_state(path: Path, tree: PyTree, problem: Problem) -> None:
    """Writes a tree of arrays and the fingerprints of the problem it belongs to, atomically."""
    header = json.dumps({"format": _FORMAT, "problem": problem.fingerprints})
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "wb") as file:
        arrays: dict[str, Any] = {name: _to_numpy(leaf) for name, leaf in _named_leaves(tree)}
        np.savez(file, header=np.array(header), **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name == "posix":  # the new name has to reach the disk too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load_state(path: Path, like: PyTree, problem: Problem) -> PyTree:
    """Reads a tree back, with the structure of `like`.

    Raises:
        ValueError: if the file is not such a state, or belongs to another problem; says in which parts they
            differ.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        header = json.loads(str(arrays["header"]))
        if header["format"] != _FORMAT:
            raise ValueError(f"its format is {header['format']}, this version of ondax reads {_FORMAT}")
    except (zipfile.BadZipFile, EOFError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a state saved by ox.fwi or ox.lsrtm ({error}); give another path to `save`"
        ) from error
    differing = problem.differing(header["problem"])
    if differing:
        raise ValueError(
            f"{path} belongs to another inversion, which differs in {', '.join(differing)}. Restore what it was saved "
            "with to go on; or delete the file or give another path to start afresh; or, if you vouch that the difference "
            f"does not matter, pass trust={tuple(differing)!r}"
        )
    leaves = [_from_numpy(arrays[name], leaf) for name, leaf in _named_leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree.leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _from_numpy(array: np.ndarray, like: Any) -> Any:
    if isinstance(like, np.ndarray):
        return array
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    if array.dtype.kind == "V":  # NumPy knows bfloat16 and its kin by their size only
        array = array.view(like.dtype)
    return jnp.asarray(array)
