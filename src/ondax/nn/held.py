"""Arrays that a layer holds: fixed, or trainable."""

from __future__ import annotations

import hashlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


class Fixed:
    """Arrays that are no leaves of any tree. Immutable; equal if their contents are, so that jit
    knows them again."""

    __slots__ = ("_digest", "_leaves", "_structure")

    def __init__(self, tree: PyTree) -> None:
        leaves, self._structure = jax.tree.flatten(tree)
        self._leaves = tuple(np.array(leaf) for leaf in leaves)
        digest = hashlib.blake2b(digest_size=16)
        for leaf in self._leaves:
            leaf.flags.writeable = False
            digest.update(f"{leaf.dtype} {leaf.shape}".encode() + leaf.tobytes())
        self._digest = digest.digest()

    def __reduce__(self) -> tuple[Any, ...]:
        return Fixed, (self.tree,)

    @property
    def tree(self) -> PyTree:
        return jax.tree.unflatten(self._structure, self._leaves)

    def __hash__(self) -> int:
        return hash((self._digest, self._structure))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and (self._digest, self._structure) == (
            other._digest,
            other._structure,
        )


class Held(eqx.Module):
    """A tree of arrays inside a layer, such as a background model.

    Args:
        tree: the arrays.
        trainable: make them leaves of the network's tree.
    """

    trainable: PyTree
    fixed: Fixed | None = eqx.field(static=True)

    def __init__(self, tree: PyTree, trainable: bool) -> None:
        self.trainable = jax.tree.map(jnp.asarray, tree) if trainable else None
        self.fixed = None if trainable else Fixed(tree)

    def __call__(self, dtype: Any) -> PyTree:
        """The arrays, in the floating-point type of what they work on."""
        tree = self.trainable if self.fixed is None else self.fixed.tree
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)
