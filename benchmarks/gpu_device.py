"""The GPU itself: which it is, and how fast it copies memory."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp

from .worker import Actions, serve

VALUES = 1 << 28  # a GiB in single precision
COPIES = 20


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    """Raises: RuntimeError: JAX finds no GPU."""
    platform = jax.default_backend()
    if platform != "gpu":
        raise RuntimeError(f"JAX's default backend is {platform!r}, not a GPU")
    values = jnp.zeros(VALUES, jnp.float32)
    move = jax.jit(lambda x: x + 1.0)

    def bandwidth() -> float:
        """Bytes a second, read and written."""
        move(values).block_until_ready()
        begin = time.perf_counter()
        moved = values
        for _ in range(COPIES):
            moved = move(moved)
        moved.block_until_ready()
        return 2 * 4 * VALUES * COPIES / (time.perf_counter() - begin)

    return {"jax": jax.__version__, "device": jax.devices()[0].device_kind}, {
        "bandwidth": bandwidth
    }


if __name__ == "__main__":
    serve(start)
