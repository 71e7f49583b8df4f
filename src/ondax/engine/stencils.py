"""Expressions of a scheme evaluated with NumPy, stencil by stencil, for questions that are asked once per model.

Derivatives are taken with Devito's own finite-difference weights. Outside the grid fields are zero, but for their mirror
images above a free surface, as in the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import sympy
from devito import Function
from devito.finite_differences import Derivative

from ..calculus.surround import image_of
from ..calculus.terms import accesses, is_access, location, point, product, time_offset, total
from ..equations.system import Expr, Symbols, text

Array = np.ndarray
Amplitudes = dict[tuple[str, bool], Array]  # by name of the field, and whether it was computed in this sweep


@dataclass(frozen=True)
class Setting:
    """What expressions are evaluated with.

    Attributes:
        symbols: the scheme's.
        values: of its coefficients, by name; arrays of one shape. Profiles are zero: no layer absorbs.
        scalars: values of the time step and of the spacings, by name.
        surface: there is a free surface at the top.
    """

    symbols: Symbols
    values: Mapping[str, Array]
    scalars: Mapping[str, float]
    surface: bool


def fixed(expr: Expr, setting: Setting) -> Any:
    """The value of an expression without fields: an array or a number."""
    if is_access(expr):
        return setting.values.get(expr.function.name, 0.0)
    if isinstance(expr, Derivative):
        values = fixed(expr.expr, setting)
        if np.ndim(values) == 0:  # made of absent profiles only
            return 0.0
        return _differentiation(expr, setting, False)(values)
    if expr.is_Number:
        return float(expr)
    if expr.is_Symbol:
        return setting.scalars[expr.name]
    parts = [fixed(arg, setting) for arg in expr.args]
    if expr.is_Add:
        return sum(parts[1:], start=parts[0])
    if expr.is_Mul:
        result = parts[0]
        for part in parts[1:]:
            result = result * part
        return result
    if expr.is_Pow:
        return parts[0] ** int(expr.exp)
    return float(expr.evalf(subs=dict(setting.scalars)))


Evaluate = Callable[[Amplitudes, dict[str, Array]], Any]


class Form:
    """A linear form in fields: a sum of terms, each a pointwise factor times a field or a derivative of such a form.

    Terms that differ in their factor only are one term.

    Args:
        expr: linear in fields.
    """

    def __init__(self, expr: Expr) -> None:
        self.terms = [
            (factor, atom, text(atom), None if is_access(atom) else Form(atom.expr))
            for factor, atom in _collected(expr).values()
        ]

    def prepared(self, setting: Setting, absolute: bool) -> Evaluate:
        """A function that evaluates the form.

        Args:
            setting: what it is evaluated with.
            absolute: with every weight and every factor replaced by its absolute value.

        Returns:
            A function of the fields' amplitudes, and of the derivatives that this sweep has computed, by their text, which
            grow. Its value is an array that the caller may not write to, or 0.0 for an empty form.
        """
        terms: list[tuple[Any, Evaluate]] = []
        for factor, atom, name, inner in self.terms:
            weight = fixed(factor, setting)
            if np.any(weight):
                made = _read(atom) if inner is None else _derivative(atom, name, inner, setting, absolute)
                terms.append((np.abs(weight) if absolute else weight, made))

        def evaluate(amplitudes: Amplitudes, known: dict[str, Array]) -> Any:
            result: Any = None
            owned = False  # the sum so far is no array of the amplitudes or of the derivatives
            for weight, term in terms:
                value = term(amplitudes, known)
                plain = np.ndim(weight) == 0 and weight == 1.0
                value = value if plain else weight * value
                if result is None:
                    result, owned = value, not plain
                elif owned:
                    result += value
                else:
                    result, owned = result + value, True
            return 0.0 if result is None else result

        return evaluate


def _read(access: Expr) -> Evaluate:
    key = (access.function.name, time_offset(access) == 1)
    return lambda amplitudes, known: amplitudes[key]


def _derivative(atom: Derivative, name: str, inner: Form, setting: Setting, absolute: bool) -> Evaluate:
    operand, differentiate = inner.prepared(setting, absolute), _differentiation(atom, setting, absolute)

    def evaluate(amplitudes: Amplitudes, known: dict[str, Array]) -> Any:
        if name not in known:
            values = operand(amplitudes, known)
            known[name] = values if np.ndim(values) == 0 else differentiate(values)
        return known[name]

    return evaluate


def _collected(expr: Expr) -> dict[str, tuple[Expr, Expr]]:
    """The terms of an expression that is linear in fields: their factors, and the fields or derivatives."""
    if is_access(expr) or isinstance(expr, Derivative):
        return {text(expr): (sympy.S.One, expr)} if _has_field(expr) else {}
    if expr.is_Add:
        terms: dict[str, tuple[Expr, Expr]] = {}
        for arg in expr.args:
            for name, (factor, atom) in _collected(arg).items():
                before = terms[name][0] if name in terms else sympy.S.Zero
                terms[name] = (total((before, factor)), atom)
        return terms
    varying = [arg for arg in expr.args if _has_field(arg)]
    if not varying:
        return {}
    others = product(arg for arg in expr.args if arg is not varying[0])
    return {name: (product((others, factor)), atom) for name, (factor, atom) in _collected(varying[0]).items()}


def _has_field(expr: Expr) -> bool:
    return any(getattr(access.function, "is_TimeFunction", False) for access in accesses(expr))


def _differentiation(derivative: Derivative, setting: Setting, absolute: bool) -> Callable[[Array], Array]:
    """The stencils of a derivative, along one axis after the other."""
    where = location(derivative.expr)
    image = image_of(derivative.expr, setting.symbols) if setting.surface else None
    depth = setting.symbols.dimensions[-1]
    steps = []
    for d, order, accuracy in zip(derivative.dims, derivative.deriv_order, derivative.fd_order, strict=True):
        half = where[d]
        scale = setting.scalars[d.spacing.name] ** -order
        found = taps(order, accuracy, half, derivative.x0[d] == point(d, True))
        weights = [(offset, (abs(w) if absolute else w) * scale) for offset, w in found]
        mirror = (1 if absolute else image, half) if d == depth and image is not None else None
        steps.append((setting.symbols.dimensions.index(d), weights, mirror))

    def differentiate(values: Array) -> Array:
        for axis, weights, mirror in steps:
            values = differences(values, axis, weights, mirror)
        return values

    return differentiate


@cache
def taps(order: int, accuracy: int, from_half: bool, to_half: bool) -> tuple[tuple[int, float], ...]:
    """Offsets and weights, for a spacing of 1, of Devito's finite difference along one axis, between nodes and half points."""
    symbols = Symbols(1, 2, np.float64)
    (d,) = symbols.dimensions
    f: Any = Function(name="f", grid=symbols.grid, space_order=accuracy, staggered=d if from_half else None)
    stencil = Derivative(f, (d, order), x0={d: point(d, to_half)}, fd_order=accuracy).evaluate
    found = []
    for access in stencil.find(Function):
        weight = stencil.coeff(access).subs(d.spacing, 1)
        found.append((int((access.indices[0] - f.indices[0]) / d.spacing), float(weight)))
    return tuple(sorted(found))


def differences(
    values: Array, axis: int, weights: list[tuple[int, float]], mirror: tuple[int, bool] | None = None
) -> Array:
    """A weighted sum of shifted copies, `sum(w values[i + offset])`, of what is zero outside the grid.

    Args:
        values: at the grid's points.
        axis: of the shifts.
        weights: offsets and weights.
        mirror: sign of the mirror images beyond the first row, and whether values are half a point below it.
    """
    moved = np.moveaxis(values, axis, 0)
    result = np.zeros_like(values)
    out = np.moveaxis(result, axis, 0)
    n = moved.shape[0]
    scratch = np.empty_like(values)
    room = np.moveaxis(scratch, axis, 0)
    for offset, weight in weights:
        first, last = max(0, -offset), n - max(0, offset)
        if first < last:
            part = room[: last - first]
            np.multiply(moved[first + offset : last + offset], values.dtype.type(weight), out=part)
            out[first:last] += part
        if mirror is not None:
            sign, half = mirror
            for row in range(min(-offset, n)):
                image = -offset - row - half
                if image < n:
                    out[row] += values.dtype.type(sign * weight) * moved[image]
    return result
