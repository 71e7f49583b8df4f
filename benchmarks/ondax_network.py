"""A training step of convolution -> extended modelling -> convolution, and what it is made of."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import ondax as ox

from .cases import CASES, SPACING
from .ondax_contender import propagator
from .worker import Actions, serve


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    case = CASES[options["case"]]
    points, velocity = propagator(case, ox.Settings(threads=options["threads"]))
    survey = ox.Survey(
        ox.Extended(1), np.asarray(case.receivers) * SPACING, np.asarray(case.wavelet), case.dt
    )
    F = points.with_survey(survey)
    keys = jax.random.split(jax.random.key(0), 6)
    conv = {"kernel_size": 3, "padding": "SAME"}
    first = eqx.nn.Conv2d(1, 1, **conv, key=keys[0])
    second = eqx.nn.Conv2d(1, 1, **conv, key=keys[1])
    network = eqx.nn.Sequential([first, ox.nn.ExtendedModelling(F, velocity), second])
    x = jax.random.normal(keys[2], (1, *case.shape))
    traces = F(velocity, weights=x)
    target, like_x = jax.random.normal(keys[3], traces.shape), jax.random.normal(keys[4], x.shape)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def step(network: Any, x: Any) -> Any:
        return 0.5 * jnp.sum((network(x) - target) ** 2)

    @eqx.filter_jit
    @eqx.filter_grad
    def before(conv: Any, x: Any) -> Any:  # its cotangent comes from the adjoint run
        return jnp.vdot(conv(x), like_x)

    @eqx.filter_jit
    @eqx.filter_grad
    def after(both: Any) -> Any:  # kernel and traces
        conv, traces = both
        return 0.5 * jnp.sum((conv(traces) - target) ** 2)

    forward, adjoint = (
        jax.jit(lambda w: F(velocity, weights=w)),
        jax.jit(lambda d: F.adjoint(velocity, d)),
    )
    return {"jax": jax.__version__}, {
        "step": lambda: float(step(network, x)[0]),
        "convolutions": lambda: (
            jax.block_until_ready((before(first, x), after((second, traces)))) and 0.0
        ),
        "solves": lambda: jax.block_until_ready((forward(x), adjoint(target))) and 0.0,
    }


if __name__ == "__main__":
    serve(start)
