"""From SEG-Y to an inverted model and back: marine shots, their wavelet, a multiscale inversion.

Run `python examples/field_line.py line.segy`; without a file it makes a noisy line of its own. It
writes field_line.png, predicted.segy and model.segy. (`pip install '.[plot,io]'`)
"""

import argparse

import jax.numpy as jnp
import numpy as np
import optax

import ondax as ox
from ondax.plotting import figure, gather, section


def layers(grid: ox.Grid, sea_floor: float, slope: float) -> jnp.ndarray:
    depth = np.linspace(*grid.extent[1], grid.shape[1]) * np.ones(grid.shape)
    return jnp.asarray(np.where(depth < sea_floor, 1480.0, 1600.0 + slope * depth), jnp.float32)


def propagator(grid: ox.Grid, survey: ox.Survey) -> ox.Propagator:
    surface = ox.Faces(ox.CPML(), top=ox.FreeSurface())
    return ox.Propagator(ox.Acoustic(), grid, survey, 4000.0, boundary=surface)


def own_line(path: str, spacing: float) -> str:
    """Four shots into a streamer, with noise of 10 %, a dead trace, and the headers of the field."""
    grid = ox.Grid(np.ceil(np.array([3400.0, 1800.0]) / spacing).astype(int) + 1, spacing)
    places = ox.streamer((3237.0, 6.0), (3312.0, 6.0), 4, channels=60, interval=50.0,
                         nearest=262.0, depth=10.0)  # fmt: skip
    survey = ox.Survey(*places, ox.ormsby(2.0, 4.0, 8.0, 14.0, nt=450, dt=0.004), 0.004)
    true = layers(grid, 350.0, 0.6) + 300.0 * (jnp.arange(grid.shape[1]) * spacing > 1000.0)
    traces = np.array(propagator(grid, survey)(true))
    traces += 0.1 * np.std(traces) * np.random.default_rng(0).normal(size=traces.shape)
    ox.io.write_segy(path, traces, survey=survey)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", help="SEG-Y file; by default, one is made")
    parser.add_argument("--quick", action="store_true", help="a coarser grid, fewer iterations")
    given = parser.parse_args()
    spacing, iterations = (50.0, 2) if given.quick else (25.0, 5)
    line = ox.io.scan(given.path or own_line("line.segy", spacing))
    print(line)

    wavelet = ox.ormsby(2.0, 4.0, 8.0, 13.0, nt=300, dt=line.dt)  # only its band matters
    survey = line.survey(wavelet)
    low, high = survey.receivers.min((0, 1)), survey.sources.max((0, 1))
    grid = ox.Grid(np.ceil([(high[0] - low[0] + 200.0) / spacing, 1800.0 / spacing]).astype(int) + 1,
                   spacing, (low[0] - 100.0, 0.0))  # fmt: skip
    F, start = propagator(grid, survey), layers(grid, 350.0, 0.5)
    first = 300.0 * grid.shape[0] ** 0.5
    result = ox.multiscale(
        F, line, start, [ox.Stage(high=f, low=4.0, iterations=iterations) for f in (7.0, 12.0)],
        optimizer=optax.lbfgs(optax.piecewise_constant_schedule(first, {1: 1.0 / first})),
        misfit=ox.misfits.global_correlation, reestimate=True, bounds=(1450.0, 3900.0),
    )  # fmt: skip
    print([f"{s.history.misfit[0]:.1f} -> {s.history.misfit[-1]:.1f}" for s in result.stages])
