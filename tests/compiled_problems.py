"""The problems whose compiled steps are looked at: every equation, in the size of the benchmark's
case A or a small one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from compiled_steps import Compiled, Loop

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
        np.hanning(steps + 1),
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


class Step(NamedTuple):
    """What a step of one kind of run does.

    Attributes:
        kernels: how many.
        values: read and written, of each point of the grid, in values of single precision.
        copies: of whole fields.
    """

    kernels: float
    values: float
    copies: float


Compile = Callable[[Callable[[Any], Any], Any], str]


def steps_of(F: ox.Propagator, model: Any, compile_: Compile) -> dict[str, Step]:
    """The steps of the three runs that a gradient takes: "forward", "keeping" and "adjoint".

    Args:
        F: what is run.
        model: of it.
        compile_: from a function and its argument to the text of the optimised program.
    """

    def gradient(model: Any) -> Any:
        return jax.grad(lambda m: 0.5 * sum(jnp.sum(x**2) for x in jax.tree.leaves(F(m))))(model)

    (forward,) = Compiled(compile_(F, model)).loops()
    *others, adjoint = Compiled(compile_(gradient, model)).loops()
    keeping = max(others, key=lambda loop: loop.bytes * loop.trips)
    runs = {"forward": forward, "keeping": keeping, "adjoint": adjoint}
    return {name: _step(loop, F) for name, loop in runs.items()}


def _step(loop: Loop, F: ox.Propagator) -> Step:
    host = F._hosts.of("float32")
    points, each = math.prod(host.shape), loop.trips / host.steps
    return Step(
        len(loop.kernels) * each,
        loop.bytes * each / points / 4,
        loop.copies(4 * points) * each,
    )
