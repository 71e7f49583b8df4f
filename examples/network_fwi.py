"""Full-waveform inversion for the weights of a network instead of the velocities themselves.

The data hold nothing useful below 4 Hz and the initial model is a poor one, v(z) from 2500 to 5000 m/s. An
inversion for the velocity of every grid point skips cycles: it explains the traces with a model that is further from
the truth than the initial one. Here the velocity at (x, z) is `start(z) + 1000 * network(x, z)`, the network a SIREN
(Sitzmann et al. 2020), trained through the propagator as Sun et al. (2023) do. Its sines change all depths at once,
smooth structure first, so it finds the long wavelengths that the data lack.
"""

import argparse
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import ondax as ox
from ondax.datasets import overthrust
from ondax.plotting import figure, section

SHOTS, BATCH = 12, 4
BOUNDS = (2400.0, 6500.0)  # m/s, somewhat wider than the model
SCALE = 1000.0  # m/s: what the network's output of 1 means


class Siren(eqx.Module):
    """Sines of weighted sums of sines: a smooth function of position, `network(points) -> values`.

    The weights start as Sitzmann et al. (2020) draw them. `omega` says how fast the function may vary; they use 30
    for photographs, this velocity model needs less. The last layer starts small, so that the first model is nearly
    the initial one: nothing needs to be trained beforehand.
    """

    layers: list[eqx.nn.Linear]
    omega: float = eqx.field(static=True)

    def __init__(self, key: jax.Array, width: int = 64, hidden: int = 3, omega: float = 15.0) -> None:
        sizes = [2, *[width] * hidden, 1]
        self.omega = omega
        self.layers = []
        for i, draw in enumerate(jax.random.split(key, hidden + 1)):
            layer = eqx.nn.Linear(sizes[i], sizes[i + 1], key=draw)
            limit = 1.0 / sizes[i] if i == 0 else (6.0 / sizes[i]) ** 0.5 / omega
            weight = jax.random.uniform(draw, layer.weight.shape, minval=-limit, maxval=limit)
            self.layers.append(eqx.tree_at(lambda layer: layer.weight, layer, weight))
        self.layers[-1] = jax.tree.map(lambda leaf: 0.1 * leaf, self.layers[-1])

    def __call__(self, points: jax.Array) -> jax.Array:
        *hidden, last = self.layers
        for layer in hidden:
            points = jnp.sin(self.omega * (points @ layer.weight.T + layer.bias))
        return (points @ last.weight.T + last.bias)[..., 0]


def setup(vp: np.ndarray, spacing: float, shots: int) -> tuple[ox.Propagator, jax.Array, np.ndarray]:
    """The propagator, its traces in the true model `vp`, and the initial model."""
    grid = ox.Grid(vp.shape, spacing)
    (left, right), _ = grid.extent
    survey = ox.Survey(
        sources=ox.line((left + 250.0, spacing), (right - 250.0, spacing), shots),
        receivers=ox.line((left, spacing), (right, spacing), vp.shape[0]),
        # At 4 Hz its spectrum has 19 % of its peak, at 3.5 Hz 3 %, at 3 Hz 0.2 %.
        wavelet=ox.ormsby((4.0, 5.0, 7.0, 9.0), nt=500, dt=0.008, delay=0.8),
        dt=0.008,
    )
    F = ox.Propagator(ox.Acoustic(), grid, survey, max_velocity=BOUNDS[1])
    start = np.broadcast_to(np.linspace(2500.0, 5000.0, vp.shape[1], dtype=np.float32), vp.shape)
    return F, F(jnp.asarray(vp)), start.copy()


def network_velocity(start: np.ndarray) -> Any:
    """A function from network to velocity, by position in units of half the depth."""
    nx, nz = start.shape
    x, z = jnp.linspace(-nx / nz, nx / nz, nx), jnp.linspace(-1.0, 1.0, nz)
    points = jnp.stack(jnp.meshgrid(x, z, indexing="ij"), axis=-1)
    return lambda network: jnp.clip(start + SCALE * network(points), *BOUNDS)


def smooth(values: jax.Array, points: float) -> jax.Array:
    """A Gaussian average along both axes; `points` is its standard deviation in grid points."""
    reach = int(4 * points)
    weights = jnp.exp(-0.5 * (jnp.arange(-reach, reach + 1) / points) ** 2)
    padded = jnp.pad(values, reach, mode="edge")
    return jax.scipy.signal.convolve(padded, jnp.outer(weights, weights) / weights.sum() ** 2, mode="valid")


