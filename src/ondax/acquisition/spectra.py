"""The frequencies of wavelets, and what a grid makes of them."""

from __future__ import annotations

import numpy as np

from ..equations.stability import second_derivative_weights
from ..survey import Survey

ROUNDING_OF_OTHERS = 1e-12  # of the loudest wavelet: weaker ones are nothing


SPECTRAL_FLOOR = 0.02  # of the amplitude spectrum's peak: what lies above counts as signal


def highest_frequency(wavelets: np.ndarray, dt: float) -> float:
    """The frequency above which each wavelet's spectrum stays below 2 % of its own peak, Hz.

    Of its own: what is weak beside other shots, or in other units than other components, is a wave
    all the same.

    Args:
        wavelets: (..., time).
        dt: their sampling interval, s.
    """
    frequencies, spectra = _spectra(wavelets, dt)
    peaks = spectra.max(axis=-1, keepdims=True)
    counts = peaks > ROUNDING_OF_OTHERS * spectra.max(initial=0.0)
    high = np.nonzero(np.any((spectra >= SPECTRAL_FLOOR * peaks) & counts, axis=0))[0]
    return float(frequencies[high[-1]]) if high.size else 0.0


def dominant_frequency(survey: Survey) -> float:
    """The frequency at which the wavelets' amplitude spectra peak, Hz."""
    frequencies, spectra = _spectra(survey.wavelet, survey.dt)
    return float(frequencies[np.argmax(spectra.max(axis=0))])


def _spectra(wavelets: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, Hz, and the amplitude of each wavelet at each; of those that are broadcast,
    once."""
    alike = [stride == 0 for stride in wavelets.strides[:-1]]
    wavelets = wavelets[tuple(slice(1) if one else slice(None) for one in alike)]
    n = 4 * wavelets.shape[-1]
    return np.fft.rfftfreq(n, dt), np.abs(np.fft.rfft(wavelets, n=n, axis=-1)).reshape(
        -1, n // 2 + 1
    )


def jump_of(wavelet: np.ndarray, least: float = 0.05) -> str:
    """A remedy, if wavelets start or end with a jump: that has energy at all frequencies, whatever
    they are meant to have.

    Args:
        wavelet: (..., time).
        least: size of a jump, as a part of the peak.
    """
    peak = np.max(np.abs(wavelet), initial=0.0)
    for at, where, remedy in ((0, "start", "a larger delay="), (-1, "end", "more samples")):
        size = np.max(np.abs(wavelet[..., at]), initial=0.0)
        if peak > 0.0 and size > least * peak:
            return (
                f"The wavelets {where} with {100.0 * size / peak:.0f} % of their peak, a jump with "
                "energy at all frequencies: let "
                f"them {'rise from' if at == 0 else 'come back to'} zero, with {remedy}"
            )
    return ""


def spatial_error(
    survey: Survey, space_order: int, spacing: float, speed: float, path: float
) -> float:
    """The error of traces, as a fraction of them, that differences in space are expected to make.

    That of a plane wave along an axis of the grid, the worst direction, for centred second
    differences (staggered ones are slightly better): at each frequency of the survey's wavelets,
    the phase that grows with the path, in the root mean square over their spectra. It says nothing
    of mode conversions, or of the weights of points off the grid.

    Args:
        survey: the wavelets.
        space_order: of the differences.
        spacing: metres.
        speed: of the wave, m/s.
        path: its length, metres.
    """
    frequencies, each = _spectra(survey.wavelet, survey.dt)
    spectra = each.max(axis=0)
    weights = second_derivative_weights(space_order)
    turns = np.linspace(0.0, np.pi, 4097)  # wavenumbers times the spacing
    lags = np.arange(len(weights)) - len(weights) // 2
    seen = np.sqrt(np.maximum(-(np.cos(np.outer(turns, lags)) @ weights), 0.0))
    true = 2.0 * np.pi * frequencies * spacing / speed
    phases = (np.interp(true, seen, turns) - true) * (path / spacing)
    # Shorter waves than the grid can carry do not arrive at all.
    errors = np.where(
        true <= seen[-1], 2.0 * np.abs(np.sin(np.clip(phases, -np.pi, np.pi) / 2.0)), 1.0
    )
    return float(np.linalg.norm(spectra * errors) / np.linalg.norm(spectra))
