"""Elastic waves below a free surface: a vertical force, two components, and gradients in vp, vs and
rho.

Run `python examples/elastic.py`; it writes elastic.png and takes about half a minute.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import ondax as ox
from ondax.plotting import figure, gather, section


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="coarser, at half the frequency")
    quick = parser.parse_args().quick
    coarser = 2 if quick else 1
    spacing, dt = 5.0 * coarser, 1.5e-3 * coarser

    grid = ox.Grid(shape=(240 // coarser + 1, 100 // coarser + 1), spacing=spacing)
    survey = ox.Survey(
        sources=[[300.0, 2 * spacing], [900.0, 2 * spacing]],
        receivers=ox.line((50.0, spacing), (1150.0, spacing), 111),
        wavelet=1e6 * ox.ricker(15.0 / coarser, nt=600 // coarser + 1, dt=dt),
        dt=dt,
        source="force_z",
        receiver=("velocity_x", "velocity_z"),
    )
    boundary = ox.Faces(ox.CPML(20), top=ox.FreeSurface())
    F = ox.Propagator(
        ox.Elastic(space_order=4), grid, survey, max_velocity=2600.0, boundary=boundary
    )

    x, z = jnp.meshgrid(*(spacing * jnp.arange(n) for n in grid.shape), indexing="ij")
    smooth = {"vp": 1800.0 + 1.2 * z, "vs": 1000.0 + 0.7 * z, "rho": jnp.full(grid.shape, 2000.0)}
    lens = jnp.hypot(x - 600.0, z - 220.0) < 60.0
    true = {name: jnp.where(lens, 0.9 * values, values) for name, values in smooth.items()}

    observed = F(true)  # (shot, component, receiver, time)
    gradient = jax.jit(jax.grad(lambda m: 0.5 * jnp.sum((F(m) - observed) ** 2)))(smooth)

    axes = figure(15.0, 7.0).subplots(2, 3)
    for row, name in enumerate(("horizontal", "vertical")):
        traces = np.asarray(observed[0, row])
        gather(
            axes[row, 0],
            traces,
            survey.dt,
            clip=float(np.percentile(np.abs(traces), 98)),
            title=f"{name} velocity",
        )
    section(axes[0, 1], true["vs"], grid.spacing, title="true vs")
    shown = (axes[1, 1], axes[0, 2], axes[1, 2])
    for where, name in zip(shown, ("vp", "vs", "rho"), strict=True):
        section(
            where,
            -gradient[name],
            grid.spacing,
            signed=True,
            label="",
            title=f"minus the gradient in {name}",
        )
    axes[0, 0].figure.savefig("elastic.png", dpi=110)
    print("wrote elastic.png")


if __name__ == "__main__":
    main()
