"""Full-waveform inversion: the loop around propagator, misfit and optimiser."""

import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from .._validate import whole
from ..face.callback_errors import as_raised
from ..face.fetching import in_memory
from ..misfits import least_squares, sums_over_shots
from ..propagator import Propagator
from .batches import shot_batch
from .checks import (
    check_bounds,
    check_gauss_newton,
    check_linear_search,
    check_optimizer,
    check_representable,
    check_search,
    check_squares,
    check_units,
    largest_curvature,
    level_of_preconditioner,
    matching_traces,
    usable_path,
)
from .choice import as_saved
from .constraints import spread, spread_bounds
from .encoding import encoded_propagator, polarities
from .fingerprint import Problem, fingerprint
from .gauss_newton import GaussNewton
from .loop import AbstractRun, iterate
from .observed import Shifted
from .parametrizations import Parametrization
from .result import FWIResult, History
from .signature import ProjectedWavelet
from .sizes import (
    SizedMisfit,
    ignores_size,
    power_above,
    size_of_tree,
    sized,
    times_power_of_two,
)
from .step import (
    Aim,
    Setting,
    Step,
    compares_gradients,
    make_step,
    objective_of,
    power_of,
    power_of_first_step,
    projected,
    searches_line,
    seen_from,
    strong,
)
from .stopping import DAMPED, FRESH_SEARCHES, SEARCHES, Stop, why_still

Misfit = Callable[[Array, Array], Float[Array, ""]]

LEFT = (
    "if that is not the initial model, a step has left what can be modelled: keep models within "
    "bounds, a projection or ox.parametrizations.between, or take shorter steps"
)


