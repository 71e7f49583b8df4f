"""States before and after runs, and what the adjoint owes to their cotangents; see
`calculus.state`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax.numpy as jnp

from ...calculus.regions import by_region
from ...calculus.state import of_step_before
from ...scheme.symbols import Field, Spatial
from ...scheme.terms import at_offset
from ..clock import Clock
from ..devito.plans import Planned
from ..domain import Domain
from ..states import States
from .boxes import Box, Stored, padded, sliced
from .expressions import Evaluator, Known
from .runs import AbstractEnds, Runs, Scene
from .steps import Entry, State, Stepper
from .tape import Keep, Tape
from .windows import Renamed


class Ends:
    """The states of a program's runs on one domain.

    Args:
        planned: what is run.
        domain: where.
        clock: its steps.
    """

    def __init__(self, planned: Planned, domain: Domain, clock: Clock) -> None:
        self._planned, self._clock = planned, clock
        self.states = States(planned.program, planned.plan, domain, clock.dt)

    @property
    def program(self) -> Any:
        """What is run."""
        return self._planned.program

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each field's state, by name."""
        return self.states.shapes

    @cached_property
    def levels(self) -> dict[Any, int]:
        """The values in time of each field that make the state."""
        return self.program.state

    def box(self, field: Field) -> Box:
        """Where a state has a field's values: a little more than where a run has them, along rows,
        so that the states of all backends are alike."""
        place = self.states.place(field)
        return tuple((a, a + n) for a, n in zip(place.starts, place.shape, strict=True))

    def inward(self, values: Any, field: Field, like: Spatial, ev: Evaluator) -> Any:
        """Values of a state, (shot, *box), where a run has those of a function like the field."""
        home, box, parts = ev.home(like), self.box(field), ev.parts
        if not parts.cut:
            return sliced(Stored(values, box), home)
        there, whole = ev.whole_home(like), tuple((0, n) for n in parts.points)
        values = padded(sliced(Stored(values, box), there), there, whole)
        return sliced(Stored(parts.here(values, 1), ev.grid), home)

    def outward(self, values: Any, field: Field, like: Spatial, ev: Evaluator) -> Any:
        """The opposite of `inward`."""
        home, box, parts = ev.home(like), self.box(field), ev.parts
        if not parts.cut:
            return padded(values, home, box)
        values = parts.whole(padded(values, home, ev.grid), 1)
        there, whole = ev.whole_home(like), tuple((0, n) for n in parts.points)
        return padded(sliced(Stored(values, whole), there), there, box)

    def chosen(self, initial: Mapping[str, Any], stepper: Stepper) -> dict[str, Any]:
        """Initial values where runs have them, zero where they cannot be chosen, by name, (shot,
        level, *home)."""
        found = {}
        for f in self.levels:
            if f.name in initial:
                ev = stepper.evaluator
                values = initial[f.name] * self.states.free(f)
                levels = [self.inward(values[:, n], f, f, ev) for n in range(values.shape[1])]
                found[f.name] = jnp.stack(levels, axis=1)
        return found

    def given(self, stepper: Stepper, state: State) -> dict[str, Any]:
        """A state as results have it, by name, (shot, level, *points)."""
        found = {}
        for f, count in self.levels.items():
            ev = stepper.evaluator
            levels = [self.outward(stepper.values(state, f, n), f, f, ev) for n in range(count)]
            found[f.name] = jnp.stack(levels, axis=1)
        return found

    def of(
        self, runs: Runs, scene: Scene, final: Mapping[str, Any], first: Any, started: bool
    ) -> OfRun:
        """What is due to the ends of one run.

        Args:
            runs: of the program.
            scene: the shots.
            final: cotangents of the state after the run, (shot, level, *points), by name.
            first: residuals of what is recorded before the first step, (shot, port, point).
            started: the run did not start at rest.
        """
        return OfRun(self, runs, scene, final, first, started)


