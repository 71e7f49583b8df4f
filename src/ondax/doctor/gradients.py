"""Gradients of a small shot, by kernels that are built for it, against two tests that know nothing
of how they are made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..backends.devito.compiler import CompilerError
from ..boundaries.sponge import Sponge
from ..equations.acoustic import Acoustic
from ..grid import Grid
from ..propagator import Propagator
from ..spreads import line
from ..survey import Survey
from ..testing import dot_test
from ..wavelets import ricker
from .finding import Finding, in_a_line
from .kernels import COMPILER_REMEDY, FOLDER_REMEDY, empty_cache

SHAPE, SAMPLES = (31, 26), 150
VELOCITY, ROUGHNESS = 2000.0, 20.0  # m/s


@dataclass(frozen=True)
class Bounds:
    """What a precision is held to.

    Attributes:
        dot: of the dot test. What is promised of every equation: a hundred roundings in float32,
            some thousands in float64.
        step: by which the model is changed, as a fraction of the change that is tried.
        difference: relative, of the slope by the gradient from that between models a step to either
            side. The change is 1 % of the velocity; measured with it: curvature 3.4e-4 times the
            square of the step, and rounding of the traces, 1e-5 at a step of 1 in float32, 1e-9 at
            one of 1e-2 in float64. The bounds are thirty times that.
    """

    dot: float
    step: float
    difference: float


BOUNDS = {"float32": Bounds(1e-5, 1.0, 1e-2), "float64": Bounds(1e-12, 1e-2, 1e-6)}


def gradients() -> Iterator[Finding]:
    """Both tests in both precisions, with kernels built anew."""
    for dtype, bounds in BOUNDS.items():
        yield _tried(dtype, bounds)


def _tried(dtype: str, bounds: Bounds) -> Finding:
    """The gradient in one precision."""
    began = time.monotonic()
    try:
        with empty_cache() as folder, jax.enable_x64(dtype == "float64"):
            dot, difference = _errors(dtype, bounds.step)
            built = len(list(folder.glob("*/kernel.so")))
    except (CompilerError, OSError) as error:
        remedy = COMPILER_REMEDY if isinstance(error, CompilerError) else FOLDER_REMEDY
        return Finding("gradient", "fail", f"in {dtype}: {in_a_line(error)}", remedy)
    seconds = time.monotonic() - began
    found = (
        f"in {dtype}: dot test {dot:.1e} (bound {bounds.dot:g}), against differences "
        f"{difference:.1e} (bound {bounds.difference:g}); {seconds:.1f} s, kernels built: {built}"
    )
    if dot < bounds.dot and difference < bounds.difference:
        return Finding("gradient", "ok", found)
    return Finding(
        "gradient",
        "fail",
        found,
        "try ONDAX_CFLAGS=-O1, or another compiler by CC; report it if that does not help",
    )


def _errors(dtype: str, step: float) -> tuple[float, float]:
    """The errors of the dot test, and of the gradient along a change of the model."""
    dt, rng = 0.002, np.random.default_rng(0)
    survey = Survey(
        [[100.0, 40.0]],
        line((0.0, 60.0), (300.0, 60.0), 5),
        ricker(12.0, SAMPLES, dt),
        dt,
    )
    F = Propagator(Acoustic(4), Grid(SHAPE, 10.0), survey, 2600.0, boundary=Sponge(8))
    model = jnp.asarray(VELOCITY + rng.uniform(-5.0, 5.0, SHAPE) * ROUGHNESS, dtype)
    change = jnp.asarray(rng.normal(size=SHAPE) * ROUGHNESS, dtype)
    J = F.jacobian(model)
    traces = jnp.asarray(rng.normal(size=J.mv(change).shape), dtype)
    dot = dot_test(J.mv, J.T.mv, change, traces)

    def misfit(vp: Any) -> tuple[Any, Any]:
        predicted = F(vp)
        return 0.5 * jnp.sum(predicted**2), predicted

    # Of values too, so that no kernel is built that keeps no history.
    evaluate = jax.value_and_grad(misfit, has_aux=True)
    _, gradient = evaluate(model)
    slope = np.vdot(np.asarray(gradient, float), np.asarray(change, float))
    low, high = (
        0.5 * np.sum(np.asarray(evaluate(model + sign * step * change)[0][1], float) ** 2)
        for sign in (-1.0, 1.0)
    )
    return dot, abs((high - low) / (2.0 * step) - slope) / abs(slope)
