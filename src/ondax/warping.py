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

from .dispersion import TimeWarp, apply
from .sharding import unify_axes
from .transport import register_host_primitive

MOST_BYTES = 4 << 20  # of tables in a jitted function; larger ones are handed over at every call

tables_p = Primitive("ondax_warp_tables")
tables_p.multiple_results = True
warp_p = Primitive("ondax_warp")


def warped(signals: Any, warp: TimeWarp | None) -> Any:
    """T along the last axis of JAX arrays: of wavelets, and of residuals. Without a matrix, as they are."""
    return signals if warp is None else _bind(signals, warp, transposed=False)


def unwarped(signals: Any, warp: TimeWarp | None) -> Any:
    """The transpose of `warped`: of modelled traces, and of adjoint wavelets."""
    return signals if warp is None else _bind(signals, warp, transposed=True)


def _bind(signals: Any, warp: TimeWarp, transposed: bool) -> Any:
    dtype = np.dtype(signals.dtype).name
    tables = warp.tables(dtype)
    if sum(t.nbytes for t in tables) > MOST_BYTES:
        tables = tables_p.bind(warp=warp, dtype=dtype)
    return warp_p.bind(*unify_axes((signals, *map(jnp.asarray, tables))), warp=warp, transposed=transposed)


@tables_p.def_abstract_eval
def _table_types(*, warp: TimeWarp, dtype: str) -> Any:
    return [ShapedArray(t.shape, np.dtype(dtype)) for t in warp.tables(dtype)]


register_host_primitive(tables_p, lambda warp, dtype: partial(warp.tables, dtype))


@warp_p.def_abstract_eval
def _signal_type(signals: Any, *tables: Any, warp: TimeWarp, transposed: bool) -> Any:
    return signals.update(shape=(*signals.shape[:-1], warp.samples if transposed else warp.modelled))


def _by_shot(signals: Any, *tables: Any, warp: TimeWarp, transposed: bool) -> Any:
    """One shot after the other, where the intermediate results of all at once would be four times the traces."""

    def one(shot: Any) -> Any:
        return apply(warp, tables, shot, transposed, jnp)

    with jax.default_matmul_precision("highest"):
        if warp.whole or signals.ndim < 3:
            return one(signals)
        shots = jax.lax.map(one, signals.reshape(-1, *signals.shape[-2:]))
    return shots.reshape(*signals.shape[:-1], shots.shape[-1])


mlir.register_lowering(warp_p, mlir.lower_fun(_by_shot, multiple_results=False))


@partial(jax.jit, static_argnames=("warp", "transposed"))
def _compiled(*operands: Any, warp: TimeWarp, transposed: bool) -> Any:
    return warp_p.bind(*operands, warp=warp, transposed=transposed)


warp_p.def_impl(_compiled)


def _batched(operands: Any, axes: Any, **params: Any) -> Any:
    signals, *tables = operands
    return warp_p.bind(jnp.moveaxis(signals, axes[0], 0), *tables, **params), 0


batching.primitive_batchers[warp_p] = _batched


def _tangent(primals: Any, tangents: Any, **params: Any) -> Any:
    """The map is linear in the signals, and the tables never change."""
    image = warp_p.bind(*primals, **params)
    if isinstance(tangents[0], ad.Zero):
        return image, ad.Zero(jax.typeof(image).to_tangent_aval())
    return image, warp_p.bind(tangents[0], *primals[1:], **params)


def _transposed(cotangent: Any, signals: Any, *tables: Any, warp: TimeWarp, transposed: bool) -> Any:
    if isinstance(cotangent, ad.Zero):
        return [ad.Zero(signals.aval)] + [None] * len(tables)
    return [warp_p.bind(cotangent, *tables, warp=warp, transposed=not transposed)] + [None] * len(tables)


ad.primitive_jvps[warp_p] = _tangent
ad.primitive_transposes[warp_p] = _transposed
