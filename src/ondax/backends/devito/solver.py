"""Forward, Born and adjoint runs over batches of shots, by C kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from ...histories.base import Recording, Rerun, Stretch
from ...histories.buffers import Layout, OutOfMemory
from ...histories.store import STORE, Kept
from ...scheme.names import PERTURBED
from ...scheme.plan import PlannedPort
from ...scheme.system import Touch
from ..base import AbstractSolver, Asked, Experiment, Gradients, Memory
from ..boxes import box
from ..clock import Clock
from ..domain import Domain
from ..scaling import LARGE, WEAK, check_range, exponent, exponent_of, peak_of, scaled
from ..settings import Settings
from ..setups import clipped, element
from ..workers import HERE, Arrays, Shared, Totals, Visit, visits
from .extent import Extent
from .kernels import Kernels, kernels_of
from .layout import allocated, history_layout, history_offsets, interior, on_grid, with_halo
from .native import Halves
from .placement import Placement
from .plans import Planned
from .runs import AdjointRun, ForwardRun, Heard
from .shot import Shot
from .sums import Found, Patch, Sums, by_axis
from .tasks import Task, Tasks, part

# sharing out the steps of a smaller shot costs more than it gains (measured on two cores)
POINTS_PER_THREAD = 250_000
PLACED = 1_000_000  # points whose weights are remembered: some hundred bytes each


class Residual(NamedTuple):
    """What an adjoint run of a shot is fed.

    Attributes:
        samples: cotangents of what receivers record.
        final: those of the state after the last step, by field name.
        power: both are divided by two to this power.
    """

    samples: np.ndarray
    final: Mapping[str, np.ndarray]
    power: int


class Solver(AbstractSolver, Shared):
    """Runs one program in C kernels, shots side by side.

    Args:
        planned: what is run.
        domain: that coefficients are given on; those of shots are parts of it.
        clock: that results are sized for.
        settings: threads and memory.
    """

    def __init__(self, planned: Planned, domain: Domain, clock: Clock, settings: Settings) -> None:
        self.kernels = kernels_of(planned)
        self.domain, self.clock = domain, clock
        self.settings = self._given = settings
        self._settled = False  # it was sent here, and sends nothing on
        plan = planned.plan
        self.plan = plan
        self.coefficients = plan.coefficients
        self.inputs, self.outputs = plan.inputs, plan.outputs
        self._tasks = Tasks(planned, domain)
        self._placements: dict[Hashable, Placement] = {}
        self._placed = 0  # points in them
        self._largest = domain  # of the shots of the last call
        self._profiles: dict[Hashable, dict[str, np.ndarray]] = {}

    def __reduce__(self) -> Any:
        return Solver, (self.kernels.planned, self.domain, self.clock, self.settings)

    def settle(self, threads: int, memory: int) -> None:
        """See `Shared`."""
        self._settled = True
        self.settings = self._given.lent(threads, memory)

    @property
    def burden(self) -> str:
        """See `Shared`."""
        return f"a shot needs about {self._bytes_of_fields(self._largest)} bytes for its wavefields"

    # ---------------------------------------------------------------- the three runs

    @cached_property
    def state(self) -> Mapping[str, tuple[int, ...]]:
        """See `AbstractSolver.state`."""
        from ..states import States

        return States(self.kernels.planned.program, self.plan, self.domain, self.clock.dt).shapes

    def forward(
        self,
        batch: tuple[int, ...],
        e: Experiment,
        recording: Recording | None,
        slopes: bool,
        final: bool = False,
    ) -> tuple[Any, ...]:
        """See `AbstractSolver.forward`. With a recording, leaves histories in the store where they
        fit."""
        recording = self.kernels.worth_sampling(recording)
        tasks = self._together(batch, e, recording)
        axes, dtype = len(self.domain.shape), self.domain.dtype
        shape = (*batch, e.setups.shots, len(self.outputs) * e.setups.receivers)
        samples = e.before + self.clock.samples
        traces = np.zeros((*shape, samples), dtype)
        moved = np.zeros((*shape, axes, samples), dtype) if slopes else None
        states: dict[str, np.ndarray] = {}
        if final:
            shots = shape[:-1]
            states = {n: np.zeros((*shots, *s), dtype) for n, s in self.state.items()}
        peaks: dict[int, tuple[float, int]] = {}
        asked = slopes, final

        def take(task: Task, heard: Heard) -> None:
            for name, values in (heard.final or {}).items():
                states[name][task.index] = scaled(values, task.power)
            recorded = task.setup.clock.recorded(heard.recorded, len(task.setup.receivers))
            if heard.before is not None:
                recorded = np.concatenate([heard.before, recorded])
            receivers = len(self.outputs) * len(task.setup.receivers)
            peaks[task.number] = peak_of(recorded[:, :receivers]), task.power
            recorded = scaled(recorded, task.power)
            traces[task.index][task.out, : len(recorded)] = recorded[:, :receivers].T
            if moved is not None:
                slopes = by_axis(recorded[:, receivers:], receivers, axes)
                moved[task.index][task.out, :, : len(recorded)] = slopes

        visit = partial(self._visit_forward, recording, asked)
        self._each(tasks, visit, take, of_histories=recording is not None)
        check_range(peaks.values(), dtype, "the traces", WEAK)
        found = (traces,) if moved is None else (traces, moved)
        return (*found, states) if final else found

    def _visit_forward(
        self, recording: Recording | None, asked: tuple[bool, bool], task: Task
    ) -> tuple[Heard, None]:
        """A forward run of one shot, whose history stays, if there is room."""
        heard = self._reuse_or_drop(task, recording, asked) if recording else None
        if heard is None and recording:
            needed = task.needed or self._unread(task, recording)
            kept, heard = self._record(task, recording, asked, needed, wait=False)
            if kept is not None:
                STORE.release(kept)
        return (self._run_forward(task, asked) if heard is None else heard), None

    def _unread(self, task: Task, recording: Recording) -> Callable[[Hashable], bool]:
        """Whether a history is of the same medium and has not been read: it was left by a shot of
        the same call, of which nothing else is known here."""
        shared = self._shared_key(task, recording)
        return lambda key: isinstance(key, tuple) and key[:-1] == shared and STORE.unread(key)

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
        rows = len(self.outputs) * e.setups.receivers
        dtype = self.domain.dtype
        samples = e.before + self.clock.samples  # the initial state does not change
        traces = np.zeros((*batch, e.setups.shots, rows, samples), dtype)
        peaks: dict[int, tuple[float, int]] = {}
        chosen = [c.name for c in self.coefficients if c.name in recording.coefficients]
        moved: dict[Any, Arrays] = {}
        for task in tasks:
            given = {n: changes[n] for n in chosen}
            shared = tuple(clipped(task.batch, c.shape) for c in given.values())
            if shared not in moved:
                moved[shared] = Arrays({n: element(c, task.batch) for n, c in given.items()})
            fired = None
            if source is not None:
                fired = element(source, task.batch)[task.index[-1]]
                fired = fired[task.into, : task.setup.clock.steps]
            task.given = moved[shared], fired

        def take(task: Task, found: tuple[np.ndarray, int]) -> None:
            recorded, power = found
            peaks[task.number] = peak_of(recorded), power
            first = e.before
            traces[task.index][task.out, first : first + len(recorded)] = scaled(recorded, power).T

        self._each(tasks, partial(self._visit_born, recording), take)
        check_range(peaks.values(), dtype, "the Born traces", WEAK)
        return traces

    def _visit_born(self, recording: Recording, task: Task) -> tuple[tuple[np.ndarray, int], None]:
        """A Born run of one shot: what receivers record, times two to a power."""
        setup, (changes, fired) = task.setup, task.given
        inside = part(setup.start, setup.domain.shape)
        of_task = {n: v[inside] for n, v in changes.values.items()}
        more = self._power_of_changes(task, of_task, fired)
        with self._shot(task) as shot:
            for c in self.coefficients:
                if c.name in of_task:
                    values = scaled(of_task[c.name], -more)
                    shot.arrays[PERTURBED + c.name] = with_halo(
                        c, values, setup.domain, self.plan.ghosts
                    )
            into, out = shot.terminals(shot.source), shot.terminals(shot.receiver)
            if fired is not None:
                into.fill(scaled(fired, -task.power - more))
            arrays = {**into.arrays, **out.arrays}
            kernel = self.kernels.born(recording, shot.parallel)
            shot.start(self.plan.fields, self.kernels.levels, prefix=PERTURBED)
            with closing(self._replayed(task, recording, False, True)) as stretches:
                for stretch in stretches:
                    offsets = history_offsets(
                        self.kernels, recording, setup.domain, stretch.arrays, stretch.first
                    )
                    every_array = {**arrays, **stretch.arrays}
                    shot.run(kernel, stretch.first, stretch.last, every_array, offsets)
            recorded = setup.clock.recorded(out.columns(), len(setup.receivers))
            return (recorded, task.power + more), None

    def _power_of_changes(
        self, task: Task, changes: Mapping[str, np.ndarray], fired: np.ndarray | None
    ) -> int:
        """The binary exponent of the largest change, of coefficients or of sources, relative to
        what it changes."""
        sizes = [
            (exponent(values), task.medium.sizes.get(name)) for name, values in changes.items()
        ]
        found = [
            change - (change if size is None else size)
            for change, size in sizes
            if change is not None
        ]
        size = None if fired is None else exponent(fired)
        if size is not None:
            gain = self._tasks.gain(self.inputs, task.setup, task.medium)
            found.append(size + gain - task.power)
        return max(found, default=0)

    def adjoint(
        self,
        batch: tuple[int, ...],
        e: Experiment,
        recording: Recording | None,
        residual: np.ndarray,
        asked: Asked,
        final: Mapping[str, np.ndarray] | None = None,
    ) -> Gradients:
        """See `AbstractSolver.adjoint`."""
        recording = self.kernels.worth_sampling(recording)
        tasks = self._together(batch, e, recording)
        # Shots are summed at the scale of the strongest one of each batch element.
        strongest: dict[tuple[int, ...], int] = {}
        for task in tasks:
            shot, length = task.index[-1], e.before + task.setup.clock.samples
            samples = element(residual, task.batch)[shot][task.out, :length]
            ends = {n: element(v, task.batch)[shot] for n, v in (final or {}).items()}
            peaks = [peak_of(samples), *map(peak_of, ends.values())]
            power = self._power_of_residual(task, peaks[0], ends)
            task.given = Residual(samples, ends, power)
            if max(peaks) != 0.0 and task.moves:
                before = strongest.get(task.batch, -LARGE)
                strongest[task.batch] = max(before, task.power + power)
        sums = Sums(
            self.plan,
            self.domain,
            self.clock,
            batch,
            e,
            recording,
            asked,
            strongest,
            self.state if asked.initial else {},
        )
        if recording and len(tasks) > 1:
            # Histories at hand first: recomputing the others may need their memory.
            tasks = self._found_first(tasks, recording)
        visit = partial(self._visit_back, recording, asked, strongest)
        take = sums.take if sums.of_shots else None
        return sums.finished(self._each(tasks, visit, take, sums.nbytes, recording is not None))

    def _visit_back(
        self,
        recording: Recording | None,
        asked: Asked,
        strongest: Mapping[tuple[int, ...], int],
        task: Task,
    ) -> tuple[list[Found], Patch | None]:
        """The adjoint runs of one shot."""
        relative = task.power + task.given.power - strongest.get(task.batch, LARGE)
        sampled = recording is not None and recording.every > 1
        at_sources = replace(asked, coefficients=())
        if sampled and at_sources.anything:
            # A sampled run smooths its residuals, so gradients at sources need a second run.
            none = Asked(again=asked.again)
            first, patch = self._back(task, recording, none, relative)
            second, _ = self._back(task, None, at_sources, relative)
            return [first, second], patch
        found, patch = self._back(task, recording, at_sources, relative)
        return [found], patch

    def _back(
        self, task: Task, recording: Recording | None, asked: Asked, relative: int
    ) -> tuple[Found, Patch | None]:
        """One adjoint run: what it finds, and the gradients of coefficients, times two to the power
        `relative`; None without a recording."""
        residual, final, power = task.given
        at_sources = asked.wavelet or asked.sources
        started = task.initial is not None
        ends = {n: scaled(v, -power) for n, v in final.items()}
        kernels = self.kernels
        if ends or asked.initial or (started and not kernels.any_start(recording)):
            kernels = kernels.prompt
        with self._shot(task, source_slopes=asked.sources, kernels=kernels) as shot:
            run = AdjointRun(
                kernels, shot, recording, at_sources, asked.weights, asked.initial, started, ends
            )
            run.inject(scaled(residual, -power), int(started))
            if asked.weights:
                run.correlate(task.source)
            if recording is None:
                run.back(None)
            else:
                replayed = self._replayed(task, recording, True, asked.again)
                with closing(replayed) as stretches:
                    for stretch in stretches:
                        run.back(stretch)
            patch = None
            if recording is not None:
                chosen = [c for c in self.coefficients if c.name in recording.coefficients]
                patch = Patch.of(chosen, task, run.gradients, relative)
            found = Found(
                power=power,
                weights=run.weights_gradient() if asked.weights else None,
                read=run.read if at_sources else None,
                initial=run.initial if asked.initial else None,
            )
            return found, patch

    # ---------------------------------------------------------------- tasks

    def _together(
        self, batch: tuple[int, ...], e: Experiment, recording: Recording | None
    ) -> list[Task]:
        """All shots of the batch; each is told which histories the others need."""
        tasks = list(self._tasks.of(batch, e))
        if recording:
            company = frozenset(self._shared_key(t, recording) for t in tasks)
            keys = {t.history_key(recording, self.kernels) for t in tasks}
            for task in tasks:
                task.company, task.needed = company, keys.__contains__
        return tasks

    def _power_of_residual(self, task: Task, size: float, final: Mapping[str, np.ndarray]) -> int:
        """The power of two that residuals up to that size, and cotangents of the final state, are
        divided by, so that they change the adjoint field by about one in a step."""
        transposed = self.kernels.planned.transposed
        of_residual = exponent_of(size)
        gain = self._tasks.gain(transposed.inputs, task.setup, task.medium, back=True)
        found = [] if of_residual is None else [of_residual + gain]
        # Adjoint updates stand in reverse order.
        adjoints = zip(self.plan.fields, reversed(transposed.fields), strict=True)
        for field, adjoint in adjoints if final else ():
            of_field = exponent(final[field.name]) if field.name in final else None
            if of_field is not None:
                touches = (Touch(adjoint, None, 1.0),)
                port = PlannedPort(f"settled_{adjoint.name}", touches, 0.0, strains=False)
                of_field += self._tasks.gain((port,), task.setup, task.medium, back=True)
                found.append(of_field)
        return max(found, default=gain)

    def _each(
        self,
        tasks: Sequence[Task],
        visit: Visit,
        take: Callable[[Task, Any], None] | None,
        sums: int = 0,
        of_histories: bool = True,
    ) -> Totals:
        """Visit all shots, side by side, take what each visit finds, and sum over shots; of which
        the sums take so many bytes."""
        threads = self.settings.worker_threads
        share = threads // max(1, len(tasks))
        domains = (task.setup.domain for task in tasks)
        self._largest = max(domains, key=lambda domain: math.prod(domain.shape))
        for task in tasks:
            task.threads = self._threads_of(task, share)
        where = visits() if self.kernels.planned.portable and not self._settled else HERE
        totals = where.each(tasks, visit, take, min(threads, max(1, len(tasks))), sums)
        STORE.trim(self.settings.memory_budget, of_histories)
        return totals

    @staticmethod
    def _threads_of(task: Task, share: int) -> int:
        """How many threads a shot is worth, of so many."""
        return max(1, min(share, math.prod(task.setup.domain.shape) // POINTS_PER_THREAD))

    def out_of_memory(self, error: OutOfMemory) -> OutOfMemory:
        """What failed, what a shot needs, and what to do."""
        return OutOfMemory(
            f"out of memory: {error}, though all histories were dropped. A shot needs about "
            f"{self._bytes_of_fields(self._largest)} bytes for "
            f"its wavefields, and up to {self.settings.worker_threads} run side by side. Run fewer "
            "with "
            "ox.Settings(threads=...), take a coarser or smaller grid or a narrower boundary, or "
            "give the process more memory"
        )

    def memory(self, domain: Domain, clock: Clock, recording: Recording) -> Memory:
        """See `AbstractSolver.memory`."""
        recording = self.kernels.worth_sampling(recording) or recording
        layout = partial(history_layout, self.kernels, recording, domain)
        taken = recording.history.takes(clock.steps + recording.beyond, layout)
        return Memory(self._bytes_of_fields(domain), taken.memory, taken.disk)

    def _bytes_of_fields(self, domain: Domain) -> int:
        """Memory that the wavefields and coefficients of one shot take, without a history. What is
        confined to layers is stored there only."""
        arrays = [(f, self.kernels.levels[f.name]) for f in self.plan.fields]
        arrays += [(c, 1) for c in self.plan.coefficients]
        values = sum(
            buffers * math.prod(allocated(f, box(f, domain).shape, domain.dtype))
            for f, buffers in arrays
        )
        return values * np.dtype(domain.dtype).itemsize

    def _shot(
        self,
        task: Task,
        receiver_slopes: bool = False,
        source_slopes: bool = False,
        kernels: Kernels | None = None,
    ) -> Shot:
        setup = task.setup
        receivers = {
            p.name: self._placement(p, setup.domain, setup.receivers, receiver_slopes)
            for p in self.outputs
        }
        return Shot(
            kernels or self.kernels,
            setup.domain,
            setup.clock,
            task.medium.arrays(setup),
            self._profiles_of(setup.domain),
            self._entries(task, source_slopes),
            receivers,
            task.threads or self._threads_of(task, self.settings.worker_threads),
        )

    def _profiles_of(self, domain: Domain) -> dict[str, np.ndarray]:
        """The functions of one dimension of a domain's boundary, as kernels take them."""
        key = domain.boundary_key
        if key not in self._profiles:
            made = {}
            for symbol in self.plan.profiles:
                values = domain.profiles[symbol.name]
                array = on_grid(symbol, values.shape, domain.dtype)
                array[interior(symbol, values.shape)] = values
                made[symbol.name] = array
            self._profiles[key] = made
        return self._profiles[key]

    def _entries(self, task: Task, slopes: bool) -> dict[str, Placement | Extent]:
        """Where the samples of each input enter."""
        domain, sources = task.setup.domain, task.setup.sources
        if task.weights is None:
            return {p.name: self._placement(p, domain, sources, slopes) for p in self.inputs}
        extent = Extent(self.plan, domain, self.inputs, task.weights)
        return {p.name: extent for p in self.inputs}

    def _placement(
        self, port: PlannedPort, domain: Domain, positions: np.ndarray, slopes: bool
    ) -> Placement:
        """The kernel arrays of a set of points; surveys shoot into the same spread again and
        again."""
        key = (port.name, slopes, domain.shape, domain.origin, positions.shape, positions.tobytes())
        placement = self._placements.get(key)
        if placement is None:
            if self._placed > PLACED:
                self._placements.clear()
                self._placed = 0
            placement = Placement(self.plan, domain, port, positions, slopes)
            self._placements[key] = placement
            self._placed += placement.count
        return placement

    # ---------------------------------------------------------------- histories

    def _shared_key(self, task: Task, recording: Recording) -> Hashable:
        """What the keys of all shots in the same medium have in common."""
        return task.history_key(recording, self.kernels)[:-1]

    def _find(self, task: Task, recording: Recording) -> Kept | None:
        """A shot's history in the store, pinned; None if it is not there."""
        found = STORE.find(task.history_key(recording, self.kernels))
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
        asked: tuple[bool, bool],
        protected: Callable[[Hashable], bool],
        wait: bool,
    ) -> tuple[Kept | None, Heard]:
        """A whole forward run that keeps its history, if there is room, and files it, pinned.

        Args:
            task: the shot.
            recording: what to keep.
            asked: whether to read derivatives by receiver position too, and to return the state
                after the last step.
            protected: keys of histories that must not make room.
            wait: for room that others are using now.

        Returns:
            What was kept, and what is left of the run.

        Raises:
            _NoRoom: `wait` is given, but there is no memory, so the run is not made.
        """
        shared, budget = self._shared_key(task, recording), self.settings.memory_budget
        held: list[Kept] = []

        def room(layout: Layout) -> Kept | None:
            company = task.company or frozenset((shared,))
            found = STORE.acquire(layout, budget, protected, wait, shared, company)
            if found is not None:
                held.append(found)
            elif wait:
                raise _NoRoom
            return found

        try:
            slopes, final = asked
            with self._shot(task, receiver_slopes=slopes) as shot:
                run = ForwardRun(self.kernels, shot, task.source, recording, task.initial)
                kept = recording.record(run, room)
                heard = run.heard(final)
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
            kept.recorded = {(asked, task.setup.receivers.tobytes()): heard}
            STORE.keep(task.history_key(recording, self.kernels), kept)
        return kept, heard

    def _run_forward(self, task: Task, asked: tuple[bool, bool]) -> Heard:
        """A whole forward run that keeps nothing; see `_record`."""
        slopes, final = asked
        with self._shot(task, receiver_slopes=slopes, source_slopes=task.by_position) as shot:
            run = ForwardRun(self.kernels, shot, task.source, None, task.initial)
            run.advance(0, run.steps, None)
            return run.heard(final)

    def _reuse_or_drop(
        self, task: Task, recording: Recording, asked: tuple[bool, bool]
    ) -> Heard | None:
        """What is left of an earlier run whose history has not been used yet; None if there is no
        such run.

        A used history is dropped, so that the run is made again, and bits do not depend on what the
        store holds.
        """
        known = self._find(task, recording)
        if known is None:
            return None
        by = (asked, task.setup.receivers.tobytes())
        heard = None if known.used else known.recorded.get(by)
        STORE.release(known)
        if heard is None:
            STORE.drop(task.history_key(recording, self.kernels))
        return heard

    def _replayed(
        self, task: Task, recording: Recording, backward: bool, again: bool
    ) -> Generator[Stretch]:
        """A shot's history, a stretch at a time: from the store, or made now.

        Args:
            task: the shot.
            recording: what of it.
            backward: from the last step to the first.
            again: it is likely to be read again.
        """
        kept = self._find(task, recording)
        if kept is None and recording.history.keeps:
            with suppress(_NoRoom):
                nothing = (False, False)
                kept, _ = self._record(task, recording, nothing, lambda _: False, wait=True)
        steps = task.setup.clock.steps + recording.beyond
        memory, shots = self.settings.memory_budget, self.settings.worker_threads
        rerun = Rerun(steps, partial(self._running, task, recording), memory, shots, Halves())
        try:
            yield from recording.replay(kept, rerun, backward)
        finally:
            if kept is not None:
                STORE.release(kept, used=not again)

    @contextmanager
    def _running(self, task: Task, recording: Recording) -> Iterator[ForwardRun]:
        """A forward run at its beginning."""
        with self._shot(task) as shot:
            yield ForwardRun(self.kernels, shot, task.source, recording, task.initial)


class _NoRoom(Exception):
    """There is no memory for a history, so the run is not made."""
