"""The measured problems of several parameters, in plain Python, as `cases.py`: elastic, and
anisotropic with a tilted axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .cases import MAX_VELOCITY, POWER, REFLECTION, SPACING, Case

ORDERS = (8, 4)  # of the spatial derivatives


@dataclass(frozen=True)
class MediumCase(Case):
    """A `Case` whose model has several parameters.

    Attributes:
        max_velocity: of any wave in any direction, m/s.
        amplitude: of the wavelet.
    """

    max_velocity: float = MAX_VELOCITY
    amplitude: float = 1.0

    @property
    def wavelet(self) -> list[float]:
        return [self.amplitude * w for w in super().wavelet]

    def damping(self, axis: int, half: float = 0.0) -> list[float]:
        """As of `Case`, with this case's velocity; `half` is 0.5 at the points half a cell beyond
        the nodes."""
        n, length = self.shape[axis], self.width * SPACING
        strongest = (POWER + 1) * self.max_velocity * math.log(1 / REFLECTION) / length
        places = (i + half for i in range(n + 2 * self.width))
        beyond = (max(self.width - i, i - (n + self.width - 1), 0.0) for i in places)
        return [strongest * (cells / self.width) ** POWER for cells in beyond]

    def lens(self, *coordinates: Any) -> Any:
        """1 in the middle of the model, falling off."""
        offsets = ((c - n / 2) / (n / 8) for c, n in zip(coordinates, self.shape, strict=True))
        return 1 / (1 + sum(o * o for o in offsets))


class ElasticCase(MediumCase):
    """An explosion, recorded by both components of the particle velocity."""

    def parameters(self, *coordinates: Any) -> dict[str, Any]:
        """vp and vs in m/s, rho in kg/m3, at grid indices along each axis, each of the model's full
        shape."""
        vp = 1000 + 2 / 3 * self.velocity(*coordinates)
        return {"vp": vp, "vs": vp / (1.8 - 0.1 * self.lens(*coordinates)), "rho": 310 * vp**0.25}


class TiltedCase(MediumCase):
    """A source in both stresses, recorded by one of them."""

    def parameters(self, *coordinates: Any) -> dict[str, Any]:
        """vp in m/s, Thomsen's epsilon and delta, theta in radians, at grid indices along each
        axis, as above."""
        lens, depth = self.lens(*coordinates), coordinates[-1] / (self.shape[-1] - 1)
        return {
            "vp": self.velocity(*coordinates),
            "epsilon": 0.1 + 0.1 * lens,
            "delta": 0.05 + 0.05 * depth,
            "theta": 0.3 + 0.4 * depth,
        }


# The amplitude of E, N m/s per metre, keeps its gradients away from float32's smallest numbers.
ELASTIC_CASES = {"E": ElasticCase("E", (200, 200), 40, steps=500, dt=0.0014, amplitude=1e9)}
TILTED_CASES = {"T": TiltedCase("T", (200, 200), 40, steps=500, dt=0.001, max_velocity=3600.0)}
