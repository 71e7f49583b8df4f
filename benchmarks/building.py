"""Prints how many seconds it takes to build the forward and adjoint kernels of an equation's
gradient: `NAME`."""

import sys
import time

import jax
import numpy as np

import ondax as ox


def main(name: str) -> None:
    equation = ox.Viscoacoustic(frequency=10.0) if name == "Viscoacoustic" else getattr(ox, name)()
    values = {
        "vp": 2000.0,
        "vs": 1000.0,
        "rho": 1500.0,
        "epsilon": 0.1,
        "delta": 0.05,
        "theta": 0.3,
        "Q": 50.0,
    }
    survey = ox.Survey([[100.0, 100.0]], [[200.0, 100.0]], ox.ricker(10.0, nt=350, dt=1e-3), 1e-3)
    grid, sponge = ox.Grid((41, 41), 10.0), ox.Sponge(40)
    F = ox.Propagator(
        equation, grid, survey, max_velocity=2500.0, boundary=sponge, min_points_per_wavelength=1.0
    )
    model = {n: np.full((41, 41), values[n], np.float32) for n in equation.parameter_names}
    begin = time.perf_counter()
    jax.block_until_ready(jax.grad(lambda m: (F(m) ** 2).sum())(model))
    print(time.perf_counter() - begin)


if __name__ == "__main__":
    main(sys.argv[1])
