"""What a propagator runs: kernels between the ports of its survey, host models, and differentiable
functions."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import _forks
from ..acquisition import coarse_sampling
from ..acquisition.components import Components
from ..acquisition.dispersion import MARGIN, Clock, TimeWarp, warp_of
from ..acquisition.spectra import highest_frequency
from ..backends.devito.emit import Scheme
from ..backends.devito.programs import Programs
from ..backends.devito.solver import Solver
from ..backends.discretisation import Discretisation
from ..backends.scaling import check_range, peak_of
from ..boundaries.base import AbstractBoundary, Conditions
from ..calculus.layers import stretched
from ..calculus.linearize import linearize
from ..calculus.regions import reach
from ..calculus.transpose import transpose
from ..equations.base import AbstractWaveEquation
from ..scheme.symbols import AXIS_NAMES, Symbols
from ..scheme.system import System
from ..stability import layering
from ..stability.steps import StepCheck
from ..survey import Survey
from .host import HostModel
from .primitives import Operands
from .reverse import differentiable

if TYPE_CHECKING:
    from ..propagator import Propagator

Variant = Literal["plain", "transposed", "linearized"]  # of a scheme


@cache
def _system(
    equation: AbstractWaveEquation,
    boundary: AbstractBoundary,
    ndim: int,
    dtype: str,
    whole: frozenset[str],
) -> System:
    """The scheme with its boundary; `whole` are the axes with few points between two layers: see
    `stretched`."""
    system = equation.system(Symbols(ndim, equation.space_order, dtype), boundary)
    ends = ((axis, side) for axis in AXIS_NAMES[ndim] for side in ("low", "high"))
    return stretched(system, [end for end in ends if boundary.face(*end).stretches], whole)


def _axes_between_layers(
    equation: AbstractWaveEquation, boundary: AbstractBoundary, shape: tuple[int, ...]
) -> frozenset[str]:
    """The axes on which what two perfectly matched layers are felt by overlaps: with few points
    between them."""
    axes = AXIS_NAMES[len(shape)]
    enclosed = [
        (axis, points)
        for axis, points in zip(axes, shape, strict=True)
        if all(boundary.face(axis, side).stretches for side in ("low", "high"))
    ]
    if not enclosed:
        return frozenset()
    felt = reach(_system(equation, boundary, len(shape), "float32", frozenset()))
    return frozenset(axis for axis, points in enclosed if points < 2 * felt)


@cache
def _programs(
    equation: AbstractWaveEquation,
    boundary: AbstractBoundary,
    ndim: int,
    dtype: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    variant: Variant,
    extended: bool,
    whole: frozenset[str],
) -> Programs:
    """The kernels between the named ports, of a scheme, of its transpose, or of the scheme together
    with its tangent."""
    system = _system(equation, boundary, ndim, dtype, whole)
    ports = {p.name: p for p in (*system.inputs, *system.outputs)}
    system = replace(
        system, inputs=tuple(ports[n] for n in inputs), outputs=tuple(ports[n] for n in outputs)
    )
    if variant == "transposed":
        system = transpose(system)
    elif variant == "linearized":  # sources feed the scheme, not its tangent
        system = replace(linearize(system), inputs=system.inputs)
    return Programs(Scheme(system, boundary.free_surface, extended, compact=not whole), dtype)


class Ends:
    """The components that a survey fires and records, of an equation."""

    def __init__(self, survey: Survey, system: System) -> None:
        self.symbols = system.symbols
        self.source = Components("source", survey.source, system.inputs)
        self.receiver = Components("receiver", survey.receiver, system.outputs)
        self.recorded_at = min(port.time for port in self.receiver.ports)
        self.late = tuple(port.time > self.recorded_at for port in self.receiver.ports)


class Operators:
    """A propagator's host models and differentiable functions, made once each; compared by
    identity."""

    def __init__(self, propagator: Propagator) -> None:
        self._propagator = propagator
        self._hosts: dict[tuple[str, Variant], HostModel] = {}
        self._functions: dict[Any, Any] = {}
        self._lock = _forks.lock()
        self._warned = self._warned_of_wavelets = False

    def __getstate__(self) -> dict[str, Any]:
        """Copies, and what is read from a pickle, make their own: kernels and locks cannot be
        copied, nor need they be."""
        return {"propagator": self._propagator}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["propagator"])

    @cached_property
    def ends(self) -> Ends:
        f = self._propagator
        return Ends(f.survey, _system(f.equation, f.boundary, f.grid.ndim, "float32", frozenset()))

    @cached_property
    def constrained(self) -> tuple[str, ...]:
        """What must not be negative anywhere. Not kept by the propagator: a Module with one
        attribute more is another structure to jit."""
        f = self._propagator
        return tuple(
            f.equation.constraints(
                {n: np.ones((1,) * f.grid.ndim) for n in f.equation.required(f.grid.ndim)}
            )
        )

    @cached_property
    def strata_matter(self) -> bool:
        """Can strata along a face make waves grow?"""
        f = self._propagator
        return layering.matters(f.equation, f.boundary, f.grid.ndim)

    def check_layering(self, value: float) -> None:
        """Warn, once for a propagator, of a model in whose strata waves may grow."""
        if value > layering.LIMIT and not self._warned:
            self._warned = True
            layering.warning(self._propagator.equation, value)

    def check_wavelets(self, samples: np.ndarray, slowest: float) -> None:
        """Warn, once for a propagator, of wavelets given with a call that are too high in frequency
        for the grid.

        Args:
            samples: at internal steps.
            slowest: speed in the model, m/s.
        """
        if self._warned_of_wavelets:
            return
        f = self._propagator
        highest = highest_frequency(samples, f.dt)
        if highest > f.highest_frequency:
            per_wavelength = slowest / (highest * max(f.grid.spacing))
            self._warned_of_wavelets = per_wavelength < f.min_points_per_wavelength
            coarse_sampling.in_space(highest, per_wavelength, f.min_points_per_wavelength)

    @cached_property
    def check_step(self) -> StepCheck:
        """One for all host models, so that each model is checked once."""
        f = self._propagator
        return StepCheck(f.equation, f.grid, f.boundary, f.dt)

    @cached_property
    def clock(self) -> Clock | None:
        """How the scheme shifts frequencies; None where traces stay raw."""
        f = self._propagator
        stepping = f.equation.time_stepping
        if f.time_dispersion == "raw" or stepping is None:
            return None
        # Of a survey of zeros nothing is known: its wavelets will come with the calls.
        frequency = f.highest_frequency or np.inf
        highest = 2.0 * np.pi * f.survey.dt * MARGIN * frequency
        return Clock(f.survey.nt, f.steps_per_sample, highest, stepping)

    @cached_property
    def warp(self) -> TimeWarp | None:
        """The map along time that takes time dispersion away; None where traces stay raw."""
        return None if self.clock is None else warp_of(self.clock)

    @cached_property
    def coefficient_names(self) -> tuple[str, ...]:
        f = self._propagator
        system = _system(f.equation, f.boundary, f.grid.ndim, "float32", frozenset())
        return tuple(c.name for c in system.coefficients)

    def host(self, dtype: Any, variant: Variant = "plain") -> HostModel:
        key: tuple[str, Variant] = (np.dtype(dtype).name, variant)
        with self._lock:
            if key not in self._hosts:
                self._hosts[key] = self._make_host(*key)
            return self._hosts[key]

    def _make_host(self, dtype: str, variant: Variant) -> HostModel:
        f = self._propagator
        grid, survey, widths = f.grid, f.survey, f.boundary.widths(AXIS_NAMES[f.grid.ndim])
        ends = self.ends
        names = (
            tuple(p.name for p in ends.source.ports),
            tuple(p.name for p in ends.receiver.ports),
        )
        whole = _axes_between_layers(f.equation, f.boundary, grid.shape)
        programs = _programs(
            f.equation, f.boundary, grid.ndim, dtype, *names, variant, survey.extended, whole
        )
        adjoint = variant == "transposed"
        symbols = programs.scheme.symbols
        shape = tuple(n + low + high for n, (low, high) in zip(grid.shape, widths, strict=True))
        conditions = Conditions(0.0, f.max_velocity, f.dominant_frequency, f.dt)
        strips = {
            (axis, side): min(width + reach(programs.scheme.system), n)
            for axis, n, (low, high) in zip(symbols.axes, shape, widths, strict=True)
            for side, width in (("low", low), ("high", high))
        }
        discretisation = Discretisation(
            shape=shape,
            spacing=grid.spacing,
            origin=tuple(
                o - low * h
                for o, h, (low, _) in zip(grid.origin, grid.spacing, widths, strict=True)
            ),
            dt=f.dt,
            steps=((survey.nt if self.warp is None else self.warp.modelled) - 1)
            * f.steps_per_sample,
            record_every=1 if adjoint else f.steps_per_sample,
            interpolation=f.interpolation,
            dtype=dtype,
            profiles=f.boundary.profiles(symbols, shape, grid.spacing, conditions),
            strips=strips,
            surface=f.boundary.free_surface,
            late=(False,) * len(ends.source.ports)
            if adjoint
            else ends.late * (2 if variant == "linearized" else 1),
        )
        positions = (
            (survey.receivers, survey.sources) if adjoint else (survey.sources, survey.receivers)
        )
        source = (
            np.zeros((survey.n_shots, 0, 0))
            if adjoint
            else f._source_samples(survey.wavelet, slice(None), np)
        )
        check_range(
            [(peak_of(source), 0)], dtype, "the wavelets of the survey (over the volume of a cell)"
        )
        return HostModel(
            programs,
            discretisation,
            Solver(programs, discretisation, f.settings),
            source.astype(dtype),
            *positions,
            ports=(ends.receiver, ends.source) if adjoint else (ends.source, ends.receiver),
            check=f._check_bounds,
            check_positions=f._check_positions,
            check_step=self.check_step,
            check_wavelets=None if adjoint else self.check_wavelets,  # there they are traces
            store_every=1
            if adjoint
            else f.settings.store_every,  # traces are not band-limited as wavelets are
            linearize=lambda: self.host(dtype, "linearized"),
        )

    def simulate(self, host: HostModel, given: Operands) -> Any:
        with self._lock:
            if (host, given) not in self._functions:
                self._functions[host, given] = differentiable(host, given)
            return self._functions[host, given]
