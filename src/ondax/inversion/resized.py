"""Linear operators multiplied by powers of two, so that products with them and their transposes
stay within the range of float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import PyTree

from ..jacobian import tell_lineax
from ..survey import Survey
from .sizes import power_above, shifted, size_of_tree


@final
class Resized(lx.AbstractLinearOperator):
    """`operator * 2**power`, which multiplies what the operator returns, and what is given to the
    operator's transpose.

    Args:
        operator: the operator.
        power: any whole number.
    """

    operator: lx.AbstractLinearOperator
    power: int = eqx.field(static=True)

    def mv(self, vector: PyTree) -> PyTree:
        return shifted(self.operator.mv(vector), self.power)

    def as_matrix(self) -> Any:
        return shifted(self.operator.as_matrix(), self.power)

    def transpose(self) -> ResizedTranspose:
        return ResizedTranspose(self)

    def in_structure(self) -> Any:
        return self.operator.in_structure()

    def out_structure(self) -> Any:
        return self.operator.out_structure()


@final
class ResizedTranspose(lx.AbstractLinearOperator):
    """The transpose of a `Resized`."""

    resized: Resized

    def mv(self, vector: PyTree) -> PyTree:
        return self.resized.operator.T.mv(shifted(vector, self.resized.power))

    def as_matrix(self) -> Any:
        return self.resized.as_matrix().T

    def transpose(self) -> Resized:
        return self.resized

    def in_structure(self) -> Any:
        return self.resized.out_structure()

    def out_structure(self) -> Any:
        return self.resized.in_structure()


def of_size_one(operator: lx.AbstractLinearOperator | None) -> tuple[Resized | None, int]:
    """An operator divided by `2**power`, and `power`.

    `2**power` is just above the largest value that the operator makes of a random vector of ones
    and minus ones. For None: None and 0.
    """
    if operator is None:
        return None, 0
    random = np.random.default_rng(0)
    signs = jax.tree.map(
        lambda s: jnp.asarray(random.choice([-1.0, 1.0], s.shape), s.dtype),
        operator.in_structure(),
    )
    power = size_of_tree(operator.mv(signs))
    return Resized(operator, -power), power


def power_of_source(survey: Survey) -> int:
    """`power_above` of the strongest sample that a survey fires."""
    strongest = float(np.max(np.abs(survey.wavelet)))
    if isinstance(survey.source, Mapping):
        weights = [np.asarray(weight) for weight in survey.source.values()]
        strongest *= max(float(np.max(np.abs(weight))) for weight in weights)
    return power_above(strongest)


tell_lineax(Resized, ResizedTranspose)
