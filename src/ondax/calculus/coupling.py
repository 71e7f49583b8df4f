"""How a scheme's coefficients couple to its wavefield: Born sources and coefficient gradients.

A perturbation `dc` of the coefficients adds `S(dc, u) = sum_j L_j(dc_j * Q_j(u))` to the right-hand
sides of the tangent updates, with linear operators `L_j`. The `Q_j` are all that a linearised run,
forward or adjoint, needs of the background wavefield. A history keeps them, or the fields that they
are made of, whichever are fewer. Born modelling puts the history into `S`; the transpose of `S`
makes gradients of the history and the adjoint field. Both come from the same expression, so they
are the transpose of each other by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy

from .._devito import Derivative, TimeFunction
from ..scheme.names import PERTURBED
from ..scheme.symbols import Field, Spatial
from ..scheme.system import System, text
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

STRIP = 0.15  # typical share of a grid that lies in the absorbing layer along one edge


@dataclass(frozen=True)
class Quantity:
    """A quantity of the background wavefield that is kept at every step: a field, or a product with
    fields.

    Attributes:
        symbol: the stored function, over all time steps.
        expr: its value, known once `field` has been advanced.
        field: the field whose update makes it known.
        at_next: whether its time index is that of the advanced field, one more than that of the
            step: true for a field, false for a product.
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
        gradients: for each wanted coefficient, what one step adds to its gradient. The `forward` of
            an adjoint field stands for the adjoint value of this step, the newest one.
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
    """Find what to keep of a run, and how that enters Born modelling and gradients.

    Args:
        system: the scheme.
        wanted: the coefficients to be perturbed or differentiated; a subset of
            `system.coefficients`.
        adjoints: the adjoint of each field, as in `transpose(system)`.
        keep_products: whether to keep the products `Q_j` or the fields; by default, whichever are
            fewer.

    Raises:
        EquationError: the system cannot be transformed; see `checked`.
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
    """Rewrite the terms of a Born source by summation by parts; see `by_parts`.

    Args:
        expr: the Born source of one field.
        perturbations: the symbols of perturbed coefficients, as keys.
        stored: the stored fields.
        adjoint: the adjoint of the field.

    Returns:
        The rest of the Born source, for the gradients; and further terms of gradients, each with
        the symbol of its perturbed coefficient.
    """
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
    """The typical size of a field's history at one step, as a fraction of the grid."""
    return STRIP ** len(system.symbols.traits_of(field).region)


def _distribute(expr: Expr, tangents: Mapping[Spatial, Spatial]) -> Expr:
    """Multiply out products with sums that contain perturbations, so that terms with the same
    operator can be collected."""
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
    """Collect the terms in which the same perturbation is a factor outside of derivatives, and
    write what it multiplies with differences in time; see `in_differences`."""
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
    """A transformation of scattering terms that puts a stored symbol in place of every factor made
    of fields.

    Attributes:
        quantities: what the symbols stand for, so far.
    """

    def __init__(self, system: System, perturbations: set[Spatial]) -> None:
        self.system = system
        self.fields = set(system.fields)
        self.perturbations = perturbations
        self.quantities: list[Quantity] = []

    def replace(self, expr: Expr, field: Field) -> Expr:
        """The expression with stored symbols; it belongs to the update of `field`."""
        if not expr.args or is_access(expr) or not depends_on(expr, self.fields):
            return expr
        if isinstance(expr, Derivative):
            return with_operand(expr, self.replace(expr.expr, field))
        if expr.is_Add:
            # SymPy's own order of terms may differ between processes; names must not.
            terms = sorted(expr.args, key=text)
            return total(self.replace(term, field) for term in terms)
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
        """The symbol for a product of fields; a new one, unless the product is known already."""
        for known in self.quantities:
            if known.expr == expr:  # for an update before this one, perhaps
                return known.symbol
        name = f"kept{len(self.quantities)}"
        symbol = stored_symbol(self.system, name, [d for d, half in location(expr).items() if half])
        self.quantities.append(Quantity(symbol, expr, field, at_next=False))
        return symbol


def _keep_fields(
    system: System, raw: Mapping[Field, Expr], read: set[Field]
) -> tuple[tuple[Quantity, ...], dict[Field, Expr]]:
    """The fields to keep, and the Born sources with stored symbols in their place.

    Args:
        system: the scheme.
        raw: the Born source of each field.
        read: the fields that stand in them.
    """
    symbols = {}
    for field in system.fields:
        if field in read:
            halves = [d for d, half in location(field).items() if half]
            symbols[field] = stored_symbol(system, "kept_" + field.name, halves)
            system.symbols.traits["kept_" + field.name] = system.symbols.traits_of(field)
    quantities = tuple(Quantity(s, at_offset(f, 1), f, at_next=True) for f, s in symbols.items())
    return quantities, {f: _replace(expr, symbols) for f, expr in raw.items()}


def _replace(expr: Expr, symbols: Mapping[Spatial, Spatial]) -> Expr:
    """The expression with other functions in place of some of its own."""
    return map_accesses(
        expr, lambda a: replace_function(a, symbols[a.function]) if a.function in symbols else a
    )


def stored_symbol(system: System, name: str, halves: list, halo: int = 0) -> Field:
    """A symbol for values that are stored over time.

    Args:
        system: the scheme.
        name: of the symbol.
        halves: the dimensions along which it lives at half points.
        halo: number of points around the grid, which its derivatives need.
    """
    space_order = (system.symbols.space_order, halo, halo) if halo else 0
    return TimeFunction(
        name=name,
        grid=system.symbols.grid,
        save=4,
        time_order=2,
        space_order=space_order,
        staggered=tuple(halves) if halves else None,
    )


def _with_halos(
    system: System, quantities: tuple[Quantity, ...], born: Mapping[Field, Expr]
) -> tuple[tuple[Quantity, ...], dict[Field, Expr]]:
    """Give a halo to those stored functions that are differentiated, so wide that nested
    derivatives have all points that they read."""
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
    """The largest number of nested derivatives around an access of `function`."""
    if is_access(expr) or not depends_on(expr, {function}):
        return 0
    inner = max(_nesting(arg, function) for arg in expr.args)
    return inner + isinstance(expr, Derivative)


def injected_amount(quantity: Quantity) -> Expr:
    """The derivative of a quantity with respect to its field's new value: a source that is added to
    the field has to be added, times this, to the quantity."""
    now = at_offset(quantity.field, 1)
    return total(
        term for _, term in pull([(quantity.expr, sympy.S.One)], lambda access: access == now)
    )
