"""From files to a catalogue of their traces: headers only."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from .._validate import one_of, positive
from . import positions
from .catalogue import Line, Traces
from .headers import (
    ANGLES,
    AUXILIARY,
    COMPONENTS,
    DEAD,
    FEET,
    LENGTHS,
    METRES_OF_A_FOOT,
    TRACE_HEADER_BYTES,
    WORDS,
    Layout,
    trace_words,
)
from .layout import layout_of
from .notices import give, merged

CHUNK = 1 << 14  # trace headers that are read at a time: 4 MB
THREADS = 8  # that wait for files

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def scan(
    paths: Paths,
    *,
    elevation: str = "auto",
    units: str = "auto",
    dt: float | None = None,
    byte_order: str = "auto",
) -> Line:
    """Read the headers of SEG-Y files (revisions 0 and 1) and of SU files (named .su), and nothing
    else of them.

    Traces are grouped into shots by field record (byte 9) and position of the source; without field
    records by position; without either, all traces of a file are one gather. Traces that are no
    seismic traces by their identification (byte 29), such as sweeps and time breaks, are left out.
    Positions come in metres, also where the binary header says that lengths are in feet.

    A scalar of coordinates (byte 71) or elevations (byte 69) multiplies if it is positive, divides
    if it is negative, and is 1 if it is 0. The depth of a source is its source depth (byte 49)
    minus the elevation of the surface there (byte 45); that of a receiver is minus its elevation
    (byte 41), as elevations are heights above the datum. In many files they are meant as depths.

    Dead traces, whose identification is 2 or whose header is zero from end to end, stay in their
    gathers. Where they have no positions, they take those of the trace before them.

    Args:
        paths: a path, a pattern such as `"line12/*.sgy"`, or a list of both. Files that a pattern
            finds come in the order of the numbers in their names.
        elevation: "up": elevations are heights. "down": they are meant as depths, positive below
            the datum. "auto": "up", unless that would put all points whose depth is not 0 above the
            datum; then "down", with a notice.
        units: of positions in the files: "m", "ft", or "auto": as the headers say. Angles, such as
            degrees, give no positions.
        dt: sampling interval in s, in place of the headers'.
        byte_order: "big", "little" or "auto": found from the headers.

    Raises:
        FileNotFoundError: no such file, or none that a pattern finds.
        ValueError: a file that ends within a trace, or that is no SEG-Y or SU file; files of
            different samples; elevations of both signs and `elevation="auto"`.

    Warns:
        HeaderNotice: headers disagree with each other or with the file's length.

    Source: SEG-Y revision 1 (SEG Technical Standards Committee, 2002).
    """
    one_of("elevation", elevation, ("auto", "up", "down"))
    one_of("units", units, ("auto", "m", "ft"))
    one_of("byte_order", byte_order, ("auto", "big", "little"))
    interval = None if dt is None else positive("dt", dt, "seconds")
    files = found(paths)
    with ThreadPoolExecutor(min(THREADS, len(files))) as pool:
        parts = list(pool.map(lambda path: headers_of(path, byte_order, units, interval), files))
    samples, dt_found = _agreed(parts)
    traces, of_positions, why_not = _traces(parts, elevation, units)
    said = merged((part.layout.name, text) for part in parts for text in part.said)
    notices = give([*said, *of_positions])
    if not len(traces.file):
        raise ValueError(
            f"{parts[0].layout.path}: no trace is a seismic one by its identification (byte 29)"
        )
    order, starts = _grouped(traces, positioned=not why_not)
    return Line._made(
        tuple(part.layout for part in parts),
        traces.taken(order),
        starts,
        nt=samples,
        dt=dt_found,
        unplaced=why_not,
        notices=notices,
    )


def found(paths: Paths) -> list[str]:
    """The absolute paths of files.

    Raises:
        FileNotFoundError: there is none.
        ValueError: an empty list, a folder, or a file that is named twice.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    files: list[str] = []
    for path in [str(os.fspath(p)) for p in given]:
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path), key=_by_number)
        if not matches:
            raise FileNotFoundError(f"{path}: no such file, and no file of such a pattern")
        files += [os.path.abspath(m) for m in matches]
    if not files:
        raise ValueError("paths is an empty list: give one file at least")
    named: set[str] = set()
    for path in files:
        if os.path.isdir(path):
            raise ValueError(f'{path} is a folder: give a pattern, such as "{path}/*.sgy"')
        if path in named:
            raise ValueError(f"{path} is named twice: its traces would count twice")
        named.add(path)
    return files


