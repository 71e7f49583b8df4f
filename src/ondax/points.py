"""The points of all shots of a survey, stored once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from ._resolution import check_resolution

Rows = Float[np.ndarray, "point axis"]


@final
class Extended:
    """Sources of a survey that fill the model: weights on its grid, given with each call, times a
    wavelet.

    `F(model, weights=w)` then fires `w(x) * wavelet(t)` in each shot, a density in SI units, so
    that neither traces nor weights change with the grid.

    Args:
        shots: how many.

    Raises:
        ValueError: no shot.
    """

    def __init__(self, shots: int = 1) -> None:
        if shots < 1:
            raise ValueError(f"shots={shots}: a survey needs at least one")
        self.shots = shots


@final
class Points:
    """The sources, or the receivers, of all shots: packed one shot after another, or one spread
    that all shots share.

        of shots 0, 1, 2:   a b c | d e | f g h i          rows
                            0       3     5         9      starts

    Args:
        rows: metres, (point, axis).
        starts: where each shot's points begin, and the last one's end; None for a shared spread.
        shots: how many shots share it.
    """

    def __init__(
        self, rows: Rows, starts: Int[np.ndarray, " shot_and_one"] | None, shots: int
    ) -> None:
        rows.flags.writeable = False
        self.rows, self._starts, self.shots = rows, starts, shots

    def __reduce__(self) -> tuple[Any, ...]:
        return Points, (self.rows, self._starts, self.shots)

    @staticmethod
    def packed(name: str, arrays: Sequence[Any], axes: int | None = None) -> Points:
        """From one array for each shot.

        Args:
            name: of the points, for messages.
            arrays: metres, (point, axis), or (axis,) for a single point.
            axes: how many; None where the arrays say so.

        Raises:
            ValueError: an array has another shape, no points, or values that are not finite.
        """
        shapes = [np.shape(given) for given in arrays]
        for shot, shape in enumerate(shapes):
            axes = (shape or (0,))[-1] if axes is None else axes
            if len(shape) not in (1, 2) or shape[-1] != axes or 0 in shape:
                raise ValueError(
                    f"{name} of shot {shot} have shape {shape}: give (point, {axes}), one row for "
                    "each point, with as many axes as the others"
                )
        counts = [shape[0] if len(shape) == 2 else 1 for shape in shapes]
        starts = np.concatenate([[0], np.cumsum(counts)])
        rows = np.empty((starts[-1], axes or 0))
        for shot, given in enumerate(arrays):
            part = resolved(f"{name} of shot {shot}", given)
            rows[starts[shot] : starts[shot + 1]] = part
        return Points(rows, starts, len(shapes))

    @staticmethod
    def dense(values: Float[np.ndarray, "shot point axis"]) -> Points:
        """From as many points for each shot."""
        shots, count, axes = values.shape
        if values.strides[0] == 0 or np.array_equal(values[1:], values[:-1]):
            return Points(np.ascontiguousarray(values[0]), None, shots)
        starts = np.arange(shots + 1) * count
        return Points(np.ascontiguousarray(values).reshape(-1, axes), starts, shots)

    @property
    def counts(self) -> Int[np.ndarray, " shot"]:
        """How many points each shot has."""
        if self._starts is None:
            return np.full(self.shots, len(self.rows))
        return np.diff(self._starts)

    @property
    def most(self) -> int:
        """The largest number of points of a shot."""
        return len(self.rows) if self._starts is None else int(np.max(np.diff(self._starts)))

    @property
    def shared(self) -> bool:
        """Have all shots the same points?"""
        return self._starts is None or self.shots == 1

    @property
    def ragged(self) -> bool:
        """Do shots have different numbers of points?"""
        return self._starts is not None and bool(np.ptp(np.diff(self._starts)))

    def of(self, shot: int) -> Rows:
        """The points of a shot; a view."""
        if self._starts is None:
            return self.rows
        return self.rows[self._starts[shot] : self._starts[shot + 1]]

    def of_shots(self, numbers: Any) -> Points:
        """The points of some shots."""
        if self._starts is None:
            return Points(self.rows, None, len(numbers))
        parts = [self.of(int(n)) for n in numbers]
        starts = np.concatenate([[0], np.cumsum([len(p) for p in parts])])
        return Points(np.concatenate(parts), starts, len(parts))

    def padded(self) -> Float[np.ndarray, "shot point axis"]:
        """As many points for each shot: those with fewer repeat their last one. A view where
        possible."""
        if self._starts is None:
            return np.broadcast_to(self.rows, (self.shots, *self.rows.shape))
        axes = self.rows.shape[1]
        if not self.ragged:
            return self.rows.reshape(self.shots, -1, axes)
        # The number of each shot's row, which stays at its last one.
        numbers = np.minimum(
            self._starts[:-1, None] + np.arange(self.most), self._starts[1:, None] - 1
        )
        values = self.rows[numbers]
        values.flags.writeable = False
        return values

    def live(self, shots: Any = slice(None)) -> Bool[np.ndarray, "shot point"]:
        """Which of the padded points of some shots are there, (shot, point)."""
        return np.arange(self.most) < self.counts[shots][:, None]

    def extremes(self) -> tuple[Float[np.ndarray, "shot axis"], Float[np.ndarray, "shot axis"]]:
        """The least and the largest coordinates of each shot's points."""
        starts = np.zeros(1, int) if self._starts is None else self._starts[:-1]
        shape = (self.shots, self.rows.shape[1])
        low, high = (f.reduceat(self.rows, starts, axis=0) for f in (np.minimum, np.maximum))
        return np.broadcast_to(low, shape), np.broadcast_to(high, shape)


