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

from ..checks import whole
from .batches import shot_batch
from .checks import check_search, match, usable
from .constraints import spread, spread_bounds
from .fingerprint import Problem, fingerprint
from .loop import AbstractRun, iterate
from .misfits import least_squares
from .result import FWIResult, History
from .step import Numbers, Setting, Step, compares_gradients, make_step, scale_of_first_step, searches_line, strong

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
    """Finds a model whose predicted traces fit the observed ones, from an initial model, by gradient steps.

    Minimises `misfit(F(model), observed)`. With `optax.lbfgs`, or another optimiser that searches along a
    line, the value and gradient where the search ended serve the next iteration. The very first step of L-BFGS
    has length 1 in the units of the model, over all values together (the misfit is scaled so, at the cost of one
    more gradient), far too short for velocities in m/s; the search would lengthen it at the cost of a dozen wave
    solves. Scale it: `optax.lbfgs(optax.piecewise_constant_schedule(1000.0, {1: 1e-3}))`.

    Pass `save`, and a run that was stopped in whatever way goes on from its last saved iteration when the
    same call is made again, to a bit-identical result. A call that differs is refused: all that the arguments hold or
    reach (arrays, attributes, defaults, closures, the globals that functions read) is compared by content with what the
    state was saved with. Only what functions read from files or from the environment while they run is not seen.

    Args:
        F: a `Propagator`, or any JAX function `F(model)` (and `F(model, shots=indices)` for batches) that
            returns traces (shot, receiver, time). Wrap a propagator to invert for other variables: `lambda s,
            **kw: F(1 / s, **kw)`.
        observed: traces (shot, receiver, time).
        initial: the model to start from: an array or any pytree, a network included. Its floating-point
            arrays are what is inverted for.
        optimizer: any optax optimiser. The step length has the units of the model.
        iterations: number of iterations, those before a resumption included.
        misfit: a JAX function `misfit(predicted, observed)` that returns a scalar.
        batch_size: number of shots an iteration uses, in an order reshuffled every epoch; all shots if None.
            Not with a line search.
        seed: of that order.
        bounds: `(lower, upper)`, each a number or a tree like the model. Every model is kept within them, the
            trial models of a line search included, and the gradient loses what points out of them.
        mask: factors of the gradient, a number or a tree like the model: 0 holds a value fixed. Optimisers
            that rescale the gradient, such as Adam, undo factors other than 0 and 1; a line search refuses
            these.
        precondition: a JAX function from gradient to gradient, applied after bounds and mask. Not with a line
            search.
        callback: `callback(iterations_done, model, history)`, called after each iteration and its save.
        progress: whether to show a progress bar with misfit and time.
        save: path of a file (`.npz`) for the state. If it exists, the inversion goes on from there.
        save_every: save after every so many iterations; the last iteration, and one ended by Ctrl-C, are
            saved anyway.
        trust: names of what you vouch for, so that it is not compared with what the state was saved with: "propagator",
            "observed traces", "initial model", "optimizer", "misfit", "batches", "bounds", "mask", "precondition". For
            what differs without any effect, and for what cannot be compared, such as a misfit that writes to an open file.

    Returns:
        The last model, and a history with one row an iteration.

    Raises:
        ValueError: if an argument does not fit the others; if batches, fractional masks or a preconditioner
            meet a line search; if the saved state belongs to another problem, or something that a state is to be
            matched with cannot be compared.
        FloatingPointError: if misfit or gradient is not finite; names the iteration, which is not saved.
        Interrupted: a KeyboardInterrupt with the result so far, after Ctrl-C, once the running iteration is
            finished and saved. A second Ctrl-C stops at once.

    References:
        - Tarantola (1984), Inversion of seismic reflection data in the acoustic approximation, Geophysics
          49(8), 1259-1266.
        - Virieux, Operto (2009), An overview of full-waveform inversion in exploration geophysics, Geophysics
          74(6), WCC1-WCC26.
        - Liu, Nocedal (1989), On the limited memory BFGS method for large scale optimization, Mathematical
          Programming 45, 503-528.
    """
    whole("iterations", iterations, at_least=0)
    whole("save_every", save_every, at_least=1)
    path = None if save is None else usable(Path(save))
    params, static = eqx.partition(jax.tree.map(_as_jax, initial), eqx.is_inexact_array)
    if not jax.tree.leaves(params):
        raise ValueError("the initial model holds no floating-point array, so there is nothing to invert for")
    setting = Setting(
        match(observed, eqx.filter_eval_shape(F, eqx.combine(params, static))),
        None if bounds is None else spread_bounds(bounds, params),
        None if mask is None else spread("mask", mask, params),
        1.0,
    )
    if batch_size is not None:
        whole("batch_size", batch_size, at_least=1, at_most=setting.observed.shape[0])
    extended = optax.with_extra_args_support(optimizer)
    opt_state = strong(extended.init(params))
    searches = searches_line(opt_state)
    check_search(searches, compares_gradients(opt_state), batch_size, setting.mask, precondition)
    step = make_step(F, static, extended, misfit, precondition, searches)

    parts = {
        "propagator": F,
        "observed traces": setting.observed,
        "initial model": (params, static),
        "optimizer": optimizer,
        "misfit": misfit,
        "batches": (batch_size, seed),
        "bounds": setting.bounds,
        "mask": setting.mask,
        "precondition": precondition,
    }
    problem = Problem.of({name: partial(fingerprint, part) for name, part in parts.items()}, trust, path)
    run = _Run(params, opt_state, np.empty((0, 4)), static, np.array(1.0))
    if not run.resume(path, problem, iterations, progress) and iterations > 0 and compares_gradients(opt_state):
        run.scale = scale_of_first_step(F, static, misfit, setting, params)
    setting = setting._replace(scale=jnp.asarray(run.scale, setting.observed.dtype))
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
    """Where an inversion stands: the model's arrays, the optimiser's state, and the rows of the history."""

    params: PyTree
    opt_state: PyTree
    rows: np.ndarray
    static: PyTree  # what completes `params` to the model
    scale: np.ndarray  # the optimiser sees the misfit times this

    @property
    def result(self) -> FWIResult:
        return FWIResult(eqx.combine(self.params, self.static), History(*self.rows.T))

    def advance(self, step: Step, setting: Setting, batch_size: int | None, seed: int) -> None:
        """Runs one iteration. Whatever fails names it, and leaves all as it was."""
        started = time.perf_counter()
        n_shots = setting.observed.shape[0]
        shots = None if batch_size is None else shot_batch(self.done, n_shots, batch_size, seed)
        try:
            params, opt_state, numbers = step(self.params, self.opt_state, setting, shots)
            numbers = [float(number) for number in numbers]
        except Exception as error:
            error.add_note(f"while running iteration {self.done + 1} of ox.fwi")
            raise
        for name, number in zip(Numbers._fields, numbers, strict=True):
            if not math.isfinite(number):
                raise FloatingPointError(
                    f"the {name.replace('_', ' ')} is {number} in iteration {self.done + 1}: take shorter steps, "
                    "set bounds on the model, or look for NaN, infinities and divisions by zero in the misfit"
                )
        self.params, self.opt_state = params, opt_state
        self.rows = np.vstack([self.rows, [*numbers, time.perf_counter() - started]])

    @property
    def saved(self) -> dict[str, Any]:
        return {"model": self.params, "optimizer": self.opt_state, "scale": self.scale}

    def restore(self, saved: dict[str, Any]) -> None:
        self.params, self.opt_state, self.scale = saved["model"], saved["optimizer"], saved["scale"]


def _as_jax(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf
