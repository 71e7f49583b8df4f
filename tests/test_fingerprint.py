"""What tells one inversion from another: everything that its arguments hold or reach."""

import dataclasses
import functools
import os
import subprocess
import sys
import textwrap
import threading
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ondax as ox
from ondax.inversion.fingerprint import UnknownContent, fingerprint

GRID = ox.Grid((21, 17), 10.0)
SOURCES, RECEIVERS = [[100.0, 20.0]], ox.line((0.0, 20.0), (200.0, 20.0), 5)


def survey(sources=SOURCES, receivers=RECEIVERS, frequency=12.0, size=1.0, **more):
    return ox.Survey(sources, receivers, size * ox.ricker(frequency, 140, 0.002), 0.002, **more)


def propagator(of=None, **more):
    return ox.Propagator(ox.Acoustic(), GRID, survey() if of is None else of, 2600.0, **more)


@pytest.mark.parametrize(
    "other",
    [
        survey(receivers=RECEIVERS + [0.0, 20.0]),
        survey(sources=[[110.0, 20.0]]),
        survey(size=-2.0),
        survey(frequency=13.0),
        survey(receiver={"receiver": np.array(2.0)}),
    ],
    ids=["receivers", "sources", "size", "frequency", "weights"],
)
def test_a_survey_counts_by_its_contents(other):
    assert (
        fingerprint(propagator())
        == fingerprint(propagator(survey()))
        != fingerprint(propagator(other))
    )


def test_a_history_counts_if_it_loses_something():
    def of(**settings):
        return fingerprint(propagator(settings=ox.Settings(**settings)))

    plain = of()
    assert of(history="revolve") == of(history="whole") == of(store_every=1) == plain
    lossy = [of(history=name) for name in ("half", "sampled", "sampled half")]
    assert len({plain, *lossy, of(store_every=2)}) == 5


def test_what_a_propagator_has_made_for_itself_does_not_count():
    F = propagator()
    before = fingerprint(F)
    _ = F._problem.sources
    F._hosts.of("float32")
    assert fingerprint(F) == before


STEP = 1.0
HELPER = types.ModuleType("a_module_of_the_users")
HELPER.size, HELPER.other = 1.0, 1.0


def reads_a_global(x):
    return STEP * x


def calls_another(x):
    return [reads_a_global(y) for y in x]


def reads_a_module(x):
    return HELPER.size * x


class Scales(eqx.Module):
    """A user's class: its methods are part of what it does."""

    factor: float

    def __call__(self, x):
        return STEP * self.factor * x


class Plain:
    """A user's class without any declared fields."""

    def __init__(self, factor):
        self.factor, self.lock = factor, threading.Lock()

    @functools.cached_property
    def large(self):
        return 100 * self.factor


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor


@pytest.mark.parametrize(
    "reader",
    [
        reads_a_global,
        calls_another,
        lambda x: reads_a_global(x),
        functools.partial(reads_a_global, 3.0),
        jax.jit(reads_a_global),
        jax.vmap(reads_a_global),
        jax.custom_vjp(reads_a_global),
        eqx.filter_jit(reads_a_global),
        Scales(2.0),
        Scales(2.0).__call__,
        [{"a": reads_a_global}],
    ],
    ids=range(11),
)
def test_globals_count_however_deep(reader, monkeypatch):
    before = fingerprint(reader)
    assert fingerprint(reader) == before
    monkeypatch.setattr(sys.modules[__name__], "STEP", 2.0)
    assert fingerprint(reader) != before


def test_of_a_users_module_counts_what_is_read(monkeypatch):
    before = fingerprint(reads_a_module)
    monkeypatch.setattr(HELPER, "other", 2.0)
    assert fingerprint(reads_a_module) == before
    monkeypatch.setattr(HELPER, "size", 2.0)
    assert fingerprint(reads_a_module) != before


