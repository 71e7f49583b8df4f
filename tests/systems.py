"""First-order systems that keep the calculus honest: several fields, staggering, and coefficients
in awkward places.

Units are natural ones: a grid spacing, density and wave speeds of about one, so that no field is
lost in another's size.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ondax.backends.base import Asked, Experiment
from ondax.backends.clock import Clock
from ondax.backends.devito.plans import Planned
from ondax.backends.devito.solver import Solver
from ondax.backends.domain import Domain
from ondax.backends.settings import Settings
from ondax.backends.setups import Alike
from ondax.boundaries.base import Conditions
from ondax.boundaries.sponge import Sponge
from ondax.calculus.program import Program
from ondax.equations.schemes import first_order_in_time, second_order_in_time, to_half, to_node
from ondax.histories.base import Recording
from ondax.histories.named import named
from ondax.scheme.symbols import Symbols
from ondax.scheme.system import Port, System, Update


@contextmanager
def float64_everywhere() -> Iterator[None]:
    """Turns float64 on for all threads, as `jax.enable_x64` does not: JAX runs some callbacks in
    threads of its own, where it would take their float64 results for float32."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


SPONGE = Sponge(width=3, reflection=0.1)
FASTEST = 1.3  # of any wave below
ORDER = 2


def mass_form(symbols: Symbols) -> System:
    """`rho v_t = -grad p`, `kappa p_t = -div v`: every coefficient in a mass."""
    p = symbols.field("p", time_order=1)
    vs = [symbols.field(f"v_{d.name}", time_order=1, staggered=d) for d in symbols.dimensions]
    rhos = [symbols.coefficient(f"rho_{d.name}", staggered=d) for d in symbols.dimensions]
    kappa = symbols.coefficient("kappa")
    updates = [
        first_order_in_time(symbols, SPONGE, v, rho, -to_half(p, d))
        for v, rho, d in zip(vs, rhos, symbols.dimensions, strict=True)
    ]
    divergence = sum(to_node(v.forward, d) for v, d in zip(vs, symbols.dimensions, strict=True))
    updates.append(first_order_in_time(symbols, SPONGE, p, kappa, -divergence))
    return System(
        symbols,
        (*rhos, kappa),
        tuple(updates),
        (Port("source", ((p, 1.0),)),),
        (Port("receiver", ((p, 1.0),)),),
    )


def right_hand_form(symbols: Symbols) -> System:
    """`v_t = -b^2 grad p`, `p_t = -div (k v)`: a coefficient squared, another inside a derivative
    and at half points."""
    p = symbols.field("p", time_order=1)
    vs = [symbols.field(f"v_{d.name}", time_order=1, staggered=d) for d in symbols.dimensions]
    bs = [symbols.coefficient(f"b_{d.name}", staggered=d) for d in symbols.dimensions]
    ks = [symbols.coefficient(f"k_{d.name}", staggered=d) for d in symbols.dimensions]
    updates = [
        first_order_in_time(symbols, SPONGE, v, 1, -(b**2) * to_half(p, d))
        for v, b, d in zip(vs, bs, symbols.dimensions, strict=True)
    ]
    divergence = sum(
        to_node(k * v.forward, d) for v, k, d in zip(vs, ks, symbols.dimensions, strict=True)
    )
    updates.append(first_order_in_time(symbols, SPONGE, p, 1, -divergence))
    reads = ((vs[0], 0.5), (p, 1.0))  # of different staggering
    return System(
        symbols,
        (*bs, *ks),
        tuple(updates),
        (Port("source", ((p, 1.0),)),),
        (Port("receiver", reads),),
    )


