"""One iteration of an inversion as one compiled function."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, PyTree

from .constraints import Bounds, bounded, masked
from .sizes import norm, power_to_one, relative_gradient, shifted

Traces = Float[Array, "shot *components receiver time"]
Shots = Int32[Array | Any, " batch"]


class Numbers(NamedTuple):
    """What an iteration reports.

    Attributes:
        misfit: value of the objective.
        gradient_norm: L2 norm of the gradient given to the optimiser, over two to the power
            `of_norm`.
        model_change: root mean square.
        of_norm: see `gradient_norm`.
    """

    misfit: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    model_change: Float[Array, ""]
    of_norm: Int32[Array, ""]


class Setting(NamedTuple):
    """Arrays that stay the same through all iterations; `bounds` and `mask` are None where there
    are none.

    Attributes:
        observed: traces over their size.
        bounds: of the model.
        mask: factors of the gradient.
        down: a power of two that predicted traces are multiplied by, to be compared with them.
    """

    observed: Traces
    bounds: Bounds | None
    mask: PyTree | None
    down: Float[Array, ""]


class Seen(NamedTuple):
    """What the optimiser sees: the objective times `2**power`.

    Attributes:
        power: that power.
        known: whether it is; if not, it is chosen so that the root mean square of the gradient is
            between 1 and 2.
    """

    power: Int32[Array, ""]
    known: Any


Step = Callable[[PyTree, Any, Setting, Seen, Shots | None], tuple[PyTree, Any, Seen, Numbers]]
Objective = Callable[[PyTree], Float[Array, ""]]


def make_step(
    F: Callable[..., Traces],
    static: PyTree,
    optimizer: optax.GradientTransformationExtraArgs,
    misfit: Callable[[Traces, Traces], Float[Array, ""]],
    precondition: Callable[[PyTree], PyTree] | None,
    preconditioned_at: int | None,
    searches: bool,
) -> Step:
    """Compiles `step(params, opt_state, setting, seen, shots) -> params, opt_state, seen, numbers`.

    Args:
        F: model to traces.
        static: what completes `params` to the model.
        optimizer: gets the misfit as `value_fn`, over the same shots.
        misfit: of predicted and observed traces over their size.
        precondition: of the gradient.
        preconditioned_at: it sees the gradient of the objective times two to this power; of any
            size if None.
        searches: whether the optimiser keeps value and gradient of the model where its line search
            ended. To compile the search with the rest matters: on its own, it is traced anew by
            every iteration.
    """

    @jax.jit
    def step(params, opt_state, setting, seen, shots):
        def objective(params):
            return objective_of(F, static, misfit, setting, shots, params)

        def changed(gradient, power):
            if precondition is None:
                return gradient, power
            level = -power if preconditioned_at is None else preconditioned_at
            return precondition(shifted(gradient, power + level)), -level

        value, gradient, value_fn, seen, numbers = evaluated(
            objective, params, opt_state, seen, searches, changed
        )
        with jax.numpy_dtype_promotion(
            "standard"
        ):  # optax mixes dtypes, also for those who forbid it elsewhere
            updates, opt_state = optimizer.update(
                gradient, opt_state, params, value=value, grad=gradient, value_fn=value_fn
            )
        new_params = optax.apply_updates(params, updates)
        if setting.bounds is not None:
            new_params = optax.projections.projection_box(new_params, *setting.bounds)
        if (
            setting.mask is not None
        ):  # weight decay, noise and preconditioners move what has no gradient, too
            new_params = jax.tree.map(
                lambda new, old, factor: jnp.where(factor == 0.0, old, new),
                new_params,
                params,
                setting.mask,
            )
        change = (
            optax.tree.norm(optax.tree.sub(new_params, params)) / optax.tree.size(params) ** 0.5
        )
        return new_params, strong(opt_state), seen, numbers._replace(model_change=change)

    return step


def evaluated(
    objective: Objective,
    params: PyTree,
    opt_state: Any,
    seen: Seen,
    searches: bool,
    changed: Callable[[PyTree, Any], tuple[PyTree, Any]] = lambda gradient, power: (
        gradient,
        power,
    ),
) -> tuple[Array, PyTree, Objective, Seen, Numbers]:
    """Value and gradient as the optimiser sees them, the function whose they are, and what the
    iteration reports.

    Args:
        objective: to be minimised.
        params: where.
        opt_state: the optimiser's.
        seen: what it sees.
        searches: whether the state holds value and gradient.
        changed: what becomes of the gradient before it is seen: from a gradient and the power of
            two that it is to be multiplied by to the same.
    """

    def value_fn(params):
        return shifted(objective(params), seen.power)

    if searches:
        value, gradient = optax.value_and_grad_from_state(value_fn)(params, state=opt_state)
        size, power = norm(gradient)
        numbers = Numbers(
            shifted(jnp.asarray(value), -seen.power), size, jnp.zeros(()), power - seen.power
        )
        return jnp.asarray(value), gradient, value_fn, seen, numbers
    value, gradient, power = relative_gradient(objective, params)
    gradient, power = changed(gradient, power)
    size, more = norm(gradient)
    to_one = power_to_one(size / optax.tree.size(params) ** 0.5, power + more)
    chosen = jnp.where(seen.known, seen.power, to_one)
    # A gradient that is zero says nothing of the size of those to come.
    seen = Seen(chosen, seen.known | (size > 0.0))
    numbers = Numbers(value, size, jnp.zeros(()), power + more)
    return shifted(value, chosen), shifted(gradient, power + chosen), value_fn, seen, numbers


def objective_of(
    F: Callable[..., Traces],
    static: PyTree,
    misfit: Callable[[Traces, Traces], Float[Array, ""]],
    setting: Setting,
    shots: Shots | None,
    params: PyTree,
) -> Float[Array, ""]:
    """The misfit of a model, of traces over their size."""
    if setting.bounds is not None:
        params = bounded(params, *setting.bounds)
    if setting.mask is not None:
        params = masked(params, setting.mask)
    model = eqx.combine(params, static)
    predicted, observed = (
        (F(model), setting.observed)
        if shots is None
        else (F(model, shots=shots), setting.observed[shots])
    )
    return misfit(predicted * setting.down, observed)


def power_of_first_step(
    objective: Callable[[Setting, PyTree], Array], setting: Setting, params: PyTree
) -> int:
    """The power of two that brings the norm of the first gradient to between 1 and 2.

    L-BFGS makes its first step as long as the gradient, 1 at most. With a gradient of 1e-5 that
    step is lost in the rounding of a velocity, and the search ends where it began.
    """

    @jax.jit
    def size(
        setting, params
    ):  # observed traces as constants would take XLA longer to fold than the solves take
        _, gradient, power = relative_gradient(lambda params: objective(setting, params), params)
        found, more = norm(gradient)
        return found, power + more

    found, power = size(setting, params)
    return power_of_size(float(found)) - int(power)


def power_of_size(size: float) -> int:
    """The power of two that brings a positive number to between 1 and 2; 0 for others."""
    return 1 - math.frexp(size)[1] if 0.0 < size < math.inf else 0


def strong(opt_state: PyTree) -> PyTree:
    """The same state as arrays without weak types, which a saved file could not tell and which
    would compile the step twice."""
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
