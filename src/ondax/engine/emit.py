"""From a system and its calculus to the equations of each kernel.

Three kernels serve everything: `forward` advances the scheme, `born` its tangent driven by a kept history, `adjoint`
the transpose, backward in time, with the gradients asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from devito import ConditionalDimension, Eq, TimeFunction
from devito.finite_differences import Derivative
from devito.types import Buffer, Symbol

from ..calculus import Coupling, checked, couple, transpose
from ..calculus.linearize import tangent_of, twin
from ..calculus.scattering import GRADIENT, PERTURBED, injected_amount, stored_symbol
from ..calculus.terms import accesses, at_offset, location, map_accesses, summands, time_offset
from ..equations.system import Equation, Expr, Field, Port, Spatial, System, Update
from .points import Points

COMPACT = "_pair"  # suffix of the kernel argument that stores a field at two times only


class Scheme:
    """A checked system together with its adjoint and what couples it to its coefficients.

    Args:
        system: the scheme, as an equation states it.
    """

    def __init__(self, system: System) -> None:
        self.system = checked(system)
        self.symbols = system.symbols
        self._couplings: dict[tuple, Coupling] = {}
        self._compact: dict[str, Field] = {}

    @cached_property
    def transposed(self) -> System:
        return transpose(self.system)

    @cached_property
    def adjoints(self) -> dict[Field, Field]:
        """The adjoint of each field: the transposed updates stand in reverse order."""
        return dict(zip(self.system.fields, reversed(self.transposed.fields), strict=True))

    def in_place(self, sparse: bool = False) -> set[Field]:
        """Fields kept at two times only. A history sampled in time is formed from three."""
        return set() if sparse else self._in_place

    @cached_property
    def _in_place(self) -> set[Field]:
        return in_place(self.system)

    @cached_property
    def _transposed_in_place(self) -> set[Field]:
        return in_place(self.transposed)

    def _stored(self, field: Field, compact: bool) -> Field:
        """The field as kernels store it. Symbols of one name are one to SymPy, so a compact field has its own."""
        if not compact:
            return field
        if field.name not in self._compact:  # one object a name: Devito tells symbols apart by identity
            self._compact[field.name] = self.symbols.field(field.name + COMPACT, 2, _halves(field), save=Buffer(2))
        return self._compact[field.name]

    def levels(self, field: Field, sparse: bool = False) -> int:
        """Times at which a field of the system (or of its transpose) is kept while running."""
        compact = self._transposed_in_place if field in self.transposed.fields else self.in_place(sparse)
        return 2 if field in compact else field.time_order + 1

    def coupling(self, wanted: tuple[str, ...], every: int = 1) -> Coupling:
        """What to keep of a run for the perturbations of the named coefficients, at every `every`-th step."""
        key = (wanted, every)
        if key not in self._couplings:
            chosen = tuple(c for c in self.system.coefficients if c.name in wanted)
            coupling = couple(self.system, chosen, self.adjoints, keep_products=True if every > 1 else None)
            self._couplings[key] = _sparse_in_time(self.system, coupling, every) if every > 1 else coupling
        return self._couplings[key]

    def forward(self, kept: Coupling | None = None, sparse: bool = False) -> list[Equation]:
        """One step of the scheme; sources enter, receivers read, and the wanted quantities are kept.

        Args:
            kept: what to keep; None for nothing.
            sparse: part of a run whose history is sampled in time.
        """
        equations: list[Equation] = []
        inputs = [(port, Points(self.symbols, port.name)) for port in self.system.inputs]
        compact = self.in_place(sparse)
        for update in self.system.updates:
            new_value = update.rhs / update.mass
            quantities = [q for q in (kept.quantities if kept else ()) if q.field is update.field]
            after = [Eq(_kept_now(q), q.expr) for q in quantities]
            if update.field in compact:  # the value before the present is about to be overwritten
                before = [e for q, e in zip(quantities, after, strict=True) if not q.at_next]
                after = [e for q, e in zip(quantities, after, strict=True) if q.at_next]
                if before:
                    # One rounding for both: second differences in time would magnify a difference of the last bit.
                    value: Expr = Symbol(name=f"new_{update.field.name}", dtype=self.symbols.dtype.type)
                    equations.append(Eq(value, new_value))
                    equations += [_with_value(e, update.field.forward, value) for e in before]
                    new_value = value
            equations.append(Eq(update.field.forward, new_value))
            equations += after
            for port, points in inputs:
                equations += self._inject(port, points, update)
                for quantity in quantities:
                    amount = injected_amount(quantity)
                    if amount != 0:
                        equations += self._inject(port, points, update, _kept_now(quantity), amount)
        equations += self._read(self.system.outputs)
        return [_rewritten(e, {f: self._stored(f, f in compact) for f in self.system.fields}) for e in equations]

    def born(self, kept: Coupling) -> list[Equation]:
        """One step of the tangent, driven by perturbed coefficients (through the history) and perturbed sources."""
        tangents = {f: twin(f, PERTURBED) for f in self.system.fields}
        equations: list[Equation] = []
        inputs = [(_renamed(port, tangents), Points(self.symbols, port.name)) for port in self.system.inputs]
        for update in self.system.updates:
            rhs = tangent_of(update.rhs, tangents) + kept.born[update.field]
            tangent = Update(tangents[update.field], update.mass, rhs)
            equations.append(Eq(tangent.field.forward, rhs / update.mass))
            for port, points in inputs:
                equations += self._inject(port, points, tangent)
        equations += self._read(_renamed(port, tangents) for port in self.system.outputs)
        compact = self.in_place()
        return [_rewritten(e, {t: self._stored(t, f in compact) for f, t in tangents.items()}) for e in equations]

    def adjoint(self, kept: Coupling | None = None, lagged: bool = True, inputs: bool = True) -> list[Equation]:
        """One step of the transpose, backward in time.

        Args:
            kept: the coefficients to differentiate, and their history; None for none.
            lagged: accumulate the gradient of the step done before this one, from adjoint fields that the stencils
                read anyway; costs one more step at the end. Otherwise this step's, in a pass of its own.
            inputs: also read the adjoint field where sources enter.
        """
        equations: list[Equation] = []
        residuals = [(port, Points(self.symbols, port.name)) for port in self.transposed.inputs]
        for update in self.transposed.updates:
            equations.append(Eq(update.field.forward, update.rhs / update.mass))
            for port, points in residuals:
                equations += self._inject(port, points, update)
        accumulated = []
        if kept is not None:
            for coefficient, term in kept.gradients.items():
                gradient = twin(coefficient, GRADIENT)
                accumulated.append(Eq(gradient, gradient + (_one_step_later(term) if lagged else term)))
        # Lagged accumulation reads what the updates read, so it stands first and Devito fuses it with them.
        equations = accumulated + equations if lagged else equations + accumulated
        if inputs:
            equations += self._read(self.transposed.outputs)
        fields = {f: self._stored(f, f in self._transposed_in_place) for f in self.transposed.fields}
        return [_rewritten(e, fields, backward=True) for e in equations]

    def _inject(
        self, port: Port, points: Points, update: Update, target: Expr | None = None, gain: Expr = 1
    ) -> list[Equation]:
        """Add a port's samples to an updated field, or `gain` times as much to something made of it."""
        target = update.field.forward if target is None else target
        where = location(update.field)
        return [
            points.inject(target, gain * factor / update.mass, where)
            for field, factor in port.terms
            if field is update.field
        ]

    def _read(self, ports: Iterable[Port]) -> list[Equation]:
        equations = []
        for port in ports:
            points = Points(self.symbols, port.name)
            equations += [points.read(field.forward, factor) for field, factor in port.terms]
        return equations