def _by_number(path: str) -> list[Any]:
    """shot_2.sgy comes before shot_10.sgy."""
    parts = re.split(r"(\d+)", path)
    return [int(p) if n % 2 else p for n, p in enumerate(parts)]


class Headers(NamedTuple):
    """What the headers of one file say.

    Attributes:
        layout: of the file.
        words: by name, an array (trace,) for each.
        blank: traces of which the whole header is zero.
        dt: s.
        feet: are lengths in feet?
        said: notices about this file.
    """

    layout: Layout
    words: dict[str, np.ndarray]
    blank: np.ndarray
    dt: float
    feet: bool
    said: list[str]


def headers_of(path: str, byte_order: str, units: str, dt: float | None) -> Headers:
    """Read the headers of one file.

    Raises:
        ValueError: they cannot be understood.
    """
    said: list[str] = []
    layout, binary = layout_of(path, byte_order, said)
    words, blank = _trace_headers(layout)
    if blank.all():  # a writer that fills no trace headers
        blank = np.zeros_like(blank)
    claims = words["samples"][~blank]
    wrong = np.unique(claims[(claims != layout.samples) & (claims != 0)])
    if wrong.size:
        said.append(
            f"trace headers claim {_listed(wrong)} samples a trace, but the file's length and its "
            f"binary header give {layout.samples}, which were read"
        )
    interval = _interval(layout, binary, words["interval"][~blank], said) if dt is None else dt
    feet = units == "ft"
    if units == "auto" and binary is not None:
        feet = int(binary["measurement"]) == FEET
    if feet and units == "auto" and any(words[name].any() for name in POSITIONS):
        said.append(
            "lengths are in feet by the binary header (byte 3255): they were turned to metres; "
            'units="m" or "ft" says so without this notice'
        )
    return Headers(layout, words, blank, interval, feet, said)


