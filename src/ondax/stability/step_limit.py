"""The largest stable time step of a scheme in the model at hand.

A scheme is stable up to the step at which a motion that changes sign from step to step solves it
(see `calculus.alternating`). With G the map from amplitudes to amplitudes of which such a motion is
an eigenvector with eigenvalue 1, and |G| the same map with absolute weights and absolute factors,
Collatz (1942) and Wielandt (1950) bound the eigenvalues of G by

    max over points of (|G| v) / v    for every positive v,

and `v <- |G| v` lowers the bound. Where weights alternate in sign with the offset, as those of all
staggered first and all centred second differences do, a checkerboard of signs turns G into |G|, and
the bound is exact in the limit. Where they do not (centred first differences, negative moduli), it
is safe but pessimistic, and the largest eigenvalue of G itself is estimated, with a margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..calculus.alternating import alternating, carried
from ..scheme.symbols import ODD, Symbols
from ..scheme.system import System
from ..scheme.terms import accesses, location, time_offset
from .stencils import Array, Evaluate, Form, Setting, fixed, repeated

# of |G|: then the bound is within 1 % of the eigenvalue (0.5 % of the step) in all media tried
APPLICATIONS = 30
MARGIN = 1.02  # over an estimate from below: 1 % of the step
TIGHT = 1.02  # a bound that exceeds the estimate by less is as good as it
POWERS, STAGES, STAGE = 6, 3, 12  # iterations of an estimate
LEAST = 1e-6  # v, over its largest value
ROUNDING = 1e-5  # of float32 sums
UNIFORM_MARGIN = 1.002  # over a tight bound: 0.1 % of the step, so that models as fast pass
UNIFORM_TRIALS = 100  # of steps; mostly the second is the last
WAVENUMBERS = {1: 65, 2: 25, 3: 13}  # from zero to that of a checkerboard, by number of axes

Amplitudes = Mapping[str, Array]


@dataclass(frozen=True)
class Judgement:
    """What is known of a time step.

    Attributes:
        ratio: of squares: the step's over that of the largest step known to hold.
        amplitudes: of the motion that limits the step, by field.
        place: where that motion is strongest, in cells from the grid's first point; of steps that
            do not hold only.
    """

    ratio: float
    amplitudes: Amplitudes
    place: tuple[float, ...] = ()

    @property
    def holds(self) -> bool:
        return self.ratio <= 1.0 + ROUNDING


class Motion:
    """The alternating motion of a scheme, which is a matter of symbols: it serves every model.

    Args:
        system: the scheme; without perfectly matched layers, which only make its motions slower.
    """

    def __init__(self, system: System) -> None:
        self.symbols: Symbols = system.symbols
        self.coefficients = tuple(c.name for c in system.coefficients)
        self.balances = alternating(system)
        self.forms = [Form(balance.forces, self.symbols) for balance in self.balances]
        self.repeated = repeated(self.forms)
        self.locations = {b.field.name: tuple(location(b.field).values()) for b in self.balances}
        self.carried = carried(self.balances)
        self.following = {
            b.field.name
            for b in self.balances
            if any(time_offset(a) == 1 for a in accesses(b.forces))
        }

    def judge(
        self, coefficients: Mapping[str, Array], spacing: Sequence[float], dt: float
    ) -> Judgement:
        """Judge a step; stops as soon as it is known to hold.

        Args:
            coefficients: by name, arrays of one shape.
            spacing: metres, per axis.
            dt: the time step, s.
        """
        sweep = Sweep(self, coefficients, spacing, dt, absolute=True)
        bound = _bounded(sweep, None, 2 * APPLICATIONS, enough=1.0 + ROUNDING)
        if bound.holds:
            return bound
        if not sweep.possible:
            return replace(bound, place=sweep.place(bound.amplitudes))
        signed = Sweep(self, coefficients, spacing, dt, absolute=False)
        judgement = _refined(
            bound, signed, 0.5 * (1.0 + MARGIN)
        )  # a step that was found with the whole margin passes
        return (
            judgement
            if judgement.holds
            else replace(judgement, place=sweep.place(judgement.amplitudes))
        )

    def largest_step(
        self,
        coefficients: Mapping[str, Array],
        spacing: Sequence[float],
        first: float,
    ) -> float:
        """The largest step known to hold, s; infinity where nothing moves.

        Args:
            coefficients: by name, arrays of one shape.
            spacing: metres, per axis.
            first: a step not far from it, s.
        """
        dt, applications, amplitudes = first, APPLICATIONS, None
        change = 0.0
        while abs(change - 1.0) > 1e-3:
            sweep = Sweep(self, coefficients, spacing, dt, absolute=True)
            bound = _bounded(sweep, amplitudes, applications, enough=0.0)
            if bound.ratio == 0.0:
                return math.inf
            change = bound.ratio**-0.5 if sweep.possible else 0.5
            dt *= change
            # Mostly the ratio is proportional to dt^2: then the next round changes nothing.
            amplitudes, applications = (
                (bound.amplitudes, 3) if sweep.possible else (None, APPLICATIONS)
            )
        signed = Sweep(self, coefficients, spacing, dt, absolute=False)
        return dt * _refined(Judgement(1.0, bound.amplitudes), signed, MARGIN).ratio ** -0.5

    def uniform_step(
        self, coefficients: Mapping[str, float], spacing: Sequence[float], first: float
    ) -> float:
        """The largest step known to hold in an unbounded uniform medium, s; infinity where nothing
        moves.

        There G is a small matrix for each wavenumber. Its largest eigenvalue is that of |G| where
        weights alternate in sign, and found by trying wavenumbers elsewhere.

        Args:
            coefficients: by name.
            spacing: metres, per axis.
            first: a step not far from it, s.
        """
        ndim = self.symbols.ndim
        up = np.linspace(0.0, math.pi, WAVENUMBERS[ndim])
        every = np.concatenate([-up[:0:-1], up])
        phases = [a.ravel() for a in np.meshgrid(up, *[every] * (ndim - 1), indexing="ij")]
        dt, change, tried = first, 0.0, 0
        while abs(change - 1.0) > 1e-6 and tried < UNIFORM_TRIALS:
            bound = self._of_waves(coefficients, spacing, dt, [np.zeros(1)] * ndim, absolute=True)
            found = self._of_waves(coefficients, spacing, dt, phases, absolute=False)
            safe = bound * UNIFORM_MARGIN
            ratio = safe if bound <= TIGHT * found else min(safe, MARGIN * found)
            if ratio == 0.0:
                return math.inf
            change, tried = (ratio**-0.5 if math.isfinite(ratio) else 0.5), tried + 1
            dt *= change
        return dt

    def _of_waves(
        self,
        coefficients: Mapping[str, float],
        spacing: Sequence[float],
        dt: float,
        phases: Sequence[Array],
        absolute: bool,
    ) -> float:
        """The largest eigenvalue of G, or of |G|, for any of some plane waves."""
        arrays = {name: np.full(phases[0].shape, value) for name, value in coefficients.items()}
        sweep = Sweep(self, arrays, spacing, dt, absolute, phases)
        if not sweep.possible:
            return math.inf
        columns = []
        for column in self.carried:
            made = sweep({n: np.full(phases[0].shape, float(n == column)) for n in self.carried})
            columns.append([made[n] for n in self.carried])
        matrices = np.moveaxis(np.array(columns), (0, 1, 2), (2, 1, 0))
        return float(np.abs(np.linalg.eigvals(matrices)).max()) if columns else 0.0


class Sweep:
    """G or |G| in one model, at one time step.

    Args:
        motion: the alternating motion.
        coefficients: by name, arrays of one shape.
        spacing: metres, per axis.
        dt: s.
        absolute: |G|.
        phases: of plane waves, which arrays then hold in place of points; see `Setting`.

    Attributes:
        possible: False where a field's own pointwise forces are too strong for the step, so that
            nothing else counts.
    """

    def __init__(
        self,
        motion: Motion,
        coefficients: Mapping[str, Array],
        spacing: Sequence[float],
        dt: float,
        absolute: bool,
        phases: Sequence[Array] | None = None,
    ) -> None:
        self.motion, symbols = motion, motion.symbols
        scalars = {symbols.dt.name: dt}
        scalars |= {d.spacing.name: h for d, h in zip(symbols.dimensions, spacing, strict=True)}
        setting = Setting(symbols, coefficients, scalars, absolute, motion.repeated, phases)
        example = next(iter(coefficients.values()))
        self.shape, self.dtype = example.shape, example.dtype
        self.possible = True
        self.forms: dict[str, Evaluate] = {}
        self.gains: dict[str, Array] = {}
        for balance, form in zip(motion.balances, motion.forms, strict=True):
            name, image = balance.field.name, symbols.traits_of(balance.field).image
            inertia = fixed(balance.inertia, setting)
            self.possible = self.possible and bool(np.all(inertia > 0.0))
            with np.errstate(divide="ignore"):
                gain = np.array(
                    np.broadcast_to(fixed(balance.take, setting) / inertia, self.shape), self.dtype
                )
            if symbols.ghosts and image == ODD and not motion.locations[name][-1]:
                gain[..., 0] = 0.0  # it vanishes on the surface
            self.gains[name] = np.abs(gain) if absolute else -gain
            self.forms[name] = form.prepared(setting)

    def smooth(self) -> dict[str, Array]:
        """Amplitudes of the carried fields, about those of the fastest motion where the medium is
        smooth; positive."""
        roots = {name: np.sqrt(np.abs(gain)) for name, gain in self.gains.items()}
        amplitudes = {(name, new): root for name, root in roots.items() for new in (False, True)}

        def made(name: str) -> Array:
            # What is made of fields of the same sweep, as stresses of velocities, has amplitudes
            # like theirs.
            following = name in self.motion.following
            return (
                np.abs(self.gains[name] * self.forms[name](amplitudes, {}))
                if following
                else roots[name]
            )

        return {name: _raised(made(name)) for name in self.motion.carried}

    def place(self, amplitudes: Amplitudes) -> tuple[float, ...]:
        """Where amplitudes are largest, compared with those of a smooth medium, in cells from the
        grid's first point."""
        strengths = {
            name: np.abs(amplitudes[name]) / values for name, values in self.smooth().items()
        }
        name = max(strengths, key=lambda n: float(strengths[n].max()))
        at = np.unravel_index(int(np.argmax(strengths[name])), self.shape)
        return tuple(
            float(i) + half / 2 for i, half in zip(at, self.motion.locations[name], strict=True)
        )

    def __call__(self, carried: Amplitudes) -> dict[str, Array]:
        """The carried amplitudes after one application."""
        amplitudes = {(name, False): values for name, values in carried.items()}
        known: dict[str, Array] = {}
        for name, form in self.forms.items():
            amplitudes[name, True] = self.gains[name] * form(amplitudes, known)
        return {name: amplitudes[name, True] for name in self.motion.carried}


