"""An absorbing sponge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, final

import equinox as eqx

from ..scheme.plan import Plan
from ..scheme.system import System
from .absorbing import AbstractAbsorbingLayer
from .base import NONE, AbstractBoundary, Conditions, End, Fit, Profile


@final
class Sponge(AbstractAbsorbingLayer):
    """An absorbing sponge: every time derivative becomes `d/dt + gamma`, with gamma growing into
    the layer.

    `gamma = gamma_max (depth / thickness)^power` along each axis, and the sum over axes, after
    Cerjan et al. (1985) and Sochacki et al. (1987). `gamma_max` is chosen so that a plane wave at
    normal incidence, travelling at `max_velocity` to the outer edge and back, is damped to
    `reflection` of its amplitude.

    Waves along the layer come back from it all the same, the more the thinner it is in wavelengths.
    Measured, as the worst of several traces' errors in a homogeneous box of 50 x 50 points, 12
    points a wavelength of a Ricker's dominant frequency, the source one cell from a face: 5.7 % (40
    cells), 2.5 % (60), 1.3 % (80), 1.0 % (100) with `Acoustic`; with `TTI` 1.2 % (100) and 0.7 %
    (120, the default). In a box of 26 x 26 x 26 points: 2.6 % (40), 0.7 % (60, what a propagator
    takes in 3-D where it takes a sponge). Twice the wavelength asks for twice the width. `CPML(20)`
    returns less than 0.1 %, `JointPML(50)` with `TTI` as little as 120 cells of a sponge.

    Attributes:
        width: cells added on every side; 0 gives reflecting edges.
        reflection: amplitude left after crossing the layer twice, between 0 and 1.
        power: how sharply the damping grows.

    Raises:
        ValueError: a value out of its range.
    """

    rate: ClassVar[str | None] = "gamma"
    guides: ClassVar[bool] = False
    returns: ClassVar[bool] = False
    top_only: ClassVar[bool] = False
    width: int = eqx.field(static=True, default=120)
    reflection: float = eqx.field(static=True, default=1e-3)
    power: float = eqx.field(static=True, default=2.0)

    def __check_init__(self) -> None:
        self._check()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The rate of damping, which equations ask for: see `AbstractBoundary.damping`."""
        return ("gamma",)

    def act(self, system: System, ends: Collection[End], crowded: frozenset[str]) -> System:
        """The scheme as it is: its updates are damped already, see `surround`."""
        return system

    def crowded_between(
        self, plan: Plan, ends: Collection[End], shape: Sequence[int]
    ) -> frozenset[str]:
        """Nowhere: rates of damping add up."""
        return NONE

    def check_face(self, end: End, fit: Fit, boundary: AbstractBoundary) -> None:
        """It fits everywhere."""

    def values(self, kind: str, depth: Profile, conditions: Conditions) -> Profile:
        """gamma, 1/s."""
        return 2.0 * self._decay(depth, conditions)  # of d2/dt2 + gamma d/dt, waves feel half
