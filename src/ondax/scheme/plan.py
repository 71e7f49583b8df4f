"""What runs need to know of a scheme: numbers and names, no symbols.

Most processes never derive a scheme: what they need of it was kept beside the compiled kernels by
the process that did. So all that happens in every process works on a `Plan`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from .symbols import EVERYWHERE, ODD, Region
from .system import Touch


@dataclass(frozen=True)
class Variable:
    """A function of a scheme.

    Attributes:
        name: the kernels'.
        axes: names of the axes that it varies along.
        halo: points on each side of its array, along each axis.
        halves: whether it lives half a cell beyond the nodes, along each axis.
        time_order: of a field, 1 or 2; 0 of what does not change with time.
        image: how it continues above a free surface, EVEN or ODD; None where that is never asked.
        region: it is zero elsewhere, and not stored there.
    """

    name: str
    axes: tuple[str, ...]
    halo: tuple[int, ...]
    halves: tuple[bool, ...]
    time_order: int = 0
    image: int | None = None
    region: Region = EVERYWHERE

    def is_half(self, axis: str) -> bool:
        """Does it live half a cell beyond the nodes along an axis? What does not vary along it does
        not."""
        return axis in self.axes and self.halves[self.axes.index(axis)]


class Above(Enum):
    """How a field that a window reaches continues above a free surface through the first node. The
    value is the end of the name of the window's weights.

    - ODD: it vanishes at the surface, and has the opposite sign above it.
    - SMOOTH: it neither vanishes at the surface nor has a slope of zero there. Below the surface,
      what the scheme does to such fields (see `bends`) is undone; to the rows above, they are
      extrapolated.
    - LOST: it does not vanish, but the row on the surface is kept at zero: that row is extrapolated
      too.
    - EVEN: it has the same sign above it. So does the vertical derivative of what is odd.
    - STRAIGHT: it is extrapolated to the rows above, and the scheme has done nothing to it. So is
      the vertical derivative, half a cell below the nodes, of what is smooth.
    - NOTHING: there is no free surface.
    """

    ODD = "o"
    SMOOTH = "s"
    LOST = "l"
    EVEN = "e"
    STRAIGHT = "t"
    NOTHING = ""

    @staticmethod
    def of(strains: bool, image: int | None, half: bool, vertical: bool) -> Above:
        """How what a port reads or feeds continues.

        A vertical derivative is that which the scheme takes, of a field with its images: there, it
        is right to first order in the spacing. But of a smooth field, it is zero on the surface
        itself.

        Args:
            strains: of the port.
            image: of the field.
            half: the field lives half a cell below the nodes.
            vertical: it is the vertical derivative of the field.
        """
        odd = image == ODD
        if vertical:
            return Above.EVEN if odd else Above.LOST if half else Above.STRAIGHT
        if not odd:
            return Above.SMOOTH
        return Above.LOST if strains and not half else Above.ODD


@dataclass(frozen=True)
class PlannedPort:
    """A port of a scheme; see `Port`.

    Attributes:
        name: unique among the ports of a scheme.
        touches: what it does to each field.
        time: when its samples act, or what it reads holds, in steps.
        strains: what it feeds does not vanish at a free surface, although a field does.
    """

    name: str
    touches: tuple[Touch, ...]
    time: float
    strains: bool


@dataclass(frozen=True, eq=False)
class Plan:
    """A scheme as runs know it. Compared by identity.

    Attributes:
        axes: names; depth comes last.
        space_order: accuracy order in space.
        dtype: "float32" or "float64".
        ghosts: fields have mirror images above the topmost nodes.
        extended: sources are weights on the whole grid, not points.
        coefficients: in order.
        profiles: functions of one axis that the boundary fills.
        kinds: the name by which each profile was asked for, by its own name.
        fields: in the order in which a step advances them.
        masses: of the update of each field, by its name: the text of an expression of the names of
            coefficients and profiles and of `dt`, in Python.
        inputs: where samples enter.
        outputs: where they leave.
        felt: how many points a step carries what it finds in one point of a layer.
    """

    axes: tuple[str, ...]
    space_order: int
    dtype: str
    ghosts: bool
    extended: bool
    coefficients: tuple[Variable, ...]
    profiles: tuple[Variable, ...]
    kinds: Mapping[str, str]
    fields: tuple[Variable, ...]
    masses: Mapping[str, str]
    inputs: tuple[PlannedPort, ...]
    outputs: tuple[PlannedPort, ...]
    felt: int

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    def variable(self, name: str, halves: tuple[bool, ...]) -> Variable:
        """A function on the grid that is no part of the scheme, with the halo of coefficients."""
        return Variable(name, self.axes, (self.space_order,) * self.ndim, halves)

    def continued(self, port: PlannedPort, touch: Touch) -> Above:
        """How what a port reads or feeds continues above a free surface; see `Above.of`."""
        if not self.ghosts:
            return Above.NOTHING
        field, depth = touch.field, self.axes[-1]
        return Above.of(port.strains, field.image, field.is_half(depth), touch.along == depth)

    def vanishes_at_surface(self, port: PlannedPort) -> bool:
        """Is all that a port reads or feeds zero on a free surface?"""
        return all(self.continued(port, touch) is Above.ODD for touch in port.touches)

    def cell_shares(self, function: Variable, points: int) -> Any:
        """How much of a cell belongs to each point of a function along a column of so many points:
        half of one to a topmost node that has images above it."""
        column = np.ones(points, self.dtype)
        if self.ghosts and not function.is_half(self.axes[-1]):
            column[0] = 0.5
        return column


def value(formula: str, values: Mapping[str, Any]) -> Any:
    """The value of a formula, such as those of masses; numbers or arrays, as the values are.

    Raises:
        NameError: it holds something that has no value.
    """
    return eval(formula, {"__builtins__": {}}, dict(values))


def crowded(plan: Plan, ends: Collection[tuple[str, str]], shape: Sequence[int]) -> frozenset[str]:
    """The axes along which few points lie between two layers, so that what they remember is felt at
    common points.

    Args:
        plan: the scheme, with the layers.
        ends: axis name, and "low" or "high", of each layer.
        shape: points of the grid between them.
    """
    return frozenset(
        axis
        for axis, points in zip(plan.axes, shape, strict=True)
        if {(axis, "low"), (axis, "high")} <= set(ends) and points < 2 * plan.felt
    )


@dataclass(frozen=True)
class Kept:
    """What a history keeps of a run at every step: a field, or a product with fields.

    Attributes:
        symbol: what is stored.
        field: whose update makes it known.
        at_next: whether its time index is that of the advanced field; see `Quantity`.
        image: how it continues above a free surface, in its halo; None where it has no image there.
    """

    symbol: Variable
    field: Variable
    at_next: bool
    image: int | None


@dataclass(frozen=True)
class Keeping:
    """What is kept for some coefficients.

    Attributes:
        kept: in order.
        window: the first and the last time index of a history that the gradient of a step reads,
            counted from that step.
    """

    kept: tuple[Kept, ...]
    window: tuple[int, int]
