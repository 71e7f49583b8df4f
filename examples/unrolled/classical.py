"""What the network competes with: migration, and least-squares migration by gradient descent and
conjugate gradients.

All use the network's preconditioner P, and with it the mute of the known rows. They minimise
`|J x - data|^2` over x in the range of P; every iterate is kept, so that one can stop at the best.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .problem import Problem

Images = Float[Array, "iteration x z"]


def migrated(problem: Problem, vp0: Array, shot: Array, data: Array) -> Float[Array, "x z"]:
    """The preconditioned migration image: minus the first gradient. One wave solve."""
    return -problem.gradient(vp0, shot, None, data)


def descent(problem: Problem, vp0: Array, shot: Array, data: Array, iterations: int) -> Images:
    """Steepest descent, each step the best along its direction. Two wave solves an iteration."""

    def step(carry, _):
        x, residual = carry
        raw = problem.migrate(vp0, shot, residual)
        direction = problem.precondition * raw
        change = problem.born(vp0, shot, direction)
        length = jnp.vdot(raw, direction) / jnp.vdot(change, change)
        x, residual = x + length * direction, residual - length * change
        return (x, residual), x

    return jax.lax.scan(step, (jnp.zeros_like(vp0), data), length=iterations)[1]


def conjugate(problem: Problem, vp0: Array, shot: Array, data: Array, iterations: int) -> Images:
    """Conjugate gradients on the normal equations (CGLS, Hestenes and Stiefel 1952),
    preconditioned. Two wave solves an iteration. Written out here because a library's solver
    returns the last iterate only."""

    def step(carry, _):
        x, residual, direction, size = carry
        raw = problem.migrate(vp0, shot, residual)
        steepest = problem.precondition * raw
        now = jnp.vdot(raw, steepest)
        direction = steepest + jnp.where(size > 0.0, now / size, 0.0) * direction
        change = problem.born(vp0, shot, direction)
        length = now / jnp.vdot(change, change)
        x, residual = x + length * direction, residual - length * change
        return (x, residual, direction, now), x

    zeros = jnp.zeros_like(vp0)
    start = (zeros, data, zeros, jnp.zeros((), vp0.dtype))
    return jax.lax.scan(step, start, length=iterations)[1]
