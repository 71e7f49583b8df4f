"""The largest stable time step of a scheme in the model at hand.

A scheme is stable up to the step at which a motion that changes sign from step to step solves it (see
`calculus.alternating`). With G the map from amplitudes to amplitudes of which such a motion is an eigenvector with eigenvalue 1,
and |G| the same map with absolute weights and absolute factors, Collatz (1942) and Wielandt (1950) bound the eigenvalues of G by

    max over points of (|G| v) / v    for every positive v,

and `v <- |G| v` lowers the bound. Where weights alternate in sign with the offset, as those of all staggered first and all
centred second differences do, a checkerboard of signs turns G into |G|, and the bound is exact in the limit. Where they do
not (centred first differences, negative moduli), it is safe but pessimistic, and the largest eigenvalue of G itself is
estimated, with a margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..calculus.alternating import alternating
from ..calculus.terms import accesses, location, time_offset
from ..equations.system import ODD, Symbols, System
from .stencils import Array, Form, Setting, fixed

APPLICATIONS = 30  # of |G|: then the bound is within 1 % of the eigenvalue (0.5 % of the step) in all media tried
MARGIN = 1.02  # over an estimate from below: 1 % of the step
TIGHT = 1.02  # a bound that exceeds the estimate by less is as good as it
POWERS, STAGES, STAGE = 6, 3, 12  # iterations of an estimate
LEAST = 1e-6  # v, over its largest value
ROUNDING = 1e-5  # of float32 sums

Amplitudes = Mapping[str, Array]


@dataclass(frozen=True)
class Judgement:
    """What is known of a time step.

    Attributes:
        ratio: of squares: the step's over that of the largest step known to hold.
        place: where in the grid it is decided, in cells from the first point.
    """

    ratio: float
    place: tuple[float, ...]

    @property
    def holds(self) -> bool:
        return self.ratio <= 1.0 + ROUNDING


class Motion:
    """The alternating motion of a scheme, which is a matter of symbols: it serves every model.

    Args:
        system: the scheme; without perfectly matched layers, which only make it slower.
    """

    def __init__(self, system: System) -> None:
        self.symbols: Symbols = system.symbols
        self.coefficients = tuple(c.name for c in system.coefficients)
        self.balances = alternating(system)
        self.forms = [Form(balance.forces) for balance in self.balances]
        self.names = [balance.field.name for balance in self.balances]
        self.locations = {b.field.name: tuple(location(b.field).values()) for b in self.balances}
        read = {(a.function.name, time_offset(a)) for b in self.balances for a in accesses(b.forces)}
        self.carried = [name for name in self.names if (name, 0) in read]
        self.follow = {b.field.name for b in self.balances if any(time_offset(a) == 1 for a in accesses(b.forces))}

    def judge(self, coefficients: Mapping[str, Array], spacing: Sequence[float], dt: float, surface: bool) -> Judgement:
        """Judge a step; stops as soon as it is known to hold.

        Args:
            coefficients: by name, arrays of one shape.
            spacing: metres, per axis.
            dt: the time step, s.
            surface: there is a free surface at the top.
        """
        sweep = Sweep(self, coefficients, spacing, dt, surface, absolute=True)
        bound, carried = _bounded(sweep, sweep.start(), APPLICATIONS, enough=1.0 + ROUNDING)
        if bound.holds or math.isinf(bound.ratio):
            return bound
        return _refined(bound, Sweep(self, coefficients, spacing, dt, surface, absolute=False), carried)

    def largest_step(
        self, coefficients: Mapping[str, Array], spacing: Sequence[float], surface: bool, first: float
    ) -> float:
        """The largest step known to hold, s; infinity where nothing moves.

        Args:
            coefficients: by name, arrays of one shape.
            spacing: metres, per axis.
            surface: there is a free surface at the top.
            first: a step below it, or not far above it, s.
        """
        dt, carried, applications = first, None, APPLICATIONS
        while True:
            sweep = Sweep(self, coefficients, spacing, dt, surface, absolute=True)
            bound, carried = _bounded(sweep, carried or sweep.start(), applications, enough=0.0)
            if bound.ratio == 0.0:
                return math.inf
            change = 0.5 if math.isinf(bound.ratio) else bound.ratio**-0.5
            dt *= change
            # Nearly always the ratio is proportional to dt^2: then the second application at the new step changes nothing.
            if abs(change - 1.0) < 1e-3:
                break
            applications = APPLICATIONS if math.isinf(bound.ratio) else 3
        bound = Judgement(1.0, bound.place)
        signed = Sweep(self, coefficients, spacing, dt, surface, absolute=False)
        return dt * _refined(bound, signed, carried).ratio ** -0.5


class Sweep:
    """G or |G| in one model, at one time step.

    Args:
        motion: the alternating motion.
        coefficients: by name, arrays of one shape.
        spacing: metres, per axis.
        dt: s.
        surface: there is a free surface at the top.
        absolute: |G|.
    """

    def __init__(
        self,
        motion: Motion,
        coefficients: Mapping[str, Array],
        spacing: Sequence[float],
        dt: float,
        surface: bool,
        absolute: bool,
    ) -> None:
        self.motion, symbols = motion, motion.symbols
        scalars = {symbols.dt.name: dt}
        scalars |= {d.spacing.name: h for d, h in zip(symbols.dimensions, spacing, strict=True)}
        setting = Setting(symbols, coefficients, scalars, surface)
        example = next(iter(coefficients.values()))
        self.shape, self.dtype = example.shape, example.dtype
        self.forms = [form.prepared(setting, absolute) for form in motion.forms]
        self.gains: dict[str, Array] = {}
        self.impossible: int | None = None  # a point where the field's own pointwise forces are too strong for the step
        for balance in motion.balances:
            name, image = balance.field.name, symbols.traits_of(balance.field).image
            inertia = np.broadcast_to(fixed(balance.inertia, setting), self.shape)
            if not np.all(inertia > 0.0):
                self.impossible = int(np.argmin(inertia))
                return
            gain = np.array(np.broadcast_to(fixed(balance.take, setting) / inertia, self.shape), self.dtype)
            if surface and image == ODD and not motion.locations[name][-1]:
                gain[..., 0] = 0.0  # it vanishes on the surface
            self.gains[name] = np.abs(gain) if absolute else -gain

    def start(self) -> dict[str, Array]:
        """Positive amplitudes of the carried fields, near those of the fastest motion where the medium is smooth."""
        roots = {name: np.sqrt(np.abs(gain)) for name, gain in self.gains.items()}
        amplitudes = {(name, new): root for name, root in roots.items() for new in (False, True)}
        made = {}
        for name, form in zip(self.motion.names, self.forms, strict=True):
            if name in self.motion.carried:
                # What is made of fields of this sweep, as stresses of velocities, has amplitudes like theirs.
                made[name] = self.gains[name] * form(amplitudes, {}) if name in self.motion.follow else roots[name]
        return {name: _raised(values) for name, values in made.items()}

    def __call__(self, carried: Amplitudes) -> dict[str, Array]:
        """The carried amplitudes after one application."""
        amplitudes = {(name, False): values for name, values in carried.items()}
        known: dict[str, Array] = {}
        for name, form in zip(self.motion.names, self.forms, strict=True):
            amplitudes[name, True] = self.gains[name] * form(amplitudes, known)
        return {name: amplitudes[name, True] for name in self.motion.carried}

    def place(self, name: str, index: int) -> tuple[float, ...]:
        at = np.unravel_index(index, self.shape)
        return tuple(float(i + half / 2) for i, half in zip(at, self.motion.locations[name], strict=True))


def _raised(values: Array) -> Array:
    """The values, made positive everywhere."""
    return np.maximum(values, max(values.dtype.type(LEAST) * values.max(), np.finfo(values.dtype).tiny))


def _bounded(sweep: Sweep, carried: Amplitudes, applications: int, enough: float) -> tuple[Judgement, Amplitudes]:
    """A bound on the eigenvalues of |G|, by at most so many applications, and the amplitudes that it was found with.

    Args:
        sweep: |G|.
        carried: positive amplitudes to start from.
        applications: at most.
        enough: stop when the bound is as low as this.
    """
    best, of_best = Judgement(math.inf, (0.0,) * len(sweep.shape)), carried
    for _ in range(applications):
        made = sweep(carried)
        worst, place = 0.0, best.place
        for name, values in made.items():
            ratios = values / carried[name]
            index = int(np.argmax(ratios))
            if ratios.flat[index] > worst:
                worst, place = float(ratios.flat[index]), sweep.place(name, index)
        if worst < best.ratio:
            best, of_best = Judgement(worst, place), carried
        if worst <= enough:
            break
        if worst == 0.0:
            break
        carried = {name: _raised(values / values.dtype.type(worst)) for name, values in made.items()}
    return best, of_best


def _refined(bound: Judgement, sweep: Sweep, carried: Amplitudes) -> Judgement:
    """The bound where it is tight; else the largest eigenvalue of G, estimated from below, with a margin.

    Power iterations from a checkerboard of signs confirm a tight bound at once. Otherwise Chebyshev iterations follow: the
    amplitudes of eigenvalues between 0 and a stay bounded, those of greater ones grow, the faster the greater.

    Args:
        bound: on the eigenvalues of |G|.
        sweep: G.
        carried: the amplitudes that the bound was found with.
    """
    rng = np.random.default_rng(0)
    signs = sum(np.ix_(*map(np.arange, sweep.shape))) % 2 * 2.0 - 1.0
    y: Amplitudes = {
        name: (values * (signs + 0.1 * rng.standard_normal(sweep.shape))).astype(sweep.dtype)
        for name, values in carried.items()
    }
    size = _size(y)
    for _ in range(POWERS):
        y = _scaled(sweep(y), 1.0 / size)
        size = _size(y)
        if bound.ratio <= TIGHT * size:
            return bound
    eigenvalue = size
    for _ in range(STAGES):
        a = 0.98 * eigenvalue
        before, now = y, _combined(2.0 / a, sweep(y), -1.0, y)
        for _ in range(STAGE):
            before, now = now, _combined(4.0 / a, sweep(now), -2.0, now, -1.0, before)
        growth = _size(now) / _size(before)
        eigenvalue = max(eigenvalue, a * (growth + 1.0 / growth + 2.0) / 4.0 if growth > 1.0 else 0.0)
        y = _scaled(now, 1.0 / _size(now))
    return Judgement(min(bound.ratio, MARGIN * eigenvalue), bound.place)


def _size(amplitudes: Amplitudes) -> float:
    return math.sqrt(sum(float(np.sum(np.square(values, dtype=np.float64))) for values in amplitudes.values()))


def _scaled(amplitudes: Amplitudes, by: float) -> dict[str, Array]:
    return {name: values * values.dtype.type(by) for name, values in amplitudes.items()}


def _combined(*pairs: Any) -> dict[str, Array]:
    """A sum of amplitudes, given as factor, amplitudes, factor, amplitudes, ..."""
    factors, terms = pairs[::2], pairs[1::2]
    return {
        name: sum(values.dtype.type(f) * t[name] for f, t in zip(factors, terms, strict=True))
        for name, values in terms[0].items()
    }