def test_attributes_defaults_and_closures_count():
    def with_default(a):
        return lambda x, b=a, *, c=1.0: x

    def with_attribute(a):
        def function(x):
            return x

        function.a = a
        return function

    def over_array(a):
        array = np.array([a])
        return lambda x: x + array

    for made in (
        Scales,
        Plain,
        Slotted,
        with_default,
        with_attribute,
        over_array,
        lambda a: optax.adam(a),
    ):
        assert fingerprint(made(1.0)) == fingerprint(made(1.0)) != fingerprint(made(2.0)), made
    plain = Plain(1.0)
    assert plain.large == 100.0
    assert fingerprint(plain) == fingerprint(Plain(1.0))  # what is remembered is not held


def test_a_cycle_has_an_end():
    first, second = [1], [1]
    first.append(first), second.append(second)
    assert fingerprint(first) == fingerprint(second) != fingerprint([1, [1]])

    def countdown(n):
        return n and countdown(n - 1)

    assert isinstance(fingerprint(countdown), str)


def test_what_cannot_be_seen_is_said(tmp_path):
    file = open(tmp_path / "log", "w")  # noqa: SIM115
    rows = (row for row in range(3))

    @dataclasses.dataclass
    class Logs:
        log: object

    with file:
        for unknown in (Logs(file), lambda x: print(x, file=file), lambda x: rows):
            with pytest.raises(
                UnknownContent,
                match=r"it > (attribute log|variable (file|rows)) is a .*(IO|generator)",
            ):
                fingerprint(unknown)
    with pytest.raises(UnknownContent, match=r"calls open\(\)"):
        fingerprint(lambda x: open("model.npy"))  # noqa: SIM115


def test_trust_overrides(tmp_path):
    observed, start = jnp.ones((1, 1, 4)), jnp.zeros(4)
    log, path = open(os.devnull, "w"), tmp_path / "s.npz"  # noqa: SIM115

    def misfit(predicted, observed):
        print("traced", file=log)
        return jnp.sum((predicted - observed) ** 2)

    def run(iterations, factor=1.0, **setting):
        F = lambda x: factor * x[None, None]  # noqa: E731
        setting = {"optimizer": optax.sgd(0.1), "progress": False, "save": path} | setting
        return ox.fwi(F, observed, start, iterations=iterations, misfit=misfit, **setting)

    with log:
        with pytest.raises(
            ValueError,
            match=r"the misfit cannot be compared.* variable log is a .*TextIOWrapper.*trust=",
        ):
            run(1)
        assert not path.exists()
        run(1, trust=("misfit",))
        with pytest.raises(ValueError, match=r"differs in propagator.*trust=\('propagator',\)"):
            run(2, factor=2.0, trust=("misfit",))
        assert len(run(2, factor=2.0, trust=("misfit", "propagator")).history) == 2
        with pytest.raises(ValueError, match="'misfits' is none of 'propagator'"):
            run(2, trust=("misfits",))


@pytest.mark.slow
def test_another_process_finds_the_same(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import functools, re, pathlib, fractions
            import jax, jax.numpy as jnp, numpy as np, optax, equinox as eqx, ondax as ox
            from ondax.inversion.fingerprint import fingerprint
            words = {"a", "b", "c", "d"}
            grid = ox.Grid((21, 17), 10.0)
            survey = ox.Survey([[100.0, 20.0]], [[50.0, 20.0]], ox.ricker(12.0, 140, 0.002), 0.002)
            P = ox.Propagator(ox.Acoustic(), grid, survey, 2600.0)
            F = lambda x, **kw: P(2000.0 + x, **kw) * len(words)
            network = eqx.nn.MLP(2, 2, 4, 2, key=jax.random.key(0))
            mixed = [
                re.compile("a"), pathlib.Path("b"), fractions.Fraction(1, 3), np.add, jnp.sin, len,
                network, optax.lbfgs(), optax.adamw(optax.cosine_decay_schedule(0.1, 10)),
                ox.misfits.huber, functools.partial(ox.misfits.huber, threshold=0.1), jax.jit(F),
                np.random.default_rng(0),
            ]
            print(fingerprint(F), fingerprint(mixed))
            """
        )
    )
    found = {
        subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
