"""The axes of a mesh along which arrays differ, inside of `jax.shard_map`."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax


def varying(x: Any) -> frozenset[Any]:
    """The axes along which an array differs."""
    kind = getattr(jax.typeof(x), "manual_axis_type", None)
    return frozenset(kind.varying) if kind is not None else _known_as_vma(x)


def _known_as_vma(x: Any) -> frozenset[Any]:
    return frozenset(getattr(jax.typeof(x), "vma", ()))


def raised(x: Any, axes: frozenset[Any]) -> Any:
    """The array, taken to differ along more axes."""
    missing = tuple(sorted(axes - varying(x), key=str))
    return lax.pcast(x, missing, to="varying") if missing else x


def alike(tree: Any, example: Any) -> Any:
    """Arrays of which a loop begins, taken to differ where what it adds to them does."""
    axes = varying(example)
    return jax.tree.map(lambda x: raised(x, axes), tree) if axes else tree
