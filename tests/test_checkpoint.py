"""Checkpointing by itself: plans within a budget, and schedules that visit every step once,
backward."""

import re

import pytest

from ondax.histories import revolve as checkpoint


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

    def __init__(self, steps: int, most: int) -> None:
        self.at, self.left, self.held, self.work = 0, steps, None, 0
        self.saved: list[int] = []
        self.most = most

    def forward(self, first: int, last: int, keep: bool) -> None:
        assert self.at == first < last
        self.at, self.held = last, (first, last) if keep else None
        self.work += last - first

    def backward(self, first: int, last: int) -> None:
        assert self.held == (first, last)
        assert self.left == last
        self.left = first

    def save(self, step: int) -> int:
        assert self.at == step
        return step

    def restore(self, state: int) -> None:
        self.at = state


@pytest.mark.parametrize(
    ("steps", "stretch", "checkpoints"),
    [(1, 1, 1), (36, 5, 1), (36, 5, 3), (37, 7, 2), (64, 1, 4), (10, 10, 1)],
)
def test_the_schedule_visits_every_step_once_backward(steps: int, stretch: int, checkpoints: int):
    walker = Walker(steps, checkpoints)
    checkpoint.run(steps, checkpoint.Plan(stretch, checkpoints), walker)
    assert walker.left == 0
    stretches = -(-steps // stretch)
    assert walker.work <= steps * (stretches + 1)


def test_more_checkpoints_cost_less_work():
    work = []
    for checkpoints in (1, 2, 4, 8, 16):
        walker = Walker(64, checkpoints)
        checkpoint.run(64, checkpoint.Plan(4, checkpoints), walker)
        work.append(walker.work)
    assert work == sorted(work, reverse=True)
    assert work[-1] <= 2 * 64  # every stretch has a checkpoint: one more forward run, no more
