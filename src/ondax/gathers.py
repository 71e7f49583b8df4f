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
    traces = np.zeros((len(found), *components, most, nt), dtype)
    for padded, g in zip(traces, found, strict=True):
        padded[..., : g.shape[-2], :] = g
    return traces
