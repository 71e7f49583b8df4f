"""How host calls leave JAX and come back, in one place.

They go through `mlir.emit_python_callback`, the layer beneath `jax.pure_callback`. `pure_callback`
first copies its arguments into JAX arrays on JAX's own thread pool, which costs up to a millisecond
a call and (up to JAX 0.11.1) can wait for ever: on one core, with as many Python threads as cores,
or on several devices, the pool that should copy is the one that waits. Importing ondax also makes
CPU dispatch synchronous if JAX has no CPU client yet, as JAX advises for callbacks.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import mlir

from . import callback_errors
from .loosely import LooselyHeld, strong

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


class _Eager(threading.local):
    """Whether what is lowered now is an eager call, whose caller is ours; by thread."""

    depth = 0


_eager = _Eager()


class _Results:
    """Results of a host call; JAX's own threads, which convert them, may be unaware that float64 is
    switched on."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._arrays)

    def __iter__(self) -> Iterator[np.ndarray]:
        with jax.enable_x64(True):
            yield from self._arrays


class Traced:
    """In place of a host call: a function that is compiled into the program.

    Args:
        function: of the platforms that it is compiled for, whether the call is eager, and the
            primitive's operands, to its results.
    """

    def __init__(self, function: Callable[..., Sequence[Any]]) -> None:
        self.function = function


def register_host_primitive(
    primitive: Primitive,
    host: Callable[..., HostCall | Traced],
    loosely: str | None = None,
) -> None:
    """Give a multiple-result primitive its lowering.

    Args:
        primitive: the primitive; its abstract evaluation must be defined.
        host: from the primitive's parameters to the function to call with NumPy arrays, or to one
            to be compiled. The same parameters must give the same function.
        loosely: the parameter that eager calls hold loosely, for JAX keeps parameters as long as
            their programs: when it goes, the programs of its eager calls go with it.
    """

    def lower(ctx: mlir.LoweringRuleContext, *operands: Any, **params: Any) -> Sequence[Any]:
        eager = bool(_eager.depth)
        found = host(**params)
        if isinstance(found, Traced):
            platforms = tuple(ctx.module_context.platforms)
            function = partial(found.function, platforms, eager)
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                return mlir.lower_fun(function, multiple_results=True)(ctx, *operands)
        kept = None if eager else found  # a program of the user's may outlive the propagator

        def called_by_jax(*args: Any) -> Any:
            try:
                call: Any = kept or host(**params)
                return _Results(call(*args))
            except BaseException as error:
                callback_errors.note(error, eager)
                raise

        types_in: Any = ctx.avals_in
        types_out: Any = ctx.avals_out
        results, _, keep_alive = mlir.emit_python_callback(
            ctx, called_by_jax, None, list(operands), types_in, types_out, has_side_effect=False
        )
        ctx.module_context.add_keepalive(keep_alive)
        return results

    mlir.register_lowering(primitive, lower)

    programs: Any = weakref.WeakKeyDictionary()

    def compiled(owner: Any) -> Callable[..., Any]:
        """The function whose eager programs live as long as the owner: JAX drops a function's
        programs with the function."""
        if owner not in programs:

            def bound(frozen: tuple[tuple[str, Any], ...], *operands: Any) -> Any:
                return primitive.bind(*operands, **dict(frozen))

            programs[owner] = jax.jit(bound, static_argnums=0)
        return programs[owner]

    @primitive.def_impl
    def implementation(*operands: Any, **params: Any) -> Any:
        owner: Any = primitive
        if loosely:
            owner = strong(params[loosely])
            params = {**params, loosely: LooselyHeld(owner)}
        frozen = tuple(sorted(params.items()))
        _eager.depth += 1
        try:
            # Under `jax.disable_jit` it would call itself.
            with callback_errors.as_raised(), jax.disable_jit(False):
                return compiled(owner)(frozen, *operands)
        finally:
            _eager.depth -= 1
