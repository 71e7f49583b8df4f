"""Correct gradients under `jax.shard_map`, where host callbacks lose track of the axes along which
data vary."""

from __future__ import annotations

from typing import Any

import jax

from ..backends.xla.axes import raised, varying


def unify_axes(tree: Any) -> Any:
    """Bring every array to the union of their varying axes, so that JAX itself sums gradients of
    replicated ones."""
    leaves, structure = jax.tree.flatten(tree)
    axes = frozenset().union(*(varying(x) for x in leaves))
    if not axes:
        return tree
    return jax.tree.unflatten(structure, [raised(x, axes) for x in leaves])
