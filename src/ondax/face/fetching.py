"""Observed traces that are fetched where they are needed, a few shots at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from ..gathers import stacked
from .transport import register_host_primitive

fetch_p = Primitive("ondax_fetch")
fetch_p.multiple_results = True


def in_memory(observed: Any) -> bool:
    """Is it an array, or a list of gathers, that lies in memory?"""
    if isinstance(observed, (list, tuple, jax.Array)):
        return True
    return isinstance(observed, np.ndarray) and not isinstance(observed, np.memmap)


def check_count(observed: Any, shots: int) -> None:
    """Check of how many shots there are traces, if that is known: of what has a length.

    Raises:
        ValueError: of more or fewer than so many.
    """
    try:
        count = len(observed)
    except TypeError:
        return
    if count != shots:
        raise ValueError(
            f"observed has traces of {count} shots, but the survey has {shots}: give the traces of "
            "just these shots, or the propagator the survey that the traces were recorded with"
        )


class Source:
    """Anything with `observed[numbers]`. Compared by identity.

    Args:
        observed: gives the traces of shots by their numbers, (shot, [component,] receiver, time);
            or a list of those of each, ([component,] receiver, time).
    """

    def __init__(self, observed: Any) -> None:
        self._observed = observed
        self._calls: dict[Any, Callable[..., tuple[np.ndarray, ...]]] = {}

    def __reduce__(self) -> Any:
        return Source, (self._observed,)

    @property
    def parts(self) -> bool:
        """Has it a `part` for each shot? `observed.of_shots([shot])` makes them."""
        return hasattr(self._observed, "of_shots")

    def part(self, shot: int) -> Source:
        """What gives the traces of one shot, as its only one, and knows of no others: small enough
        to be sent with it."""
        return Source(self._observed.of_shots([shot]))

    def call(self, shape: tuple[int, ...], dtype: str) -> Callable[..., tuple[np.ndarray, ...]]:
        """The one function that fetches traces of a shape."""

        def fetch(shots: Any) -> tuple[np.ndarray, ...]:
            numbers = np.asarray(shots)
            given = self._observed[numbers]
            if isinstance(given, (list, tuple)):
                given = _padded(given, shape, dtype)
            found = np.asarray(given, dtype)
            if found.shape != (*numbers.shape, *shape):
                raise ValueError(
                    f"observed[{numbers.tolist()}] has shape {found.shape}, expected "
                    f"{(*numbers.shape, *shape)}"
                )
            return (found,)

        return self._calls.setdefault((shape, dtype), fetch)


def _padded(gathers: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """One array of gathers ([component,] receiver, time), with zeros where a shot has fewer
    receivers than others. Those of other shapes stay as they are, and are refused."""
    if any(np.shape(g)[:-2] != shape[:-2] or len(np.shape(g)) < 2 for g in gathers):
        return np.asarray(gathers, dtype)
    for gather in gathers:
        receivers, samples = np.shape(gather)[-2:]
        if receivers > shape[-2] or samples != shape[-1]:
            raise ValueError(
                f"observed[...] has a gather of shape {np.shape(gather)}, expected up to {shape}"
            )
    return stacked(gathers, shape, dtype)


def fetched(source: Source, shots: Any, like: Any) -> Any:
    """The observed traces of shots, shaped like the predicted ones."""
    shape, dtype = like.shape[1:], np.dtype(like.dtype).name
    (traces,) = fetch_p.bind(shots, source=source, shape=shape, dtype=dtype)
    return traces


@fetch_p.def_abstract_eval
def _type(shots: Any, *, source: Source, shape: tuple[int, ...], dtype: str) -> Any:
    return [shots.update(shape=(*shots.shape, *shape), dtype=np.dtype(dtype), weak_type=False)]


register_host_primitive(fetch_p, lambda source, shape, dtype: source.call(shape, dtype))


def _batched(operands: Any, axes: Any, **params: Any) -> Any:
    """Whatever the batch, the same shots are fetched once; others one after another."""
    (shots,), (axis,) = operands, axes
    rows = jnp.moveaxis(shots, axis, 0)
    found = [fetch_p.bind(row, **params)[0] for row in rows]
    return [jnp.stack(found)], [0]


batching.primitive_batchers[fetch_p] = _batched


def _constant(primals: Any, tangents: Any, **params: Any) -> Any:
    results = fetch_p.bind(*primals, **params)
    return results, [ad.Zero(jax.typeof(r).to_tangent_aval()) for r in results]


ad.primitive_jvps[fetch_p] = _constant
