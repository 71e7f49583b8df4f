"""From a program to the equations of each kernel.

Three kernels serve everything: `forward` advances the scheme, `born` its tangent driven by a kept
history, `adjoint` the transpose, backward in time, with the gradients asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import sympy

from ..._devito import Buffer, Derivative, Eq, Symbol, TimeFunction
from ...calculus.coupling import (
    Coupling,
    Quantity,
    injected_amount,
)
from ...calculus.images import below_surface, continued, image_kept
from ...calculus.increments import Change, change
from ...calculus.linearize import tangent_of
from ...calculus.program import Program
from ...calculus.regions import by_region, exists
from ...calculus.state import of_step_before
from ...scheme.names import GRADIENT, PERTURBED
from ...scheme.plan import Above
from ...scheme.symbols import SURFACE_GAIN, Equation, Expr, Field, Region, Spatial
from ...scheme.system import Port, System, Touch, Update
from ...scheme.terms import (
    accesses,
    at_offset,
    is_access,
    location,
    map_accesses,
    summands,
    time_offset,
)
from .extended import Extended, halves
from .lagged import lagged
from .loops import in_few_loops
from .mirror import mirrored
from .names import CLOCK, COMPACT, SINGLE
from .points import Points
from .schedule import by_levels
from .scratch import Computed, Scratch, check_places


class Lowering:
    """The equations of the kernels of a program.

    Args:
        program: what they compute.
        late: step the adjoint's last memories at the beginning of the next step; see `lagged`.

    Attributes:
        compact: fields are kept at as few times as can be. Where memories are not confined to
            strips they are not: kernels then need no numbers that live within one loop, which
            Devito may tear apart there.
    """

    def __init__(self, program: Program, late: bool = True) -> None:
        self.program, self._late = program, late
        self.system, self.symbols = program.system, program.symbols
        self.extended = program.extended
        # Weights of extended sources, and their gradients.
        self._everywhere: dict[str, Spatial] = {}
        memories = [u.field for u in self.system.updates if u.keep != 0]
        self.compact = all(self.symbols.traits_of(m).region for m in memories)
        self._compact: dict[str, Spatial] = {}
        self.scratch = Scratch(self.symbols)

    @cached_property
    def _lagged(self) -> tuple[System, frozenset[Field]]:
        whole = self.program.transposed
        return lagged(whole) if self._late else (whole, frozenset())

    @property
    def lags(self) -> bool:
        """After a step of the adjoint, do some of its fields lack their update?"""
        return bool(self._lagged[1])

    @property
    def transposed(self) -> System:
        """The adjoint scheme, as its steps are run."""
        return self._lagged[0]

    @cached_property
    def in_place(self) -> set[Field]:
        """Fields of second order kept at two times only, and of first order kept at one."""
        if not self.compact:
            return set()
        kept = self.program.coupling(self._all_coefficients).quantities
        return in_place(self.system) | overwritten(self.system, [q.expr for q in kept])

    @cached_property
    def transposed_in_place(self) -> set[Field]:
        """Those of the adjoint."""
        if not self.compact:
            return set()
        terms = self.program.coupling(self._all_coefficients).gradients.values()
        return in_place(self.transposed) | overwritten(self.transposed, terms)

    @property
    def _all_coefficients(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.system.coefficients)

    def _stored(self, field: Field, compact: bool) -> Spatial:
        """The field as kernels store it. Symbols of one name are one to SymPy, so a compact field
        has its own. One that holds a single value at a point is no function of time to Devito, so
        that it keeps what reads the old value before what overwrites it."""
        if not compact:
            return field
        name = field.name
        if name not in self._compact:  # one object a name: Devito tells symbols apart by identity
            staggered = halves(location(field))
            if field.time_order == 1:
                made = self.symbols.coefficient(name + SINGLE, staggered)
            else:
                made = self.symbols.field(name + COMPACT, 2, staggered, save=Buffer(2))
            self._compact[name] = made
        return self._compact[name]

    def levels(self, field: Field) -> int:
        """Times at which a field of the system (or of its transpose) is kept while running."""
        of_adjoint = field in self.transposed.fields
        compact = self.transposed_in_place if of_adjoint else self.in_place
        return field.time_order if field in compact else field.time_order + 1

    def forward(self, kept: Coupling | None = None) -> list[Equation]:
        """One step of the scheme; sources enter, receivers read, and the wanted quantities are
        kept.

        Args:
            kept: what to keep; None for nothing.
        """
        equations: list[Equation] = []
        inputs = [(port, self._entry(port)) for port in self.system.inputs]
        compact = self.in_place
        computed: Computed = {}
        waiting = _Waiting()
        for update in self.system.updates:
            equations += waiting.read_by(update)
            now = update.field.forward
            parts, region = self._parts(update)
            made, first = self._change(update, parts.pop(region), computed)
            equations += first
            late = quantities = [
                q for q in (kept.quantities if kept else ()) if q.field is update.field
            ]
            early: list[Quantity] = []
            if update.field in compact:  # the value before the present is about to be overwritten
                early = [q for q in quantities if not q.at_next]
                late = [q for q in quantities if q.at_next]
            in_strips: list[Equation] = []
            if early:
                force: Expr = Symbol(
                    name=f"force_{update.field.name}", dtype=self.symbols.dtype.type
                )
                values = [(q, made.value_of(q.expr, force)) for q in early]
                assigned = [
                    e for q, value in values for e in self._assigned(_kept_now(q), value, computed)
                ]
                own = {_kept_now(q).function for q in early}
                # A symbol lives within one loop: nothing that has a loop of its own may come
                # between.
                equations += [e for e in assigned if e.lhs.function not in own]
                equations.append(Eq(force, made.force))
                equations += [e for e in assigned if e.lhs.function in own and e.subdomain is None]
                in_strips = [
                    e for e in assigned if e.lhs.function in own and e.subdomain is not None
                ]
                made = replace(made, force=force)
            equations += [self._assigned_change(made, region), *in_strips]
            for region, part in parts.items():
                first, part = self.scratch.lifted(update.new_value(part), computed)
                equations += first
                equations.append(Eq(now, now + part, subdomain=self._subdomain(region, now)))
                for q in early:
                    gain = injected_amount(q)
                    if gain != 0:
                        equations.append(
                            Eq(
                                _kept_now(q),
                                _kept_now(q) + gain * part,
                                subdomain=self._subdomain(region, q.symbol),
                            )
                        )
            for q in late:
                equations += self._assigned(_kept_now(q), q.expr, computed)
            after = [*self._fed(inputs, update, quantities), *self._mirrored(update.field)]
            for q in quantities:
                after += self._mirrored_kept(q)
            waiting.add(update, after)
        equations += waiting.all()
        equations += self._read(self.system.outputs)
        return self._finished(
            equations, {f: self._stored(f, f in compact) for f in self.system.fields}
        )

    def reading(self) -> list[Equation]:
        """What receivers read of a state that no step has made."""
        compact = self.in_place
        fields = {f: self._stored(f, f in compact) for f in self.system.fields}
        return self._finished(self._read(self.system.outputs), fields)

    def settling(self, inputs: bool, weights: bool) -> list[Equation]:
        """What cotangents of the state add to the adjoint fields after a step, see `Ends`, and to
        what that step has made of them.

        Args:
            inputs: to what it has read where sources enter.
            weights: to the gradient of the weights of extended sources.
        """
        ends = self.program.ends
        equations = self._steps(ends.settling)
        for port in (port.between(ends.settled) for port in self.transposed.outputs):
            entry = self._entry(port)
            for t in port.touches:
                what = t.field.forward, t.factor, self._continued(port, t), t.along
                if inputs:
                    equations.append(entry.read(*what))
                if weights and isinstance(entry, Extended):
                    equations.append(entry.correlate(*what))
        return self._finished(equations, {f: f for f in ends.settling.fields})

    def starting(self, kept: Coupling | None) -> list[Equation]:
        """The cotangents of the initial state, after the adjoint's step 0; see `Ends`.

        Args:
            kept: the coefficients whose gradients get what is due to a start that is not at rest;
                None for none.
        """
        ends, adjoints = self.program.ends, self.program.adjoints
        before = {adjoints[f]: e for f, e in ends.newest.items()}
        residuals: list[tuple[Port, Points | Extended]] = [
            (
                port.between({a: before.get(a, a) for a in adjoints.values()}),
                Points(self.symbols, port.name),
            )
            for port in self.transposed.inputs
        ]
        equations = self._steps(ends.starting)
        for update in ends.starting.updates:
            equations += self._fed(residuals, update, [])
        computed: Computed = {}
        for coefficient, term in (kept.gradients if kept else {}).items():
            gradient = self.symbols.like(coefficient, GRADIENT)
            rest = of_step_before(term, adjoints.values())
            for region, part in by_region(rest, self.symbols).items():
                first, part = self.scratch.lifted(part, computed)
                where = self._subdomain(region, gradient)
                equations += [*first, Eq(gradient, gradient + part, subdomain=where)]
        compact = self.transposed_in_place
        fields = {f: self._stored(f, f in compact) for f in self.transposed.fields}
        return self._finished(equations, fields | {f: f for f in ends.starting.fields}, True)

    def _steps(self, system: System) -> list[Equation]:
        """One step of a scheme without sources and receivers."""
        equations: list[Equation] = []
        computed: Computed = {}
        waiting = _Waiting()
        for update in system.updates:
            equations += waiting.read_by(update)
            equations += self._updated(update, computed)
            waiting.add(update, self._mirrored(update.field))
        return [*equations, *waiting.all()]

    def _finished(
        self,
        equations: Iterable[Equation],
        fields: Mapping[Field, Spatial],
        backward: bool = False,
    ) -> list[Equation]:
        """The equations of a step, with fields as they are stored and with as few loops over strips
        as can be.

        Raises:
            EquationError: Devito would evaluate a derivative elsewhere than it is.
        """
        every_step = (self.symbols.grid.stepping_dim,)
        stored = [_rewritten(e, fields, every_step, backward) for e in equations]
        for equation in stored:
            check_places(equation)
        leveled = by_levels(stored, self.symbols)
        ordered = [self._time_first(e) for e in in_few_loops(leveled, self.symbols)]
        steps = any(isinstance(f, TimeFunction) for f in fields.values())
        return ordered if steps or not backward else [*ordered, self._backward()]

    def _time_first(self, equation: Equation) -> Equation:
        """The same equation. If what it writes does not name a time, nothing in it may say that the
        loop over time goes around those over points: then this says so."""
        if not equation.implicit_dims:
            return equation
        part = equation.subdomain
        number = not is_access(equation.lhs)
        visited = (equation.rhs if number else equation.lhs).free_symbols
        if not set(self.symbols.dimensions) <= set(visited):
            return equation  # points, or rows above a surface
        own = self.symbols.dimensions if part is None else part.dimensions
        dims = (self.symbols.grid.stepping_dim, *own)
        return equation.func(equation.lhs, equation.rhs, subdomain=part, implicit_dims=dims)

    def _backward(self) -> Equation:
        """What says that the loop over time runs backward, where no field of two times does."""
        step = self.symbols.grid.stepping_dim
        clock: Any = TimeFunction(
            name=CLOCK, dimensions=(step,), shape=(2,), dtype=self.symbols.dtype.type
        )
        return Eq(clock.backward, clock)

    def _fed(
        self,
        inputs: list[tuple[Port, Points | Extended]],
        update: Update,
        quantities: list[Quantity],
    ) -> list[Equation]:
        """What sources add to an updated field and to what is kept of it."""
        equations = []
        for port, points in inputs:
            equations += self._inject(port, points, update)
            for quantity in quantities:
                amount = injected_amount(quantity)
                if amount != 0:
                    equations += self._inject(port, points, update, _kept_now(quantity), amount)
        return equations

    def born(self, kept: Coupling) -> list[Equation]:
        """One step of the tangent, driven by perturbed coefficients (through the history) and
        perturbed sources."""
        tangents = {f: self.symbols.like(f, PERTURBED) for f in self.system.fields}
        equations: list[Equation] = []
        inputs = (
            []
            if self.extended
            else [(port.between(tangents), self._entry(port)) for port in self.system.inputs]
        )
        computed: Computed = {}
        waiting = _Waiting()
        for update in self.system.updates:
            rhs = tangent_of(update.rhs, tangents) + kept.born[update.field]
            tangent = replace(update, field=tangents[update.field], rhs=rhs)
            equations += waiting.read_by(tangent)
            equations += self._updated(tangent, computed)
            waiting.add(tangent, [*self._fed(inputs, tangent, []), *self._mirrored(tangent.field)])
        equations += waiting.all()
        equations += self._read(port.between(tangents) for port in self.system.outputs)
        compact = self.in_place
        return self._finished(
            equations, {t: self._stored(t, f in compact) for f, t in tangents.items()}
        )

    def adjoint(
        self,
        kept: Coupling | None = None,
        inputs: bool = True,
        weights: bool = False,
    ) -> list[Equation]:
        """One step of the transpose, backward in time.

        Gradients are lagged: accumulated is that of the step done before this one, from adjoint
        fields that the stencils read anyway. It costs one more step at the end.

        Args:
            kept: the coefficients to differentiate, and their history; None for none.
            inputs: also read the adjoint field where sources enter.
            weights: also accumulate the gradient of the weights of extended sources.
        """
        residuals: list[tuple[Port, Points | Extended]] = [
            (port, Points(self.symbols, port.name)) for port in self.transposed.inputs
        ]
        computed: Computed = {}
        equations: list[Equation] = []
        waiting = _Waiting()

        def step(updates: Iterable[Update]) -> None:
            nonlocal equations
            for update in updates:
                equations += waiting.read_by(update)
                equations += self._updated(update, computed)
                after = [*self._fed(residuals, update, []), *self._mirrored(update.field)]
                waiting.add(update, after)
            equations += waiting.all()

        late = self._lagged[1]
        step(u for u in self.transposed.updates if u.field in late)
        # Lagged accumulation reads what the updates read, so it stands before them and Devito fuses
        # it with them.
        if kept is not None:
            equations += self._accumulated(kept, computed)
        if weights and kept is not None:
            equations += self._correlated(later=True)
        step(u for u in self.transposed.updates if u.field not in late)
        if weights and kept is None:
            equations += self._correlated(later=False)
        if inputs:
            for port in self.transposed.outputs:
                entry = self._entry(port)
                equations += [
                    entry.read(t.field.forward, t.factor, self._continued(port, t), t.along)
                    for t in port.touches
                ]
        compact = self.transposed_in_place
        fields = {f: self._stored(f, f in compact) for f in self.transposed.fields}
        return self._finished(equations, fields, backward=True)

    def _accumulated(self, kept: Coupling, computed: Computed) -> list[Equation]:
        """Add the contribution of the step done before to each gradient."""
        equations: list[Equation] = []
        for coefficient, term in kept.gradients.items():
            gradient = self.symbols.like(coefficient, GRADIENT)
            for region, part in by_region(
                _one_step_later(term, self._lagged[1]), self.symbols
            ).items():
                first, part = self.scratch.lifted(part, computed)
                equations += [
                    *first,
                    Eq(gradient, gradient + part, subdomain=self._subdomain(region, gradient)),
                ]
        return equations

    def _subdomain(self, region: Region, target: Expr) -> Any:
        return self.symbols.part(region, target.function.name) if region else None

    def _parts(self, update: Update) -> tuple[dict[Region, Expr], Region]:
        """The right-hand side in parts by region, and the region of the field."""
        region = self.symbols.traits_of(update.field).region
        parts = {region: sympy.S.Zero}
        for where, part in by_region(update.rhs, self.symbols).items():
            union = where | region
            if exists(union):
                parts[union] = parts.get(union, sympy.S.Zero) + part
        return parts, region

    def _change(
        self, update: Update, rhs: Expr, computed: Computed
    ) -> tuple[Change, list[Equation]]:
        """The new value that the right-hand side where the field lives gives it, and what has to be
        computed first."""
        made = change(update, rhs)
        first, force = self.scratch.lifted(made.force, computed)
        return replace(made, force=force), first

    def _assigned_change(self, made: Change, region: Region) -> Equation:
        """Set a new value."""
        now = made.update.field.forward
        return Eq(now, made.unforced + made.force, subdomain=self._subdomain(region, now))

    def _updated(self, update: Update, computed: Computed) -> list[Equation]:
        """One update. `computed` are the products that this step has computed already."""
        parts, region = self._parts(update)
        made, first = self._change(update, parts.pop(region), computed)
        now = update.field.forward
        equations = [self._assigned_change(made, region)]
        for where, part in parts.items():
            before, part = self.scratch.lifted(update.new_value(part), computed)
            equations += [*before, Eq(now, now + part, subdomain=self._subdomain(where, now))]
        return [*first, *equations]

    def _assigned(self, target: Expr, expr: Expr, computed: Computed) -> list[Equation]:
        """Set what is kept to its value. `computed` are the products that this step has computed
        already."""
        region = self.symbols.traits_of(target.function).region
        parts = by_region(expr, self.symbols)
        first, part = self.scratch.lifted(parts.pop(region, sympy.S.Zero), computed)
        equations = [*first, Eq(target, part, subdomain=self._subdomain(region, target))]
        for where, part in parts.items():
            first, part = self.scratch.lifted(part, computed)
            equations += [
                *first,
                Eq(target, target + part, subdomain=self._subdomain(where, target)),
            ]
        return equations

    def _mirrored(self, field: Field) -> list[Equation]:
        """The image of a field's new value above a free surface."""
        traits = self.symbols.traits_of(field)
        if (
            not self.symbols.ghosts
            or traits.image is None
            or below_surface(traits.region, self.symbols)
        ):
            return []
        return mirrored(
            field.forward, traits.image, self.symbols, part=self._subdomain(traits.region, field)
        )

    def _mirrored_kept(self, quantity: Quantity) -> list[Equation]:
        image = image_kept(quantity.symbol, quantity.expr, self.symbols)
        if image is None:
            return []
        region = self.symbols.traits_of(quantity.symbol).region
        return mirrored(
            _kept_now(quantity), image, self.symbols, part=self._subdomain(region, quantity.symbol)
        )

    def _entry(self, port: Port) -> Points | Extended:
        """Where the samples of an input enter."""
        if self.extended:
            return Extended(self.symbols, port.name, self._everywhere)
        return Points(self.symbols, port.name)

    def _correlated(self, later: bool) -> list[Equation]:
        """Add a step's contribution to the gradient of the weights of extended sources."""
        equations = []
        for port in self.transposed.outputs:
            entry = Extended(self.symbols, port.name, self._everywhere)
            equations += [
                entry.correlate(t.field.forward, t.factor, self._continued(port, t), t.along, later)
                for t in port.touches
            ]
        return equations

    def _inject(
        self,
        port: Port,
        points: Points | Extended,
        update: Update,
        target: Expr | None = None,
        gain: Expr = 1,
    ) -> list[Equation]:
        """Add a port's samples to an updated field, or `gain` times as much to something made of
        it."""
        target = update.field.forward if target is None else target
        where = location(update.field)
        depth = self.symbols.dimensions[-1]
        if self.symbols.ghosts and isinstance(points, Points) and not where[depth]:
            gain = gain * self.symbols.profile(SURFACE_GAIN, depth)
        return [
            points.inject(
                target, gain * t.factor / update.mass, where, self._continued(port, t), t.along
            )
            for t in port.touches
            if t.field is update.field
        ]

    def _read(self, ports: Iterable[Port]) -> list[Equation]:
        equations = []
        for port in ports:
            points = Points(self.symbols, port.name)
            equations += [
                points.read(t.field.forward, t.factor, self._continued(port, t), t.along)
                for t in port.touches
            ]
        return equations

    def _continued(self, port: Port, touch: Touch) -> Above:
        """How a port's windows continue above a free surface, on a field's points."""
        return continued(port, touch.field, self.symbols, touch.along)


