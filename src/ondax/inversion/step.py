"""One iteration of an inversion as one compiled function."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int32, PyTree

from .constraints import Bounds, bounded, masked

Traces = Float[Array, "shot *components receiver time"]
Shots = Int32[Array | np.ndarray, " batch"]


class Numbers(NamedTuple):
    """What an iteration reports: misfit, L2 norm of the gradient, root mean square of the model's change."""

    misfit: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    model_change: Float[Array, ""]


class Setting(NamedTuple):
    """Arrays that stay the same through all iterations; `bounds` and `mask` are None where there are none.

    The optimiser sees the misfit times `scale`.
    """

    observed: Traces
    bounds: Bounds | None
    mask: PyTree | None
    scale: float | Float[Array, ""]


Step = Callable[[PyTree, Any, Setting, Shots | None], tuple[PyTree, Any, Numbers]]


def make_step(
    F: Callable[..., Traces],
    static: PyTree,
    optimizer: optax.GradientTransformationExtraArgs,
    misfit: Callable[[Traces, Traces], Float[Array, ""]],
    precondition: Callable[[PyTree], PyTree] | None,
    searches: bool,
) -> Step:
    """Compiles `step(params, opt_state, setting, shots) -> params, opt_state, numbers`.

    Args:
        F: model to traces.
        static: what completes `params` to the model.
        optimizer: gets the misfit as `value_fn`, over the same shots.
        misfit: of predicted and observed traces.
        precondition: of the gradient.
        searches: whether the optimiser keeps value and gradient of the model where its line search ended. To
            compile the search with the rest matters: on its own, it is traced anew by every iteration.
    """

    @jax.jit
    def step(params, opt_state, setting, shots):
        def objective(params):
            return scaled_misfit(F, static, misfit, setting, shots, params)

        if searches:
            value, gradient = optax.value_and_grad_from_state(objective)(params, state=opt_state)
        else:
            value, gradient = jax.value_and_grad(objective)(params)
        if precondition is not None:
            gradient = precondition(gradient)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes, also for those who forbid it elsewhere
            updates, opt_state = optimizer.update(
                gradient, opt_state, params, value=value, grad=gradient, value_fn=objective
            )
        new_params = optax.apply_updates(params, updates)
        if setting.bounds is not None:
            new_params = optax.projections.projection_box(new_params, *setting.bounds)
        change = optax.tree.norm(optax.tree.sub(new_params, params)) / optax.tree.size(params) ** 0.5
        numbers = Numbers(jnp.asarray(value) / setting.scale, optax.tree.norm(gradient) / setting.scale, change)
        return new_params, strong(opt_state), numbers

    return step


def scaled_misfit(
    F: Callable[..., Traces],
    static: PyTree,
    misfit: Callable[[Traces, Traces], Float[Array, ""]],
    setting: Setting,
    shots: Shots | None,
    params: PyTree,
) -> Float[Array, ""]:
    """What the optimiser minimises."""
    if setting.bounds is not None:
        params = bounded(params, *setting.bounds)
    if setting.mask is not None:
        params = masked(params, setting.mask)
    model = eqx.combine(params, static)
    predicted, observed = (
        (F(model), setting.observed) if shots is None else (F(model, shots=shots), setting.observed[shots])
    )
    return misfit(predicted, observed) * setting.scale


def scale_of_first_step(
    F: Callable[..., Traces],
    static: PyTree,
    misfit: Callable[[Traces, Traces], Float[Array, ""]],
    setting: Setting,
    params: PyTree,
) -> np.ndarray:
    """A power of two that brings the norm of the first gradient to between 1 and 2.

    L-BFGS makes its first step as long as the gradient, 1 at most. Traces come in any unit: with a gradient of 1e-5
    that step is lost in the rounding of a velocity, and the search ends where it began.
    """
    gradient = jax.jit(jax.grad(lambda params: scaled_misfit(F, static, misfit, setting, None, params)))(params)
    return scale_to_one(float(optax.tree.norm(gradient)))


def scale_to_one(norm: float) -> np.ndarray:
    """The power of two that brings a norm to between 1 and 2."""
    return np.array(2.0 ** -math.floor(math.log2(norm)) if 0.0 < norm < math.inf else 1.0)


def strong(opt_state: PyTree) -> PyTree:
    """The same state as arrays without weak types, which a saved file could not tell and which would compile
    the step twice."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=jnp.asarray(leaf).dtype), opt_state)


def searches_line(opt_state: PyTree) -> bool:
    """Whether an optimiser's state holds the value and gradient found by a line search."""
    return all(
        any(found is not None for _, found in optax.tree.get_all_with_path(opt_state, name))
        for name in ("value", "grad")
    )


def compares_gradients(opt_state: PyTree) -> bool:
    """Whether an optimiser's state holds differences of successive gradients, as L-BFGS does."""
    return bool(optax.tree.get_all_with_path(opt_state, "diff_updates_memory"))
