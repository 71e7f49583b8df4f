"""A problem: an equation, a grid and a survey, with what follows from them, and its checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from .. import _validate
from ..acquisition import coarse_sampling, silence, spectra
from ..acquisition.apertures import Windows, windows
from ..acquisition.components import Components
from ..acquisition.dispersion import (
    MARGIN,
    Dispersion,
    TimeWarp,
    time_stepping_of,
    warp_of,
    without_relation,
)
from ..acquisition.resampling import upsample
from ..backends.settings import Settings
from ..boundaries.base import AbstractBoundary, Fit
from ..boundaries.faces import Faces
from ..equations.base import AbstractWaveEquation
from ..grid import Grid
from ..histories.base import AbstractHistory
from ..histories.named import SAMPLED, named
from ..histories.sampled import check_sampling, chosen
from ..scheme.plan import Plan
from ..scheme.symbols import AXIS_NAMES, check_space_order
from ..stability import layering, steps
from ..stability.default_boundary import default_boundary
from ..survey import Survey
from . import checks
from .records import Records
from .schemes import check_unchanged, plan

Interpolation = Literal["sinc", "linear"]
TimeDispersion = Literal["corrected", "raw"]


@dataclass(frozen=True, eq=False)
class Problem:
    """What a propagator computes, without any of its machinery. Compared by identity.

    The attributes are those of `Propagator`.
    """

    equation: AbstractWaveEquation
    grid: Grid
    survey: Survey
    max_velocity: float
    boundary: AbstractBoundary
    interpolation: Interpolation
    settings: Settings
    min_points_per_wavelength: float
    points_in_layer: bool
    time_dispersion: TimeDispersion
    courant: float
    aperture: float | None
    dt: float
    steps_per_sample: int
    largest_step: float
    highest_frequency: float
    dominant_frequency: float
    _said: set[str] = field(default_factory=set, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """What is derived is derived again in a copy."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return state | {"_said": set(self._said)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)

    # ---------------------------------------------------------------- sizes

    @cached_property
    def plan(self) -> Plan:
        """What is to be known of the scheme with its boundary."""
        return plan(self.equation, self.boundary, self.grid.ndim)

    @cached_property
    def coefficient_names(self) -> tuple[str, ...]:
        """Of the scheme, in its order."""
        return tuple(c.name for c in self.plan.coefficients)

    @cached_property
    def widths(self) -> tuple[tuple[int, int], ...]:
        """Cells that the boundary adds below and above along each axis."""
        return self.boundary.widths(AXIS_NAMES[self.grid.ndim])

    @cached_property
    def windows(self) -> Windows | None:
        """The parts of the grid that shots see; None if all see the whole of it."""
        if self.aperture is None or self.survey.extended:
            return None
        found = windows(self.survey, self.grid, self.aperture)
        return None if found.shape == self.grid.shape else found

    @property
    def shape_of_shots(self) -> tuple[int, ...]:
        """Points of the model's grid that each shot sees."""
        return self.grid.shape if self.windows is None else self.windows.shape

    @property
    def longest_path(self) -> float:
        """From corner to corner, metres."""
        return math.hypot(*(high - low for low, high in self.grid.extent))

    def trace_shape(self, shots: int) -> tuple[int, ...]:
        """The shape of the traces of so many shots."""
        return self.survey.trace_shape(shots)

    # ---------------------------------------------------------------- sources, receivers, time

    @cached_property
    def sources(self) -> Components:
        """What the survey's sources feed."""
        return Components("source", self.survey.source, self.plan.inputs)

    @cached_property
    def receivers(self) -> Components:
        """What the survey's receivers read."""
        return Components("receiver", self.survey.receiver, self.plan.outputs)

    @property
    def recorded_at(self) -> float:
        """When what receivers read must hold, in steps after the end of a step."""
        return min(port.time for port in self.receivers.ports)

    @property
    def late(self) -> tuple[bool, ...]:
        """For each port that receivers read, whether what it reads holds later than that."""
        return tuple(port.time > self.recorded_at for port in self.receivers.ports)

    @cached_property
    def dispersion(self) -> Dispersion | None:
        """How the scheme shifts frequencies; None where traces stay raw."""
        stepping = time_stepping_of(self.equation, self.grid.ndim)
        if self.time_dispersion == "raw" or stepping is None:
            return None
        # Of a survey of zeros nothing is known: its wavelets will come with the calls.
        frequency = self.highest_frequency or np.inf
        highest = 2.0 * np.pi * self.survey.dt * MARGIN * frequency
        return Dispersion(self.survey.modelled, self.steps_per_sample, highest, stepping)

    @cached_property
    def warp(self) -> TimeWarp | None:
        """The map along time that takes time dispersion away; None where traces stay raw."""
        return None if self.dispersion is None else warp_of(self.dispersion)

    @cached_property
    def records(self) -> Records:
        """How traces are made of what receivers record."""
        return Records(self.receivers, self.survey.lead, self.warp)

    @property
    def steps(self) -> int:
        """Internal steps of a run."""
        samples = self.survey.modelled if self.warp is None else self.warp.modelled
        return (samples - 1) * self.steps_per_sample

    def fired(self, rows: Any, xp: Any) -> Any:
        """Samples at internal steps, from rows for each port and source: at the times when the
        port's samples act; those of a point source, which is a delta function, per cell volume."""
        by_port = xp.split(rows, len(self.sources.ports), axis=-2)
        # What receivers read must hold at the time of a sample. The medium does not change with
        # time: fire earlier.
        shifts = [port.time - self.recorded_at for port in self.sources.ports]
        parts = [
            upsample(r, self.steps_per_sample, xp, s) for r, s in zip(by_port, shifts, strict=True)
        ]
        if self.survey.cut is not None:  # of the whole survey's run
            first = self.survey.cut.first * self.steps_per_sample
            parts = [p[..., first : first + self.steps] for p in parts]
        volume = 1.0 if self.survey.extended else float(np.prod(self.grid.spacing))
        return xp.concatenate(parts, axis=-2) / volume

    @property
    def sampling_is_chosen(self) -> bool:
        """Are the steps that histories keep chosen here, not given?"""
        return self.settings.history in SAMPLED and self.settings.store_every is None

    @cached_property
    def history(self) -> AbstractHistory:
        """The way to keep histories."""
        settings = self.settings
        if self.sampling_is_chosen:
            return named(settings.history, *chosen(self.source_samples))
        return named(settings.history, settings.store_every, folder=settings.folder)

    @cached_property
    def source_samples(self) -> np.ndarray:
        """The survey's wavelets as backends take them, (shot, port and source, step); of a single
        shot if all fire alike."""
        wavelet, shots = self.survey.wavelet, slice(None)
        if self.survey.one_wavelet and self.sources.alike:
            wavelet, shots = wavelet[:1], slice(1)
        wavelet = self.from_start(wavelet, np)
        if self.warp is not None:
            wavelet = self.warp.forward(wavelet)
        return self.fired(self.sources.rows(wavelet, shots, np), np)

    def from_start(self, wavelet: Any, xp: Any) -> Any:
        """Wavelets as long as what is modelled: followed by zeros, or without what no trace
        feels."""
        survey = self.survey
        length = survey.modelled if survey.cut is None else survey.cut.modelled
        more = length - wavelet.shape[-1]
        if more <= 0:
            return wavelet[..., :length]
        return xp.pad(wavelet, [*[(0, 0)] * (wavelet.ndim - 1), (0, more)])

    # ---------------------------------------------------------------- checks of values

    @cached_property
    def constrained(self) -> tuple[str, ...]:
        """What must not be negative anywhere."""
        ndim = self.grid.ndim
        ones = {n: np.ones((1,) * ndim) for n in self.equation.required(ndim)}
        return tuple(self.equation.constraints(ones))

    @cached_property
    def _bounded(self) -> tuple[tuple[str, ...], ...]:
        """What has bounds beside the speeds: parameters that must be positive, constraints, and
        parameters of plausible sizes."""
        required = self.equation.required(self.grid.ndim)
        sized = tuple(n for n in self.equation.plausible if n in required)
        return self.equation.positive_parameters, self.constrained, sized

    @cached_property
    def strata_matter(self) -> bool:
        """Can strata along a face make waves grow?"""
        return layering.matters(self.equation, self.boundary, self.grid.ndim)

    @cached_property
    def check_step(self) -> steps.StepCheck:
        """Whether the time step holds for a model; each is judged once."""
        return steps.StepCheck(self.equation, self.grid, self.boundary, self.dt)

    def check_bounds(self, slowest: float, fastest: float, *others: float) -> None:
        """Check a model's speeds, the least values of the parameters that must be positive, and of
        the constraints, the largest sizes of those that have plausible ones, and its layering where
        that matters.

        Raises:
            ValueError: says what is wrong, and the remedy.
        """
        strict, constrained, sized = self._bounded
        layers = others[-1] if self.strata_matter else None
        rest = iter(others)
        positive = {name: next(rest) for name in strict}
        constraints = {name: next(rest) for name in constrained}
        sizes = {name: next(rest) for name in sized}
        _validate.least_values(positive, constraints)
        checks.plausible(sizes, self.equation.plausible)
        self.check_speeds(slowest, fastest)
        if layers is not None and layers > layering.LIMIT and self._first("layers"):
            layering.warning(self.equation, layers)

    def bounds_hold(self, bounds: Any) -> Any:
        """Does a model suit the propagator? Of JAX arrays, (*batch, bound), as for `check_bounds`;
        for programs that do not ask the host."""
        slowest, fastest = bounds[..., 0], bounds[..., 1]
        least = self.min_points_per_wavelength * self.highest_frequency * max(self.grid.spacing)
        slack = 1.0 + 1e-5  # of single precision, and more
        good = (slowest > 0.0) & (slowest * slack >= least) & (fastest <= self.max_velocity * slack)
        strict, constrained, _ = (len(names) for names in self._bounded)
        positive = bounds[..., 2 : 2 + strict] > 0.0
        allowed = bounds[..., 2 + strict :][..., :constrained] >= -_validate.CONSTRAINT_ROUNDING
        return jnp.all(good) & jnp.all(positive) & jnp.all(allowed)

    def check_speeds(self, slowest: float, fastest: float) -> None:
        """Check a model's slowest and fastest speed, m/s.

        Raises:
            ValueError: says what is wrong, and the remedy.
        """
        checks.speeds(
            slowest,
            fastest,
            max_velocity=self.max_velocity,
            spacing=max(self.grid.spacing),
            highest_frequency=self.highest_frequency,
            points=self.min_points_per_wavelength,
            path=self.longest_path,
            error=self.spatial_error,
            jump=lambda: spectra.jump_of(self.survey.wavelet),
        )

    def spatial_error(self, speed: float, path: float | None = None) -> float:
        """What the grid alone is expected to make of traces; see `Propagator.spatial_error`."""
        length = self.longest_path if path is None else path
        order, spacing = self.equation.space_order, max(self.grid.spacing)
        return spectra.spatial_error(self.survey, order, spacing, speed, length)

    def check_wavelets(self, samples: np.ndarray, slowest: float) -> None:
        """Warn, once, of wavelets given with a call that are too high in frequency for the grid.

        Args:
            samples: at internal steps.
            slowest: speed in the model, m/s.
        """
        highest = spectra.highest_frequency(samples, self.dt)
        if highest > self.highest_frequency:
            per_wavelength = slowest / (highest * max(self.grid.spacing))
            least = self.min_points_per_wavelength
            if per_wavelength < least and self._first("wavelets"):
                coarse_sampling.in_space(highest, per_wavelength, least)

    def _first(self, what: str) -> bool:
        """Is it the first time that this is said of the problem?"""
        first = what not in self._said
        self._said.add(what)
        return first

    @property
    def _open_layer(self) -> tuple[tuple[int, int], ...]:
        """Cells below and above the grid, along each axis, in which points are allowed."""
        return self.widths if self.points_in_layer else ((0, 0),) * self.grid.ndim

    @property
    def nearest_coordinate(self) -> float:
        """The smallest distance from 0, metres, that some coordinate of every point must exceed,
        wherever it is."""
        nearest = 0.0
        for (low, high), h, (below, above) in zip(
            self.grid.extent, self.grid.spacing, self._open_layer, strict=True
        ):
            first, last = low - below * h, high + above * h
            if first * last > 0.0:
                nearest = max(nearest, min(abs(first), abs(last)))
        return nearest

    def check_places(self, positions: np.ndarray) -> None:
        """Check where receivers of several places read, metres, (place, axis).

        Raises:
            ValueError: outside of the grid.
        """
        name = "receivers: the ends of gauge lengths"
        checks.positions(name, positions, self.grid, self._open_layer)

    def inside(self, positions: Any) -> Any:
        """Which of some points, metres, (..., axis), `check_positions` would let pass? Of JAX
        arrays; for programs that do not ask the host."""
        low, high = (
            jnp.asarray(x, positions.dtype) for x in checks.limits(self.grid, self._open_layer)
        )
        return jnp.all((positions >= low) & (positions <= high), axis=-1)

    def check_positions(self, name: str, positions: np.ndarray, warn: bool = False) -> None:
        """Check positions, metres, (point, axis).

        Raises:
            ValueError: points outside of the grid, or silent ones on a free surface.
        """
        checks.positions(name, positions, self.grid, self._open_layer)
        if self.plan.ghosts and silence.any_on_surface(positions, self.grid):
            ends = self.sources if name == "sources" else self.receivers
            silence.check(name, positions, ends.ports, self.plan, self.grid, warn)


