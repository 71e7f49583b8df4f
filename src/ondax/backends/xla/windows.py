"""Sources and receivers between grid points: windows of weights, made where the run is, so that
positions may be traced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...acquisition.interpolation import derived, place, window_below, window_slopes, window_weights
from ...scheme.plan import Above, Plan, PlannedPort
from ...scheme.system import Touch
from ..domain import Domain
from .boxes import Box, Stored
from .parts import Parts


class Places(NamedTuple):
    """Where the points of some shots are.

    Attributes:
        positions: metres, (shot, point, axis, 2); each pair sums to a coordinate.
        live: which of them there are, (shot, point): shots may have fewer points than others.
        origin: coordinates of the first node of each shot's domain, pairs, (shot, axis, 2).
        on_grid: along each axis, whether all positions are known to lie on nodes, and whether half
            a cell beyond.
    """

    positions: Any
    live: Any
    origin: Any
    on_grid: tuple[tuple[bool, bool], ...]


class _Line(NamedTuple):
    """Windows along one axis: first grid index, (shot, point), and weights, (shot, point, tap)."""

    first: Any
    weights: Any


@dataclass(frozen=True)
class _Window:
    """What a port does to one field.

    Attributes:
        touch: of the port.
        lines: windows along each axis.
        slopes: likewise, of derivatives by position, per metre; empty where nobody asked.
        rows: windows as rows of the whole grid, (shot, point, grid point), along each axis; empty
            for many points.
    """

    touch: Touch
    lines: tuple[_Line, ...]
    slopes: tuple[_Line, ...]
    rows: tuple[Any, ...]


class Points:
    """The points of one port.

    Attributes:
        sparse: they are points, which count twice in half a cell.

    Args:
        plan: the scheme's.
        domain: of a shot; its origin does not count.
        port: which fields they touch.
        places: where they are.
        slopes: derivatives by position are wanted, too.
        dense: up to so many points are fed as outer products.
        parts: which part of the domain each device has; what points read is to be summed over
            devices.
    """

    sparse = True

    def __init__(
        self,
        plan: Plan,
        domain: Domain,
        port: PlannedPort,
        places: Places,
        slopes: bool,
        dense: int,
        parts: Parts,
    ) -> None:
        self.port, self._parts = port, parts
        self.count = places.live.shape[1]
        self._dtype = np.dtype(domain.dtype)
        self._dense = self.count <= dense and not slopes
        with jax.enable_x64(True):
            cells = _cells(places, domain)
            made: dict[Any, Any] = {}
            self.windows = [
                self._window(plan, domain, touch, cells, places, slopes, made)
                for touch in port.touches
            ]

    def _window(
        self,
        plan: Plan,
        domain: Domain,
        touch: Touch,
        cells: Any,
        places: Places,
        slopes: bool,
        made: dict[Any, Any],
    ) -> _Window:
        lines, moved = [], []
        for axis, name in enumerate(plan.axes):
            half, derive = touch.field.is_half(name), touch.along == name
            top = plan.ghosts and axis == plan.ndim - 1
            above = plan.continued(self.port, touch) if top else Above.NOTHING
            key = (axis, half, derive, above)
            if key not in made:
                on_grid = places.on_grid[axis][half != derive] and not slopes and not top
                ways = (window_weights, window_slopes)[: 1 + slopes]
                made[key] = [
                    _line(plan, domain, axis, cells[..., axis], half, derive, above, on_grid, way)
                    for way in ways
                ]
            lines.append(made[key][0])
            if slopes:
                first, weights = made[key][1]
                moved.append(_Line(first, weights / domain.spacing[axis]))
        live = places.live[..., None]
        lines[0] = _Line(lines[0].first, jnp.where(live, lines[0].weights, 0.0))
        if slopes:
            moved[0] = _Line(moved[0].first, jnp.where(live, moved[0].weights, 0.0))
        plain = tuple(self._own(line, axis) for axis, line in enumerate(lines))
        rows: tuple[Any, ...] = ()
        if self._dense:
            pairs = zip(plain, self._parts.shape, strict=True)
            rows = tuple(_rows(line, points) for line, points in pairs)
        slopes_ = tuple(self._own(line, axis) for axis, line in enumerate(moved))
        return _Window(touch, plain, slopes_, rows)

    def _own(self, line: _Line, axis: int) -> _Line:
        """What windows have in this device's part of an axis, counted from its first point."""
        first, weights = line.first.astype(np.int32), line.weights.astype(self._dtype)
        if self._parts.counts[axis] > 1:
            first = first - self._parts.first(axis)
            taps = first[..., None] + np.arange(weights.shape[-1], dtype=np.int32)
            there = (taps >= 0) & (taps < self._parts.shape[axis])
            weights = jnp.where(there, weights, jnp.zeros((), self._dtype))
        return _Line(first, weights)

    def read(self, fields: Any) -> Any:
        """What the points read, (shot, copy and point): after the values, with slopes, their
        derivatives along each axis.

        Args:
            fields: from a field's name to its values, a `Stored`.
        """
        copies = 1 + len(self.windows[0].slopes)
        parts = []
        for copy in range(copies):
            total: Any = 0.0
            for window in self.windows:
                lines = list(window.lines)
                if copy:
                    lines[copy - 1] = window.slopes[copy - 1]
                total = total + _read(fields(window.touch.field.name), lines, window.touch.factor)
            parts.append(total)
        return jnp.concatenate(parts, axis=1)

    def fed(self, field: str) -> Iterable[Fed]:
        """What the points do to one field."""
        return [
            Fed(w, self._dense, self._dtype) for w in self.windows if w.touch.field.name == field
        ]


