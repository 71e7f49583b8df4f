"""Forward, Born and adjoint runs as JAX functions: arrays stay where they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...histories.base import Recording
from ...histories.half import Half
from ...histories.revolve import Revolve
from ...histories.sampled import Sampling, smoothing
from ...scheme.plan import PlannedPort
from ...scheme.system import Touch
from ..base import Asked, Gradients
from ..clock import HALF_STEP_BACK, Clock
from ..devito.plans import Planned
from ..domain import Domain
from ..settings import Settings
from . import scales
from .axes import alike
from .boxes import shape_of
from .ends import Ends
from .extents import Extent
from .form import ON_CPU, Form
from .parts import Parts
from .runs import AbstractEnds, Backward, Runs, Scene, Wanted, in_pieces
from .shots import Situation, by_groups
from .steps import State
from .tape import Halves, Keep, Tape
from .windows import Points


class _Set(NamedTuple):
    """Some shots as runs take them, all at a size of about one.

    Attributes:
        scene: see there.
        source: samples, (step, shot, port, point).
        state: before the first step.
        power: of two, by which results are to be multiplied, (shot,).
    """

    scene: Scene
    source: Any
    state: State
    power: Any


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

    # ---------------------------------------------------------------- memory

    def keep(self, recording: Recording | None) -> Keep | None:
        """How a history is kept."""
        if recording is None:
            return None
        way = recording.history
        half, anew = isinstance(way, Half), isinstance(way, Revolve)
        return Keep(recording.coefficients, recording.every, recording.beyond, half, anew)

    def tape_bytes(self, keep: Keep, form: Form, steps: int | None = None) -> int:
        """What the history of a shot takes, of all steps or of so many, on one device."""
        runs, total = self._of(form), 0
        steps = self.clock.steps + keep.beyond if steps is None else steps
        for track in runs.tracks(keep.coefficients):
            points = math.prod(b - a for a, b in runs.stepper.evaluator.home(track.quantity.symbol))
            values = len(track.offsets) if keep.every > 1 else 1
            size = 2 if keep.half else self.dtype.itemsize
            total += -(-steps // keep.every) * values * points * size
        return total

    def state_bytes(self, form: Form) -> int:
        """What the fields of a shot take, on one device."""
        levels = sum(self._of(form).stepper.levels.values())
        return levels * self.parts.size * self.dtype.itemsize

    @cached_property
    def budget(self) -> int:
        """Bytes that histories may take: what the settings say, or half of the device's memory."""
        device = jax.devices()[0]
        known = None if device.platform == "cpu" else device.memory_stats()
        if self.settings.memory is None and known and "bytes_limit" in known:
            return known["bytes_limit"] // 2
        return self.settings.memory_budget

    def holds(self, shots: int, recording: Recording) -> bool:
        """Can the histories of so many shots be held from a forward run to its adjoint? Not where
        devices have parts of them: then each run makes its own."""
        keep = self.keep(recording)
        if (
            self.settings.mesh is not None
            or keep is None
            or keep.anew
            or not recording.history.keeps
        ):
            return False
        return shots * self.tape_bytes(keep, ON_CPU) <= self.budget

    def tape_shapes(self, shots: int, recording: Recording, started: bool) -> Tape:
        """The shapes and types of the histories of so many shots.

        Args:
            shots: how many.
            recording: what is kept.
            started: runs do not start at rest.
        """
        keep, runs = self.keep(recording), self._of(ON_CPU)
        assert keep is not None
        slots = -(-(self.clock.steps + keep.beyond) // keep.every)
        kept, before = {}, {}
        for track in runs.tracks(keep.coefficients):
            lead = (slots, *((len(track.offsets),) if keep.every > 1 else ()), shots)
            points = shape_of(runs.stepper.evaluator.home(track.quantity.symbol))
            values: Any = jax.ShapeDtypeStruct((*lead, *points), self.dtype)
            if keep.half:
                halves = jax.ShapeDtypeStruct(values.shape, np.dtype(np.float16))
                values = Halves(halves, jax.ShapeDtypeStruct(lead, np.dtype(np.int32)))
            kept[track.name] = values
            quantity = track.quantity
            if started and keep.every == 1 and quantity.at_next and min(track.offsets) < 1:
                level = jax.ShapeDtypeStruct((shots, *points), self.dtype)
                before[track.name] = (level,) * runs.stepper.levels[quantity.field.name]
        return Tape(keep, kept, before)

    def _together(self, shots: int, bytes_of_shot: int) -> int:
        """How many shots are run side by side."""
        return max(1, min(shots, self.budget // max(1, bytes_of_shot)))

    def _made_anew(self, keep: Keep, form: Form) -> tuple[Keep, int | None]:
        """How a history is kept that is made for one run: whole, if that of a shot fits; else of
        every step, as it is, and a stretch of so many steps at a time."""
        if not keep.anew and self.tape_bytes(keep, form) <= self.budget:
            return keep, None
        keep = Keep(keep.coefficients, anew=True)
        steps, slot = self.clock.steps, max(1, self.tape_bytes(keep, form, 1))
        return keep, max(1, min(steps, round(math.sqrt(steps * self.state_bytes(form) / slot))))

    # ---------------------------------------------------------------- what runs are given

    def _set(
        self, x: Situation, form: Form, keep: Keep | None, slopes: Sequence[bool] = (False, False)
    ) -> _Set:
        """Some shots, ready to run.

        Args:
            x: the shots.
            form: how steps are written.
            keep: what runs keep.
            slopes: whether derivatives by the positions of sources, and of receivers, are read.
        """
        plan, runs = self.plan, self._of(form)
        coefficients = {n: self._seen(c[None], x.starts) for n, c in x.coefficients.items()}
        power, of_weights = self._power(x), self._power_of_weights(x)
        weights = x.weights
        if weights is not None:
            weights = scales.scaled(self._seen(weights, x.starts), -of_weights)
        samples = scales.scaled(x.samples, of_weights - power)
        beyond = keep.beyond if keep else 0
        copies = 1 + plan.ndim if x.by_position else 1
        rows = samples.reshape(x.shots, copies, len(plan.inputs), -1, samples.shape[-1])
        rows = jnp.moveaxis(rows, (4, 0, 2), (0, 1, 2))  # (step, shot, port, copy, point)
        rows = rows.reshape(*rows.shape[:3], -1)
        rows = jnp.pad(rows, ((0, beyond), (0, 0), (0, 0), (0, 0)))
        if weights is None:
            assert x.sources is not None
            feeds: list[Any] = [
                Points(
                    plan,
                    self.of_shots,
                    p,
                    x.sources,
                    slopes[0] or x.by_position,
                    form.dense,
                    self.parts,
                )
                for p in plan.inputs
            ]
        else:
            feeds = [Extent(plan, self.of_shots, p, weights, self.parts) for p in plan.inputs]
        reads = [
            Points(plan, self.of_shots, p, x.receivers, slopes[1], form.dense, self.parts)
            for p in plan.outputs
        ]
        state = runs.stepper.rest(x.shots)
        if x.initial is not None:
            start = {n: scales.scaled(v, -power) for n, v in x.initial.items()}
            state = runs.stepper.started(self._ends.chosen(start, runs.stepper), x.shots)
        state = alike(state, next(iter(coefficients.values())))
        return _Set(Scene(coefficients, feeds, reads, x.shots), rows, state, power)

    def _power(self, x: Situation) -> Any:
        """The power of two that makes fields of a size of about one, (shot,)."""
        gain, of_samples = self._gain(self.plan, self.plan.inputs, x), scales.exponent(x.samples, 2)
        silent = of_samples == scales.NOTHING
        power = jnp.where(silent, gain, of_samples + gain + self._power_of_weights(x))
        if x.initial is None:
            return power
        of_state = [scales.exponent(v, v.ndim - 1) for v in x.initial.values()]
        largest = jnp.stack(of_state).max(axis=0)
        power = jnp.where(silent, largest, jnp.maximum(power, largest))
        return jnp.where(power == scales.NOTHING, gain, power)

    def _power_of_weights(self, x: Situation) -> Any:
        """That of the weights of extended sources, (shot,); zero for points."""
        if x.weights is None:
            return jnp.zeros(x.shots, np.int32)
        size = scales.exponent(x.weights, x.weights.ndim - 1, self.parts.over)
        return scales.or_zero(size)

    def _seen(self, array: Any, starts: Any) -> Any:
        """The part of an array (1 or shot, *domain) that each shot sees."""
        if starts is None:
            return array
        array = self.of_domain.whole(array, 1)
        whole = jnp.broadcast_to(array, (starts.shape[0], *array.shape[1:]))
        shape = self.of_shots.shape
        seen = jax.vmap(lambda a, s: lax.dynamic_slice(a, list(s), shape))(whole, starts)
        return self.parts.here(seen, 1)

    def _put_back(self, parts: Any, starts: Any) -> Any:
        """The sum over shots of parts of the domain, (*domain)."""
        parts = self.parts.whole(parts, 1)
        zeros = alike(jnp.zeros(self.domain.shape, self.dtype), parts)

        def add(total: Any, part_and_start: Any) -> Any:
            part, start = part_and_start
            seen = lax.dynamic_slice(total, list(start), part.shape)
            return lax.dynamic_update_slice(total, seen + part, list(start)), None

        return self.of_domain.here(lax.scan(add, zeros, (parts, starts))[0])

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
        held = recording is not None and self.holds(x.shots, recording)
        keep = self.keep(recording) if held else None

        def run(part: Situation) -> Any:
            ready = self._set(part, form, keep, (False, slopes))
            runs = self._of(form)
            started = part.before > 0
            run = runs.forward(ready.scene, ready.source, ready.state, keep, started)
            columns, state, tape = run
            rows = self.recorded(self.parts.summed(columns))
            if part.before:
                first = self.parts.summed(runs.read_state(ready.scene, ready.state))
                rows = jnp.concatenate([first[..., None], rows], axis=-1)
            rows = scales.scaled(rows, ready.power)
            last = None
            if final:
                found = self._ends.given(runs.stepper, state)
                last = {n: scales.scaled(v, ready.power) for n, v in found.items()}
            return rows, last, tape

        group = x.shots if held else self._together(x.shots, self.state_bytes(form))
        rows, last, tape = by_groups(run, x, group)
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
            keep, stretch = self._made_anew(keep, form)
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
            ready = self._set(situation, form, keep)
            runs = self._of(form)
            fired, more = None, jnp.broadcast_to(relative, ready.power.shape)
            if source is not None:
                gain = self._gain(self.plan, self.plan.inputs, situation)
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
                seen = self._seen(v[None], situation.starts)
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
            columns = self.parts.summed(columns)
            rows = scales.scaled(self.recorded(columns), ready.power + more)
            if situation.before:  # the initial state does not change
                rows = jnp.pad(rows, [*[(0, 0)] * 3, (1, 0)])
            return rows

        bytes_of_shot = self.tape_bytes(keep, form) if tape is None else 0
        group = x.shots if tape is not None else self._together(x.shots, bytes_of_shot)
        rows = by_groups(run, (replace(x, tape=None), source, tape), group)
        return self._copies(rows, False)[0]

    def _born_anew(
        self, ready: _Set, keep: Keep, stretch: int, runs: Runs, changes: Any, source: Any
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
        keep, tape = self.keep(recording), x.tape
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
        strongest = self._strongest(x, residual, final)

        def run(part: Any) -> Any:
            situation, residual, final, tape = part
            return self._back(situation, keep, form, residual, asked, final, tape, strongest)

        group = x.shots
        if tape is None:
            taken = self.tape_bytes(keep, form) if keep else self.state_bytes(form)
            group = self._together(x.shots, taken)
        names = keep.coefficients if keep else ()
        zeros = {n: jnp.zeros(self.of_domain.shape, self.dtype) for n in names}
        zeros = alike(zeros, x.receivers.live)
        gradients, others = by_groups(run, (x, residual, final, tape), group, summed=(zeros, None))
        gradients = {
            n: jnp.ldexp(self.parts.of_all_shots(gradients[n]), strongest)
            for n in asked.coefficients
        }
        return Gradients(gradients, **others)

    def _strongest(self, x: Situation, residual: Any, final: Any) -> Any:
        """The power of two that gradients are summed at, of all shots."""
        power = self._power(x)
        of_residual = self._power_back(x, residual, final)
        total = jnp.where(of_residual == scales.NOTHING, scales.NOTHING, power + of_residual)
        largest, over = jnp.max(total), self.parts.over_shots
        return scales.or_zero(lax.pmax(largest, over) if over else largest)

    def _gain(self, plan: Any, ports: Any, x: Situation) -> Any:
        """See `scales.gain`."""
        return scales.gain(plan, ports, x.coefficients, self.clock.dt, self.parts.over)

    def _power_back(self, x: Situation, residual: Any, final: Any) -> Any:
        """The power of two that residuals are to be divided by, (shot,)."""
        transposed = self.planned.transposed
        gain = self._gain(transposed, transposed.inputs, x)
        size = scales.exponent(residual, 2)
        found = jnp.where(size == scales.NOTHING, size, size + gain)
        if final is not None:
            program = self.planned.program
            names = {a.name: f.name for f, a in program.adjoints.items()}
            for adjoint in transposed.fields:
                cotangent = final.get(names[adjoint.name])
                if cotangent is not None:
                    port = PlannedPort("settled", (Touch(adjoint, None, 1.0),), 0.0, False)
                    more = self._gain(transposed, (port,), x)
                    size = scales.exponent(cotangent, cotangent.ndim - 1)
                    size = jnp.where(size == scales.NOTHING, size, size + more)
                    found = jnp.maximum(found, size)
        return found

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
            keep, stretch = self._made_anew(keep, form)
        ready = self._set(x, form, keep, (asked.sources, False))
        runs, scene = self._of(form), ready.scene
        of_residual = scales.or_zero(self._power_back(x, residual, final))
        # Gradients are products of two fields: all shots are brought to one size.
        down = strongest - ready.power if keep else of_residual
        down = jnp.where(jnp.max(jnp.abs(residual), axis=(1, 2)) > 0, down, of_residual)
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
            gradients = {n: self._put_back(g, x.starts) for n, g in gradients.items()}
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
        down = down + self._power_of_weights(x)
        found = {"wavelet": scales.scaled(plain, down) if asked.wavelet else None}
        if asked.sources:
            found["at_sources"] = scales.scaled(moved, down)
        return found

    def _recomputed(
        self,
        ready: _Set,
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
