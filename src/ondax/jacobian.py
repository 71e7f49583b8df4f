"""The Jacobian of a propagator as a lineax operator: Born modelling and reverse-time migration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from . import _validate
from ._types import GivenTraces, Model, Traces
from .face import checks, modelling
from .face.callback_errors import as_raised
from .face.host import Hosts
from .face.modelling import Given


class Jacobian(lx.AbstractLinearOperator):
    """The derivative of traces with respect to the model, at a background model: see
    `Propagator.jacobian`, which makes it.

    `mv` is Born modelling (demigration), `.T.mv` its exact transpose (reverse-time migration); both
    read one wavefield history, kept from call to call. Works with lineax's Krylov solvers.

    Args:
        propagator: the nonlinear operator, an `ox.Propagator`.
        model: the background.
        shots: numbers of the shots; None for all.
        wavelet: source samples instead of the survey's; None for those.
        weights: of extended sources.
        initial: the fields that the run begins with; None for rest.

    Attributes:
        tape: the wavefield history, if it is an array of JAX's; None where the backend keeps it.
    """

    propagator: Any
    model: Model
    shots: Array | None
    wavelet: Array | None
    weights: Array | None
    initial: Any
    tape: Any

    def __init__(
        self,
        propagator: Any,
        model: Model,
        shots: Any = None,
        wavelet: Any = None,
        weights: Any = None,
        initial: Any = None,
    ) -> None:
        self.propagator = propagator
        survey = propagator.survey
        dtype = modelling.type_of(model, wavelet, weights, *jax.tree.leaves(initial))
        self.initial = jax.tree.map(lambda x: _own(x, dtype), initial)
        self.model = jax.tree.map(lambda x: _own(x, dtype), model)
        self.shots = None if shots is None else checks.shot_numbers(shots, survey.n_shots)
        self.wavelet = None
        if wavelet is not None:
            shape = (self._n_shots, *survey.wavelet.shape[1:])
            wavelet = checks.wavelet_of_survey(_own(wavelet, dtype), shape)
            self.wavelet = _validate.shaped("wavelet", wavelet, shape, dtype)
        self.weights = None if weights is None else _own(weights, dtype)
        self.tape = None
        self.tape = _made(self._hosts, self.model, self._given)

    @property
    def _n_shots(self) -> int:
        return self.propagator.survey.n_shots if self.shots is None else self.shots.shape[0]

    @property
    def _hosts(self) -> Hosts:
        return self.propagator._hosts

    @property
    def _dtype(self) -> Any:
        fields = jax.tree.leaves(self.initial)
        return modelling.type_of(self.model, self.wavelet, self.weights, *fields)

    @property
    def _given(self) -> Given:
        given = Given(self.wavelet, self.weights, shots=self.shots, initial=self.initial)
        return given._replace(tape=self.tape)

    @as_raised()
    def check(self) -> None:
        """Check the background now, rather than in the first product.

        Raises:
            ValueError: it cannot be modelled; says why.
        """
        modelling.background(self._hosts, self.model, self._dtype, self._given)

    @as_raised()
    def mv(self, vector: Model) -> Traces:
        """Born traces of a model perturbation, shaped like the propagator's traces."""
        vector = _like(self.model, vector, self._dtype)
        named = self._hosts.problem.equation.named(vector)
        return modelling.born(self._hosts, self.model, named, self._given)

    def _transposed_mv(self, traces: GivenTraces) -> Model:
        shape = self.out_structure().shape
        data = _validate.shaped("traces", traces, shape, self._dtype)
        images = modelling.migrated(self._hosts, self.model, data, self._given)
        return images if isinstance(self.model, Mapping) else next(iter(images.values()))

    def as_matrix(self) -> Float[Array, "data model"]:
        """The dense matrix: one Born run per model point. For tiny problems."""
        return _dense(self)

    def transpose(self) -> TransposedJacobian:
        """Reverse-time migration."""
        return TransposedJacobian(self)

    def in_structure(self) -> Any:
        """The shapes and types of a perturbation."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.model)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """The shape and type of traces."""
        return jax.ShapeDtypeStruct(self._hosts.problem.trace_shape(self._n_shots), self._dtype)


class TransposedJacobian(lx.AbstractLinearOperator):
    """The transpose of a `Jacobian`: `mv` migrates traces into a model gradient."""

    jacobian: Jacobian

    @as_raised()
    def mv(self, vector: GivenTraces) -> Model:
        """The image, shaped like the model: the sum over shots of zero-lag correlations."""
        return self.jacobian._transposed_mv(vector)

    def as_matrix(self) -> Float[Array, "model data"]:
        return self.jacobian.as_matrix().T

    def transpose(self) -> Jacobian:
        return self.jacobian

    def in_structure(self) -> Any:
        return self.jacobian.out_structure()

    def out_structure(self) -> Any:
        return self.jacobian.in_structure()


@as_raised()
def _made(hosts: Hosts, model: Model, given: Given) -> Any:
    return modelling.taped(hosts, model, given)


def _own(values: Any, dtype: Any) -> Array:
    """An array that nobody else changes: JAX takes NumPy arrays as they lie in memory, if their
    addresses suit it."""
    return jnp.asarray(values, dtype) if isinstance(values, jax.Array) else jnp.array(values, dtype)


def _like(model: Model, vector: Model, dtype: Any) -> Model:
    if jax.tree.structure(model) != jax.tree.structure(vector):
        raise ValueError(
            f"a perturbation must be shaped like the model, {jax.tree.structure(model)}; got "
            f"{jax.tree.structure(vector)}"
        )
    return jax.tree.map(
        lambda m, v: _validate.shaped("perturbation", v, m.shape, dtype), model, vector
    )


def _dense(operator: lx.AbstractLinearOperator) -> Array:
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), operator.in_structure())
    flat, unflatten = ravel_pytree(zeros)
    columns = jax.lax.map(
        lambda v: ravel_pytree(operator.mv(unflatten(v)))[0], jnp.eye(flat.size, dtype=flat.dtype)
    )
    return columns.T


def tell_lineax(*kinds: type[lx.AbstractLinearOperator]) -> None:
    """Tell lineax what it may assume of kinds of operators, which is nothing beyond linearity."""
    for kind in kinds:
        for property_of in (
            lx.is_symmetric,
            lx.is_diagonal,
            lx.is_tridiagonal,
            lx.has_unit_diagonal,
            lx.is_lower_triangular,
            lx.is_upper_triangular,
            lx.is_positive_semidefinite,
            lx.is_negative_semidefinite,
        ):
            property_of.register(kind)(lambda operator: False)
        lx.linearise.register(kind)(lambda operator: operator)
        lx.conj.register(kind)(lambda operator: operator)
        lx.materialise.register(kind)(lambda operator: operator)
        lx.diagonal.register(kind)(lambda operator: jnp.diag(operator.as_matrix()))


tell_lineax(Jacobian, TransposedJacobian)
