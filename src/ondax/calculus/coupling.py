"""How a scheme's coefficients couple to its wavefield: Born sources and coefficient gradients.

A perturbation `dc` of the coefficients adds `S(dc, u) = sum_j L_j(dc_j * Q_j(u))` to the right-hand
sides of the tangent updates, with linear operators `L_j`. The `Q_j` are all that a linearised run,
forward or adjoint, needs of the background wavefield. Keeping them, or the fields they are made of,
whichever are fewer, is a history; Born modelling reads it into `S`, and the transpose of `S` turns
it and the adjoint field into gradients. Both come from the one expression, so they are each other's
transpose by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy
from devito import TimeFunction
from devito.finite_differences import Derivative

from ..scheme.symbols import Field, Spatial
from ..scheme.system import System
from ..scheme.terms import (
    Expr,
    accesses,
    at_offset,
    depends_on,
    is_access,
    location,
    map_accesses,
    product,
    replace_function,
    summands,
    total,
    with_operand,
)
from .check import checked
from .increments import by_parts, in_differences
from .linearize import scattering
from .transpose import pull

PERTURBED = "born_"  # before the names of perturbed coefficients and of the fields they scatter
GRADIENT = "grad_"  # before the names of gradients
STRIP = 0.15  # typical share of a grid that lies in the absorbing layer along one edge


@dataclass(frozen=True)
class Quantity:
    """Something of the background wavefield that is kept at every step.

    Attributes:
        symbol: the stored function, over all time steps.
        expr: its value, known once `field` has been advanced.
        field: the field whose update makes it known.
        at_next: kept at the time of the advanced field (a stored field) rather than at the step (a
            stored product).
    """

    symbol: Field
    expr: Expr
    field: Field
    at_next: bool


@dataclass(frozen=True)
class Coupling:
    """The exchange between coefficient perturbations and a wavefield history.

    Attributes:
        quantities: what to keep of the background run.
        tangents: the symbol of each wanted coefficient's perturbation.
        born: for each field, what the perturbations add to the right-hand side of its tangent.
        gradients: for each wanted coefficient, what one step adds to its gradient, with the adjoint
            fields at the step's own (newest) adjoint values, written as the `forward` of the fields
            given.
    """

    quantities: tuple[Quantity, ...]
    tangents: Mapping[Spatial, Spatial]
    born: Mapping[Field, Expr]
    gradients: Mapping[Spatial, Expr]


def couple(
    system: System,
    wanted: tuple[Spatial, ...],
    adjoints: Mapping[Field, Field],
    keep_products: bool | None = None,
) -> Coupling:
    """Work out what to keep of a run, and how it enters Born modelling and gradients.

    Args:
        system: the scheme.
        wanted: the coefficients to be perturbed or differentiated; a subset of
            `system.coefficients`.
        adjoints: the adjoint of each field, as in `transpose(system)`.
        keep_products: keep the products `Q_j` rather than the fields; by default whichever are
            fewer. Only products can be sampled sparsely in time.
    """
    system = checked(system)
    tangents = {c: system.symbols.like(c, PERTURBED) for c in wanted}
    raw = {
        u.field: _collected(
            _distribute(scattering(u, tangents), tangents),
            set(tangents.values()),
            set(system.fields),
        )
        for u in system.updates
    }
    kept = _Products(system, set(tangents.values()))
    with_products = {field: kept.replace(expr, field) for field, expr in raw.items()}
    read = {a.function for expr in raw.values() for a in accesses(expr)} & set(system.fields)
    if keep_products is None:
        keep_products = len(kept.quantities) <= sum(_size(f, system) for f in read)
    if keep_products:
        quantities, born = tuple(kept.quantities), with_products
    else:
        quantities, born = _keep_fields(system, raw, read)
    quantities, born = _with_halos(system, quantities, born)
    gradients: dict[Spatial, list[Expr]] = {c: [] for c in wanted}
    coefficient = {tangent: c for c, tangent in tangents.items()}
    pairs = []
    for field, expr in born.items():
        if not keep_products:
            stored = {q.symbol for q in quantities}
            expr, terms = _in_first_differences(expr, coefficient, stored, adjoints[field])
            for tangent, term in terms:
                gradients[coefficient[tangent]].append(term)
        pairs.append((expr, at_offset(adjoints[field], 1)))
    for access, term in pull(pairs, lambda a: a.function in coefficient):
        gradients[coefficient[access.function]].append(term)
    return Coupling(quantities, tangents, born, {c: total(terms) for c, terms in gradients.items()})


def _in_first_differences(
    expr: Expr, perturbations: Mapping[Spatial, Spatial], stored: set[Field], adjoint: Field
) -> tuple[Expr, list[tuple[Spatial, Expr]]]:
    """What is left of a Born source for the gradients, and those parts that first differences in
    time express."""
    rest, terms = [], []
    for part in summands(expr):
        bare = (
            [a for a in part.args if is_access(a) and a.function in perturbations]
            if part.is_Mul
            else []
        )
        if len(bare) == 1:
            cofactor = product(a for a in part.args if a is not bare[0])
            for field in sorted(stored, key=str):
                cofactor, term = by_parts(cofactor, field, adjoint)
                terms.append((bare[0].function, term))
            part = bare[0] * cofactor
        rest.append(part)
    return total(rest), [(tangent, term) for tangent, term in terms if term != 0]


def _size(field: Field, system: System) -> float:
    """Of a field's history, in full grids."""
    return STRIP ** len(system.symbols.traits_of(field).region)


