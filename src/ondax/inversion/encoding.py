"""Simultaneous shots: all sources of a survey fired together, with random polarities."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from ..fibre import Fibre
from ..propagator import Propagator
from ..survey import Kind

Codes = Float[Array | np.ndarray, "supershot shot"]


def polarities(
    iteration: int, encodings: int, n_shots: int, seed: int
) -> Float32[np.ndarray, "supershot shot"]:
    """Random signs, 1 or -1, of every shot in every super-shot of one iteration.

    They depend on the arguments only, so a resumed inversion sees the same.
    """
    return np.random.default_rng([seed, iteration]).choice(
        np.array([-1.0, 1.0], np.float32), (encodings, n_shots)
    )


def encoded_propagator(F: Propagator, encodings: int) -> Propagator:
    """The propagator of a survey of `encodings` super-shots, each of which fires every source of
    the given propagator's survey.

    The wavelets of its survey have no polarities yet: pass those of `encoded_wavelets` with each
    call.

    Raises:
        ValueError: the shots do not have the same receivers, or weights of receivers differ from
            shot to shot.
    """
    survey = F.survey
    if survey.weighs_traces and not survey.ragged:
        raise ValueError(
            f"encodings={encodings} sums traces of different shots, but some traces have weights "
            "(Survey(trace_weights=...)): a dead trace would be missing in a sum of others. Use "
            "batch_size in place of encodings"
        )
    if not survey.points[1].shared:
        raise ValueError(
            f"encodings={encodings} sums traces of different shots, but the shots have receivers "
            "at different places. Put all their receivers into every shot, with zeros for what was "
            "not recorded (and those traces muted), or use batch_size in place of encodings"
        )
    # (shot, [component,] source, time) -> (supershot, [component,] shot and source, time)
    together = encoded_wavelets(np.ones((encodings, survey.n_shots)), survey.wavelet, np)
    if survey.points[0].ragged:
        raise ValueError(
            f"encodings={encodings} fires all shots together, but they have different numbers of "
            "sources: use batch_size in place of encodings"
        )
    sources = survey.sources.reshape(-1, survey.sources.shape[-1])
    samples = survey.wavelet.shape[-1]
    return F.with_survey(
        survey.replace(
            sources=np.broadcast_to(sources, (encodings, *sources.shape)),
            receivers=survey.receivers[0],
            wavelet=together
            if survey.wavelet.ndim == 4
            else together.reshape(encodings, -1, samples),
            source=_of_all_shots(survey.source, encodings),
            receiver=_of_any_shot(survey.receiver),
        )
    )


def encoded_wavelets(codes: Any, wavelet: Any, xp: Any = jnp) -> Any:
    """The wavelets of super-shots: those of all shots, times their codes.

    Args:
        codes: factors of the shots, shape (supershot, shot).
        wavelet: wavelets (shot, [component,] source, time).
        xp: `jax.numpy`, or `numpy` for NumPy arrays.

    Returns:
        Wavelets (supershot, [component,] shot and source, time): the sources of all shots are
        sources of one super-shot.
    """
    shots_last = xp.moveaxis(wavelet, 0, -3)  # ([component,] shot, source, time)
    coded = codes.reshape(codes.shape[0], *(1,) * (shots_last.ndim - 3), -1, 1, 1) * shots_last
    return coded.reshape(*coded.shape[:-3], -1, coded.shape[-1])


def encoded_traces(codes: Codes, traces: Float[Array, "shot *components receiver time"]) -> Array:
    """The traces of super-shots, (supershot, [component,] receiver, time): sums of those of all
    shots, times their codes."""
    return jnp.tensordot(codes, traces, axes=1)


def _of_all_shots(kind: Kind, encodings: int) -> Kind:
    """What the sources of super-shots are: weights (shot, source) become (supershot, shot and
    source), a plain name stays."""
    if not isinstance(kind, Mapping):
        return kind
    flat = {name: np.reshape(weight, -1) for name, weight in kind.items()}
    return {
        name: np.broadcast_to(weight, (encodings, weight.size)) for name, weight in flat.items()
    }


def _of_any_shot(kind: Kind) -> Kind:
    """What the receivers of super-shots are: weights (shot, receiver) become (receiver,), and so
    do the directions of fibres; a plain name stays.

    Raises:
        ValueError: weights or directions differ from shot to shot.
    """
    if isinstance(kind, tuple):
        return tuple(map(_fibre_of_any_shot, kind))
    if not isinstance(kind, Mapping):
        return _fibre_of_any_shot(kind)
    return {name: _same(weight, f"weights of receiver {name}") for name, weight in kind.items()}


def _fibre_of_any_shot(kind: Any) -> Any:
    if not isinstance(kind, Fibre) or kind.direction.ndim == 1:
        return kind
    return kind.along(_same(kind.direction, "directions of a fibre"))


def _same(by_shot: Any, what: str) -> np.ndarray:
    """What all shots have in common.

    Raises:
        ValueError: they differ.
    """
    values = np.asarray(by_shot)
    if not np.array_equal(values, np.broadcast_to(values[:1], values.shape)):
        raise ValueError(
            f"encodings sums traces of different shots, but the {what} differ from shot to shot: "
            "give every shot the same, or use batch_size in place of encodings"
        )
    return values[0]
