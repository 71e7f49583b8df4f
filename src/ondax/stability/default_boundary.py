"""What surrounds a model where the user does not say."""

from __future__ import annotations

import inspect
import warnings

from .._frames import levels_to_the_user
from ..boundaries.base import AbstractLayer
from ..boundaries.cpml import CPML
from ..boundaries.sponge import Sponge
from ..equations.base import AbstractWaveEquation
from ..grid import Grid
from .layer_trial import objection

SPONGE_IN_3D = (
    60  # cells; waves spread more in 3-D, so that an echo of at most 1 % takes fewer than in 2-D
)


def default_boundary(
    equation: AbstractWaveEquation, grid: Grid, max_velocity: float
) -> AbstractLayer:
    """`CPML()` for an equation that is stable in it, else a sponge wide enough for an echo of at
    most 1 %.

    An equation says by `stretchable` whether it is stable. Where it does not, a trial tells (see
    `layer_trial`), and a sponge is taken with a warning that says why, and how to choose otherwise.
    """
    sponge = Sponge(SPONGE_IN_3D) if grid.ndim == 3 else Sponge()
    if equation.stretchable is None:
        name, reason = type(equation).__name__, objection(equation, grid.spacing, max_velocity)
        if reason is not None:
            warnings.warn(
                f"{name} is surrounded by {sponge!r}, not by perfectly matched layers: {reason}. "
                "To "
                "choose for yourself and end this warning, give "
                f"boundary=ox.Sponge({sponge.width}) or "
                f"boundary=ox.CPML(), or state `stretchable = True` or `False` in the equation",
                stacklevel=levels_to_the_user(inspect.currentframe()),
            )
            return sponge
        return CPML()
    return CPML() if equation.stretchable else sponge
