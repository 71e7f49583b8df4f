"""Seismic files: headers as they are in the field, traces read when asked for, files written.

The files are made by segyio, so that what reads them here is checked against another program.
"""

import os
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import segyio

import ondax as ox
from ondax.io.headers import WORDS
from ondax.io.ibm import from_ibm, to_ibm

# Words of a trace header by the byte that they begin with.
RECORD, NUMBER, POINT, CODE = 9, 13, 17, 29
GELEV, SELEV, SDEPTH, ESCALAR, CSCALAR, SX, SY, GX, GY, UNITS = (
    41,
    45,
    49,
    69,
    71,
    73,
    77,
    81,
    85,
    89,
)
DELAY, SAMPLES, INTERVAL, TSCALAR = 109, 115, 117, 215
IBM, IEEE = 1, 5


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def segy(
    path: Path,
    traces: np.ndarray,
    headers: dict[int, Any] | None = None,
    binary: dict[int, int] | None = None,
    format: int = IEEE,
    interval: int = 2000,
    endian: str = "big",
) -> Path:
    """A SEG-Y file with words in its trace headers, one value for all traces or one for each."""
    count, samples = traces.shape
    spec = segyio.spec()
    spec.samples, spec.tracecount, spec.format = np.arange(samples), count, format
    spec.endian = endian
    words: dict[int, Any] = {RECORD: 1, NUMBER: np.arange(1, count + 1), CODE: 1}
    words |= {SAMPLES: samples, INTERVAL: interval} | (headers or {})
    with segyio.create(str(path), spec) as file:
        file.bin = {3217: interval, 3221: samples} | (binary or {})
        for n in range(count):
            file.header[n] = {w: int(np.broadcast_to(v, count)[n]) for w, v in words.items()}
            file.trace[n] = traces[n]
    return path


def su(path: Path, traces: np.ndarray, headers: dict[int, Any], order: str = "<") -> Path:
    """A file of Seismic Un*x, in either byte order."""
    kinds = dict(WORDS.values())
    raw = np.zeros((len(traces), 240 + 4 * traces.shape[1]), np.uint8)
    words = {RECORD: 1, NUMBER: np.arange(1, len(traces) + 1), CODE: 1, SAMPLES: traces.shape[1]}
    for byte, value in ({INTERVAL: 2000} | words | headers).items():
        values = np.broadcast_to(value, len(traces)).astype(order + kinds[byte])
        raw[:, byte - 1 : byte - 1 + values.itemsize] = values[:, None].view(np.uint8)
    raw[:, 240:] = traces.astype(f"{order}f4").view(np.uint8)
    path.write_bytes(raw.tobytes())
    return path


