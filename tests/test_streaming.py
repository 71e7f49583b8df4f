"""Whole surveys, a few shots at a time: traces to files, and sums of images."""

import errno
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import difference, tiny

import ondax as ox
from ondax.streaming import runner, targets
from ondax.streaming.rtm import Illuminated
from ondax.streaming.runner import AbstractRunner
from ondax.streaming.tasks import Imaged, Modelled, Shots

GRID = ox.Grid((41, 36), 10.0)
VP = jnp.full(GRID.shape, 2000.0)
COUNTS = (7, 3, 5, 1, 6)
KINDS = ("zarr", "segy")


def propagator(ragged: bool = True, threads: int = 2, **given: Any) -> ox.Propagator:
    x = np.linspace(50.0, 350.0, len(COUNTS))
    line = ox.line((0.0, 60.0), (400.0, 60.0), 7)
    survey = ox.Survey(
        np.stack([x, np.full_like(x, 40.0)], -1),
        [line[:n] for n in COUNTS] if ragged else line,
        ox.ricker(12.0, 150, 0.002),
        0.002,
    )
    settings = ox.Settings(threads=threads)
    return ox.Propagator(
        ox.Acoustic(4), GRID, survey, 2600.0, boundary=ox.Sponge(8), settings=settings, **given
    )


def read(path: Path) -> list[np.ndarray]:
    opened = ox.io.open_shots(path) if path.suffix == ".zarr" else ox.io.scan(path)
    return [opened[n] for n in range(len(opened))]


def same(got: Sequence[np.ndarray], wanted: Sequence[Any]) -> bool:
    return len(got) == len(wanted) and all(map(np.array_equal, got, wanted))


