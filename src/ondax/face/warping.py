"""The maps of `dispersion` as JAX primitives: linear, and each the transpose of the other."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..acquisition.dispersion import TimeWarp
from .sharding import unify_axes
from .transport import register_host_primitive

MOST_BYTES = 4 << 20  # of a table in a jitted function; a larger one is handed over at every call

table_p = Primitive("ondax_warp_table")
table_p.multiple_results = True
warp_p = Primitive("ondax_warp")


def warped(signals: Any, warp: TimeWarp | None) -> Any:
    """T along the last axis of JAX arrays: of wavelets, and of residuals. Without a matrix, as they
    are."""
    return signals if warp is None else _bind(signals, warp, transposed=False)


def unwarped(signals: Any, warp: TimeWarp | None) -> Any:
    """The transpose of `warped`: of modelled traces, and of adjoint wavelets."""
    return signals if warp is None else _bind(signals, warp, transposed=True)


def _bind(signals: Any, warp: TimeWarp, transposed: bool) -> Any:
    dtype = np.dtype(signals.dtype).name
    table = warp.table(dtype)
    if table.nbytes > MOST_BYTES:
        (table,) = table_p.bind(warp=warp, dtype=dtype)
    return warp_p.bind(*unify_axes((signals, jnp.asarray(table))), warp=warp, transposed=transposed)


@table_p.def_abstract_eval
def _table_type(*, warp: TimeWarp, dtype: str) -> Any:
    return [ShapedArray(warp.table(dtype).shape, np.dtype(dtype))]


register_host_primitive(table_p, lambda warp, dtype: lambda: (warp.table(dtype),))


@warp_p.def_abstract_eval
def _signal_type(signals: Any, table: Any, *, warp: TimeWarp, transposed: bool) -> Any:
    return signals.update(
        shape=(*signals.shape[:-1], warp.samples if transposed else warp.modelled)
    )


def _apply(signals: Any, table: Any, *, warp: TimeWarp, transposed: bool) -> Any:
    rows = signals.reshape(-1, signals.shape[-1])
    with jax.default_matmul_precision("highest"):
        if warp.whole:
            result = jnp.tensordot(rows, table[0], ((1,), (0 if transposed else 1,)))
        else:
            result = (_add_blocks if transposed else _blocks_of)(rows, table, warp)
    return result.reshape(*signals.shape[:-1], result.shape[-1])


def _blocks_of(rows: Any, table: Any, warp: TimeWarp) -> Any:
    """T, block by block, so that intermediate results stay small."""

    def one(block_and_start: Any) -> Any:
        block, start = block_and_start
        near = jax.lax.dynamic_slice_in_dim(rows, start, table.shape[2], 1)
        return jnp.tensordot(near, block, ((1,), (1,)))

    blocks = jax.lax.map(one, (table, jnp.asarray(warp.starts)))
    return jnp.moveaxis(blocks, 0, 1).reshape(rows.shape[0], -1)[:, : warp.modelled]


def _add_blocks(rows: Any, table: Any, warp: TimeWarp) -> Any:
    """The transpose of `_blocks_of`."""
    count, size, width = table.shape
    rows = jnp.pad(rows, ((0, 0), (0, count * size - warp.modelled)))

    def one(total: Any, block_and_places: Any) -> Any:
        block, first, start = block_and_places
        part = jax.lax.dynamic_slice_in_dim(rows, first, size, 1) @ block
        sums = jax.lax.dynamic_slice_in_dim(total, start, width, 1) + part
        return jax.lax.dynamic_update_slice_in_dim(total, sums, start, 1), None

    places = jnp.asarray(size * np.arange(count)), jnp.asarray(warp.starts)
    zeros = jnp.zeros_like(rows, shape=(rows.shape[0], warp.samples))
    return jax.lax.scan(one, zeros, (table, *places))[0]


mlir.register_lowering(warp_p, mlir.lower_fun(_apply, multiple_results=False))


@partial(jax.jit, static_argnames=("warp", "transposed"))
def _compiled(*operands: Any, warp: TimeWarp, transposed: bool) -> Any:
    return warp_p.bind(*operands, warp=warp, transposed=transposed)


@warp_p.def_impl
def _implementation(*operands: Any, warp: TimeWarp, transposed: bool) -> Any:
    with jax.disable_jit(False):  # under `jax.disable_jit` it would call itself
        return _compiled(*operands, warp=warp, transposed=transposed)


def _batched(operands: Any, axes: Any, **params: Any) -> Any:
    signals, table = operands
    return warp_p.bind(jnp.moveaxis(signals, axes[0], 0), table, **params), 0


batching.primitive_batchers[warp_p] = _batched


def _tangent(primals: Any, tangents: Any, **params: Any) -> Any:
    """The map is linear in the signals, and the table never changes."""
    image = warp_p.bind(*primals, **params)
    if isinstance(tangents[0], ad.Zero):
        return image, ad.Zero(jax.typeof(image).to_tangent_aval())
    return image, warp_p.bind(tangents[0], *primals[1:], **params)


def _transposed(
    cotangent: Any, signals: Any, table: Any, *, warp: TimeWarp, transposed: bool
) -> Any:
    if isinstance(cotangent, ad.Zero):
        return [ad.Zero(signals.aval), None]
    return [warp_p.bind(cotangent, table, warp=warp, transposed=not transposed), None]


ad.primitive_jvps[warp_p] = _tangent
ad.primitive_transposes[warp_p] = _transposed