def posed(
    equation: AbstractWaveEquation,
    grid: Grid,
    survey: Survey,
    max_velocity: Any,
    *,
    boundary: AbstractBoundary | None,
    interpolation: Interpolation,
    settings: Settings | None,
    min_points_per_wavelength: float | None,
    points_in_layer: bool,
    time_dispersion: TimeDispersion,
    courant: float,
    aperture: float | None,
) -> Problem:
    """The problem that the arguments of `Propagator` pose.

    Raises:
        ValueError: anything that cannot work; see `Propagator`.
    """
    checks.kinds(equation, grid, survey, boundary, settings)
    check_space_order(equation.space_order)
    settings = Settings() if settings is None else settings
    checks.mesh(settings.mesh, AXIS_NAMES[grid.ndim])
    if boundary is None or (isinstance(boundary, Faces) and boundary.others is None):
        fastest = steps.fastest_speed(equation, grid, max_velocity)
        default = default_boundary(equation, grid, fastest)
        boundary = default if boundary is None else boundary.completed(default)
    _validate.one_of("interpolation", interpolation, ("sinc", "linear"))
    points_per_wavelength = (
        checks.default_points_per_wavelength(equation.space_order)
        if min_points_per_wavelength is None
        else _validate.not_negative("min_points_per_wavelength", min_points_per_wavelength)
    )
    boundary.check(_fit(equation, grid.shape), AXIS_NAMES[grid.ndim])
    check_unchanged(equation, boundary, grid.ndim)
    velocity, largest_step = steps.pace(equation, grid, boundary, max_velocity)
    _validate.one_of("time_dispersion", time_dispersion, ("corrected", "raw"))
    if time_dispersion == "corrected" and without_relation(equation, grid.ndim):
        time_dispersion = "raw"
    if survey.cut is not None and time_dispersion == "corrected":
        raise ValueError(
            "a part of a survey's time is run by the scheme's own clock: give "
            "time_dispersion='raw' with survey.between(...)"
        )
    courant = _validate.fraction("courant", courant)
    if aperture is not None:
        aperture = checks.aperture(aperture, boundary, AXIS_NAMES[grid.ndim])
    per_sample = checks.steps_per_sample(survey.dt, courant * largest_step, velocity, grid.spacing)
    problem = Problem(
        equation=equation,
        grid=grid,
        survey=survey,
        max_velocity=velocity,
        boundary=boundary,
        interpolation=interpolation,
        settings=settings,
        min_points_per_wavelength=points_per_wavelength,
        points_in_layer=points_in_layer,
        time_dispersion=time_dispersion,
        courant=courant,
        aperture=aperture,
        dt=survey.dt / per_sample,
        steps_per_sample=per_sample,
        largest_step=largest_step,
        highest_frequency=spectra.highest_frequency(survey.wavelet, survey.dt),
        dominant_frequency=spectra.dominant_frequency(survey),
    )
    _examine(problem)
    return problem