def invert(F: Any, observed: jax.Array, velocity: Any, model: Any, optimizer: Any, **options: Any) -> tuple[Any, Any]:
    """Inverts for `model`, from which `velocity` makes m/s; returns the velocity, and (wave solves, seconds)."""
    shots_solved = []

    def predict(model, shots=None):
        n = observed.shape[0] if shots is None else shots.shape[0]
        jax.debug.callback(lambda: shots_solved.append(n))  # a line search decides as it runs how often it solves
        return F(velocity(model)) if shots is None else F(velocity(model), shots=shots)

    started = time.perf_counter()
    result = ox.fwi(predict, observed, model, optimizer=optimizer, **options)
    jax.effects_barrier()
    # Every evaluation is a forward and an adjoint solve a shot.
    return np.asarray(velocity(result.model)), (2 * sum(shots_solved), time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=200, help=f"of Adam, {BATCH} of {SHOTS} shots each")
    parser.add_argument("--seed", type=int, default=0, help="of the network's first weights and the order of shots")
    parser.add_argument("--save", default="network_fwi.png", help="path of the picture")
    args = parser.parse_args()

    model = overthrust(decimate=4)
    F, observed, start = setup(model.vp, model.spacing, SHOTS)
    velocity = network_velocity(start)
    siren = Siren(jax.random.key(args.seed))

    def adam(step: float) -> optax.GradientTransformation:
        return optax.adam(optax.linear_schedule(step, 0.2 * step, args.iterations), b2=0.99)

    batches = {"iterations": args.iterations, "batch_size": BATCH, "seed": args.seed}
    # L-BFGS needs all shots at once, so fewer iterations; its line search makes about 1.2 evaluations in each.
    full = {"iterations": max(1, round(0.9 * args.iterations * BATCH / SHOTS))}
    lbfgs = optax.lbfgs(optax.piecewise_constant_schedule(1500.0, {1: 1 / 1500.0}))

    def smoothed(change: Any) -> jax.Array:
        return jnp.clip(start + smooth(change, 3.0), *BOUNDS)

    runs = {
        "start": (start, (0, 0.0)),
        "plain, Adam": invert(F, observed, lambda vp: vp, start, adam(40.0), bounds=BOUNDS, **batches),
        "plain, L-BFGS": invert(F, observed, smoothed, np.zeros_like(start), lbfgs, **full),
        "network": invert(F, observed, velocity, siren, adam(1e-3), **batches),
    }
    energy, errors = float(jnp.sum(observed**2)), {}
    print(f"{'':14}{'model error':>12}{'misfit':>9}{'wave solves':>13}{'seconds':>9}")
    for name, (vp, (solves, seconds)) in runs.items():
        errors[name] = float(np.linalg.norm(vp - model.vp) / np.linalg.norm(model.vp))
        misfit = float(jnp.sum((F(jnp.asarray(vp)) - observed) ** 2)) / energy
        print(f"{name:14}{errors[name]:>12.1%}{misfit:>9.1%}{solves:>13}{seconds:>9.0f}")

    picture = figure(9.0, 6.6)
    panels = picture.subplots(3, 2)
    limits = (float(model.vp.min()), float(model.vp.max()))
    for axes, (name, vp) in zip(panels.flat, [("true", model.vp), *((n, r[0]) for n, r in runs.items())], strict=False):
        title = name if name == "true" else f"{name}: {errors[name]:.1%} off"
        section(axes, vp, model.spacing, limits=limits, title=title)
        panels[2, 1].plot(vp[3 * len(vp) // 5], 1e-3 * model.spacing * np.arange(vp.shape[1]), label=name)
    panels[2, 1].set(xlabel="velocity (m/s)", ylabel="depth (km)", title="at 6 km")
    panels[2, 1].invert_yaxis()
    panels[2, 1].legend(fontsize="x-small")
    picture.savefig(args.save, dpi=100)
    print(f"picture: {args.save}")
    if args.iterations >= 200:
        assert errors["network"] < min(errors["start"], 0.85 * errors["plain, Adam"], 0.85 * errors["plain, L-BFGS"])


if __name__ == "__main__":
    main()
