"""Small complete problems, each stated once and handed both to ondax and to the reference of
`oracle.py`."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from oracle import Oracle

import ondax as ox

EQUATIONS = {"acoustic": ox.Acoustic, "density": ox.AcousticDensity}
MAX_VELOCITY = 2600.0


@dataclass(frozen=True)
class Problem:
    """Two shots with two simultaneous sources each, over a rough model, on a shifted grid of
    unequal spacings.

    Attributes:
        equation: "acoustic" or "density".
        ndim, order: dimensions, and order of the space derivatives.
        ratio: `dt` over the largest stable step; the internal step divides `dt` by `ceil(ratio)`.
        interpolation: "sinc" or "linear".
        where: "off": everything off the grid points, inside the grid; "on": everything on grid
            points; "edge": off the grid points, each window reaching into the absorbing layer;
            "layer": sources and receivers in the layer.
        wanted: "float32" or "float64"; the inputs are representable in it.
    """

    equation: str = "acoustic"
    ndim: int = 2
    order: int = 4
    ratio: float = 0.9
    interpolation: str = "sinc"
    where: str = "off"
    dtype: str = "float64"
    width: int = 6

    def __str__(self) -> str:
        return (
            f"{self.equation}-{self.ndim}d-order{self.order}-ratio{self.ratio}-{self.interpolation}-{self.where}"
            f"-{self.dtype}"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return {1: (41,), 2: (21, 24), 3: (12, 13, 14)}[self.ndim]

    @property
    def spacing(self) -> tuple[float, ...]:
        return {1: (8.0,), 2: (9.0, 11.0), 3: (9.0, 10.0, 11.0)}[self.ndim]

    @property
    def origin(self) -> tuple[float, ...]:
        return {1: (100.0,), 2: (-50.0, 30.0), 3: (-50.0, 0.0, 30.0)}[self.ndim]

    @cached_property
    def oracle(self) -> Oracle:
        steps = {1: 80, 2: 60, 3: 24}[self.ndim]
        trial = Oracle(
            self.equation,
            self.order,
            self.shape,
            self.spacing,
            self.origin,
            1.0,
            2,
            MAX_VELOCITY,
            self.width,
            interpolation=self.interpolation,
        )
        nt = round(steps / np.ceil(self.ratio)) + 1
        return Oracle(
            self.equation,
            self.order,
            self.shape,
            self.spacing,
            self.origin,
            self.ratio * trial.stable_step,
            nt,
            MAX_VELOCITY,
            self.width,
            interpolation=self.interpolation,
        )

    def _numpy(self, values: Any) -> np.ndarray:
        return np.asarray(values, self.dtype)

    @property
    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(7)

    def model(self) -> Any:
        """vp between 1600 and 2400 m/s, rho between 1000 and 2000 kg/m3: smooth trend plus noise in
        every cell."""
        rng, depth = self._rng, np.linspace(0, 1, self.shape[-1])
        noise = rng.uniform(-1, 1, (2, *self.shape))
        vp = self._numpy(1800 + 400 * depth + 200 * noise[0])
        if self.equation == "acoustic":
            return jnp.asarray(vp)
        return {
            "vp": jnp.asarray(vp),
            "rho": jnp.asarray(self._numpy(1500 - 200 * depth + 300 * noise[1])),
        }

    def perturbation(self, seed: int = 1) -> Any:
        """A direction in model space: a tenth of a parameter's size at most, rough."""
        rng = np.random.default_rng(seed)
        return jax.tree.map(
            lambda a: jnp.asarray(self._numpy(0.1 * a.mean() * rng.uniform(-1, 1, a.shape))),
            self.model(),
        )

    def wavelet(self) -> jax.Array:
        """A smooth pulse per source, each of its own frequency and polarity, about 12 to 24 samples
        long."""
        nt = self.oracle.nt
        x = np.arange(nt)[None, None, :] / nt
        centre = np.array([[0.15, 0.2], [0.25, 0.18]])[..., None]
        scale = np.array([[1.0, -0.6], [0.8, 1.3]])[..., None]
        a = (12 * scale * (x - centre)) ** 2
        return jnp.asarray(self._numpy(1e3 * scale * (1 - 2 * a) * np.exp(-a)))

    def cotangent(self, seed: int = 2) -> jax.Array:
        """Random data, (shot, receiver, time)."""
        return jnp.asarray(
            self._numpy(np.random.default_rng(seed).normal(size=(2, 5, self.oracle.nt)))
        )

    def _positions(self, fractions: np.ndarray) -> jax.Array:
        """Positions at given fractions of the grid's extent (0 to 1 inside), put on or off the grid
        points."""
        n, h, start = (np.array(a, float) for a in (self.shape, self.spacing, self.origin))
        cells = np.floor(fractions * (n - 1))
        if (
            self.where != "on"
        ):  # between 0.2 and 0.8 of a cell, so no position test crosses a kink of a kernel
            cells = cells + 0.2 + 0.6 * self._rng.uniform(size=cells.shape)
        return jnp.asarray(self._numpy(start + h * cells))

    def sources(self) -> jax.Array:
        """(2, 2, ndim) metres."""
        inside = np.array(
            [[[0.3, 0.4, 0.3], [0.6, 0.5, 0.5]], [[0.5, 0.35, 0.6], [0.4, 0.65, 0.45]]]
        )
        if self.where == "edge":
            inside[:, 0, -1], inside[:, 1, 0] = 0.05, 0.97
        if self.where == "layer":
            inside[:, 0, -1], inside[:, 1, 0] = -0.15, 1.12
        return self._positions(inside[..., 3 - self.ndim :])

    def receivers(self) -> jax.Array:
        """(2, 5, ndim) metres."""
        inside = np.stack(
            [np.linspace(0.15, 0.85, 5), np.linspace(0.7, 0.2, 5), np.linspace(0.2, 0.7, 5)], -1
        )
        inside = np.stack([inside, inside[::-1] * 0.9 + 0.05])
        if self.where == "edge":
            inside[:, 0, 0], inside[:, 1:3, -1] = 0.02, 0.98
        if self.where == "layer":
            inside[:, 0, 0], inside[:, 1:3, -1] = -0.12, 1.14
        return self._positions(inside[..., 3 - self.ndim :])

    def inputs(self) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        """Model, wavelet, sources, receivers, in the order of the reference's arguments."""
        return self.model(), self.wavelet(), self.sources(), self.receivers()

    def propagator(self, **options: Any) -> ox.Propagator:
        """The same problem stated to ondax."""
        o = self.oracle
        survey = ox.Survey(
            np.asarray(self.sources()),
            np.asarray(self.receivers()),
            np.asarray(self.wavelet()),
            o.dt,
        )
        return ox.Propagator(
            EQUATIONS[self.equation](space_order=o.order),
            ox.Grid(shape=o.shape, spacing=o.spacing, origin=o.origin),
            survey,
            max_velocity=o.max_velocity,
            boundary=ox.Sponge(width=o.width, reflection=o.reflection, power=o.power),
            interpolation=o.interpolation,
            # Schemes are compared here, not physics: rough wavelets and points in the layer are
            # welcome.
            **{"min_points_per_wavelength": 0.0, "points_in_layer": True, **options},
        )


