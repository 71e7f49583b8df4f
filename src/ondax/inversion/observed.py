"""Observed traces that do not lie in memory: anything with `observed[numbers]`."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np

from ..face.fetching import Source, check_count
from ..gathers import over_components, padded_gathers
from ..survey import Survey

TOGETHER = 16  # shots that are read at a time
READ_AS = np.dtype(np.float32)
SMALL = 1 << 28  # bytes of traces, all of which are read before an inversion begins


@final
class Look(NamedTuple):
    """What a look at traces has found.

    Attributes:
        peak: the largest absolute value of those that were read.
        digest: of their bytes, and of what is known of the others; "" if that is not enough to tell
            all traces from others.
    """

    peak: float
    digest: str


def stamp_of(observed: Any) -> str | None:
    """A text that changes when traces do, found without reading them: of what has a method
    `stamp()`, and of arrays in files; None of others, such as arrays that are changed in memory
    only (mode "c")."""
    if isinstance(observed, np.memmap) and observed.filename is not None:
        if observed.mode == "c":
            return None
        observed.flush()  # only then do files tell of what was written to them
        status = os.stat(observed.filename)
        interface = {k: v for k, v in observed.__array_interface__.items() if k != "data"}
        return f"{status.st_size} {status.st_mtime_ns} {observed.offset} {interface}"
    stamp = getattr(observed, "stamp", None)
    return None if stamp is None else str(stamp())


def check_finite(traces: np.ndarray, names: Sequence[int] | np.ndarray) -> None:
    """Check traces that count, (shot, ...).

    Args:
        traces: zero where their weight is zero.
        names: the number of each shot.

    Raises:
        ValueError: some are not finite; names the first shot.
    """
    if np.all(np.isfinite(traces)):
        return
    bad = next(n for n, t in zip(names, traces, strict=True) if not np.isfinite(t).all())
    raise ValueError(
        f"observed holds NaN or infinite values in shot {bad}: leave dead traces out, with "
        "weights of zero in Survey(trace_weights=...)"
    )


@final
class Gathers:
    """Traces as a list of gathers, each of which may have fewer receivers than others."""

    def __init__(self, observed: Any) -> None:
        self._observed = observed

    def __getitem__(self, numbers: np.ndarray) -> list[np.ndarray]:
        return list(self._observed[numbers])


@final
class Shifted:
    """Observed traces times a power of two, read and checked when asked for; those of weight 0 as
    zeros.

    Args:
        observed: gives traces of shots by `observed[numbers]`, as one array or a list of gathers.
        survey: that they were recorded with.
        power: binary exponent of the factor.
        names: numbers by which errors name the shots; default: their numbers in the survey.

    Raises:
        ValueError: traces of more or fewer shots than the survey's.
    """

    def __init__(
        self, observed: Any, survey: Survey, power: int = 0, names: list[int] | None = None
    ) -> None:
        check_count(observed, survey.n_shots)
        self.observed, self.survey, self.power, self.names = observed, survey, power, names

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
        check_finite(traces, shots if self.names is None else [self.names[n] for n in shots])
        return np.ldexp(traces, self.power) if self.power else traces

    @property
    def of_shots(self) -> Any:
        """Gives those of some shots, by a list of their numbers, which know of no others.

        Raises:
            AttributeError: `observed` cannot.
        """
        of_shots = self.observed.of_shots

        def gathers(shots: list[int]) -> Gathers:
            return Gathers(Shifted(of_shots(shots), self.survey[shots], self.power, shots))

        return gathers

    def look(self, compared: bool) -> Look:
        """A look at the traces before they are fetched: at all of them, if they are few, or if they
        are to be compared with others and nothing but their bytes tells them apart; else at those
        of some shots.

        Args:
            compared: whether a digest of all is asked for.

        Raises:
            ValueError: some are not finite, or of another shape.
        """
        shots = self.survey.n_shots
        few = math.prod(self.survey.trace_shape(shots)) * READ_AS.itemsize <= SMALL
        few = few or shots <= TOGETHER
        stamp = None if few else stamp_of(self.observed)
        whole = few or (compared and stamp is None)
        some = np.arange(shots) if whole else np.linspace(0, shots - 1, TOGETHER).astype(int)
        peak, digest = 0.0, hashlib.sha256()
        for first in range(0, len(some), TOGETHER):
            traces = self[some[first : first + TOGETHER]]
            peak = max(peak, float(np.max(np.abs(traces), initial=0.0)))
            digest.update(np.ascontiguousarray(traces).tobytes())
        if stamp is not None:
            digest.update(stamp.encode())
        return Look(peak, digest.hexdigest() if whole or stamp is not None else "")

    def all(self) -> np.ndarray:
        """All traces in one array."""
        return self[np.arange(self.survey.n_shots)]

    def source(self, power: int) -> Source:
        """The traces times a power of two, as an objective fetches them."""
        return Source(Shifted(self.observed, self.survey, power))
