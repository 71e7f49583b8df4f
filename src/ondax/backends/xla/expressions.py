"""The values of a scheme's expressions, as JAX arrays.

What stands inside a derivative is known on the grid (or in the strip that it is confined to), zero
outside of it, and continued by its mirror image above a free surface. So every derivative is a
banded matrix, and its transpose is that of the transposed scheme. Devito's kernels mean the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ..._devito import Derivative, TimeFunction
from ...calculus.images import image_of
from ...calculus.regions import by_region
from ...scheme.symbols import EVERYWHERE, Expr, Region, Spatial, Symbols, Traits
from ...scheme.system import text
from ...scheme.terms import is_access, location, time_offset
from ..domain import Domain
from .boxes import Box, Stored, common, covers, grown, padded, sliced, spread, with_image
from .differences import taps
from .form import Form
from .parts import Parts


@dataclass
class Known:
    """What is known while a step is computed.

    Attributes:
        arrays: by the name of a function and the time of an access, in steps.
        numbers: values of single symbols, by name: the time step, spacings, and arrays (shot,
            *grid) that stand for an expression.
        shots: computed together.
        found: values that may be asked for again.
    """

    arrays: dict[tuple[str, int], Stored]
    numbers: dict[str, Any]
    shots: int
    found: dict[Any, Any] = field(default_factory=dict)

    def of(self, access: Any) -> Stored:
        """The array of an access."""
        offset = time_offset(access) if isinstance(access, TimeFunction) else 0
        function: Any = access.function
        return self.arrays[function.name, offset]


class _Imaged:
    """A scheme's symbols, with the images that histories have."""

    def __init__(self, symbols: Symbols, kept: Mapping[str, int | None]) -> None:
        self._symbols, self._kept = symbols, kept
        self.profiles, self.dimensions = symbols.profiles, symbols.dimensions

    def traits_of(self, function: Spatial) -> Traits:
        if function.name in self._kept:
            return Traits(self._kept[function.name])
        return self._symbols.traits_of(function)


