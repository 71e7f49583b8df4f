"""A free surface."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx

from .base import AbstractLayer, Conditions, Profile


class FreeSurface(AbstractLayer):
    """A free surface through the topmost nodes of the grid, for the top face: `Faces(CPML(),
    top=FreeSurface())`.

    Pressure, or the traction, vanishes there. Stencils that reach above it read mirror images.
    Fields that vanish at the surface continue above it with the opposite sign (odd; Levander,
    1988). The fields whose vertical derivatives drive them continue with the same sign (even): this
    conserves the scheme's energy, so that the adjoint stays exact. Each equation says how its
    fields continue. Sources and receivers within reach of the surface see an odd image only of what
    vanishes there; anything else is extrapolated from below, as its slope need not be zero.

    On the surface itself, a source that feeds a field that vanishes radiates nothing, and a
    receiver of such a field reads zeros. `Propagator` refuses the one, and warns of the other.
    """

    mirrors: ClassVar[bool] = True
    width: int = eqx.field(static=True, default=0, init=False)

    def values(self, kind: str, depth: Profile, conditions: Conditions) -> Profile:
        raise NotImplementedError
