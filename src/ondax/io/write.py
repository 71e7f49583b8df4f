"""Traces written to SEG-Y files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._files import replacing
from .._validate import one_of, positive
from ..grid import Grid
from ..survey import Survey
from .catalogue import Line
from .encoding import FORMATS, encoded, file_header
from .headers import DEAD, TRACE_HEADER_BYTES, WRITTEN, trace_words
from .layout import binary_in, head_of
from .models import model_parts
from .notices import give

LARGEST = 65535  # of words of two bytes without a sign: samples and interval
MOST_INTEGER = 2**31 - 1
LIVE = 1
LENGTH = 1  # the code of coordinates that are lengths
DELAY_SCALARS = (1, 10, 100, 1000, 10000)


def write_segy(
    path: str | os.PathLike[str],
    traces: Any,
    *,
    like: Line | None = None,
    survey: Survey | None = None,
    grid: Grid | None = None,
    dt: float | None = None,
    format: str = "ieee",
) -> None:
    """Write traces, or a model, to a SEG-Y file of revision 1, big-endian.

    The file appears whole, when all is written: one of the same name is kept until then. Samples
    have four bytes, so that numbers in float64 are rounded.

    With `survey`, positions are written in millimetres: the scalar is -1000, or a larger unit where
    these would not fit. A depth is written as a negative elevation, of receivers (byte 41) and of
    sources (byte 45). So `ox.io.scan` gives the same positions; where points lie above z = 0, say
    `elevation="up"` there.

    Args:
        path: of the file, such as "modelled.sgy".
        traces: (shot, receiver, time), an array; or a list with the gather of each shot, (receiver,
            time); or a line. Rows of a ragged survey that belong to no receiver are not written.
            With `grid`: a model, (x[, y], z).
        like: take the headers of this line, of as many traces: text, binary and trace headers byte
            for byte, but for format, samples and interval.
        survey: make headers from it.
        grid: the model's: one trace for each column, whose sampling interval is the spacing in
            depth in mm; `ox.io.read_model` reads it again.
        dt: sampling interval, s. Default: the line's or the survey's. Needed without either; then
            headers have no positions.
        format: "ieee" floats, which keep every bit of float32, or "ibm", which older programs want.

    Raises:
        ValueError: traces that do not fit, or are not finite; an interval or a time that headers
            cannot hold; sources of a survey that are several a shot; traces of several components.

    Warns:
        HeaderNotice: positions were rounded to more than a millimetre.

    Source: SEG-Y revision 1 (SEG Technical Standards Committee, 2002).
    """
    one_of("format", format, tuple(FORMATS))
    if os.fspath(path).lower().endswith(".su"):
        raise ValueError(f"{os.fspath(path)}: SEG-Y is written, so name the file .sgy or .segy")
    given = [n for n, v in (("like", like), ("survey", survey), ("grid", grid)) if v is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given: headers are made from one of them")
    if grid is not None:
        head, parts, order = model_parts(traces, grid, FORMATS[format])
    elif like is not None:
        step = _interval(like.dt if dt is None else dt)
        head, parts, order = _like(traces, like, step, FORMATS[format])
    else:
        head, parts = _made(traces, survey, dt, FORMATS[format])
        order = ">"
    with replacing(path) as file:
        file.write(head)
        done = 0
        for headers, samples in parts:
            _check_finite(samples, done)
            done += len(samples)
            file.write(rows_of(headers, samples, FORMATS[format], order).data)


def _check_finite(samples: np.ndarray, before: int) -> None:
    """Refuse samples that other programs could not read.

    Raises:
        ValueError: one is not finite; names its trace.
    """
    bad = ~np.all(np.isfinite(samples), axis=1)
    if np.any(bad):
        raise ValueError(
            f"trace {before + int(np.argmax(bad))} has samples that are not finite: write zeros "
            "for dead traces"
        )


def _interval(dt: float) -> int:
    """A sampling interval in microseconds.

    Raises:
        ValueError: it is not a whole number of them, or too large.
    """
    step = 1e6 * positive("dt", dt, "seconds")
    if abs(step - round(step)) > 1e-3 or not 1 <= round(step) <= LARGEST:
        raise ValueError(
            f"dt={dt!r} s: SEG-Y has whole microseconds, from 1 to {LARGEST}: sample the traces at "
            "such an interval"
        )
    return round(step)


def _gathers(traces: Any, counts: np.ndarray | None) -> Iterator[np.ndarray]:
    """The gathers of all shots, in float32.

    Args:
        traces: as given.
        counts: receivers of each shot; None where only the traces say so.

    Raises:
        ValueError: they have other shapes.
    """
    rows = not isinstance(traces, (list, tuple, Line))
    if rows and np.ndim(traces) != 3:
        raise ValueError(
            f"traces have shape {np.shape(traces)}: give (shot, receiver, time), or a list with a "
            "gather (receiver, time) for each shot; write each component to a file of its own"
        )
    if counts is not None and len(traces) != len(counts):
        raise ValueError(f"there are traces of {len(traces)} shots, but headers of {len(counts)}")
    traces = np.asarray(traces) if rows else traces
    samples = None
    for shot, given in enumerate(traces):
        gather = np.asarray(given)
        expected = "(receiver, time)"
        if counts is not None:
            expected = f"({counts[shot]}, time)"
            if rows and len(gather) == max(counts):
                gather = gather[: counts[shot]]
        fits = gather.ndim == 2 and (counts is None or len(gather) == counts[shot])
        if not fits or gather.size == 0:
            raise ValueError(f"the gather of shot {shot} has shape {gather.shape}, not {expected}")
        samples = gather.shape[1] if samples is None else samples
        if gather.shape[1] != samples or not 1 <= samples <= LARGEST:
            raise ValueError(
                f"the gather of shot {shot} has {gather.shape[1]} samples, the first {samples}: "
                f"all traces of a file have as many, {LARGEST} at most"
            )
        if np.iscomplexobj(gather):
            raise ValueError(f"the gather of shot {shot} is complex: write real traces")
        yield gather.astype(np.float32, copy=False)


def _peeked(gathers: Iterator[np.ndarray]) -> tuple[int, Iterator[np.ndarray]]:
    """Samples of the first gather, and all gathers."""
    first = next(gathers, None)
    if first is None:
        raise ValueError("there are no traces to write")

    def again() -> Iterator[np.ndarray]:
        yield first
        yield from gathers

    return first.shape[1], again()


def _like(traces: Any, like: Line, interval: int, format: int) -> Any:
    """File header, parts and byte order with the headers of a line."""
    layouts = like.files
    if any(layout.su for layout in layouts):
        raise ValueError(
            "like=... is a line of SU files, whose headers are not those of SEG-Y: make them from "
            "its survey, survey=line.survey(...)"
        )
    order = layouts[like.traces.file[0]].order
    if any(layouts[n].order != order for n in np.unique(like.traces.file)):
        raise ValueError("like=... is a line of files of different byte orders: write one for each")
    head = head_of(layouts[like.traces.file[0]])
    samples, gathers = _peeked(_gathers(traces, like.counts))
    binary = binary_in(head, order)
    binary["format"], binary["samples"], binary["interval"] = format, samples, interval
    parts = (
        (_headers_like(like, shot, samples, interval, order), gather)
        for shot, gather in enumerate(gathers)
    )
    return head, parts, order


def _headers_like(like: Line, shot: int, samples: int, interval: int, order: str) -> np.ndarray:
    """The trace headers of a shot as they are in their files, but for samples and interval."""
    some = slice(*like._starts[shot : shot + 2])
    file, number = like.traces.file[some], like.traces.number[some]
    raw = np.empty((len(file), TRACE_HEADER_BYTES), np.uint8)
    for n in np.unique(file):
        layout = like.files[n]
        layout.check(os.stat(layout.path))
        shape = (layout.traces, layout.stride)
        rows = np.memmap(layout.path, np.uint8, "r", layout.first, shape=shape)
        raw[file == n] = rows[number[file == n], :TRACE_HEADER_BYTES]
    headers = raw.view(trace_words(order))[:, 0]
    headers["samples"], headers["interval"] = samples, interval
    return headers


def _made(traces: Any, survey: Survey | None, dt: float | None, format: int) -> Any:
    """File header and parts with headers made from a survey, or with next to nothing in them."""
    if survey is None and dt is None:
        raise ValueError("give like=line, survey=..., grid=..., or at least dt=...")
    if survey is not None:
        check_survey(survey)
    step = _interval((survey.dt if survey is not None else 0.0) if dt is None else dt)
    counts = None if survey is None else survey.points[1].counts
    samples, gathers = _peeked(_gathers(traces, counts))
    if survey is not None and samples != survey.nt:
        raise ValueError(f"traces have {samples} samples, but the survey's have {survey.nt}")
    made = Made(survey, step, samples, format)

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        written = 0
        for shot, gather in enumerate(gathers):
            yield made.trace_headers(shot, len(gather), written), gather
            written += len(gather)

    return made.head(), parts()


def check_survey(survey: Survey) -> None:
    """Refuse surveys whose traces have no place in SEG-Y headers.

    Raises:
        ValueError: says why, and the remedy.
    """
    if survey.extended or survey.n_sources > 1:
        raise ValueError(
            "a trace header has the position of one source, but the survey has "
            f"{'extended sources' if survey.extended else f'{survey.n_sources} sources a shot'}: "
            "write the traces without positions, dt=survey.dt"
        )
    if isinstance(survey.receiver, tuple):
        raise ValueError(
            f"the survey records {len(survey.receiver)} components: write a file for each, "
            "traces[:, n] and survey=survey.replace(receiver=survey.receiver[n])"
        )


class Made:
    """Headers made from a survey, or with next to nothing in them.

    Args:
        survey: or None.
        interval: between samples, microseconds.
        samples: of a trace.
        format: code of the samples' type.
    """

    def __init__(self, survey: Survey | None, interval: int, samples: int, format: int) -> None:
        self._survey, self._format = survey, format
        self._scalar = 1 if survey is None else _scalar(survey)
        self._common = {
            "samples": samples,
            "interval": interval,
            **_delay(0.0 if survey is None else survey.start),
        }

    @staticmethod
    def of(survey: Survey, format: str) -> Made:
        """Headers of a survey's traces, in a format by name.

        Raises:
            ValueError: they have no place there; see `write_segy`.
        """
        check_survey(survey)
        if survey.nt > LARGEST:
            raise ValueError(f"the survey has {survey.nt} samples: SEG-Y has up to {LARGEST}")
        return Made(survey, _interval(survey.dt), survey.nt, FORMATS[format])

    @property
    def stride(self) -> int:
        """Bytes of a trace."""
        return TRACE_HEADER_BYTES + 4 * self._common["samples"]

    def head(self, more: Mapping[int, str] | None = None) -> bytearray:
        """The file header, with more lines of text by their numbers, from 3."""
        words = {n: self._common[n] for n in ("samples", "interval")} | {"format": self._format}
        text = {1: "TRACES WRITTEN BY ONDAX", 2: "ELEVATIONS ARE POSITIVE UP, M"}
        return file_header({**text, **(more or {})}, words)

    def trace_headers(self, shot: int, count: int, before: int) -> np.ndarray:
        """The headers of a shot's traces, of which so many in the file come before."""
        headers = np.zeros(count, trace_words(">", WRITTEN))
        numbers = np.arange(1, count + 1)
        fixed = {
            **self._common,
            "trace_of_line": before + numbers,
            "trace_of_file": before + numbers,
            "field_record": shot + 1,
            "trace_number": numbers,
            "identification": LIVE,
            "coordinate_units": LENGTH,
        }
        if self._survey is not None:
            fixed |= _positions(self._survey, shot, self._scalar)
        for name, values in fixed.items():
            headers[name] = values
        return headers

    def rows(self, shot: int, gather: np.ndarray, before: int) -> np.ndarray:
        """A shot's traces with their headers, as bytes (trace, byte)."""
        _check_finite(gather, before)
        return rows_of(self.trace_headers(shot, len(gather), before), gather, self._format, ">")


