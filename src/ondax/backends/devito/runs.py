"""Forward and adjoint runs of one shot, whole or a stretch at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...calculus.coupling import GRADIENT
from ...histories import revolve as checkpoint
from ...histories.base import Recording
from ...histories.sampled import smoothed, steps_beyond
from ...histories.store import History, Stored, layout_bytes
from .programs import Programs
from .shot import POOL, Shot, allocated, box, history_layout, history_offsets, interior, reflect

LEAD = 1  # a zero sample before step 0 of an adjoint run, for its extra step
# added to the step numbers of adjoint runs: a multiple of the numbers of time buffers, 2 and 3
SHIFT = 6


class ForwardRun:
    """A forward run that can be stopped and taken up again.

    Args:
        programs: the compiled scheme.
        shot: its arrays.
        source: samples, (port and source, step).
        every: steps between those that its history keeps; above 1 it goes on beyond the record's
            end.
    """

    def __init__(self, programs: Programs, shot: Shot, source: np.ndarray, every: int = 1) -> None:
        self.programs = programs
        self.sparse = every > 1
        self.shot = shot
        self.fields = programs.scheme.system.fields
        self.steps = shot.grid.steps + steps_beyond(every)
        inputs, self._outputs = (
            shot.terminals(g, tail=steps_beyond(every)) for g in (shot.source, shot.receiver)
        )
        inputs.fill(source)
        self.samples = {**inputs.arrays, **self._outputs.arrays}
        shot.start(self.fields, sparse=self.sparse)

    @property
    def recorded(self) -> np.ndarray:
        """What receivers have read, (step, column): see `Terminals.columns`."""
        return self._outputs.columns()

    @property
    def state_bytes(self) -> int:
        return sum(self.shot.fields[f.name].nbytes for f in self.fields)

    def advance(
        self, first: int, last: int, recording: Recording | None, history: History | None
    ) -> None:
        """Run steps `first <= n < last` from the present state, keeping the history if
        there is a recording."""
        kernel = self.programs.forward(recording, self.sparse, self.shot.parallel)
        arrays, offsets, every = self.samples, {}, 1
        if recording is not None and history is not None:
            arrays, every = {**arrays, **history.arrays}, recording.every
            offsets = history_offsets(
                self.programs, recording, self.shot.grid, history.arrays, first
            )
        self.shot.run(kernel, first, last, arrays, offsets, every)

    def stretch(self, recording: Recording, first: int, last: int) -> History:
        """A buffer for the history of a stretch, with the fields that are known before it."""
        layout = history_layout(self.programs, recording, self.shot.grid, first, last)
        arrays = {s.name: POOL.take(_stretch(s), s.shape, s.dtype) for s in layout}
        for quantity in self.programs.coupling(recording).quantities:
            kept = arrays[quantity.symbol.name]
            if quantity.at_next:
                kept.fill(0)
                field = self.shot.fields[quantity.field.name]
                levels = field.shape[0]
                stored = box(quantity.field, self.shot.symbols, self.shot.grid).shape
                target, source = interior(quantity.symbol, stored), interior(quantity.field, stored)
                for slot, step in enumerate((first - 1, first)):
                    if quantity.field.time_order == 2 or step == first:
                        kept[(slot, *target)] = field[(step % levels, *source)]
                        # Kernels fill the rows above a surface of the values that they compute, not
                        # of these.
                        image = self.programs.scheme.image_kept(quantity)
                        reflect(quantity.symbol, kept[slot], image, self.shot.symbols)
            else:
                kept[-1] = 0
        return History(arrays, layout, layout_bytes(layout))

    @staticmethod
    def drop(history: History) -> None:
        """Give a stretch's memory back."""
        for stored in history.layout:
            POOL.give(_stretch(stored), history.arrays[stored.name])


def _stretch(stored: Stored) -> str:
    """The use of an array of a stretch. What its halo holds belongs to it."""
    return f"stretch {stored.halo} {stored.mirrored}"


