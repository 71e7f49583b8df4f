"""The loop of an inversion: iterate, save, report, and stop after Ctrl-C."""

import inspect
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import PyTree

from .._frames import levels_to_the_user
from .._waiting import say
from ..face.callback_errors import as_raised
from .fingerprint import Problem
from .interrupt import deferred_interrupt
from .progress import Progress
from .result import Interrupted
from .state import load_state, only_writer, save_state

LOG = logging.getLogger("ondax.inversion")


@final
class UnsavedState(UserWarning):
    """The state of an inversion could not be saved, for example because the disk is full."""


class AbstractRun(ABC):
    """An inversion that runs: what it has found so far, and what a state file has to hold of it.

    Attributes:
        rows: of the history, one for each iteration; the progress bar shows the first number.
    """

    rows: np.ndarray

    @property
    def done(self) -> int:
        """Number of iterations that have been made."""
        return len(self.rows)

    @property
    @abstractmethod
    def result(self) -> Any:
        """What has been found so far, as the user gets it."""

    @property
    @abstractmethod
    def saved(self) -> dict[str, Any]:
        """What a file has to hold, besides the history: trees of arrays, by name."""

    @property
    def stopped(self) -> str | None:
        """Why no further iteration is to be made; None if one is."""
        return None

    @abstractmethod
    def begin(self) -> None:
        """Prepare the first iteration of a run that does not go on from a file."""

    @abstractmethod
    def restore(self, saved: dict[str, Any]) -> None:
        """Take over what a file held; see `saved`."""

    @contextmanager
    def iteration(self, caller: str) -> Iterator[None]:
        """Within it, one iteration runs: exceptions come as they were raised, with a note that
        names the iteration and the caller.

        The first Ctrl-C asks for the end of the iteration, so only the second one stops it.
        """
        try:
            with as_raised(presses=2):
                yield
        except Exception as error:
            error.add_note(f"while running iteration {self.done + 1} of {caller}")
            raise

    def save(self, path: Path, problem: Problem) -> None:
        """Write the state to a file.

        Raises:
            OSError: the disk is full, for example.
        """
        save_state(path, self.saved | {"history": self.rows}, problem)

    def resume(self, path: Path | None, problem: Problem, iterations: int, progress: bool) -> bool:
        """Go on from a file, if there is one.

        Args:
            path: of the file, or None.
            problem: what the file is to be matched with.
            iterations: how many are wanted, those in the file included.
            progress: whether to tell the user.

        Returns:
            Whether there was a file.

        Raises:
            ValueError: it holds more iterations, is damaged, or belongs to another problem.
        """
        if path is None or not path.exists():
            return False
        saved = load_state(path, self.saved | {"history": self.rows}, problem)
        if len(saved["history"]) > iterations:
            raise ValueError(
                f"{path} holds {len(saved['history'])} iterations, more than "
                f"iterations={iterations}; ask for at least as many, or give another path to start "
                "afresh"
            )
        self.rows = saved["history"]
        self.restore(saved)
        if progress:
            say(f"going on from {path}: {self.done} of {iterations} iterations are done")
        return True


def iterate(
    run: AbstractRun,
    advance: Callable[[], None],
    iterations: int,
    *,
    name: str,
    shown: tuple[str, str],
    callback: Callable[[int, PyTree, Any], None] | None,
    progress: bool,
    path: Path | None,
    problem: Problem,
    save_every: int,
) -> Any:
    """Make all iterations of an inversion that a state file does not hold already.

    Args:
        run: the inversion.
        advance: makes one iteration of `run`.
        iterations: how many are wanted, those in the file included.
        name: of the progress bar.
        shown: name and format of the first number of each row, for the progress bar.
        callback: called after each iteration and its save.
        progress: whether to show a bar.
        path: of the state file; None for none.
        problem: what the file is to be matched with.
        save_every: number of iterations between saves.

    Returns:
        The run's result.

    Raises:
        ValueError: the file holds more iterations or belongs to another problem, or another process
            writes to it.
        Interrupted: after Ctrl-C, once the running iteration is finished and saved.
    """
    label, digits = shown

    def save() -> bool:
        """Save the state, if there is a path; tell whether it is on disk. If the disk is full, this
        warns, so that neither the run nor its result is lost."""
        if path is None:
            return False
        try:
            run.save(path, problem)
        except OSError as error:
            warnings.warn(
                f"{path} could not be saved after {run.done} iterations ({error}): the inversion "
                "goes on, and tries again. Make room on the disk",
                UnsavedState,
                stacklevel=levels_to_the_user(inspect.currentframe()),
            )
            return False
        return True

    with only_writer(path):
        if not run.resume(path, problem, iterations, progress) and iterations > 0:
            run.begin()
        with (
            Progress(name, iterations, progress, run.done) as bar,
            deferred_interrupt() as interrupted,
        ):
            stopped = run.stopped
            while run.done < iterations and stopped is None:
                advance()
                LOG.info("%s: iteration %d, %s", name, run.done, _told(label, run.rows[-1]))
                stopped = run.stopped
                if run.done % save_every == 0 or run.done == iterations or stopped is not None:
                    save()
                bar.update({label: format(run.rows[-1, 0], digits)})
                if callback is not None:
                    result = run.result
                    callback(run.done, result.found, result.history)
                if interrupted and run.done < iterations and stopped is None:
                    kept = (
                        f"{path} holds the state: make the same call again to go on"
                        if save()
                        else "nothing was saved"
                    )
                    message = f"stopped after {run.done} of {iterations} iterations; {kept}"
                    raise Interrupted(message, run.result)
        if stopped is not None:
            ending = f"{name} stopped after {run.done} of {iterations} iterations: {stopped}"
            LOG.info(ending)
            if progress:
                say(ending)
    return run.result


def _told(label: str, row: np.ndarray) -> str:
    """A row of the history as a line of a log, which begins with what the progress bar shows."""
    return f"{label} {row[0]:.6g}; " + ", ".join(f"{number:.4g}" for number in row[1:])
