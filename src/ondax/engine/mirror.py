"""Mirror images above a free surface, kept in the halo."""

from __future__ import annotations

import re
from typing import Any

from devito import Dimension, Eq
from devito.finite_differences import Derivative

from ..calculus import EquationError
from ..calculus.surround import image_of
from ..calculus.terms import accesses, location
from ..equations.system import ODD, Equation, Expr, Port, Spatial, Symbols
from .interpolation import Above

GHOST = "ghost"  # the beginning of the names of loops over rows above the surface
_GHOSTS: dict[int, Any] = {}


def ghost_rows(name: str) -> int | None:
    """The value of a kernel argument that bounds a loop over ghost rows; None for other
    arguments."""
    match: Any = re.fullmatch(rf"{GHOST}(\d+)_([mM])", name)
    if match is None:
        return None
    return int(match[1]) if match[2] == "M" else 1


def mirrored(
    access: Spatial, image: int | None, symbols: Symbols, pinned: bool = True, part: Any = None
) -> list[Equation]:
    """Equations that fill the rows above the surface of what has just been computed.

    Args:
        access: what was computed.
        image: EVEN or ODD; None is refused.
        symbols: the scheme's.
        part: the part of the grid where it is stored.
    """
    if image is None:
        raise EquationError(f"{access} does not say how it continues above a free surface")
    depth = symbols.dimensions[-1]
    axis = access.function.dimensions.index(depth)
    (rows, _) = access.function.halo[axis]
    if rows not in _GHOSTS:
        _GHOSTS[rows] = Dimension(name=f"{GHOST}{rows}")
    ghost = _GHOSTS[rows]
    half = location(access)[depth]
    below = ghost - 1 if half else ghost
    every_step = {
        "subdomain": part,
        "implicit_dims": (symbols.grid.stepping_dim,),
    }  # also of what does not name a time
    equations = (
        [Eq(access.subs({depth: -ghost}), image * access.subs({depth: below}), **every_step)]
        if rows
        else []
    )
    if image == ODD and not half:  # it vanishes on the surface itself
        equations.insert(0, Eq(access.subs({depth: 0}), 0, **every_step))
    return equations


def continued(port: Port, field: Spatial, symbols: Symbols) -> Above:
    """How what a port reads or feeds continues above a free surface, at the points of one of its
    fields."""
    if symbols.traits_of(field).image != ODD:
        return Above.SMOOTH
    half = location(field)[symbols.dimensions[-1]]
    return Above.LOST if port.strains and not half else Above.ODD


def vanishes_at_surface(port: Port, symbols: Symbols) -> bool:
    """Is all that a port reads or feeds zero on a free surface?"""
    return all(continued(port, field, symbols) is Above.ODD for field, _ in port.terms)


def check_images(expr: Expr, symbols: Symbols) -> None:
    """Refuse vertical derivatives of what does not say how it continues above the surface.

    Raises:
        EquationError: names the derivative.
    """
    depth = symbols.dimensions[-1]
    for derivative in expr.find(Derivative):
        if depth in derivative.dims and image_of(derivative.expr, symbols) is None:
            names = ", ".join(sorted({a.function.name for a in accesses(derivative.expr)}))
            raise EquationError(
                f"{derivative}: a free surface needs to know how {names} continue above it; "
                "declare their image, ODD for what "
                "vanishes at the surface, EVEN otherwise: symbols.field(name, image=ODD)"
            )
