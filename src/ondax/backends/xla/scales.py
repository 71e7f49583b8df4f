"""Powers of two that keep runs in the middle of the range of floating-point numbers; see
`backends.scaling`, which does the same to NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ...scheme.plan import Plan, PlannedPort, value
from ..scaling import LOST

NOTHING = -(1 << 20)  # the exponent of zero


def exponent(values: Any, axes: int, among: tuple[str, ...] = ()) -> Any:
    """The binary exponent of the largest absolute value along the last axes, and among the devices
    along axes of a mesh; NOTHING for zero."""
    over = tuple(range(values.ndim - axes, values.ndim))
    largest = jnp.max(jnp.abs(values), axis=over, initial=0.0)
    largest = lax.pmax(largest, among) if among else largest
    return jnp.where(largest > 0.0, jnp.frexp(largest)[1].astype(np.int32), NOTHING)


def or_zero(power: Any) -> Any:
    """An exponent; 0 for that of nothing."""
    return jnp.where(power == NOTHING, 0, power)


def scaled(values: Any, power: Any) -> Any:
    """`values * 2**power`; the powers are those of the leading axes."""
    shape = (*power.shape, *(1,) * (values.ndim - power.ndim))
    return jnp.ldexp(values, power.reshape(shape))


def if_held(values: Any, of_run: Any, power: Any, weakest: int) -> Any:
    """Results that their type can hold; else NaN. See `scaling.check_range`, which says more.

    Args:
        values: results, scaled back.
        of_run: binary exponents of the results of runs of size one, (shot,) or ().
        power: of two, by which they were multiplied, likewise.
        weakest: exponent below which the results of a run are nothing but rounding.
    """
    of_run, power = jnp.atleast_1d(of_run), jnp.atleast_1d(power)
    size = jnp.where(of_run == NOTHING, NOTHING, of_run + power)
    largest = jnp.argmax(size)
    least = int(np.finfo(values.dtype).minexp) + LOST
    lost = (of_run[largest] >= weakest) & (size[largest] <= least)
    return jnp.where(lost, jnp.nan, values)


def gain(
    plan: Plan,
    ports: Sequence[PlannedPort],
    coefficients: Mapping[str, Any],
    dt: float,
    among: tuple[str, ...] = (),
) -> Any:
    """How much samples of size one change the fields that they are fed to in a step, as a binary
    exponent; see `scaling.Gains`."""
    known = {name: jnp.zeros(()) for name in plan.kinds}
    for name, values in coefficients.items():
        size = exponent(values, values.ndim, among)
        known[name] = jnp.ldexp(jnp.where(size == NOTHING, 0.0, 0.75), or_zero(size))
    found = jnp.asarray(NOTHING, np.int32)
    for name, mass in plan.masses.items():
        factors = [abs(t.factor) for p in ports for t in p.touches if t.field.name == name]
        if factors and max(factors) > 0.0:
            size = jnp.abs(jnp.asarray(value(mass, {**known, "dt": float(dt)})))
            good = (size > 0.0) & jnp.isfinite(size)
            power = jnp.frexp(max(factors) / jnp.where(good, size, 1.0))[1].astype(np.int32)
            found = jnp.maximum(found, jnp.where(good, power, NOTHING))
    return or_zero(found)
