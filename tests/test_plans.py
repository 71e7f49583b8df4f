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
from ondax.face.content import content

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


# ---------------------------------------------------------------- equations of users

OWN = """
    import os
    import math
    import dataclasses
    import functools
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

        def coefficients(self, parameters):
            return {"m": 7.0 / parameters["vp"] ** 2}


    def looked_up(equation, name):
        return getattr(equation, "sc" + name)()


    def decorated(method):
        @functools.wraps(method)
        def wrapped(*args):
            return method(*args)

        return wrapped


    def made(closed):
        class Own(Base):
            @decorated
            def system(self, symbols, boundary):
                number = FACTOR * closed + looked_up(self, "ale") + halved(9.0)
                number += helpers.doubled(10.0) + float(os.environ.get("OWN_NUMBER", 1.0))
                number += self.medium.rate() + TABLE["a"][0] + float(TABLE["b"].sum()) + math.pi
                u, m = symbols.field("u"), symbols.coefficient("m")
                update = ox.Update.of(m * u.dt2 - number * u.laplace, u)
                port = ox.Port("p", ((u, 1.0),))
                return ox.System(symbols, (m,), (update,), (port,), (port,))

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
"""


def module(name: str, text: str) -> types.ModuleType:
    """A module without a file, as in a REPL."""
    made = types.ModuleType(name)
    sys.modules[name] = made
    exec(textwrap.dedent(text), made.__dict__)
    return made


@pytest.fixture(autouse=True)
def no_modules_stay() -> Any:
    """Those of the tests are forgotten."""
    yield
    for name in ("user", "helpers"):
        sys.modules.pop(name, None)


def own(old: str = "", new: str = "", **settings: Any) -> ox.AbstractWaveEquation:
    """The equation above, in which a piece of text is replaced by another."""
    assert old in OWN + HELPERS
    module("helpers", HELPERS.replace(old, new) if old else HELPERS)
    return module("user", OWN.replace(old, new) if old else OWN).Own(**settings)


def content_of(equation: Any, boundary: Any = SPONGE, ndim: int = 1, dtype: str = "float32"):
    return content(equation, boundary, ndim, dtype)


CHANGES = [
    ("FACTOR = 2.0", "FACTOR = 2.5"),  # a global
    ("FACTOR = 2.0", "FACTOR = 2.00000000000001"),  # in its last digit
    ("return 5.0", "return 5.5"),  # a method of a base, found by its name
    ("3.0 * self.loss", "0.5 + 3.0 * self.loss"),  # a method of a setting
    ("loss: float = 0.0", "loss: float = 0.5"),  # a default of a setting
    ("(1, 2.0)", "(2, 2.0)"),  # within a table
    ("np.arange(3.0)", "np.arange(4.0)"),  # in an array
    ("halved(9.0)", "halved(9.5)"),  # in the method itself
    ("made(11.0)", "made(11.5)"),  # a closure
    ("+ math.pi", "- math.pi"),  # an operation
    ("return method(*args)", "return method(*args[:1], symbols_of(args), args[2])"),  # a decorator
    ("TWO = 2.0", "TWO = 3.0"),  # a constant of a helper in another module
    ("2.0 * x", "2.5 * x"),  # a helper of a helper
]
DOUBLED = """
    def symbols_of(args):
        return ox.Symbols(args[1].ndim, 8, args[1].dtype)
"""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[1])
def test_content_changes_with_all_that_system_reaches(
    change: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.modules[__name__], "OWN", OWN + DOUBLED)
    assert content_of(own(*change)) not in (None, content_of(own()))


def test_content_is_the_same_for_the_same_scheme(monkeypatch: pytest.MonkeyPatch):
    first = content_of(own())
    assert first is not None
    assert content_of(own()) == first
    assert content_of(own("7.0 / para", "7.5 / para")) == first  # of no effect on symbols
    monkeypatch.setenv("OWN_NUMBER", "3.0")
    assert content_of(own()) != first


def test_content_changes_with_settings_and_boundary():
    for make in (own, lambda space_order=4: ox.Acoustic(space_order)):
        equation = make()
        known = {
            content_of(equation),
            content_of(make(space_order=8)),
            content_of(equation, ox.CPML(6)),
            content_of(equation, ndim=2),
            content_of(equation, dtype="float64"),
        }
        assert None not in known
        assert len(known) == 5


def test_layers_of_users_are_not_known():
    class Layer(type(SPONGE)):
        pass

    for equation in (ox.Acoustic(4), own()):
        assert content_of(equation, ox.Faces(SPONGE, top=ox.FreeSurface()))
        assert content_of(equation, ox.Faces(SPONGE, top=Layer(6))) is None


def test_plans_of_users_equations_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """The second process would make the same class anew: its symbols are stated, not derived."""
    from ondax.face import schemes

    ports = (1, "float32", ("p",), ("p",), False, False, frozenset())
    first = schemes.program(own(), SPONGE, *ports)
    first.plan, first.transposed  # noqa: B018
    monkeypatch.setattr(schemes, "surrounded", refuse)
    again = schemes.program(own(), SPONGE, *ports)
    assert again is not first
    assert repr(again.plan) == repr(first.plan)
    assert repr(again.transposed) == repr(first.transposed)
    with pytest.raises(AssertionError, match="must not derive"):
        schemes.program(own("FACTOR = 2.0", "FACTOR = 3.0"), SPONGE, *ports).plan  # noqa: B018


def test_an_equation_that_changes_is_refused():
    """Compiled programs would not notice."""
    equation = own()
    user = sys.modules["user"]
    survey = ox.Survey([[50.0, 40.0]], [[90.0, 60.0]], ox.ricker(25.0, 125, 1e-3), 1e-3)

    def propagator() -> ox.Propagator:
        grid = ox.Grid((15, 13), 10.0)
        return ox.Propagator(equation, grid, survey, 2600.0, boundary=SPONGE)

    propagator()
    user.__dict__["FACTOR"] = 3.0
    with pytest.raises(ox.EquationError, match="Own: its system.. states another scheme.* a field"):
        propagator()
    user.__dict__["FACTOR"] = 2.0
    propagator()


# ---------------------------------------------------------------- on disk


def small(content: str | None = "small") -> Planned:
    """A program, and a text that stands for all it depends on."""

    def derive() -> Any:
        from ondax.calculus.program import Program
        from ondax.scheme.symbols import Symbols

        return Program(ox.Acoustic(2).system(Symbols(1, 2, np.float64), SPONGE))

    return Planned(derive, lambda: content)


def refuse(*_: Any) -> Any:
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
