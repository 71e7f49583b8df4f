"""Least-squares migration by `ondax.lsrtm`, as a user would call it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ondax as ox

from .cases import CASES
from .ondax_contender import propagator
from .worker import Actions, serve


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    case = CASES[options["case"]]
    F, velocity = propagator(case, ox.Settings(threads=options["threads"]))
    J = F.jacobian(velocity)
    scatter = jnp.asarray(case.reflectivity(*np.indices(case.shape)), jnp.float32)
    observed = J.mv(scatter)

    def migrate(iterations: int) -> float:
        result = ox.lsrtm(F, observed, velocity, iterations=iterations, progress=False)
        jax.block_until_ready(result.image)
        return float(result.history.data_residual[-1])

    def afresh() -> float:
        ox.release_memory()
        return migrate(options["iterations"])

    return {"jax": jax.__version__}, {
        "iteration": lambda: migrate(1),
        "afresh": afresh,
        "gradient_array": lambda: J.T.mv(J.mv(scatter)).ravel().tolist(),
    }


if __name__ == "__main__":
    serve(start)
