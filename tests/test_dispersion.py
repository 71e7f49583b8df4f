"""The maps along time that take time dispersion away, and propagators with them."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import green
from jax.extend.core import jaxpr_as_fun
from problems import difference, dot, norm
from slow import slow

import ondax as ox
from ondax.acquisition import dispersion
from ondax.acquisition.dispersion import Dispersion, TimeWarp
from ondax.face import warping

# Samples, steps a sample, and the highest angle per sample: kept whole, in blocks, and in blocks
# whose last is short.
CLOCKS = [
    Dispersion(2, 1, 0.9, ox.LEAPFROG),
    Dispersion(100, 4, 1.0, ox.LEAPFROG),
    Dispersion(300, 3, 0.8, ox.LEAPFROG),
    Dispersion(600, 1, 0.8, ox.LEAPFROG),
    Dispersion(1300, 1, 0.5, ox.LEAPFROG),
]
LONG = CLOCKS[1:]


def _name(clock: Dispersion) -> str:
    return f"{clock.samples}-{clock.steps_per_sample}"


# Weights below 1e-6 of the largest are left out, and the changeover above `top` is read from a
# table.
LEFT_OUT = 2e-5


@pytest.mark.parametrize("clock", LONG, ids=_name)
def test_what_leapfrog_makes_of_a_sine_becomes_the_sine(clock: Dispersion):
    """Of a sine that lasts beyond the record, what leapfrog makes is known: another frequency and
    amplitude."""
    warp, k = TimeWarp(clock), clock.steps_per_sample
    n, j = np.arange(warp.samples), np.arange(warp.modelled)
    for true in np.linspace(0.1, 0.95 * clock.top, 5):
        modelled, slope = 2 * k * np.arcsin(true / 2 / k), 1 / np.sqrt(1 - (true / 2 / k) ** 2)
        after = warp.transpose(np.sqrt(slope) * np.cos(modelled * j + 1.0))
        wrong = np.abs(after - np.cos(true * n + 1.0))
        # Sines that begin with a jump ring for a while. At the end, a tail of 3.5 widths has died
        # down to Ai(3.5), 0.3 %, and what is cut off of it is a few per cent of a sine.
        assert wrong[40:-40].max() < LEFT_OUT
        assert wrong[40:].max() < 0.03


def lax_wendroff(true: np.ndarray) -> np.ndarray:
    """Of fourth order in time: `4 sin(theta/2)^2 = omega^2 - omega^4/12`."""
    return 2.0 * np.arcsin(true * np.sqrt(1.0 - true**2 / 12.0) / 2.0)


def trapezium(true: np.ndarray) -> np.ndarray:
    """Implicit, `tan(theta/2) = omega/2`: it is late, where leapfrog is early."""
    return 2.0 * np.arctan(true / 2.0)


@pytest.mark.parametrize("relation", [lax_wendroff, trapezium])
def test_other_relations(relation):
    """As above, for relations that an equation of one's own may declare; derivatives by
    differences, good to 1e-8."""
    clock = Dispersion(400, 1, 1.0, ox.TimeStepping(relation, cut=2.4))
    warp = TimeWarp(clock)
    n, j = np.arange(warp.samples), np.arange(warp.modelled)
    for true in np.linspace(0.1, 0.95, 4):
        near = np.array([true - 1e-4, true, true + 1e-4])
        low, modelled, high = relation(near)
        after = warp.transpose(np.sqrt((high - low) / 2e-4) * np.cos(modelled * j + 1.0))
        wrong = np.abs(after - np.cos(true * n + 1.0))
        assert wrong[60:-40].max() < LEFT_OUT
        assert wrong[60:-8].max() < 0.03


@pytest.mark.parametrize("clock", LONG, ids=_name)
def test_the_transpose_is_the_inverse(clock: Dispersion):
    """On a pulse that has nothing above `top`."""
    rng, warp, n = np.random.default_rng(0), TimeWarp(clock), np.arange(clock.samples)
    frequencies = np.linspace(0.05, 0.8 * clock.top, 40)
    x = sum(
        a * np.cos(om * n + b)
        for om, a, b in zip(frequencies, *rng.standard_normal((2, 40)), strict=True)
    )
    x *= np.exp(-(((n - n.size / 2) / (n.size / 10)) ** 2))
    back = warp.transpose(warp.forward(x))
    assert np.abs(back - x).max() < LEFT_OUT * np.abs(x).max()
    assert np.abs(warp.forward(x)[: n.size] - x).max() > 10 * LEFT_OUT * np.abs(x).max()


def test_nothing_is_needed_from_later():
    """A trace is made of earlier samples of the model's, and of a few later ones."""
    warp = TimeWarp(CLOCKS[3])
    column = np.abs(warp.forward(np.eye(warp.samples)))[300]
    assert column[300 + 40 :].max() < 1e-5 * column.max()


