"""Gradients whose history does not fit in memory: recompute stretches of it from checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from checkpoint_schedules import (
    Copy,
    EndReverse,
    Forward,
    Move,
    MultistageCheckpointSchedule,
    Reverse,
)


@dataclass(frozen=True)
class Plan:
    """How a history is cut up.

    Attributes:
        stretch: steps whose history is held at a time.
        checkpoints: states held at a time.
    """

    stretch: int
    checkpoints: int


def plan(
    steps: int, step_bytes: int, state_bytes: int, budget: int, every: int, shots: int = 1
) -> Plan:
    """Split a budget evenly between one stretch of history and checkpoints, or as it goes if that
    leaves no room for one.

    Args:
        steps: number of time steps.
        step_bytes: history of one step.
        state_bytes: one checkpoint.
        budget: bytes for both, and for all shots.
        every: stretches start at multiples of this.
        shots: that run side by side.

    Raises:
        MemoryError: the budget does not hold one step and one checkpoint.
    """
    share = budget // shots
    half = max(1, min(steps, share // 2 // step_bytes - 3) // every) * every
    most = (
        ((share - state_bytes) // step_bytes - 3) // every * every
    )  # that leave room for one checkpoint
    if most < every:
        need = shots * ((every + 3) * step_bytes + state_bytes)
        side_by_side = f", for each of {shots} shots side by side" if shots > 1 else ""
        raise MemoryError(
            f"a memory budget of {budget} bytes is too small: this grid needs at least {need} "
            "bytes for one stretch of "
            f"history and one checkpoint{side_by_side}. Raise "
            f"Settings(memory=...){' or lower threads' * (shots > 1)}"
        )
    stretch = min(half, most)
    checkpoints = min((share - (stretch + 3) * step_bytes) // state_bytes, -(-steps // stretch))
    return Plan(stretch, checkpoints)


@runtime_checkable
class Restartable(Protocol):
    """A run that can be stopped, saved and taken up again."""

    def forward(self, first: int, last: int, keep: bool) -> None: ...
    def backward(self, first: int, last: int) -> None: ...
    def save(self, step: int) -> Any: ...
    def restore(self, state: Any) -> None: ...


def run(steps: int, chosen: Plan, task: Restartable) -> None:
    """Run all steps forward and backward after a binomial schedule (Griewank and Walther, 2000).

    Args:
        steps: number of time steps.
        chosen: how the history is cut up.
        task: what to run; its state is at rest before step 0.
    """
    stretches = -(-steps // chosen.stretch)
    states: dict[int, Any] = {}

    def at(index: int) -> int:
        return min(index * chosen.stretch, steps)

    for action in MultistageCheckpointSchedule(stretches, chosen.checkpoints, 0):
        match action:
            case Forward():
                if action.write_ics:
                    states[action.n0] = task.save(at(action.n0))
                task.forward(at(action.n0), at(action.n1), keep=action.write_adj_deps)
            case Reverse():
                task.backward(at(action.n0), at(action.n1))
            case Copy():
                task.restore(states[action.n])
            case Move():
                task.restore(states.pop(action.n))
            case EndReverse():
                return


def copies(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays.items()}
