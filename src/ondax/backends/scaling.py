"""Powers of two that keep linear runs in the middle of the range of floating-point numbers.

Wave equations are linear in their sources, so a run may be made with sources that change the
fields by about one in a step, and its results be scaled afterwards. Scaled by powers of two, every
number keeps its digits: results do not depend on the units of source or data, to the last bit, as
long as they themselves can be represented.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..scheme.plan import Plan, PlannedPort, value

# binary exponent of what a run of size one may record before any wave arrives: stencils run ahead
# of waves
WEAK = -60
SMALL = -90  # likewise of gradients, which are products of two fields
LARGE = 1 << 20  # more than any binary exponent
LOST = 10  # bits that the largest value of a result may lose where numbers get too small


def exponent(*arrays: np.ndarray) -> int | None:
    """The binary exponent e of the largest absolute value, `2**(e - 1) <= value < 2**e`; None if
    all are zero, or some are not finite."""
    return exponent_of(max((peak_of(a) for a in arrays), default=0.0))


def exponent_of(peak: float) -> int | None:
    """The same of the largest absolute value itself."""
    return math.frexp(peak)[1] if 0.0 < peak < math.inf else None


def peak_of(array: np.ndarray) -> float:
    """The largest absolute value; NaN if there is one."""
    return max(float(array.max()), -float(array.min())) if array.size else 0.0


def scaled(array: np.ndarray, power: int, out: np.ndarray | None = None) -> np.ndarray:
    """`array * 2**power`, in the array's type; in `out`, if it is given."""
    if power == 0:
        if out is not None and out is not array:
            out[...] = array
        return array if out is None else out
    info = np.finfo(array.dtype)
    with np.errstate(over="ignore", under="ignore"):  # see `check_range`
        if info.minexp < power < info.maxexp:
            return np.multiply(array, array.dtype.type(math.ldexp(1.0, power)), out=out)
        return np.ldexp(array, power, out=out)


def check_range(
    peaks: Iterable[tuple[float, int]], dtype: Any, what: str, weakest: int = -LARGE
) -> None:
    """Check that results can be represented.

    Args:
        peaks: the largest absolute values of runs of size one, and the powers of two that they are
            to be multiplied by.
        dtype: of the results.
        what: they are, for messages.
        weakest: binary exponent below which the results of a run of size one are nothing but
            rounding.

    Raises:
        FloatingPointError: the largest value is too large, or so small that it would lose digits or
            vanish.
    """
    sizes = [
        (math.frexp(peak)[1] + power, math.frexp(peak)[1])
        for peak, power in peaks
        if 0.0 < peak < math.inf
    ]
    if not sizes:
        return
    size, of_run = max(sizes)
    info = np.finfo(dtype)
    if info.minexp + LOST < size <= info.maxexp or (size <= info.maxexp and of_run < weakest):
        return
    direction = "small" if size <= info.maxexp else "large"
    raise FloatingPointError(
        f"{what} are too {direction} for {np.dtype(dtype).name}: the largest is about "
        f"1e{round(size * math.log10(2.0))}. "
        "Change the units of source and data, multiply the misfit by a constant, or use float64"
    )


class Gains:
    """How much a sample changes the fields that it is fed to, as binary exponents.

    Args:
        plan: the scheme.
        dt: time step, s.
    """

    def __init__(self, plan: Plan, dt: float) -> None:
        self._plan, self._dt = plan, dt
        self._known: dict[Any, int] = {}

    def of(self, ports: Sequence[PlannedPort], sizes: Mapping[str, int]) -> int:
        """The binary exponent of the field that samples of size one give rise to in one step.

        Args:
            ports: inputs of the scheme.
            sizes: binary exponent of each coefficient, by name.
        """
        key = (tuple(p.name for p in ports), tuple(sorted(sizes.items())))
        if key not in self._known:
            self._known[key] = self._found(ports, sizes)
        return self._known[key]

    def _found(self, ports: Sequence[PlannedPort], sizes: Mapping[str, int]) -> int:
        found = []
        for name, mass in self._plan.masses.items():
            factors = [abs(t.factor) for p in ports for t in p.touches if t.field.name == name]
            if factors and max(factors) > 0.0:
                size = self._value(mass, sizes)
                if 0.0 < size < math.inf:
                    found.append(math.frexp(max(factors) / size)[1])
        return max(found, default=0)

    def _value(self, mass: str, sizes: Mapping[str, int]) -> float:
        """The size of a mass where every coefficient has its own, and profiles are zero."""
        values = dict.fromkeys(self._plan.kinds, 0.0)
        values |= {c.name: 0.0 for c in self._plan.coefficients}
        values |= {name: math.ldexp(0.75, size) for name, size in sizes.items()}
        try:
            return abs(float(value(mass, {**values, "dt": self._dt})))
        except (NameError, TypeError, ArithmeticError):
            return 0.0  # it holds something else: leave samples at size one
