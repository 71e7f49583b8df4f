"""ondax itself, as a user would call it: jitted, from the velocity to the traces or to the
gradient."""

from __future__ import annotations

import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ondax as ox
from ondax.backends.devito.kernel import Kernel

from .cases import CASES, MAX_VELOCITY, ORDER, POWER, REFLECTION, SPACING, Case
from .worker import Actions, serve


def propagator(
    case: Case,
    settings: ox.Settings,
    shift: float = 0.0,
    extend: int = 0,
    as_baselines: bool = True,
) -> tuple[ox.Propagator, jax.Array]:
    """The case's propagator and velocity.

    Args:
        case: the problem.
        settings: threads, memory, storage.
        shift: moves all receivers along the first axis by this part of a cell.
        extend: cells by which the model is continued beyond its edges.
        as_baselines: with their order and boundary, and raw traces; else at the defaults.
    """
    receivers = np.asarray(case.receivers, float)
    receivers[:, 0] += np.where(receivers[:, 0] < case.shape[0] - 1, shift, -shift)
    survey = ox.Survey(
        sources=(np.asarray(case.sources) + extend) * SPACING,
        receivers=(receivers + extend) * SPACING,
        wavelet=np.asarray(case.wavelet),
        dt=case.dt,
    )
    velocity = case.velocity(*np.ix_(*case.indices(extend)))
    sponge = ox.Sponge(width=case.width, reflection=REFLECTION, power=POWER)
    like: dict[str, Any] = {"boundary": sponge, "time_dispersion": "raw"} if as_baselines else {}
    model = ox.Propagator(
        ox.Acoustic(space_order=ORDER) if as_baselines else ox.Acoustic(),
        ox.Grid(shape=velocity.shape, spacing=SPACING),
        survey,
        max_velocity=MAX_VELOCITY,
        settings=settings,
        **like,
    )
    if model.steps_per_sample != 1:
        raise RuntimeError(f"unfair: ondax takes {model.steps_per_sample} inner steps a sample")
    return model, jnp.asarray(velocity, jnp.float32)


def loss_function(model: ox.Propagator) -> Any:
    return lambda velocity: 0.5 * jnp.sum(model(velocity) ** 2)


def run_by(options: dict[str, Any], **settings: Any) -> ox.Settings:
    """The settings that a contender's options ask for: its threads and backend, and others."""
    backend = options.get("backend", "devito")
    if backend == "xla":  # XLA sizes its thread pool by the cores that it finds when it starts
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: options["threads"]])
    return ox.Settings(
        threads=options["threads"],
        backend=backend,
        checks=options.get("checks", True),
        **settings,
    )


class KernelClock:
    """Adds up the seconds inside compiled kernels made after it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        initialise = Kernel.__init__

        def timed_initialise(kernel: Kernel, *args: Any) -> None:
            initialise(kernel, *args)
            function = kernel.function

            def timed(*values: Any) -> int:
                begin = time.perf_counter()
                code = function(*values)
                self.seconds += time.perf_counter() - begin
                return code

            kernel.function = timed

        Kernel.__init__ = timed_initialise


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    clock = KernelClock() if options.get("clock") else None
    settings = run_by(
        options,
        store_every=options.get("store_every"),
        history=options.get("history", "auto"),
    )
    model, velocity = propagator(
        CASES[options["case"]],
        settings,
        options.get("shift", 0.0),
        options.get("extend", 0),
        options.get("as_baselines", True),
    )
    jitted_forward = jax.jit(model)
    value_and_gradient = jax.jit(jax.value_and_grad(loss_function(model)))

    def run_forward() -> None:
        jitted_forward(velocity).block_until_ready()

    def compiled(function: Any) -> None:
        """Compile a function anew."""
        jax.jit(lambda v: function(v)).lower(velocity).compile()

    def outside_kernels(action: Any) -> float:
        """Seconds of an action that are not a kernel's."""
        assert clock
        clock.seconds = 0.0
        begin = time.perf_counter()
        jax.block_until_ready(action(velocity))
        return time.perf_counter() - begin - clock.seconds

    actions = {
        "forward": run_forward,
        "traces": lambda: jitted_forward(velocity).ravel().tolist(),
        "gradient": lambda: float(jax.block_until_ready(value_and_gradient(velocity))[0]),
        "gradient_array": lambda: value_and_gradient(velocity)[1].ravel().tolist(),
        "forward_overhead": lambda: outside_kernels(jitted_forward),
        "compile_forward": lambda: compiled(model),
        "compile_gradient": lambda: compiled(jax.value_and_grad(loss_function(model))),
        "gradient_overhead": lambda: outside_kernels(value_and_gradient),
    }
    return {"jax": jax.__version__}, actions


if __name__ == "__main__":
    serve(start)
