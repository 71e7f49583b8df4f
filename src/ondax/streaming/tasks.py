"""What is done for some shots, wherever that is: picklable functions of shot numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from .._once import Once
from .._types import Model
from ..face.callback_errors import as_raised
from ..gathers import over_components
from ..inversion.observed import Shifted
from ..propagator import Propagator

Shots = tuple[int, ...]  # their numbers
Imaging = Callable[[Any, Array], PyTree]  # of the Jacobian of one shot, and its traces


@dataclass(frozen=True)
class Caller:
    """What of the process that asks decides results, beside what it asks for. Tasks keep to it
    wherever they are run, so that results are those of the same call made there.

    Attributes:
        x64: whether JAX has numbers of 64 bits.
        platform: JAX's default backend.
    """

    x64: bool = field(
        default_factory=lambda: jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    )
    platform: str = field(default_factory=jax.default_backend)

    def lent(self, F: Propagator, threads: int, memory: int) -> Propagator:
        """The propagator in a process that lends so many threads, and so many bytes for histories;
        the caller's backend runs it."""
        settings = F.settings.lent(threads, memory)
        return F.replace(settings=replace(settings, backend=settings.runs_on(self.platform)))


@dataclass(frozen=True)
class Modelled:
    """The traces of shots.

    Attributes:
        F: the propagator.
        model: as F takes it, in NumPy, whose arrays are sent as they lie in memory.
        caller: who asks.
    """

    F: Propagator
    model: Model
    caller: Caller = field(default_factory=Caller)

    def settled(self, threads: int, memory: int) -> Modelled:
        """The same in a process that lends so many threads, and so many bytes for histories."""
        return replace(self, F=self.caller.lent(self.F, threads, memory))

    def __call__(self, shots: Shots) -> list[np.ndarray]:
        """A gather, ([component,] receiver, time), for each shot."""
        with jax.enable_x64(self.caller.x64):
            traces = np.asarray(self.F(self.model, shots=list(shots)))
        counts = self.F.survey.points[1].counts
        return [t[..., : counts[n], :] for t, n in zip(traces, shots, strict=True)]


@dataclass(frozen=True)
class WithTraces:
    """Shots that are sent with their traces, as `Imaged` takes these."""

    shots: Shots
    traces: np.ndarray


class _Read(Sequence[WithTraces]):
    """Groups of shots, whose traces are read when they are asked for."""

    def __init__(self, task: Imaged, groups: Sequence[Shots]) -> None:
        self._task, self._groups = task, groups

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: Any) -> Any:
        shots = self._groups[number]
        return WithTraces(shots, self._task.traces(shots))


@dataclass(frozen=True)
class Imaged:
    """What an imaging condition makes of shots, each by itself.

    Attributes:
        F: the propagator.
        model: the background, in NumPy, as that of `Modelled`.
        observed: gives the traces of shots by their numbers.
        imaging: the condition.
        lasting: it is one of ours, whose compiled form is kept for other calls with F.
        caller: who asks.
    """

    F: Propagator
    model: Model
    observed: Any
    imaging: Imaging
    lasting: bool = False
    caller: Caller = field(default_factory=Caller)
    _functions: Once = field(default_factory=Once, repr=False)

    def settled(self, threads: int, memory: int) -> Imaged:
        """See `Modelled.settled`."""
        F = self.caller.lent(self.F, threads, memory)
        return replace(self, F=F, _functions=Once())

    def with_traces(self, groups: Sequence[Shots]) -> tuple[Imaged, Sequence[WithTraces]]:
        """The same without what traces are read from, and what it takes instead of groups."""
        return replace(self, observed=None, _functions=Once()), _Read(self, groups)

    def __call__(self, shots: Shots | WithTraces) -> list[PyTree]:
        """The images, trees of NumPy arrays, of each shot."""
        if isinstance(shots, WithTraces):
            shots, traces = shots.shots, shots.traces
        else:
            traces = self.traces(shots)
        if self.lasting:
            function = self.F._hosts.once(("imaged", self.imaging), self._compiled)
        else:
            function = self._functions.of("imaged", self._compiled)
        numbers = np.array(shots, np.int32)
        with jax.enable_x64(self.caller.x64), as_raised():
            found = jax.tree.map(np.asarray, function(self.model, traces, numbers))
        return [jax.tree.map(lambda a, n=n: a[n], found) for n in range(len(shots))]

    def traces(self, shots: Shots) -> np.ndarray:
        """Weighted traces, (shot, [component,] receiver, time), in the type of the model."""
        survey = self.F.survey
        traces = Shifted(self.observed, survey)[np.array(shots)]
        if survey.weighs_traces:
            weights = over_components(survey.weights_of(list(shots)), traces.ndim)
            traces = traces * weights[..., None]
        return np.asarray(traces, np.result_type(*(x.dtype for x in jax.tree.leaves(self.model))))

    def _compiled(self) -> Callable[[Model, Array, Array], PyTree]:
        F, imaging = self.F, self.imaging

        def one(model: Model, traces: Array, shot: Array) -> PyTree:
            return imaging(F.jacobian(model, shots=shot[None]), traces[None])

        return jax.jit(jax.vmap(one, (None, 0, 0)))
