"""The JAX face: a survey shot over a model, as a differentiable function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int

from . import _validate
from .acquisition import coarse_sampling, silence, spectra
from .acquisition.dispersion import without_relation
from .acquisition.resampling import upsample
from .backends.discretisation import HALF_STEP_BACK
from .backends.settings import Settings
from .boundaries.base import AbstractBoundary
from .boundaries.faces import Faces
from .equations.base import AbstractWaveEquation
from .equations.media import coefficients
from .face import checks
from .face.callback_errors import as_raised
from .face.examined import examined
from .face.extended import extended_adjoint
from .face.host import HostModel
from .face.lever import Lever
from .face.operators import Operators
from .face.positions import as_pairs, known_to_jax
from .face.primitives import Operands
from .face.sharding import unify_axes
from .face.warping import unwarped, warped
from .grid import Grid
from .histories.sampled import check_sampling
from .scheme.symbols import AXIS_NAMES, Symbols
from .stability import steps as stability
from .stability.default_boundary import default_boundary
from .survey import Survey

Model = Any  # an array, or a dict of arrays by parameter name
Traces = Float[Array, "shot *components receiver time"]
Wavelets = Float[Array, "shot *components source time"]
Weights = Float[Array, "shot *grid"]
GivenTraces = Float[ArrayLike, "shot *components receiver time"]
GivenWavelets = Float[ArrayLike, "*as_of_a_survey time"]
GivenWeights = Float[ArrayLike, "shot *grid"]
GivenShots = Int[ArrayLike, " shot"] | Sequence[int]
Interpolation = Literal["sinc", "linear"]
TimeDispersion = Literal["corrected", "raw"]


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
            where the equation is stable in them; else a sponge, `Sponge()`, or `Sponge(60)` in 3-D,
            whose echo is at most 1 %. For an equation that does not say whether it is, 5,000 steps
            in such layers are tried, once a process, and a sponge is taken with a warning.
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
    dt: float = eqx.field(static=True)
    steps_per_sample: int = eqx.field(static=True)
    largest_step: float = eqx.field(static=True)
    highest_frequency: float = eqx.field(static=True)
    dominant_frequency: float = eqx.field(static=True)
    _operators: Operators = eqx.field(static=True)

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
    ) -> None:
        checks.kinds(equation, grid, survey, boundary, settings)
        self.equation, self.grid, self.survey = equation, grid, survey
        Symbols(grid.ndim, equation.space_order)  # refuses a space order that does not exist
        self.settings = settings if settings is not None else Settings()
        if boundary is None or (isinstance(boundary, Faces) and boundary.others is None):
            fastest = stability.fastest_speed(equation, grid, max_velocity)
            default = default_boundary(equation, grid, fastest)
            boundary = default if boundary is None else boundary.completed(default)
        self.boundary = boundary
        self.interpolation = _validate.one_of("interpolation", interpolation, ("sinc", "linear"))
        self.points_in_layer = points_in_layer
        self.min_points_per_wavelength = (
            checks.default_points_per_wavelength(equation.space_order)
            if min_points_per_wavelength is None
            else _validate.not_negative("min_points_per_wavelength", min_points_per_wavelength)
        )
        checks.faces(self.boundary, grid, equation)
        self.max_velocity, self.largest_step = stability.pace(
            equation, grid, self.boundary, max_velocity
        )
        self.time_dispersion = _validate.one_of(
            "time_dispersion", time_dispersion, ("corrected", "raw")
        )
        if self.time_dispersion == "corrected" and without_relation(type(equation)):
            self.time_dispersion = "raw"
        self.courant = _validate.fraction("courant", courant)
        largest = self.courant * self.largest_step
        self.steps_per_sample = checks.steps_per_sample(
            survey.dt, largest, self.max_velocity, grid.spacing
        )
        self.dt = survey.dt / self.steps_per_sample
        self.highest_frequency = spectra.highest_frequency(survey.wavelet, survey.dt)
        self.dominant_frequency = spectra.dominant_frequency(survey)
        self._operators = Operators(self)
        for name, points in (("sources", survey.sources), ("receivers", survey.receivers)):
            self._check_positions(name, points.reshape(-1, points.shape[-1]), warn=True)
        silence.check_units_of_positions(survey, grid)
        self._check_speeds(self.max_velocity, self.max_velocity)
        if self._operators.clock is not None and self.highest_frequency > 0.0:
            coarse_sampling.in_time(self.highest_frequency, survey.dt, self._operators.clock.top)
        coarse_sampling.at_the_ends(spectra.jump_of(survey.wavelet, least=0.5))
        if survey.source is not None or survey.receiver is not None:
            _ = self._operators.ends  # refuses components that do not exist
        if self.settings.store_every > 1:
            fired = self._source_samples(survey.wavelet, slice(None), np)
            check_sampling(self.settings.store_every, fired, self.dt)

    def replace(self, **changes: Any) -> Propagator:
        """The same propagator but for the arguments given, which are those of `Propagator`.

        A boundary that was chosen by default stays as it was chosen, and so does the time step,
        unless equation, grid, boundary or `max_velocity` change.
        """
        own: dict[str, Any] = {
            "equation": self.equation,
            "grid": self.grid,
            "survey": self.survey,
            "max_velocity": stability.Pace(self.max_velocity, self.largest_step),
            "boundary": self.boundary,
            "interpolation": self.interpolation,
            "settings": self.settings,
            "min_points_per_wavelength": self.min_points_per_wavelength,
            "points_in_layer": self.points_in_layer,
            "time_dispersion": self.time_dispersion,
            "courant": self.courant,
        }
        if not changes.keys().isdisjoint(("equation", "grid", "boundary")):
            own["max_velocity"] = self.max_velocity
        return Propagator(**(own | changes))

    def with_survey(self, survey: Survey) -> Propagator:
        """The same physics on the same grid, with another survey."""
        return self.replace(survey=survey)

    # ---------------------------------------------------------------- modelling

    @as_raised()
    def __call__(
        self,
        model: Model,
        *,
        wavelet: GivenWavelets | None = None,
        weights: GivenWeights | None = None,
        sources: Float[ArrayLike, "*shot_source axis"] | None = None,
        receivers: Float[ArrayLike, "*shot_receiver axis"] | None = None,
        shots: GivenShots | None = None,
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

        Returns:
            Traces (shot, receiver, time) at the survey's sampling interval, from time 0; (shot,
            component, receiver, time) for a survey that records several components.

        Raises:
            ValueError: shapes or types that do not fit. Values are checked when the shots are
                fired: a model that breaks `max_velocity` or for which the time step is too long,
                too few points per wavelength, NaN, points outside the grid, or whose coordinates
                are too large for float32.

        Warns:
            GrowthInLayers: the first model whose strata may make waves grow in a perfectly matched
                layer that they meet.
            CoarseSampling: the first given wavelets that are too high in frequency for the grid.
        """
        host, arguments, given, lever = self._arguments(
            model, wavelet, weights, sources, receivers, shots
        )
        samples = self._operators.simulate(host, given)(*arguments)
        return lever.leave(self._traces(samples, arguments[2]))

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
        if self.survey.extended:
            return extended_adjoint(self, model, data, wavelet, shots)
        if wavelet is not None:
            raise ValueError(
                "wavelet=: the adjoint wavelets of point sources do not depend on their wavelets; "
                "leave it out"
            )
        dtype = self._dtype(model, data)
        host = self._operators.host(dtype, "transposed")
        coefficients, speeds, which, _, lever = self._common(model, dtype, shots)
        traces = lever.enter(
            _validate.shaped("data", data, self._trace_shape(which.shape[0]), dtype)
        )
        # Reversed in time, the adjoint scheme is a scheme like any other: what it feeds on are the
        # recorded samples.
        recorded = self._samples_of(traces, which)
        steps = jnp.zeros((*recorded.shape, self.steps_per_sample), dtype).at[..., -1].set(recorded)
        steps = _interpolated_back(
            steps.reshape(*recorded.shape[:-1], -1), self._operators.ends.late
        )
        residual = jnp.flip(steps, axis=-1)
        given = Operands(wavelet=True)
        arguments = unify_axes((coefficients, speeds, which, (residual,)))
        at_sources = jnp.flip(self._operators.simulate(host, given)(*arguments), axis=-1)
        shape = jax.ShapeDtypeStruct((which.shape[0], *self.survey.wavelet.shape[1:]), dtype)
        (wavelet_,) = jax.linear_transpose(lambda w: self._source_samples(w, which), shape)(
            at_sources
        )
        return lever.leave(wavelet_)

    def jacobian(
        self,
        model: Model,
        *,
        wavelet: GivenWavelets | None = None,
        weights: GivenWeights | None = None,
        shots: GivenShots | None = None,
    ) -> Any:
        """The Jacobian of modelling at a model: Born modelling (demigration), and RTM as its
        transpose.

        Args:
            model: the background.
            wavelet: source samples instead of the survey's, e.g. encoded ones of simultaneous
                shots. May be traced.
            weights: of extended sources.
            shots: numbers of the shots; default all.

        Returns:
            A `lineax.AbstractLinearOperator` from model perturbations (like `model`) to traces.
        """
        from .jacobian import Jacobian

        return Jacobian(self, model, shots, wavelet, weights)

    @as_raised()
    def jvp(
        self,
        model: Model,
        perturbation: Model,
        *,
        wavelet: GivenWavelets | None = None,
        weights: GivenWeights | None = None,
        shots: GivenShots | None = None,
    ) -> tuple[Traces, Traces]:
        """Traces, and Born traces of a perturbation: what `jax.jvp` would return, which
        `jax.custom_vjp` rules out.

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

        Raises:
            ValueError: as for `__call__`, and for a perturbation that is not shaped like the model.
        """
        dtype = self._dtype((model, perturbation), wavelet, weights)
        coefficients, speeds, which, named, lever = self._common(model, dtype, shots)
        changes = self.equation.named(perturbation)
        changes = {
            n: _validate.shaped(f"the perturbation of {n}", v, self.grid.shape, dtype)
            for n, v in changes.items()
        }
        _, perturbed = jax.jvp(self.coefficients, (named,), (lever.enter(changes),))
        given, extras = self._source_operands(wavelet, weights, which, dtype, lever)
        arguments = unify_axes(((*coefficients, *perturbed), speeds, which, extras))
        samples = self._operators.simulate(self._operators.host(dtype).linearized, given)(
            *arguments
        )
        plain, born = jnp.split(samples, 2, axis=-2)
        return lever.leave((self._traces(plain, arguments[2]), self._traces(born, arguments[2])))

    # ---------------------------------------------------------------- accuracy

    @property
    def _longest_path(self) -> float:
        """From corner to corner, metres."""
        return math.hypot(*(high - low for low, high in self.grid.extent))

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
        length = self._longest_path if path is None else path
        order = self.equation.space_order
        return spectra.spatial_error(self.survey, order, max(self.grid.spacing), speed, length)

    # ---------------------------------------------------------------- from parameters to operands

    def _dtype(self, model: Model, *others: Any) -> Any:
        leaves = [x for x in (*jax.tree.leaves(model), *others) if x is not None]
        return _validate.floating_type(leaves)

    def coefficients(self, model: Model) -> tuple[Float[Array, "..."], ...]:
        """The scheme's coefficients on the padded grid, in order (plain JAX)."""
        by_name = coefficients(self.equation, self.boundary, model, self.grid.ndim)
        return tuple(by_name[n] for n in self._operators.coefficient_names)

    def _common(
        self, model: Model, dtype: Any, shots: Any
    ) -> tuple[tuple[Array, ...], Array, Array, Model, Lever]:
        """Coefficients, bounds to check, shot numbers, the model by name, and the lever that it has
        gone through."""
        named = self.equation.named(model)
        named = {n: _validate.shaped(n, v, self.grid.shape, dtype) for n, v in named.items()}
        fixed = {n: jax.lax.stop_gradient(v) for n, v in named.items()}
        names, matters = self._operators.coefficient_names, self._operators.strata_matter
        row, bounds, contrasts, values, lever = examined(
            self.equation, self.boundary, self.grid.ndim, matters, names, fixed
        )
        if not isinstance(
            bounds, Tracer
        ):  # known now: an exception of our own, not from a callback
            known = np.asarray(bounds)
            self._check_bounds(*map(float, known))
            by_name = dict(zip(names, values, strict=True))
            self._operators.check_step(
                by_name, float(known[1]), list(map(float, np.asarray(contrasts)))
            )
        named = lever.enter(named)
        return self.coefficients(named), row, self._which(shots), named, lever

    def _which(self, shots: Any) -> Int[Array, " shot"]:
        """Shot numbers; all where none are given."""
        return (
            jnp.asarray(np.arange(self.survey.n_shots, dtype=np.int32))
            if shots is None
            else checks.shot_numbers(shots, self.survey.n_shots)
        )

    def _arguments(
        self, model: Model, wavelet: Any, weights: Any, sources: Any, receivers: Any, shots: Any
    ) -> tuple[HostModel, tuple[Any, ...], Operands, Lever]:
        dtype = self._dtype(model, wavelet, weights, *filter(known_to_jax, (sources, receivers)))
        coefficients, speeds, which, _, lever = self._common(model, dtype, shots)
        if sources is not None and self.survey.extended:
            raise ValueError(
                "sources=: the survey's sources are extended and have no positions; give weights="
            )
        given, extras = self._source_operands(wavelet, weights, which, dtype, lever)
        single = []
        for name, positions, points in (
            ("sources", sources, self.survey.n_sources),
            ("receivers", receivers, self.survey.n_receivers),
        ):
            if positions is not None:
                shape = (which.shape[0], points, self.grid.ndim)
                positions = checks.positions_of_survey(name, positions, shape)
                pairs, rounded = as_pairs(name, positions, shape, dtype, self._nearest_coordinate)
                extras += (lever.enter(pairs),)
                single += [name] * rounded
        given = replace(
            given,
            sources=sources is not None,
            receivers=receivers is not None,
            single=tuple(single),
        )
        arguments = unify_axes((coefficients, speeds, which, extras))
        return self._operators.host(dtype), arguments, given, lever

    def _source_operands(
        self, wavelet: Any, weights: Any, which: Array, dtype: Any, lever: Lever
    ) -> tuple[Operands, tuple[Array, ...]]:
        """The operands that say what sources do, where the survey does not."""
        extended = self.survey.extended
        if extended and weights is None:
            raise ValueError(
                "the survey's sources are extended: give their weights, F(model, weights=w)"
            )
        if weights is not None and not extended:
            raise ValueError(
                "weights=: the survey's sources are points; make it ox.Survey(ox.Extended(shots), "
                "...)"
            )
        extras: tuple[Array, ...] = ()
        if wavelet is not None:
            shape = (which.shape[0], *self.survey.wavelet.shape[1:])
            wavelet = _validate.shaped(
                "wavelet", checks.wavelet_of_survey(wavelet, shape), shape, dtype
            )
            extras += (self._source_samples(lever.enter(wavelet), which),)
        if weights is not None:
            weights = lever.enter(
                _validate.shaped("weights", weights, (which.shape[0], *self.grid.shape), dtype)
            )
            extras += (
                jnp.pad(weights, ((0, 0), *self.boundary.widths(AXIS_NAMES[self.grid.ndim]))),
            )
        return Operands(wavelet is not None, weights is not None), extras

    def _source_samples(self, wavelet: Any, shots: Any, xp: Any = jnp) -> Any:
        """Wavelets as the engine takes them: one row for each port and source, at the times when
        the port's samples act; those of a point source, which is a delta function, per cell
        volume."""
        ends, warp = self._operators.ends, self._operators.warp
        if warp is not None:
            wavelet = warp.forward(wavelet) if xp is np else warped(wavelet, warp)
        rows = ends.source.rows(wavelet, shots, xp)
        by_port = xp.split(rows, len(ends.source.ports), axis=-2)
        # What receivers read must hold at the time of a sample. The medium does not change with
        # time: fire earlier.
        shifts = [port.time - ends.recorded_at for port in ends.source.ports]
        parts = [
            upsample(r, self.steps_per_sample, xp, s) for r, s in zip(by_port, shifts, strict=True)
        ]
        volume = 1.0 if self.survey.extended else float(np.prod(self.grid.spacing))
        return xp.concatenate(parts, axis=-2) / volume

    def _traces(self, samples: Array, shots: Array) -> Traces:
        """Traces from what the engine records, which starts with the first step: they begin at
        rest, at time 0."""
        traces = self._operators.ends.receiver.collected(samples, shots, jnp)
        modelled = jnp.pad(traces, [*[(0, 0)] * (traces.ndim - 1), (1, 0)])
        return unwarped(modelled, self._operators.warp)

    def _samples_of(self, traces: Traces, shots: Array) -> Array:
        """The transpose of `_traces`."""
        modelled = warped(traces, self._operators.warp)
        return self._operators.ends.receiver.rows(modelled[..., 1:], shots, jnp)

    def _trace_shape(self, shots: int) -> tuple[int, ...]:
        kind = self.survey.receiver
        components = (len(kind),) if isinstance(kind, tuple) else ()
        return (shots, *components, self.survey.n_receivers, self.survey.nt)

    # ---------------------------------------------------------------- checks of values

    def _check_bounds(self, slowest: float, fastest: float, *others: float) -> None:
        """Check a model's speeds, the least values of the parameters that must be positive, and of
        the constraints, and its layering where that matters."""
        least = others[:-1] if self._operators.strata_matter else others
        strict = self.equation.positive_parameters
        constrained = self._operators.constrained
        rest = least[len(strict) :]
        _validate.least_values(
            dict(zip(strict, least, strict=False)), dict(zip(constrained, rest, strict=False))
        )
        known = [n for n in self.equation.plausible if n in self.equation.required(self.grid.ndim)]
        checks.plausible(
            dict(zip(known, rest[len(constrained) :], strict=True)), self.equation.plausible
        )
        self._check_speeds(slowest, fastest)
        if self._operators.strata_matter:
            self._operators.check_layering(others[-1])

    def _check_speeds(self, slowest: float, fastest: float) -> None:
        checks.speeds(
            slowest,
            fastest,
            max_velocity=self.max_velocity,
            spacing=max(self.grid.spacing),
            highest_frequency=self.highest_frequency,
            points=self.min_points_per_wavelength,
            path=self._longest_path,
            error=self.spatial_error,
            jump=lambda: spectra.jump_of(self.survey.wavelet),
        )

    @property
    def _open_layer(self) -> tuple[tuple[int, int], ...]:
        """Cells below and above the grid, along each axis, in which points are allowed."""
        return (
            self.boundary.widths(AXIS_NAMES[self.grid.ndim])
            if self.points_in_layer
            else ((0, 0),) * self.grid.ndim
        )

    @property
    def _nearest_coordinate(self) -> float:
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

    def _check_positions(self, name: str, positions: np.ndarray, warn: bool = False) -> None:
        checks.positions(name, positions, self.grid, self._open_layer)
        if self.boundary.free_surface and silence.any_on_surface(positions, self.grid):
            ends = self._operators.ends
            ports = (ends.source if name == "sources" else ends.receiver).ports
            silence.check(name, positions, ports, ends.symbols, self.grid, warn)


def _interpolated_back(steps: Array, late: tuple[bool, ...]) -> Array:
    """The transpose of interpolating late ports in time, for (..., port and point, step). By
    shifts: of a scatter that is flipped, XLA makes something that it then refuses (jaxlib
    0.10.2)."""
    if not any(late):
        return steps
    ports = steps.reshape(*steps.shape[:-2], len(late), -1, steps.shape[-1])
    total = jnp.zeros_like(ports)
    for back, weight in enumerate(HALF_STEP_BACK):
        weights = np.where(late, weight, float(back == 0))[:, None, None]
        earlier = jnp.concatenate([ports[..., back:], jnp.zeros_like(ports[..., :back])], axis=-1)
        total = total + jnp.asarray(weights, steps.dtype) * earlier
    return total.reshape(steps.shape)