def _fit(equation: AbstractWaveEquation, shape: tuple[int, ...]) -> Fit:
    """What a boundary of an equation must fit, on a grid of so many points."""
    return Fit(
        shape=shape,
        space_order=equation.space_order,
        stretchable=equation.stretchable,
        equation=type(equation).__name__,
        joint_flux=equation.joint_flux,
    )


def _examine(problem: Problem) -> None:
    """Check what can be known before any call."""
    survey = problem.survey
    for name, points in zip(("sources", "receivers"), survey.points, strict=True):
        problem.check_positions(name, points.rows, warn=True)
    silence.check_units_of_positions(survey, problem.grid)
    if problem.windows is not None:
        fit = _fit(problem.equation, problem.windows.shape)
        problem.boundary.check(fit, AXIS_NAMES[problem.grid.ndim])
    pairs = zip(problem.shape_of_shots, problem.widths, strict=True)
    points = [n + low + high for n, (low, high) in pairs]
    axes, reach = AXIS_NAMES[problem.grid.ndim], problem.equation.space_order // 2
    checks.parts(problem.settings.mesh, axes, points, reach)
    problem.check_speeds(problem.max_velocity, problem.max_velocity)
    if problem.dispersion is not None and problem.highest_frequency > 0.0:
        coarse_sampling.in_time(problem.highest_frequency, survey.dt, problem.dispersion.top)
    coarse_sampling.at_the_ends(spectra.jump_of(survey.wavelet, least=0.5))
    if survey.source is not None or survey.receiver is not None:
        _ = problem.sources, problem.receivers  # refuses components that do not exist
        _examine_places(problem)
    if problem.history.every > 1 and not problem.sampling_is_chosen:
        check_sampling(problem.history.sampling, problem.source_samples, problem.dt)


def _examine_places(problem: Problem) -> None:
    """Check where receivers of several places read.

    Raises:
        ValueError: outside of the grid, or of what shots see of it.
    """
    receivers, reach = problem.survey.points[1], problem.receivers.reach
    if reach == 0.0:
        return
    every = (
        problem.receivers.placed(receivers.of(shot)[None], np.array([shot]))[0]
        for shot in range(problem.survey.n_shots)
    )
    problem.check_places(np.concatenate(list(every)))
    if problem.aperture is not None and problem.aperture < 2.0 * reach:
        raise ValueError(
            f"aperture={problem.aperture!r} is less than the gauge length of the fibre, "
            f"{2.0 * reach:g} m: its ends must lie in what shots see"
        )