def elastic(symbols: Symbols) -> System:
    """The velocity-stress system of Virieux (1986), with an explosive source and receivers of both
    velocities."""
    x, z = symbols.dimensions
    vx, vz = (symbols.field(f"v_{d.name}", time_order=1, staggered=d) for d in (x, z))
    txx, tzz = (symbols.field(n, time_order=1) for n in ("txx", "tzz"))
    txz = symbols.field("txz", time_order=1, staggered=(x, z))
    bx, bz = (symbols.coefficient(f"b_{d.name}", staggered=d) for d in (x, z))
    lam, mu, mu_xz = (
        symbols.coefficient("lam"),
        symbols.coefficient("mu"),
        symbols.coefficient("mu_xz", staggered=(x, z)),
    )
    exx, ezz = to_node(vx.forward, x), to_node(vz.forward, z)
    forces = (
        (vx, bx * (to_half(txx, x) + to_node(txz, z))),
        (vz, bz * (to_node(txz, x) + to_half(tzz, z))),
        (txx, (lam + 2 * mu) * exx + lam * ezz),
        (tzz, lam * exx + (lam + 2 * mu) * ezz),
        (txz, mu_xz * (to_half(vx.forward, z) + to_half(vz.forward, x))),
    )
    updates = tuple(first_order_in_time(symbols, SPONGE, f, 1, force) for f, force in forces)
    explosion = Port("source", ((txx, 1.0), (tzz, 1.0)))
    return System(
        symbols,
        (bx, bz, lam, mu, mu_xz),
        updates,
        (explosion,),
        (Port("receiver", ((vx, 1.0), (vz, -0.5))),),
    )


def second_order(symbols: Symbols) -> System:
    """Two coupled waves of second order in time: `u` with viscous losses (a derivative of the
    previous step), `w` driven by `u` at the previous and at the next step. The engine may overwrite
    the previous `w`, but not the previous `u`."""
    (z,) = symbols.dimensions
    u, w = symbols.field("u"), symbols.field("w")
    m, eta, b = (
        symbols.coefficient("m"),
        symbols.coefficient("eta"),
        symbols.coefficient("b", staggered=z),
    )
    dt = symbols.dt
    losses = eta * to_node(b * to_half(u - u.backward, z), z) / dt
    updates = (
        second_order_in_time(symbols, SPONGE, u, m, u.laplace + losses),
        second_order_in_time(
            symbols, SPONGE, w, m, to_node(b * to_half(w, z), z) + eta * (u.forward + u.backward)
        ),
    )
    reads = Port("receiver", ((u, 0.3), (w, 1.0)))
    return System(symbols, (m, eta, b), updates, (Port("source", ((u, 1.0), (w, 0.5))),), (reads,))


def measured(symbols: Symbols) -> System:
    """A wave `u`, and fields of first order in time that are made of it and act on nothing: `q` of
    `u` at three times, whose adjoint is therefore read at three times; `s`, its sum over time; and
    `w` of `s` alone, whose update reads no field at several times."""
    u = symbols.field("u")
    q, s, w = (symbols.field(name, time_order=1) for name in ("q", "s", "w"))
    m, eta, b = (symbols.coefficient(name) for name in ("m", "eta", "b"))
    dt = symbols.dt
    updates = (
        second_order_in_time(symbols, SPONGE, u, m, u.laplace),
        Update(q, 1 / dt, q / dt + b * (u.forward - 3 * u + u.backward)),
        Update(s, 1 / dt, s / dt + u.forward),
        Update(w, 1 / dt, w / dt + eta * s.forward),
    )
    reads = Port("receiver", ((u, 0.3), (q, 1.0), (w, 2.0)))
    return System(symbols, (m, eta, b), updates, (Port("source", ((u, 1.0),)),), (reads,))


RANGES = {
    "m": (0.9, 1.2),
    "eta": (0.02, 0.05),
    "rho": (0.9, 1.2),
    "kappa": (0.9, 1.2),
    "b": (0.8, 1.05),
    "k": (0.8, 1.1),
    "lam": (0.3, 0.5),
    "mu": (0.3, 0.45),
}
"""Of every coefficient, by the first part of its name, such that no wave is faster than FASTEST:
elastic waves, the fastest, have b (lam + 2 mu) < 1.05 * 1.4 = 1.21^2."""


def between(system: System, source: str, receiver: str) -> System:
    """The system with one of its inputs and one of its outputs: the engine knows no more."""
    (into,) = (p for p in system.inputs if p.name == source)
    (out,) = (p for p in system.outputs if p.name == receiver)
    return replace(system, inputs=(into,), outputs=(out,))


