"""Compiled kernels of one program, made when first needed and kept for the life of the process."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import cache
from typing import Any

from ... import _forks
from ...calculus.coupling import Coupling
from ...calculus.program import Program
from ...histories.base import Recording
from .build import build
from .kernel import Kernel
from .lower import Lowering


class Kernels:
    """The kernels of a program.

    Args:
        program: what they compute.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.lowering = Lowering(program)
        self._kernels: dict[tuple[Any, ...], Kernel] = {}
        self._lock = _forks.lock()

    def coupling(self, recording: Recording) -> Coupling:
        """What a step keeps, and how that is read."""
        with self._lock:
            return self.lowering.coupling(recording.coefficients, recording.every)

    def forward(self, recording: Recording | None, sparse: bool, parallel: bool) -> Kernel:
        """The forward kernel; `sparse` for runs that keep a history sampled in time, now or
        later."""

        def equations() -> list[Any]:
            kept = None if recording is None else self.coupling(recording)
            return self.lowering.forward(kept, sparse)

        return self._kernel(("forward", recording, sparse), equations, parallel)

    def born(self, recording: Recording, parallel: bool) -> Kernel:
        """The kernel of Born modelling."""

        def equations() -> list[Any]:
            return self.lowering.born(self.coupling(recording))

        return self._kernel(("born", recording), equations, parallel)

    def adjoint(
        self, recording: Recording | None, inputs: bool, weights: bool, parallel: bool
    ) -> Kernel:
        """The kernel of the adjoint; see `Lowering.adjoint`."""

        def equations() -> list[Any]:
            if recording is None:
                return self.lowering.adjoint(None, True, inputs, weights)
            kept = self.coupling(recording)
            return self.lowering.adjoint(kept, recording.every == 1, inputs, weights)

        return self._kernel(("adjoint", recording, inputs, weights), equations, parallel)

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
