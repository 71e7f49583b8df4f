"""Inputs of a hurried user, and what comes of each: `python tests/chaos/inputs.py` prints the table
as JSON.

Run by `test_inputs.py` in a process of its own, where nothing but ondax checks types.
"""

import json
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ondax as ox

SHAPE, H, DT, NT = (31, 26), 10.0, 0.002, 150
GRID, W = ox.Grid(SHAPE, H), ox.ricker(12.0, NT, DT)
SOURCES, RECEIVERS = ox.line((50.0, 40.0), (250.0, 40.0), 2), ox.line((0.0, 60.0), (300.0, 60.0), 5)
SURVEY = ox.Survey(SOURCES, RECEIVERS, W, DT)
VP = jnp.full(SHAPE, 2000.0)
ONE = jnp.ones(SHAPE)
DATA = jnp.ones((2, 5, NT))


def survey(**changes):
    return SURVEY.replace(**changes)


def make(equation=None, grid=GRID, survey=SURVEY, max_velocity=2600.0, **options):
    options = {"boundary": ox.Sponge(8)} | options
    return ox.Propagator(
        ox.Acoustic(4) if equation is None else equation, grid, survey, max_velocity, **options
    )


F = make()


def shoot(**options):
    return make(**options)(VP)


def shoot_model(equation, **model):
    F = make(equation, min_points_per_wavelength=0.0)
    return F({n: v * ONE for n, v in ({"vp": 2000.0} | model).items()})


def invert(**options):
    given = {"optimizer": optax.sgd(1.0), "iterations": 1, "progress": False} | options
    return ox.fwi(F, DATA, VP, **given)


def same(found, right):
    assert np.max(np.abs(found - right)) <= 1e-5 * np.max(np.abs(right))


VALUE, TYPE = "ValueError: ", "TypeError: "
CPML, SPONGE = ox.CPML(8), ox.Sponge(8)

