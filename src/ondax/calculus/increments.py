"""New values written as old values and a change, so that rounding does not shift frequencies.

An update of second order in time is `mass * u_after == forces + mass_0 * 2 u - mass_1 * u_before`.
Computed in this form, each of the three factors is rounded, and an error of 6e-8 in one of them
makes an error of 6e-8 / (omega dt)^2 in the frequency omega. In the form `u_after = 2 u - u_before
+ rest / mass`, the factors 2 and -1 are exact, and only sums of the size of u are rounded. For an
update of first order in time, the form is `u_after = u + rest / mass`.

The rest is found by algebra on the symbols of the update. So this works for any equation, its
tangent and its adjoint, and for equations of users; it changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sympy

from .._devito import Derivative
from ..scheme.symbols import Expr, Field, Spatial
from ..scheme.system import Update
from ..scheme.terms import accesses, is_access, product, time_offset, total


@dataclass(frozen=True)
class Change:
    """The new value of a field: `2 field - field.backward + force` if the update is of second order
    in time, `field + force` if it is of first order, else `force`.

    Attributes:
        update: the update of the field.
        weights: the factors of `field` and `field.backward` above: (2, -1), (1, 0) or (0, 0).
        force: the rest, which is small if the time step is.
    """

    update: Update
    weights: tuple[int, int]
    force: Expr

    @property
    def unforced(self) -> Expr:
        """The new value without the force."""
        return self.weights[0] * self.update.field + (
            self.weights[1] * self.update.field.backward if self.weights[1] else 0
        )

    def value_of(self, expr: Expr, force: Expr) -> Expr:
        """An expression with `field.forward` replaced by the expression of the new value.

        Differences in time of values that have been rounded have an error of a rounding over dt or
        dt^2; here large terms cancel as symbols, before numbers are rounded.

        Args:
            expr: an expression in the field at several times, pointwise in `field.forward`.
            force: the symbol that holds the value of `force`.
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
    """The new value of a field, for a right-hand side.

    Args:
        update: the update of the field.
        rhs: its right-hand side, or that part of it which contains the field itself.
    """
    field = update.field
    if update.keep == 0 and update.take == 1:
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
    """An expression in which fields at three times are replaced by their differences from step to
    step: `a u_after + b u + c u_before` becomes `a (u_after - u) - c (u - u_before) + (a + b + c)
    u`. Fields inside of derivatives stay as they are.

    So factors whose sum is zero, such as those of a second difference, cancel exactly.
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
    """Summation by parts: rewrite a multiplier times an expression, so that its sum over all steps
    is the same, with first differences in time in place of second ones.

    The sum over n of `a[n] (c1 u[n+1] + c0 u[n] + c2 u[n-1])` equals the sum of `(u[n+1] - u[n])
    (c1 (a[n] - a[n+1]) + (c1 - c2) a[n+1]) + (c1 + c0 + c2) a[n] u[n]`, because u starts and a ends
    at rest. (Where u does not start at rest, the second sum has one more term, of n = -1, for which
    a[-1] is zero: see `state.of_step_before`.) In float32, a second difference of rounded values
    has an error of 1e-7 / (omega dt)^2, but a product of two first differences only one of 1e-7 /
    (omega dt).

    Args:
        expr: the expression. Nothing is done if it does not contain `u[n-1]` outside of
            derivatives.
        field: the field u; its `forward`, the field itself and its `backward` are at n + 1, n, n -
            1.
        multiplier: the field a, of an adjoint run; its `forward` is at n, the field itself at n +
            1.

    Returns:
        An expression that is still to be multiplied by `a[n]`; and one that is to be added to the
        product.
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
    """Whether a part is of a higher order in the time step than the mass, or zero."""
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
    """`weights[0] * field + weights[1] * field.backward`, written with their difference."""
    level, before = (_restored(sympy.factor(w), known) for w in (sum(weights), weights[1]))
    return total((level * field, -before * (field - field.backward) if before != 0 else before))


def _coefficients(expr: Expr, field: Field) -> dict[int, Expr]:
    """The factors of the field outside of derivatives, by the field's offset in time."""
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
    """The expression without those terms in which the field stands outside of derivatives."""
    if is_access(expr):
        return sympy.S.Zero if expr.function is field else expr
    if isinstance(expr, Derivative) or not (expr.is_Add or expr.is_Mul):
        return expr
    return (total if expr.is_Add else product)(_without(arg, field) for arg in expr.args)


def _plain(expr: Expr) -> Expr:
    """The same expression in plain SymPy, which can expand it: symbols stand for accesses and
    derivatives."""
    if is_access(expr) or isinstance(expr, Derivative):
        return sympy.Symbol(str(expr))
    if expr.is_Add or expr.is_Mul or expr.is_Pow:
        kind = sympy.Add if expr.is_Add else sympy.Mul if expr.is_Mul else sympy.Pow
        return kind(*map(_plain, expr.args))
    return expr


def _by_name(*exprs: Expr) -> dict[str, Spatial]:
    """The accesses and derivatives in some expressions, by the names of the symbols that stand for
    them."""
    found = {str(a): a for e in exprs for a in accesses(e)}
    return found | {str(d): d for e in exprs for d in e.find(Derivative)}


def _restored(expr: Expr, known: dict[str, Spatial]) -> Expr:
    """The Devito expression of a plain one, whose symbols stand for what is `known`."""
    if expr.is_Symbol:
        return known.get(expr.name, expr)
    if expr.is_Add:
        return total(_restored(arg, known) for arg in expr.args)
    if expr.is_Mul:
        return product(_restored(arg, known) for arg in expr.args)
    return _restored(expr.base, known) ** expr.exp if expr.is_Pow else expr