def _halves(field: Field) -> tuple[Any, ...] | None:
    return tuple(d for d, half in location(field).items() if half) or None


def _kept_now(quantity) -> Expr:
    return quantity.symbol.forward if quantity.at_next else quantity.symbol


def _renamed(port: Port, fields: dict[Field, Field]) -> Port:
    return Port(port.name, tuple((fields[f], factor) for f, factor in port.terms))


def _rewritten(equation: Equation, fields: Mapping[Field, Field], backward: bool = False) -> Equation:
    """The same equation with fields replaced, and run backward in time if asked: its forward is then the earlier step."""

    def rewrite(access: Spatial) -> Expr:
        function: Field = access.function
        if function not in fields:
            return access
        offset = time_offset(access)
        other = at_offset(fields[function], -offset if backward else offset)
        # Accesses in the windows of sources and receivers have indices of their own.
        space = dict(zip(function.indices[1:], access.indices[1:], strict=True))
        return other if all(a == b for a, b in space.items()) else other.subs(space)

    return equation.func(map_accesses(equation.lhs, rewrite), map_accesses(equation.rhs, rewrite))


def in_place(system: System) -> set[Field]:
    """Fields of second order whose new value may overwrite the one before the present.

    That is safe where only the field's own update reads `field.backward`, and at the point it writes. It saves an array
    in cache: 15 % of a 3-D run.
    """
    chosen = {f for f in system.fields if f.time_order == 2}
    for update in system.updates:
        for part in summands(update.rhs):
            read = {a.function for a in accesses(part) if a.function in chosen and time_offset(a) == -1}
            if part.has(Derivative):
                differentiated = {
                    a.function for d in part.find(Derivative) for a in accesses(d) if time_offset(a) == -1
                }
            else:
                differentiated = set()
            chosen -= differentiated | (read - {update.field})
    return chosen


def _with_value(equation: Equation, access: Spatial, value: Expr) -> Equation:
    """The equation with an access on its right replaced by its value."""
    return Eq(equation.lhs, map_accesses(equation.rhs, lambda a: value if a == access else a))


def _one_step_later(term: Expr) -> Expr:
    """The same gradient contribution for the step done before: newest adjoint values become current ones."""

    def shift(access: Spatial) -> Expr:
        if not isinstance(access, TimeFunction):
            return access
        function: Field = access.function
        if not function.indices[0].is_Stepping:  # the history
            return access.subs({access.time_dim: access.time_dim + access.time_dim.spacing})
        return at_offset(function, time_offset(access) - 1)

    return map_accesses(term, shift)


def _sparse_in_time(system: System, coupling: Coupling, every: int) -> Coupling:
    """The same coupling with its history kept at every `every`-th step, each standing for `every` steps."""
    time = system.symbols.grid.time_dim
    sparse = ConditionalDimension(name="kept_step", parent=time, factor=every)
    symbols: dict[Spatial, Field] = {}
    for quantity in coupling.quantities:
        halves = [d for d, half in location(quantity.symbol).items() if half]
        symbols[quantity.symbol] = stored_symbol(system, quantity.symbol.name, halves, time_dim=sparse)

    def replaced(expr: Expr) -> Expr:
        return map_accesses(expr, lambda a: symbols.get(a.function, a))

    return Coupling(
        tuple(type(q)(symbols[q.symbol], q.expr, q.field, q.at_next) for q in coupling.quantities),
        coupling.tangents,
        {f: replaced(e) for f, e in coupling.born.items()},
        {c: every * replaced(e) for c, e in coupling.gradients.items()},
    )
