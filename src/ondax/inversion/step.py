"""One iteration of an inversion as one compiled function."""

import functools
import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Float64, Int32, PyTree

from ..face.fetching import Source
from ..misfits import of_weighted, sums_over_shots
from ..objective import Objective, normal_product
from ..propagator import Propagator
from .constraints import Bounds, bounded, derivatives_of_clipping, masked
from .encoding import encoded_traces, encoded_wavelets
from .sizes import norm, power_to_one, relative_gradient, shifted
from .stopping import stands_still

Traces = Float[Array, "shot *components receiver time"]
Shots = Int32[Array | Any, " batch"] | Float[Array | Any, "supershot shot"]


@final
class Numbers(NamedTuple):
    """What an iteration reports.

    Attributes:
        misfit: value of the objective.
        gradient_norm: L2 norm of the gradient given to the optimiser, divided by `2**of_norm`.
        model_change: root mean square of the step, in units of the model.
        of_norm: see `gradient_norm`.
        regularization: the part of the objective that is no misfit of traces.
        evaluations: of the objective.
        still: whether the step has changed nothing, but for rounding.
    """

    misfit: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    model_change: Float[Array, ""]
    of_norm: Int32[Array, ""]
    regularization: Float[Array, ""] | float = 0.0
    evaluations: Int32[Array, ""] | int = 1
    still: Bool[Array, ""] | bool = False


@final
class Setting(NamedTuple):
    """Arrays that stay the same through all iterations.

    Attributes:
        observed: traces, divided by their size, a power of two; None where they are fetched.
        bounds: lower and upper bounds of the model, or None.
        mask: factors of the gradient, or None.
        down: one over that power of two: predicted traces are multiplied by it.
        weights: of traces, (shot, receiver), or None.
    """

    observed: Traces | None
    bounds: Bounds | None
    mask: PyTree | None
    down: Float[Array, ""]
    weights: Float[Array, "shot receiver"] | None = None


@final
class Aim(NamedTuple):
    """What is minimised.

    Attributes:
        F: a function from model to traces.
        static: the leaves of the model that are not inverted for.
        misfit: a function of predicted and observed traces, both divided by their size.
        regularize: a function of the model that is added, in units of the data; or None.
        of_value: the misfit is that of the traces themselves divided by `2**of_value`.
        project: what every model goes through first; or None.
        source: gives observed traces, divided by their size, where they do not lie in memory.
        n_shots: of all shots.
        parameters: from what is inverted for to the model that F takes; None if they are the same.
        second: whether the optimiser takes products with second derivatives.
        together: fires all shots together, in super-shots, whose codes an iteration draws; or None.
    """

    F: Any
    static: PyTree
    misfit: Callable[..., Float[Array, ""]]
    regularize: Callable[[PyTree], Any] | None = None
    of_value: int = 0
    project: Callable[[PyTree], PyTree] | None = None
    source: Source | None = None
    n_shots: int = 1
    parameters: Callable[[PyTree], PyTree] | None = None
    second: bool = False
    together: Propagator | None = None


@final
class Seen(NamedTuple):
    """The size of the objective that an optimiser sees: it is given the objective times `2**power`.

    Attributes:
        power: that power.
        known: whether `power` has been chosen; if not, the next iteration chooses it so that the
            root mean square of its gradient is between 1 and 2.
    """

    power: Int32[Array, ""]
    known: Any


def seen_from(power: Float64[np.ndarray, ""]) -> Seen:
    """What an optimiser sees, from the number that states hold: `Seen.power`, or NaN if that is not
    known."""
    known = bool(np.isfinite(power))
    return Seen(jnp.asarray(int(power) if known else 0, jnp.int32), jnp.asarray(known))


def power_of(seen: Seen) -> Float64[np.ndarray, ""]:
    """The number that states hold of what an optimiser sees; the inverse of `seen_from`."""
    return np.array(float(seen.power) if bool(seen.known) else math.nan)


Step = Callable[[PyTree, Any, Setting, Seen, Shots | None], tuple[PyTree, Any, Seen, Numbers]]
Function = Callable[[PyTree], Float[Array, ""]]


