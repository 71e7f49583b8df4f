"""Plans: what runs need to know of a scheme is kept beside its kernels. A warm process derives
nothing, and never takes what was kept of another equation."""

import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from registry import EQUATIONS

import ondax as ox
from ondax.backends.devito import compiler, kernel_cache, plans
from ondax.backends.devito.kernels import Kernels
from ondax.backends.devito.plans import Planned
from ondax.face import reached
from ondax.scheme.plan import Plan

SPONGE = ox.Sponge(6)
RUN = """
    import sys
    import jax
    import jax.numpy as jnp
    import numpy as np
    import ondax as ox

    equation, given, out = ox.{name}({settings}), {model}, sys.argv[1]
    grid = ox.Grid((15, 13), 10.0)
    survey = ox.Survey([[50.0, 40.0]], [[90.0, 60.0]], ox.ricker(25.0, 125, 1e-3), 1e-3)
    F = ox.Propagator(equation, grid, survey, 2600.0, boundary={boundary},
        min_points_per_wavelength=0.0)
    model = {{n: jnp.full(grid.shape, v) for n, v in given.items()}}
    model = model if len(model) > 1 else next(iter(model.values()))
    with jax.enable_x64(False):
        value, slopes = jax.value_and_grad(lambda m: jnp.sum(F(m) ** 2))(model)
        born = F.jacobian(model).mv(model)
    np.savez(out, *map(np.asarray, [value, *jax.tree.leaves(slopes), born]))
    print(*sorted({{m.split(".")[0] for m in sys.modules}} & {{"devito", "sympy"}}))
"""


