"""Compiled kernels of one program, made when first needed and kept for the life of the process."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

from ... import _forks
from ...calculus.coupling import Coupling, Quantity
from ...calculus.program import Program
from ...calculus.state import of_step_before
from ...histories.base import Recording
from .build import build
from .kernel import Kernel
from .lower import Lowering
from .slots import Slots, slots_of, window


class Kernels:
    """The kernels of a program.

    Args:
        program: what they compute.
        late: see `Lowering`.
    """

    def __init__(self, program: Program, late: bool = True) -> None:
        self.program = program
        self.lowering = Lowering(program, late)
        self._kernels: dict[tuple[Any, ...], Kernel] = {}
        self._slots: dict[Recording, list[tuple[Quantity, Slots]]] = {}
        self._lock = _forks.lock()

    def coupling(self, recording: Recording) -> Coupling:
        """What a step keeps, and how that is read."""
        with self._lock:
            return self.program.coupling(recording.coefficients)

    def slots(self, recording: Recording) -> list[tuple[Quantity, Slots]]:
        """What a history holds, and where."""
        if recording not in self._slots:
            coupling = self.coupling(recording)
            found = [(q, slots_of(q, coupling, recording.every)) for q in coupling.quantities]
            self._slots[recording] = found
        return self._slots[recording]

    def worth_sampling(self, recording: Recording | None) -> Recording | None:
        """The recording, or that of every step where a sampled one would hold as much: the gradient
        of a step may read two values of a field in a row."""
        if recording is None or recording.every == 1:
            return recording
        low, high = window(self.coupling(recording))
        if high - low + 1 < recording.every:
            return recording
        return Recording(recording.coefficients, recording.history.every_step())

    def forward(self, recording: Recording | None, parallel: bool) -> Kernel:
        """The forward kernel, which keeps a history or, without a recording, none."""

        def equations() -> list[Any]:
            return self.lowering.forward(None if recording is None else self.coupling(recording))

        return self._kernel(("forward", _names(recording)), equations, parallel)

    def reading(self) -> Kernel:
        """The kernel of what receivers read of a state that no step has made."""
        return self._kernel(("reading",), self.lowering.reading, parallel=False)

    def born(self, recording: Recording, parallel: bool) -> Kernel:
        """The kernel of Born modelling."""

        def equations() -> list[Any]:
            return self.lowering.born(self.coupling(recording))

        return self._kernel(("born", _names(recording)), equations, parallel)

    def adjoint(
        self, recording: Recording | None, inputs: bool, weights: bool, parallel: bool
    ) -> Kernel:
        """The kernel of the adjoint; see `Lowering.adjoint`."""

        def equations() -> list[Any]:
            kept = None if recording is None else self.coupling(recording)
            return self.lowering.adjoint(kept, inputs, weights)

        return self._kernel(("adjoint", _names(recording), inputs, weights), equations, parallel)

    @cached_property
    def prompt(self) -> Kernels:
        """The kernels of which a step of the adjoint is complete when it ends."""
        return Kernels(self.program, late=False) if self.lowering.lags else self

    def settling(self, inputs: bool, weights: bool, parallel: bool) -> Kernel:
        """The kernel of what cotangents of a state add to a step; see `Lowering.settling`."""

        def equations() -> list[Any]:
            return self.lowering.settling(inputs, weights)

        return self._kernel(("settling", inputs, weights), equations, parallel)

    def starting(self, recording: Recording | None, parallel: bool) -> Kernel:
        """The kernel of the cotangents of initial states; see `Lowering.starting`."""

        def equations() -> list[Any]:
            return self.lowering.starting(None if recording is None else self.coupling(recording))

        return self._kernel(("starting", _names(recording)), equations, parallel)

    def any_start(self, recording: Recording | None) -> bool:
        """Are gradients of coefficients right whatever the run started from? Else they need what
        `starting` adds."""
        terms = {} if recording is None else self.coupling(recording).gradients
        adjoints = self.program.adjoints.values()
        return not any(of_step_before(term, adjoints) != 0 for term in terms.values())

    def _kernel(
        self, key: tuple[Any, ...], equations: Callable[[], list[Any]], parallel: bool
    ) -> Kernel:
        key = (*key, parallel)
        kernel = self._kernels.get(key)
        if kernel is None:
            with self._lock:
                kernel = self._kernels.get(key)
                if kernel is None:
                    with _FEW_COLLECTIONS:
                        kernel = build(equations(), self.program.symbols.dtype.name, parallel)
                    self._kernels[key] = kernel
        return kernel


def _names(recording: Recording | None) -> tuple[str, ...] | None:
    """What of a recording a kernel depends on: the coefficients."""
    return None if recording is None else recording.coefficients


class _FewCollections:
    """Within it, Python looks for garbage less often: deriving a kernel makes millions of symbolic
    expressions, nearly all of which live on, and looking through them takes a sixth of the time.

    The threshold is the process's, and kernels of several programs may be derived at once: the
    first one in changes it, and the last one out puts it back.
    """

    def __init__(self) -> None:
        self._lock, self._inside = _forks.lock(), 0
        self._usual = gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._usual = gc.get_threshold()
                gc.set_threshold(50_000, 20, 50)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                gc.set_threshold(*self._usual)


_FEW_COLLECTIONS = _FewCollections()


@cache
def kernels_of(program: Program) -> Kernels:
    """The kernels of a program, as long as the process lives."""
    return Kernels(program)