def make_step(
    aim: Aim,
    optimizer: optax.GradientTransformationExtraArgs,
    precondition: Callable[[PyTree], PyTree] | None,
    preconditioned_at: int | None,
    searches: bool,
) -> Step:
    """Compile one iteration, `step(params, opt_state, setting, seen, shots) -> params, opt_state,
    seen, numbers`.

    The line search of an optimiser is part of it. (Called outside of a compiled function, optax
    would trace the search again in every iteration.)

    Args:
        aim: what is minimised.
        optimizer: the optimiser; it is given the objective too, as `value_fn`, over the same shots.
        precondition: a function of the gradient, or None.
        preconditioned_at: `precondition` is given the gradient times `2**preconditioned_at`; if
            None, in any size.
        searches: whether the optimiser's state keeps value and gradient at the end of its line
            search.
    """

    @jax.jit
    def step(params, opt_state, setting, seen, shots):
        def objective(params):
            return objective_of(aim, setting, shots, params)

        def changed(gradient, power):
            if precondition is None:
                return gradient, power
            level = -power if preconditioned_at is None else preconditioned_at
            return precondition(shifted(gradient, power + level)), -level

        second = {}
        if aim.second:
            second = {"normal": lambda v: gauss_newton(aim, setting, shots, params, v)}
        new_params, opt_state, seen, numbers = optimizer_step(
            optimizer, objective, params, opt_state, seen, searches, changed, second
        )
        if setting.bounds is not None:
            new_params = optax.projections.projection_box(new_params, *setting.bounds)
        if aim.project is not None:
            new_params = projected(aim, new_params)
        if setting.mask is not None:
            # Weight decay, noise and preconditioners change values without a gradient, too.
            new_params = jax.tree.map(
                lambda new, old, factor: jnp.where(factor == 0.0, old, new),
                new_params,
                params,
                setting.mask,
            )
        distance = optax.tree.norm(optax.tree.sub(new_params, params))
        change = distance / optax.tree.size(params) ** 0.5
        numbers = numbers._replace(
            model_change=change,
            regularization=regularization(aim, setting, shots, constrained(aim, setting, params)),
            evaluations=evaluations_of(opt_state) if searches else 1 + aim.second,
            still=stands_still(params, new_params),
        )
        return new_params, opt_state, seen, numbers

    return step


def evaluations_of(opt_state: PyTree) -> Any:
    """How often the line search of an optimiser has evaluated the objective, in its last step; 1 if
    its state does not say."""
    found = optax.tree.get_all_with_path(opt_state, "num_linesearch_steps")
    return functools.reduce(jnp.add, [jnp.asarray(n, jnp.int32) for _, n in found]) if found else 1


def _unchanged(gradient: PyTree, power: Any) -> tuple[PyTree, Any]:
    """The gradient as it is; see `optimizer_step`."""
    return gradient, power


def optimizer_step(
    optimizer: optax.GradientTransformationExtraArgs,
    objective: Function,
    params: PyTree,
    opt_state: Any,
    seen: Seen,
    searches: bool,
    changed: Callable[[PyTree, Any], tuple[PyTree, Any]] = _unchanged,
    second: Mapping[str, Callable[[PyTree], PyTree]] = MappingProxyType({}),
) -> tuple[PyTree, Any, Seen, Numbers]:
    """One step of an optax optimiser.

    Args:
        optimizer: the optimiser.
        objective: the function to be minimised.
        params: where it stands.
        opt_state: the optimiser's state.
        seen: the size of the objective that the optimiser sees.
        searches: whether its state keeps value and gradient at the end of a line search.
        changed: what is done to the gradient before the optimiser sees it. Takes and returns a
            gradient and a power: the true gradient is `2**power` times the given one.
        second: products with second derivatives that the optimiser needs, by name.

    Returns:
        The new parameters; the optimiser's new state; what it sees from now on; and the numbers of
        the iteration, of which `model_change` is not filled in.
    """
    value, gradient, value_fn, seen, numbers = evaluated(
        objective, params, opt_state, seen, searches, changed
    )
    products = {n: partial(_seen_product, f, seen.power) for n, f in second.items()}
    # optax mixes dtypes, which users may have forbidden for all other code.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(
            gradient, opt_state, params, value=value, grad=gradient, value_fn=value_fn, **products
        )
    return optax.apply_updates(params, updates), strong(opt_state), seen, numbers


