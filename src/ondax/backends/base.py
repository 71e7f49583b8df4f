"""What a backend is asked, and what it answers: in NumPy, without JAX."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..histories.base import Recording
from ..histories.buffers import OutOfMemory
from .clock import Clock
from .domain import Domain
from .setups import AbstractSetups


@dataclass(frozen=True)
class Experiment:
    """What determines the wavefields of a batch of shots; every array has the same leading batch
    axes.

    A batch axis of length 1 is shared by the whole batch.

    Attributes:
        coefficients: of the scheme, by name, (*batch, *domain).
        source: samples at internal steps, (*batch, shot, port and source, step): all sources of the
            first input, then those of the next. A shot axis of length 1 is shared by all shots.
        setups: how the shots are set up.
        weights: of extended sources, (*batch, shot, *domain).
        initial: the state before the first step, by field name, (*batch, shot, level, *points);
            None for a start at rest. Records of such runs begin with what receivers read of it.
        by_position: the samples are also fed by the derivatives of where sources enter, by their
            positions, per metre: the source has rows for (copy, port and source), all sources
            first, and then as many for each axis. Such runs are not recorded.
    """

    coefficients: Mapping[str, np.ndarray]
    source: np.ndarray
    setups: AbstractSetups
    weights: np.ndarray | None = None
    initial: Mapping[str, np.ndarray] | None = None
    by_position: bool = False

    @property
    def before(self) -> int:
        """Samples that are recorded before the first step."""
        return 0 if self.initial is None else 1


@dataclass(frozen=True)
class Asked:
    """Which gradients an adjoint run is asked for.

    Attributes:
        coefficients: names of coefficients.
        wavelet: that in the samples of the sources.
        weights: that in the weights of extended sources.
        sources: what the gradient in the positions of sources is made of.
        initial: that in the initial state.
        exact: gradients in coefficients are made from every step, also where the settings allow
            to make them from every k-th.
        linear: the source samples are no wavelets, but a cotangent, of any frequencies; gradients
            are then asked for as exact ones.
        again: the same histories are likely to be read again. This is a hint to the store, and
            changes no number.
    """

    coefficients: tuple[str, ...] = ()
    wavelet: bool = False
    weights: bool = False
    sources: bool = False
    initial: bool = False
    exact: bool = False
    linear: bool = False
    again: bool = False

    @property
    def anything(self) -> bool:
        """Is there anything to compute?"""
        others = self.wavelet or self.weights or self.sources or self.initial
        return bool(self.coefficients) or others


class Gradients(NamedTuple):
    """What an adjoint run answers; None stands for what it was not asked for.

    Attributes:
        coefficients: by name, summed over shots, (*batch, *domain).
        wavelet: (*batch, shot, port and source, step).
        weights: (*batch, shot, *domain).
        at_sources: the adjoint field's derivatives by source position, per metre, (*batch, shot,
            port and source, axis, step).
        initial: by field name, (*batch, shot, level, *points).
    """

    coefficients: Any
    wavelet: Any = None
    weights: Any = None
    at_sources: Any = None
    initial: Any = None


class Memory(NamedTuple):
    """What one shot takes, bytes.

    Attributes:
        fields: wavefields and coefficients.
        history: what a gradient needs of all steps.
        disk: what it needs on a disk.
    """

    fields: int
    history: int
    disk: int = 0


class AbstractSolver(ABC):
    """What a backend answers: it runs one program, for batches of shots, in NumPy.

    A batch is given by the shape of its leading axes. What is asked of one call does not depend on
    what was asked before, but for the time that it takes.
    """

    @property
    @abstractmethod
    def state(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each field's part of the state between two steps, (level, *points), by
        name: the values that the next step reads, the newest first."""

    @abstractmethod
    def forward(
        self,
        batch: tuple[int, ...],
        e: Experiment,
        recording: Recording | None,
        slopes: bool,
        final: bool = False,
    ) -> tuple[Any, ...]:
        """What receivers record, (*batch, shot, port and receiver, sample); with `slopes` also its
        derivatives by receiver position, (*batch, shot, port and receiver, axis, sample), per
        metre; with `final` also the state after the last step, by name, (*batch, shot, level,
        *points).

        Args:
            batch: the shape of the batch.
            e: what determines the wavefields.
            recording: what the next runs will ask to be linearised around, and how to keep it; None
                for nothing.
            slopes: whether derivatives are wanted.
            final: whether the state is.
        """

    @abstractmethod
    def born(
        self,
        batch: tuple[int, ...],
        e: Experiment,
        recording: Recording,
        changes: Mapping[str, np.ndarray],
        source: np.ndarray | None,
    ) -> np.ndarray:
        """How what receivers record changes, (*batch, shot, port and receiver, sample).

        Args:
            batch: the shape of the batch.
            e: the background.
            recording: which of its coefficients change.
            changes: of coefficients, by name, (*batch, *domain).
            source: change of the samples of point sources; None for none.
        """

    @abstractmethod
    def adjoint(
        self,
        batch: tuple[int, ...],
        e: Experiment,
        recording: Recording | None,
        residual: np.ndarray,
        asked: Asked,
        final: Mapping[str, np.ndarray] | None = None,
    ) -> Gradients:
        """The gradients of <residual, what receivers record>, plus <final, the state after the last
        step>.

        Args:
            batch: the shape of the batch.
            e: where they are taken.
            recording: the coefficients whose gradients are asked for, and the history that they are
                made from; None for none.
            residual: (*batch, shot, port and receiver, sample).
            asked: which gradients, and whether the histories will be read again.
            final: (*batch, shot, level, *points) by field name; None for zero. With it, and for
                runs that do not start at rest, the history holds every step.
        """

    @abstractmethod
    def memory(self, domain: Domain, clock: Clock, recording: Recording) -> Memory:
        """What one shot on a domain takes, if it keeps a history."""

    @abstractmethod
    def out_of_memory(self, error: OutOfMemory) -> OutOfMemory:
        """What failed, what a shot needs, and what to do."""
