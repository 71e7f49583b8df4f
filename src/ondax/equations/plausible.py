"""Sizes that parameters have in all media: values beyond them were given in another unit."""

import math
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Plausible:
    """The range in which the largest absolute value of a parameter lies, whatever the medium.

    Attributes:
        least: lower end of the range, in the parameter's unit; far below that of any medium.
        most: upper end of the range; far above that of any medium.
        unit: the unit, as the error message names it.
        slip: the unit in which values outside the range were probably given.
    """

    least: float
    most: float
    unit: str
    slip: str


DENSITY = Plausible(20.0, 1e5, "kg/m3", "g/cm3")
THOMSEN = Plausible(0.0, 5.0, "fractions, such as 0.1", "per cent")
ANGLE = Plausible(0.0, 6.5, "radians", "degrees")
QUALITY = Plausible(1.0, math.inf, "Q itself, such as 50", "1/Q")
