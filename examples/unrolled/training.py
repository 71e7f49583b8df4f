"""Training: fresh random models every step, Adam, and a state on disk that outlives an
interruption."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from . import models
from .network import Unrolled
from .problem import Problem

UNSEEN_ENCODINGS = 0.25  # the last encodings of the survey, by their share, are kept for evaluation


@dataclass(frozen=True)
class Plan:
    """How to train. A run is a function of its plan, problem and first network: same plan, same
    bits.

    Attributes:
        steps: optimiser steps, each on new models.
        batch: models a step.
        rate: largest step length of Adam; it rises over the first twentieth of the steps and falls
            as a cosine.
        seed: of models, encodings and noise.
        save_every: steps between two states on disk.
    """

    steps: int = 300
    batch: int = 4
    rate: float = 2e-3
    seed: int = 0
    save_every: int = 20

    def optimizer(self) -> optax.GradientTransformation:
        rates = optax.warmup_cosine_decay_schedule(
            0.0, self.rate, max(self.steps // 20, 1), self.steps
        )
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rates))


class State(NamedTuple):
    """All that a run hands from step to step; `losses` has one number per step of the plan, zero
    for those to come."""

    network: Unrolled
    optimizer: optax.OptState
    step: Array
    losses: Float[Array, " step"]


def loss(
    network: Unrolled, problem: Problem, vp0: Array, x: Array, shots: Array, keys: Array
) -> Float[Array, ""]:
    """Mean over a batch of the squared relative error, from new noisy Born data of the images
    `x`."""

    def error(vp0: Array, x: Array, shot: Array, key: Array) -> Array:
        clean = problem.born(vp0, shot, x)
        data = jax.lax.stop_gradient(clean + problem.noise(key, clean))
        return jnp.sum((network(problem, vp0, shot, data) - x) ** 2) / jnp.sum(x**2)

    return jnp.mean(jax.vmap(error)(vp0, x, shots, keys))


def batch(problem: Problem, plan: Plan, step: int) -> tuple[Array, Array, Array, Array]:
    """Backgrounds, images, shots and keys of one step."""
    layout = problem.layout
    rng = np.random.default_rng([plan.seed, step])
    pairs = [
        models.sample(rng, layout.shape, layout.spacing, "training") for _ in range(plan.batch)
    ]
    vp0, x = (jnp.asarray(np.stack(arrays)) for arrays in zip(*pairs, strict=True))
    seen = int((1 - UNSEEN_ENCODINGS) * layout.encodings)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(plan.seed), step), plan.batch)
    return vp0, x, jnp.asarray(rng.integers(0, seen, plan.batch)), keys


@eqx.filter_jit
def update(
    state: State, problem: Problem, plan: Plan, vp0: Array, x: Array, shots: Array, keys: Array
) -> tuple[State, Array]:
    value, slope = eqx.filter_value_and_grad(loss)(state.network, problem, vp0, x, shots, keys)
    with jax.numpy_dtype_promotion(
        "standard"
    ):  # optax mixes dtypes, also for those who forbid it elsewhere
        change, memory = plan.optimizer().update(slope, state.optimizer)
    losses = state.losses.at[state.step].set(value)
    return State(eqx.apply_updates(state.network, change), memory, state.step + 1, losses), value


def train(
    problem: Problem,
    network: Unrolled,
    plan: Plan,
    save: Path | None = None,
    *,
    stop_after: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> State:
    """Trains a network, or goes on where a saved run stopped.

    Args:
        problem: gives data and gradients.
        network: where to begin.
        plan: how to train.
        save: the file of the state, written now and then and at the end.
        stop_after: leave early, after this step of the plan.
        tell: receives a line now and then.

    Raises:
        ValueError: if `save` holds the state of another run; says what to do.
    """
    state = State(
        network,
        plan.optimizer().init(eqx.filter(network, eqx.is_array)),
        jnp.zeros((), jnp.int32),
        jnp.zeros(plan.steps, jnp.float32),
    )
    if save is not None and save.exists():
        state = load_state(save, state, problem, plan)
        tell(f"going on after step {int(state.step)} from {save}")
    last = plan.steps if stop_after is None else min(stop_after, plan.steps)
    started, first = time.perf_counter(), int(state.step)
    for step in range(first, last):
        state, value = update(state, problem, plan, *batch(problem, plan, step))
        if not np.isfinite(value):
            raise FloatingPointError(
                f"the loss of step {step} is {float(value)}; use a lower rate than {plan.rate:g}"
            )
        done = step + 1
        if done % plan.save_every == 0 or done == last:
            recent = np.asarray(state.losses[max(done - plan.save_every, 0) : done])
            pace = (time.perf_counter() - started) / (done - first)
            tell(
                f"step {done:5d} of {plan.steps}: mean loss {recent.mean():.4f}, {pace:.2f} s a "
                "step"
            )
            if save is not None:
                save_state(save, state, problem, plan)
    return state


def save_state(path: Path, state: State, problem: Problem, plan: Plan) -> None:
    """Writes beside the file and renames, so that a kill at any moment leaves a whole state."""
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "wb") as file:
        file.write((_description(problem, plan) + "\n").encode())
        eqx.tree_serialise_leaves(file, state)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_state(path: Path, like: State, problem: Problem, plan: Plan) -> State:
    with open(path, "rb") as file:
        found, wanted = (
            file.readline().decode(errors="replace").strip(),
            _description(problem, plan),
        )
        if found != wanted:
            raise ValueError(
                f"{path} was saved by another run, {found[:400]}; this one is {wanted}. Delete the "
                "file to start afresh, "
                "or give the same settings to go on"
            )
        return eqx.tree_deserialise_leaves(file, like)


def _description(problem: Problem, plan: Plan) -> str:
    return json.dumps({"plan": asdict(plan), "layout": asdict(problem.layout)}, sort_keys=True)


def save_weights(path: Path, network: Unrolled) -> None:
    """Writes the weights in half precision: half the size, and far finer than the noise of
    training."""
    eqx.tree_serialise_leaves(path, _cast(network, jnp.float16))


def load_weights(path: Path, like: Unrolled) -> Unrolled:
    """Reads weights into a network of the same make."""
    return _cast(eqx.tree_deserialise_leaves(path, _cast(like, jnp.float16)), jnp.float32)


def _cast(network: Unrolled, dtype: jnp.dtype) -> Unrolled:
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_array(leaf) else leaf, network)
