"""Modelling with extended sources as layers: weights on the whole grid times a wavelet."""

from __future__ import annotations

from typing import Any, final

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._types import Model
from ..propagator import Propagator
from .held import Held
from .modelling import extended_only, model_of_call


class AbstractExtendedLayer(eqx.Module):
    """What the layers for extended sources have in common.

    Args:
        F: the propagator, with a survey of `ox.Extended` sources.
        model: the model that the layer holds, as F takes it; None to give one with each call, as
            the second argument.
        wavelet: a wavelet of the survey's shape, which is trained, starting from these values; None
            for the survey's own, which is not.
        trainable: make the model a leaf of the network.

    Raises:
        ValueError: the survey's sources are points.
    """

    F: Propagator
    model: Held | None
    wavelet: Held | None

    def __init__(
        self,
        F: Propagator,
        model: Model | None = None,
        *,
        wavelet: Float[ArrayLike, "shot *components source sample"] | None = None,
        trainable: bool = False,
    ) -> None:
        self.F = extended_only(F)
        self.model, self.wavelet = _held(model, trainable), _held(wavelet, True)

    def _at_call(self, model: Any, dtype: Any) -> tuple[Model, Any]:
        """Model and wavelet of a call, in the dtype of its input.

        Raises:
            ValueError: a model is missing, or given both to the layer and to the call.
        """
        wavelet = None if self.wavelet is None else self.wavelet(dtype)
        return model_of_call(self.model, self.F, model, dtype), wavelet


@final
class ExtendedModelling(AbstractExtendedLayer):
    """A layer from weights and a model to traces, linear in the weights.

    Its adjoint in the weights is `ExtendedAdjoint`. It is differentiable in weights, model and
    wavelet. Its arguments are those of `AbstractExtendedLayer`.
    """

    def __call__(
        self,
        weights: Float[Array, "shot *grid"],
        model: Float[Array, "parameter *grid"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "shot *components receiver time"]:
        """Traces of weights, which are source strengths per volume on the grid's points.

        Raises:
            ValueError: a wrong shape; or a model is missing, or given twice.
        """
        at, wavelet = self._at_call(model, weights.dtype)
        return self.F(at, weights=weights, wavelet=wavelet)


@final
class ExtendedAdjoint(AbstractExtendedLayer):
    """A layer from traces and a model to weights: the adjoint of `ExtendedModelling` in the
    weights.

    It is differentiable in traces, model and wavelet. Its arguments are those of
    `AbstractExtendedLayer`.
    """

    def __call__(
        self,
        data: Float[Array, "shot *components receiver time"],
        model: Float[Array, "parameter *grid"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "shot *grid"]:
        """Adjoint weights of traces.

        Raises:
            ValueError: a wrong shape; or a model is missing, or given twice.
        """
        at, wavelet = self._at_call(model, data.dtype)
        return self.F.adjoint(at, data, wavelet=wavelet)


def _held(tree: Any, trainable: bool) -> Held | None:
    """What a layer holds of a tree of arrays; None for None."""
    return None if tree is None else Held(tree, trainable)
