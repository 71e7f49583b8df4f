"""Receivers along a fibre."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ._validate import positive
from .points import Points, finite


@final
class Fibre:
    """Receivers of the strain rate along a fibre, averaged over a gauge length: what distributed
    acoustic sensing records (DAS; Daley et al., 2013; Dean, Cuny and Hartog, 2017).

    Given to `Survey(receiver=...)`, alone or in a tuple with the names of components. With the unit
    vector t along the fibre, the gauge length L and the particle velocity v, the trace of a channel
    at x is `t . (v(x + L t / 2) - v(x - L t / 2)) / L`, in 1/s; positive where the fibre gets
    longer. It is reciprocal to a pair of opposite forces at the two ends. Integrate traces over
    time for strain. The equation must offer velocities along all axes, as `Elastic` and
    `AcousticDensity` do.

    For a fibre that changes its direction, the differences of the channels' positions are tangents:
    `ox.Fibre(np.gradient(channels, axis=0), gauge=10.0)`. Both ends of a gauge length must lie in
    the grid. Gradients in receiver positions move whole gauge lengths, which keep their directions.

    Args:
        direction: along the fibre, (axis,) for a straight one, (receiver, axis), or (shot,
            receiver, axis); or a list with an array (receiver, axis) for each shot. Vectors need
            not have length 1. Signs do not matter.
        gauge: the gauge length L, metres.

    Raises:
        ValueError: values that are not finite, a vector of length zero, or a gauge length that is
            not positive. A survey also raises it for directions that do not fit its receivers.
    """

    direction: Any
    gauge: float

    def __init__(
        self, direction: ArrayLike | Sequence[float] | Sequence[ArrayLike], gauge: float
    ) -> None:
        rows: Any = direction if _by_shot(direction) else [direction]
        vectors = [finite("the direction of a fibre", np.asarray(row)) for row in rows]
        if any(v.ndim == 0 or not np.all(np.any(v != 0.0, axis=-1)) for v in vectors):
            raise ValueError(
                f"direction={direction!r}: give a vector (axis,) that is not zero, or one for each "
                "receiver, (receiver, axis)"
            )
        made = vectors if _by_shot(direction) else vectors[0]
        self.__dict__.update(direction=made, gauge=positive("gauge", gauge, "metres"))

    def along(self, direction: Any) -> Fibre:
        """A fibre of the same gauge length with other directions, which are known to be vectors."""
        made = object.__new__(Fibre)
        made.__dict__.update(direction=direction, gauge=self.gauge)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a fibre does not change: make another")

    def __repr__(self) -> str:
        shape = "" if _by_shot(self.direction) else f" {np.shape(self.direction)}"
        return f"Fibre(direction{shape}, gauge={self.gauge:g})"

    def laid(self, points: Points) -> Fibre:
        """The fibre with its directions as an array (axis,) or (shot, receiver, axis), for the
        receivers of a survey; ones where a shot has no such receiver.

        Raises:
            ValueError: directions that do not fit.
        """
        axes, given = points.rows.shape[-1], self.direction
        shape = (points.shots, points.most, axes)
        if _by_shot(given):
            expected = [(n, axes) for n in points.counts]
            if [np.shape(rows) for rows in given] != expected:
                raise ValueError(
                    f"the directions of a fibre have shapes {[np.shape(r) for r in given][:5]}, "
                    f"and the receivers of the shots {expected[:5]}: give one vector for each"
                )
            laid = np.ones(shape)
            for row, rows in zip(laid, given, strict=True):
                row[: len(rows)] = rows
            laid.flags.writeable = False
        elif given.shape == (axes,):
            laid = given
        else:
            try:
                laid = np.broadcast_to(given, shape)
            except ValueError:
                raise ValueError(
                    f"the directions of a fibre have shape {given.shape}: give ({axes},), "
                    f"{shape[1:]} or {shape}"
                ) from None
        return self.along(laid)

    def tangents(self) -> Float[np.ndarray, "..."]:
        """The directions of a laid fibre, of length 1: (shot, receiver, axis), where what all shots
        or receivers share has length 1."""
        laid = np.atleast_1d(self.direction)
        laid = laid[None, None] if laid.ndim == 1 else laid
        if laid.strides[0] == 0:
            laid = laid[:1]
        return laid / np.linalg.norm(laid, axis=-1, keepdims=True)


def _by_shot(direction: Any) -> bool:
    """Is it a list with an array for each shot?"""
    return isinstance(direction, (list, tuple)) and all(np.ndim(rows) == 2 for rows in direction)
