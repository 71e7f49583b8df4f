"""Which part of an array each device has; see `Settings.mesh`.

Nothing here moves values: arrays are said to be shared out over the mesh, and XLA's partitioner
makes every program one of parts, with the exchange of what stencils read beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..settings import SHOTS
from .boxes import Box

FREE = PartitionSpec.UNCONSTRAINED


@dataclass(frozen=True)
class Parts:
    """How arrays on one grid are shared out.

    Attributes:
        mesh: of devices; None for one device, or wherever JAX puts things.
        axes: names of the grid's axes.
        shape: the points along each of them.
    """

    mesh: Mesh | None
    axes: tuple[str, ...]
    shape: tuple[int, ...]

    @cached_property
    def _mesh(self) -> Any:
        """The mesh as constraints need it: XLA, not types, says where intermediate values lie."""
        mesh = self.mesh
        assert mesh is not None
        return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)

    def _over(self, name: str) -> str | None:
        assert self.mesh is not None
        return name if name in self.mesh.axis_names else None

    @property
    def cuts(self) -> bool:
        """Do devices have parts of grids?"""
        return self.mesh is not None and any(a in self.mesh.axis_names for a in self.axes)

    @property
    def of_grid(self) -> int:
        """How many devices share the grid of a shot."""
        if self.mesh is None:
            return 1
        return math.prod(self.mesh.shape.get(a, 1) for a in self.axes)

    @property
    def of_shots(self) -> int:
        """How many share out the shots."""
        return 1 if self.mesh is None else self.mesh.shape.get(SHOTS, 1)

    def put(self, array: Any, box: Box, lead: int = 0, shots: bool = True) -> Any:
        """An array, shared out.

        Where it covers the grid along an axis, devices have parts; strips along the grid's edges,
        which are thin, are the same on all devices.

        Args:
            array: (*lead, shot, *box); axes of length 1 are not shared out.
            box: where it is known.
            lead: axes before that of the shots.
            shots: whether it has an axis of shots.
        """
        if self.mesh is None:
            return array
        names: list[Any] = [None] * lead + [self._over(SHOTS)] * shots
        for axis, ends, points in zip(self.axes, box, self.shape, strict=True):
            names.append(self._over(axis) if ends == (0, points) else None)
        sizes = array.shape
        spec = [None if size == 1 else name for size, name in zip(sizes, names, strict=True)]
        return self._constrained(array, spec)

    def rows(self, array: Any) -> Any:
        """An array whose first axis is the shots, shared out along it."""
        if self.mesh is None:
            return array
        first = None if array.shape[0] == 1 else self._over(SHOTS)
        return self._constrained(array, [first, *[None] * (array.ndim - 1)])

    def entering(self, array: Any) -> Any:
        """A coefficient, (*batch, *grid), as it comes from outside. It tells JAX which devices the
        program is for.

        Outside of `jax.jit`, JAX cannot hold arrays in parts of unequal size: such axes are left
        to XLA.
        """
        if self.mesh is None:
            return array
        batch = array.ndim - len(self.shape)
        spec: list[Any] = [FREE] * batch
        for axis, points in zip(self.axes, self.shape, strict=True):
            even = points % self.mesh.shape.get(axis, 1) == 0
            spec.append(self._over(axis) if even else FREE)
        return self._constrained(array, spec)

    def _constrained(self, array: Any, spec: Sequence[Any]) -> Any:
        sharding = NamedSharding(self._mesh, PartitionSpec(*spec))
        return jax.lax.with_sharding_constraint(array, sharding)
