"""Convolutional perfectly matched layers."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import ClassVar, final

import equinox as eqx
import numpy as np

from ..scheme.names import PML_KEEP, PML_TAKE
from ..scheme.plan import Plan, crowded
from ..scheme.system import System
from .absorbing import AbstractAbsorbingLayer
from .base import AbstractBoundary, Conditions, End, Fit, Profile


@final
class CPML(AbstractAbsorbingLayer):
    """A convolutional perfectly matched layer: in it, every derivative along an axis is `d/dx +
    psi`, with a memory psi.

    `psi[n+1] = b psi[n] + a d/dx`, with `b = exp(-(d + alpha) dt)` and `a = d (b - 1) / (d +
    alpha)`, after Roden and Gedney (2000); Komatitsch and Martin (2007) for first-order systems;
    Pasalic and McGarry (2010) for second-order ones. `d` grows into the layer as the sponge's gamma
    does, alpha falls linearly to zero. Memories exist in the layer only.

    It grows more gently than the customary square: waves that are much slower than `max_velocity`,
    and so short that the layer is steep to them, come back less. Measured against larger grids in
    homogeneous boxes, sources and receivers one cell from every face and corner, order 8, as the
    worst trace's error: 0.005 % with `Acoustic`, `AcousticDensity`, `Viscoacoustic` and `VTI`, 0.04
    % with `Elastic`.

    A wave that meets the layer at an angle from the normal keeps `reflection ** cos(angle)`. That
    is why `reflection` is so
    small: in a channel of water 1 km wide, the echoes of waves that graze its sides were 1.9 % of
    the trace 5 km away with 1e-5, and are below 0.01 % with 1e-8, at no cost in what comes back
    elsewhere.

    Waves whose energy and crests go opposite ways along a layer grow in it. `TTI` is refused for
    them, which it has in media that vary from cell to cell; take `JointPML` for it. `Elastic` media
    carry them where several beds of unlike stiffness meet the face, thin or thick: five beds of two
    cells, 1600 and 3200 m/s, grow by 1e20 in 6,000 steps; six of eight cells, 1600 and 2080 m/s, by
    1e5. A call with such a model warns, `ox.GrowthInLayers`; take `Sponge()` for it. Media that are
    smooth, or only get stiffer with depth, a sea floor included, do not grow, and are not warned
    of. The lower `frequency`, the weaker are the contrasts that grow; the warning was measured down
    to waves of 100 cells. Models of the other equations did not grow in 20,000 steps, rough in
    every cell or in layers of two cells.

    Attributes:
        width: cells added on every side.
        reflection: amplitude that a wave at normal incidence keeps after crossing the layer twice,
            between 0 and 1.
        power: how sharply the absorption grows.
        frequency: Hz; waves well below it are hardly absorbed. Default: the survey's dominant
            frequency. That of a survey whose wavelets are zero is 0 Hz: give it if wavelets come
            with the calls.

    Raises:
        ValueError: a value out of its range.
    """

    rate: ClassVar[str | None] = None
    guides: ClassVar[bool] = True
    returns: ClassVar[bool] = False
    top_only: ClassVar[bool] = False
    width: int = eqx.field(static=True, default=20)
    reflection: float = eqx.field(static=True, default=1e-8)
    power: float = eqx.field(static=True, default=4.0)
    frequency: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        self._check()
        if self.width == 0:
            raise ValueError(
                "width=0: a CPML needs cells to absorb in; Sponge(width=0) gives reflecting edges"
            )
        if self.frequency is not None and not (
            math.isfinite(self.frequency) and self.frequency > 0.0
        ):
            raise ValueError(f"frequency={self.frequency!r} must be a positive number, in Hz")

    @property
    def kinds(self) -> tuple[str, ...]:
        """What memories keep of themselves in a step, and what they take up."""
        return (PML_KEEP, PML_TAKE)

    def act(self, system: System, ends: Collection[End], crowded: frozenset[str]) -> System:
        """The scheme with memories of its derivatives along the axes of the layers."""
        from ..calculus.layers import stretched

        return stretched(system, ends, crowded)

    def crowded_between(
        self, plan: Plan, ends: Collection[End], shape: Sequence[int]
    ) -> frozenset[str]:
        """The axes along which few points lie between two layers."""
        return crowded(plan, ends, shape)

    def check_face(self, end: End, fit: Fit, boundary: AbstractBoundary) -> None:
        """Check that the equation has no growing solutions in it.

        Raises:
            ValueError: it has.
        """
        if fit.stretchable is False:
            instead = "ox.JointPML()" if fit.joint_flux else "ox.Sponge()"
            raise ValueError(
                f"boundary={boundary!r}: {fit.equation} is unstable in perfectly matched layers of "
                f"its derivatives, use {instead}"
            )

    def values(self, kind: str, depth: Profile, conditions: Conditions) -> Profile:
        """What a memory keeps of itself in a step (`pml_keep`), or takes up of a derivative
        (`pml_take`)."""
        frequency = conditions.frequency if self.frequency is None else self.frequency
        d = self._decay(depth, conditions)
        # A tenth of it echoes as little, but elastic waves then grow in blocks of unlike stiffness,
        # which they do not here.
        alpha = math.pi * frequency * (1.0 - depth)
        keep = np.exp(-(d + alpha) * conditions.dt)
        if kind == PML_KEEP:
            return keep
        return np.where(d > 0.0, d * (keep - 1.0) / np.where(d > 0.0, d + alpha, 1.0), 0.0)
