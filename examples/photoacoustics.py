"""Photoacoustic tomography: find a pressure that was set free at time 0, from what it radiated to
sensors on two sides.

Run `python examples/photoacoustics.py`; it writes photoacoustics.png and takes about ten seconds.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ondax as ox
from ondax.plotting import figure, section


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points and iterations")
    quick = parser.parse_args().quick
    n, iterations = (49, 8) if quick else (97, 40)
    h = 0.024 / (n - 1)  # metres: 24 mm of tissue
    dt = 0.5 * h / 1500.0

    x, z = np.meshgrid(*[np.linspace(-12.0, 12.0, n)] * 2, indexing="ij")  # millimetres
    vessel = np.exp(-((x - 2 + 0.15 * z**2) ** 2)) * (np.abs(z) < 6)
    true = jnp.asarray(vessel + np.exp(-((x - 6) ** 2 + (z - 3) ** 2) / 2), jnp.float32)
    speed = jnp.asarray(1500.0 + 60.0 * np.exp(-(x**2 + z**2) / 40), jnp.float32)

    ends = (0.024 - h, h), (h, 0.024 - h)
    sensors = np.concatenate([ox.line((h, h), end, n // 2) for end in ends])
    nt = round(0.034 / 1500.0 / dt)
    survey = ox.Survey([(0.012, 0.012)], sensors, np.zeros(nt), dt)  # no source fires
    F = ox.Propagator(
        ox.Acoustic(4), ox.Grid((n, n), (h, h)), survey, 1600.0, time_dispersion="raw"
    )

    def radiated(p0: jax.Array) -> jax.Array:
        return F(speed, initial=F.at_rest(speed, {"u": p0}))

    observed = radiated(true)
    misfit = jax.jit(jax.value_and_grad(lambda p0: jnp.sum((radiated(p0) - observed) ** 2) / nt))
    optimizer, p0 = optax.adam(0.1), jnp.zeros_like(true)
    state = optimizer.init(p0)
    for _ in range(iterations):
        value, gradient = misfit(p0)
        updates, state = optimizer.update(gradient, state)
        p0 = jnp.maximum(optax.apply_updates(p0, updates), 0.0)  # heat expands
    print(f"misfit after {iterations} iterations: {float(value):.3g}")

    picture = figure(9.0, 4.0)
    pressures = {"true pressure": true, "found": p0}
    for axes, title in zip(picture.subplots(1, 2), pressures, strict=True):
        section(axes, pressures[title], 1e6 * h, label="", title=title)
        axes.set(xlabel="mm", ylabel="mm")
    picture.savefig("photoacoustics.png", dpi=110)
    print("wrote photoacoustics.png")


if __name__ == "__main__":
    main()