class Fed:
    """How points feed one field.

    Attributes:
        factor: constant.
        dense: whether they can be fed everywhere at once.
    """

    def __init__(self, window: _Window, dense: bool, dtype: Any) -> None:
        self._window, self.dense, self._dtype = window, dense, dtype
        self.factor = window.touch.factor

    def everywhere(self, samples: Any) -> Any:
        """Samples (shot, point) spread over the grid, (shot, *grid)."""
        rows, ndim = self._window.rows, len(self._window.lines)
        total: Any = None
        for point in range(samples.shape[1]):
            term = samples[:, point].reshape(-1, *(1,) * ndim)
            for axis, row in enumerate(rows):
                shape = (-1, *(row.shape[-1] if i == axis else 1 for i in range(ndim)))
                term = term * row[:, point].reshape(shape)
            total = term if total is None else total + term
        return total

    def added(self, stored: Stored, grid: Box, samples: Any, gain: Any) -> Stored:
        """An array with samples added in windows.

        Args:
            stored: the array.
            grid: the whole grid's box.
            samples: (shot, point); or, of all copies of the points, (shot, copy and point).
            gain: their factor, a number or an array that broadcasts with (shot, *grid).
        """
        window, points = self._window, self._window.lines[0].first.shape[1]
        parts = jnp.split(samples, samples.shape[1] // points, axis=1) if points else []
        for copy, part in enumerate(parts):
            lines = list(window.lines)
            if copy:
                lines[copy - 1] = window.slopes[copy - 1]
            stored = self._added(stored, lines, grid, part, gain)
        return stored

    def _added(
        self, stored: Stored, lines: Sequence[_Line], grid: Box, samples: Any, gain: Any
    ) -> Stored:
        at, weights = _indices(lines, stored.box)
        values = weights * samples.reshape(*samples.shape, *(1,) * len(grid))
        if not isinstance(gain, float):
            (shot, *there), _ = _indices(lines, grid)
            whole = jnp.broadcast_to(gain, (gain.shape[0], *(b for _, b in grid)))
            values = values * whole[(shot if gain.shape[0] > 1 else 0 * shot, *there)]
        else:
            values = gain * values
        return stored._replace(array=stored.array.at[at].add(values.astype(self._dtype)))


class Renamed:
    """Points, or an extended source, that touch the counterparts of fields.

    Args:
        points: of the scheme.
        names: of the counterparts, by the names of the scheme's fields; of some fields, perhaps.
    """

    def __init__(self, points: Any, names: Mapping[str, str]) -> None:
        self._points, self._names = points, names
        self._fields = {other: field for field, other in names.items()}
        self.sparse = points.sparse

    def read(self, fields: Any) -> Any:
        """See `Points.read`."""
        return self._points.read(lambda name: fields(self._names[name]))

    def fed(self, field: str) -> Iterable[Any]:
        """See `Points.fed`."""
        return self._points.fed(self._fields[field]) if field in self._fields else ()

    def correlated(self, fields: Any, sample: Any) -> Any:
        """See `Extent.correlated`."""
        return self._points.correlated(lambda name: fields(self._names[name]), sample)


def _cells(places: Places, domain: Domain) -> Any:
    """Positions in cells from the first node, in double precision, (shot, point, axis)."""
    wide = np.float64
    positions = places.positions[..., 0].astype(wide) + places.positions[..., 1].astype(wide)
    origin = places.origin[..., 0].astype(wide) + places.origin[..., 1].astype(wide)
    return (positions - origin[:, None]) / np.array(domain.spacing, wide)


def _line(
    plan: Plan,
    domain: Domain,
    axis: int,
    cells: Any,
    half: bool,
    derive: bool,
    above: Above,
    on_grid: bool,
    way: Any,
) -> _Line:
    """Windows along one axis, in double precision.

    Args:
        plan: the scheme's.
        domain: of a shot.
        axis: its number.
        cells: positions, (shot, point).
        half: the field lives half a cell beyond the nodes.
        derive: its derivative along the axis is touched.
        above: how that continues above a free surface.
        on_grid: every position is known to lie on a point.
        way: `window_weights` or `window_slopes`.
    """
    points, kind, order = domain.shape[axis], domain.interpolation, plan.space_order
    flat, lies = cells.reshape(-1), half != derive  # a derivative is half a cell off the field
    first, offset = place(flat, points, kind, on_grid, lies, jnp)
    if above is Above.NOTHING:
        weights = way(offset, kind, jnp)
    else:
        taps = offset.shape[1]
        weights = window_below(way, kind, above, flat, first, taps, lies, order, jnp)
    if derive:
        first, weights = derived(weights, first, points, half, above, order, jnp)
        weights = weights / domain.spacing[axis]
    return _Line(first.reshape(cells.shape), weights.reshape(*cells.shape, -1))


def _rows(line: _Line, points: int) -> Any:
    """Windows as rows of so many points."""
    taps = line.first[..., None] + np.arange(line.weights.shape[-1], dtype=np.int32)
    hits = taps[..., None] == np.arange(points, dtype=np.int32)
    return jnp.sum(jnp.where(hits, line.weights[..., None], 0.0), axis=-2)


def _indices(lines: Sequence[_Line], box: Box) -> tuple[tuple[Any, ...], Any]:
    """The indices of windows in an array of a box, and their weights, (shot, point, *taps)."""
    ndim = len(lines)
    shots, points = lines[0].first.shape
    at: list[Any] = [np.arange(shots, dtype=np.int32).reshape(-1, 1, *(1,) * ndim)]
    weights: Any = None
    for i, (line, (low, high)) in enumerate(zip(lines, box, strict=True)):
        count = line.weights.shape[-1]
        shape = (shots, points, *(count if j == i else 1 for j in range(ndim)))
        taps = line.first[..., None] + np.arange(-low, count - low, dtype=np.int32)
        taps = jnp.clip(taps, 0, high - low - 1)  # others have no weight
        at.append(taps.reshape(shape))
        part = line.weights.reshape(shape)
        weights = part if weights is None else weights * part
    return tuple(at), weights


def _read(stored: Stored, lines: Sequence[_Line], factor: float) -> Any:
    at, weights = _indices(lines, stored.box)
    values = stored.array[at]
    return jnp.sum((factor * weights) * values, axis=tuple(range(2, values.ndim)))
