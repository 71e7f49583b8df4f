"""The host side of a propagator: checks of what arrives, and calls to the backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import jax
import numpy as np

from .. import _forks, _validate
from .._once import Once
from .._resolution import check_resolution
from ..backends.base import Asked, Experiment, Gradients, Memory
from ..backends.clock import Clock
from ..backends.devito.plans import Planned
from ..backends.devito.solver import Solver
from ..backends.domain import Domain
from ..backends.scaling import check_range, peak_of
from ..boundaries.base import Conditions
from ..histories.base import Recording
from ..histories.buffers import OutOfMemory
from ..histories.sampled import check_sampling, holds
from ..scheme.plan import Plan
from . import checks, schemes
from .callback_errors import THIRD
from .operands import Changes, Operands, Positions
from .positions import from_pairs
from .problem import Problem
from .setups import OfSurvey
from .transport import Traced

HostFunction = Callable[..., tuple[np.ndarray, ...]]
Call = HostFunction | Traced
Batch = tuple[int, ...]
Names = tuple[str, ...]


class HostModel:
    """A problem in one floating-point type. Compared by identity; safe to share between threads.

    Args:
        problem: what is computed.
        dtype: "float32" or "float64".
        tangent: run the scheme together with its tangent: traces and Born traces.
        one_step: make a single step only.

    Attributes:
        xp: NumPy, or its like whose arrays runs take.
        gives_tapes: forward runs give their histories; see `tape`.
    """

    xp: Any = np
    gives_tapes = False

    def __init__(
        self, problem: Problem, dtype: str, tangent: bool = False, one_step: bool = False
    ) -> None:
        self.problem = problem
        self.dtype = np.dtype(dtype)
        self.tangent, self.one_step = tangent, one_step
        self.sources, self.receivers = problem.sources, problem.receivers
        survey = problem.survey
        self.points = survey.n_sources, survey.n_receivers
        self.planned = planned = self._planned()
        plan = planned.plan
        self.coefficient_names = tuple(c.name for c in plan.coefficients)
        domain, clock = self._domain(plan, problem.grid.shape), self._clock()
        self.domain, self.clock = domain, clock
        self._of_shots = domain
        if problem.windows is not None:
            self._of_shots = self._domain(plan, problem.windows.shape)
        self.shape, self.steps, self.samples = domain.shape, clock.steps, clock.samples
        self.n_sources = len(plan.inputs) * (1 if survey.extended else survey.n_sources)
        self.n_receivers = len(plan.outputs) * survey.n_receivers * self.receivers.places
        self.solver = self._make_solver(domain, self._of_shots, clock)
        source = problem.source_samples
        what = "the wavelets of the survey (over the volume of a cell)"
        check_range([(peak_of(source), 0)], self.dtype, what)
        self.source = source.astype(self.dtype)
        self._calls: dict[Any, Call] = {}
        # The last bounds that passed and tell by themselves that the time step holds: a gradient
        # brings those of its forward run again.
        self._passed: bytes | None = None
        self._recordings: dict[Any, Recording] = {}
        self._linearized: HostModel | None = None
        self._lock = _forks.lock()

    def _make_solver(self, domain: Domain, of_shots: Domain, clock: Clock) -> Any:
        """What runs the scheme: an `AbstractSolver`."""
        return Solver(self.planned, domain, clock, self.problem.settings)

    def _planned(self) -> Planned:
        p = self.problem
        return schemes.program(
            p.equation,
            p.boundary,
            p.grid.ndim,
            self.dtype.name,
            tuple(port.name for port in self.sources.ports),
            tuple(port.name for port in self.receivers.ports),
            self.tangent,
            p.survey.extended,
            schemes.crowded_axes(p.equation, p.boundary, p.shape_of_shots),
        )

    def _domain(self, plan: Plan, inside: tuple[int, ...]) -> Domain:
        """The domain of so many points of the model, from its first one on."""
        p = self.problem
        grid, widths = p.grid, p.widths
        shape = tuple(n + low + high for n, (low, high) in zip(inside, widths, strict=True))
        strips = {
            (axis, side): min(width + plan.felt, n)
            for axis, n, (low, high) in zip(plan.axes, shape, widths, strict=True)
            for side, width in (("low", low), ("high", high))
        }
        conditions = Conditions(0.0, p.max_velocity, p.dominant_frequency, p.dt)
        return Domain(
            shape=shape,
            spacing=grid.spacing,
            origin=tuple(
                o - low * h
                for o, h, (low, _) in zip(grid.origin, grid.spacing, widths, strict=True)
            ),
            interpolation=p.interpolation,
            dtype=self.dtype.name,
            profiles=p.boundary.profiles(plan, shape, grid.spacing, conditions),
            strips=strips,
        )

    def _clock(self) -> Clock:
        p = self.problem
        late = p.late * (2 if self.tangent else 1)
        if self.one_step:
            return Clock(p.dt, 1, 1, late)
        return Clock(p.dt, p.steps, p.steps_per_sample, late)

    @property
    def shape_of_shot(self) -> tuple[int, ...]:
        """Points along each axis of what a shot is run on, boundary included."""
        return self._of_shots.shape

    def memory(self, exact: bool = False) -> Memory:
        """What one shot takes, with a history for gradients in all coefficients; `exact` for that
        of Jacobians, which hold every step."""
        recording = self._recording(self.coefficient_names, exact)
        assert recording is not None
        return self.solver.memory(self._of_shots, self.clock, recording)

    def linearized(self) -> HostModel:
        """The scheme together with its tangent: coefficients and their perturbations."""
        with self._lock:
            if self._linearized is None:
                if self.tangent:
                    raise NotImplementedError(THIRD)
                self._linearized = type(self)(
                    self.problem, self.dtype.name, tangent=True, one_step=self.one_step
                )
            return self._linearized

    def tangents(self) -> Mapping[str, str]:
        """The names that coefficients have in the tangent, by their own."""
        count = len(self.coefficient_names)
        return dict(
            zip(self.coefficient_names, self.linearized().coefficient_names[count:], strict=True)
        )

    # ---------------------------------------------------------------- what primitives call

    @property
    def state(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each field's part of the state between two steps, by name."""
        return self.solver.state

    def entering(self, coefficient: Any) -> Any:
        """See `primitives.Host`: kernels run where JAX has brought their operands."""
        return coefficient

    def forward(self, structure: Any, keep: Names, slopes: bool, linear: bool, final: bool) -> Call:
        """See `primitives.forward`."""

        def run(batch: Any, operands: Operands) -> Any:
            e = self._experiment(operands, linear)
            exact = linear or final or operands.initial is not None
            recording = self._recording(keep) if exact else self._sampled(keep, e, operands)
            return self.solver.forward(batch, e, recording, slopes, final)

        return self._call(("forward", keep, slopes, linear, final), structure, run)

    def born(self, structure: Any, asked: Asked, final: bool) -> Call:
        """See `primitives.born`."""

        def run(batch: Any, operands: Operands, changes: Changes) -> Any:
            e = self._experiment(operands, asked.linear)
            parts = self._born_and_state if final else self._born
            return reduce(partial(jax.tree.map, self.xp.add), parts(batch, e, changes))

        return self._call(("born", asked.linear, final), structure, run)

    def _born(self, batch: Any, e: Any, changes: Changes) -> Iterator[Any]:
        """The parts of Born traces. Born runs take changes of the samples of point sources
        along."""
        recording, fired = self._recording(changes.coefficients), changes.wavelet
        if recording is not None:
            along = fired if e.weights is None else None
            yield self.solver.born(batch, e, recording, changes.coefficients, along)
            fired = None if along is not None else fired
        for fed in self._fed(e, changes._replace(wavelet=fired)):
            yield self.solver.forward(batch, fed, None, slopes=False)[0]

    def _born_and_state(self, batch: Any, e: Any, changes: Changes) -> Iterator[Any]:
        """The same, and how the state after the last step changes: by the linearised scheme, whose
        state it is a part of."""
        if changes.coefficients:
            host, there = self.linearized(), self._with_tangents(e, changes.coefficients)
            both, state = host.solver.forward(batch, there, None, slopes=False, final=True)
            yield (
                self.xp.split(both, 2, axis=-2)[1],
                {n: state[self._prefix + n] for n in self.state},
            )
        for fed in self._fed(e, changes):
            yield self.solver.forward(batch, fed, None, slopes=False, final=True)

    def _fed(self, e: Any, changes: Changes) -> list[Any]:
        """Modelling is linear in the source and in the initial state: how they change is modelled
        like themselves."""
        xp, rest, fed = self.xp, self._at_rest(e), []
        if changes.wavelet is not None or changes.initial is not None:
            source = self._silence(e) if changes.wavelet is None else changes.wavelet
            fields = rest.initial if changes.initial is None else changes.initial
            fed.append(replace(e, source=source, initial=fields))
        if changes.weights is not None:
            fed.append(replace(rest, weights=changes.weights))
        if changes.at_sources is not None:
            rows = xp.moveaxis(changes.at_sources, -2, -3)  # (..., axis, port and source, step)
            copies = xp.concatenate([xp.zeros_like(rows[..., :1, :, :]), rows], axis=-3)
            source = copies.reshape(*rows.shape[:-3], -1, rows.shape[-1])
            fed.append(replace(rest, source=source, by_position=True))
        return fed

    def _at_rest(self, e: Any) -> Any:
        """The same, but for initial fields, which are zero."""
        if e.initial is None:
            return e
        return replace(e, initial={n: self.xp.zeros_like(v) for n, v in e.initial.items()})

    @staticmethod
    def _check_data(residual: Any) -> None:
        _check_finite("data", residual)

    def _with_tangents(self, e: Any, moved: Mapping[str, Any]) -> Any:
        """What the linearised scheme takes, given how coefficients change."""
        names = self.tangents()
        doubled = {
            names[n]: moved[n] if n in moved else self.xp.zeros_like(c)
            for n, c in e.coefficients.items()
        }
        return replace(e, coefficients={**e.coefficients, **doubled})

    @property
    def _prefix(self) -> str:
        """What stands before the names of tangents."""
        name, tangent = next(iter(self.tangents().items()))
        return tangent.removesuffix(name)

    def _silence(self, e: Any) -> Any:
        """Source samples of zero, of all shots."""
        return self.xp.zeros_like(e.source[..., :1, :, :])

    def adjoint(self, structure: Any, asked: Asked) -> Call:
        """See `primitives.adjoint`."""

        def run(
            batch: Any,
            operands: Operands,
            residual: Any,
            final: Mapping[str, Any] | None = None,
        ) -> Any:
            e = self._experiment(operands, asked.linear)
            if not asked.coefficients:
                self._check_data(residual)
            recording = self._recording(asked.coefficients)
            if not asked.exact:
                recording = self._sampled(asked.coefficients, e, operands)
            return self.solver.adjoint(batch, e, recording, residual, asked, final)

        return self._call(("adjoint", asked), structure, run)

    def curvature(self, structure: Any, asked: Asked) -> Call:
        """See `primitives.curvature`."""

        def run(batch: Any, operands: Operands, residual: Any, moves: Changes) -> Any:
            e = self._experiment(operands, asked.linear)
            return _added(list(self._curvature(batch, e, residual, moves, asked)))

        return self._call(("curvature", asked), structure, run)

    def _curvature(
        self, batch: Any, e: Any, residual: Any, moves: Changes, asked: Asked
    ) -> Iterator[Gradients]:
        """The parts of it, one for each input that moves. Where the medium does, these are the
        gradients of <residual, Born traces>, by the adjoint of the linearised scheme; as records
        are linear in the other inputs, each of those is fed as that which it moves is."""
        if moves.coefficients:
            both = self.xp.concatenate([self.xp.zeros_like(residual), residual], axis=-2)
            host, there = self.linearized(), self._with_tangents(e, moves.coefficients)
            recording = host._recording(asked.coefficients)
            found = host.solver.adjoint(batch, there, recording, both, asked)
            if found.initial is not None:
                found = found._replace(initial={n: found.initial[n] for n in self.state})
            yield found
        rest, recording = self._at_rest(e), self._recording(asked.coefficients)
        medium = Asked(asked.coefficients, linear=True)
        others: list[tuple[Any, Asked]] = []
        if moves.wavelet is not None:
            fed = replace(rest, source=moves.wavelet)
            others.append((fed, replace(medium, weights=asked.weights)))
        if moves.weights is not None:
            fed = replace(rest, weights=moves.weights)
            others.append((fed, replace(medium, wavelet=asked.wavelet)))
        if moves.initial is not None:
            fed = replace(e, source=self._silence(e), initial=moves.initial)
            others.append((fed, medium))
        for fed, of_it in others:
            if of_it.anything:
                yield self.solver.adjoint(batch, fed, recording, residual, of_it)

    def tape(self, operands: Operands, keep: Names, exact: bool) -> Any:
        """The shapes and types of the history that a forward run gives; None where it stays with
        the backend, as that of the C kernels does.

        Args:
            operands: of one element of a batch, or their shapes.
            keep: the coefficients whose gradients will be asked for.
            exact: every step of it will be.
        """
        return None

    def _recording(self, names: Any, exact: bool = True) -> Recording | None:
        """What to keep for the named coefficients, in the scheme's order."""
        chosen = tuple(n for n in self.coefficient_names if n in names)
        if not chosen:
            return None
        key = (chosen, exact)
        if key not in self._recordings:  # one object for all calls: it is compared by many
            way = self.problem.history
            made = Recording(chosen, way.every_step() if exact else way)
            return self._recordings.setdefault(key, made)
        return self._recordings[key]

    def _sampled(self, names: Names, e: Any, operands: Operands) -> Recording | None:
        """A history kept as the settings say, perhaps some steps only. The survey's wavelets were
        checked when it was accepted.

        Raises:
            ValueError: wavelets given with this call have frequencies too high for the steps that
                were asked for. If the steps were chosen, all are kept of such wavelets.
        """
        recording = self._recording(names, exact=False)
        if recording is None or operands.wavelet is None:
            return recording
        if self.problem.sampling_is_chosen:
            fits = holds(recording.sampling, e.source)
            return recording if fits else self._recording(names)
        check_sampling(recording.sampling, e.source, self.problem.dt)
        return recording

    def _call(self, key: Any, structure: Any, run: Callable[..., Any]) -> Call:
        """The one long-lived function of these parameters: JAX would compile anew for another."""
        key = (*key, structure)
        if key in self._calls:
            return self._calls[key]

        def call(*leaves: Any) -> tuple[np.ndarray, ...]:
            arrays = [np.asarray(x) for x in leaves]
            axes = arrays[0].ndim - len(self.shape)  # a coefficient comes first
            batch = tuple(max(a.shape[i] for a in arrays) for i in range(axes))
            if any(0 in a.shape[:axes] for a in arrays):
                raise ValueError("vmap over no model at all: the mapped axis is empty")
            parts = jax.tree.unflatten(structure, arrays)
            parts = (parts,) if isinstance(parts, Operands) else parts
            try:
                results = tuple(jax.tree.leaves(run(batch, *parts)))
            except OutOfMemory as error:
                raise self.solver.out_of_memory(error) from None
            _check_results(results)
            return results

        return self._calls.setdefault(key, call)

    # ---------------------------------------------------------------- checks

    def _experiment(self, operands: Operands, linear: bool = False) -> Any:
        """What arrived, checked; but for the frequencies of what is no wavelet.

        Raises:
            ValueError: says what is wrong, and the remedy.
        """
        problem, survey, bounds = self.problem, self.problem.survey, operands.bounds
        vouched = self._check_bounds(bounds)
        for name, values in operands.coefficients.items():
            _validate.finite_coefficient(name, values)
        if not vouched:
            self._check_steps(operands)
        shots = operands.shots
        checks.shot_range(shots, survey.n_shots)
        for name, values in (("the wavelet", operands.wavelet), ("weights=", operands.weights)):
            if values is not None:
                _check_finite(name, values)
        for name, values in (operands.initial or {}).items():
            _check_finite(f"the initial field {name}", values)
        source = operands.wavelet
        if source is not None and source.size and not linear:
            problem.check_wavelets(source, float(np.min(bounds[..., 0])))
        given = (
            self._positions("sources", operands.sources, 0, shots),
            self._positions("receivers", operands.receivers, 1, shots),
        )
        return Experiment(
            coefficients=operands.coefficients,
            source=self.source_of(shots) if source is None else source,
            setups=OfSurvey(self._of_shots, self.clock, problem, shots, given),
            weights=operands.weights,
            initial=operands.initial,
        )

    def _check_bounds(self, bounds: np.ndarray) -> bool:
        """Check the bounds of each model of the batch; do they tell that the time step holds?"""
        content = bounds.tobytes()
        if content == self._passed:
            return True
        problem, vouched = self.problem, True
        contrasts = len(problem.equation.contrasts or ())
        for row in bounds.reshape(-1, bounds.shape[-1]).tolist():
            ends = len(row) - contrasts
            problem.check_bounds(*row[:ends])
            vouched = vouched and problem.check_step.known_to_hold(row[1], row[ends:])
        if vouched:
            self._passed = content
        return vouched

    def _check_steps(self, operands: Operands) -> None:
        """Check that the time step holds for each model of the batch, by its coefficients."""
        bounds, coefficients = operands.bounds, operands.coefficients
        contrasts = len(self.problem.equation.contrasts or ())
        axes = [c.shape[: c.ndim - len(self.shape)] for c in coefficients.values()]
        batch = np.broadcast_shapes(bounds.shape[:-1], *axes)
        rows = np.broadcast_to(bounds, (*batch, bounds.shape[-1]))
        models = {n: np.broadcast_to(c, (*batch, *self.shape)) for n, c in coefficients.items()}
        for position in np.ndindex(*batch):
            _, fastest, *others = map(float, rows[position])
            values = {name: c[position] for name, c in models.items()}
            self.problem.check_step(values, fastest, others[len(others) - contrasts :])

    def source_of(self, shots: Any, xp: Any = np) -> Any:
        """The survey's source samples of some shots, (*batch, shot, port and source, step); of one
        shot, if all fire alike."""
        source = xp.asarray(self.source)
        if len(source) == 1:
            return source.reshape(*(1,) * (shots.ndim - 1), *source.shape)
        return source[shots]

    def _positions(
        self, name: str, given: Positions | None, end: int, shots: np.ndarray
    ) -> np.ndarray | None:
        """Positions that came with the call, metres, (*batch, shot, point, axis); None if none
        did."""
        if given is None:
            return None
        positions = from_pairs(given.pairs)
        counts = self.problem.survey.points[end].counts[shots]
        live = np.arange(positions.shape[-2]) < counts[..., None]
        live = np.broadcast_to(live, np.broadcast_shapes(live.shape, positions.shape[:-1]))
        there = np.broadcast_to(positions, (*live.shape, positions.shape[-1]))[live]
        if given.single:
            check_resolution(name, there, np.float32)
        self.problem.check_positions(name, there)
        if name == "receivers" and self.receivers.reach:
            every = np.broadcast_to(positions, (*live.shape, positions.shape[-1]))
            places = self.receivers.placed(every, np.broadcast_to(shots, live.shape[:-1]))
            self.problem.check_places(places[np.repeat(live, self.receivers.places, axis=-1)])
        if self.problem.windows is not None:
            self._check_windows(name, positions, live, shots)
        return positions

    def _check_windows(
        self, name: str, positions: np.ndarray, live: np.ndarray, shots: np.ndarray
    ) -> None:
        """Check that positions given with a call lie in the windows of their shots.

        Raises:
            ValueError: one does not; says how far points may move.
        """
        windows = self.problem.windows
        assert windows is not None
        low, high = (x[shots][..., None, :] for x in (windows.low, windows.high))
        outside = np.any((positions < low) | (positions > high), axis=-1) & live
        if np.any(outside):
            first = np.broadcast_to(positions, (*live.shape, positions.shape[-1]))[outside][0]
            raise ValueError(
                f"{name}: {np.count_nonzero(outside)} of {live.size} lie too far from the survey's "
                f"for aperture={self.problem.aperture:g} m, the first at "
                f"{tuple(first.tolist())} m: points given with a call may leave the span of their "
                "shot's sources and receivers by half the aperture. Take a wider aperture, or "
                "F.with_survey"
            )


