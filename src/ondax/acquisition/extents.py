"""How extended sources, whose weights are given at nodes, feed what lives elsewhere."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..scheme.plan import Above
from .interpolation import HALF_WIDTH, derived, place, window_below, window_weights


class Along(NamedTuple):
    """What each node of an axis gives to the points of a field: to so many from `first` on.

    Attributes:
        first: (node,).
        weights: (node, tap).
    """

    first: np.ndarray[Any, np.dtype[np.int32]]
    weights: np.ndarray[Any, np.dtype[np.float64]]


@cache
def from_nodes(
    points: int, kind: str, half: bool, above: Above, space_order: int, derive: bool
) -> Along:
    """What each node of an axis gives to the points of a field, as a point source there would.

    Args:
        points: of the axis.
        kind: "sinc" or "linear".
        half: the field lives half a cell beyond the nodes.
        above: how it, or its derivative, continues above a free surface through the first node.
        space_order: of the scheme.
        derive: what a node gives, per cell, is given to the field's derivative.
    """
    nodes = np.arange(points, dtype=float)
    lies = half != derive  # a derivative is half a cell off the field
    first, offset = place(nodes, points, kind, on_grid=False, half=lies)
    weights = window_weights(offset, kind)
    taps = offset.shape[1]
    if above is not Above.NOTHING:
        near = nodes <= HALF_WIDTH[kind]
        weights[near] = window_below(
            window_weights, kind, above, nodes[near], first[near], taps, lies, space_order
        )
    weights[np.abs(weights) < 1e-12] = 0.0  # a sinc at whole numbers
    if derive:
        first, weights = derived(weights, first, points, half, above, space_order)
    if above is not Above.NOTHING:
        weights[0] *= 0.5  # of a cell
        if not half:
            weights[first == 0, 0] *= 2.0  # fed into half a cell
    return Along(first, weights)
