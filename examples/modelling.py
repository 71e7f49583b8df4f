"""Model a shot over the Overthrust section, in two equations, and draw the gathers.

Run `python examples/modelling.py`; it writes modelling.png and takes about ten seconds.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import ondax as ox


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="coarser, at half the frequency")
    quick = parser.parse_args().quick
    coarser = 2 if quick else 1
    nt, dt = 500 // coarser + 1, 0.005 * coarser

    section = ox.datasets.overthrust(decimate=2 * coarser)
    grid = ox.Grid(section.vp.shape, section.spacing)
    length = grid.extent[0][1]
    survey = ox.Survey(
        sources=[(0.5 * length, 2.0 * grid.spacing[1])],
        # Between grid points, which is fine.
        receivers=ox.line((0.0, 40.0), (length, 40.0), 2 * grid.shape[0]),
        wavelet=ox.ricker(6.0 / coarser, nt, dt),
        dt=dt,
    )
    vp = jnp.asarray(section.vp)
    rho = 310.0 * vp**0.25  # Gardner's relation

    acoustic = ox.Propagator(ox.Acoustic(), grid, survey, max_velocity=float(vp.max()))
    print(
        f"internal time step {1e3 * acoustic.dt:.3f} ms, {acoustic.steps_per_sample} steps per "
        "sample"
    )
    traces = jax.jit(acoustic)(vp)
    density = ox.Propagator(ox.AcousticDensity(), grid, survey, max_velocity=float(vp.max()))
    # Both measure w(t) delta(x - xs): multiplied by a reference density, their direct waves agree.
    dense = jax.jit(density)({"vp": vp, "rho": rho}) / rho[grid.shape[0] // 2, 2]

    figure = ox.plotting.figure(11.0, 5.0)
    clip = float(np.percentile(np.abs(traces), 97))
    gathers = {"constant density": traces, "Gardner density": dense}
    for axes, (title, gather) in zip(figure.subplots(1, 2), gathers.items(), strict=True):
        ox.plotting.gather(
            axes, np.asarray(gather[0]), dt, offsets=(0.0, length), clip=clip, title=title
        )
    figure.savefig("modelling.png", dpi=120)
    print("wrote modelling.png")


if __name__ == "__main__":
    main()
