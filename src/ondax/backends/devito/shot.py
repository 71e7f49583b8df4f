"""One shot: its arrays, and its runs over a range of time steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...acquisition.interpolation import (
    lies_on_grid,
    place,
    window_below,
    window_slopes,
    window_weights,
)
from ...calculus.images import Above, continued
from ...histories.base import Recording
from ...histories.buffers import POOL, Layout, Stored, row_length, zeros
from ...scheme.symbols import Field, Spatial, Symbols
from ...scheme.system import Port
from ...scheme.terms import location
from ..discretisation import Discretisation
from .extended import SUMS
from .kernel import Kernel
from .kernels import Kernels
from .lower import COMPACT
from .scratch import SCRATCH_PREFIX

if TYPE_CHECKING:
    from .extent import Extent


def space_halo(function: Spatial) -> tuple[int, ...]:
    """Halo points on each side of the space axes."""
    return tuple(
        h[0] for d, h in zip(function.dimensions, function.halo, strict=True) if d.is_Space
    )


@dataclass(frozen=True)
class Box:
    """The part of the grid where a function is stored.

    Attributes:
        starts: first grid point along each axis.
        shape: number of points.
    """

    starts: tuple[int, ...]
    shape: tuple[int, ...]


def box(function: Spatial, symbols: Symbols, grid: Discretisation) -> Box:
    """Where a function is stored: everywhere, or in the strips that it is confined to."""
    starts, shape = [0] * len(grid.shape), list(grid.shape)
    for axis, side in symbols.traits_of(function).region:
        i = symbols.axes.index(axis)
        if side == "high":
            per_line = row_length(
                1, grid.dtype
            )  # rows must start aligned, seen from the whole grid
            starts[i] = (grid.shape[i] - grid.strips[axis, side]) // per_line * per_line
            shape[i] = grid.shape[i] - starts[i]
        else:
            shape[i] = grid.strips[axis, side]
    return Box(tuple(starts), tuple(shape))


def allocated(function: Spatial, shape: Sequence[int], dtype: str) -> tuple[int, ...]:
    """Shape of a function stored at so many points, halo included, rows aligned."""
    padded = [n + 2 * h for n, h in zip(shape, space_halo(function), strict=True)]
    return (*padded[:-1], row_length(padded[-1], dtype))


def shift(function: Spatial, symbols: Symbols, grid: Discretisation, array: np.ndarray) -> int:
    """Bytes from the (imaginary) element of the whole grid's first point to a stored array's first
    element."""
    starts = box(function, symbols, grid).starts
    return -sum(
        start * stride for start, stride in zip(starts, array.strides[-len(starts) :], strict=True)
    )


def interior(function: Spatial, shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(h, h + n) for n, h in zip(shape, space_halo(function), strict=True))


def with_halo(
    function: Spatial, values: np.ndarray, symbols: Symbols, grid: Discretisation
) -> np.ndarray:
    """A coefficient as kernels take it: zero in its halo, but for mirror images above a free
    surface."""
    array = zeros(allocated(function, values.shape, grid.dtype), grid.dtype)
    array[interior(function, values.shape)] = values
    if symbols.ghosts:
        reflect(function, array, symbols.traits_of(function).image, symbols)
    return array


def reflect(function: Spatial, array: np.ndarray, image: int | None, symbols: Symbols) -> None:
    """Fill the rows above a free surface of what is stored with its halo, as kernels do with what
    they compute (see `mirrored`)."""
    (*_, rows), half = space_halo(function), location(function)[symbols.dimensions[-1]]
    if image is not None and rows:
        first = rows if half else rows + 1
        array[..., :rows] = image * array[..., first : first + rows][..., ::-1]


def history_layout(
    kernels: Kernels, recording: Recording, grid: Discretisation, first: int, last: int
) -> Layout:
    """Arrays that hold the history of the steps `first <= n < last`, with the neighbours that
    gradients read."""
    layout = []
    symbols = kernels.program.symbols
    for quantity in kernels.coupling(recording).quantities:
        name = quantity.symbol.name
        slots = _slots(quantity.at_next, recording.every, first, last)
        stored = box(quantity.symbol, symbols, grid)
        shape = (slots, *allocated(quantity.symbol, stored.shape, grid.dtype))
        halo = space_halo(quantity.symbol)
        region = sorted(symbols.traits_of(quantity.symbol).region)
        strips = tuple((end, grid.strips[end]) for end in region)
        place = (stored.starts, stored.shape, strips)
        layout.append(Stored(name, shape, grid.dtype, halo, symbols.ghosts, place))
    return tuple(layout)


def _slots(at_next: bool, every: int, first: int, last: int) -> int:
    if at_next:
        return last - first + 3  # from the field at first - 1 to one zero slot after the last
    if every > 1:
        return (last - 1) // every - (first // every) + 1
    return last - first + 1  # one zero slot after the last


def history_offsets(
    kernels: Kernels,
    recording: Recording,
    grid: Discretisation,
    arrays: Mapping[str, np.ndarray],
    first: int,
) -> dict[str, int]:
    """Bytes from each history array's first slot back to the (imaginary) slot of time index 0."""
    offsets = {}
    for quantity in kernels.coupling(recording).quantities:
        first_slot = first - 1 if quantity.at_next else first // recording.every
        array = arrays[quantity.symbol.name]
        offsets[quantity.symbol.name] = -first_slot * array[0].nbytes
        offsets[quantity.symbol.name] += shift(
            quantity.symbol, kernels.program.symbols, grid, array
        )
    return offsets