def _distribute(expr: Expr, tangents: Mapping[Spatial, Spatial]) -> Expr:
    """Multiply out products over sums that hold perturbations, so that equal operators can be
    collected."""
    variables = set(tangents.values())
    if not expr.args or is_access(expr) or not depends_on(expr, variables):
        return expr
    if isinstance(expr, Derivative):
        return with_operand(expr, _distribute(expr.expr, tangents))
    if expr.is_Add:
        return total(_distribute(arg, tangents) for arg in expr.args)
    if expr.is_Mul:
        varying = next(arg for arg in expr.args if depends_on(arg, variables))
        others = [arg for arg in expr.args if arg is not varying]
        varying = _distribute(varying, tangents)
        return total(product((*others, term)) for term in summands(varying))
    return expr


def _collected(expr: Expr, perturbations: set[Spatial], fields: set[Field]) -> Expr:
    """Collect the terms in which the same perturbation is a plain factor, and take differences in
    time of what it multiplies."""
    if not expr.args or is_access(expr) or not depends_on(expr, perturbations):
        return expr
    if isinstance(expr, Derivative):
        return with_operand(expr, _collected(expr.expr, perturbations, fields))
    if not expr.is_Add:
        return expr.func(*[_collected(arg, perturbations, fields) for arg in expr.args])
    cofactors: dict[Expr, list[Expr]] = {}
    rest = []
    for term in expr.args:
        bare = (
            [a for a in term.args if is_access(a) and a.function in perturbations]
            if term.is_Mul
            else []
        )
        if len(bare) == 1:
            cofactors.setdefault(bare[0], []).append(
                product(a for a in term.args if a is not bare[0])
            )
        else:
            rest.append(_collected(term, perturbations, fields))
    return total(
        [*rest, *(p * in_differences(total(parts), fields) for p, parts in cofactors.items())]
    )


