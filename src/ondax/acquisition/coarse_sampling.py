"""Warnings of wavelets that are too high in frequency for the sampling in time or in space."""

from __future__ import annotations

import inspect
import math
import warnings

from .._frames import levels_to_the_user


class CoarseSampling(UserWarning):
    """Wavelets are too high in frequency for the survey's sampling interval, or for the grid:
    traces will be wrong."""


def in_time(highest: float, dt: float, top: float) -> None:
    """Warn of wavelets whose time dispersion cannot be taken out whole.

    Args:
        highest: frequency of the wavelets, Hz.
        dt: the survey's sampling interval, s.
        top: angle per sample up to which the correction is exact.

    Warns:
        CoarseSampling: they exceed it.
    """
    limit = top / (2.0 * math.pi * dt)
    if highest > limit * (1.0 + 1e-6):
        warnings.warn(
            f"wavelets of up to {highest:.3g} Hz in samples of dt={dt:g} s: above {limit:.3g} Hz "
            "time dispersion is not taken "
            f"out whole, and near {0.5 / dt:.3g} Hz waves are weakened. Sample the survey at "
            f"dt={dt * limit / highest:.2g} s "
            'or less, or give time_dispersion="raw" and a small courant=',
            CoarseSampling,
            stacklevel=levels_to_the_user(inspect.currentframe()),
        )


def at_the_ends(jump: str) -> None:
    """Warn of wavelets that jump, of which `checks.jump_of` says where.

    Warns:
        CoarseSampling: there is something to say.
    """
    if jump:
        warnings.warn(
            f"the survey: {jump}",
            CoarseSampling,
            stacklevel=levels_to_the_user(inspect.currentframe()),
        )


def in_space(highest: float, per_wavelength: float, points: float) -> None:
    """Warn of wavelets given with a call that the grid cannot carry.

    Args:
        highest: frequency of the wavelets, Hz.
        per_wavelength: grid points that their shortest wave has.
        points: that it needs.

    Warns:
        CoarseSampling: it has fewer.
    """
    if per_wavelength < points:
        warnings.warn(
            f"wavelet=: waves of up to {highest:.3g} Hz have {per_wavelength:.3g} grid points per "
            "wavelength in the slowest "
            f"part of the model, where {points:.3g} are needed: traces will be wrong. Filter the "
            "wavelet, use a finer grid, or "
            "set min_points_per_wavelength",
            CoarseSampling,
            stacklevel=levels_to_the_user(inspect.currentframe()),
        )
