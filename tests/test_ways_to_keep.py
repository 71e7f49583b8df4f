"""Two more ways to keep histories, written against the interface alone: that it is one."""

from collections.abc import Callable, Iterator
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Problem, difference, norm
from systems import float64_everywhere

import ondax as ox
from ondax.histories.automatic import Automatic
from ondax.histories.base import AbstractHistory, Recorder, Rerun, Stretch, borrowed, unkept
from ondax.histories.buffers import POOL, Layout, Stored, zeros
from ondax.histories.store import STORE, Kept


@final
class TwoSteps(AbstractHistory):
    """Two steps of a history at a time; each pair is run for from the beginning."""

    keeps: ClassVar[bool] = False
    every: int = eqx.field(static=True, default=1)

    def every_step(self) -> AbstractHistory:
        return self

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        unkept(run, 1)

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        starts = range(0, rerun.steps, 2)
        for first in reversed(starts) if backward else starts:
            last = min(first + 2, rerun.steps)
            with rerun.run() as run:
                if first:
                    run.advance(0, first, None)
                with borrowed(run, first, last) as stretch:
                    run.advance(first, last, stretch)
                    yield stretch


@final
class Packed(AbstractHistory):
    """Whole, in float16 times a power of two for each array; unpacked a stretch at a time."""

    keeps: ClassVar[bool] = True
    every: int = eqx.field(static=True, default=1)
    length: int = eqx.field(static=True, default=16)

    def every_step(self) -> AbstractHistory:
        return Automatic()

    def stretches(self, steps: int) -> list[tuple[int, int]]:
        return [(n, min(n + self.length, steps)) for n in range(0, steps, self.length)]

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        layout = [
            Stored(f"{s.name} {first}", s.shape, "float16")
            for first, last in self.stretches(run.steps)
            for s in run.layout(first, last)
        ]
        kept = room(tuple(layout))
        assert kept is not None
        kept.note = {}
        for first, last in self.stretches(run.steps):
            with borrowed(run, first, last) as stretch:
                run.advance(first, last, stretch)
                for name, values in stretch.arrays.items():
                    power = int(np.frexp(np.abs(values).max(initial=0.0))[1])
                    kept.note[f"{name} {first}"] = power
                    kept.arrays[f"{name} {first}"][...] = np.ldexp(values, -power)
        return kept

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        assert kept is not None
        pieces = self.stretches(rerun.steps)
        with rerun.run() as run:
            for first, last in reversed(pieces) if backward else pieces:
                arrays = {}
                for s in run.layout(first, last):
                    name = f"{s.name} {first}"
                    values = kept.arrays[name].astype(s.dtype)
                    arrays[s.name] = run_array(s, np.ldexp(values, kept.note[name]))
                yield Stretch(first, last, arrays)


def run_array(stored: Stored, values: np.ndarray) -> np.ndarray:
    """An array as kernels take it."""
    array = zeros(stored.shape, stored.dtype)
    array[...] = values
    return array


def derivatives(history: str | AbstractHistory, dtype: str = "float64") -> list[jax.Array]:
    """A gradient, Born traces and an image."""
    problem = Problem("density", 1, 4, dtype=dtype)
    F = problem.propagator(settings=ox.Settings(threads=2, history=history))
    model, y = problem.model(), problem.cotangent()
    gradient = jax.grad(lambda m: jnp.vdot(y, F(m)))(model)
    J = F.jacobian(model)
    return jax.tree.leaves((gradient, J.mv(problem.perturbation()), J.T.mv(y)))


@pytest.mark.parametrize("history", ["whole", "revolve", TwoSteps()], ids=str)
def test_exact_ways_agree(history: str | AbstractHistory):
    """The same operations in the same order, save sums over stretches."""
    with float64_everywhere():
        expected, got = derivatives("auto"), derivatives(history)
        for a, b in zip(got, expected, strict=True):
            assert difference(a, b) < 1e-13
            assert norm(b) > 0


def test_a_way_of_ones_own_may_lose_something():
    """float16 rounds to 2^-11 = 4.9e-4 of each value, and worse what is small beside the largest;
    errors of many values average out, but gradients are small differences of them. Born traces and
    images are asked for exactly, and do not see it."""
    expected, got = derivatives("auto", "float32"), derivatives(Packed(), "float32")
    # Gradients by parameter, then Born traces, then images by parameter.
    errors = [difference(a, b) for a, b in zip(got, expected, strict=True)]
    assert 1e-6 < max(errors[:2]) < 2e-3, errors
    assert max(errors[2:]) == 0.0, errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"history": "everything"}, "history='everything': choose one of 'auto', 'whole'"),
        ({"history": "whole", "store_every": 3}, "leave out store_every=3"),
        ({"history": TwoSteps(), "store_every": 3}, "says itself what it keeps"),
    ],
)
def test_contradictions_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ox.Settings(**settings)


def test_a_whole_history_that_does_not_fit_is_refused():
    problem = Problem("acoustic", 1, 4, dtype="float32")
    settings = ox.Settings(threads=1, memory=5000, history="whole")
    F = problem.propagator(settings=settings)
    with pytest.raises(MemoryError, match=r"5000 bytes does not hold a whole history of \d+ bytes"):
        jax.grad(lambda m: jnp.sum(F(m) ** 2))(problem.model())


@final
class Undecided(AbstractHistory):
    """Asks for room and does not use it, or returns what it was not given."""

    keeps: ClassVar[bool] = True
    every: int = eqx.field(static=True, default=1)
    own: bool = eqx.field(static=True, default=False)

    def every_step(self) -> AbstractHistory:
        return self

    def record(self, run: Recorder, room: Callable[[Layout], Kept | None]) -> Kept | None:
        kept = room(run.layout(0, run.steps))
        unkept(run, 1)
        return Kept({}, (), 0) if self.own and kept is not None else None

    def replay(self, kept: Kept | None, rerun: Rerun, backward: bool) -> Iterator[Stretch]:
        yield from TwoSteps().replay(None, rerun, backward)


def test_room_that_is_not_used_is_given_back():
    ox.release_memory()
    derivatives(Undecided(), "float32")
    assert STORE.nbytes == 0
    with pytest.raises(TypeError, match="must return buffers that `room` gave to it"):
        derivatives(Undecided(own=True), "float32")
    assert STORE.nbytes == 0


@pytest.mark.parametrize("history", ["auto", "revolve"])
def test_spare_memory_stays_within_the_budget(history: str):
    """Of fields and stretches of all grids that were ever used."""
    ox.release_memory()
    budget = 600_000
    for points in (40, 60, 80):
        survey = ox.Survey([[100.0, 50.0]], [[200.0, 50.0]], ox.ricker(15.0, 150, 0.002), 0.002)
        settings = ox.Settings(threads=1, memory=budget, history=history)
        F = ox.Propagator(
            ox.Acoustic(4), ox.Grid((points, 31), 10.0), survey, 2600.0, settings=settings
        )
        slope = jax.grad(lambda v, F=F: jnp.sum(F(v) ** 2))
        jax.block_until_ready(slope(jnp.full((points, 31), 2000.0)))
        assert STORE.nbytes + POOL.nbytes <= budget