class Geometry:
    """Kernel arrays of one set of points, derived from their positions.

    Args:
        symbols: the scheme's symbols.
        grid: the discretisation.
        port: the fields that the points read or feed.
        positions: metres, (point, axis), in double precision.
        slopes: follow the points by copies whose weights are derivatives along each axis, per
            metre.
    """

    def __init__(
        self,
        symbols: Symbols,
        grid: Discretisation,
        port: Port,
        positions: np.ndarray,
        slopes: bool = False,
    ) -> None:
        self.points, self.copies = positions.shape[0], 1 + symbols.ndim if slopes else 1
        copies = self.copies
        self.count = self.points * copies
        self.arrays: dict[str, np.ndarray] = {}
        self.bounds = {f"{port.name}_p_m": 0, f"{port.name}_p_M": self.count - 1}
        origin, spacing = np.array(grid.origin), np.array(grid.spacing)
        cells = (positions - origin) / spacing
        largest = np.abs(origin) + np.max(np.abs(cells), axis=0, initial=1.0) * spacing
        rounding = np.finfo(np.float64).eps * largest / spacing
        for axis, dimension in enumerate(symbols.dimensions):
            halves = sorted({location(field)[dimension] for field, _ in port.terms})
            reflects = symbols.ghosts and axis == symbols.ndim - 1
            ways: dict[bool, set[Above]] = {half: set() for half in halves}
            for field, _ in port.terms:
                above = continued(port, field, symbols) if reflects else Above.NOTHING
                ways[location(field)[dimension]].add(above)
            # All windows of a port share one loop over taps, so a single tap must suit every field
            # it touches.
            on_grid = (
                not slopes
                and len(halves) == 1
                and lies_on_grid(cells[:, axis] - 0.5 * halves[0], rounding[axis])
            )
            on_grid = on_grid and not reflects
            for half in halves:
                first, offset = place(
                    cells[:, axis], grid.shape[axis], grid.interpolation, on_grid, half
                )
                suffix = dimension.name + ("h" if half else "")
                self._set(f"{port.name}_first_{suffix}", np.tile(first, copies), np.int32)
                for way in ways[half]:
                    window = (
                        way,
                        cells[:, axis],
                        first,
                        offset,
                        half,
                        grid.interpolation,
                        symbols.space_order,
                    )
                    parts = [_windows(window_weights, *window)] * copies
                    if slopes:
                        parts[1 + axis] = _windows(window_slopes, *window) / grid.spacing[axis]
                    self._set(
                        f"{port.name}_weight_{suffix}{way.value}", np.concatenate(parts), grid.dtype
                    )
                tap = f"{port.name}_tap_{dimension.name}"
                self.bounds |= {f"{tap}_m": 0, f"{tap}_M": offset.shape[1] - 1}

    def _set(self, name: str, values: np.ndarray, dtype: Any) -> None:
        self.arrays[name] = zeros(values.shape, dtype)
        self.arrays[name][...] = values


