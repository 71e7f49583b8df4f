"""Full-waveform inversion: the loop around propagator, misfit and optimiser."""

import math
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from .._validate import whole
from ..callback_errors import as_raised
from .batches import shot_batch
from .checks import (
    check_bounds,
    check_optimizer,
    check_representable,
    check_search,
    check_squares,
    check_units,
    level_of_preconditioner,
    match,
    usable,
)
from .constraints import spread, spread_bounds
from .fingerprint import Problem, fingerprint
from .loop import AbstractRun, iterate
from .misfits import least_squares
from .result import FWIResult, History
from .sizes import SizedMisfit, ignores_size, size_of_tree, sized
from .step import (
    Seen,
    Setting,
    Step,
    compares_gradients,
    make_step,
    objective_of,
    power_of_first_step,
    searches_line,
    strong,
)

Misfit = Callable[[Array, Array], Float[Array, ""]]


def fwi(
    F: Callable[..., Array],
    observed: Float[Array | np.ndarray, "shot *components receiver time"],
    initial: PyTree,
    *,
    optimizer: optax.GradientTransformation,
    iterations: int,
    misfit: Misfit = least_squares,
    batch_size: int | None = None,
    seed: int = 0,
    bounds: tuple[Any, Any] | None = None,
    mask: PyTree | None = None,
    precondition: Callable[[PyTree], PyTree] | None = None,
    callback: Callable[[int, PyTree, History], None] | None = None,
    progress: bool = True,
    save: str | os.PathLike | None = None,
    save_every: int = 1,
    trust: Collection[str] = (),
) -> FWIResult:
    """Finds a model whose predicted traces fit the observed ones, from an initial model, by
    gradient steps.

    Minimises `misfit(F(model), observed)`. With `optax.lbfgs`, or another optimiser that searches
    along a line, the value and gradient where the search ended serve the next iteration. The very
    first step of L-BFGS has length 1 in the units of the model, over all values together (the
    misfit is scaled so, at the cost of one more gradient), far too short for velocities in m/s; the
    search would lengthen it at the cost of a dozen wave solves. Scale it:
    `optax.lbfgs(optax.piecewise_constant_schedule(1000.0, {1: 1e-3}))`.

    What is found does not depend on the units of source and data. Optimisers whose steps do not
    depend on the size of the gradients, such as Adam, see the misfit times the power of two that
    brings the root mean square of the first gradient to between 1 and 2, so that the small numbers
    in their denominators (Adam's `eps`) are relative to that. All others see the misfit itself: a
    step of `optax.sgd` is its learning rate times the gradient, in units of the data.

    Pass `save`, and a run that was stopped in whatever way goes on from its last saved iteration
    when the same call is made again, to a bit-identical result. A call that differs is refused: all
    that the arguments hold or reach (arrays, attributes, defaults, closures, the globals that
    functions read) is compared by content with what the state was saved with. Only what functions
    read from files or from the environment while they run is not seen.

    Args:
        F: a `Propagator`, or any JAX function `F(model)` (and `F(model, shots=indices)` for
            batches) that returns traces (shot, receiver, time). Wrap a propagator to invert for
            other variables: `lambda s, **kw: F(1 / s, **kw)`.
        observed: traces (shot, receiver, time).
        initial: the model to start from: an array or any pytree, a network included. Its
            floating-point arrays are what is inverted for.
        optimizer: any optax optimiser. The step length has the units of the model.
        iterations: number of iterations, those before a resumption included.
        misfit: a JAX function `misfit(predicted, observed)` that returns a scalar. It sees the
            traces in their own units:
            where they are so small that their squares vanish in float32, let it divide them by
            something first. Those of `ox.misfits` need nothing of the kind.
        batch_size: number of shots an iteration uses, in an order reshuffled every epoch; all shots
            if None. Not with a line search.
        seed: of that order.
        bounds: `(lower, upper)`, each a number or a tree like the model. Every model is kept within
            them, the trial models of a line search included, and the gradient loses what points out
            of them.
        mask: factors of the gradient, a number or a tree like the model: 0 holds a value fixed.
            Optimisers that rescale the gradient, such as Adam, undo factors other than 0 and 1; a
            line search refuses these.
        precondition: a JAX function from gradient to gradient, applied after bounds and mask. Not
            with a line search. It sees the gradient in units of the data; where these do not fit
            into float32, times some power of two, if `precondition` makes larger gradients larger
            in proportion, and is refused otherwise.
        callback: `callback(iterations_done, model, history)`, called after each iteration and its
            save.
        progress: whether to show a progress bar with misfit and time.
        save: path of a file (`.npz`) for the state. If it exists, the inversion goes on from there.
        save_every: save after every so many iterations; the last iteration, and one ended by
            Ctrl-C, are saved anyway.
        trust: names of what you vouch for, so that it is not compared with what the state was saved
            with: "propagator", "observed traces", "initial model", "optimizer", "misfit",
            "batches", "bounds", "mask", "precondition". For what differs without any effect, and
            for what cannot be compared, such as a misfit that writes to an open file.

    Returns:
        The last model, and a history with one row an iteration.

    Raises:
        ValueError: if an argument does not fit the others; if batches, fractional masks or a
            preconditioner meet a line search; if the saved state belongs to another problem, or
            something that a state is to be matched with cannot be compared.
        FloatingPointError: if misfit or gradient is not finite, or too small to be represented
            where its size matters; names the iteration, which is not saved.
        Interrupted: a KeyboardInterrupt with the result so far, after Ctrl-C, once the running
            iteration is finished and saved. A second Ctrl-C stops at once.

    References:
        - Tarantola (1984), Inversion of seismic reflection data in the acoustic approximation,
          Geophysics 49(8), 1259-1266.
        - Virieux, Operto (2009), An overview of full-waveform inversion in exploration geophysics,
          Geophysics 74(6), WCC1-WCC26.
        - Liu, Nocedal (1989), On the limited memory BFGS method for large scale optimization,
          Mathematical Programming 45, 503-528.
    """
    whole("iterations", iterations, at_least=0)
    check_optimizer(optimizer)
    whole("save_every", save_every, at_least=1)
    path = None if save is None else usable(Path(save))
    params, static = eqx.partition(jax.tree.map(_as_jax, initial), eqx.is_inexact_array)
    if not jax.tree.leaves(params):
        raise ValueError(
            "the initial model holds no floating-point array, so there is nothing to invert for"
        )
    traces = match(observed, eqx.filter_eval_shape(F, eqx.combine(params, static)))
    power = size_of_tree(traces) or size_of_tree(
        eqx.filter_jit(F)(eqx.combine(params, static))
    )  # zeros may be what is to be fitted
    of_size = sized(misfit, power)
    setting = Setting(
        jnp.ldexp(traces, -of_size.of_traces),
        None if bounds is None else spread_bounds(bounds, params),
        None if mask is None else spread("mask", mask, params),
        jnp.asarray(2.0**-of_size.of_traces, traces.dtype),
    )
    check_bounds(F, setting.bounds)
    if batch_size is not None:
        whole("batch_size", batch_size, at_least=1, at_most=setting.observed.shape[0])
    extended = optax.with_extra_args_support(optimizer)
    opt_state = strong(extended.init(params))
    searches = searches_line(opt_state)
    check_search(searches, compares_gradients(opt_state), batch_size, setting.mask, precondition)
    compares = compares_gradients(opt_state)
    indifferent = not (searches or compares) and ignores_size(extended, params)
    check_units(of_size.of_value, searches and not compares)
    level = level_of_preconditioner(precondition, of_size.of_value, params)
    step = make_step(F, static, extended, of_size.of, precondition, level, searches)

    parts = {
        "propagator": F,
        "observed traces": traces,
        "initial model": (params, static),
        "optimizer": optimizer,
        "misfit": misfit,
        "batches": (batch_size, seed),
        "bounds": setting.bounds,
        "mask": setting.mask,
        "precondition": precondition,
    }
    problem = Problem.of(
        {name: partial(fingerprint, part) for name, part in parts.items()}, trust, path
    )
    unit = math.nan if indifferent else float(of_size.of_value)
    run = _Run(params, opt_state, np.empty((0, 4)), static, np.array(unit), of_size)
    if compares:

        def objective(setting: Setting, params: PyTree) -> Array:
            return objective_of(F, static, of_size.of, setting, None, params)

        run.first_power = partial(power_of_first_step, objective, setting)
    run.check_gradient = not (indifferent or compares)
    if of_size.of is misfit:
        run.check_misfit = partial(check_squares, F, misfit, traces)
    return iterate(
        run,
        lambda: run.advance(step, setting, batch_size, seed),
        iterations,
        name="fwi",
        shown=("misfit", ".4g"),
        callback=callback,
        progress=progress,
        path=path,
        problem=problem,
        save_every=save_every,
    )


