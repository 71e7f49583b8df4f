"""Everything the JAX face asks of the engine: forward, Born and adjoint runs over batches of shots,
in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...calculus.coupling import PERTURBED
from ...histories import revolve as checkpoint
from ...histories.buffers import OutOfMemory, zeros
from ...histories.sampled import steps_beyond
from ...histories.store import STORE, Content, History, Layout, layout_bytes
from ...scheme.system import Port
from ..discretisation import Discretisation
from ..scaling import LARGE, SMALL, WEAK, Gains, check_range, exponent, peak_of, scaled
from ..settings import Settings
from ..workers import OrderedSum, each
from .extent import Extent, cells
from .programs import Programs, Wanted
from .runs import AdjointRun, Checkpointed, ForwardRun
from .shot import (
    POOL,
    Geometry,
    Shot,
    allocated,
    history_layout,
    history_offsets,
    interior,
    with_halo,
)

Arrays = Sequence[np.ndarray]

# sharing out the steps of a smaller shot costs more than it gains (measured on two cores)
POINTS_PER_THREAD = 250_000
SCRATCH = 8 << 20  # bytes of history that a run without room for all of it writes and forgets
GEOMETRIES = 4096  # sets of points whose weights are remembered


@dataclass(frozen=True)
class Experiment:
    """What determines the wavefields of a batch of shots; every array has the same leading batch
    axes.

    A batch axis of length 1 is shared by the whole batch.

    Attributes:
        coefficients: one array per coefficient, (*batch, *grid).
        source: samples at internal steps, (*batch, shot, port and source, step): all sources of the
            first input, ...
        source_positions: metres, (*batch, shot, source, axis).
        receiver_positions: metres, (*batch, shot, receiver, axis).
        weights: of extended sources, (*batch, shot, *grid).
    """

    coefficients: tuple[np.ndarray, ...]
    source: np.ndarray
    source_positions: np.ndarray
    receiver_positions: np.ndarray
    weights: np.ndarray | None = None


@dataclass
class Task:
    """One shot of one batch element, scaled so that the samples of its sources, and its wavefields,
    are of size one.

    Attributes:
        source: samples, times `2**-of_samples`.
        weights: of extended sources, times `2**-of_weights`.
        sizes: the binary exponent of each coefficient, by name.
    """

    number: int
    batch: tuple[int, ...]
    index: tuple[int, ...]
    content: Content
    coefficients: dict[str, np.ndarray]
    source: np.ndarray
    source_positions: np.ndarray
    receiver_positions: np.ndarray
    sizes: dict[str, int]
    of_samples: int = 0
    weights: np.ndarray | None = None
    of_weights: int = 0
    threads: int = 1
    key: tuple[Any, ...] | None = None
    company: frozenset[Hashable] = frozenset()  # the backgrounds of all tasks that run together

    @property
    def power(self) -> int:
        """Wavefields and traces are those of the run times two to this power."""
        return self.of_samples + self.of_weights


class Solver:
    """Runs one scheme on one grid.

    Args:
        programs: the compiled scheme.
        grid: the discretisation.
        settings: threads and memory.
    """

    def __init__(self, programs: Programs, grid: Discretisation, settings: Settings) -> None:
        self.programs = programs
        self.grid = grid
        self.settings = settings
        system = programs.scheme.system
        self.coefficients = system.coefficients
        self.inputs, self.outputs = system.inputs, system.outputs
        self._gains = Gains(system, grid.dt)
        self._geometries: dict[Hashable, Geometry] = {}
        self._profiles = {}
        for symbol in system.symbols.profiles:
            values = grid.profiles[symbol.name]
            array = zeros(allocated(symbol, values.shape, grid.dtype), grid.dtype)
            array[interior(symbol, values.shape)] = values
            self._profiles[symbol.name] = array

    # ---------------------------------------------------------------- the three runs

    def forward(
        self, batch: tuple[int, ...], e: Experiment, keep: Wanted | None, slopes: bool
    ) -> tuple[np.ndarray, ...]:
        """Traces (*batch, shot, port and receiver, sample); with `slopes` also their derivatives by
        receiver position, (*batch, shot, port and receiver, axis, sample), per metre. With `keep`,
        leaves histories in the memo where they fit."""
        tasks = self._together(batch, e, keep)
        keys = {self._key(t, keep) for t in tasks} if keep else set()
        points = e.receiver_positions.shape[-2]
        receivers = len(self.outputs) * points
        shape = (*batch, e.source.shape[-3], receivers)
        traces = np.empty((*shape, self.grid.samples), self.grid.dtype)
        moved = (
            np.empty((*shape, len(self.grid.shape), self.grid.samples), self.grid.dtype)
            if slopes
            else None
        )
        peaks: dict[int, tuple[float, int]] = {}

        def run(task: Task) -> None:
            recorded = self._recorded_before(task, keep, slopes) if keep else None
            if recorded is None:
                history = None
                if keep:
                    history = self._room(task, keep, keys.__contains__, wait=False)
                recorded = self._run_forward(task, keep, history, slopes)
            recorded = self.grid.recorded(recorded, points)
            peaks[task.number] = peak_of(recorded[:, :receivers]), task.power
            recorded = scaled(recorded, task.power)
            traces[task.index] = recorded[:, :receivers].T
            if moved is not None:
                moved[task.index] = _by_axis(
                    recorded[:, receivers:], receivers, len(self.grid.shape)
                )

        self._each(tasks, run)
        check_range(peaks.values(), self.grid.dtype, "the traces", WEAK)
        return (traces,) if moved is None else (traces, moved)

    def born(
        self,
        batch: tuple[int, ...],
        e: Experiment,
        wanted: Wanted,
        perturbations: Arrays,
        source: np.ndarray | None,
    ) -> np.ndarray:
        """Perturbed traces (*batch, shot, port and receiver, sample) of perturbed coefficients and,
        if given, source samples."""
        tasks = self._together(batch, e, wanted)
        points = e.receiver_positions.shape[-2]
        shape = (*batch, e.source.shape[-3], len(self.outputs) * points, self.grid.samples)
        traces = np.empty(shape, self.grid.dtype)

        peaks: dict[int, tuple[float, int]] = {}

        names = [c for c in self.coefficients if c.name in wanted.coefficients]

        def run(task: Task) -> None:
            changes = [_of(values, task.batch) for values in perturbations]
            fired = None if source is None else _of(source, task.batch)[task.index[-1]]
            more = self._power_of_changes(task, names, changes, fired)
            with self._shot(task) as shot:
                for c, values in zip(names, changes, strict=True):
                    shot.arrays[PERTURBED + c.name] = with_halo(
                        c, scaled(values, -more), shot.symbols, self.grid
                    )
                into, out = shot.terminals(shot.source), shot.terminals(shot.receiver)
                if fired is not None:
                    into.fill(scaled(fired, -task.power - more))
                arrays = {**into.arrays, **out.arrays}
                kernel = self.programs.born(wanted, shot.parallel)
                shot.start(self.programs.scheme.system.fields, prefix=PERTURBED)
                for first, last, history in self._stretches(task, wanted):
                    offsets = history_offsets(
                        self.programs, wanted, self.grid, history.arrays, first
                    )
                    shot.run(kernel, first, last, {**arrays, **history.arrays}, offsets)
                recorded = self.grid.recorded(out.columns(), points)
            peaks[task.number] = peak_of(recorded), task.power + more
            traces[task.index] = scaled(recorded, task.power + more).T

        self._each(tasks, run)
        check_range(peaks.values(), self.grid.dtype, "the Born traces", WEAK)
        return traces

    def _power_of_changes(
        self, task: Task, names: list[Any], changes: Arrays, fired: np.ndarray | None
    ) -> int:
        """The binary exponent of the largest change, of coefficients or of sources, relative to
        what it changes."""
        sizes = [
            (exponent(values), task.sizes.get(c.name))
            for c, values in zip(names, changes, strict=True)
        ]
        found = [
            change - (change if size is None else size)
            for change, size in sizes
            if change is not None
        ]
        size = None if fired is None else exponent(fired)
        if size is not None:
            found.append(size + self._gains.of(self.inputs, task.sizes) - task.power)
        return max(found, default=0)

    def adjoint(
        self,
        batch: tuple[int, ...],
        e: Experiment,
        wanted: Wanted | None,
        residual: np.ndarray,
        *,
        weights: bool = False,
        source: bool = False,
        slopes: bool = False,
        last_use: bool,
    ) -> tuple[np.ndarray, ...]:
        """Cotangents for residual traces (*batch, shot, port and receiver, sample).

        Returns the gradient of each wanted coefficient (*batch, *grid), summed over shots; then, if
        asked for, that of the weights of extended sources (*batch, shot, *grid), that of the source
        samples (*batch, shot, port and source, step), and the adjoint field's derivatives by source
        position, (*batch, shot, port and source, axis, step), per metre.

        Args:
            last_use: the histories will hardly be needed again.
        """
        tasks = self._together(batch, e, wanted)
        names = [c for c in self.coefficients if wanted and c.name in wanted.coefficients]
        gradients = [np.zeros((*batch, *self.grid.shape), self.grid.dtype) for _ in names]
        sources = e.source.shape[-2]
        shape = (*batch, e.source.shape[-3], sources)
        of_weights = np.empty((*shape[:-1], *self.grid.shape), self.grid.dtype) if weights else None
        at_source = np.empty((*shape, self.grid.steps), self.grid.dtype) if source else None
        moved = (
            np.empty((*shape, len(self.grid.shape), self.grid.steps), self.grid.dtype)
            if slopes
            else None
        )
        residuals = {t.number: _of(residual, t.batch)[t.index[-1]] for t in tasks}
        powers = {t.number: self._power_of_residual(t, residuals[t.number]) for t in tasks}
        # Shots are summed at the scale of the strongest one of each batch element.
        strongest: dict[tuple[int, ...], int] = {}
        for t in tasks:
            if residuals[t.number].any() and t.source.any():
                strongest[t.batch] = max(strongest.get(t.batch, -LARGE), t.power + powers[t.number])
        peaks: dict[str, dict[int, tuple[float, int]]] = {"adjoint wavelets": {}, "weights": {}}

        def add(found: tuple[tuple[int, ...], int, list[np.ndarray]]) -> None:
            position, power, arrays = found
            for c, total, part in zip(names, gradients, arrays, strict=True):
                total[position] += scaled(part[interior(c, self.grid.shape)], power)
                POOL.give("gradient", part)

        total = OrderedSum(add)

        def run_one(
            task: Task, chosen: Wanted | None, weights: bool, source: bool, slopes: bool
        ) -> None:
            with self._shot(task, source_slopes=slopes) as shot:
                run = AdjointRun(self.programs, shot, chosen, source or slopes, weights)
                power = powers[task.number]
                run.inject(scaled(residuals[task.number], -power))
                if weights:
                    run.correlate(task.source)
                self._adjoint_run(task, run, last_use)
                if chosen is wanted:
                    relative = task.power + power - strongest.get(task.batch, LARGE)
                    total.put(task.number, (task.batch, relative, run.gradients))
                if weights and of_weights is not None:
                    found = run.of_weights()
                    peaks["weights"][task.number] = peak_of(found), task.of_samples + power
                    of_weights[task.index] = scaled(found, task.of_samples + power)
                if source or slopes:
                    read, by = run.read, task.of_weights + power
                    peaks["adjoint wavelets"][task.number] = peak_of(read[:, :sources]), by
                    read = scaled(read, by)
                    if source and at_source is not None:
                        at_source[task.index] = read[:, :sources].T
                    if slopes and moved is not None:
                        moved[task.index] = _by_axis(
                            read[:, sources:], sources, len(self.grid.shape)
                        )

        at_sources = weights or source or slopes

        def run(task: Task) -> None:
            if (
                wanted is not None and wanted.every > 1 and at_sources
            ):  # its residuals are not theirs: see AdjointRun
                run_one(task, wanted, False, False, False)
                run_one(task, None, weights, source, slopes)
            else:
                run_one(task, wanted, weights, source, slopes)

        if (
            wanted and len(tasks) > 1
        ):  # histories at hand first: recomputing the others may need their memory
            tasks = self._found_first(tasks, wanted)
        self._each(tasks, run)
        if self.grid.surface:
            for c, gradient in zip(names, gradients, strict=True):
                gradient *= cells(c, self.programs.scheme.symbols, self.grid)
        for c, gradient in zip(names, gradients, strict=True):
            known = [(peak_of(gradient[position]), power) for position, power in strongest.items()]
            check_range(known, self.grid.dtype, f"the gradients of the coefficient {c.name}", SMALL)
            for position, power in strongest.items():
                gradient[position] = scaled(gradient[position], power)
        check_range(
            peaks["adjoint wavelets"].values(), self.grid.dtype, "the adjoint wavelets", WEAK
        )
        check_range(
            peaks["weights"].values(), self.grid.dtype, "the gradients of the weights", SMALL
        )
        return (*gradients, *(a for a in (of_weights, at_source, moved) if a is not None))

    # ---------------------------------------------------------------- tasks

    def _together(self, batch: tuple[int, ...], e: Experiment, wanted: Wanted | None) -> list[Task]:
        """The shots of all batch elements, which know of each other."""
        tasks = list(self._tasks(batch, e))
        if wanted:
            company = frozenset(self._background(t, wanted) for t in tasks)
            for task in tasks:
                task.company = company
        return tasks

    def _tasks(self, batch: tuple[int, ...], e: Experiment) -> Iterator[Task]:
        """One task per shot of every batch element; elements with the same coefficients share their
        kernel arrays."""
        symbols = self.programs.scheme.symbols
        prepared: dict[tuple[Any, ...], tuple[Content, dict[str, np.ndarray], dict[str, int]]] = {}
        number = 0
        for position in np.ndindex(*batch):
            shared = tuple(_clipped(position, c.shape) for c in e.coefficients)
            if shared not in prepared:
                values = [_of(c, position) for c in e.coefficients]
                arrays = {
                    c.name: with_halo(c, v, symbols, self.grid)
                    for c, v in zip(self.coefficients, values, strict=True)
                }
                found = {
                    c.name: exponent(v) for c, v in zip(self.coefficients, values, strict=True)
                }
                sizes = {name: size for name, size in found.items() if size is not None}
                prepared[shared] = (Content(values), arrays, sizes)
            content, arrays, sizes = prepared[shared]
            gain = self._gains.of(self.inputs, sizes)
            for shot in range(e.source.shape[-3]):
                source = _of(e.source, position)[shot]
                weights = None if e.weights is None else _of(e.weights, position)[shot]
                of_samples = exponent(source) or 0
                of_weights = 0 if weights is None else exponent(weights) or 0
                if weights is None:
                    of_samples += gain
                else:
                    of_weights += gain
                yield Task(
                    number=number,
                    batch=position,
                    index=(*position, shot),
                    content=content,
                    coefficients=arrays,
                    source=scaled(source, -of_samples),
                    source_positions=_of(e.source_positions, position)[shot],
                    receiver_positions=_of(e.receiver_positions, position)[shot],
                    sizes=sizes,
                    of_samples=of_samples,
                    weights=None if weights is None else scaled(weights, -of_weights),
                    of_weights=of_weights,
                )
                number += 1

    def _power_of_residual(self, task: Task, residual: np.ndarray) -> int:
        """The adjoint run is made with residuals times two to minus this power."""
        gain = self._adjoint_gains.of(self.programs.scheme.transposed.inputs, task.sizes)
        return (exponent(residual) or 0) + gain

    @cached_property
    def _adjoint_gains(self) -> Gains:
        return Gains(self.programs.scheme.transposed, self.grid.dt)

    def _each(self, tasks: Sequence[Task], run: Callable[[Task], None]) -> None:
        threads = self.settings.worker_threads
        share = threads // max(1, len(tasks))
        share = max(1, min(share, int(np.prod(self.grid.shape)) // POINTS_PER_THREAD))

        def bound(task: Task) -> Callable[[], None]:
            task.threads = share
            return lambda: run(task)

        each([bound(task) for task in tasks], min(threads, max(1, len(tasks))))

    def out_of_memory(self, error: OutOfMemory) -> OutOfMemory:
        """What failed, what a shot needs, and what to do."""
        return OutOfMemory(
            f"out of memory: {error}, though all histories were dropped. A shot needs about "
            f"{self._bytes_of_shot} bytes for "
            f"its wavefields, and up to {self.settings.worker_threads} run side by side. Run fewer "
            "with "
            "ox.Settings(threads=...), take a coarser or smaller grid or a narrower boundary, or "
            "give the process more memory"
        )

    @cached_property
    def _bytes_of_shot(self) -> int:
        """Memory that the wavefields and coefficients of one shot take, without a history."""
        system, itemsize = self.programs.scheme.system, np.dtype(self.grid.dtype).itemsize
        buffers = sum(f.time_order + 1 for f in system.fields) + len(system.coefficients)
        return (
            buffers
            * int(np.prod([n + 2 * system.symbols.space_order for n in self.grid.shape]))
            * itemsize
        )

    def _shot(self, task: Task, receiver_slopes: bool = False, source_slopes: bool = False) -> Shot:
        return Shot(
            self.programs,
            self.grid,
            task.coefficients,
            self._profiles,
            self._entries(task, source_slopes),
            {
                p.name: self._geometry(p, task.receiver_positions, receiver_slopes)
                for p in self.outputs
            },
            task.threads,
        )

    def _entries(self, task: Task, slopes: bool) -> dict[str, Geometry | Extent]:
        """Where the samples of each input enter."""
        if task.weights is None:
            return {p.name: self._geometry(p, task.source_positions, slopes) for p in self.inputs}
        extent = Extent(self.programs.scheme.symbols, self.grid, self.inputs, task.weights)
        return {p.name: extent for p in self.inputs}

    def _geometry(self, port: Port, positions: np.ndarray, slopes: bool) -> Geometry:
        """The kernel arrays of a set of points; surveys shoot into the same spread again and
        again."""
        key = (port.name, slopes, positions.shape, positions.tobytes())
        geometry = self._geometries.get(key)
        if geometry is None:
            if len(self._geometries) >= GEOMETRIES:
                self._geometries.clear()
            geometry = Geometry(self.programs.scheme.symbols, self.grid, port, positions, slopes)
            self._geometries[key] = geometry
        return geometry

    # ---------------------------------------------------------------- histories

    def _layout(self, wanted: Wanted) -> Layout:
        steps = self.grid.steps + steps_beyond(wanted.every)
        return history_layout(self.programs, wanted, self.grid, 0, steps)

    def _key(self, task: Task, wanted: Wanted) -> tuple[Any, ...]:
        """Everything that determines a history: scheme and grid by identity, the rest by
        content."""
        if task.key is None or task.key[0] != wanted:
            weights = () if task.weights is None else (task.weights,)
            content = Content((task.source, task.source_positions, *weights))
            task.key = (wanted, self.programs, self.grid.identity, task.content, content)
        return task.key

    def _background(self, task: Task, wanted: Wanted) -> Hashable:
        """What the keys of all shots over the same model have in common."""
        return self._key(task, wanted)[:-1]

    def _room(
        self, task: Task, wanted: Wanted, protected: Callable[[Hashable], bool], wait: bool
    ) -> History | None:
        """A buffer for the history of a shot; None where there is no room for one."""
        background, budget = self._background(task, wanted), self.settings.memory_budget
        return STORE.acquire(
            self._layout(wanted), budget, protected, wait, background, task.company
        )

    def _find(self, task: Task, wanted: Wanted) -> History | None:
        """A shot's history in the memo, pinned."""
        found = STORE.find(self._key(task, wanted))
        if found is not None:
            task.key = found.key  # the same object from now on: no more comparing of contents
        return found

    def _found_first(self, tasks: list[Task], wanted: Wanted) -> list[Task]:
        def missing(task: Task) -> bool:
            found = self._find(task, wanted)
            if found is not None:
                STORE.release(found)
            return found is None

        return sorted(tasks, key=missing)

    def _adjoint_run(self, task: Task, run: AdjointRun, last_use: bool) -> None:
        """Run backward, from the memo's history or, failing that, from checkpoints."""
        if run.wanted is None:
            run.back(0, run.steps, None)
        elif (history := self._recall(task, run.wanted)) is not None:
            try:
                run.back(0, run.steps, history)
            finally:
                STORE.release(history, used=last_use)
        else:
            with self._shot(task) as shot:
                forward = ForwardRun(self.programs, shot, task.source, run.wanted.every)
                checkpointed = Checkpointed(forward, run, run.wanted)
                checkpoint.run(run.steps, self._plan(run.wanted, forward), checkpointed)
                checkpointed.drop()

    def _run_forward(
        self, task: Task, keep: Wanted | None, history: History | None, slopes: bool
    ) -> np.ndarray:
        """One whole forward run; files its history, if given, and releases it. Returns (step,
        point)."""
        try:
            with self._shot(task, receiver_slopes=slopes) as shot:
                run = ForwardRun(self.programs, shot, task.source, keep.every if keep else 1)
                if keep and history is None:
                    # The kernel that keeps a history is not, to the bit, the one that does not.
                    # Traces must not depend on how much memory happened to be free, so it runs all
                    # the same, over a buffer used again and again.
                    length = max(1, SCRATCH // self._step_bytes(keep) // keep.every) * keep.every
                    for _ in self._recompute(run, keep, length):
                        pass
                else:
                    run.advance(0, run.steps, keep, history)
                recorded = run.recorded
            if history and keep:
                history.recorded = {(slopes, task.receiver_positions.tobytes()): recorded}
                STORE.keep(self._key(task, keep), history)
        finally:
            if history:
                STORE.release(history)
        return recorded

    def _recorded_before(self, task: Task, keep: Wanted, slopes: bool) -> np.ndarray | None:
        """What receivers read when a history still waiting for its gradient was made.

        A history whose gradient has been taken makes room for the run that will take its place: so
        every gradient has had the same kernels run, and the same bits, whatever the memo holds.
        """
        known = self._find(task, keep)
        if known is None:
            return None
        recorded = (
            None if known.used else known.recorded.get((slopes, task.receiver_positions.tobytes()))
        )
        STORE.release(known)
        if recorded is None:
            STORE.drop(self._key(task, keep))
        return recorded

    def _recall(self, task: Task, wanted: Wanted) -> History | None:
        """The whole history of a shot, pinned: from the memo, or computed again; None where it does
        not fit."""
        history = self._find(task, wanted)
        if history is None:
            history = self._room(task, wanted, lambda _: False, wait=True)
            if history is not None:
                history.pins += 1  # one for the run, one for the caller
                try:
                    self._run_forward(task, wanted, history, slopes=False)
                except BaseException:
                    STORE.release(history)
                    raise
        return history

    def _stretches(self, task: Task, wanted: Wanted) -> Iterator[tuple[int, int, History]]:
        """A shot's history in the order of time: whole if it fits, else a stretch at a time,
        recomputed."""
        history = self._recall(task, wanted)
        if history is not None:
            try:
                yield 0, self.grid.steps, history
            finally:
                STORE.release(history)
            return
        with self._shot(task) as shot:
            run = ForwardRun(self.programs, shot, task.source)
            yield from self._recompute(run, wanted, self._plan(wanted, run).stretch)

    def _recompute(
        self, run: ForwardRun, wanted: Wanted, length: int
    ) -> Iterator[tuple[int, int, History]]:
        """Run forward, keeping the history of `length` steps at a time in one buffer."""
        for first in range(0, run.steps, length):
            last = min(first + length, run.steps)
            history = run.stretch(wanted, first, last)
            run.advance(first, last, wanted, history)
            yield first, last, history
            run.drop(history)

    def _step_bytes(self, wanted: Wanted) -> int:
        """Memory that the history of one step takes."""
        more = layout_bytes(history_layout(self.programs, wanted, self.grid, 0, 2 * wanted.every))
        less = layout_bytes(history_layout(self.programs, wanted, self.grid, 0, wanted.every))
        return -(-(more - less) // wanted.every)

    def _plan(self, wanted: Wanted, run: ForwardRun) -> checkpoint.Plan:
        step_bytes, shots = self._step_bytes(wanted), self.settings.worker_threads
        return checkpoint.plan(
            run.steps, step_bytes, run.state_bytes, self.settings.memory_budget, wanted.every, shots
        )


def _by_axis(samples: np.ndarray, points: int, axes: int) -> np.ndarray:
    """From (step, axis and point, padding) to (point, axis, step)."""
    return samples[:, : axes * points].reshape(-1, axes, points).transpose(2, 1, 0)


def _of(array: np.ndarray, position: tuple[int, ...]) -> np.ndarray:
    """The batch element at a position; axes of length 1 are shared."""
    return array[_clipped(position, array.shape)]


def _clipped(position: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(p, n - 1) for p, n in zip(position, shape, strict=False))
