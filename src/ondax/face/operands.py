"""Everything that a run depends on, as one pytree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax


@partial(jax.tree_util.register_dataclass, data_fields=["pairs"], meta_fields=["single"])
@dataclass(frozen=True)
class Positions:
    """Positions given with a call.

    Attributes:
        pairs: metres, (shot, point, axis, 2); each pair sums to a coordinate, so that float32 holds
            what float64 would.
        single: they came in single precision, so that their resolution is checked at the call.
    """

    pairs: Any
    single: bool = False


class Operands(NamedTuple):
    """What the primitives take. None stands for what the survey says.

    Attributes:
        coefficients: of the scheme, by name, on the domain.
        bounds: what is to be checked of the model: its extreme speeds, and more (see `examined`).
        shots: numbers of the shots.
        wavelet: source samples, (shot, port and source, step).
        weights: of extended sources, (shot, *domain).
        sources: positions of sources.
        receivers: positions of receivers.
        initial: the state before the first step, by field name, (shot, level, *points). Records
            then begin with what receivers read of it.
        tape: the history of a forward run with these operands, where runs give one; None elsewhere.
            It counts as a constant: how results change with operands is known without it.
    """

    coefficients: dict[str, Any]
    bounds: Any
    shots: Any
    wavelet: Any = None
    weights: Any = None
    sources: Positions | None = None
    receivers: Positions | None = None
    initial: dict[str, Any] | None = None
    tape: Any = None

    @property
    def before(self) -> int:
        """Samples that are recorded before the first step."""
        return 0 if self.initial is None else 1


class Changes(NamedTuple):
    """What Born modelling is linear in: the counterparts of `Gradients`. None stands for no change.

    Attributes:
        coefficients: changes of coefficients, by name.
        wavelet: of the source samples, (shot, port and source, step).
        weights: of those of extended sources, (shot, *domain).
        at_sources: what is fed by the derivatives of where sources enter, by their positions:
            samples times metres, (shot, port and source, axis, step).
        initial: of the state before the first step, by field name, (shot, level, *points).
    """

    coefficients: dict[str, Any]
    wavelet: Any = None
    weights: Any = None
    at_sources: Any = None
    initial: dict[str, Any] | None = None

    @property
    def anything(self) -> bool:
        """Is there any change?"""
        return bool(self.coefficients) or any(x is not None for x in self[1:])
