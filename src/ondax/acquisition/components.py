"""Between the wavelets and traces of a survey and the ports of a scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..fibre import Fibre
from ..scheme.plan import PlannedPort
from ..survey import Kind


class Components:
    """Which ports the points of a survey feed or read, and with what weights. Equal if they do the
    same to arrays.

    A fibre reads velocities at the two ends of its gauge length. So where there is one, a receiver
    has several places, and each of them reads every port: the rows of a port are ordered by
    receiver and place.

    Args:
        what: "source" or "receiver", for messages.
        kind: as given to the survey.
        ports: what the scheme offers.

    Attributes:
        ports: those chosen, in order.
        places: of each point.

    Raises:
        ValueError: a name that the scheme does not offer.
    """

    def __init__(self, what: str, kind: Kind, ports: Sequence[PlannedPort]) -> None:
        self._offered, self._what = {p.name: p for p in ports}, what
        given: tuple[Any, ...] = (
            (ports[0].name,)
            if kind is None
            else (kind,)
            if isinstance(kind, (str, Fibre))
            else tuple(kind)
        )
        fibres = [k for k in given if isinstance(k, Fibre)]
        self._velocities = self._velocities_of(fibres[0]) if fibres else ()
        names = tuple(dict.fromkeys([*(k for k in given if isinstance(k, str)), *self._velocities]))
        for name in names:
            if name not in self._offered:
                offers = ", ".join(self._offered)
                raise ValueError(f"{what}={name!r}: this equation offers {offers}")
        self.ports = tuple(self._offered[name] for name in names)
        self.stacked = isinstance(kind, tuple)
        self.places, self._offsets, self._weights = 1, None, None
        if isinstance(kind, Mapping):
            weights = [np.asarray(kind[n], np.float64) for n in names]
            if all(w.strides[0] == 0 for w in weights):  # the same in all shots
                weights = [w[:1] for w in weights]
            by_port = np.stack(weights, axis=1)  # (shot, port, point)
            self._weights = by_port[:, None, :, :, None]
        elif fibres:
            self._lay(given, names)
        content = [
            None if a is None else (a.shape, a.tobytes()) for a in (self._weights, self._offsets)
        ]
        self._key = names, self.stacked, tuple(content)
        self._hash = hash(self._key)

    def _velocities_of(self, fibre: Fibre) -> tuple[str, ...]:
        """The ports that a fibre reads, by axis.

        Raises:
            ValueError: the scheme does not offer them.
        """
        axes = {1: "z", 2: "xz", 3: "xyz"}[fibre.direction.shape[-1]]
        names = tuple(f"velocity_{axis}" for axis in axes)
        if missing := [n for n in names if n not in self._offered]:
            raise ValueError(
                f"{self._what}={fibre!r} reads {', '.join(missing)}, and this equation offers "
                f"{', '.join(self._offered)}: take Elastic or AcousticDensity"
            )
        return names

    def _lay(self, given: tuple[Any, ...], names: tuple[str, ...]) -> None:
        """The places of receivers, from where they are, (shot, receiver, place, axis), and the
        weights of what is read there, (shot, component, port, receiver, place)."""
        tangents = {k: k.tangents() for k in given if isinstance(k, Fibre)}
        lead = np.broadcast_shapes(*(t.shape[:2] for t in tangents.values()))
        axes = len(self._velocities)
        offsets = [] if len(tangents) == len(given) else [np.zeros((*lead, axes))]
        ends = {}
        for fibre, t in tangents.items():
            ends[fibre] = len(offsets)
            offsets += [np.broadcast_to(s * fibre.gauge / 2 * t, (*lead, axes)) for s in (1, -1)]
        self.places, self._offsets = len(offsets), np.stack(offsets, axis=2)
        weights = np.zeros((lead[0], len(given), len(names), lead[1], self.places))
        for n, kind in enumerate(given):
            if isinstance(kind, str):
                weights[:, n, names.index(kind), :, 0] = 1.0
                continue
            for axis, name in enumerate(self._velocities):
                rate = tangents[kind][..., axis] / kind.gauge
                weights[:, n, names.index(name), :, ends[kind]] = rate
                weights[:, n, names.index(name), :, ends[kind] + 1] = -rate
        self._weights = weights

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Components) and self._key == other._key)

    @property
    def alike(self) -> bool:
        """Are the weights the same in all shots?"""
        return self._weights is None or len(self._weights) == 1

    @property
    def reach(self) -> float:
        """How far from a point its places are at most, metres."""
        if self._offsets is None:
            return 0.0
        return float(np.max(np.linalg.norm(self._offsets, axis=-1)))

    def placed(self, points: np.ndarray, shots: np.ndarray) -> np.ndarray:
        """The places of points.

        Args:
            points: metres, (*batch, shot, point, axis); perhaps the first ones of each shot only.
            shots: their numbers, (*batch, shot).

        Returns:
            Metres, (*batch, shot, point and place, axis).
        """
        if self._offsets is None:
            return points
        offsets = self._offsets if len(self._offsets) == 1 else self._offsets[shots]
        apart = points[..., None, :] + offsets[..., : points.shape[-2], :, :]
        return apart.reshape(*apart.shape[:-3], -1, apart.shape[-1])

    def placed_pairs(self, pairs: Any, shots: Any, xp: Any) -> Any:
        """Likewise, of all points of some shots, as pairs that sum to coordinates, (shot, point,
        axis, 2)."""
        if self._offsets is None:
            return pairs
        offsets = xp.asarray(self._offsets, pairs.dtype)
        offsets = offsets if len(offsets) == 1 else offsets[shots]
        high, low = pairs[..., None, :, 0], pairs[..., None, :, 1] + offsets
        apart = xp.stack([xp.broadcast_to(high, low.shape), low], axis=-1)
        return apart.reshape(apart.shape[0], -1, *apart.shape[-2:])

    def rows(self, samples: Any, shots: Any, xp: Any) -> Any:
        """From (shot, [component,] point, time) to (shot, port, point and place, time), the middle
        axes in one."""
        if self._weights is None and not self.stacked:
            return samples
        if self._weights is not None:
            apart = samples if self.stacked else samples[:, None]
            weights = self._of(shots, samples.dtype, xp)
            samples = (apart[:, :, None, :, None] * weights).sum(axis=1)
        return samples.reshape(samples.shape[0], -1, samples.shape[-1])

    def collected(self, rows: Any, shots: Any, xp: Any) -> Any:
        """From (shot, port, point and place, time) to (shot, [component,] point, time): the
        transpose of `rows`."""
        if self._weights is None and not self.stacked:
            return rows
        count, _, samples = rows.shape
        if self._weights is None:
            return rows.reshape(count, len(self.ports), -1, samples)
        apart = rows.reshape(count, 1, len(self.ports), -1, self.places, samples)
        found = (apart * self._of(shots, rows.dtype, xp)).sum(axis=(2, 4))
        return found if self.stacked else found[:, 0]

    def _of(self, shots: Any, dtype: Any, xp: Any) -> Any:
        """The weights of some shots, (shot, component, port, point, place, 1)."""
        weights = xp.asarray(self._weights, dtype)
        return (weights if self.alike else weights[shots])[..., None]

    def over_ports(self, by_row: Any, points: int) -> Any:
        """The sum over ports and places of (..., port, point and place, axis): all share the
        points' positions."""
        lead, axes = by_row.shape[:-2], by_row.shape[-1]
        return by_row.reshape(*lead, -1, points, self.places, axes).sum(axis=(-4, -2))

    def of_ports(self, by_point: Any, ports: int, xp: Any) -> Any:
        """The transpose of `over_ports`: (..., port, point and place, axis), from (..., point,
        axis)."""
        *lead, points, axes = by_point.shape
        apart = by_point[..., None, :, None, :]
        apart = xp.broadcast_to(apart, (*lead, ports, points, self.places, axes))
        return apart.reshape(*lead, -1, axes)
