"""Band-limited resampling of wavelets to the internal time step."""

from __future__ import annotations

from typing import Any

import numpy as np


def upsample(wavelet: Any, factor: int, xp: Any, shift: float = 0.0) -> Any:
    """Resample the last axis from `nt` samples to `(nt - 1) * factor`, the last sample left out.

    The band-limited interpolation of the zero-padded wavelet, by FFT: values at the original
    samples are unchanged.

    Args:
        wavelet: (..., nt).
        factor: new samples per old one.
        xp: `numpy` or `jax.numpy`.
        shift: take every new sample this many new samples later.
    """
    nt = wavelet.shape[-1]
    steps = (nt - 1) * factor
    if factor == 1 and shift == 0.0:
        return wavelet[..., :steps]
    # Padding to twice the length keeps the end of the wavelet from wrapping around to its
    # beginning.
    spectrum = xp.fft.rfft(wavelet, n=2 * nt, axis=-1)
    bins = np.arange(nt + 1)
    gains = np.exp(1j * np.pi * bins * shift / (factor * nt))
    if factor > 1:
        gains[-1] *= (
            # the Nyquist bin of an even-length signal stands for two bins once the band is wider
            0.5
        )
    gains = gains.reshape(*(1,) * (len(wavelet.shape) - 1), -1)
    longer = xp.fft.irfft(spectrum * xp.asarray(gains, spectrum.dtype), n=2 * nt * factor, axis=-1)
    return (longer * xp.asarray(factor, longer.dtype))[..., :steps]
