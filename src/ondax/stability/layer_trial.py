"""Is a wave equation stable in perfectly matched layers? Five thousand steps of it in such layers
tell.

Some equations have growing solutions there: those with waves whose energy goes one way along an
axis and whose crests go the other (Becache, Fauqueux and Joly, 2003), such as tilted anisotropy.
Nothing is known of an equation but what it states, so the models of the trial are drawn at random,
and those are kept that its own statements admit: constraints, positive parameters, and speeds up to
`max_velocity`. They are uniform: what grows only where a medium varies, as tilted anisotropy does,
slowly, in media that are rough in every cell, is not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import jax
import numpy as np

from ..backends.base import Experiment
from ..backends.clock import Clock
from ..backends.devito.plans import Planned
from ..backends.devito.solver import Solver
from ..backends.domain import Domain
from ..backends.settings import Settings
from ..backends.setups import Alike
from ..boundaries.base import Conditions
from ..boundaries.cpml import CPML
from ..calculus.program import Program
from ..equations.base import AbstractWaveEquation
from ..scheme.names import PML_TAKE
from ..scheme.symbols import AXIS_NAMES, Symbols
from ..scheme.terms import EquationError
from .uniform import step_in

LAYERS = {1: CPML(10, 1e-8), 2: CPML(10, 1e-8), 3: CPML(8, 1e-8)}
"""By number of axes. Growth is as fast as the layer is strong, and these are twice as strong as the
default."""
POINTS = 6  # of the model, along each axis
MODELS = {1: 8, 2: 8, 3: 2}  # of each kind, by number of axes
STEPS, PARTS = 5000, 5
# the loudest sample of the last part over that of the second: like a factor of 100 in 20,000 steps
GROWTH = 2.0
# the same without layers: a model that gains more, from a negative loss for example, tells nothing
OWN_GROWTH = 1.3
ROUNDING = 1e-9  # of the loudest sample of all: below it, growth is float64's rounding
COURANT = 0.95  # of the largest stable step
DRAWS = 20_000
SLOWEST, FASTEST = (
    0.1,
    0.5,
)  # the slowest speed over the fastest, and the fastest over `max_velocity`, are at least this
SOURCES, RECEIVERS = 12, 60

Models = dict[str, np.ndarray]


@cache
def objection(
    equation: AbstractWaveEquation, spacing: tuple[float, ...], max_velocity: float
) -> str | None:
    """Why perfectly matched layers are not for an equation; None if nothing speaks against them.

    It is run for 5,000 steps in float64, at 95 % of its largest step, from short bursts of noise on
    all its inputs, at points of the model and of the layers. Models are random and uniform; half of
    them have positive parameters only. It stays bounded if, at every output, the loudest sample of
    the last thousand steps is at most twice that of the second thousand. A model that grows without
    layers too is not held against them. The answer is kept as long as the process, the kernel as
    others are.

    Args:
        equation: the equation.
        spacing: of the grid, metres.
        max_velocity: the fastest speed that a model may have, m/s.
    """
    ndim = len(spacing)
    system = equation.system(Symbols(ndim, equation.space_order, "float64"), LAYERS[ndim])
    try:
        system = LAYERS[ndim].surround(system)
    except EquationError as error:
        return str(error)
    planned = Planned.of(Program(system))
    rng = np.random.default_rng(0)
    told = False
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        for signs in ((1.0,), (-1.0, 1.0)):
            models = admitted(equation, ndim, max_velocity, signs, rng)
            if not models:
                continue
            trial = _Trial(equation, planned, _best(models, ndim), spacing, max_velocity)
            fair = trial.growth(layers=False) <= OWN_GROWTH
            told = told or bool(np.any(fair))
            if np.any(trial.growth(layers=True)[fair] > GROWTH):
                return f"waves grow within {STEPS} steps in such layers"
    if told:
        return None
    return (
        "no trial of it in such layers was possible, because no random model was found that meets "
        "its "
        "constraints and is stable at its largest step"
    )


def admitted(
    equation: AbstractWaveEquation,
    ndim: int,
    max_velocity: float,
    signs: Sequence[float],
    rng: np.random.Generator,
) -> Models:
    """Random models, constant in space, that the equation's statements admit: arrays (model, *ones)
    by parameter; empty if there are none.

    Units are unknown: sizes are random too, around powers of the velocity from its inverse square
    to its square. First come the models in which most parameters matter to the coefficients, and to
    the speeds.
    """
    names = equation.required(ndim)
    shape = (DRAWS, *(1,) * ndim)
    models: Models = {}
    for name in names:
        size = max_velocity ** rng.integers(-2, 3, shape) * 10.0 ** rng.uniform(-1.0, 1.0, shape)
        models[name] = (
            size if name in equation.positive_parameters else size * rng.choice(signs, shape)
        )
    coefficients = _by_model(jax.vmap(equation.coefficients)(models))
    slow, fast = (np.asarray(s) for s in jax.vmap(equation.speeds)(models))
    good = (slow >= SLOWEST * fast) & (fast >= FASTEST * max_velocity) & (fast <= max_velocity)
    good &= np.all([np.isfinite(c) for c in coefficients.values()], axis=0)
    for least in _by_model(jax.vmap(equation.constraints)(models)).values():
        good &= least >= 0.0
    matter = np.zeros(DRAWS)
    for name in names:
        changed = {**models, name: models[name] / 2.0}
        halved = _by_model(jax.vmap(equation.coefficients)(changed))
        speeds = (np.asarray(s) for s in jax.vmap(equation.speeds)(changed))
        matter += np.any([_differ(halved[n], c) for n, c in coefficients.items()], axis=0)
        matter += np.any([_differ(a, b) for a, b in zip(speeds, (slow, fast), strict=True)], axis=0)
    best_first = np.argsort(-matter, kind="stable")
    chosen = best_first[good[best_first]]
    return {n: v[chosen] for n, v in models.items()} if chosen.size else {}


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b) > 0.05 * np.abs(b)


def _by_model(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One number a model, where parameters are constant."""
    return {n: np.asarray(v).reshape(DRAWS, -1)[:, 0] for n, v in values.items()}


