"""Modelling with its reverse-mode rule: which primitives a gradient binds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .host import HostModel
from .primitives import Operands, adjoint_p, forward_p


@jax.tree_util.register_static
class Perturbed(tuple):
    """Which arguments a gradient is wanted for; static, so that it can travel with residuals."""


def differentiable(host: HostModel, given: Operands) -> Any:
    """Modelling with its reverse-mode rule: `simulate(coefficients, speeds, shots, extras) ->
    samples`."""

    def bind(coefficients: Any, speeds: Any, shots: Any, extras: Any, **params: Any) -> Any:
        return forward_p.bind(
            *coefficients, speeds, shots, *extras, host=host, given=given, **params
        )

    def simulate(coefficients: Any, speeds: Any, shots: Any, extras: Any) -> Any:
        return bind(coefficients, speeds, shots, extras, keep=(), slopes=False)[0]

    def forward(*primals: Any) -> Any:
        values = jax.tree.map(lambda p: p.value, primals, is_leaf=is_primal)
        coefficients, _, _, extras = jax.tree.map(lambda p: p.perturbed, primals, is_leaf=is_primal)
        asked = iter(extras)
        wavelet, weights, sources, receivers = (bool(has and next(asked)) for has in given.present)
        keep = tuple(i for i, perturbed in enumerate(coefficients) if perturbed)
        samples, *slopes = bind(*values, keep=keep, slopes=receivers)
        return samples, (values, slopes, Perturbed((keep, wavelet, weights, sources)))

    def backward(residuals: Any, cotangent: Any) -> Any:
        (coefficients, speeds, shots, extras), slopes, (keep, wavelet, weights, sources) = residuals
        no_extras = tuple(None for _ in extras)
        if isinstance(cotangent, SymbolicZero):
            return (None,) * len(coefficients), None, None, no_extras
        gradients: dict[int, Any] = {}
        of_wavelet = of_weights = of_sources = None
        if keep or wavelet or weights or sources:
            results = list(
                adjoint_p.bind(
                    *coefficients,
                    speeds,
                    shots,
                    *extras,
                    cotangent,
                    host=host,
                    given=given,
                    wanted=keep,
                    weights=weights,
                    source=wavelet,
                    slopes=sources,
                    last_use=True,
                )
            )
            gradients = {i: results.pop(0) for i in keep}
            of_weights = results.pop(0) if weights else None
            of_wavelet = results.pop(0) if wavelet else None
            if sources:
                samples = extras[0] if given.wavelet else jnp.asarray(host.source)[shots]
                by_row = _correlated(results.pop(0), samples[..., None, :])
                of_sources = _of_pairs(
                    host.ports[0].over_ports(by_row, host.source_positions.shape[1])
                )
        of_receivers = None
        if slopes:
            by_row = _correlated(slopes[0], cotangent[..., None, :])
            of_receivers = _of_pairs(
                host.ports[1].over_ports(by_row, host.receiver_positions.shape[1])
            )
        of_extras = (of_wavelet, of_weights, of_sources, of_receivers)
        by_extra = (gradient for has, gradient in zip(given.present, of_extras, strict=True) if has)
        return (
            tuple(gradients.get(i) for i in range(len(coefficients))),
            None,
            None,
            tuple(by_extra),
        )

    function = jax.custom_vjp(simulate)
    function.defvjp(forward, backward, symbolic_zeros=True)
    return function


def _correlated(a: Any, b: Any) -> Any:
    """`sum(a * b)` along the last axis, in which no product gets too small or too large before the
    sum does."""
    sizes = [_power_above(x) for x in (a, b)]
    total = jnp.sum((a / sizes[0]) * (b / sizes[1]), axis=-1)
    return total * sizes[0] * sizes[1]


def _power_above(x: Any) -> Any:
    """A power of two of about the size of the largest absolute value."""
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), initial=0.0)
    return jnp.ldexp(jnp.ones((), x.dtype), jnp.clip(jnp.frexp(largest)[1], -120, 120))


def _of_pairs(gradient: Any) -> Any:
    """Positions are the sums of pairs: either number moves them alike."""
    return jnp.stack([gradient, gradient], axis=-1)


def is_primal(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.CustomVJPPrimal)