class Evaluator:
    """Evaluates the expressions of one scheme.

    Args:
        symbols: the scheme's.
        domain: where.
        form: how it is written.
        parts: how arrays are shared out over devices.
        kept: how what histories keep continues above a free surface, by name.
    """

    def __init__(
        self,
        symbols: Symbols,
        domain: Domain,
        form: Form,
        parts: Parts,
        kept: Mapping[str, int | None],
    ) -> None:
        self.symbols, self.domain, self.form, self.parts = symbols, domain, form, parts
        self.dtype = np.dtype(domain.dtype)
        self.grid: Box = tuple((0, n) for n in parts.shape)
        self.spacing = dict(zip(symbols.dimensions, domain.spacing, strict=True))
        self.axis = {d: i for i, d in enumerate(symbols.dimensions)}
        self.depth = symbols.dimensions[-1]
        self.surface = symbols.ghosts
        self.reach = symbols.space_order // 2
        self.halo = self.reach if form.halo else 0
        self._imaged = _Imaged(symbols, kept)

    # ---------------------------------------------------------------- where

    def box_of(self, region: Region) -> Box:
        """The box of a region, or where in its part of the grid a device may have some of it."""
        box = list(self.grid)
        for axis, side in region:
            i = self.symbols.axes.index(axis)
            box[i] = self.parts.strip(i, side, self.domain.strips[axis, side], self.reach)
        return tuple(box)

    def _ranges(self, region: Region) -> dict[int, tuple[int, int]]:
        """The points of the whole grid that a region has, by axis."""
        found = {}
        for axis, side in region:
            i = self.symbols.axes.index(axis)
            width, n = self.domain.strips[axis, side], self.domain.shape[i]
            found[i] = (0, width) if side == "low" else (n - width, n)
        return found

    def whole_home(self, function: Spatial) -> Box:
        """Where in the whole grid a function is stored."""
        ranges = self._ranges(self.symbols.traits_of(function).region)
        return tuple(ranges.get(i, (0, n)) for i, n in enumerate(self.domain.shape))

    def inside(self, array: Any, box: Box, region: Region) -> Any:
        """An array (shot, *box), zero where this device has nothing of a region."""
        return self.parts.inside(array, box, self._ranges(region)) if self.parts.cut else array

    def home(self, function: Spatial) -> Box:
        """Where a function is stored, without its halo."""
        return self.box_of(self.symbols.traits_of(function).region)

    def image(self, expr: Expr) -> int | None:
        """How an expression continues above a free surface."""
        return image_of(expr, self._imaged)

    def _half(self, expr: Expr) -> bool:
        return bool(location(expr).get(self.depth, False))

    # ---------------------------------------------------------------- storage

    def kept_box(self, function: Spatial) -> Box:
        """Where a field is kept between steps, its halo included."""
        home = self.home(function)
        return self._wide(home) if self.halo and home == self.grid else home

    def kept(self, array: Any, function: Spatial) -> Stored:
        """The new values of a field as they are kept.

        Args:
            array: (shot, *home).
            function: the field.
        """
        home, image, half = self.home(function), self.image(function), self._half(function)
        if self.surface and image is not None and home[-1][0] == 0:
            array = self._on_surface(array, image, half)
        return self._stored(array, home, image, half)

    def _stored(self, array: Any, box: Box, image: int | None, half: bool) -> Stored:
        if not self.halo or box != self.grid:
            return Stored(array, box)
        wide = self._wide(box)
        return Stored(lax.optimization_barrier(self._on(array, box, wide, image, half)), wide)

    def _wide(self, box: Box) -> Box:
        wide = [(a - self.halo, b + self.halo) for a, b in box]
        a, b = wide[-1]
        n = self.form.align
        wide[-1] = (a, a + -(-(b - a) // n) * n)
        return tuple(wide)

    def _on_surface(self, array: Any, image: int, half: bool) -> Any:
        """Values whose topmost are on the surface, where odd ones vanish."""
        found = with_image(array, ((0, array.shape[-1]),), 0, image, half)[0]
        top = self.parts.topmost
        return found if top is True else jnp.where(top, found, array)

    def _on(self, array: Any, box: Box, to: Box, image: int | None, half: bool) -> Any:
        """An array of a box in a larger one: zero outside, or its image above the surface, or what
        neighbours have there."""
        rows, top = -to[-1][0], self.parts.topmost
        if not (self.surface and image is not None and box[-1][0] == 0 and rows > 0):
            return self._with_neighbours(array, box, to)
        if top is True:
            array, box = with_image(array, box, rows, image, half)
            return self._with_neighbours(array, box, to)
        wide = self._with_neighbours(array, box, to)
        below = (*to[:-1], (0, to[-1][1]))
        imaged, _ = with_image(wide[..., rows:], below, rows, image, half)
        return jnp.where(top, imaged, wide)

    def _with_neighbours(self, array: Any, box: Box, to: Box) -> Any:
        """An array of a box in a larger one: what neighbours have there, zero outside of the grid.
        Strips do not reach the parts of neighbours; see `Parts.strip`."""
        for i, count in enumerate(self.parts.counts):
            (a, b), (c, d) = box[i], to[i]
            constant = array.shape[1 + i] == 1 and b - a != 1
            if count > 1 and not constant and (a, b) == self.grid[i]:
                array = self.parts.beyond(array, i, a - c, d - b)
                box = grown(box, i, c - a, d - b)
        return padded(array, box, to)

    # ---------------------------------------------------------------- values

    def value(self, expr: Expr, box: Box, known: Known) -> Any:
        """An expression at all points of a box: a number, or an array that broadcasts with (shot,
        *box)."""
        if is_access(expr):
            return self._read(expr, box, known)
        if isinstance(expr, Derivative):
            return self._derivative(expr, box, known)
        if expr.is_Number:
            return float(expr)
        if expr.is_Add:
            return _sum(self.value(a, box, known) for a in sorted(expr.args, key=text))
        if expr.is_Mul:
            return self._product(expr, box, known)
        if expr.is_Pow and expr.exp.is_Integer:
            base = self.value(expr.base, box, known)
            return base ** int(expr.exp)
        found = known.numbers[expr.name]
        return found if isinstance(found, float) else sliced(Stored(found, self.grid), box)

    def _product(self, expr: Expr, box: Box, known: Known) -> Any:
        number, arrays, below = 1.0, [], []
        for arg in sorted(expr.args, key=text):
            inverse = arg.is_Pow and arg.exp.is_Integer and arg.exp < 0
            v = self.value(arg.base ** (-arg.exp) if inverse else arg, box, known)
            if isinstance(v, float):
                number = number / v if inverse else number * v
            else:
                (below if inverse else arrays).append(v)
        return _multiplied(number, arrays, below)

    def _read(self, access: Any, box: Box, known: Known) -> Any:
        found = known.of(access)
        if covers(found.box, box):
            return sliced(found, box)
        inner = common(box, found.box)
        if not all(b > a for a, b in inner):
            return 0.0
        array = sliced(found, inner)
        return self._on(array, inner, box, self.image(access), self._half(access))

    def _derivative(self, expr: Any, box: Box, known: Known) -> Any:
        operand = expr.expr
        for d, n, order in list(zip(expr.dims, expr.deriv_order, expr.fd_order, strict=True))[:-1]:
            operand = Derivative(operand, (d, n), fd_order=order, x0={d: expr.x0[d]})
        d, n, order = expr.dims[-1], expr.deriv_order[-1], expr.fd_order[-1]
        axis = self.axis[d]
        here, there = location(operand).get(d, False), expr.x0[d] != d
        key = ("derivative", text(expr), box)
        if key not in known.found:
            weights = taps(int(n), int(order), Fraction(int(there) - int(here), 2))
            offsets = [o for o, _ in weights]
            need = grown(box, axis, min(offsets), max(offsets))
            source = self._operand(operand, need, known, d == self.depth)
            scale = 1.0 / self.spacing[d] ** int(n)
            known.found[key] = _difference(source, box, axis, weights, scale)
        return known.found[key]

    def _operand(self, expr: Expr, need: Box, known: Known, upward: bool) -> Stored:
        """What stands inside a derivative, on all points that it reads.

        Args:
            expr: the operand.
            need: where it is read.
            known: what is known.
            upward: the derivative is along depth. A sum of parts, some of which do not say how they
                continue above the surface, has an image for such derivatives only.
        """
        if is_access(expr):
            found = known.of(expr)
            if covers(found.box, need):
                return found
            if not isinstance(expr, TimeFunction):
                found = found._replace(array=self.inside(found.array, found.box, EVERYWHERE))
            image, half = self.image(expr), self._half(expr)
            return self._around(found, text(expr), need, known, image, half)
        image, half = self.image(expr) if upward or not self.surface else None, self._half(expr)
        (region,) = by_region(expr, self.symbols) or (EVERYWHERE,)
        # The whole of it, once, if most of it is needed; else what is needed.
        inner = common(need, self.box_of(region))
        if not region and all(b - a >= 0.9 * n for (a, b), (_, n) in zip(inner, self.grid)):
            inner = self.grid
        key = (text(expr), inner, image)
        if key not in known.found:
            array = spread(self.value(expr, inner, known), known.shots, inner)
            array = self.inside(array, inner, region)
            made = self._stored(array, inner, image, half)
            if expr.has(TimeFunction):
                made = made._replace(array=lax.optimization_barrier(made.array))
            known.found[key] = made
        found = known.found[key]
        if covers(found.box, need):
            return found
        return self._around(found, key, need, known, image, half)

    def _around(
        self, found: Stored, name: Any, need: Box, known: Known, image: int | None, half: bool
    ) -> Stored:
        """An array, continued so that derivatives can read it: once for those along any axis, if it
        is known on the grid; but where the grid is cut, only along the axis that is asked for, once
        a step, because rows come from neighbours."""
        around = tuple(
            (a - self.reach, b + self.reach) if count == 1 or c < a or b < d else (a, b)
            for (a, b), (c, d), count in zip(self.grid, need, self.parts.counts, strict=True)
        )
        if found.box != self.grid or not covers(around, need):
            inside = common(need, found.box)
            if not all(b > a for a, b in inside):
                return Stored(jnp.zeros((1,) * (1 + len(need)), self.dtype), need)
            return Stored(self._on(sliced(found, inside), inside, need, image, half), need)
        key = ("around", name, image, around)
        if key not in known.found:
            array = self._on(found.array, found.box, around, image, half)
            known.found[key] = Stored(array, around)
        return known.found[key]

    def assembled(
        self, parts: Mapping[Region, Expr], home: Box, known: Known, factor: Any = None
    ) -> Any:
        """The sum of the parts of an expression, each of which is zero outside of its region.

        Args:
            parts: by region.
            home: where it is wanted.
            known: what is known.
            factor: of the sum, as a function of the box; None for 1.
        """
        total: Any = 0.0
        for region, part in parts.items():
            box = common(self.box_of(region), home)
            if part == 0 or not all(b > a for a, b in box):
                continue
            v = self.value(part, box, known)
            v = v if factor is None else v * factor(box)
            if self.parts.cut:
                v = self.inside(spread(v, _shots(v), box), box, region)
            if box != home:
                v = padded(spread(v, _shots(v), box), box, home)
            total = _sum((total, v))
        return total


def _shots(v: Any) -> int:
    return 1 if isinstance(v, float) else v.shape[0]


def _difference(
    source: Stored, box: Box, axis: int, weights: Iterable[tuple[int, float]], scale: float
) -> Any:
    """The sum of an array's values at so many points beyond, times weights. Values of equal weight
    are added first."""
    by_weight: dict[float, list[tuple[int, float]]] = {}
    for offset, w in weights:
        by_weight.setdefault(abs(w), []).append((offset, w))
    terms = []
    for w, group in by_weight.items():
        (offset, first), *rest = group
        total = sliced(source, grown(box, axis, offset, offset))
        for offset, v in rest:
            more = sliced(source, grown(box, axis, offset, offset))
            total = total + more if v == first else total - more
        terms.append(math.copysign(w, first) * scale * total)
    return _sum(terms)


def _sum(values: Iterable[Any]) -> Any:
    total: Any = 0.0
    for v in values:
        total = v if isinstance(total, float) and total == 0.0 else total + v
    return total


def _multiplied(number: float, arrays: list[Any], below: list[Any]) -> Any:
    """A product of a number and arrays, over others; small arrays first."""
    arrays = sorted(arrays, key=lambda a: a.size)
    if number != 1.0 and arrays:
        arrays[0] = -arrays[0] if number == -1.0 else number * arrays[0]
        number = 1.0
    total: Any = None
    for a in arrays:
        total = a if total is None else total * a
    for b in sorted(below, key=lambda a: a.size):
        total = (number if total is None else total) / b
    return number if total is None else total