def said(program: str, *arguments: str) -> list[str]:
    """The words that a new process prints."""
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("name", "boundary"),
    [
        ("Acoustic", "ox.CPML(5)"),
        *(
            pytest.param(name, boundary, marks=pytest.mark.slow)
            for name in EQUATIONS
            for boundary in ("None", "ox.Faces(ox.Sponge(5), top=ox.FreeSurface())")
        ),
    ],
)
def test_a_warm_process_imports_neither_devito_nor_sympy(
    name: str, boundary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ONDAX_CFLAGS", "-O0")
    model = {n: np.mean(r) for n, r in EQUATIONS[name].ranges.items()}
    settings = "frequency=15.0" if name == "Viscoacoustic" else ""
    run = RUN.format(name=name, model=model, boundary=boundary, settings=settings)
    cold, warm = tmp_path / "cold.npz", tmp_path / "warm.npz"
    assert said(run, str(cold)) == ["devito", "sympy"]
    assert said(run, str(warm)) == []
    with np.load(cold) as first, np.load(warm) as second:
        for key in first:
            assert first[key].tobytes() == second[key].tobytes()


# ---------------------------------------------------------------- what an equation reaches

BODY = """
    import os
    import math
    import dataclasses
    import numpy as np
    import ondax as ox
    import helpers
    from helpers import halved

    FACTOR = 2.0
    TABLE = {"a": (1, 2.0), "b": np.arange(3.0)}


    @dataclasses.dataclass(frozen=True)
    class Medium:
        loss: float = 0.0

        def rate(self):
            return 3.0 * self.loss


    class Base(ox.AbstractWaveEquation):
        parameter_names = ("vp",)
        space_order: int = 4
        medium: Medium = Medium()

        def scale(self):
            return 5.0

        def unused(self):
            return 6.0

        def coefficients(self, parameters):
            return {"m": 7.0 / parameters["vp"] ** 2}

        def speeds(self, parameters):
            return parameters["vp"].min(), parameters["vp"].max()


    def made(closed):
        class Own(Base):
            def system(self, symbols, boundary, least=8.0):
                number = FACTOR * closed + self.scale() + halved(9.0) + helpers.doubled(10.0)
                number += self.medium.rate() + TABLE["a"][0] + math.pi + EXTRA
                u, m = symbols.field("u"), symbols.coefficient("m")
                mass = m / symbols.dt**2
                rhs = number * u.laplace + mass * (2 * u - u.backward)
                port = ox.Port("p", ((u, 1.0),))
                return ox.System(symbols, (m,), (ox.Update(u, mass, rhs),), (port,), (port,))

        return Own


    Own = made(11.0)
"""
HELPERS = """
    TWO = 2.0

    def halved(x):
        return x / TWO

    def doubled(x):
        return inner(x)

    def inner(x):
        return 2.0 * x

    def other(x):
        return x
"""


def module(name: str, text: str, **known: Any) -> types.ModuleType:
    """A module without a file, as in a REPL."""
    made = types.ModuleType(name)
    made.__dict__.update(known)
    sys.modules[name] = made
    exec(textwrap.dedent(text), made.__dict__)
    return made


@pytest.fixture(autouse=True)
def no_modules_stay() -> Any:
    """Those of the tests are forgotten."""
    yield
    for name in ("user", "helpers"):
        sys.modules.pop(name, None)


def content(
    old: str = "", new: str = "", of_helpers: bool = False, boundary: Any = SPONGE, **fields: Any
) -> str | None:
    """The content of the equation above, in which a piece of text is replaced by another."""
    if old:
        assert old in (HELPERS if of_helpers else BODY)
    module("helpers", HELPERS.replace(old, new) if of_helpers and old else HELPERS)
    body = BODY if of_helpers or not old else BODY.replace(old, new)
    user = module("user", body, EXTRA=0.0)
    return reached.content_now(user.Own(**fields), boundary)


def test_content_is_the_same_for_the_same_equation():
    first = content()
    assert first is not None
    assert content() == first
    # What `system` does not reach does not count: the speeds, the coefficients, other helpers.
    assert content("6.0", "6.5") == first
    assert content("7.0 / para", "7.5 / para") == first
    assert content("return x\n", "return -x\n", of_helpers=True) == first


@pytest.mark.parametrize(
    "change",
    [
        ("FACTOR = 2.0", "FACTOR = 2.5"),
        ("return 5.0", "return 5.5"),
        ("3.0 * self.loss", "3.5 * self.loss"),
        ("loss: float = 0.0", "loss: float = 0.5"),
        ("(1, 2.0)", "(1, 2.5)"),
        ("np.arange(3.0)", "np.arange(4.0)"),
        ("least=8.0", "least=8.5"),
        ("halved(9.0)", "halved(9.5)"),
        ("made(11.0)", "made(11.5)"),
        ("+ math.pi", "- math.pi"),
        ("2 * u - u.backward", "2 * u + u.backward"),
        ("class Own(Base):", "class Own(Base):\n            scale = lambda self: 4.0\n"),
    ],
    ids=lambda change: change[1].split("\n")[0],
)
def test_content_changes_with_all_that_system_reaches(change: tuple[str, str]):
    assert content(*change) not in (None, content())


@pytest.mark.parametrize("change", [("TWO = 2.0", "TWO = 3.0"), ("2.0 * x", "2.5 * x")])
def test_content_changes_with_helpers_in_other_modules(change: tuple[str, str]):
    assert content(*change, of_helpers=True) not in (None, content())


def test_content_changes_with_settings_and_boundary():
    known = {content(), content(space_order=8), content(boundary=ox.CPML(6))}
    assert None not in known
    assert len(known) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR * closed", "float(os.environ.get('FACTOR', 1.0)) * closed"),
        ("FACTOR * closed", "float(open('factor').read()) * closed"),
        ("FACTOR * closed", "getattr(self, 'fac' + 'tor') * closed"),
        ("FACTOR * closed", "eval('FACTOR') * closed"),
        ("FACTOR * closed", "float(np.loadtxt('factor')) * closed"),
        ("FACTOR * closed", "globals()['FACTOR'] * closed"),
        ("FACTOR * closed", "__import__('random').random() * closed"),
        ("FACTOR = 2.0", "FACTOR = type('Number', (), {'__mul__': lambda s, o: 2.0 * o})()"),
        ("number = FACTOR", "import random\n                number = FACTOR"),
        ("def scale", "def __getattr__(self, name):\n            return 1.0\n\n        def scale"),
    ],
    ids=lambda text: text[:40],
)
def test_what_cannot_be_followed_is_not_known(old: str, new: str):
    assert content() is not None
    assert content(old, new) is None


