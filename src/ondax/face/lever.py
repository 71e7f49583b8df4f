"""Keeping derivatives in the middle of the range of floating-point numbers while they pass through
coefficients.

The derivative of a misfit by a modulus of 1e10 Pa is 1e10 times smaller than what the modulus
contributes to the derivative by the logarithm of a velocity. It may be too small for float32 where
the derivative by the velocity, in which it ends, is not. So what flows back into a propagator is
multiplied by a power of two, and what leaves it on the way to the parameters is divided by that.
Values that flow forward are not touched, and powers of two leave every digit as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, PyTree

FURTHEST = 60  # largest power

back_scaled_p = Primitive("ondax_back_scaled")
# The product, whose cotangent is what comes in. A gradient is a function, too, which may be
# differentiated again. What flows back through it must be raised where the gradient came out of the
# propagator, by a product with `down`, and true again where the cotangent went in, by a product
# with `up`: either is the transpose of that product, times the other power.
scaled_p = Primitive("ondax_scaled")


def _back_scaled(x: Array, factor: Array) -> Array:
    """x; its cotangent is multiplied by the factor, which broadcasts with it and counts as
    constant."""
    return back_scaled_p.bind(x, factor)


back_scaled_p.def_impl(lambda x, factor: x)
scaled_p.def_impl(lambda x, factor: x * factor)
for _p in (back_scaled_p, scaled_p):
    _p.def_abstract_eval(lambda x, factor: x.update(weak_type=False))
mlir.register_lowering(back_scaled_p, lambda ctx, x, factor: [x])
mlir.register_lowering(scaled_p, mlir.lower_fun(jnp.multiply, multiple_results=False))


def _register(primitive: Primitive, transposed: Primitive) -> None:
    """The rules of a primitive that is linear in x."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        x, factor = primals
        tangent = tangents[0]
        moved = tangent if isinstance(tangent, ad.Zero) else primitive.bind(tangent, factor)
        return primitive.bind(x, factor), moved

    def transpose(cotangent: Any, x: Any, factor: Any) -> list[Any]:
        if isinstance(cotangent, ad.Zero):
            return [ad.Zero(x.aval), None]
        return [transposed.bind(cotangent, factor), None]

    def batched(operands: Sequence[Any], axes: Sequence[Any]) -> tuple[Any, int]:
        (x, factor), (of_x, of_factor) = operands, axes
        size = x.shape[of_x] if of_x is not None else factor.shape[of_factor]
        x = jnp.broadcast_to(x, (size, *x.shape)) if of_x is None else jnp.moveaxis(x, of_x, 0)
        if of_factor is not None:
            factor = jnp.moveaxis(factor, of_factor, 0)
            factor = factor.reshape(size, *(1,) * (x.ndim - factor.ndim), *factor.shape[1:])
        return primitive.bind(x, factor), 0

    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batched


_register(back_scaled_p, scaled_p)
_register(scaled_p, back_scaled_p)


class Lever(eqx.Module):
    """The power of two of one propagation.

    Attributes:
        up: that number, a scalar.
        down: its inverse.
    """

    up: Array
    down: Array

    @staticmethod
    def of(parameters: Mapping[str, Array], coefficients: Sequence[Array]) -> Lever:
        """About the size of the largest coefficient over that of the largest parameter, as found in
        one corner; one, where it is smaller: nothing is lowered, because what gets too large for
        its type is noticed, and what gets too small is not."""
        dtype = coefficients[0].dtype
        above, below = (
            jnp.frexp(jnp.max(jnp.stack([jnp.abs(v[(0,) * v.ndim]) for v in values])))[1]
            for values in (coefficients, [jnp.asarray(p, dtype) for p in parameters.values()])
        )
        power = jnp.clip(above - below, 0, FURTHEST)
        return Lever(
            *(jax.lax.stop_gradient(jnp.ldexp(jnp.ones((), dtype), p)) for p in (power, -power))
        )

    def enter(self, inputs: PyTree) -> PyTree:
        """What a propagator is given; derivatives that come out here are true."""
        return jax.tree.map(lambda x: _back_scaled(x, self.down), inputs)

    def leave(self, outputs: PyTree) -> PyTree:
        """What it gives; derivatives that come in here are raised."""
        return jax.tree.map(lambda x: _back_scaled(x, self.up), outputs)
