"""Checkpointing by itself: plans within a budget, and schedules that visit every step once,
backward."""

import re
from collections.abc import Iterable

import numpy as np
import pytest

from ondax.backends.devito.native import Halves
from ondax.histories import revolve as checkpoint
from ondax.histories.base import Stretch
from ondax.histories.buffers import Stored


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 7, 80, 1000])
def test_plans_fit_their_budget(steps: int, every: int):
    step, state = 100, 340
    for budget in (740, 1040, 1500, 3333, 10_000, 50_000):
        try:
            plan = checkpoint.plan(steps, step, state, budget, every)
        except MemoryError:
            assert budget < (every + 3) * step + state
            continue
        assert plan.stretch % every == 0
        assert plan.checkpoints >= 1
        assert (plan.stretch + 3) * step + plan.checkpoints * state <= budget


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("state", [1, 340, 5000])
def test_the_smallest_budget_is_the_one_that_the_message_names(state: int, shots: int):
    with pytest.raises(MemoryError, match="500 bytes is too small") as caught:
        checkpoint.plan(80, 130, state, 500, 2, shots)
    (need,) = re.findall(r"at least (\d+) bytes", str(caught.value))
    plan = checkpoint.plan(80, 130, state, int(need), 2, shots)
    assert (plan.stretch, plan.checkpoints) == (2, 1)
    with pytest.raises(MemoryError, match=need):
        checkpoint.plan(80, 130, state, int(need) - shots, 2, shots)


class Walker:
    """A run whose state is the number of the step it has reached."""

    state_bytes = 8
    packing = Halves()

    def __init__(self, steps: int) -> None:
        self.steps, self.at, self.work = steps, 0, 0

    def layout(self, first: int, last: int) -> tuple[Stored, ...]:
        return (Stored("kept", (last - first + 1, 8), "float64"),)

    def begin(self, first: int, last: int, arrays: dict[str, np.ndarray]) -> Stretch:
        assert self.at == first
        return Stretch(first, last, arrays)

    def advance(self, first: int, last: int, into: Stretch | None) -> None:
        assert self.at == first < last
        self.at = last
        self.work += last - first
        if into is not None:
            into.arrays["kept"][: last - first, 0] = np.arange(first, last)

    def save(self) -> dict[str, np.ndarray]:
        return {"at": np.array(self.at)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.at = int(state["at"])


def visited(stretches: Iterable[Stretch]) -> list[int]:
    """The steps of a history, in the order in which a gradient visits them."""
    seen: list[int] = []
    for s in stretches:
        seen += reversed(s.arrays["kept"][: s.last - s.first, 0].astype(int).tolist())
    return seen


@pytest.mark.parametrize(
    ("steps", "stretch", "checkpoints"),
    [(1, 1, 1), (36, 5, 1), (36, 5, 3), (37, 7, 2), (64, 1, 4), (10, 10, 1)],
)
def test_the_schedule_visits_every_step_once_backward(steps: int, stretch: int, checkpoints: int):
    walker = Walker(steps)
    found = checkpoint.reversed_in_time(walker, checkpoint.Plan(stretch, checkpoints), 1)
    assert visited(found) == list(reversed(range(steps)))
    stretches = -(-steps // stretch)
    assert walker.work <= steps * (stretches + 1)


def test_more_checkpoints_cost_less_work():
    work = []
    for checkpoints in (1, 2, 4, 8, 16):
        walker = Walker(64)
        visited(checkpoint.reversed_in_time(walker, checkpoint.Plan(4, checkpoints), 1))
        work.append(walker.work)
    assert work == sorted(work, reverse=True)
    assert work[-1] <= 2 * 64  # every stretch has a checkpoint: one more forward run, no more
