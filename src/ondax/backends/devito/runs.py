"""Forward and adjoint runs of one shot, whole or a stretch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...histories.base import Recording, Stretch
from ...histories.buffers import Layout
from ...histories.sampled import smoothed
from ...scheme.names import GRADIENT
from .kernels import Kernels
from .layout import (
    box,
    history_layout,
    history_offsets,
    interior,
    pooled,
    reflect,
)
from .names import SUMS
from .native import Halves, Turns
from .shot import Shot, State

LEAD = 1  # a zero sample before step 0 of an adjoint run, for its extra step
# added to the step numbers of adjoint runs: a multiple of the numbers of time buffers, 2 and 3
SHIFT = 6


class Heard(NamedTuple):
    """What is left of a forward run.

    Attributes:
        recorded: what receivers have read, (step, column): see `Terminals.columns`.
        before: what they read before the first step, (1, column); None for a start at rest.
        final: the state after the last step; None if nobody asked for it.
    """

    recorded: np.ndarray
    before: np.ndarray | None = None
    final: dict[str, np.ndarray] | None = None


class ForwardRun:
    """A forward run that can be stopped and taken up again: a `Recorder`.

    Args:
        kernels: of its program.
        shot: its arrays.
        source: samples, (port and source, step).
        recording: what it may keep; None for nothing. A run that keeps some steps only goes on
            beyond the record's end.
        initial: the state before step 0; None for rest.
    """

    def __init__(
        self,
        kernels: Kernels,
        shot: Shot,
        source: np.ndarray,
        recording: Recording | None,
        initial: State | None = None,
    ) -> None:
        self.kernels, self.recording, self.shot = kernels, recording, shot
        self.fields = kernels.planned.plan.fields
        beyond = recording.beyond if recording else 0
        self.steps = shot.clock.steps + beyond
        inputs, self._outputs = (
            shot.terminals(g, tail=beyond) for g in (shot.source, shot.receiver)
        )
        inputs.fill(source)
        self.samples = {**inputs.arrays, **self._outputs.arrays}
        shot.start(self.fields, kernels.levels)
        self._before: np.ndarray | None = None
        if initial is not None:
            self.shot.states.set(shot, initial)
            self._before = self._read_before()

    def _read_before(self) -> np.ndarray:
        """What receivers read of the initial state, (1, column)."""
        shot, step = self.shot, SHIFT - 1
        outputs = shot.terminals(shot.receiver, more=1 - shot.clock.steps)
        moves = {n: -step * array[0].nbytes for n, array in outputs.arrays.items()}
        shot.run(self.kernels.reading(), step, step + 1, outputs.arrays, moves)
        return outputs.columns()

    def heard(self, final: bool = False) -> Heard:
        """What is left of the run, once it has made all of its steps; with its final state, if
        that is asked for."""
        state = self.shot.states.get(self.shot, self.steps) if final else None
        return Heard(self._outputs.columns(), self._before, state)

    @property
    def packing(self) -> Halves:
        """See `Recorder.packing`."""
        slots = self.kernels.slots(self.recording) if self.recording else []
        return Halves(group=max((s.group for _, s in slots), default=1))

    @property
    def state_bytes(self) -> int:
        """Memory that a saved state takes."""
        return sum(self.shot.fields[f.name].nbytes for f in self.fields)

    def save(self) -> dict[str, np.ndarray]:
        """A copy of the fields. Scratch arrays are computed anew by every step."""
        return {f.name: self.shot.fields[f.name].copy() for f in self.fields}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a saved state."""
        for name, array in state.items():
            self.shot.fields[name][...] = array

    def advance(self, first: int, last: int, into: Stretch | None) -> None:
        """Run steps `first <= n < last` from the present state, keeping their history if there is
        a stretch for it."""
        shot, recording = self.shot, self.recording
        plain = partial(self.kernels.forward, None, shot.parallel)
        if recording is None or into is None:
            shot.run(plain(), first, last, self.samples)
            return
        keeping = self.kernels.forward(recording, shot.parallel)
        held = into.arrays
        offsets = history_offsets(self.kernels, recording, shot.domain, held, into.first)
        slots = self.kernels.slots(recording)
        if recording.every == 1 or not slots:
            shot.run(keeping, first, last, {**self.samples, **held}, offsets)
            return
        # All of a history is kept alike. What is known after a step n is that step's product, or
        # the field at time n + 1.
        quantity, kept = slots[0]
        late = int(quantity.at_next)
        turns = Turns(
            first=first,
            last=last,
            backward=False,
            slots=kept,
            reach=(kept.low - late, kept.high - late),
            groups=kept.groups(last),
        )
        shot.run_in_turns(keeping, plain(), turns, self.samples, held, offsets)

    def layout(self, first: int, last: int) -> Layout:
        """What arrays hold a stretch."""
        assert self.recording is not None
        return history_layout(self.kernels, self.recording, self.shot.domain, first, last)

    def begin(self, first: int, last: int, arrays: Mapping[str, np.ndarray]) -> Stretch:
        """A stretch in these arrays: with the fields that are known before its first step, and
        zeros after its last."""
        assert self.recording is not None
        for quantity, slots in self.kernels.slots(self.recording):
            kept = arrays[quantity.symbol.name]
            if slots.every == 1:
                kept[-1] = 0
            if not quantity.at_next:
                continue
            field = self.shot.fields[quantity.field.name]
            levels = field.shape[0]
            stored = box(quantity.field, self.shot.domain).shape
            target, source = interior(quantity.symbol, stored), interior(quantity.field, stored)
            for step in (first - 1, first):
                slot = step - first - slots.low
                if slot < 0:
                    continue
                kept[slot] = 0
                if quantity.field.time_order == 2 or step == first:
                    kept[(slot, *target)] = field[(step % levels, *source)]
                    # Kernels fill the rows above a surface of the values that they compute, not of
                    # these.
                    reflect(quantity.symbol, kept[slot], quantity.image)
        return Stretch(first, last, arrays)


