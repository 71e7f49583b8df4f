"""What an inversion returns."""

import dataclasses

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


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `fwi`; `result` holds the model and history so far."""

    def __init__(self, message: str, result: FWIResult):
        super().__init__(message)
        self.result = result
