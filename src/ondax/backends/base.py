"""What a backend is asked, and what it answers: in NumPy, without JAX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Experiment:
    """What determines the wavefields of a batch of shots; every array has the same leading batch
    axes.

    A batch axis of length 1 is shared by the whole batch.

    Attributes:
        coefficients: of the scheme, by name, (*batch, *domain).
        source: samples at internal steps, (*batch, shot, port and source, step): all sources of the
            first input, then those of the next.
        source_positions: metres, (*batch, shot, source, axis).
        receiver_positions: metres, (*batch, shot, receiver, axis).
        weights: of extended sources, (*batch, shot, *domain).
    """

    coefficients: Mapping[str, np.ndarray]
    source: np.ndarray
    source_positions: np.ndarray
    receiver_positions: np.ndarray
    weights: np.ndarray | None = None


@dataclass(frozen=True)
class Asked:
    """Which gradients an adjoint run is asked for.

    Attributes:
        coefficients: names of coefficients.
        wavelet: that in the samples of the sources.
        weights: that in the weights of extended sources.
        sources: what the gradient in the positions of sources is made of.
        exact: gradients in coefficients are made from every step, also where the settings allow
            to make them from every k-th.
        again: the same histories are likely to be read again. This is a hint to the store, and
            changes no number.
    """

    coefficients: tuple[str, ...] = ()
    wavelet: bool = False
    weights: bool = False
    sources: bool = False
    exact: bool = False
    again: bool = False

    @property
    def anything(self) -> bool:
        """Is there anything to compute?"""
        return bool(self.coefficients) or self.wavelet or self.weights or self.sources


class Gradients(NamedTuple):
    """What an adjoint run answers; None stands for what it was not asked for.

    Attributes:
        coefficients: by name, summed over shots, (*batch, *domain).
        wavelet: (*batch, shot, port and source, step).
        weights: (*batch, shot, *domain).
        at_sources: the adjoint field's derivatives by source position, per metre, (*batch, shot,
            port and source, axis, step).
    """

    coefficients: Any
    wavelet: Any = None
    weights: Any = None
    at_sources: Any = None
