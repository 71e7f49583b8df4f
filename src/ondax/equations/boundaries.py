"""What surrounds the model: absorbing layers and free surfaces, alike on all faces or mixed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from .base import AbstractBoundary, AbstractLayer, Conditions

Profile = np.ndarray[Any, np.dtype[np.float64]]


class Sponge(AbstractLayer):
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
    (120, the default). In a box of 26 x 26 x 26 points: 2.6 % (40), 0.7 % (60, the default of a
    propagator in 3-D). Twice the wavelength asks for twice the width. `CPML(20)` returns less than
    0.1 %.

    Attributes:
        width: cells added on every side; 0 gives reflecting edges.
        reflection: amplitude left after crossing the layer twice, between 0 and 1.
        power: how sharply the damping grows.

    Raises:
        ValueError: a value out of its range.
    """

    profile_kinds: ClassVar[tuple[str, ...]] = ("gamma",)
    width: int = eqx.field(static=True, default=120)
    reflection: float = eqx.field(static=True, default=1e-3)
    power: float = eqx.field(static=True, default=2.0)

    def __check_init__(self) -> None:
        _check_layer(self.width, self.reflection, self.power)

    def values(self, kind: str, depth: Profile, conditions: Conditions) -> Profile:
        """gamma, 1/s."""
        return 2.0 * _strength(self, depth, conditions)  # of d2/dt2 + gamma d/dt, waves feel half


class CPML(AbstractLayer):
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
    them, which it has in media that vary from cell to cell. `Elastic` media carry them where
    several beds of unlike stiffness meet the face, thin or thick: five beds of two cells, 1600 and
    3200 m/s, grow by 1e20 in 6,000 steps; six of eight cells, 1600 and 2080 m/s, by 1e5. A call
    with such a model warns, `ox.GrowthInLayers`; take `Sponge()` for it. Media that are smooth, or
    only get stiffer with depth, a sea floor included, do not grow, and are not warned of. The lower
    `frequency`, the weaker are the contrasts that grow; the warning was measured down to waves of
    100 cells. Models of the other equations did not grow in 20,000 steps, rough in every cell or in
    layers of two cells.

    Attributes:
        width: cells added on every side.
        reflection: amplitude that a wave at normal incidence keeps after crossing the layer twice,
            between 0 and 1.
        power: how sharply the absorption grows.
        frequency: Hz; waves well below it are hardly absorbed. Default: the survey's dominant
            frequency.

    Raises:
        ValueError: a value out of its range.
    """

    profile_kinds: ClassVar[tuple[str, ...]] = ("pml_keep", "pml_take")
    width: int = eqx.field(static=True, default=20)
    reflection: float = eqx.field(static=True, default=1e-8)
    power: float = eqx.field(static=True, default=4.0)
    frequency: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        _check_layer(self.width, self.reflection, self.power)
        if self.width == 0:
            raise ValueError(
                "width=0: a CPML needs cells to absorb in; Sponge(width=0) gives reflecting edges"
            )
        if self.frequency is not None and not (
            math.isfinite(self.frequency) and self.frequency > 0.0
        ):
            raise ValueError(f"frequency={self.frequency!r} must be a positive number, in Hz")

    def values(self, kind: str, depth: Profile, conditions: Conditions) -> Profile:
        """What a memory keeps of itself in a step (`pml_keep`), or takes up of a derivative
        (`pml_take`)."""
        frequency = conditions.frequency if self.frequency is None else self.frequency
        d = _strength(self, depth, conditions)
        # A tenth of it echoes as little, but elastic waves then grow in blocks of unlike stiffness,
        # which they do not here.
        alpha = math.pi * frequency * (1.0 - depth)
        keep = np.exp(-(d + alpha) * conditions.dt)
        if kind == "pml_keep":
            return keep
        return np.where(d > 0.0, d * (keep - 1.0) / np.where(d > 0.0, d + alpha, 1.0), 0.0)


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
            if layer is not None and layer.mirrors:
                raise ValueError(
                    f"{name}={layer!r}: a free surface can only be at the top: Faces(CPML(), "
                    "top=FreeSurface())"
                )

    def face(self, axis: str, side: str) -> AbstractLayer:
        names = {"x": ("left", "right"), "y": ("front", "back"), "z": ("top", "bottom")}[axis]
        found = getattr(self, names[side == "high"]) or self.others
        if found is None:
            raise ValueError(
                "Faces without `others`: only a propagator knows the default; give "
                "Faces(ox.CPML(), ...)"
            )
        return found

    def completed(self, default: AbstractLayer) -> Faces:
        """With the default of an equation on the faces that are not named."""
        return self if self.others is not None else dataclasses.replace(self, others=default)


def _check_layer(width: int, reflection: float, power: float) -> None:
    if not isinstance(width, int) or width < 0:
        raise ValueError(f"width={width!r}: give the layer's width as a number of cells, 0 or more")
    if not 0.0 < reflection < 1.0:
        raise ValueError(f"reflection={reflection!r} must lie between 0 and 1, for example 1e-3")
    if not 1.0 <= power < math.inf:
        raise ValueError(f"power={power!r} must be 1 or more: a jump in damping reflects")


def _strength(layer: Sponge | CPML, depth: Profile, conditions: Conditions) -> Profile:
    """The rate per second at which a wave must decay so that `reflection` of it is left when it has
    crossed the layer twice at `max_velocity`."""
    thickness = layer.width * conditions.spacing
    peak = (
        (layer.power + 1.0)
        * conditions.max_velocity
        * math.log(1.0 / layer.reflection)
        / (2.0 * thickness)
    )
    return peak * depth**layer.power
