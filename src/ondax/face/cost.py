"""What a propagator costs, told before it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..boundaries.base import AbstractBoundary
from ..histories.base import AbstractHistory
from .host import HostModel, Hosts

LEAST, MOST = 1 << 20, 64 << 20  # bytes, whose copying tells the speed of memory
SOLVES = 2  # wave solves of a gradient: forward and back


@dataclass(frozen=True)
class Cost:
    """What one shot, and its gradient, takes.

    Attributes:
        shots: of the survey.
        steps: of the internal clock.
        dt: internal time step, s.
        points: along each axis of what a shot sees, boundary included.
        bytes_of_fields: memory of the wavefields and coefficients of a shot.
        bytes_of_history: memory of all that a gradient in all parameters needs of a shot.
        bytes_on_disk: likewise, on the disk.
        chosen: which way a shot's history goes, "Whole" or "Revolve", say, by the budget.
        budget: memory that histories may take together, bytes.
        shots_that_fit: whose histories fit into it; the others are computed anew, which takes a
            third wave solve.
        seconds: of one gradient of all shots, guessed from the speed of this machine's memory. It
            may be wrong by a factor of three.
        boundary: what was chosen.
        history: the way to keep histories.
        threads: that shots are shared out to.
    """

    shots: int
    steps: int
    dt: float
    points: tuple[int, ...]
    bytes_of_fields: int
    bytes_of_history: int
    bytes_on_disk: int
    chosen: str
    budget: int
    shots_that_fit: int
    seconds: float
    boundary: AbstractBoundary
    history: AbstractHistory
    threads: int

    def __str__(self) -> str:
        sizes = " x ".join(map(str, self.points))
        fit = "all" if self.shots_that_fit >= self.shots else str(self.shots_that_fit)
        by_name = type(self.history).__name__
        chosen = "" if self.chosen == by_name else f"{self.chosen} was chosen, "
        disk = f", {self.bytes_on_disk / 1e6:.1f} MB on disk" if self.bytes_on_disk else ""
        return "\n".join(
            [
                f"{self.shots} shots of {self.steps} steps of {1e3 * self.dt:.4g} ms",
                f"on {sizes} points, {self.boundary!r}",
                f"fields    {self.bytes_of_fields / 1e6:10.1f} MB a shot",
                f"history   {self.bytes_of_history / 1e6:10.1f} MB a shot{disk}, {self.history!r}; "
                f"{chosen}{fit} fit into {self.budget / 1e9:.3g} GB",
                f"gradient  {self.seconds:10.1f} s, guessed, with {self.threads} threads",
            ]
        )


def cost_of(hosts: Hosts, dtype: str) -> Cost:
    """The cost of a problem in a floating-point type."""
    problem, host = hosts.problem, hosts.of(dtype)
    settings = problem.settings
    found = host.memory()
    points = host.shape_of_shot
    shots, threads = problem.survey.n_shots, settings.worker_threads
    fitting = shots_that_fit(host)
    # A step reads and writes every buffer about once; so does the adjoint's, and the history is
    # written once and read once.
    moved = SOLVES * (found.fields * problem.steps + found.history)
    if fitting < shots:
        moved += found.fields * problem.steps
    together = min(threads, shots)
    return Cost(
        shots=shots,
        steps=problem.steps,
        dt=problem.dt,
        points=points,
        bytes_of_fields=found.fields,
        bytes_of_history=found.history,
        bytes_on_disk=found.disk,
        chosen=chosen_way(host),
        budget=settings.memory_budget,
        shots_that_fit=fitting,
        seconds=moved * shots / (together * _bytes_per_second(found.fields)),
        boundary=problem.boundary,
        history=problem.history,
        threads=threads,
    )


def chosen_way(host: HostModel) -> str:
    """The way to keep the history of a shot, where it depends on memory; by the name of its
    class."""
    problem = host.problem
    return problem.history.chosen(host.memory().history <= problem.settings.memory_budget)


def shots_that_fit(host: HostModel, exact: bool = False) -> int:
    """How many shots' histories fit into memory; `exact` for those of Jacobians."""
    if not host.problem.history.keeps:
        return 0
    return int(host.problem.settings.memory_budget // max(1, host.memory(exact).history))


@cache
def _bytes_per_second(fields: int) -> float:
    """How fast one thread reads or writes so many bytes, which may stay in a cache."""
    copied = min(max(fields // 2, LEAST), MOST)
    source = np.ones(copied // 8)
    target = np.empty_like(source)
    target[...] = source  # its pages are there now
    best = np.inf
    for _ in range(5):
        started = time.perf_counter()
        target[...] = source
        best = min(best, time.perf_counter() - started)
    return 2.0 * copied / best
