"""A linear inversion's operator and its transpose in one visit of each shot."""

from __future__ import annotations

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

from ..face import modelling
from ..face.cost import shots_that_fit
from ..face.grouped import group_size, over_groups
from ..jacobian import Jacobian
from .sizes import shifted

PAYS = 0.5  # share of the shots whose histories fit, below which visits take fewer wave solves


@final
class Visits(eqx.Module):
    """Products with `A = W J R 2**power`, and at once with A', a few shots at a time: W weighs each
    sample of traces by a factor.

    Where the wavefields of the background do not fit into memory, a product with J and one with J'
    take four wave solves of a shot: the background and Born, then the background and back. In one
    visit, the background's wavefields are still there on the way back: three.

    Args:
        J: the Jacobian.
        factors: W, shaped like traces, or None.
        right: R, or None.
        power: see above.
    """

    J: Jacobian
    factors: Array | None
    right: lx.AbstractLinearOperator | None
    power: int = eqx.field(static=True)

    def there_and_back(self, x: PyTree) -> tuple[Array, PyTree]:
        """`A x` and `A' A x`."""
        F, background = self.J.propagator, self.J.model
        change = x if self.right is None else self.right.mv(x)

        def weighted(traces: Array, shots: Any) -> Array:
            sized = shifted(traces, self.power)
            return sized if self.factors is None else sized * self.factors[shots]

        def of_group(shots: Any) -> tuple[PyTree, Array]:
            J = F.jacobian(background, shots=shots)
            moved = weighted(J.mv(change), shots)
            return J.T.mv(weighted(moved, shots)), moved

        numbers = modelling.shot_numbers(F._problem, None)
        image, moved = over_groups(of_group, numbers, F.settings.worker_threads)
        return moved, image if self.right is None else self.right.T.mv(image)


def pay(J: Jacobian) -> bool:
    """Whether visits take fewer wave solves: the histories of a group fit into memory, but those of
    half of all shots do not."""
    F = J.propagator
    shots = F.survey.n_shots
    fit = shots_that_fit(F._hosts.of(J.out_structure().dtype), exact=True)
    return group_size(shots, F.settings.worker_threads) <= fit < PAYS * shots


def factors_of(left: lx.AbstractLinearOperator | None, traces: Any) -> Array | None:
    """The factor by which a diagonal operator multiplies each sample of traces; None for None.

    Args:
        left: the operator.
        traces: the shape and type of traces.
    """
    return None if left is None else left.mv(jnp.ones(traces.shape, traces.dtype))
