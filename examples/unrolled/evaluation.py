"""The comparison on models never seen in training: migration, least-squares migration and the
unrolled network."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import metrics, models
from .classical import conjugate, descent, migrated
from .network import Unrolled
from .problem import UNIT, Problem
from .training import UNSEEN_ENCODINGS

SEED = 20_000  # beyond any step of training, whose seeds are (seed, step)
LONG = 20  # iterations of the long least-squares migration
BATCH = 4
RTM, DESCENT, CONJUGATE, LONGER, UNROLLED, CONTROL = METHODS = (
    "RTM, best scalar",
    "LS-RTM, steepest descent",
    "LS-RTM, conjugate gradients",
    "LS-RTM, conjugate gradients, long",
    "unrolled",
    "unrolled, another model's record",
)


class Case(NamedTuple):
    """What one model is migrated from; arrays may have a leading batch axis."""

    vp0: Float[Array, "*model x z"]
    x: Float[Array, "*model x z"]
    shot: Array
    data: Float[Array, "*model receiver time"]


class Outcome(NamedTuple):
    """Images and scores.

    Attributes:
        true: (model, x, z).
        images: by method, (model, x, z).
        scores: by method, (model, 3): SNR in dB, SSIM, relative error.
        solves: by method, wave solves for one image, the background's own not counted, which all
            need.
    """

    true: np.ndarray
    images: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]
    solves: dict[str, int]


def unseen(problem: Problem, count: int, *, nonlinear: bool = False) -> Case:
    """Cases for evaluation, in turn layered and from the part of the Overthrust section kept from
    training, each with an encoding that training did not use.

    Args:
        problem: gives data and noise.
        count: of models.
        nonlinear: the data are `F(vp) - F(vp0)`, with all multiples, instead of Born data.
    """
    layout = problem.layout
    pairs = []
    for i in range(count):
        rng = np.random.default_rng([SEED, i])
        if i % 2 == 0:
            vp = models.layers(rng, layout.shape)
        else:
            vp = models.overthrust_window(rng, layout.shape, layout.spacing, "evaluation")
        pairs.append(models.split(vp))
    vp0, x = (jnp.asarray(np.stack(arrays)) for arrays in zip(*pairs, strict=True))
    first = int((1 - UNSEEN_ENCODINGS) * layout.encodings)
    shots = first + jnp.arange(count) % (layout.encodings - first)
    keys = jax.random.split(jax.random.key(SEED), count)

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(None, 0, 0, 0, 0))
    def record(problem: Problem, vp0: Array, x: Array, shot: Array, key: Array) -> Array:
        F = problem.propagator
        if nonlinear:
            clean = (F(vp0 * (1 + UNIT * x), shots=shot[None]) - F(vp0, shots=shot[None]))[0]
        else:
            clean = problem.born(vp0, shot, x)
        return clean + problem.noise(key, clean)

    parts = [slice(i, i + BATCH) for i in range(0, count, BATCH)]
    data = jnp.concatenate([record(problem, vp0[p], x[p], shots[p], keys[p]) for p in parts])
    return Case(vp0, x, shots, data)


def compare(problem: Problem, network: Unrolled, cases: Case, *, long: int = LONG) -> Outcome:
    """Images and scores of all methods.

    The competitors get what no real migration has: the scalar that fits the true image best and,
    for least squares, the iterate (up to the number of iterations) that does so. The network gets
    neither. As a control it also runs on the record of another model: what it then still finds
    would come from the background, not from data.

    Args:
        problem: that of the cases.
        network: trained.
        cases: a batch of them.
        long: iterations of the long run, a reference with many more solves.
    """
    steps = len(network.blocks)

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(None, None, 0, 0))
    def images(problem: Problem, network: Unrolled, case: Case, other: Array) -> dict[str, Array]:
        vp0, x, shot, data = case

        def best(iterates: Array) -> Array:
            scaled = jax.vmap(lambda image: metrics.best_scaled(image, x))(iterates)
            return scaled[jnp.argmin(jax.vmap(lambda image: jnp.sum((image - x) ** 2))(scaled))]

        conjugates = conjugate(problem, vp0, shot, data, long)
        return {
            RTM: metrics.best_scaled(migrated(problem, vp0, shot, data), x),
            DESCENT: best(descent(problem, vp0, shot, data, steps)),
            CONJUGATE: best(conjugates[:steps]),
            LONGER: best(conjugates),
            UNROLLED: network(problem, vp0, shot, data),
            CONTROL: network(problem, vp0, shot, other),
        }

    @jax.jit
    @jax.vmap
    def score(image: Array, true: Array) -> Array:
        return jnp.stack(
            [f(image, true) for f in (metrics.snr, metrics.ssim, metrics.relative_error)]
        )

    others = jnp.roll(cases.data, 1, axis=0)
    starts = range(0, len(cases.x), BATCH)
    parts = [(Case(*(a[i : i + BATCH] for a in cases)), others[i : i + BATCH]) for i in starts]
    found = [images(problem, network, *part) for part in parts]
    together = {name: jnp.concatenate([part[name] for part in found]) for name in METHODS}
    return Outcome(
        true=np.asarray(cases.x),
        images={name: np.asarray(image) for name, image in together.items()},
        scores={name: np.asarray(score(image, cases.x)) for name, image in together.items()},
        solves=dict(
            zip(
                METHODS,
                (1, 2 * steps, 2 * steps, 2 * long, 2 * steps - 1, 2 * steps - 1),
                strict=True,
            )
        ),
    )


def gain(outcome: Outcome, method: str, over: str) -> np.ndarray:
    """SNR of one method minus that of another, model by model, dB."""
    return outcome.scores[method][:, 0] - outcome.scores[over][:, 0]


def table(outcome: Outcome) -> str:
    """Mean and standard deviation over models of every score, and the gains model by model."""
    rows = [f"{'':36}{'solves':>7}{'SNR (dB)':>16}{'SSIM':>16}{'relative error':>17}"]
    for name, scores in outcome.scores.items():
        mean, spread = scores.mean(axis=0), scores.std(axis=0, ddof=1)
        cells = [f"{m:.2f} +- {s:.2f}" for m, s in zip(mean, spread, strict=True)]
        rows.append(f"{name:36}{outcome.solves[name]:>7}{cells[0]:>16}{cells[1]:>16}{cells[2]:>17}")
    for method, over in (
        (DESCENT, RTM),
        (CONJUGATE, RTM),
        (UNROLLED, CONJUGATE),
        (UNROLLED, LONGER),
    ):
        gains = gain(outcome, method, over)
        rows.append(
            f"gain of {method} over {over}: {gains.mean():.2f} +- {gains.std(ddof=1):.2f} dB, "
            f"least {gains.min():.2f}, largest {gains.max():.2f}"
        )
    return "\n".join(rows)
