"""What `fwi` and `lsrtm` return."""

import dataclasses
from typing import Any, final

import numpy as np
from jaxtyping import Float64, PyTree

Column = Float64[np.ndarray, " iteration"]


@final
@dataclasses.dataclass(frozen=True)
class History:
    """How an inversion went: columns with one number for each iteration.

    Entry i of each column describes the step from model i to model i + 1.

    Attributes:
        misfit: of model i, over the shots of the iteration (all of them, unless in batches).
        gradient_norm: L2 norm of the gradient given to the optimiser, in units of the misfit over
            those of the model.
        model_change: root mean square of the step, in units of the model.
        seconds: wall-clock time of the iteration; the first one after a start contains compilation.
    """

    misfit: Column
    gradient_norm: Column
    model_change: Column
    seconds: Column

    def __len__(self) -> int:
        return len(self.misfit)


@final
@dataclasses.dataclass(frozen=True)
class FWIResult:
    """The result of `fwi`.

    Attributes:
        model: the last model, with the structure of the initial one.
        history: one row for each iteration, those before a resumption included.
    """

    model: PyTree
    history: History

    @property
    def found(self) -> PyTree:
        """The model, under the name that results of `fwi` and `lsrtm` share."""
        return self.model


@final
@dataclasses.dataclass(frozen=True)
class LinearHistory:
    """How a linear inversion went: columns with one number for each iteration.

    A lineax solver makes all iterations at once, so then there is a single row.

    Attributes:
        data_residual: norm of `L (J R x - d)` over that of `L d`, after the iteration. For optax
            optimisers: before the iteration's step, and over its shots, as they know no other.
        normal_residual: norm of `R' J' L' L (d - J R x) - damping x`, which is zero at the
            solution, before the iteration's step. For a lineax solver: after the last one.
        seconds: wall-clock time of the iteration; the first one after a start contains compilation.
    """

    data_residual: Column
    normal_residual: Column
    seconds: Column

    def __len__(self) -> int:
        return len(self.data_residual)


@final
@dataclasses.dataclass(frozen=True)
class LSRTMResult:
    """The result of `lsrtm`.

    Attributes:
        image: the perturbation `R x`, with the structure of the background.
        history: one row for each iteration, those before a resumption included.
        report: the statistics of a lineax solver, such as "num_steps", and its "result" in words;
            empty for other solvers.
    """

    image: PyTree
    history: LinearHistory
    report: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def found(self) -> PyTree:
        """The image, under the name that results of `fwi` and `lsrtm` share."""
        return self.image


@final
class Interrupted(KeyboardInterrupt):
    """Raised after Ctrl-C during `fwi` or `lsrtm`.

    Attributes:
        result: what they would have returned after the last finished iteration.
    """

    def __init__(self, message: str, result: FWIResult | LSRTMResult):
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return Interrupted, (str(self), self.result)
