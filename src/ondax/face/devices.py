"""Runs on the devices of a mesh: what each of them gets, and what becomes of their results.

Everything is handed to `jax.shard_map` in parts of equal size. What is on the grid is made longer
for that by copies of its last values, and shots by the last shot, whose cotangents are zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from ..backends.base import Gradients
from ..backends.settings import SHOTS
from ..backends.xla.parts import Parts
from .operands import Changes, Operands


class Kind(NamedTuple):
    """The axes of an array.

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


def _all(kind: Kind, tree: Any) -> Any:
    return jax.tree.map(lambda _: kind, tree)


def of_operands(operands: Operands) -> Operands:
    """The kinds of operands' arrays."""
    return Operands(
        coefficients=_all(GRID, operands.coefficients),
        bounds=_all(SAME, operands.bounds),
        shots=SHOT,
        wavelet=_all(SHOT, operands.wavelet),
        weights=_all(BOTH, operands.weights),
        sources=_all(SHOT, operands.sources),
        receivers=_all(SHOT, operands.receivers),
        initial=_all(SHOT, operands.initial),
    )


def of_changes(changes: Changes) -> Changes:
    """The kinds of changes' arrays."""
    return Changes(_all(GRID, changes.coefficients), _all(LINEAR, changes.wavelet))


def of_gradients(gradients: Gradients) -> Gradients:
    """The kinds of gradients' arrays."""
    found = _all(SHOT, gradients)
    return found._replace(
        coefficients=_all(GRID, gradients.coefficients), weights=_all(BOTH, gradients.weights)
    )


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


def over_devices(
    parts: Parts, run: Callable[..., Any], given: Any, kinds: Any, found: Callable[[Any], Any]
) -> Any:
    """The results of a function that every device of a mesh calls with its part of everything.

    Args:
        parts: how the grid of the coefficients is cut.
        run: the function.
        given: its arguments.
        kinds: of their arrays, in pytrees like theirs.
        found: from results to their kinds, likewise.
    """
    if parts.mesh is None:
        return run(*given)
    leaves, structure = jax.tree.flatten(given)
    of_leaves = jax.tree.leaves(kinds, is_leaf=lambda x: isinstance(x, Kind))
    shots = next(x.shape[0] for x, k in zip(leaves, of_leaves, strict=True) if k.shots)
    padded = [_evened(parts, x, k) for x, k in zip(leaves, of_leaves, strict=True)]
    of_results: list[Any] = []

    def local(*leaves: Any) -> Any:
        results = run(*jax.tree.unflatten(structure, leaves))
        return jax.tree.leaves(results)

    def shapes(*leaves: Any) -> Any:
        return run(*jax.tree.unflatten(structure, leaves))

    in_specs = tuple(_spec(parts, x.ndim, k) for x, k in zip(leaves, of_leaves, strict=True))
    options: Any = {"mesh": parts.mesh, "in_specs": in_specs, "check_vma": False}
    example = jax.eval_shape(jax.shard_map(shapes, out_specs=PartitionSpec(), **options), *padded)
    result_leaves, of_result = jax.tree.flatten(example)
    of_results = jax.tree.leaves(found(example), is_leaf=lambda x: isinstance(x, Kind))
    out_specs = [_spec(parts, x.ndim, k) for x, k in zip(result_leaves, of_results, strict=True)]
    results = jax.shard_map(local, out_specs=out_specs, **options)(*padded)
    cropped = [_cropped(parts, x, k, shots) for x, k in zip(results, of_results, strict=True)]
    return jax.tree.unflatten(of_result, cropped)


def _spec(parts: Parts, ndim: int, kind: Kind) -> PartitionSpec:
    spec: list[Any] = [None] * ndim
    if kind.grid:
        axes = zip(parts.axes, parts.counts, strict=True)
        spec[-len(parts.axes) :] = [axis if count > 1 else None for axis, count in axes]
    if kind.shots and parts.of_shots > 1:
        spec[0] = SHOTS
    return PartitionSpec(*spec)


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
