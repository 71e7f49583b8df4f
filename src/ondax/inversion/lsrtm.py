"""Least-squares reverse-time migration: the loop around the Jacobian, its preconditioners and a
linear solver."""

import math
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import lineax as lx
import numpy as np
import optax
from jaxtyping import Array, PyTree

from .._validate import whole
from ..face.fetching import in_memory
from ..propagator import Propagator
from .checks import check_linear, matching_traces, usable_path
from .choice import as_saved
from .fingerprint import Problem, fingerprint, operator_fingerprint
from .linear_solvers import (
    Method,
    conjugate_gradients,
    gradient_descent,
    solve_at_once,
    with_trace_weights,
)
from .linear_steps import LinearNumbers
from .loop import AbstractRun, iterate
from .observed import Shifted
from .progress import Progress
from .result import LinearHistory, LSRTMResult


def lsrtm(
    F: Propagator,
    observed: Any,
    background: PyTree,
    *,
    iterations: int,
    solver: str | lx.AbstractLinearSolver | optax.GradientTransformation = "cgls",
    left: lx.AbstractLinearOperator | None = None,
    right: lx.AbstractLinearOperator | None = None,
    damping: float = 0.0,
    batch_size: int | None = None,
    encodings: int | None = None,
    seed: int = 0,
    callback: Callable[[int, PyTree, LinearHistory], None] | None = None,
    progress: bool = True,
    save: str | os.PathLike | None = None,
    save_every: int = 1,
    trust: Collection[str] = (),
) -> LSRTMResult:
    """Least-squares reverse-time migration: find the model perturbation whose Born traces fit
    reflection data.

    Minimises `0.5 ||L (J R x - d)||^2 + 0.5 damping ||x||^2`, starting from x = 0, and returns the
    image `R x` (Nemeth, Wu and Schuster, 1999; Dai, Fowler and Schuster, 2012). J is
    `F.jacobian(background)`, L and R are the operators `left` and `right`. The wavefields of the
    background are modelled once and kept, as long as they fit into `Settings(memory)`; then an
    iteration of "cgls" takes one Born run and one adjoint run for each shot. Where those of half of
    the shots do not fit, an iteration visits the shots a few at a time, and takes three wave solves
    of each: the background, Born and adjoint. (Four where `left` is not diagonal, as it may then
    mix shots.) Last digits then depend on the number of threads.

    Solvers:

    - "cgls": conjugate gradients on the normal equations (Hestenes and Stiefel, 1952), which have
      the same iterates as LSQR in exact arithmetic (Paige and Saunders, 1982). Of all methods that
      take as many products with J and J', this has the best data fit. Its state can be saved at
      every iteration.
    - a lineax solver of least-squares problems, `lx.LSMR(rtol, atol)` or `lx.NormalCG(rtol, atol)`:
      makes all iterations in one call, until its tolerances are met. If `iterations` are not enough
      for that, the result's report says so; nothing is raised. It is given data and operators
      divided by their sizes, so that `atol` is relative to these.
    - an optax optimiser: gradient steps, on all shots; on minibatches (`batch_size`); or on
      simultaneous shots (`encodings`). Its step length has the units of x. For the length of
      L-BFGS's first step, see `fwi`.

    The image does not depend on the units of source and data; for the size of the misfit that an
    optimiser is given, see `fwi`.

    With `save`, a run that was stopped, in whatever way, goes on from its last saved iteration when
    the same call is made again, and its result is the same to the last bit.

    Args:
        F: the propagator.
        observed: reflection data, traces (shot, [component,] receiver, time), or a list of those of
            each shot, or anything that gives them by `observed[numbers]`: what scattering adds,
            `d_obs - F(background)`, or Born data. Not whole records: Born modelling has no direct
            wave, so mute it if the background does not remove it.
        background: the smooth model to linearise around, array or dict of arrays.
        iterations: number of iterations, including those before a resumption.
        solver: see above.
        left: weights of the traces, such as `preconditioners.mute_direct(survey, ...)`: maps traces
            to traces. With batches, it has to act on every shot alone. With encodings, it acts on
            the traces of super-shots.
        right: preconditioner of the image, such as `preconditioners.illumination(F, background)`:
            maps x to perturbations.
        damping: weight of the squared norm of x.
        batch_size: number of shots in an iteration of an optax optimiser, drawn in an order that is
            reshuffled every epoch; misfits are scaled up to the number of all shots.
        encodings: number of super-shots in an iteration of an optax optimiser. Each is the sum of
            all shots, with polarities drawn at random for every iteration; their gradient is in the
            mean that of all shots (Romero et al., 2000; Krebs et al., 2009). The background's
            wavefields change with the polarities, so a super-shot takes three wave solves. All
            shots must have the same receivers.
        seed: seed of the order of shots and of the polarities.
        callback: `callback(iterations_done, image, history)`, called after each iteration and its
            save.
        progress: whether to show a progress bar with residual and time.
        save: path of a file (`.npz`) for the state. If it exists, the inversion goes on from there.
        save_every: number of iterations between saves. The last iteration, and one ended by Ctrl-C,
            are always saved.
        trust: names of arguments that are not to be compared with what the state was saved with, as
            for `fwi`: "propagator", "observed traces", "background", "solver", "left", "right",
            "damping", "shots".

    Returns:
        The image, and a history of relative data residuals with one row for each iteration.

    Raises:
        ValueError: an argument does not fit the others; the saved state belongs to another problem;
            or an argument cannot be compared with what a state was saved with.
        FloatingPointError: a residual is not finite. The message names the iteration, which is not
            saved.
        Interrupted: Ctrl-C was pressed, and the running iteration has been finished and saved; a
            KeyboardInterrupt that holds the result so far. A second Ctrl-C stops at once.
    """
    whole("iterations", iterations, at_least=0)
    whole("save_every", save_every, at_least=1)
    path = None if save is None else usable_path(Path(save))
    J = F.jacobian(background)
    J.check()
    F, kept_by = as_saved(F, J.out_structure().dtype, path)
    J = F.jacobian(background)
    if not in_memory(observed):
        observed = Shifted(observed, F.survey).all()
    traces = matching_traces(observed, J.out_structure(), F.survey)
    at_once = isinstance(solver, lx.AbstractLinearSolver)
    check_linear(F, J, left, right, solver, damping, batch_size, encodings, path)
    given_left, left = left, with_trace_weights(F.survey, J.out_structure(), left)
    if at_once:
        return _all_at_once(J, traces, iterations, solver, left, right, damping, callback, progress)
    if isinstance(solver, str):
        method = conjugate_gradients(J, traces, left, right, damping)
    else:
        method = gradient_descent(
            J, traces, left, right, damping, solver, batch_size, encodings, seed
        )

    parts = {
        "propagator": partial(fingerprint, F),
        "observed traces": partial(fingerprint, traces),
        "background": partial(fingerprint, J.model),
        "solver": partial(fingerprint, solver),
        "left": partial(operator_fingerprint, given_left),
        "right": partial(operator_fingerprint, right),
        "damping": partial(fingerprint, float(damping)),
        "shots": partial(fingerprint, (batch_size, encodings, seed)),
    }
    problem = Problem.of(parts, trust, path)
    problem = replace(problem, histories=None if kept_by is None else kept_by._asdict())
    run = _Run(method, method.start, np.empty((0, 3)))
    return iterate(
        run,
        run.advance,
        iterations,
        name="lsrtm",
        shown=("residual", ".4f"),
        callback=callback,
        progress=progress,
        path=path,
        problem=problem,
        save_every=save_every,
    )


