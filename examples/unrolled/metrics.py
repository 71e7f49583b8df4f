"""How close an image comes to the true one."""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.signal import convolve
from jaxtyping import Array, Float

Image = Float[Array, "x z"]


def relative_error(image: Image, true: Image) -> Float[Array, ""]:
    """Norm of the difference over the norm of the true image."""
    return jnp.linalg.norm(image - true) / jnp.linalg.norm(true)


def snr(image: Image, true: Image) -> Float[Array, ""]:
    """Power of the true image over that of the difference, dB."""
    return -20.0 * jnp.log10(relative_error(image, true))


def ssim(image: Image, true: Image, window: int = 11, deviation: float = 1.5) -> Float[Array, ""]:
    """Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004): the mean over Gaussian windows
    inside the image, with K1 = 0.01, K2 = 0.03 and the range of values of the true image."""
    taps = jnp.exp(-0.5 * ((jnp.arange(window, dtype=jnp.float32) - window // 2) / deviation) ** 2)
    kernel = jnp.outer(taps, taps) / jnp.sum(taps) ** 2

    def mean(values: Image) -> Image:
        return convolve(values, kernel, mode="valid")

    span = jnp.max(true) - jnp.min(true)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    a, b = mean(image), mean(true)
    aa, bb, ab = mean(image**2) - a**2, mean(true**2) - b**2, mean(image * true) - a * b
    return jnp.mean((2 * a * b + c1) * (2 * ab + c2) / ((a**2 + b**2 + c1) * (aa + bb + c2)))


def best_scaled(image: Image, true: Image) -> Image:
    """The image times the scalar that brings it closest to the true one."""
    return image * jnp.vdot(image, true) / jnp.maximum(jnp.vdot(image, image), 1e-30)
