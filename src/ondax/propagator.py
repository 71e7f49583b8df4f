"""The JAX face: a survey shot over a model, as a differentiable function."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from ._types import (
    GivenFields,
    GivenReceivers,
    GivenShots,
    GivenSources,
    GivenTraces,
    GivenWavelets,
    GivenWeights,
    Model,
    Traces,
    Wavelets,
    Weights,
)
from .backends.settings import Settings
from .boundaries.base import AbstractBoundary
from .equations.base import AbstractWaveEquation
from .face import modelling
from .face.callback_errors import as_raised
from .face.cost import Cost, cost_of
from .face.host import Hosts
from .face.modelling import Given
from .face.problem import Interpolation, Problem, TimeDispersion, posed
from .face.wavefields import Wavefields
from .grid import Grid
from .stability.steps import Pace
from .survey import Survey

ATTRIBUTES = frozenset(f.name for f in fields(Problem) if not f.name.startswith("_"))


class Propagator(eqx.Module):
    """Shoots a survey over a model: `traces = F(model)`, differentiable in model, wavelet and
    positions.

    It holds no arrays, so it is fixed inside networks, closures and jitted functions. Gradients
    that nobody asks for are not computed.

    Args:
        equation: the wave equation.
        grid: the model's grid.
        survey: sources, receivers, wavelets.
        max_velocity: the fastest wave speed that any model will have, m/s; it fixes the internal
            time step. With strong contrasts (of densities above 5) that step may not hold: then the
            call says so. Or a model, an array or a dict of arrays of SI units: its fastest speed,
            with the largest step that holds for it (see `ox.stability.limit`).
        boundary: what surrounds the model. Default: `CPML()`, perfectly matched layers of 20 cells,
            where the equation is stable in them. Else, for `TTI` and equations that state their
            flux, `JointPML()`, or `JointPML(30)` in 3-D; for others a sponge, `Sponge()`, or
            `Sponge(60)` in 3-D. Their echo is about 1 % at most. For an equation that does not say
            whether it is stable, 5,000 steps in such layers are tried, once a process, and `CPML()`
            is not taken with a warning.
        interpolation: how points between grid points are reached: "sinc" (Kaiser-windowed, Hicks
            2002) or "linear".
        settings: threads, memory, sampling of the history.
        min_points_per_wavelength: grid points that the shortest wavelength must have; default by
            space order, which refuses useless grids only: `spatial_error` says what to expect of
            one that passes.
        points_in_layer: allow sources and receivers in the absorbing layer.
        time_dispersion: "corrected": traces are free of the error that the time step makes,
            whatever the step (see below); "raw": as the scheme makes them, which is what other
            leapfrog codes give at the same step.
        courant: the internal step as a fraction of the largest stable one, at most 1. Corrected,
            traces do not depend on it; in float32 the largest step is the most accurate.
        aperture: metres on either side of a shot's sources and receivers, along horizontal axes,
            beyond which the shot does not see the model: each shot is run on a part of the grid,
            which ends in the same boundary. Time and memory are those of the part; what waves do
            beyond it is missing from traces and gradients, which so are those of another problem,
            the closer the wider the aperture. Default: all of the model. Extended sources see all
            of it anyhow. Positions given with a call may leave the span of the survey's by half the
            aperture.

    **Time dispersion.** Stepping in time shifts frequencies, by a relation that the equation
    declares (`time_stepping`). Two linear maps along time undo it: of wavelets before, and of
    traces after modelling (Stork, 2013; Koene et al., 2018). They are each other's transposes, and
    apply to data, Born data, adjoint sources, extended sources and layers alike, so that adjoints
    and gradients stay exact. Wavelets given to a call are corrected up to 1.25 times the survey's
    `highest_frequency`, and above it too little, never too much. What is left is the error of the
    grid, and:

    - in attenuating media, the rates of attenuation act as if they were `1 - (omega dt)^2 / 8` of
      themselves:
      below 0.1 % of the traces for Q = 20 at the largest step, less for smaller steps and larger Q;
    - at space order 2, where errors of the time step hide a part of the grid's, which are larger
      and of opposite sign, traces get *worse* (33 to 42 % at 1 km for a wave of 8 Hz at 1500 m/s,
      12.5 m): take order 4 at least;
    - a wavelet that jumps at time 0, such as a spike in its first sample, is not band-limited,
      corrected or not.

    Attributes:
        dt: the internal time step, s.
        steps_per_sample: internal steps per sample of the survey.
        max_velocity: the fastest wave speed that any model may have, m/s.
        largest_step: the largest internal time step allowed, s.
        dominant_frequency: where the survey's wavelets have their spectral peak; Hz.
        highest_frequency: above it, each of the survey's wavelets stays below 2 % of its own
            spectral peak; Hz.
        time_dispersion: "raw" also where the equation does not declare its relation between
            frequencies.

    Raises:
        ValueError: anything that cannot work, by value and with the remedy: points outside the
            grid, units that do not fit together, too few points per wavelength; sources on a free
            surface, or receivers all of which stand on it, where the field that they feed or read
            vanishes; wavelets too high in frequency for `Settings(store_every=...)`.

    Warns:
        SilentReceivers: some of the receivers stand on a free surface and will record zeros.
        CoarseSampling: the survey's samples are too far apart to take time dispersion out of all
            its frequencies; or its wavelets begin or end with half of their peak.
        SuspiciousPositions: all sources and receivers stand in the first metre, or tenth, of the
            model.
    """

    equation: AbstractWaveEquation = eqx.field(static=True)
    grid: Grid = eqx.field(static=True)
    survey: Survey = eqx.field(static=True)
    max_velocity: float = eqx.field(static=True)
    boundary: AbstractBoundary = eqx.field(static=True)
    interpolation: Interpolation = eqx.field(static=True)
    settings: Settings = eqx.field(static=True)
    min_points_per_wavelength: float = eqx.field(static=True)
    points_in_layer: bool = eqx.field(static=True)
    time_dispersion: TimeDispersion = eqx.field(static=True)
    courant: float = eqx.field(static=True)
    aperture: float | None = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    steps_per_sample: int = eqx.field(static=True)
    largest_step: float = eqx.field(static=True)
    highest_frequency: float = eqx.field(static=True)
    dominant_frequency: float = eqx.field(static=True)
    _problem: Problem = eqx.field(static=True, repr=False)
    _hosts: Hosts = eqx.field(static=True, repr=False)

    def __init__(
        self,
        equation: AbstractWaveEquation,
        grid: Grid,
        survey: Survey,
        max_velocity: float | Model,
        *,
        boundary: AbstractBoundary | None = None,
        interpolation: Interpolation = "sinc",
        settings: Settings | None = None,
        min_points_per_wavelength: float | None = None,
        points_in_layer: bool = False,
        time_dispersion: TimeDispersion = "corrected",
        courant: float = 1.0,
        aperture: float | None = None,
    ) -> None:
        self._problem = posed(
            equation,
            grid,
            survey,
            max_velocity,
            boundary=boundary,
            interpolation=interpolation,
            settings=settings,
            min_points_per_wavelength=min_points_per_wavelength,
            points_in_layer=points_in_layer,
            time_dispersion=time_dispersion,
            courant=courant,
            aperture=aperture,
        )
        self._hosts = Hosts(self._problem)
        for name in ATTRIBUTES:
            setattr(self, name, getattr(self._problem, name))

    def replace(self, **changes: Any) -> Propagator:
        """The same propagator but for the arguments given, which are those of `Propagator`.

        A boundary that was chosen by default stays as it was chosen, and so does the time step,
        unless equation, grid, boundary or `max_velocity` change.
        """
        own: dict[str, Any] = {
            "equation": self.equation,
            "grid": self.grid,
            "survey": self.survey,
            "max_velocity": Pace(self.max_velocity, self.largest_step),
            "boundary": self.boundary,
            "interpolation": self.interpolation,
            "settings": self.settings,
            "min_points_per_wavelength": self.min_points_per_wavelength,
            "points_in_layer": self.points_in_layer,
            "time_dispersion": self.time_dispersion,
            "courant": self.courant,
            "aperture": self.aperture,
        }
        if not changes.keys().isdisjoint(("equation", "grid", "boundary")):
            own["max_velocity"] = self.max_velocity
        made = Propagator(**(own | changes))
        return made.forward_mode() if self._hosts.forward_mode else made

    def with_survey(self, survey: Survey) -> Propagator:
        """The same physics on the same grid, with another survey."""
        return self.replace(survey=survey)

    def forward_mode(self) -> Propagator:
        """A twin of this propagator through which `jax.jvp`, `linearize`, `jacfwd` and `hessian`
        go, and so does `jax.grad` of `jax.grad`; lineax's `JacobianLinearOperator` and
        Gauss-Newton products `vjp(jvp(...))` with it.

        It models the same traces, shares its kernels and histories, and is used alike in all ways.
        Reverse mode is the transpose of its forward mode, and gives the same gradients. What
        differs is the cost of forward mode:

        - `jax.jvp` costs a forward run that keeps a history, and a Born run that reads it, for each
          tangent: so `jax.linearize` and `vmap` of many tangents keep one history for all of them.
          `F.jvp` advances traces and Born traces together, and needs none.
        - With `Settings(history="sampled")` or `store_every=`, gradients are made from the steps
          that are kept; Born runs read every step, for which another forward run is made.

        - Forward mode of `with_final` and `at_rest` advances traces and their changes together,
          as `F.jvp` does; the forward run beside it keeps a history for reverse mode.

        Second derivatives are to be had of functions of traces, in model, wavelet, weights and
        initial fields, and between them; not by positions, nor of functions of final fields, of
        which there are first derivatives.

        Returns:
            The twin; itself, if it is one. `replace` and `with_survey` of a twin return twins.
        """
        twin = copy.copy(self)
        object.__setattr__(twin, "_hosts", self._hosts.in_forward_mode())
        return twin

    # ---------------------------------------------------------------- modelling

    @as_raised()
    def __call__(
        self,
        model: Model,
        *,
        wavelet: GivenWavelets | None = None,
        weights: GivenWeights | None = None,
        sources: GivenSources | None = None,
        receivers: GivenReceivers | None = None,
        shots: GivenShots | None = None,
        initial: Wavefields | None = None,
    ) -> Traces:
        """Model traces.

        Args:
            model: the equation's parameters on the grid: an array, or a dict of arrays.
            wavelet: source samples instead of the survey's, of any shape that `Survey` takes.
            weights: of extended sources on the model's grid; required if, and only if, the survey's
                sources are `Extended`.
            sources: source positions instead of the survey's, metres, of any shape that `Survey`
                takes. NumPy arrays are taken in double precision, whatever the model's type. In JAX
                arrays of float32, which is all that JAX has unless float64 is enabled, points must
                be told apart to a millimetre: coordinates up to 16 km.
            receivers: receiver positions instead of the survey's, likewise.
            shots: numbers of the shots to fire; default all. May be traced.
            initial: the fields that the run begins with, at the first sample of the wavelets (of
                the traces, for `survey.between`): those that `with_final` returned, or `at_rest`.
                Default: zero.

        Returns:
            Traces (shot, receiver, time) at the survey's sampling interval, from time 0; (shot,
            component, receiver, time) for a survey that records several components.

        Raises:
            ValueError: shapes or types that do not fit. Values are checked when the shots are
                fired: a model that breaks `max_velocity` or for which the time step is too long,
                too few points per wavelength, NaN, points outside the grid, or whose coordinates
                are too large for float32. Initial fields in a propagator with an `aperture`, or
                with `time_dispersion="corrected"`.

        Warns:
            GrowthInLayers: the first model whose strata may make waves grow in a perfectly matched
                layer that they meet.
            CoarseSampling: the first given wavelets that are too high in frequency for the grid.
        """
        given = Given(wavelet, weights, sources, receivers, shots, initial)
        return modelling.traces(self._hosts, model, given)

    @as_raised()
    def with_final(
        self,
        model: Model,
        *,
        wavelet: GivenWavelets | None = None,
        weights: GivenWeights | None = None,
        sources: GivenSources | None = None,
        receivers: GivenReceivers | None = None,
        shots: GivenShots | None = None,
        initial: Wavefields | None = None,
    ) -> tuple[Traces, Wavefields]:
        """Traces, and the fields at their last sample, from which another run can go on.

        A run that is handed on equals one that is not, to the bit, but for numbers too small for
        their type: with `first, second = F.survey.between(0.0, t), F.survey.between(t, end)`,

            before, fields = F.with_survey(first).with_final(model)
            after = F.with_survey(second)(model, initial=fields)

        are the traces of `F(model)`; both hold the sample at t. The arguments are those of
        `__call__`, and so are the errors.

        Raises:
            ValueError: as for `__call__`, and for a propagator with an `aperture`, or with
                `time_dispersion="corrected"`: the scheme's clock runs wrong by what is corrected
                in traces, so that its fields at the end are those of another time.
        """
        given = Given(wavelet, weights, sources, receivers, shots, initial)
        return modelling.traces_and_final(self._hosts, model, given)

    @as_raised()
    def at_rest(self, model: Model, fields: Mapping[str, GivenFields]) -> Wavefields:
        """Initial fields made of arrays on the grid: `F(model, initial=F.at_rest(model, {"u":
        p0}))` models what a pressure p0 radiates that is set free at the time of the first sample
        (photoacoustics).

        Fields of second order in time have a rate of change of zero then; fields that are not given
        are zero. In the layers around the grid, all are zero. The scheme needs values a step, or
        half a step, before that time, too. They are made by one step of the scheme, so that the
        start is as accurate as the scheme, to second order in the time step. (With values of the
        same size instead, waves would come half a step late.)

        Args:
            model: as in `__call__`: how fields change at first depends on it.
            fields: arrays of the grid's shape, or `(shot, *grid)`, by the scheme's names: those of
                the fields in the equation's documentation, such as "u" for `Acoustic`, "p" for
                `AcousticDensity`, "s_xx" for `Elastic`. Values of staggered fields are those half
                a cell beyond the points.

        Returns:
            The fields, differentiable in the model and in what is given.

        Raises:
            ValueError: names or shapes that do not fit; or as for `with_final`.
        """
        return modelling.at_rest(self._hosts, model, fields)

    @as_raised()
    def adjoint(
        self,
        model: Model,
        data: GivenTraces,
        *,
        wavelet: GivenWavelets | None = None,
        shots: GivenShots | None = None,
    ) -> Wavelets | Weights:
        """The adjoint of modelling as a linear function of the source, applied to traces.

        Args:
            model: as in `__call__`.
            data: traces, shaped like those of `__call__`.
            wavelet: of extended sources, instead of the survey's.
            shots: numbers of the shots; default all.

        Returns:
            Adjoint wavelets, shaped like the survey's: `<F(m, w), d> = <w, F.adjoint(m, d)>` to
            rounding. For a survey of extended sources, the adjoint of modelling as a function of
            their weights: weights.
        """
        if wavelet is not None and not self.survey.extended:
            raise ValueError(
                "wavelet=: the adjoint wavelets of point sources do not depend on their wavelets; "
                "leave it out"
            )
        return modelling.adjoint(self._hosts, model, data, wavelet, shots)

    def jacobian(
        self,
        model: Model,
        *,
        wavelet: GivenWavelets | None = None,
        weights: GivenWeights | None = None,
        shots: GivenShots | None = None,
        initial: Wavefields | None = None,
    ) -> Any:
        """The Jacobian of modelling at a model: Born modelling (demigration), and RTM as its
        transpose.

        Args:
            model: the background.
            wavelet: source samples instead of the survey's, e.g. encoded ones of simultaneous
                shots. May be traced.
            weights: of extended sources.
            shots: numbers of the shots; default all.
            initial: the fields that the run begins with; they do not change with the model.

        Returns:
            A `lineax.AbstractLinearOperator` from model perturbations (like `model`) to traces.
        """
        from .jacobian import Jacobian  # brings lineax, which modelling does without

        return Jacobian(self, model, shots, wavelet, weights, initial)

    @as_raised()
    def jvp(
        self,
        model: Model,
        perturbation: Model,
        *,
        wavelet: GivenWavelets | None = None,
        weights: GivenWeights | None = None,
        shots: GivenShots | None = None,
        initial: Wavefields | None = None,
    ) -> tuple[Traces, Traces]:
        """Traces, and Born traces of a perturbation: what `jax.jvp` would return, which
        `jax.custom_vjp` rules out (see `forward_mode`).

        Both are differentiable in model, perturbation and wavelet in reverse mode, so that
        gradients of Born data in the background, and Hessian-vector products (see `hvp`), are to be
        had. Both fields are advanced together by the linearised scheme, whose adjoint is derived
        like any other.

        Args:
            model: the background.
            perturbation: shaped like the model.
            wavelet: source samples instead of the survey's.
            weights: of extended sources.
            shots: numbers of the shots; default all.
            initial: the fields that the run begins with; they do not change with the model.

        Raises:
            ValueError: as for `__call__`, and for a perturbation that is not shaped like the model.
        """
        given = Given(wavelet, weights, shots=shots, initial=initial)
        return modelling.with_changes(self._hosts, model, perturbation, given)

    # ---------------------------------------------------------------- cost and accuracy

    def cost(self, dtype: str = "float32") -> Cost:
        """What a shot takes, before any is run: steps, points, memory, how many histories fit, a
        guess of the time, and what was chosen. `print(F.cost())` shows it.

        Args:
            dtype: "float32" or "float64".
        """
        return cost_of(self._hosts, dtype)

    def spatial_error(self, speed: float, path: float | None = None) -> float:
        """What the grid alone is expected to make of traces: their error as a fraction of them
        (root mean square).

        An estimate, for the survey's wavelets and a wave that travels along an axis of the grid,
        the worst direction. Time dispersion, corrected by default, is none of it. At order 8, 5
        points per wavelength at `highest_frequency` keep it below 0.5 % over 30 wavelengths of the
        dominant frequency.

        Args:
            speed: of the slowest wave, m/s; of shear waves where there are any.
            path: how far it travels, metres; default from corner to corner of the grid.
        """
        return self._problem.spatial_error(speed, path)

    def coefficients(self, model: Model) -> tuple[Float[Array, "..."], ...]:
        """The scheme's coefficients on the domain, the grid and the layers around it, in the order
        of the scheme (plain JAX)."""
        return tuple(modelling.coefficients(self._problem, model).values())
