"""One shot: its arrays, and its runs over a range of time steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import numpy as np

from ...histories.buffers import POOL, row_length
from ...scheme.plan import Variable
from ..clock import Clock
from ..domain import Domain
from .extent import Extent
from .kernel import Kernel
from .kernels import Kernels
from .layout import box, pooled, shift
from .names import CLOCK, COMPACT, SCRATCH_PREFIX, SINGLE, SUMS
from .native import Turns, in_turns
from .placement import Placement
from .terminals import Terminals

State = Mapping[str, np.ndarray]  # by field name, (level, *points); the newest level comes first


class Shot:
    """The arrays of one shot that kernels share, and calls to the kernels. Use it in a `with`
    block; on exit its memory goes back to the pool.

    Args:
        kernels: of its program.
        domain: what it is run on.
        clock: its steps.
        coefficients: by name, with halo (see `with_halo`).
        profiles: the boundary's functions of one dimension, by name, aligned.
        source: where samples enter, for each input port.
        receiver: where they leave, for each output port.
        threads: OpenMP threads inside a kernel.
    """

    def __init__(
        self,
        kernels: Kernels,
        domain: Domain,
        clock: Clock,
        coefficients: Mapping[str, np.ndarray],
        profiles: Mapping[str, np.ndarray],
        source: Mapping[str, Placement | Extent],
        receiver: Mapping[str, Placement],
        threads: int = 1,
    ) -> None:
        self.kernels = kernels
        self.domain, self.clock = domain, clock
        self.source = source
        self.receiver = receiver
        self.threads = threads
        clock_array = np.zeros(2, domain.dtype)
        self.arrays: dict[str, np.ndarray] = {**coefficients, **profiles, CLOCK: clock_array}
        self.fields: dict[str, np.ndarray] = {}
        self._shifts: dict[str, int] = {}
        self._samples: list[np.ndarray] = []
        self.scalars: dict[str, float] = {"dt": clock.dt}
        for placement in (*source.values(), *receiver.values()):
            self.arrays |= placement.arrays
            self.scalars |= placement.bounds
        axes = kernels.planned.plan.axes
        for n, points, spacing in zip(axes, domain.shape, domain.spacing, strict=True):
            self.scalars |= {
                f"{n}_m": 0,
                f"{n}_M": points - 1,
                f"{n}_size": points,
                f"h_{n}": spacing,
            }
            for side in ("low", "high"):
                self.scalars[f"{n}_{side}"] = domain.strips.get((n, side), 0)
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

    @cached_property
    def states(self) -> Any:
        """What knows the states of the scheme, `ShotStates`; most shots need nobody who does."""
        from .state import ShotStates

        planned = self.kernels.planned
        return ShotStates(planned.program, planned.plan, self.domain, self.clock.dt)

    @property
    def parallel(self) -> bool:
        return self.threads > 1

    def terminals(
        self,
        placements: Mapping[str, Placement | Extent],
        lead: int = 0,
        tail: int = 0,
        more: int = 0,
    ) -> Terminals:
        """Zeroed samples of a set of ports; valid within the `with` block.

        Args:
            placements: the ports'.
            lead: steps before the first, without samples.
            tail: extra steps after the last, without samples.
            more: extra steps after the last, with samples.
        """
        any_of = next(iter(placements.values()))
        steps = self.clock.steps + more
        arrays = {
            f"{name}_samples": self._zeroed(lead + steps + tail, any_of.count)
            for name in placements
        }
        return Terminals(arrays, lead, steps, any_of.points, any_of.copies - 1)

    def sums(self, lead: int, tail: int = 0) -> Terminals:
        """Zeroed sums over an extended source, of each row along the first axis, as terminals: of
        all ports over nodes, then of all ports over half points."""
        rows = self.domain.shape[0]
        arrays = {
            f"{name}_{sums}": self._zeroed(lead + self.clock.steps + tail, rows)
            for sums in SUMS.values()
            for name in self.source
        }
        return Terminals(arrays, lead, self.clock.steps, rows)

    def _zeroed(self, steps: int, count: int) -> np.ndarray:
        array = POOL.take(
            "samples", (steps, row_length(count, self.domain.dtype)), self.domain.dtype
        )
        array.fill(0)
        self._samples.append(array)
        return array

    def start(
        self, fields: Sequence[Variable], levels: Mapping[str, int], prefix: str = ""
    ) -> None:
        """Fields at rest, each at as many times as kernels keep it."""
        for f in fields:
            self._take(prefix + f.name, f, (levels[f.name],))

    def stop(self, fields: Sequence[Variable]) -> None:
        """Give the memory of fields back before all others'."""
        for f in fields:
            POOL.give("field", self.fields.pop(f.name))

    def _take(self, name: str, function: Variable, times: tuple[int, ...] = ()) -> None:
        """A zeroed array for a function, at so many times, where it is stored."""
        stored = box(function, self.domain)
        array = pooled("field", function, stored.shape, self.domain.dtype, times)
        self.fields[name] = array
        self._shifts[name] = shift(function, self.domain, array)

    def run(
        self,
        kernel: Kernel,
        first: int,
        last: int,
        arrays: Mapping[str, np.ndarray],
        offsets: Mapping[str, int] | None = None,
    ) -> None:
        """Run the steps `first <= n < last`, in the kernel's own direction.

        Args:
            kernel: what to run.
            first: first step.
            last: one past the last step.
            arrays: samples, histories, gradients.
            offsets: bytes from an array's first element to the element of time index 0.
        """
        if last > first:
            bounds = {"time_m": first, "time_M": last - 1}
            everything, scalars, moves = self._arguments(kernel, arrays, offsets or {})
            kernel(everything, {**scalars, **bounds}, moves)

    def run_in_turns(
        self,
        on_history: Kernel,
        others: Kernel,
        turns: Turns,
        arrays: Mapping[str, np.ndarray],
        history: Mapping[str, np.ndarray],
        offsets: Mapping[str, int],
    ) -> None:
        """Run some steps by one kernel and the others by another.

        Args:
            on_history: the kernel that writes or reads a history.
            others: the kernel that does not.
            turns: which steps.
            arrays: samples, gradients.
            history: its arrays.
            offsets: bytes from an array's first element to the element of time index 0, and of
                those of a history to slot number 0.
        """
        if turns.last > turns.first:
            with ExitStack() as held:
                calls = []
                for kernel in (on_history, others):
                    given = self._arguments(kernel, {**arrays, **history}, offsets)
                    everything, scalars, moves = given
                    bounds = {"time_m": 0, "time_M": 0}
                    call = kernel.prepared(everything, {**scalars, **bounds}, moves)
                    calls.append((kernel, held.enter_context(call)))
                in_turns(calls[0], calls[1], history, turns)

    def _arguments(
        self, kernel: Kernel, arrays: Mapping[str, np.ndarray], offsets: Mapping[str, int]
    ) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, int]]:
        """All arrays that a kernel may need, all numbers but its first and last step, and offsets
        of arrays in bytes."""
        for name in kernel.named(SCRATCH_PREFIX):
            if name not in self.fields:
                self._take(name, self.kernels.scratch[name])
        pairs = {name + COMPACT: array for name, array in self.fields.items()}
        single = {name + SINGLE: array[0] for name, array in self.fields.items()}
        shifts = {
            name + suffix: bytes_back
            for name, bytes_back in self._shifts.items()
            for suffix in ("", COMPACT, SINGLE)
        }
        everything = {**self.arrays, **self.fields, **pairs, **single, **arrays}
        return everything, self.scalars, {**shifts, **offsets}
