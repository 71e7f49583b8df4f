"""Simultaneous shots: all sources of a survey fired together, with random polarities."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from ..propagator import Propagator
from ..survey import Kind, Survey

Codes = Float[Array | np.ndarray, "supershot shot"]


def polarities(
    iteration: int, encodings: int, n_shots: int, seed: int
) -> Float32[np.ndarray, "supershot shot"]:
    """The signs of one iteration, 1 or -1; they depend on the arguments only, so a resumed
    inversion sees the same."""
    return np.random.default_rng([seed, iteration]).choice(
        np.array([-1.0, 1.0], np.float32), (encodings, n_shots)
    )


def encoded_propagator(F: Propagator, encodings: int) -> Propagator:
    """Modelling of so many super-shots, each of which fires every source of the survey; the
    wavelets are passed at run time.

    Raises:
        ValueError: if the shots do not have the same receivers.
    """
    survey = F.survey
    if not np.array_equal(
        survey.receivers, np.broadcast_to(survey.receivers[:1], survey.receivers.shape)
    ):
        raise ValueError(
            f"encodings={encodings} sums traces of different shots, but the shots have receivers "
            "at different places. "
            "Put all their receivers into every shot, with zeros for what was not recorded (and "
            "those traces muted), or "
            "use batch_size in place of encodings"
        )
    # (shot, [component,] source, time) -> (supershot, [component,] shot and source, time)
    together = encoded_wavelets(np.ones((encodings, survey.n_shots)), survey.wavelet, np)
    sources = survey.sources.reshape(-1, survey.sources.shape[-1])
    return F.with_survey(
        Survey(
            np.broadcast_to(sources, (encodings, *sources.shape)),
            survey.receivers[0],
            together if survey.wavelet.ndim == 4 else together.reshape(encodings, -1, survey.nt),
            survey.dt,
            source=_of_all_shots(survey.source, encodings),
            receiver=_of_any_shot(survey.receiver),
        )
    )


def encoded_wavelets(codes: Any, wavelet: Any, xp: Any = jnp) -> Any:
    """Wavelets (supershot, [component,] shot and source, time) of wavelets (shot, [component,]
    source, time)."""
    shots_last = xp.moveaxis(wavelet, 0, -3)  # ([component,] shot, source, time)
    coded = codes.reshape(codes.shape[0], *(1,) * (shots_last.ndim - 3), -1, 1, 1) * shots_last
    return coded.reshape(*coded.shape[:-3], -1, coded.shape[-1])


def encoded_traces(codes: Codes, traces: Float[Array, "shot *components receiver time"]) -> Array:
    """What receivers hear of all shots together, (supershot, [component,] receiver, time)."""
    return jnp.tensordot(codes, traces, axes=1)


def _of_all_shots(kind: Kind, encodings: int) -> Kind:
    """Weights (shot, source) laid out as those of one shot."""
    if not isinstance(kind, Mapping):
        return kind
    flat = {name: np.reshape(weight, -1) for name, weight in kind.items()}
    return {
        name: np.broadcast_to(weight, (encodings, weight.size)) for name, weight in flat.items()
    }


def _of_any_shot(kind: Kind) -> Kind:
    """Weights (receiver), which must not depend on the shot."""
    if not isinstance(kind, Mapping):
        return kind
    for name, weight in kind.items():
        if not np.array_equal(weight, np.broadcast_to(np.asarray(weight)[:1], np.shape(weight))):
            raise ValueError(
                f"encodings sums traces of different shots, but the weights of receiver {name} "
                "differ from shot to shot: "
                "give every shot the same, or use batch_size in place of encodings"
            )
    return {name: np.asarray(weight)[0] for name, weight in kind.items()}
