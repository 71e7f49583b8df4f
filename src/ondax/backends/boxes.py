"""Where functions are stored on a domain."""

from __future__ import annotations

from dataclasses import dataclass

from ..histories.buffers import row_length
from ..scheme.plan import Variable
from .domain import Domain


@dataclass(frozen=True)
class Box:
    """The part of the domain where a function is stored.

    Attributes:
        starts: first point along each axis, counted from the domain's first point.
        shape: number of points.
    """

    starts: tuple[int, ...]
    shape: tuple[int, ...]


def box(function: Variable, domain: Domain) -> Box:
    """Where a function is stored: everywhere, or in the strips that it is confined to."""
    starts, shape = [0] * len(domain.shape), list(domain.shape)
    for axis, side in function.region:
        i = function.axes.index(axis)
        if side == "high":
            # Rows must start aligned, counted from the domain's first point.
            per_line = row_length(1, domain.dtype)
            starts[i] = (domain.shape[i] - domain.strips[axis, side]) // per_line * per_line
            shape[i] = domain.shape[i] - starts[i]
        else:
            shape[i] = domain.strips[axis, side]
    return Box(tuple(starts), tuple(shape))
