"""Linear maps along time that take the time dispersion of a scheme away.

A scheme with step d that oscillates with theta solves the equations, exactly in time, at another
angular frequency, `omega(theta)`; for leapfrog `omega = (2/d) sin(theta d/2)`. Let T be the real
matrix with `(T w)^(theta) = sqrt(d omega/d theta) w^(omega(theta))`, the hats being Fourier
transforms. Then

    traces = T' F(T wavelet)

has no error of the time stepping left (Stork, 2013; Koene et al., 2018). The square root makes T an
isometry: its transpose, T', is its inverse too, so that one matrix serves wavelets, traces, and the
adjoints of both. Leapfrog is early: T moves wavelets to earlier times and its transpose moves
traces to later ones, and a record needs nothing from beyond its end but the tail of the matrix, a
few samples long.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..boundaries.base import Edge
from ..equations.base import AbstractWaveEquation
from ..equations.time_stepping import LEAPFROG, TimeStepping
from ..scheme.symbols import Symbols

Floats = np.ndarray[Any, np.dtype[np.float64]]

BLOCK = 64  # rows of the blocks in which a large matrix is kept
WHOLE = 256  # samples up to which a matrix is kept whole: that costs as little, and compiles faster
TOLERANCE = 1e-7  # of the largest weight: smaller ones are left out, which makes noise of that size
TAIL = 3.5  # widths of the tail, an Airy function, that a run lasts beyond the record
STEEPEST = 0.75  # of the cut: above it, theta(omega) is too steep to follow
HIGHEST = 0.65  # of the Nyquist frequency: above it, nothing is exact
TAPER = 0.7  # of the Nyquist frequency, of theta: above it, gains fall to zero
MARGIN = 1.25  # of the highest frequency of a survey's wavelets: exact up to there
CHANGE = 0.5  # radians per sample, over which the slope goes over into a constant
KAISER = 10.0  # shape of the window by which slope and gain change over
FINE = 16385  # points of the tables in frequency


@dataclass(frozen=True)
class Dispersion:
    """Samples and steps.

    Attributes:
        samples: of wavelets and traces.
        steps_per_sample: internal steps per sample.
        highest: the matrix is to be exact up to this angle per sample, `2 pi f dt`.
        stepping: of the scheme.
    """

    samples: int
    steps_per_sample: int
    highest: float
    stepping: TimeStepping

    @property
    def cut(self) -> float:
        """The largest angle per sample that the scheme can represent."""
        return self.steps_per_sample * self.stepping.cut

    @property
    def top(self) -> float:
        """The angle per sample up to which the matrix is exact."""
        return min(self.highest, STEEPEST * self.cut, HIGHEST * np.pi)

    def modelled(self, true: Floats) -> Floats:
        """theta dt of omega dt."""
        return self.steps_per_sample * self.stepping.modelled(true / self.steps_per_sample)

    @cached_property
    def _table(self) -> tuple[Floats, Floats, Floats, Floats]:
        """omega dt from 0 to pi, and there: theta dt, d theta/d omega, and the gain.

        Above `top`, the slope goes over smoothly into a constant: the correction is then a little
        too small, and never wrong in sign. The gain falls from 1 to 0 where theta, or omega, nears
        the Nyquist frequency.
        """
        omega = np.linspace(0.0, np.pi, FINE)
        step = omega[1]
        width = min(CHANGE, 2.0 * (0.85 * self.cut - self.top))
        rates = 1.0 - _rise((omega[1:] + omega[:-1]) / 2.0, self.top, width)
        followed = np.concatenate([[0.0], np.cumsum(rates)]) * step  # omega, but level above `top`
        exact = np.linspace(0.0, followed[-1], FINE)
        slope = np.interp(followed, exact, np.gradient(self.modelled(exact), exact, edge_order=2))
        theta = np.concatenate([[0.0], np.cumsum(0.5 * (slope[1:] + slope[:-1]))]) * step
        gain = 1.0 - _rise(np.maximum(theta, omega), TAPER * np.pi, (1.0 - TAPER) * np.pi)
        return omega, theta, slope, gain

    def response(self, true: Floats) -> tuple[Floats, Floats, Floats]:
        """theta dt, d theta/d omega and the gain at omega dt from 0 to pi."""
        omega, theta, slope, gain = self._table
        # Read from a table, theta would be wrong by 1e-9, and the phase by that times the samples.
        exact = self.modelled(np.minimum(true, self.top))
        phase = np.where(true <= self.top, exact, np.interp(true, omega, theta))
        return phase, np.interp(true, omega, slope), np.interp(true, omega, gain)

    @property
    def tail(self) -> int:
        """Samples that must be modelled beyond the record.

        By the end of t samples, `t (theta - omega)` has grown to about `t a omega^3`: the matrix'
        tail is an Airy function, `(3 t a)^(1/3)` wide. A stepping that is late delays whole waves
        beyond the record too.
        """
        omega = np.array([self.top])
        theta = self.modelled(omega)
        cubic = abs(float(theta[0] - self.top)) / self.top**3
        late = max(0.0, self.samples * (1.0 / float(self._table[2].min()) - 1.0))
        return 1 + math.ceil(TAIL * (3.0 * self.samples * cubic) ** (1 / 3)) + round(late)

    def weights(self, first: int, count: int, lags: Any) -> Floats:
        """T[j, j + lag], for times j of the model from `first` on, (time, lag)."""
        size = 512
        while size < 2 * (lags[-1] - lags[0] + 1):
            size *= 2
        omega = 2.0 * np.pi * np.arange(size // 2 + 1) / size
        theta, slope, gain = self.response(omega)
        start = gain * np.sqrt(slope) * np.exp(1j * first * (theta - omega))
        spectrum = start * np.exp(1j * np.outer(np.arange(count), theta - omega))
        # The sum over omega of exp(-i omega lag) is the conjugate of an inverse transform.
        return np.fft.irfft(spectrum.conj(), size, axis=-1)[:, lags % size]

    def reach(self, time: int) -> tuple[int, int]:
        """How many samples before and after a time j of the model matter to it."""
        drift = math.ceil(time * (self.response(np.array([np.pi]))[1][0] - 1.0))
        margin = 64
        while True:
            lags = np.arange(min(drift, 0) - margin, max(drift, 0) + margin + 1)
            row = np.abs(self.weights(time, 1, lags)[0])
            loud = lags[row > TOLERANCE * row.max()]
            inside = loud[0] > lags[0] + 8 and loud[-1] < lags[-1] - 8
            if inside or margin > 2 * time:
                return max(0, -int(loud[0])), max(0, int(loud[-1]))
            margin *= 2


def _rise(x: Floats, first: float, width: float) -> Floats:
    """From 0 to 1 over a width: the integral of a Kaiser window, whose transform has short
    tails."""
    u = np.linspace(0.0, 1.0, 4097)
    bell = np.i0(KAISER * np.sqrt(1.0 - (2.0 * u - 1.0) ** 2))
    total = np.concatenate([[0.0], np.cumsum(0.5 * (bell[1:] + bell[:-1]))])
    return np.interp((x - first) / width, u, total / total[-1])


class TimeWarp:
    """The matrix T of a survey, from its samples to those of the model's time.

    The matrix is nearly a diagonal one. A small one is kept whole. Of a large one, blocks of rows
    are kept, each from the first to the last column that matters to it. Compared by identity; see
    `warp_of`.

    Args:
        dispersion: how the scheme shifts frequencies, and for how many samples.

    Attributes:
        samples: of wavelets and traces.
        modelled: samples that the model must run for; more than `samples`.
        size: rows of a block.
        starts: the first column of each block.
    """

    def __init__(self, dispersion: Dispersion) -> None:
        self.samples = dispersion.samples
        self.modelled = dispersion.samples + dispersion.tail
        self.size = self.modelled if self.modelled <= WHOLE else BLOCK
        found = list(self._blocks(dispersion))
        width = max(block.shape[1] for _, block in found)
        self.starts = np.array([min(start, self.samples - width) for start, _ in found])
        exact = np.zeros((len(found), self.size, width))
        for rows, shifted, (start, block) in zip(exact, self.starts, found, strict=True):
            rows[:, start - shifted : start - shifted + block.shape[1]] = block
        self._tables = {"float64": exact}

    @property
    def whole(self) -> bool:
        """Is the matrix a single block?"""
        return len(self.starts) == 1

    def _blocks(self, dispersion: Dispersion) -> Iterator[tuple[int, Floats]]:
        """The first column that matters, and (row, column) from there to the last, of each
        block."""
        before, after = dispersion.reach(self.modelled)
        columns = np.arange(self.samples)
        for first in range(0, self.modelled, self.size):
            low = min(max(0, first - before), self.samples - 1)
            near = columns[low : first + self.size + after]
            lags = near[None, :] - np.arange(first, first + self.size)[:, None]
            by_lag = dispersion.weights(
                first, self.size, np.arange(-before - self.size, after + self.size + 1)
            )
            block = np.take_along_axis(
                by_lag, np.clip(lags + before + self.size, 0, by_lag.shape[1] - 1), axis=1
            )
            block[self.modelled - first :] = 0.0
            loud = np.flatnonzero(
                np.max(np.abs(block), axis=0) > TOLERANCE * np.max(np.abs(by_lag))
            )
            kept = slice(loud[0], loud[-1] + 1) if loud.size else slice(0, 1)
            yield int(near[kept.start]), block[:, kept]

    def table(self, dtype: Any) -> np.ndarray:
        """The blocks, (block, row, column)."""
        name = np.dtype(dtype).name
        if name not in self._tables:
            self._tables[name] = self._tables["float64"].astype(name)
        return self._tables[name]

    def forward(self, signals: np.ndarray) -> np.ndarray:
        """T along the last axis of NumPy arrays, from `samples` to `modelled`; see `warping` for
        JAX."""
        table = self.table(signals.dtype)
        width = table.shape[2]
        parts = [signals[..., s : s + width] @ b.T for s, b in zip(self.starts, table, strict=True)]
        return np.concatenate(parts, axis=-1)[..., : self.modelled]

    def transpose(self, signals: np.ndarray) -> np.ndarray:
        """Its transpose, from `modelled` to `samples`."""
        table = self.table(signals.dtype)
        total = np.zeros((*signals.shape[:-1], self.samples), signals.dtype)
        for first, start, block in zip(
            range(0, self.modelled, self.size), self.starts, table, strict=True
        ):
            part = signals[..., first : first + self.size]
            total[..., start : start + table.shape[2]] += part @ block[: part.shape[-1]]
        return total


_WARPS: WeakValueDictionary[Dispersion, TimeWarp] = WeakValueDictionary()


def warp_of(dispersion: Dispersion) -> TimeWarp:
    """The map of a scheme's dispersion, made once for as long as it is in use."""
    warp = _WARPS.get(dispersion)
    if warp is None:
        warp = _WARPS.setdefault(dispersion, TimeWarp(dispersion))
    return warp


