"""Loops over time: forward, Born and adjoint runs of some shots side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...calculus.coupling import Coupling, Quantity
from ...calculus.linearize import tangent_of
from ...calculus.program import Program
from ...calculus.regions import by_region
from ...scheme.names import PERTURBED
from ...scheme.plan import Plan
from ..clock import Clock
from ..domain import Domain
from .axes import alike
from .boxes import Stored, sliced
from .expressions import Evaluator, Known
from .form import Form
from .parts import Parts
from .steps import Entry, State, Stepper
from .tape import Keep, Tape, Track, changes, halved, recalled, tracks_of
from .windows import Renamed

Ports = Sequence[Any]  # `Points`, or an `Extent`, of each port of a scheme, in order


class Wanted(NamedTuple):
    """What an adjoint run gives beside the gradients of coefficients.

    Attributes:
        at_sources: what it reads where sources enter.
        weights: the gradient of the weights of extended sources.
        initial: the cotangents of the initial state.
    """

    at_sources: bool = False
    weights: bool = False
    initial: bool = False


class Backward(NamedTuple):
    """What an adjoint run found.

    Attributes:
        gradients: of coefficients, by name, (*grid) or (shot, *grid).
        of_weights: of extended sources, by port and place.
        read: at sources, (step, shot, port, copy and point); None if nobody asked.
        initial: cotangents of the initial state, (shot, level, *home), by name, likewise.
    """

    gradients: dict[str, Any]
    of_weights: Any
    read: Any
    initial: Any

    def started(self, ends: Any, state: State, tape: Tape | None, keep: Keep | None) -> Backward:
        """With what is due to the state before the forward run; see `AbstractEnds.begun`."""
        initial, more = ends.begun(state, tape, keep)
        gradients = {n: g + more.get(n, 0.0) for n, g in self.gradients.items()}
        return self._replace(gradients=gradients, initial=initial)


class AbstractEnds(ABC):
    """What is due to the states before and after a forward run, in its adjoint.

    Attributes:
        settles: there are cotangents of the state after the run.
        begins: something is due to the state before it.
    """

    settles: bool
    begins: bool

    @abstractmethod
    def settle(self, known: Known, level: int) -> None:
        """Add what is due to one level of the state after the run to the adjoint fields' new
        values."""

    @abstractmethod
    def begun(self, state: State, tape: Tape | None, keep: Keep | None) -> tuple[Any, Any]:
        """The cotangents of the state before the run, by name, and what is to be added to
        gradients, from the adjoint's state after its last step."""


@dataclass(frozen=True)
class Scene:
    """Some shots, which are run side by side.

    Attributes:
        coefficients: by name, (1 or shot, *grid).
        sources: where samples enter, by port.
        receivers: where they leave, by port.
        shots: how many.
        factors: of what each shot adds to gradients, (shot,); None for one.
    """

    coefficients: Mapping[str, Any]
    sources: Ports
    receivers: Ports
    shots: int
    factors: Any = None

    def counted(self, value: Any) -> Any:
        """What shots add to gradients, (1 or shot, *grid), times their factors."""
        if self.factors is None:
            return value
        return value * self.factors.reshape(-1, *(1,) * (value.ndim - 1))


