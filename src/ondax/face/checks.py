"""Checks that name the value at fault and the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from .._validate import finite_speeds, positive, told_apart
from ..backends.settings import SHOTS, Settings
from ..boundaries.base import AbstractBoundary
from ..equations.base import AbstractWaveEquation
from ..equations.plausible import Plausible
from ..grid import Grid
from ..survey import Survey

MOST_STEPS_PER_SAMPLE = 500  # beyond this a unit is wrong, not the survey


def wavelet_of_survey(wavelet: Any, shape: tuple[int, ...]) -> Any:
    """Wavelets of fewer axes, as `Survey` takes them, repeated to (shot, [component,] source,
    time)."""
    axes = np.ndim(wavelet)
    if np.shape(wavelet)[-1:] != shape[-1:] or not (axes == 1 or (axes == 2 and len(shape) == 3)):
        return wavelet
    return (
        jnp.broadcast_to(wavelet, shape) if axes == 1 or np.shape(wavelet) == shape[1:] else wavelet
    )


def positions_of_survey(name: str, positions: Any, shape: tuple[int, ...]) -> Any:
    """Positions of one axis less, as `Survey` takes them: one source in each shot, or the same
    receivers in all."""
    if np.ndim(positions) != 2:
        return positions
    xp = jnp if isinstance(positions, jax.Array) else np
    if name == "sources":
        return xp.expand_dims(xp.asarray(positions), 1)
    return xp.broadcast_to(xp.asarray(positions), (shape[0], *np.shape(positions)))


def shot_numbers(shots: Any, count: int) -> Array:
    """Shot numbers as a one-dimensional int32 array.

    Args:
        shots: the numbers; may be traced, and then their values are checked when shots are fired.
        count: shots of the survey.

    Raises:
        TypeError: they are not whole numbers.
        ValueError: there are none, they are not one-dimensional, or the survey has no such shots.
    """
    array = shots if isinstance(shots, jax.Array) else np.asarray(shots)
    if array.size == 0:
        raise ValueError(
            f"shots={shots!r}: give at least one shot number, or leave it out for all of them"
        )
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"shots have type {array.dtype}: give whole numbers")
    if array.ndim != 1:
        raise ValueError(f"shots have shape {array.shape}: give a list of shot numbers")
    if not isinstance(array, Tracer):
        known = np.asarray(array)
        shot_range(known, count)  # here, as larger numbers than int32 holds would become others
        return jnp.asarray(known.astype(np.int32))
    return array.astype(jnp.int32)


def shot_range(shots: np.ndarray, count: int) -> None:
    """Check shot numbers.

    Raises:
        ValueError: the survey has no such shots.
    """
    if shots.size and (shots.min() < 0 or shots.max() >= count):
        raise ValueError(
            f"shots={shots.min()}..{shots.max()}: the survey has shots 0 to {count - 1}"
        )


def default_points_per_wavelength(space_order: int) -> float:
    """Grid points below which dispersion ruins the shortest waves (numerical phase error above
    about 2 %)."""
    return {2: 6.0, 4: 3.5, 6: 3.0}.get(space_order, 2.5)


def steps_per_sample(
    dt: float, largest: float, max_velocity: float, spacing: Sequence[float]
) -> int:
    """The smallest k for which `dt / k` is stable.

    Raises:
        ValueError: k is so large that a unit must be wrong.
    """
    k = math.ceil(dt / largest * (1.0 - 1e-9))
    if k > MOST_STEPS_PER_SAMPLE:
        raise ValueError(
            f"dt={dt} s needs {k} internal steps of {dt / k:.3g} s at max_velocity={max_velocity} "
            "m/s and "
            f"spacing={tuple(spacing)} m: is dt in milliseconds, or the spacing in kilometres?"
        )
    return max(1, k)


def kinds(equation: Any, grid: Any, survey: Any, boundary: Any, settings: Any) -> None:
    """Check that the arguments of a propagator are what they should be.

    Raises:
        TypeError: one is a class, another argument, or something else; says what is wanted.
    """
    if isinstance(grid, Survey) and isinstance(survey, Grid):
        raise TypeError(
            "grid and survey are swapped: Propagator(equation, grid, survey, max_velocity)"
        )
    wanted = {
        "equation": (equation, AbstractWaveEquation, "ox.Acoustic()"),
        "grid": (grid, Grid, "ox.Grid(shape, spacing)"),
        "survey": (survey, Survey, "ox.Survey(sources, receivers, wavelet, dt)"),
        "boundary": (
            boundary,
            AbstractBoundary,
            "ox.CPML(), ox.JointPML(), ox.Sponge() or ox.Faces(ox.CPML(), top=ox.FreeSurface())",
        ),
        "settings": (settings, Settings, "ox.Settings(threads=4)"),
    }
    for name, (value, kind, example) in wanted.items():
        if isinstance(value, type):
            raise TypeError(
                f"{name}={value.__name__} is a class: give one of it, {value.__name__}(), as in "
                f"{example}"
            )
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name}={value!r}: give {example}, for example")


def mesh(value: Any, axes: tuple[str, ...]) -> None:
    """Check that a grid has the axes that a mesh of devices cuts.

    Raises:
        ValueError: it has not.
    """
    missing = [] if value is None else sorted({*value.axis_names} - {*axes, SHOTS})
    if missing:
        raise ValueError(
            f"Settings(mesh=...) cuts the axis {missing[0]!r}, which a grid of {len(axes)} axes "
            f"does not have: name the mesh's axes after some of {(*axes, SHOTS)}"
        )


def parts(mesh: Any, axes: tuple[str, ...], points: Sequence[int], reach: int) -> None:
    """Check that the parts of a grid are no thinner than what stencils read of a neighbour's.

    Args:
        mesh: of devices; None for one.
        axes: names of the grid's.
        points: along each of them, boundaries included.
        reach: points that stencils read to each side.

    Raises:
        ValueError: they are.
    """
    for axis, n in zip(axes, points, strict=True):
        count = 1 if mesh is None else mesh.shape.get(axis, 1)
        if count > 1 and -(-n // count) < reach:
            raise ValueError(
                f"Settings(mesh=...) cuts the {n} points along {axis} into {count} parts of "
                f"{-(-n // count)}, but stencils read {reach} points to each side: take fewer "
                f"devices along {axis}"
            )


def plausible(largest: Mapping[str, float], known: Mapping[str, Plausible]) -> None:
    """Check the sizes of parameters, of which the largest absolute values are given.

    Raises:
        ValueError: names the first that looks like another unit.
    """
    for name, value in largest.items():
        limits = known[name]
        if not limits.least <= value <= limits.most and math.isfinite(value):
            raise ValueError(
                f"the model's {name} is {value:g} at most, which looks like {limits.slip}: give "
                f"{limits.unit}"
            )


def speeds(
    slowest: float,
    fastest: float,
    *,
    max_velocity: float,
    spacing: float,
    highest_frequency: float,
    points: float,
    path: float,
    error: Callable[[float], float],
    jump: Callable[[], str] = lambda: "",
) -> None:
    """Check a model's slowest and fastest speed, m/s.

    Args:
        slowest: speed of a model.
        fastest: speed of a model.
        max_velocity: the fastest that is allowed.
        spacing: metres.
        highest_frequency: Hz.
        points: grid points that a wavelength must have at least.
        path: the longest in the model, metres.
        error: what differences in space are expected to make of traces after that path, as a
            function of the speed.
        jump: tells what makes the wavelets' frequencies so high, and the remedy, if it is that they
            jump; see `jump_of`.

    Raises:
        ValueError: not finite or not positive, faster than `max_velocity`, or too slow for the
            grid.
    """
    finite_speeds(slowest, fastest)
    if fastest > max_velocity * (1.0 + 1e-5):  # the rounding of float32 models
        raise ValueError(
            f"the model's fastest wave speed, {fastest:g} m/s, exceeds "
            f"max_velocity={max_velocity:g} m/s, for which the "
            "time step was chosen: raise max_velocity, or bound the model"
        )
    if highest_frequency > 0.0 and slowest < points * highest_frequency * spacing:
        per_wavelength = slowest / (highest_frequency * spacing)
        has, needs = told_apart(per_wavelength, points)
        slip = " (a speed this low looks like km/s: give m/s)" if slowest < 20.0 else ""
        raise ValueError(
            f"too few grid points per wavelength: {has} at {slowest:g} m/s{slip}, "
            f"{highest_frequency:.3g} Hz "
            f"and a spacing of {spacing:g} m, where {needs} are needed. Over the model's longest "
            f"path, {path:.4g} m, "
            f"traces are then expected to be {100.0 * error(slowest):.2g} % wrong. "
            f"{jump() or 'Use a finer grid or a lower frequency'}, "
            "or set min_points_per_wavelength"
        )


def aperture(value: Any, boundary: AbstractBoundary, axes: tuple[str, ...]) -> float:
    """Check an aperture, metres.

    Raises:
        ValueError: not positive; or there is nothing that absorbs at the sides, where windows end.
    """
    metres = positive("aperture", value, "metres, or None")
    for axis, (below, above) in zip(axes[:-1], boundary.widths(axes), strict=False):
        if min(below, above) == 0:
            raise ValueError(
                f"aperture={value!r}: windows end inside the model, so that both sides along "
                f"{axis} need a boundary that absorbs; it has {below} and {above} cells"
            )
    return metres


def limits(grid: Grid, layer: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest coordinates of points, metres, (axis,): those of the grid, or of so
    many cells below and above it. Positions may have been rounded to float32."""
    cells = np.array(layer, float).reshape(grid.ndim, 2) + 1e-5
    ends = np.array(grid.extent)
    beyond = cells * np.array(grid.spacing)[:, None]
    return ends[:, 0] - beyond[:, 0], ends[:, 1] + beyond[:, 1]


def positions(name: str, points: np.ndarray, grid: Grid, layer: Sequence[tuple[int, int]]) -> None:
    """Check that points lie in the grid, or in so many cells below and above it along each axis.

    Raises:
        ValueError: wrong number of coordinates, not finite, or outside.
    """
    if points.shape[-1] != grid.ndim:
        raise ValueError(
            f"{name} have {points.shape[-1]} coordinates, but the grid has {grid.ndim} axes"
        )
    if not np.all(np.isfinite(points)):
        raise ValueError(f"{name}: a position is NaN or infinite")
    least, most = limits(grid, layer)
    for axis, (low, high) in enumerate(grid.extent):
        outside = (points[:, axis] < least[axis]) | (points[:, axis] > most[axis])
        if np.any(outside):
            first = points[np.argmax(outside)]
            upward = bool(axis == grid.ndim - 1 and first[axis] < low)
            raise ValueError(
                f"{name}: {np.count_nonzero(outside)} of {len(points)} lie outside the grid, the "
                "first at "
                f"{tuple(float(c) for c in first)} m; axis {axis} runs from {low:g} to {high:g} m. "
                "Positions are in metres, not "
                f"cells; {'depth is positive down; ' * upward}points_in_layer=True allows the "
                "absorbing layer"
            )
