"""Expressions of a scheme evaluated with NumPy, stencil by stencil, for questions that are asked
once per model.

Derivatives are taken with Devito's own finite-difference weights. Outside the grid fields are zero,
but for their mirror images above a free surface, as in the kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import sympy

from .._devito import Derivative, Function
from ..calculus.images import image_of
from ..scheme.symbols import Expr, Symbols
from ..scheme.system import text
from ..scheme.terms import accesses, is_access, location, point, product, time_offset, total

Array = np.ndarray
BLOCK = 1 << 15  # values of an array worked on at a time
Amplitudes = dict[
    tuple[str, bool], Array
]  # by name of the field, and whether it was computed in this sweep


@dataclass(frozen=True)
class Setting:
    """What expressions are evaluated with.

    Attributes:
        symbols: the scheme's.
        values: of its coefficients, by name; arrays of one shape. Profiles are zero: no layer
            absorbs.
        scalars: values of the time step and of the spacings, by name.
        absolute: every weight, and every factor of a field, is replaced by its absolute value.
        repeated: texts of the derivatives that are needed more than once.
        phases: of plane waves in an unbounded uniform medium, which arrays then hold in place of
            points: by axis, how much their phases grow from a point to the next, in radians.
    """

    symbols: Symbols
    values: Mapping[str, Array]
    scalars: Mapping[str, float]
    absolute: bool
    repeated: frozenset[str]
    phases: Sequence[Array] | None = None


def fixed(expr: Expr, setting: Setting) -> Any:
    """The value of an expression without fields: an array or a number."""
    if is_access(expr):
        return setting.values.get(expr.function.name, 0.0)
    if isinstance(expr, Derivative):
        values = fixed(expr.expr, setting)
        if np.ndim(values) == 0 or setting.phases is not None:
            return 0.0  # made of absent profiles only, or of a uniform medium
        return Stencil(expr, setting.symbols).prepared(replace(setting, absolute=False))(values)
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
    """A linear form in fields: a sum of terms, each a pointwise factor times a field or a
    derivative of such a form.

    Terms that differ in their factor only are one term.

    Args:
        expr: linear in fields.
        symbols: the scheme's.
    """

    def __init__(self, expr: Expr, symbols: Symbols) -> None:
        self.terms: list[tuple[Expr, Expr, str, Form | None, Stencil | None]] = []
        for factor, atom in _collected(expr).values():
            inner = None if is_access(atom) else Form(atom.expr, symbols)
            stencil = None if is_access(atom) else Stencil(atom, symbols)
            self.terms.append((factor, atom, text(atom), inner, stencil))

    def prepared(self, setting: Setting) -> Evaluate:
        """A function that evaluates the form.

        Args:
            setting: what it is evaluated with.

        Returns:
            A function of the fields' amplitudes, and of the derivatives that this sweep has
            computed, by their text, which grow. Its value is an array that the caller may not write
            to, or 0.0 for an empty form.
        """
        terms: list[tuple[Any, Evaluate]] = []
        for factor, atom, name, inner, stencil in self.terms:
            weight = fixed(factor, setting)
            if np.any(weight):
                made = (
                    _read(atom)
                    if inner is None or stencil is None
                    else _derivative(name, inner, stencil, setting)
                )
                terms.append((np.abs(weight) if setting.absolute else weight, made))

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


def _derivative(name: str, inner: Form, stencil: Stencil, setting: Setting) -> Evaluate:
    operand, differentiate = inner.prepared(setting), stencil.prepared(setting)

    def evaluate(amplitudes: Amplitudes, known: dict[str, Array]) -> Any:
        if name in known:
            return known[name]
        values = operand(amplitudes, known)
        values = values if np.ndim(values) == 0 else differentiate(values)
        if name in setting.repeated:
            known[name] = values
        return values

    return evaluate


def repeated(forms: Iterable[Form]) -> frozenset[str]:
    """The texts of the derivatives that stand in some forms more than once."""
    found: Counter[str] = Counter()

    def count(form: Form) -> None:
        for _, _, name, inner, _ in form.terms:
            if inner is not None:
                found[name] += 1
                if found[name] == 1:
                    count(inner)

    for form in forms:
        count(form)
    return frozenset(name for name, times in found.items() if times > 1)


def _collected(expr: Expr) -> dict[str, tuple[Expr, Expr]]:
    """The terms of an expression that is linear in fields: their factors, and the fields or
    derivatives."""
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
    return {
        name: (product((others, factor)), atom)
        for name, (factor, atom) in _collected(varying[0]).items()
    }


def _has_field(expr: Expr) -> bool:
    return any(getattr(access.function, "is_TimeFunction", False) for access in accesses(expr))


class Stencil:
    """What is known of a derivative whatever the model: its shifts along one axis after the
    other."""

    def __init__(self, derivative: Derivative, symbols: Symbols) -> None:
        where = location(derivative.expr)
        self.image = image_of(derivative.expr, symbols)
        self.shifts = []
        for d, order, accuracy in zip(
            derivative.dims, derivative.deriv_order, derivative.fd_order, strict=True
        ):
            half, axis = where[d], symbols.dimensions.index(d)
            weights = taps(order, accuracy, half, derivative.x0[d] == point(d, True))
            self.shifts.append((axis, weights, d.spacing.name, order, half))

    def prepared(self, setting: Setting) -> Callable[[Array], Array]:
        """A function that differentiates an array."""
        if setting.phases is not None:
            factor = self._of_waves(setting)
            return lambda values: factor * values
        steps = []
        for axis, weights, spacing, order, half in self.shifts:
            scale = setting.scalars[spacing] ** -order
            sign = 1 if setting.absolute else self.image
            upright = axis == setting.symbols.ndim - 1
            mirrored = setting.symbols.ghosts and sign is not None and upright
            scaled = [
                (offset, (abs(w) if setting.absolute else w) * scale) for offset, w in weights
            ]
            steps.append((axis, scaled, (sign, half) if mirrored else None))

        def differentiate(values: Array) -> Array:
            for axis, weights, mirror in steps:
                values = differences(values, axis, weights, mirror)
            return values

        return differentiate

    def _of_waves(self, setting: Setting) -> Array:
        """What plane waves are multiplied with; the most that any are, if weights are absolute."""
        assert setting.phases is not None
        factor = np.ones(1)
        for axis, weights, spacing, order, _ in self.shifts:
            found = sum(
                abs(w) if setting.absolute else w * np.exp(1j * offset * setting.phases[axis])
                for offset, w in weights
            )
            factor = factor * found * setting.scalars[spacing] ** -order
        return factor


@cache
def taps(
    order: int, accuracy: int, from_half: bool, to_half: bool
) -> tuple[tuple[int, float], ...]:
    """Offsets and weights, for a spacing of 1, of Devito's finite difference along one axis,
    between nodes and half points."""
    symbols = Symbols(1, 2, np.float64)
    (d,) = symbols.dimensions
    f: Any = Function(
        name="f", grid=symbols.grid, space_order=accuracy, staggered=d if from_half else None
    )
    derivative: Any = Derivative(f, (d, order), x0={d: point(d, to_half)}, fd_order=accuracy)
    stencil = derivative.evaluate
    found = []
    for access in stencil.find(Function):
        weight = stencil.coeff(access).subs(d.spacing, 1)
        found.append((int((access.indices[0] - f.indices[0]) / d.spacing), float(weight)))
    return tuple(sorted(found))


def differences(
    values: Array,
    axis: int,
    weights: Sequence[tuple[int, float]],
    mirror: tuple[int, bool] | None = None,
) -> Array:
    """A weighted sum of shifted copies, `sum(w values[i + offset])`, of what is zero outside the
    grid.

    Args:
        values: at the grid's points.
        axis: of the shifts.
        weights: offsets and weights.
        mirror: sign of the mirror images beyond the first row, and whether values are half a point
            below it.
    """
    shape, n = values.shape, values.shape[axis]
    rows, columns = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
    given, result = (
        np.ascontiguousarray(values).reshape(rows, n, columns),
        np.empty(shape, values.dtype),
    )
    made = result.reshape(rows, n, columns)
    # In blocks that stay in cache, with room for what lies outside the grid.
    width = min(columns, max(1, BLOCK // n))
    height = min(rows, max(1, BLOCK // (n * width)))
    most = max(abs(offset) for offset, _ in weights)
    padded = np.zeros((height, n + 2 * most, width), values.dtype)
    room = np.empty((height, n, width), values.dtype)
    groups = _alike(weights)
    for i in range(0, rows, height):
        for j in range(0, columns, width):
            block, target = (
                given[i : i + height, :, j : j + width],
                made[i : i + height, :, j : j + width],
            )
            inside, part = (
                padded[: block.shape[0], :, : block.shape[2]],
                room[: block.shape[0], :, : block.shape[2]],
            )
            inside[:, most : most + n] = block
            if mirror is not None:
                for row in range(1, most + 1):
                    image = row - mirror[1]
                    inside[:, most - row] = mirror[0] * block[:, image] if image < n else 0.0
            target[...] = 0.0
            for weight, (first, *others) in groups:
                shifted = inside[:, most + first[0] : most + first[0] + n]
                if others:
                    combine = np.add if others[0][1] == first[1] else np.subtract
                    combine(
                        shifted, inside[:, most + others[0][0] : most + others[0][0] + n], out=part
                    )
                    np.multiply(part, values.dtype.type(weight * first[1]), out=part)
                else:
                    np.multiply(shifted, values.dtype.type(weight * first[1]), out=part)
                target += part
    return result


def _alike(weights: Sequence[tuple[int, float]]) -> list[tuple[float, list[tuple[int, int]]]]:
    """Absolute weights, each with the one or two offsets that have it and the signs there."""
    groups: list[tuple[float, list[tuple[int, int]]]] = []
    for offset, weight in weights:
        sign = 1 if weight >= 0.0 else -1
        for known, places in groups:
            if len(places) == 1 and abs(abs(weight) - known) <= 1e-12 * known:
                places.append((offset, sign))
                break
        else:
            groups.append((abs(weight), [(offset, sign)]))
    return groups