class OfRun(AbstractEnds):
    """What is due to the ends of one run; see `Ends.of`."""

    def __init__(
        self,
        ends: Ends,
        runs: Runs,
        scene: Scene,
        final: Mapping[str, Any],
        first: Any,
        started: bool,
    ) -> None:
        self._ends, self._runs, self._scene = ends, runs, scene
        self._final, self._first, self._started = final, first, started
        self.settles, self.begins = bool(final), started

    def settle(self, known: Known, level: int) -> None:
        """See `AbstractEnds.settle`."""
        program, states = self._ends.program, self._ends.states
        joined, runs = program.ends, self._runs
        stepper = Stepper(runs.evaluator(), joined.settling)
        state = stepper.rest(self._scene.shots)
        for field, count in self._ends.levels.items():
            if level < count and field.name in self._final:
                values = self._final[field.name][:, level]
                values = values * (states.free(field) / states.shares(field))
                own = joined.settled[program.adjoints[field]]
                ev = stepper.evaluator
                values = self._ends.inward(values.astype(runs.dtype), field, own, ev)
                array = ev.kept(values, own).array
                state[own.name] = (array, *state[own.name][1:])
        settling = stepper.known(runs.fixed(self._scene), state, runs.clock.dt)
        stepper.advance(settling)
        for adjoint, own in joined.settled.items():
            stored = known.arrays[adjoint.name, 1]
            total = stored.array + settling.arrays[own.name, 1].array
            known.arrays[adjoint.name, 1] = stored._replace(array=total)
        known.found.clear()  # derivatives of the values before

    def begun(self, state: State, tape: Tape | None, keep: Keep | None) -> tuple[Any, Any]:
        """See `AbstractEnds.begun`."""
        program, runs, scene = self._ends.program, self._runs, self._scene
        joined, back = program.ends, runs.back_stepper(keep)
        starting = Stepper(back.evaluator, joined.starting)
        fixed = runs.fixed(scene)
        known = back.known(fixed, state, runs.clock.dt)
        for f in starting.fields:
            rest = jnp.zeros((1,) * (1 + runs.plan.ndim), runs.dtype)
            known.arrays[f.name, 0] = Stored(rest, ((0, 1),) * runs.plan.ndim)
        entries = []
        if self._first is not None:
            names = {f.name: e.name for f, e in joined.newest.items()}
            entries = [
                Entry(Renamed(p, names), self._first[:, n]) for n, p in enumerate(scene.receivers)
            ]
        starting.advance(known, entries)
        initial = self._initial(known, state)
        return initial, self._corrections(back, known, tape, keep)

    def _initial(self, known: Known, state: State) -> dict[str, Any]:
        """The cotangents of the state before the run."""
        program, states, runs = self._ends.program, self._ends.states, self._runs
        joined, found = program.ends, {}
        ev = runs.evaluator()
        for field, count in self._ends.levels.items():
            symbols = [joined.newest[field], *([joined.before[field]] if count == 2 else [])]
            levels = []
            for symbol in symbols:
                home = ev.home(symbol)
                values = ev.value(at_offset(symbol, 1), home, known)
                levels.append(self._ends.outward(values, field, symbol, ev))
            factor = states.remembering(field)
            if factor is not None:
                adjoint = program.adjoints[field]
                home = ev.home(adjoint)
                kept = ev.value(at_offset(adjoint, 0), home, known)
                levels[0] = levels[0] + factor * self._ends.outward(kept, field, adjoint, ev)
            stacked = jnp.stack(levels, axis=1)
            found[field.name] = stacked * (states.free(field) * states.shares(field))
            if self._final and runs.clock.steps == 1 and count == 2:
                # The initial state is a part of the final one.
                more = states.free(field) * self._final[field.name][:, 1]
                found[field.name] = found[field.name].at[:, 0].add(more)
        return found

    def _corrections(
        self, back: Stepper, known: Known, tape: Tape | None, keep: Keep | None
    ) -> dict[str, Any]:
        """What gradients get of a start that is not at rest."""
        runs = self._runs
        if keep is None or tape is None or not self._started:
            return {}
        ev, found = back.evaluator, {}
        for track in runs.tracks(keep.coefficients):
            before = tape.before.get(track.name, ())
            box = ev.home(track.quantity.symbol)
            for back_by, values in enumerate(before):
                known.arrays[track.name, 1 - back_by] = Stored(values, box)
        adjoints = self._ends.program.adjoints.values()
        for coefficient, term in runs.coupling(keep.coefficients).gradients.items():
            rest = of_step_before(term, adjoints)
            if rest == 0:
                continue
            value = ev.assembled(by_region(rest, ev.symbols), ev.grid, known)
            value = self._scene.counted(jnp.asarray(value, runs.dtype))
            found[coefficient.name] = jnp.sum(value, axis=0)
        return found
