"""Never silent: each kind of bad input raises its own error, in one line that names the value and
the remedy.

What can be known when a propagator is made, or while it is traced, is a plain ValueError or
TypeError there. The rest is known only when shots are fired; inside a jitted function it arrives as
whatever JAX makes of a callback's exception, and the message is what counts.
"""

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import ondax as ox

NX, NZ, H, DT, NT = 24, 20, 10.0, 0.004, 64
VELOCITY, FASTEST = 2000.0, 2500.0


def grid(**changes) -> ox.Grid:
    return ox.Grid(**({"shape": (NX, NZ), "spacing": H} | changes))


def survey(**changes) -> ox.Survey:
    options = {
        "sources": ox.line((50.0, 20.0), (180.0, 20.0), 2),
        "receivers": ox.line((0.0, 40.0), (230.0, 40.0), 5),
        "wavelet": ox.ricker(12.0, NT, DT),
        "dt": DT,
    }
    return ox.Survey(**(options | changes))


def propagator(
    equation=None, grid=None, survey=None, max_velocity=FASTEST, **options
) -> ox.Propagator:
    make = globals()
    return ox.Propagator(
        equation or ox.Acoustic(space_order=4),
        grid or make["grid"](),
        survey or make["survey"](),
        max_velocity,
        boundary=options.pop("boundary", ox.Sponge(width=4)),
        **options,
    )


@functools.cache
def shared() -> ox.Propagator:
    return propagator()


@functools.cache
def shared_density() -> ox.Propagator:
    return propagator(ox.AcousticDensity(space_order=4))


def vp(value: float = VELOCITY) -> jax.Array:
    return jnp.full((NX, NZ), value, jnp.float32)


def rho(value: float = 1000.0) -> jax.Array:
    return jnp.full((NX, NZ), value, jnp.float32)


# ---------------------------------------------------------------- known when things are made

Case = tuple[Callable[[], object], str]

