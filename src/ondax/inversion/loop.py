"""The loop of an inversion: iterate, save, tell, and stop where Ctrl-C was pressed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree
from tqdm.auto import tqdm

from .fingerprint import Problem
from .interrupt import deferred_interrupt
from .result import Interrupted
from .state import load_state, save_state


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
                f"{path} holds {len(saved['history'])} iterations, more than iterations={iterations}; "
                "ask for at least as many, or give another path to start afresh"
            )
        self.rows = saved["history"]
        self.restore(saved)
        if progress:
            tqdm.write(f"going on from {path}: {self.done} of {iterations} iterations are done")
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
    """Runs the iterations that are left, and returns the run's result.

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
        Interrupted: after Ctrl-C, once the running iteration is finished and saved.
    """
    bar = tqdm(desc=name, initial=run.done, total=iterations, disable=not progress, dynamic_ncols=True)
    with bar, deferred_interrupt() as interrupted:
        while run.done < iterations:
            advance()
            if path is not None and (run.done % save_every == 0 or run.done == iterations):
                run.save(path, problem)
            label, digits = shown
            bar.set_postfix({label: format(run.rows[-1, 0], digits)}, refresh=False)
            bar.update()
            if callback is not None:
                result = run.result
                callback(run.done, result.found, result.history)
            if interrupted and run.done < iterations:
                kept = "nothing was saved"
                if path is not None:
                    run.save(path, problem)
                    kept = f"{path} holds the state: make the same call again to go on"
                message = f"stopped after {run.done} of {iterations} iterations; {kept}"
                raise Interrupted(message, run.result)
    return run.result
