"""What is recorded of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recording:
    """What a run keeps of its wavefields, for those that linearise around it.

    Attributes:
        coefficients: names of the coefficients that are to be perturbed or differentiated, in the
            scheme's order.
        every: steps between those kept.
    """

    coefficients: tuple[str, ...]
    every: int = 1
