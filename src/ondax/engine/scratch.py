"""What is costly inside derivatives, computed once a step.

The adjoint of `c D u` is `D (c a)`: a product inside a derivative, which a stencil would multiply out at every point
it reads. Kept in an array of its own, it is computed once, and the stencil is as cheap as the original's. Likewise a sum
of derivatives inside others, as rotated operators have. Nothing is computed outside the grid.
"""

from __future__ import annotations

import zlib
from typing import Any

from devito import Eq, TimeFunction
from devito.finite_differences import Derivative

from ..calculus.regions import by_region
from ..calculus.surround import image_of
from ..calculus.terms import accesses, is_access, location, with_operand
from ..equations.system import Equation, Expr, Spatial, Symbols, Traits, text
from .extended import halves
from .mirror import mirrored

SCRATCH_PREFIX = "work_"


class Scratch:
    """The arrays of one scheme that hold such products, by name.

    Args:
        symbols: the scheme's.
        surface: with a free surface, above which products have mirror images.
    """

    def __init__(self, symbols: Symbols, surface: bool = False) -> None:
        self.symbols, self.surface = symbols, surface
        self.functions: dict[str, Spatial] = {}

    def lifted(self, expr: Expr, done: set[str]) -> tuple[list[Equation], Expr]:
        """The expression with what is costly inside derivatives replaced by arrays.

        Args:
            expr: a right-hand side.
            done: names of the arrays that this step has computed already; grows.

        Returns:
            Equations that compute the arrays first needed here, and the expression that reads them.
        """
        if is_access(expr) or not expr.args or not expr.has(Derivative):
            return [], expr
        if not isinstance(expr, Derivative):
            parts: list[Any] = [self.lifted(arg, done) for arg in expr.args]
            return [e for first, _ in parts for e in first], expr.func(*[part for _, part in parts])
        operand: Any = expr.expr
        if not operand.has(Derivative):
            functions = list(accesses(operand))
            if len(functions) < 2 or not any(isinstance(a, TimeFunction) for a in functions):
                return [], expr
            first, made = self._computed(operand, expr, done)
            return first, with_operand(expr, made)
        before, operand = self.lifted(operand, done)
        if len(operand.find(Derivative)) < 2:  # Devito does as well with one
            return before, with_operand(expr, operand)
        first, made = self._computed(operand, expr, done)
        return [*before, *first], with_operand(expr, made)

    def _computed(self, operand: Expr, within: Derivative, done: set[str]) -> tuple[list[Equation], Spatial]:
        """An array, and the equations that compute it unless that has been done."""
        if operand.could_extract_minus_sign():  # one array for both signs
            first, made = self._computed(-operand, within, done)
            return first, -made
        upward = self.surface and self.symbols.dimensions[-1] in within.dims
        made = self._array(operand, "up" if upward else "")
        if made.name in done:
            return [], made
        done.add(made.name)
        region = self.symbols.traits_of(made).region
        part = self.symbols.part(region, made.name) if region else None
        # What is made of other such arrays does not name a time: say that it belongs to every step.
        first = [Eq(made, operand, subdomain=part, implicit_dims=(self.symbols.grid.stepping_dim,))]
        if upward and self.symbols.axes[-1] not in dict(region):
            first += mirrored(made, image_of(operand, self.symbols), self.symbols, part=part)
        return first, made

    def _array(self, operand: Expr, suffix: str) -> Spatial:
        name = f"{SCRATCH_PREFIX}{zlib.crc32(text(operand).encode()):08x}{suffix}"
        if name not in self.functions:
            self.functions[name] = self.symbols.coefficient(name, staggered=halves(location(operand)))
            (region,) = by_region(operand, self.symbols)
            self.symbols.traits[name] = Traits(image_of(operand, self.symbols), region)
        return self.functions[name]
