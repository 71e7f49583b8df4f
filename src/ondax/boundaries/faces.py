"""What surrounds the model: absorbing layers and free surfaces, alike on all faces or mixed."""

from __future__ import annotations

import dataclasses
from typing import final

import equinox as eqx

from .base import AbstractBoundary, AbstractLayer


@final
class Faces(AbstractBoundary):
    """Different boundaries on different faces.

    Args:
        others: on all faces not named. Default: what a propagator of the equation has around it by
            default.
        top, bottom: at the least and the greatest depth.
        left, right: at the least and the greatest x.
        front, back: at the least and the greatest y.

    Raises:
        ValueError: a free surface elsewhere than at the top.
    """

    others: AbstractLayer | None = eqx.field(static=True, default=None)
    top: AbstractLayer | None = eqx.field(static=True, default=None)
    bottom: AbstractLayer | None = eqx.field(static=True, default=None)
    left: AbstractLayer | None = eqx.field(static=True, default=None)
    right: AbstractLayer | None = eqx.field(static=True, default=None)
    front: AbstractLayer | None = eqx.field(static=True, default=None)
    back: AbstractLayer | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        for name in ("others", "bottom", "left", "right", "front", "back"):
            layer = getattr(self, name)
            if layer is not None and layer.top_only:
                raise ValueError(
                    f"{name}={layer!r}: a free surface can only be at the top: Faces(CPML(), "
                    "top=FreeSurface())"
                )

    def face(self, axis: str, side: str) -> AbstractLayer:
        """See `AbstractBoundary.face`.

        Raises:
            ValueError: nothing is said of that face.
        """
        names = {"x": ("left", "right"), "y": ("front", "back"), "z": ("top", "bottom")}[axis]
        found = getattr(self, names[side == "high"]) or self.others
        if found is None:
            raise ValueError(
                "Faces without `others`: only a propagator knows the default; give "
                "Faces(ox.CPML(), ...)"
            )
        return found

    def edges(self) -> Faces:
        """The same with nothing in the place of layers."""
        names = (f.name for f in dataclasses.fields(self))
        layers = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        return Faces(**{n: layer.edges() for n, layer in layers.items()})

    def completed(self, default: AbstractLayer) -> Faces:
        """With the default of an equation on the faces that are not named."""
        return self if self.others is not None else dataclasses.replace(self, others=default)
