"""Where a run's states are saved that its history is computed anew from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from functools import partial
from typing import final

import numpy as np

from .._behind import Behind
from .base import State
from .scratch import File


class AbstractStates(ABC):
    """States by the number of the stretch that they stand before."""

    @abstractmethod
    def save(self, number: int, state: State, on_disk: bool) -> None:
        """Keep a state.

        Args:
            number: under which.
            state: which nobody else changes.
            on_disk: not in memory.
        """

    @abstractmethod
    def load(self, number: int) -> State:
        """A state, which is kept still."""

    @abstractmethod
    def drop(self, number: int) -> None:
        """Forget a state."""

    def soon(self, number: int) -> None:
        """This state is the next to be loaded."""
        return


@final
class InMemory(AbstractStates):
    """States in memory."""

    def __init__(self) -> None:
        self._states: dict[int, State] = {}

    def save(self, number: int, state: State, on_disk: bool) -> None:
        """See `AbstractStates.save`."""
        self._states[number] = state

    def load(self, number: int) -> State:
        """See `AbstractStates.load`."""
        return self._states[number]

    def drop(self, number: int) -> None:
        """See `AbstractStates.drop`."""
        del self._states[number]


@final
class OnDisk(AbstractStates):
    """States in memory and in a file: written behind the run, and read ahead of it. Beside those in
    memory, one may be on its way to the disk, and one from there. A context.

    Args:
        file: holds so many states.
        state_bytes: what one takes.
        at_once: nothing is written behind the run, nor read ahead, as there is no memory for it.
    """

    def __init__(self, file: File, state_bytes: int, at_once: bool) -> None:
        self._file, self._bytes, self._at_once = file, state_bytes, at_once
        self._memory = InMemory()
        self._free = list(range(file.size // max(1, state_bytes)))
        self._places: dict[int, int] = {}
        self._shapes: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        self._writing: tuple[int, State, Future[None]] | None = None
        self._reading: tuple[int, Future[State]] | None = None
        self._behind: Behind = Behind()

    def save(self, number: int, state: State, on_disk: bool) -> None:
        """See `AbstractStates.save`.

        Raises:
            DiskFull: there is no room on the disk.
        """
        if not on_disk:
            self._memory.save(number, state, on_disk)
            return
        self._shapes = {n: (a.shape, a.dtype) for n, a in state.items()}
        self._settle()
        place = self._places[number] = self._free.pop()
        started = self._behind.start(partial(self._write, place, state))
        self._writing = number, state, started
        if self._at_once:
            self._settle()

    def load(self, number: int) -> State:
        """See `AbstractStates.load`."""
        if number not in self._places:
            return self._memory.load(number)
        if self._writing is not None and self._writing[0] == number:
            return self._writing[1]
        self._settle()
        if self._reading is not None:
            (ahead, reading), self._reading = self._reading, None
            found = reading.result()
            if ahead == number:
                return found
        return self._read(self._places[number])

    def drop(self, number: int) -> None:
        """See `AbstractStates.drop`."""
        if number not in self._places:
            self._memory.drop(number)
            return
        if self._writing is not None and self._writing[0] == number:
            self._settle()
        self._free.append(self._places.pop(number))

    def soon(self, number: int) -> None:
        """See `AbstractStates.soon`."""
        being_written = self._writing is not None and self._writing[0] == number
        if number in self._places and not being_written and not self._at_once:
            place = self._places[number]
            self._reading = number, self._behind.start(partial(self._read, place))

    def _settle(self) -> None:
        """Wait until what is being written is on the disk."""
        if self._writing is not None:
            (_, _, writing), self._writing = self._writing, None
            writing.result()

    def _write(self, place: int, state: State) -> None:
        offset = place * self._bytes
        for name in self._shapes:
            self._file.write(offset, np.ascontiguousarray(state[name]))
            offset += state[name].nbytes

    def _read(self, place: int) -> State:
        offset, state = place * self._bytes, {}
        for name, (shape, dtype) in self._shapes.items():
            state[name] = np.empty(shape, dtype)
            self._file.read(offset, state[name])
            offset += state[name].nbytes
        return state

    def __enter__(self) -> OnDisk:
        self._behind.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._behind.__exit__(*error)
        self._file.close()
