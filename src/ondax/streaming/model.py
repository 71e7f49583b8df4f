"""The traces of a whole survey, written to files shot by shot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax
import numpy as np

from .._behind import Behind
from .._types import Model
from .._waiting import say
from ..backends.settings import Settings
from ..face import modelling
from ..histories.scratch import FULL, DiskFull
from ..inversion.fingerprint import Problem, fingerprint
from ..inversion.progress import Progress
from ..inversion.state import only_writer
from ..propagator import Propagator
from .journal import Journal
from .runner import in_groups, runner
from .targets import KINDS, AbstractTarget
from .tasks import Modelled, Shots

PLAIN = Settings()  # in place of a propagator's: of these, only the backend may change traces
BACKEND = "backend"  # the part of a problem that is known by its name


def model(
    F: Propagator, model: Model, out: str | os.PathLike[str], *, progress: bool = True
) -> Path:
    """Model the traces of a survey of any size, and write them to a file shot by shot.

    A few shots are in memory at a time, as many as run side by side. While these run, those before
    are written. The file appears when all shots are in it. Until then they are in `out` with
    `.part` behind its name, and a journal beside that says which are on the disk. After a kill, a
    full disk or Ctrl-C, make the same call again: it goes on with the shots that are missing. A
    call whose file is complete returns at once.

    With ".zarr" (`pip install "ondax[zarr]"`), the traces are one array of the model's type, (shot,
    [component,] receiver, time), with a chunk for each shot and zeros behind shots with fewer
    receivers; positions and times are beside it, and `ox.io.open_shots` reads it. With ".segy" or
    ".sgy", they are a SEG-Y file, as `ox.io.write_segy` writes it from a survey, which
    `ox.io.scan` reads.

    Args:
        F: the propagator. Its survey's sources are points.
        model: as F takes it.
        out: path of the file; its ending says which kind.
        progress: whether to show a bar.

    Returns:
        The path of the file, absolute.

    Raises:
        ValueError: another ending; a survey that a SEG-Y file cannot hold; the file, or what is
            there of it, is of another survey, model, propagator or backend; another call writes to
            it; or as for `F(model)`.
        OSError: the disk is full, for example: the message says what is needed and what is free.

    Example:
        >>> ox.model(F, vp, out="shots.segy")
        >>> line = ox.io.scan("shots.segy")
    """
    path = Path(os.path.abspath(out))
    if path.suffix.lower() not in KINDS:
        raise ValueError(f"out={str(out)!r}: let its name end in one of {', '.join(KINDS)}")
    survey = F.survey
    if survey.extended:
        raise ValueError(
            "the survey's sources are extended, and their weights are given with each call: model "
            "a few shots at a time, F(model, weights=w, shots=numbers)"
        )
    dtype = modelling.type_of(model)
    model = jax.tree.map(lambda x: np.asarray(x, dtype), model)
    task = Modelled(F, model)
    parts = {
        "propagator": partial(fingerprint, F.replace(settings=PLAIN)),
        "model": partial(fingerprint, model),
        BACKEND: lambda: F.settings.runs_on(task.caller.platform),
    }
    problem = Problem.of(parts, (), path)
    target = KINDS[path.suffix.lower()](survey, dtype, problem.fingerprints)
    target.check()
    part, journal = Path(f"{path}.part"), Journal(Path(f"{path}.journal"))
    with only_writer(path, "out"):
        if path.exists():
            if not target.holds_same(path):
                raise ValueError(
                    f"{path} is there already, and not of this survey, model, propagator and "
                    f"backend ({problem.fingerprints[BACKEND]!r}): delete it, or give another name"
                )
            journal.remove()
            return path
        done = _begun(target, part, journal, problem)
        if done and progress:
            say(f"going on with {part}: {len(done)} of {survey.n_shots} shots are done")
        with journal:
            try:
                target.open(part)
                _fill(task, target, part, journal, done, progress)
            finally:
                target.close()
        os.replace(part, path)
        journal.remove()
    return path


def _begun(target: AbstractTarget, part: Path, journal: Journal, problem: Problem) -> set[int]:
    """The shots that a former call has written; or make everything ready for the first.

    Raises:
        ValueError: what is there is of another problem.
    """
    fingerprints, done = journal.read()
    if fingerprints is not None and part.exists():
        differing = problem.differing(fingerprints)
        if differing == [BACKEND]:
            before, now = fingerprints.get(BACKEND), problem.fingerprints[BACKEND]
            raise ValueError(
                f"{part} was begun with backend {before!r}, and here {now!r} runs, whose traces "
                f"differ in their last digits: give Settings(backend={before!r}) to go on, delete "
                "the file to start afresh, or give another name"
            )
        if differing:
            raise ValueError(
                f"{part} was begun with another {' and '.join(differing)}: restore that to go on, "
                "delete the file to start afresh, or give another name"
            )
        return done
    with _saying_what_is_needed(target, part, target.survey.n_shots):
        target.begin(part)
        journal.begin(problem.fingerprints)
    return set()


def _fill(
    task: Modelled,
    target: AbstractTarget,
    part: Path,
    journal: Journal,
    done: set[int],
    progress: bool,
) -> None:
    """Model and write the shots that are missing."""
    survey, place = target.survey, runner()
    left = [n for n in range(survey.n_shots) if n not in done]
    size = place.together(survey.n_shots, task.F.settings.worker_threads)

    def write(shots: Shots, gathers: list[np.ndarray]) -> None:
        with _saying_what_is_needed(target, part, len(left)):
            for shot, gather in zip(shots, gathers, strict=True):
                target.write(shot, gather)
            journal.add(shots)

    with (
        Progress("model", survey.n_shots, progress, len(done)) as bar,
        Behind[None]() as behind,
    ):
        writing: Future[None] | None = None
        for shots, gathers in place.each(task, in_groups(left, size)):
            if writing is not None:
                writing.result()
            writing = behind.start(partial(write, shots, gathers))
            bar.update({}, len(shots))
        if writing is not None:
            writing.result()


@contextmanager
def _saying_what_is_needed(target: AbstractTarget, part: Path, shots: int) -> Iterator[None]:
    """Within it, a full disk is said with what is needed of it, and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        folder = part.resolve().parent
        shot = int(np.prod(target.survey.trace_shape(1))) * target.dtype.itemsize
        raise DiskFull(
            f"the disk of folder {folder} is full: up to {shots * shot} bytes are needed for "
            f"{shots} shots, and {shutil.disk_usage(folder).free} are free. Make room there "
            "and make the same call again: it goes on where it has stopped"
        ) from error