def _best(models: Models, ndim: int) -> Models:
    """The first models, everywhere on a padded grid."""
    shape = (POINTS + 2 * LAYERS[ndim].width,) * ndim
    first = {n: v[: MODELS[ndim]] for n, v in models.items()}
    return {n: np.broadcast_to(v, (len(v), *shape)) for n, v in first.items()}


def _least_step(
    equation: AbstractWaveEquation, models: Models, spacing: tuple[float, ...], max_velocity: float
) -> float:
    """The largest step that is stable in each of some uniform models."""
    numbers = {n: v.reshape(len(v), -1)[:, 0] for n, v in models.items()}
    media = (
        {n: float(v[i]) for n, v in numbers.items()}
        for i in range(len(next(iter(numbers.values()))))
    )
    return min(step_in(equation, spacing, medium, max_velocity) for medium in media)


class _Trial:
    """An equation in several models, with or without layers."""

    def __init__(
        self,
        equation: AbstractWaveEquation,
        planned: Planned,
        models: Models,
        spacing: tuple[float, ...],
        max_velocity: float,
    ) -> None:
        self.planned, self.spacing, self.max_velocity = planned, spacing, max_velocity
        by_name = jax.vmap(equation.coefficients)(models)
        self.coefficients = {
            c.name: np.ascontiguousarray(by_name[c.name], dtype="float64")
            for c in planned.plan.coefficients
        }
        self.count, *shape = next(iter(self.coefficients.values())).shape
        self.shape = tuple(shape)
        formula = equation.largest_step(spacing, max_velocity)
        self.dt = COURANT * (formula or _least_step(equation, models, spacing, max_velocity))

    def growth(self, layers: bool) -> np.ndarray:
        """How much louder the last thousand steps are than the second, at the worst output, by
        model."""
        plan = self.planned.plan
        ndim, rng = len(self.shape), np.random.default_rng(1)
        # Twice integrated in time they leave nothing, so that modes which nothing pulls back come
        # to rest.
        bursts = np.zeros((1, 1, len(plan.inputs) * SOURCES, STEPS))
        bursts[..., :16] = np.diff(rng.normal(size=(*bursts.shape[:-1], 18)), 2)
        receivers = rng.integers(self.shape, size=(1, 1, RECEIVERS, ndim)) * np.array(self.spacing)
        sources = receivers[
            ..., :SOURCES, :
        ]  # heard where they are: elsewhere, what spreads slowly is louder later
        domain = self._domain(layers)
        clock = Clock(self.dt, STEPS, late=(False,) * len(plan.outputs))
        solver = Solver(self.planned, domain, clock, Settings())
        setups = Alike(domain, clock, sources, receivers)
        experiment = Experiment(self.coefficients, bursts, setups)
        (traces,) = solver.forward((self.count,), experiment, None, False)
        # Second differences leave out what rests or drifts, such as checkerboards that a centred
        # difference does not see.
        traces = traces.reshape(self.count, len(plan.outputs), RECEIVERS, STEPS)
        with np.errstate(over="ignore", invalid="ignore"):
            changes = np.abs(np.diff(traces, 2, prepend=np.zeros((*traces.shape[:-1], 2))))
        loudest = changes.reshape(*traces.shape[:-1], PARTS, STEPS // PARTS).max(axis=(2, 4))
        loudest = np.where(np.isfinite(loudest), loudest, np.inf)
        floor = np.maximum(ROUNDING * loudest.max(axis=-1), np.finfo("float64").tiny)
        with np.errstate(invalid="ignore"):
            ratios = loudest[..., -1] / np.maximum(loudest[..., 1], floor)
        return np.where(np.isnan(ratios), np.inf, ratios).max(axis=-1)

    def _domain(self, layers: bool) -> Domain:
        ndim, layer, plan = len(self.shape), LAYERS[len(self.shape)], self.planned.plan
        wavelength = 10.0 * max(self.spacing)
        conditions = Conditions(0.0, self.max_velocity, self.max_velocity / wavelength, self.dt)
        profiles = layer.profiles(plan, self.shape, self.spacing, conditions)
        if not layers:
            taking = {name for name, kind in plan.kinds.items() if kind == PML_TAKE}
            profiles = {n: v * (n not in taking) for n, v in profiles.items()}
        strip = min(layer.width + plan.felt, min(self.shape))
        return Domain(
            shape=self.shape,
            spacing=self.spacing,
            origin=(0.0,) * ndim,
            interpolation="linear",
            dtype="float64",
            profiles=profiles,
            strips=dict.fromkeys(product(AXIS_NAMES[ndim], ("low", "high")), strip),
        )
