"""What an inversion returns."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float64, PyTree

Column = Float64[np.ndarray, " iteration"]


@dataclasses.dataclass(frozen=True)
class History:
    """One number an iteration in each column; row i describes the step from model i to model i + 1.

    Attributes:
        misfit: of model i, over the shots of the iteration (all of them, unless in batches).
        gradient_norm: L2 norm of the gradient given to the optimiser.
        model_change: root mean square of the step, in units of the model.
        seconds: wall-clock time of the iteration; the first one after a start contains compilation.
    """

    misfit: Column
    gradient_norm: Column
    model_change: Column
    seconds: Column

    def __len__(self) -> int:
        return len(self.misfit)


@dataclasses.dataclass(frozen=True)
class FWIResult:
    """An inverted model and how it was reached.

    Attributes:
        model: the last model, with the structure of the initial one.
        history: one row an iteration, those before a resumption included.
    """

    model: PyTree
    history: History

    @property
    def found(self) -> PyTree:
        """The model."""
        return self.model


@dataclasses.dataclass(frozen=True)
class LinearHistory:
    """One number an iteration in each column; a single row where a lineax solver made all
    iterations at once.

    Attributes:
        data_residual: norm of `L (J R x - d)` over that of `L d`: after the iteration; for optax
            optimisers, which do not know it then, before its step, and over the shots of the
            iteration.
        normal_residual: norm of `R' J' L' L (d - J R x) - damping x` before the iteration's step,
            which is zero at the solution; after the last one for a lineax solver.
        seconds: wall-clock time of the iteration; the first one after a start contains compilation.
    """

    data_residual: Column
    normal_residual: Column
    seconds: Column

    def __len__(self) -> int:
        return len(self.data_residual)


@dataclasses.dataclass(frozen=True)
class LSRTMResult:
    """An image and how it was reached.

    Attributes:
        image: the perturbation `R x`, with the structure of the background.
        history: one row an iteration, those before a resumption included.
        report: what a lineax solver says of itself: "num_steps" and so on, and its "result" in
            words; else empty.
    """

    image: PyTree
    history: LinearHistory
    report: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def found(self) -> PyTree:
        """The image."""
        return self.image


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `fwi` or `lsrtm`; `result` holds what they would return, so far."""

    def __init__(self, message: str, result: FWIResult | LSRTMResult):
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return Interrupted, (str(self), self.result)