def test_blocks_are_the_whole_matrix(monkeypatch: pytest.MonkeyPatch):
    clock = Dispersion(200, 1, 1.2, ox.LEAPFROG)
    whole = TimeWarp(clock)
    monkeypatch.setattr(dispersion, "WHOLE", 0)
    monkeypatch.setattr(dispersion, "BLOCK", 48)
    blocks, x = TimeWarp(clock), np.random.default_rng(0).standard_normal((3, 2, 200))
    assert whole.whole
    assert not blocks.whole
    y = whole.forward(x)
    assert difference(blocks.forward(x), y) < 1e-5
    assert difference(blocks.transpose(y), whole.transpose(y)) < 1e-5


@pytest.mark.parametrize("clock", [CLOCKS[0], CLOCKS[2], slow(CLOCKS[3])], ids=_name)
def test_maps_in_jax(dtype: str, clock: Dispersion, monkeypatch: pytest.MonkeyPatch):
    """The transpose is exact; under vmap, jit and forward differentiation, the maps are what they
    are in NumPy; so they are when their tables are too large for constants."""
    warp, rng = TimeWarp(clock), np.random.default_rng(0)
    x, y = (
        jnp.asarray(rng.standard_normal((2, 3, n)), dtype) for n in (warp.samples, warp.modelled)
    )
    for most in (warping.MOST_BYTES, 0):
        monkeypatch.setattr(warping, "MOST_BYTES", most)
        forward, transpose = (
            (lambda a: warping.warped(a, warp)),
            (lambda a: warping.unwarped(a, warp)),
        )
        a, b = jax.jit(forward)(x), jax.jit(transpose)(y)
        assert (a.dtype, b.dtype) == (x.dtype, y.dtype)
        eps = float(jnp.finfo(x.dtype).eps)
        # Sums of as many products as a block has columns.
        assert difference(a, warp.forward(np.asarray(x))) < 20 * eps
        assert abs(dot(a, y) - dot(x, b)) < 20 * eps * norm(a) * norm(y)
        assert difference(jax.vmap(forward, 1, 1)(x), a) < 20 * eps
        assert difference(jax.jvp(forward, (x,), (2 * x,))[1], 2 * a) < 20 * eps
        assert difference(jax.vjp(forward, x)[1](y)[0], b) < 20 * eps
        assert difference(jax.vjp(transpose, y)[1](x)[0], a) < 20 * eps


def constants(jaxpr) -> int:
    """Bytes of the largest constant in a program, those of functions within it included."""
    return max((np.asarray(c).nbytes for c in jaxpr.consts), default=0)


def test_no_large_constants_in_long_records():
    warp = TimeWarp(Dispersion(12000, 1, 0.7, ox.LEAPFROG))
    assert warp.table("float32").nbytes > 10e6
    program = jax.make_jaxpr(lambda x: warping.unwarped(x, warp))(
        jnp.ones((1, 2, warp.modelled), jnp.float32)
    )
    assert constants(program) < 1e6
    out = jaxpr_as_fun(program)(jnp.ones((1, 2, warp.modelled), jnp.float32))[0]
    assert out.shape == (1, 2, 12000)


# ---------------------------------------------------------------- propagators


SPEED, DT = 1500.0, 0.004