class Runs:
    """The runs of one program.

    Args:
        program: the scheme, with its adjoint.
        plan: of it.
        domain: of a shot.
        clock: its steps.
        form: how steps are written.
        parts: which part of the domain each device has.
    """

    def __init__(
        self, program: Program, plan: Plan, domain: Domain, clock: Clock, form: Form, parts: Parts
    ) -> None:
        self.program, self.plan, self.domain = program, plan, domain
        self.clock, self.form = clock, form
        self.symbols, self.dtype, self.parts = program.symbols, np.dtype(domain.dtype), parts
        self._tracks: dict[tuple[str, ...], tuple[Track, ...]] = {}

    # ---------------------------------------------------------------- what is stepped

    def coupling(self, names: tuple[str, ...]) -> Coupling:
        """Of the named coefficients."""
        return self.program.coupling(names)

    def tracks(self, names: tuple[str, ...]) -> tuple[Track, ...]:
        """What is kept for the named coefficients."""
        if names not in self._tracks:
            self._tracks[names] = tracks_of(self.coupling(names), self.symbols)
        return self._tracks[names]

    def evaluator(self, names: tuple[str, ...] = ()) -> Evaluator:
        """What evaluates expressions that hold a history of the named coefficients."""
        images = {t.name: t.image for t in self.tracks(names)} if names else {}
        return Evaluator(self.symbols, self.domain, self.form, self.parts, images)

    @cached_property
    def stepper(self) -> Stepper:
        """Of the scheme. Its states hold what any history is made of."""
        names = tuple(c.name for c in self.plan.coefficients)
        kept = [t.quantity.expr for t in self.tracks(names)]
        windows = [
            t.quantity.field.backward
            for t in self.tracks(names)
            if t.quantity.at_next and min(t.offsets) < 0
        ]
        return Stepper(self.evaluator(), self.program.system, (*kept, *windows))

    def fixed(self, scene: Scene) -> dict[tuple[str, int], Stored]:
        """What does not change with time."""
        grid = tuple((0, n) for n in self.parts.shape)
        found = {(name, 0): Stored(c, grid) for name, c in scene.coefficients.items()}
        axes = self.plan.axes
        for profile in self.plan.profiles:
            (along,) = profile.axes
            values = np.asarray(self.domain.profiles[profile.name], self.dtype)
            shape = (1, *(-1 if axis == along else 1 for axis in axes))
            values = self.parts.here(jnp.asarray(values.reshape(shape)), 1)
            found[profile.name, 0] = Stored(values, grid)
        return found

    def _scan(
        self,
        step: Callable[..., Any],
        carry: Any,
        xs: Any,
        reverse: bool = False,
        unroll: int = 0,
    ) -> Any:
        length = jax.tree.leaves(xs)[0].shape[0]
        unroll = max(1, min(unroll or self.form.unroll, length))
        return lax.scan(step, carry, xs, reverse=reverse, unroll=unroll)

    # ---------------------------------------------------------------- forward

    def forward(
        self, scene: Scene, source: Any, state: State, keep: Keep | None, started: bool = False
    ) -> tuple[Any, State, Tape | None]:
        """What is read after each step, (step, shot, port, copy and point); the last state; and the
        history.

        Args:
            scene: the shots.
            source: samples, (step, shot, port, point).
            state: before the first step.
            keep: what to keep; None for nothing.
            started: the state is not at rest.
        """
        stepper, fixed = self.stepper, self.fixed(scene)
        tracks = self.tracks(keep.coefficients) if keep else ()
        quantities = [t.quantity for t in tracks]
        every = keep.every if keep else 1

        def step(state: State, row: Any, keeps: bool) -> Any:
            known = stepper.known(fixed, state, self.clock.dt)
            kept = stepper.advance(known, _entries(scene.sources, row), quantities * keeps)
            kept = self._slots(stepper, known, kept, tracks, keep) if keeps and keep else {}
            return stepper.after(known), (stepper.read(known, scene.receivers), kept)

        if keep is None or every == 1:
            keeps = keep is not None
            unroll = self._unroll(quantities)
            if keeps and self.form.carried:
                state_, columns, kept = self._carried(step, state, source)
            else:
                state_, (columns, kept) = self._scan(
                    lambda s, r: step(s, r, keeps), state, source, unroll=unroll
                )
        else:
            state_, columns, kept = self._in_groups(step, state, source, every)
        if keep is None:
            return columns, state_, None
        known = started and every == 1
        before = self.before(stepper, state, tracks) if known else {}
        return columns, state_, Tape(keep, kept, before)

    def _unroll(self, quantities: Sequence[Quantity]) -> int:
        """Steps in the body of a forward loop that keeps these. Memories of layers would be
        computed anew the more often, the more steps there are."""
        computes = any(not q.at_next for q in quantities)
        memories = any(self.symbols.traits_of(f).region for f in self.stepper.fields)
        return self.form.unroll_computing if computes and not memories else self.form.unroll

    def _carried(self, step: Any, state: State, source: Any) -> Any:
        """A run that keeps every step, and writes each where it belongs as soon as it is made."""
        steps, example = source.shape[0], jax.tree.leaves(state)[0]
        slots = jax.eval_shape(lambda s, r: step(s, r, True)[1][1], state, source[0])
        history = jax.tree.map(lambda x: lax.empty((steps, *x.shape), x.dtype), slots)

        def body(carry: Any, x: Any) -> Any:
            (state, history), (n, row) = carry, x
            state, (column, kept) = step(state, row, True)
            history = jax.tree.map(
                lambda h, k: lax.dynamic_update_index_in_dim(h, k, n, 0), history, kept
            )
            return (state, history), column

        xs = np.arange(steps, dtype=np.int32), source
        (state, history), columns = self._scan(body, (state, alike(history, example)), xs)
        return state, columns, history

    def _slots(
        self,
        stepper: Stepper,
        known: Known,
        kept: Mapping[str, Any],
        tracks: Sequence[Track],
        keep: Keep,
    ) -> dict[str, Any]:
        """What a step adds to a tape."""
        found = {}
        for track in tracks:
            value = kept[track.name]
            if keep.every > 1:
                windows = [value] * len(track.offsets)
                if track.quantity.at_next:
                    ev, field = stepper.evaluator, track.quantity.field
                    box = ev.home(track.quantity.symbol)
                    windows = [sliced(known.arrays[field.name, o], box) for o in track.offsets]
                value = changes(windows) if keep.half else jnp.stack(windows)
            found[track.name] = halved(value, self.plan.ndim) if keep.half else value
        return found

    def _in_groups(self, step: Any, state: State, source: Any, every: int) -> Any:
        """A run that keeps every k-th step: groups of k steps, the first of which is kept."""
        steps = source.shape[0]

        def group(state: State, rows: Any) -> Any:
            state, (first, kept) = step(state, rows[0], True)
            state, (others, _) = self._scan(lambda s, r: step(s, r, False), state, rows[1:])
            return state, (jnp.concatenate([first[None], others]), kept)

        state, (columns, kept) = lax.scan(group, state, in_pieces(source, every))
        columns = columns.reshape(-1, *columns.shape[2:])
        return state, columns[:steps], kept

    def before(
        self, stepper: Stepper, state: State, tracks: Sequence[Track]
    ) -> dict[str, tuple[Any, ...]]:
        """The fields that are known before the first step, those that histories hold."""
        found = {}
        for track in tracks:
            if track.quantity.at_next and min(track.offsets) < 1:
                field = track.quantity.field
                levels = range(len(state[field.name]))
                found[track.name] = tuple(stepper.values(state, field, n) for n in levels)
        return found

    def read_state(self, scene: Scene, state: State) -> Any:
        """What receivers read of a state, (shot, port, copy and point)."""
        arrays = {
            (f.name, 1): Stored(state[f.name][0], self.stepper.evaluator.kept_box(f))
            for f in self.stepper.fields
        }
        return self.stepper.read(Known(arrays, {}, scene.shots), scene.receivers)

    # ---------------------------------------------------------------- Born

    def born(
        self,
        scene: Scene,
        changes: Mapping[str, Any],
        source: Any,
        tape: Tape,
        keep: Keep,
        state: State | None = None,
    ) -> tuple[Any, State]:
        """How what is read after each step changes, (step, shot, port, point); and the last state
        of what is scattered.

        Args:
            scene: the shots.
            changes: of coefficients, by name, (1 or shot, *grid).
            source: change of the samples, (step, shot, port, point); None for none.
            tape: the history of every step.
            keep: how it was kept.
            state: of what is scattered, before the first step; None for rest.
        """
        stepper, tangents = self._scattering(keep)
        fixed, tracks = self.fixed(scene), self.tracks(keep.coefficients)
        grid = stepper.evaluator.grid
        fixed |= {(PERTURBED + n, 0): Stored(v, grid) for n, v in changes.items()}
        names = {f.name: t.name for f, t in tangents.items()}
        sources = [Renamed(p, names) for p in scene.sources] if source is not None else []
        receivers = [Renamed(p, names) for p in scene.receivers]
        steps = jax.tree.leaves(tape.kept)[0].shape[0]

        def step(state: State, x: Any) -> Any:
            n, row = x
            known = stepper.known(fixed, state, self.clock.dt)
            self.recall(known, tracks, tape, n, sampled=False)
            stepper.advance(known, _entries(sources, row))
            return stepper.after(known), stepper.read(known, receivers)

        xs = jnp.arange(steps, dtype=np.int32), source
        start = self.scattered_at_rest(scene, keep) if state is None else state
        last, columns = self._scan(step, start, xs)
        return columns, last

    def scattered_at_rest(self, scene: Scene, keep: Keep) -> State:
        """What is scattered, before the first step of a Born run."""
        state = self._scattering(keep)[0].rest(scene.shots)
        return alike(state, next(iter(scene.coefficients.values())))

    def _scattering(self, keep: Keep) -> tuple[Stepper, dict[Any, Any]]:
        """Of the tangent, driven by a history; and the tangent of each field."""
        names, system = keep.coefficients, self.program.system
        coupling = self.coupling(names)
        tangents = {f: self.symbols.like(f, PERTURBED) for f in system.fields}
        updates = tuple(
            replace(
                u,
                field=tangents[u.field],
                rhs=tangent_of(u.rhs, tangents) + coupling.born[u.field],
                pde=None,
            )
            for u in system.updates
        )
        return Stepper(self.evaluator(names), replace(system, updates=updates)), tangents

    def recall(
        self, known: Known, tracks: Sequence[Track], tape: Tape, n: Any, sampled: bool
    ) -> None:
        """Make known what a step reads of a history."""
        for track in tracks:
            box = self.stepper.evaluator.home(track.quantity.symbol)
            for offset, values in recalled(tape, track, n, sampled, self.dtype):
                known.arrays[track.name, offset] = Stored(values, box)

    # ---------------------------------------------------------------- adjoint

    def adjoint(
        self,
        scene: Scene,
        residual: Any,
        tape: Tape | None,
        keep: Keep | None,
        wanted: Wanted,
        samples: Any = None,
        apart: bool = False,
        ends: AbstractEnds | None = None,
    ) -> Backward:
        """The gradients of <residual, what is read after each step>.

        Args:
            scene: the shots; receivers feed, sources read.
            residual: (step, shot, port, point).
            tape: the history of the forward run; None if no coefficients are differentiated.
            keep: how it was kept.
            wanted: what else is asked for.
            samples: of extended sources, for the gradient of their weights, (step, shot, port, 1).
            apart: give the gradients of each shot, not their sum.
            ends: what is due to the states before and after the forward run; None for nothing.
        """
        start = self.back_start(scene, keep, wanted, apart)
        (state, sums), read = self.stretch_back(
            scene, residual, tape, keep, wanted, samples, apart, start, ends
        )
        gradients, of_weights = sums
        found = Backward(gradients, of_weights, read, None)
        begins = ends is not None and ends.begins
        return found.started(ends, state, tape, keep) if begins else found

    def back_start(
        self, scene: Scene, keep: Keep | None, wanted: Wanted, apart: bool
    ) -> tuple[State, Any]:
        """An adjoint run before its first step: the state, and the sums."""
        shape = (scene.shots, *self.parts.shape) if apart else self.parts.shape
        names = keep.coefficients if keep else ()
        gradients = {n: jnp.zeros(shape, self.dtype) for n in names}
        of_weights = [p.nothing() for p in scene.sources] if wanted.weights else []
        start = self.back_stepper(keep).rest(scene.shots), (gradients, of_weights)
        return alike(start, next(iter(scene.coefficients.values())))

    def stretch_back(
        self,
        scene: Scene,
        residual: Any,
        tape: Tape | None,
        keep: Keep | None,
        wanted: Wanted,
        samples: Any,
        apart: bool,
        carry: Any,
        ends: AbstractEnds | None = None,
    ) -> tuple[Any, Any]:
        """Some steps of an adjoint run: where it stands then, as `back_start` says, and what it has
        read at sources, (step, shot, port, copy and point); see `adjoint`."""
        stepper, tracks = self.back_stepper(keep), self.tracks(keep.coefficients) if keep else ()
        fixed, every = self.fixed(scene), keep.every if keep else 1
        terms = self._terms(keep)
        names = {f.name: a.name for f, a in self.program.adjoints.items()}
        sources = [Renamed(p, names) for p in scene.sources]
        receivers = [Renamed(p, names) for p in scene.receivers]

        def step(carry: Any, x: Any, n: Any, level: int | None = None) -> Any:
            state, (gradients, of_weights) = carry
            row, sample = x
            known = stepper.known(fixed, state, self.clock.dt)
            stepper.advance(known, _entries(receivers, row))
            if ends is not None and level is not None:
                ends.settle(known, level)
            if tape is not None and n is not None:
                self.recall(known, tracks, tape, n, sampled=every > 1)
                gradients = self._grown(stepper.evaluator, known, terms, gradients, scene, apart)
            if wanted.weights:
                of_weights = self._correlated(stepper, known, sources, sample, of_weights)
            read = stepper.read(known, sources) if wanted.at_sources else None
            return (stepper.after(known), (gradients, of_weights)), read

        xs = (residual, samples if wanted.weights else None)
        if every > 1:
            return self._back_in_groups(step, carry, xs, every)
        steps, last = residual.shape[0], []
        levels = min(2, steps) if ends is not None and ends.settles else 0
        for level in range(levels):  # what is due to the state after the run
            n = steps - 1 - level
            carry, read = step(carry, jax.tree.map(lambda x, n=n: x[n], xs), n, level)
            last.insert(0, read)
        rest = steps - levels
        read = None
        if rest:
            numbers = jnp.arange(rest, dtype=np.int32)
            some = jax.tree.map(lambda x: x[:rest], xs)
            carry, read = self._scan(
                lambda c, x: step(c, x[0], x[1]), carry, (some, numbers), reverse=True
            )
        if wanted.at_sources and last:
            later = jnp.stack(last)
            read = later if read is None else jnp.concatenate([read, later])
        return carry, read

    def back_stepper(self, keep: Keep | None) -> Stepper:
        """Of the adjoint."""
        names = keep.coefficients if keep else ()
        gradients = self.coupling(names).gradients.values() if names else ()
        return Stepper(self.evaluator(names), self.program.transposed, gradients)

    def _terms(self, keep: Keep | None) -> dict[str, Any]:
        """What a step adds to each gradient, by region."""
        if keep is None:
            return {}
        gradients = self.coupling(keep.coefficients).gradients
        return {c.name: by_region(term, self.symbols) for c, term in gradients.items()}

    def _grown(
        self,
        ev: Evaluator,
        known: Known,
        terms: Any,
        gradients: dict[str, Any],
        scene: Scene,
        apart: bool,
    ) -> dict[str, Any]:
        """Gradients with what a step adds."""
        found = {}
        for name, parts in terms.items():
            value = ev.assembled(parts, ev.grid, known)
            if not isinstance(value, float):
                value = scene.counted(jnp.asarray(value, self.dtype))
                if not apart:
                    shared = value.shape[0] != known.shots
                    value = jnp.sum(value, axis=0) * (known.shots if shared else 1)
            found[name] = gradients[name] + value
        return found

    def _correlated(
        self, stepper: Stepper, known: Known, sources: Any, sample: Any, sums: Any
    ) -> Any:
        """The gradient of the weights with what a step adds."""
        fields, found = stepper.new_values(known), []
        for port, (extent, before) in enumerate(zip(sources, sums, strict=True)):
            added = extent.correlated(fields, sample[:, port])
            found.append([total + more for total, more in zip(before, added, strict=True)])
        return found

    def _back_in_groups(self, step: Any, carry: Any, xs: Any, every: int) -> Any:
        """An adjoint run whose gradients are those of every k-th step, times k."""
        steps, pieces = xs[0].shape[0], jax.tree.map(lambda x: in_pieces(x, every), xs)

        def group(carry: Any, x: Any) -> Any:
            rows, number = x
            first, others = (jax.tree.map(lambda r, s=s: r[s], rows) for s in (0, slice(1, None)))
            carry, later = self._scan(lambda c, r: step(c, r, None), carry, others, reverse=True)
            carry, earliest = step(carry, first, number)
            joined = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), earliest, later)
            return carry, joined

        numbers = jnp.arange(pieces[0].shape[0], dtype=np.int32)
        carry, read = lax.scan(group, carry, (pieces, numbers), reverse=True)
        return carry, jax.tree.map(lambda r: r.reshape(-1, *r.shape[2:])[:steps], read)


def in_pieces(x: Any, length: int) -> Any:
    """An array (step, ...) in pieces of so many steps, the last of which is filled up by zeros."""
    pieces = -(-x.shape[0] // length)
    x = jnp.pad(x, [(0, pieces * length - x.shape[0]), *[(0, 0)] * (x.ndim - 1)])
    return x.reshape(pieces, length, *x.shape[1:])


def _entries(points: Any, row: Any) -> list[Entry]:
    """What enters a step, from samples (shot, port, point)."""
    return [Entry(p, row[:, n]) for n, p in enumerate(points)]
