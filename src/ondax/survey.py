"""What is shot and what is recorded."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ._frames import levels_to_the_user
from .fibre import Fibre
from .gathers import padded_gathers
from .grid import Grid
from .points import Extended, Points, by_place, counted, finite, is_ragged, placed, plural

Component = str | Fibre
Kind = (
    Component | Mapping[str, ArrayLike | float] | tuple[Component, ...] | list[Component] | None
)  # of sources or of receivers


class Cut(NamedTuple):
    """Which part of a longer survey's time a survey is.

    Attributes:
        first: number of the sample, of those that the longer survey models, that it begins with.
        modelled: samples that the longer survey models.
    """

    first: int
    modelled: int


class ReceiversDropped(UserWarning):
    """Receivers outside the grid, and their traces, were left out."""


@final
class Survey:
    """Sources, receivers and wavelets of a number of shots. Immutable; two surveys are equal only
    if they are the same.

    Shots may have their own numbers of sources and of receivers. Their traces are rows of one array
    all the same, as JAX needs it: those of shots with fewer receivers are followed by zeros, whose
    `trace_weights` are zero.

    Args:
        sources: metres, (shot, axis) for one source a shot, or (shot, source, axis); or a list with
            an array (source, axis) for each shot; or `Extended(shots)`.
        receivers: metres, (receiver, axis) for the same spread in every shot, or (shot, receiver,
            axis); or a list with an array (receiver, axis) for each shot.
        wavelet: source samples, (time,), (source, time) or (shot, source, time); with several
            components, (time,) or (shot, component, source, time). Its length need not be that of
            the record.
        dt: sampling interval of wavelets and traces, seconds.
        source: what the wavelet drives, by the names that the wave equation documents, such as
            "force_z". A name; or a dict of names and weights that share the wavelet, such as a
            moment tensor `{"moment_xx": 1.0, "moment_xz": 0.5}`, each weight a number or (shot,
            source); or a tuple of names, for wavelets with a component axis. Default: the
            equation's first.
        receiver: what traces record, such as "velocity_z". A name; or a dict of names and weights
            that are summed, each a number or (shot, receiver); or an `ox.Fibre`; or a tuple of
            names and fibres, for traces with a component axis, (shot, component, receiver, time).
            Default: the equation's first.
        nt: samples of a trace. Default: until the wavelet ends.
        start: time of a trace's first sample, s; later than 0 if recording began with a delay.
        wavelet_start: time of a wavelet's first sample, s; before 0 for one that is centred there,
            such as a zero-phase wavelet. What it radiates before `start` is modelled too.
        trace_weights: factors of traces, (shot, receiver) or a list with an array (receiver,) for
            each shot: 0 for dead traces. Misfits, `fwi` and `lsrtm` multiply predicted and observed
            traces by them; modelling does not.

    Attributes:
        cut: which part of a longer survey's time it is, if `between` has made it; else None.
        sources: (shot, source, axis); no source if extended. Shots with fewer than others repeat
            their last.
        extended: sources are weights on the whole grid.
        receivers: (shot, receiver, axis), likewise.
        wavelet: (shot, source, time), or (shot, component, source, time).

    Raises:
        ValueError: arrays that do not fit together, or are not finite; positions in float32 with
            coordinates so large that they are not told apart to a millimetre; times that are not
            whole samples apart.
    """

    wavelet: Float[np.ndarray, "shot *components source time"]
    dt: float
    source: Kind
    receiver: Kind
    extended: bool
    nt: int
    start: float
    wavelet_start: float
    points: tuple[Points, Points]
    cut: Cut | None = None
    _trace_weights: np.ndarray | None
    _given_nt: int | None

    def __init__(
        self,
        sources: ArrayLike | Sequence[ArrayLike] | Extended | Points,
        receivers: ArrayLike | Sequence[ArrayLike] | Points,
        wavelet: ArrayLike,
        dt: float,
        *,
        source: Kind = None,
        receiver: Kind = None,
        nt: int | None = None,
        start: float = 0.0,
        wavelet_start: float = 0.0,
        trace_weights: ArrayLike | Sequence[ArrayLike] | None = None,
    ) -> None:
        source, receiver = (
            tuple(kind) if isinstance(kind, list) else kind for kind in (source, receiver)
        )
        extended = isinstance(sources, Extended)
        s, r = placed(sources, receivers)
        number = dt is not None and not isinstance(dt, str) and np.ndim(dt) == 0
        if not (number and 0.0 < dt < np.inf):
            raise ValueError(f"dt={dt!r} must be a positive number of seconds")
        components = (len(source),) if isinstance(source, tuple) else ()
        w = _wavelets(wavelet, (s.shots, *components, s.most if not extended else 1))
        self.__dict__.update(
            points=(s, r),
            wavelet=w,
            dt=float(dt),
            source=_weighted("source", source, s if not extended else None, s.shots),
            receiver=_weighted("receiver", receiver, r, r.shots),
            extended=extended,
            nt=_record_length(nt, w.shape[-1], start, wavelet_start, dt),
            _given_nt=nt,
            start=float(start),
            wavelet_start=float(wavelet_start),
            cut=None,
            _trace_weights=None
            if trace_weights is None
            else _of_points("trace_weights", trace_weights, r, r.shots).astype(np.float32),
        )

    def replace(self, **changes: Any) -> Survey:
        """The same survey but for the arguments given, which are those of `Survey`.

        Raises:
            ValueError: other receivers, in a survey whose traces have weights, without their
                `trace_weights`; or as for `Survey`.
        """
        own = {
            "sources": Extended(self.n_shots) if self.extended else self.points[0],
            "receivers": self.points[1],
            "wavelet": self.wavelet,
            "dt": self.dt,
            "source": self.source,
            "receiver": self.receiver,
            "nt": self._given_nt,
            "start": self.start,
            "wavelet_start": self.wavelet_start,
            "trace_weights": self._trace_weights,
        }
        if (
            "receivers" in changes
            and "trace_weights" not in changes
            and own["trace_weights"] is not None
        ):
            raise ValueError(
                "the traces of this survey have weights: give those of the new receivers, "
                "replace(receivers=..., trace_weights=...), or trace_weights=None for 1"
            )
        times = {"dt", "nt", "start", "wavelet_start"} & changes.keys()
        if self.cut is not None and times:
            raise ValueError(
                f"{', '.join(sorted(times))}: this survey is a part of a longer one's time; change "
                "the longer one, and take its part again by between(...)"
            )
        made = Survey(**(own | changes))
        made.__dict__["cut"] = self.cut
        return made

    def between(self, begin: float, end: float) -> Survey:
        """The part of the survey's time from one sample to another: a run of it takes up the fields
        that a run of the part before has left, `F(model, initial=fields)`.

        Wavelets stay as long as they are: a part fires what they have in it, to the bit.

        Args:
            begin: time of the first sample, s; the run begins there.
            end: time of the last sample, s.

        Raises:
            ValueError: there are no such samples, or a single one; the traces begin before the
                wavelets do; or the survey is a part already.

        Example:
            `first, second = survey.between(0.0, 0.5), survey.between(0.5, 1.0)` share a sample.
        """
        if self.cut is not None:
            raise ValueError("this survey is a part of a longer one's time: cut that one")
        if self.lead < 0:
            raise ValueError(
                f"traces begin at {self.start:g} s, before the wavelets do, at "
                f"{self.wavelet_start:g} s: let wavelets begin as early, with zeros"
            )
        first, last = ((t - self.wavelet_start) / self.dt for t in (begin, end))
        finite = math.isfinite(first) and math.isfinite(last)
        numbers = (round(first), round(last)) if finite else (-1, -1)
        apart = max(abs(n - x) for n, x in zip(numbers, (first, last), strict=True))
        if not (apart < 1e-3 and 0 <= numbers[0] < numbers[1] < self.modelled):
            stop = self.wavelet_start + (self.modelled - 1) * self.dt
            raise ValueError(
                f"between({begin!r}, {end!r}): give the times of two samples, in order, from "
                f"{self.wavelet_start:g} s to {stop:g} s in steps of {self.dt:g} s"
            )
        start = self.wavelet_start + numbers[0] * self.dt
        made = self.replace(start=start, nt=numbers[1] - numbers[0] + 1)
        made.__dict__["cut"] = Cut(numbers[0], self.modelled)
        return made

    def __getitem__(self, shots: Any) -> Survey:
        """The survey of some of the shots: a number, a slice, or a list of numbers or of bools.

        Raises:
            IndexError: there is no such shot, or none at all.
        """
        numbers = np.atleast_1d(np.arange(self.n_shots)[shots])
        if not numbers.size:
            raise IndexError(f"survey[{shots!r}] has no shot")
        sources, receivers = (p.of_shots(numbers) for p in self.points)
        kinds = [
            _of_shots(kind, numbers, points.most)
            for kind, points in ((self.source, sources), (self.receiver, receivers))
        ]
        weights = self._trace_weights
        return self.replace(
            sources=Extended(len(numbers)) if self.extended else sources,
            receivers=receivers,
            wavelet=_of_some(self.wavelet, numbers)[..., : max(1, sources.most), :],
            source=kinds[0],
            receiver=kinds[1],
            trace_weights=None if weights is None else weights[numbers, : receivers.most],
        )

    def __len__(self) -> int:
        return self.n_shots

    def __repr__(self) -> str:
        sources, receivers = self.points
        axes = receivers.rows.shape[-1]
        of = "an extended source" if self.extended else counted("source", sources.counts)
        length = f"{self.nt} samples of {1e3 * self.dt:g} ms"
        after = f" from {self.start:g} s" if self.start else ""
        near, far = self.offsets
        offsets = "" if self.extended else f", offsets {near:.4g} to {far:.4g} m"
        dead = int(np.count_nonzero(self.trace_weights[receivers.live()] == 0.0))
        weights = f", {dead} dead traces" if dead else ""
        return (
            f"Survey({plural(self.n_shots, 'shot')} of {of} and "
            f"{counted('receiver', receivers.counts)} in {axes}-D, "
            f"{length}{after}{offsets}{weights})"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a survey does not change: survey.replace({name}=...) makes another")

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (self.__dict__,)

    # ---------------------------------------------------------------- sizes

    @property
    def sources(self) -> Float[np.ndarray, "shot source axis"]:
        return self.points[0].padded()

    @property
    def receivers(self) -> Float[np.ndarray, "shot receiver axis"]:
        return self.points[1].padded()

    @property
    def n_shots(self) -> int:
        return self.points[1].shots

    @property
    def n_sources(self) -> int:
        """Sources fired together in a shot, at most."""
        return 1 if self.extended else self.points[0].most

    @property
    def n_receivers(self) -> int:
        """Receivers of a shot, at most."""
        return self.points[1].most

    @property
    def ragged(self) -> bool:
        """Do shots have different numbers of receivers?"""
        return self.points[1].ragged

    @property
    def lead(self) -> int:
        """Samples from the first one that is modelled, which is the first one of the wavelets
        unless the survey is cut, to the first one of the traces."""
        if self.cut is not None:
            return 0
        return round((self.start - self.wavelet_start) / self.dt)

    @property
    def modelled(self) -> int:
        """Samples that are modelled: to the last one of the traces, from the first one of the
        wavelets; or, if the survey is cut, of the traces."""
        return self.nt + self.lead

    @property
    def times(self) -> Float[np.ndarray, " time"]:
        """When the samples of a trace are taken, s."""
        return self.start + self.dt * np.arange(self.nt)

    @property
    def offsets(self) -> tuple[float, float]:
        """The smallest and the largest horizontal distance from a source to a receiver of the same
        shot, metres; in 1-D, zeros."""
        sources, receivers = self.points
        near, far = np.inf, 0.0
        shots = range(1 if sources.shared and receivers.shared else self.n_shots)
        for shot in () if self.extended or receivers.rows.shape[-1] == 1 else shots:
            apart = receivers.of(shot)[None, :, :-1] - sources.of(shot)[:, None, :-1]
            distances = np.sqrt(np.sum(apart**2, axis=-1))
            near, far = min(near, float(distances.min())), max(far, float(distances.max()))
        return (near, far) if np.isfinite(near) else (0.0, 0.0)

    @property
    def trace_weights(self) -> Float[np.ndarray, "shot receiver"]:
        """Factors of traces: 0 where a shot has no such receiver, or its trace is dead."""
        return self.weights_of(slice(None))

    def weights_of(self, shots: Any) -> Float[np.ndarray, "shot receiver"]:
        """The `trace_weights` of some shots: a slice, or a list of numbers."""
        if self._trace_weights is not None:
            return self._trace_weights[shots]
        if not self.ragged:
            rows = len(self.points[1].counts[shots])
            return np.broadcast_to(np.float32(1.0), (rows, self.n_receivers))
        return self.points[1].live(shots).astype(np.float32)

    @property
    def one_wavelet(self) -> bool:
        """Is it known that all shots fire the same wavelets, kept in memory once?"""
        return self.wavelet.strides[0] == 0

    @property
    def weighs_traces(self) -> bool:
        """Do traces have weights other than 1?"""
        return self._trace_weights is not None or self.ragged

    # ---------------------------------------------------------------- traces

    def padded(self, gathers: Sequence[ArrayLike]) -> Float[np.ndarray, "shot *c receiver time"]:
        """Traces of all shots as one array, from one of each shot's: (shot, [component,] receiver,
        time), with zeros where a shot has no receiver.

        Args:
            gathers: an array ([component,] receiver, time) for each shot.

        Raises:
            ValueError: a gather of another shape than the survey's.
        """
        return padded_gathers(gathers, self.gather_shapes(range(self.n_shots)), self.n_receivers)

    def gathers(self, traces: Float[ArrayLike, "shot *c receiver time"]) -> list[np.ndarray]:
        """The inverse of `padded`."""
        counts = self.points[1].counts
        return [t[..., :n, :] for t, n in zip(np.asarray(traces), counts, strict=True)]

    def gather_shapes(self, shots: Sequence[int]) -> list[tuple[int, ...]]:
        """The shape of each shot's traces, ([component,] receiver, time)."""
        counts = self.points[1].counts
        return [(*self._components, int(counts[n]), self.nt) for n in shots]

    def trace_shape(self, shots: int) -> tuple[int, ...]:
        """The shape of the traces of so many shots, in one array."""
        return (shots, *self._components, self.n_receivers, self.nt)

    @property
    def _components(self) -> tuple[int, ...]:
        """The axis of components that traces have, if they have one."""
        return (len(self.receiver),) if isinstance(self.receiver, tuple) else ()

    def inside(self, grid: Grid, observed: Any = None) -> Any:
        """The survey without those receivers that stand outside of a grid.

        Args:
            grid: the model's.
            observed: traces of the survey, an array or a list of gathers; or None.

        Returns:
            The survey; with `observed`, also a list with the traces that are left of each shot.

        Raises:
            ValueError: a shot would be left without receivers.

        Warns:
            ReceiversDropped: says how many.
        """
        rows = [self.points[1].of(shot) for shot in range(self.n_shots)]
        within = [grid.holds(r) for r in rows]
        dropped = sum(int(np.count_nonzero(~w)) for w in within)
        empty = [shot for shot, w in enumerate(within) if not w.any()]
        if empty:
            raise ValueError(
                f"shots {empty[:5]} have no receiver inside the grid, which ends at "
                f"{tuple(high for _, high in grid.extent)} m: leave these shots out, "
                "survey[numbers]"
            )
        if dropped:
            total = sum(map(len, within))
            warnings.warn(
                f"{dropped} of {total} receivers stand outside of the grid and were left out",
                ReceiversDropped,
                stacklevel=levels_to_the_user(inspect.currentframe()),
            )
        survey = self
        if dropped:
            weights = self._trace_weights
            survey = self.replace(
                receivers=[r[w] for r, w in zip(rows, within, strict=True)],
                receiver=_chosen(self.receiver, within),
                trace_weights=None
                if weights is None
                else [row[: len(w)][w] for row, w in zip(weights, within, strict=True)],
            )
        if observed is None:
            return survey
        traces = observed if isinstance(observed, (list, tuple)) else self.gathers(observed)
        if len(traces) != self.n_shots:
            raise ValueError(
                f"observed has traces of {len(traces)} shots, and the survey has {self.n_shots}"
            )
        return survey, [np.asarray(t)[..., w, :] for t, w in zip(traces, within, strict=True)]

    def reciprocal(self, observed: Any = None) -> Any:
        """The survey in which sources and receivers have changed places: each place of a receiver
        becomes a shot, recorded where the sources were.

        A survey of few receivers and many shots, such as one of ocean-bottom nodes, takes as many
        wave solves as it has receivers then. Traces stay the same where what fires and what records
        are alike: a source of pressure recorded by pressure, or a force by the velocity along it
        (Aki and Richards, 2002, section 2.3.2).

        Args:
            observed: traces of the survey, an array or a list of gathers; or None.

        Returns:
            The survey; with `observed`, also a list with the traces of each of its shots.

        Raises:
            ValueError: shots of several sources or of different wavelets, or components that are
                not exchanged.
        """
        return _exchanged(self, observed)


