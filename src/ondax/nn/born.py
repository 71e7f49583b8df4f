"""Born modelling and migration as layers."""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .._types import Model
from ..propagator import Propagator
from .channels import from_channels, to_channels
from .held import Held
from .modelling import points_only


class Born(eqx.Module):
    """Perturbation to Born traces (demigration), linear, at a background model. Its adjoint is
    `Migration`.

    Args:
        F: the propagator.
        background: the model around which modelling is linearised, as F takes it. While it stays
            the same, so does the history of its wavefields, which is computed once.
        trainable: make the background a leaf of the network; its gradient costs two runs of the
            linearised scheme.
    """

    F: Propagator
    background: Held

    def __init__(self, F: Propagator, background: Model, *, trainable: bool = False) -> None:
        self.F = points_only(F, "ExtendedModelling")
        self.background = Held(F.equation.named(background), trainable)

    def __call__(
        self, perturbation: Float[Array, "parameter *grid"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "shot *components receiver time"]:
        """Born traces of perturbed parameters."""
        background = self.background(perturbation.dtype)
        return self.F.jacobian(background).mv(from_channels(self.F, perturbation))


class Migration(eqx.Module):
    """Traces to image (reverse-time migration): the adjoint of `Born`.

    Args:
        F: the propagator.
        background: the migration model, as F takes it.
        trainable: make the background a leaf of the network.
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
