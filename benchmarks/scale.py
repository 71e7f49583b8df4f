"""A 3-D survey of thousands of shots, on paper: bytes, wave solves, hours and dollars.

The survey is that of the software paper of JUDI (Witte et al., 2019): 97 x 97 shots over the 3-D
SEG/EAGE Overthrust model at 25 m, 801 x 801 x 207 points, with receivers every 50 m up to 6 km
away. `python -m benchmarks.scale` prints what it takes; `python -m benchmarks.scale --run 1` takes
the gradient of one of its shots, and prints what that took. `--run 2` does so at half the size
along each axis: twice the spacing and half the frequency.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from checkpoint_schedules import Forward, MultistageCheckpointSchedule

import ondax as ox
from ondax.histories.revolve import plan

SHAPE, SPACING, PEAK = (801, 801, 207), 25.0, 8.0  # points, m, Hz
SHOTS, REACH, BETWEEN = 97, 6000.0, 50.0  # along each axis; m to the farthest receiver, and apart
WATER, DEEPEST = 450.0, 6000.0  # m of water, and m/s at the bottom
APERTURE = 500.0  # m of the model around sources and receivers that a shot sees
ITERATIONS, BATCH = 15, 1080  # of the paper's inversion
GIB = float(1 << 30)


class Shot(NamedTuple):
    """One shot of the survey.

    Attributes:
        F: its propagator.
        receivers: how many there are.
    """

    F: ox.Propagator
    receivers: int


def axis_of_shots(length: float) -> np.ndarray:
    """Where shots stand along a horizontal axis, m."""
    return np.linspace(0.02 * length, 0.98 * length, SHOTS)


def receivers_of(place: float, length: float, between: float) -> np.ndarray:
    """Where a shot's receivers stand along a horizontal axis, m."""
    every = np.arange(0.0, length + 0.5 * between, between)
    return every[np.abs(every - place) <= REACH]