def line_survey(frequency: float, nt: int = 1001) -> ox.Survey:
    receivers = np.array([[1500.0], [3000.0], [5500.0]])
    return ox.Survey([[500.0]], receivers, ox.ricker(frequency, nt, DT), DT)


def on_a_line(frequency: float, **options) -> ox.Propagator:
    """6 km of water, with 6 points per wavelength at the highest frequency, from which no echo
    returns in time."""
    spacing = {5.0: 20.0, 8.0: 12.5, 12.0: 8.0}[frequency]
    grid = ox.Grid((round(9000 / spacing) + 1,), spacing, origin=-1500.0)
    return ox.Propagator(
        ox.Acoustic(), grid, line_survey(frequency), SPEED, boundary=ox.CPML(20), **options
    )


def error_on_a_line(F: ox.Propagator, dtype: str = "float32") -> np.ndarray:
    """Relative errors of the traces at 1, 2.5 and 5 km."""
    survey = F.survey
    traces = np.asarray(F(jnp.full(F.grid.shape, SPEED, dtype)), np.float64)[0]
    distances = (survey.receivers - survey.sources)[0, :, 0]
    exact = np.stack([green(survey.wavelet[0, 0], DT, float(r), SPEED, 1) for r in distances])
    # On a line, a pulse leaves a step behind. What counts is what moves: compare rates.
    a, b = (np.diff(x, axis=-1) for x in (traces, exact))
    return np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)


ON_A_LINE = [
    (8.0, 1.0),
    *(slow(f, c) for f in (5.0, 12.0) for c in (1.0, 0.4)),
]


@pytest.mark.parametrize(("frequency", "courant"), ON_A_LINE)
def test_green_functions_on_a_line(frequency: float, courant: float):
    F = on_a_line(frequency, courant=courant)
    assert np.all(error_on_a_line(F) < 5e-3)
    raw = on_a_line(frequency, courant=courant, time_dispersion="raw")
    assert raw.dt == F.dt
    assert error_on_a_line(raw)[-1] > 0.02


# ---------------------------------------------------------------- what declares no relation, or
# another


class Plain(ox.AbstractWaveEquation):
    """The wave equation, by leapfrog, without saying so: its update is stated explicitly."""

    stretchable = True
    parameter_names = ("vp",)
    space_order: int = 8

    def system(self, symbols, boundary):
        u, m = symbols.field("u", image=ox.ODD), symbols.coefficient("m")
        update = ox.schemes.second_order_in_time(symbols, boundary, u, m, u.laplace)
        source, receiver = ox.Port("source", ((u, 1.0),)), ox.Port("receiver", ((u, 1.0),))
        return ox.System(symbols, (m,), (update,), (source,), (receiver,))

    def coefficients(self, parameters):
        return {"m": 1.0 / parameters["vp"] ** 2}

    def speeds(self, parameters):
        return parameters["vp"].min(), parameters["vp"].max()

    def largest_step(self, spacing, max_velocity):
        return ox.Acoustic(self.space_order).largest_step(spacing, max_velocity)


class Declared(Plain):
    time_stepping = ox.LEAPFROG


def test_an_equation_that_declares_nothing_is_run_raw_and_says_so_once():
    class Silent(Plain):
        pass

    survey = ox.Survey([[100.0]], [[300.0]], ox.ricker(8.0, 150, DT), DT)
    given = (ox.Grid((61,), 12.5), survey, SPEED)
    with pytest.warns(UserWarning, match=r"Silent does not declare .*time_stepping = ox\.LEAPFROG"):
        F = ox.Propagator(Silent(), *given)
    assert F.time_dispersion == "raw"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ox.Propagator(Silent(), *given)
        F.with_survey(survey)
        assert ox.Propagator(Declared(), *given).time_dispersion == "corrected"
        assert ox.Propagator(Silent(), *given, time_dispersion="raw").time_dispersion == "raw"
    v = jnp.full((61,), SPEED)
    raw = ox.Propagator(ox.Acoustic(), *given, time_dispersion="raw")(v)
    assert difference(F(v), raw) == 0.0
    assert (
        difference(ox.Propagator(Declared(), *given)(v), ox.Propagator(ox.Acoustic(), *given)(v))
        == 0.0
    )