def _raised(values: Array) -> Array:
    """The values, made positive everywhere."""
    return np.maximum(
        values, max(values.dtype.type(LEAST) * values.max(), np.finfo(values.dtype).tiny)
    )


def _bounded(
    sweep: Sweep, amplitudes: Amplitudes | None, applications: int, enough: float
) -> Judgement:
    """A bound on the eigenvalues of |G|.

    Args:
        sweep: |G|.
        amplitudes: positive, to start from.
        applications: at most.
        enough: stop when the bound is as low as this.
    """
    if not sweep.possible:
        return Judgement(math.inf, sweep.gains)
    amplitudes = sweep.smooth() if amplitudes is None else amplitudes
    best = Judgement(math.inf, amplitudes)
    for _ in range(applications):
        made = sweep(amplitudes)
        worst = max(float(np.max(values / amplitudes[name])) for name, values in made.items())
        best = min(best, Judgement(worst, amplitudes), key=lambda judgement: judgement.ratio)
        if worst <= enough or worst == 0.0:
            break
        amplitudes = {
            name: _raised(values / values.dtype.type(worst)) for name, values in made.items()
        }
    return best


def _refined(bound: Judgement, sweep: Sweep, margin: float) -> Judgement:
    """The bound where it is tight; else the largest eigenvalue of G, estimated from below, with a
    margin.

    Power iterations from a checkerboard of signs confirm a tight bound at once. Otherwise Chebyshev
    iterations follow: parts whose eigenvalues lie between 0 and a stay as they are, those of
    greater ones grow, the faster the greater.

    Args:
        bound: on the eigenvalues of |G|.
        sweep: G.
        margin: on the estimate.
    """
    rng = np.random.default_rng(0)
    signs = sum(np.ix_(*map(np.arange, sweep.shape))) % 2 * 2.0 - 1.0
    y: Amplitudes = {
        name: (values * (signs + 0.1 * rng.standard_normal(sweep.shape))).astype(sweep.dtype)
        for name, values in bound.amplitudes.items()
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
        eigenvalue = max(
            eigenvalue, a * (growth + 1.0 / growth + 2.0) / 4.0 if growth > 1.0 else 0.0
        )
        y = _scaled(now, 1.0 / _size(now))
    return Judgement(min(bound.ratio, margin * eigenvalue), y)


def _size(amplitudes: Amplitudes) -> float:
    return math.sqrt(
        sum(float(np.sum(np.square(values, dtype=np.float64))) for values in amplitudes.values())
    )


def _scaled(amplitudes: Amplitudes, by: float) -> dict[str, Array]:
    return {name: values * values.dtype.type(by) for name, values in amplitudes.items()}


def _combined(*pairs: Any) -> dict[str, Array]:
    """A sum of amplitudes, given as factor, amplitudes, factor, amplitudes, ..."""
    factors, terms = pairs[::2], pairs[1::2]

    def combined(name: str) -> Array:
        total = terms[0][name].dtype.type(factors[0]) * terms[0][name]
        for factor, term in zip(factors[1:], terms[1:], strict=True):
            total += total.dtype.type(factor) * term[name]
        return total

    return {name: combined(name) for name in terms[0]}