class _Waiting:
    """What happens to new values, by field, put off until a later update of the same step reads
    them: updates that stand together share a loop, and what they have in common."""

    def __init__(self) -> None:
        self._equations: dict[Field, list[Equation]] = {}

    def add(self, update: Update, equations: list[Equation]) -> None:
        self._equations[update.field] = equations

    def read_by(self, update: Update) -> list[Equation]:
        """What must happen before an update; once."""
        read = {a.function for a in accesses(update.rhs) if time_offset(a) == 1}
        return [
            e
            for field in list(self._equations)
            if field in read
            for e in self._equations.pop(field)
        ]

    def all(self) -> list[Equation]:
        """What is left."""
        return [e for field in list(self._equations) for e in self._equations.pop(field)]


def _kept_now(quantity) -> Expr:
    return quantity.symbol.forward if quantity.at_next else quantity.symbol


def _rewritten(
    equation: Equation,
    fields: Mapping[Field, Spatial],
    every_step: tuple[Any, ...],
    backward: bool = False,
) -> Equation:
    """The same equation with fields replaced, and run backward in time if asked: its forward is
    then the earlier step. What then names no time belongs to `every_step`."""

    def rewrite(access: Spatial) -> Expr:
        function: Field = access.function
        if function not in fields:
            return access
        other = fields[function]
        if isinstance(other, TimeFunction):
            offset = time_offset(access)
            other = at_offset(other, -offset if backward else offset)
        # Accesses in the windows of sources and receivers have indices of their own.
        space = dict(zip(function.indices[1:], access.indices[1:], strict=True))
        return other if all(a == b for a, b in space.items()) else other.subs(space)

    lhs, rhs = map_accesses(equation.lhs, rewrite), map_accesses(equation.rhs, rewrite)
    implicit = equation.implicit_dims
    if not implicit and not any(d.is_Time for e in (lhs, rhs) for d in _dimensions(e)):
        implicit = every_step
    return equation.func(lhs, rhs, subdomain=equation.subdomain, implicit_dims=implicit)


