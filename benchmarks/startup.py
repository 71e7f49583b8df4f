"""Run by itself: seconds from `import ondax` to the first gradient of case A, on standard
output."""

from __future__ import annotations

import time

if __name__ == "__main__":
    begin = time.perf_counter()
    import jax

    from .cases import CASES
    from .ondax_contender import loss_function, ox, propagator

    model, velocity = propagator(CASES["A"], ox.Settings())
    jax.block_until_ready(jax.jit(jax.value_and_grad(loss_function(model)))(velocity))
    print(time.perf_counter() - begin)