class _Products:
    """Replaces, in scattering terms, every factor made of fields by a stored symbol."""

    def __init__(self, system: System, perturbations: set[Spatial]) -> None:
        self.system = system
        self.fields = set(system.fields)
        self.perturbations = perturbations
        self.quantities: list[Quantity] = []

    def replace(self, expr: Expr, field: Field) -> Expr:
        if not expr.args or is_access(expr) or not depends_on(expr, self.fields):
            return expr
        if isinstance(expr, Derivative):
            return with_operand(expr, self.replace(expr.expr, field))
        if expr.is_Add:
            return total(self.replace(arg, field) for arg in expr.args)
        made_of_fields = [
            a
            for a in expr.args
            if depends_on(a, self.fields) and not depends_on(a, self.perturbations)
        ]
        if made_of_fields:
            others = [a for a in expr.args if not any(a is b for b in made_of_fields)]
            return product((*others, self._stored(product(made_of_fields), field)))
        return product(self.replace(arg, field) for arg in expr.args)

    def _stored(self, expr: Expr, field: Field) -> Field:
        for known in self.quantities:
            if known.field is field and known.expr == expr:
                return known.symbol
        name = f"kept{len(self.quantities)}"
        symbol = stored_symbol(self.system, name, [d for d, half in location(expr).items() if half])
        self.quantities.append(Quantity(symbol, expr, field, at_next=False))
        return symbol


def _keep_fields(
    system: System, raw: Mapping[Field, Expr], read: set[Field]
) -> tuple[tuple[Quantity, ...], dict[Field, Expr]]:
    symbols = {}
    for field in system.fields:
        if field in read:
            halves = [d for d, half in location(field).items() if half]
            symbols[field] = stored_symbol(system, "kept_" + field.name, halves)
            system.symbols.traits["kept_" + field.name] = system.symbols.traits_of(field)
    quantities = tuple(Quantity(s, at_offset(f, 1), f, at_next=True) for f, s in symbols.items())
    return quantities, {f: _replace(expr, symbols) for f, expr in raw.items()}


def _replace(expr: Expr, symbols: Mapping[Spatial, Spatial]) -> Expr:
    return map_accesses(
        expr, lambda a: replace_function(a, symbols[a.function]) if a.function in symbols else a
    )


def stored_symbol(
    system: System, name: str, halves: list, halo: int = 0, time_dim: Any = None
) -> Field:
    """A function kept at every time step (or at those of `time_dim`), without halo unless it is
    differentiated."""
    space_order = (system.symbols.space_order, halo, halo) if halo else 0
    return TimeFunction(
        name=name,
        grid=system.symbols.grid,
        save=4,
        time_order=2,
        space_order=space_order,
        staggered=tuple(halves) if halves else None,
        **({"time_dim": time_dim} if time_dim is not None else {}),
    )


def _with_halos(
    system: System, quantities: tuple[Quantity, ...], born: Mapping[Field, Expr]
) -> tuple[tuple[Quantity, ...], dict[Field, Expr]]:
    """Give a halo to the stored functions that are differentiated, as wide as their derivatives are
    nested."""
    symbols: dict[Spatial, Spatial] = {}
    widened = []
    for quantity in quantities:
        depth = max((_nesting(expr, quantity.symbol) for expr in born.values()), default=0)
        symbol = quantity.symbol
        if depth:
            halves = [d for d, half in location(symbol).items() if half]
            symbol = stored_symbol(
                system, symbol.name, halves, depth * system.symbols.space_order // 2
            )
            symbols[quantity.symbol] = symbol
        widened.append(Quantity(symbol, quantity.expr, quantity.field, quantity.at_next))
    return tuple(widened), {f: _replace(expr, symbols) for f, expr in born.items()}


def _nesting(expr: Expr, function: Spatial) -> int:
    """How many derivatives stand around an access of `function`, at most."""
    if is_access(expr) or not depends_on(expr, {function}):
        return 0
    inner = max(_nesting(arg, function) for arg in expr.args)
    return inner + isinstance(expr, Derivative)


def injected_amount(quantity: Quantity) -> Expr:
    """How much `quantity` grows when its field's new value does: a source adds to both."""
    now = at_offset(quantity.field, 1)
    return total(
        term for _, term in pull([(quantity.expr, sympy.S.One)], lambda access: access == now)
    )
