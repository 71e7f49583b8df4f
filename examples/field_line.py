"""From SEG-Y to an inverted model and back: `python examples/field_line.py line.segy`, marine shots
over a sea floor 370 m deep; without a file, a noisy line of its own. It writes field_line.png."""

import sys

import jax.numpy as jnp
import numpy as np
import optax

import ondax as ox
from ondax.plotting import figure, gather, section

quick, paths = "--quick" in sys.argv, [given for given in sys.argv[1:] if given != "--quick"]
spacing, iterations, corners = (50.0, 2, [6.0]) if quick else (25.0, 6, [8.0, 13.0])
band = 2.0, 4.0, corners[0], 1.5 * corners[0]  # Hz


def rock(vp: jnp.ndarray) -> dict[str, jnp.ndarray]:  # density after Gardner
    return {"vp": vp, "rho": jnp.where(vp < 1500.0, 1000.0, 310.0 * vp**0.25)}


def setting(survey: ox.Survey) -> tuple[ox.Propagator, jnp.ndarray]:
    x = [points.rows[:, 0] for points in survey.points]
    first, last = min(map(np.min, x)) - 100.0, max(map(np.max, x)) + 100.0
    shape = np.ceil([(last - first) / spacing, 2200.0 / spacing]).astype(int) + 1
    grid = ox.Grid(shape, spacing, (first, 0.0))
    below = jnp.arange(grid.shape[1]) * spacing - 370.0
    start = jnp.where(below < 0.0, 1480.0, 1650.0 + 0.6 * below) * jnp.ones(grid.shape)
    surface = ox.Faces(ox.CPML(), top=ox.FreeSurface())
    return ox.Propagator(ox.AcousticDensity(), grid, survey, 4500.0, boundary=surface), start


if not paths:  # make a line: a faster layer below 1 km, and noise
    cable = {"channels": 60, "interval": 50.0, "nearest": 262.0, "depth": 10.0}
    places = ox.streamer((3237.0, 6.0), (3312.0, 6.0), 4, **cable)
    F, start = setting(ox.Survey(*places, ox.ormsby(band, 600, 0.004), 0.004))
    traces = np.array(F(rock(start.at[:, int(1000.0 / spacing) :].add(300.0))))
    traces += np.random.default_rng(0).normal(size=traces.shape) * 0.1 * np.std(traces)
    ox.io.write_segy("line.segy", traces, survey=F.survey)
line = ox.io.scan(paths or "line.segy")
F, start = setting(line.survey(ox.ormsby(band, nt=400, dt=line.dt)))
print(line, F.cost(), sep="\n")
size = 300.0 * F.grid.shape[0] ** 0.5  # of the first step: L-BFGS's own is far too short
result = ox.multiscale(
    F, line, start, [ox.Stage(high, iterations, low=4.0) for high in corners], reestimate=True,
    optimizer=optax.lbfgs(optax.piecewise_constant_schedule(size, {1: 1.0 / size})),
    misfit=ox.misfits.global_correlation, parameters=rock, bounds=(1450.0, 4200.0),
    mask=jnp.where(start > 1500.0, 1.0, 0.0),
)  # fmt: skip
G, observed = result.propagators[-1], result.observed[-1][np.arange(len(line))]
predicted = G.survey.gathers(G(rock(result.stages[-1].model)))
print("misfits", *[s.history.misfit.round(1) for s in result.stages])
ox.io.write_segy("predicted.segy", predicted, like=line)
ox.io.write_segy("model.segy", np.asarray(result.model), grid=F.grid)
picture = figure(14.0, 3.5)
model, *gathers = picture.subplots(1, 3)
section(model, result.model, F.grid.spacing, origin=F.grid.origin)
for axes, traces in zip(gathers, (observed, predicted), strict=True):
    gather(axes, traces[0] / np.std(traces[0]), line.dt, clip=3.0)
picture.savefig("field_line.png")
