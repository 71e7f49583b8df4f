"""Modelling with extended sources as layers: weights on the whole grid times a wavelet."""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._types import Model
from ..propagator import Propagator
from .held import Held
from .modelling import at_call, extended_only


class AbstractExtendedLayer(eqx.Module):
    """What both layers hold.

    Args:
        F: the propagator, of a survey of `ox.Extended` sources.
        model: held by the layer, as F takes it; None to give it with each call, as the second
            argument.
        wavelet: a trainable wavelet, shaped like the survey's, to start from; None for the
            survey's, fixed.
        trainable: make the model a leaf of the network.
    """

    F: Propagator
    model: Held | None
    wavelet: Held | None

    def __init__(
        self,
        F: Propagator,
        model: Model | None = None,
        *,
        wavelet: Float[ArrayLike, "shot *components source time"] | None = None,
        trainable: bool = False,
    ) -> None:
        self.F = extended_only(F)
        self.model, self.wavelet = _held(model, trainable), _held(wavelet, True)

    def _at_call(self, model: Any, dtype: Any) -> tuple[Model, Any]:
        """Model and wavelet of a call."""
        wavelet = None if self.wavelet is None else self.wavelet(dtype)
        return at_call(self.model, self.F, model, dtype), wavelet


class ExtendedModelling(AbstractExtendedLayer):
    """Weights, and a model, to traces; linear in the weights. Its adjoint in the weights is
    `ExtendedAdjoint`.

    Differentiable in weights, model and wavelet; arguments as of `AbstractExtendedLayer`.
    """

    def __call__(
        self,
        weights: Float[Array, "shot *grid"],
        model: Float[Array, "parameter *grid"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "shot *components receiver time"]:
        """Traces."""
        at, wavelet = self._at_call(model, weights.dtype)
        return self.F(at, weights=weights, wavelet=wavelet)


class ExtendedAdjoint(AbstractExtendedLayer):
    """Traces, and a model, to weights: the adjoint of `ExtendedModelling` in the weights.

    Differentiable in traces, model and wavelet; arguments as of `AbstractExtendedLayer`.
    """

    def __call__(
        self,
        data: Float[Array, "shot *components receiver time"],
        model: Float[Array, "parameter *grid"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "shot *grid"]:
        """Weights."""
        at, wavelet = self._at_call(model, data.dtype)
        return self.F.adjoint(at, data, wavelet=wavelet)


def _held(tree: Any, trainable: bool) -> Held | None:
    return None if tree is None else Held(tree, trainable)