AT_CONSTRUCTION: dict[str, Case] = {
    # grid
    "no point along an axis": (lambda: grid(shape=(0, 20)), r"shape=\(0, 20\).*at least 1"),
    "four axes": (lambda: grid(shape=(4, 4, 4, 4)), r"shape=\(4, 4, 4, 4\): give 1 to 3"),
    "fractional shape": (lambda: grid(shape=(4.5, 4)), r"shape=\(4\.5, 4\).*whole numbers"),
    "negative spacing": (
        lambda: grid(spacing=-10.0),
        r"spacing=-10\.0 must be positive, in metres",
    ),
    "zero spacing": (
        lambda: grid(spacing=(10.0, 0.0)),
        r"spacing=\(10\.0, 0\.0\) must be positive",
    ),
    "NaN spacing": (lambda: grid(spacing=float("nan")), r"spacing=nan must be finite"),
    "three spacings": (
        lambda: grid(spacing=(1.0, 2.0, 3.0)),
        r"spacing=\(1\.0, 2\.0, 3\.0\) has 3 entries.*2 axes",
    ),
    "infinite origin": (
        lambda: grid(origin=(0.0, float("inf"))),
        r"origin=\(0\.0, inf\) must be finite",
    ),
    # survey
    "sources without axis": (
        lambda: survey(sources=[1.0, 2.0]),
        r"sources have shape \(2,\): give \(shot, axis\)",
    ),
    "no sources": (lambda: survey(sources=np.zeros((0, 2))), r"sources have shape \(0, 2\)"),
    "receivers of other shots": (
        lambda: survey(receivers=np.zeros((3, 5, 2))),
        r"receivers have shape \(3, 5, 2\).*2 shots",
    ),
    "receivers of other axes": (
        lambda: survey(receivers=np.zeros((5, 3))),
        r"receivers have shape \(5, 3\).*2 axes",
    ),
    "wavelets of other shots": (
        lambda: survey(wavelet=np.ones((3, 1, 40))),
        r"wavelet has shape \(3, 1, 40\).*2 shots",
    ),
    "wavelet of one sample": (lambda: survey(wavelet=[1.0]), r"wavelet has 1 sample: give two"),
    "NaN wavelet": (
        lambda: survey(wavelet=np.full(NT, np.nan)),
        r"wavelet: 64 values are not finite",
    ),
    "NaN source": (lambda: survey(sources=[[np.nan, 20.0]]), r"sources: 1 values are not finite"),
    "zero dt": (lambda: survey(dt=0.0), r"dt=0\.0 must be a positive number of seconds"),
    "NaN dt": (lambda: survey(dt=float("nan")), r"dt=nan must be a positive"),
    "line of nothing": (lambda: ox.line((0.0, 0.0), (1.0, 1.0), 0), r"count=0.*at least one"),
    "line across dimensions": (
        lambda: ox.line((0.0, 0.0), (1.0, 1.0, 1.0), 3),
        r"must be points of the same dimension",
    ),
    # settings, boundary, equation
    "no threads": (lambda: ox.Settings(threads=0), r"threads=0: give a whole number"),
    "negative memory": (lambda: ox.Settings(memory=-1), r"memory=-1: give a whole number"),
    "fractional stride": (
        lambda: ox.Settings(store_every=1.5),
        r"store_every=1\.5: give a whole number",
    ),
    "negative layer": (lambda: ox.Sponge(width=-1), r"width=-1.*number of cells, 0 or more"),
    "layer in metres": (lambda: ox.Sponge(width=40.0), r"width=40\.0.*number of cells"),
    "reflection of 1": (
        lambda: ox.Sponge(reflection=1.0),
        r"reflection=1\.0 must lie between 0 and 1",
    ),
    "power below 1": (lambda: ox.Sponge(power=0.5), r"power=0\.5 must be 1 or more"),
    "odd order": (
        lambda: propagator(ox.Acoustic(space_order=5)),
        r"space_order=5.*even number from 2 to 16",
    ),
    "order 18": (
        lambda: propagator(ox.Acoustic(space_order=18)),
        r"space_order=18.*even number from 2 to 16",
    ),
    # propagator
    "max_velocity 0": (
        lambda: propagator(max_velocity=0.0),
        r"max_velocity=0\.0 must be a positive number, in m/s",
    ),
    "max_velocity NaN": (
        lambda: propagator(max_velocity=float("nan")),
        r"max_velocity=nan must be a positive",
    ),
    "max_velocity in km/s": (
        lambda: propagator(max_velocity=4.5),
        r"4\.5 m/s.*looks like km/s: give m/s",
    ),
    "dt in ms": (
        lambda: propagator(survey=survey(dt=2.0)),
        r"dt=2\.0 s needs .* internal steps.*is dt in milliseconds",
    ),
    "dt in us": (
        lambda: propagator(survey=survey(dt=2000.0)),
        r"dt=2000\.0 s needs .*milliseconds",
    ),
    "spacing in km": (
        lambda: propagator(grid=grid(spacing=0.01)),
        r"lie outside the grid|spacing in kilometres",
    ),
    "spacing in km, positions too": (
        lambda: propagator(
            grid=grid(spacing=0.01),
            survey=survey(sources=[[0.1, 0.02]], receivers=[[0.1, 0.1]], dt=0.05),
        ),
        r"spacing=\(0\.01, 0\.01\) m.*spacing in kilometres",
    ),
    "interpolation": (
        lambda: propagator(interpolation="cubic"),
        r"interpolation='cubic': choose one of 'sinc', 'linear'",
    ),
    "time dispersion": (
        lambda: propagator(time_dispersion="off"),
        r"time_dispersion='off': choose one of 'corrected', 'raw'",
    ),
    "courant": (lambda: propagator(courant=1.1), r"courant=1\.1 must be above 0 and at most 1"),
    "courant 0": (lambda: propagator(courant=0.0), r"courant=0\.0 must be above 0 and at most 1"),
    "source outside": (
        lambda: propagator(survey=survey(sources=[[50.0, 20.0], [50.0, 300.0]])),
        r"sources: 1 of 2 lie outside the grid, the first at \(50\.0, 300\.0\) m; axis 1 runs from "
        r"0 to 190 m",
    ),
    "receiver in the layer": (
        lambda: propagator(survey=survey(receivers=[[-20.0, 40.0]])),
        r"receivers: .*\(-20\.0, 40\.0\) m; axis 0 .*points_in_layer=True",
    ),
    "positions in cells": (
        lambda: propagator(
            grid=grid(origin=(5000.0, 0.0)),
            survey=survey(sources=[[12.0, 2.0]], receivers=[[13.0, 4.0]]),
        ),
        r"sources: .*\(12\.0, 2\.0\) m; axis 0 runs from 5000 to 5230 m. Positions are in metres, "
        r"not cells",
    ),
    "positions of other axes": (
        lambda: propagator(grid=grid(shape=(9, 9, 9))),
        r"sources have 2 coordinates.*3 axes",
    ),
    "too few points per wavelength": (
        lambda: propagator(survey=survey(wavelet=ox.ricker(40.0, NT, DT))),
        r"too few grid points per wavelength: [\d.]+ at 2500 m/s, [\d.]+ Hz and a spacing of 10 m, "
        r"where .* are needed",
    ),
    "wavelet above Nyquist": (
        lambda: ox.ricker(400.0, NT, DT),
        r"1000 Hz, above the Nyquist frequency 125 Hz",
    ),
}


