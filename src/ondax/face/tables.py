"""What a survey says of each shot, for programs that XLA runs: a constant of theirs if it is small,
else handed over for the shots of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching

from .transport import register_host_primitive

MOST_BYTES = 4 << 20  # of a table in a compiled program

rows_p = Primitive("ondax_rows")
rows_p.multiple_results = True


class Table:
    """An array with a row for each shot. Compared by identity.

    Args:
        rows: from shot numbers, (shot,), to rows, (shot, ...), in NumPy.
        shots: how many there are.
        shape: of a row.
        dtype: of the rows.
    """

    def __init__(
        self,
        rows: Callable[[np.ndarray], np.ndarray],
        shots: int,
        shape: tuple[int, ...],
        dtype: Any,
    ) -> None:
        self._rows, self.shape, self.dtype = rows, shape, np.dtype(dtype)
        whole = shots * int(np.prod(shape)) * self.dtype.itemsize
        self._constant: np.ndarray | None = None
        if whole <= MOST_BYTES:
            self._constant = self.find(np.arange(shots))[0]

    def find(self, shots: np.ndarray) -> tuple[np.ndarray]:
        """The rows of some shots, (*batch, shot, ...), in NumPy."""
        found = self._rows(np.asarray(shots).reshape(-1))
        return (np.asarray(found, self.dtype).reshape(*shots.shape, *self.shape),)

    def of(self, shots: Any) -> Any:
        """The rows of some shots, whose numbers may be traced, (shot, ...)."""
        if self._constant is not None:
            return jnp.asarray(self._constant)[shots]
        (found,) = rows_p.bind(shots, table=self)
        return found


@rows_p.def_abstract_eval
def _types(shots: Any, *, table: Table) -> Any:
    return [ShapedArray((*shots.shape, *table.shape), table.dtype)]


register_host_primitive(rows_p, lambda table: table.find)


def _batched(operands: Any, axes: Any, *, table: Table) -> Any:
    (shots,), (axis,) = operands, axes
    return rows_p.bind(jnp.moveaxis(shots, axis, 0), table=table), [0]


batching.primitive_batchers[rows_p] = _batched
