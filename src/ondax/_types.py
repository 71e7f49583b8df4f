"""Shapes that public functions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Array, ArrayLike, Float, Int

Model = Any  # an array, or a dict of arrays by parameter name
Traces = Float[Array, "shot *components receiver time"]
Wavelets = Float[Array, "shot *components source sample"]
Weights = Float[Array, "shot *grid"]
GivenTraces = Float[ArrayLike, "shot *components receiver time"]
GivenWavelets = Float[ArrayLike, "*as_of_a_survey sample"]
GivenWeights = Float[ArrayLike, "shot *grid"]
GivenFields = Float[ArrayLike, "*shot_and_grid"]
GivenSources = Float[ArrayLike, "*shot_source axis"]
GivenReceivers = Float[ArrayLike, "*shot_receiver axis"]
GivenShots = Int[ArrayLike, " shot"] | Sequence[int]