def shot(coarser: int, settings: ox.Settings) -> Shot:
    """The shot in the middle, on a grid that is so many times coarser."""
    spacing = SPACING * coarser
    grid = ox.Grid([math.ceil((n - 1) / coarser) + 1 for n in SHAPE], spacing)
    length = grid.extent[0][1]
    place = axis_of_shots(length)[SHOTS // 2]
    there = receivers_of(place, length, BETWEEN * coarser)
    depth = 2.0 * spacing
    receivers = ox.carpet(
        (there[0], there[0], depth), (there[-1], there[-1], depth), (len(there), len(there))
    )
    dt = 0.004 * coarser
    survey = ox.Survey(
        [(place, place, depth)], receivers, ox.ricker(PEAK / coarser, round(3.0 / dt) + 1, dt), dt
    )
    F = ox.Propagator(
        ox.Acoustic(),
        grid,
        survey,
        max_velocity=DEEPEST,
        boundary=ox.Faces(ox.CPML(20), top=ox.FreeSurface()),
        aperture=APERTURE,
        settings=settings,
    )
    return Shot(F, len(receivers))


def model_on(grid: ox.Grid) -> np.ndarray:
    """Water over velocities that grow with depth, m/s."""
    depth = grid.spacing[2] * np.arange(grid.shape[2])
    bottom = depth[-1]
    below = 2200.0 + (DEEPEST - 2200.0) * (depth - WATER) / (bottom - WATER)
    column = np.where(depth < WATER, 1500.0, below).astype(np.float32)
    return np.broadcast_to(column, grid.shape)


def steps_forward(steps: int, step_bytes: int, state_bytes: int, memory: float, disk: float) -> int:
    """How many steps the forward runs of a gradient take that computes its history anew.

    Args:
        steps: of one run.
        step_bytes: history of a step.
        state_bytes: of a checkpoint.
        memory: bytes for both.
        disk: bytes for checkpoints on a disk.
    """
    chosen = plan(steps, step_bytes, state_bytes, int(memory), 1)
    stretches = -(-steps // chosen.stretch)
    schedule = MultistageCheckpointSchedule(
        stretches, chosen.checkpoints, int(min(stretches, disk // state_bytes))
    )
    done = sum(action.n1 - action.n0 for action in schedule if isinstance(action, Forward))
    return done * chosen.stretch


def tell(rate: float, dollars: float, cores: int) -> None:
    """Print what the survey takes.

    Args:
        rate: points and steps of a forward run in a second, by one core.
        dollars: of a core hour.
        cores: of a node.
    """
    length = SPACING * (SHAPE[0] - 1)
    counts = np.array([len(receivers_of(s, length, BETWEEN)) for s in axis_of_shots(length)])
    sizes = np.array([_points_seen(s, length) for s in axis_of_shots(length)])
    total = int(counts.sum()) ** 2
    shots = SHOTS**2
    F, most = shot(1, ox.Settings())
    cost = F.cost()
    seen = math.prod(cost.points)
    mean = seen * (sizes.mean() / sizes.max()) ** 2
    nt = F.survey.nt
    model = math.prod(SHAPE) * 4
    print(F, "\n", sep="")
    print(cost)
    print(f"\n{shots} shots, {total / shots:.0f} receivers each, {most} at most, {nt} samples")
    print(f"traces {total * nt * 4 / 1e12:.2f} TB, of a shot {most * nt * 4 / 1e6:.0f} MB at most")
    print(f"receivers' positions {total * 24 / 1e9:.1f} GB; the model {model / 1e9:.2f} GB")
    print(f"points of a shot {seen / 1e6:.1f} million at most, {mean / 1e6:.1f} million on average")
    state, step = 2 * seen * 4, seen * 4
    print(f"\n{'a gradient of the largest shot':40}{'forward runs':>14}{'core hours':>12}")
    for name, memory, disk in (
        ("revolve, 8 GB", 8e9, 0.0),
        ("revolve, 32 GB", 32e9, 0.0),
        ("revolve, 128 GB", 128e9, 0.0),
        ("revolve disk, 8 GB and 100 GB of disk", 8e9, 100e9),
    ):
        forward = 1 + steps_forward(cost.steps, step, state, memory, disk) / cost.steps
        hours = (forward + 1.25) * seen * cost.steps / rate / 3600.0
        print(f"{name:40}{forward:14.1f}{hours:12.2f}")
    forward = 1 + steps_forward(cost.steps, step, state, 8e9, 100e9) / cost.steps
    hours = (forward + 1.25) * mean * cost.steps / rate / 3600.0
    print(
        f"\nan iteration of {BATCH} shots: {BATCH * hours:.0f} core hours, "
        f"{dollars * BATCH * hours:.0f} dollars; {ITERATIONS} of them: "
        f"{dollars * ITERATIONS * BATCH * hours:.0f} dollars"
    )
    print(
        f"on 100 nodes of {cores} cores: an iteration {BATCH * hours / 100 / cores:.1f} h; a pass "
        f"over all {shots} shots {shots * hours / 100 / cores:.1f} h"
    )
    print(
        f"through the client, each iteration: {model / 1e9:.2f} GB to workers, as much back; "
        f"traces, which do not: {2 * BATCH * total / shots * nt * 4 / 1e9:.0f} GB"
    )


def _points_seen(place: float, length: float) -> int:
    """Of a shot, along a horizontal axis, layers of the boundary included."""
    low = max(0.0, place - REACH - APERTURE)
    high = min(length, place + REACH + APERTURE)
    return round((high - low) / SPACING) + 1 + 40


def run(coarser: int, settings: ox.Settings) -> None:
    """Take the gradient of a shot, and print what it took."""
    F, receivers = shot(coarser, settings)
    print(F.cost(), flush=True)
    observed = np.zeros((1, receivers, F.survey.nt), np.float32)
    gradient = jax.value_and_grad(ox.Objective(F, observed))
    model = jnp.asarray(model_on(F.grid))
    began = time.perf_counter()
    value, slope = jax.block_until_ready(gradient(model))
    seconds = time.perf_counter() - began
    assert bool(jnp.isfinite(value))
    assert bool(jnp.any(slope != 0.0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"gradient {seconds:.0f} s, kernels included; memory {peak / GIB:.1f} GiB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=int, metavar="COARSER", help="the gradient of one shot")
    parser.add_argument("--memory", type=float, default=8e9, help="bytes for its history")
    parser.add_argument("--rate", type=float, default=2.6e8, help="points and steps, a core, 1/s")
    parser.add_argument("--dollars", type=float, default=0.04, help="of a core hour")
    parser.add_argument("--cores", type=int, default=64, help="of a node")
    options = parser.parse_args()
    if options.run:
        settings = ox.Settings(history="revolve disk", memory=options.memory)
        run(options.run, settings)
    else:
        tell(options.rate, options.dollars, options.cores)


if __name__ == "__main__":
    main()
