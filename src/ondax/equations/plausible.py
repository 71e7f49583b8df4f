"""Sizes that parameters have in any medium: beyond them, they were given in another unit."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Plausible:
    """Where the largest absolute value of a parameter lies, in its unit; beyond, it was given in
    another.

    Attributes:
        least, most: limits, far from any medium.
        unit: what to give.
        slip: what it looks like.
    """

    least: float
    most: float
    unit: str
    slip: str


DENSITY = Plausible(20.0, 1e5, "kg/m3", "g/cm3")
THOMSEN = Plausible(0.0, 5.0, "fractions, such as 0.1", "per cent")
ANGLE = Plausible(0.0, 6.5, "radians", "degrees")
QUALITY = Plausible(1.0, math.inf, "Q itself, such as 50", "1/Q")
