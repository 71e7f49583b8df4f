"""Forward, Born and adjoint runs over batches of shots, by C kernels."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from ...calculus.coupling import PERTURBED
from ...calculus.images import cell_shares
from ...calculus.program import Program
from ...histories.base import Recording, Rerun, Stretch
from ...histories.buffers import Layout, OutOfMemory, zeros
from ...histories.sampled import steps_beyond
from ...histories.store import STORE, Content, Kept
from ...scheme.system import Port
from ..base import AbstractSolver, Asked, Experiment, Gradients
from ..discretisation import Discretisation
from ..scaling import LARGE, SMALL, WEAK, Gains, check_range, exponent, peak_of, scaled
from ..settings import Settings
from ..workers import TreeSum, visits
from .extent import Extent
from .kernels import kernels_of
from .runs import AdjointRun, ForwardRun
from .shot import (
    POOL,
    Geometry,
    Shot,
    allocated,
    history_offsets,
    interior,
    with_halo,
)

Arrays = Sequence[np.ndarray]

# sharing out the steps of a smaller shot costs more than it gains (measured on two cores)
POINTS_PER_THREAD = 250_000
GEOMETRIES = 4096  # sets of points whose weights are remembered


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


class Solver(AbstractSolver):
    """Runs one program on one domain, in C kernels, shots side by side.

    Args:
        program: what is run.
        grid: the discretisation.
        settings: threads and memory.
    """

    def __init__(self, program: Program, grid: Discretisation, settings: Settings) -> None:
        self.kernels = kernels_of(program)
        self.grid = grid
        self.settings = settings
        system = program.system
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
        self, batch: tuple[int, ...], e: Experiment, recording: Recording | None, slopes: bool
    ) -> tuple[np.ndarray, ...]:
        """Traces (*batch, shot, port and receiver, sample); with `slopes` also their derivatives by
        receiver position, (*batch, shot, port and receiver, axis, sample), per metre. With a
        recording, leaves histories in the memo where they fit."""
        tasks = self._together(batch, e, recording)
        keys = {self._key(t, recording) for t in tasks} if recording else set()
        points, axes = e.receiver_positions.shape[-2], len(self.grid.shape)
        receivers = len(self.outputs) * points
        shape = (*batch, e.source.shape[-3], receivers)
        traces = np.empty((*shape, self.grid.samples), self.grid.dtype)
        moved = np.empty((*shape, axes, self.grid.samples), self.grid.dtype) if slopes else None
        peaks: dict[int, tuple[float, int]] = {}

        def visit(task: Task) -> np.ndarray:
            recorded = self._recorded_before(task, recording, slopes) if recording else None
            if recorded is None and recording:
                protected = keys.__contains__
                kept, recorded = self._record(task, recording, slopes, protected, wait=False)
                if kept is not None:
                    STORE.release(kept)
            if recorded is None:
                recorded = self._run_forward(task, slopes)
            return self.grid.recorded(recorded, points)

        def take(task: Task, recorded: np.ndarray) -> None:
            peaks[task.number] = peak_of(recorded[:, :receivers]), task.power
            recorded = scaled(recorded, task.power)
            traces[task.index] = recorded[:, :receivers].T
            if moved is not None:
                moved[task.index] = _by_axis(recorded[:, receivers:], receivers, axes)

        self._each(tasks, visit, take)
        check_range(peaks.values(), self.grid.dtype, "the traces", WEAK)
        return (traces,) if moved is None else (traces, moved)

    def born(
        self,
        batch: tuple[int, ...],
        e: Experiment,
        recording: Recording,
        changes: Mapping[str, np.ndarray],
        source: np.ndarray | None,
    ) -> np.ndarray:
        """See `AbstractSolver.born`."""
        tasks = self._together(batch, e, recording)
        points = e.receiver_positions.shape[-2]
        shape = (*batch, e.source.shape[-3], len(self.outputs) * points, self.grid.samples)
        traces = np.empty(shape, self.grid.dtype)
        peaks: dict[int, tuple[float, int]] = {}
        chosen = [c for c in self.coefficients if c.name in recording.coefficients]

        def visit(task: Task) -> tuple[np.ndarray, int]:
            of_task = {c.name: _of(changes[c.name], task.batch) for c in chosen}
            fired = None if source is None else _of(source, task.batch)[task.index[-1]]
            more = self._power_of_changes(task, of_task, fired)
            with self._shot(task) as shot:
                for c in chosen:
                    values = scaled(of_task[c.name], -more)
                    shot.arrays[PERTURBED + c.name] = with_halo(c, values, shot.symbols, self.grid)
                into, out = shot.terminals(shot.source), shot.terminals(shot.receiver)
                if fired is not None:
                    into.fill(scaled(fired, -task.power - more))
                arrays = {**into.arrays, **out.arrays}
                kernel = self.kernels.born(recording, shot.parallel)
                shot.start(self.kernels.program.system.fields, prefix=PERTURBED)
                with closing(self._replayed(task, recording, False, True)) as stretches:
                    for stretch in stretches:
                        offsets = history_offsets(
                            self.kernels, recording, self.grid, stretch.arrays, stretch.first
                        )
                        every_array = {**arrays, **stretch.arrays}
                        shot.run(kernel, stretch.first, stretch.last, every_array, offsets)
                return self.grid.recorded(out.columns(), points), task.power + more

        def take(task: Task, found: tuple[np.ndarray, int]) -> None:
            recorded, power = found
            peaks[task.number] = peak_of(recorded), power
            traces[task.index] = scaled(recorded, power).T

        self._each(tasks, visit, take)
        check_range(peaks.values(), self.grid.dtype, "the Born traces", WEAK)
        return traces

    def _power_of_changes(
        self, task: Task, changes: Mapping[str, np.ndarray], fired: np.ndarray | None
    ) -> int:
        """The binary exponent of the largest change, of coefficients or of sources, relative to
        what it changes."""
        sizes = [(exponent(values), task.sizes.get(name)) for name, values in changes.items()]
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
        recording: Recording | None,
        residual: np.ndarray,
        asked: Asked,
    ) -> Gradients:
        """See `AbstractSolver.adjoint`."""
        tasks = self._together(batch, e, recording)
        residuals = {t.number: _of(residual, t.batch)[t.index[-1]] for t in tasks}
        powers = {t.number: self._power_of_residual(t, residuals[t.number]) for t in tasks}
        # Shots are summed at the scale of the strongest one of each batch element.
        strongest: dict[tuple[int, ...], int] = {}
        for t in tasks:
            if residuals[t.number].any() and t.source.any():
                power = t.power + powers[t.number]
                strongest[t.batch] = max(strongest.get(t.batch, -LARGE), power)
        sums = _Sums(self, batch, e, recording, asked, strongest)

        def visit(task: Task) -> list[_Found]:
            def run(chosen: Recording | None, of_sources: Asked) -> _Found:
                power = powers[task.number]
                return self._back(task, chosen, residuals[task.number], power, of_sources)

            sampled = recording is not None and recording.every > 1
            at_sources = replace(asked, coefficients=())
            if sampled and at_sources.anything:  # its residuals are not theirs: see AdjointRun
                none = Asked(again=asked.again)
                return [run(recording, none), run(None, at_sources)]
            return [run(recording, at_sources)]

        if recording and len(tasks) > 1:
            # Histories at hand first: recomputing the others may need their memory.
            tasks = self._found_first(tasks, recording)
        self._each(tasks, visit, sums.take)
        return sums.finished()

    def _back(
        self,
        task: Task,
        recording: Recording | None,
        residual: np.ndarray,
        power: int,
        asked: Asked,
    ) -> _Found:
        """One adjoint run, with residuals times two to minus a power."""
        at_sources = asked.wavelet or asked.sources
        with self._shot(task, source_slopes=asked.sources) as shot:
            run = AdjointRun(self.kernels, shot, recording, at_sources, asked.weights)
            run.inject(scaled(residual, -power))
            if asked.weights:
                run.correlate(task.source)
            if recording is None:
                run.back(None)
            else:
                replayed = self._replayed(task, recording, True, asked.again)
                with closing(replayed) as stretches:
                    for stretch in stretches:
                        run.back(stretch)
            return _Found(
                power=power,
                gradients=run.gradients if recording else None,
                weights=run.of_weights() if asked.weights else None,
                read=run.read if at_sources else None,
            )

    # ---------------------------------------------------------------- tasks

    def _together(
        self, batch: tuple[int, ...], e: Experiment, recording: Recording | None
    ) -> list[Task]:
        """The shots of all batch elements, which know of each other."""
        tasks = list(self._tasks(batch, e))
        if recording:
            company = frozenset(self._background(t, recording) for t in tasks)
            for task in tasks:
                task.company = company
        return tasks

    def _tasks(self, batch: tuple[int, ...], e: Experiment) -> Iterator[Task]:
        """One task per shot of every batch element; elements with the same coefficients share their
        kernel arrays."""
        symbols = self.kernels.program.symbols
        prepared: dict[tuple[Any, ...], tuple[Content, dict[str, np.ndarray], dict[str, int]]] = {}
        number = 0
        for position in np.ndindex(*batch):
            given = [e.coefficients[c.name] for c in self.coefficients]
            shared = tuple(_clipped(position, c.shape) for c in given)
            if shared not in prepared:
                values = [_of(c, position) for c in given]
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
        gain = self._adjoint_gains.of(self.kernels.program.transposed.inputs, task.sizes)
        return (exponent(residual) or 0) + gain

    @cached_property
    def _adjoint_gains(self) -> Gains:
        return Gains(self.kernels.program.transposed, self.grid.dt)

    def _each(
        self,
        tasks: Sequence[Task],
        visit: Callable[[Task], Any],
        take: Callable[[Task, Any], None],
    ) -> None:
        """Visit all shots, side by side, and take what each visit finds."""
        threads = self.settings.worker_threads
        share = threads // max(1, len(tasks))
        share = max(1, min(share, int(np.prod(self.grid.shape)) // POINTS_PER_THREAD))
        for task in tasks:
            task.threads = share
        visits().each(tasks, visit, take, min(threads, max(1, len(tasks))))
        STORE.trim(self.settings.memory_budget)

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
        system, itemsize = self.kernels.program.system, np.dtype(self.grid.dtype).itemsize
        buffers = sum(f.time_order + 1 for f in system.fields) + len(system.coefficients)
        return (
            buffers
            * int(np.prod([n + 2 * system.symbols.space_order for n in self.grid.shape]))
            * itemsize
        )

    def _shot(self, task: Task, receiver_slopes: bool = False, source_slopes: bool = False) -> Shot:
        return Shot(
            self.kernels,
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
        extent = Extent(self.kernels.program.symbols, self.grid, self.inputs, task.weights)
        return {p.name: extent for p in self.inputs}

    def _geometry(self, port: Port, positions: np.ndarray, slopes: bool) -> Geometry:
        """The kernel arrays of a set of points; surveys shoot into the same spread again and
        again."""
        key = (port.name, slopes, positions.shape, positions.tobytes())
        geometry = self._geometries.get(key)
        if geometry is None:
            if len(self._geometries) >= GEOMETRIES:
                self._geometries.clear()
            geometry = Geometry(self.kernels.program.symbols, self.grid, port, positions, slopes)
            self._geometries[key] = geometry
        return geometry

    # ---------------------------------------------------------------- histories

    def _key(self, task: Task, recording: Recording) -> tuple[Any, ...]:
        """Everything that determines a history: scheme and grid by identity, the rest by
        content."""
        if task.key is None or task.key[0] != recording:
            weights = () if task.weights is None else (task.weights,)
            content = Content((task.source, task.source_positions, *weights))
            task.key = (recording, self.kernels, self.grid.identity, task.content, content)
        return task.key

    def _background(self, task: Task, recording: Recording) -> Hashable:
        """What the keys of all shots over the same model have in common."""
        return self._key(task, recording)[:-1]

    def _find(self, task: Task, recording: Recording) -> Kept | None:
        """A shot's history in the memo, pinned."""
        found = STORE.find(self._key(task, recording))
        if found is not None:
            task.key = found.key  # the same object from now on: no more comparing of contents
        return found

    def _found_first(self, tasks: list[Task], recording: Recording) -> list[Task]:
        def missing(task: Task) -> bool:
            found = self._find(task, recording)
            if found is not None:
                STORE.release(found)
            return found is None

        return sorted(tasks, key=missing)

    def _record(
        self,
        task: Task,
        recording: Recording,
        slopes: bool,
        protected: Callable[[Hashable], bool],
        wait: bool,
    ) -> tuple[Kept | None, np.ndarray]:
        """A whole forward run that keeps its history, if there is room, and files it, pinned.

        Args:
            task: the shot.
            recording: what to keep.
            slopes: read derivatives by receiver position too.
            protected: keys of histories that must not make room.
            wait: for room that others are using now.

        Returns:
            What was kept, and what receivers read, (step, point).

        Raises:
            _NoRoom: waiting would not help: there is no reason to run, then.
        """
        background, budget = self._background(task, recording), self.settings.memory_budget
        held: list[Kept] = []

        def room(layout: Layout) -> Kept | None:
            found = STORE.acquire(layout, budget, protected, wait, background, task.company)
            if found is not None:
                held.append(found)
            elif wait:
                raise _NoRoom
            return found

        try:
            with self._shot(task, receiver_slopes=slopes) as shot:
                run = ForwardRun(self.kernels, shot, task.source, recording)
                kept = recording.history.record(run, room)
                recorded = run.recorded
                if kept is not None and not any(kept is buffers for buffers in held):
                    raise TypeError(
                        f"{type(recording.history).__name__}.record must return buffers that "
                        "`room` gave to it, or None"
                    )
        except BaseException:
            for buffers in held:
                STORE.release(buffers)
            raise
        for buffers in held:
            if buffers is not kept:
                STORE.release(buffers)
        if kept is not None:
            kept.recorded = {(slopes, task.receiver_positions.tobytes()): recorded}
            STORE.keep(self._key(task, recording), kept)
        return kept, recorded

    def _run_forward(self, task: Task, slopes: bool) -> np.ndarray:
        """A whole forward run that keeps nothing. Returns what receivers read, (step, point)."""
        with self._shot(task, receiver_slopes=slopes) as shot:
            run = ForwardRun(self.kernels, shot, task.source, None)
            run.advance(0, run.steps, None)
            return run.recorded

    def _recorded_before(self, task: Task, recording: Recording, slopes: bool) -> np.ndarray | None:
        """What receivers read when a history still waiting for its gradient was made.

        A history whose gradient has been taken makes room for the run that will take its place: so
        every gradient has had the same kernels run, and the same bits, whatever the memo holds.
        """
        known = self._find(task, recording)
        if known is None:
            return None
        by = (slopes, task.receiver_positions.tobytes())
        recorded = None if known.used else known.recorded.get(by)
        STORE.release(known)
        if recorded is None:
            STORE.drop(self._key(task, recording))
        return recorded

    def _replayed(
        self, task: Task, recording: Recording, backward: bool, again: bool
    ) -> Generator[Stretch]:
        """A shot's history, a stretch at a time: from the memo, or made now.

        Args:
            task: the shot.
            recording: what of it.
            backward: from the last step to the first.
            again: it is likely to be read again.
        """
        history = recording.history
        kept = self._find(task, recording)
        if kept is None and history.keeps:
            with suppress(_NoRoom):
                kept, _ = self._record(task, recording, False, lambda _: False, wait=True)
        steps = self.grid.steps + steps_beyond(recording.every)
        memory, shots = self.settings.memory_budget, self.settings.worker_threads
        rerun = Rerun(steps, partial(self._running, task, recording), memory, shots)
        try:
            yield from history.replay(kept, rerun, backward)
        finally:
            if kept is not None:
                STORE.release(kept, used=not again)

    @contextmanager
    def _running(self, task: Task, recording: Recording) -> Iterator[ForwardRun]:
        """A forward run at its beginning."""
        with self._shot(task) as shot:
            yield ForwardRun(self.kernels, shot, task.source, recording)