def test_plans_of_equations_of_users_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What they reach cannot be followed for certain; nor what a layer of theirs does."""
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path))
    module("helpers", HELPERS)
    user = module("user", BODY, EXTRA=0.0)
    from ondax.face import schemes

    ports = (1, "float32", ("p",), ("p",), False, False, frozenset())
    planned = schemes.program(user.Own(), SPONGE, *ports)
    assert isinstance(planned.plan, Plan)
    assert planned.transposed.fields
    assert not list(tmp_path.iterdir())

    class Layer(type(SPONGE)):
        pass

    assert schemes._is_ours(ox.Acoustic(4))
    assert schemes._is_ours(ox.Faces(SPONGE, top=ox.FreeSurface()))
    assert not schemes._is_ours(ox.Faces(SPONGE, top=Layer(6)))


# ---------------------------------------------------------------- on disk


def small(content: str | None = "small") -> Planned:
    """A program, and a text that stands for all it depends on."""

    def derive() -> Any:
        from ondax.calculus.program import Program
        from ondax.scheme.symbols import Symbols

        return Program(ox.Acoustic(2).system(Symbols(1, 2, np.float64), SPONGE))

    return Planned(derive, lambda: content)


def refuse() -> Any:
    raise AssertionError("a warm process must not derive")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ONDAX_CFLAGS", "-O0")
    return tmp_path / "cache"


def test_kernels_are_found_by_their_plans(cache: Path):
    Kernels(small()).forward(None, parallel=False)
    kernels = Kernels(Planned(refuse, lambda: "small"))
    assert kernels.forward(None, parallel=False).signature.dtype == "float64"
    with pytest.raises(AssertionError, match="must not derive"):
        Kernels(Planned(refuse, lambda: "other")).forward(None, parallel=False)
    with pytest.raises(AssertionError, match="must not derive"):
        Kernels(Planned(refuse, lambda: None)).forward(None, parallel=False)


def test_a_kernel_that_is_gone_is_built_again(cache: Path):
    Kernels(small()).forward(None, parallel=False)
    for entry in cache.iterdir():
        if not entry.name.startswith(plans.PREFIX):
            kernel_cache.put_aside(entry)
    assert Kernels(small()).forward(None, parallel=False) is not None
    Kernels(Planned(refuse, lambda: "small")).forward(None, parallel=False)


def cut(entry: Path) -> None:
    file = entry / kernel_cache.DESCRIPTION
    file.write_bytes(file.read_bytes()[:-9])


def flipped(entry: Path) -> None:
    file = entry / kernel_cache.DESCRIPTION
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def emptied(entry: Path) -> None:
    (entry / kernel_cache.DESCRIPTION).unlink()


@pytest.mark.parametrize("damage", [cut, flipped, emptied])
def test_a_damaged_plan_is_made_again(damage: Callable[[Path], None], cache: Path):
    expected = small().plan
    (entry,) = cache.iterdir()
    damage(entry)
    with pytest.warns(ox.KernelCacheWarning, match="damaged and is made again"):
        again = small().plan
    assert (again.masses, again.fields) == (expected.masses, expected.fields)
    assert Planned(refuse, lambda: "small").plan.fields == expected.fields


def test_without_room_nothing_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel_cache.tempfile, "TemporaryDirectory", full)
    assert small().plan.axes == ("z",)


# ---------------------------------------------------------------- side by side


def test_the_kernels_of_a_gradient_are_built_side_by_side(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    """While the compiler makes the forward kernel, that of the adjoint is derived, and compiled
    too: each call of the compiler here waits for the other one."""
    compile_one = compiler.Toolchain.compile
    started = [Event(), Event()]
    numbers = iter(range(2))

    def compiling(self: Any, folder: Path, openmp: bool) -> None:
        number = next(numbers)
        started[number].set()
        assert started[1 - number].wait(60.0)
        compile_one(self, folder, openmp)

    monkeypatch.setattr(compiler.Toolchain, "compile", compiling)
    from ondax.histories.base import Recording
    from ondax.histories.named import named

    recording = Recording(("m",), named("whole", None))
    kernels = Kernels(small(None))
    kernels.forward(recording, parallel=False)
    assert kernels.adjoint(recording, False, False, parallel=False) is not None
