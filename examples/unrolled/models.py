"""Random velocity models: windows cut from the Overthrust section and warped, and layers folded,
dipped and faulted.

The section is split by distance: models for training never see what lies beyond `TRAINING` km,
models for evaluation never what lies before `EVALUATION` km. Layered models differ by their seeds.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float

import ondax as ox

from .problem import KNOWN, MAX_VELOCITY, TAPER, UNIT

Purpose = Literal["training", "evaluation"]
Section = Float[np.ndarray, "x z"]
RANGES = {"training": (0.0, 6000.0), "evaluation": (6250.0, 10000.0)}  # of the section, m
SLOWEST = 1600.0  # m/s
SMOOTHING = 3.0  # standard deviation of the Gaussian that makes backgrounds, grid points


def sample(
    rng: np.random.Generator, shape: tuple[int, int], spacing: float, purpose: Purpose
) -> tuple[Section, Section]:
    """A background vp0 in m/s and an image x, so that the true velocity is `vp0 (1 + UNIT x)`;
    either kind of model is as likely."""
    if rng.random() < 0.5:
        return split(overthrust_window(rng, shape, spacing, purpose))
    return split(layers(rng, shape))


def split(vp: Section) -> tuple[Section, Section]:
    """The background is the Gaussian-smoothed slowness, the image what is missing from it below the
    known rows."""
    vp = np.clip(vp, SLOWEST, 0.95 * MAX_VELOCITY)
    background = 1.0 / smooth(1.0 / vp, SMOOTHING)
    known = np.clip((np.arange(vp.shape[1]) - KNOWN + 1) / TAPER, 0.0, 1.0)
    image = known * (vp / background - 1.0) / UNIT
    return background.astype(np.float32), image.astype(np.float32)


@cache
def section() -> ox.datasets.VelocitySection:
    """The Overthrust section, read once."""
    return ox.datasets.overthrust()


def overthrust_window(
    rng: np.random.Generator, shape: tuple[int, int], spacing: float, purpose: Purpose
) -> Section:
    """A window of the section, stretched, sheared, bent and perhaps mirrored, with velocities
    scaled by 0.6 to 0.8."""
    model = section()
    left, right = (end / model.spacing for end in RANGES[purpose])
    x, z = np.meshgrid(np.arange(shape[0]) * spacing, np.arange(shape[1]) * spacing, indexing="ij")
    x, z = x / model.spacing, z / model.spacing
    stretch, squeeze = rng.uniform(0.8, 1.35), rng.uniform(0.9, 2.2)
    if rng.random() < 0.5:
        x = x.max() - x
    start = rng.uniform(left, max(right - stretch * x.max(), left))
    at_x = start + stretch * x + rng.uniform(-0.3, 0.3) * z + bumps(rng, x, z, 4.0)
    at_z = (
        rng.uniform(0.0, 30.0)
        + squeeze * z
        + rng.uniform(-0.15, 0.15) * (x - x.mean())
        + bumps(rng, x, z, 5.0)
    )
    return rng.uniform(0.6, 0.8) * bilinear(model.vp, np.clip(at_x, left, right), at_z)


def layers(rng: np.random.Generator, shape: tuple[int, int]) -> Section:
    """Layers of random thickness and velocity, folded, dipped and cut by faults, perhaps below an
    unconformity."""
    fine = 2  # samples per grid point along each axis, averaged in the end
    x, z = np.meshgrid(
        np.arange(fine * shape[0]) / fine, np.arange(fine * shape[1]) / fine, indexing="ij"
    )
    vp = sequence(rng, x, z, shape)
    if rng.random() < 0.4:
        erosion = rng.uniform(0.2, 0.6) * shape[1] + bumps(rng, x, 0.0 * z, 3.0)
        vp = np.where(z < erosion, sequence(rng, x, z, shape, gentle=True), vp)
    return vp.reshape(shape[0], fine, shape[1], fine).mean(axis=(1, 3))


def sequence(
    rng: np.random.Generator, x: Section, z: Section, shape: tuple[int, int], gentle: bool = False
) -> Section:
    """One sequence of layers, by the depth at which each point was laid down."""
    middle = x.mean()
    strength = 0.3 if gentle else 1.0
    laid = z + strength * (
        rng.uniform(-0.35, 0.35) * (x - middle) + bumps(rng, x, z, rng.uniform(1.0, 7.0))
    )
    for _ in range(0 if gentle else rng.integers(0, 4)):
        trace = rng.uniform(0.0, 2 * middle) + rng.uniform(-0.8, 0.8) * (z - 0.5 * shape[1])
        laid = laid + rng.uniform(-8.0, 8.0) * (x > trace)
    thickness = rng.uniform(2.0, rng.uniform(4.0, 14.0), 160)
    bottoms = np.cumsum(thickness) - 1.5 * shape[1]
    speed = rng.uniform(1700.0, 2300.0) + rng.uniform(8.0, 22.0) * np.maximum(bottoms, 0.0)
    speed = speed * (1.0 + rng.uniform(0.04, 0.12) * rng.standard_normal(160))
    return speed[np.searchsorted(bottoms, laid).clip(0, 159)]


def bumps(rng: np.random.Generator, x: Section, z: Section, size: float) -> Section:
    """Four random waves of 25 to 120 points across, as large as `size` points together."""
    total = np.zeros(np.broadcast(x, z).shape)
    for _ in range(4):
        length, slope = rng.uniform(25.0, 120.0), rng.uniform(-0.5, 0.5)
        total += np.sin(2 * np.pi * (x + slope * z) / length + rng.uniform(0.0, 2 * np.pi))
    return size / 4 * total


def bilinear(values: Section, x: Section, z: Section) -> Section:
    """Values between grid points, points outside taken to the edge."""
    x, z = np.clip(x, 0, values.shape[0] - 1.001), np.clip(z, 0, values.shape[1] - 1.001)
    i, k = x.astype(int), z.astype(int)
    a, b = x - i, z - k
    left = (1 - b) * values[i, k] + b * values[i, k + 1]
    return (1 - a) * left + a * ((1 - b) * values[i + 1, k] + b * values[i + 1, k + 1])


def smooth(values: Section, deviation: float) -> Section:
    """Gaussian smoothing with edge values continued."""
    reach = int(3 * deviation)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.moveaxis(np.pad(values, pad, mode="edge"), axis, 0)
        count = values.shape[axis]
        values = np.moveaxis(
            sum(tap * padded[i : i + count] for i, tap in enumerate(taps)), 0, axis
        )
    return values
