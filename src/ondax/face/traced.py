"""A host model whose runs are JAX functions: they are compiled into the program that calls them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive

from ..acquisition.interpolation import in_cells, lies_on_grid
from ..backends.base import Memory
from ..backends.clock import Clock
from ..backends.domain import Domain
from ..backends.xla.form import form_for
from ..backends.xla.shots import Situation
from ..backends.xla.solver import Solver as XlaSolver
from ..backends.xla.tape import Tape
from ..backends.xla.windows import Places
from ..histories.base import Recording
from ..histories.named import ON_DISK, WAYS
from . import devices
from .host import HostModel, Names
from .loosely import LooselyHeld, strong
from .operands import Operands, Positions
from .positions import paired
from .problem import Problem
from .tables import Table
from .transport import Traced, register_host_primitive

checked_p = Primitive("ondax_checked")
checked_p.multiple_results = True
ended_p = Primitive("ondax_ended")
ended_p.multiple_results = True


class TracedModel(HostModel):
    """A problem in one floating-point type, run by XLA. See `HostModel`."""

    solver: XlaSolver

    xp = jnp

    def __init__(self, problem: Problem, *args: Any, **kwargs: Any) -> None:
        way = problem.history
        if problem.settings.history in ON_DISK:
            others = ", ".join(repr(name) for name in WAYS if name not in ON_DISK)
            raise ValueError(
                f"history={problem.settings.history!r}: XLA holds histories as arrays of the "
                f'program and writes no files; choose one of {others}, or backend="devito"'
            )
        if type(way) not in WAYS.values():
            raise ValueError(
                f"history={way!r}: ways of your own run with the C kernels only; choose one of "
                f'{", ".join(map(repr, WAYS))}, or backend="devito"'
            )
        super().__init__(problem, *args, **kwargs)
        self.gives_tapes = problem.settings.mesh is None

    def _make_solver(self, domain: Domain, of_shots: Domain, clock: Clock) -> XlaSolver:
        return XlaSolver(self.planned, domain, of_shots, clock, self.problem.settings)

    def memory(self, exact: bool = False) -> Memory:
        """See `HostModel.memory`."""
        recording = self._recording(self.coefficient_names, exact)
        assert recording is not None
        keep, form = self.solver.room.keep(recording), form_for((jax.default_backend(),))
        assert keep is not None
        points = self.solver.of_domain.size
        coefficients = len(self.coefficient_names) * points * self.dtype.itemsize
        return Memory(
            self.solver.room.state_bytes(form) + coefficients,
            self.solver.room.tape_bytes(keep, form),
        )

    def entering(self, coefficient: Any) -> Any:
        """See `primitives.Host`."""
        return devices.entering(self.solver.of_domain, coefficient)

    def tape(self, operands: Operands, keep: Names, exact: bool) -> Any:
        """See `HostModel.tape`."""
        recording = self._recording(keep) if exact else self._sampled(keep, None, operands)
        shots = operands.shots.shape[-1]
        if recording is None or not self.solver.room.holds(shots, recording):
            return None
        return self.solver.room.tape_shapes(shots, recording, started=operands.initial is not None)

    def _sampled(self, names: Names, e: Any, operands: Operands) -> Recording | None:
        """See `HostModel._sampled`. Of wavelets given with a call, the frequencies are not
        known: where the steps were chosen, all are kept."""
        given = operands.wavelet is not None and self.problem.sampling_is_chosen
        return self._recording(names, exact=given)

    @staticmethod
    def _check_data(residual: Any) -> None:
        """Results tell."""

    # ---------------------------------------------------------------- calls

    def _call(self, key: Any, structure: Any, run: Callable[..., Any]) -> Any:
        """The function of a primitive's leaves that is compiled into programs."""
        key = ("traced", *key, structure)
        if key in self._calls:
            return self._calls[key]
        linear, sampled, kinds = _is_linear(key), _sampled_for(key), devices.RESULTS[key[1]]

        def function(platforms: tuple[str, ...], eager: bool, *leaves: Any) -> list[Any]:
            form = form_for(platforms)

            histories: list[bool] = []

            def one(*leaves: Any) -> list[Any]:
                parts = jax.tree.unflatten(structure, leaves)
                parts = (parts,) if isinstance(parts, Operands) else parts
                parts_of = self.solver.of_domain
                found = devices.over_devices(parts_of, partial(run, form), parts, kinds)
                found = jax.tree.leaves(found, is_leaf=_is_history)
                histories[:] = [_is_history(x) for x in found for _ in jax.tree.leaves(x)]
                return jax.tree.leaves(found)

            results = _batched(one, leaves[0].ndim - len(self.shape))(*leaves)
            checks = linear, sampled, eager
            return self._examined(results, histories, structure, leaves, *checks)

        return self._calls.setdefault(key, Traced(function))

    # ---------------------------------------------------------------- checks

    def _examined(
        self,
        results: list[Any],
        histories: list[bool],
        structure: Any,
        leaves: Any,
        linear: bool,
        sampled: Names,
        eager: bool,
    ) -> list[Any]:
        """Results, all NaN if they or what they were made of cannot be right; with an exception, if
        the settings ask for checks. Histories stay as they are: looking at them takes twice the
        memory and as long as the runs, and what is wrong with one shows in what is made of it."""
        numbers = [r for r, held in zip(results, histories, strict=True) if not held]
        sane = jnp.stack([jnp.all(jnp.isfinite(r)) for r in numbers]).all()
        operands = jax.tree.unflatten(structure, leaves)
        operands = operands if isinstance(operands, Operands) else operands[0]
        if self.problem.settings.checks:
            given, of_given = jax.tree.flatten(operands._replace(tape=None))
            host: Any = LooselyHeld(self) if eager else self
            how = {"structure": of_given, "linear": linear, "sampled": sampled}
            (passed,) = checked_p.bind(*given, host=host, **how)
            (ended,) = ended_p.bind(sane, passed)
            sane = sane & passed & ended
        else:
            sane = sane & self._unasked(operands)
        return [
            r if held else jnp.where(sane, r, jnp.nan)
            for r, held in zip(results, histories, strict=True)
        ]

    def _unasked(self, operands: Operands) -> Any:
        """Can what arrived be right, as far as a program can tell that does not ask the host?"""
        shots = operands.shots
        good = self.problem.bounds_hold(operands.bounds)
        good = good & jnp.all((shots >= 0) & (shots < self.problem.survey.n_shots))
        for end, given in enumerate((operands.sources, operands.receivers)):
            if given is not None:
                inside = self.problem.inside(given.pairs.sum(axis=-1))
                good = good & jnp.all(inside | ~self._live[end].of(shots))
        return good

    def examine(
        self, structure: Any, linear: bool, sampled: Names
    ) -> Callable[..., tuple[np.ndarray]]:
        """The function that checks what arrived, in NumPy; `sampled` names the coefficients whose
        gradients are made from the steps that the settings keep."""

        def check(*leaves: Any) -> tuple[np.ndarray]:
            arrays = [np.asarray(x) for x in leaves]
            axes = arrays[0].ndim - len(self.shape)
            if any(0 in a.shape[:axes] for a in arrays):
                raise ValueError("vmap over no model at all: the mapped axis is empty")
            operands = jax.tree.unflatten(structure, arrays)
            e = super(TracedModel, self)._experiment(operands, linear)
            if operands.initial is None:
                super(TracedModel, self)._sampled(sampled, e, operands)
            return (np.asarray(True),)

        made: Any = self._calls.setdefault(("examine", structure, linear, sampled), check)
        return made

    # ---------------------------------------------------------------- shots

    def _experiment(self, operands: Operands, linear: bool = False) -> Any:
        """What arrived, as runs take it, unchecked; of one element of a batch."""
        shots, survey = operands.shots, self.problem.survey
        source = operands.wavelet
        if source is None:
            source = jnp.asarray(self.source) if len(self.source) == 1 else self._samples.of(shots)
        sources = None if survey.extended else self._places(0, operands.sources, shots)
        windows = self.problem.windows
        return Situation(
            coefficients=operands.coefficients,
            source=source,
            sources=sources,
            receivers=self._places(1, operands.receivers, shots),
            starts=None if windows is None else self._starts.of(shots),
            weights=operands.weights,
            initial=operands.initial,
            tape=operands.tape,
        )

    @cached_property
    def _samples(self) -> Table:
        return Table(
            lambda n: self.source[n], len(self.source), self.source.shape[1:], self.source.dtype
        )

    @cached_property
    def _starts(self) -> Table:
        starts = self.problem.windows.starts.astype(np.int32)  # type: ignore[union-attr]
        return Table(lambda n: starts[n], len(starts), starts.shape[1:], np.int32)

    @cached_property
    def _origins(self) -> Table:
        """Coordinates of the first node of each shot's domain, in pairs."""
        windows, shots = self.problem.windows, self.problem.survey.n_shots
        origin = np.array(self.domain.origin)

        def rows(numbers: np.ndarray) -> np.ndarray:
            moved = np.broadcast_to(origin, (len(numbers), len(origin)))
            if windows is not None:
                moved = origin + windows.starts[numbers] * np.array(self.domain.spacing)
            return paired(moved, self.dtype)

        return Table(rows, shots, (len(origin), 2), self.dtype)

    def _places(self, end: int, given: Positions | None, shots: Any) -> Places:
        """Where the points at one end of the rays are; of receivers, all places."""
        points = self.problem.survey.points[end]
        places = self.receivers.places if end == 1 else 1
        live = jnp.repeat(self._live[end].of(shots), places, axis=-1)
        if given is None:
            positions = self._positions_of[end].of(shots)
            on_grid = self._on_grid[end]
        else:
            positions = given.pairs
            if places > 1:
                positions = self.receivers.placed_pairs(positions, shots, jnp)
            on_grid = ((False, False),) * len(self.shape)
        assert positions.shape[1] == points.most * places
        return Places(positions, live, self._origins.of(shots), on_grid)

    @cached_property
    def _live(self) -> list[Table]:
        survey = self.problem.survey
        return [
            Table(lambda n, p=p: p.live(n), survey.n_shots, (p.most,), bool) for p in survey.points
        ]

    @cached_property
    def _positions_of(self) -> list[Table]:
        """The survey's positions, in pairs; of receivers, all places."""
        survey, axes = self.problem.survey, len(self.shape)

        def rows(end: int, numbers: np.ndarray) -> np.ndarray:
            found = survey.points[end].of_shots(numbers).padded()
            missing = survey.points[end].most - found.shape[1]
            found = np.pad(found, ((0, 0), (0, missing), (0, 0)))
            if end == 1:
                found = self.receivers.placed(found, numbers)
            return paired(found, self.dtype)

        counts = [p.most * n for p, n in zip(survey.points, (1, self.receivers.places))]
        return [
            Table(lambda n, e=e: rows(e, n), survey.n_shots, (count, axes, 2), self.dtype)
            for e, count in enumerate(counts)
        ]

    @cached_property
    def _on_grid(self) -> list[tuple[tuple[bool, bool], ...]]:
        """Whether all of the survey's positions lie on nodes, and half a cell beyond, by axis."""
        survey, found = self.problem.survey, []
        where = np.array(self.domain.origin), np.array(self.domain.spacing)
        for end, points in enumerate(survey.points):
            if len(points.rows) == 0 or (end == 1 and self.receivers.places > 1):
                found.append(((False, False),) * len(self.shape))
                continue
            cells, rounding = in_cells(points.rows, *where)
            found.append(
                tuple(
                    (lies_on_grid(cells[:, i], r), lies_on_grid(cells[:, i] - 0.5, r))
                    for i, r in enumerate(rounding)
                )
            )
        return found