class Rig:
    """A system on a small rough medium, run by the engine without JAX.

    One shot of two sources into three receivers, off the grid, some of them in the absorbing layer,
    recorded at every second step. Two rigs of the same coefficients and dtype hold the same
    numbers.

    Args:
        system: with one input and one output.
        keep_products: of the history; None leaves it to the calculus.
        settings: of the engine.
        record_every: steps between recorded samples.
    """

    steps = 36

    def __init__(
        self,
        system: System,
        keep_products: bool | None = None,
        settings: Settings | None = None,
        record_every: int = 2,
    ) -> None:
        self.system = system
        symbols = system.symbols
        ndim = symbols.ndim
        planned = Planned.of(Program(system, keep_products=keep_products))
        plan = planned.plan
        shape, spacing = {1: ((31,), (1.1,)), 2: ((17, 15), (1.0, 1.1))}[ndim]
        dt = 0.95 / (FASTEST * sum(h**-2 for h in spacing) ** 0.5)  # of the limit of order 2
        self.clock = Clock(dt, self.steps, record_every)
        self.domain = Domain(
            shape=shape,
            spacing=spacing,
            origin=(-3.0, 2.0)[-ndim:],
            interpolation="sinc",
            dtype=symbols.dtype.name,
            profiles=SPONGE.profiles(plan, shape, spacing, Conditions(0.0, FASTEST, 1.0, 1.0)),
        )
        self.names = tuple(c.name for c in system.coefficients)
        settings = settings or Settings(threads=1)
        self.recording = Recording(self.names, named(settings.history, settings.store_every))
        self.solver = Solver(planned, self.domain, self.clock, settings)
        self.coefficients = tuple(self._coefficient(name) for name in self.names)
        self.source = self.random("source", 1, 2, self.steps)
        fractions = np.array([[0.45, 0.4], [0.07, 0.62], [0.61, 0.55], [0.33, 0.71], [0.95, 0.08]])[
            :, -ndim:
        ]
        points = np.array(self.domain.origin) + fractions * (np.array(shape) - 1) * np.array(
            spacing
        )
        self.sources, self.receivers = points[None, :2], points[None, 2:]

    def random(self, name: str, *shape: int) -> np.ndarray:
        """Normal numbers, always the same for a name."""
        return (
            np.random.default_rng(zlib.crc32(name.encode()))
            .normal(size=shape)
            .astype(self.domain.dtype)
        )

    def _coefficient(self, name: str) -> np.ndarray:
        """A medium in the range of its kind; a tangent, whose name begins otherwise, has either
        sign and is small."""
        low, high = RANGES.get(name.split("_")[0], (-0.1, 0.1))
        uniform = np.random.default_rng(zlib.crc32(name.encode())).uniform(
            low, high, self.domain.shape
        )
        return uniform.astype(self.domain.dtype)

    def perturbation(self) -> tuple[np.ndarray, ...]:
        tenth = np.asarray(0.1, self.domain.dtype)
        return tuple(
            tenth * self.random("perturbed " + name, *self.domain.shape) for name in self.names
        )

    def residual(self) -> np.ndarray:
        return self.random("residual", 1, 3, self.clock.samples)

    def _experiment(self, coefficients: Any, source: Any) -> Experiment:
        c = self.coefficients if coefficients is None else coefficients
        return Experiment(
            dict(zip(self.names, c, strict=True)),
            self.source if source is None else source,
            Alike(self.domain, self.clock, self.sources, self.receivers),
        )

    def forward(
        self, coefficients: Any = None, source: Any = None, keep: bool = True
    ) -> np.ndarray:
        recording = self.recording if keep else None
        return self.solver.forward((), self._experiment(coefficients, source), recording, False)[0]

    def born(
        self, perturbation: Any, source: np.ndarray | None = None, coefficients: Any = None
    ) -> np.ndarray:
        changes = dict(zip(self.names, perturbation, strict=True))
        return self.solver.born(
            (), self._experiment(coefficients, None), self.recording, changes, source
        )

    def adjoint(
        self, residual: np.ndarray, coefficients: Any = None
    ) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Gradients of the coefficients, and that of the source samples."""
        e = self._experiment(coefficients, None)
        asked = Asked(self.names, wavelet=True, again=True)
        found = self.solver.adjoint((), e, self.recording, residual, asked)
        return tuple(found.coefficients[n] for n in self.names), found.wavelet
