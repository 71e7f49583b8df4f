"""The maps along time that take time dispersion away, and propagators with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import green
from jax.extend.core import jaxpr_as_fun
from problems import difference, dot, norm

import ondax as ox
from ondax import dispersion, warping
from ondax.dispersion import Clock, TimeWarp, apply

# Samples, steps a sample, and the highest angle per sample: kept whole, in blocks, and in blocks whose last is short.
CLOCKS = [
    Clock(2, 1, 0.9, ox.LEAPFROG),
    Clock(100, 4, 1.0, ox.LEAPFROG),
    Clock(300, 3, 0.8, ox.LEAPFROG),
    Clock(600, 1, 0.8, ox.LEAPFROG),
    Clock(1300, 1, 0.5, ox.LEAPFROG),
]
LONG = CLOCKS[1:]
# Weights below 1e-6 of the largest are left out, and the changeover above `top` is read from a table.
LEFT_OUT = 2e-5


def through(warp: TimeWarp, signals: np.ndarray, transposed: bool = False) -> np.ndarray:
    return apply(warp, warp.tables(signals.dtype), signals, transposed, np)


@pytest.mark.parametrize("clock", LONG, ids=str)
def test_what_leapfrog_makes_of_a_sine_becomes_the_sine(clock: Clock):
    """Of a sine that lasts beyond the record, what leapfrog makes is known: another frequency and amplitude."""
    warp, k = TimeWarp(clock), clock.steps_per_sample
    n, j = np.arange(warp.samples), np.arange(warp.modelled)
    for true in np.linspace(0.1, 0.95 * clock.top, 5):
        modelled, slope = 2 * k * np.arcsin(true / 2 / k), 1 / np.sqrt(1 - (true / 2 / k) ** 2)
        after = through(warp, np.sqrt(slope) * np.cos(modelled * j + 1.0), transposed=True)
        wrong = np.abs(after - np.cos(true * n + 1.0))
        # Sines that begin with a jump ring for a while. At the end, a tail of 3.5 widths has died down to Ai(3.5), 0.3 %,
        # and what is cut off of it is a few per cent of a sine.
        assert wrong[40:-40].max() < LEFT_OUT
        assert wrong[40:].max() < 0.03


@pytest.mark.parametrize("clock", LONG, ids=str)
def test_the_transpose_is_the_inverse(clock: Clock):
    """On a pulse that has nothing above `top`."""
    rng, warp, n = np.random.default_rng(0), TimeWarp(clock), np.arange(clock.samples)
    frequencies = np.linspace(0.05, 0.8 * clock.top, 40)
    x = sum(a * np.cos(om * n + b) for om, a, b in zip(frequencies, *rng.standard_normal((2, 40)), strict=True))
    x *= np.exp(-(((n - n.size / 2) / (n.size / 10)) ** 2))
    back = through(warp, warp.forward(x), transposed=True)
    assert np.abs(back - x).max() < LEFT_OUT * np.abs(x).max()
    assert np.abs(warp.forward(x)[: n.size] - x).max() > 10 * LEFT_OUT * np.abs(x).max()


def test_nothing_is_needed_from_later():
    """A trace is made of earlier samples of the model's, and of a few later ones."""
    warp = TimeWarp(CLOCKS[3])
    column = np.abs(warp.forward(np.eye(warp.samples)))[300]
    assert column[300 + 40 :].max() < 1e-5 * column.max()


def test_blocks_are_the_whole_matrix(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(400, 1, 1.2, ox.LEAPFROG)
    whole = TimeWarp(clock)
    monkeypatch.setattr(dispersion, "WHOLE", 0)
    monkeypatch.setattr(dispersion, "BLOCK", 64)
    blocks, x = TimeWarp(clock), np.random.default_rng(0).standard_normal((3, 2, 400))
    assert whole.whole
    assert not blocks.whole
    y = whole.forward(x)
    assert difference(blocks.forward(x), y) < 1e-5
    assert difference(through(blocks, y, True), through(whole, y, True)) < 1e-5


@pytest.mark.parametrize("clock", CLOCKS, ids=str)
def test_maps_in_jax(dtype: str, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """The transpose is exact; under vmap, jit and forward differentiation, the maps are what they are in NumPy; so they
    are when their tables are too large for constants."""
    warp, rng = TimeWarp(clock), np.random.default_rng(0)
    x, y = (jnp.asarray(rng.standard_normal((2, 3, n)), dtype) for n in (warp.samples, warp.modelled))
    for most in (warping.MOST_BYTES, 0):
        monkeypatch.setattr(warping, "MOST_BYTES", most)
        forward, transpose = (lambda a: warping.warped(a, warp)), (lambda a: warping.unwarped(a, warp))
        a, b = jax.jit(forward)(x), jax.jit(transpose)(y)
        assert (a.dtype, b.dtype) == (x.dtype, y.dtype)
        eps = float(jnp.finfo(x.dtype).eps)
        # Sums of as many products as a row of blocks has.
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
    warp = TimeWarp(Clock(6000, 1, 0.7, ox.LEAPFROG))
    assert sum(t.nbytes for t in warp.tables("float32")) > 10e6
    program = jax.make_jaxpr(lambda x: warping.unwarped(x, warp))(jnp.ones((1, 2, warp.modelled), jnp.float32))
    assert constants(program) < 1e6
    out = jaxpr_as_fun(program)(jnp.ones((1, 2, warp.modelled), jnp.float32))[0]
    assert out.shape == (1, 2, 6000)


# ---------------------------------------------------------------- propagators


SPEED, DT = 1500.0, 0.004


def line_survey(frequency: float, nt: int = 1001) -> ox.Survey:
    receivers = np.array([[1500.0], [3000.0], [5500.0]])
    return ox.Survey([[500.0]], receivers, ox.ricker(frequency, nt, DT), DT)


def on_a_line(frequency: float, **options) -> ox.Propagator:
    """6 km of water, with 6 points per wavelength at the highest frequency, from which no echo returns in time."""
    spacing = {5.0: 20.0, 8.0: 12.5, 12.0: 8.0}[frequency]
    grid = ox.Grid((round(9000 / spacing) + 1,), spacing, origin=-1500.0)
    return ox.Propagator(ox.Acoustic(), grid, line_survey(frequency), SPEED, boundary=ox.CPML(20), **options)


def error_on_a_line(F: ox.Propagator, dtype: str = "float32") -> np.ndarray:
    """Relative errors of the traces at 1, 2.5 and 5 km."""
    survey = F.survey
    traces = np.asarray(F(jnp.full(F.grid.shape, SPEED, dtype)), np.float64)[0]
    distances = (survey.receivers - survey.sources)[0, :, 0]
    exact = np.stack([green(survey.wavelet[0, 0], DT, float(r), SPEED, 1) for r in distances])
    # On a line, a pulse leaves a step behind. What counts is what moves: compare rates.
    a, b = (np.diff(x, axis=-1) for x in (traces, exact))
    return np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("courant", [1.0, 0.4])
@pytest.mark.parametrize("frequency", [5.0, 8.0, 12.0])
def test_green_functions_on_a_line(frequency: float, courant: float):
    F = on_a_line(frequency, courant=courant)
    assert np.all(error_on_a_line(F) < 5e-3)
    raw = on_a_line(frequency, courant=courant, time_dispersion="raw")
    assert raw.dt == F.dt
    assert error_on_a_line(raw)[-1] > 0.02
