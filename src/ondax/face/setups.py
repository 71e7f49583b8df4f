"""Where the shots of a survey are."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np

from ..backends.clock import Clock
from ..backends.domain import Domain
from ..backends.setups import AbstractSetups, Position, Setup, element
from .problem import Problem


@final
class OfSurvey(AbstractSetups):
    """Some shots of a survey, whose points stay where they are packed, unless they came with the
    call.

    Args:
        domain: of one shot: the model with the boundary around it; or, with an aperture, a part of
            it as large as any shot's, from the model's first point on.
        clock: of all shots.
        problem: with the survey, and with the windows of its shots.
        shots: numbers of the shots, (*batch, shot).
        given: positions of sources and of receivers, metres, (*batch, shot, point, axis); None for
            those of the survey.
    """

    def __init__(
        self,
        domain: Domain,
        clock: Clock,
        problem: Problem,
        shots: np.ndarray,
        given: tuple[np.ndarray | None, np.ndarray | None],
    ) -> None:
        self._domain, self._clock, self._problem = domain, clock, problem
        self._numbers, self._given = shots, given
        self._moved: dict[Position, Domain] = {(0,) * len(domain.shape): domain}
        self.shots = shots.shape[-1]
        self.sources = problem.survey.n_sources
        self.receivers = problem.survey.n_receivers * problem.receivers.places

    def of(self, position: Position, shot: int) -> Setup:
        """See `AbstractSetups`."""
        number = int(element(self._numbers, position)[shot])
        sources, receivers = (self._points(end, position, shot, number) for end in (0, 1))
        start = self._start(number)
        return Setup(self._at(start), start, self._clock, sources, receivers)

    def _start(self, number: int) -> Position:
        windows = self._problem.windows
        if windows is None:
            return (0,) * len(self._domain.shape)
        return tuple(windows.starts[number].tolist())

    def _at(self, start: Position) -> Domain:
        """The domain, moved by so many points."""
        if start not in self._moved:
            moved = zip(self._domain.origin, start, self._domain.spacing, strict=True)
            origin = tuple(o + n * h for o, n, h in moved)
            self._moved[start] = replace(self._domain, origin=origin)
        return self._moved[start]

    def _points(self, end: int, position: Position, shot: int, number: int) -> np.ndarray:
        """The points at one end of the rays, (point, axis); of receivers, all places."""
        points, given = self._problem.survey.points[end].of(number), self._given[end]
        if given is not None:
            points = element(given, position)[shot][: len(points)]
        if end == 0:
            return points
        return self._problem.receivers.placed(points[None], np.array([number]))[0]
