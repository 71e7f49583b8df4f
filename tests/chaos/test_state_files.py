"""Damage to saved inversions, to the disk they are on and to the terminal: an error with file and
remedy, or no loss at all."""

import io
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ondax as ox
from ondax.inversion import state

N, SHOTS = 5, 3
OPERATOR = jnp.asarray(np.random.default_rng(0).normal(size=(SHOTS, 2, 4, N)), jnp.float32)
START, TRUE = jnp.full(N, 1.5), jnp.linspace(1.0, 2.0, N)


def toy(model, shots=None):
    """Traces, without a wave."""
    return jnp.einsum("srtn,n->srt", OPERATOR if shots is None else OPERATOR[shots], model)


def invert(path: Path | None = None, iterations: int = 4, **setting: object) -> ox.FWIResult:
    given = {"optimizer": optax.adam(0.05), "progress": False} | setting
    return ox.fwi(toy, toy(TRUE), START, iterations=iterations, save=path, **given)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    invert(tmp_path / "state.npz", 2)
    return tmp_path / "state.npz"


def parts(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def rewritten(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        arrays = parts(path)
        change(arrays)
        np.savez(path, **arrays)

    return damage


def header(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def with_arrays(arrays: dict) -> None:
        content = json.loads(str(arrays["header"]))
        change(content)
        arrays["header"] = np.array(json.dumps(content))

    return rewritten(with_arrays)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def pickled(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", _array_of_objects())


def _array_of_objects() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": print}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


DAMAGE = {
    **{
        f"cut to {share:.0%}": (lambda p, s=share: cut(p, s))
        for share in (0.0, 0.01, 0.3, 0.6, 0.9, 0.99)
    },
    "zeroed": lambda p: p.write_bytes(bytes(p.stat().st_size)),
    "text": lambda p: p.write_text("hello"),
    "a pickle": lambda p: p.write_bytes(pickle.dumps({"header": 1})),
    "objects inside": pickled,
    "one array": lambda p: np.save(p.open("wb"), np.ones(3)),
    "another archive": lambda p: np.savez(p.open("wb"), a=np.ones(3)),
    "header missing": rewritten(lambda a: a.pop("header")),
    "header no JSON": rewritten(lambda a: a.update(header=np.array("{"))),
    "header a list": rewritten(lambda a: a.update(header=np.array("[]"))),
    "header a number": rewritten(lambda a: a.update(header=np.array(3))),
    "format missing": header(lambda h: h.pop("format")),
    "another format": header(lambda h: h.update(format=99)),
    "problem missing": header(lambda h: h.pop("problem")),
    "problem a list": header(lambda h: h.update(problem=[1])),
    "problem null": header(lambda h: h.update(problem=None)),
    "model missing": rewritten(lambda a: a.pop("model")),
    "history missing": rewritten(lambda a: a.pop("history")),
    "model of another size": rewritten(lambda a: a.update(model=np.ones(N + 1, np.float32))),
    "model of words": rewritten(lambda a: a.update(model=np.array(["x"] * N))),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_refused_with_file_and_remedy(damage: str, saved: Path):
    DAMAGE[damage](saved)
    content = saved.read_bytes()
    with pytest.raises(
        ValueError, match=r"state\.npz is not a state saved by ox\.fwi.*(Delete it|another path)"
    ) as error:
        invert(saved)
    assert "\n" not in str(error.value)
    assert saved.read_bytes() == content  # it is the user's, whatever it is
    assert os.listdir(saved.parent) == ["state.npz"]


@pytest.mark.slow
def test_every_flipped_byte_is_noticed_or_harmless(saved: Path):
    """Of 200 bytes changed one at a time, none makes another model or an undocumented exception."""
    right = invert(saved, 2)
    whole, random, refused = saved.read_bytes(), np.random.default_rng(1), []
    for at in random.integers(0, len(whole), 200):
        changed = bytearray(whole)
        changed[at] ^= 1 << int(random.integers(8))
        saved.write_bytes(changed)
        try:
            found = invert(saved, 2).model
        except ValueError as error:
            refused.append(str(error))
        else:
            np.testing.assert_array_equal(found, right.model)
    assert len(refused) > 50
    assert all("state.npz" in said for said in refused)


# ---------------------------------------------------------------- disks, links, writers


def full(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The disk is full for so many saves."""
    real, left = state.np.savez, [times]

    def savez(file, **arrays):
        if left[0]:
            left[0] -= 1
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        real(file, **arrays)

    monkeypatch.setattr(state.np, "savez", savez)


@pytest.mark.parametrize("times", [1, 2, 99])
def test_a_full_disk_costs_neither_run_nor_result(
    times: int, saved: Path, monkeypatch: pytest.MonkeyPatch
):
    before = saved.read_bytes()
    full(monkeypatch, times)
    with pytest.warns(
        ox.UnsavedState, match=r"state\.npz could not be saved.*No space left.*Make room"
    ) as seen:
        found = invert(saved, 5)
    assert len(seen) == min(times, 3)
    assert seen[0].filename == __file__
    np.testing.assert_array_equal(found.model, invert(iterations=5).model)
    assert os.listdir(saved.parent) == ["state.npz"]
    if times > 3:
        assert saved.read_bytes() == before


@pytest.mark.parametrize("name", ["state.npz.part", "state.npz.tmp", "state.npz.lock"])
def test_nothing_is_written_through_a_link(name: str, tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).symlink_to(victim)
    try:
        invert(folder / "state.npz", 1)
    except OSError as error:
        assert name in str(error)  # noqa: PT017
    assert victim.read_text() == "precious"


def _write(path: str, ready: object, go: object) -> None:
    def wait(*_: object) -> None:
        ready.set()
        go.wait(60)

    invert(Path(path), 1, callback=wait)


def test_two_writers_are_refused_by_name(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=_write, args=(str(tmp_path / "state.npz"), ready, go))
    other.start()
    assert ready.wait(60)
    with pytest.raises(
        ValueError, match=rf"state\.npz.*process {other.pid} is writing to it.*another path"
    ):
        invert(tmp_path / "state.npz", 3)
    go.set()
    other.join(60)
    (
        tmp_path / "state.npz"
    ).unlink()  # to that process, the misfit was a function of another module
    invert(tmp_path / "state.npz", 3)
    assert os.listdir(tmp_path) == ["state.npz"]


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path):
    """Which would refuse the path after the parent has been killed; nor does it take the lock
    away."""
    path = tmp_path / "state.npz"
    with state.only_writer(path):
        held = set(state._HELD)
        pid = os.fork()
        if pid == 0:
            os._exit(3 if state._HELD else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert held == state._HELD
        assert (tmp_path / "state.npz.lock").exists()
    assert os.listdir(tmp_path) == []


def test_a_lock_that_was_just_removed_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whoever opened the file before it was removed must not lock what has no name any more."""
    beside, opened = tmp_path / "x.lock", []
    real = os.open

    def remove_after(path, *args):
        handle = real(path, *args)
        if not opened:
            os.unlink(path)
        opened.append(handle)
        return handle

    monkeypatch.setattr(state.os, "open", remove_after)
    handle = state._locked(beside)
    assert len(opened) == 2
    assert os.path.samestat(os.fstat(handle), os.stat(beside))
    os.close(handle)


def test_a_lock_left_by_a_killed_writer_means_nothing(tmp_path: Path):
    (tmp_path / "state.npz.lock").write_text("12345\n")
    invert(tmp_path / "state.npz", 1)


def test_the_home_directory_has_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    invert(Path("~/state.npz"), 1)
    assert (tmp_path / "state.npz").exists()


def test_others_may_read_a_state_as_they_may_any_file(saved: Path):
    plain = saved.with_name("plain")
    plain.write_text("")
    assert saved.stat().st_mode == plain.stat().st_mode


# ---------------------------------------------------------------- terminals


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


TERMINALS = {"closed": closed, "a broken pipe": Broken, "none": lambda: None}


@pytest.mark.parametrize("terminal", TERMINALS)
def test_a_lost_terminal_costs_nothing(
    terminal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    right = invert(iterations=3)
    invert(tmp_path / "state.npz", 1)
    for name in ("stderr", "stdout"):
        monkeypatch.setattr(sys, name, TERMINALS[terminal]())
    found = invert(tmp_path / "state.npz", 3, progress=True)
    monkeypatch.undo()
    np.testing.assert_array_equal(found.model, right.model)


# ---------------------------------------------------------------- what belongs to the problem

WAVES = """
import os, signal, sys
import numpy as np, optax, jax.numpy as jnp, ondax as ox
survey = ox.Survey(
    ox.line((50.0, 40.0), (250.0, 40.0), 3),
    ox.line((0.0, 60.0), (300.0, 60.0), 7),
    ox.ricker(12.0, 150, 0.002),
    0.002,
)
def propagator(**settings):
    return ox.Propagator(
        ox.Acoustic(4), ox.Grid((31, 26), 10.0), survey, 2600.0,
        boundary=ox.Sponge(8), settings=ox.Settings(**settings),
    )
F = propagator()
VP = jnp.full((31, 26), 2000.0)
observed = F(VP.at[10:20, 10:16].set(2200.0))
born = F.jacobian(VP).mv(VP.at[10:20, 10:16].set(200.0) - VP)
def fwi(save=None, F=F, **more):
    return ox.fwi(
        F, observed, VP, optimizer=optax.adam(5.0), iterations=6, batch_size=2,
        save=save, progress=False, **more,
    )
def lsrtm(save=None, F=F, **more):
    return ox.lsrtm(F, born, VP, iterations=6, save=save, progress=False, **more)
"""


def test_threads_and_memory_are_not_part_of_the_problem(tmp_path: Path):
    scope: dict = {}
    exec(WAVES, scope)
    path, F = tmp_path / "state.npz", scope["propagator"]

    def stop(iteration: int, model: object, history: object) -> None:
        if iteration == 2:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        scope["fwi"](path, callback=stop)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scope["fwi"](path, F=F(threads=1, memory=10**9))
    with pytest.raises(ValueError, match="differs in propagator"):
        scope["fwi"](path, F=F(store_every=2))


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["fwi", "lsrtm"])
def test_killed_at_twenty_moments_the_bits_are_those_of_an_undisturbed_run(
    loop: str, tmp_path: Path
):
    """`kill -9`, again and again, until the run is through."""
    code = textwrap.dedent(WAVES) + textwrap.dedent(
        f"""
        import time
        result = {loop}(sys.argv[1] or None, callback=lambda *_: time.sleep(0.1))
        found = result.model if "{loop}" == "fwi" else result.image
        print(np.asarray(found).tobytes().hex())
        """
    )

    def start(path: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", code, path], stdout=-1, stderr=-1, text=True)

    right, errors = start("").communicate(timeout=300)
    assert right, errors
    began = time.monotonic()
    start(str(tmp_path / "first.npz")).communicate(timeout=300)
    whole = time.monotonic() - began
    random = np.random.default_rng(0)
    for moment in random.uniform(0.3 * whole, 1.0 * whole, 20):
        process = start(str(tmp_path / "state.npz"))
        try:
            said, errors = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        else:
            assert said == right, errors
            (tmp_path / "state.npz").unlink()  # it was through: once more
    said, errors = start(str(tmp_path / "state.npz")).communicate(timeout=300)
    assert said == right, errors