def refused(
    make: Callable[[], object], kind: type[Exception] | tuple[type[Exception], ...], message: str
) -> None:
    """Check that `make` raises an error of this kind, in one line.

    The hook of these tests checks types before ondax does, at more length, and leaves ondax's own
    words to `test_without_the_type_checker`.
    """
    with pytest.raises(
        (kind, jaxtyping.TypeCheckError)
        if isinstance(kind, type)
        else (*kind, jaxtyping.TypeCheckError)
    ) as caught:
        make()
    if not isinstance(caught.value, jaxtyping.TypeCheckError):
        assert re.search(message, str(caught.value)), caught.value
        assert "\n" not in str(caught.value).strip(), caught.value


@pytest.mark.parametrize("case", AT_CONSTRUCTION)
def test_at_construction(case: str):
    make, message = AT_CONSTRUCTION[case]
    refused(make, (ValueError, TypeError), message)


def test_without_the_type_checker():
    """The same cases in a process of their own, without the hook of these tests: what a user
    sees."""
    program = "import test_checks; test_checks.refuse_all()"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def refuse_all() -> None:
    for make, message in AT_CONSTRUCTION.values():
        refused(make, (ValueError, TypeError), message)
    for run, kind, message in WHILE_TRACING.values():
        refused(run, kind, message)
        refused(jax.jit(run), kind, message)


def test_points_in_the_layer_are_allowed_when_asked():
    F = propagator(survey=survey(receivers=[[-20.0, 40.0]]), points_in_layer=True)
    assert F.survey.n_receivers == 1
    with pytest.raises(ValueError, match="lie outside the grid"):
        propagator(survey=survey(receivers=[[-50.0, 40.0]]), points_in_layer=True)


# ---------------------------------------------------------------- known while tracing