# What was given, how, and what comes: "" where it is taken, else the error's type and a part of its
# line; "warns: ...".
CASES = {
    # ------------------------------------------------------------ grids and surveys
    "spacing as an array": (lambda: ox.Grid(SHAPE, np.array([10.0, 5.0])).spacing, ""),
    "origin as an array": (lambda: ox.Grid(SHAPE, H, np.array([1.0, 2.0])).origin, ""),
    "shape as an array": (lambda: ox.Grid(np.array(SHAPE), H).shape, ""),
    "shape as a JAX array": (lambda: ox.Grid(jnp.array(SHAPE), H).shape, ""),
    "spacing of NumPy's type": (lambda: ox.Grid(SHAPE, np.float32(10.0)), ""),
    "spacing of three": (
        lambda: ox.Grid(SHAPE, (1.0, 2.0, 3.0)),
        VALUE + "3 entries for a grid of 2 axes",
    ),
    "spacing of zero": (lambda: ox.Grid(SHAPE, 0.0), VALUE + "must be positive, in metres"),
    "spacing of NaN": (lambda: ox.Grid(SHAPE, np.nan), VALUE + "must be finite"),
    "half a point": (lambda: ox.Grid((10.5, 3), H), VALUE + "whole numbers of points"),
    "four axes": (lambda: ox.Grid((3, 3, 3, 3), H), VALUE + "1 to 3 whole numbers"),
    "a list of receiver components": (
        lambda: shoot_of_elastic(receiver=["velocity_x", "velocity_z"]),
        "",
    ),
    "an unknown component": (
        lambda: shoot_of_elastic(receiver="vz"),
        VALUE + "this equation offers",
    ),
    "a component twice": (lambda: survey(receiver=("a", "a")), VALUE + "names one component twice"),
    "a complex wavelet": (
        lambda: survey(wavelet=W * (1 + 1j)),
        VALUE + "wavelet: complex values; give real ones",
    ),
    "a wavelet of whole numbers": (lambda: survey(wavelet=np.arange(NT)), ""),
    "a wavelet with NaN": (
        lambda: survey(wavelet=W * np.nan),
        VALUE + "wavelet: 150 values are not finite",
    ),
    "dt of None": (lambda: survey(dt=None), VALUE + "dt=None must be a positive number of seconds"),
    "dt as a word": (lambda: survey(dt="2ms"), VALUE + "dt='2ms' must be a positive number"),
    "dt of zero": (lambda: survey(dt=0.0), VALUE + "must be a positive number of seconds"),
    "dt of NaN": (lambda: survey(dt=np.nan), VALUE + "must be a positive number of seconds"),
    "dt as a 0-d array": (lambda: survey(dt=np.array(0.002)).dt, ""),
    "dt in milliseconds": (lambda: make(survey=survey(dt=2.0)), VALUE + "millisecond"),
    "receivers of another dimension": (
        lambda: survey(receivers=[[1.0, 2.0, 3.0]]),
        VALUE + "2 axes, as the sources have",
    ),
    "dt set afterwards": (
        lambda: setattr(SURVEY, "dt", 1.0),
        "AttributeError: survey.replace(dt=...) makes another",
    ),
    "no shots": (lambda: ox.Extended(0), VALUE + "needs at least one"),
    "positions as lists": (lambda: survey(sources=[[50.0, 40.0], [100.0, 40.0]]), ""),
    "positions above": (
        lambda: make(survey=survey(receivers=[[100.0, -10.0]])),
        VALUE + "depth is positive down",
    ),
    "positions beside": (
        lambda: make(survey=survey(receivers=[[1000.0, 10.0]])),
        VALUE + "lie outside the grid",
    ),
    "positions in kilometres": (
        lambda: make(survey=survey(sources=SOURCES / 1000.0, receivers=RECEIVERS / 1000.0)),
        "warns: neither in kilometres nor in cells",
    ),
    "positions in cells": (
        lambda: make(survey=survey(sources=SOURCES / H, receivers=RECEIVERS / H)),
        "warns: neither in kilometres nor in cells",
    ),
    # ------------------------------------------------------------ propagators
    "equation as a class": (
        lambda: ox.Propagator(ox.Acoustic, GRID, SURVEY, 2600.0),
        TYPE + "Acoustic is a class: give one of it",
    ),
    "equation as a word": (
        lambda: ox.Propagator("acoustic", GRID, SURVEY, 2600.0),
        TYPE + "equation='acoustic': give ox.Acoustic()",
    ),
    "boundary as a class": (lambda: make(boundary=ox.CPML), TYPE + "CPML is a class"),
    "boundary as a number": (lambda: make(boundary=20), TYPE + "boundary=20: give ox.CPML()"),
    "boundary as a word": (lambda: make(boundary="free"), TYPE + "boundary='free': give ox.CPML()"),
    "settings as a dict": (
        lambda: make(settings={"threads": 1}),
        TYPE + "settings={'threads': 1}: give ox.Settings",
    ),
    "grid and survey swapped": (
        lambda: ox.Propagator(ox.Acoustic(), SURVEY, GRID, 2600.0),
        TYPE + "grid and survey are swapped",
    ),
    "grid as a tuple": (lambda: make(grid=SHAPE), TYPE + "grid=(31, 26): give ox.Grid"),
    "max_velocity as a 0-d array": (lambda: make(max_velocity=np.array(2600.0)), ""),
    "max_velocity as a JAX scalar": (lambda: make(max_velocity=jnp.float32(2600.0)), ""),
    "max_velocity in km/s": (lambda: make(max_velocity=2.6), VALUE + "km/s"),
    "max_velocity of NaN": (
        lambda: make(max_velocity=np.nan),
        VALUE + "must be a positive number, in m/s",
    ),
    "faces with a free surface only": (
        lambda: make(boundary=ox.Faces(top=ox.FreeSurface())).boundary,
        "",
    ),
    "a free surface at the bottom": (
        lambda: ox.Faces(CPML, bottom=ox.FreeSurface()),
        VALUE + "can only be at the top",
    ),
    "points per wavelength of NaN": (
        lambda: make(min_points_per_wavelength=np.nan),
        VALUE + "must be a number, 0 or more",
    ),
    "points per wavelength of -1": (
        lambda: make(min_points_per_wavelength=-1),
        VALUE + "must be a number, 0 or more",
    ),
    "a sponge of power NaN": (
        lambda: ox.Sponge(power=np.nan),
        VALUE + "power=nan must be 1 or more",
    ),
    "a sponge of half a cell": (lambda: ox.Sponge(width=2.5), VALUE + "as a number of cells"),
    "an odd order": (
        lambda: ox.Propagator(ox.Acoustic(5), GRID, SURVEY, 2600.0),
        VALUE + "even number from 2 to 16",
    ),
    "interpolation misspelt": (
        lambda: make(interpolation="cubic"),
        VALUE + "choose one of 'sinc', 'linear'",
    ),
    "courant above one": (lambda: make(courant=1.5), VALUE + "at most 1"),
    "half a Ricker": (
        lambda: make(survey=survey(wavelet=half_ricker())),
        VALUE + "start with 100 % of their peak, a jump with energy at all frequencies",
    ),
    "a step": (
        lambda: make(survey=survey(wavelet=np.ones(NT))),
        "warns: start with 100 % of their peak, a jump with energy at all frequencies",
    ),
    "points per wavelength that look enough": (lambda: almost_enough(), VALUE + "2.498"),
    "threads of NumPy's type": (lambda: ox.Settings(threads=np.int64(2)).threads + 0, ""),
    "memory as a float": (lambda: ox.Settings(memory=8e9).memory, ""),
    "memory as True": (
        lambda: ox.Settings(memory=True),
        VALUE + "give a whole number of at least 1",
    ),
    "memory as a word": (
        lambda: ox.Settings(memory="8GB"),
        VALUE + "give a whole number of at least 1",
    ),
    "no threads": (lambda: ox.Settings(threads=0), VALUE + "give a whole number of at least 1"),
    "too little memory": (lambda: too_little(), "MemoryError: needs at least"),
    "a layer of one cell on a thin grid": (lambda: finite(thin()), ""),
    # ------------------------------------------------------------ models
    "a model in km/s": (lambda: F(VP / 1000.0), VALUE + "km/s"),
    "a model of whole numbers": (
        lambda: F(jnp.full(SHAPE, 2000)),
        TYPE + "int32: use float32 or float64",
    ),
    "a transposed model": (lambda: F(VP.T), VALUE + "transpose it, depth is the last axis"),
    "a model too fast": (lambda: F(VP * 2), VALUE + "exceeds max_velocity"),
    "a model with NaN": (lambda: F(VP.at[3, 4].set(np.nan)), VALUE + "NaN"),
    "a model as a dict": (lambda: F({"vp": VP}), ""),
    "a model of other parameters": (lambda: F({"velocity": VP}), VALUE + "needs the parameters vp"),
    "a NumPy model in double precision": (lambda: F(np.full(SHAPE, 2000.0)), ""),
    "rho in g/cm3": (
        lambda: shoot_model(ox.AcousticDensity(4), rho=2.1),
        VALUE + "rho is 2.1 at most, which looks like g/cm3: give kg/m3",
    ),
    "rho of zero": (lambda: shoot_model(ox.AcousticDensity(4), rho=0.0), VALUE + "rho"),
    "theta in degrees": (
        lambda: shoot_model(ox.TTI(4), epsilon=0.1, delta=0.05, theta=30.0),
        VALUE + "theta is 30 at most, which looks like degrees: give radians",
    ),
    "epsilon in per cent": (
        lambda: shoot_model(ox.VTI(4), epsilon=20.0, delta=10.0),
        VALUE + "epsilon is 20 at most, which looks like per cent",
    ),
    "1/Q": (
        lambda: shoot_model(ox.Viscoacoustic(4, frequency=12.0), rho=1000.0, Q=0.02),
        VALUE + "Q is 0.02 at most, which looks like 1/Q",
    ),
    # ------------------------------------------------------------ calls
    "no shots in a call": (lambda: F(VP, shots=[]), VALUE + "give at least one shot number"),
    "shots out of range": (
        lambda: F(VP, shots=[0, 5]),
        VALUE + "shots=0..5: the survey has shots 0 to 1",
    ),
    "shots beyond int32": (
        lambda: F(VP, shots=np.array([2**32])),
        VALUE + "the survey has shots 0 to 1",
    ),
    "negative shots": (lambda: F(VP, shots=[-1]), VALUE + "the survey has shots 0 to 1"),
    "shots as floats": (lambda: F(VP, shots=[0.0]), TYPE + "give whole numbers"),
    "shots as a mask": (lambda: F(VP, shots=np.array([True, False])), TYPE + "give whole numbers"),
    "one shot": (lambda: F(VP, shots=1), VALUE + "give a list of shot numbers"),
    "shots as a list": (lambda: same(F(VP, shots=[1]), F(VP)[1:]), ""),
    "a wavelet for all": (lambda: same(F(VP, wavelet=jnp.asarray(W, "float32")), F(VP)), ""),
    "a wavelet in NumPy": (lambda: F(VP, wavelet=W), ""),
    "a wavelet of another length": (
        lambda: F(VP, wavelet=W[:-1]),
        VALUE + "wavelet has shape (149,)",
    ),
    "sources for one each": (lambda: same(F(VP, sources=SOURCES), F(VP)), ""),
    "receivers for all shots": (lambda: same(F(VP, receivers=RECEIVERS), F(VP)), ""),
    "weights for points": (
        lambda: F(VP, weights=jnp.ones((2, *SHAPE))),
        VALUE + "the survey's sources are points",
    ),
    "no weights": (
        lambda: make(survey=survey(sources=ox.Extended(2)))(VP),
        VALUE + "give their weights",
    ),
    "traces of another shape": (
        lambda: F.adjoint(VP, DATA[:, :3]),
        VALUE + "data has shape (2, 3, 150), expected (2, 5, 150)",
    ),
    "traces with NaN": (
        lambda: F.adjoint(VP, DATA * np.nan),
        VALUE + "data has values that are not finite",
    ),
    "vmap over nothing": (
        lambda: jax.vmap(F)(jnp.zeros((0, *SHAPE))),
        VALUE + "vmap over no model",
    ),
    "jax.jvp": (lambda: jax.jvp(F, (VP,), (VP,)), TYPE + "use its twin F.forward_mode()"),
    "jax.jacfwd": (lambda: jax.jacfwd(F)(VP), TYPE + "use its twin F.forward_mode()"),
    "rank promotion forbidden": (lambda: without_rank_promotion(), ""),
    "a perturbation of another shape": (
        lambda: F.jacobian(VP).mv(VP[:5]),
        VALUE + "perturbation has shape",
    ),
    # ------------------------------------------------------------ inversions
    "an optimiser as a function": (
        lambda: invert(optimizer=optax.adam),
        TYPE + "optimizer=adam: give an optimiser of optax, made",
    ),
    "an optimiser as a word": (lambda: invert(optimizer="lbfgs"), TYPE + "optax.lbfgs()"),
    "bounds as a list": (lambda: invert(bounds=[1500.0, 2600.0]), ""),
    "bounds as one number": (lambda: invert(bounds=(1500.0,)), VALUE + "must be a pair"),
    "bounds upside down": (
        lambda: invert(bounds=(2600.0, 1500.0)),
        VALUE + "lower bound must be below",
    ),
    "bounds above max_velocity": (
        lambda: invert(bounds=(1500.0, 6000.0)),
        VALUE + "vp may become 6000 m/s, beyond max_velocity=2600",
    ),
    "observed of another shape": (
        lambda: ox.fwi(F, DATA[:1], VP, optimizer=optax.sgd(1.0), iterations=1),
        VALUE + "observed has shape",
    ),
    "iterations of -1": (lambda: invert(iterations=-1), VALUE + "iterations=-1"),
    "a folder that is not there": (
        lambda: invert(save="/no/such/folder/x.npz"),
        VALUE + "does not exist",
    ),
    "half an iteration": (lambda: invert(iterations=1.5), VALUE + "iterations=1.5"),
}


