"""Compiled kernels of one scheme, made when first needed and kept for the life of the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import _forks
from ...calculus.coupling import Coupling
from ...histories.base import Recording
from .build import build
from .emit import Scheme
from .kernel import Kernel


class Programs:
    """The kernels of a scheme.

    Args:
        scheme: the scheme.
        dtype: "float32" or "float64".
    """

    def __init__(self, scheme: Scheme, dtype: str) -> None:
        self.scheme = scheme
        self.dtype = dtype
        self._kernels: dict[tuple[Any, ...], Kernel] = {}
        self._lock = _forks.lock()

    def coupling(self, recording: Recording) -> Coupling:
        """What a step keeps, and how that is read."""
        with self._lock:
            return self.scheme.coupling(recording.coefficients, recording.every)

    def forward(self, recording: Recording | None, sparse: bool, parallel: bool) -> Kernel:
        """The forward kernel; `sparse` for runs that keep a history sampled in time, now or
        later."""

        def equations() -> list[Any]:
            kept = None if recording is None else self.coupling(recording)
            return self.scheme.forward(kept, sparse)

        return self._kernel(("forward", recording, sparse, parallel), equations)

    def born(self, recording: Recording, parallel: bool) -> Kernel:
        """The kernel of Born modelling."""

        def equations() -> list[Any]:
            return self.scheme.born(self.coupling(recording))

        return self._kernel(("born", recording, parallel), equations)

    def adjoint(
        self, recording: Recording | None, inputs: bool, weights: bool, parallel: bool
    ) -> Kernel:
        """The kernel of the adjoint; see `Scheme.adjoint`."""

        def equations() -> list[Any]:
            if recording is None:
                return self.scheme.adjoint(None, True, inputs, weights)
            kept = self.coupling(recording)
            return self.scheme.adjoint(kept, recording.every == 1, inputs, weights)

        return self._kernel(("adjoint", recording, inputs, weights, parallel), equations)

    def _kernel(self, key: tuple[Any, ...], equations: Callable[[], list[Any]]) -> Kernel:
        kernel = self._kernels.get(key)
        if kernel is None:
            with self._lock:
                kernel = self._kernels.get(key)
                if kernel is None:
                    kernel = build(equations(), self.dtype, parallel=key[-1])
                    self._kernels[key] = kernel
        return kernel
