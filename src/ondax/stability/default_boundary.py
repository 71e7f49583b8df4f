"""What surrounds a model where the user does not say."""

from __future__ import annotations

import inspect
import warnings

from .._frames import levels_to_the_user
from .._waiting import waiting
from ..boundaries.base import AbstractLayer
from ..boundaries.cpml import CPML
from ..boundaries.joint import JointPML
from ..boundaries.sponge import Sponge
from ..equations.base import AbstractWaveEquation
from ..grid import Grid
from .layer_trial import objection

IN_3D = {Sponge: 60, JointPML: 30}
"""Cells; waves spread more in 3-D, so that an echo of at most 1 % takes fewer than in 2-D."""


def default_boundary(
    equation: AbstractWaveEquation, grid: Grid, max_velocity: float
) -> AbstractLayer:
    """`CPML()` for an equation that is stable in it. Else, wide enough for an echo of at most 1 %,
    layers of its flux if it states one, or a sponge.

    An equation says by `stretchable` whether it is stable. Where it does not, a trial tells (see
    `layer_trial`), and `CPML()` is not taken with a warning that says why, and how to choose
    otherwise.
    """
    if equation.stretchable:
        return CPML()
    kind = JointPML if equation.joint_flux else Sponge
    other = kind(IN_3D[kind]) if grid.ndim == 3 else kind()
    if equation.stretchable is None:
        name = type(equation).__name__
        with waiting(f"trying whether {name} is stable in perfectly matched layers"):
            reason = objection(equation, grid.spacing, max_velocity)
        if reason is None:
            return CPML()
        warnings.warn(
            f"{name} is surrounded by {other!r}, not by perfectly matched layers of its "
            f"derivatives: {reason}. To choose for yourself and end this warning, give "
            f"boundary=ox.{kind.__name__}({other.width}) or boundary=ox.CPML(), or state "
            "`stretchable = True` or `False` in the equation",
            stacklevel=levels_to_the_user(inspect.currentframe()),
        )
    return other
