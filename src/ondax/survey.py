"""What is shot and what is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


def line(first: Sequence[float], last: Sequence[float], count: int) -> Float[np.ndarray, "point axis"]:
    """Evenly spaced points on a straight line, ends included.

    Args:
        first: coordinates of the first point, metres.
        last: coordinates of the last point, metres.
        count: number of points.

    Raises:
        ValueError: fewer than one point, or ends of different dimension.
    """
    if count < 1:
        raise ValueError(f"count={count}: a line needs at least one point")
    start, stop = np.asarray(first, np.float64), np.asarray(last, np.float64)
    if start.shape != stop.shape or start.ndim != 1:
        raise ValueError(f"the ends {first!r} and {last!r} must be points of the same dimension")
    return np.linspace(start, stop, count)


@final
class Survey:
    """Sources, receivers and wavelets of a number of shots. Immutable; two surveys are equal only if they are the same.

    Args:
        sources: metres, (shot, axis) for one source a shot, or (shot, source, axis).
        receivers: metres, (receiver, axis) for the same spread in every shot, or (shot, receiver, axis).
        wavelet: source samples from time 0, (time,), (source, time) or (shot, source, time).
        dt: sampling interval of wavelets and traces, seconds.

    Attributes:
        sources: (shot, source, axis).
        receivers: (shot, receiver, axis).
        wavelet: (shot, source, time).

    Raises:
        ValueError: arrays that do not fit together, or are not finite.
    """

    sources: Float[np.ndarray, "shot source axis"]
    receivers: Float[np.ndarray, "shot receiver axis"]
    wavelet: Float[np.ndarray, "shot source time"]
    dt: float

    def __init__(self, sources: ArrayLike, receivers: ArrayLike, wavelet: ArrayLike, dt: float) -> None:
        s, r, w = (_finite(n, a) for n, a in (("sources", sources), ("receivers", receivers), ("wavelet", wavelet)))
        if s.ndim == 2:
            s = s[:, None, :]
        if s.ndim != 3 or 0 in s.shape:
            raise ValueError(f"sources have shape {np.shape(sources)}: give (shot, axis) or (shot, source, axis)")
        if r.ndim == 2:
            r = np.broadcast_to(r, (s.shape[0], *r.shape))
        if r.ndim != 3 or 0 in r.shape or r.shape[0] != s.shape[0] or r.shape[2] != s.shape[2]:
            raise ValueError(
                f"receivers have shape {np.shape(receivers)}: give (receiver, axis) or (shot, receiver, axis) with "
                f"{s.shape[0]} shots and {s.shape[2]} axes, as the sources have"
            )
        if not 1 <= w.ndim <= 3 or w.shape[-1] < 2:
            raise ValueError(
                f"the wavelet has shape {np.shape(wavelet)}: give (time,), (source, time) or (shot, source, time)"
            )
        try:
            w = np.broadcast_to(w, (*s.shape[:2], w.shape[-1]))
        except ValueError:
            raise ValueError(
                f"the wavelet has shape {np.shape(wavelet)}, but there are {s.shape[0]} shots of {s.shape[1]} sources"
            ) from None
        if not (np.isfinite(dt) and dt > 0.0):
            raise ValueError(f"dt={dt!r} must be a positive number of seconds")
        self.sources, self.receivers, self.wavelet, self.dt = s, r, w, float(dt)

    @property
    def n_shots(self) -> int:
        return self.sources.shape[0]

    @property
    def n_sources(self) -> int:
        """Sources fired together in a shot."""
        return self.sources.shape[1]

    @property
    def n_receivers(self) -> int:
        return self.receivers.shape[1]

    @property
    def nt(self) -> int:
        """Samples of wavelets and traces."""
        return self.wavelet.shape[2]


def _finite(name: str, values: ArrayLike) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(array))} values are not finite")
    array.flags.writeable = False
    return array
