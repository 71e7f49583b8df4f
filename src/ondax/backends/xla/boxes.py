"""Arrays that are known in a part of the grid."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from ...scheme.symbols import ODD

Box = tuple[tuple[int, int], ...]
"""First and one past the last grid index along each axis; they may lie outside of the grid."""


class Stored(NamedTuple):
    """Values in a box.

    Attributes:
        array: (shot, *box); of length 1 along axes, the shot's included, on which it does not
            depend.
        box: where.
    """

    array: Any
    box: Box


def shape_of(box: Box) -> tuple[int, ...]:
    """Points along each axis."""
    return tuple(high - low for low, high in box)


def covers(outer: Box, inner: Box) -> bool:
    """Does one box hold all of another?"""
    return all(a <= c and d <= b for (a, b), (c, d) in zip(outer, inner, strict=True))


def common(box: Box, other: Box) -> Box:
    """What two boxes share; empty along an axis on which they share nothing."""
    return tuple(
        (min(max(a, c), d), max(min(b, d), c)) for (a, b), (c, d) in zip(box, other, strict=True)
    )


def grown(box: Box, axis: int, low: int, high: int) -> Box:
    """A box whose ends along an axis are moved by so many points."""
    return tuple((a + low, b + high) if i == axis else (a, b) for i, (a, b) in enumerate(box))


def sliced(stored: Stored, box: Box) -> Any:
    """The part of an array in a smaller box."""
    array = stored.array
    index: list[Any] = [slice(None)]
    for i, ((a, b), (c, d)) in enumerate(zip(stored.box, box, strict=True)):
        constant = array.shape[1 + i] == 1 and b - a != 1
        whole = constant or (a, b) == (c, d)
        index.append(slice(None) if whole else slice(c - a, d - a))
    return array if all(s == slice(None) for s in index) else array[tuple(index)]


def padded(array: Any, box: Box, to: Box) -> Any:
    """An array in a larger box, zero where it was not known."""
    pads = [(0, 0, 0)]
    for i, ((a, b), (c, d)) in enumerate(zip(box, to, strict=True)):
        constant = array.shape[1 + i] == 1 and b - a != 1
        pads.append((0, 0, 0) if constant else (a - c, d - b, 0))
    if all(p == (0, 0, 0) for p in pads):
        return array
    return lax.pad(array, jnp.zeros((), array.dtype), pads)


def with_image(array: Any, box: Box, rows: int, image: int, half: bool) -> tuple[Any, Box]:
    """An array with so many rows above the first one, which is on a free surface, as its mirror
    image.

    Args:
        array: its last axis is depth.
        box: where it is known.
        rows: to be added.
        image: EVEN, or ODD: then it vanishes on the surface itself.
        half: it lives half a cell below the nodes, the first of which are on the surface.
    """
    if array.shape[-1] == 1 and box[-1][1] - box[-1][0] != 1:
        return array, box
    if image == ODD and not half:
        array = jnp.concatenate([jnp.zeros_like(array[..., :1]), array[..., 1:]], axis=-1)
    first = 0 if half else 1
    above = jnp.flip(array[..., first : first + rows], axis=-1)
    joined = jnp.concatenate([-above if image == ODD else above, array], axis=-1)
    return joined, grown(box, len(box) - 1, -rows, 0)


def spread(array: Any, shots: int, box: Box) -> Any:
    """An array at its full length along all axes."""
    return jnp.broadcast_to(array, (shots, *shape_of(box)))
