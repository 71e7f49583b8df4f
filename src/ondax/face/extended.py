"""The adjoint of modelling with extended sources: from traces to weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .. import _validate
from ..scheme.symbols import AXIS_NAMES
from .primitives import adjoint_p
from .reverse import Perturbed, is_primal
from .sharding import unify_axes

if TYPE_CHECKING:
    from ..propagator import Propagator


def extended_adjoint(F: Propagator, model: Any, data: Any, wavelet: Any, shots: Any) -> Any:
    """The adjoint of `F(model, wavelet=wavelet, weights=w)` as a linear function of w, applied to
    traces.

    The weights are `sum_t wavelet(t) a(x, t)`, with `a` the adjoint wavefield of the traces. For
    any weights w, `<adjoint(m, d), w> = <d, F(m, w)>`: so the gradients of the left-hand side are
    those of the right, and need no calculus of their own.
    """
    dtype = F._dtype((model, data), wavelet)
    which = F._which(shots)
    data = _validate.shaped("data", data, F._trace_shape(which.shape[0]), dtype)

    def adjoint(model: Any, data: Any, wavelet: Any, which: Any) -> Any:
        coefficients, speeds, _, _, lever = F._common(model, dtype, which)
        nothing = jnp.zeros((which.shape[0], *F.grid.shape), dtype)
        given, extras = F._source_operands(wavelet, nothing, which, dtype, lever)
        residual = F._samples_of(data, which)
        operands = unify_axes((*coefficients, speeds, which, *extras, residual))
        asked = {"wanted": (), "weights": True, "source": False, "slopes": False, "last_use": True}
        (weights,) = adjoint_p.bind(*operands, host=F._operators.host(dtype), given=given, **asked)
        widths = F.boundary.widths(AXIS_NAMES[F.grid.ndim])
        inside = (slice(low, low + n) for n, (low, _) in zip(F.grid.shape, widths, strict=True))
        return weights[(slice(None), *inside)]

    def forward(*primals: Any) -> Any:
        values = jax.tree.map(lambda p: p.value, primals, is_leaf=is_primal)
        perturbed = jax.tree.map(lambda p: p.perturbed, primals, is_leaf=is_primal)
        asked = tuple(any(jax.tree.leaves(p)) for p in perturbed)
        return adjoint(*values), (values, Perturbed(asked))

    def backward(residuals: Any, cotangent: Any) -> Any:
        (model, data, wavelet, which), asked = residuals
        if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
            return None, None, None, None

        def traces(model: Any, wavelet: Any) -> Any:
            fixed = jax.lax.stop_gradient
            model, wavelet = (
                v if a else fixed(v) for v, a in ((model, asked[0]), (wavelet, asked[2]))
            )
            return F(model, wavelet=wavelet, weights=cotangent, shots=which)

        of_data, pull = jax.vjp(traces, model, wavelet)
        of_model, of_wavelet = pull(data) if asked[0] or asked[2] else (None, None)
        return of_model, of_data, of_wavelet, None

    function = jax.custom_vjp(adjoint)
    function.defvjp(forward, backward, symbolic_zeros=True)
    return function(model, data, wavelet, which)
