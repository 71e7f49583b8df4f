"""An independent reference: the schemes of both acoustic equations in plain JAX, differentiated by
JAX itself.

Nothing here is shared with the package: finite-difference weights come from Fornberg's recursion in
exact rational arithmetic, derivatives are sums of shifted slices, points are dense matrices over
the whole padded grid, and time is a `lax.scan`. It is slow, it keeps everything, and it is short
enough to check by eye against the equations:

    acoustic:  m [ D_tt u + gamma D_t u ] = lap(u) + sum_s q_s W_s / cell volume,                 m
        = 1 / vp^2
    density:   k [ D_tt p + gamma D_t p ] = sum_d D-_d( b_d D+_d p ) + sum_s q_s W_s / cell volume,
        k = 1 / (rho vp^2)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil, factorial, log, prod, sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# These programs run for milliseconds and take seconds to optimise.
quick_jit = partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def fornberg(nodes: Sequence[Fraction], derivative: int) -> list[Fraction]:
    """Exact weights of a derivative at 0 on arbitrary nodes (Fornberg, 1988, Math. Comp. 51)."""
    n = len(nodes)
    weights = [[Fraction(0)] * n for _ in range(derivative + 1)]
    weights[0][0] = Fraction(1)
    spread = Fraction(1)
    for i in range(1, n):
        previous_spread, spread = spread, Fraction(1)
        for j in range(i):
            distance = nodes[i] - nodes[j]
            spread *= distance
            if (
                j == i - 1
            ):  # the new node's weights come from the last node's, before that one is updated
                for m in range(min(i, derivative), -1, -1):
                    lower = m * weights[m - 1][i - 1] if m else Fraction(0)
                    weights[m][i] = (
                        previous_spread / spread * (lower - nodes[i - 1] * weights[m][i - 1])
                    )
            for m in range(min(i, derivative), -1, -1):
                lower = m * weights[m - 1][j] if m else Fraction(0)
                weights[m][j] = (nodes[i] * weights[m][j] - lower) / distance
    return weights[derivative]


def centred_second(order: int) -> tuple[list[int], list[Fraction]]:
    """Offsets and weights of the centred second derivative, unit spacing."""
    offsets = list(range(-(order // 2), order // 2 + 1))
    return offsets, fornberg([Fraction(i) for i in offsets], 2)


def staggered_first(order: int) -> tuple[list[int], list[Fraction]]:
    """Offsets and weights of the first derivative at +1/2, unit spacing."""
    offsets = list(range(-(order // 2) + 1, order // 2 + 1))
    return offsets, fornberg([Fraction(i) - Fraction(1, 2) for i in offsets], 1)


def correlate(u: Array, offsets: Sequence[int], weights: Sequence[float], axis: int) -> Array:
    """`out[i] = sum_j weights[j] u[i + offsets[j]]` along an axis, with `u` zero outside.

    As a dense matrix: a slice for each offset says the same and takes XLA ten times as long to
    compile.
    """
    n = u.shape[axis]
    matrix = sum(c * np.eye(n, k=i) for i, c in zip(offsets, weights, strict=True))
    return jnp.moveaxis(jnp.tensordot(jnp.asarray(matrix, u.dtype), u, (1, axis)), 0, axis)


def kernel(t: Array, interpolation: str) -> Array:
    """Weight of a grid point at a distance of `t` cells (Hicks, 2002, Geophysics 67, for the
    sinc)."""
    if interpolation == "linear":
        return jnp.maximum(0.0, 1.0 - jnp.abs(t))
    radius, b = 4, 6.31
    inside = jnp.abs(t) < radius
    # any point of the window: keeps the unused branch finite, derivatives included
    t = jnp.where(inside, t, 0.5)
    # I0(b sqrt(s)) is the entire function sum_k (b^2 s / 4)^k / k!^2 of s: no square root, so no
    # singular derivative.
    s = 1.0 - (t / radius) ** 2
    terms = [(b * b / 4) ** k / factorial(k) ** 2 for k in reversed(range(30))]  # the next is 2e-35
    bessel = jnp.polyval(jnp.asarray(terms, s.dtype), s, unroll=1)
    at_zero = float(np.i0(b))
    return jnp.where(inside, jnp.sinc(t) * bessel / at_zero, 0.0)


@dataclass(frozen=True)
class Oracle:
    """One configuration of the reference scheme.

    Attributes:
        equation: "acoustic" or "density".
        order: even order of the space derivatives.
        shape, spacing, origin: the physical grid, per axis; metres.
        dt, nt: step (seconds) and number of samples of wavelets and traces.
        max_velocity: m/s, sets the internal step and the sponge's strength.
        width, reflection, power: the sponge.
        interpolation: "sinc" or "linear".
    """

    equation: str
    order: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    dt: float
    nt: int
    max_velocity: float
    width: int
    reflection: float = 1e-4
    power: float = 2.0
    interpolation: str = "sinc"

    @property
    def stable_step(self) -> float:
        """The largest time step called stable."""
        if self.equation == "acoustic":
            symbol, margin = float(sum(abs(c) for c in centred_second(self.order)[1])), 1.0
        else:
            # The antisymmetric weights of one side are half of all; 2 % are for density contrasts.
            symbol, margin = float(sum(abs(c) for c in staggered_first(self.order)[1])) ** 2, 0.98
        return margin * 2.0 / (self.max_velocity * sqrt(sum(symbol / h**2 for h in self.spacing)))

    @property
    def steps_per_sample(self) -> int:
        return ceil(self.dt / self.stable_step)

    def gamma(self) -> np.ndarray:
        """The sponge's damping on the padded grid, 1/s."""
        total = np.zeros([n + 2 * self.width for n in self.shape])
        for d, (n, h) in enumerate(zip(self.shape, self.spacing, strict=True)):
            thickness = max(self.width, 1) * h  # without a layer, no point is beyond the edge
            strongest = (self.power + 1) * self.max_velocity * log(1 / self.reflection) / thickness
            i = np.arange(n + 2 * self.width)
            beyond = h * np.maximum(0, np.maximum(self.width - i, i - (self.width + n - 1)))
            profile = strongest * (beyond / thickness) ** self.power
            total += np.expand_dims(profile, [a for a in range(len(self.shape)) if a != d])
        return total

    def resample(self, wavelet: Float[Array, "source time"]) -> Float[Array, "source step"]:
        """Band-limited interpolation of wavelets from `dt` to the internal step."""
        k, nt = self.steps_per_sample, self.nt
        steps = (nt - 1) * k
        if k == 1:
            return wavelet[:, :steps]
        spectrum = jnp.fft.rfft(jnp.pad(wavelet, ((0, 0), (0, nt))))
        # The Nyquist bin stands for two halves, at + and - the frequency; on the finer axis each
        # has its own bin.
        spectrum = spectrum.at[:, -1].multiply(0.5)
        spectrum = jnp.pad(spectrum, ((0, 0), (0, nt * k - nt)))
        return k * jnp.fft.irfft(spectrum, 2 * nt * k)[:, :steps]

    def points(self, positions: Float[Array, "point axis"]) -> Float[Array, "point cell"]:
        """Weights of each point over every cell of the padded grid."""
        weights = jnp.ones((positions.shape[0], 1), positions.dtype)
        for d, (n, h, start) in enumerate(zip(self.shape, self.spacing, self.origin, strict=True)):
            x = jnp.asarray(
                start + h * (np.arange(n + 2 * self.width) - self.width), positions.dtype
            )
            axis = kernel((x[None, :] - positions[:, d, None]) / h, self.interpolation)
            weights = (weights[:, :, None] * axis[:, None, :]).reshape(positions.shape[0], -1)
        return weights

    def space(self, model: Any) -> tuple[Array, Any]:
        """The mass on the padded grid and the function that applies the space operator."""
        if self.equation == "acoustic":
            vp = jnp.pad(model, self.width, mode="edge")
            offsets, exact = centred_second(self.order)

            def laplacian(u: Array) -> Array:
                parts = [
                    correlate(u, offsets, [float(c) / h**2 for c in exact], d)
                    for d, h in enumerate(self.spacing)
                ]
                return sum(parts[1:], parts[0])

            return 1.0 / vp**2, laplacian

        vp, rho = (jnp.pad(model[name], self.width, mode="edge") for name in ("vp", "rho"))
        offsets, exact = staggered_first(self.order)
        back = [
            i - 1 for i in offsets
        ]  # the same weights, read from points at +1/2 to the point between them

        def halfway(d: int) -> Array:
            following = jnp.concatenate(
                [
                    jax.lax.slice_in_dim(rho, 1, None, axis=d),
                    jax.lax.slice_in_dim(rho, -1, None, axis=d),
                ],
                axis=d,
            )
            return 2.0 / (rho + following)

        buoyancy = [halfway(d) for d in range(rho.ndim)]

        def divergence(p: Array) -> Array:
            parts = []
            for d, h in enumerate(self.spacing):
                weights = [float(c) / h for c in exact]
                parts.append(
                    correlate(buoyancy[d] * correlate(p, offsets, weights, d), back, weights, d)
                )
            return sum(parts[1:], parts[0])

        return 1.0 / (rho * vp**2), divergence

    def __call__(
        self,
        model: Any,
        wavelet: Float[Array, "shot source time"],
        sources: Float[Array, "shot source axis"],
        receivers: Float[Array, "shot receiver axis"],
    ) -> Float[Array, "shot receiver time"]:
        """Traces of every shot."""
        k = self.steps_per_sample
        h_t = self.dt / k
        mass, operator = self.space(model)
        gamma = jnp.asarray(self.gamma(), mass.dtype)
        at_next, at_last = 1 / h_t**2 + gamma / (2 * h_t), 1 / h_t**2 - gamma / (2 * h_t)
        cell = prod(self.spacing)

        def shot(w: Array, s: Array, r: Array) -> Array:
            q, inject, sample = self.resample(w), self.points(s), self.points(r)

            def step(carry: tuple[Array, Array], q_n: Array) -> tuple[tuple[Array, Array], Array]:
                u, last = carry
                source = (q_n @ inject).reshape(u.shape) / cell
                following = (operator(u) + source + mass * (2 / h_t**2 * u - at_last * last)) / (
                    mass * at_next
                )
                return (following, u), sample @ following.ravel()

            rest = jnp.zeros_like(mass)
            _, d = jax.lax.scan(step, (rest, rest), q.T)
            return jnp.pad(d[k - 1 :: k].T, ((0, 0), (1, 0)))  # sample 0 is rest

        return jax.vmap(shot)(wavelet, sources, receivers)
