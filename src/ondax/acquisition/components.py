"""Between the wavelets and traces of a survey and the ports of a scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..scheme.system import Port
from ..survey import Kind


class Components:
    """Which ports the points of a survey feed or read, and with what weights. Equal if they do the
    same to arrays.

    Args:
        what: "source" or "receiver", for messages.
        kind: as given to the survey.
        ports: what the scheme offers.

    Attributes:
        ports: those chosen, in order.

    Raises:
        ValueError: a name that the scheme does not offer.
    """

    def __init__(self, what: str, kind: Kind, ports: Sequence[Port]) -> None:
        offered = {p.name: p for p in ports}
        names = (
            (ports[0].name,) if kind is None else (kind,) if isinstance(kind, str) else tuple(kind)
        )
        for name in names:
            if name not in offered:
                raise ValueError(f"{what}={name!r}: this equation offers {', '.join(offered)}")
        self.ports = tuple(offered[name] for name in names)
        self.stacked = isinstance(kind, tuple)
        self._weights, content = None, None
        if isinstance(kind, Mapping):
            weights = [np.asarray(kind[n], np.float64) for n in names]
            if all(w.strides[0] == 0 for w in weights):  # the same in all shots
                weights = [w[:1] for w in weights]
            self._weights = np.stack(weights, axis=1)  # (shot, port, point)
            content = self._weights.shape, self._weights.tobytes()
        self._key = names, self.stacked, content
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Components) and self._key == other._key)

    @property
    def alike(self) -> bool:
        """Are the weights the same in all shots?"""
        return self._weights is None or len(self._weights) == 1

    def rows(self, samples: Any, shots: Any, xp: Any) -> Any:
        """From (shot, [component,] point, time) to (shot, port and point, time)."""
        if self._weights is not None:
            samples = samples[:, None] * self._of(shots, samples.dtype, xp)
        elif not self.stacked:
            return samples
        return samples.reshape(samples.shape[0], -1, samples.shape[-1])

    def collected(self, rows: Any, shots: Any, xp: Any) -> Any:
        """From (shot, port and point, time) to (shot, [component,] point, time): the transpose of
        `rows`."""
        if self._weights is None and not self.stacked:
            return rows
        apart = rows.reshape(rows.shape[0], len(self.ports), -1, rows.shape[-1])
        return (
            apart
            if self._weights is None
            else (apart * self._of(shots, rows.dtype, xp)).sum(axis=1)
        )

    def _of(self, shots: Any, dtype: Any, xp: Any) -> Any:
        weights = xp.asarray(self._weights, dtype)
        return (weights if self.alike else weights[shots])[..., None]

    def over_ports(self, by_row: Any, points: int) -> Any:
        """The sum over ports of (..., port and point, axis): all ports share the points'
        positions."""
        return by_row.reshape(*by_row.shape[:-2], -1, points, by_row.shape[-1]).sum(axis=-3)
