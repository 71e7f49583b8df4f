"""Modelling, and its adjoint, with their reverse-mode rules: which primitives a gradient binds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ..backends.base import Asked
from .host import HostModel
from .operands import Operands
from .primitives import adjoint, forward


@jax.tree_util.register_static
class Perturbed(tuple):
    """Which gradients are wanted; static, so that it can travel with residuals."""


def _is_primal(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.CustomVJPPrimal)


def values_of(primals: Any) -> Any:
    """The primals of a custom rule."""
    return jax.tree.map(lambda p: p.value, primals, is_leaf=_is_primal)


def perturbed_of(primals: Any) -> Any:
    """Whether each of them is differentiated by."""
    return jax.tree.map(lambda p: p.perturbed, primals, is_leaf=_is_primal)


def _any(perturbed: Any) -> bool:
    return any(jax.tree.leaves(perturbed))


def differentiable(
    host: HostModel, linear: bool = False, final: bool = False
) -> Callable[[Operands], Any]:
    """From operands to what receivers record, with its reverse-mode rule.

    Args:
        host: the host model.
        linear: the source samples are no wavelets, but a cotangent: gradients are then made from
            every step.
        final: return the state after the last step, too.
    """

    def record(operands: Operands) -> Any:
        found, _ = forward(host, operands, linear=linear, final=final)
        return tuple(found) if final else found[0]

    def forward_pass(operands: Any) -> Any:
        values, perturbed = values_of(operands), perturbed_of(operands)
        keep = tuple(n for n in host.coefficient_names if perturbed.coefficients[n])
        asked = Asked(
            coefficients=keep,
            wavelet=_any(perturbed.wavelet),
            weights=_any(perturbed.weights),
            sources=_any(perturbed.sources),
            initial=_any(perturbed.initial),
            exact=linear or final or values.initial is not None,
            linear=linear,
        )
        found, tape = forward(host, values, keep, _any(perturbed.receivers), linear, final)
        samples, *slopes = found[:-1] if final else found
        recorded = (samples, found[-1]) if final else samples
        return recorded, (values._replace(tape=tape), slopes, Perturbed((asked,)))

    def backward_pass(residuals: Any, cotangent: Any) -> Any:
        operands, slopes, (asked,) = residuals
        nothing = Operands(dict.fromkeys(operands.coefficients), None, None)
        state = None
        if final:
            cotangent, state = cotangent
            state = None if all(map(_is_zero, state.values())) else _instantiated(state)
        if _is_zero(cotangent):
            if state is None:
                return (nothing,)
            cotangent = _instantiated(cotangent)
        found = nothing
        if asked.anything:
            gradients = adjoint(host, operands, cotangent, asked, state)
            coefficients = {**nothing.coefficients, **gradients.coefficients}
            found = found._replace(
                coefficients=coefficients,
                wavelet=gradients.wavelet,
                weights=gradients.weights,
                initial=gradients.initial,
            )
            if asked.sources:
                samples = operands.wavelet
                if samples is None:
                    samples = host.source_of(operands.shots, jnp)
                by_row = _correlated(gradients.at_sources, samples[..., None, :])
                pairs = _of_pairs(host.sources.over_ports(by_row, host.points[0]))
                found = found._replace(sources=_like(operands.sources, pairs))
        if slopes:
            by_row = _correlated(slopes[0], cotangent[..., None, :])
            pairs = _of_pairs(host.receivers.over_ports(by_row, host.points[1]))
            found = found._replace(receivers=_like(operands.receivers, pairs))
        return (found,)

    function = jax.custom_vjp(record)
    function.defvjp(forward_pass, backward_pass, symbolic_zeros=True)
    return function


def _is_zero(cotangent: Any) -> bool:
    return isinstance(cotangent, SymbolicZero)


def _instantiated(cotangents: Any) -> Any:
    """Zeros in place of symbolic ones."""
    return jax.tree.map(
        lambda ct: jnp.zeros(ct.shape, ct.dtype) if _is_zero(ct) else ct,
        cotangents,
        is_leaf=_is_zero,
    )


def adjoint_of_source(
    modelled: Callable[[Any, Any, Any, Any], Any], applied: Callable[[Any, Any, Any, Any], Any]
) -> Callable[[Any, Any, Any, Any], Any]:
    """The adjoint of modelling as a linear function of its source, with its reverse-mode rule.

    For any source s, `<adjoint(m, d, w), s> = <d, modelled(m, w, s)>`: so the gradients of the
    left-hand side are those of the right, and need no calculus of their own.

    Args:
        modelled: from model, wavelet (of extended sources, else None), what the source is linear
            in, and shot numbers, to traces.
        applied: the adjoint, from model, traces, wavelet and shot numbers.
    """

    def forward_pass(*primals: Any) -> Any:
        asked = tuple(_any(perturbed_of(p)) for p in primals)
        values = values_of(primals)
        return applied(*values), (values, Perturbed(asked))

    def backward_pass(residuals: Any, cotangent: Any) -> Any:
        (model, data, wavelet, shots), (of_model, _, of_wavelet, _) = residuals
        if isinstance(cotangent, SymbolicZero):
            return None, None, None, None

        def traces(model: Any, wavelet: Any) -> Any:
            if not of_model:
                model = jax.lax.stop_gradient(model)
            if not of_wavelet:
                wavelet = jax.lax.stop_gradient(wavelet)
            return modelled(model, wavelet, cotangent, shots)

        made, pull = jax.vjp(traces, model, wavelet)
        model_, wavelet_ = pull(data) if of_model or of_wavelet else (None, None)
        return model_, made, wavelet_, None

    function = jax.custom_vjp(applied)
    function.defvjp(forward_pass, backward_pass, symbolic_zeros=True)
    return function


def _correlated(a: Any, b: Any) -> Any:
    """`sum(a * b)` along the last axis, in which no product gets too small or too large before the
    sum does."""
    sizes = [power_above(x) for x in (a, b)]
    total = jnp.sum((a / sizes[0]) * (b / sizes[1]), axis=-1)
    return total * sizes[0] * sizes[1]


def power_above(x: Any) -> Any:
    """A power of two of about the size of the largest absolute value."""
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), initial=0.0)
    return jnp.ldexp(jnp.ones((), x.dtype), jnp.clip(jnp.frexp(largest)[1], -120, 120))


def _of_pairs(gradient: Any) -> Any:
    """Positions are the sums of pairs: either number moves them alike."""
    return jnp.stack([gradient, gradient], axis=-1)


def _like(positions: Any, pairs: Any) -> Any:
    """A cotangent of positions, which has their structure."""
    return jax.tree.unflatten(jax.tree.structure(positions), [pairs])