def _seen_product(product: Callable[[PyTree], PyTree], power: Any, vector: PyTree) -> PyTree:
    """A product with second derivatives of the objective that the optimiser sees."""
    return shifted(product(vector), power)


def evaluated(
    objective: Function,
    params: PyTree,
    opt_state: Any,
    seen: Seen,
    searches: bool,
    changed: Callable[[PyTree, Any], tuple[PyTree, Any]],
) -> tuple[Array, PyTree, Function, Seen, Numbers]:
    """Value and gradient of the objective as the optimiser sees them.

    Arguments are as in `optimizer_step`.

    Returns:
        Value; gradient; the objective as the optimiser sees it; its size, chosen now if it was not
        known; and the numbers of the iteration, of which `model_change` is not filled in.
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


def constrained(aim: Aim, setting: Setting, params: PyTree) -> PyTree:
    """Parameters within bounds and the set that is projected on, whose gradient obeys bounds and
    mask."""
    if setting.bounds is not None:
        params = bounded(params, *setting.bounds)
    if aim.project is not None:
        params = projected(aim, params)
    return params if setting.mask is None else masked(params, setting.mask)


def projected(aim: Aim, params: PyTree) -> PyTree:
    """Parameters after projection of the model that they are part of."""
    assert aim.project is not None
    model = aim.project(eqx.combine(params, aim.static))
    found, _ = eqx.partition(model, eqx.is_inexact_array)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), found, params)


def regularization(
    aim: Aim, setting: Setting, shots: Shots | None, params: PyTree
) -> Float[Array, ""]:
    """What is added to the misfit: in a batch, the share of its shots in all of them."""
    dtype = setting.down.dtype
    if aim.regularize is None:
        return jnp.zeros((), dtype)
    share = 1.0 if shots is None or aim.together else shots.shape[0] / aim.n_shots
    added = jnp.asarray(aim.regularize(eqx.combine(params, aim.static)), dtype)
    return share * shifted(added, -aim.of_value)


def objective_of(
    aim: Aim, setting: Setting, shots: Shots | None, params: PyTree
) -> Float[Array, ""]:
    """The misfit of a model, and what is added to it; its gradient obeys bounds and mask.

    Args:
        aim: what is minimised.
        setting: observed traces, bounds and mask.
        shots: numbers of the shots to be modelled; None for all.
        params: floating-point arrays of the model.
    """
    params = constrained(aim, setting, params)
    misfit = misfit_of(aim, setting, shots, eqx.combine(params, aim.static))
    if aim.regularize is None:
        return misfit
    return misfit + regularization(aim, setting, shots, params).astype(misfit.dtype)


def gauss_newton(
    aim: Aim, setting: Setting, shots: Shots | None, params: PyTree, vector: PyTree
) -> PyTree:
    """The product of the Gauss-Newton Hessian of the objective with a vector."""

    def model_of(params: PyTree) -> PyTree:
        held = constrained(aim, setting, params)
        model = eqx.combine(held, aim.static)
        return model if aim.parameters is None else aim.parameters(model)

    with derivatives_of_clipping():
        model, change = jax.jvp(model_of, (params,), (vector,))
        _, pull = jax.vjp(model_of, params)
    if sums_over_shots(aim.misfit):
        curved = objective_over_shots(aim, setting).normal(model, change, shots=shots)
    else:
        curved = _normal_of_traces(aim, setting, shots, model, change)
    (found,) = pull(curved)
    if aim.regularize is None:
        return found
    added = jax.grad(lambda p: regularization(aim, setting, shots, p))
    return optax.tree.add(found, jax.jvp(added, (params,), (vector,))[1])


def _normal_of_traces(
    aim: Aim, setting: Setting, shots: Shots | None, model: PyTree, change: PyTree
) -> PyTree:
    """The Gauss-Newton product of a misfit that is no sum over shots: all traces come first."""
    assert setting.observed is not None
    weights = setting.weights
    observed = setting.observed
    if shots is not None:
        observed, weights = observed[shots], None if weights is None else weights[shots]
    slope = jax.grad(lambda traces: of_weighted(aim.misfit, traces, observed, weights))
    return normal_product(aim.F, slope, setting.down, model, change, shots)


def objective_over_shots(aim: Aim, setting: Setting) -> Objective:
    """The misfit as a sum over shots. As the predicted traces are divided by their size, a power of
    two, so is the misfit's first argument."""
    observed = setting.observed if aim.source is None else aim.source
    return Objective(aim.F, observed, aim.misfit, scale=setting.down, trace_weights=setting.weights)


