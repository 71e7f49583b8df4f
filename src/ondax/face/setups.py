"""Where the shots of a survey are."""

from __future__ import annotations

from typing import final

import numpy as np

from ..backends.clock import Clock
from ..backends.domain import Domain
from ..backends.setups import AbstractSetups, Position, Setup, element
from ..survey import Survey


@final
class OfSurvey(AbstractSetups):
    """Some shots of a survey, whose points stay where they are packed, unless they came with the
    call.

    Args:
        domain: that coefficients are given on.
        clock: of all shots.
        survey: the survey.
        shots: numbers of the shots, (*batch, shot).
        given: positions of sources and of receivers, metres, (*batch, shot, point, axis); None for
            those of the survey.
    """

    def __init__(
        self,
        domain: Domain,
        clock: Clock,
        survey: Survey,
        shots: np.ndarray,
        given: tuple[np.ndarray | None, np.ndarray | None],
    ) -> None:
        self._domain, self._clock, self._survey = domain, clock, survey
        self._numbers, self._given = shots, given
        self.shots = shots.shape[-1]
        self.sources, self.receivers = survey.n_sources, survey.n_receivers

    def of(self, position: Position, shot: int) -> Setup:
        """See `AbstractSetups`."""
        number = int(element(self._numbers, position)[shot])
        sources, receivers = (self._points(end, position, shot, number) for end in (0, 1))
        start = (0,) * len(self._domain.shape)
        return Setup(self._domain, start, self._clock, sources, receivers)

    def _points(self, end: int, position: Position, shot: int, number: int) -> np.ndarray:
        """The points at one end of the rays, (point, axis)."""
        points, given = self._survey.points[end].of(number), self._given[end]
        if given is None:
            return points
        return element(given, position)[shot][: len(points)]
