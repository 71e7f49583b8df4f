"""A host model whose runs are JAX functions: they are compiled into the program that calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive

from ..acquisition.interpolation import lies_on_grid
from ..backends.base import Asked, Memory
from ..backends.clock import Clock
from ..backends.domain import Domain
from ..backends.xla.form import Form, form_for
from ..backends.xla.solver import Situation
from ..backends.xla.solver import Solver as XlaSolver
from ..backends.xla.windows import Places
from . import devices
from .host import HostModel, Names
from .loosely import LooselyHeld, strong
from .operands import Changes, Operands, Positions
from .tables import Table
from .transport import Traced, register_host_primitive

checked_p = Primitive("ondax_checked")
checked_p.multiple_results = True
ended_p = Primitive("ondax_ended")
ended_p.multiple_results = True


class TracedModel(HostModel):
    """A problem in one floating-point type, run by XLA. See `HostModel`."""

    solver: XlaSolver

    def _make_solver(self, domain: Domain, of_shots: Domain, clock: Clock) -> XlaSolver:
        return XlaSolver(self.planned, domain, of_shots, clock, self.problem.settings)

    def memory(self, exact: bool = False) -> Memory:
        """See `HostModel.memory`."""
        recording = self._recording(self.coefficient_names, exact)
        assert recording is not None
        keep, form = self.solver.keep(recording), form_for((jax.default_backend(),))
        assert keep is not None
        fields = self.solver.state_bytes(form) + self._coefficient_bytes()
        return Memory(fields, self.solver.tape_bytes(keep, form))

    def _coefficient_bytes(self) -> int:
        points = self.solver.of_domain.size
        return len(self.coefficient_names) * points * self.dtype.itemsize

    # ---------------------------------------------------------------- what primitives call

    def entering(self, coefficient: Any) -> Any:
        """See `primitives.Host`."""
        return devices.entering(self.solver.of_domain, coefficient)

    def forward(
        self, structure: Any, keep: Names, slopes: bool, linear: bool, final: bool
    ) -> Traced:
        """See `primitives.forward`."""

        def run(form: Form, operands: Operands) -> Any:
            rows, moved, last, _ = self.solver.forward(
                self._situation(operands), None, form, slopes, final
            )
            found = [rows] if moved is None else [rows, moved]
            return [*found, last] if final else found

        key = ("forward", keep, slopes, linear, final)
        return self._traced(key, structure, run, devices.SHOT, linear)

    def born(self, structure: Any) -> Traced:
        """See `primitives.born`."""

        def run(form: Form, operands: Operands, changes: Changes) -> Any:
            x = self._situation(operands)
            recording = self._recording(changes.coefficients)
            if recording is None:  # modelling is linear in the source
                still = {n: jnp.zeros_like(v) for n, v in (x.initial or {}).items()}
                linear = self._with_source(x, changes.wavelet, still or None)
                return self.solver.forward(linear, None, form)[0]
            return self.solver.born(x, recording, form, changes.coefficients, changes.wavelet)

        return self._traced(("born",), structure, run, devices.SHOT)

    def adjoint(self, structure: Any, asked: Asked) -> Traced:
        """See `primitives.adjoint`."""

        def run(
            form: Form, operands: Operands, residual: Any, final: Mapping[str, Any] | None = None
        ) -> Any:
            recording = self._recording(asked.coefficients, exact=asked.exact)
            if not asked.exact and operands.wavelet is not None and self.problem.sampling_is_chosen:
                recording = self._recording(asked.coefficients)  # its frequencies are not known
            x = self._situation(operands)
            return self.solver.adjoint(x, recording, form, residual, asked, final)

        return self._traced(("adjoint", asked), structure, run, devices.GRADIENTS, asked.linear)

    def curvature(self, structure: Any, asked: Asked) -> Traced:
        """See `primitives.curvature`."""

        def run(form: Form, operands: Operands, residual: Any, moves: Mapping[str, Any]) -> Any:
            names, both = self.tangents(), jnp.zeros_like(residual)
            moved = {
                names[n]: moves[n] if n in moves else jnp.zeros_like(c)
                for n, c in operands.coefficients.items()
            }
            operands = operands._replace(coefficients={**operands.coefficients, **moved})
            rows = jnp.concatenate([both, residual], axis=-2)
            recording = self._recording(asked.coefficients)
            linearized = self.linearized()
            assert isinstance(linearized, TracedModel)
            x = linearized._situation(operands)
            return linearized.solver.adjoint(x, recording, form, rows, asked)

        return self._traced(("curvature", asked), structure, run, devices.GRADIENTS, moves=True)

    def _traced(
        self,
        key: Any,
        structure: Any,
        run: Callable[..., Any],
        kinds: Any,
        linear: bool = False,
        moves: bool = False,
    ) -> Traced:
        """The function of a primitive's leaves.

        Args:
            key: of the primitive's parameters.
            structure: of the leaves.
            run: of a form and what is made of the leaves.
            kinds: of its results; see `devices`.
            linear: the source samples are no wavelets.
            moves: the last of the leaves are moves of coefficients, not of the final state.
        """
        key = (*key, structure)
        if key in self._traced_calls:
            return self._traced_calls[key]

        def function(platforms: tuple[str, ...], eager: bool, *leaves: Any) -> list[Any]:
            form = form_for(platforms)

            def one(*leaves: Any) -> list[Any]:
                parts = jax.tree.unflatten(structure, leaves)
                parts = (parts,) if isinstance(parts, Operands) else parts
                of_domain = self.solver.of_domain
                call = partial(run, form)
                found = devices.over_devices(of_domain, call, parts, _kinds_of(parts, moves), kinds)
                return jax.tree.leaves(found)

            results = _batched(one, leaves[0].ndim - len(self.shape))(*leaves)
            return self._examined(results, structure, leaves, linear, eager)

        return self._traced_calls.setdefault(key, Traced(function))

    @cached_property
    def _traced_calls(self) -> dict[Any, Traced]:
        return {}

    # ---------------------------------------------------------------- checks

    def _examined(
        self, results: list[Any], structure: Any, leaves: Any, linear: bool, eager: bool
    ) -> list[Any]:
        """Results, all NaN if they or what they were made of cannot be right; with an exception, if
        the settings ask for checks."""
        sane = jnp.stack([jnp.all(jnp.isfinite(r)) for r in results]).all()
        if self.problem.settings.checks:
            host: Any = LooselyHeld(self) if eager else self
            (passed,) = checked_p.bind(*leaves, host=host, structure=structure, linear=linear)
            (ended,) = ended_p.bind(sane, passed)
            sane = sane & passed & ended
        else:
            operands = jax.tree.unflatten(structure, leaves)
            operands = operands if isinstance(operands, Operands) else operands[0]
            sane = sane & self.problem.bounds_hold(operands.bounds)
        return [jnp.where(sane, r, jnp.nan) for r in results]

    def examine(self, structure: Any, linear: bool) -> Callable[..., tuple[np.ndarray]]:
        """The function that checks what arrived, in NumPy."""

        def check(*leaves: Any) -> tuple[np.ndarray]:
            arrays = [np.asarray(x) for x in leaves]
            axes = arrays[0].ndim - len(self.shape)
            if any(0 in a.shape[:axes] for a in arrays):
                raise ValueError("vmap over no model at all: the mapped axis is empty")
            parts = jax.tree.unflatten(structure, arrays)
            self._experiment(parts if isinstance(parts, Operands) else parts[0], linear)
            return (np.asarray(True),)

        key = ("examine", structure, linear)
        return self._calls.setdefault(key, check)

    # ---------------------------------------------------------------- shots

    def _situation(self, operands: Operands) -> Situation:
        """What arrived, as runs take it; of one element of a batch."""
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
        )

    @staticmethod
    def _with_source(x: Situation, source: Any, initial: Any) -> Situation:
        return replace(x, source=source, initial=initial)

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
            return self._paired(moved)

        return Table(rows, shots, (len(origin), 2), self.dtype)

    def _paired(self, values: np.ndarray) -> np.ndarray:
        """Numbers in double precision as pairs that sum to them."""
        high = values.astype(self.dtype)
        return np.stack([high, (values - high).astype(self.dtype)], axis=-1)

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
            return self._paired(found)

        counts = [p.most * n for p, n in zip(survey.points, (1, self.receivers.places))]
        return [
            Table(lambda n, e=e: rows(e, n), survey.n_shots, (count, axes, 2), self.dtype)
            for e, count in enumerate(counts)
        ]

    @cached_property
    def _on_grid(self) -> list[tuple[tuple[bool, bool], ...]]:
        """Whether all of the survey's positions lie on nodes, and half a cell beyond, by axis."""
        survey, found = self.problem.survey, []
        origin, spacing = np.array(self.domain.origin), np.array(self.domain.spacing)
        for end, points in enumerate(survey.points):
            if len(points.rows) == 0 or (end == 1 and self.receivers.places > 1):
                found.append(((False, False),) * len(self.shape))
                continue
            cells = (points.rows - origin) / spacing
            largest = np.abs(origin) + np.max(np.abs(cells), axis=0, initial=1.0) * spacing
            rounding = np.finfo(np.float64).eps * largest / spacing
            found.append(
                tuple(
                    (lies_on_grid(cells[:, i], r), lies_on_grid(cells[:, i] - 0.5, r))
                    for i, r in enumerate(rounding)
                )
            )
        return found


def _kinds_of(parts: tuple[Any, ...], moves: bool) -> tuple[Any, ...]:
    """The kinds of what a primitive takes: operands, and what it is linear in."""
    found: list[Any] = [devices.OPERANDS]
    for n, part in enumerate(parts[1:]):
        if isinstance(part, Changes):
            found.append(devices.CHANGES)
        else:
            found.append(devices.GRID if moves and n == 1 else devices.LINEAR)
    return tuple(found)


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
def _checked_type(*leaves: Any, host: Any, structure: Any, linear: bool) -> Any:
    return [jax.core.ShapedArray((), np.dtype(bool))]


register_host_primitive(
    checked_p, lambda host, structure, linear: strong(host).examine(structure, linear)
)


@ended_p.def_abstract_eval
def _ended_type(sane: Any, passed: Any) -> Any:
    return [jax.core.ShapedArray((), np.dtype(bool))]


def _raise_if_not(sane: Any, passed: Any) -> tuple[np.ndarray]:
    if not bool(sane):
        raise FloatingPointError(
            "the wavefield grew beyond all bounds: the time step is unstable for this "
            "model, or the traces or perturbations passed in are not finite"
        )
    return (np.asarray(True),)


register_host_primitive(ended_p, lambda: _raise_if_not)
