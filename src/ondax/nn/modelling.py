"""Modelling as layers: from model to traces, and from source to traces and back."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._types import Model
from ..propagator import Propagator
from .channels import from_channels
from .held import Held


class Modelling(eqx.Module):
    """Model to traces.

    Args:
        F: the propagator; a survey of extended sources needs `ExtendedModelling`.
        wavelet: a trainable wavelet, shaped like the survey's, to start from; None for the
            survey's, fixed.
    """

    F: Propagator
    wavelet: Held | None

    def __init__(
        self, F: Propagator, wavelet: Float[ArrayLike, "shot *components source time"] | None = None
    ) -> None:
        self.F = points_only(F, "ExtendedModelling")
        self.wavelet = None if wavelet is None else Held(wavelet, trainable=True)

    def __call__(
        self, model: Float[Array, "parameter *grid"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "shot *components receiver time"]:
        """Traces of a model whose channels are the equation's parameters."""
        wavelet = None if self.wavelet is None else self.wavelet(model.dtype)
        return self.F(from_channels(self.F, model), wavelet=wavelet)


class AbstractLayerAtModel(eqx.Module):
    """What layers hold that are linear in their input, at a background model.

    Args:
        F: the propagator.
        model: the background, as F takes it.
        trainable: make the background a leaf of the network.
    """

    F: Propagator
    model: Held
    extended: eqx.AbstractClassVar[str]  # the layer for extended sources

    def __init__(self, F: Propagator, model: Model, *, trainable: bool = False) -> None:
        self.F, self.model = points_only(F, self.extended), Held(model, trainable)


class LinearModelling(AbstractLayerAtModel):
    """Wavelets to traces, linear. Its adjoint is `AdjointModelling`. Arguments as of
    `AbstractLayerAtModel`."""

    extended: ClassVar[str] = "ExtendedModelling"

    def __call__(
        self,
        wavelet: Float[Array, "shot *components source time"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "shot *components receiver time"]:
        """Traces of wavelets, shaped like the survey's."""
        return self.F(self.model(wavelet.dtype), wavelet=wavelet)


class AdjointModelling(AbstractLayerAtModel):
    """Traces to wavelets: the adjoint of `LinearModelling`. Arguments as of
    `AbstractLayerAtModel`."""

    extended: ClassVar[str] = "ExtendedAdjoint"

    def __call__(
        self,
        data: Float[Array, "shot *components receiver time"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "shot *components source time"]:
        """Adjoint wavelets of traces."""
        return self.F.adjoint(self.model(data.dtype), data)


def points_only(F: Propagator, instead: str) -> Propagator:
    """Refuse a survey of extended sources."""
    if F.survey.extended:
        raise ValueError(f"the survey's sources are extended: use ox.nn.{instead}")
    return F


def extended_only(F: Propagator) -> Propagator:
    """Refuse a survey of point sources."""
    if not F.survey.extended:
        raise ValueError(
            "the survey's sources are points: make it ox.Survey(ox.Extended(shots), ...)"
        )
    return F


def at_call(held: Held | None, F: Propagator, model: Any, dtype: Any) -> Model:
    """The model given at a call, or else the one the layer holds.

    Raises:
        ValueError: there is none, or one too many.
    """
    if (held is None) == (model is None):
        raise ValueError("give the model either to the layer or with each call")
    return from_channels(F, model) if held is None else held(dtype)
