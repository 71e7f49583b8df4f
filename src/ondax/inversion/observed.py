"""Observed traces that do not lie in memory: anything with `observed[numbers]`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple, final

import numpy as np

from ..face.fetching import Source
from ..gathers import over_components, padded_gathers
from ..survey import Survey

TOGETHER = 16  # shots that are read at a time


@final
class Look(NamedTuple):
    """What a look at all traces has found.

    Attributes:
        peak: the largest absolute value.
        digest: of all their bytes.
    """

    peak: float
    digest: str


@final
class Gathers:
    """Traces as a list of gathers, each of which may have fewer receivers than others."""

    def __init__(self, observed: Any) -> None:
        self._observed = observed

    def __getitem__(self, numbers: np.ndarray) -> list[np.ndarray]:
        return list(self._observed[numbers])


@final
class Shifted:
    """Observed traces times a power of two, read when asked for; those of weight 0 as zeros.

    Args:
        observed: gives traces of shots by `observed[numbers]`, as one array or a list of gathers.
        survey: that they were recorded with.
        power: binary exponent of the factor.
    """

    def __init__(self, observed: Any, survey: Survey, power: int = 0) -> None:
        self.observed, self.survey, self.power = observed, survey, power

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        shots = [int(n) for n in numbers]
        given = self.observed[np.asarray(numbers)]
        if isinstance(given, (list, tuple)):
            shapes = self.survey.gather_shapes(shots)
            given = padded_gathers(given, shapes, self.survey.n_receivers)
        traces = np.array(given, copy=True)
        expected = self.survey.trace_shape(len(shots))
        if traces.shape != expected:
            raise ValueError(
                f"observed[{shots}] has shape {traces.shape}, but the propagator predicts "
                f"{expected}: give it the survey that the traces were recorded with"
            )
        if self.survey.weighs_traces:
            dead = over_components(self.survey.weights_of(shots) == 0.0, traces.ndim)
            traces[np.broadcast_to(dead, traces.shape[:-1])] = 0.0
        return np.ldexp(traces, self.power) if self.power else traces

    @property
    def of_shots(self) -> Any:
        """Gives those of some shots, by a list of their numbers, which know of no others.

        Raises:
            AttributeError: `observed` cannot.
        """
        of_shots = self.observed.of_shots

        def gathers(shots: list[int]) -> Gathers:
            return Gathers(Shifted(of_shots(shots), self.survey[shots], self.power))

        return gathers

    def look(self) -> Look:
        """Read all traces once, a few shots at a time.

        Raises:
            ValueError: some are not finite, or of another shape.
        """
        peak, digest = 0.0, hashlib.sha256()
        for shots, traces in self._chunks():
            largest = float(np.max(np.abs(traces), initial=0.0))
            if not np.isfinite(largest):
                raise ValueError(
                    f"observed holds NaN or infinite values in shots {shots[0]} to {shots[-1]}: "
                    "leave dead traces out, with weights of zero in Survey(trace_weights=...)"
                )
            peak = max(peak, largest)
            digest.update(np.ascontiguousarray(traces).tobytes())
        return Look(peak, digest.hexdigest())

    def all(self) -> np.ndarray:
        """All traces in one array."""
        return np.concatenate([traces for _, traces in self._chunks()])

    def source(self, power: int) -> Source:
        """The traces times a power of two, as an objective fetches them."""
        return Source(Shifted(self.observed, self.survey, power))

    def _chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        numbers = np.arange(self.survey.n_shots)
        for first in range(0, len(numbers), TOGETHER):
            shots = numbers[first : first + TOGETHER]
            yield shots, self[shots]
