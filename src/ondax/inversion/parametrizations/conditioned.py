"""Conditioning of gradients as a change of variables."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, PyTree

from ..constraints import spread
from .base import Parametrization, ends, known, sort


def conditioned(reference: PyTree, operator: lx.AbstractLinearOperator) -> Parametrization:
    """Conditions gradients by a change of variables: inverts for x, which is zero at the start, in
    `model = reference + operator x`. Any operator on models will do, such as those of
    `ox.preconditioners`, composed by `@`::

        pre = ox.preconditioners
        C = (
            pre.top_mute(grid, pre.seabed(grid, vp0, 1600.0), 0.0)
            @ pre.source_taper(grid, survey, 100.0)
            @ pre.smoothing(grid, 50.0)
        )
        p = ox.parametrizations.conditioned(vp0, C)
        result = ox.fwi(F, observed, p.from_model(vp0), parameters=p, optimizer=optax.lbfgs())
        vp = p(result.model)

    The gradient with respect to x is the operator's transpose times that of the model, and a step
    goes through the operator once more. As this is the gradient of what is minimised, it suits
    L-BFGS and line searches, which a changed gradient does not. Where an operator's weights are
    zero, the model stays what it is, to the last bit, if this operator is applied last: it is then
    on the left of `@`.

    Bounds of the model are bounds of x where the operator is diagonal. For others, compose with
    `between`. A penalty of the model is `lambda x: penalty(p(x))`. What is inverted for may be in
    other terms than the model, too: `q = slowness()`, then `conditioned(q.from_model(vp0), C) | q`.

    An operator is made for one grid: for `multiscale`, see its argument `condition`.

    Args:
        reference: the model around which it works: an array or a tree of arrays.
        operator: a linear operator whose result is like `reference`.

    Raises:
        TypeError: `operator` is none of lineax.
        ValueError: what it returns is not like `reference`.
    """
    if not isinstance(operator, lx.AbstractLinearOperator):
        raise TypeError(
            f"operator={operator!r} must be a linear operator of lineax, such as those of "
            "ox.preconditioners; wrap a function by lineax.FunctionLinearOperator"
        )
    # A dtype that is asked for is never of JAX's weak type, and operators have none of that.
    around = jax.tree.map(lambda m: jnp.asarray(m, jnp.asarray(m).dtype), reference)
    structure = jax.eval_shape(lambda: around)
    if operator.out_structure() != structure:
        raise ValueError(
            f"operator gives {operator.out_structure()}, but the reference is {structure}: pass "
            "like=reference to what made the operator"
        )
    ones = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), operator.in_structure())
    weights = operator.mv(ones) if lx.is_diagonal(operator) else None

    def to_model(x: PyTree) -> PyTree:
        return jax.tree.map(jnp.add, around, operator.mv(x))

    def from_model(model: PyTree) -> PyTree:
        if weights is None:
            apart = _differences(model, around)
            if not all(known(d) and not np.any(d) for d in jax.tree.leaves(apart)):
                raise ValueError(
                    "only the reference itself is known in terms of `conditioned` with an operator "
                    "that is not diagonal: make it around the model that is to be the start"
                )
            return jax.tree.map(jnp.zeros_like, ones)

        def divided(apart: Array, weight: Array) -> Array:
            held = weight == 0.0
            if known(apart) and np.any(held & (apart != 0.0)):
                raise ValueError(
                    "the model differs from the reference where the operator's weights are zero: "
                    "make `conditioned` around this model"
                )
            return jnp.where(held, 0.0, apart / jnp.where(held, 1.0, weight))

        return jax.tree.map(divided, _differences(model, around), weights)

    def bounds(lower: PyTree, upper: PyTree) -> tuple[PyTree, PyTree]:
        if weights is None:
            raise ValueError(
                "bounds of the model are no bounds of x in `conditioned` with an operator that is "
                "not diagonal: leave `bounds` out, and keep the model within them by b = "
                "ox.parametrizations.between(lower, upper) and "
                "conditioned(b.from_model(model), operator) | b"
            )
        low, high = spread("lower bound", lower, around), spread("upper bound", upper, around)
        for a, m, b in zip(*map(jax.tree.leaves, (low, around, high)), strict=True):
            if not np.all((a <= m) & (m <= b)):
                raise ValueError(
                    f"the reference, {float(jnp.min(m)):g} to {float(jnp.max(m)):g}, leaves the "
                    f"bounds {ends(lower, upper)}: widen them, or clip it first"
                )

        def divided(bound: PyTree, unlimited: float) -> PyTree:
            def of(b: Array, m: Array, w: Array) -> Array:
                return jnp.where(w == 0.0, unlimited, (b - m) / jnp.where(w == 0.0, 1.0, w))

            return jax.tree.map(of, bound, around, weights)

        return sort(divided(low, -jnp.inf), divided(high, jnp.inf))

    return Parametrization(to_model, from_model, bounds, name="conditioned")


def _differences(model: PyTree, reference: PyTree) -> PyTree:
    """What a model differs by, without differences of its rounding."""

    def of(m: Any, r: Array) -> Array:
        apart = jnp.asarray(m) - r
        rounding = 4.0 * float(jnp.finfo(r.dtype).eps)
        return jnp.where(jnp.abs(apart) <= rounding * jnp.abs(r), 0.0, apart)

    return jax.tree.map(of, model, reference)
