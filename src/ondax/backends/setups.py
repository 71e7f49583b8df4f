"""How the shots of a call are set up: domain, clock, sources and receivers of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np

from .clock import Clock
from .domain import Domain

Position = tuple[int, ...]  # in a batch, or on a grid


@dataclass(frozen=True)
class Setup:
    """How one shot is set up.

    Attributes:
        domain: what it is run on.
        start: the domain's first point, counted on the domain that coefficients are given on.
        clock: its steps and samples.
        sources: metres, (source, axis).
        receivers: metres, (receiver, axis).
    """

    domain: Domain
    start: Position
    clock: Clock
    sources: np.ndarray
    receivers: np.ndarray


class AbstractSetups(ABC):
    """How the shots of a call are set up.

    Attributes:
        shots: number of shots.
        sources: the most sources of any shot; an extended source counts as one. In arrays, every
            port has a block of so many rows. A shot with fewer sources has them in the first rows
            of each port's block; the other rows of the block are zero.
        receivers: the most receivers of any shot; their rows are arranged in the same way.
    """

    shots: int
    sources: int
    receivers: int

    @abstractmethod
    def of(self, position: Position, shot: int) -> Setup:
        """How a shot of a batch element is set up."""


@final
class Alike(AbstractSetups):
    """Shots with the same number of sources and of receivers, all on one domain.

    Args:
        domain: of all.
        clock: of all.
        sources: metres, (*batch, shot, source, axis); a batch axis of length 1 is shared.
        receivers: metres, (*batch, shot, receiver, axis), likewise.
    """

    def __init__(
        self, domain: Domain, clock: Clock, sources: np.ndarray, receivers: np.ndarray
    ) -> None:
        self._domain, self._clock = domain, clock
        self._sources, self._receivers = sources, receivers
        self.shots, points = sources.shape[-3:-1]
        self.sources = max(1, points)  # an extended source has no points, but samples
        self.receivers = receivers.shape[-2]

    def of(self, position: Position, shot: int) -> Setup:
        """See `AbstractSetups`."""
        return Setup(
            domain=self._domain,
            start=(0,) * len(self._domain.shape),
            clock=self._clock,
            sources=element(self._sources, position)[shot],
            receivers=element(self._receivers, position)[shot],
        )


def element(array: np.ndarray, position: Position) -> np.ndarray:
    """The batch element at a position; axes of length 1 are shared."""
    return array[clipped(position, array.shape)]


def clipped(position: Position, shape: Position) -> Position:
    """A position in an array some of whose axes have length 1 and are shared."""
    return tuple(min(p, n - 1) for p, n in zip(position, shape, strict=False))
