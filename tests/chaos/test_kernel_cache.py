"""Damage to compiled kernels on disk, and to what compiles them: the right kernel comes all the
same, or one clear line."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from slow import slow, slow_but
from systems import ORDER, Rig, float64_everywhere, mass_form

from ondax.backends.devito import build as building
from ondax.backends.devito import kernel_cache
from ondax.backends.devito.compiler import CompilerError
from ondax.backends.devito.kernel import Kernel
from ondax.backends.devito.kernel_cache import KernelCacheWarning
from ondax.backends.devito.kernels import Kernels
from ondax.backends.devito.plans import Planned
from ondax.calculus.program import Program
from ondax.scheme.symbols import Symbols

TESTS = Path(__file__).parents[1]
AS_ROOT = os.geteuid() == 0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own, and no warning remembered from another."""
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path / "cache"))
    kernel_cache.temporary.cache_clear()
    return tmp_path / "cache"


def kernel() -> Kernel:
    """The smallest there is, by a process that knows none."""
    program = Program(mass_form(Symbols(1, ORDER, "float64")))
    return Kernels(Planned.of(program)).forward(None, parallel=False)


def traces() -> np.ndarray:
    """Of a run with that kernel."""
    with float64_everywhere():
        return Rig(mass_form(Symbols(1, ORDER, "float64"))).forward(keep=False)


def entry(cache: Path) -> Path:
    (found,) = cache.iterdir()
    return found


def put(path: Path, content: bytes) -> None:
    """As another file of that name: what is mapped into this process must not be cut under its
    feet."""
    path.unlink()
    path.write_bytes(content)


