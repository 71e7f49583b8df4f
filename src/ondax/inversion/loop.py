"""The loop of an inversion: iterate, save, tell, and stop where Ctrl-C was pressed."""

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._frames import levels_to_the_user
from .fingerprint import Problem
from .interrupt import deferred_interrupt
from .progress import Progress, say
from .result import Interrupted
from .state import load_state, only_writer, save_state


class UnsavedState(UserWarning):
    """The state of an inversion could not be saved, because a disk is full for example."""


class AbstractRun(ABC):
    """Where an inversion stands.

    Attributes:
        rows: of the history, one an iteration; the first number of each is shown while it runs.
    """

    rows: np.ndarray

    @property
    def done(self) -> int:
        """Iterations."""
        return len(self.rows)

    @property
    @abstractmethod
    def result(self) -> Any:
        """What has been found so far, as it is returned."""

    @property
    @abstractmethod
    def saved(self) -> dict[str, Any]:
        """What a file has to hold, besides the history."""

    def begin(self) -> None:
        """Find what the first iteration needs, where no file was there to go on from."""
        return

    @abstractmethod
    def restore(self, saved: dict[str, Any]) -> None:
        """Take over what a file held."""

    def save(self, path: Path, problem: Problem) -> None:
        save_state(path, self.saved | {"history": self.rows}, problem)

    def resume(self, path: Path | None, problem: Problem, iterations: int, progress: bool) -> bool:
        """Go on from a file, if there is one.

        Raises:
            ValueError: it holds more iterations, or belongs to another problem.
        """
        if path is None or not path.exists():
            return False
        saved = load_state(path, self.saved | {"history": self.rows}, problem)
        if len(saved["history"]) > iterations:
            raise ValueError(
                f"{path} holds {len(saved['history'])} iterations, more than "
                f"iterations={iterations}; "
                "ask for at least as many, or give another path to start afresh"
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
    """Goes on from the file, if there is one, runs the iterations that are left, and returns the
    run's result.

    Args:
        run: where the inversion stands.
        advance: runs one iteration.
        iterations: those before included.
        name: of the progress bar.
        shown: what the first number of a row is, and its format.
        callback: called after each iteration and its save.
        progress: whether to show a bar.
        path: of the state's file; None for none.
        problem: what the file is to be matched with.
        save_every: iterations between saves.

    Raises:
        ValueError: the file holds more iterations or belongs to another problem, or another process
            writes to it.
        Interrupted: after Ctrl-C, once the running iteration is finished and saved.
    """
    label, digits = shown

    def save() -> bool:
        """Whether the state is on disk. A disk that is full costs neither the run nor its
        result."""
        if path is None:
            return False
        try:
            run.save(path, problem)
        except OSError as error:
            warnings.warn(
                f"{path} could not be saved after {run.done} iterations ({error}): the inversion "
                "goes on, and tries again. "
                "Make room on the disk",
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
            while run.done < iterations:
                advance()
                if run.done % save_every == 0 or run.done == iterations:
                    save()
                bar.update({label: format(run.rows[-1, 0], digits)})
                if callback is not None:
                    result = run.result
                    callback(run.done, result.found, result.history)
                if interrupted and run.done < iterations:
                    kept = (
                        f"{path} holds the state: make the same call again to go on"
                        if save()
                        else "nothing was saved"
                    )
                    message = f"stopped after {run.done} of {iterations} iterations; {kept}"
                    raise Interrupted(message, run.result)
    return run.result
