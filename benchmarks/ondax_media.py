"""ondax on the cases of several parameters, and acoustic with another absorbing layer, as a user
would call it: jitted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ondax as ox

from .cases import CASES, MAX_VELOCITY, POWER, REFLECTION, SPACING
from .media_cases import ELASTIC_CASES, TILTED_CASES
from .ondax_contender import run_by
from .worker import Actions, serve


def _problem(options: dict[str, Any]) -> tuple[ox.Propagator, dict[str, jax.Array], list[str]]:
    """The case's propagator and model, and the order of its parameters."""
    name, order = options["case"], options.get("order", 8)
    case: Any = (CASES | ELASTIC_CASES | TILTED_CASES)[name]
    indices = np.indices(case.shape).astype(float)
    if name == "E":
        equation, receiver = ox.Elastic(order), ("velocity_x", "velocity_z")
    else:
        equation, receiver = (ox.TTI(order) if name == "T" else ox.Acoustic(order)), None
    parameters = case.parameters(*indices) if name in "ET" else {"vp": case.velocity(*indices)}
    sponge = ox.Sponge(width=case.width, reflection=REFLECTION, power=POWER)
    survey = ox.Survey(
        np.asarray(case.sources) * SPACING,
        np.asarray(case.receivers) * SPACING,
        np.asarray(case.wavelet),
        case.dt,
        receiver=receiver,
    )
    F = ox.Propagator(
        equation,
        ox.Grid(case.shape, SPACING),
        survey,
        max_velocity=getattr(case, "max_velocity", MAX_VELOCITY),
        boundary=ox.CPML(options["cpml"]) if "cpml" in options else sponge,
        # the baselines read velocities at nodes as the mean of two neighbours
        interpolation="linear",
        settings=run_by(options, history=options.get("history", "auto")),
        min_points_per_wavelength=0.0,  # L ends while its wavelet still goes on
        time_dispersion="raw",  # as the baselines are
    )
    if F.steps_per_sample != 1:
        raise RuntimeError(f"unfair: ondax takes {F.steps_per_sample} inner steps a sample")
    return F, {n: jnp.asarray(v, jnp.float32) for n, v in parameters.items()}, list(parameters)


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    F, model, names = _problem(options)
    forward = jax.jit(F)
    gradient = jax.jit(jax.value_and_grad(lambda m: 0.5 * jnp.sum(F(m) ** 2)))

    def memory_bytes() -> dict[str, int]:
        """Of the memory variables of one shot, stored and as they would be on the whole grid."""
        from ondax.backends.devito.layout import allocated, box

        solver = F._hosts.of("float32").solver
        domain = solver.domain
        confined = [f for f in solver.plan.fields if f.region]
        stored = sum(np.prod(allocated(f, box(f, domain).shape, domain.dtype)) for f in confined)
        whole = sum(np.prod(allocated(f, domain.shape, domain.dtype)) for f in confined)
        return {"stored": int(8 * stored), "whole": int(8 * whole)}  # two times of four bytes

    def compiled(function: Any) -> None:
        """Compile a function anew."""
        jax.jit(lambda m: function(m)).lower(model).compile()

    actions = {
        "compile_forward": lambda: compiled(F),
        "compile_gradient": lambda: compiled(
            jax.value_and_grad(lambda m: 0.5 * jnp.sum(F(m) ** 2))
        ),
        "forward": lambda: jax.block_until_ready(forward(model)) is None,
        "gradient": lambda: float(jax.block_until_ready(gradient(model))[0]),
        "gradient_array": lambda: np.concatenate(
            [np.ravel(gradient(model)[1][n]) for n in names]
        ).tolist(),
        "memory_bytes": memory_bytes,
    }
    return {"jax": jax.__version__}, actions


if __name__ == "__main__":
    serve(start)