def shoot_of_elastic(**kinds):
    F = make(ox.Elastic(4), survey=survey(**kinds), min_points_per_wavelength=0.0)
    return F({"vp": VP, "vs": VP / 2, "rho": VP})


def half_ricker():
    t = np.arange(NT) * DT
    a = (np.pi * 12.0 * t) ** 2
    return (1 - 2 * a) * np.exp(-a)


def almost_enough():
    make(ox.Acoustic(8))(jnp.full(SHAPE, 2.498 * F.highest_frequency * H))


def too_little():
    G = make(settings=ox.Settings(memory=1000))
    jax.grad(lambda v: jnp.sum(G(v) ** 2))(VP)


def thin():
    grid = ox.Grid((31, 2), H)
    s = ox.Survey([[100.0, 0.0]], [[200.0, 10.0]], W, DT)
    return ox.Propagator(ox.Acoustic(8), grid, s, 2600.0, boundary=ox.CPML(1))(
        jnp.full((31, 2), 2000.0)
    )


def finite(traces):
    assert np.max(np.abs(traces)) < 1.0


def without_rank_promotion():
    jax.config.update("jax_numpy_rank_promotion", "raise")
    try:
        G = make(survey=survey(dt=0.004, wavelet=ox.ricker(12.0, NT, 0.004)))
        G(VP, wavelet=jnp.asarray(G.survey.wavelet, "float32"))
        G.adjoint(VP, DATA)
        jax.grad(lambda v: jnp.sum(G(v) ** 2))(VP)
    finally:
        jax.config.update("jax_numpy_rank_promotion", "allow")


def outcome(act) -> list[str]:
    """What came: "" or the error's type and lines; "warns: ..." before it."""
    said = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            act()
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    said += [f"warns: {w.message}" for w in seen if issubclass(w.category, UserWarning)]
    return said


if __name__ == "__main__":
    json.dump({name: outcome(act) for name, (act, _) in CASES.items()}, sys.stdout)
