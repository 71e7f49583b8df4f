"""What filters of traces and of wavelets share."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.fft import next_fast_len


def fast_length(samples: int) -> int:
    """A number of samples, at least so many, for which the Fourier transform is fast."""
    size: Any = next_fast_len(samples, real=True)
    return size


def band_gain(
    frequencies: Float[np.ndarray, " frequency"], low: float, high: float, order: int
) -> Float[np.ndarray, " frequency"]:
    """The squared gain of a Butterworth filter (Butterworth, 1930): one half at both corners.

    Args:
        frequencies: Hz.
        low: lower corner, Hz; with 0, all low frequencies pass.
        high: upper corner, Hz.
        order: of the filter.
    """
    gain = 1.0 / (1.0 + (frequencies / high) ** (2 * order))
    if low > 0.0:
        above = (frequencies / low) ** (2 * order)
        gain *= above / (1.0 + above)
    return gain