def _wavelets(wavelet: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Wavelets of every source, (shot, [component,] source, time).

    Args:
        wavelet: as given.
        shape: (shot, [component,] source).

    Raises:
        ValueError: they do not fit.
    """
    shots, per_shot = shape[0], shape[-1]
    components = shape[1:-1]
    if is_ragged(wavelet) and not components and len(wavelet) == shots:
        samples = {np.shape(w)[-1] for w in wavelet}
        rows = [np.atleast_2d(finite("wavelet", w)) for w in wavelet]
        if len(samples) == 1 and all(len(r) <= per_shot for r in rows):
            wavelet = np.zeros((*shape, samples.pop()))
            for padded, row in zip(wavelet, rows, strict=True):
                padded[: len(row)] = row
    w = finite("wavelet", wavelet)
    allowed = (1, 4) if components else (1, 2, 3)
    if w.ndim in allowed and w.shape[-1] < 2:
        raise ValueError(
            f"the wavelet has {w.shape[-1]} sample{'s' * (w.shape[-1] != 1)}: give two at least"
        )
    if w.ndim not in allowed:
        shapes = (
            "(time,) or (shot, component, source, time)"
            if components
            else "(time,), (source, time) or (shot, source, time)"
        )
        raise ValueError(f"the wavelet has shape {np.shape(wavelet)}: give {shapes}")
    try:
        return np.broadcast_to(w, (*shape, w.shape[-1]))
    except ValueError:
        of = f"{components[0]} components of " if components else ""
        raise ValueError(
            f"the wavelet has shape {np.shape(wavelet)}, but there are {shots} shots of "
            f"{of}{per_shot} sources"
        ) from None


def _record_length(nt: Any, samples: int, start: float, wavelet_start: float, dt: float) -> int:
    """Samples of a trace.

    Raises:
        ValueError: there is no such record.
    """
    for name, value in (("start", start), ("wavelet_start", wavelet_start)):
        if not np.isfinite(value):
            raise ValueError(f"{name}={value!r} must be a time in seconds")
    between = (start - wavelet_start) / dt
    if abs(between - round(between)) > 1e-3:
        raise ValueError(
            f"start={start!r} and wavelet_start={wavelet_start!r} are {between:g} samples of "
            f"dt={dt!r} s apart: they must be whole samples apart; shift the wavelet by the rest"
        )
    lead = round(between)
    length = samples - lead if nt is None else nt
    if isinstance(length, bool) or length != int(length) or length < 2 or length + lead < 2:
        raise ValueError(
            f"nt={nt!r}: traces that begin at {start:g} s need at least 2 samples, and 2 after "
            f"the wavelets have begun, at {wavelet_start:g} s"
        )
    return int(length)


def _exchanged(survey: Survey, observed: Any) -> Any:
    """See `Survey.reciprocal`."""
    sources, receivers = survey.points
    kinds = survey.source, survey.receiver
    alike = kinds in ((None, None), ("pressure", "pressure"))
    along = [str(k).partition("_")[::2] for k in kinds]
    if not alike and [a for a, _ in along] == ["force", "velocity"]:
        alike = along[0][1] == along[1][1]
    if not alike or survey.extended or sources.most > 1:
        what = "extended sources" if survey.extended else f"source={kinds[0]!r}"
        raise ValueError(
            f"{what} of {survey.n_sources} a shot and receiver={kinds[1]!r} are not reciprocal: "
            "there must be one source a shot, and what fires and what records must be alike"
        )
    wavelet = survey.wavelet[0]
    same = survey.one_wavelet or bool(np.all(survey.wavelet == wavelet))
    if not same:
        raise ValueError("shots have different wavelets, so sources and receivers differ in kind")
    rows = np.concatenate([receivers.of(shot) for shot in range(survey.n_shots)])
    shots = np.repeat(np.arange(survey.n_shots), receivers.counts)
    numbers = np.concatenate([np.arange(n) for n in receivers.counts])
    places, order, starts = by_place(rows)
    groups = np.split(order, starts[1:-1])
    fired = np.concatenate([sources.of(shot) for shot in range(survey.n_shots)])
    weights = survey._trace_weights
    made = survey.replace(
        sources=places,
        receivers=[fired[shots[g]] for g in groups],
        wavelet=wavelet,
        source=_exchanged_kind(kinds[1], "force"),
        receiver=_exchanged_kind(kinds[0], "velocity"),
        trace_weights=None if weights is None else [weights[shots[g], numbers[g]] for g in groups],
    )
    if observed is None:
        return made
    gathers = observed if isinstance(observed, (list, tuple)) else survey.gathers(observed)
    traces = [
        np.stack([np.asarray(gathers[shots[i]])[numbers[i]] for i in group]) for group in groups
    ]
    return made, traces


def _exchanged_kind(kind: Any, prefix: str) -> Any:
    """The kind of the other end: a velocity for a force, and the other way round."""
    return kind if kind in (None, "pressure") else f"{prefix}_{kind.partition('_')[2]}"


def _made_again(parts: dict[str, Any]) -> Survey:
    """From a pickle, in which arrays have lost that they must not be written to."""
    survey = object.__new__(Survey)
    for values in parts.values():
        if isinstance(values, np.ndarray):
            values.flags.writeable = False
    survey.__dict__.update(parts)
    return survey


def _weighted(name: str, kind: Kind, points: Points | None, shots: int) -> Kind:
    """The kind, with weights as arrays (shot, point), and fibres laid."""
    if isinstance(kind, str) or kind is None:
        return kind
    if isinstance(kind, Fibre):
        return _laid(name, kind, points)
    if not kind or not all(
        isinstance(k, str) or (isinstance(k, Fibre) and isinstance(kind, (tuple, list)))
        for k in kind
    ):
        raise ValueError(
            f"{name}={kind!r}: give a name, a dict of names and weights, or a tuple of names"
        )
    if isinstance(kind, (tuple, list)):
        if len(set(kind)) < len(kind):
            raise ValueError(f"{name}={kind!r} names one component twice")
        return tuple(_laid(name, k, points) if isinstance(k, Fibre) else k for k in kind)
    return {k: _of_points(f"the weight of {name} {k}", w, points, shots) for k, w in kind.items()}


def _laid(name: str, fibre: Fibre, points: Points | None) -> Fibre:
    """A fibre on the receivers of a survey.

    Raises:
        ValueError: it is given as a source, or its directions do not fit.
    """
    if name == "source" or points is None:
        raise ValueError(
            "source=Fibre(...): a fibre records only. A pair of opposite forces is a source that "
            'radiates like it: two sources a shot, with weights such as source={"force_x": [[1.0, '
            "-1.0]]}"
        )
    return fibre.laid(points)


def _of_points(name: str, values: Any, points: Points | None, shots: int) -> np.ndarray:
    """A number for each point, (shot, point), zero where a shot has none.

    Args:
        name: of the numbers, for messages.
        values: a number, an array, or a list with an array for each shot.
        points: whose they are; None for one of each shot.
        shots: how many.

    Raises:
        ValueError: another shape.
    """
    shape = (shots, 1 if points is None else points.most)
    if points is not None and isinstance(values, (list, tuple)) and len(values) == shots:
        lengths = [np.shape(v) for v in values]
        if lengths == [(n,) for n in points.counts]:
            numbers = np.zeros(shape)
            for row, v in zip(numbers, values, strict=True):
                row[: len(v)] = finite(name, v)
            numbers.flags.writeable = False
            return numbers
    numbers = finite(name, values)
    try:
        numbers = np.broadcast_to(numbers, shape)
    except ValueError:
        raise ValueError(f"{name} has shape {numbers.shape}: give a number or {shape}") from None
    if points is not None and points.ragged:
        numbers = np.where(points.live(), numbers, 0.0)
        numbers.flags.writeable = False
    return numbers


def _of_shots(kind: Kind, numbers: np.ndarray, most: int) -> Kind:
    """A kind, with the weights of some shots, of so many points at most."""
    if isinstance(kind, tuple):
        return tuple(_fibre_of_shots(k, numbers, most) for k in kind)
    if not isinstance(kind, Mapping):
        return _fibre_of_shots(kind, numbers, most)
    return {n: _of_some(np.asarray(w), numbers)[:, : max(1, most)] for n, w in kind.items()}


def _fibre_of_shots(kind: Any, numbers: np.ndarray, most: int) -> Any:
    """A name as it is, and a fibre with the directions of some shots."""
    if not isinstance(kind, Fibre) or kind.direction.ndim == 1:
        return kind
    return kind.along(_of_some(kind.direction, numbers)[:, :most])


def _of_some(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Rows of an array; those that are all the same stay in memory once."""
    if values.strides[0] == 0:
        return np.broadcast_to(values[:1], (len(numbers), *values.shape[1:]))
    return values[numbers]


def _chosen(kind: Kind, within: Sequence[np.ndarray]) -> Any:
    """A kind of receivers, with the weights of those that are left of each shot."""
    if isinstance(kind, tuple):
        return tuple(_fibre_within(k, within) for k in kind)
    if not isinstance(kind, Mapping):
        return _fibre_within(kind, within)
    return {
        name: [row[: len(w)][w] for row, w in zip(np.asarray(weights), within, strict=True)]
        for name, weights in kind.items()
    }


def _fibre_within(kind: Any, within: Sequence[np.ndarray]) -> Any:
    """A name as it is, and a fibre with the directions of those that are left of each shot."""
    if not isinstance(kind, Fibre) or kind.direction.ndim == 1:
        return kind
    rows = [row[: len(w)][w] for row, w in zip(kind.direction, within, strict=True)]
    return Fibre(rows, kind.gauge)
