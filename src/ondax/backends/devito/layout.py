"""Where functions lie in memory: boxes of the domain with halos, and histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...histories.base import Recording
from ...histories.buffers import POOL, Layout, Stored, row_length, zeros
from ...scheme.plan import Variable
from ..boxes import box
from ..domain import Domain
from .kernels import Kernels


def allocated(function: Variable, shape: Sequence[int], dtype: str) -> tuple[int, ...]:
    """Shape of a function stored at so many points, halo included, rows aligned."""
    padded = [n + 2 * h for n, h in zip(shape, function.halo, strict=True)]
    return (*padded[:-1], row_length(padded[-1], dtype))


def on_grid(function: Variable, shape: Sequence[int], dtype: str) -> np.ndarray:
    """A zeroed array for a function stored at so many points, in which the first point of every
    row, behind the halo, stands aligned."""
    return zeros(allocated(function, shape, dtype), dtype, function.halo[-1])


def pooled(
    use: str, function: Variable, shape: Sequence[int], dtype: str, times: tuple[int, ...] = ()
) -> np.ndarray:
    """An array as `on_grid` makes it, at so many times, out of the pool; to be given back for the
    same use."""
    whole = (*times, *allocated(function, shape, dtype))
    array = POOL.take(use, whole, dtype, function.halo[-1])
    array.fill(0)
    return array


def shift(function: Variable, domain: Domain, array: np.ndarray) -> int:
    """Bytes from a stored array's first element to where the whole domain's first point would
    stand; zero or negative. It is zero for what is stored on the whole domain."""
    starts = box(function, domain).starts
    return -sum(
        start * stride for start, stride in zip(starts, array.strides[-len(starts) :], strict=True)
    )


def interior(function: Variable, shape: Sequence[int]) -> tuple[slice, ...]:
    """Where the points of a function stand in its array: all but the halo, and what rows are
    rounded up by.

    Args:
        function: its halo counts.
        shape: number of points along each axis at which it is stored, without the halo.

    Returns:
        One slice for each space axis.
    """
    return tuple(slice(h, h + n) for n, h in zip(shape, function.halo, strict=True))


def with_halo(function: Variable, values: np.ndarray, domain: Domain, ghosts: bool) -> np.ndarray:
    """A coefficient as kernels take it: zero in its halo, but for mirror images above a free
    surface, where there are `ghosts`."""
    array = on_grid(function, values.shape, domain.dtype)
    array[interior(function, values.shape)] = values
    if ghosts:
        reflect(function, array, function.image)
    return array


def reflect(function: Variable, array: np.ndarray, image: int | None) -> None:
    """Fill the rows above a free surface with mirror images, as kernels do with what they compute
    (see `mirror.mirrored`). Kernels also set an odd field to zero in the surface's own row; this
    leaves that row as it is.

    Args:
        function: what is stored.
        array: its values, halo included; changed in place.
        image: how it continues above the surface, EVEN or ODD; None leaves the array as it is.
    """
    rows, half = function.halo[-1], function.halves[-1]
    if image is not None and rows:
        first = rows if half else rows + 1
        array[..., :rows] = image * array[..., first : first + rows][..., ::-1]


def history_layout(
    kernels: Kernels, recording: Recording, domain: Domain, first: int, last: int
) -> Layout:
    """Arrays that hold the history of the steps `first <= n < last`, with the neighbours that
    gradients read."""
    layout = []
    ghosts = kernels.planned.plan.ghosts
    for quantity, slots in kernels.slots(recording):
        name = quantity.symbol.name
        stored = box(quantity.symbol, domain)
        shape = (
            slots.count(first, last),
            *allocated(quantity.symbol, stored.shape, domain.dtype),
        )
        halo = quantity.symbol.halo
        region = sorted(quantity.symbol.region)
        strips = tuple((end, domain.strips[end]) for end in region)
        place = (stored.starts, stored.shape, strips)
        number = slots.number(first)
        layout.append(Stored(name, shape, domain.dtype, halo, ghosts, place, number))
    return tuple(layout)


def history_offsets(
    kernels: Kernels,
    recording: Recording,
    domain: Domain,
    arrays: Mapping[str, np.ndarray],
    first: int,
) -> dict[str, int]:
    """Bytes from each history array's first slot back to where slot number 0 would be."""
    offsets = {}
    for quantity, slots in kernels.slots(recording):
        array = arrays[quantity.symbol.name]
        back = shift(quantity.symbol, domain, array)
        offsets[quantity.symbol.name] = back - slots.number(first) * array[0].nbytes
    return offsets
