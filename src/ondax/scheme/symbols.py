"""The symbols that schemes are written in: fields, coefficients and profiles on a symbolic grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._symbolic import devito

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


def check_space_order(space_order: int) -> None:
    """Check an accuracy order in space.

    Raises:
        ValueError: it is not an even number from 2 to 16.
    """
    if space_order not in range(2, 17, 2):
        raise ValueError(
            f"space_order={space_order} is not supported: use an even number from 2 to 16"
        )


IN_C = (
    "auto break case char const continue default do double else enum extern float for goto if "
    "inline int long main register restrict return short signed sizeof static struct switch "
    "typedef union unsigned void volatile while NULL"
)
"""Words that mean something to a C compiler."""
IN_KERNELS = "dt t t0 t1 t2 time timers deviceid nthreads x y z"
"""Names that kernels give to something of their own."""


def check_name(name: str) -> None:
    """Check the name of a field or coefficient, by which kernels know it.

    Raises:
        ValueError: it is none in C, or means something else there.
    """
    if not (isinstance(name, str) and name.isidentifier() and name.isascii()):
        raise ValueError(f"the name {name!r} is not made of letters, digits and underscores")
    if name in (*IN_C.split(), *IN_KERNELS.split()):
        raise ValueError(
            f"the name {name!r} means something else in the kernels: give the field or coefficient "
            "another one"
        )


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
        from .._devito_settings import our_devito

        if ndim not in AXIS_NAMES:
            raise ValueError(f"a grid has 1, 2 or 3 axes, not {ndim}")
        check_space_order(space_order)
        self.ndim = ndim
        self.space_order = space_order
        self.dtype = np.dtype(dtype)
        self.dimensions = tuple(
            devito.SpaceDimension(
                name=n,
                spacing=devito.types.Scalar(name=f"h_{n}", dtype=self.dtype.type, is_const=True),
            )
            for n in AXIS_NAMES[ndim]
        )
        # Larger than any order or strip needs; nothing of this size is allocated: real shapes
        # arrive when a kernel is called.
        with our_devito():
            self.grid = devito.Grid(
                shape=(SYMBOLIC,) * ndim, dimensions=self.dimensions, dtype=self.dtype.type
            )
        self.dt = self.grid.stepping_dim.spacing
        self.axes = AXIS_NAMES[ndim]
        self.profiles: list[Spatial] = []
        self.ghosts = False  # whether fields have mirror images above the topmost nodes
        self._kinds: dict[str, str] = {}
        self._parts: dict[tuple[Region, str], Any] = {}
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

        Raises:
            ValueError: kernels cannot know a field by that name.
        """
        check_name(name)
        self.traits[name] = Traits(image, region)
        return devito.TimeFunction(
            name=name,
            grid=self.grid,
            time_order=time_order,
            space_order=self.space_order,
            staggered=staggered,
            save=save,
        )

    def coefficient(self, name: str, staggered: Any = None, image: int | None = EVEN) -> Spatial:
        """A differentiable coefficient, at the nodes or half a cell along the `staggered`
        dimensions; `image` as for fields: the sine of a dip is ODD.

        Raises:
            ValueError: kernels cannot know a coefficient by that name.
        """
        check_name(name)
        self.traits[name] = Traits(image)
        return devito.Function(
            name=name, grid=self.grid, space_order=self.space_order, staggered=staggered
        )

    def like(self, function: Spatial, prefix: str, time_order: int | None = None) -> Spatial:
        """A new symbol of the same kind, at the same points, its name lengthened by a prefix; of
        another order in time, if one is given."""
        self.traits[prefix + function.name] = self.traits_of(function)
        other: dict[str, Any] = {}
        if time_order not in (None, getattr(function, "time_order", None)):
            # Devito has as many buffers as the shape says, whatever the order.
            shape = (time_order + 1, *function.shape[1:])
            other = {"time_order": time_order, "shape": shape}
        return function._rebuild(name=prefix + function.name, **other)

    def part(self, region: Region, of: str) -> Any:
        """The region as Devito knows it, for the loops that compute one function. Its thickness is
        an argument of kernels.

        Each function has its own: Devito fuses loops over one strip even where the second reads
        what the first has yet to compute at the next point (seen in 4.8.23, with two strips along
        an axis).
        """
        from .parts import Part

        if (region, of) not in self._parts:
            self._parts[region, of] = Part(region, of, len(self._parts) + 1, self.grid)
        return self._parts[region, of]

    def profile(self, name: str, dimension: Any, staggered: bool = False) -> Spatial:
        """A fixed (not differentiable) function of one dimension, such as an absorbing layer's
        damping."""
        kind = name
        name = f"{kind}_{dimension.name}" + ("h" if staggered else "")
        for known in self.profiles:
            if known.name == name:
                return known
        made = devito.Function(
            name=name,
            dimensions=(dimension,),
            shape=(self.grid.shape[0],),
            space_order=self.space_order,
            dtype=self.dtype.type,
            staggered=dimension if staggered else None,
        )
        self.profiles.append(made)
        self._kinds[name] = kind
        return made

    def kind_of(self, profile: Spatial) -> str:
        """The name that a profile was asked for by."""
        return self._kinds[profile.name]
