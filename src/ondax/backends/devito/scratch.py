"""What is costly inside derivatives, computed once a step.

The adjoint of `c D u` is `D (c a)`: a product inside a derivative, which a stencil would multiply
out at every point it reads. Kept in an array of its own, it is computed once, and the stencil is as
cheap as the original's. Likewise a sum of derivatives inside others, as rotated operators have.
Nothing is computed outside the grid.

So is what Devito would take to live elsewhere than it does: Devito places what stands inside a
derivative where a function in it lives, even if that function is differentiated at other points
(see `places_agree`). An array lives where it says.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import sympy

from ..._devito import Derivative, Eq, TimeFunction
from ...calculus.images import image_of
from ...calculus.regions import by_region
from ...scheme.symbols import Equation, Expr, Spatial, Symbols, Traits
from ...scheme.system import text
from ...scheme.terms import (
    EquationError,
    accesses,
    factors,
    is_access,
    location,
    point,
    product,
    summands,
    with_operand,
)
from .extended import halves
from .mirror import mirrored
from .names import SCRATCH_PREFIX

Computed = dict[str, Expr]
"""The arrays that a step has computed so far, by name, and the number before the first term of
each."""


def _is_costly(operand: Expr) -> bool:
    """Would a stencil that reads this at many points compute too much more than once?"""
    derivatives = operand.find(Derivative)
    if derivatives:
        return len(derivatives) > 1  # with one, Devito finds by itself what to compute once
    functions = list(accesses(operand))
    return len(functions) > 1 and any(isinstance(a, TimeFunction) for a in functions)


def _ends_with_the_grid(expr: Expr) -> bool:
    """Is an expression zero outside the grid, as functions are? A derivative by itself is not. Its
    transpose may have it in an array, which is: they would not be each other's transpose at the
    edges."""
    if is_access(expr):
        return True
    if expr.is_Mul:
        return any(map(_ends_with_the_grid, expr.args))
    if expr.is_Add:
        return all(map(_ends_with_the_grid, expr.args))
    return expr.is_Pow and _ends_with_the_grid(expr.base)


def places_agree(operand: Expr, dimensions: Iterable[Any]) -> bool:
    """Does Devito take an expression to live where it does, along some dimensions?

    Devito (seen in 4.8.23) gives an expression the place of the function in it that it ranks
    highest, and forgets where a derivative of that function is evaluated: `Derivative(u, x)` at
    half points passes for something at the nodes, so that a second derivative around it is half a
    cell off.
    """
    where = location(operand)
    return _passes_for(operand, {d: point(d, where[d]) for d in dimensions})


def _passes_for(expr: Expr, place: Mapping[Any, Expr]) -> bool:
    """Is whatever function Devito may take an expression's place from at this one?

    Of the terms of a sum or the factors of a product, functions come first, and among them the one
    that Devito ranks highest. Without any, it goes by one of the other terms: all have to be at the
    place.
    """
    if isinstance(expr, Derivative):
        return _passes_for(expr.expr, place)
    functions = [expr] if is_access(expr) else [arg for arg in expr.args if is_access(arg)]
    if functions:
        assumed = product(functions).indices_ref.getters
        return all(d in assumed and assumed[d] == at for d, at in place.items())
    return all(_passes_for(arg, place) for arg in expr.args if any(accesses(arg)))


def check_places(equation: Equation) -> None:
    """Refuse a derivative that Devito would evaluate elsewhere than it is.

    Raises:
        EquationError: names the derivative.
    """
    for derivative in equation.rhs.find(Derivative):
        if not places_agree(derivative.expr, derivative.dims):
            raise EquationError(
                f"{derivative}: Devito takes {derivative.expr} to live at other points than it "
                "does. Make what is "
                "differentiated a field or a coefficient of its own"
            )


def _multiplied_out(expr: Expr) -> dict[tuple[str, ...], Expr]:
    """The terms of an expression multiplied out: the number before each product, by the texts of
    its factors."""
    found: dict[tuple[str, ...], Expr] = {}
    for term in summands(expr):
        terms: dict[tuple[str, ...], Expr] = {(): sympy.S.One}
        for factor in factors(term):
            if factor.is_Number:
                inner = {(): factor}
            elif factor.is_Add:
                inner = _multiplied_out(factor)
            elif factor.is_Pow and factor.exp.is_Integer and factor.exp > 0:
                inner = {(text(factor.base),) * int(factor.exp): sympy.S.One}
            else:
                inner = {(text(factor),): sympy.S.One}
            products: dict[tuple[str, ...], Expr] = {}
            for names, number in terms.items():
                for others, another in inner.items():
                    both = tuple(sorted((*names, *others)))
                    products[both] = products.get(both, sympy.S.Zero) + number * another
            terms = products
        for names, number in terms.items():
            found[names] = found.get(names, sympy.S.Zero) + number
    return found


def without_number(expr: Expr) -> tuple[Expr, str]:
    """A number, and a text that is the same for all multiples of an expression by numbers, however
    they are written; divided by their numbers they are equal."""
    terms = sorted((names, number) for names, number in _multiplied_out(expr).items() if number)
    first = terms[0][1]
    return first, str([(names, float(number / first)) for names, number in terms])


class Scratch:
    """The arrays of one scheme that hold such products, by name.

    Args:
        symbols: the scheme's.
    """

    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self.functions: dict[str, Spatial] = {}

    def lifted(self, expr: Expr, done: Computed) -> tuple[list[Equation], Expr]:
        """The expression with what is costly inside derivatives replaced by arrays.

        Args:
            expr: a right-hand side.
            done: the arrays that this step has computed already; grows.

        Returns:
            Equations that compute the arrays first needed here, and the expression that reads them.
        """
        if is_access(expr) or not expr.args or not expr.has(Derivative):
            return [], expr
        if not isinstance(expr, Derivative):
            # By their texts: SymPy's own order changes from process to process, and with it the
            # order of what is returned.
            parts: list[Any] = [self.lifted(arg, done) for arg in sorted(expr.args, key=text)]
            return [e for first, _ in parts for e in first], expr.func(*[part for _, part in parts])
        before, operand = self.lifted(expr.expr, done)
        if (
            _ends_with_the_grid(operand)
            and places_agree(operand, expr.dims)
            and not _is_costly(operand)
        ):
            return before, with_operand(expr, operand)
        first, made = self._computed(operand, expr, done)
        return [*before, *first], with_operand(expr, made)

    def _computed(
        self, operand: Expr, within: Derivative, done: Computed
    ) -> tuple[list[Equation], Expr]:
        """An array, and the equations that compute it unless that has been done."""
        upward = self.symbols.ghosts and self.symbols.dimensions[-1] in within.dims
        number, described = without_number(operand)
        made = self._array(operand, described, "up" if upward else "")
        if made.name in done:
            ratio = number / done[made.name]
            return [], (sympy.Integer(ratio) if ratio == int(ratio) else ratio) * made
        done[made.name] = number
        region = self.symbols.traits_of(made).region
        part = self.symbols.part(region, made.name) if region else None
        # What is made of other such arrays does not name a time: say that it belongs to every step.
        first = [Eq(made, operand, subdomain=part, implicit_dims=(self.symbols.grid.stepping_dim,))]
        if upward and self.symbols.axes[-1] not in dict(region):
            first += mirrored(made, image_of(operand, self.symbols), self.symbols, part=part)
        return first, made

    def _array(self, operand: Expr, described: str, suffix: str) -> Spatial:
        name = f"{SCRATCH_PREFIX}{zlib.crc32(described.encode()):08x}{suffix}"
        if name not in self.functions:
            self.functions[name] = self.symbols.coefficient(
                name, staggered=halves(location(operand))
            )
            (region,) = by_region(operand, self.symbols)
            self.symbols.traits[name] = Traits(image_of(operand, self.symbols), region)
        return self.functions[name]
