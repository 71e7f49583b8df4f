"""Full-waveform inversion with L-BFGS, bounds, a water mask, and a state that survives
interruption.

Run it, press Ctrl-C (or kill it), and run it again: it goes on where it was. Delete fwi-state.npz
to start afresh. Run `python examples/fwi.py`; it writes fwi.png and takes about half a minute.
"""

import argparse

import jax.numpy as jnp
import numpy as np
import optax

import ondax as ox
from ondax.plotting import figure, section


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points, shots and iterations")
    quick = parser.parse_args().quick
    shape, spacing, shots, iterations = (
        ((51, 26), 40.0, 3, 4) if quick else ((101, 51), 20.0, 8, 20)
    )

    # A fast body under a water layer 100 m deep, 2 km wide and 1 km deep.
    grid = ox.Grid(shape=shape, spacing=spacing)
    axes = np.linspace(0.0, 2000.0, shape[0]), np.linspace(0.0, 1000.0, shape[1])
    x, z = np.meshgrid(*axes, indexing="ij")
    water = z < 100.0
    background = np.where(water, 1500.0, 1700.0 + 0.8 * z).astype(np.float32)
    body = ((x - 1000.0) / 350.0) ** 2 + ((z - 500.0) / 150.0) ** 2 < 1.0
    true = background + np.where(body, 250.0, 0.0).astype(np.float32)

    survey = ox.Survey(
        sources=ox.line((50.0, 20.0), (1950.0, 20.0), shots),
        receivers=ox.line((0.0, 90.0), (2000.0, 90.0), 101),
        wavelet=ox.ricker(5.0, nt=400, dt=0.004),
        dt=0.004,
    )
    F = ox.Propagator(ox.Acoustic(), grid, survey, max_velocity=3000.0)
    observed = F(jnp.asarray(true))

    result = ox.fwi(
        F,
        observed,
        background,
        # Its first step has length 1 in the units of the model, over all grid points together:
        # make it 300.
        optimizer=optax.lbfgs(optax.piecewise_constant_schedule(300.0, {1: 1 / 300.0})),
        iterations=iterations,
        bounds=(1450.0, 3000.0),
        mask=np.where(water, 0.0, 1.0),  # the water is known
        save="fwi-state.npz",
    )

    def error(model: np.ndarray) -> float:
        """Root mean square error in m/s."""
        return float(np.sqrt(np.mean((np.asarray(model) - true) ** 2)))

    misfit = result.history.misfit
    print(f"misfit       {misfit[0]:9.4g} -> {misfit[-1]:9.4g}")
    print(f"model error  {error(background):9.4g} -> {error(result.model):9.4g} m/s")

    picture = figure(7.0, 9.0)
    panels = {"true": true, "initial": background, "inverted": result.model}
    limits = (float(true.min()), float(true.max()))
    for axes, (title, vp) in zip(picture.subplots(3, 1), panels.items(), strict=True):
        section(axes, vp, grid.spacing, limits=limits, title=title)
    picture.savefig("fwi.png")
    print("wrote fwi.png")


if __name__ == "__main__":
    main()
