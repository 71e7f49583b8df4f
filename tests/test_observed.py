"""Traces that stay where they are until an inversion asks for them: what it reads before it begins,
and how it knows them again."""

import os
import pickle
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ondax as ox
from ondax.inversion import observed as room
from ondax.inversion.multiscale import filtered_traces
from ondax.inversion.observed import Shifted, stamp_of

SHOTS = 7
GRID = ox.Grid((41, 31), 10.0)
SURVEY = ox.Survey(
    ox.line((20.0, 30.0), (380.0, 30.0), SHOTS),
    ox.line((0.0, 20.0), (400.0, 20.0), 11),
    ox.ricker(12.0, 100, 0.003),
    0.003,
)
F = ox.Propagator(ox.Acoustic(4), GRID, SURVEY, 2600.0, settings=ox.Settings(threads=1))
START = jnp.full(GRID.shape, 2000.0)


@pytest.fixture(scope="module")
def traces() -> np.ndarray:
    return np.asarray(F(START.at[15:25, 12:20].set(2300.0)))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Surveys of seven shots count as large; two of their shots are looked at."""
    monkeypatch.setattr(room, "SMALL", 0)
    monkeypatch.setattr(room, "TOGETHER", 2)


class Read:
    """Traces, and which shots have been asked for."""

    def __init__(self, traces: np.ndarray) -> None:
        self.traces = traces
        self.asked: set[int] = set()

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        self.asked |= set(np.asarray(numbers).tolist())
        return self.traces[numbers]


class Stamped(Read):
    """The same, which say when they change."""

    version = "1"

    def stamp(self) -> str:
        return self.version


def invert(observed: Any, iterations: int = 1, **options: Any) -> ox.FWIResult:
    return ox.fwi(
        F,
        observed,
        START,
        optimizer=optax.adam(10.0),
        iterations=iterations,
        batch_size=1,
        progress=False,
        **options,
    )


def test_of_many_shots_some_are_read_first(large: None, traces: np.ndarray):
    observed = Read(traces)
    found = invert(observed)
    assert {0, SHOTS - 1} <= observed.asked
    assert len(observed.asked) <= 3  # and that of the iteration
    np.testing.assert_array_equal(found.model, invert(traces).model)


def test_of_few_shots_all_are_read_first(traces: np.ndarray):
    observed = Read(traces)
    invert(observed)
    assert observed.asked == set(range(SHOTS))


@pytest.mark.parametrize(
    ("kind", "options", "some"),
    [
        (Read, {}, False),  # nothing but the bytes tells them from others
        (Read, {"trust": ("observed traces",)}, True),
        (Stamped, {}, True),
    ],
)
def test_what_is_compared_with_a_state(
    kind: type[Read],
    options: dict[str, Any],
    some: bool,
    large: None,
    traces: np.ndarray,
    tmp_path: Path,
):
    observed = kind(traces)
    whole = invert(traces, 3).model
    invert(observed, save=tmp_path / "state.npz", **options)
    assert (len(observed.asked) < SHOTS) is some
    resumed = invert(kind(traces), 3, save=tmp_path / "state.npz", **options)
    np.testing.assert_array_equal(resumed.model, whole)


@pytest.mark.parametrize("change", ["stamp", "a shot that is looked at"])
def test_other_traces_are_refused(change: str, large: None, traces: np.ndarray, tmp_path: Path):
    invert(Stamped(traces), save=tmp_path / "state.npz")
    other = Stamped(np.array(traces))
    if change == "stamp":
        other.version = "2"
    else:
        other.traces[-1] *= 2.0
    with pytest.raises(ValueError, match="differs in observed traces"):
        invert(other, 2, save=tmp_path / "state.npz")


def test_a_bad_shot_is_named_when_it_is_read(large: None, traces: np.ndarray):
    bad = np.array(traces)
    bad[3, 2, 5] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values in shot 3"):
        invert(Read(bad), SHOTS)  # an epoch
    with pytest.raises(ValueError, match="in shot 3"):  # as a worker that is sent this shot only
        Shifted(Parts(bad), SURVEY).of_shots([3])[np.array([0])]


class Parts(Read):
    def of_shots(self, shots: list[int]) -> Read:
        return Read(self.traces[shots])


def rewritten(path: Path) -> None:
    """As if the file had been written a second later."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_stamps_of_arrays_in_files(traces: np.ndarray, tmp_path: Path):
    np.save(tmp_path / "traces.npy", traces)

    def stamp(part: slice = slice(None)) -> str | None:
        return stamp_of(np.load(tmp_path / "traces.npy", mmap_mode="r")[part])

    first = stamp()
    assert first is not None
    assert first == stamp()
    assert first != stamp(slice(0, 2))
    rewritten(tmp_path / "traces.npy")
    assert first != stamp()
    assert stamp_of(Read(traces)) is None


def test_stamps_of_seismic_files(traces: np.ndarray, tmp_path: Path):
    ox.io.write_segy(tmp_path / "line.segy", traces, survey=SURVEY)

    def line() -> Any:
        return ox.io.scan(str(tmp_path / "line.segy"))

    first = line().stamp()
    assert first == line().stamp() == pickle.loads(pickle.dumps(line())).stamp()
    line().save(tmp_path / "line.npz")
    assert first == ox.io.load(tmp_path / "line.npz").stamp()
    assert first != line().of_shots([0, 1]).stamp()
    rewritten(tmp_path / "line.segy")
    assert first != line().stamp()


def test_stamps_of_zarr_groups(tmp_path: Path):
    pytest.importorskip("zarr")
    ox.model(F, START, out=tmp_path / "shots.zarr")
    shots = ox.io.open_shots(tmp_path / "shots.zarr")
    first = shots.stamp()
    assert first == shots.stamp()
    rewritten(next(path for path in (tmp_path / "shots.zarr").rglob("*") if path.is_file()))
    assert first != shots.stamp()


def test_stamps_of_filtered_traces(traces: np.ndarray):
    observed = Stamped(traces)
    low, high = (stamp_of(filtered_traces(observed, 0.003, 2.0, top)) for top in (8.0, 12.0))
    assert low is not None
    assert low != high
    assert low == stamp_of(filtered_traces(observed, 0.003, 2.0, 8.0))
    observed.version = "2"
    assert low != stamp_of(filtered_traces(observed, 0.003, 2.0, 8.0))
    assert stamp_of(filtered_traces(Read(traces), 0.003, 2.0, 8.0)) is None


def test_a_mapped_file_that_is_written_to(tmp_path: Path):
    """Its stamp tells of it; there is none where the file does not change."""
    np.save(tmp_path / "traces.npy", np.zeros(10, np.float32))
    copied = np.load(tmp_path / "traces.npy", mmap_mode="c")
    assert stamp_of(copied) is None
    written = np.load(tmp_path / "traces.npy", mmap_mode="r+")
    os.utime(tmp_path / "traces.npy", (0, 0))
    before = stamp_of(written)
    written += 1.0
    assert stamp_of(written) != before
