"""Born modelling and migration as layers."""

from __future__ import annotations

from typing import final

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .._types import Model
from ..propagator import Propagator
from .channels import from_channels, to_channels
from .held import Held
from .modelling import points_only


@final
class Born(eqx.Module):
    """A linear layer from perturbation to Born traces (demigration), at a background model.

    Its adjoint is `Migration`.

    Args:
        F: the propagator.
        background: the model around which modelling is linearised, as F takes it. As long as it
            stays the same, its wavefields are modelled only once.
        trainable: make the background a leaf of the network; its gradient costs two runs of the
            linearised scheme.

    Raises:
        ValueError: the survey's sources are extended, or the model does not fit the equation.
    """

    F: Propagator
    background: Held

    def __init__(self, F: Propagator, background: Model, *, trainable: bool = False) -> None:
        self.F = points_only(F, "ExtendedModelling")
        self.background = Held(F.equation.named(background), trainable)

    def __call__(
        self, perturbation: Float[Array, "parameter *grid"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "shot *components receiver time"]:
        """Born traces of a perturbation, one channel for each parameter, in its units.

        Raises:
            ValueError: another shape.
        """
        background = self.background(perturbation.dtype)
        return self.F.jacobian(background).mv(from_channels(self.F, perturbation))


@final
class Migration(eqx.Module):
    """A linear layer from traces to image (reverse-time migration): the adjoint of `Born`.

    Args:
        F: the propagator.
        background: the migration model, as F takes it.
        trainable: make the background a leaf of the network.

    Raises:
        ValueError: the survey's sources are extended, or the model does not fit the equation.
    """

    F: Propagator
    background: Held

    def __init__(self, F: Propagator, background: Model, *, trainable: bool = False) -> None:
        self.F = points_only(F, "ExtendedAdjoint")
        self.background = Held(F.equation.named(background), trainable)

    def __call__(
        self,
        data: Float[Array, "shot *components receiver time"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "parameter *grid"]:
        """The image of traces, one channel for each parameter, summed over shots."""
        return to_channels(self.F, self.F.jacobian(self.background(data.dtype)).T.mv(data))
