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

from ._validate import fraction as fraction
from ._validate import not_negative as not_negative
from ._validate import one_of as one_of
from ._validate import positive as positive
from ._validate import whole as whole
from .engine import Settings
from .equations import AXIS_NAMES, AbstractBoundary, AbstractWaveEquation
from .equations.plausible import Plausible
from .equations.stability import second_derivative_weights
from .grid import Grid
from .survey import Survey

MOST_STEPS_PER_SAMPLE = 500  # beyond this a unit is wrong, not the survey
CONSTRAINT_ROUNDING = 1e-6  # of float32 parameters of order one
ROUNDING_OF_OTHERS = 1e-12  # of the loudest wavelet: weaker ones are nothing
SPECTRAL_FLOOR = 0.02  # of the amplitude spectrum's peak: what lies above counts as signal


def floating_type(arrays: Sequence[Any]) -> Any:
    """float64 if any input is, else float32.

    Raises:
        TypeError: an input is not real and floating.
    """
    types = []
    for x in arrays:
        dtype = jnp.result_type(x)
        if dtype not in (jnp.float32, jnp.float64):
            raise TypeError(f"an input has type {dtype}: use float32 or float64")
        types.append(dtype)
    return jnp.float64 if jnp.dtype("float64") in types else jnp.float32


def shape(name: str, values: Any, expected: tuple[int, ...]) -> None:
    """Check a shape.

    Raises:
        ValueError: another shape.
    """
    if jnp.shape(values) != expected:
        hint = ""
        if len(jnp.shape(values)) == len(expected) and jnp.shape(values) == expected[::-1]:
            hint = ": transpose it, depth is the last axis"
        raise ValueError(f"{name} has shape {jnp.shape(values)}, expected {expected}{hint}")


def shaped(name: str, values: Any, expected: tuple[int, ...], dtype: Any) -> Array:
    """The values as an array of the given type.

    Raises:
        ValueError: another shape.
    """
    shape(name, values, expected)
    array = jnp.asarray(values)
    return array if array.dtype == dtype else array.astype(dtype)


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


def highest_frequency(wavelets: np.ndarray, dt: float) -> float:
    """The frequency above which each wavelet's spectrum stays below 2 % of its own peak, Hz.

    Of its own: what is weak beside other shots, or in other units than other components, is a wave
    all the same.

    Args:
        wavelets: (..., time).
        dt: their sampling interval, s.
    """
    frequencies, spectra = _spectra(wavelets, dt)
    peaks = spectra.max(axis=-1, keepdims=True)
    counts = peaks > ROUNDING_OF_OTHERS * spectra.max(initial=0.0)
    high = np.nonzero(np.any((spectra >= SPECTRAL_FLOOR * peaks) & counts, axis=0))[0]
    return float(frequencies[high[-1]]) if high.size else 0.0


def dominant_frequency(survey: Survey) -> float:
    """The frequency at which the wavelets' amplitude spectra peak, Hz."""
    frequencies, spectra = _spectra(survey.wavelet, survey.dt)
    return float(frequencies[np.argmax(spectra.max(axis=0))])