def _windows(
    shape: Callable[[np.ndarray, str], np.ndarray],
    above: Above,
    cells: np.ndarray,
    first: np.ndarray,
    offset: np.ndarray,
    half: bool,
    kind: str,
    space_order: int,
) -> np.ndarray:
    """Weights of windows, or their slopes, (point, tap)."""
    if above is Above.NOTHING:
        return shape(offset, kind)
    return window_below(shape, kind, above, cells, first, offset.shape[1], half, space_order)


class Terminals:
    """The samples of all inputs, or of all outputs, of one shot: an array (step, point) for each
    port.

    Args:
        arrays: zeroed, by kernel argument, in the order of the ports.
        lead: steps before step 0.
        steps: number of steps.
        points: number of points.
        slopes: how many copies of the points, with weights of derivatives, follow them.
    """

    def __init__(
        self, arrays: dict[str, np.ndarray], lead: int, steps: int, points: int, slopes: int = 0
    ) -> None:
        self.arrays, self.points, self.slopes = arrays, points, slopes
        self._views = [array[lead : lead + steps] for array in arrays.values()]

    def fill(self, rows: np.ndarray) -> None:
        """Set the samples, (port and point, step)."""
        for view, part in zip(self._views, np.split(rows, len(self._views)), strict=True):
            view[:, : self.points] = part.T

    def columns(self) -> np.ndarray:
        """A copy of the samples: (step, port and point), then as many columns for the slopes along
        each axis."""
        copies = range(1 + self.slopes)
        return np.concatenate(
            [v[:, c * self.points : (c + 1) * self.points] for c in copies for v in self._views],
            axis=1,
        )