def misfit_of(aim: Aim, setting: Setting, shots: Shots | None, model: PyTree) -> Float[Array, ""]:
    """The misfit of the traces that a model predicts."""
    F, misfit, weights = aim.F, aim.misfit, setting.weights
    if aim.parameters is not None:
        model = aim.parameters(model)
    if aim.together is not None:
        return _misfit_of_supershots(aim, setting, shots, model)
    if isinstance(F, Propagator) and not F.survey.extended and sums_over_shots(misfit):
        return objective_over_shots(aim, setting)(model, shots=shots)
    assert setting.observed is not None
    if shots is None:
        predicted, observed = F(model), setting.observed
    else:
        predicted, observed = F(model, shots=shots), setting.observed[shots]
        weights = None if weights is None else weights[shots]
    return of_weighted(misfit, predicted * setting.down, observed, weights)


def _misfit_of_supershots(
    aim: Aim, setting: Setting, codes: Any, model: PyTree
) -> Float[Array, ""]:
    """The mean misfit of super-shots: in the mean over codes, the misfit of all shots."""
    assert aim.together is not None
    assert setting.observed is not None
    dtype = setting.observed.dtype
    codes = codes.astype(dtype)
    wavelet = jnp.asarray(aim.F.survey.wavelet, dtype)
    predicted = aim.together(model, wavelet=encoded_wavelets(codes, wavelet))
    observed = encoded_traces(codes, setting.observed)
    return aim.misfit(predicted * setting.down, observed) / codes.shape[0]


def power_of_first_step(
    objective: Callable[[Setting, PyTree], Array], setting: Setting, params: PyTree
) -> int:
    """The power of two that brings the norm of the first gradient to between 1 and 2.

    The first step of L-BFGS has the length of the gradient, but 1 at most. If the gradient were
    1e-5, that step would be lost in the rounding of velocities, and the search would end where it
    began.
    """

    # `setting` is an argument: if the observed traces were constants of the program, XLA would
    # spend more time on them than the wave solves take.
    @jax.jit
    def size(setting, params):
        _, gradient, power = relative_gradient(lambda params: objective(setting, params), params)
        found, more = norm(gradient)
        return found, power + more

    found, power = size(setting, params)
    return power_of_size(float(found)) - int(power)


def power_of_size(size: float) -> int:
    """The power of two that brings a positive number to between 1 and 2; 0 for others."""
    return 1 - math.frexp(size)[1] if 0.0 < size < math.inf else 0


def strong(opt_state: PyTree) -> PyTree:
    """The same state as arrays of the same dtypes, but never of JAX's weak type: a file does not
    keep that, and the step would be compiled twice."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=jnp.asarray(leaf).dtype), opt_state)


def searches_line(opt_state: PyTree) -> bool:
    """Whether an optimiser's state keeps the value and gradient at the end of a line search."""
    return all(
        any(found is not None for _, found in optax.tree.get_all_with_path(opt_state, name))
        for name in ("value", "grad")
    )


def compares_gradients(opt_state: PyTree) -> bool:
    """Whether an optimiser's state holds differences of successive gradients, as L-BFGS does."""
    return bool(optax.tree.get_all_with_path(opt_state, "diff_updates_memory"))
