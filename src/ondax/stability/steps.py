"""The largest stable time step in a model, before it is run and when it is run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .. import _validate
from ..boundaries.base import AbstractBoundary
from ..boundaries.sponge import Sponge
from ..calculus.idle import idle, without
from ..equations.base import AbstractWaveEquation
from ..equations.media import coefficients
from ..grid import Grid
from ..scheme.symbols import AXIS_NAMES, Symbols
from .step_limit import Motion

REMEMBERED = 64  # models whose verdict a propagator remembers
VELOCITY_ROUNDING = 2e-5  # of float32 models; as much as `max_velocity` may be exceeded by


def limit(
    equation: AbstractWaveEquation, grid: Grid, model: Any, boundary: AbstractBoundary | None = None
) -> float:
    """The largest time step with which an equation is stable in a model.

    It depends on all of the model, not on its fastest velocity alone: a high contrast of density
    can halve the step, and rough velocities allow a longer one than the fastest velocity everywhere
    would. It is found from the symbols of the scheme, so it serves your own equation too.

    Shorter steps are stable: this one is derived from a bound on the scheme's largest eigenvalue by
    Collatz (1942) and Wielandt (1950), which holds for any medium. The bound is tight, so that a
    step 1 % longer grows in a large model, where the weights of the scheme alternate in sign:
    `Acoustic`, `AcousticDensity`, `Viscoacoustic`, and `Elastic` where lambda >= 0 (vs <= 0.707
    vp). Elsewhere (`VTI`, `TTI`; centred first derivatives; negative lambda), where it would be
    pessimistic by up to 30 %, the largest eigenvalue is estimated by iterations that approach it
    from below, and 1 % is taken off the step.

    Damping, attenuation and absorbing layers do not shorten the step; they are left out. It holds
    for schemes that become unstable by a motion that changes sign from step to step, as all
    leapfrogs do whose damping is centred in time.

    Args:
        equation: the wave equation.
        grid: the model's grid.
        model: the equation's parameters in SI units, as for `Propagator.__call__`: arrays of the
            grid's shape, known now.
        boundary: what surrounds the model; default: the model, continued by its edges. A free
            surface matters.

    Returns:
        The step in seconds. It takes about as long as 50 to 100 applications of the scheme in
        NumPy.

    Raises:
        ValueError: a model that is no model of this equation, or not finite, or not known yet
            (inside `jax.jit`).
        TypeError: a model that is not real and floating.
    """
    surrounds = Sponge(width=2 * equation.space_order) if boundary is None else boundary
    values, fastest = _examined(equation, grid, surrounds, model)
    first = 0.1 * min(grid.spacing) / fastest
    motion = _motion(equation, surrounds.edges(), grid.ndim)
    step = motion.largest_step(values, grid.spacing, first)
    if math.isinf(step):
        raise ValueError("nothing moves in this model: every force is zero")
    return step


@cache
def _motion(equation: AbstractWaveEquation, edges: AbstractBoundary, ndim: int) -> Motion:
    """The alternating motion of an equation's scheme, in which no layer absorbs. Fields between its
    first ports tell the step: others follow them."""
    symbols = Symbols(ndim, equation.space_order, np.float64)
    system = equation.system(symbols, edges)
    ends = ([p.name for p in ports[:1]] for ports in (system.inputs, system.outputs))
    return Motion(edges.surround(without(system, idle(system, *ends))))


def _examined(
    equation: AbstractWaveEquation, grid: Grid, boundary: AbstractBoundary, model: Any
) -> tuple[dict[str, np.ndarray], float]:
    """The coefficients of a model, by name, and its fastest speed, m/s."""
    leaves = jax.tree.leaves(model)
    if any(isinstance(x, Tracer) for x in leaves):
        raise ValueError(
            "the time step depends on the model, which is not known yet: find it outside of "
            "jax.jit and jax.vmap"
        )
    dtype = _validate.floating_type(leaves)
    named = {n: _validate.shaped(n, v, grid.shape, dtype) for n, v in equation.named(model).items()}
    slowest, fastest = map(float, equation.speeds(named))
    least = {n: float(jnp.min(named[n])) for n in equation.positive_parameters}
    constraints = {n: float(jnp.min(v)) for n, v in equation.constraints(named).items()}
    _validate.least_values(least, constraints)
    _validate.finite_speeds(slowest, fastest)
    values = {
        n: np.asarray(v) for n, v in coefficients(equation, boundary, named, grid.ndim).items()
    }
    for name, array in values.items():
        _validate.finite_coefficient(name, array)
    return values, fastest


class Pace(NamedTuple):
    """What fixes a propagator's time step.

    Attributes:
        velocity: the fastest that any model will have, m/s.
        step: the largest time step, s.
    """

    velocity: float
    step: float


def fastest_speed(equation: AbstractWaveEquation, grid: Grid, fastest: Any) -> float:
    """What `pace` takes for the fastest velocity, m/s.

    Raises:
        ValueError: as for `pace`.
    """
    if isinstance(fastest, Pace):
        return fastest.velocity
    if _is_model(fastest):
        return _examined(equation, grid, Sponge(width=0), fastest)[1]
    return _validate.positive("max_velocity", fastest, "m/s")


def _is_model(fastest: Any) -> bool:
    return isinstance(fastest, dict) or np.ndim(fastest) > 0


def pace(
    equation: AbstractWaveEquation, grid: Grid, boundary: AbstractBoundary, fastest: Any
) -> Pace:
    """The pace for a fastest velocity, in m/s, or for a model; one that is given stays.

    Raises:
        ValueError: a velocity that is not positive, or that does not tell the step; a model as for
            `limit`.
    """
    if isinstance(fastest, Pace):
        return fastest
    velocity = fastest_speed(equation, grid, fastest)
    if _is_model(fastest):
        return Pace(velocity, limit(equation, grid, fastest, boundary))
    return Pace(velocity, equation.largest_step(grid.spacing, velocity))


class StepCheck:
    """Whether a time step holds for the models that arrive, once for each model.

    Args:
        equation: the wave equation.
        grid: the model's grid.
        boundary: what surrounds it.
        dt: the internal time step, s.
    """

    def __init__(
        self, equation: AbstractWaveEquation, grid: Grid, boundary: AbstractBoundary, dt: float
    ) -> None:
        self.equation, self.grid, self.boundary, self.dt = equation, grid, boundary, dt
        self._verdicts: dict[bytes, str | None] = {}

    def __call__(
        self, coefficients: Mapping[str, Any], fastest: float, contrasts: Sequence[float]
    ) -> None:
        """Check one model.

        Args:
            coefficients: arrays on the padded grid, by name; others than the scheme's are ignored.
            fastest: the model's fastest speed, m/s.
            contrasts: of the parameters in `equation.contrasts`, in their order.

        Raises:
            ValueError: the step is too long; names parameters, place, and the largest step that
                holds.
        """
        if self.known_to_hold(fastest, contrasts):
            return
        motion = _motion(self.equation, self.boundary.edges(), self.grid.ndim)
        values = {name: np.ascontiguousarray(coefficients[name]) for name in motion.coefficients}
        digest = hashlib.blake2b(digest_size=16)
        for array in values.values():
            digest.update(array.tobytes())
        key = digest.digest()
        if key not in self._verdicts:
            while len(self._verdicts) >= REMEMBERED:
                self._verdicts.pop(next(iter(self._verdicts)))
            self._verdicts[key] = self._fault(motion, values, contrasts)
        fault = self._verdicts[key]
        if fault is not None:
            raise ValueError(fault)

    def known_to_hold(self, fastest: float, contrasts: Sequence[float]) -> bool:
        """Does the equation's formula vouch for the step, whatever else the model is?"""
        allowed = self.equation.contrasts
        if allowed is None or any(c > a for c, a in zip(contrasts, allowed.values(), strict=True)):
            return False
        return self.dt <= self.equation.largest_step(self.grid.spacing, fastest) * (
            1.0 + VELOCITY_ROUNDING
        )

    def _fault(
        self, motion: Motion, coefficients: Mapping[str, np.ndarray], contrasts: Sequence[float]
    ) -> str | None:
        judgement = motion.judge(coefficients, self.grid.spacing, self.dt)
        if judgement.holds:
            return None
        axes = AXIS_NAMES[self.grid.ndim]
        inside = zip(judgement.place, self.boundary.widths(axes), self.grid.shape, strict=True)
        cells = [min(max(at - low, 0.0), n - 1.0) for at, (low, _), n in inside]
        metres = [
            o + c * h for o, c, h in zip(self.grid.origin, cells, self.grid.spacing, strict=True)
        ]
        place = f"({', '.join(axes)}) = ({', '.join(f'{m:.6g}' for m in metres)}) m"
        allowed = self.equation.contrasts or {}
        strong = [
            f"{name} varies by a factor of {contrast:.3g}"
            for (name, most), contrast in zip(allowed.items(), contrasts, strict=True)
            if contrast > most
        ]
        why = (
            " and ".join(strong)
            or f"its {', '.join(self.equation.required(self.grid.ndim))} ask for a shorter one"
        )
        holds = f"the largest step that holds is {self.dt * judgement.ratio**-0.5:.4g} s"
        if math.isinf(judgement.ratio):
            holds = "no step near it holds"
        return (
            f"the time step of {self.dt:.4g} s is unstable for this model at {place}: {why}; "
            f"{holds}. Take the step from the "
            "model, Propagator(..., max_velocity=model), or bound the model"
        )
