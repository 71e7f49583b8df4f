"""The part of a grid that each device has, inside of `jax.shard_map`; see `Settings.mesh`.

A grid axis that a mesh names is cut into parts of equal length, the last of which may reach beyond
the grid: there, as everywhere outside of it, all values are zero. A device computes on its own part
as if that were the grid. What makes the difference is here: rows that a stencil reads beyond the
part come from its neighbours; strips along the grid's edges, the free surface, and points belong to
the devices at whose parts they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh

from ..settings import SHOTS
from .boxes import Box

Range = tuple[int, int]


@dataclass(frozen=True)
class Parts:
    """How one grid is cut.

    Attributes:
        given: the mesh of devices; None for one.
        axes: names of the grid's axes.
        points: along each of them, of the whole.
    """

    given: Mesh | None
    axes: tuple[str, ...]
    points: tuple[int, ...]

    @cached_property
    def mesh(self) -> Any:
        """The mesh as programs use it: what their types say of shardings does not matter."""
        mesh = self.given
        if mesh is None:
            return None
        return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """The parts along each axis."""
        return tuple(self._devices(name) for name in self.axes)

    @property
    def of_shots(self) -> int:
        """How many devices share out the shots."""
        return self._devices(SHOTS)

    def _devices(self, name: str) -> int:
        return 1 if self.given is None else self.given.shape.get(name, 1)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The points of a part along each axis."""
        return tuple(-(-n // k) for n, k in zip(self.points, self.counts, strict=True))

    @property
    def cut(self) -> bool:
        """Is the grid cut at all?"""
        return max(self.counts) > 1

    @property
    def over(self) -> tuple[str, ...]:
        """The mesh's axes along which devices have parts of one grid."""
        return tuple(a for a, k in zip(self.axes, self.counts, strict=True) if k > 1)

    @property
    def over_shots(self) -> tuple[str, ...]:
        """The mesh's axis along which they have other shots."""
        return (SHOTS,) if self.of_shots > 1 else ()

    # ---------------------------------------------------------------- where

    def first(self, axis: int) -> Any:
        """The number of the first point of this device's part."""
        if self.counts[axis] == 1:
            return 0
        return lax.axis_index(self.axes[axis]) * self.shape[axis]

    @property
    def topmost(self) -> Any:
        """Does this device's part begin at the grid's first row?"""
        return True if self.counts[-1] == 1 else lax.axis_index(self.axes[-1]) == 0

    def strip(self, axis: int, side: str, width: int, reach: int) -> Range:
        """Where in a part there may be some of the strip along an edge of the grid: all of it, if
        the strip comes close to the part's other end, from where neighbours read."""
        n = self.shape[axis]
        beyond = n * self.counts[axis] - self.points[axis]
        if self.counts[axis] > 1:
            width += beyond if side == "high" else 0
            width = n if width + reach > n else width
        return (0, width) if side == "low" else (n - width, n)

    def inside(self, array: Any, box: Box, ranges: Mapping[int, Range]) -> Any:
        """An array (shot, *box), zero outside of the grid, and of ranges of the whole grid's points
        along some axes."""
        for axis, count in enumerate(self.counts):
            low, high = ranges.get(axis, (0, self.points[axis]))
            if count == 1 or (low, high) == (0, count * self.shape[axis]):
                continue
            a, b = box[axis]
            at = self.first(axis) + np.arange(a, b, dtype=np.int32)
            shape = [-1 if i == axis else 1 for i in range(len(box))]
            there = ((at >= low) & (at < high)).reshape(1, *shape)
            array = jnp.where(there, array, jnp.zeros((), array.dtype))
        return array

    # ---------------------------------------------------------------- between devices

    def beyond(self, array: Any, axis: int, low: int, high: int) -> Any:
        """An array (shot, *part) with so many rows of the neighbours' parts below and above; zero
        beyond the grid."""
        name, count, n = self.axes[axis], self.counts[axis], self.shape[axis]
        assert max(low, high) <= n, "see `checks.parts`"
        parts = [array]
        if low:
            last = lax.slice_in_dim(array, n - low, n, axis=1 + axis)
            parts.insert(0, lax.ppermute(last, name, [(i, i + 1) for i in range(count - 1)]))
        if high:
            top = lax.slice_in_dim(array, 0, high, axis=1 + axis)
            parts.append(lax.ppermute(top, name, [(i + 1, i) for i in range(count - 1)]))
        return jnp.concatenate(parts, axis=1 + axis)

    def summed(self, values: Any) -> Any:
        """The sum over the devices that share a grid."""
        return lax.psum(values, self.over) if self.over else values

    def of_all_shots(self, values: Any) -> Any:
        """The sum over the devices that share out the shots."""
        return lax.psum(values, self.over_shots) if self.over_shots else values

    def here(self, array: Any, lead: int = 0) -> Any:
        """This device's part of an array (*lead, *grid); axes of length 1 stay."""
        for axis, (count, n, points) in enumerate(
            zip(self.counts, self.shape, self.points, strict=True)
        ):
            if count == 1 or array.shape[lead + axis] != points:
                continue
            pads = [(0, 0)] * array.ndim
            pads[lead + axis] = (0, count * n - points)
            array = jnp.pad(array, pads)
            array = lax.dynamic_slice_in_dim(array, self.first(axis), n, axis=lead + axis)
        return array

    def whole(self, array: Any, lead: int = 0) -> Any:
        """The whole of an array, (*lead, *grid), from all parts."""
        for axis, (count, points) in enumerate(zip(self.counts, self.points, strict=True)):
            if count > 1:
                at = lead + axis
                array = lax.all_gather(array, self.axes[axis], axis=at, tiled=True)
                array = lax.slice_in_dim(array, 0, points, axis=at)
        return array

    @property
    def size(self) -> int:
        """Points of a part."""
        return math.prod(self.shape)
