"""Runs on the devices of a mesh: what each of them gets, and what becomes of their results.

Everything is handed to `jax.shard_map` in parts of equal size. What is on the grid is made longer
for that by copies of its last values, and shots by the last shot, whose cotangents are zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from ..backends.base import Gradients
from ..backends.settings import SHOTS
from ..backends.xla.parts import Parts
from .operands import Changes, Operands


@dataclass(frozen=True)
class Kind:
    """The axes of an array; in a pytree, of all arrays in its place.

    Attributes:
        shots: the first is that of the shots.
        grid: the last ones are those of the grid.
        linear: runs are linear in it, and zero in it gives zero.
    """

    shots: bool = False
    grid: bool = False
    linear: bool = False


SAME, SHOT, GRID, BOTH = Kind(), Kind(shots=True), Kind(grid=True), Kind(True, True)
LINEAR = Kind(shots=True, linear=True)
LINEAR_BOTH = Kind(True, True, True)

OPERANDS = Operands(
    coefficients=GRID,  # type: ignore[arg-type]
    bounds=SAME,
    shots=SHOT,
    wavelet=SHOT,
    weights=BOTH,
    sources=SHOT,  # type: ignore[arg-type]
    receivers=SHOT,  # type: ignore[arg-type]
    initial=SHOT,  # type: ignore[arg-type]
)
CHANGES = Changes(
    coefficients=GRID,  # type: ignore[arg-type]
    wavelet=LINEAR,
    weights=LINEAR_BOTH,
    at_sources=LINEAR,
    initial=LINEAR,  # type: ignore[arg-type]
)
GRADIENTS = Gradients(
    coefficients=GRID,  # type: ignore[arg-type]
    wavelet=SHOT,
    weights=BOTH,
    at_sources=SHOT,
    initial=SHOT,
)
RESULTS = {"forward": SHOT, "born": SHOT, "adjoint": GRADIENTS, "curvature": GRADIENTS}
"""The kinds of what each primitive gives, by its name."""


def entering(parts: Parts, coefficient: Any) -> Any:
    """A coefficient, (*batch, *grid), as it comes from outside. It tells JAX which devices the
    program is for. Outside of `jax.jit`, JAX cannot hold arrays in parts of unequal size: how such
    axes are laid out is left to XLA.

    Raises:
        ValueError: inside of `jax.shard_map`, where a device has no others to share with.
    """
    if parts.mesh is None:
        return coefficient
    around = jax.sharding.get_abstract_mesh().manual_axes
    if around:
        raise ValueError(
            f"Settings(mesh=...) with axes {parts.mesh.axis_names} inside of jax.shard_map over "
            f"{tuple(around)}: leave shard_map away and name an axis of the mesh in the settings "
            "'shots', or leave the mesh away"
        )
    free = PartitionSpec.UNCONSTRAINED
    spec: list[Any] = [free] * (coefficient.ndim - len(parts.points))
    for axis, count, points in zip(parts.axes, parts.counts, parts.points, strict=True):
        spec.append(free if points % count else (axis if count > 1 else None))
    sharding = NamedSharding(parts.mesh, PartitionSpec(*spec))
    return jax.lax.with_sharding_constraint(coefficient, sharding)


def over_devices(parts: Parts, run: Callable[..., Any], given: tuple[Any, ...], found: Any) -> Any:
    """The results of a function that every device of a mesh calls with its part of everything.

    Args:
        parts: how the grid of the coefficients is cut.
        run: the function.
        given: its arguments, as primitives take them: operands, and what results are linear in.
        found: the kinds of its results, a prefix of their pytree.
    """
    if parts.mesh is None:
        return run(*given)
    kinds = tuple(map(_kinds_of, given))

    def each(function: Callable[..., Any], kinds: Any, trees: Any) -> Any:
        return jax.tree.map(
            lambda kind, tree: jax.tree.map(lambda x: function(parts, x, kind), tree), kinds, trees
        )

    in_specs, out_specs = (jax.tree.map(lambda k: _spec(parts, k), x) for x in (kinds, found))
    shared = jax.shard_map(
        run, mesh=parts.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
    shots = given[0].shots.shape[0]
    results = shared(*each(_evened, kinds, given))
    return each(lambda parts, x, kind: _cropped(parts, x, kind, shots), found, results)


def _kinds_of(argument: Any) -> Any:
    """The kinds of an argument of a primitive."""
    if isinstance(argument, Operands):
        return OPERANDS
    return CHANGES if isinstance(argument, Changes) else LINEAR


def _spec(parts: Parts, kind: Kind) -> PartitionSpec:
    axes = zip(parts.axes, parts.counts, strict=True)
    of_grid = [axis if count > 1 else None for axis, count in axes] if kind.grid else []
    of_shots = [SHOTS if parts.of_shots > 1 else None] if kind.shots else []
    return PartitionSpec(*of_shots, *of_grid)


def _evened(parts: Parts, x: Any, kind: Kind) -> Any:
    """An array in parts of equal size."""
    pads = [(0, 0)] * x.ndim
    if kind.grid:
        axes = zip(parts.counts, parts.shape, parts.points, strict=True)
        pads[-len(parts.axes) :] = [(0, count * n - points) for count, n, points in axes]
    x = jnp.pad(x, pads, mode="edge") if any(p != (0, 0) for p in pads) else x
    missing = -x.shape[0] % parts.of_shots if kind.shots else 0
    if not missing:
        return x
    pads = [(0, missing)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, pads) if kind.linear else jnp.pad(x, pads, mode="edge")


def _cropped(parts: Parts, x: Any, kind: Kind, shots: int) -> Any:
    """The opposite of `_evened`."""
    if kind.grid:
        axes = range(x.ndim - len(parts.axes), x.ndim)
        for axis, points in zip(axes, parts.points, strict=True):
            x = jax.lax.slice_in_dim(x, 0, points, axis=axis)
    return x[:shots] if kind.shots else x
