"""The results of an adjoint call, collected shot by shot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...histories.base import Recording
from ...histories.buffers import POOL
from ...scheme.plan import Plan, Variable
from ..base import Asked, Experiment, Gradients
from ..clock import Clock
from ..domain import Domain
from ..scaling import SMALL, WEAK, check_range, peak_of, scaled
from ..setups import Position
from .layout import interior
from .tasks import Task, part


@dataclass
class Found:
    """What one adjoint run of a shot finds beside gradients of coefficients.

    Attributes:
        power: its residuals were those given, times two to minus this power.
        weights: the gradient of the weights of an extended source.
        read: what was read where sources enter: see `AdjointRun.read`.
        initial: the cotangents of the initial state.
    """

    power: int
    weights: np.ndarray | None
    read: np.ndarray | None
    initial: Mapping[str, np.ndarray] | None = None


class Patch:
    """Gradients of coefficients on a part of the domain.

    Args:
        start: its first point.
        parts: one for each coefficient.
        borrowed: the arrays from the pool that they are views of.
    """

    def __init__(
        self, start: Position, parts: list[np.ndarray], borrowed: Sequence[np.ndarray] = ()
    ) -> None:
        self.start, self.parts, self._borrowed = start, parts, borrowed

    @staticmethod
    def of(chosen: Sequence[Variable], task: Task, arrays: list[np.ndarray], power: int) -> Patch:
        """Of one shot, as kernels make them, times a power of two.

        Args:
            chosen: the coefficients.
            task: the shot.
            arrays: one for each of them, from the pool.
            power: see above.
        """
        shape = task.setup.domain.shape
        parts = [array[interior(c, shape)] for c, array in zip(chosen, arrays, strict=True)]
        if power:
            for values in parts:
                values[...] = scaled(values, power)
        return Patch(task.setup.start, parts, arrays)

    def __reduce__(self) -> Any:
        return Patch, (self.start, [np.ascontiguousarray(p) for p in self.parts])

    def copy(self) -> Patch:
        """The same in memory of its own, outside of the pool."""
        return Patch(self.start, [np.array(p, order="C") for p in self.parts])

    @property
    def nbytes(self) -> int:
        """Memory of the gradients themselves."""
        return sum(p.nbytes for p in self.parts)

    def give_back(self) -> None:
        """Hand memory of the pool back to it."""
        for array in self._borrowed:
            POOL.give("gradient", array)
        self._borrowed = ()

    def plus(self, other: Patch) -> Patch:
        """The sum, in the memory of this patch where both are in the same place; else on the
        smallest box that holds both. The other's memory is given back."""
        total = self
        if (self.start, self._shape) != (other.start, other._shape):
            low, high = zip(*(self._ends, other._ends), strict=True)
            start = tuple(np.min(low, axis=0).tolist())
            shape = tuple((np.max(high, axis=0) - start).tolist())
            total = Patch(start, [np.zeros(shape, p.dtype) for p in self.parts])
            total._add(self)
            self.give_back()
        total._add(other)
        other.give_back()
        return total

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.parts[0].shape

    @property
    def _ends(self) -> tuple[Position, Position]:
        """The first point along each axis, and one past the last."""
        return self.start, tuple(i + n for i, n in zip(self.start, self._shape, strict=True))

    def inside(self, other: Patch) -> tuple[slice, ...]:
        """Where it lies in a patch that holds it."""
        first = tuple(i - j for i, j in zip(self.start, other.start, strict=True))
        return part(first, self._shape)

    def _add(self, other: Patch) -> None:
        where = other.inside(self)
        for a, b in zip(self.parts, other.parts, strict=True):
            a[where] += b


