"""Misfit functions between predicted and observed traces.

Each is a plain JAX function, `misfit(predicted, observed) -> scalar`. Traces have the shape
(..., time), and misfits of traces are summed over all other axes. Bind further arguments by
`functools.partial(huber, threshold=0.1)`. Any function of this form is a misfit for `fwi`. Values
and gradients are finite for finite traces, also for dead ones (all samples zero).

Where a survey's traces have weights (`Survey(trace_weights=...)`, and zeros where shots have fewer
receivers than others), a misfit is given predicted and observed traces times their weights. A
misfit with an argument `weights` is given the weights too, (shot, [component,] receiver): those
that do not depend on the size of traces need them.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._validate import positive
from .gathers import over_components

Traces = Float[Array | np.ndarray, "*batch time"]
Weights = Float[Array | np.ndarray, "*batch"]
Scalar = Float[Array, ""]
Misfit = TypeVar("Misfit", bound=Callable[..., Any])


def per_shot(misfit: Misfit) -> Misfit:
    """Mark a misfit as a sum over shots, and return it.

    `misfit(predicted, observed)` must be the same as the sum of the misfits of some of the shots
    and of the others: no mean over shots, and no weight that depends on other shots. Then
    `ox.Objective` and `ox.fwi` evaluate it a few shots at a time, in a part of the memory.
    """
    misfit.per_shot = misfit  # type: ignore[attr-defined]
    return misfit


def sums_over_shots(misfit: Any) -> bool:
    """Does a misfit say that it is a sum over shots?

    A function that wraps a marked one, by `functools.wraps`, takes over its attributes, but need
    not be such a sum; one that `jax.jit` has made is.
    """
    jitted = hasattr(misfit, "lower") and hasattr(misfit, "__wrapped__")
    inner = misfit.__wrapped__ if jitted else misfit
    mark = getattr(inner, "per_shot", None)
    if mark is None and isinstance(inner, functools.partial):
        return sums_over_shots(inner.func)
    return mark is inner


def takes_weights(misfit: Callable[..., Any]) -> bool:
    """Has a misfit an argument for the weights of traces?"""
    try:
        return "weights" in inspect.signature(misfit).parameters
    except (TypeError, ValueError):  # it cannot be told
        return False


def of_weighted(
    misfit: Callable[..., Any],
    predicted: Float[Array, "shot *components receiver time"],
    observed: Float[Array, "shot *components receiver time"],
    weights: Float[Array, "shot receiver"] | None,
) -> Any:
    """A misfit of traces times their weights; None stands for 1. A trace of weight 0 counts for
    nothing, whatever its samples are."""
    if weights is None:
        return misfit(predicted, observed)
    batch = predicted.shape[:-1]
    w = jnp.broadcast_to(over_components(weights, predicted.ndim), batch)
    w = w.astype(predicted.dtype)
    both = [jnp.where(w[..., None] == 0.0, 0.0, t) * w[..., None] for t in (predicted, observed)]
    return misfit(*both, weights=w) if takes_weights(misfit) else misfit(*both)


@per_shot
def least_squares(predicted: Traces, observed: Traces) -> Scalar:
    """Half the sum of squared differences, `0.5 sum((p - o)**2)` (Tarantola, 1984)."""
    return 0.5 * jnp.sum((predicted - observed) ** 2)


@per_shot
def l1(predicted: Traces, observed: Traces) -> Scalar:
    """Sum of absolute differences, `sum(|p - o|)` (Brossier, Operto and Virieux, 2010).

    It is insensitive to outliers. Its gradient does not become smaller towards the minimum.
    """
    return jnp.sum(jnp.abs(predicted - observed))


@per_shot
def huber(predicted: Traces, observed: Traces, *, threshold: float) -> Scalar:
    """Quadratic for small differences and linear for large ones, with a continuous gradient
    (Guitton and Symes, 2003).

    Args:
        predicted: traces (..., time).
        observed: traces (..., time).
        threshold: the difference above which the misfit is linear, in units of the data.

    Raises:
        ValueError: a threshold that is not positive.
    """
    if threshold <= 0.0:
        raise ValueError(f"threshold={threshold!r} must be positive, in units of the data")
    size = jnp.abs(predicted - observed)
    inside = jnp.minimum(size, threshold)
    return jnp.sum(inside * (size - 0.5 * inside))


@per_shot
def global_correlation(
    predicted: Traces, observed: Traces, *, weights: Weights | None = None
) -> Scalar:
    """One minus the normalised zero-lag cross-correlation, `sum(1 - <p, o> / (|p| |o|))` over
    traces (Choi and Alkhalifah, 2012).

    It compares the shapes of traces and not their amplitudes: each trace adds a number from 0 (same
    shape) to 2 (opposite sign), times its weight. A dead trace adds 1, and has a zero gradient.

    Args:
        predicted: traces (..., time).
        observed: traces (..., time).
        weights: of traces, (...); None for 1.
    """
    each = 1.0 - jnp.sum(_normalised(predicted) * _normalised(observed), axis=-1)
    return jnp.sum(each if weights is None else weights * each)


@per_shot
def envelope(predicted: Traces, observed: Traces) -> Scalar:
    """Half the sum of squared differences of the envelopes, `0.5 sum((E[p] - E[o])**2)` (Bozdag,
    Trampert and Tromp, 2011; Wu, Luo and Wu, 2014).

    `E[p] = sqrt(p**2 + H[p]**2)`, and H is the Hilbert transform. The envelope varies slowly: so,
    compared with least squares, this misfit tolerates larger errors of phase, and tells more about
    low wavenumbers.
    """
    return least_squares(_envelope(predicted), _envelope(observed))


@per_shot
def traveltime(
    predicted: Traces, observed: Traces, *, dt: float, weights: Weights | None = None
) -> Scalar:
    """Half the sum of squared time shifts between predicted and observed traces, in s**2 (Luo and
    Schuster, 1991).

    The shift of a pair of traces is the lag at which their cross-correlation is largest. A parabola
    through the three values around that maximum refines it, which makes it differentiable. A pair
    with a dead trace has no shift. The misfit is meant for traces with one dominant arrival: window
    or mute the data first.

    Args:
        predicted: traces (..., time).
        observed: traces (..., time).
        dt: time between samples, s.
        weights: of traces, (...); the square of a shift counts so many times. None for 1.

    Raises:
        ValueError: a `dt` that is not positive.
    """
    positive("dt", dt, "seconds")
    nt = predicted.shape[-1]
    size = 2 * nt
    p, o = (jnp.fft.rfft(_normalised(traces), size) for traces in (predicted, observed))
    # Rolled, so that lag zero is at sample nt.
    correlation = jnp.roll(jnp.fft.irfft(p * jnp.conj(o), size), nt, axis=-1)
    peak = jnp.clip(jnp.argmax(correlation, axis=-1, keepdims=True), 1, size - 2)
    before, at, after = (jnp.take_along_axis(correlation, peak + i, axis=-1) for i in (-1, 0, 1))
    curvature = before - 2.0 * at + after
    curved = curvature < 0.0
    refinement = jnp.where(curved, 0.5 * (before - after) / jnp.where(curved, curvature, 1.0), 0.0)
    lag = (peak - nt).astype(predicted.dtype) + refinement
    each = jnp.where(curved, lag * dt, 0.0)[..., 0] ** 2
    return 0.5 * jnp.sum(each if weights is None else weights * each)


def _normalised(traces: Traces) -> Float[Array, "*batch time"]:
    """Each trace divided by its L2 norm; dead traces stay zero."""
    # Divided by the peak first, so that the squares of tiny samples do not become zero.
    peak = jax.lax.stop_gradient(jnp.max(jnp.abs(traces), axis=-1, keepdims=True))
    scaled = jnp.asarray(traces) / jnp.where(peak > 0.0, peak, 1.0)
    energy = jnp.sum(scaled**2, axis=-1, keepdims=True)
    return scaled / jnp.sqrt(jnp.where(peak > 0.0, energy, 1.0))


def _envelope(traces: Traces) -> Float[Array, "*batch time"]:
    """The modulus of the analytic signal. Zeros are added up to twice the length, so that the
    Hilbert transform does not wrap around."""
    nt = traces.shape[-1]
    size = 2 * nt
    quadrature = jnp.fft.irfft(-1j * jnp.fft.rfft(traces, size), size)[..., :nt]
    power = jnp.square(traces) + quadrature**2
    # The square root has no gradient at zero, so there it is replaced by a constant.
    alive = power > 0.0
    return jnp.where(alive, jnp.sqrt(jnp.where(alive, power, 1.0)), 0.0)
