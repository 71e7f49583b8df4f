"""Perfectly matched layers of a flux."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import ClassVar, final

import equinox as eqx
import numpy as np

from ..scheme.names import (
    JOINT_CROSS,
    JOINT_FAR,
    JOINT_GAIN,
    JOINT_KEEP,
    JOINT_REST,
    JOINT_TAKE,
    JOINT_WITHIN,
)
from ..scheme.plan import Plan, crowded
from ..scheme.symbols import AXIS_NAMES
from ..scheme.system import System
from .absorbing import AbstractAbsorbingLayer
from .base import AbstractBoundary, Conditions, End, Fit, Profile

RATE = "joint"
SLOW_POLE = 0.13  # of the dominant frequency: the default of alpha where eta is not zero


@final
class JointPML(AbstractAbsorbingLayer):
    """A perfectly matched layer of the flux of all stresses together, in which tilted anisotropy
    does not grow; the default for `TTI`.

    Waves whose energy and crests go opposite ways grow in a layer that damps each derivative of
    each field by itself, as `CPML` does (Becache, Fauqueux and Joly, 2003). This one damps the one
    vector field f of whose divergence the forces are made, with one memory phi_d for each axis d:

        m u_tt  becomes  m (u_tt + (g_x + g_z) u_t + g_x g_z u)       for all fields u
        f_d  becomes  f_d + phi_d,   d/dt phi_d = -(alpha + g_d) phi_d - g_d f_d

    where g_d is the rate of the layers of axis d, half of a `Sponge`'s, because masses and fluxes
    damp alike. (In 3-D there are three rates, and three products of two.) With `eta = 0` each of
    these terms takes energy out of the fields, in every step up to the largest that is stable
    without the layer, for any medium, axis and rates: nothing can grow. Where all stresses are one,
    and a wave meets one face at its normal, it is perfectly matched.

    What comes back is what travels along the layer, the more the thinner it is in wavelengths.
    Measured with `TTI`, as the worst of several traces' errors in a homogeneous box of 50 x 50
    points, 12 points a wavelength of a Ricker's dominant frequency, the source one cell from a
    face: 16 % (20 cells), 4 % (30), 1.4 % (40), 0.7 % (50, the default), where a `Sponge` leaves 50
    % (20), 11 % (40), 0.7 % (120). In a box of 26 x 26 x 26 points: 9 % (20),
    1.6 % (30, the default of a propagator in 3-D), where a `Sponge` leaves 58 % (20), 7 % (40), 1.6
    % (60); with a free surface on top 6 % (20) and 1.3 % (30), where a `Sponge` leaves 27 % (20), 9
    % (30), 4 % (40), 0.9 % (60): in energy 5 % and 2 % of what one of the same width does. Twice
    the wavelength asks for twice the width.

    With `eta` above 0, `eta g_e f_d` is fed to phi_d in the layers of each other axis e too, which
    makes the layer better matched to waves along it: 7 % (20 cells) and 0.6 % (40) with `eta =
    0.7`. It needs memories in all layers for each axis, and has no proof of stability: none of
    20,000 steps grew in 2-D, but it did in 3-D, where it is refused.

    Attributes:
        width: cells added on every side.
        reflection: amplitude that a wave at normal incidence keeps after crossing the layer twice,
            between 0 and 1.
        power: how sharply the absorption grows.
        eta: 0 to 1; more than 0 in 2-D only.
        alpha: 1/s; memories decay at this rate, beside that of the layer. Default: 0 with `eta =
            0`; else 0.13 of the survey's dominant frequency, which ends slow waves that the layer
            traps.

    Raises:
        ValueError: a value out of its range.
    """

    width: int = eqx.field(static=True, default=50)
    reflection: float = eqx.field(static=True, default=3e-3)
    power: float = eqx.field(static=True, default=4.0)
    eta: float = eqx.field(static=True, default=0.0)
    alpha: float | None = eqx.field(static=True, default=None)

    rate: ClassVar[str | None] = RATE
    pulls: ClassVar[bool] = True
    guides: ClassVar[bool] = False
    returns: ClassVar[bool] = False
    top_only: ClassVar[bool] = False

    def __check_init__(self) -> None:
        self._check()
        if self.width == 0:
            raise ValueError(
                "width=0: a JointPML needs cells to absorb in; Sponge(width=0) gives reflecting "
                "edges"
            )
        if not isinstance(self.eta, int | float) or not 0.0 <= self.eta <= 1.0:
            raise ValueError(
                f"eta={self.eta!r} must lie between 0 and 1: beyond 1, waves grow in the layer"
            )
        number = isinstance(self.alpha, int | float | None)
        if not number or (self.alpha is not None and not 0.0 <= self.alpha < math.inf):
            raise ValueError(f"alpha={self.alpha!r} must be 0 or a positive number, in 1/s")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The rate of damping; and what memories keep of themselves in a step, and take up."""
        across = (RATE, JOINT_KEEP, JOINT_TAKE)
        along = (JOINT_GAIN, JOINT_WITHIN, JOINT_CROSS, JOINT_REST, JOINT_FAR)
        return (*across, *along) if self.eta > 0.0 else across

    def act(self, system: System, ends: Collection[End], crowded: frozenset[str]) -> System:
        """The scheme with memories of its flux; whether eta is zero is the same for all layers (see
        `check_face`)."""
        from ..calculus.joint_flux import damped

        return damped(system, ends, crowded, along=self.eta > 0.0)

    def crowded_between(
        self, plan: Plan, ends: Collection[End], shape: Sequence[int]
    ) -> frozenset[str]:
        """The axes along which few points lie between two layers."""
        return crowded(plan, ends, shape)

    def check_face(self, end: End, fit: Fit, boundary: AbstractBoundary) -> None:
        """Check that the equation has a flux, and that eta suits the grid and the other layers.

        Raises:
            ValueError: it does not.
        """
        if not fit.joint_flux:
            instead = "ox.Sponge()" if fit.stretchable is False else "ox.CPML()"
            raise ValueError(
                f"boundary={boundary!r}: {fit.equation} does not state the flux that a JointPML "
                f"damps, use {instead}"
            )
        if self.eta > 0.0 and len(fit.shape) == 3:
            raise ValueError(
                f"boundary={boundary!r}: eta={self.eta!r} is for two axes; in 3-D waves were seen "
                "to grow with it. Use eta=0.0, in which nothing can grow"
            )
        axes = AXIS_NAMES[len(fit.shape)]
        layers = (boundary.face(axis, side) for axis in axes for side in ("low", "high"))
        etas = {layer.eta > 0.0 for layer in layers if isinstance(layer, JointPML)}
        if len(etas) > 1:
            raise ValueError(
                f"boundary={boundary!r}: eta=0.0 on some faces and more on others; give all "
                "JointPML the same"
            )

    def values(self, kind: str, depth: Profile, conditions: Conditions) -> Profile:
        """The rate, 1/s, or what memories keep or take up; see `calculus.joint_flux`."""
        rate, dt = self._decay(depth, conditions), conditions.dt
        slow = SLOW_POLE * conditions.frequency if self.eta > 0.0 else 0.0
        alpha = slow if self.alpha is None else self.alpha
        gain = 1.0 / (1.0 / dt + (alpha + rate) / 2.0)
        gain_far = 1.0 / (1.0 / dt + alpha / 2.0)
        made = {
            RATE: rate,
            JOINT_KEEP: (1.0 / dt - (alpha + rate) / 2.0) * gain,
            JOINT_TAKE: -rate * gain,
            JOINT_GAIN: gain,
            JOINT_WITHIN: np.ones_like(depth),
            JOINT_CROSS: self.eta * rate,
            JOINT_REST: np.full_like(depth, (1.0 / dt - alpha / 2.0) * gain_far),
            JOINT_FAR: self.eta * rate * gain_far,
        }
        return made[kind]
