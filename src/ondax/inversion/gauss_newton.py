"""Gauss-Newton steps, as an optimiser of `fwi`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from .._validate import positive, whole

RELAXED, TIGHTENED = 1.0 / 3.0, 4.0  # factors of the damping after a step that helped, or did not


@final
class GaussNewtonState(NamedTuple):
    """What an iteration hands on to the next.

    Attributes:
        damping: as a fraction of the Hessian's size along the gradient.
    """

    damping: Float[Array, ""]


@final
class GaussNewton(eqx.Module):
    """Damped Gauss-Newton steps (Levenberg, 1944; Marquardt, 1963; Pratt, Shin and Hicks, 1998):
    `fwi(..., optimizer=ox.GaussNewton(iterations=8))`.

    Each step solves `(J' H J + damping) step = -gradient` by a few iterations of conjugate
    gradients, where J is the Jacobian of the traces, and H the second derivative of the misfit in
    the traces, the identity for least squares; what is added to the misfit counts with its own
    second derivative. An iteration of conjugate gradients takes a Born run and an adjoint run of
    each shot, around wavefields that are modelled once. A step that does not lower the misfit is
    not taken: the next one is damped more.

    `fwi` then takes a `Propagator`. Its state is one number, so it is saved and resumed as those of
    other optimisers.

    Where the second derivative of a misfit is not positive everywhere, conjugate gradients end at
    the first direction along which the misfit does not curve upwards (Steihaug, 1983).

    A point without a gradient is not moved: it is held by a mask, or lies on a bound that a step
    would cross.

    Args:
        iterations: of conjugate gradients, for each step.
        damping: at the start, as a fraction of the Hessian's size along the gradient.
        tolerance: conjugate gradients end when their residual is this fraction of the gradient.

    Raises:
        ValueError: a number out of its range.
    """

    iterations: int = 8
    damping: float = 1e-2
    tolerance: float = 1e-2

    def __check_init__(self) -> None:
        whole("iterations", self.iterations, at_least=1)
        positive("damping", self.damping, "a fraction")
        positive("tolerance", self.tolerance, "a fraction")

    def init(self, params: PyTree) -> GaussNewtonState:
        """The first state."""
        return GaussNewtonState(jnp.asarray(self.damping, jax.tree.leaves(params)[0].dtype))

    def update(
        self,
        gradient: PyTree,
        state: GaussNewtonState,
        params: PyTree,
        *,
        value: Array,
        value_fn: Callable[[PyTree], Array],
        normal: Callable[[PyTree], PyTree],
        **_: Any,
    ) -> tuple[PyTree, GaussNewtonState]:
        """One step.

        Args:
            gradient: of what is minimised.
            state: the last state.
            params: where it is taken.
            value: of what is minimised.
            value_fn: what is minimised.
            normal: multiplies with the Gauss-Newton Hessian.
        """

        def free(values: PyTree) -> PyTree:
            return jax.tree.map(
                lambda v, g: jnp.where(g == 0.0, jnp.zeros_like(v), v), values, gradient
            )

        square = jnp.asarray(optax.tree.vdot(gradient, gradient))
        along = jnp.asarray(optax.tree.vdot(gradient, normal(gradient)))
        size = along / jnp.where(square > 0.0, square, 1.0)
        damping = state.damping * jnp.abs(size)

        def damped(v: PyTree) -> PyTree:
            return optax.tree.add_scale(free(normal(free(v))), damping, v)

        down = jax.tree.map(jnp.negative, gradient)
        step = conjugate_gradients(damped, down, self.iterations, self.tolerance)
        better = value_fn(optax.tree.add(params, step)) < value
        step = jax.tree.map(lambda s: jnp.where(better, s, jnp.zeros_like(s)), step)
        factor = jnp.where(better, RELAXED, TIGHTENED).astype(state.damping.dtype)
        return step, GaussNewtonState(state.damping * factor)


def conjugate_gradients(
    product: Callable[[PyTree], PyTree], right: PyTree, iterations: int, tolerance: float
) -> PyTree:
    """Solve `product(x) = right` from x = 0, until the residual is a fraction `tolerance` of
    `right`, or until a direction has no positive curvature.

    (The library's method gives up, with NaN, where curvatures are small in absolute numbers, as
    those by velocities are.)
    """
    size = jnp.asarray(optax.tree.vdot(right, right))

    def goes_on(state: Any) -> Any:
        done, _, _, _, square, curved = state
        return (done < iterations) & (square > tolerance**2 * size) & curved

    def iterate(state: Any) -> Any:
        done, x, residual, direction, square, _ = state
        moved = product(direction)
        curvature = jnp.asarray(optax.tree.vdot(direction, moved))
        curved = curvature > 0.0
        length = jnp.where(curved, square / jnp.where(curved, curvature, 1.0), 0.0)
        x = optax.tree.add_scale(x, length, direction)
        residual = optax.tree.add_scale(residual, -length, moved)
        left = jnp.asarray(optax.tree.vdot(residual, residual))
        direction = optax.tree.add_scale(residual, left / square, direction)
        return done + 1, x, residual, direction, left, curved

    start = (0, jax.tree.map(jnp.zeros_like, right), right, right, size, jnp.asarray(True))
    return jax.lax.while_loop(goes_on, iterate, start)[1]
