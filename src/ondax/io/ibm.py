"""Floating-point numbers as IBM's System/360 had them, which most SEG-Y files still hold.

A sign, a power of 16 (7 bits, 64 more than it is) and a fraction of 24 bits, below 1:

    value = (-1)^sign * 16^(power - 64) * fraction / 2^24

Source: SEG-Y revision 1 (SEG Technical Standards Committee, 2002).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, UInt32

FRACTION_BITS = 24
LEADING = np.arange(256)  # the first byte: sign and power
# In float64, in which all of them, and their products with a fraction, are exact.
UNITS = np.where(LEADING < 128, 1.0, -1.0) * 16.0 ** ((LEADING & 127) - 64.0 - FRACTION_BITS / 4)


def from_ibm(bits: UInt32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """The numbers, rounded to float32. Fractions may begin with zeros: not all programs shift
    them."""
    return (UNITS[bits >> FRACTION_BITS] * (bits & 0xFFFFFF)).astype(np.float32)


def to_ibm(values: Any) -> UInt32[np.ndarray, "*shape"]:
    """The bits of numbers, of which 21 to 24 are kept.

    Raises:
        ValueError: values that are not finite.
    """
    if not np.all(np.isfinite(values)):
        raise ValueError(
            'traces have values that are not finite, which IBM floats cannot hold: format="ieee"'
        )
    fraction, exponent = np.frexp(np.abs(values).astype(np.float64))
    power = -(-exponent // 4)
    bits = np.rint(np.ldexp(fraction, exponent - 4 * power + FRACTION_BITS)).astype(np.uint32)
    full = bits >> FRACTION_BITS != 0  # rounded up to the next power of 16
    bits, power = np.where(full, bits >> 4, bits), np.where(full, power + 1, power)
    sign = np.signbit(values).astype(np.uint32) << 31
    leading = sign | (power + 64).astype(np.uint32) << FRACTION_BITS
    return np.where(np.equal(values, 0.0), np.uint32(0), leading | bits)