def _trace_headers(layout: Layout) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Words of all trace headers, and which headers are zero from end to end."""
    file = np.memmap(layout.path, np.uint8, "r", layout.first, shape=(layout.traces, layout.stride))
    kind = trace_words(layout.order)
    words = {
        name: np.empty(layout.traces, kind[name].newbyteorder("=")) for name in kind.names or ()
    }
    blank = np.empty(layout.traces, bool)
    for first in range(0, layout.traces, CHUNK):
        some = slice(first, first + CHUNK)
        # The words are picked from a copy that stays in the processor's cache.
        block = np.ascontiguousarray(file[some, :TRACE_HEADER_BYTES])
        headers = block.view(kind)[:, 0]
        for name, values in words.items():
            values[some] = headers[name]
        blank[some] = ~block.view(np.uint64).any(axis=1)
    return words, blank


def _interval(layout: Layout, binary: np.void | None, claims: np.ndarray, said: list[str]) -> float:
    """The sampling interval in s: the binary header's, or else the trace headers'."""
    given = 0 if binary is None else int(binary["interval"])
    others = np.unique(claims[claims != 0])
    if given:
        wrong = others[others != given]
        if wrong.size:
            said.append(
                f"trace headers claim intervals of {_listed(wrong)} us, the binary header "
                f"{given} us, which was taken; dt=... sets it"
            )
        return 1e-6 * given
    if others.size == 1:
        if binary is not None:
            said.append(
                "the binary header has no sampling interval (byte 3217): that of the trace "
                f"headers, {others[0]} us, was taken"
            )
        return 1e-6 * int(others[0])
    if not others.size:
        raise ValueError(
            f"{layout.path}: no header gives the sampling interval (bytes 3217 of the file and 117 "
            "of traces): say it, scan(..., dt=0.002)"
        )
    first = int(np.argmax((claims != 0) & (claims != claims[claims != 0][0])))
    raise ValueError(
        f"{layout.path}: trace headers disagree about the sampling interval, {_listed(others)} us, "
        f"from trace {first} on, and no binary header decides: say it, scan(..., dt=0.002)"
    )


def _listed(values: np.ndarray) -> str:
    """A few values."""
    return ", ".join(map(str, values[:4].tolist())) + (" ..." if len(values) > 4 else "")


def _agreed(parts: Sequence[Headers]) -> tuple[int, float]:
    """Samples and interval of all files."""
    first = parts[0]
    for part in parts[1:]:
        if (part.layout.samples, part.dt) != (first.layout.samples, first.dt):
            raise ValueError(
                f"{first.layout.path} has {first.layout.samples} samples of {1e3 * first.dt:g} ms, "
                f"but {part.layout.path} has {part.layout.samples} of {1e3 * part.dt:g} ms: scan "
                "them apart, as a line has one length of traces and one sampling interval"
            )
    return first.layout.samples, first.dt


COORDINATES = 4  # the first of these
POSITIONS = (
    "source_x",
    "source_y",
    "receiver_x",
    "receiver_y",
    "receiver_elevation",
    "source_elevation",
    "source_depth",
)


def _traces(parts: Sequence[Headers], elevation: str, units: str) -> tuple[Traces, list[str], str]:
    """The seismic traces of all files, in their order.

    Returns:
        The traces; notices about them; and why they have no positions, or nothing.
    """
    words = {
        name: np.concatenate([part.words[name] for part in parts])
        for name in WORDS
        if name not in ("samples", "interval")
    }
    file = np.concatenate(
        [np.full(part.layout.traces, n, np.int32) for n, part in enumerate(parts)]
    )
    number = np.concatenate([np.arange(part.layout.traces) for part in parts])
    blank = np.concatenate([part.blank for part in parts])
    foot = np.where([part.feet for part in parts], METRES_OF_A_FOOT, 1.0)[file]
    said: list[str] = []

    kept = ~np.isin(words["identification"], AUXILIARY)
    if not kept.all():
        codes = np.unique(words["identification"][~kept])
        said.append(
            f"{np.count_nonzero(~kept)} traces that are not seismic by their identification (byte "
            f"29), {_listed(codes)}, were left out"
        )
        words = {name: values[kept] for name, values in words.items()}
        file, number, blank, foot = (a[kept] for a in (file, number, blank, foot))

    dead = blank | (words["identification"] == DEAD)
    nowhere = dead & ~np.any([words[name] != 0 for name in POSITIONS], axis=0)
    like = _like_the_one_before(nowhere, file)
    taken = np.where(nowhere, like, np.arange(len(file)))
    for name in (*POSITIONS, "elevation_scalar", "coordinate_scalar"):
        words[name] = words[name][taken]
    words["field_record"] = np.where(blank, words["field_record"][taken], words["field_record"])

    def trace_name(n: int) -> str:
        return f"trace {number[n]} of {parts[file[n]].layout.name}"

    in_metres = {}
    for n, name in enumerate(POSITIONS):
        scalar = words["coordinate_scalar" if n < COORDINATES else "elevation_scalar"]
        in_metres[name] = positions.scaled(words[name], scalar) * foot
    heights = positions.Elevations(
        in_metres["receiver_elevation"], in_metres["source_elevation"], in_metres["source_depth"]
    )
    zs, zr, about_depths = positions.depths(heights, elevation, ~dead, trace_name)
    said += [about_depths] if about_depths else []
    why_not = _why_not_placed(words)
    if units == "auto" and not why_not:
        why_not, about_units = _angles(words, in_metres, ~dead, trace_name)
        said += about_units
    codes = np.unique(words["identification"][np.isin(words["identification"], COMPONENTS)])
    if len(codes) > 1:
        said.append(
            f"gathers hold traces of several components, by their identification (byte 29), "
            f"{_listed(codes)}: select(identification={codes[0]}) gives one"
        )
    delay, about_delays = _delays(words, file, parts)
    said += about_delays
    traces = Traces(
        file=file,
        number=number,
        field_record=words["field_record"],
        trace_number=words["trace_number"],
        source_point=words["source_point"],
        identification=words["identification"],
        source=np.stack([in_metres["source_x"], in_metres["source_y"], zs], axis=-1),
        receiver=np.stack([in_metres["receiver_x"], in_metres["receiver_y"], zr], axis=-1),
        delay=delay,
        dead=dead,
    )
    return traces, said, why_not


def _like_the_one_before(missing: np.ndarray, file: np.ndarray) -> np.ndarray:
    """For each trace the number of the last one before it in the same file that is not missing;
    else of the first one behind it; else its own."""
    own = np.arange(len(missing))
    before = np.maximum.accumulate(np.where(missing, -1, own)) if len(own) else own
    behind = np.minimum.accumulate(np.where(missing, len(own), own)[::-1])[::-1]
    same = (before >= 0) & (file[before] == file)
    then = np.minimum(behind, len(own) - 1)
    return np.where(same, before, np.where((behind < len(own)) & (file[then] == file), then, own))


def _why_not_placed(words: dict[str, np.ndarray]) -> str:
    """Why traces have no positions, or nothing."""
    if any(words[name].any() for name in POSITIONS):
        return ""
    return "the headers have no positions: coordinates and elevations are all zero"


def _angles(
    words: dict[str, np.ndarray],
    scaled: dict[str, np.ndarray],
    counted: np.ndarray,
    trace_name: Any,
) -> tuple[str, list[str]]:
    """Coordinates that are angles by their units. They cannot be if they are too large for that.

    Returns:
        Why traces have no positions, or nothing; and notices.
    """
    angles = counted & ~np.isin(words["coordinate_units"], LENGTHS)
    if not angles.any():
        return "", []
    first = int(np.argmax(angles))
    code = int(words["coordinate_units"][first])
    of = f"coordinates are angles by their units (byte 89), {code} in {trace_name(first)}"
    farthest = max(float(np.max(np.abs(scaled[name][angles]))) for name in POSITIONS[:COORDINATES])
    if farthest > ANGLES.get(code, 0.0):
        return "", [f"{of}, but too large for that, {farthest:g}: they were taken as lengths"]
    why_not = f'{of}: project them before, or say units="m" in ox.io.scan if they are lengths'
    return why_not, [why_not]


def _delays(
    words: dict[str, np.ndarray], file: np.ndarray, parts: Sequence[Headers]
) -> tuple[np.ndarray, list[str]]:
    """Recording delays in s, and notices about them.

    The scalar at byte 215 is of revision 1. Many programs write it and leave the revision at 0; SU
    uses these bytes for something else.
    """
    su = np.array([part.layout.su for part in parts])[file]
    scalar = np.where(su, 1, words["time_scalar"])
    usual = np.isin(np.abs(scalar), (0, 1, 10, 100, 1000, 10000))
    delayed = words["delay"] != 0
    said = []
    if np.any(delayed & ~usual):
        first = int(np.argmax(delayed & ~usual))
        said.append(
            f"the scalar of times (byte 215) is {scalar[first]} in some trace headers, which is no "
            "power of ten: recording delays were taken in ms there"
        )
    return 1e-3 * positions.scaled(words["delay"], np.where(usual, scalar, 1)), said


def _grouped(traces: Traces, positioned: bool) -> tuple[np.ndarray, np.ndarray]:
    """Traces in shots, which come in the order in which they appear first.

    Returns:
        Numbers of traces, shot after shot; and where each shot begins, and the last one ends.
    """
    keys: Iterable[np.ndarray] = (
        (traces.field_record, *traces.source.T)
        if positioned
        else (traces.file, traces.field_record)
    )
    table = np.stack([np.asarray(key, np.float64) for key in keys], axis=-1) + 0.0
    # Traces of a shot mostly follow one another: only the first of each run is looked up.
    heads = np.flatnonzero(np.concatenate([[True], np.any(table[1:] != table[:-1], axis=1)]))
    numbers: dict[bytes, int] = {}
    of_run = [numbers.setdefault(row.tobytes(), len(numbers)) for row in table[heads]]
    shots = np.repeat(of_run, np.diff(np.concatenate([heads, [len(table)]])))
    order = np.argsort(shots, kind="stable")
    return order, np.concatenate([[0], np.cumsum(np.bincount(shots))])
