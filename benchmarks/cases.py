"""The measured problems, in plain Python: every contender reads them, whatever its array
library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

SPACING = 10.0  # metres, along every axis
ORDER = 8  # of the spatial derivatives
FREQUENCY = 10.0  # Hz, of the Ricker wavelet
# seconds: with 0.12, the wavelet would begin with a step of 2e-5, too sharp for a history sampled
# in time
DELAY = 0.15
MAX_VELOCITY = 3000.0  # m/s
REFLECTION = 1e-4  # of the absorbing layer
POWER = 2  # of its profile


@dataclass(frozen=True)
class Case:
    """One problem size.

    Attributes:
        name: its letter.
        shape: grid points along each axis, depth last, without the absorbing layer.
        width: absorbing cells added on every side.
        steps: time steps.
        dt: seconds; below the stability limits of all contenders, so that nobody takes inner steps.
        shots: number of shots.
    """

    name: str
    shape: tuple[int, ...]
    width: int
    steps: int
    dt: float
    shots: int = 1

    @property
    def samples(self) -> int:
        """Samples in wavelets and traces: step 0 included."""
        return self.steps + 1

    @property
    def padded_shape(self) -> tuple[int, ...]:
        return tuple(n + 2 * self.width for n in self.shape)

    @property
    def updates(self) -> int:
        """Grid-point updates of one forward run of all shots."""
        return math.prod(self.padded_shape) * self.steps * self.shots

    @property
    def history_bytes(self) -> int:
        """One float32 wavefield per step and shot."""
        return 4 * self.updates

    @property
    def wavelet(self) -> list[float]:
        """A Ricker wavelet, `samples` long."""
        arguments = (
            (math.pi * FREQUENCY * (i * self.dt - DELAY)) ** 2 for i in range(self.samples)
        )
        return [(1 - 2 * a) * math.exp(-a) for a in arguments]

    @property
    def sources(self) -> list[list[int]]:
        """The grid point of each shot's source: near the surface, spread along the first axis."""
        middle = [n // 2 for n in self.shape[1:-1]]
        return [
            [(2 * s + 1) * self.shape[0] // (2 * self.shots), *middle, 2] for s in range(self.shots)
        ]

    @property
    def receivers(self) -> list[list[int]]:
        """Grid points: up to 101, evenly along the first axis, the same for all shots."""
        middle = [n // 2 for n in self.shape[1:-1]]
        return [[i, *middle, 4] for i in range(0, self.shape[0], -(-self.shape[0] // 101))]

    def indices(self, extend: int = 0) -> list[list[int]]:
        """Grid indices along each axis of the model, continued by `extend` cells beyond all of its
        edges with the indices of the edges."""
        return [[min(max(i, 0), n - 1) for i in range(-extend, n + extend)] for n in self.shape]

    def velocity(self, *coordinates: Any) -> Any:
        """Velocity in m/s: a gradient and a fast lens, in arithmetic that any array library can do.

        Args:
            coordinates: grid indices along each axis, broadcasting against each other.
        """
        depth = coordinates[-1] / (self.shape[-1] - 1)
        offsets = ((c - n / 2) / (n / 8) for c, n in zip(coordinates, self.shape, strict=True))
        return 1500 + 1200 * depth + 300 / (1 + sum(o * o for o in offsets))

    def reflectivity(self, *coordinates: Any) -> Any:
        """Velocity perturbations in m/s: thin layers in the lower two thirds, in arithmetic that
        any array library can do.

        Args:
            coordinates: grid indices along each axis, of the grid's full shape.
        """
        depth = coordinates[-1]
        return 20.0 * (depth // 8 % 2) * (3 * depth > self.shape[-1])

    def damping(self, axis: int) -> list[float]:
        """Damping profile in 1/s along an axis of the padded grid; the layer damps by the sum over
        axes."""
        n, length = self.shape[axis], self.width * SPACING
        strongest = (POWER + 1) * MAX_VELOCITY * math.log(1 / REFLECTION) / length
        beyond = (
            max(self.width - i, i - (n + self.width - 1), 0) for i in range(n + 2 * self.width)
        )
        return [strongest * (cells / self.width) ** POWER for cells in beyond]


CASES = {
    "A": Case("A", (201, 201), 40, steps=1000, dt=0.0014),
    "B": Case("B", (201, 201), 40, steps=1000, dt=0.0014, shots=8),
    "C": Case("C", (101, 101), 40, steps=500, dt=0.0014),
    "D": Case("D", (100, 100, 100), 20, steps=300, dt=0.00115),
    # So small that what surrounds a shot counts most.
    "S": Case("S", (41, 41), 10, steps=160, dt=0.0014, shots=8),
    # For GPUs, forward only: 400 x 400 x 400 points with its sponge.
    "G": Case("G", (360, 360, 360), 20, steps=100, dt=0.00115),
    # For layers in 3-D: D with a sponge of 40 cells, whose history of all steps would take 7 GB.
    "L": Case("L", (100, 100, 100), 40, steps=60, dt=0.00115),
}
