"""Second derivatives of functions of traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._types import Model, Traces
from .face.callback_errors import as_raised
from .propagator import Propagator


@as_raised()
def hvp(
    misfit: Callable[[Traces], Float[Array, ""]],
    F: Propagator,
    model: Model,
    vector: Model,
    *,
    shots: Int[Array, " shot"] | None = None,
) -> Model:
    """The product of the full Hessian of `misfit(F(model))` with a vector: forward and Born, then
    the adjoints of both.

    Costs a forward and an adjoint run of the linearised scheme, about twice a gradient. The
    Gauss-Newton part alone is `J.T.mv(W J.mv(vector))` with `J = F.jacobian(model)` and W the
    Hessian of the misfit in the traces; the rest is due to scattering of second order (Fichtner and
    Trampert, 2011; Metivier et al., 2013).

    Args:
        misfit: a JAX function from traces to a scalar, twice differentiable.
        F: the propagator.
        model: where the Hessian is taken.
        vector: shaped like the model.
        shots: numbers of the shots; default all.

    Returns:
        Shaped like the model. The Hessian is symmetric to rounding.
    """

    def slope(model: Any) -> Array:
        traces, born = F.jvp(model, vector, shots=shots)
        return jnp.vdot(jax.grad(misfit)(traces), born)

    return jax.grad(slope)(model)
