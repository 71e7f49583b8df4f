"""What a scheme's time stepping does to frequencies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

Angles = np.ndarray[Any, np.dtype[np.float64]]


@final
@dataclass(frozen=True)
class TimeStepping:
    """The relation between true and modelled frequency, for a scheme with time steps of d seconds.

    A wave that should have the angular frequency omega gets another one, theta, in the scheme; but
    for that, the scheme is exact in time. Both are given as angles, in radians per step.

    Attributes:
        modelled: theta d as a function of omega d, for NumPy arrays of values from 0 to `cut`.
        cut: the largest omega d that the scheme can represent.
    """

    modelled: Callable[[Angles], Angles]
    cut: float


def _leapfrog(true: Angles) -> Angles:
    """theta d for omega d."""
    return 2.0 * np.arcsin(true / 2.0)


LEAPFROG = TimeStepping(_leapfrog, cut=2.0)
"""The time stepping of centred differences: `u[n+1] - 2 u[n] + u[n-1]` over d^2 for u_tt, or
`v[n+1/2] - v[n-1/2]` over d for v_t in first-order systems staggered in time. For both, omega is
`(2/d) sin(theta d/2)`."""