def _is_linear(key: Any) -> bool:
    """Are the source samples of a call no wavelets, but a cotangent? From its parameters."""
    _, name, *parameters, _ = key
    if name == "forward":
        return parameters[2]
    return parameters[0] if name == "born" else parameters[0].linear


def _sampled_for(key: Any) -> Names:
    """The coefficients whose gradients a call makes from the steps that the settings keep, if they
    keep some only. From its parameters."""
    _, name, *parameters, _ = key
    if name == "forward":
        keep, _, linear, final = parameters
        return () if linear or final else keep
    asked = parameters[0]
    return () if name != "adjoint" or asked.exact else asked.coefficients


def _is_history(x: Any) -> bool:
    return isinstance(x, Tape)


def _batched(call: Callable[..., list[Any]], axes: int) -> Callable[..., list[Any]]:
    """Over so many leading axes: of length 1 where an operand is shared."""

    def function(*operands: Any) -> list[Any]:
        inner = _batched(call, axes - 1)
        size = max(x.shape[0] for x in operands)
        if size == 1:
            return [r[None] for r in inner(*(x[0] for x in operands))]
        shared = [x.shape[0] == 1 for x in operands]
        arguments = [x[0] if s else x for x, s in zip(operands, shared, strict=True)]
        return jax.vmap(inner, in_axes=[None if s else 0 for s in shared])(*arguments)

    return function if axes else call


@checked_p.def_abstract_eval
def _checked_type(*leaves: Any, host: Any, structure: Any, linear: bool, sampled: Names) -> Any:
    return [ShapedArray((), np.dtype(bool))]


register_host_primitive(
    checked_p,
    lambda host, structure, linear, sampled: strong(host).examine(structure, linear, sampled),
)


@ended_p.def_abstract_eval
def _ended_type(sane: Any, passed: Any) -> Any:
    return [ShapedArray((), np.dtype(bool))]


def _raise_if_not(sane: Any, passed: Any) -> tuple[np.ndarray]:
    if not bool(sane):
        raise FloatingPointError(
            "the wavefield grew beyond all bounds: the time step is unstable for this "
            "model, or the traces or perturbations passed in are not finite; or results are too "
            "small or too large for their type: change the units of source and data, multiply the "
            "misfit by a constant, or use float64"
        )
    return (np.asarray(True),)


register_host_primitive(ended_p, lambda: _raise_if_not)