def _dimensions(expr: Expr) -> set[Any]:
    """The dimensions that an expression names."""
    return {s for s in expr.free_symbols if getattr(s, "is_Dimension", False)}


def overwritten(system: System, others: Iterable[Expr]) -> set[Field]:
    """Fields of first order whose new value may overwrite the old one: what reads that comes before
    the field's update, or is the update itself, at the point it writes. It saves an array in cache:
    15 % of an elastic run.

    Args:
        system: the scheme.
        others: what is computed after the updates.
    """
    chosen = {f for f in system.fields if f.time_order == 1}
    updated: set[Field] = set()
    for update in system.updates:
        chosen -= _read_now(update.rhs) & updated
        around = {f for d in update.rhs.find(Derivative) for f in _read_now(d)}
        region = system.symbols.traits_of(update.field).region
        in_strips = {
            f
            for where, part in by_region(update.rhs, system.symbols).items()
            if where | region != region
            for f in _read_now(part)
        }
        chosen -= {update.field} & (around | in_strips)
        updated.add(update.field)
    for expr in others:
        chosen -= _read_now(expr)
    return chosen


def _read_now(expr: Expr) -> set[Field]:
    """The fields whose present value an expression reads."""
    found = set()
    for access in accesses(expr):
        function: Any = access.function
        steps = isinstance(access, TimeFunction) and function.indices[0].is_Stepping
        if steps and time_offset(access) == 0:
            found.add(function)
    return found


