"""Mirror images above a free surface, kept in the halo."""

from __future__ import annotations

from typing import Any

from ..._devito import Dimension, Eq
from ...scheme.symbols import ODD, Equation, Spatial, Symbols
from ...scheme.terms import EquationError, location
from .names import GHOST

_GHOSTS: dict[int, Any] = {}


def mirrored(
    access: Spatial, image: int | None, symbols: Symbols, part: Any = None
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
