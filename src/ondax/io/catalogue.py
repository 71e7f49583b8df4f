"""A catalogue of the traces in seismic files, in shots."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy.typing import ArrayLike

from .._resolution import FINEST
from ..grid import Grid
from ..points import Points, by_place, counted, plural
from ..survey import Survey
from . import positions
from .headers import Layout
from .mapped import let_go
from .notices import give
from .reading import ReadAhead, samples

AXES = "xyz"
TOGETHER = 1 << 18  # traces that are looked at together, where there may be millions


class Traces(NamedTuple):
    """What is known of each trace.

    Attributes:
        file: in which of the catalogue's files it is.
        number: its number there.
        field_record: bytes 9 to 12 of its header.
        trace_number: bytes 13 to 16.
        source_point: bytes 17 to 20.
        identification: bytes 29 and 30.
        source: position of its source, m, z downwards.
        receiver: position of its receiver.
        delay: time of its first sample, s.
        dead: its samples mean nothing.
    """

    file: Int[np.ndarray, " trace"]
    number: Int[np.ndarray, " trace"]
    field_record: Int[np.ndarray, " trace"]
    trace_number: Int[np.ndarray, " trace"]
    source_point: Int[np.ndarray, " trace"]
    identification: Int[np.ndarray, " trace"]
    source: Float[np.ndarray, "trace 3"]
    receiver: Float[np.ndarray, "trace 3"]
    delay: Float[np.ndarray, " trace"]
    dead: Bool[np.ndarray, " trace"]

    def taken(self, numbers: Int[np.ndarray, " some"]) -> Traces:
        """Some of the traces, in the order of their numbers."""
        return Traces(*(values[numbers] for values in self))


@final
class Line:
    """A catalogue of the traces in SEG-Y and SU files, in shots; `ox.io.scan` makes it. Immutable.

    Its traces stay in the files until they are asked for: `line[3]` gives the gather of a shot,
    (receiver, time) in float32, and `line[numbers]` those of some shots, a list. So it can be given
    to `Objective`, `fwi` and `rtm` as observed traces. If shots are visited in order, the next ones
    are read in the background meanwhile.

    Attributes:
        files: how the traces lie in each file.
        traces: what is known of each trace, shot after shot.
        nt: samples of a trace.
        dt: sampling interval, s.
        notices: what was said about the headers, and about what was done since.
    """

    files: tuple[Layout, ...]
    traces: Traces
    nt: int
    dt: float
    notices: tuple[str, ...]
    _starts: np.ndarray
    _unplaced: str
    _ahead: ReadAhead

    def __init__(self, *given: Any, **named: Any) -> None:
        raise TypeError("a line is made from files: ox.io.scan(paths)")

    @staticmethod
    def _made(
        files: tuple[Layout, ...],
        traces: Traces,
        starts: Int[np.ndarray, " shot_and_one"],
        *,
        nt: int,
        dt: float,
        unplaced: str,
        notices: Sequence[str],
    ) -> Line:
        """A line.

        Args:
            files: see the attributes, as are most others.
            traces: shot after shot.
            starts: where each shot's traces begin, and the last one's end.
            nt: samples.
            dt: s.
            unplaced: why traces have no positions, or nothing.
            notices: about them.
        """
        line = object.__new__(Line)
        line.__setstate__(
            {
                "files": files,
                "traces": traces,
                "_starts": starts,
                "nt": nt,
                "dt": dt,
                "_unplaced": unplaced,
                "notices": tuple(notices),
            }
        )
        return line

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_ahead"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for values in (*state["traces"], state["_starts"]):
            values.flags.writeable = False
        self.__dict__.update(state, _ahead=ReadAhead(self._read, len(state["_starts"]) - 1))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a line does not change: its methods make others")

    def _replace(self, **changes: Any) -> Line:
        own = {
            "files": self.files,
            "traces": self.traces,
            "starts": self._starts,
            "nt": self.nt,
            "dt": self.dt,
            "unplaced": self._unplaced,
            "notices": self.notices,
        }
        return Line._made(**(own | changes))

    def _of(self, parts: Sequence[np.ndarray], said: Sequence[str] = ()) -> Line:
        """The line of some traces, by their numbers in each shot; shots without any are left out.

        Raises:
            ValueError: there is none at all.
        """
        counts = np.array([len(p) for p in parts], np.int64)
        if not counts.sum():
            raise ValueError(f"no trace is left of {self!r}")
        empty = int(np.count_nonzero(counts == 0))
        if empty:
            said = [*said, f"{empty} of {len(counts)} shots have no trace left and were left out"]
        numbers = np.concatenate(parts)
        starts = np.concatenate([[0], np.cumsum(counts[counts > 0])])
        notices = (*self.notices, *give(said))
        return self._replace(traces=self.traces.taken(numbers), starts=starts, notices=notices)

    # ---------------------------------------------------------------- what there is

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __repr__(self) -> str:
        where = ", no positions"
        if not self._unplaced:
            offsets = self.offsets
            where = f", offsets {offsets.min():.4g} to {offsets.max():.4g} m"
        dead = int(np.count_nonzero(self.traces.dead))
        return (
            f"Line({plural(len(self), 'shot')} of {counted('receiver', self.counts)}, {self.nt} "
            f"samples of {1e3 * self.dt:g} ms{where}{f', {dead} dead traces' if dead else ''})"
        )

    @property
    def counts(self) -> Int[np.ndarray, " shot"]:
        """How many receivers each shot has."""
        return np.diff(self._starts)

    @property
    def sources(self) -> Float[np.ndarray, "shot 3"]:
        """Positions (x, y, z) of the sources, m."""
        return self.traces.source[self._starts[:-1]]

    @property
    def receivers(self) -> list[Float[np.ndarray, "receiver 3"]]:
        """Positions (x, y, z) of each shot's receivers, m."""
        return [self.traces.receiver[self._within(shot)] for shot in range(len(self))]

    @property
    def field_records(self) -> Int[np.ndarray, " shot"]:
        """Field record of each shot's first trace."""
        return self.traces.field_record[self._starts[:-1]]

    @property
    def offsets(self) -> Float[np.ndarray, " trace"]:
        """Horizontal distance from source to receiver of each trace, m."""
        found = np.empty(len(self.traces.file))
        for first in range(0, len(found), TOGETHER):
            some = slice(first, first + TOGETHER)
            apart = self.traces.receiver[some, :2] - self.traces.source[some, :2]
            found[some] = np.sqrt(np.sum(apart**2, axis=-1))
            let_go(self.traces.receiver)
        return found

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes of a survey: ("x", "z") if all sources and receivers have the same y, to a
        millimetre, ("y", "z") if they have the same x, else all three."""
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for points in (self.traces.source, self.traces.receiver):
            for first in range(0, len(points), TOGETHER):
                some = points[first : first + TOGETHER]
                low, high = np.minimum(low, some.min(0)), np.maximum(high, some.max(0))
                let_go(points)
        for along, constant in (("x", 1), ("y", 0)):
            if high[constant] - low[constant] <= FINEST:
                return (along, "z")
        return tuple(AXES)

    def _within(self, shot: int) -> slice:
        return slice(int(self._starts[shot]), int(self._starts[shot + 1]))

    def _shot_of_trace(self) -> np.ndarray:
        return np.repeat(np.arange(len(self)), self.counts)

    def _split(self, numbers: np.ndarray, shots: np.ndarray) -> list[np.ndarray]:
        """Numbers of traces, of each shot; `shots`, which ascends, says whose they are."""
        return np.split(numbers, np.searchsorted(shots, np.arange(1, len(self))))

    def _placed(self) -> None:
        if self._unplaced:
            raise ValueError(
                f"{self._unplaced}. With positions from elsewhere, make an ox.Survey(sources, "
                "receivers, ...) that has as many receivers a shot as line.counts: line[numbers] "
                "gives the traces all the same"
            )

    # ---------------------------------------------------------------- traces

    def __getitem__(self, shots: Any) -> Any:
        """The gather of a shot, (receiver, time); or for a slice or numbers of shots a list.

        Raises:
            IndexError: there is no such shot.
            ValueError: a file has changed since it was scanned.
        """
        chosen = np.arange(len(self))[shots]
        gathers = self._ahead.gathers(np.atleast_1d(chosen))
        return gathers[0] if np.ndim(chosen) == 0 else gathers

    def stamp(self) -> str:
        """A text that changes when the traces do, found without reading them: of the sizes of
        files, when they were last written, and which traces of them belong to which shot."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr([(file.size, file.modified) for file in self.files]).encode())
        for values in (self.traces.file, self.traces.number, self._starts):
            digest.update(np.ascontiguousarray(values).data)
            let_go(values)
        return digest.hexdigest()

    def __iter__(self) -> Iterator[Float32[np.ndarray, "receiver time"]]:
        return (self[shot] for shot in range(len(self)))

    def _read(self, shots: np.ndarray) -> list[np.ndarray]:
        """Gathers, whose traces that are neighbours in a file are read at once."""
        numbers = np.concatenate([np.arange(*self._starts[n : n + 2]) for n in shots])
        file, number = self.traces.file[numbers], self.traces.number[numbers]
        let_go(self.traces.file)
        traces = samples(self.files, file, number)
        return np.split(traces, np.cumsum(self.counts[shots])[:-1])

    def dead(self) -> Line:
        """The line in which traces of zeros count as dead too. This reads all traces."""
        silent = [~np.any(gather, axis=-1) for gather in self]
        dead = self.traces.dead | np.concatenate(silent)
        return self._replace(traces=self.traces._replace(dead=dead))

    # ---------------------------------------------------------------- choosing

    def select(
        self,
        *,
        offset: tuple[float, float] | None = None,
        shots: Any = None,
        receivers: Any = None,
        identification: int | None = None,
        every: int = 1,
    ) -> Line:
        """The line of some shots and receivers.

        Args:
            offset: smallest and largest horizontal distance from source to receiver, m.
            shots: numbers of shots, a slice or a list, in the order in which they are to come.
            receivers: numbers of receivers within each shot, a slice or a list.
            identification: of traces, byte 29 of their headers: 12 is a vertical component.
            every: of those shots, every so many-th.

        Raises:
            IndexError: there is no such shot or receiver.
            ValueError: nothing is left; or offsets of traces that have no positions.

        Warns:
            HeaderNotice: shots of which nothing is left.
        """
        if every != int(every) or every < 1:
            raise ValueError(f"every={every!r} must be a whole number, 1 or more")
        chosen = np.arange(len(self))[slice(None) if shots is None else shots]
        parts = [np.arange(*self._starts[n : n + 2]) for n in np.atleast_1d(chosen)[:: int(every)]]
        if receivers is not None:
            parts = [np.atleast_1d(part[receivers]) for part in parts]
        if identification is not None:
            alike = self.traces.identification == identification
            parts = [part[alike[part]] for part in parts]
        if offset is not None:
            self._placed()
            near, far = offset
            offsets = self.offsets
            near_enough = (offsets >= near) & (offsets <= far)
            parts = [part[near_enough[part]] for part in parts]
        return self._of(parts)

    def of_shots(self, shots: Any) -> Line:
        """The line of some shots, by a list of their numbers, as `ox.Objective` sends it to where
        these are visited: it knows of no other traces."""
        return self.select(shots=shots)

    def inside(self, grid: Grid) -> Line:
        """The line without the traces whose source or receiver lies outside of a grid.

        Raises:
            ValueError: nothing is left; or a 3-D line and a 2-D grid.

        Warns:
            HeaderNotice: says how many traces were left out.
        """
        within = np.logical_and(*self._inside(grid))
        outside = int(np.count_nonzero(~within))
        if not outside:
            return self
        said = f"{outside} of {len(within)} traces have a source or receiver outside of the grid"
        numbers = np.flatnonzero(within)
        parts = self._split(numbers, self._shot_of_trace()[numbers])
        return self._of(parts, [f"{said} and were left out"])

    def _columns(self, grid: Grid | None) -> list[int]:
        """Which of (x, y, z) are a survey's axes.

        Raises:
            ValueError: they are not the grid's.
        """
        axes = self.axes
        if grid is not None and grid.ndim == 3:
            axes = tuple(AXES)
        if grid is not None and grid.ndim != len(axes):
            raise ValueError(
                f"the grid has {grid.ndim} axes, but sources and receivers do not lie on a line "
                "along x or y: project them, line.on_line(), or take a grid of three axes"
            )
        return [AXES.index(a) for a in axes]

    def _inside(self, grid: Grid) -> list[np.ndarray]:
        """Which sources and which receivers of traces lie in a grid."""
        self._placed()
        columns = self._columns(grid)
        return [grid.holds(p[:, columns]) for p in (self.traces.source, self.traces.receiver)]

    def by_receiver(self, *, component: str | None = None) -> Line:
        """The line in which sources and receivers have changed places: each place of a receiver
        becomes a shot, recorded where the sources were. It takes as many wave solves as there are
        places of receivers, which are few in surveys of ocean-bottom nodes.

        Args:
            component: what fired and what recorded, which headers do not say. Only "pressure",
                sources of pressure recorded by hydrophones, can be exchanged.

        Raises:
            ValueError: another component, or none; or traces without positions.

        Source: Aki and Richards (2002), section 2.3.2.
        """
        if component != "pressure":
            raise ValueError(
                f"component={component!r}: traces stay the same when source and receiver change "
                "places only if what fires and what records are alike, which headers do not say: "
                'give component="pressure" if sources of pressure were recorded by hydrophones; '
                "otherwise keep the shots"
            )
        self._placed()
        _, order, starts = by_place(self.traces.receiver)
        traces = self.traces.taken(order)
        exchanged = traces._replace(source=traces.receiver, receiver=traces.source)
        return self._replace(traces=exchanged, starts=starts)

    # ---------------------------------------------------------------- places

    def on_line(self, *, crooked: bool = False) -> Line:
        """The line projected onto one horizontal axis x, for modelling in 2-D. y is 0 then, and x
        is 0 at the first point. Depths stay.

        Args:
            crooked: along the sources, from shot to shot, instead of along the straight line that
                fits all points best. Points then lie where this polyline is nearest to them, and x
                is the distance along it; its ends go on straight.

        Raises:
            ValueError: no positions, or a crooked line of sources that are all at one place.

        Warns:
            HeaderNotice: the largest distance of a point from the line, and by how much offsets
                change.
        """
        self._placed()
        both = np.concatenate([self.traces.source, self.traces.receiver])
        places, place_of = np.unique(both[:, :2], axis=0, return_inverse=True)
        sources = self.sources[:, :2]
        if crooked:
            x, distances = positions.along_crooked(places, sources)
            onto = "the line along the sources"
        else:
            x, distances, azimuth = positions.along_straight(places, sources[-1] - sources[0])
            onto = f"a straight line of azimuth {azimuth:.2f} degrees"
        new = np.zeros_like(both)
        new[:, 0], new[:, 2] = (x - x.min())[place_of.reshape(-1)], both[:, 2]
        source, receiver = np.split(new, 2)
        before, after = self.offsets, np.abs(source[:, 0] - receiver[:, 0])
        said = (
            f"positions were projected onto {onto}: the farthest is {distances.max():.2f} m from "
            f"it, and offsets change by up to {np.max(np.abs(after - before)):.2f} m"
        )
        traces = self.traces._replace(source=source, receiver=receiver)
        return self._replace(traces=traces, notices=(*self.notices, *give([said])))

    def turned(self, origin: tuple[float, float], azimuth: float) -> Line:
        """The line in a model's axes, from map coordinates such as UTM, in 3-D.

        Args:
            origin: where the model's x and y are 0, (east, north) in m.
            azimuth: of the model's x axis, degrees clockwise from north. Its y axis points to the
                left of that, as north does if x points east: azimuth 90 only shifts positions.

        Raises:
            ValueError: no positions.
        """
        self._placed()
        source, receiver = (
            positions.turned(points, origin, azimuth)
            for points in (self.traces.source, self.traces.receiver)
        )
        return self._replace(traces=self.traces._replace(source=source, receiver=receiver))

    # ---------------------------------------------------------------- a survey

    def survey(
        self, wavelet: ArrayLike, *, dt: float | None = None, grid: Grid | None = None, **kinds: Any
    ) -> Survey:
        """The survey of these traces: positions, weights 0 for dead traces, the time of the first
        sample.

        Positions are (x, z) if all have the same y, (y, z) if all have the same x, else (x, y, z).

        Args:
            wavelet: source samples, as for `Survey`, at the line's sampling interval.
            dt: the wavelet's sampling interval, s, if it is to be checked against the line's.
            grid: the model's: positions get its number of axes, and must be inside.
            **kinds: `source`, `receiver` and `wavelet_start` of `Survey`.

        Raises:
            ValueError: no positions; other sampling intervals; traces that begin at different
                times; positions outside of the grid; or as for `Survey`.
        """
        self._placed()
        if dt is not None and abs(dt - self.dt) > 1e-6 * self.dt:
            raise ValueError(
                f"dt={dt!r} s is not the traces' sampling interval, {self.dt:g} s: sample the "
                "wavelet at that, such as ox.ricker(frequency, line.nt, line.dt)"
            )
        columns = self._columns(grid)
        if grid is not None:
            for what, inside in zip(("source", "receiver"), self._inside(grid), strict=True):
                if not inside.all():
                    n = int(np.argmax(~inside))
                    place = tuple(getattr(self.traces, what)[n, columns].tolist())
                    raise ValueError(
                        f"the {what} of {self._trace_name(n)} lies at {place} m, outside of the "
                        f"grid, {grid.extent} m: leave such traces out, line.inside(grid)"
                    )
        dead = self.traces.dead
        within = [self._within(shot) for shot in range(len(self))]
        survey = Survey(
            self.sources[:, columns],
            self._receivers(columns),
            wavelet,
            self.dt,
            nt=self.nt,
            start=self._start(),
            trace_weights=[1.0 - dead[some] for some in within] if dead.any() else None,
            **kinds,
        )
        let_go(self.traces.receiver)
        return survey

    def _receivers(self, columns: list[int]) -> Any:
        """Positions of receivers along the axes of a survey, as `Survey` takes them."""
        receiver = self.traces.receiver
        if not np.ptp(self.counts):  # perhaps all shots have the same
            return [receiver[self._within(shot)][:, columns] for shot in range(len(self))]
        rows = np.empty((len(receiver), len(columns)))
        for first in range(0, len(rows), TOGETHER):
            some = slice(first, first + TOGETHER)
            rows[some] = receiver[some][:, columns]
            let_go(receiver)
        return Points(rows, self._starts, len(self))

    def _start(self) -> float:
        """When the traces begin, s.

        Raises:
            ValueError: at different times.
        """
        delays = self.traces.delay
        if np.ptp(delays) == 0.0:
            return float(delays[0])
        live = np.flatnonzero(~self.traces.dead)
        if not live.size:
            return 0.0
        delays = delays[live]
        other = np.abs(delays - delays[0]) > 1e-9
        if other.any():
            n = int(np.argmax(other))
            first, second = (f"{self._trace_name(int(live[k]))} at {delays[k]:g} s" for k in (0, n))
            raise ValueError(
                f"traces begin at different times: {first}, {second}: a survey has one time for "
                "all. Select shots that begin together, by line.traces.delay, and model each group "
                "by itself"
            )
        return float(delays[0])

    def _trace_name(self, n: int) -> str:
        layout = self.files[self.traces.file[n]]
        return f"trace {self.traces.number[n]} of {layout.name}"

    def save(self, path: Any) -> None:
        """Write the catalogue, without traces, to a file that `ox.io.load` reads.

        Args:
            path: of the file, .npz.
        """
        from .stored import save

        save(self, path)