def tiny() -> tuple[ox.Propagator, jax.Array]:
    """A line whose Jacobian, 24 by 13, can be had as a matrix; and a model."""
    survey = ox.Survey([[52.0]], [[21.0], [78.0]], ox.ricker(25.0, 12, 0.008, delay=0.02), 0.008)
    F = ox.Propagator(
        ox.Acoustic(space_order=4),
        ox.Grid(13, 8.0),
        survey,
        2500.0,
        boundary=ox.Sponge(width=3),
        min_points_per_wavelength=1.0,
    )
    return F, 2000.0 + 10.0 * jnp.arange(13.0)


def call(F: ox.Propagator):
    """`F` as a function of (model, wavelet, sources, receivers), as the reference is."""
    return lambda model, wavelet, sources, receivers: F(
        model, wavelet=wavelet, sources=sources, receivers=receivers
    )


def norm(tree: Any) -> float:
    """Euclidean norm over all leaves, in float64."""
    return float(
        np.sqrt(sum(np.sum(np.asarray(a, np.float64) ** 2) for a in jax.tree.leaves(tree)))
    )


def dot(a: Any, b: Any) -> float:
    """Inner product over all leaves, in float64."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(
        sum(np.sum(np.asarray(x, np.float64) * np.asarray(y, np.float64)) for x, y in pairs)
    )


def difference(a: Any, b: Any) -> float:
    """||a - b|| / ||b||, in float64; refuses a `b` of zero norm, which would make any test of it
    empty."""
    size = norm(b)
    assert size > 0, "the reference is zero: nothing is tested"
    return (
        norm(jax.tree.map(lambda x, y: np.asarray(x, np.float64) - np.asarray(y, np.float64), a, b))
        / size
    )