@cache
def time_stepping_of(equation: AbstractWaveEquation, ndim: int) -> TimeStepping | None:
    """What an equation declares of its time steps; if it declares nothing, `LEAPFROG` where
    `Update.of` has made all of its updates, which are centred then; else None.

    Args:
        equation: the equation.
        ndim: axes of the grid.
    """
    if equation.time_stepping is not None:
        return equation.time_stepping
    system = equation.system(Symbols(ndim, equation.space_order), Edge())
    return LEAPFROG if all(update.pde for update in system.updates) else None


@cache
def _say_raw(equation: type[AbstractWaveEquation]) -> None:
    warnings.warn(
        f"{equation.__name__} does not declare what its time stepping does to frequencies, so its "
        "time dispersion stays "
        "in the traces. State its updates by ox.Update.of, which declares it; or, if they are "
        "centred differences in time (leapfrog), write time_stepping = ox.LEAPFROG in the class; "
        'else give an ox.TimeStepping, or say Propagator(..., time_dispersion="raw")',
        stacklevel=4,
    )


def without_relation(equation: AbstractWaveEquation, ndim: int) -> bool:
    """Is an equation without a declared relation between true and modelled frequency? The first
    time, says so."""
    unknown = time_stepping_of(equation, ndim) is None
    if unknown:
        _say_raw(type(equation))
    return unknown