def rows_of(headers: np.ndarray, samples: np.ndarray, format: int, order: str) -> np.ndarray:
    """Traces with their headers, as bytes (trace, byte)."""
    rows = np.empty((len(samples), TRACE_HEADER_BYTES + 4 * samples.shape[1]), np.uint8)
    rows[:, :TRACE_HEADER_BYTES] = headers.view(np.uint8).reshape(len(samples), -1)
    rows[:, TRACE_HEADER_BYTES:] = encoded(samples, format, order)
    return rows


def _scalar(survey: Survey) -> int:
    """How many parts of a metre positions are written in: a thousand if they fit."""
    farthest = max(float(np.max(np.abs(points.rows), initial=0.0)) for points in survey.points)
    for parts in (1000, 100, 10, 1):
        if parts * farthest < MOST_INTEGER:
            if parts < 1000:
                give([f"positions up to {farthest:.10g} m were rounded to {1.0 / parts:g} m"])
            return parts
    raise ValueError(f"positions up to {farthest:g} m do not fit into SEG-Y headers")


def _positions(survey: Survey, shot: int, scalar: int) -> dict[str, Any]:
    """Words of positions of a shot's traces."""
    source, receivers = survey.points[0].of(shot), survey.points[1].of(shot)
    words: dict[str, Any] = {}
    for what, points in (("source", source), ("receiver", receivers)):
        whole = np.rint(scalar * points).astype(np.int64)
        for axis, column in _columns(whole.shape[1]):
            words[f"{what}_{axis}"] = whole[:, column]
        words[f"{what}_elevation"] = -whole[:, -1]
    apart = np.sqrt(np.sum((receivers[:, :-1] - source[:, :-1]) ** 2, axis=-1))
    words["offset"] = np.rint(apart).astype(np.int64)
    words["coordinate_scalar"] = words["elevation_scalar"] = -scalar if scalar > 1 else 1
    if survey.weighs_traces:
        weights = survey.weights_of([shot])[0, : len(receivers)]
        words["identification"] = np.where(weights == 0.0, DEAD, LIVE)
    return words


def _columns(axes: int) -> Sequence[tuple[str, int]]:
    return list(zip("xy", range(axes - 1), strict=False))


def _delay(start: float) -> dict[str, int]:
    """Words of the time of the first sample.

    Raises:
        ValueError: no scalar makes a whole number of it that fits.
    """
    for scalar in DELAY_SCALARS:
        value = 1e3 * start * scalar
        if abs(value - round(value)) < 1e-6 * max(1.0, abs(value)) and abs(value) < 2**15:
            return {"delay": round(value), "time_scalar": -scalar if scalar > 1 else 1}
    raise ValueError(
        f"start={start!r} s: SEG-Y holds delays that are whole ms, or a decimal part of one, in a "
        "word of two bytes: write traces that begin at such a time"
    )
