"""When an inversion ends before its last iteration."""

from __future__ import annotations

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from .._validate import positive


@final
class Stop(eqx.Module):
    """Criteria that end an inversion: the first one that is met does, and the result says which.

    Args:
        relative: the misfit has changed by less than this fraction of itself from one iteration to
            the next, such as 1e-3. Not for minibatches, whose misfits are of different shots.
        misfit: the misfit has fallen to this value.
        evaluations: so many misfits have been evaluated, those of line searches included.
        seconds: so much time has been spent, those of iterations before a resumption included.

    Raises:
        ValueError: a number that is not positive.
    """

    relative: float | None = eqx.field(static=True, default=None)
    misfit: float | None = eqx.field(static=True, default=None)
    evaluations: int | None = eqx.field(static=True, default=None)
    seconds: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        units = {"relative": "a fraction", "misfit": "its unit", "seconds": "seconds"}
        units["evaluations"] = "evaluations"
        for name, unit in units.items():
            value = getattr(self, name)
            if value is not None:
                positive(name, value, unit)

    def reason(
        self,
        misfits: np.ndarray,
        evaluations: np.ndarray,
        seconds: np.ndarray,
        moved: bool = True,
    ) -> str | None:
        """Why to stop; None if there is no reason yet.

        Args:
            misfits: of the iterations so far, before their steps.
            evaluations: that each iteration took.
            seconds: that each took.
            moved: whether a step was made between the last two misfits.
        """
        if not misfits.size:
            return None
        if self.misfit is not None and misfits[-1] <= self.misfit:
            return f"the misfit has fallen to {misfits[-1]:.4g}, stop={self.misfit:g}"
        if self.relative is not None and len(misfits) > 1 and moved:
            change = abs(misfits[-1] - misfits[-2])
            if change <= self.relative * abs(misfits[-2]):
                return (
                    f"the misfit has changed from {misfits[-2]:.6g} to {misfits[-1]:.6g}, by less "
                    f"than {self.relative:g} of itself"
                )
        if self.evaluations is not None and evaluations.sum() >= self.evaluations:
            return f"{int(evaluations.sum())} misfits have been evaluated, of {self.evaluations}"
        if self.seconds is not None and seconds.sum() >= self.seconds:
            return f"{seconds.sum():.0f} s have been spent, of {self.seconds:g}"
        return None


STALLED = 4.0  # units in the last place, below which a step is none
SEARCHES, FRESH_SEARCHES, DAMPED = 1, 2, 8  # steps in a row that find nothing, and end an inversion


def stands_still(before: PyTree, after: PyTree) -> Bool[Array, ""]:
    """Whether a step has moved no part of a model by more than rounding. Each part of a model that
    has several, such as velocity and density, has a size of its own."""

    def still(old: Array, new: Array) -> Array:
        rounding = STALLED * float(jnp.finfo(old.dtype).eps)
        return jnp.linalg.norm((new - old).ravel()) <= rounding * jnp.linalg.norm(old.ravel())

    parts = [still(o, n) for o, n in zip(*map(jax.tree.leaves, (before, after)), strict=True)]
    return jnp.all(jnp.stack(parts))


def why_still(tries: int) -> str:
    """Why an inversion ends that has found nothing so many times in a row."""
    if tries == DAMPED:
        return f"{tries} steps in a row, damped ever more, have not lowered the misfit"
    return (
        "the line search found no better model: the misfit is at its minimum, or its gradient is "
        "lost in rounding"
    )