class Sums:
    """The results of an adjoint call.

    Args:
        plan: of what is run.
        domain: that coefficients are given on.
        clock: of the longest shot.
        batch: the shape of the batch.
        e: the experiment.
        recording: the coefficients whose gradients are asked for.
        asked: what else is.
        strongest: the power of two of the strongest shot of each batch element that has one.
        state: the shape of each field's part of a state, by name.
    """

    def __init__(
        self,
        plan: Plan,
        domain: Domain,
        clock: Clock,
        batch: Position,
        e: Experiment,
        recording: Recording | None,
        asked: Asked,
        strongest: Mapping[Position, int],
        state: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._plan, self._domain, self._strongest = plan, domain, strongest
        names = recording.coefficients if recording else ()
        self._chosen = [c for c in plan.coefficients if c.name in names]
        self._batch = batch
        shots = e.setups.shots
        rows = (*batch, shots, len(plan.inputs) * e.setups.sources)
        dtype, axes = domain.dtype, len(domain.shape)
        self._weights = self._wavelet = self._moved = None
        if asked.weights:
            self._weights = np.empty((*batch, shots, *domain.shape), dtype)
        if asked.wavelet:
            self._wavelet = np.zeros((*rows, clock.steps), dtype)
        if asked.sources:
            self._moved = np.zeros((*rows, axes, clock.steps), dtype)
        self._initial: dict[str, np.ndarray] | None = None
        if asked.initial:
            self._initial = {n: np.zeros((*batch, shots, *s), dtype) for n, s in state.items()}
        self._peaks: dict[str, dict[int, tuple[float, int]]] = {
            "read": {},
            "weights": {},
            "initial": {},
        }

    @property
    def of_shots(self) -> bool:
        """Is anything kept of each shot, beside the sums over all?"""
        kept = (self._weights, self._wavelet, self._moved, self._initial)
        return any(x is not None for x in kept)

    @property
    def nbytes(self) -> int:
        """Of the sums over the shots of a batch element."""
        points = math.prod(self._domain.shape)
        return len(self._chosen) * points * np.dtype(self._domain.dtype).itemsize

    def take(self, task: Task, found: list[Found]) -> None:
        """Keep what the runs of a shot found."""
        for run in found:
            if self._weights is not None and run.weights is not None:
                power = task.of_samples + run.power
                self._peaks["weights"][task.number] = peak_of(run.weights), power
                self._weights[task.index] = scaled(run.weights, power)
            if self._initial is not None and run.initial is not None:
                peak = max(map(peak_of, run.initial.values()))
                self._peaks["initial"][task.number] = peak, run.power
                for name, values in run.initial.items():
                    self._initial[name][task.index] = scaled(values, run.power)
            if run.read is not None:
                self._take_read(task, run.read, task.of_weights + run.power)

    def _take_read(self, task: Task, read: np.ndarray, power: int) -> None:
        sources = len(task.source)
        self._peaks["read"][task.number] = peak_of(read[:, :sources]), power
        read = scaled(read, power)
        if self._wavelet is not None:
            self._wavelet[task.index][task.into, : len(read)] = read[:, :sources].T
        if self._moved is not None:
            moved = by_axis(read[:, sources:], sources, len(self._domain.shape))
            self._moved[task.index][task.into, :, : len(read)] = moved

    def finished(self, patches: Mapping[Position, Patch]) -> Gradients:
        """The gradients, scaled back.

        Args:
            patches: summed over the shots of each batch element.

        Raises:
            FloatingPointError: something is too large or too small for its type.
        """
        dtype = self._domain.dtype
        gradients = {c.name: self._gradient(n, c, patches) for n, c in enumerate(self._chosen)}
        for patch in patches.values():
            patch.give_back()
        check_range(self._peaks["read"].values(), dtype, "the adjoint wavelets", WEAK)
        what = "the gradients of the weights"
        check_range(self._peaks["weights"].values(), dtype, what, SMALL)
        what = "the gradients of the initial fields"
        check_range(self._peaks["initial"].values(), dtype, what, SMALL)
        return Gradients(gradients, self._wavelet, self._weights, self._moved, self._initial)

    def _gradient(self, number: int, c: Variable, patches: Mapping[Position, Patch]) -> np.ndarray:
        """That of one coefficient."""
        shape, dtype = self._domain.shape, self._domain.dtype
        gradient = np.zeros((*self._batch, *shape), dtype)
        for position, patch in patches.items():
            values = patch.parts[number]
            gradient[position][part(patch.start, values.shape)] = values
        if self._plan.ghosts:
            gradient *= self._plan.cell_shares(c, shape[-1])
        known = [(peak_of(gradient[at]), power) for at, power in self._strongest.items()]
        check_range(known, dtype, f"the gradients of the coefficient {c.name}", SMALL)
        for at, power in self._strongest.items():
            scaled(gradient[at], power, out=gradient[at])
        return gradient


def by_axis(samples: np.ndarray, points: int, axes: int) -> np.ndarray:
    """From (step, axis and point) to (point, axis, step)."""
    return samples.reshape(-1, axes, points).transpose(2, 1, 0)
