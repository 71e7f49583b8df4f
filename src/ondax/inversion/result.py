"""What `fwi` and `lsrtm` return."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float64, PyTree

from .state import read_arrays, write_arrays

Column = Float64[np.ndarray, " iteration"]


@final
@dataclasses.dataclass(frozen=True)
class History:
    """How an inversion went: columns with one number for each iteration.

    Entry i of each column describes the step from model i to model i + 1.

    Attributes:
        misfit: of model i, over the shots of the iteration (all of them, unless in batches), what
            `regularize` adds included.
        gradient_norm: L2 norm of the gradient given to the optimiser, in units of the misfit over
            those of the model.
        model_change: root mean square of the step, in units of the model.
        seconds: wall-clock time of the iteration; the first one after a start contains compilation.
        regularization: what `regularize` adds to the misfit.
        evaluations: of the misfit, most of which come with a gradient: those of the line search; 1
            without one.
    """

    misfit: Column
    gradient_norm: Column
    model_change: Column
    seconds: Column
    regularization: Column
    evaluations: Column

    def __len__(self) -> int:
        return len(self.misfit)


@final
@dataclasses.dataclass(frozen=True)
class FWIResult:
    """The result of `fwi`.

    Attributes:
        model: the last model, with the structure of the initial one.
        history: one row for each iteration, those before a resumption included.
        stopped: why the inversion ended before its last iteration; None if it did not.
    """

    model: PyTree
    history: History
    stopped: str | None = None

    @property
    def found(self) -> PyTree:
        """The model, under the name that results of `fwi` and `lsrtm` share."""
        return self.model

    def save(self, path: str | os.PathLike) -> None:
        """Write model and history to a file (`.npz`), at one stroke.

        Args:
            path: of the file. `numpy.load(path)["model"]` reads it anywhere; a model of several
                parameters is there by their names, as "model.vp".

        Raises:
            OSError: the disk is full, for example.
        """
        columns = [getattr(self.history, f.name) for f in dataclasses.fields(History)]
        arrays = {"model": self.model, "history": np.stack(columns, axis=1)}
        write_arrays(Path(path), arrays, {"stopped": self.stopped})

    @staticmethod
    def load(path: str | os.PathLike) -> FWIResult:
        """Read what `save` wrote, or the state of a run, `fwi(save=path)`, without the script that
        made it.

        Args:
            path: of the file.

        Returns:
            The result. Its model is an array, or a dict of arrays (of dicts of arrays, and so on,
            for other trees).

        Raises:
            ValueError: the file is neither, or it is damaged.
        """
        arrays, header = read_arrays(Path(path))
        leaves = {n: a for n, a in arrays.items() if n == "model" or n.startswith("model.")}
        history = arrays.get("history")
        if not leaves or history is None or history.shape[-1] != len(dataclasses.fields(History)):
            raise ValueError(f"{path} holds no result of ox.fwi, or it is damaged")
        model: Any = {}
        for name, values in leaves.items():
            _, *inner = name.split(".")
            if not inner:
                model = values
                continue
            place = model
            for key in inner[:-1]:
                place = place.setdefault(key, {})
            place[inner[-1]] = values
        return FWIResult(model, History(*history.T), header.get("stopped"))


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
