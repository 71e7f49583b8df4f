"""A free surface."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, final

import equinox as eqx
import numpy as np

from ..scheme.plan import Plan
from ..scheme.symbols import SURFACE_GAIN
from ..scheme.system import System
from .base import NONE, AbstractBoundary, AbstractLayer, Conditions, End, Fit, Profile


@final
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

    rate: ClassVar[str | None] = None
    guides: ClassVar[bool] = False
    returns: ClassVar[bool] = True
    top_only: ClassVar[bool] = True
    width: int = eqx.field(static=True, default=0, init=False)

    def edges(self) -> AbstractBoundary:
        """Itself."""
        return self

    def act(self, system: System, ends: Collection[End], crowded: frozenset[str]) -> System:
        """The scheme with mirror images."""
        from ..calculus.images import with_images

        return with_images(system)

    def crowded_between(
        self, plan: Plan, ends: Collection[End], shape: Sequence[int]
    ) -> frozenset[str]:
        """Nowhere."""
        return NONE

    def shaped(self, kind: str, cells: Profile, conditions: Conditions, values: Profile) -> Profile:
        """The gain of what is fed to a node on the surface, which has half a cell."""
        return np.where(cells == 0.0, 2.0, 1.0) if kind == SURFACE_GAIN else values

    def changed_at_top(
        self,
        coefficients: Mapping[str, Any],
        at_surface: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        """As the equation says."""
        return at_surface(coefficients)

    def check_face(self, end: End, fit: Fit, boundary: AbstractBoundary) -> None:
        """Check that it is at the top, of a grid that is deep enough.

        Raises:
            ValueError: it is elsewhere, or the grid has too few points in depth.
        """
        if end != ("z", "low"):
            raise ValueError(
                f"boundary={boundary!r}: a free surface is for the top only: Faces(CPML(), "
                "top=FreeSurface())"
            )
        if fit.shape[-1] <= fit.space_order:
            raise ValueError(
                f"shape={fit.shape}: below a free surface, a scheme of order {fit.space_order} "
                f"needs more than {fit.space_order} points in depth"
            )