def in_place(system: System) -> set[Field]:
    """Fields of second order whose new value may overwrite the one before the present.

    That is safe where only the field's own update reads `field.backward`, and at the point it
    writes. It saves an array in cache: 15 % of a 3-D run.
    """
    chosen = {f for f in system.fields if f.time_order == 2}
    for update in system.updates:
        for part in summands(update.rhs):
            read = {
                a.function for a in accesses(part) if a.function in chosen and time_offset(a) == -1
            }
            if part.has(Derivative):
                differentiated = {
                    a.function
                    for d in part.find(Derivative)
                    for a in accesses(d)
                    if time_offset(a) == -1
                }
            else:
                differentiated = set()
            chosen -= differentiated | (read - {update.field})
    return chosen


def _one_step_later(term: Expr, late: Collection[Field]) -> Expr:
    """The same gradient contribution for the step done before: newest adjoint values become current
    ones, but for fields that are `late` themselves, and have just been stepped."""

    def shift(access: Spatial) -> Expr:
        if not isinstance(access, TimeFunction) or access.function in late:
            return access
        function: Field = access.function
        if not function.indices[0].is_Stepping:  # the history
            return access.subs({access.time_dim: access.time_dim + access.time_dim.spacing})
        return at_offset(function, time_offset(access) - 1)

    return map_accesses(term, shift)