class AdjointRun:
    """The adjoint run of one shot, with the gradients of the recording coefficients.

    Args:
        programs: the compiled scheme.
        shot: its arrays.
        recording: the coefficients to differentiate; None for none.
        at_source: also read the adjoint field where sources enter.
        weights: also take the gradient of the weights of extended sources: call `correlate` before
            the run.

    A run with a history sampled in time smooths its residuals: what it reads at sources is not
    their gradient.
    """

    def __init__(
        self,
        programs: Programs,
        shot: Shot,
        recording: Recording | None,
        at_source: bool,
        weights: bool = False,
    ) -> None:
        self.shot, self.recording = shot, recording
        self.programs = programs
        self.every = recording.every if recording else 1
        beyond = steps_beyond(self.every)
        self.steps = shot.grid.steps + beyond
        self.kernel = programs.adjoint(recording, at_source, weights, shot.parallel)
        self._residual = shot.terminals(shot.receiver, LEAD, more=beyond)
        read = shot.sums if programs.scheme.extended else partial(shot.terminals, shot.source)
        self._read = read(lead=LEAD, tail=beyond)
        self.samples = {**self._residual.arrays, **self._read.arrays}
        self._extent: Any = next(iter(shot.source.values())) if programs.scheme.extended else None
        self._of_weights: dict[str, np.ndarray] = {}
        if self._extent is not None and at_source:
            self.samples |= self._extent.by_cell()
        self.parts: dict[str, np.ndarray] = {}
        for c in programs.scheme.system.coefficients:
            if recording and c.name in recording.coefficients:
                part = POOL.take(
                    "gradient", allocated(c, shot.grid.shape, shot.grid.dtype), shot.grid.dtype
                )
                part.fill(0)
                self.parts[GRADIENT + c.name] = part
        shot.start(programs.scheme.transposed.fields)

    @property
    def gradients(self) -> list[np.ndarray]:
        """One array per recording coefficient, with halo; give them back to the pool."""
        return list(self.parts.values())

    @property
    def read(self) -> np.ndarray:
        """What was read where sources enter, (step, column): see `Terminals.columns`."""
        columns = self._read.columns()
        by_port = (len(columns), len(self.shot.source), -1)
        return columns if self._extent is None else columns.reshape(by_port).sum(axis=-1)

    def inject(self, residual: np.ndarray) -> None:
        """Set the residual traces, (receiver, sample)."""
        at_steps = self.shot.grid.unrecorded(residual, self._residual.points)
        self._residual.fill(smoothed(at_steps, self.every))

    def correlate(self, source: np.ndarray) -> None:
        """Set the samples of extended sources, (port, step), for the gradient of their weights."""
        series = self.shot.terminals(self.shot.source, LEAD, LEAD)
        series.fill(source)
        self._of_weights = self._extent.gradients()
        self.samples |= {**series.arrays, **self._of_weights}

    def of_weights(self) -> np.ndarray:
        """The gradient of the weights, on the grid; once."""
        return self._extent.collected(self._of_weights)

    def back(self, first: int, last: int, history: History | None) -> None:
        """Take the gradient of the steps `first <= n < last` and step the adjoint field as far as
        that needs."""
        every, shift, offsets = 1, 0, {}
        if self.recording is not None and history is not None:
            every = self.recording.every
            offsets = history_offsets(
                self.programs, self.recording, self.shot.grid, history.arrays, first
            )
            if every == 1:  # lagged: a step's gradient is taken one step later
                first, last = first - 1, last if last == self.steps else last - 1
                # The extra step would be step -1, but C has no modulus of negative numbers: count
                # from SHIFT.
                shift = SHIFT
        arrays = {**self.samples, **(history.arrays if history else {})}
        starts = dict.fromkeys((n for n in self.samples if n.endswith(("_samples", "_sums"))), LEAD)
        in_time = {**starts, **dict.fromkeys(history.arrays if history else (), 0)}
        moves = {
            n: offsets.get(n, 0) + (lead - shift) * arrays[n][0].nbytes
            for n, lead in in_time.items()
        }
        self.shot.run(
            self.kernel, first + shift, last + shift, {**arrays, **self.parts}, moves, every
        )


class Checkpointed:
    """Forward and adjoint run of one shot, as the checkpointing schedule drives them."""

    def __init__(self, run: ForwardRun, adjoint: AdjointRun, recording: Recording) -> None:
        self.run, self.adjoint, self.recording = run, adjoint, recording
        self.history: History | None = None

    def forward(self, first: int, last: int, keep: bool) -> None:
        if keep:
            self.drop()
            self.history = self.run.stretch(self.recording, first, last)
        self.run.advance(
            first, last, self.recording if keep else None, self.history if keep else None
        )

    def backward(self, first: int, last: int) -> None:
        assert self.history is not None
        self.adjoint.back(first, last, self.history)

    def save(self, step: int) -> dict[str, np.ndarray]:
        fields = self.run.shot.fields  # scratch arrays too, which every step computes anew
        return checkpoint.copies({f.name: fields[f.name] for f in self.run.fields})

    def restore(self, state: dict[str, np.ndarray]) -> None:
        for name, array in state.items():
            self.run.shot.fields[name][...] = array

    def drop(self) -> None:
        """Give the present stretch's memory back."""
        if self.history is not None:
            self.run.drop(self.history)
            self.history = None
