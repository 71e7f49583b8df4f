"""Run by itself, with arguments `CASE HISTORY`: bytes of memory that a gradient takes at its peak,
beyond the process before it.

The process before it has everything imported, built and compiled, but has run nothing on this grid.
"""

from __future__ import annotations

import sys
from pathlib import Path


def peak_memory() -> int:
    """Bytes of the process's peak since the last `reset_peak`."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    import jax

    from .cases import CASES
    from .ondax_contender import loss_function, ox, propagator

    name, history = sys.argv[1:]
    model, velocity = propagator(CASES[name], ox.Settings(history=history))
    compiled = jax.jit(jax.value_and_grad(loss_function(model))).lower(velocity).compile()
    reset_peak()
    base = peak_memory()
    jax.block_until_ready(compiled(velocity))
    print(peak_memory() - base)
