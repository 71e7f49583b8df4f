"""Names by which kernels know their arguments, for those who write kernels and those who call
them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

from ...scheme.plan import Above

COMPACT = "_pair"  # suffix of the kernel argument that stores a field at two times only
SINGLE = "_single"  # likewise, of one that holds the present value only, until it is overwritten
CLOCK = "clock"  # the kernel argument that stands for time where no field does
SCRATCH_PREFIX = "work_"
GHOST = "ghost"  # the beginning of the names of loops over rows above the surface

WEIGHTS = "weights"
SUMS = {False: "sums", True: "sumsh"}  # ends of names, of sums over nodes and over half points
OF_WEIGHTS = "of_weights"  # the beginning of the names of gradients


class OfWindow(NamedTuple):
    """The names of what windows have along one axis.

    Attributes:
        first: of the first grid indices.
        weight: the beginning of that of the weights, which what is above a free surface completes.
        tap: of the loop over a window.
    """

    first: str
    weight: str
    tap: str


def of_window(port: str, axis: str, half: bool, derived: bool) -> OfWindow:
    """The names of what a port's windows have along one axis, on nodes or half points, for a field
    or for its derivative along the axis."""
    taps = axis + ("d" if derived else "")
    place = taps + ("h" if half else "")
    return OfWindow(f"{port}_first_{place}", f"{port}_weight_{place}", f"{port}_tap_{taps}")


def of_extent(name: str, halves: Collection[str], above: Above, along: str | None) -> str:
    """The name of what an extended source has at the points of a field: its weights differ where a
    row of them is lost, and where they are derived along an axis.

    Args:
        name: WEIGHTS or OF_WEIGHTS.
        halves: names of the axes along which the field lives half a cell beyond the nodes.
        above: how it continues above the surface.
        along: the axis of the derivative that is fed; None for the field itself.
    """
    lost = [above.name.lower()] if above is Above.LOST and along is None else []
    derived = [] if along is None else [f"d{along}", above.value]
    return "_".join([name, *halves, *lost, *derived])


def ghost_rows(name: str) -> int | None:
    """The value of a kernel argument that bounds a loop over ghost rows; None for other
    arguments."""
    match: Any = re.fullmatch(rf"{GHOST}(\d+)_([mM])", name)
    if match is None:
        return None
    return int(match[1]) if match[2] == "M" else 1