def placed(sources: Any, receivers: Any) -> tuple[Points, Points]:
    """Sources and receivers as `Survey` takes them, packed.

    Raises:
        ValueError: they do not fit together.
    """
    values: Any = receivers
    if is_ragged(receivers):
        values = Points.packed("receivers", receivers)
    elif not isinstance(receivers, Points):
        values = resolved("receivers", receivers)
    axes = values.rows.shape[1] if isinstance(values, Points) else (values.shape or (0,))[-1]
    if isinstance(sources, Extended):
        s = Points(np.empty((0, axes)), None, sources.shots)
    else:
        s = _sources(sources)
    r = values if isinstance(values, Points) else _receivers(values, s)
    if r.shots != s.shots or r.rows.shape[1] != s.rows.shape[1]:
        raise ValueError(
            f"there are receivers of {r.shots} shots with {r.rows.shape[1]} axes, but sources of "
            f"{s.shots} shots with {s.rows.shape[1]} axes"
        )
    return s, r


def _sources(given: Any) -> Points:
    if isinstance(given, Points):
        return given
    if is_ragged(given):
        return Points.packed("sources", given)
    values = resolved("sources", given)
    if values.ndim == 2:
        values = values[:, None, :]
    if values.ndim != 3 or 0 in values.shape:
        shape = np.shape(given)
        raise ValueError(f"sources have shape {shape}: give (shot, axis) or (shot, source, axis)")
    return Points.dense(values)


def _receivers(values: Any, sources: Points) -> Points:
    """Receivers of as many shots as there are sources of."""
    given = values.shape
    if values.ndim == 2:
        values = np.broadcast_to(values, (sources.shots, *values.shape))
    expected = sources.shots, sources.rows.shape[1]
    if values.ndim != 3 or 0 in values.shape or values.shape[::2] != expected:
        raise ValueError(
            f"receivers have shape {given}: give (receiver, axis) or (shot, receiver, axis) with "
            f"{expected[0]} shots and {expected[1]} axes, as the sources have"
        )
    return Points.dense(values)


def is_ragged(values: Any) -> bool:
    """Is it a list with an array for each shot, of different lengths?"""
    if not isinstance(values, (list, tuple)):
        return False
    try:
        shapes = {np.shape(v) for v in values}
    except ValueError:  # nested lists without a shape
        return False
    return len(shapes) > 1 and all(len(shape) in (1, 2) for shape in shapes)


def by_place(
    rows: Rows,
) -> tuple[
    Float[np.ndarray, "place axis"],
    Int[np.ndarray, " point"],
    Int[np.ndarray, " place_and_one"],
]:
    """Points by their places: the places; numbers of points, those of one place after those of the
    other; and where each place's begin, and the last one's end."""
    places, place_of = np.unique(rows, axis=0, return_inverse=True)
    place_of = place_of.reshape(-1)
    starts = np.concatenate([[0], np.cumsum(np.bincount(place_of))])
    return places, np.argsort(place_of, kind="stable"), starts


def plural(count: int, what: str) -> str:
    """So many things, in words."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def counted(what: str, counts: Int[np.ndarray, " shot"]) -> str:
    """How many things each shot has, in words."""
    least, most = int(counts.min()), int(counts.max())
    return plural(most, what) if least == most else f"{least} to {most} {what}s"


def resolved(name: str, values: ArrayLike | float) -> np.ndarray:
    """Positions in double precision, whose digits were not lost before."""
    given = np.asarray(values)
    check_resolution(name, given, given.dtype)
    return finite(name, given)


def finite(name: str, values: ArrayLike | float) -> np.ndarray:
    """Finite numbers in double precision, in an array that is not written to.

    Raises:
        ValueError: complex values, or some that are not finite.
    """
    if np.iscomplexobj(values):
        raise ValueError(
            f"{name}: complex values; give real ones, such as .real or np.abs() of them"
        )
    array = np.array(values, dtype=np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(array))} values are not finite")
    array.flags.writeable = False
    return array
