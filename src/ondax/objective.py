"""A misfit summed over shots, evaluated where the shots are visited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import _validate
from ._once import Once
from ._types import GivenShots, Model
from .face import modelling
from .face.callback_errors import as_raised
from .face.elsewhere import Elsewhere, elsewhere
from .face.fetching import Source, check_count, in_memory
from .face.grouped import InGroups, Misfit, Terms, fetched_for, sum_over_groups, summed
from .face.modelling import Given
from .misfits import least_squares, of_weighted, sums_over_shots
from .propagator import Propagator


def normal_product(
    F: Propagator,
    slope: Callable[[Array], Array],
    scale: Array | None,
    model: Model,
    vector: Model,
    shots: GivenShots | None,
) -> Model:
    """The product `J' H J vector`, of some shots together.

    Args:
        F: the propagator.
        slope: the derivative of a misfit in traces times `scale`, a function of these, of which H
            is the derivative.
        scale: a factor of traces; None for 1.
        model: the background.
        vector: shaped like the model.
        shots: numbers of the shots; None for all.
    """
    J = F.jacobian(model, shots=shots)
    predicted = F(model, shots=shots)
    factor = jnp.ones((), predicted.dtype) if scale is None else scale
    _, curved = jax.jvp(slope, (predicted * factor,), (J.mv(vector) * factor,))
    return J.T.mv(curved * factor)


@final
class Objective(eqx.Module):
    """The sum over shots of a misfit of each shot's traces: `value = objective(model)`, a JAX
    function like any other, of which `jax.value_and_grad` gives value and gradient.

    The value and the gradient of a shot are found in one visit, a few shots at a time, as many as
    run side by side. So the histories of these are held, and not those of all shots; and
    predicted traces of other shots are not kept either.

    Its gradient is that of `misfit(F(model), observed)` in the model. It is a constant function of
    `observed`, of `scale`, and of what the misfit closes over, to JAX. Make it once: each objective
    is compiled for itself.

    Args:
        F: the propagator. Its survey's sources are points.
        observed: traces (shot, [component,] receiver, time), an array; or a list with those of each
            shot, ([component,] receiver, time); or anything that gives those of some shots, either
            way, by `observed[numbers]`, a NumPy array of shot numbers: then no more than those of a
            few shots are in memory.
        misfit: `misfit(predicted, observed) -> scalar`, a JAX function that is a sum over shots:
            one of `ox.misfits`, bound to arguments by `functools.partial` or not, or one of your
            own, marked by `ox.misfits.per_shot`.
        scale: predicted traces are multiplied by this number first.
        trace_weights: factors of predicted and observed traces, (shot, receiver), in place of the
            survey's.

    Raises:
        ValueError: a misfit that does not say that it is a sum over shots; a survey of extended
            sources; or traces of another shape than the survey's.
    """

    F: Propagator
    observed: Array | None
    scale: Array | None
    trace_weights: Array | None
    misfit: Misfit = eqx.field(static=True)
    _source: Source | None = eqx.field(static=True, repr=False)
    _functions: Once = eqx.field(static=True, repr=False)

    def __init__(
        self,
        F: Propagator,
        observed: Any,
        misfit: Misfit = least_squares,
        *,
        scale: Any = None,
        trace_weights: Any = None,
    ) -> None:
        if F.survey.extended:
            raise ValueError(
                "the survey's sources are extended, and their weights are given with each call: "
                "write the misfit of F(model, weights=w) as a function of your own"
            )
        if not sums_over_shots(misfit):
            raise ValueError(
                f"misfit={misfit!r} does not say that it is a sum over shots: if it is, mark it, "
                "ox.misfits.per_shot(misfit); if not, differentiate misfit(F(model), observed)"
            )
        self.F, self.misfit, self._functions = F, misfit, Once()
        shape = F._problem.trace_shape(F.survey.n_shots)
        self.observed = self._source = None
        self.scale = None if scale is None else jnp.asarray(scale)
        if trace_weights is None and F.survey.weighs_traces:
            trace_weights = F.survey.trace_weights
        self.trace_weights = None if trace_weights is None else jnp.asarray(trace_weights)
        if isinstance(observed, (list, tuple)):
            observed = F.survey.padded(observed)
        if in_memory(observed):
            _validate.shape("observed", observed, shape)
            # A copy of what NumPy holds: JAX would take it as it lies in memory.
            self.observed = observed if isinstance(observed, jax.Array) else jnp.array(observed)
        else:
            check_count(observed, F.survey.n_shots)
            self._source = observed if isinstance(observed, Source) else Source(observed)

    @as_raised()
    def __call__(self, model: Model, *, shots: GivenShots | None = None) -> Float[Array, ""]:
        """The sum over shots.

        Args:
            model: as F takes it.
            shots: numbers of the shots to sum over; default all. May be traced.

        Raises:
            ValueError: as for `Propagator.__call__`.
        """
        hosts = self.F._hosts
        dtype = modelling.type_of(model)
        at = modelling.background(hosts, model, dtype, Given(shots=shots))
        threads = self.F.settings.worker_threads

        visited = elsewhere() and self.F.settings.mesh is None

        def made() -> Any:
            given = at.host, self.misfit, self._source
            way = Elsewhere(*given) if visited else InGroups(*given, threads)
            return summed(at.host.coefficient_names, way)

        function = self._functions.of(("value", at.host, visited), made)
        observed, scale = self._in(dtype)
        return function(Terms(at.operands, at.lever, observed, scale, self.trace_weights))

    @as_raised()
    def normal(self, model: Model, vector: Model, *, shots: GivenShots | None = None) -> Model:
        """The product `J' H J vector`: J is the Jacobian of the traces, H the second derivative of
        the misfit in the traces, the identity for least squares. This is the Hessian of the sum
        without scattering of second order, which Gauss-Newton methods take (Pratt, Shin and Hicks,
        1998); `ox.hvp` gives the whole.

        A shot's Born traces are modelled and migrated in one visit, so that the histories of a few
        shots are held, and not those of all. It is not meant to be differentiated again. As images
        are added group by group, its last digits depend on the number of threads.

        Args:
            model: the background.
            vector: shaped like the model.
            shots: numbers of the shots to sum over; default all. May be traced.

        Returns:
            Shaped like the model.

        Raises:
            ValueError: as for `Propagator.jacobian`.
        """
        misfit, source, threads = self.misfit, self._source, self.F.settings.worker_threads

        def product(F: Propagator, parts: Any, model: Model, vector: Model, numbers: Any) -> Model:
            observed, scale, weights = parts

            def of_group(group: Any) -> Model:
                def slope(traces: Array) -> Array:
                    there = fetched_for(source, observed, group, traces)
                    of_traces = None if weights is None else weights[group]
                    return jax.grad(of_weighted, 1)(misfit, traces, there, of_traces)

                return normal_product(F, slope, scale, model, vector, group)

            return sum_over_groups(of_group, numbers, threads)

        function = self._functions.of("normal", lambda: jax.jit(product))
        observed, scale = self._in(modelling.type_of(model, *jax.tree.leaves(vector)))
        numbers = modelling.shot_numbers(self.F._problem, shots)
        parts = (observed, scale, self.trace_weights)
        return function(self.F, parts, model, vector, numbers)

    def _in(self, dtype: Any) -> tuple[Array | None, Array | None]:
        """Observed traces and scale, in a floating-point type."""
        observed = None if self.observed is None else self.observed.astype(dtype)
        return observed, None if self.scale is None else self.scale.astype(dtype)
