"""Where the shots of a call are: each has a domain, a clock, sources and receivers of its own."""

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
    """Where one shot is.

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
    """Where the shots of a call are.

    Attributes:
        shots: how many.
        sources: of a shot, at most. Shots with fewer have theirs in the first rows of every array,
            and nothing in the others.
        receivers: of a shot, at most; likewise.
    """

    shots: int
    sources: int
    receivers: int

    @abstractmethod
    def of(self, position: Position, shot: int) -> Setup:
        """Where a shot of a batch element is."""


@final
class Alike(AbstractSetups):
    """Shots with as many sources and receivers each, all on one domain.

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