WHILE_TRACING: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "shape": (
        lambda: shared()(vp()[:-1]),
        ValueError,
        r"vp has shape \(23, 20\), expected \(24, 20\)",
    ),
    "transposed": (
        lambda: shared()(vp().T),
        ValueError,
        r"vp has shape \(20, 24\), .*transpose it, depth is the last axis",
    ),
    "whole numbers": (
        lambda: shared()(vp().astype(jnp.int32)),
        TypeError,
        r"type int32: use float32 or float64",
    ),
    "half precision": (lambda: shared()(vp().astype(jnp.float16)), TypeError, r"type float16"),
    "complex": (lambda: shared()(vp().astype(jnp.complex64)), TypeError, r"type complex64"),
    "missing key": (
        lambda: shared_density()({"vp": vp()}),
        ValueError,
        r"needs the parameters vp, rho; got vp",
    ),
    "unknown key": (
        lambda: shared_density()({"vp": vp(), "rho": rho(), "vs": vp()}),
        ValueError,
        r"needs the parameters vp, rho; got vp, rho, vs",
    ),
    "array for two parameters": (
        lambda: shared_density()(vp()),
        ValueError,
        r"parameters vp, rho: pass a dict",
    ),
    "wrong key": (
        lambda: shared()({"velocity": vp()}),
        ValueError,
        r"needs the parameters vp; got velocity",
    ),
    "shape of one": (
        lambda: shared_density()({"vp": vp(), "rho": rho()[1:]}),
        ValueError,
        r"rho has shape \(23, 20\), expected \(24, 20\)",
    ),
    "wavelet": (
        lambda: shared()(vp(), wavelet=jnp.zeros((2, 1, 63), jnp.float32)),
        ValueError,
        r"wavelet has shape \(2, 1, 63\), expected \(2, 1, 64\)",
    ),
    "sources": (
        lambda: shared()(vp(), sources=jnp.zeros((2, 2, 2), jnp.float32)),
        ValueError,
        r"sources has shape \(2, 2, 2\), expected \(2, 1, 2\)",
    ),
    "receivers": (
        lambda: shared()(vp(), receivers=jnp.zeros((2, 4, 2), jnp.float32)),
        ValueError,
        r"receivers has shape \(2, 4, 2\), expected \(2, 5, 2\)",
    ),
    "data": (
        lambda: shared().adjoint(vp(), jnp.zeros((2, 5, 63), jnp.float32)),
        ValueError,
        r"data has shape \(2, 5, 63\), expected \(2, 5, 64\)",
    ),
    "traces": (
        lambda: shared().jacobian(vp()).T.mv(jnp.zeros((1, 5, NT), jnp.float32)),
        ValueError,
        r"traces has shape \(1, 5, 64\), expected \(2, 5, 64\)",
    ),
    "perturbation": (
        lambda: shared().jacobian(vp()).mv(vp()[1:]),
        ValueError,
        r"perturbation has shape \(23, 20\), expected \(24, 20\)",
    ),
    "perturbation of other parameters": (
        lambda: shared_density().jacobian({"vp": vp(), "rho": rho()}).mv({"vp": vp()}),
        ValueError,
        r"a perturbation must be shaped like the model",
    ),
    "fractional shots": (
        lambda: shared()(vp(), shots=jnp.array([0.0])),
        TypeError,
        r"shots have type float32: give whole",
    ),
    "a table of shots": (
        lambda: shared()(vp(), shots=jnp.array([[0]])),
        ValueError,
        r"shots have shape \(1, 1\)",
    ),
}


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("case", WHILE_TRACING)
def test_while_tracing(case: str, jitted: bool):
    run, kind, message = WHILE_TRACING[case]
    refused(jax.jit(run) if jitted else run, kind, message)


def test_forward_mode_is_refused_with_a_way_out():
    for attempt in (
        lambda: jax.jvp(shared(), (vp(),), (vp(),)),
        lambda: jax.jvp(lambda m: jnp.sum(shared()(m) ** 2), (vp(),), (vp(),)),
    ):
        with pytest.raises(TypeError, match=r"use its twin F\.forward_mode\(\), or F\.jvp"):
            attempt()


# ---------------------------------------------------------------- known when shots are fired

NAN = float("nan")

