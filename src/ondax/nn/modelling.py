"""Layers from model to traces, and from the wavelets of point sources to traces and back."""

from __future__ import annotations

from typing import Any, ClassVar, final

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._types import Model
from ..propagator import Propagator
from .channels import from_channels
from .held import Held


@final
class Modelling(eqx.Module):
    """A layer from model to traces.

    Args:
        F: the propagator; for a survey of extended sources, use `ExtendedModelling`.
        wavelet: a wavelet of the survey's shape, which is trained, starting from these values; None
            for the survey's own, which is not.

    Raises:
        ValueError: the survey's sources are extended.
    """

    F: Propagator
    wavelet: Held | None

    def __init__(
        self,
        F: Propagator,
        wavelet: Float[ArrayLike, "shot *components source sample"] | None = None,
    ) -> None:
        self.F = points_only(F, "ExtendedModelling")
        self.wavelet = None if wavelet is None else Held(wavelet, trainable=True)

    def __call__(
        self, model: Float[Array, "parameter *grid"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "shot *components receiver time"]:
        """Traces of a model, one channel for each parameter of the equation, in its units.

        Raises:
            ValueError: another shape.
        """
        wavelet = None if self.wavelet is None else self.wavelet(model.dtype)
        return self.F(from_channels(self.F, model), wavelet=wavelet)


class AbstractLayerAtModel(eqx.Module):
    """What linear layers at a background model have in common.

    Args:
        F: the propagator.
        model: the background, as F takes it.
        trainable: make the background a leaf of the network.

    Attributes:
        extended: name of the layer to use for extended sources instead.

    Raises:
        ValueError: the survey's sources are extended.
    """

    F: Propagator
    model: Held
    extended: eqx.AbstractClassVar[str]

    def __init__(self, F: Propagator, model: Model, *, trainable: bool = False) -> None:
        self.F, self.model = points_only(F, self.extended), Held(model, trainable)


@final
class LinearModelling(AbstractLayerAtModel):
    """A linear layer from wavelets to traces, at a background model.

    Its adjoint is `AdjointModelling`. Its arguments are those of `AbstractLayerAtModel`.
    """

    extended: ClassVar[str] = "ExtendedModelling"

    def __call__(
        self,
        wavelet: Float[Array, "shot *components source sample"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "shot *components receiver time"]:
        """Traces of wavelets, which have the shape of the survey's.

        Raises:
            ValueError: another shape.
        """
        return self.F(self.model(wavelet.dtype), wavelet=wavelet)


@final
class AdjointModelling(AbstractLayerAtModel):
    """A linear layer from traces to wavelets: the adjoint of `LinearModelling`.

    Its arguments are those of `AbstractLayerAtModel`.
    """

    extended: ClassVar[str] = "ExtendedAdjoint"

    def __call__(
        self,
        data: Float[Array, "shot *components receiver time"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "shot *components source sample"]:
        """Adjoint wavelets of traces.

        Raises:
            ValueError: another shape.
        """
        return self.F.adjoint(self.model(data.dtype), data)


def points_only(F: Propagator, instead: str) -> Propagator:
    """The propagator itself, if its survey's sources are points.

    Args:
        F: the propagator.
        instead: name of the layer to use for extended sources, for the message.

    Raises:
        ValueError: they are extended.
    """
    if F.survey.extended:
        raise ValueError(f"the survey's sources are extended: use ox.nn.{instead}")
    return F


def extended_only(F: Propagator) -> Propagator:
    """The propagator itself, if its survey's sources are extended.

    Raises:
        ValueError: they are points.
    """
    if not F.survey.extended:
        raise ValueError(
            "the survey's sources are points: make it ox.Survey(ox.Extended(shots), ...)"
        )
    return F


def model_of_call(held: Held | None, F: Propagator, model: Any, dtype: Any) -> Model:
    """The model of a call: the one that the layer holds, or the one that is given with the call.

    Args:
        held: what the layer holds, or None.
        F: the propagator.
        model: what is given, (parameter, *grid), or None.
        dtype: floating-point dtype for what the layer holds.

    Raises:
        ValueError: there is none, or there are two.
    """
    if (held is None) == (model is None):
        raise ValueError("give the model either to the layer or with each call")
    return from_channels(F, model) if held is None else held(dtype)
