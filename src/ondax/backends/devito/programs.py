"""Compiled kernels of one scheme, made when first needed and kept for the life of the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ... import _forks
from ...calculus.coupling import Coupling
from .build import build
from .emit import Scheme
from .kernel import Kernel


@dataclass(frozen=True)
class Wanted:
    """Which history a run keeps or reads.

    Attributes:
        coefficients: names of the coefficients to perturb or differentiate, in the scheme's order.
        every: keep every `every`-th step.
    """

    coefficients: tuple[str, ...]
    every: int = 1


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

    def coupling(self, wanted: Wanted) -> Coupling:
        with self._lock:
            return self.scheme.coupling(wanted.coefficients, wanted.every)

    def forward(self, keep: Wanted | None, sparse: bool, parallel: bool) -> Kernel:
        """Forward kernel; `sparse` for runs that keep a history sampled in time, now or later."""

        def equations() -> list[Any]:
            return self.scheme.forward(self.coupling(keep) if keep else None, sparse)

        return self._kernel(("forward", keep, sparse, parallel), equations)

    def born(self, wanted: Wanted, parallel: bool) -> Kernel:
        return self._kernel(
            ("born", wanted, parallel), lambda: self.scheme.born(self.coupling(wanted))
        )

    def adjoint(self, wanted: Wanted | None, inputs: bool, weights: bool, parallel: bool) -> Kernel:
        def equations() -> list[Any]:
            kept = self.coupling(wanted) if wanted else None
            return self.scheme.adjoint(kept, wanted is None or wanted.every == 1, inputs, weights)

        return self._kernel(("adjoint", wanted, inputs, weights, parallel), equations)

    def _kernel(self, key: tuple[Any, ...], equations: Callable[[], list[Any]]) -> Kernel:
        kernel = self._kernels.get(key)
        if kernel is None:
            with self._lock:
                kernel = self._kernels.get(key)
                if kernel is None:
                    kernel = build(equations(), self.dtype, parallel=key[-1])
                    self._kernels[key] = kernel
        return kernel
