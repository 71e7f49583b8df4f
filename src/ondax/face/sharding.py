"""Correct gradients under `jax.shard_map`, where host callbacks lose track of the axes along which
data vary."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax


def _varying(x: Any) -> frozenset[Any]:
    kind = getattr(jax.typeof(x), "manual_axis_type", None)
    return (
        frozenset(kind.varying)
        if kind is not None
        else frozenset(getattr(jax.typeof(x), "vma", ()))
    )


def unify_axes(tree: Any) -> Any:
    """Bring every array to the union of their varying axes, so that JAX itself sums gradients of
    replicated ones."""
    leaves, structure = jax.tree.flatten(tree)
    axes = frozenset().union(*(_varying(x) for x in leaves))
    if not axes:
        return tree
    raised = []
    for x in leaves:
        missing = tuple(sorted(axes - _varying(x), key=str))
        raised.append(lax.pcast(x, missing, to="varying") if missing else x)
    return jax.tree.unflatten(structure, raised)
