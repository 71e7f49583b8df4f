"""One step of a scheme on JAX arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import sympy

from ..._devito import Derivative, Symbol
from ...calculus.coupling import Quantity, injected_amount
from ...calculus.increments import Change, change
from ...calculus.regions import by_region, exists
from ...scheme.symbols import SURFACE_GAIN, Expr, Field, Region
from ...scheme.system import System, Update
from ...scheme.terms import accesses, is_access, location, time_offset
from .boxes import Stored, shape_of, sliced, spread
from .expressions import Evaluator, Known
from .extents import Extent
from .windows import Points, Renamed

State = dict[str, tuple[Any, ...]]
"""The values of each field that the next step reads, by name: the newest, and the one before it
where that is read, too."""


class Entry(NamedTuple):
    """What enters a step through a port: where, and samples, (shot, point)."""

    points: Points | Extent | Renamed
    samples: Any


class Stepper:
    """Steps one system.

    Args:
        evaluator: of its expressions.
        system: what is stepped.
        others: further expressions that are evaluated after a step.
    """

    def __init__(self, evaluator: Evaluator, system: System, others: Iterable[Expr] = ()) -> None:
        self.evaluator, self.system = evaluator, system
        self.fields = system.fields
        self._parts = {u.field: self._by_region(u) for u in system.updates}
        self.levels = self._levels(others)

    def _by_region(self, update: Update) -> tuple[Change, dict[Region, Expr]]:
        """How a field changes where it lives, and what the parts of the right-hand side in smaller
        regions add to it."""
        symbols = self.evaluator.symbols
        region = symbols.traits_of(update.field).region
        parts: dict[Region, Expr] = {region: sympy.S.Zero}
        for where, part in by_region(update.rhs, symbols).items():
            union = where | region
            if exists(union):
                parts[union] = parts.get(union, sympy.S.Zero) + part
        own = parts.pop(region)
        return change(update, own), {r: update.new_value(p) for r, p in parts.items()}

    def _levels(self, others: Iterable[Expr]) -> dict[str, int]:
        found = {f.name: 1 for f in self.fields}
        for expr in (*(u.rhs for u in self.system.updates), *others):
            for a in accesses(expr):
                if a.function in self.fields and time_offset(a) == -1:
                    found[a.function.name] = 2
        return found

    # ---------------------------------------------------------------- states

    def rest(self, shots: int) -> State:
        """All fields zero."""
        ev = self.evaluator
        found = {}
        for f in self.fields:
            shape = (shots, *shape_of(ev.kept_box(f)))
            found[f.name] = tuple(jnp.zeros(shape, ev.dtype) for _ in range(self.levels[f.name]))
        return found

    def started(self, initial: Mapping[str, Any], shots: int) -> State:
        """The state with the given values, (shot, level, *home), by name; others are zero."""
        ev, found = self.evaluator, self.rest(shots)
        for f in self.fields:
            if f.name in initial:
                values = initial[f.name]
                levels = [
                    ev.kept(values[:, n].astype(ev.dtype), f).array for n in range(values.shape[1])
                ]
                zeros = found[f.name][len(levels) :]
                found[f.name] = (*levels, *zeros)[: self.levels[f.name]]
        return found

    def values(self, state: State, field: Field, level: int) -> Any:
        """The values of one level of a state, (shot, *home)."""
        ev = self.evaluator
        stored = Stored(state[field.name][level], ev.kept_box(field))
        return sliced(stored, ev.home(field))

    def known(self, fixed: Mapping[tuple[str, int], Stored], state: State, dt: float) -> Known:
        """What is known before a step."""
        ev = self.evaluator
        arrays = dict(fixed)
        for f in self.fields:
            for back, array in enumerate(state[f.name]):
                arrays[f.name, -back] = Stored(array, ev.kept_box(f))
        numbers: dict[str, Any] = {"dt": float(dt)}
        numbers |= {f"h_{d.name}": float(h) for d, h in ev.spacing.items()}
        shots = next(iter(state.values()))[0].shape[0]
        return Known(arrays, numbers, shots)

    def after(self, known: Known) -> State:
        """The state after a step."""
        found = {}
        for f in self.fields:
            newest = known.arrays[f.name, 1].array
            older = (known.arrays[f.name, 0].array,) if self.levels[f.name] == 2 else ()
            found[f.name] = (newest, *older)
        return found

    # ---------------------------------------------------------------- the step

    def advance(
        self,
        known: Known,
        entries: Sequence[Entry] = (),
        quantities: Collection[Quantity] = (),
    ) -> dict[str, Any]:
        """Make one step: every update in order, with what enters it.

        Args:
            known: what is known before; new values are added to it.
            entries: what enters.
            quantities: what is to be kept of the step.

        Returns:
            The values of what is kept, by name, (shot, *box).
        """
        kept: dict[str, Any] = {}
        for update in self.system.updates:
            self._update(known, update, entries, quantities, kept)
        return kept

    def _update(
        self,
        known: Known,
        update: Update,
        entries: Sequence[Entry],
        quantities: Collection[Quantity],
        kept: dict[str, Any],
    ) -> None:
        ev, field = self.evaluator, update.field
        home, shots = ev.home(field), known.shots
        made, parts = self._parts[field]
        force = ev.value(made.force, home, known)
        own = [q for q in quantities if q.field is field]
        early = [q for q in own if not q.at_next and home == ev.grid and pointwise(q.expr, field)]
        for q in early:
            # Differences in time of values that have been rounded would lose digits.
            name = f"force_{field.name}"
            known.numbers[name] = spread(jnp.asarray(force, ev.dtype), shots, home)
            value = made.value_of(q.expr, Symbol(name=name, dtype=ev.dtype.type))
            kept[q.symbol.name] = ev.assembled(by_region(value, ev.symbols), home, known)
        added = ev.assembled(parts, home, known)
        feeds = self._feeds(known, update, entries)
        for feed, samples, gain in feeds:
            if feed.dense:
                added = added + feed.factor * gain * feed.everywhere(samples)
        new = ev.value(made.unforced, home, known) + force + added
        new = spread(jnp.asarray(new, ev.dtype), shots, home)
        new = ev.inside(new, home, ev.symbols.traits_of(field).region)
        for q in early:
            amount = ev.value(injected_amount(q), home, known)
            value = kept[q.symbol.name] + amount * added
            kept[q.symbol.name] = spread(jnp.asarray(value, ev.dtype), shots, home)
        stored = Stored(new, home)
        # Images, and what neighbours get, are made of the values with what is fed.
        whole = ev.surface or not ev.halo or ev.parts.cut
        if not whole:
            stored = ev.kept(new, field)
        for feed, samples, gain in feeds:
            if not feed.dense:
                stored = feed.added(stored, ev.grid, samples, feed.factor * gain)
                for q in early:
                    amount = ev.value(injected_amount(q), home, known)
                    before = Stored(kept[q.symbol.name], home)
                    after = feed.added(before, ev.grid, samples, feed.factor * gain * amount)
                    kept[q.symbol.name] = after.array
        if whole:
            stored = ev.kept(stored.array, field)
        known.arrays[field.name, 1] = stored
        for q in own:
            if q not in early:
                box = ev.home(q.symbol)
                value = ev.assembled(by_region(q.expr, ev.symbols), box, known)
                kept[q.symbol.name] = spread(jnp.asarray(value, ev.dtype), shots, box)

    def _feeds(self, known: Known, update: Update, entries: Sequence[Entry]) -> list[Any]:
        """What enters the update: how, samples, and their factor."""
        ev, field = self.evaluator, update.field
        found = []
        for entry in entries:
            for feed in entry.points.fed(field.name):
                gain = ev.value(1 / update.mass, ev.grid, known)
                half = location(field)[ev.depth]
                if ev.surface and not half and entry.points.sparse:
                    profile = ev.symbols.profile(SURFACE_GAIN, ev.depth)
                    gain = gain * ev.value(profile, ev.grid, known)
                found.append((feed, entry.samples, gain))
        return found

    def read(self, known: Known, points: Sequence[Points | Extent | Renamed]) -> Any:
        """What is read after a step, (shot, port, copy and point)."""
        fields = self.new_values(known)
        return jnp.stack([p.read(fields) for p in points], axis=1)

    def new_values(self, known: Known) -> Callable[[str], Stored]:
        """The new values of fields after a step, without their halos, by name."""
        homes = {f.name: self.evaluator.home(f) for f in self.fields}

        def of(name: str) -> Stored:
            return Stored(sliced(known.arrays[name, 1], homes[name]), homes[name])

        return of


def pointwise(expr: Expr, field: Field) -> bool:
    """Does an expression read the new value of a field outside of derivatives only?"""
    if is_access(expr) or not expr.args:
        return True
    if isinstance(expr, Derivative):
        return not any(a.function is field and time_offset(a) == 1 for a in accesses(expr.expr))
    return all(pointwise(arg, field) for arg in expr.args)
