"""What the ratios of gradients are to be: with the history of every step in float32, and with the
cheapest history."""

from __future__ import annotations

from dataclasses import dataclass

from .report import Limit, at_least, at_most

HALF = "half"  # Settings(history=...): every step, in half precision
SAMPLED = "sampled"  # as few steps as the wavelets allow
CHEAPEST = SAMPLED  # in time: packing takes longer than it saves where memory is fast


@dataclass(frozen=True)
class Target:
    """Of a gradient's time over, or under, somebody else's.

    Attributes:
        exact: with the history of every step in float32.
        cheapest: with `Settings(history=CHEAPEST)`.
    """

    exact: Limit
    cheapest: Limit | None = None


# Our time over theirs.
DEVITO = {
    "A": Target(at_most(0.79), at_most(0.60)),
    "D": Target(at_most(0.85), at_most(0.70)),
    "E8": Target(at_most(0.95), at_most(0.87)),
    "E4": Target(at_most(0.93), at_most(0.60)),
    "T8": Target(at_most(1.32), at_most(1.00)),
    "T4": Target(at_most(1.09), at_most(0.87)),
}
DEVITO_FUSED = {"D": Target(at_most(1.0))}
CPML_OVER_SPONGE = at_most(1.05)  # 20 cells over 40
# Their time over ours.
DEEPWAVE = {
    "A": Target(at_least(14), at_least(18)),
    "E4": Target(at_least(3.3), at_least(4.5)),
}
# Peak memory of a gradient over its history of every step in float32.
MEMORY = {"auto": at_most(1.05), HALF: at_most(0.55), SAMPLED: at_most(0.3)}
# Milliseconds of a call of case C outside of compiled kernels.
OUTSIDE = {"forward": at_most(0.6), "gradient": at_most(1.5)}
# Plain JAX's gradient of case A over that of XLA's programs made from ours.
XLA_OVER_PLAIN = 2.8
# Two workers of Dask over two threads of one process: a gradient of case B, its traffic over model
# and gradient, shots that are modelled once more, and a gradient in which a worker is killed over
# one in which none is.
CLUSTER = {
    "gradient": at_most(1.10),
    "traffic": at_most(1.1),
    "made again": at_most(0.01),
    "one killed": at_most(2.5),
}
# Milliseconds that a call of tiny shots takes longer on workers.
CLUSTER_EXTRA = {"forward": at_most(10), "gradient": at_most(25)}
