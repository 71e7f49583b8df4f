"""The largest time step of an equation that states no formula for it: in the uniform medium whose
fastest waves have a given velocity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..boundaries.base import AbstractBoundary, Edge
from ..calculus.idle import idle, without
from ..equations.base import AbstractWaveEquation
from ..scheme.symbols import Symbols
from .step_limit import Motion

MEDIA = 16  # in which the effect of each parameter on the speed is tried
MATTERS = 1e-6  # of the speed: less is rounding
FOUND = 1e-9  # of the velocity: as close as a medium has to come to it
TRIALS = 50


@cache
def motion_of(equation: AbstractWaveEquation, edges: AbstractBoundary, ndim: int) -> Motion:
    """The alternating motion of an equation's scheme, in which no layer absorbs. The fields between
    its first ports tell the step: others follow them."""
    system = equation.system(Symbols(ndim, equation.space_order, np.float64), edges)
    ends = ([p.name for p in ports[:1]] for ports in (system.inputs, system.outputs))
    return Motion(edges.surround(without(system, idle(system, *ends))))


@cache
def uniform_step(
    equation: AbstractWaveEquation, spacing: tuple[float, ...], max_velocity: float
) -> float:
    """The largest step, s, in a uniform medium whose fastest waves travel at `max_velocity`, m/s.

    Raises:
        ValueError: no such medium is known, or nothing moves in it.
    """
    medium = uniform_medium(equation, len(spacing), max_velocity)
    return step_in(equation, spacing, medium, max_velocity)


def step_in(
    equation: AbstractWaveEquation,
    spacing: tuple[float, ...],
    medium: Mapping[str, float],
    velocity: float,
) -> float:
    """The largest step, s, in a uniform medium, given by its parameters.

    Args:
        equation: the wave equation.
        spacing: of the grid, m.
        medium: numbers by name.
        velocity: of its fastest waves, m/s.

    Raises:
        ValueError: nothing moves in it.
    """
    ndim = len(spacing)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        made = equation.coefficients({n: jnp.full((1,) * ndim, v) for n, v in medium.items()})
        values = {n: float(np.ravel(v)[0]) for n, v in made.items()}
    motion = motion_of(equation, Edge(), ndim)
    step = motion.uniform_step(values, spacing, 0.1 * min(spacing) / velocity)
    if not math.isfinite(step):
        raise ValueError("nothing moves in this medium: every force is zero")
    return step


def uniform_medium(
    equation: AbstractWaveEquation, ndim: int, max_velocity: float
) -> dict[str, float]:
    """The parameters of a uniform medium whose fastest waves travel at `max_velocity`, m/s.

    Raises:
        ValueError: the equation does not say, and more than one parameter sets the speed; or it
            says a medium of another speed.
    """
    name, names = type(equation).__name__, equation.required(ndim)
    stated = equation.extreme(max_velocity)
    if stated is None:
        return _solved(equation, ndim, max_velocity)
    if set(stated) != set(names):
        raise ValueError(
            f"{name}.extreme gives {', '.join(stated) or 'nothing'}: give {', '.join(names)}"
        )
    medium = {n: float(stated[n]) for n in names}
    arrays = {n: np.full((1,) * (ndim + 1), v) for n, v in medium.items()}
    found = float(_fastest(equation, arrays)[0])
    if not abs(found / max_velocity - 1.0) <= 0.01:
        raise ValueError(
            f"{name}.extreme({max_velocity:g}) is a medium whose fastest waves travel at {found:g} "
            f"m/s: give one of {max_velocity:g} m/s"
        )
    return medium


def _solved(equation: AbstractWaveEquation, ndim: int, max_velocity: float) -> dict[str, float]:
    """The medium, where one parameter alone sets the speed."""
    names, shape = equation.required(ndim), (MEDIA, *(1,) * ndim)
    rng = np.random.default_rng(0)
    media = {n: np.exp(rng.uniform(-0.7, 0.7, shape)) for n in names}
    before = _fastest(equation, media)
    matter = []
    for n in names:
        after = _fastest(equation, {**media, n: 2.0 * media[n]})
        if np.any(np.abs(after - before) > MATTERS * before):
            matter.append(n)
    if len(matter) != 1:
        what = f"{', '.join(matter)} set" if matter else "no parameter sets"
        raise ValueError(
            f"{type(equation).__name__}: {what} the speed of its fastest waves, so that no time "
            "step is known for a velocity. Say a medium of that velocity, by a method of the "
            f"equation, def extreme(self, max_velocity): return {{{names[0]!r}: max_velocity, "
            "...}, or take the step from a model, Propagator(..., max_velocity=model)"
        )
    (own,) = matter
    for rest in (0.0, 1.0):
        positive = equation.positive_parameters
        medium = {n: 1.0 if n in positive else rest for n in names}
        found = _root(equation, ndim, medium, own, max_velocity)
        if found is not None:
            return {**medium, own: found}
    raise ValueError(
        f"{type(equation).__name__}: no {own} was found that makes waves of {max_velocity:g} m/s. "
        "Say a medium of that velocity, def extreme(self, max_velocity)"
    )


def _root(
    equation: AbstractWaveEquation, ndim: int, medium: Mapping[str, float], own: str, wanted: float
) -> float | None:
    """The value of one parameter for which the fastest waves have the wanted velocity, by secants
    in logarithms; None if there is none."""

    def excess(logarithm: float) -> float:
        values = {**medium, own: math.exp(logarithm)}
        arrays = {n: np.full((1,) * (ndim + 1), v) for n, v in values.items()}
        with np.errstate(all="ignore"):
            return float(np.log(_fastest(equation, arrays)[0] / wanted))

    last, now = 0.0, math.log(2.0)
    excess_last, excess_now = excess(last), excess(now)
    for _ in range(TRIALS):
        if abs(excess_now) <= FOUND:
            return math.exp(now)
        slope = (excess_now - excess_last) / (now - last) if now != last else 0.0
        if slope == 0.0 or not math.isfinite(slope):
            return None
        last, excess_last, now = now, excess_now, now - excess_now / slope
        if abs(now) > 300.0:  # beyond what floating point holds
            return None
        excess_now = excess(now)
    return None


def _fastest(equation: AbstractWaveEquation, media: Mapping[str, Any]) -> np.ndarray:
    """The speeds of the fastest waves in uniform media, (medium, *ones) for each parameter."""
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        given = {n: jnp.asarray(v) for n, v in media.items()}
        return np.asarray(jax.vmap(equation.speeds)(given)[1], np.float64)