def _added(parts: list[Gradients]) -> Gradients:
    """The sum of gradients, each of which may be missing in some of the parts."""

    def total(found: list[Any]) -> Any:
        there = [part for part in found if part is not None]
        return jax.tree.map(lambda *arrays: sum(arrays), *there) if there else None

    missing = [p._replace(coefficients=p.coefficients or None) for p in parts]
    sums = Gradients(*(total(list(found)) for found in zip(*missing, strict=True)))
    return sums._replace(coefficients=sums.coefficients or {})


def _check_finite(name: str, values: np.ndarray) -> None:
    if not _validate.all_finite(values):
        raise ValueError(f"{name} has values that are not finite")


def _check_results(results: tuple[np.ndarray, ...]) -> None:
    for array in results:
        if not _validate.all_finite(array):
            raise FloatingPointError(
                "the wavefield grew beyond all bounds: the time step is unstable for this "
                "model, or the traces or perturbations passed in are not finite"
            )


class Hosts:
    """The host models of a problem, and what is made of each, once.

    Args:
        problem: what is computed.
        forward_mode: propagators of these are differentiated in forward mode, too.
        made: what has been made so far. Hosts are equal if they share it, and the mode.
    """

    def __init__(
        self, problem: Problem, forward_mode: bool = False, made: Once | None = None
    ) -> None:
        self.problem = problem
        self.forward_mode = forward_mode
        self._made = Once() if made is None else made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hosts):
            return NotImplemented
        return self._made is other._made and self.forward_mode == other.forward_mode

    def __hash__(self) -> int:
        return hash((id(self._made), self.forward_mode))

    def in_forward_mode(self) -> Hosts:
        """The same host models, for forward mode."""
        return Hosts(self.problem, True, self._made)

    def of(self, dtype: Any) -> HostModel:
        """The host model of a floating-point type."""
        name = np.dtype(dtype).name
        return self.once(name, lambda: self._kind(self.problem, name))

    def of_one_step(self, dtype: Any) -> HostModel:
        """Likewise, of a single step."""
        name = np.dtype(dtype).name
        return self.once((name, "one step"), lambda: self._kind(self.problem, name, one_step=True))

    @property
    def _kind(self) -> type[HostModel]:
        """Of the backend that the settings name."""
        if self.problem.settings.runs_on(jax.default_backend()) == "devito":
            return HostModel
        from .traced import TracedModel  # which brings symbols

        return TracedModel

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is made under a key, now or before. Copies of these, and what is read from a pickle,
        make their own: kernels and locks cannot be copied, nor need they be."""
        return self._made.of(key, make)
