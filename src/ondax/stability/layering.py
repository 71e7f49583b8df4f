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
    # Few and large operations: this is compiled with every program.
    quantities = jnp.stack(list(equation.reflecting(parameters).values()))
    found = []
    for axis in range(ndim):
        sides = [at for which, at in _faces(boundary, ndim) if which == axis]
        if not sides:
            continue
        faces = jnp.take(quantities, np.array(sides), axis=axis + 1)
        for along in (a for a in range(ndim) if a != axis):
            surface = boundary.face("z", "low").returns and along == ndim - 1
            found.append(_layering_of_lines(jnp.moveaxis(faces, along + 1, -1), surface))
    return jnp.max(jnp.stack(found))


def _faces(boundary: AbstractBoundary, ndim: int) -> Iterator[tuple[int, int]]:
    """Axis and index of the model's edge at each perfectly matched layer."""
    for axis, name in enumerate(AXIS_NAMES[ndim]):
        for side, at in (("low", 0), ("high", -1)):
            if boundary.face(name, side).guides:
                yield axis, at


def _layering_of_lines(lines: Float[Array, "*line point"], surface: bool) -> Float[Array, ""]:
    """The largest of lines. A change over more cells than a lag counts less; an interface has as
    many differences as the lag has cells. Above a free surface is nothing: all is reflected."""
    most, along_last = max(LAGS), [(0, 0)] * (lines.ndim - 1)
    lines = jnp.pad(lines, [*along_last, (0, most)], mode="edge")
    lines = jnp.pad(lines, [*along_last, (most, 0)], mode="constant" if surface else "edge")
    count = lines.shape[-1] - most
    differences = [
        _reflection(lines[..., most - lag :][..., :count], lines[..., most:]) / lag**0.5
        for lag in LAGS
    ]
    by_sign = jnp.stack(differences) * jnp.array([1.0, -1.0], lines.dtype).reshape(
        2, *(1,) * (lines.ndim + 1)
    )
    squares = jnp.maximum(by_sign, 0.0) ** 2
    total = jnp.cumsum(jnp.pad(squares, [*[(0, 0)] * (squares.ndim - 1), (1, 0)]), axis=-1)
    sums = total[..., WINDOW:] - total[..., :-WINDOW] if count > WINDOW else total[..., -1:]
    return 2.0 * jnp.max(jnp.min(sums, axis=0))


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