def quiet(*args: Any, **kinds: Any) -> Any:
    """A scan that must give no notice."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ox.io.scan(*args, **kinds)


# Two shots of three receivers.
POSITIONS = {
    RECORD: [7, 7, 7, 9, 9, 9],
    SX: [100, 100, 100, 200, 200, 200],
    GX: [0, 50, 150, 0, 50, 150],
    SELEV: -6,
    GELEV: -10,
}


@pytest.fixture
def two_shots(tmp_path: Path) -> Path:
    return segy(tmp_path / "two.sgy", noise(6, 40), POSITIONS)


# -------------------------------------------------------------------- headers


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize("format", [IBM, IEEE, 2, 3, 8])
def test_samples_are_those_that_segyio_reads(tmp_path: Path, format: int, endian: str):
    traces = 100.0 * noise(6, 41)
    if format > IEEE or format in (2, 3):
        traces = np.rint(traces / 4.0)
    kind = {2: np.int32, 3: np.int16, 8: np.int8}.get(format, np.float32)
    path = segy(tmp_path / "a.sgy", traces.astype(kind), POSITIONS, format=format, endian=endian)
    line = quiet(path)
    with segyio.open(str(path), ignore_geometry=True, endian=endian) as file:
        expected = file.trace.raw[:]
    np.testing.assert_array_equal(np.concatenate(list(line)), expected.astype(np.float32))
    assert line[0].dtype == np.float32
    assert line.dt == 0.002


def test_what_a_line_is_of(two_shots: Path):
    line = quiet(str(two_shots))
    assert repr(line) == ("Line(2 shots of 3 receivers, 40 samples of 2 ms, offsets 50 to 200 m)")
    assert len(line) == 2
    assert line.axes == ("x", "z")
    np.testing.assert_array_equal(line.sources, [[100, 0, 6], [200, 0, 6]])
    np.testing.assert_array_equal(line.receivers[1], [[0, 0, 10], [50, 0, 10], [150, 0, 10]])
    np.testing.assert_array_equal(line.field_records, [7, 9])
    np.testing.assert_array_equal(line.traces.trace_number, [1, 2, 3, 4, 5, 6])
    with pytest.raises(AttributeError, match="does not change"):
        line.nt = 3
    with pytest.raises(ValueError, match="read-only"):
        line.traces.source[0] = 1.0
    with pytest.raises(TypeError, match="scan"):
        ox.io.Line()


@pytest.mark.parametrize("scalar", [-10000, -1000, -100, -10, -1, 0, 1, 10, 100])
def test_scalars(tmp_path: Path, scalar: int):
    factor = 1.0 / -scalar if scalar < 0 else max(scalar, 1)
    words = {SX: 123457, SY: -20, GX: 50, GY: 7, SELEV: -30, GELEV: -70, SDEPTH: 11}
    path = segy(tmp_path / "a.sgy", noise(1, 20), words | {ESCALAR: scalar, CSCALAR: scalar})
    line = quiet(path)
    np.testing.assert_allclose(line.sources, [[123457 * factor, -20 * factor, 41 * factor]], 1e-15)
    np.testing.assert_allclose(line.receivers[0], [[50 * factor, 7 * factor, 70 * factor]], 1e-15)
    assert line.axes == ("x", "y", "z")


def test_elevations_have_a_scalar_of_their_own(tmp_path: Path):
    words = {SX: 10, GX: 20, GELEV: -70, ESCALAR: -10, CSCALAR: 10}
    line = quiet(segy(tmp_path / "a.sgy", noise(1, 20), words))
    np.testing.assert_array_equal(line.receivers[0], [[200, 0, 7]])


def test_elevations_meant_as_depths(tmp_path: Path):
    words = {SX: 750, GX: [10, 20], SELEV: 20, GELEV: 50}
    path = segy(tmp_path / "a.sgy", noise(2, 20), words)
    with pytest.warns(ox.io.HeaderNotice, match='taken as depths.*elevation="down"') as caught:
        line = ox.io.scan(path)
    assert caught[0].filename == __file__
    assert line.notices == (str(caught[0].message),)
    assert line.sources[0, 2] == 20
    assert line.receivers[0][0, 2] == 50
    assert quiet(path, elevation="down").receivers[0][0, 2] == 50
    assert quiet(path, elevation="up").receivers[0][0, 2] == -50


def test_elevations_of_both_signs(tmp_path: Path):
    words = {SX: 750, GX: [10, 20, 30], SDEPTH: 6, GELEV: [0, 0, 50]}
    path = segy(tmp_path / "a.sgy", noise(3, 20), words)
    with pytest.raises(ValueError, match=r'trace 2 of a\.sgy above the datum.*elevation="up"'):
        ox.io.scan(path)
    np.testing.assert_array_equal(quiet(path, elevation="up").receivers[0][:, 2], [0, 0, -50])
    np.testing.assert_array_equal(quiet(path, elevation="down").receivers[0][:, 2], [0, 0, 50])
    with pytest.raises(ValueError, match="choose one of"):
        ox.io.scan(path, elevation="high")


@pytest.mark.parametrize(
    ("delay", "scalar", "seconds"),
    [(0, 0, 0.0), (10000, -10, 1.0), (300, 0, 0.3), (3, 100, 0.3), (-40, 1, -0.04)],
)
def test_delays(tmp_path: Path, delay: int, scalar: int, seconds: float):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS | {DELAY: delay, TSCALAR: scalar})
    line = quiet(path)
    survey = line.survey(np.ones(1000), wavelet_start=min(0.0, seconds))
    assert survey.start == pytest.approx(seconds)
    assert survey.nt == 40


def test_traces_that_begin_at_different_times(tmp_path: Path):
    words = POSITIONS | {DELAY: [0, 0, 0, 100, 100, 100]}
    line = quiet(segy(tmp_path / "a.sgy", noise(6, 40), words))
    with pytest.raises(ValueError, match=r"trace 0 of a\.sgy at 0 s, trace 3 of a\.sgy at 0\.1 s"):
        line.survey(np.ones(200))
    assert line.select(shots=[1]).survey(np.ones(200)).start == pytest.approx(0.1)


def test_odd_scalar_of_delays(tmp_path: Path):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS | {DELAY: 20, TSCALAR: 77})
    with pytest.warns(ox.io.HeaderNotice, match="byte 215"):
        assert ox.io.scan(path).traces.delay[0] == pytest.approx(0.02)


def test_sampling_intervals(tmp_path: Path):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS, binary={3217: 0})
    with pytest.warns(ox.io.HeaderNotice, match="2000 us, was taken"):
        assert ox.io.scan(path).dt == 0.002
    path = segy(tmp_path / "b.sgy", noise(6, 40), POSITIONS | {INTERVAL: 4000})
    with pytest.warns(ox.io.HeaderNotice, match="claim intervals of 4000 us.*2000 us"):
        assert ox.io.scan(path).dt == 0.002
    assert quiet(path, dt=0.001).dt == 0.001
    path = segy(tmp_path / "c.sgy", noise(6, 40), POSITIONS | {INTERVAL: 0}, binary={3217: 0})
    with pytest.raises(ValueError, match=r"c\.sgy: no header gives.*dt=0\.002"):
        ox.io.scan(path)
    assert quiet(path, dt=0.00075).dt == 0.00075
    words = POSITIONS | {INTERVAL: [0, 0, 2000, 2000, 4000, 4000]}
    path = segy(tmp_path / "d.sgy", noise(6, 40), words, binary={3217: 0})
    with pytest.raises(ValueError, match="2000, 4000 us, from trace 4 on"):
        ox.io.scan(path)


def test_trace_headers_that_claim_other_samples(tmp_path: Path):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS | {SAMPLES: 1500})
    with pytest.warns(ox.io.HeaderNotice, match="claim 1500 samples.*give 40"):
        line = ox.io.scan(path)
    assert line[0].shape == (3, 40)


def test_a_binary_header_that_claims_other_samples(tmp_path: Path):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS, binary={3221: 0})
    with pytest.warns(ox.io.HeaderNotice, match="40 were read, as the trace headers claim"):
        line = ox.io.scan(path)
    np.testing.assert_array_equal(line[1], noise(6, 40)[3:])


@pytest.mark.parametrize("cut", [1, 100, 300])
def test_a_truncated_file(tmp_path: Path, cut: int):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS)
    path.write_bytes(path.read_bytes()[:-cut])
    whole = 3600 + 5 * 400
    with pytest.raises(ValueError, match=rf"a\.sgy ends within trace 5.*truncate -s {whole}"):
        ox.io.scan(path)
    os.truncate(path, whole)
    assert quiet(path).counts.tolist() == [3, 2]


def test_files_that_are_none(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.sgy"):
        ox.io.scan(tmp_path / "nothing.sgy")
    with pytest.raises(FileNotFoundError, match=r"\*\.sgy"):
        ox.io.scan(str(tmp_path / "*.sgy"))
    with pytest.raises(ValueError, match="is a folder"):
        ox.io.scan(tmp_path)
    with pytest.raises(ValueError, match="empty list"):
        ox.io.scan([])
    (tmp_path / "short.sgy").write_bytes(b"seismic")
    with pytest.raises(ValueError, match="7 bytes.*less than the headers"):
        ox.io.scan(tmp_path / "short.sgy")
    (tmp_path / "other.sgy").write_bytes(b"seismic" * 1000)
    with pytest.raises(ValueError, match="is it a SEG-Y file"):
        ox.io.scan(tmp_path / "other.sgy")
    (tmp_path / "other.su").write_bytes(bytes(1000))
    with pytest.raises(ValueError, match="is it an SU file"):
        ox.io.scan(tmp_path / "other.su")


def test_extended_text_headers(tmp_path: Path):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS)
    raw = bytearray(path.read_bytes())
    raw[3500:3506] = bytes([1, 0, 0, 1, 0, 2])
    path.write_bytes(raw[:3600] + b"\x40" * 6400 + raw[3600:])
    line = quiet(path)
    np.testing.assert_array_equal(line[0], noise(6, 40)[:3])
    raw[3504:3506] = b"\xff\xff"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="unstated number of extended text headers"):
        ox.io.scan(path)
    raw[3500] = 2
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="revision 2 of SEG-Y"):
        ox.io.scan(path)


def test_revisions_of_either_byte_order(tmp_path: Path):
    """An extended text header is skipped, also where the revision is a plain 1."""
    for endian, revision in (
        ("little", b"\x00\x01"),
        ("little", b"\x01\x00"),
        ("big", b"\x00\x01"),
    ):
        path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS, endian=endian)
        raw = bytearray(path.read_bytes())
        raw[3500:3502], raw[3504:3506] = (
            revision,
            (1).to_bytes(2, "big" if endian == "big" else "little"),
        )
        path.write_bytes(raw[:3600] + b"\x40" * 3200 + raw[3600:])
        np.testing.assert_array_equal(quiet(path)[1], noise(6, 40)[3:])


def test_feet(tmp_path: Path):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS, binary={3255: 2})
    with pytest.warns(ox.io.HeaderNotice, match="in feet"):
        line = ox.io.scan(path)
    np.testing.assert_allclose(line.sources[0], [30.48, 0.0, 1.8288], rtol=1e-14)
    assert quiet(path, units="m").sources[0, 0] == 100.0
    assert quiet(path, units="ft").sources[0, 0] == pytest.approx(30.48)


def test_angles(tmp_path: Path):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS | {UNITS: 3})
    with pytest.warns(ox.io.HeaderNotice, match="are angles by their units"):
        line = ox.io.scan(path)
    with pytest.raises(ValueError, match="are angles by their units"):
        line.survey(np.ones(40))
    assert quiet(path, units="m").axes == ("x", "z")
    far = {SX: 3000, GX: [0, 50, 150, 0, 50, 150]}
    path = segy(tmp_path / "b.sgy", noise(6, 40), POSITIONS | {UNITS: 3} | far)
    with pytest.warns(ox.io.HeaderNotice, match="too large for that, 3000"):
        line = ox.io.scan(path)
    assert line.survey(np.ones(40)).n_shots == 2


# -------------------------------------------------------------------- shots


RAGGED = [2] * 3 + [3] * 4 + [5] * 1 + [3] * 2


def test_ragged_gathers_come_in_order_of_appearance(tmp_path: Path):
    traces = noise(10, 25)
    line = quiet(segy(tmp_path / "a.sgy", traces, {RECORD: RAGGED}, format=IBM))
    assert line.counts.tolist() == [3, 6, 1]
    assert line.field_records.tolist() == [2, 3, 5]
    assert "3 shots of 1 to 6 receivers" in repr(line)
    assert "no positions" in repr(line)
    np.testing.assert_allclose(line[1], traces[[3, 4, 5, 6, 8, 9]], rtol=1e-6)
    with pytest.raises(ValueError, match="headers have no positions.*ox.Survey"):
        line.survey(np.ones(25))
    with pytest.raises(ValueError, match="no positions"):
        line.select(offset=(0.0, 1.0))


def test_without_field_records_shots_are_places_of_sources(tmp_path: Path):
    line = quiet(segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS | {RECORD: 0}))
    assert line.counts.tolist() == [3, 3]


def test_without_either_a_file_is_a_gather(tmp_path: Path):
    paths = [segy(tmp_path / f"{n}.sgy", noise(n, 40), {RECORD: 0, CODE: 0}) for n in (4, 3)]
    assert quiet(paths).counts.tolist() == [4, 3]
    # And so it is if a writer left all trace headers empty.
    empty = {RECORD: 0, CODE: 0, NUMBER: 0, SAMPLES: 0, INTERVAL: 0}
    line = quiet(segy(tmp_path / "e.sgy", noise(4, 40), empty))
    assert line.counts.tolist() == [4]
    assert not line.traces.dead.any()


def test_a_record_fired_at_two_places_is_two_shots(tmp_path: Path):
    line = quiet(segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS | {RECORD: 7}))
    assert line.counts.tolist() == [3, 3]


def test_a_ragged_survey(tmp_path: Path):
    sx = np.array(RAGGED) * 100
    words = {RECORD: RAGGED, SX: sx, GX: np.arange(10) * 10, GELEV: -4, SELEV: -5}
    line = quiet(segy(tmp_path / "a.sgy", noise(10, 25), words))
    survey = line.survey(np.ones(25), source="pressure", receiver="pressure")
    assert survey.ragged
    assert survey.points[1].counts.tolist() == [3, 6, 1]
    np.testing.assert_array_equal(survey.sources[:, 0], [[200, 5], [300, 5], [500, 5]])
    assert survey.padded(list(line)).shape == (3, 6, 25)


def test_a_survey_of_other_axes(tmp_path: Path):
    words = {SX: 5, GX: 5, SY: 100, GY: [0, 50, 100, 150, 200, 250], SELEV: -1, GELEV: -2}
    line = quiet(segy(tmp_path / "a.sgy", noise(6, 40), words))
    assert line.axes == ("y", "z")
    np.testing.assert_array_equal(line.survey(np.ones(40)).sources[0], [[100, 1]])
    grid = ox.Grid((2, 31, 11), 10.0)
    np.testing.assert_array_equal(line.survey(np.ones(40), grid=grid).sources[0], [[5, 100, 1]])
    with pytest.raises(ValueError, match=r"receiver of trace 3 of a\.sgy lies at \(150\.0, 2\.0\)"):
        line.survey(np.ones(40), grid=ox.Grid((11, 11), 10.0))
    with pytest.raises(ValueError, match=r"ox\.ricker\(frequency, line\.nt, line\.dt\)"):
        line.survey(np.ones(40), dt=0.001)


def test_dead_traces(tmp_path: Path):
    traces = noise(6, 40)
    traces[4] = 0.0
    path = segy(tmp_path / "a.sgy", traces, POSITIONS | {CODE: [1, 2, 1, 1, 1, 1]})
    raw = bytearray(path.read_bytes())
    raw[3600 + 3 * 400 :][:240] = bytes(240)
    raw[3600 + 5 * 400 : 3600 + 5 * 400 + 240] = bytes(240)
    path.write_bytes(raw)
    line = quiet(path)
    assert line.counts.tolist() == [3, 3]
    assert line.traces.dead.tolist() == [False, True, False, False, False, True]
    # A trace without a header has the place of the one before it.
    np.testing.assert_array_equal(line.receivers[1][2], [50, 0, 10])
    assert "2 dead traces" in repr(line)
    weights = line.survey(np.ones(40)).trace_weights
    np.testing.assert_array_equal(weights, [[1, 0, 1], [1, 1, 0]])
    assert line.dead().traces.dead.tolist() == [False, True, False, False, True, True]


def test_dead_traces_without_positions(tmp_path: Path):
    words = {w: np.broadcast_to(v, 6).copy() for w, v in POSITIONS.items()}
    words[CODE] = np.array([2, 1, 1, 2, 1, 1])
    for word in (SX, GX, SELEV, GELEV):
        words[word][[0, 3]] = 0
    line = quiet(segy(tmp_path / "a.sgy", noise(6, 40), words))
    assert len(line) == 3  # the fourth trace is taken to be where the third is
    words[RECORD] = np.array([0, 7, 7, 9, 9, 9])
    assert quiet(segy(tmp_path / "b.sgy", noise(6, 40), words)).traces.dead.sum() == 2


def test_traces_that_are_not_seismic_are_left_out(tmp_path: Path):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS | {CODE: [6, 1, 1, 6, 1, 4]})
    with pytest.warns(ox.io.HeaderNotice, match="3 traces that are not seismic.*4, 6, were left"):
        line = ox.io.scan(path)
    assert line.counts.tolist() == [2, 1]
    np.testing.assert_array_equal(line[1], noise(6, 40)[[4]])


def test_components(tmp_path: Path):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS | {CODE: [12, 13, 14, 12, 13, 14]})
    with pytest.warns(ox.io.HeaderNotice, match=r"select\(identification=12\)"):
        line = ox.io.scan(path)
    np.testing.assert_array_equal(line.select(identification=13)[1], noise(6, 40)[[4]])


# -------------------------------------------------------------------- files


@pytest.mark.parametrize("order", ["<", ">"])
def test_seismic_unix(tmp_path: Path, order: str):
    # Bytes 215 and 216 are no scalar there.
    words = POSITIONS | {DELAY: 20, TSCALAR: -100}
    path = su(tmp_path / "a.su", noise(6, 40), words, order)
    line = quiet(path)
    endian = "big" if order == ">" else "little"
    with segyio.su.open(str(path), ignore_geometry=True, endian=endian) as file:
        np.testing.assert_array_equal(np.concatenate(list(line)), file.trace.raw[:])
        np.testing.assert_array_equal(line.traces.receiver[:, 0], file.attributes(GX)[:])
    assert line.dt == 0.002
    assert line.traces.delay[0] == pytest.approx(0.02)
    with pytest.raises(ValueError, match="ends within trace"):
        ox.io.scan(path, byte_order="little" if order == ">" else "big")


@pytest.mark.parametrize("order", ["<", ">"])
def test_seismic_unix_of_as_many_samples_in_either_order(tmp_path: Path, order: str):
    path = su(tmp_path / "a.su", noise(6, 257), POSITIONS, order)
    np.testing.assert_array_equal(quiet(path)[0], noise(6, 257)[:3])
    path = su(tmp_path / "b.su", noise(6, 257), {RECORD: 0, NUMBER: 0}, order)
    with pytest.raises(ValueError, match="either byte order"):
        ox.io.scan(path)
    name = {"<": "little", ">": "big"}[order]
    np.testing.assert_array_equal(ox.io.scan(path, byte_order=name, dt=0.002)[0], noise(6, 257))


def many(folder: Path, count: int = 12) -> tuple[str, list[np.ndarray]]:
    """Files of a shot each, whose names do not sort as numbers do."""
    gathers = [noise(2 + n % 3, 30) + n for n in range(count)]
    for n, gather in enumerate(gathers):
        words = {RECORD: n + 1, SX: 100 * n, GX: np.arange(len(gather)) * 10, GELEV: -5, SELEV: -5}
        segy(folder / f"shot_{n}.sgy", gather, words)
    return str(folder / "shot_*.sgy"), gathers


def test_many_files(tmp_path: Path):
    pattern, gathers = many(tmp_path)
    line = quiet(pattern)
    assert len(line) == 12
    for found, gather in zip(line, gathers, strict=True):
        np.testing.assert_array_equal(found, gather)
    assert line.sources[:, 0].tolist() == [100 * n for n in range(12)]
    for found, n in zip(line[np.array([3, 11, 0])], [3, 11, 0], strict=True):
        np.testing.assert_array_equal(found, gathers[n])
    with pytest.raises(ValueError, match="named twice"):
        ox.io.scan([pattern, tmp_path / "shot_3.sgy"])


def test_what_is_said_of_many_files_is_said_once(tmp_path: Path):
    for n in range(5):
        segy(tmp_path / f"{n}.sgy", noise(2, 30), {RECORD: n, SX: n, GX: 5, SAMPLES: 99})
    with pytest.warns(ox.io.HeaderNotice, match=r"0\.sgy and 4 other files: .*99") as caught:
        ox.io.scan(str(tmp_path / "*.sgy"))
    assert len(caught) == 1


def test_files_of_different_lengths(tmp_path: Path):
    paths = [segy(tmp_path / f"{n}.sgy", noise(2, n), POSITIONS_OF_TWO) for n in (30, 40)]
    with pytest.raises(ValueError, match=r"30\.sgy has 30 samples of 2 ms, but .*40\.sgy has 40"):
        ox.io.scan(paths)


POSITIONS_OF_TWO = {SX: 100, GX: [0, 50], SELEV: -6, GELEV: -10}


# -------------------------------------------------------------------- reading


def test_a_line_gives_what_is_asked_for(two_shots: Path):
    line, traces = quiet(two_shots), noise(6, 40)
    np.testing.assert_array_equal(line[-1], traces[3:])
    np.testing.assert_array_equal(line[1:][0], traces[3:])
    assert [g.shape for g in line[np.array([1, 1, 0])]] == [(3, 40)] * 3
    np.testing.assert_array_equal(line[[True, False]][0], traces[:3])
    with pytest.raises(IndexError):
        line[2]


def test_neighbours_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ondax.io import reading

    segy(tmp_path / "a.sgy", noise(40, 30), {RECORD: np.arange(40) // 4 + 1})
    line = quiet(tmp_path / "a.sgy")
    reads: list[int] = []
    original = reading._fill

    def spy(opened: Any, buffer: np.ndarray, layout: Any) -> None:
        reads.append(len(buffer) // layout.stride)
        original(opened, buffer, layout)

    monkeypatch.setattr(reading, "_fill", spy)
    line[np.array([3, 4, 2])]
    assert reads == [12]
    reads.clear()
    monkeypatch.setattr(reading, "READ", 5 * 360)
    np.testing.assert_array_equal(np.concatenate(line[[2, 3, 4]]), noise(40, 30)[8:20])
    assert reads == [5, 5, 2]


def test_shots_are_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    segy(tmp_path / "a.sgy", noise(40, 30), {RECORD: np.arange(40) // 4 + 1})
    line = quiet(tmp_path / "a.sgy")
    reads: list[tuple[list[int], str]] = []
    original = line._ahead._read

    def spy(shots: np.ndarray) -> list[np.ndarray]:
        reads.append((shots.tolist(), threading.current_thread().name))
        return original(shots)

    line._ahead._read = spy  # pyright: ignore
    groups = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    found = [line[np.array(group)] for group in groups]
    np.testing.assert_array_equal(np.concatenate([g for f in found for g in f]), noise(40, 30))
    assert [shots for shots, _ in reads] == groups
    me = threading.current_thread().name
    assert reads[0][1] == me
    assert all("reads-ahead" in thread for _, thread in reads[1:])
    reads.clear()
    for shot in (7, 3, 5, 1):  # in no order: nothing is read that nobody asks for
        np.testing.assert_array_equal(line[shot], noise(40, 30)[4 * shot : 4 * shot + 4])
    assert reads == [([shot], me) for shot in (7, 3, 5, 1)]


def test_threads_read_one_line(tmp_path: Path):
    pattern, gathers = many(tmp_path)
    line = quiet(pattern)

    def visit(_: int) -> None:
        for start in range(0, 12, 4):
            for n, found in enumerate(line[np.arange(start, start + 4)], start):
                np.testing.assert_array_equal(found, gathers[n])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(visit, range(30)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_reads(two_shots: Path):
    line = quiet(two_shots)
    np.testing.assert_array_equal(line[0], noise(6, 40)[:3])  # the second is read ahead
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of forks
        child = os.fork()
    if child == 0:  # pragma: no cover
        same = np.array_equal(line[1], noise(6, 40)[3:]) and np.array_equal(
            np.concatenate(list(line)), noise(6, 40)
        )
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_pickling(two_shots: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(two_shots.parent)
    line = quiet("two.sgy")
    np.testing.assert_array_equal(line[0], noise(6, 40)[:3])
    monkeypatch.chdir(tmp_path.parent)
    again = pickle.loads(pickle.dumps(line))
    assert repr(again) == repr(line)
    np.testing.assert_array_equal(np.concatenate(list(again)), noise(6, 40))


def test_saving(tmp_path: Path):
    pattern, gathers = many(tmp_path, 3)
    line = quiet(pattern).select(shots=[2, 0])
    line.save(tmp_path / "line.npz")
    again = ox.io.load(tmp_path / "line.npz")
    assert repr(again) == repr(line)
    assert again.notices == line.notices
    np.testing.assert_array_equal(again[0], gathers[2])
    for a, b in zip(again.traces, line.traces, strict=True):
        np.testing.assert_array_equal(a, b)
    path = tmp_path / "shot_1.sgy"
    path.write_bytes(path.read_bytes() + bytes(360))
    with pytest.raises(ValueError, match=r"shot_1\.sgy has changed.*scan it again"):
        ox.io.load(tmp_path / "line.npz")
    path.unlink()
    with pytest.raises(ValueError, match=r"shot_1\.sgy.*is missing"):
        ox.io.load(tmp_path / "line.npz")
    with pytest.raises(FileNotFoundError):
        ox.io.load(tmp_path / "other.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and nothing")
    with pytest.raises(ValueError, match="no catalogue"):
        ox.io.load(tmp_path / "bad.npz")


def test_a_file_that_changed_is_not_read(two_shots: Path):
    line = quiet(two_shots)
    status = os.stat(two_shots)
    os.utime(two_shots, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    with pytest.raises(ValueError, match=r"two\.sgy has changed"):
        line[0]


# -------------------------------------------------------------------- choosing


def test_selections(tmp_path: Path):
    traces = noise(20, 30)
    words = {
        RECORD: np.arange(20) // 4 + 1,
        SX: np.arange(20) // 4 * 100,
        GX: np.arange(20) % 4 * 50,
        GELEV: -5,
        SELEV: -5,
    }
    line = quiet(segy(tmp_path / "a.sgy", traces, words))
    np.testing.assert_array_equal(line.select(shots=[3, 1])[0], traces[12:16])
    assert line.select(every=2).field_records.tolist() == [1, 3, 5]
    np.testing.assert_array_equal(line.select(receivers=slice(None, None, 2))[1], traces[[4, 6]])
    with pytest.warns(ox.io.HeaderNotice, match="2 of 5 shots have no trace left"):
        near = line.select(offset=(0.0, 50.0))
    assert near.counts.tolist() == [2, 3, 1]
    assert near.offsets.max() == 50.0
    np.testing.assert_array_equal(near[1], traces[[5, 6, 7]])
    with pytest.raises(ValueError, match="no trace is left"):
        line.select(offset=(9000.0, 9001.0))
    with pytest.raises(ValueError, match="every=0"):
        line.select(every=0)
    with (
        pytest.warns(ox.io.HeaderNotice, match="8 of 20 traces .* outside of the grid"),
        pytest.warns(ox.io.HeaderNotice, match="2 of 5 shots have no trace left"),
    ):
        inside = line.inside(ox.Grid((21, 5), 10.0))
    assert inside.sources[:, 0].tolist() == [0, 100, 200]
    assert line.inside(ox.Grid((41, 5), 10.0)) is line


def test_reciprocity(tmp_path: Path):
    line = quiet(segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS))
    with pytest.raises(ValueError, match='component="pressure"'):
        line.by_receiver()
    with pytest.raises(ValueError, match="component='velocity_z'"):
        line.by_receiver(component="velocity_z")
    exchanged = line.by_receiver(component="pressure")
    wavelet = np.ones(40)
    kinds = {"source": "pressure", "receiver": "pressure"}
    survey, traces = line.survey(wavelet, **kinds).reciprocal(list(line))
    again = exchanged.survey(wavelet, **kinds)
    np.testing.assert_array_equal(again.sources, survey.sources)
    np.testing.assert_array_equal(again.receivers, survey.receivers)
    for a, b in zip(exchanged, traces, strict=True):
        np.testing.assert_array_equal(a, b)


# -------------------------------------------------------------------- places


def slanted(tmp_path: Path, off: float = 0.0) -> ox.io.Line:
    """Shots and receivers on a line of azimuth 60 degrees, but for one receiver."""
    shots, receivers = np.repeat([0.0, 200.0, 400.0], 4), np.tile([0.0, 150.0, 300.0, 450.0], 3)
    ahead, left = np.array([np.sin(np.pi / 3), 0.5]), np.array([-0.5, np.sin(np.pi / 3)])
    at = np.array([500000.0, 6000000.0])
    source = at + shots[:, None] * ahead
    receiver = at + receivers[:, None] * ahead + off * left * (receivers == 150.0)[:, None]
    words = {RECORD: np.repeat([1, 2, 3], 4), GELEV: -500, SELEV: -600, ESCALAR: -100}
    words |= {CSCALAR: -100, SX: np.rint(100 * source[:, 0]), SY: np.rint(100 * source[:, 1])}
    words |= {GX: np.rint(100 * receiver[:, 0]), GY: np.rint(100 * receiver[:, 1])}
    return quiet(segy(tmp_path / "slanted.sgy", noise(12, 30), words))


def test_a_straight_line(tmp_path: Path):
    line = slanted(tmp_path)
    assert line.axes == ("x", "y", "z")
    with pytest.raises(ValueError, match=r"line\.on_line\(\)"):
        line.inside(ox.Grid((61, 11), 10.0))
    with pytest.warns(ox.io.HeaderNotice, match=r"azimuth 60\.0. degrees: the farthest is 0\.0"):
        flat = line.on_line()
    np.testing.assert_allclose(flat.sources, [[0, 0, 6], [200, 0, 6], [400, 0, 6]], atol=0.02)
    np.testing.assert_allclose(flat.receivers[0][:, 0], [0, 150, 300, 450], atol=0.02)
    assert flat.survey(np.ones(30)).sources.shape == (3, 1, 2)
    with pytest.warns(ox.io.HeaderNotice, match="farthest is"):
        other = line.select(shots=[2, 1, 0]).on_line()
    np.testing.assert_allclose(other.sources[:, 0], [50, 250, 450], atol=0.02)


def test_a_crooked_line(tmp_path: Path):
    line = slanted(tmp_path, off=30.0)
    with pytest.warns(ox.io.HeaderNotice, match="farthest is 30.00 m from it"):
        flat = line.on_line(crooked=True)
    np.testing.assert_allclose(flat.receivers[1][:, 0], [0, 150, 300, 450], atol=0.02)
    # Around a corner: the third receiver is beside the second leg, the last behind its end.
    words = {RECORD: [1, 2, 3, 3, 3], SX: [0, 100, 100, 100, 100], SY: [0, 0, 50, 50, 50]}
    words |= {GX: [-10, 40, 103, 90, 100], GY: [0, 5, 20, 45, 90], SELEV: -1}
    corner = quiet(segy(tmp_path / "corner.sgy", noise(5, 30), words))
    with pytest.warns(ox.io.HeaderNotice, match="farthest is 10.00 m from it"):
        flat = corner.on_line(crooked=True)
    np.testing.assert_allclose(flat.traces.receiver[:, 0], [0, 50, 130, 155, 200], atol=1e-9)
    np.testing.assert_allclose(flat.sources[:, 0], [10, 110, 160], atol=1e-9)
    with pytest.raises(ValueError, match="all at one place"):
        corner.select(shots=[0]).on_line(crooked=True)


def test_turned(tmp_path: Path):
    line = slanted(tmp_path)
    model = line.turned((500000.0, 6000000.0), 60.0)
    np.testing.assert_allclose(model.sources[2], [400, 0, 6], atol=0.02)
    np.testing.assert_allclose(model.offsets, line.offsets, atol=1e-6)
    moved = line.turned((500000.0, 6000000.0), 90.0)
    expected = line.sources - [500000.0, 6000000.0, 0.0]
    np.testing.assert_array_equal(moved.sources, expected)
    # y points to the left of x.
    north = line.turned((500000.0, 6000000.0), 0.0).sources
    np.testing.assert_array_equal(north[:, :2], expected[:, [1, 0]] * [1, -1])


# -------------------------------------------------------------------- misfits


GRID = ox.Grid((31, 26), 10.0)
WAVELET = ox.ricker(15.0, 100, 0.002)


def modelled() -> tuple[ox.Survey, list[np.ndarray]]:
    receivers = [ox.line((10.0, 30.0), (290.0, 60.0), n) for n in (4, 6, 3, 5)]
    sources = [[60.0, 20.0], [150.0, 40.0], [230.0, 30.0], [100.0, 25.0]]
    survey = ox.Survey(sources, receivers, WAVELET, 0.002)
    return survey, [1e-3 * noise(len(r), 100) for r in receivers]


def test_a_line_as_observed_traces(tmp_path: Path):
    survey, gathers = modelled()
    ox.io.write_segy(tmp_path / "a.sgy", gathers, survey=survey)
    line = quiet(tmp_path / "a.sgy")
    of_file = line.survey(WAVELET, grid=GRID)
    assert of_file.ragged
    F = ox.Propagator(ox.Acoustic(4), GRID, of_file, 2600.0, boundary=ox.Sponge(6))
    model = np.full((31, 26), 2000.0, np.float32)
    values = [
        jax.value_and_grad(ox.Objective(F, observed))(jax.numpy.asarray(model))
        for observed in (line, list(line), gathers)
    ]
    for value, gradient in values[1:]:
        assert value == values[0][0]
        np.testing.assert_array_equal(gradient, values[0][1])


# -------------------------------------------------------------------- writing


def test_a_survey_is_written_and_read(tmp_path: Path):
    survey, gathers = modelled()
    survey = survey.replace(
        nt=100,
        start=0.05,
        trace_weights=[np.ones(4), [1, 1, 0, 1, 1, 1], np.ones(3), np.ones(5)],
    )
    path = tmp_path / "a.sgy"
    for traces in (gathers, survey.padded(gathers), jax.numpy.asarray(survey.padded(gathers))):
        ox.io.write_segy(path, traces, survey=survey)
        line = quiet(path)
        again = line.survey(WAVELET)
        np.testing.assert_allclose(again.sources, survey.sources, atol=5e-4)
        np.testing.assert_allclose(again.receivers, survey.receivers, atol=5e-4)
        np.testing.assert_array_equal(again.trace_weights, survey.trace_weights)
        assert (again.start, again.dt, again.nt) == (0.05, 0.002, 100)
        for a, b in zip(line, gathers, strict=True):
            assert a.tobytes() == b.tobytes()
    with segyio.open(str(path), ignore_geometry=True) as file:
        np.testing.assert_array_equal(file.trace.raw[:], np.concatenate(gathers))
        assert segyio.tools.dt(file) == 2000.0
        assert file.header[5][SX] == 150000
        assert file.header[5][GELEV] == -36000
        assert "SEG Y REV1" in segyio.tools.wrap(file.text[0])
    assert [p.name for p in tmp_path.iterdir()] == ["a.sgy"]


def test_positions_in_3d_are_written(tmp_path: Path):
    receivers = ox.carpet((0.0, 0.0, 7.5), (300.0, 200.0, 7.5), (4, 3))
    survey = ox.Survey([[455123.4567, 60.0, 5.0]], receivers, np.ones(20), 0.004)
    ox.io.write_segy(tmp_path / "a.sgy", noise(1, survey.n_receivers, 20), survey=survey)
    line = quiet(tmp_path / "a.sgy")
    np.testing.assert_allclose(line.sources, [[455123.457, 60.0, 5.0]], rtol=1e-15)
    np.testing.assert_array_equal(line.receivers[0], survey.receivers[0])


def test_far_positions_are_written_in_larger_units(tmp_path: Path):
    survey = ox.Survey([[0.0, 6000000.06, 5.0]], [[1.0, 6000100.0, 5.0]], np.ones(20), 0.004)
    with pytest.warns(ox.io.HeaderNotice, match=r"rounded to 0\.01 m"):
        ox.io.write_segy(tmp_path / "a.sgy", noise(1, 1, 20), survey=survey)
    np.testing.assert_allclose(quiet(tmp_path / "a.sgy").sources[0], [0, 6000000.06, 5])


def test_headers_are_kept(tmp_path: Path):
    words = POSITIONS | {233: np.arange(6), 21: 77, 37: -50, GX: [0, 50, 150, 30, 80, 180]}
    path = segy(tmp_path / "a.sgy", noise(6, 40), words, format=IBM)
    with segyio.open(str(path), "r+", ignore_geometry=True) as file:
        file.text[0] = segyio.create_text_header({1: "Line 12"})
    line = quiet(path)
    ox.io.write_segy(path, line, like=line)  # in place of what is read meanwhile
    first = path.read_bytes()
    line = quiet(path)
    modified = [2.0 * gather[:, :30] for gather in line.select(shots=[1, 0])]
    new = tmp_path / "b.sgy"
    ox.io.write_segy(new, modified, like=line.select(shots=[1, 0]), dt=0.004)
    again = quiet(new)
    assert again.dt == 0.004
    for a, b in zip(again, modified, strict=True):
        assert a.tobytes() == b.tobytes()
    second = new.read_bytes()
    assert second[:3200] == first[:3200]
    changed = [n for n in range(3200, 3600) if first[n] != second[n]]
    assert {n + 1 for n in changed} <= {3217, 3218, 3221, 3222}
    for n, m in enumerate([3, 4, 5, 0, 1, 2]):
        a = first[3600 + 400 * m : 3600 + 400 * m + 240]
        b = second[3600 + 360 * n : 3600 + 360 * n + 240]
        assert a[:114] + a[118:] == b[:114] + b[118:]
        assert b[114:118] == (30).to_bytes(2, "big") + (4000).to_bytes(2, "big")


def test_headers_of_many_files_are_kept_in_one(tmp_path: Path):
    pattern, gathers = many(tmp_path, 5)
    line = quiet(pattern).by_receiver(component="pressure")
    ox.io.write_segy(tmp_path / "all.sgy", line, like=line)
    again = quiet(tmp_path / "all.sgy")
    for found, gather in zip(again, gathers, strict=True):
        np.testing.assert_array_equal(found, gather)
    for a, b in zip(again.by_receiver(component="pressure"), line, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="survey=line.survey"):
        ox.io.write_segy(
            tmp_path / "b.sgy",
            noise(2, 3, 40),
            like=quiet(su(tmp_path / "a.su", noise(6, 40), POSITIONS)),
        )


def test_headers_of_little_endian_files_are_kept(tmp_path: Path):
    path = segy(tmp_path / "a.sgy", noise(6, 40), POSITIONS, endian="little")
    line = quiet(path)
    ox.io.write_segy(tmp_path / "b.sgy", line, like=line)
    assert (tmp_path / "b.sgy").read_bytes() == path.read_bytes()


def test_ibm_floats(tmp_path: Path):
    values = np.concatenate(
        [
            noise(500),
            10.0 ** np.arange(-37, 38, 0.25),
            -(2.0 ** np.arange(-120, 120)),
            [0.0, -0.0, 1.0 - 2.0**-24, 16.0 - 2.0**-20, np.finfo(np.float32).max, 1e-42],
        ]
    ).astype(np.float32)[None]
    ox.io.write_segy(tmp_path / "a.sgy", values[None], dt=0.002, format="ibm")
    with segyio.open(str(tmp_path / "a.sgy"), ignore_geometry=True) as file:
        found = file.trace.raw[:]
    normal = np.abs(values) > 1e-38
    np.testing.assert_allclose(found[normal], values[normal], rtol=2.0**-21)
    assert not np.any(found[values == 0.0])
    # Samples that came in IBM floats go out as they were.
    line = quiet(tmp_path / "a.sgy")
    ox.io.write_segy(tmp_path / "b.sgy", line, like=line, format="ibm")
    assert (tmp_path / "b.sgy").read_bytes()[3840:-4] == (tmp_path / "a.sgy").read_bytes()[3840:-4]
    with pytest.raises(ValueError, match='format="ieee"'):
        to_ibm(np.array([np.nan]))


def test_ibm_floats_whose_fraction_begins_with_zeros():
    bits = np.array([0xC10FEBCF, 0x42000001, 0x41100000, 0xC276A000, 0x80000000], np.uint32)
    exact = [-0x0FEBCF / 2**20, 2.0**-16, 1.0, -118.625, 0.0]
    np.testing.assert_array_equal(from_ibm(bits), np.float32(exact))
    assert to_ibm(np.array([-118.625]))[0] == 0xC276A000


def test_what_cannot_be_written(tmp_path: Path):
    survey, gathers = modelled()
    path = tmp_path / "a.sgy"

    def refused(match: str, *args: Any, **kinds: Any) -> None:
        with pytest.raises(ValueError, match=match):
            ox.io.write_segy(path, *args, **kinds)
        assert not list(tmp_path.iterdir())

    refused("at least dt", gathers)
    refused("whole microseconds", gathers, dt=0.00123456)
    refused("whole microseconds", gathers, dt=0.1)
    refused("3 shots, but headers of 4", gathers[:3], survey=survey)
    refused("gather of shot 2 has shape", [*gathers[:2], gathers[0], gathers[3]], survey=survey)
    refused("90 samples", [g[:, :90] for g in gathers], survey=survey)
    refused("gather of shot 1 has 90 samples", [gathers[0], gathers[1][:, :90]], dt=0.002)
    refused("like and survey|survey and grid", gathers, survey=survey, grid=GRID)
    refused("choose one of", gathers, survey=survey, format="vax")
    refused("component to a file", noise(2, 2, 3, 20), dt=0.002)
    both = survey.replace(receiver=("velocity_x", "velocity_z"))
    refused("2 components", gathers, survey=both)
    refused("2 sources a shot", gathers, survey=survey.replace(sources=[[[1.0, 2.0]] * 2] * 4))
    refused("complex", [g + 1j for g in gathers], survey=survey)
    refused("start=", gathers, survey=survey.replace(start=46.0, wavelet_start=46.0, dt=0.002))
    refused("no traces", [], dt=0.002)
    with pytest.raises(ValueError, match="SEG-Y is written"):
        ox.io.write_segy(tmp_path / "a.su", gathers, dt=0.002)


def test_what_was_there_stays_if_writing_fails(tmp_path: Path):
    path = tmp_path / "a.sgy"
    path.write_bytes(b"precious")

    class Failing(list[Any]):
        def __iter__(self) -> Any:
            yield noise(2, 20)
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        ox.io.write_segy(path, Failing([1, 2]), dt=0.002)
    assert path.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "grid",
    [
        ox.Grid((5, 8), 12.5),
        ox.Grid((4, 3, 9), (10.0, 20.0 / 3.0, 1e-3), (-500.0, 1.0 / 3.0, -7.1)),
        ox.Grid((6,), 5.0, 3.0),
        ox.Grid((5, 8), 100.0),
    ],
)
def test_models(tmp_path: Path, grid: ox.Grid):
    model, path = noise(*grid.shape), tmp_path / "model.sgy"
    if grid.spacing[-1] > 65.0:
        with pytest.warns(ox.io.HeaderNotice, match="only the text header"):
            ox.io.write_segy(path, jax.numpy.asarray(model), grid=grid)
    else:
        ox.io.write_segy(path, jax.numpy.asarray(model), grid=grid)
    found, of = ox.io.read_model(path)
    assert of == grid
    assert found.tobytes() == model.tobytes()
    with segyio.open(str(path), ignore_geometry=True) as file:
        np.testing.assert_array_equal(file.trace.raw[:], model.reshape(-1, grid.shape[-1]))
        if grid.ndim > 1:
            last = grid.origin[0] + (grid.shape[0] - 1) * grid.spacing[0]
            assert file.header[-1][181] == round(1000 * last)
    with pytest.raises(ValueError, match="expected"):
        ox.io.write_segy(path, model[..., :-1], grid=grid)


def test_a_file_that_is_no_model(two_shots: Path):
    with pytest.raises(ValueError, match=r"does not say what grid"):
        ox.io.read_model(two_shots)


# -------------------------------------------------------------------- speed


def seconds(work: Callable[[], Any]) -> float:
    """The least of some tries: other programs only add to it."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.slow
def test_a_scan_takes_no_longer_than_segyio(tmp_path: Path):
    path, shots, receivers = tmp_path / "big.sgy", 1000, 100
    survey = ox.Survey(
        np.stack([25.0 * np.arange(shots), np.full(shots, 6.0)], -1),
        [ox.line((x, 10.0), (x + 2475.0, 10.0), receivers) for x in 25.0 * np.arange(shots)],
        np.ones(50),
        0.004,
    )
    ox.io.write_segy(path, np.zeros((shots, receivers, 50), np.float32), survey=survey)

    def by_segyio() -> None:
        with segyio.open(str(path), ignore_geometry=True) as file:
            for byte, _ in WORDS.values():
                file.attributes(byte)[:]

    assert seconds(lambda: ox.io.scan(path)) < 2.0 * seconds(by_segyio)
