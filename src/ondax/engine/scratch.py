"""Products inside derivatives, computed once a step.

The adjoint of `c D u` is `D (c a)`: a product inside a derivative, which a stencil would multiply out at every point
it reads. Kept in an array of its own, it is computed once, and the stencil is as cheap as the original's.
"""

from __future__ import annotations

import zlib
from typing import Any

from devito import Eq, TimeFunction
from devito.finite_differences import Derivative

from ..calculus.surround import image_of
from ..calculus.terms import accesses, is_access, location, with_operand
from ..equations.system import Equation, Expr, Spatial, Symbols, text
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
        """The expression with products of fields inside derivatives replaced by arrays.

        Args:
            expr: a right-hand side.
            done: names of the arrays that this step has computed already; grows.

        Returns:
            Equations that compute the arrays first needed here, and the expression that reads them.
        """
        if is_access(expr) or not expr.args or not expr.has(Derivative):
            return [], expr
        if isinstance(expr, Derivative):
            operand: Any = expr.expr
            if operand.has(Derivative):
                first, operand = self.lifted(operand, done)
                return first, with_operand(expr, operand)
            functions = list(accesses(operand))
            if len(functions) < 2 or not any(isinstance(a, TimeFunction) for a in functions):
                return [], expr
            depth = self.symbols.dimensions[-1]
            upward = self.surface and depth in expr.dims
            made = self._array(operand, "up" if upward else "")
            first: list[Equation] = []
            if made.name not in done:
                done.add(made.name)
                first.append(Eq(made, operand))
                if upward:
                    first += mirrored(made, image_of(operand, self.symbols), self.symbols)
            return first, with_operand(expr, made)
        parts: list[Any] = [self.lifted(arg, done) for arg in expr.args]
        return [e for first, _ in parts for e in first], expr.func(*[part for _, part in parts])

    def _array(self, operand: Expr, suffix: str) -> Spatial:
        name = f"{SCRATCH_PREFIX}{zlib.crc32(text(operand).encode()):08x}{suffix}"
        if name not in self.functions:
            halves = tuple(d for d, half in location(operand).items() if half) or None
            self.functions[name] = self.symbols.coefficient(name, staggered=halves)
        return self.functions[name]
