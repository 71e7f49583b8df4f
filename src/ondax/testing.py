"""Tests of operators that users can run on their own equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._types import Model
from .histories.named import ON_DISK
from .propagator import Propagator


def _inner(a: Any, b: Any) -> float:
    """The inner product of two pytrees, summed in float64 so that it adds no rounding of its
    own."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(
        sum(np.vdot(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs)
    )


def dot_test(forward: Callable[[Any], Any], adjoint: Callable[[Any], Any], x: Any, y: Any) -> float:
    """How far a pair of linear operators is from being each other's transpose.

    Args:
        forward: a linear function.
        adjoint: its claimed transpose.
        x: a vector of the domain, any pytree of arrays; random values make a good test.
        y: a vector of the range, likewise.

    Returns:
        `|<forward(x), y> - <x, adjoint(y)>| / (|forward(x)| |y|)`. Exact adjoints give a few times
        the rounding of their
        type: below 1e-12 in float64 and 1e-5 in float32.

    Raises:
        ValueError: `forward(x)` or `y` is zero, which tests nothing.
    """
    image = forward(x)
    scale = np.sqrt(_inner(image, image) * _inner(y, y))
    if scale == 0.0:
        raise ValueError(
            "forward(x) or y is zero: this tests nothing; use random vectors and a source that is "
            "heard"
        )
    return abs(_inner(image, y) - _inner(x, adjoint(y))) / float(scale)


def same_on_both(F: Propagator, model: Model, *, weights: Any = None) -> dict[str, float]:
    """How far the two backends are from each other, of the same propagator.

    They have the scheme in common, and nothing below it: one has Devito make C of it, the other
    writes it as JAX arrays. So what both agree on, an equation of your own included, neither has
    got wrong by itself.

    Args:
        F: the propagator. What its settings say of the backend, of devices and of a disk does not
            matter.
        model: as in `F(model)`; its type is that of the comparison.
        weights: of extended sources, if the survey has such.

    Returns:
        The norm of the difference over that of the C kernels' result: of the "traces", of "born"
        traces of a random perturbation, and of the gradients of a random function of the traces, by
        "gradient in" and the name of a parameter, "wavelet", "sources" (or "weights") and
        "receivers". Rounding alone makes some 1e-14 in float64 and 1e-6 in float32.
    """
    plain = replace(F.settings, mesh=None)
    if plain.history in ON_DISK:  # which only C kernels do; nothing is lost by it
        plain = replace(plain, history="auto", folder=None)
    expected, found = (
        _everything(F.replace(settings=replace(plain, backend=name)), model, weights)
        for name in ("devito", "xla")
    )
    return {name: _apart(found[name], right) for name, right in expected.items()}


def _everything(F: Propagator, model: Model, weights: Any) -> dict[str, np.ndarray]:
    """Traces, Born traces and gradients, by name."""
    survey, random = F.survey, np.random.default_rng(5)
    model = jax.tree.map(jnp.asarray, model)
    dtype = jax.tree.leaves(model)[0].dtype

    def noise(like: Any) -> Any:
        return jnp.asarray(random.normal(size=like.shape), dtype)

    inputs = {
        "model": model,
        "wavelet": jnp.asarray(survey.wavelet, dtype),
        "receivers": jnp.asarray(survey.points[1].padded(), dtype),
    }
    if survey.extended:
        inputs["weights"] = jnp.asarray(weights, dtype)
    else:
        inputs["sources"] = jnp.asarray(survey.points[0].padded(), dtype)

    def traces(inputs: dict[str, Any]) -> Any:
        others = {name: x for name, x in inputs.items() if name != "model"}
        return F(inputs["model"], **others)

    modelled, pull = jax.vjp(traces, inputs)
    given: Any = {"weights": inputs["weights"]} if survey.extended else {}
    tangent = jax.tree.map(lambda m: 0.1 * jnp.mean(jnp.abs(m)) * noise(m), model)
    born = F.jacobian(model, **given).mv(tangent)
    (slopes,) = pull(noise(modelled))
    named = slopes.pop("model")
    named = named if isinstance(named, dict) else {F.equation.parameter_names[0]: named}
    found = {"traces": modelled, "born": born}
    found |= {f"gradient in {name}": g for name, g in {**named, **slopes}.items()}
    return {name: np.asarray(x, np.float64) for name, x in found.items()}


def _apart(found: np.ndarray, expected: np.ndarray) -> float:
    size = float(np.linalg.norm(expected))
    return float(np.linalg.norm(found - expected)) / (size if size > 0.0 else 1.0)