class AdjointRun:
    """The adjoint run of one shot, with the gradients of coefficients.

    Args:
        kernels: of its program.
        shot: its arrays.
        recording: which coefficients, and what is kept for them; None for none.
        at_source: also read the adjoint field where sources enter.
        weights: also take the gradient of the weights of extended sources: call `correlate` before
            the run.
        initial: also take the cotangents of the initial state: `kernels` must be `prompt`.
        started: the forward run did not start at rest.
        final: cotangents of the state after the last step; None for zero. With them, `kernels` must
            be `prompt`.

    A run with a history sampled in time smooths its residuals: what it reads at sources is not
    their gradient.
    """

    def __init__(
        self,
        kernels: Kernels,
        shot: Shot,
        recording: Recording | None,
        at_source: bool,
        weights: bool = False,
        initial: bool = False,
        started: bool = False,
        final: State | None = None,
    ) -> None:
        self.shot, self.recording = shot, recording
        self.kernels = kernels
        self._final, self._initial = final, initial
        # A history's gradients of weights are lagged: the next step makes them.
        self._reads = at_source, weights and recording is None
        self._corrects = started and not kernels.any_start(recording)
        self.initial: dict[str, np.ndarray] | None = None
        self.every = recording.every if recording else 1
        beyond = recording.beyond if recording else 0
        self.steps = shot.clock.steps + beyond
        self.kernel = kernels.adjoint(recording, at_source, weights, shot.parallel)
        self._residual = shot.terminals(shot.receiver, LEAD, more=beyond)
        extended = kernels.planned.plan.extended
        read = shot.sums if extended else partial(shot.terminals, shot.source)
        self._read = read(lead=LEAD, tail=beyond)
        self.samples = {**self._residual.arrays, **self._read.arrays}
        self._extent: Any = next(iter(shot.source.values())) if extended else None
        self._weights_parts: dict[str, np.ndarray] = {}
        if self._extent is not None and at_source:
            self.samples |= self._extent.by_cell()
        self.parts: dict[str, np.ndarray] = {}
        for c in kernels.planned.plan.coefficients:
            if recording and c.name in recording.coefficients:
                part = pooled("gradient", c, shot.domain.shape, shot.domain.dtype)
                self.parts[GRADIENT + c.name] = part
        shot.start(kernels.planned.transposed.fields, kernels.levels_back)

    @property
    def gradients(self) -> list[np.ndarray]:
        """One array per coefficient asked for, with halo; give them back to the pool. To be asked
        for once, after the run."""
        for part in self.parts.values() if self.every > 1 else ():
            part *= self.every  # each kept step stands for as many
        return list(self.parts.values())

    @property
    def read(self) -> np.ndarray:
        """What was read where sources enter, (step, column): see `Terminals.columns`."""
        columns = self._read.columns()
        if self._extent is None:
            return columns
        by_port = (len(columns), len(SUMS), len(self.shot.source), -1)
        return columns.reshape(by_port).sum(axis=(1, 3))

    def inject(self, residual: np.ndarray, before: int = 0) -> None:
        """Set the residuals of what receivers record, (port and receiver, sample), and how many of
        these they record before the first step, none or one."""
        if before:
            points, rows = self._residual.points, residual[:, 0]
            for n, array in enumerate(self._residual.arrays.values()):
                array[LEAD - 1, :points] = rows[n * points : (n + 1) * points]
            residual = residual[:, before:]
        at_steps = self.shot.clock.spread(residual, self._residual.points)
        if self.every > 1 and self.recording is not None:
            at_steps = smoothed(at_steps, self.recording.sampling)
        self._residual.fill(at_steps)

    def correlate(self, source: np.ndarray) -> None:
        """Set the samples of extended sources, (port, step), for the gradient of their weights."""
        series = self.shot.terminals(self.shot.source, LEAD, LEAD)
        series.fill(source)
        self._weights_parts = self._extent.gradients()
        self.samples |= {**series.arrays, **self._weights_parts}

    def weights_gradient(self) -> np.ndarray:
        """The gradient of the weights, on the shot's domain. To be asked for once, after the run:
        its memory goes back to the pool."""
        return self._extent.collected(self._weights_parts)

    def back(self, stretch: Stretch | None) -> None:
        """Take the gradient of the steps of a stretch, and step the adjoint field as far as that
        needs; without one, step through all of the run."""
        shot, arrays = self.shot, {**self.samples, **self.parts}
        ends = ("_samples", *(f"_{sums}" for sums in SUMS.values()))
        with_lead = [n for n in self.samples if n.endswith(ends)]
        recording = self.recording
        if recording is None or stretch is None:
            moves = {n: (LEAD - SHIFT) * arrays[n][0].nbytes for n in with_lead}
            self._run(0, self.steps, arrays, moves)
            return
        # Lagged: a step's gradient is taken one step later. The extra step would be step -1. But in
        # C, the modulus of a negative number is negative, so steps are counted from SHIFT.
        held = stretch.arrays
        whole = stretch.last == self.steps
        first, last = stretch.first - 1, stretch.last if whole else stretch.last - 1
        moves = {n: (LEAD - SHIFT) * arrays[n][0].nbytes for n in with_lead}
        slots = self.kernels.slots(recording)
        offsets = history_offsets(self.kernels, recording, shot.domain, held, stretch.first)
        if recording.every == 1 or not slots:
            moves |= {n: offsets[n] - SHIFT * held[n][0].nbytes for n in held}
            self._run(first, last, {**arrays, **held}, moves)
            return
        kept = slots[0][1]
        turns = Turns(
            first=first,
            last=last,
            backward=True,
            slots=kept,
            reach=(-1, -1),
            groups=(stretch.last - 1) // kept.every + 1,
            shift=SHIFT,
        )
        plain = self.kernels.adjoint(None, False, False, shot.parallel)
        shot.run_in_turns(self.kernel, plain, turns, arrays, held, {**moves, **offsets})

    def _run(
        self, first: int, last: int, arrays: Mapping[str, np.ndarray], moves: Mapping[str, int]
    ) -> None:
        """Run the steps `first <= n < last`, backward, and between them do what is due to the
        states before and after the forward run."""
        stops = {self.steps - 1, self.steps - 2} if self._final else set()
        if self._initial or self._corrects:
            stops.add(0)
        for low in sorted({first, *(n for n in stops if first <= n < last)}, reverse=True):
            self.shot.run(self.kernel, low + SHIFT, last + SHIFT, arrays, moves)
            last = low
            level = self.steps - 1 - low
            if self._final and level in (0, 1):
                self._settle(level, low + SHIFT, arrays, moves)
            if low == 0 and 0 in stops:
                self._start(arrays, moves)

    def _settle(
        self, level: int, time: int, arrays: Mapping[str, np.ndarray], moves: Mapping[str, int]
    ) -> None:
        """Add what is due to a level of the state after the forward run, once the step that made
        it has been done."""
        shot, fields = self.shot, self.shot.states.settling
        shot.start(fields, dict.fromkeys((f.name for f in fields), 2))
        if self.shot.states.unsettled(shot, self._final or {}, level, time):
            kernel = self.kernels.settling(*self._reads, shot.parallel)
            shot.run(kernel, time, time + 1, arrays, moves)
            self.shot.states.settle(shot, time)
        shot.stop(fields)

    def _start(self, arrays: Mapping[str, np.ndarray], moves: Mapping[str, int]) -> None:
        """Take the cotangents of the initial state, and what gradients get of it, once step 0 has
        been done."""
        shot, fields = self.shot, self.shot.states.starting
        kernel = self.kernels.starting(self.recording if self._corrects else None, shot.parallel)
        shot.start(fields, dict.fromkeys((f.name for f in fields), 2))
        shot.run(kernel, SHIFT - 1, SHIFT, arrays, moves)
        self.initial = initial = self.shot.states.started(shot)
        if self._final and self.steps == 1:  # the initial state is a part of the final one
            for name, levels in self._final.items():
                if len(levels) == 2:
                    initial[name][0] += self.shot.states.free_of(name) * levels[1]
        shot.stop(fields)
