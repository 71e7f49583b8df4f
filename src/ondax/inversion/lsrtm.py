"""Least-squares reverse-time migration: the loop around the Jacobian, its preconditioners and a
linear solver."""

import math
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lineax as lx
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from .._validate import whole
from ..callback_errors import as_raised
from ..propagator import Propagator
from .checks import check_linear, match, usable
from .fingerprint import Problem, fingerprint, operator_fingerprint
from .linear_solvers import Method, conjugate_gradients, gradient_descent, solve_at_once
from .linear_steps import LinearNumbers
from .loop import AbstractRun, iterate
from .progress import Progress
from .result import LinearHistory, LSRTMResult


def lsrtm(
    F: Propagator,
    observed: Float[Array | np.ndarray, "shot *components receiver time"],
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
    """Finds the model perturbation whose Born traces fit reflection data: least-squares RTM.

    Minimises `0.5 ||L (J R x - d)||^2 + 0.5 damping ||x||^2` from x = 0 and returns the image `R
    x`, J being `F.jacobian(background)`, L and R the operators `left` and `right`. The wavefields
    of the background are modelled once and kept, as long as they fit into `Settings(memory)`; then
    an iteration of "cgls" is one Born run and one adjoint run a shot.

    Solvers:

    - "cgls": conjugate gradients on the normal equations, which has the best data fit of all
      methods that take as many products with J and J'; can be saved at every iteration.
    - a lineax solver of least-squares problems, `lx.LSMR(rtol, atol)` or `lx.NormalCG(rtol, atol)`:
      runs all iterations in one call, until its tolerances are met; that `iterations` were not
      enough is reported, not raised. It sees data and operators over their sizes, so that `atol` is
      relative to these.
    - an optax optimiser: gradient steps, on all shots; on minibatches (`batch_size`); or on
      simultaneous shots (`encodings`). Its step length has the units of x. For the length of
      L-BFGS's first step, see `fwi`.

    The image does not depend on the units of source and data; for what an optimiser sees, see
    `fwi`.

    Pass `save`, and a run that was stopped in whatever way goes on from its last saved iteration
    when the same call is made again, to a bit-identical result.

    Args:
        F: the propagator.
        observed: reflection data, traces (shot, receiver, time): what scattering adds, `d_obs -
            F(background)`, or Born data. Not whole records: Born modelling has no direct wave, so
            mute it if the background does not remove it.
        background: the smooth model to linearise around, array or dict of arrays.
        iterations: number of iterations, those before a resumption included.
        solver: see above.
        left: weights of the traces, such as `preconditioners.mute_direct(survey, ...)`: maps traces
            to traces. With batches, it has to act on every shot alone. With encodings, it acts on
            the traces of super-shots.
        right: preconditions the image, such as `preconditioners.illumination(F, background)`: maps
            x to perturbations.
        damping: weight of the squared norm of x.
        batch_size: number of shots an iteration of an optax optimiser uses, in an order reshuffled
            every epoch; misfits are scaled up to the number of shots.
        encodings: number of super-shots an iteration of an optax optimiser uses: each is the sum of
            all shots with polarities drawn at random anew, so that in the mean over them the
            gradient is that of all shots (Romero et al., 2000; Krebs et al., 2009). The background
            changes with the polarities: three wave solves a super-shot. Needs the same receivers
            for every shot.
        seed: of batches and polarities.
        callback: `callback(iterations_done, image, history)`, called after each iteration and its
            save.
        progress: whether to show a progress bar with residual and time.
        save: path of a file (`.npz`) for the state. If it exists, the inversion goes on from there.
        save_every: save after every so many iterations; the last iteration, and one ended by
            Ctrl-C, are saved anyway.
        trust: names of what you vouch for, so that it is not compared with what the state was saved
            with, as for `fwi`:
            "propagator", "observed traces", "background", "solver", "left", "right", "damping",
            "shots".

    Returns:
        The image, and a history of relative data residuals with one row an iteration.

    Raises:
        ValueError: if an argument does not fit the others; if the saved state belongs to another
            problem, or something that a state is to be matched with cannot be compared.
        FloatingPointError: if a residual is not finite; names the iteration, which is not saved.
        Interrupted: a KeyboardInterrupt with the result so far, after Ctrl-C, once the running
            iteration is finished and saved. A second Ctrl-C stops at once.

    References:
        - Hestenes, Stiefel (1952), Methods of conjugate gradients for solving linear systems,
          Journal of Research of the National Bureau of Standards 49(6), 409-436.
        - Paige, Saunders (1982), LSQR: an algorithm for sparse linear equations and sparse least
          squares, ACM Transactions on Mathematical Software 8(1), 43-71. It has the same iterates
          as CGLS in exact arithmetic.
        - Nemeth, Wu, Schuster (1999), Least-squares migration of incomplete reflection data,
          Geophysics 64(1), 208-221.
        - Dai, Fowler, Schuster (2012), Multi-source least-squares reverse time migration,
          Geophysical Prospecting 60(4).
        - Romero, Ghiglia, Ober, Morton (2000), Phase encoding of shot records in prestack
          migration, Geophysics 65(2).
        - Krebs et al. (2009), Fast full-wavefield seismic inversion using encoded sources,
          Geophysics 74(6).
    """
    whole("iterations", iterations, at_least=0)
    whole("save_every", save_every, at_least=1)
    path = None if save is None else usable(Path(save))
    J = F.jacobian(background)
    F._common(
        J.model, J.out_structure().dtype, None
    )  # checks the values now, rather than in a callback
    traces = match(observed, J.out_structure())
    at_once = isinstance(solver, lx.AbstractLinearSolver)
    check_linear(F, J, left, right, solver, damping, batch_size, encodings, path)
    if at_once:
        return _all_at_once(J, traces, iterations, solver, left, right, damping, callback, progress)
    if isinstance(solver, str):
        method = conjugate_gradients(J, traces, left, right, damping)
    else:
        method = gradient_descent(
            J, traces, left, right, damping, solver, batch_size, encodings, seed
        )

    compared = {"propagator": F, "observed traces": traces, "background": J.model, "solver": solver}
    parts = {name: partial(fingerprint, part) for name, part in compared.items()}
    parts |= {
        "left": partial(operator_fingerprint, left),
        "right": partial(operator_fingerprint, right),
    }
    parts |= {"damping": partial(fingerprint, float(damping))}
    parts |= {"shots": partial(fingerprint, (batch_size, encodings, seed))}
    problem = Problem.of(parts, trust, path)
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


@dataclass
class _Run(AbstractRun):
    """Where an inversion stands: the method's state, and the rows of the history."""

    method: Method
    state: Any
    rows: np.ndarray

    @property
    def result(self) -> LSRTMResult:
        return LSRTMResult(self.method.image(self.state), LinearHistory(*self.rows.T))

    def advance(self) -> None:
        """Runs one iteration. Whatever fails names it, and leaves all as it was."""
        started = time.perf_counter()
        try:
            with as_raised(presses=2):  # the first asks for the end of this iteration
                state, numbers = self.method.step(self.done, self.state)
        except Exception as error:
            error.add_note(f"while running iteration {self.done + 1} of ox.lsrtm")
            raise
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
    """What lineax's own loop finds; a single row of history."""
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
    for name, number in zip(LinearNumbers._fields, numbers, strict=True):
        if not math.isfinite(number):
            raise FloatingPointError(
                f"the {name.replace('_', ' ')} is {number} {when}: take shorter steps if the "
                "solver is an optax "
                "optimiser, or look for NaN, infinities and huge weights in left and right"
            )