def fwi(
    F: Callable[..., Array],
    observed: Any,
    initial: PyTree,
    *,
    optimizer: optax.GradientTransformation | GaussNewton,
    iterations: int,
    misfit: Misfit = least_squares,
    batch_size: int | None = None,
    encodings: int | None = None,
    seed: int = 0,
    bounds: tuple[Any, Any] | None = None,
    mask: PyTree | None = None,
    parameters: Callable[[PyTree], PyTree] | None = None,
    precondition: Callable[[PyTree], PyTree] | None = None,
    regularize: Callable[[PyTree], Any] | None = None,
    project: Callable[[PyTree], PyTree] | None = None,
    stop: Stop | None = None,
    callback: Callable[[int, PyTree, History], None] | None = None,
    progress: bool = True,
    save: str | os.PathLike | None = None,
    save_every: int = 1,
    trust: Collection[str] = (),
) -> FWIResult:
    """Full-waveform inversion: find a model whose predicted traces fit the observed ones.

    Starts from an initial model and takes gradient steps to minimise `misfit(F(model), observed)`
    (Tarantola, 1984; for an overview, see Virieux and Operto, 2009).

    Optimisers that search along a line, such as `optax.lbfgs` (Liu and Nocedal, 1989), need no
    extra wave solves between iterations: each iteration starts with the value and gradient at which
    the search before it ended. The very first step of L-BFGS has length 1: that is the norm of the
    change of the whole model, in its units. (The misfit is scaled to this end, which costs one more
    gradient.) For velocities in m/s this is far too short, and the search would spend a dozen wave
    solves to lengthen it. So make the first step longer:
    `optax.lbfgs(optax.piecewise_constant_schedule(1000.0, {1: 1e-3}))`.

    The result does not depend on the units of source and data. Optimisers whose steps do not depend
    on the size of the gradients, such as Adam, are given the misfit times a power of two, chosen so
    that the root mean square of the first gradient is between 1 and 2: small numbers in their
    denominators, such as Adam's `eps`, are relative to that. All other optimisers are given the
    misfit itself: a step of `optax.sgd` is its learning rate times the gradient, in units of the
    data.

    With `save`, a run that was stopped, in whatever way, goes on from its last saved iteration when
    the same call is made again, and its result is the same to the last bit. A call that differs is
    refused: all that the arguments hold or reach (arrays, attributes, defaults, closures, the
    globals that functions read) is compared by content with what the state was saved with. Only
    what functions read from files or from the environment while they run is not compared.

    Args:
        F: a `Propagator`, or any JAX function `F(model)` that returns traces (shot, [component,]
            receiver, time); for batches, also `F(model, shots=indices)`. Wrap a propagator to
            invert for other variables: `lambda s, **kw: F(1 / s, **kw)`.
        observed: traces (shot, [component,] receiver, time), or a list of those of each shot; or
            anything that gives those of some shots, either way, by `observed[numbers]`, a NumPy
            array of shot numbers, such as `ox.io.scan(...)`: then no more than those of a few shots
            are in memory, if the misfit is a sum over shots. Where the survey gives traces weights,
            they count so much, and those of weight 0 may hold anything. Traces of more than 256 MB
            that are in files are not all read before the first iteration: with `save`, they are
            compared by the files' sizes and times of change, and by the traces of 16 shots. What
            you have made yourself is compared likewise if it has a method `stamp()`, which returns
            a text that changes when the traces do; else all of it is read, unless you name it in
            `trust`.
        initial: the model to start from: an array or any pytree, a network included. The inversion
            changes its floating-point arrays.
        optimizer: any optax optimiser, or `ox.GaussNewton()`. The step length has the units of the
            model.
        iterations: number of iterations, including those before a resumption.
        misfit: a JAX function `misfit(predicted, observed)` that returns a scalar. It is given the
            traces in their own units: if they are so small that their squares become zero in
            float32, it has to scale them first. The misfits of `ox.misfits` need no scaling.
        batch_size: number of shots in an iteration, drawn in an order that is reshuffled every
            epoch; None for all shots. Not with a line search.
        encodings: number of super-shots in an iteration, in place of shots. Each is the sum of all
            shots, with polarities drawn at random for every iteration; for `least_squares`, their
            misfit is in the mean that of all shots (Krebs et al., 2009). F must be a propagator all
            of whose shots have the same receivers. Not with a line search.
        seed: seed of that order, and of the polarities.
        bounds: `(lower, upper)`, each a number or a tree like the model, in its units. Every model
            is kept within them, also the trial models of a line search. Where a model lies on a
            bound, its gradient is set to zero if a step would leave the bounds.
        mask: factors of the gradient, a number or a tree like the model: 0 holds a value fixed.
            Optimisers that rescale the gradient, such as Adam, undo factors other than 0 and 1; a
            line search refuses such factors.
        parameters: a JAX function from what is inverted for to the model that F takes, such as
            `lambda s: 1.0 / s` for slowness; or one of `ox.parametrizations`, which know their
            inverse: give `p.from_model(vp0)` and `p.bounds(1500.0, 4500.0)`, and the model found is
            `p(result.model)`. Initial model, bounds, mask, penalties, projections and the result
            are of what is inverted for.
        precondition: a JAX function from gradient to gradient, applied after bounds and mask. Not
            with a line search, for which there is `ox.parametrizations.conditioned`. It is given
            the gradient in units of the data. If float32 cannot hold that, it is given the gradient
            times some power of two, provided that its result is proportional to the gradient; other
            functions are then refused.
        regularize: a JAX function from model to a number, which is added to the misfit, in its
            units: those of `ox.regularizers` and their sums, or your own. With batches, it counts
            in proportion to their share of all shots.
        project: a JAX function from model to model, through which every model goes before it is
            evaluated, also the trial models of a line search, and the initial one: those of
            `ox.projections`, composed by `|`, or your own. It leaves alone what it has projected.
        stop: criteria that end the inversion before its last iteration: `ox.Stop(relative=1e-3)`,
            for example. A line search that finds no better model ends it too; L-BFGS first forgets
            the gradients that it remembers, and tries once more. The result's `stopped` says why.
        callback: `callback(iterations_done, model, history)`, called after each iteration and its
            save.
        progress: whether to show a progress bar with misfit and time.
        save: path of a file (`.npz`) for the state. If it exists, the inversion goes on from there.
        save_every: number of iterations between saves. The last iteration, and one ended by Ctrl-C,
            are always saved.
        trust: names of arguments that are not to be compared with what the state was saved with,
            because you know that they are equivalent: "propagator", "observed traces",
            "initial model", "optimizer", "misfit", "batches", "bounds", "mask", "precondition",
            "regularize", "project", "parameters". For differences that have no effect, and for what
            cannot be compared, such as a misfit that writes to an open file.

    Every iteration is logged at level INFO, by the logger "ondax.inversion".

    Returns:
        The last model, a history with one row for each iteration, and why the inversion stopped, if
        it was before the last one.

    Raises:
        ValueError: an argument does not fit the others; batches, fractional masks or a
            preconditioner are combined with a line search; the saved state belongs to another
            problem; or an argument cannot be compared with what a state was saved with.
        TypeError: `optimizer` is not an optimiser.
        FloatingPointError: misfit or gradient is not finite, or is too small to be represented
            where its size matters. The message names the iteration, which is not saved.
        Interrupted: Ctrl-C was pressed, and the running iteration has been finished and saved; a
            KeyboardInterrupt that holds the result so far. A second Ctrl-C stops at once.
    """
    whole("iterations", iterations, at_least=0)
    check_optimizer(optimizer)
    whole("save_every", save_every, at_least=1)
    path = None if save is None else usable_path(Path(save))
    params, static = eqx.partition(jax.tree.map(_as_jax, initial), eqx.is_inexact_array)
    if not jax.tree.leaves(params):
        raise ValueError(
            "the initial model holds no floating-point array, so there is nothing to invert for"
        )
    survey = F.survey if isinstance(F, (Propagator, ProjectedWavelet)) else None
    modelled = F if parameters is None else _Composed(F, parameters)
    predicted = eqx.filter_eval_shape(modelled, eqx.combine(params, static))
    F, kept_by = as_saved(F, predicted.dtype, path)
    modelled = F if parameters is None else _Composed(F, parameters)
    elsewhere = None
    if survey is not None and not in_memory(observed):
        elsewhere = Shifted(observed, survey)
        all_at_once = survey.extended or encodings is not None or not sums_over_shots(misfit)
        if all_at_once or not isinstance(F, Propagator):
            observed, elsewhere = elsewhere.all(), None
    if elsewhere is not None:
        look = elsewhere.look(compared=path is not None and "observed traces" not in trust)
        power, content, traces = power_above(look.peak), look.digest, None
    else:
        traces = content = matching_traces(observed, predicted, survey)
        power = size_of_tree(traces)
    if power == 0:  # the observed traces may all be zero: then the predicted ones have a size
        power = size_of_tree(eqx.filter_jit(modelled)(eqx.combine(params, static)))
    of_size = sized(misfit, power)
    setting = Setting(
        None if traces is None else jnp.ldexp(traces, -of_size.of_traces),
        None if bounds is None else spread_bounds(bounds, params),
        None if mask is None else spread("mask", mask, params),
        jnp.asarray(2.0**-of_size.of_traces, predicted.dtype),
        None if survey is None or not survey.weighs_traces else jnp.asarray(survey.trace_weights),
    )
    known = isinstance(parameters, Parametrization)  # a network at its bounds says nothing
    if setting.bounds is not None and (parameters is None or known):
        # Both ends are among the models that are allowed: a falling function has the fastest below.
        for end in setting.bounds:
            at = eqx.combine(end, static)
            check_bounds(F, parameters(at) if known else at)
    if batch_size is not None:
        whole("batch_size", batch_size, at_least=1, at_most=predicted.shape[0])
    together = None
    if encodings is not None:
        whole("encodings", encodings, at_least=1)
        if batch_size is not None or not isinstance(F, Propagator):
            raise ValueError(
                f"encodings={encodings} does not go with "
                + ("batch_size" if batch_size is not None else "an F that is no ox.Propagator")
            )
        together = encoded_propagator(F, encodings)
    second = isinstance(optimizer, GaussNewton)
    if second:
        curvature = largest_curvature(misfit, predicted)
        check_gauss_newton(F, encodings, batch_size, precondition, setting.mask, curvature)
    method: Any = optimizer
    if second:
        method = optax.GradientTransformationExtraArgs(method.init, method.update)
    extended = optax.with_extra_args_support(method)
    opt_state = strong(extended.init(params))
    searches = searches_line(opt_state)
    check_linear_search(searches or compares_gradients(opt_state), None, encodings)
    check_search(searches, compares_gradients(opt_state), batch_size, setting.mask, precondition)
    compares = compares_gradients(opt_state)
    indifferent = second or (not (searches or compares) and ignores_size(extended, params))
    check_units(of_size.of_value, searches and not compares)
    level = level_of_preconditioner(precondition, of_size.of_value, params)
    aim = Aim(F, static, of_size.of, regularize, of_size.of_value, project)
    aim = aim._replace(
        n_shots=predicted.shape[0], together=together, parameters=parameters, second=second
    )
    if elsewhere is not None:
        aim = aim._replace(source=elsewhere.source(-of_size.of_traces))
    if project is not None:
        params = projected(aim, params)
    step = make_step(aim, extended, precondition, level, searches)

    parts = {
        "propagator": F,
        "observed traces": content,
        "initial model": (params, static),
        "optimizer": optimizer,
        "misfit": misfit,
        "batches": (batch_size, encodings, seed),
        "bounds": setting.bounds,
        "mask": setting.mask,
        "precondition": precondition,
        "regularize": regularize,
        "project": project,
        "parameters": parameters,
    }
    problem = Problem.of(
        {name: partial(fingerprint, part) for name, part in parts.items()}, trust, path
    )
    problem = replace(problem, histories=None if kept_by is None else kept_by._asdict())
    unit = math.nan if indifferent else float(of_size.of_value)
    run = _Run(params, opt_state, np.empty((0, 6)), static, np.array(unit), of_size, stop)
    if second:
        run.tries = DAMPED
    elif searches:
        run.tries = FRESH_SEARCHES if compares else SEARCHES
    if compares:

        def objective(setting: Setting, params: PyTree) -> Array:
            return objective_of(aim, setting, None, params)

        run.first_power = partial(power_of_first_step, objective, setting)
        run.forgetful = lambda params: strong(extended.init(params))

    def draw(done: int) -> Any:
        """What an iteration works on."""
        if encodings is not None:
            return polarities(done, encodings, predicted.shape[0], seed)
        if batch_size is not None:
            return shot_batch(done, predicted.shape[0], batch_size, seed)
        return None

    run.check_gradient = not (indifferent or compares)
    if of_size.of is misfit and traces is not None:
        run.check_misfit = partial(check_squares, modelled, misfit, traces)
    return iterate(
        run,
        lambda: run.advance(step, setting, draw(run.done)),
        iterations,
        name="fwi",
        shown=("misfit", ".4g"),
        callback=callback,
        progress=progress,
        path=path,
        problem=problem,
        save_every=save_every,
    )