WHEN_FIRED: dict[str, tuple[Callable[[], object], str]] = {
    "too fast": (
        lambda: shared()(vp().at[3, 4].set(2600.0)),
        r"fastest wave speed, 2600 m/s, exceeds max_velocity=2500 m/s.*raise max_velocity",
    ),
    "km/s": (
        lambda: shared()(vp(2.0)),
        r"too few grid points per wavelength: .* at 2 m/s .*looks like km/s: give m/s",
    ),
    "too slow": (
        lambda: shared()(vp(300.0)),
        r"too few grid points per wavelength: [\d.]+ at 300 m/s",
    ),
    "negative": (
        lambda: shared()(vp().at[0, 0].set(-1.0)),
        r"slowest wave speed is -1 m/s: it must be positive",
    ),
    "zero": (lambda: shared()(vp().at[0, 0].set(0.0)), r"slowest wave speed is 0 m/s"),
    "NaN": (lambda: shared()(vp().at[5, 5].set(NAN)), r"wave speed is NaN or infinite"),
    "infinite": (lambda: shared()(vp().at[5, 5].set(jnp.inf)), r"wave speed is NaN or infinite"),
    "NaN in one parameter": (
        lambda: shared_density()({"vp": vp(), "rho": rho().at[2, 2].set(NAN)}),
        r"the model gives the coefficient \w+ values that are not finite",
    ),
    "zero density": (
        lambda: shared_density()({"vp": vp(), "rho": rho(0.0)}),
        r"least rho is 0: it must be positive",
    ),
    "negative density": (
        lambda: shared_density()({"vp": vp(), "rho": rho(-1000.0)}),
        r"rho|density|compressibility|positive",
    ),
    "NaN wavelet": (
        lambda: shared()(vp(), wavelet=jnp.full((2, 1, NT), NAN, jnp.float32)),
        r"the wavelet has values that are not finite",
    ),
    "shot too high": (
        lambda: shared()(vp(), shots=jnp.array([0, 2])),
        r"shots=0\.\.2: the survey has shots 0 to 1",
    ),
    "negative shot": (
        lambda: shared()(vp(), shots=jnp.array([-1])),
        r"shots=-1\.\.-1: the survey has shots 0 to 1",
    ),
    "sources outside": (
        lambda: shared()(vp(), sources=jnp.array([[[50.0, 20.0]], [[50.0, 400.0]]], jnp.float32)),
        r"sources: 1 of 2 lie outside the grid, the first at \(50\.0, 400\.0\) m",
    ),
    "NaN receivers": (
        lambda: shared()(vp(), receivers=jnp.full((2, 5, 2), NAN, jnp.float32)),
        r"receivers: a position is NaN or infinite",
    ),
    "NaN data": (
        lambda: shared().adjoint(vp(), jnp.full((2, 5, NT), NAN, jnp.float32)),
        r"not finite",
    ),
    "NaN residual": (
        lambda: shared().jacobian(vp()).T.mv(jnp.full((2, 5, NT), NAN, jnp.float32)),
        r"traces or perturbations passed in are not finite|not finite",
    ),
    "NaN perturbation": (lambda: shared().jacobian(vp()).mv(vp(NAN)), r"not finite"),
}


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("case", WHEN_FIRED)
def test_when_fired(case: str, jitted: bool):
    run, message = WHEN_FIRED[case]
    with pytest.raises(Exception, match=message) as caught:
        jax.block_until_ready((jax.jit(run) if jitted else run)())
    (line,) = {part.strip() for part in str(caught.value).splitlines() if re.search(message, part)}
    assert len(line) < 500
    assert jnp.all(jnp.isfinite(shared()(vp())))  # and the next call works


def test_an_error_leaves_the_propagator_usable():
    F = shared()
    good = F(vp())
    for _ in range(2):
        with pytest.raises(Exception, match="exceeds max_velocity"):
            jax.block_until_ready(jax.jit(jax.grad(lambda m: jnp.sum(F(m) ** 2)))(vp(2600.0)))
    np.testing.assert_array_equal(F(vp()), good)


def test_a_model_at_max_velocity_is_fine():
    """The bound is inclusive, whatever float32 makes of it."""
    F = propagator(max_velocity=2345.678)
    assert jnp.all(jnp.isfinite(F(vp(2345.678))))


def test_unsampled_wavelets_of_the_run_are_the_users_business():
    """A given wavelet is not analysed: only its values are checked."""
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, NT)), jnp.float32)
    assert jnp.all(jnp.isfinite(shared()(vp(), wavelet=noise)))
