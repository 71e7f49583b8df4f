"""Forward, Born and adjoint runs as JAX functions: arrays stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...histories.base import Recording
from ...histories.sampled import Sampling, smoothing
from ..base import Asked, Gradients
from ..clock import HALF_STEP_BACK, Clock
from ..devito.plans import Planned
from ..domain import Domain
from ..scaling import SMALL, WEAK
from ..settings import Settings
from . import scales
from .axes import alike
from .ends import Ends
from .form import Form
from .given import Given, Ready
from .parts import Parts
from .room import Room
from .runs import AbstractEnds, Backward, Runs, Wanted, in_pieces
from .shots import Situation, by_groups
from .steps import State
from .tape import Keep, Tape


class Solver:
    """Runs one program by XLA.

    Args:
        planned: what is run.
        domain: that coefficients are given on.
        of_shots: what shots are run on: that, or a part of it.
        clock: steps and samples.
        settings: memory.
    """

    def __init__(
        self, planned: Planned, domain: Domain, of_shots: Domain, clock: Clock, settings: Settings
    ) -> None:
        self.planned, self.plan = planned, planned.plan
        self.domain, self.of_shots, self.clock, self.settings = domain, of_shots, clock, settings
        self.dtype = np.dtype(domain.dtype)
        self._runs: dict[Form, Runs] = {}

    @property
    def state(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each field's part of the state between two steps, by name."""
        return self._ends.shapes

    @cached_property
    def _ends(self) -> Ends:
        return Ends(self.planned, self.domain, self.clock)

    def _of(self, form: Form) -> Runs:
        form = form.cut() if self.parts.cut else form
        if form not in self._runs:
            program, plan = self.planned.program, self.plan
            self._runs[form] = Runs(program, plan, self.of_shots, self.clock, form, self.parts)
        return self._runs[form]

    @cached_property
    def parts(self) -> Parts:
        """Which part of what shots are run on each device has."""
        return Parts(self.settings.mesh, self.plan.axes, self.of_shots.shape)

    @cached_property
    def of_domain(self) -> Parts:
        """Which part of what coefficients are given on each device has."""
        return Parts(self.settings.mesh, self.plan.axes, self.domain.shape)

    @cached_property
    def room(self) -> Room:
        """The memory of a device."""
        return Room(self._of, self.parts, self.clock, self.settings, self.dtype)

    @cached_property
    def _given(self) -> Given:
        domain, of_shots = (self.domain, self.of_domain), (self.of_shots, self.parts)
        return Given(self.planned, domain, of_shots, self.clock, self._ends, self._of)

    # ---------------------------------------------------------------- traces

    def recorded(self, columns: Any) -> Any:
        """Samples of what is read after each step.

        Args:
            columns: (step, shot, port, copy and point).

        Returns:
            (shot, port, copy and point, sample).
        """
        rows = jnp.moveaxis(columns[: self.clock.steps], 0, -1)
        every, late = self.clock.record_every, self.clock.late
        if not any(late):
            return rows[..., every - 1 :: every]
        parts = []
        for port in range(rows.shape[1]):
            total: Any = 0.0
            weights = HALF_STEP_BACK if late[port % len(late)] else (1.0,)
            for back, weight in enumerate(weights):
                moved = jnp.pad(rows[:, port], ((0, 0), (0, 0), (back, 0)))
                total = total + weight * moved[..., : rows.shape[-1]][..., every - 1 :: every]
            parts.append(total)
        return jnp.stack(parts, axis=1)

    def unrecorded(self, samples: Any) -> Any:
        """The transpose of `recorded`: (step, shot, port, point)."""
        shots, ports, points, _ = samples.shape
        nothing = jnp.zeros((self.clock.steps, shots, ports, points), samples.dtype)
        _, back = jax.vjp(self.recorded, alike(nothing, samples))
        return back(samples)[0]

    # ---------------------------------------------------------------- the three runs

    def forward(
        self,
        form: Form,
        x: Situation,
        recording: Recording | None,
        slopes: bool = False,
        final: bool = False,
    ) -> tuple[Any, ...]:
        """Forward runs.

        Args:
            form: how steps are written.
            x: the shots.
            recording: what to keep, if it can be held.
            slopes: derivatives by receiver position are wanted.
            final: the state after the last step is wanted.

        Returns:
            Samples (shot, port and receiver, sample); if asked for, their derivatives (shot, port
            and receiver, axis, sample), and the last state, by name, (shot, level, *points); and
            the history, if it is held.
        """
        held = recording is not None and self.room.holds(x.shots, recording)
        keep = self.room.keep(recording) if held else None

        def run(part: Situation) -> Any:
            ready = self._given.of(part, form, keep, (False, slopes))
            runs = self._of(form)
            started = part.before > 0
            run = runs.forward(ready.scene, ready.source, ready.state, keep, started)
            columns, state, tape = run
            rows = self.recorded(self.parts.summed(columns))
            if part.before:
                first = self.parts.summed(runs.read_state(ready.scene, ready.state))
                rows = jnp.concatenate([first[..., None], rows], axis=-1)
            size = scales.exponent(rows, rows.ndim - 1), ready.power
            rows = scales.scaled(rows, ready.power)
            last = None
            if final:
                found = self._ends.given(runs.stepper, state)
                last = {n: scales.scaled(v, ready.power) for n, v in found.items()}
            return rows, last, tape, size

        group = x.shots if held else self.room.together(x.shots, self.room.state_bytes(form))
        rows, last, tape, size = by_groups(run, x, group)
        rows = self._if_held(rows, size, WEAK)
        found = [*self._copies(rows, slopes), last, tape]
        return tuple(f for f in found if f is not None)

    def _copies(self, rows: Any, slopes: bool) -> tuple[Any, Any]:
        """Values and slopes, from (shot, port, copy and point, sample)."""
        shots, ports, _, samples = rows.shape
        copies = 1 + self.plan.ndim if slopes else 1
        apart = rows.reshape(shots, ports, copies, -1, samples)
        plain = apart[:, :, 0].reshape(shots, -1, samples)
        if not slopes:
            return plain, None
        moved = jnp.moveaxis(apart[:, :, 1:], 2, 3)
        return plain, moved.reshape(shots, -1, copies - 1, samples)

    def born(
        self,
        form: Form,
        x: Situation,
        recording: Recording,
        changes: Mapping[str, Any],
        source: Any,
    ) -> Any:
        """How what receivers record changes, (shot, port and receiver, sample).

        Args:
            form: how steps are written.
            x: the background.
            recording: which coefficients change.
            changes: of coefficients, by name, on the domain.
            source: change of the samples, (shot, port and source, step); None for none.
        """
        keep, tape = self._served(x, recording)
        stretch = None
        if tape is None:
            keep, stretch = self.room.made_anew(keep, form)
        others = {n: jnp.zeros_like(x.coefficients[n]) for n in keep.coefficients}
        changes = {**others, **changes}
        sizes = [
            scales.exponent(v, v.ndim, self.parts.over)
            - scales.or_zero(scales.exponent(c, c.ndim, self.parts.over))
            for n, v in changes.items()
            for c in (x.coefficients[n],)
        ]
        relative = jnp.stack(sizes).max() if sizes else jnp.asarray(scales.NOTHING, np.int32)

        def run(part: Any) -> Any:
            situation, source, tape = part
            ready = self._given.of(situation, form, keep)
            runs = self._of(form)
            fired, more = None, jnp.broadcast_to(relative, ready.power.shape)
            if source is not None:
                gain = self._given.gain(self.plan, self.plan.inputs, situation)
                size = scales.exponent(source, 2)
                size = jnp.where(size == scales.NOTHING, size, size + gain - ready.power)
                more = jnp.maximum(more, size)
                more = scales.or_zero(more)
                fired = scales.scaled(source, -ready.power - more)
                fired = fired.reshape(situation.shots, len(self.plan.inputs), -1, source.shape[-1])
                fired = jnp.moveaxis(fired, -1, 0)
            more = scales.or_zero(more)
            moved = {}
            for n, v in changes.items():
                seen = self._given.seen(v[None], situation.starts)
                seen = jnp.broadcast_to(seen, (situation.shots, *seen.shape[1:]))
                moved[n] = scales.scaled(seen, -more)
            if stretch is None:
                if tape is None:
                    started = situation.before > 0
                    made = runs.forward(ready.scene, ready.source, ready.state, keep, started)
                    tape = made[2]
                assert tape is not None
                columns, _ = runs.born(ready.scene, moved, fired, tape, keep)
            else:
                columns = self._born_anew(ready, keep, stretch, runs, moved, fired)
            rows = self.recorded(self.parts.summed(columns))
            size = scales.exponent(rows, rows.ndim - 1), ready.power + more
            rows = scales.scaled(rows, ready.power + more)
            if situation.before:  # the initial state does not change
                rows = jnp.pad(rows, [*[(0, 0)] * 3, (1, 0)])
            return rows, size

        bytes_of_shot = self.room.tape_bytes(keep, form) if tape is None else 0
        group = x.shots if tape is not None else self.room.together(x.shots, bytes_of_shot)
        rows, size = by_groups(run, (replace(x, tape=None), source, tape), group)
        return self._copies(self._if_held(rows, size, WEAK), False)[0]

    def _if_held(self, values: Any, size: tuple[Any, Any], weakest: int) -> Any:
        """See `scales.if_held`, which takes `size`, of each shot, apart. Where devices have other
        shots, the strongest is not known."""
        if self.parts.over_shots:
            return values
        of_run, power = size
        return scales.if_held(values, of_run, power, weakest)

    def _born_anew(
        self, ready: Ready, keep: Keep, stretch: int, runs: Runs, changes: Any, source: Any
    ) -> Any:
        """A Born run beside a forward run that makes a stretch of the history at a time."""
        scene, steps = ready.scene, ready.source.shape[0]

        def piece(states: Any, rows: Any) -> Any:
            state, scattered = states
            source, fired = rows
            _, state, tape = runs.forward(scene, source, state, keep, started=True)
            assert tape is not None
            columns, scattered = runs.born(scene, changes, fired, tape, keep, scattered)
            return (state, scattered), columns

        rows = jax.tree.map(lambda x: in_pieces(x, stretch), (ready.source, source))
        start = ready.state, runs.scattered_at_rest(scene, keep)
        _, columns = lax.scan(piece, start, rows)
        return columns.reshape(-1, *columns.shape[2:])[:steps]

    def _served(self, x: Situation, recording: Recording) -> tuple[Keep, Tape | None]:
        """How a history is kept, and the one at hand if it is kept so."""
        keep, tape = self.room.keep(recording), x.tape
        assert keep is not None
        if tape is not None and tape.keep.serves(keep):
            return tape.keep, tape
        return keep, None

    def adjoint(
        self,
        form: Form,
        x: Situation,
        recording: Recording | None,
        residual: Any,
        asked: Asked,
        final: Mapping[str, Any] | None = None,
    ) -> Gradients:
        """The gradients of <residual, what receivers record>, plus <final, the state after the
        last step>.

        Args:
            form: how steps are written.
            x: where they are taken.
            recording: the coefficients whose gradients are asked for, and how their history is
                kept.
            residual: (shot, port and receiver, sample).
            asked: which gradients.
            final: (shot, level, *points) by field name; None for zero.
        """
        if recording is None:
            return self._adjoint(replace(x, tape=None), None, form, residual, asked, final, None)
        keep, tape = self._served(x, recording)
        x = replace(x, tape=None)
        others = replace(asked, coefficients=())
        if keep.every > 1 and others.anything:
            # A sampled run smooths its residuals, so gradients at sources need a second run.
            at_sources = self._adjoint(x, None, form, residual, others, final, None)
            only = Asked(asked.coefficients)
            found = self._adjoint(x, keep, form, residual, only, final, tape)
            return at_sources._replace(coefficients=found.coefficients)
        return self._adjoint(x, keep, form, residual, asked, final, tape)

    def _adjoint(
        self,
        x: Situation,
        keep: Keep | None,
        form: Form,
        residual: Any,
        asked: Asked,
        final: Mapping[str, Any] | None,
        tape: Tape | None,
    ) -> Gradients:
        strongest = self._given.strongest(x, residual, final)

        def run(part: Any) -> Any:
            situation, residual, final, tape = part
            return self._back(situation, keep, form, residual, asked, final, tape, strongest)

        group = x.shots
        if tape is None:
            taken = self.room.tape_bytes(keep, form) if keep else self.room.state_bytes(form)
            group = self.room.together(x.shots, taken)
        names = keep.coefficients if keep else ()
        zeros = {n: jnp.zeros(self.of_domain.shape, self.dtype) for n in names}
        zeros = alike(zeros, x.receivers.live)
        sums, others = by_groups(run, (x, residual, final, tape), group, summed=(zeros, None))
        gradients = {}
        for n in asked.coefficients:
            found = self.parts.of_all_shots(sums[n])
            size = scales.exponent(found, found.ndim, self.parts.over)
            found = jnp.ldexp(found, strongest)
            gradients[n] = scales.if_held(found, size, strongest, SMALL)
        size = others.pop("size_of_wavelet", None)
        if size is not None:
            others["wavelet"] = self._if_held(others["wavelet"], size, WEAK)
        return Gradients(gradients, **others)

    def _back(
        self,
        x: Situation,
        keep: Keep | None,
        form: Form,
        residual: Any,
        asked: Asked,
        final: Any,
        tape: Tape | None,
        strongest: Any,
    ) -> Any:
        """The adjoint of some shots: gradients, divided by `2**strongest`, and the others."""
        stretch = None
        if keep is not None and tape is None:
            keep, stretch = self.room.made_anew(keep, form)
        ready = self._given.of(x, form, keep, (asked.sources, False))
        runs, scene = self._of(form), ready.scene
        size = self._given.power_back(x, residual, final)
        down = scales.or_zero(size)
        if keep:
            # Gradients are products of two fields, of which those of all shots are brought to one
            # size: by the residuals, if nothing else is asked that follows from these.
            one_size = jnp.where(size == scales.NOTHING, down, strongest - ready.power)
            if replace(asked, coefficients=()).anything:
                factors = jnp.ldexp(jnp.ones((), self.dtype), jnp.minimum(down - one_size, 0))
                scene = replace(scene, factors=factors)
            else:
                down = one_size
        rows = scales.scaled(residual, -down)
        rows = rows.reshape(x.shots, len(self.plan.outputs), -1, rows.shape[-1])
        first = rows[..., 0] if x.before else None
        columns = self.unrecorded(rows[..., x.before :])
        if keep and keep.every > 1:
            columns = _smoothed(columns, Sampling(keep.every, keep.beyond // keep.every))
        wanted = Wanted(asked.wavelet or asked.sources, asked.weights, asked.initial)
        apart = x.starts is not None
        ends = None
        if final is not None or wanted.initial or (x.before and keep):
            cotangents = {n: scales.scaled(v, -down) for n, v in (final or {}).items()}
            ends = self._ends.of(runs, scene, cotangents, first, x.before > 0)
        samples = None
        if asked.weights:
            of_samples = scales.or_zero(scales.exponent(x.samples, 2))
            samples = jnp.moveaxis(scales.scaled(x.samples, -of_samples)[:, :, None], -1, 0)
        if stretch is not None and keep is not None:
            back = partial(runs.stretch_back, scene, keep=keep, wanted=wanted, apart=apart)
            start = runs.back_start(scene, keep, wanted, apart)
            anew = self._recomputed(ready, keep, stretch, runs, columns, samples, back, start, ends)
            (state, (gradients, of_weights)), read = anew
            found = Backward(gradients, of_weights, read, None)
            if ends is not None and ends.begins:
                before = runs.before(runs.stepper, ready.state, runs.tracks(keep.coefficients))
                found = found.started(ends, state, Tape(keep, {}, before), keep)
        else:
            if keep is not None and tape is None:
                made = runs.forward(scene, ready.source, ready.state, keep, x.before > 0)
                tape = made[2]
            found = runs.adjoint(scene, columns, tape, keep, wanted, samples, apart, ends=ends)
        gradients, of_weights, read, initial = found
        read = None if read is None else self.parts.summed(read)
        if keep and keep.every > 1:
            gradients = {n: keep.every * g for n, g in gradients.items()}
        shares = {c.name: self._shares(c) for c in self.plan.coefficients}
        gradients = {n: g * shares[n] for n, g in gradients.items()}
        if apart:
            gradients = {n: self._given.put_back(g, x.starts) for n, g in gradients.items()}
        others: dict[str, Any] = dict.fromkeys(("wavelet", "weights", "at_sources", "initial"))
        if wanted.at_sources:
            others |= self._at_sources(read, x, asked, down)
        if asked.weights:
            total = sum(p.collected(s) for p, s in zip(scene.sources, of_weights, strict=True))
            others["weights"] = scales.scaled(total, down + of_samples)
        if asked.initial:
            others["initial"] = {n: scales.scaled(v, down) for n, v in initial.items()}
        return gradients, others

    def _shares(self, coefficient: Any) -> Any:
        """See `Plan.cell_shares`."""
        column = self.plan.cell_shares(coefficient, self.of_shots.shape[-1])
        return self.parts.here(column.reshape(*(1,) * (self.plan.ndim - 1), -1))

    def _at_sources(self, read: Any, x: Situation, asked: Asked, down: Any) -> dict[str, Any]:
        """The gradients in the samples and positions of sources, from what was read there, (step,
        shot, port, copy and point)."""
        rows = jnp.moveaxis(read[: self.clock.steps], 0, -1)
        plain, moved = self._copies(rows, asked.sources)
        down = down + self._given.power_of_weights(x)
        found: dict[str, Any] = {"wavelet": None}
        if asked.wavelet:
            found["wavelet"] = scales.scaled(plain, down)
            found["size_of_wavelet"] = scales.exponent(plain, plain.ndim - 1), down
        if asked.sources:
            found["at_sources"] = scales.scaled(moved, down)
        return found

    def _recomputed(
        self,
        ready: Ready,
        keep: Keep,
        stretch: int,
        runs: Runs,
        columns: Any,
        samples: Any,
        back: Any,
        start: Any,
        ends: AbstractEnds | None,
    ) -> tuple[Any, Any]:
        """An adjoint run whose history is computed anew, a stretch at a time, from states saved on
        the way: where it ends, and what it has read.

        With something due to the state after the forward run, the last stretch is one by itself.
        """
        scene, steps = ready.scene, columns.shape[0]
        alone = 0
        if ends is not None and ends.settles:
            alone = steps - (steps - 1) // stretch * stretch
            alone += stretch if alone == 1 < steps else 0  # two levels are due
        rows = ready.source, columns, samples
        some, last = ([_part(x, p) for x in rows] for p in _halves(steps - alone))
        source, columns, samples = (None if x is None else in_pieces(x, stretch) for x in some)

        def ahead(state: State, rows: Any) -> Any:
            return runs.forward(scene, rows, state, None)[1], state

        state, states = lax.scan(ahead, ready.state, source)

        def piece(carry: Any, x: Any, ends: AbstractEnds | None = None) -> Any:
            state, source, columns, samples = x
            tape = runs.forward(scene, source, state, keep, started=True)[2]
            return back(columns, tape, samples=samples, carry=carry, ends=ends)

        carry, later = piece(start, (state, *last), ends) if alone else (start, None)
        carry, read = lax.scan(piece, carry, (states, source, columns, samples), reverse=True)
        if read is not None:
            read = read.reshape(-1, *read.shape[2:])[: steps - alone]
            read = read if later is None else jnp.concatenate([read, later])
        return carry, read


def _halves(middle: int) -> tuple[slice, slice]:
    return slice(None, middle), slice(middle, None)


def _part(x: Any, part: slice) -> Any:
    return None if x is None else x[part]


def _smoothed(columns: Any, sampling: Sampling) -> Any:
    """See `histories.sampled.smoothed`: of (step, ...), with so many steps more."""
    weights, beyond = smoothing(sampling), sampling.beyond
    length = columns.shape[0] + 2 * beyond
    size = 1 << (length - 1).bit_length()
    shape = (-1, *(1,) * (columns.ndim - 1))
    response = np.fft.rfft(weights, size).reshape(shape)
    wide = np.complex128 if columns.dtype == np.float64 else np.complex64
    spectrum = jnp.fft.rfft(columns, size, axis=0) * response.astype(wide)
    return jnp.fft.irfft(spectrum, size, axis=0)[beyond:length].astype(columns.dtype)