class _NoRoom(Exception):
    """A history does not fit."""


@dataclass
class _Found:
    """What one adjoint run of a shot finds.

    Attributes:
        power: its residuals were those given, times two to minus this power.
        gradients: of coefficients, with halo; None if there are none.
        weights: the gradient of the weights of an extended source.
        read: what was read where sources enter: see `AdjointRun.read`.
    """

    power: int
    gradients: list[np.ndarray] | None
    weights: np.ndarray | None
    read: np.ndarray | None


class _Sums:
    """The results of an adjoint call, as shot by shot they come in.

    Args:
        solver: whose they are.
        batch: the shape of the batch.
        e: the experiment.
        recording: the coefficients whose gradients are asked for.
        asked: what else is.
        strongest: the power of two of the strongest shot of each batch element that has one.
    """

    def __init__(
        self,
        solver: Solver,
        batch: tuple[int, ...],
        e: Experiment,
        recording: Recording | None,
        asked: Asked,
        strongest: Mapping[tuple[int, ...], int],
    ) -> None:
        self._solver, self._grid, self._strongest = solver, solver.grid, strongest
        grid, shots, axes = solver.grid, e.source.shape[-3], len(solver.grid.shape)
        self._names = recording.coefficients if recording else ()
        self._chosen = [c for c in solver.coefficients if c.name in self._names]
        self._batch, self._sources = batch, e.source.shape[-2]
        self._trees = {p: TreeSum(shots, _add_gradients) for p in np.ndindex(*batch)}
        rows = (*batch, shots, self._sources)
        dtype = grid.dtype
        self._weights = self._wavelet = self._moved = None
        if asked.weights:
            self._weights = np.empty((*batch, shots, *grid.shape), dtype)
        if asked.wavelet:
            self._wavelet = np.empty((*rows, grid.steps), dtype)
        if asked.sources:
            self._moved = np.empty((*rows, axes, grid.steps), dtype)
        self._peaks: dict[str, dict[int, tuple[float, int]]] = {"read": {}, "weights": {}}

    def take(self, task: Task, found: list[_Found]) -> None:
        """Add what the runs of a shot found."""
        for run in found:
            if run.gradients is not None:
                relative = task.power + run.power - self._strongest.get(task.batch, LARGE)
                parts = run.gradients
                if relative:
                    for part in parts:
                        part[...] = scaled(part, relative)
                self._trees[task.batch].put(task.index[-1], parts)
            if self._weights is not None and run.weights is not None:
                power = task.of_samples + run.power
                self._peaks["weights"][task.number] = peak_of(run.weights), power
                self._weights[task.index] = scaled(run.weights, power)
            if run.read is not None:
                self._take_read(task, run.read, task.of_weights + run.power)

    def _take_read(self, task: Task, read: np.ndarray, power: int) -> None:
        sources = self._sources
        self._peaks["read"][task.number] = peak_of(read[:, :sources]), power
        read = scaled(read, power)
        if self._wavelet is not None:
            self._wavelet[task.index] = read[:, :sources].T
        if self._moved is not None:
            axes = len(self._grid.shape)
            self._moved[task.index] = _by_axis(read[:, sources:], sources, axes)

    def finished(self) -> Gradients:
        """All of it.

        Raises:
            FloatingPointError: something is too large or too small for its type.
        """
        dtype = self._grid.dtype
        gradients = {c.name: self._gradient(n, c) for n, c in enumerate(self._chosen)}
        for tree in self._trees.values():
            for part in tree.total or ():
                POOL.give("gradient", part)
        check_range(self._peaks["read"].values(), dtype, "the adjoint wavelets", WEAK)
        what = "the gradients of the weights"
        check_range(self._peaks["weights"].values(), dtype, what, SMALL)
        return Gradients(gradients, self._wavelet, self._weights, self._moved)

    def _gradient(self, number: int, c: Any) -> np.ndarray:
        """That of one coefficient."""
        grid = self._grid
        gradient = np.zeros((*self._batch, *grid.shape), grid.dtype)
        inside = interior(c, grid.shape)
        for position, tree in self._trees.items():
            if tree.total is not None:
                gradient[position] = tree.total[number][inside]
        symbols = self._solver.kernels.program.symbols
        if symbols.ghosts:
            gradient *= cell_shares(c, symbols, grid.shape[-1])
        known = [(peak_of(gradient[at]), power) for at, power in self._strongest.items()]
        check_range(known, grid.dtype, f"the gradients of the coefficient {c.name}", SMALL)
        for at, power in self._strongest.items():
            gradient[at] = scaled(gradient[at], power)
        return gradient


def _add_gradients(total: list[np.ndarray], more: list[np.ndarray]) -> list[np.ndarray]:
    """The sum of two lists of gradients; the memory of the second is used again."""
    for a, b in zip(total, more, strict=True):
        a += b
        POOL.give("gradient", b)
    return total


def _by_axis(samples: np.ndarray, points: int, axes: int) -> np.ndarray:
    """From (step, axis and point, padding) to (point, axis, step)."""
    return samples[:, : axes * points].reshape(-1, axes, points).transpose(2, 1, 0)


def _of(array: np.ndarray, position: tuple[int, ...]) -> np.ndarray:
    """The batch element at a position; axes of length 1 are shared."""
    return array[_clipped(position, array.shape)]


def _clipped(position: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(p, n - 1) for p, n in zip(position, shape, strict=False))
