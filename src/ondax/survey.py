"""What is shot and what is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ._resolution import check_resolution

Kind = (
    str | Mapping[str, ArrayLike | float] | tuple[str, ...] | list[str] | None
)  # of sources or of receivers


def line(
    first: Sequence[float], last: Sequence[float], count: int
) -> Float[np.ndarray, "point axis"]:
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
class Extended:
    """Sources of a survey that fill the model: weights on its grid, given with each call, times a
    wavelet.

    `F(model, weights=w)` then fires `w(x) * wavelet(t)` in each shot, a density in SI units, so
    that neither traces nor weights change with the grid.

    Args:
        shots: how many.

    Raises:
        ValueError: no shot.
    """

    def __init__(self, shots: int = 1) -> None:
        if shots < 1:
            raise ValueError(f"shots={shots}: a survey needs at least one")
        self.shots = shots


@final
class Survey:
    """Sources, receivers and wavelets of a number of shots. Immutable; two surveys are equal only
    if they are the same.

    Args:
        sources: metres, (shot, axis) for one source a shot, or (shot, source, axis); or
            `Extended(shots)`.
        receivers: metres, (receiver, axis) for the same spread in every shot, or (shot, receiver,
            axis).
        wavelet: source samples from time 0, (time,), (source, time) or (shot, source, time); with
            several components, (time,) or (shot, component, source, time).
        dt: sampling interval of wavelets and traces, seconds.
        source: what the wavelet drives, by the names that the wave equation documents, such as
            "force_z". A name; or a dict of names and weights that share the wavelet, such as a
            moment tensor `{"moment_xx": 1.0, "moment_xz": 0.5}`, each weight a number or (shot,
            source); or a tuple of names, for wavelets with a component axis. Default: the
            equation's first.
        receiver: what traces record, such as "velocity_z". A name; or a dict of names and weights
            that are summed, each a number or (shot, receiver); or a tuple of names, for traces with
            a component axis, (shot, component, receiver, time). Default: the equation's first.

    Attributes:
        sources: (shot, source, axis); no source if extended.
        extended: sources are weights on the whole grid.
        receivers: (shot, receiver, axis).
        wavelet: (shot, source, time), or (shot, component, source, time).

    Raises:
        ValueError: arrays that do not fit together, or are not finite; positions in float32 with
            coordinates so large that they are not told apart to a millimetre.
    """

    sources: Float[np.ndarray, "shot source axis"]
    receivers: Float[np.ndarray, "shot receiver axis"]
    wavelet: Float[np.ndarray, "shot *components source time"]
    dt: float
    source: Kind
    receiver: Kind
    extended: bool

    def __init__(
        self,
        sources: ArrayLike | Extended,
        receivers: ArrayLike,
        wavelet: ArrayLike,
        dt: float,
        *,
        source: Kind = None,
        receiver: Kind = None,
    ) -> None:
        source, receiver = (
            tuple(kind) if isinstance(kind, list) else kind for kind in (source, receiver)
        )
        r, w = _resolved("receivers", receivers), _finite("wavelet", wavelet)
        extended = isinstance(sources, Extended)
        s = (
            np.empty((sources.shots, 0, r.shape[-1]))
            if isinstance(sources, Extended)
            else _resolved("sources", sources)
        )
        given = s.shape
        if s.ndim == 2:
            s = s[:, None, :]
        if s.ndim != 3 or (0 in s.shape and not extended):
            raise ValueError(
                f"sources have shape {given}: give (shot, axis) or (shot, source, axis)"
            )
        if r.ndim == 2:
            r = np.broadcast_to(r, (s.shape[0], *r.shape))
        if r.ndim != 3 or 0 in r.shape or r.shape[0] != s.shape[0] or r.shape[2] != s.shape[2]:
            raise ValueError(
                f"receivers have shape {np.shape(receivers)}: give (receiver, axis) or (shot, "
                "receiver, axis) with "
                f"{s.shape[0]} shots and {s.shape[2]} axes, as the sources have"
            )
        per_shot = 1 if extended else s.shape[1]
        components = (len(source),) if isinstance(source, tuple) else ()
        allowed = (1, 4) if components else (1, 2, 3)
        if w.ndim not in allowed or w.shape[-1] < 2:
            shapes = (
                "(time,) or (shot, component, source, time)"
                if components
                else "(time,), (source, time) or (shot, source, time)"
            )
            raise ValueError(f"the wavelet has shape {np.shape(wavelet)}: give {shapes}")
        try:
            w = np.broadcast_to(w, (s.shape[0], *components, per_shot, w.shape[-1]))
        except ValueError:
            of = f"{components[0]} components of " if components else ""
            raise ValueError(
                f"the wavelet has shape {np.shape(wavelet)}, but there are {s.shape[0]} shots of "
                f"{of}{per_shot} sources"
            ) from None
        number = dt is not None and not isinstance(dt, str) and np.ndim(dt) == 0
        if not (number and 0.0 < dt < np.inf):
            raise ValueError(f"dt={dt!r} must be a positive number of seconds")
        self.__dict__.update(
            sources=s,
            receivers=r,
            wavelet=w,
            dt=float(dt),
            source=_weighted("source", source, (s.shape[0], per_shot)),
            receiver=_weighted("receiver", receiver, r.shape[:2]),
            extended=extended,
        )

    def replace(self, **changes: Any) -> Survey:
        """The same survey but for the arguments given, which are those of `Survey`."""
        own = {
            "sources": Extended(self.n_shots) if self.extended else self.sources,
            "receivers": self.receivers,
            "wavelet": self.wavelet,
            "dt": self.dt,
            "source": self.source,
            "receiver": self.receiver,
        }
        return Survey(**(own | changes))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a survey does not change: survey.replace({name}=...) makes another")

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (self.__dict__,)

    @property
    def n_shots(self) -> int:
        return self.sources.shape[0]

    @property
    def n_sources(self) -> int:
        """Sources fired together in a shot."""
        return 1 if self.extended else self.sources.shape[1]

    @property
    def n_receivers(self) -> int:
        return self.receivers.shape[1]

    @property
    def nt(self) -> int:
        """Samples of wavelets and traces."""
        return self.wavelet.shape[-1]


def _made_again(parts: dict[str, Any]) -> Survey:
    """From a pickle, in which arrays have lost that they must not be written to."""
    survey = object.__new__(Survey)
    for values in parts.values():
        if isinstance(values, np.ndarray):
            values.flags.writeable = False
    survey.__dict__.update(parts)
    return survey


def _weighted(name: str, kind: Kind, shape: tuple[int, ...]) -> Kind:
    """The kind, with weights as arrays (shot, point)."""
    if isinstance(kind, str) or kind is None:
        return kind
    if not kind or not all(isinstance(k, str) for k in kind):
        raise ValueError(
            f"{name}={kind!r}: give a name, a dict of names and weights, or a tuple of names"
        )
    if isinstance(kind, (tuple, list)):
        if len(set(kind)) < len(kind):
            raise ValueError(f"{name}={kind!r} names one component twice")
        return tuple(kind)
    weights = {}
    for k, weight in kind.items():
        values = _finite(f"the weight of {name} {k}", weight)
        try:
            weights[k] = np.broadcast_to(values, shape)
        except ValueError:
            raise ValueError(
                f"the weight of {name} {k} has shape {values.shape}: give a number or {shape}"
            ) from None
    return weights


def _resolved(name: str, values: ArrayLike | float) -> np.ndarray:
    """Positions in double precision, whose digits were not lost before."""
    given = np.asarray(values)
    check_resolution(name, given, given.dtype)
    return _finite(name, given)


def _finite(name: str, values: ArrayLike | float) -> np.ndarray:
    if np.iscomplexobj(values):
        raise ValueError(
            f"{name}: complex values; give real ones, such as .real or np.abs() of them"
        )
    array = np.array(values, dtype=np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(array))} values are not finite")
    array.flags.writeable = False
    return array
