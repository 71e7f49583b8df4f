"""Traces of one shot each, and all of them in one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def padded_gathers(
    gathers: Sequence[Any], shapes: Sequence[tuple[int, ...]], most: int
) -> np.ndarray:
    """Gathers as one array, (shot, [component,] receiver, time), with zeros where a shot has no
    receiver.

    Args:
        gathers: one of each shot.
        shapes: what they must be.
        most: receivers of a shot.

    Raises:
        ValueError: they are of other shapes.
    """
    found = [np.asarray(g) for g in gathers]
    wrong = [n for n, (g, s) in enumerate(zip(found, shapes, strict=False)) if g.shape != s]
    if len(found) != len(shapes):
        raise ValueError(f"there are {len(found)} gathers of {len(shapes)} shots")
    if wrong:
        n = wrong[0]
        raise ValueError(f"the gather of shot {n} has shape {found[n].shape}, expected {shapes[n]}")
    *components, _, nt = shapes[0]
    dtype = np.result_type(*{g.dtype for g in found})
    return stacked(found, (*components, most, nt), dtype)


def stacked(gathers: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Gathers of up to so many receivers as one array, with zeros behind those that have fewer.

    Args:
        gathers: ([component,] receiver, time) of each shot.
        shape: of the largest.
        dtype: of the array.
    """
    traces = np.zeros((len(gathers), *shape), dtype)
    for padded, gather in zip(traces, gathers, strict=True):
        padded[..., : np.shape(gather)[-2], :] = gather
    return traces


def over_components(values: Any, axes: int) -> Any:
    """Numbers of traces, (shot, receiver), as (shot, [component,] receiver): they fit all
    components of traces that have so many axes, time included."""
    return values.reshape(len(values), *(1,) * (axes - 3), -1)
