"""Between what receivers record and traces, in one program each way: outside of jit, each of its
operations would be compiled alone."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._types import Traces
from ..acquisition.components import Components
from ..acquisition.dispersion import TimeWarp
from .lever import Lever
from .warping import unwarped, warped


class Records(NamedTuple):
    """How traces are made of what receivers record.

    Attributes:
        receivers: which ports they read.
        lead: samples that are modelled before the first of the traces; negative, if it comes later.
        warp: takes time dispersion away; None where traces stay raw.
        before: samples that are recorded before the first step: one, if the run starts from given
            fields.
    """

    receivers: Components
    lead: int
    warp: TimeWarp | None
    before: int = 0


@partial(jax.jit, static_argnums=0)
def traces_of(
    records: Records,
    samples: Float[Array, "shot row sample"],
    shots: Int[Array, " shot"],
    lever: Lever | None = None,
) -> Traces:
    """Traces from what receivers record, which starts with the first step if the field is at rest
    when the wavelets begin. With a lever, they leave by it."""
    traces = records.receivers.collected(samples, shots, jnp)
    modelled = unwarped(_padded(traces, 1 - records.before), records.warp)
    found = modelled[..., records.lead :] if records.lead >= 0 else _padded(modelled, -records.lead)
    return found if lever is None else lever.leave(found)


@partial(jax.jit, static_argnums=0)
def samples_of(
    records: Records, traces: Traces, shots: Int[Array, " shot"]
) -> Float[Array, "shot row sample"]:
    """The transpose of `traces_of`."""
    modelled = traces[..., -records.lead :] if records.lead <= 0 else _padded(traces, records.lead)
    modelled = warped(modelled, records.warp)
    return records.receivers.rows(modelled[..., 1 - records.before :], shots, jnp)


def _padded(traces: Any, ahead: int) -> Any:
    """Traces after so many zeros."""
    return jnp.pad(traces, [*[(0, 0)] * (traces.ndim - 1), (ahead, 0)])
