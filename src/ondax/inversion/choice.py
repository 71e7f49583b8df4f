"""What was chosen by the machine's memory, kept in saved states, so that an inversion that is taken
up on another machine has the same gradients."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..backends.settings import machine_memory
from ..face.cost import chosen_way
from ..propagator import Propagator
from .state import read_arrays


class Choice(NamedTuple):
    """How histories are kept, where settings leave it to the machine.

    Attributes:
        way: to keep that of a shot.
        memory: for all histories, bytes, by which it was chosen.
    """

    way: str
    memory: int


def choice_of(F: Any, dtype: Any) -> Choice | None:
    """What is chosen now; None where there is nothing to choose: the settings say how much memory
    histories may take, or F is a function of the user's."""
    if not isinstance(F, Propagator) or F.settings.memory is not None:
        return None
    return Choice(chosen_way(F._hosts.of(dtype)), F.settings.memory_budget)


def as_saved(F: Any, dtype: Any, path: Path | None) -> tuple[Any, Choice | None]:
    """F, with histories kept as they were when a state was saved; and how that is.

    Args:
        F: a propagator, or a function of the user's, which stays as it is.
        dtype: of traces.
        path: of the state; None for none.

    Raises:
        ValueError: this machine has less memory than what histories took then.
    """
    now = choice_of(F, dtype) if path is not None else None
    if path is None or now is None or not path.exists():
        return F, now
    try:
        then = Choice(**read_arrays(path)[1]["histories"])
    except (KeyError, TypeError, ValueError, OSError):
        return F, now  # it says nothing of this, or is no state: whoever loads it says so
    if then.way == now.way:
        return F, now
    if then.memory > machine_memory():
        raise ValueError(
            f"{path} was saved where histories took up to {then.memory} bytes, and were kept by "
            f"{then.way}; this machine has {machine_memory()} bytes, with which {now.way} is "
            "taken. Go on where there is as much memory; or say how much histories may take here, "
            f"Settings(memory={now.memory}): gradients then differ in their last digits"
        )
    return F.replace(settings=replace(F.settings, memory=then.memory)), then
