"""How host calls leave JAX and come back, in one place.

Programs on one device, the usual case, go through `mlir.emit_python_callback`, the layer beneath `jax.pure_callback`.
`pure_callback` first copies its arguments into JAX arrays on JAX's own thread pool, which costs up to a millisecond a call
and (up to JAX 0.11.1) can wait for ever: with one core, or with as many Python threads as cores, the pool that should copy
is the one that waits. Programs on several devices do go through `pure_callback`, which alone knows how to run once for all
of them. For their sake, importing ondax makes CPU dispatch synchronous if JAX has no CPU client yet: the one cure of the
wait that a library can apply to `pure_callback`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import mlir

HostCall = Callable[..., tuple[np.ndarray, ...]]


def _client_exists() -> bool:
    try:
        from jax._src.xla_bridge import backends_are_initialized
    except ImportError:  # no way to tell: leave JAX as it is
        return True
    return backends_are_initialized()


def prepare() -> None:
    """Make CPU dispatch synchronous if that still has an effect."""
    if not _client_exists():
        jax.config.update("jax_cpu_enable_async_dispatch", False)


prepare()


def _on_one_device(ctx: mlir.LoweringRuleContext) -> bool:
    """Is the program compiled for a single device, outside `shard_map` and `pmap`?"""
    return getattr(ctx.module_context.axis_context, "num_devices", None) == 1


def register_host_primitive(primitive: Primitive, host: Callable[..., HostCall]) -> None:
    """Give a multiple-result primitive its lowering.

    Args:
        primitive: the primitive; its abstract evaluation must be defined.
        host: from the primitive's parameters to the function to call with NumPy arrays. The same parameters must give
            the same function.
    """

    def through_pure_callback(*operands: Any, **params: Any) -> Any:
        results, _ = primitive.abstract_eval(*(jax.typeof(x) for x in operands), **params)
        shapes = [jax.ShapeDtypeStruct(r.shape, r.dtype) for r in results]
        return tuple(jax.pure_callback(host(**params), shapes, *operands))

    lower_pure = mlir.lower_fun(through_pure_callback, multiple_results=True)

    def lower(ctx: mlir.LoweringRuleContext, *operands: Any, **params: Any) -> Sequence[Any]:
        if not _on_one_device(ctx):
            return lower_pure(ctx, *operands, **params)
        call = host(**params)

        def with_numpy(*args: Any) -> tuple[np.ndarray, ...]:
            return tuple(call(*args))

        types_in: Any = ctx.avals_in
        types_out: Any = ctx.avals_out
        results, _, keep_alive = mlir.emit_python_callback(
            ctx, with_numpy, None, list(operands), types_in, types_out, has_side_effect=False
        )
        ctx.module_context.add_keepalive(keep_alive)
        return results

    mlir.register_lowering(primitive, lower)

    @jax.jit(static_argnums=0)
    def compiled(frozen: tuple[tuple[str, Any], ...], *operands: Any) -> Any:
        return primitive.bind(*operands, **dict(frozen))

    @primitive.def_impl
    def implementation(*operands: Any, **params: Any) -> Any:
        return compiled(tuple(sorted(params.items())), *operands)
