"""Band-limited resampling of wavelets to the internal time step."""

from __future__ import annotations

from typing import Any


def upsample(wavelet: Any, factor: int, xp: Any) -> Any:
    """Resample the last axis from `nt` samples to `(nt - 1) * factor`, the last sample left out.

    The band-limited interpolation of the zero-padded wavelet, by FFT: values at the original samples are unchanged.

    Args:
        wavelet: (..., nt).
        factor: new samples per old one.
        xp: `numpy` or `jax.numpy`.
    """
    nt = wavelet.shape[-1]
    steps = (nt - 1) * factor
    if factor == 1:
        return wavelet[..., :steps]
    # Padding to twice the length keeps the end of the wavelet from wrapping around to its beginning.
    spectrum = xp.fft.rfft(wavelet, n=2 * nt, axis=-1)
    # The Nyquist bin of an even-length signal stands for two bins once the band is wider.
    halves = xp.where(xp.arange(nt + 1) == nt, 0.5, 1.0).astype(spectrum.dtype)
    longer = xp.fft.irfft(spectrum * halves, n=2 * nt * factor, axis=-1)
    return (longer * xp.asarray(factor, longer.dtype))[..., :steps]
