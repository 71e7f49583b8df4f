"""Gradients from every k-th step of a history.

A gradient is a sum over time steps of what is kept of the wavefield times the adjoint field. Both
are band-limited in time if the wavelet is, and then the sum over every k-th step, times k, is the
same as that over all of them. This is the sampling theorem: it holds where neither has frequencies
above half of the sampling rate, 1/(2 k dt).

The adjoint field does not obey by itself. What is injected are samples with zeros between them (the
transpose of recording one of several steps), of residuals that may be noise or end abruptly. So
they are smoothed first. The wavefield is band-limited: what the smoothing takes away would have
contributed nothing to its gradient. A residual near the end of the record is spread beyond the end,
so runs that sample their histories go on for a few steps more.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

LOBES = (4, 5, 6, 7, 8, 10, 12, 14)
"""Half the length of the smoothing, in kept steps: the runs go on for as many. A longer one leaves
less between what it passes and what it stops."""
SHAPE = 14.5
"""Of the smoothing's Kaiser window: beside a transition it passes, or stops, all but 5e-8."""
MOST_BEYOND = 0.06
"""Steps beyond the record's end, as a part of its steps, where the sampling is chosen: more would
cost more time than is saved."""
LARGEST_ERROR = 5e-7
"""Of a gradient, as estimated. The measured ones are up to twice as large, for residuals that are
noise."""
CHOSEN_ERROR = 2.5e-7
"""Likewise, where the sampling is chosen: with a short smoothing, noise may make it ten times as
much."""
ROUNDING = {
    "float64": 2 * float(np.finfo(np.float32).eps),  # they may have been given in single precision
    "float32": 16 * float(np.finfo(np.float32).eps),  # and resampled in it
}
"""By the type of a wavelet, how much of its norm its spectrum must exceed not to be taken for
rounding."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Sampling(NamedTuple):
    """Which steps are kept.

    Attributes:
        every: every `every`-th one.
        lobes: half the length of the smoothing of residuals, in kept steps.
    """

    every: int = 1
    lobes: int = LOBES[-1]

    @property
    def beyond(self) -> int:
        """How many steps beyond the record's end runs go on."""
        return self.lobes * self.every if self.every > 1 else 0


@cache
def smoothing(sampling: Sampling) -> Floats:
    """The weights of a low-pass filter that stops above half the rate of the steps that are kept;
    symmetric, with `sampling.beyond` on either side of the middle. A Kaiser-windowed sinc."""
    every, beyond = sampling.every, sampling.beyond
    weights = np.sinc(np.arange(-beyond, beyond + 1) / every) * np.kaiser(2 * beyond + 1, SHAPE)
    return weights / weights.sum()


def smoothed(samples: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Samples to inject in a run of whose history some steps are kept.

    Args:
        samples: (row, step).
        sampling: which steps are kept.

    Returns:
        (row, step), with `sampling.beyond` steps more.
    """
    weights, beyond = smoothing(sampling), sampling.beyond
    length = samples.shape[1] + 2 * beyond
    size = 1 << (length - 1).bit_length()
    spectrum = np.fft.rfft(samples, size, axis=1) * np.fft.rfft(weights, size).astype(
        np.result_type(samples, 1j)
    )
    return np.fft.irfft(spectrum, size, axis=1)[:, beyond:length].astype(samples.dtype, copy=False)


def chosen(sources: np.ndarray) -> Sampling:
    """The fewest steps that wavelets allow.

    Args:
        sources: samples at the internal steps, (..., step).

    Returns:
        The largest `every` for which gradients are off by less than 1e-6, and runs go on for no
        more than MOST_BEYOND of their length, with the shortest smoothing.
    """
    spectra = _spectra_of_what_is_kept(sources)
    most, best = MOST_BEYOND * sources.shape[-1], Sampling()
    for every in range(2, sources.shape[-1]):
        tried = (Sampling(every, n) for n in LOBES if n * every <= most)
        found = next((s for s in tried if _error(s, spectra) <= CHOSEN_ERROR), None)
        if found is None:
            return best
        best = found
    return best


def holds(sampling: Sampling, sources: np.ndarray) -> bool:
    """Do wavelets allow to keep these steps only?"""
    if sampling.every == 1:
        return True
    return _error(sampling, _spectra_of_what_is_kept(sources)) <= LARGEST_ERROR


def check_sampling(sampling: Sampling, sources: np.ndarray, dt: float) -> None:
    """Refuse to keep some steps only of the wavefield of sources whose frequencies are too high
    for it.

    Args:
        sampling: which steps are kept.
        sources: samples at the internal steps, (..., step).
        dt: the internal step, s.

    Raises:
        ValueError: gradients would be off by more than 1e-6; names the largest `every` that holds.
    """
    every = sampling.every
    if every == 1:
        return
    spectra = _spectra_of_what_is_kept(sources)
    for tried in range(2, every + 1):
        error = _error(sampling._replace(every=tried), spectra)
        if error > LARGEST_ERROR:
            remedy = (
                f"Use at most store_every={tried - 1}, the largest that these wavelets allow"
                if tried > 2
                else "These wavelets allow store_every=1 only: do they begin or end abruptly, or "
                "hold noise? Taper or low-pass them"
            )
            raise ValueError(
                f"store_every={every}: the wavelets have frequencies too high to keep only one "
                f"step in {every}, {every * dt:.3g} "
                f"s apart; gradients would be off by {_error(sampling, spectra):.1g} of their "
                f"size. {remedy}"
            )


def _spectra_of_what_is_kept(sources: np.ndarray) -> Floats:
    """Amplitude spectra (wavelet, frequency), at evenly spaced frequencies up to 1/(2 dt).

    Of what is kept of a wavefield, the most rugged in time are second time derivatives. Wavelets
    are followed by zeros: one that ends abruptly has the high frequencies of its step.
    """
    rounding = ROUNDING[sources.dtype.name]
    rows = np.unique(sources.reshape(-1, sources.shape[-1]), axis=0).astype(np.float64)
    size = 1 << (4 * rows.shape[1]).bit_length()
    spectra = np.abs(np.fft.rfft(rows, size, axis=1))
    spectra = np.maximum(spectra - rounding * np.linalg.norm(rows, axis=1, keepdims=True), 0.0)
    return spectra * np.sin(np.linspace(0.0, np.pi / 2.0, spectra.shape[1])) ** 2


def _error(sampling: Sampling, spectra: Floats) -> float:
    """The part of what is kept that a sampling misrepresents, of the worst wavelet: the norm of
    what the smoothing would take from it, relative to its own."""
    size = 2 * (spectra.shape[1] - 1)
    if 2 * sampling.beyond >= size:  # the smoothing is longer than a few records
        return 1.0
    stopped = 1.0 - np.abs(np.fft.rfft(smoothing(sampling), size))
    norms = np.linalg.norm(spectra, axis=1)
    return float(
        np.max(
            np.linalg.norm(stopped * spectra, axis=1) / np.where(norms > 0.0, norms, 1.0),
            initial=0.0,
        )
    )
