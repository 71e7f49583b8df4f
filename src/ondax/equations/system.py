"""The symbolic description of an explicit time-stepping scheme, and of what enters and leaves it.

A `System` is what an equation file states and what the calculus transforms. It knows symbols only:
no data, no grid size, no boundary values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
from devito import Function, Grid, SpaceDimension, SubDomain, TimeFunction
from devito.finite_differences import Derivative
from devito.types import Scalar

from ..devito_settings import our_devito

# Devito's symbols are typed dynamically: these names say what is meant, a type checker sees Any.
Expr = Any  # a Devito (SymPy) expression
Field = Any  # a devito.TimeFunction, or an access of one at some time
Spatial = Any  # a devito.Function
Equation = Any  # a devito.Eq

AXIS_NAMES = {1: ("z",), 2: ("x", "z"), 3: ("x", "y", "z")}
"""Space dimensions by number of axes: depth comes last."""


Region = frozenset[tuple[str, str]]
"""Part of a grid: axis names with "low" or "high", the strips along those edges (their
intersection); empty, all of it."""

EVERYWHERE: Region = frozenset()
EVEN, ODD = 1, -1
SURFACE_GAIN = "surface_gain"  # name of a profile
SYMBOLIC = 1025  # points along each axis of the grid that symbols are made on


@dataclass(frozen=True)
class Traits:
    """What a symbol's values are outside the grid, and where they are not zero.

    Attributes:
        image: how they continue above a free surface, EVEN or ODD; None where that is never asked.
        region: they are zero elsewhere, and not stored there.
    """

    image: int | None = None
    region: Region = EVERYWHERE


@dataclass(frozen=True)
class Update:
    """One explicit update, `mass * field.forward == rhs`; of a memory, `field.forward == keep *
    field + take * rhs / mass`.

    Attributes:
        field: the field advanced by this update.
        mass: an expression of coefficients, profiles and the time step only.
        rhs: linear in the fields (at the current and the previous step, and at the next one for
            fields that an earlier update of the same step has advanced), polynomial in the
            coefficients.
        keep: what a memory keeps of itself: of profiles only.
        take: how much of the rest it takes up: of profiles only. The multiplier of the adjoint
            scheme is scaled by it, so that it stands outside of all derivatives there too.
    """

    field: Field
    mass: Expr
    rhs: Expr
    keep: Expr = sympy.S.Zero
    take: Expr = sympy.S.One

    def new_value(self, part: Expr) -> Expr:
        """What a part of the right-hand side adds to the field's new value."""
        return self.take * part / self.mass


@dataclass(frozen=True)
class Port:
    """Where samples enter a scheme or leave it: a fixed linear combination of fields.

    An input adds `factor * sample` to the right-hand side of each field's update; an output reads
    `sum(factor * field)` at the end of the step.

    Attributes:
        name: unique among the ports of a system.
        terms: pairs of field and constant factor.
        time: in steps. Of an input: when its samples act, after the beginning of the step. Of an
            output: when what it reads holds, after the end of the step; -1/2 for the velocities of
            a leapfrog in velocity and stress.
        strains: what it feeds does not vanish at a free surface, although a field that it enters
            does. A source of stress radiates as the strain at its place (reciprocity), and in a
            free surface the normal strain is not zero.
    """

    name: str
    terms: tuple[tuple[Field, float], ...]
    time: float = 0.0
    strains: bool = False

    def between(self, fields: Mapping[Field, Field], name: str | None = None) -> Port:
        """The same port of another system, given the counterpart of each field."""
        return Port(
            name or self.name,
            tuple((fields[f], factor) for f, factor in self.terms),
            strains=self.strains,
        )