@dataclass
class _Run(AbstractRun):
    """Where an inversion stands: the model's arrays, the optimiser's state, and the rows of the
    history."""

    params: PyTree
    opt_state: PyTree
    rows: np.ndarray
    static: PyTree  # what completes `params` to the model
    power: (
        np.ndarray
    )  # the optimiser sees the objective times two to this power; NaN until that is known
    misfit: SizedMisfit
    check_gradient: bool = False  # the steps are proportional to the gradient in units of the data
    check_misfit: Callable[[PyTree, float], None] | None = (
        None  # of model and value, for a misfit of the user's
    )
    first_power: Callable[[PyTree], int] | None = None  # finds `power`, if the first step needs it

    @property
    def result(self) -> FWIResult:
        return FWIResult(eqx.combine(self.params, self.static), History(*self.rows.T))

    def begin(self) -> None:
        if self.first_power is not None:
            with as_raised():
                self.power = np.array(float(self.first_power(self.params)))

    def advance(self, step: Step, setting: Setting, batch_size: int | None, seed: int) -> None:
        """Runs one iteration. Whatever fails names it, and leaves all as it was."""
        started = time.perf_counter()
        n_shots = setting.observed.shape[0]
        shots = None if batch_size is None else shot_batch(self.done, n_shots, batch_size, seed)
        try:
            known = bool(np.isfinite(self.power))
            seen = Seen(jnp.asarray(int(self.power) if known else 0, jnp.int32), jnp.asarray(known))
            with as_raised(presses=2):  # the first asks for the end of this iteration
                params, opt_state, seen, found = step(
                    self.params, self.opt_state, setting, seen, shots
                )
                misfit, gradient_norm, change, power = map(float, found)
            misfit = _times(misfit, self.misfit.of_value)
            gradient_norm = _times(gradient_norm, int(power) + self.misfit.of_value)
        except Exception as error:
            error.add_note(f"while running iteration {self.done + 1} of ox.fwi")
            raise
        numbers = {"misfit": misfit, "gradient norm": gradient_norm, "model change": change}
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise FloatingPointError(
                    f"the {name} is {number} in iteration {self.done + 1}: take shorter steps, "
                    "set bounds on the model, or look for NaN, infinities and divisions by zero in "
                    "the misfit"
                )
        if self.check_misfit is not None:
            self.check_misfit(eqx.combine(self.params, self.static), misfit)
        if self.check_gradient:
            check_representable(gradient_norm, jax.tree.leaves(params)[0].dtype)
        self.params, self.opt_state = params, opt_state
        if bool(seen.known):
            self.power = np.array(float(seen.power))
        self.rows = np.vstack([self.rows, [*numbers.values(), time.perf_counter() - started]])

    @property
    def saved(self) -> dict[str, Any]:
        return {"model": self.params, "optimizer": self.opt_state, "power": self.power}

    def restore(self, saved: dict[str, Any]) -> None:
        self.params, self.opt_state, self.power = saved["model"], saved["optimizer"], saved["power"]


def _times(number: float, power: int) -> float:
    """`number * 2**power`."""
    return math.ldexp(number, power) if math.isfinite(number) else number


def _as_jax(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf
