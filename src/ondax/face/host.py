"""The host side of a propagator: static sizes, checks of what arrives, and calls to the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .. import _validate
from .._resolution import check_resolution
from ..acquisition.components import Components
from ..backends.devito.programs import Programs, Wanted
from ..backends.devito.solver import Experiment, Solver
from ..backends.discretisation import Discretisation
from ..histories.buffers import OutOfMemory
from ..histories.sampled import check_sampling
from ..stability.steps import StepCheck
from . import checks
from .positions import from_pairs
from .primitives import Operands

HostFunction = Callable[..., tuple[np.ndarray, ...]]


class HostModel:
    """One scheme, grid and survey in one floating-point type. Compared by identity; safe to share
    between threads.

    Args:
        programs: the compiled scheme.
        grid: the discretisation.
        solver: the engine.
        source: default source samples at internal steps, (shot, source, step).
        source_positions: default positions, metres, (shot, source, axis).
        receiver_positions: likewise, (shot, receiver, axis).
        ports: what sources feed and what receivers read.
        check: checks the bounds of a model (slowest and fastest speed, least values of positive
            parameters).
        check_positions: checks positions given at run time; raises ValueError.
        check_step: checks that the time step holds for a model.
        check_wavelets: warns of wavelets given at run time; of them and the slowest speed.
        store_every: sampling of the history.
        linearize: makes the host model of the scheme together with its tangent.
    """

    def __init__(
        self,
        programs: Programs,
        grid: Discretisation,
        solver: Solver,
        source: np.ndarray,
        source_positions: np.ndarray,
        receiver_positions: np.ndarray,
        ports: tuple[Components, Components],
        check: Callable[..., None],
        check_positions: Callable[[str, np.ndarray], None],
        check_step: StepCheck,
        check_wavelets: Callable[[np.ndarray, float], None] | None,
        store_every: int,
        linearize: Callable[[], HostModel],
    ) -> None:
        self.programs = programs
        self.grid = grid
        self.solver = solver
        self.source = source
        self.source_positions = source_positions
        self.receiver_positions = receiver_positions
        self.ports = ports
        self.check = check
        self.check_positions = check_positions
        self.check_step = check_step
        self.check_wavelets = check_wavelets
        self.contrasts = len(check_step.equation.contrasts or ())
        self.store_every = store_every
        self._linearize = linearize
        self.coefficient_names = tuple(c.name for c in programs.scheme.system.coefficients)
        self.shape = grid.shape
        self.steps = grid.steps
        self.samples = grid.samples
        self.dtype = np.dtype(grid.dtype)
        per_port = 1 if programs.scheme.extended else source_positions.shape[1]
        self.n_sources = len(programs.scheme.system.inputs) * per_port
        self.n_receivers = len(programs.scheme.system.outputs) * receiver_positions.shape[1]
        self._calls: dict[Any, HostFunction] = {}

    @property
    def linearized(self) -> HostModel:
        """The scheme together with its tangent: coefficients and their perturbations, traces and
        Born traces."""
        return self._linearize()

    def forward(self, given: Operands, keep: tuple[int, ...], slopes: bool) -> HostFunction:
        def run(
            batch: tuple[int, ...], e: Experiment, rest: list[np.ndarray]
        ) -> tuple[np.ndarray, ...]:
            return self.solver.forward(batch, e, self._sampled(keep, e, given), slopes)

        return self._call(("forward", given, keep, slopes), given, run)

    def born(self, given: Operands, wanted: tuple[int, ...], source: bool) -> HostFunction:
        def run(
            batch: tuple[int, ...], e: Experiment, rest: list[np.ndarray]
        ) -> tuple[np.ndarray, ...]:
            perturbed = self._wanted(wanted)
            if perturbed is None:  # modelling is linear in the source
                return self.solver.forward(batch, replace(e, source=rest[-1]), None, False)
            return (
                self.solver.born(
                    batch, e, perturbed, rest[: len(wanted)], rest[-1] if source else None
                ),
            )

        return self._call(("born", given, wanted, source), given, run)

    def adjoint(
        self,
        given: Operands,
        wanted: tuple[int, ...],
        weights: bool,
        source: bool,
        slopes: bool,
        last_use: bool,
    ) -> HostFunction:
        asked = {"weights": weights, "source": source, "slopes": slopes, "last_use": last_use}

        def run(
            batch: tuple[int, ...], e: Experiment, rest: list[np.ndarray]
        ) -> tuple[np.ndarray, ...]:
            # The transpose of Born modelling is exact; a gradient, whose history is used once, may
            # sample it in time.
            chosen = self._sampled(wanted, e, given) if last_use else self._wanted(wanted)
            return self.solver.adjoint(batch, e, chosen, rest[0], **asked)

        return self._call(("adjoint", given, wanted, *asked.values()), given, run)

    def curvature(
        self, given: Operands, wanted: tuple[int, ...], moved: tuple[int, ...]
    ) -> HostFunction:
        """How the gradients of <residual, traces> change with the coefficients that move: the
        gradients of <residual, Born traces of the moves>, by the adjoint of the linearised
        scheme."""

        def run(
            batch: tuple[int, ...], e: Experiment, rest: list[np.ndarray]
        ) -> tuple[np.ndarray, ...]:
            residual, *moves = rest
            by_index = dict(zip(moved, moves, strict=True))
            perturbations = tuple(
                by_index.get(i, np.zeros_like(c)) for i, c in enumerate(e.coefficients)
            )
            e = replace(e, coefficients=(*e.coefficients, *perturbations))
            residual = np.concatenate([np.zeros_like(residual), residual], axis=-2)
            chosen = self._wanted(wanted)
            return self.linearized.solver.adjoint(batch, e, chosen, residual, last_use=False)

        return self._call(("curvature", given, wanted, moved), given, run)

    def _wanted(self, indices: tuple[int, ...], every: int = 1) -> Wanted | None:
        if not indices:
            return None
        return Wanted(tuple(self.coefficient_names[i] for i in indices), every)

    def _sampled(self, indices: tuple[int, ...], e: Experiment, given: Operands) -> Wanted | None:
        """A history sampled in time as the settings say. The survey's wavelets were checked when it
        was accepted.

        Raises:
            ValueError: wavelets given with this call have frequencies too high for that.
        """
        if indices and given.wavelet:
            check_sampling(self.store_every, e.source, self.grid.dt)
        return self._wanted(indices, self.store_every)

    def _call(
        self, key: Any, given: Operands, run: Callable[..., tuple[np.ndarray, ...]]
    ) -> HostFunction:
        """The one long-lived function of these parameters: JAX would compile anew for another."""
        if key in self._calls:
            return self._calls[key]

        def call(*operands: Any) -> tuple[np.ndarray, ...]:
            arrays = [np.asarray(x) for x in operands]
            count = len(self.coefficient_names)
            axes = arrays[0].ndim - len(self.shape)
            batch = tuple(max(a.shape[i] for a in arrays) for i in range(axes))
            if any(0 in a.shape[:axes] for a in arrays):
                raise ValueError("vmap over no model at all: the mapped axis is empty")
            experiment, rest = self._experiment(
                arrays[:count], arrays[count], arrays[count + 1], arrays[count + 2 :], given
            )
            try:
                results = run(batch, experiment, rest)
            except OutOfMemory as error:
                raise self.solver.out_of_memory(error) from None
            self._check_results(results)
            return results

        return self._calls.setdefault(key, call)

    def _experiment(
        self,
        coefficients: list[np.ndarray],
        speeds: np.ndarray,
        shots: np.ndarray,
        more: list[np.ndarray],
        given: Operands,
    ) -> tuple[Experiment, list[np.ndarray]]:
        for row in speeds.reshape(-1, speeds.shape[-1]):
            self.check(*map(float, row[: row.size - self.contrasts]))
        for name, values in zip(self.coefficient_names, coefficients, strict=True):
            _validate.finite_coefficient(name, values)
        self._check_steps(speeds, coefficients)
        checks.shot_range(shots, self.source_positions.shape[0])
        more = list(more)
        source = more.pop(0) if given.wavelet else self.source[shots]
        weights = more.pop(0) if given.weights else None
        fired = (
            "data" if self.check_wavelets is None else "the wavelet"
        )  # of adjoint modelling, or of modelling
        for name, values in ((fired, source if given.wavelet else None), ("weights=", weights)):
            if values is not None and not np.isfinite(np.sum(values, dtype=np.float64)):
                raise ValueError(f"{name} has values that are not finite")
        if given.wavelet and self.check_wavelets is not None and source.size:
            self.check_wavelets(source, float(np.min(speeds[..., 0])))
        sources, receivers = self.source_positions[shots], self.receiver_positions[shots]
        if given.sources:
            sources = self._positions("sources", more.pop(0), given)
        if given.receivers:
            receivers = self._positions("receivers", more.pop(0), given)
        return Experiment(tuple(coefficients), source, sources, receivers, weights), more

    def _check_steps(self, speeds: np.ndarray, coefficients: list[np.ndarray]) -> None:
        """Check that the time step holds for each model of the batch."""
        batch = np.broadcast_shapes(
            speeds.shape[:-1], *(c.shape[: c.ndim - len(self.shape)] for c in coefficients)
        )
        rows = np.broadcast_to(speeds, (*batch, speeds.shape[-1]))
        models = [np.broadcast_to(c, (*batch, *self.shape)) for c in coefficients]
        for position in np.ndindex(*batch):
            _, fastest, *others = map(float, rows[position])
            values = {
                name: c[position] for name, c in zip(self.coefficient_names, models, strict=True)
            }
            self.check_step(values, fastest, others[len(others) - self.contrasts :])

    def _positions(self, name: str, pairs: np.ndarray, given: Operands) -> np.ndarray:
        positions = from_pairs(pairs)
        if name in given.single:
            check_resolution(name, positions, np.float32)
        self.check_positions(name, positions.reshape(-1, positions.shape[-1]))
        return positions

    def _check_results(self, results: tuple[np.ndarray, ...]) -> None:
        for array in results:
            if not np.isfinite(np.sum(array, dtype=np.float64)):
                raise FloatingPointError(
                    "the wavefield grew beyond all bounds: the time step is unstable for this "
                    "model, or the traces or "
                    "perturbations passed in are not finite"
                )