@dataclass(frozen=True)
class System:
    """An explicit scheme: the updates of one time step, in order, with its inputs and outputs.

    Attributes:
        symbols: the factory that made the symbols below.
        coefficients: spatially varying, differentiable coefficients.
        updates: the step, in order of execution.
        inputs: where sources enter.
        outputs: what receivers read.
    """

    symbols: Symbols
    coefficients: tuple[Spatial, ...]
    updates: tuple[Update, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(update.field for update in self.updates)

    def describe(self) -> str:
        """The whole scheme as text; two schemes with the same text generate the same kernels."""
        lines = [f"{self.symbols.ndim}-D, space order {self.symbols.space_order}"]
        for function in (*self.coefficients, *self.symbols.profiles, *self.fields):
            order = function.time_order if isinstance(function, TimeFunction) else ""
            lines.append(f"{function} {order} {self.symbols.traits_of(function)}")
        for u in self.updates:
            memory = f" keep {text(u.keep)} take {text(u.take)}" if u.keep != 0 else ""
            lines.append(f"({text(u.mass)}) * {u.field.forward} = {text(u.rhs)}{memory}")
        for kind, ports in (("in", self.inputs), ("out", self.outputs)):
            lines += [
                f"{kind} {p.name}: {[(str(f), c) for f, c in p.terms]} {p.strains}" for p in ports
            ]
        return "\n".join(lines)


def text(expr: Expr) -> str:
    """An unambiguous text of an expression: unlike SymPy's, it states where and how derivatives are
    evaluated."""
    if isinstance(expr, Derivative):
        where = ", ".join(
            f"{d}^{n}@{expr.x0.get(d)}" for d, n in zip(expr.dims, expr.deriv_order, strict=True)
        )
        return f"D[{where}; {tuple(expr.fd_order)}]({text(expr.expr)})"
    if isinstance(expr, Function) or not expr.args:
        return str(expr)
    return f"{expr.func.__name__}({', '.join(sorted(text(arg) for arg in expr.args))})"


class _Part(SubDomain):
    """Strips along edges of the grid."""

    def __init__(self, region: Region, of: str, thickness: int, grid: Grid) -> None:
        self.region, self.thickness = dict(region), thickness
        self.name = "_".join([*(f"{axis}{side}" for axis, side in sorted(region)), of])
        super().__init__(grid=grid)

    def define(self, dimensions: Any) -> dict[Any, Any]:
        # Kernels are told the real thickness. This one only has to differ from that of others, or
        # they would be one to Devito.
        sides = {"low": ("left", self.thickness), "high": ("right", self.thickness)}
        return {d: sides[self.region[d.name]] if d.name in self.region else d for d in dimensions}


class Symbols:
    """Makes the symbols of one scheme on a grid of `ndim` axes.

    The grid is symbolic: spacing, shape and time step are arguments of the compiled kernel, so one
    scheme serves every grid.

    Args:
        ndim: 1, 2 or 3.
        space_order: even accuracy order of the spatial derivatives, 2 to 16.
        dtype: float32 or float64.
    """

    def __init__(self, ndim: int, space_order: int, dtype: Any = np.float32) -> None:
        if ndim not in AXIS_NAMES:
            raise ValueError(f"a grid has 1, 2 or 3 axes, not {ndim}")
        if space_order not in range(2, 17, 2):
            raise ValueError(
                f"space_order={space_order} is not supported: use an even number from 2 to 16"
            )
        self.ndim = ndim
        self.space_order = space_order
        self.dtype = np.dtype(dtype)
        self.dimensions = tuple(
            SpaceDimension(
                name=n, spacing=Scalar(name=f"h_{n}", dtype=self.dtype.type, is_const=True)
            )
            for n in AXIS_NAMES[ndim]
        )
        # Larger than any order or strip needs; nothing of this size is allocated: real shapes
        # arrive when a kernel is called.
        with our_devito():
            self.grid = Grid(
                shape=(SYMBOLIC,) * ndim, dimensions=self.dimensions, dtype=self.dtype.type
            )
        self.dt = self.grid.stepping_dim.spacing
        self.axes = AXIS_NAMES[ndim]
        self.profiles: list[Spatial] = []
        self._parts: dict[tuple[Region, str], SubDomain] = {}
        self.traits: dict[str, Traits] = {}

    def traits_of(self, function: Spatial) -> Traits:
        return self.traits.get(function.name, Traits())

    def field(
        self,
        name: str,
        time_order: int = 2,
        staggered: Any = None,
        save: Any = None,
        image: int | None = None,
        region: Region = EVERYWHERE,
    ) -> Field:
        """A wavefield of time order 1 or 2, at the nodes or half a cell along the `staggered`
        dimensions.

        Args:
            name: unique in the scheme.
            time_order: 1 or 2.
            staggered: dimensions.
            save: for the engine.
            image: how the field continues above a free surface: ODD (it vanishes there) or EVEN.
                Leave it out for fields that no vertical derivative reads; a scheme that lacks it
                where it matters takes no free surface.
            region: part of the grid outside which the field is zero.
        """
        self.traits[name] = Traits(image, region)
        return TimeFunction(
            name=name,
            grid=self.grid,
            time_order=time_order,
            space_order=self.space_order,
            staggered=staggered,
            save=save,
        )

    def coefficient(self, name: str, staggered: Any = None, image: int | None = EVEN) -> Spatial:
        """A differentiable coefficient, at the nodes or half a cell along the `staggered`
        dimensions; `image` as for
        fields: the sine of a dip is ODD."""
        self.traits[name] = Traits(image)
        return Function(
            name=name, grid=self.grid, space_order=self.space_order, staggered=staggered
        )

    def like(self, function: Spatial, prefix: str) -> Spatial:
        """A new symbol of the same kind, at the same points, its name lengthened by a prefix."""
        self.traits[prefix + function.name] = self.traits_of(function)
        return function._rebuild(name=prefix + function.name)

    def part(self, region: Region, of: str) -> SubDomain:
        """The region as Devito knows it, for the loops that compute one function. Its thickness is
        an argument of kernels.

        Each function has its own: Devito fuses loops over one strip even where the second reads
        what the first has yet to compute at the next point (seen in 4.8.23, with two strips along
        an axis).
        """
        if (region, of) not in self._parts:
            self._parts[region, of] = _Part(region, of, len(self._parts) + 1, self.grid)
        return self._parts[region, of]

    def profile(self, name: str, dimension: Any, staggered: bool = False) -> Spatial:
        """A fixed (not differentiable) function of one dimension, such as an absorbing layer's
        damping."""
        name = f"{name}_{dimension.name}" + ("h" if staggered else "")
        for known in self.profiles:
            if known.name == name:
                return known
        made = Function(
            name=name,
            dimensions=(dimension,),
            shape=(self.grid.shape[0],),
            space_order=self.space_order,
            dtype=self.dtype.type,
            staggered=dimension if staggered else None,
        )
        self.profiles.append(made)
        return made
