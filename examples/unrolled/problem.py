"""The linear inverse problem: one noisy record of many sources fired at once, and the
preconditioned gradient of its least-squares misfit."""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import ondax as ox

UNIT = 0.05  # images are in units of 5 % relative velocity perturbation, which makes them O(1)
MAX_VELOCITY = 4500.0  # m/s
# rows below the surface that are known, and rows over which the perturbation sets in
KNOWN, TAPER = (
    6,
    4,
)
PROBES = 16  # random images that estimate the diagonal of the Hessian


@dataclass(frozen=True)
class Layout:
    """Size of the experiment; the default is that of the shipped weights.

    Attributes:
        shape: grid points (x, z).
        spacing: of the grid, m.
        frequency: peak of the Ricker wavelet, Hz.
        nt, dt: samples of the record and their interval, s.
        n_sources: fired at once, evenly spaced along the surface.
        max_shift: largest time shift of a source, s.
        encodings: sets of random shifts, polarities and weights; shot i of the survey is fired with
            set i.
        snr: power of the Born data over that of the noise, dB; the noise has the wavelet's
            spectrum.
    """

    shape: tuple[int, int] = (96, 64)
    spacing: float = 25.0
    frequency: float = 8.0
    nt: int = 334
    dt: float = 0.006
    n_sources: int = 16
    max_shift: float = 0.4
    encodings: int = 64
    snr: float = 6.0
    absorbing: int = 20


class Problem(eqx.Module):
    """Data, gradients and scales, shared by the network and by its competitors.

    An image x is the relative velocity perturbation over `UNIT`: `vp = vp0 (1 + UNIT x)`. The
    preconditioner is diagonal, the inverse of the Hessian's diagonal at a typical background,
    smoothed, and zero in the known rows.

    Attributes:
        propagator: every shot fires all sources at once, with its own encoding.
        mask: (x, z), 0 in the known rows, 1 below.
        precondition: (x, z), scaled so that steps of length 1 along the gradient are about the
            longest stable ones.
        noise_shape: amplitude spectrum of the noise.
    """

    propagator: ox.Propagator
    layout: Layout = eqx.field(static=True)
    mask: Float[Array, "x z"]
    precondition: Float[Array, "x z"]
    noise_shape: Float[Array, " frequency"]

    def born(self, vp0: Float[Array, "x z"], shot: Int[Array, ""], x: Float[Array, "x z"]) -> Array:
        """Born traces (receiver, time) of an image."""
        return self.propagator.jacobian(vp0, shots=shot[None]).mv(UNIT * vp0 * x)[0]

    def migrate(
        self, vp0: Float[Array, "x z"], shot: Int[Array, ""], traces: Float[Array, "receiver time"]
    ) -> Array:
        """The transpose of `born`."""
        return UNIT * vp0 * self.propagator.jacobian(vp0, shots=shot[None]).T.mv(traces[None])

    def gradient(self, vp0: Array, shot: Array, x: Array | None, data: Array) -> Array:
        """`P J' (J x - data)`, which costs two wave solves, or one at x = 0, given as None."""
        residual = -data if x is None else self.born(vp0, shot, x) - data
        return self.precondition * self.migrate(vp0, shot, residual)

    def noise(self, key: Array, clean: Float[Array, "receiver time"]) -> Array:
        """Gaussian noise with the spectrum of the wavelet, independent from trace to trace."""
        white = jax.random.normal(key, clean.shape)
        noise = jnp.fft.irfft(
            jnp.fft.rfft(white) * self.noise_shape.astype(jnp.complex64), n=clean.shape[-1]
        )
        wanted = jnp.linalg.norm(clean) * 10 ** (-self.layout.snr / 20)
        return noise * wanted / jnp.linalg.norm(noise)


def make_survey(layout: Layout, seed: int = 7) -> ox.Survey:
    """All sources at once along the surface, with random shifts, polarities and weights; receivers
    everywhere."""
    rng = np.random.default_rng(seed)
    width, depth = (layout.shape[0] - 1) * layout.spacing, layout.spacing
    sources = ox.line((0.03 * width, depth), (0.97 * width, depth), layout.n_sources)
    count = (layout.encodings, layout.n_sources)
    shifts = rng.uniform(0.0, layout.max_shift, count)
    weights = rng.uniform(0.5, 1.5, count) * rng.choice((-1.0, 1.0), count)
    first = 1.2 / layout.frequency  # the usual delay of a Ricker wavelet
    wavelet = np.stack(
        [
            [
                w * ox.ricker(layout.frequency, layout.nt, layout.dt, delay=first + s)
                for w, s in zip(ws, ss, strict=True)
            ]
            for ws, ss in zip(weights, shifts, strict=True)
        ]
    )
    return ox.Survey(
        sources=np.broadcast_to(sources, (*count, 2)),
        receivers=ox.line((0.0, depth), (width, depth), layout.shape[0]),
        wavelet=wavelet,
        dt=layout.dt,
    )


def make_problem(layout: Layout, seed: int = 7) -> Problem:
    """The problem with its preconditioner, which costs some thirty wave solves."""
    propagator = ox.Propagator(
        ox.Acoustic(),
        ox.Grid(layout.shape, layout.spacing),
        make_survey(layout, seed),
        max_velocity=MAX_VELOCITY,
        boundary=ox.Sponge(layout.absorbing),
        settings=ox.Settings(memory=2**30),
    )
    z = jnp.arange(layout.shape[1], dtype=jnp.float32)
    mask = jnp.broadcast_to(jnp.clip((z - KNOWN + 1) / TAPER, 0.0, 1.0), layout.shape)
    wavelet = ox.ricker(layout.frequency, layout.nt, layout.dt)
    noise_shape = jnp.asarray(np.abs(np.fft.rfft(wavelet)), jnp.float32)
    bare = Problem(propagator, layout, mask, jnp.ones(layout.shape), noise_shape)
    typical = jnp.broadcast_to(
        jnp.linspace(1900.0, 3300.0, layout.shape[1], dtype=jnp.float32), layout.shape
    )

    @jax.jit
    @jax.vmap
    def hessian(probe: Array, shot: Array, scale: Array) -> Array:
        return scale * bare.migrate(typical, shot, bare.born(typical, shot, scale * probe))

    shots = jnp.arange(PROBES) % layout.encodings
    probes = jax.random.rademacher(jax.random.key(0), (PROBES, *layout.shape), jnp.float32)
    ones = jnp.broadcast_to(mask, probes.shape)
    # over probes and x: a profile in z
    diagonal = jnp.mean(probes * hessian(probes, shots, ones), axis=(0, 1))
    kernel = jnp.ones(5) / 5
    profile = jnp.convolve(jnp.pad(diagonal, 2, mode="edge"), kernel, mode="valid")
    profile = jnp.maximum(profile, 1e-3 * profile.max())
    root = mask / jnp.sqrt(profile)  # P = root^2
    roots = jnp.broadcast_to(root, (4, *layout.shape))
    vector, norm = probes[:4], jnp.ones(4)
    for _ in range(8):  # power iteration for the largest eigenvalue of root J'J root
        vector = hessian(vector, shots[:4], roots)
        norm = jnp.linalg.norm(vector, axis=(1, 2), keepdims=True)
        vector = vector / norm
    return Problem(propagator, layout, mask, root**2 / jnp.max(norm), noise_shape)