def first_half(path: Path) -> None:
    content = path.read_bytes()
    put(path, content[: len(content) // 2])


def flip(path: Path, at: float) -> None:
    """One bit, at a part of the file's length."""
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 4
    put(path, bytes(content))


def rewrite(path: Path, change: Callable[[dict], None], seal: bool) -> None:
    """Changes the description; with `seal` as one who knows how it is sealed, as another version of
    ondax would."""
    described = json.loads(path.read_text())
    described.pop("digest")
    change(described)
    digest = kernel_cache._digest(kernel_cache._canonical(described)) if seal else "0"
    path.write_text(json.dumps({**described, "digest": digest}))


def into_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("not a folder")


def into_a_dangling_link(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.symlink_to(entry.parent / "nowhere")


def into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("in the way")


SO, JSON, C = "kernel.so", "kernel.json", "kernel.c"

DAMAGE = {
    "library missing": lambda e: (e / SO).unlink(),
    "library empty": lambda e: put(e / SO, b""),
    "library zeroed": lambda e: put(e / SO, bytes((e / SO).stat().st_size)),
    "library cut in half": lambda e: first_half(e / SO),
    "library cut to a page": lambda e: put(e / SO, (e / SO).read_bytes()[:4096]),
    "library cut by its last bytes": lambda e: put(e / SO, (e / SO).read_bytes()[:-1000]),
    "library lengthened": lambda e: put(e / SO, (e / SO).read_bytes() + b"\n"),
    "library is text": lambda e: put(e / SO, b"gone"),
    "library is a folder": lambda e: into_a_folder(e / SO),
    "library is a dangling link": lambda e: ((e / SO).unlink(), (e / SO).symlink_to("nowhere")),
    **{
        f"library with a bit flipped at {at:.0%}": (lambda e, at=at: flip(e / SO, at))
        for at in np.linspace(0, 1, 9)
    },
    "description missing": lambda e: (e / JSON).unlink(),
    "description empty": lambda e: (e / JSON).write_text(""),
    "description cut in half": lambda e: first_half(e / JSON),
    "description zeroed": lambda e: (e / JSON).write_bytes(bytes(200)),
    "description not in UTF-8": lambda e: (e / JSON).write_bytes(b"\xff\xfe{}"),
    "description a list": lambda e: (e / JSON).write_text("[1, 2]"),
    "description a number": lambda e: (e / JSON).write_text("3"),
    "description without a digest": lambda e: (e / JSON).write_text('{"content": {}}'),
    "description of former versions": lambda e: (e / JSON).write_text(
        '{"arguments": [], "dtype": "float64"}'
    ),
    **{
        f"description with a bit flipped at {at:.0%}": (lambda e, at=at: flip(e / JSON, at))
        for at in np.linspace(0, 1, 5)
    },
    "arguments in another order": lambda e: rewrite(
        e / JSON, lambda d: d["content"]["arguments"].reverse(), False
    ),
    "an argument missing": lambda e: rewrite(
        e / JSON, lambda d: d["content"]["arguments"].pop(), False
    ),
    "another precision": lambda e: rewrite(
        e / JSON, lambda d: d["content"].update(dtype="float32"), False
    ),
    "of another kernel": lambda e: rewrite(e / JSON, lambda d: d.update(key="0" * 32), True),
    "another library's digest": lambda e: rewrite(
        e / JSON, lambda d: d["files"].update({SO: "0" * 64}), True
    ),
    "source missing": lambda e: (e / C).unlink(),
    "source changed": lambda e: (e / C).write_text("int kernel(void) { return 0; }"),
    "emptied": lambda e: [p.unlink() for p in e.iterdir()],
    "entry is a file": into_a_file,
    "entry is a dangling link": into_a_dangling_link,
    "entry cannot be read": lambda e: e.chmod(0),
}


IN_THE_GATE = (
    "library missing",
    "library cut in half",
    f"library with a bit flipped at {0.5:.0%}",
    "description missing",
    "arguments in another order",
    "entry is a file",
)


@pytest.mark.parametrize("damage", slow_but(DAMAGE, *IN_THE_GATE))
def test_a_damaged_kernel_is_built_again(damage: str, cache: Path):
    """With one line of warning, once; the same bits come."""
    if AS_ROOT and damage == "entry cannot be read":
        pytest.skip("nothing is closed to root")
    right = traces()
    before = entry(cache)
    DAMAGE[damage](before)
    with pytest.warns(
        KernelCacheWarning, match=rf"{before} is damaged and is built again: \S+"
    ) as seen:
        again = traces()
    assert len(seen) == 1
    assert "\n" not in str(seen[0].message)
    np.testing.assert_array_equal(again, right)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(traces(), right)
    assert entry(cache) == before  # nothing else is left


def test_an_entry_that_is_gone_is_no_damage(cache: Path):
    kernel()
    shutil.rmtree(entry(cache))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel()
    shutil.rmtree(cache)
    kernel()


def test_the_folder_may_vanish_while_a_kernel_is_built(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    compile_it = building.Toolchain.compile
    left = [2]

    def compile_and_lose(self, folder: Path, openmp: bool) -> None:
        if left[0]:
            left[0] -= 1
            shutil.rmtree(cache)
        compile_it(self, folder, openmp)

    monkeypatch.setattr(building.Toolchain, "compile", compile_and_lose)
    kernel()
    assert entry(cache).is_dir()


# ---------------------------------------------------------------- the folder


def _owned_by_another(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    if not AS_ROOT:
        pytest.skip("only root can give a folder away")
    os.chown(folder, 65534, 65534)


FOLDERS = {
    "others may write": (
        lambda f: (f.mkdir(), f.chmod(0o777)),
        r"others may write to .*chmod go-w",
    ),
    "the group may write": (
        lambda f: (f.mkdir(), f.chmod(0o775)),
        r"others may write to .*chmod go-w",
    ),
    "belongs to another": (_owned_by_another, "belongs to another user"),
    "is a file": (lambda f: f.write_text(""), "cannot be made: "),
    "is a dangling link": (lambda f: f.symlink_to(f.parent / "no" / "where"), "cannot be made: "),
    "below a file": (lambda f: f.parent.joinpath("cache").write_text(""), "cannot be made: "),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_not_trusted_is_not_used(
    case: str, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    """A private one is, with a warning that says why and what to set; what lies in the other is not
    run."""
    prepare, why = FOLDERS[case]
    prepare(cache)
    if case == "below a file":
        monkeypatch.setenv("ONDAX_CACHE_DIR", str(cache / "deeper"))
    with pytest.warns(
        KernelCacheWarning, match=f"kept for this process only: .*{why}.*Set ONDAX_CACHE_DIR"
    ) as seen:
        assert kernel().signature.arguments
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once a process is enough
        kernel()
    if cache.is_dir():
        assert list(cache.iterdir()) == []


NOWHERE = {
    "HOME is empty": {"HOME": "", "XDG_CACHE_HOME": None},
    "HOME does not exist": {"HOME": "/nonexistent", "XDG_CACHE_HOME": None},
    "cache home is no place for files": {"XDG_CACHE_HOME": "/proc"},
    "nobody's home": {"ONDAX_CACHE_DIR": "~no-such-user/kernels"},
}


@pytest.mark.parametrize("case", NOWHERE)
def test_there_is_always_a_folder(case: str, monkeypatch: pytest.MonkeyPatch):
    if AS_ROOT and case in ("HOME does not exist", "HOME is empty"):
        monkeypatch.setattr(
            Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory"))
        )
    monkeypatch.delenv("ONDAX_CACHE_DIR")
    for name, value in NOWHERE[case].items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(
            name, value
        )
    with pytest.warns(KernelCacheWarning, match="Set ONDAX_CACHE_DIR to a folder of yours"):
        kernel()


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_what_is_made_is_ours_alone(mask: int, cache: Path):
    before = os.umask(mask)
    try:
        kernel()
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.stat().st_mode) & 0o022 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel()


@pytest.mark.parametrize(
    "name",
    slow_but(
        ["with space", "ünï-cödé", "quo'te\"s", "$(touch x)", "new\nline", "-dash", "a;b&c"],
        "quo'te\"s",
        "$(touch x)",
    ),
)
def test_any_name_will_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path / name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel()
    assert entry(tmp_path / name).is_dir()
    assert not Path("x").exists()


def test_a_full_disk_costs_no_kernel(cache: Path, monkeypatch: pytest.MonkeyPatch):
    publish = kernel_cache._publish

    def full(work: Path, where: Path, content: object, files: object) -> None:
        if where.parent == cache:
            raise OSError(28, "No space left on device")
        publish(work, where, content, files)

    monkeypatch.setattr(kernel_cache, "_publish", full)
    with pytest.warns(
        KernelCacheWarning, match="cannot be written to: No space left.*Set ONDAX_CACHE_DIR"
    ):
        kernel()
    assert list(cache.iterdir()) == []


def test_litter_is_swept(cache: Path):
    old, new = cache / "building-old", cache / "building-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "kernel.c").write_text("")
    cache.chmod(0o700)
    os.utime(old, (0, time.time() - 2 * kernel_cache.LITTER_SECONDS))
    kernel()
    assert not old.exists()
    assert new.exists()


# ---------------------------------------------------------------- the compiler


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


WORKING = {
    "a launcher before it": lambda folder: script(folder / "ccache", 'exec "$@"') + " gcc",
    "a flag behind it": lambda _: "gcc -pthread",
    "a space before it": lambda _: " gcc",
    "relative to this folder": lambda folder: os.path.relpath(
        script(folder / "mycc", 'exec gcc "$@"')
    ),
    "noisy": lambda folder: script(
        folder / "noisy", 'echo warning >&2; printf "\\351" >&2; exec gcc "$@"'
    ),
}


@pytest.mark.parametrize("case", WORKING)
def test_compilers_that_work(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CC", WORKING[case](tmp_path))
    kernel()


FAILING = {
    "not there": ("/nonexistent/gcc-99", r"no C compiler found.*/nonexistent/gcc-99.*set CC"),
    "not to be executed": ("/etc/passwd", "no C compiler found"),
    "no compiler": ("/bin/true", r"/bin/true .*ended well but made no kernel.so"),
    "an unclosed quote": ("'gcc", r"CC cannot be read \(No closing quotation\)"),
    "speaks Latin-1": ('printf "erreur \\351\\n" >&2; exit 1', "failed with status 1:\nerreur"),
    "crashes": ("kill -SEGV $$", "failed with status -11"),
    "writes half a library": (
        'gcc "$@" || exit 1; for f in kernel.so; do [ -f $f ] && truncate -s 4200 $f; done; exit 0',
        "made a kernel that cannot be loaded: kernel.so is shorter than its own header says",
    ),
    "writes no library": (
        'gcc "$@" && { [ -f kernel.so ] && echo text > kernel.so; exit 0; }',
        "cannot be loaded",
    ),
    "takes for ever": ("sleep 600 & wait", r"was stopped after 0.5 s.*ONDAX_COMPILER_SECONDS"),
}


@pytest.mark.parametrize("case", FAILING)
def test_compilers_that_do_not(
    case: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One error, soon, that names what was run; nothing is kept, and a compiler that works is asked
    again."""
    command, said = FAILING[case]
    is_script = case in ("speaks Latin-1", "crashes", "takes for ever") or case.startswith("writes")
    monkeypatch.setenv("CC", script(tmp_path / "badcc", command) if is_script else command)
    if case == "takes for ever":
        monkeypatch.setenv("ONDAX_COMPILER_SECONDS", "0.5")
    begin = time.monotonic()
    with pytest.raises(CompilerError, match=f"(?s){said}"):
        kernel()
    assert time.monotonic() - begin < 60
    assert not cache.exists() or list(cache.iterdir()) == []
    monkeypatch.delenv("CC")
    kernel()


def test_flags_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONDAX_CFLAGS", "-O2 '")
    with pytest.raises(CompilerError, match="ONDAX_CFLAGS cannot be read"):
        kernel()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_time_for_compilers_that_is_none(seconds: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONDAX_COMPILER_SECONDS", seconds)
    with pytest.raises(CompilerError, match=f"ONDAX_COMPILER_SECONDS={seconds}: give a number of"):
        kernel()


def test_compilers_may_take_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONDAX_COMPILER_SECONDS", "inf")
    kernel()


def test_a_stopped_compiler_takes_its_children_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(
        "CC", script(tmp_path / "slow", f"sleep 600 & echo $! > {tmp_path}/pid; wait")
    )
    monkeypatch.setenv("ONDAX_COMPILER_SECONDS", "0.5")
    with pytest.raises(CompilerError):
        kernel()
    child = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    deadline = time.monotonic() + 10.0
    while (
        child.exists() and child.read_text().split()[2] != "Z"
    ):  # a zombie waits for the init process only
        assert time.monotonic() < deadline
        time.sleep(0.05)


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("wanted", ["2 AcousticDensity", slow("2"), slow("3")])
def test_every_process_has_the_same_keys(wanted: str):
    """Python's sets come in another order in every process: no kernel's key may follow it."""
    command = [sys.executable, str(TESTS / "kernel_keys.py"), *wanted.split()]
    started = [
        subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=-1, text=True)
        for seed in ("1", "2")
    ]
    first, second = (process.communicate()[0] for process in started)
    assert first == second
    assert len(first.split("\n")) > 3


DEVITO = (
    "DEVITO_OPT=noop",
    "DEVITO_ARCH=nvc",
    "DEVITO_MPI=1",
    "DEVITO_PLATFORM=nvidiaX",
    "DEVITO_LANGUAGE=cuda",
    "DEVITO_LOGGING=NONE",
    "DEVITO_CONFIG=file",
    "DEVITO_SAFE_MATH=1",
    "DEVITO_DEVELOP=1",
)

RUN = """
import sys; sys.path.insert(0, {tests!r})
{before}
import numpy as np
from systems import ORDER, Rig, float64_everywhere, mass_form
from ondax.scheme import Symbols
with float64_everywhere():
    print(Rig(mass_form(Symbols(1, ORDER, "float64"))).forward(keep=False).tobytes().hex())
"""


def in_a_process(before: str = "", **environment: str) -> str:
    code = textwrap.dedent(RUN).format(tests=str(TESTS), before=before)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.slow
def test_devito_in_the_environment_changes_nothing(cache: Path):
    right = in_a_process()
    name, source = entry(cache).name, (entry(cache) / C).read_text()
    shutil.rmtree(cache)
    assert in_a_process(**dict(setting.split("=") for setting in DEVITO)) == right
    assert (entry(cache).name, (entry(cache) / C).read_text()) == (name, source)


def test_devito_set_by_a_program_changes_nothing(cache: Path):
    """And the program keeps what it has set."""
    right = in_a_process()
    source = (entry(cache) / C).read_text()
    shutil.rmtree(cache)
    theirs = "import atexit, devito; devito.configuration['opt'] = 'noop'"
    option = "devito.configuration['opt-options']['x'] = 1"
    kept = "atexit.register(lambda: print(devito.configuration['opt']))"
    assert in_a_process(f"{theirs}; {option}; {kept}") == f"{right}noop\n"
    assert (entry(cache) / C).read_text() == source


# ---------------------------------------------------------------- kill -9


@pytest.mark.slow
def test_builds_that_are_killed(cache: Path):
    """At twenty random moments; the next start has the right bits."""
    right = in_a_process()
    rng = np.random.default_rng(0)
    for moment in rng.uniform(0.5, 4.0, 20):
        shutil.rmtree(cache, ignore_errors=True)
        code = textwrap.dedent(RUN).format(tests=str(TESTS), before="")
        process = subprocess.Popen([sys.executable, "-c", code], stdout=-1, start_new_session=True)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert in_a_process() == right
