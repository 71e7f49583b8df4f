"""Baseline 3: the same scheme as a jitted `lax.scan`, differentiated by JAX itself. One shot."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .cases import CASES, SPACING, Case
from .worker import Actions, serve

WEIGHTS = (-205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560)  # centred second derivative, order 8


def forward_function(case: Case) -> tuple[Callable[[Any], Any], Any]:
    """A function from velocity (*grid) to traces (sample, receiver), and the case's velocity."""
    import jax
    import jax.numpy as jnp

    dimensions, width, reach = len(case.shape), case.width, len(WEIGHTS) - 1
    gamma = sum(
        jnp.expand_dims(
            jnp.asarray(case.damping(axis)), [a for a in range(dimensions) if a != axis]
        )
        for axis in range(dimensions)
    )
    source = tuple(i + width for i in case.sources[0])
    receivers = tuple(jnp.asarray(case.receivers).T + width)
    wavelet = jnp.asarray(case.wavelet[: case.steps])
    dt, cell = case.dt, SPACING**dimensions

    def shifted(padded: Any, axis: int, offset: int) -> Any:
        window = [slice(reach, -reach)] * dimensions
        window[axis] = slice(reach + offset, padded.shape[axis] - reach + offset)
        return padded[tuple(window)]

    def laplacian(u: Any) -> Any:
        padded = jnp.pad(u, reach)
        total = dimensions * WEIGHTS[0] * u
        for axis in range(dimensions):
            for k, weight in enumerate(WEIGHTS[1:], start=1):
                total += weight * (shifted(padded, axis, k) + shifted(padded, axis, -k))
        return total / SPACING**2

    def forward(velocity: Any) -> Any:
        m = 1 / jnp.pad(velocity, width, mode="edge") ** 2
        past, mass = m * (1 / dt**2 - gamma / (2 * dt)), m * (1 / dt**2 + gamma / (2 * dt))

        def step(state: Any, sample: Any) -> Any:
            previous, u = state
            force = laplacian(u).at[source].add(sample / cell)
            following = (force + 2 / dt**2 * m * u - past * previous) / mass
            return (u, following), following[receivers]

        rest = jnp.zeros(case.padded_shape)
        return jax.lax.scan(step, (rest, rest), wavelet)[1]

    indices = jnp.meshgrid(*(jnp.arange(float(n)) for n in case.shape), indexing="ij")
    return forward, case.velocity(*indices)


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    cores = sorted(os.sched_getaffinity(0))
    # XLA sizes its thread pool by this, when it starts
    os.sched_setaffinity(0, cores[: options["threads"]])
    import jax
    import jax.numpy as jnp

    forward, velocity = forward_function(CASES[options["case"]])
    jitted_forward = jax.jit(forward)
    value_and_gradient = jax.jit(jax.value_and_grad(lambda v: 0.5 * jnp.sum(forward(v) ** 2)))

    def run_forward() -> None:
        jitted_forward(velocity).block_until_ready()

    actions = {
        "forward": run_forward,
        "gradient": lambda: float(jax.block_until_ready(value_and_gradient(velocity))[0]),
        "gradient_array": lambda: value_and_gradient(velocity)[1].ravel().tolist(),
    }
    return {"jax": jax.__version__}, actions


if __name__ == "__main__":
    serve(start)
