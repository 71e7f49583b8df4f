"""The problems whose compiled steps are looked at: every equation, in case A's size or a small
one."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

import ondax as ox

EQUATIONS = {
    "acoustic": lambda order: ox.Acoustic(order),
    "density": lambda order: ox.AcousticDensity(order),
    "elastic": lambda order: ox.Elastic(order),
    "vti": lambda order: ox.VTI(order),
    "tti": lambda order: ox.TTI(order),
    "viscoacoustic": lambda order: ox.Viscoacoustic(order, frequency=10.0),
}
BOUNDARIES = {
    "sponge": lambda width: ox.Sponge(width),
    "cpml": lambda width: ox.CPML(width),
    "surface": lambda width: ox.Faces(ox.CPML(width), top=ox.FreeSurface()),
}


def problem(
    equation: str,
    boundary: str,
    shape: tuple[int, ...] = (201, 201),
    width: int = 40,
    steps: int = 1000,
    order: int = 8,
) -> tuple[ox.Propagator, Any]:
    """A propagator that asks nothing of the host, and its model."""
    survey = ox.Survey(
        [[10.0 * (n // 2) for n in shape[:-1]] + [20.0]],
        [[10.0 * i, *(10.0 * (n // 2) for n in shape[1:-1]), 40.0] for i in range(0, shape[0], 2)],
        ox.ricker(10.0, steps + 1, 0.0008),
        0.0008,
    )
    F = ox.Propagator(
        EQUATIONS[equation](order),
        ox.Grid(shape, 10.0),
        survey,
        max_velocity=3000.0,
        boundary=BOUNDARIES[boundary](width),
        settings=ox.Settings(backend="xla", checks=False, memory=8e9),
        min_points_per_wavelength=0.0,
        time_dispersion="raw",
    )
    vp = jnp.full(shape, 2000.0, jnp.float32)
    rho, ones = jnp.full_like(vp, 1400.0), jnp.ones_like(vp)
    model = {
        "acoustic": vp,
        "density": {"vp": vp, "rho": rho},
        "elastic": {"vp": vp, "vs": vp / 2, "rho": rho},
        "vti": {"vp": vp, "epsilon": 0.1 * ones, "delta": 0.05 * ones},
        "tti": {"vp": vp, "epsilon": 0.1 * ones, "delta": 0.05 * ones, "theta": 0.5 * ones},
        "viscoacoustic": {"vp": vp, "rho": rho, "Q": 50.0 * ones},
    }
    return F, model[equation]
