"""Does a model run into perfectly matched layers in strata that make waves grow there?

Waves that strata along a face keep from leaving can have energy that goes one way along them and
crests that go the other. A perfectly matched layer amplifies such waves (Becache, Fauqueux and
Joly, 2003; Skelton, Adams and Craster, 2007). Elastic waves do this between many layers; scalar
waves do not, because their frequency rises with the wavenumber along the layers.

One interface keeps nothing: what counts is how often, and how strongly, the medium turns from soft
to stiff and back. Around each point of a face, in 128 cells along it, the squares of the reflection
coefficients are added up, those upwards and those downwards apart, and the smaller sum is doubled:
its largest value anywhere is called the layering. It is near zero in smooth models and where the
medium only gets stiffer with depth, a sea floor included.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._frames import levels_to_the_user
from ..boundaries.base import AbstractBoundary
from ..equations.base import AbstractWaveEquation
from ..scheme.symbols import AXIS_NAMES

LIMIT = 0.025
"""Half of the least layering with which waves were seen to grow in searches by measurement (see
tests/test_layering.py)."""
WINDOW = 128  # cells: what is farther apart does not keep waves together
PART = 16  # cells of a window that are summed first
LAGS = (1, 2, 4, 8)  # cells over which the medium may change and still reflect as an interface does


class GrowthInLayers(UserWarning):
    """A model's strata meet a perfectly matched layer, in which waves may grow without bound."""


def matters(equation: AbstractWaveEquation, boundary: AbstractBoundary, ndim: int) -> bool:
    """Can strata make waves of an equation grow in this boundary?"""
    ones = dict.fromkeys(equation.required(ndim), np.ones((1,) * ndim, np.float32))
    return ndim > 1 and any(_faces(boundary, ndim)) and bool(equation.reflecting(ones))


@partial(jax.jit, static_argnums=(0, 1, 2))
def layering(
    equation: AbstractWaveEquation,
    boundary: AbstractBoundary,
    ndim: int,
    parameters: dict[str, Float[Array, "..."]],
) -> Float[Array, ""]:
    """The largest layering of a model along the faces that perfectly matched layers lie on.

    Args:
        equation: says by `reflecting` which quantities reflect.
        boundary: what surrounds the model.
        ndim: number of axes.
        parameters: of the model, by name.
    """
    # Few and large operations: this is compiled with every program, and each costs tens of
    # milliseconds there. So all lines along all faces are of one array, as long as the longest.
    quantities = jnp.stack(list(equation.reflecting(parameters).values()))
    longest = max(quantities.shape[1:])
    lines = []
    for axis in range(ndim):
        sides = [at for which, at in _faces(boundary, ndim) if which == axis]
        if not sides:
            continue
        faces = jnp.take(quantities, np.array(sides), axis=axis + 1)
        for along in (a for a in range(ndim) if a != axis):
            surface = boundary.face("z", "low").returns and along == ndim - 1
            lines.append(_lengthened(jnp.moveaxis(faces, along + 1, -1), longest, surface))
    return _layering_of_lines(jnp.concatenate(lines))


def _faces(boundary: AbstractBoundary, ndim: int) -> Iterator[tuple[int, int]]:
    """Axis and index of the model's edge at each perfectly matched layer."""
    for axis, name in enumerate(AXIS_NAMES[ndim]):
        for side, at in (("low", 0), ("high", -1)):
            if boundary.face(name, side).guides:
                yield axis, at


def _lengthened(
    lines: Float[Array, "*line point"], longest: int, surface: bool
) -> Float[Array, "line length"]:
    """Lines of one length, and beyond each of their ends as far as the longest lag. Above a free
    surface is nothing: all is reflected. Elsewhere the last value goes on, which reflects
    nothing."""
    lines = lines.reshape(-1, lines.shape[-1])
    most, missing = max(LAGS), longest - lines.shape[-1]
    lines = jnp.pad(lines, [(0, 0), (0, most + missing)], mode="edge")
    return jnp.pad(lines, [(0, 0), (most, 0)], mode="constant" if surface else "edge")


def _layering_of_lines(lines: Float[Array, "line length"]) -> Float[Array, ""]:
    """The largest of lines. A change over more cells than a lag counts less; an interface has as
    many differences as the lag has cells."""
    most = max(LAGS)
    count = lines.shape[-1] - most
    differences = [
        _reflection(lines[:, most - lag :][:, :count], lines[:, most:]) / lag**0.5 for lag in LAGS
    ]
    by_sign = jnp.stack(differences) * jnp.array([1.0, -1.0], lines.dtype).reshape(2, 1, 1, 1)
    squares = jnp.maximum(by_sign, 0.0) ** 2
    return 2.0 * jnp.max(jnp.min(_sums_in_windows(squares), axis=0))


def _sums_in_windows(values: Float[Array, "*row point"]) -> Float[Array, "*row window"]:
    """Sums along the last axis over all windows, or over all there is, if that is less. Windows are
    sums of parts, so that each takes 24 additions for 128; a running sum and its differences would
    take fewer, and ten times as long to compile."""
    if values.shape[-1] <= WINDOW:
        return jnp.sum(values, axis=-1, keepdims=True)
    rows = (1,) * (values.ndim - 1)
    ones = (1,) * values.ndim
    parts = jax.lax.reduce_window(values, 0.0, jax.lax.add, (*rows, PART), ones, "VALID")
    return jax.lax.reduce_window(
        parts,
        0.0,
        jax.lax.add,
        (*rows, WINDOW // PART),
        ones,
        "VALID",
        window_dilation=(*rows, PART),
    )


def _reflection(before: Array, after: Array) -> Array:
    """The reflection coefficient between one value and another, neither negative; none between
    zeros."""
    size = before + after
    return jnp.where(size > 0.0, (after - before) / jnp.where(size > 0.0, size, 1.0), 0.0)


def warning(equation: AbstractWaveEquation, value: float) -> None:
    """Warn of a layering beyond the limit.

    Warns:
        GrowthInLayers: always.
    """
    warnings.warn(
        f"{type(equation).__name__}: the model's layers run into a perfectly matched layer, and "
        "vary so strongly along "
        f"that face that waves may grow without bound in it (layering {value:.3g}; up to {LIMIT:g} "
        "none was seen to). Use "
        "boundary=ox.Sponge(), in which nothing grows, or smooth the model along its faces. To be "
        "spared this warning: "
        'warnings.simplefilter("ignore", ox.GrowthInLayers)',
        GrowthInLayers,
        stacklevel=levels_to_the_user(inspect.currentframe()),
    )