def _spectra(wavelets: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, Hz, and the amplitude of each wavelet at each."""
    n = 4 * wavelets.shape[-1]
    return np.fft.rfftfreq(n, dt), np.abs(np.fft.rfft(wavelets, n=n, axis=-1)).reshape(
        -1, n // 2 + 1
    )


def told_apart(a: float, b: float) -> tuple[str, str]:
    """Two different numbers as texts that differ."""
    for digits in range(2, 17):
        texts = f"{a:.{digits}g}", f"{b:.{digits}g}"
        if texts[0] != texts[1]:
            return texts[0], f"{b:g}" if f"{b:g}" != texts[0] else texts[1]
    return repr(a), repr(b)


def jump_of(wavelet: np.ndarray, least: float = 0.05) -> str:
    """A remedy, if wavelets start or end with a jump: that has energy at all frequencies, whatever
    they are meant to have.

    Args:
        wavelet: (..., time).
        least: size of a jump, as a part of the peak.
    """
    peak = np.max(np.abs(wavelet), initial=0.0)
    for at, where, remedy in ((0, "start", "a larger delay="), (-1, "end", "more samples")):
        size = np.max(np.abs(wavelet[..., at]), initial=0.0)
        if peak > 0.0 and size > least * peak:
            return (
                f"The wavelets {where} with {100.0 * size / peak:.0f} % of their peak, a jump with "
                "energy at all frequencies: let "
                f"them {'rise from' if at == 0 else 'come back to'} zero, with {remedy}"
            )
    return ""


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
            "ox.CPML(), ox.Sponge() or ox.Faces(ox.CPML(), top=ox.FreeSurface())",
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


def finite_speeds(slowest: float, fastest: float) -> None:
    """Check that a model's slowest and fastest speed, m/s, are speeds.

    Raises:
        ValueError: not finite or not positive.
    """
    if not (math.isfinite(slowest) and math.isfinite(fastest)):
        raise ValueError("the model's wave speed is NaN or infinite somewhere")
    if slowest <= 0.0:
        raise ValueError(f"the model's slowest wave speed is {slowest:g} m/s: it must be positive")


def least_values(positive: Mapping[str, float], constraints: Mapping[str, float]) -> None:
    """Check the least values of parameters that must be positive, and of combinations that must not
    be negative.

    Raises:
        ValueError: names the first at fault.
    """
    for name, value in positive.items():
        if value <= 0.0:  # NaN is found among the coefficients
            raise ValueError(
                f"the model's least {name} is {value:g}: it must be positive everywhere"
            )
    for name, value in constraints.items():
        if value < -CONSTRAINT_ROUNDING:
            raise ValueError(
                f"the model's least {name} is {value:g}: it must not be negative anywhere"
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


def finite_coefficient(name: str, values: np.ndarray) -> None:
    """Check the values of a scheme's coefficient.

    Raises:
        ValueError: one is not finite.
    """
    if not np.isfinite(np.sum(values, dtype=np.float64)):
        raise ValueError(
            f"the model gives the coefficient {name} values that are not finite: look for NaN, inf "
            "or 0"
        )


def spatial_error(
    survey: Survey, space_order: int, spacing: float, speed: float, path: float
) -> float:
    """The error of traces, as a fraction of them, that differences in space are expected to make.

    That of a plane wave along an axis of the grid, the worst direction, for centred second
    differences (staggered ones are slightly better): at each frequency of the survey's wavelets,
    the phase that grows with the path, in the root mean square over their spectra. It says nothing
    of mode conversions, or of the weights of points off the grid.

    Args:
        survey: the wavelets.
        space_order: of the differences.
        spacing: metres.
        speed: of the wave, m/s.
        path: its length, metres.
    """
    frequencies, each = _spectra(survey.wavelet, survey.dt)
    spectra = each.max(axis=0)
    weights = second_derivative_weights(space_order)
    turns = np.linspace(0.0, np.pi, 4097)  # wavenumbers times the spacing
    lags = np.arange(len(weights)) - len(weights) // 2
    seen = np.sqrt(np.maximum(-(np.cos(np.outer(turns, lags)) @ weights), 0.0))
    true = 2.0 * np.pi * frequencies * spacing / speed
    phases = (np.interp(true, seen, turns) - true) * (path / spacing)
    # Shorter waves than the grid can carry do not arrive at all.
    errors = np.where(
        true <= seen[-1], 2.0 * np.abs(np.sin(np.clip(phases, -np.pi, np.pi) / 2.0)), 1.0
    )
    return float(np.linalg.norm(spectra * errors) / np.linalg.norm(spectra))


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


def faces(boundary: AbstractBoundary, grid: Grid, equation: AbstractWaveEquation) -> None:
    """Check that a boundary fits a grid and an equation.

    Raises:
        ValueError: a free surface elsewhere than at the top, or a grid too thin for it; a perfectly
            matched layer where the equation has growing solutions in it.
    """
    axes, space_order = AXIS_NAMES[grid.ndim], equation.space_order
    for axis in axes:
        for side in ("low", "high"):
            if boundary.face(axis, side).mirrors and (axis, side) != ("z", "low"):
                raise ValueError(
                    f"boundary={boundary!r}: a free surface is for the top only: Faces(CPML(), "
                    "top=FreeSurface())"
                )
            if boundary.face(axis, side).stretches and equation.stretchable is False:
                raise ValueError(
                    f"boundary={boundary!r}: {type(equation).__name__} is unstable in perfectly "
                    "matched layers, use ox.Sponge()"
                )
    if boundary.free_surface and grid.shape[-1] <= space_order:
        raise ValueError(
            f"shape={grid.shape}: below a free surface, a scheme of order {space_order} needs more "
            f"than {space_order} points in depth"
        )


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
    for axis, ((low, high), h) in enumerate(zip(grid.extent, grid.spacing, strict=True)):
        below, above = (
            (cells + 1e-5) * h for cells in layer[axis]
        )  # positions may have been rounded to float32
        outside = (points[:, axis] < low - below) | (points[:, axis] > high + above)
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