@final
@dataclass(frozen=True)
class _Composed:
    """Traces as a function of what is inverted for.

    Attributes:
        F: from a model to traces.
        parameters: from what is inverted for to the model.
    """

    F: Callable[..., Array]
    parameters: Callable[[PyTree], PyTree]

    def __call__(self, inverted: PyTree, **given: Any) -> Array:
        return self.F(self.parameters(inverted), **given)


@final
@dataclass
class _Run(AbstractRun):
    """A full-waveform inversion that runs.

    Attributes:
        params: the floating-point arrays of the model, now.
        opt_state: the optimiser's state, now.
        rows: of the history, (iteration, 6).
        static: the other leaves of the model.
        power: the optimiser sees the objective times two to this power; NaN until it is known.
        misfit: the misfit of traces over their size.
        stop: criteria that end it.
        still: for the last iterations, 1 if a step has changed nothing, else 0.
        tries: the inversion ends after so many of these in a row; 0 for never.
        check_gradient: whether steps are proportional to the gradient in units of the data, so that
            it must be representable.
        check_misfit: checks the value of a misfit of the user's; takes the model and the value.
        first_power: finds `power` from `params`, if the first step needs it.
        forgetful: makes the first state of an optimiser whose steps follow from gradients of former
            iterations, to start it again from `params`.
    """

    params: PyTree
    opt_state: PyTree
    rows: np.ndarray
    static: PyTree
    power: np.ndarray
    misfit: SizedMisfit
    stop: Stop | None = None
    still: np.ndarray = field(default_factory=lambda: np.zeros(DAMPED))
    tries: int = 0
    check_gradient: bool = False
    check_misfit: Callable[[PyTree, float], None] | None = None
    first_power: Callable[[PyTree], int] | None = None
    forgetful: Callable[[PyTree], PyTree] | None = None

    @property
    def result(self) -> FWIResult:
        model = eqx.combine(self.params, self.static)
        return FWIResult(model, History(*self.rows.T), self.stopped)

    @property
    def stopped(self) -> str | None:
        if self.tries and np.all(self.still[-self.tries :]):
            return why_still(self.tries)
        if self.stop is None:
            return None
        history = History(*self.rows.T)
        moved = not self.still[-2]
        return self.stop.reason(history.misfit, history.evaluations, history.seconds, moved)

    def begin(self) -> None:
        if self.first_power is not None:
            with as_raised():
                self.power = np.array(float(self.first_power(self.params)))

    def advance(self, step: Step, setting: Setting, shots: Any) -> None:
        """Make one iteration; an error names it, and leaves the run as it was.

        Args:
            step: the compiled iteration.
            setting: arrays that stay the same through all iterations.
            shots: numbers of the shots, or the codes of super-shots; None for all.

        Raises:
            FloatingPointError: misfit, gradient or step are not finite, or not representable.
        """
        started = time.perf_counter()
        seen = seen_from(self.power)
        with _saying_what_keeps_inside(), self.iteration("ox.fwi"):
            params, opt_state, seen, found = step(self.params, self.opt_state, setting, seen, shots)
            misfit, gradient_norm, change, power, added, evaluations, still = map(float, found)
            misfit = times_power_of_two(misfit, self.misfit.of_value)
            added = times_power_of_two(added, self.misfit.of_value)
            gradient_norm = times_power_of_two(gradient_norm, int(power) + self.misfit.of_value)
        numbers = {"misfit": misfit, "gradient norm": gradient_norm, "model change": change}
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise FloatingPointError(
                    f"the {name} is {number} in iteration {self.done + 1}: take shorter steps, set "
                    "bounds on the model, or look for NaN, infinities and divisions by zero in the "
                    "misfit"
                )
        if self.check_misfit is not None:
            self.check_misfit(eqx.combine(self.params, self.static), misfit)
        if self.check_gradient:
            check_representable(gradient_norm, jax.tree.leaves(params)[0].dtype)
        self.params, self.opt_state = params, opt_state
        self.power = power_of(seen)
        row = [*numbers.values(), time.perf_counter() - started, added, evaluations]
        self.rows = np.vstack([self.rows, row])
        self.still = np.append(self.still[1:], still)
        if still and self.forgetful is not None:
            # What is known of the curvature does not hold where bounds have come into play.
            self.opt_state = self.forgetful(params)

    @property
    def saved(self) -> dict[str, Any]:
        return {
            "model": self.params,
            "optimizer": self.opt_state,
            "power": self.power,
            "still": self.still,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.params, self.opt_state, self.power = saved["model"], saved["optimizer"], saved["power"]
        self.still = saved["still"]


@contextmanager
def _saying_what_keeps_inside() -> Iterator[None]:
    """Within it, a model that cannot be run comes with what keeps models where they can."""
    try:
        yield
    except ValueError as error:
        error.add_note(LEFT)
        raise


def _as_jax(leaf: Any) -> Any:
    """A leaf of the initial model; NumPy arrays become arrays of JAX."""
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf
