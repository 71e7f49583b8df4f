"""The learned iteration: gradient steps through the wave equation, alternating with small
convolutional blocks.

After Adler and Oktem, "Solving ill-posed inverse problems using iterative deep neural networks",
Inverse Problems 33 (2017), and Putzky and Welling, "Recurrent inference machines for solving
inverse problems", arXiv:1706.04008.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .problem import Problem

ITERATIONS, MEMORY, CHANNELS = 5, 6, 32


class Block(eqx.Module):
    """One learned step: `x - step g + correction(x, g, depth, memory)`, and the memory for the
    next.

    The background is left out on purpose: it is a smoothed copy of the true model, and a network
    that reads it could sharpen it instead of reading the data. It acts through the wave equation
    only, as in least-squares migration.

    The convolutions work on 2 x 2 points at a time, put into channels: four times fewer
    multiplications, twice the reach. The last one starts at zero, so an untrained network is
    gradient descent.
    """

    first: eqx.nn.Conv2d
    middle: list[eqx.nn.Conv2d]
    last: eqx.nn.Conv2d
    step: Array

    def __init__(self, key: Array, channels: int, memory: int) -> None:
        keys = jax.random.split(key, 4)
        self.first = eqx.nn.Conv2d(
            4 * (3 + memory), channels, 3, padding=1, padding_mode="REPLICATE", key=keys[0]
        )
        self.middle = [
            eqx.nn.Conv2d(channels, channels, 3, padding=1, padding_mode="REPLICATE", key=k)
            for k in keys[1:3]
        ]
        last = eqx.nn.Conv2d(
            channels, 4 * (1 + memory), 3, padding=1, padding_mode="REPLICATE", key=keys[3]
        )
        self.last = jax.tree.map(lambda w: 0.0 * w, last)
        self.step = jnp.asarray(0.5)

    def __call__(self, x: Array, g: Array, depth: Array, memory: Array) -> tuple[Array, Array]:
        h = self.first(folded(jnp.concatenate([x[None], g[None], depth[None], memory])))
        for layer in self.middle:
            h = h + layer(jax.nn.silu(h))
        change = unfolded(self.last(jax.nn.silu(h)))
        return x - self.step * g + change[0], change[1:]


class Unrolled(eqx.Module):
    """A fixed number of learned steps from the image zero.

    Args:
        key: of the random first weights.
        iterations: steps; the wave equation is solved `2 iterations - 1` times for one image.
        channels: of the hidden layers.
        memory: images handed from step to step.
    """

    blocks: list[Block]
    memory: int = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        iterations: int = ITERATIONS,
        channels: int = CHANNELS,
        memory: int = MEMORY,
    ):
        self.blocks = [Block(k, channels, memory) for k in jax.random.split(key, iterations)]
        self.memory = memory

    def __call__(
        self,
        problem: Problem,
        vp0: Float[Array, "x z"],
        shot: Int[Array, ""],
        data: Float[Array, "receiver time"],
    ) -> Float[Array, "x z"]:
        """The image of one record."""
        depth = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, vp0.shape[1], dtype=vp0.dtype), vp0.shape)
        memory = jnp.zeros((self.memory, *vp0.shape), vp0.dtype)
        x = jnp.zeros_like(vp0)
        for k, block in enumerate(self.blocks):
            g = problem.gradient(vp0, shot, None if k == 0 else x, data)
            x, memory = eqx.filter_checkpoint(block)(x, g, depth, memory)
            x = problem.mask * x
        return x


def folded(images: Float[Array, "channel x z"]) -> Float[Array, "channel4 x2 z2"]:
    """2 x 2 points into channels."""
    c, nx, nz = images.shape
    return (
        images.reshape(c, nx // 2, 2, nz // 2, 2)
        .transpose(0, 2, 4, 1, 3)
        .reshape(4 * c, nx // 2, nz // 2)
    )


def unfolded(images: Float[Array, "channel4 x2 z2"]) -> Float[Array, "channel x z"]:
    """The inverse of `folded`."""
    c, nx, nz = images.shape
    return (
        images.reshape(c // 4, 2, 2, nx, nz)
        .transpose(0, 3, 1, 4, 2)
        .reshape(c // 4, 2 * nx, 2 * nz)
    )
