"""Arrays that a layer holds, either fixed or trainable."""

from __future__ import annotations

import hashlib
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


@final
class Fixed:
    """A tree of arrays that is not seen as a tree: JAX finds no leaves in it.

    It is immutable, and equal to another one of the same contents, so that `jax.jit` does not
    compile again for it.
    """

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
        """The tree of arrays, as NumPy arrays that cannot be written to."""
        return jax.tree.unflatten(self._structure, self._leaves)

    def __hash__(self) -> int:
        return hash((self._digest, self._structure))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fixed):
            return False
        return self._digest == other._digest and self._structure == other._structure


@final
class Held(eqx.Module):
    """A tree of arrays that a layer holds, such as a background model.

    Args:
        tree: the tree.
        trainable: make the arrays leaves of the network's tree.
    """

    trainable: PyTree
    fixed: Fixed | None = eqx.field(static=True)

    def __init__(self, tree: PyTree, trainable: bool) -> None:
        self.trainable = jax.tree.map(jnp.asarray, tree) if trainable else None
        self.fixed = None if trainable else Fixed(tree)

    def __call__(self, dtype: Any) -> PyTree:
        """The tree, with arrays of the given floating-point dtype: that of the layer's input."""
        tree = self.trainable if self.fixed is None else self.fixed.tree
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)