@final
@dataclass
class _Run(AbstractRun):
    """A migration that runs.

    Attributes:
        method: the iterative solver.
        state: the method's state, now.
        rows: of the history, (iteration, 3).
    """

    method: Method
    state: Any
    rows: np.ndarray

    @property
    def result(self) -> LSRTMResult:
        return LSRTMResult(self.method.image(self.state), LinearHistory(*self.rows.T))

    def begin(self) -> None:
        pass  # the method's first state is all that the first iteration needs

    def advance(self) -> None:
        """Make one iteration; an error names it, and leaves the run as it was.

        Raises:
            FloatingPointError: a residual is not finite.
        """
        started = time.perf_counter()
        with self.iteration("ox.lsrtm"):
            state, numbers = self.method.step(self.done, self.state)
        _check_finite(numbers, f"in iteration {self.done + 1}")
        self.state = state
        self.rows = np.vstack([self.rows, [*numbers, time.perf_counter() - started]])

    @property
    def saved(self) -> dict[str, Any]:
        return {"state": self.state}

    def restore(self, saved: dict[str, Any]) -> None:
        self.state = saved["state"]


def _all_at_once(
    J: Any,
    traces: Array,
    iterations: int,
    solver: lx.AbstractLinearSolver,
    left: lx.AbstractLinearOperator | None,
    right: lx.AbstractLinearOperator | None,
    damping: float,
    callback: Callable[[int, PyTree, LinearHistory], None] | None,
    progress: bool,
) -> LSRTMResult:
    """The result of a lineax solver, which makes all iterations in a loop of its own; its history
    has a single row."""
    started = time.perf_counter()
    with Progress("lsrtm", iterations, progress) as bar:
        image, numbers, report = solve_at_once(J, traces, left, right, damping, solver, iterations)
        _check_finite(numbers, f"after {report['num_steps']} steps of {type(solver).__name__}")
        history = LinearHistory(*np.array([[*numbers, time.perf_counter() - started]]).T)
        bar.update({"residual": f"{numbers[0]:.4f}"}, int(report["num_steps"]))
    if callback is not None:
        callback(int(report["num_steps"]), image, history)
    return LSRTMResult(image, history, report)


def _check_finite(numbers: LinearNumbers, when: str) -> None:
    """Refuse residuals that are not finite; `when` says in the message where they were found.

    Raises:
        FloatingPointError: one is not.
    """
    for name, number in zip(LinearNumbers._fields, numbers, strict=True):
        if not math.isfinite(number):
            raise FloatingPointError(
                f"the {name.replace('_', ' ')} is {number} {when}: take shorter steps if the "
                "solver is an optax optimiser, or look for NaN, infinities and huge weights in "
                "left and right"
            )
