"""3-D full-waveform inversion of 64 shots on the workers of `ox.cluster`, in minibatches of eight.

Traces are modelled into a file, overthrust_3d.zarr, and read by whoever needs them; of the history
of a shot, every k-th step is kept, in 16 bits. So the two workers of a laptop do it in less than
8 GB. Stop it and start it again: both the modelling and the inversion go on where they were. It
writes overthrust_3d.png and takes about 45 minutes on two cores; `--quick` takes seconds.
"""

import argparse
import time

import jax.numpy as jnp
import numpy as np
import optax
from scipy.ndimage import gaussian_filter

import ondax as ox
from ondax.plotting import figure, section

EXTENT = 3725.0, 3725.0, 1975.0  # m
CHANNEL = 650.0  # m, its depth
BOUNDS = 1800.0, 5000.0  # m/s
MEMORY = 7e9  # bytes, of all workers; this process takes another one


def geology(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Velocity at positions in metres: folded layers, cut by a thrust and a normal fault, and a
    river's channel, younger than both and filled with slow sand."""
    depth = z + 90.0 * np.sin(x / 480.0 + y / 1500.0) * z / EXTENT[2] + 50.0 * np.cos(y / 700.0)
    thrust = x + 0.3 * y - 0.9 * z > 1500.0
    normal = y - 0.2 * x + 0.3 * z > 2500.0
    depth = depth + 140.0 * thrust - 100.0 * normal
    draw = np.random.default_rng(7)
    tops = np.cumsum(draw.uniform(70.0, 190.0, 24))
    speeds = 2000.0 + 1.2 * tops + draw.normal(0.0, 220.0, tops.size)
    vp = speeds[np.minimum(np.searchsorted(tops, depth), tops.size - 1)]
    bank = np.abs(y - 1800.0 - 450.0 * np.sin(x / 520.0))
    channel = (bank < 180.0) & (np.abs(z - CHANNEL) < 60.0)
    return np.where(channel, vp - 450.0, vp).clip(2000.0, 4300.0).astype(np.float32)


def problem(quick: bool) -> tuple[ox.Propagator, np.ndarray, np.ndarray]:
    """A propagator, the true model and the initial one, which is the true one smoothed, m/s."""
    spacing, lines, peak = (75.0, 2, 2.5) if quick else (25.0, 8, 5.0)
    grid = ox.Grid([round(length / spacing) + 1 for length in EXTENT], spacing)
    axes = [spacing * np.arange(n) for n in grid.shape]
    true = geology(*np.meshgrid(*axes, indexing="ij"))
    smooth = 1.0 / gaussian_filter(1.0 / true, 250.0 / spacing, mode="nearest")
    (x0, x1), (y0, y1), _ = grid.extent
    survey = ox.Survey(
        sources=ox.carpet(
            (x0 + 200.0, y0 + 200.0, spacing), (x1 - 200.0, y1 - 200.0, spacing), (lines, lines)
        ),
        receivers=ox.carpet((x0, y0, spacing), (x1, y1, spacing), (38, 38)),
        wavelet=ox.ricker(peak, nt=225, dt=0.008),
        dt=0.008,
    )
    F = ox.Propagator(
        ox.Acoustic(),
        grid,
        survey,
        max_velocity=BOUNDS[1],
        boundary=ox.CPML(10),
        settings=ox.Settings(history="sampled half"),
    )
    return F, true, smooth.astype(np.float32)


def drawn(models: dict[str, np.ndarray], spacing: float) -> None:
    """Vertical sections through the middle, and a map at the channel's depth, of each model."""
    picture = figure(13.0, 10.0)
    limits = 2000.0, 4200.0
    for row, (title, vp) in zip(picture.subplots(3, 3), models.items(), strict=True):
        middle, depth = vp.shape[1] // 2, round(CHANNEL / spacing)
        section(row[0], vp[:, middle], spacing, limits=limits, title=title, label="")
        section(row[1], vp[middle], spacing, limits=limits, label="")
        section(row[2], vp[:, :, depth], spacing, limits=limits)
        row[0].set(xlabel="x (km)")
        row[1].set(xlabel="y (km)")
        row[2].set(xlabel="x (km)", ylabel="y (km)")
    picture.savefig("overthrust_3d.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="27 times fewer points, 4 shots")
    quick = parser.parse_args().quick
    batch, iterations = (2, 4) if quick else (8, 16)
    F, true, start = problem(quick)
    print(F.cost())
    began = time.perf_counter()
    with ox.cluster(memory=MEMORY):
        ox.model(F, jnp.asarray(true), out="overthrust_3d.zarr")
        modelled = time.perf_counter()
        result = ox.fwi(
            F,
            ox.io.open_shots("overthrust_3d.zarr"),
            start,
            optimizer=optax.adam(optax.cosine_decay_schedule(25.0, iterations, 0.1)),
            iterations=iterations,
            batch_size=batch,
            bounds=BOUNDS,
            precondition=ox.preconditioners.smoothing(F.grid, 50.0).mv,
            save="overthrust_3d-state.npz",
        )
    ended = time.perf_counter()

    def error(model: np.ndarray) -> float:
        """Root mean square error in m/s."""
        return float(np.sqrt(np.mean((np.asarray(model) - true) ** 2)))

    misfit = result.history.misfit
    print(f"misfit       {misfit[0]:9.4g} -> {misfit[-1]:9.4g}")
    print(f"model error  {error(start):9.4g} -> {error(result.model):9.4g} m/s")
    minutes = (modelled - began) / 60, (ended - modelled) / 60
    print("modelling {:.1f} min, inversion {:.1f} min".format(*minutes))
    models = {"true": true, "initial": start, "inverted": np.asarray(result.model)}
    drawn(models, F.grid.spacing[0])
    print("wrote overthrust_3d.png")


if __name__ == "__main__":
    main()
