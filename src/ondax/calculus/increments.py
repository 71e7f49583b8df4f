"""New values as the old ones and a change, so that rounding does not shift frequencies.

`mass * u_after == forces + mass_0 * 2 u - mass_1 * u_before`, computed as it stands, rounds its
factors apart, and an error of 6e-8 in one of them is one of 6e-8 / (omega dt)^2 in omega. As
`u_after = 2 u - u_before + rest / mass` the factors are exact and only sums round at the size of u;
of first order in time, `u_after = u + rest / mass`. What is left of the right-hand side is found by
algebra on the update's symbols: so this holds for any equation, its tangent, its adjoint and a
user's own, and changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sympy
from devito.finite_differences import Derivative

from ..scheme.symbols import Expr, Field, Spatial
from ..scheme.system import Update
from ..scheme.terms import accesses, is_access, product, time_offset, total


@dataclass(frozen=True)
class Change:
    """A new value: `2 field - field.backward + force` of second order in time, `field + force` of
    first, else `force`.

    Attributes:
        update: of the field.
        weights: of the field and of the value before it in that: (2, -1), (1, 0) or (0, 0).
        force: the rest, which is small where the step is.
    """

    update: Update
    weights: tuple[int, int]
    force: Expr

    @property
    def unforced(self) -> Expr:
        """The new value but for the force."""
        return self.weights[0] * self.update.field + (
            self.weights[1] * self.update.field.backward if self.weights[1] else 0
        )

    def value_of(self, expr: Expr, force: Expr) -> Expr:
        """An expression in the field's times, with the newest replaced by what it is made of.

        Differences in time, taken of values that have been rounded, are wrong by an ulp over dt or
        dt^2; here they cancel as symbols.

        Args:
            expr: pointwise in the newest value.
            force: the symbol that holds `force`.
        """
        field = self.update.field
        own = {offset: _plain(c) for offset, c in _coefficients(expr, field).items()}
        newest = own.get(1, sympy.S.Zero)
        left = [own.get(-i, sympy.S.Zero) + w * newest for i, w in enumerate(self.weights)]
        known = _by_name(expr, self.update.mass)
        parts = (
            _without(expr, field),
            _restored(newest, known) * force,
            _combined(left, field, known),
        )
        return total(parts)


def change(update: Update, rhs: Expr) -> Change:
    """The new value that a right-hand side gives.

    Args:
        update: whose field and mass these are.
        rhs: its right-hand side, or the part of it that holds the field itself.
    """
    field = update.field
    if update.keep == 0:
        own, mass = (
            {o: _plain(c) for o, c in _coefficients(rhs, field).items()},
            _plain(update.mass),
        )
        for weights in ((2, -1), (1, 0)):
            left = [own.get(-i, sympy.S.Zero) - w * mass for i, w in enumerate(weights)]
            if all(_is_smaller(part, mass, field) for part in left):
                known = _by_name(rhs, update.mass)
                rest = total((_without(rhs, field), _combined(left, field, known)))
                return Change(update, weights, update.new_value(rest))
    return Change(update, (0, 0), update.new_value(rhs) + update.keep * field)


def in_differences(expr: Expr, fields: Collection[Field]) -> Expr:
    """An expression in fields at three times, written in their differences from step to step where
    they are pointwise: `a u_after + b u + c u_before` as `a (u_after - u) - c (u - u_before) + (a +
    b + c) u`.

    So what cancels, such as the weights of a second difference, cancels exactly.
    """
    known, parts, rest = _by_name(expr), [], expr
    for field in fields:
        own = {offset: _plain(c) for offset, c in _coefficients(expr, field).items()}
        if len(own) < 2:
            continue
        after, before = (_restored(own.get(o, sympy.S.Zero), known) for o in (1, -1))
        level = _restored(sympy.factor(sum(own.values())), known)
        parts.append(product((after, field.forward - field)) if after != 0 else after)
        parts.append(product((-before, field - field.backward)) if before != 0 else before)
        parts.append(level * field)
        rest = _without(rest, field)
    return total((*parts, rest)) if parts else expr


def by_parts(expr: Expr, field: Field, multiplier: Field) -> tuple[Expr, Expr]:
    """What a multiplier times an expression is in a sum over all steps, with first differences in
    place of second ones.

    The sum over n of `a[n] (c1 u[n+1] + c0 u[n] + c2 u[n-1])` is that of `(u[n+1] - u[n]) (c1 (a[n]
    - a[n+1]) + (c1 - c2) a[n+1]) + (c1 + c0 + c2) a[n] u[n]`, where u begins and a ends at rest: a
    second difference of rounded values is good to 1e-7 / (omega dt)^2 only, the product of two
    first ones to 1e-7 / (omega dt).

    Args:
        expr: pointwise in the field's values at n - 1, where those are differentiated nothing is
            done.
        field: the field u, known at n + 1, n and n - 1.
        multiplier: the field a, of an adjoint run: its `forward` is at n, the field itself at n +
            1.

    Returns:
        What stays with `a[n]`, and the rest, multiplied.
    """
    own = {offset: _plain(c) for offset, c in _coefficients(expr, field).items()}
    if own.get(-1, sympy.S.Zero) == 0:
        return expr, sympy.S.Zero
    known = _by_name(expr)
    after, before = own.get(1, sympy.S.Zero), own[-1]
    level = _restored(sympy.factor(sum(own.values())), known)
    both = _restored(sympy.factor(after - before), known)
    weight = _restored(after, known) * (multiplier.forward - multiplier) + both * multiplier
    return total((_without(expr, field), level * field)), (field.forward - field) * weight


def _is_smaller(part: Expr, mass: Expr, field: Field) -> bool:
    """Is it of a higher order in the time step?"""
    dt = field.grid.stepping_dim.spacing
    try:
        lowest, of_mass = (
            min(power for (power,) in sympy.Poly(sympy.expand(e * dt**2), dt).monoms())
            for e in (part, mass)
        )
    except sympy.PolynomialError:
        return False
    return sympy.expand(part) == 0 or lowest > of_mass


def _combined(weights: list[Expr], field: Field, known: dict[str, Spatial]) -> Expr:
    """A sum of the field and the value before it, by their difference."""
    level, before = (_restored(sympy.factor(w), known) for w in (sum(weights), weights[1]))
    return total((level * field, -before * (field - field.backward) if before != 0 else before))


def _coefficients(expr: Expr, field: Field) -> dict[int, Expr]:
    """What multiplies the field outside of derivatives, by its offset in time."""
    if is_access(expr):
        return {time_offset(expr): sympy.S.One} if expr.function is field else {}
    if isinstance(expr, Derivative):
        return {}
    found: dict[int, list[Expr]] = {}
    for i, arg in enumerate(expr.args):
        others = (*expr.args[:i], *expr.args[i + 1 :]) if expr.is_Mul else ()
        for offset, c in _coefficients(arg, field).items():
            found.setdefault(offset, []).append(product((*others, c)))
    return {offset: total(cs) for offset, cs in found.items()}


def _without(expr: Expr, field: Field) -> Expr:
    """The expression without the field outside of derivatives."""
    if is_access(expr):
        return sympy.S.Zero if expr.function is field else expr
    if isinstance(expr, Derivative) or not (expr.is_Add or expr.is_Mul):
        return expr
    return (total if expr.is_Add else product)(_without(arg, field) for arg in expr.args)


def _plain(expr: Expr) -> Expr:
    """The same as SymPy's own sums and products, of symbols that stand for accesses and
    derivatives: it can be expanded."""
    if is_access(expr) or isinstance(expr, Derivative):
        return sympy.Symbol(str(expr))
    if expr.is_Add or expr.is_Mul or expr.is_Pow:
        kind = sympy.Add if expr.is_Add else sympy.Mul if expr.is_Mul else sympy.Pow
        return kind(*map(_plain, expr.args))
    return expr


def _by_name(*exprs: Expr) -> dict[str, Spatial]:
    """Accesses and derivatives by the symbols that stand for them."""
    found = {str(a): a for e in exprs for a in accesses(e)}
    return found | {str(d): d for e in exprs for d in e.find(Derivative)}


def _restored(expr: Expr, known: dict[str, Spatial]) -> Expr:
    """The Devito expression of a plain one."""
    if expr.is_Symbol:
        return known.get(expr.name, expr)
    if expr.is_Add:
        return total(_restored(arg, known) for arg in expr.args)
    if expr.is_Mul:
        return product(_restored(arg, known) for arg in expr.args)
    return _restored(expr.base, known) ** expr.exp if expr.is_Pow else expr
