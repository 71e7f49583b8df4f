"""How host calls leave JAX and come back, in one place.

`jax.pure_callback` copies its arguments on JAX's own thread pool before it calls us, and (up to JAX 0.11.1) waits for
that copy on the same pool: with one core, or with as many Python threads as cores, it can wait for ever. The cure that
a library may apply is to make CPU dispatch synchronous before the CPU client exists, which importing ondax does. Where
JAX has been used before, we lower through `mlir.emit_python_callback`, the layer beneath `pure_callback`, which does
not make that copy.
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
    except ImportError:  # no way to tell: assume the worse case, whose cure always works
        return True
    return backends_are_initialized()


def prepare() -> bool:
    """Make CPU dispatch synchronous if that still has an effect; returns whether pure_callback is then safe."""
    if _client_exists():
        return not jax.config.read("jax_cpu_enable_async_dispatch")
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True


SAFE_PURE_CALLBACK = prepare()


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
        if SAFE_PURE_CALLBACK:
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