@pytest.fixture
def modelled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shots that are modelled, in their order."""
    seen: list[int] = []
    real = Modelled.__call__

    def spy(self, shots):
        seen.extend(shots)
        return real(self, shots)

    monkeypatch.setattr(Modelled, "__call__", spy)
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_traces_are_those_of_a_call(kind: str, tmp_path: Path, modelled: list[int]):
    F, path = propagator(), tmp_path / f"shots.{kind}"
    assert ox.model(F, VP, path, progress=False) == path
    assert os.listdir(tmp_path) == [path.name]
    assert same(read(path), F.survey.gathers(F(VP)))
    modelled.clear()
    ox.model(F, VP, path, progress=False)
    assert modelled == []  # it is there


def test_what_is_read_again_is_the_survey(tmp_path: Path):
    F = propagator()
    ox.model(F, VP, tmp_path / "a.zarr", progress=False)
    shots = ox.io.open_shots(tmp_path / "a.zarr")
    again = shots.survey(ox.ricker(12.0, 150, 0.002))
    for a, b in zip(again.points, F.survey.points, strict=True):
        assert np.array_equal(a.rows, b.rows)
    assert (again.nt, again.dt, len(shots)) == (F.survey.nt, F.survey.dt, len(COUNTS))
    assert same(pickle.loads(pickle.dumps(shots))[1:3], shots[1:3])
    with pytest.raises(FileNotFoundError, match=r"b\.zarr is not there.*\.part"):
        ox.io.open_shots(tmp_path / "b.zarr")


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_was_stopped_goes_on(
    kind: str, tmp_path: Path, modelled: list[int], monkeypatch: pytest.MonkeyPatch
):
    F, path = propagator(threads=1), tmp_path / f"shots.{kind}"
    real = Modelled.__call__

    def stopped(self, shots):
        if 3 in shots:
            raise KeyboardInterrupt
        return real(self, shots)

    monkeypatch.setattr(Modelled, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        ox.model(F, VP, path, progress=False)
    assert not path.exists()
    journal = Path(f"{path}.journal")
    with journal.open("ab") as file:
        file.write(b"4")  # it was being written when the process ended
    monkeypatch.setattr(Modelled, "__call__", real)
    modelled.clear()
    ox.model(F, VP, path, progress=False)
    assert modelled == [3, 4]
    assert same(read(path), F.survey.gathers(F(VP)))
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_other_problems_are_refused(
    kind: str, tmp_path: Path, modelled: list[int], monkeypatch: pytest.MonkeyPatch
):
    F, path = propagator(threads=1), tmp_path / f"shots.{kind}"
    real = Modelled.__call__
    monkeypatch.setattr(Modelled, "__call__", lambda self, shots: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ox.model(F, VP, path, progress=False)
    other = F.with_survey(F.survey[:3])
    with pytest.raises(ValueError, match=r"begun with another model: .*delete the file"):
        ox.model(F, VP + 1.0, path, progress=False)
    with pytest.raises(ValueError, match="begun with another propagator: "):
        ox.model(other, VP, path, progress=False)
    monkeypatch.setattr(Modelled, "__call__", real)
    now = F.settings.runs_on(jax.default_backend())
    other_backend = {"devito": "xla", "xla": "devito"}[now]
    last_digits = F.replace(settings=ox.Settings(threads=1, backend=other_backend))
    said = f"begun with backend '{now}', and here '{other_backend}' runs.*backend='{now}'.* go on"
    with pytest.raises(ValueError, match=said):
        ox.model(last_digits, VP, path, progress=False)
    more = F.replace(settings=ox.Settings(threads=2, memory=1e8, history="half"))
    ox.model(more, VP, path, progress=False)  # which changes no trace
    assert same(read(path), F.survey.gathers(F(VP)))
    for changed, vp in ((F, VP + 1.0), (other, VP), (last_digits, VP)):
        with pytest.raises(ValueError, match="is there already, and not of this survey"):
            ox.model(changed, vp, path, progress=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_costs_no_shot(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    F, path = propagator(threads=1), tmp_path / f"shots.{kind}"
    target = targets.KINDS[f".{kind}"]
    real = target.write

    def write(self, shot, gather):
        if shot == 2:
            real(self, shot, gather[: len(gather) // 2] if kind == "zarr" else 0.0 * gather)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, shot, gather)

    monkeypatch.setattr(target, "write", write)
    with pytest.raises(OSError, match=rf"folder {tmp_path} is full: .* goes on where it has") as e:
        ox.model(F, VP, path, progress=False)
    assert e.value.errno == errno.ENOSPC
    monkeypatch.undo()
    ox.model(F, VP, path, progress=False)
    assert same(read(path), F.survey.gathers(F(VP)))


def test_another_full_disk_is_not_taken_for_that_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    F, path = propagator(threads=1), tmp_path / "shots.segy"
    error = OSError(errno.ENOSPC, "No space left on device", "/elsewhere/kernel.so")

    def full(self, shots):
        raise error

    monkeypatch.setattr(Modelled, "__call__", full)
    with pytest.raises(OSError, match=r"/elsewhere/kernel\.so") as found:
        ox.model(F, VP, path, progress=False)
    assert found.value is error


def test_relative_paths_are_those_of_where_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A worker has a folder of its own, and a script may change its own one."""
    F = propagator(threads=1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    real = Modelled.__call__

    def moving(self, shots):
        os.chdir(elsewhere)
        return real(self, shots)

    monkeypatch.setattr(Modelled, "__call__", moving)
    path = ox.model(F, VP, "shots.zarr", progress=False)
    assert path == tmp_path / "shots.zarr"
    assert os.listdir(elsewhere) == []
    monkeypatch.chdir(tmp_path)
    shots = ox.io.open_shots("shots.zarr")
    settings = ox.Settings(history="disk", folder="scratch")
    expected = shots[:]
    monkeypatch.chdir(elsewhere)
    assert same(shots[:], expected)
    assert same(pickle.loads(pickle.dumps(shots))[:], expected)
    assert shots.stamp() == ox.io.open_shots(path).stamp()
    assert pickle.loads(pickle.dumps(settings)).folder == str(tmp_path / "scratch")


def test_what_cannot_be_written_is_refused(tmp_path: Path):
    F = propagator()
    with pytest.raises(ValueError, match=r"let its name end in one of \.zarr, \.segy"):
        ox.model(F, VP, tmp_path / "shots.npy")
    extended = F.with_survey(F.survey.replace(sources=ox.Extended(len(COUNTS))))
    with pytest.raises(ValueError, match=r"F\(model, weights=w, shots=numbers\)"):
        ox.model(extended, VP, tmp_path / "shots.zarr")
    with pytest.raises(ValueError, match="sum images of F.jacobian"):
        ox.rtm(extended, F(VP), VP)
    two = F.with_survey(
        F.survey.replace(sources=np.stack([F.survey.sources[:, 0], F.survey.sources[:, 0] + 1], 1))
    )
    with pytest.raises(ValueError, match="2 sources a shot"):
        ox.model(two, VP, tmp_path / "shots.segy")
    assert os.listdir(tmp_path) == []
    ox.model(two, VP, tmp_path / "shots.zarr", progress=False)
    assert same(read(tmp_path / "shots.zarr"), two.survey.gathers(two(VP)))


# ---------------------------------------------------------------- images


def image(F: ox.Propagator, traces: Any) -> np.ndarray:
    return np.asarray(F.jacobian(VP).T.mv(traces))


ROUNDING = 1e-6  # of float32, in sums of a few shots


def test_an_image_is_the_transpose_of_born_modelling(tmp_path: Path):
    F = propagator()
    traces = F(VP)
    gathers = F.survey.gathers(traces)
    paths = [ox.model(F, VP, tmp_path / f"shots.{kind}", progress=False) for kind in KINDS]
    opened = [ox.io.scan(paths[1]), ox.io.open_shots(paths[0])]
    wanted = image(F, traces)
    for observed in (traces, np.asarray(traces), gathers, *paths, *map(str, paths), *opened):
        got = ox.rtm(F, observed, VP, progress=False)
        assert difference(got, wanted) < ROUNDING


def test_weights_of_traces_count_once():
    F = propagator(ragged=False)
    weights = np.random.default_rng(0).uniform(0.0, 2.0, (len(COUNTS), 7)).astype(np.float32)
    weights[1, 2] = 0.0
    traces = np.array(F(VP))
    wanted = image(F, weights[..., None] * traces)
    traces[1, 2] = np.nan  # a dead trace may hold anything
    weighted = F.with_survey(F.survey.replace(trace_weights=weights))
    assert difference(ox.rtm(weighted, traces, VP, progress=False), wanted) < ROUNDING
    traces[3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values in shot 3"):
        ox.rtm(weighted, traces, VP, progress=False)


class Counted:
    """Traces that are read when they are asked for, whose number is known."""

    def __init__(self, traces: np.ndarray) -> None:
        self.traces = traces

    def __len__(self) -> int:
        return len(self.traces)

    def __getitem__(self, numbers: Any) -> np.ndarray:
        return self.traces[numbers]


KINDS_OF_TRACES = {
    "NumPy": np.asarray,
    "JAX": jnp.asarray,
    "list": list,
    "list of JAX": lambda traces: list(jnp.asarray(traces)),
    "counted": Counted,
}


@pytest.mark.parametrize("count", [3, 10])
@pytest.mark.parametrize("kind", KINDS_OF_TRACES)
def test_traces_of_other_shots_are_refused(kind: str, count: int, tmp_path: Path):
    F = propagator(ragged=False)
    traces = np.zeros(F.survey.trace_shape(count), np.float32)
    observed = KINDS_OF_TRACES[kind](traces)
    said = f"traces of {count} shots, but the survey has 5"
    with pytest.raises(ValueError, match=said):
        ox.rtm(F, observed, VP, progress=False)
    if kind == "counted":
        with pytest.raises(ValueError, match=said):
            ox.Objective(F, observed)
        with pytest.raises(ValueError, match=said):
            ox.fwi(F, observed, VP, optimizer=ox.GaussNewton(), iterations=1, progress=False)
        with pytest.raises(ValueError, match=said):
            ox.lsrtm(F, observed, VP, iterations=1, progress=False)


def test_traces_of_another_shape_are_refused():
    F = propagator(ragged=False)
    with pytest.raises(ValueError, match=r"observed has shape \(5, 6, 150\)"):
        ox.rtm(F, np.zeros((5, 6, 150), np.float32), VP, progress=False)


class Backwards(AbstractRunner):
    """Workers somewhere else that get groups of their own size, and answer last group first."""

    def together(self, shots: int, threads: int) -> int:
        return 3

    def each(self, task: Callable[[Shots], Any], groups: Sequence[Shots]) -> Iterator[Any]:
        sent = pickle.dumps(task)
        for group in reversed(groups):
            yield group, pickle.loads(sent)(group)


@pytest.mark.kernels
def test_bits_depend_neither_on_threads_nor_on_runners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    F = propagator()
    traces = F(VP)
    wanted = ox.rtm(F, traces, VP, progress=False)
    for threads in (1, 3):
        other = propagator(threads=threads)
        assert np.array_equal(ox.rtm(other, traces, VP, progress=False), wanted)
    monkeypatch.setattr(runner, "Here", Backwards)
    assert np.array_equal(ox.rtm(F, traces, VP, progress=False), wanted)
    path = ox.model(F, VP, tmp_path / "shots.zarr", progress=False)
    assert same(read(path), F.survey.gathers(traces))


class InAnotherProcess(Backwards):
    """As far as settings of JAX go: tasks run in a thread of their own, which has those that the
    process began with."""

    def each(self, task: Callable[[Shots], Any], groups: Sequence[Shots]) -> Iterator[Any]:
        with ThreadPoolExecutor(1) as thread:
            sent = pickle.dumps(task)
            opened = thread.submit(pickle.loads, sent).result().settled(1, 1 << 30)
            for group in groups:
                yield group, thread.submit(opened, group).result()


def of_own_numbers(J: Any, traces: jax.Array) -> Any:
    return jnp.linspace(0.0, 1.0, 3) * jnp.sum(traces)


@pytest.mark.slow
def test_workers_compute_in_the_type_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where JAX has no numbers of 64 bits there: images and random signs are those made
    here."""
    F = propagator(threads=1)

    def found() -> list[np.ndarray]:
        ways = "correlation", "illumination", of_own_numbers
        images = [np.asarray(ox.rtm(F, traces, vp, imaging=w, progress=False)) for w in ways]
        path = ox.model(F, vp, tmp_path / "shots.zarr", progress=False)
        written = read(path)
        shutil.rmtree(path)
        return [*images, *written]

    with jax.enable_x64(True):
        vp = jnp.asarray(VP, jnp.float64)
        traces = F.survey.gathers(F(vp))
        here = found()
        monkeypatch.setattr(runner, "Here", InAnotherProcess)
        there = found()
    for a, b in zip(here, there, strict=True):
        assert a.dtype == b.dtype == np.float64
        assert difference(b, a) < 1e-12  # rounding of float64; of float32 it is above 1e-8


def test_a_condition_of_ones_own():
    F = propagator()
    traces = F(VP)

    def imaging(J: Any, traces: jax.Array) -> Any:
        return {"image": J.T.mv(traces), "shots": J.shots[0] + 1, "energy": jnp.sum(traces**2)}

    found = ox.rtm(F, traces, VP, imaging=imaging, progress=False)
    assert difference(found["image"], image(F, traces)) < ROUNDING
    assert int(found["shots"]) == sum(range(1, 1 + len(COUNTS)))
    assert abs(float(found["energy"]) / float(jnp.sum(traces**2)) - 1.0) < ROUNDING
    with pytest.raises(ValueError, match="imaging='deconvolution'"):
        ox.rtm(F, traces, VP, imaging="deconvolution")


def test_images_of_short_numbers_are_sums():
    F = propagator()
    traces = np.zeros(F.survey.trace_shape(len(COUNTS)), np.float32)

    def imaging(J: Any, traces: jax.Array) -> Any:
        return {
            "fold": jnp.arange(3) < J.shots[0],
            "int8": jnp.full(2, -100, jnp.int8),
            "uint8": jnp.full(2, 200, jnp.uint8),
            "int16": jnp.full(2, 30_000, jnp.int16),
            "float16": jnp.full(2, 60_000, jnp.float16),
        }

    found = ox.rtm(F, traces, VP, imaging=imaging, progress=False)
    assert found["fold"].tolist() == [4, 3, 2]
    each = {"int8": -100, "uint8": 200, "int16": 30_000, "float16": jnp.float16(60_000)}
    for name, value in each.items():
        assert found[name].tolist() == [5 * float(value)] * 2
    with pytest.raises(OverflowError, match="from 0 to 5000000000, which int32 cannot hold"):
        ox.rtm(
            F,
            traces,
            VP,
            imaging=lambda J, traces: jnp.array([0, 1_000_000_000]),
            progress=False,
        )


def test_the_illumination_is_the_diagonal_of_the_hessian():
    """Of many shots that are alike, whose random vectors are not. The estimate of entry i has the
    variance of the sum over shots of `H_ij v_i v_j`, j other than i: five standard deviations."""
    F, vp = tiny()
    shots, power = 20, 3
    survey = ox.Survey(
        np.tile(F.survey.sources, (shots, 1, 1)),
        F.survey.receivers[0],
        F.survey.wavelet[0],
        F.survey.dt,
    )
    many = F.with_survey(survey)
    J = np.asarray(F.jacobian(vp).as_matrix(), np.float64)
    H = J.T @ J
    zeros = np.zeros(survey.trace_shape(shots), np.float32)
    task = Imaged(many, vp, zeros, Illuminated(power))
    estimate = sum(found[1].astype(np.float64) for found in task(tuple(range(shots))))
    deviation = np.sqrt(shots * (np.sum(H**2, 1) - np.diag(H) ** 2))
    assert np.all(np.abs(4.0**power * estimate - shots * np.diag(H)) < 5.0 * deviation)
    assert np.median(deviation / (shots * np.diag(H))) < 1.0  # which says something

    traces = np.tile(np.asarray(F(vp)), (shots, 1, 1))
    plain = ox.rtm(many, traces, vp, progress=False)
    balanced = ox.rtm(many, traces, vp, imaging="illumination", progress=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.asarray(balanced / plain)
    assert np.all(factor[np.abs(np.asarray(plain)) > 0] > 0)


# ---------------------------------------------------------------- kills and memory


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_streaming import VP, Modelled, ox, propagator, targets
target = targets.KINDS[".{kind}"]
real = target.write, Modelled.__call__
def write(self, shot, gather):
    if shot == 3 and {kill}:
        os.kill(os.getpid(), signal.SIGKILL)
    real[0](self, shot, gather)
def model(self, shots):
    print(*shots, end=" ")
    return real[1](self, shots)
target.write, Modelled.__call__ = write, model
ox.model(propagator(threads=1), VP, {path!r}, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_costs_no_shot(kind: str, tmp_path: Path):
    """Fingerprints are those of unchecked functions: both calls are made in fresh processes."""
    F, path = propagator(threads=1), tmp_path / f"shots.{kind}"
    ends, said = [], ""
    for kill in (True, False):
        given = {"tests": os.path.dirname(__file__), "kind": kind, "path": str(path), "kill": kill}
        done = subprocess.run(
            [sys.executable, "-c", KILLED.format(**given)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        ends.append(done.returncode)
        said = done.stdout
        assert path.exists() is not kill, done.stderr
    assert ends == [-signal.SIGKILL, 0]
    assert said.split() == ["3", "4"]
    assert all(difference(a, b) < ROUNDING for a, b in zip(read(path), F.survey.gathers(F(VP))))


PEAK = """
import resource, sys
import numpy as np, jax.numpy as jnp
import ondax as ox
grid = ox.Grid((60, 40), 10.0)
def F(shots):
    receivers = ox.line((0.0, 50.0), (590.0, 50.0), 60)
    sources = np.tile([[300.0, 40.0]], (shots, 1))
    survey = ox.Survey(sources, receivers, ox.ricker(12.0, 400, 2e-3), 2e-3)
    return ox.Propagator(ox.Acoustic(4), grid, survey, 2600.0, settings=ox.Settings(threads=2))
vp = jnp.full(grid.shape, 2000.0)
for shots in (8, 400):
    path = ox.model(F(shots), vp, f"{shots}.{sys.argv[1]}", progress=False)
    ox.rtm(F(shots), path, vp, progress=False)
    print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_the_survey(kind: str, tmp_path: Path):
    """392 shots more have 38 MB of traces, and 860 MB of histories."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, kind],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
        cwd=tmp_path,
    )
    few, many = map(int, done.stdout.split())
    assert many - few < 12_000_000


@pytest.mark.slow
def test_the_page_on_streaming_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = Path(__file__).parents[1] / "docs" / "streaming.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["image"].shape == names["balanced"].shape == names["found"]["fold"].shape
    assert int(jnp.max(names["found"]["fold"])) > 1  # of eight shots
    # Below the surface, the image is strongest at the step of the model.
    depths = np.abs(np.asarray(names["balanced"]))[20:80, 15:].mean(0)
    assert abs(15 + int(np.argmax(depths)) - 35) <= 4


LARGE = """
import os, sys
import numpy as np, jax, jax.numpy as jnp
import ondax as ox
from ondax.io.headers import TRACE_HEADER_BYTES, WRITTEN, trace_words
from ondax.io.write import Made
SHOTS, NT, DT = 10_000, 16, 0.008
grid = ox.Grid((120, 40), 10.0)
if sys.argv[1] == "write":
    counts = np.random.default_rng(0).integers(990, 1011, SHOTS)
    most = np.stack([np.linspace(0.0, 1190.0, 1010), np.full(1010, 20.0)], -1)
    made = Made.of(ox.Survey([[600.0, 10.0]], most, np.zeros(NT), DT), "ieee")
    rows = made.rows(0, np.zeros((1010, NT), np.float32), 0)
    head = rows[:, :TRACE_HEADER_BYTES].copy().view(trace_words(">", WRITTEN))[:, 0]
    with open("large.segy", "wb") as file:
        file.write(made.head())
        for n, x in enumerate(np.linspace(20.0, 1170.0, SHOTS)):
            head["source_x"], head["field_record"] = round(1000 * x), n + 1
            rows[:, :TRACE_HEADER_BYTES] = head.view(np.uint8).reshape(1010, -1)
            file.write(rows[: counts[n]].tobytes())
    ox.io.scan("large.segy").save("large.npz")
    sys.exit()
line = ox.io.load("large.npz")
assert len(line) == SHOTS and 990 <= line.counts.min() < line.counts.max() <= 1010
survey = line.survey(ox.ricker(12.0, 40, DT))
F = ox.Propagator(ox.Acoustic(4), grid, survey, 2600.0, settings=ox.Settings(threads=2))
objective = ox.Objective(F, line)
batch = np.random.default_rng(1).choice(SHOTS, 100, replace=False)
value = jax.value_and_grad(lambda m: objective(m, shots=batch))
jax.block_until_ready(value(jnp.full(grid.shape, 2000.0)))
[peak] = [row.split()[1] for row in open("/proc/self/status") if row.startswith("VmHWM")]
print(1024 * int(peak))
"""


@pytest.mark.slow
def test_a_minibatch_of_ten_thousand_shots(tmp_path: Path):
    """600 MB for all of the process: libraries take 190, positions of ten million receivers 160."""
    for what in ("write", "run"):
        done = subprocess.run(
            [sys.executable, "-c", LARGE, what],
            capture_output=True,
            text=True,
            timeout=900,
            check=True,
            cwd=tmp_path,
        )
    (tmp_path / "large.segy").unlink()
    assert int(done.stdout) <= 600_000_000