class Shot:
    """The arrays of one shot that kernels share, and calls to the kernels. A context: its memory is
    used again.

    Args:
        kernels: of its program.
        grid: the discretisation.
        coefficients: by name, with halo (see `with_halo`).
        profiles: the boundary's functions of one dimension, by name, aligned.
        source: where samples enter, for each input port.
        receiver: where they leave, for each output port.
        threads: OpenMP threads inside a kernel.
    """

    def __init__(
        self,
        kernels: Kernels,
        grid: Discretisation,
        coefficients: Mapping[str, np.ndarray],
        profiles: Mapping[str, np.ndarray],
        source: Mapping[str, Geometry | Extent],
        receiver: Mapping[str, Geometry],
        threads: int = 1,
    ) -> None:
        self.kernels = kernels
        self.grid = grid
        self.symbols = kernels.program.symbols
        self.source = source
        self.receiver = receiver
        self.threads = threads
        self.arrays: dict[str, np.ndarray] = {**coefficients, **profiles}
        self.fields: dict[str, np.ndarray] = {}
        self._shifts: dict[str, int] = {}
        self._samples: list[np.ndarray] = []
        self.scalars: dict[str, float] = {"dt": grid.dt}
        for geometry in (*source.values(), *receiver.values()):
            self.arrays |= geometry.arrays
            self.scalars |= geometry.bounds
        for dimension, points, spacing in zip(
            self.symbols.dimensions, grid.shape, grid.spacing, strict=True
        ):
            n = dimension.name
            self.scalars |= {
                f"{n}_m": 0,
                f"{n}_M": points - 1,
                f"{n}_size": points,
                f"h_{n}": spacing,
            }
            for side in ("low", "high"):
                self.scalars[f"{n}_{side}"] = grid.strips.get((n, side), 0)
        # Sources and receivers are few: sharing them out costs more than it gains, and their sums
        # would change order.
        self.scalars |= {"nthreads": threads, "nthreads_nonaffine": 1}

    def __enter__(self) -> Shot:
        return self

    def __exit__(self, *error: object) -> None:
        """Give the memory of fields and samples back."""
        for array in self.fields.values():
            POOL.give("field", array)
        for array in self._samples:
            POOL.give("samples", array)
        self.fields, self._samples = {}, []

    @property
    def parallel(self) -> bool:
        return self.threads > 1

    def terminals(
        self,
        geometries: Mapping[str, Geometry | Extent],
        lead: int = 0,
        tail: int = 0,
        more: int = 0,
    ) -> Terminals:
        """Zeroed samples of a set of ports; valid within the `with` block.

        Args:
            geometries: the ports'.
            lead: steps before the first.
            tail: steps after the last, neither set nor read.
            more: steps after the grid's last that are samples like the others.
        """
        any_of = next(iter(geometries.values()))
        steps = self.grid.steps + more
        arrays = {
            f"{name}_samples": self._zeroed(lead + steps + tail, any_of.count)
            for name in geometries
        }
        return Terminals(arrays, lead, steps, any_of.points, any_of.copies - 1)

    def sums(self, lead: int, tail: int = 0) -> Terminals:
        """Zeroed sums over an extended source, of each row along the first axis, as terminals: of
        all ports over nodes, then of all ports over half points."""
        rows = self.grid.shape[0]
        arrays = {
            f"{name}_{sums}": self._zeroed(lead + self.grid.steps + tail, rows)
            for sums in SUMS.values()
            for name in self.source
        }
        return Terminals(arrays, lead, self.grid.steps, rows)

    def _zeroed(self, steps: int, count: int) -> np.ndarray:
        array = POOL.take("samples", (steps, row_length(count, self.grid.dtype)), self.grid.dtype)
        array.fill(0)
        self._samples.append(array)
        return array

    def start(self, fields: Sequence[Field], prefix: str = "", sparse: bool = False) -> None:
        """Fields at rest; `sparse` if their history is to be kept at some steps only."""
        for f in fields:
            self._take(prefix + f.name, f, (self.kernels.lowering.levels(f, sparse),))

    def _take(self, name: str, function: Spatial, times: tuple[int, ...] = ()) -> None:
        """A zeroed array for a function, at so many times, where it is stored."""
        stored = box(function, self.symbols, self.grid)
        shape = (*times, *allocated(function, stored.shape, self.grid.dtype))
        array = POOL.take("field", shape, self.grid.dtype)
        array.fill(0)
        self.fields[name] = array
        self._shifts[name] = shift(function, self.symbols, self.grid, array)

    def run(
        self,
        kernel: Kernel,
        first: int,
        last: int,
        arrays: Mapping[str, np.ndarray],
        offsets: Mapping[str, int] | None = None,
        every: int = 1,
    ) -> None:
        """Run the steps `first <= n < last`, in the kernel's own direction.

        Args:
            kernel: what to run.
            first: first step.
            last: one past the last step.
            arrays: samples, histories, gradients.
            offsets: bytes from an array's first element to that of time index 0.
            every: steps between those kept in the history.
        """
        if last > first:
            bounds = {"time_m": first, "time_M": last - 1, "kept_stepf": every}
            for name in kernel.missing({**self.arrays, **self.fields, **arrays}, SCRATCH_PREFIX):
                self._take(name, self.kernels.lowering.scratch.functions[name])
            compact = {name + COMPACT: array for name, array in self.fields.items()}
            everything = {**self.arrays, **self.fields, **compact, **arrays}
            kernel(everything, {**self.scalars, **bounds}, {**self._shifts, **(offsets or {})})
