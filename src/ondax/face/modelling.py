"""From what users give to operands, and from what receivers record to traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from .. import _validate
from .._types import Model, Traces
from ..backends.base import Asked
from ..equations.media import coefficients as coefficients_of
from . import checks, forward_mode, primitives, wavefields
from .examined import Examined, examined
from .host import HostModel, Hosts
from .lever import Lever
from .operands import Changes, Operands, Positions
from .positions import as_pairs, known_to_jax
from .problem import Problem
from .records import Records, samples_of, traces_of
from .rules import adjoint_of_source, differentiable
from .sharding import unify_axes
from .warping import warped
from .wavefields import Wavefields


class Given(NamedTuple):
    """What a user gives with a call, beside the model; None for what the survey says."""

    wavelet: Any = None
    weights: Any = None
    sources: Any = None
    receivers: Any = None
    shots: Any = None
    initial: Any = None
    tape: Any = None


class Background(NamedTuple):
    """A model as a run takes it.

    Attributes:
        host: the host model.
        operands: what the run depends on.
        named: the model by name, having gone through the lever.
        lever: see there.
    """

    host: HostModel
    operands: Operands
    named: dict[str, Any]
    lever: Lever


def type_of(model: Model, *others: Any) -> Any:
    """The floating-point type of a call.

    Raises:
        TypeError: an input is not real and floating.
    """
    leaves = [x for x in (*jax.tree.leaves(model), *others) if x is not None]
    return _validate.floating_type(leaves)


def coefficients(problem: Problem, model: Model) -> dict[str, Float[Array, "..."]]:
    """The scheme's coefficients on the domain, by name (plain JAX)."""
    by_name = coefficients_of(problem.equation, problem.boundary, model, problem.grid.ndim)
    return {n: by_name[n] for n in problem.coefficient_names}


def background(
    hosts: Hosts, model: Model, dtype: Any, given: Given, linear: bool = False
) -> Background:
    """The operands of a run in a model; `linear` if only what its sources add is wanted.

    Raises:
        ValueError: what does not fit, or, where it is known now, cannot work.
    """
    problem = hosts.problem
    named, found = _examined(problem, model, dtype)
    lever = found.lever
    shots = shot_numbers(problem, given.shots)
    host = hosts.of(dtype)
    if not linear:
        wavefields.check_whole(problem, given.initial)
    operands = Operands(
        coefficients=dict(zip(problem.coefficient_names, found.coefficients, strict=True)),
        bounds=found.row,
        shots=shots,
        wavelet=_wavelet(hosts, given.wavelet, shots, dtype, lever),
        weights=_weights(problem, given.weights, shots, dtype, lever),
        sources=_positions(problem, "sources", given.sources, shots, dtype, lever),
        receivers=_positions(problem, "receivers", given.receivers, shots, dtype, lever),
        initial=_initial(host, given.initial, shots, dtype, lever),
        tape=given.tape,
    )
    return Background(host, unify_axes(operands), lever.enter(named), lever)


def _examined(problem: Problem, model: Model, dtype: Any) -> tuple[dict[str, Any], Examined]:
    """The model by name, and what a call has to know of it, checked if it is known now."""
    equation, ndim = problem.equation, problem.grid.ndim
    named = {
        n: _validate.shaped(n, v, problem.grid.shape, dtype)
        for n, v in equation.named(model).items()
    }
    names = problem.coefficient_names
    found = examined(equation, problem.boundary, ndim, problem.strata_matter, names, named)
    if not isinstance(found.bounds, Tracer):
        # Known now: an exception of our own, not from a callback.
        known = list(map(float, np.asarray(found.bounds)))
        problem.check_bounds(*known)
        values = map(jax.lax.stop_gradient, found.coefficients)
        by_name = dict(zip(names, values, strict=True))
        problem.check_step(by_name, known[1], list(map(float, np.asarray(found.contrasts))))
    return named, found


def shot_numbers(problem: Problem, shots: Any) -> Int[Array, " shot"]:
    """Shot numbers; all where none are given."""
    if shots is None:
        # `jnp.asarray` would compile a program for it.
        return jax.device_put(np.arange(problem.survey.n_shots, dtype=np.int32))
    return checks.shot_numbers(shots, problem.survey.n_shots)


def _wavelet(hosts: Hosts, wavelet: Any, shots: Array, dtype: Any, lever: Lever) -> Any:
    if wavelet is None:
        return None
    problem = hosts.problem
    shape = (shots.shape[0], *problem.survey.wavelet.shape[1:])
    wavelet = checks.wavelet_of_survey(wavelet, shape)
    wavelet = _validate.shaped("wavelet", wavelet, shape, dtype)

    def fired(wavelet: Any, shots: Any, lever: Lever) -> Any:
        return source_samples(problem, lever.enter(wavelet), shots)

    return hosts.once("fired", lambda: jax.jit(fired))(wavelet, shots, lever)


def _weights(problem: Problem, weights: Any, shots: Array, dtype: Any, lever: Lever) -> Any:
    extended = problem.survey.extended
    if extended and weights is None:
        raise ValueError(
            "the survey's sources are extended: give their weights, F(model, weights=w)"
        )
    if weights is None:
        return None
    if not extended:
        raise ValueError(
            "weights=: the survey's sources are points; make it ox.Survey(ox.Extended(shots), ...)"
        )
    shape = (shots.shape[0], *problem.grid.shape)
    weights = lever.enter(_validate.shaped("weights", weights, shape, dtype))
    return jnp.pad(weights, ((0, 0), *problem.widths))


def _initial(host: HostModel, fields: Any, shots: Array, dtype: Any, lever: Lever) -> Any:
    if fields is None:
        return None
    wavefields.check_start(host.problem)
    return lever.enter(wavefields.state_of(fields, host, shots.shape[0], dtype))


def _positions(
    problem: Problem, name: str, positions: Any, shots: Array, dtype: Any, lever: Lever
) -> Positions | None:
    if positions is None:
        return None
    survey = problem.survey
    if name == "sources" and survey.extended:
        raise ValueError(
            "sources=: the survey's sources are extended and have no positions; give weights="
        )
    points = survey.n_sources if name == "sources" else survey.n_receivers
    shape = (shots.shape[0], points, problem.grid.ndim)
    positions = checks.positions_of_survey(name, positions, shape)
    pairs, single = as_pairs(name, positions, shape, dtype, problem.nearest_coordinate)
    return Positions(lever.enter(pairs), single)


def source_samples(problem: Problem, wavelet: Any, shots: Array) -> Array:
    """Wavelets as backends take them: one row for each port and source, at internal steps."""
    moved = warped(problem.from_start(wavelet, jnp), problem.warp)
    return problem.fired(problem.sources.rows(moved, shots, jnp), jnp)


def _recorded(
    hosts: Hosts, host: HostModel, operands: Operands, linear: bool = False, final: bool = False
) -> Any:
    if hosts.forward_mode:
        return forward_mode.recorded(host, operands, linear, final)
    function = hosts.once((host, linear, final), lambda: differentiable(host, linear, final))
    return function(operands)


def _records(problem: Problem, operands: Operands) -> Records:
    return problem.records._replace(before=operands.before)


def _started(hosts: Hosts, model: Model, given: Given, linear: bool = False) -> Background:
    """The operands of a run, in the type that all that is given has."""
    known = [p for p in (given.sources, given.receivers) if known_to_jax(p)]
    known += jax.tree.leaves(given.initial)
    dtype = type_of(model, given.wavelet, given.weights, *known)
    return background(hosts, model, dtype, given, linear)


def traces(hosts: Hosts, model: Model, given: Given, linear: bool = False) -> Traces:
    """Model traces; `linear` if what is given as a source is a cotangent."""
    at = _started(hosts, model, given, linear)
    samples = _recorded(hosts, at.host, at.operands, linear)
    return traces_of(_records(hosts.problem, at.operands), samples, at.operands.shots, at.lever)


def traces_and_final(hosts: Hosts, model: Model, given: Given) -> tuple[Traces, Wavefields]:
    """Traces, and the fields after the last step."""
    wavefields.check_runs(hosts.problem)
    at = _started(hosts, model, given)
    samples, state = _recorded(hosts, at.host, at.operands, final=True)
    records = _records(hosts.problem, at.operands)
    found = traces_of(records, samples, at.operands.shots, at.lever)
    return found, wavefields.wrapped(hosts.problem, at.lever.leave(state))


def at_rest(hosts: Hosts, model: Model, fields: Mapping[str, Any]) -> Wavefields:
    """See `Propagator.at_rest`."""
    problem = hosts.problem
    wavefields.check_runs(problem)
    dtype = type_of(model, *jax.tree.leaves(fields))
    shots, given = wavefields.padded(fields, hosts.of(dtype), dtype)
    silent = None
    if problem.survey.extended:
        silent = jnp.zeros((shots, *problem.grid.shape), dtype)
    numbers = np.zeros(shots, np.int32)  # of shots that do not fire
    at = background(hosts, model, dtype, Given(weights=silent, shots=numbers), linear=True)
    host = hosts.of_one_step(dtype)
    start = wavefields.standing(host, {n: at.lever.enter(v) for n, v in given.items()}, shots)
    nothing = jnp.zeros((shots, host.n_sources, host.steps), dtype)
    operands = unify_axes(at.operands._replace(wavelet=nothing, initial=start))
    _, after = _recorded(hosts, host, operands, final=True)
    made = wavefields.resting(host, start, after)
    return wavefields.wrapped(problem, at.lever.leave(made))


def with_changes(
    hosts: Hosts, model: Model, perturbation: Model, given: Given
) -> tuple[Traces, Traces]:
    """Traces and Born traces, by the linearised scheme."""
    problem = hosts.problem
    fields = jax.tree.leaves(given.initial)
    dtype = type_of((model, perturbation), given.wavelet, given.weights, *fields)
    at = background(hosts, model, dtype, given)
    changes = {
        n: _validate.shaped(f"the perturbation of {n}", v, problem.grid.shape, dtype)
        for n, v in problem.equation.named(perturbation).items()
    }
    perturbed = tangents(problem, at, changes)
    names = at.host.tangents()
    both = {names[n]: p for n, p in perturbed.items()}
    operands = at.operands._replace(coefficients={**at.operands.coefficients, **both})
    operands = unify_axes(operands)
    samples = _recorded(hosts, at.host.linearized(), operands)
    plain, born = jnp.split(samples, 2, axis=-2)
    ends = operands.shots, at.lever
    records = _records(problem, operands)
    return traces_of(records, plain, *ends), traces_of(records, born, *ends)


def tangents(problem: Problem, at: Background, changes: dict[str, Any]) -> dict[str, Array]:
    """How the scheme's coefficients change with the parameters, by name."""

    def of(named: dict[str, Any]) -> dict[str, Array]:
        return coefficients(problem, named)

    return jax.jvp(of, (at.named,), (at.lever.enter(changes),))[1]


def taped(hosts: Hosts, model: Model, given: Given) -> Any:
    """The history of a forward run, for Born runs and migrations in the same model; None where it
    stays with the backend, or does not fit into memory."""
    problem = hosts.problem
    host = hosts.of(type_of(model, given.wavelet, given.weights, *jax.tree.leaves(given.initial)))
    if not host.gives_tapes:
        return None
    operands = jax.lax.stop_gradient(_started(hosts, model, given).operands)
    if host.tape(operands, problem.coefficient_names, exact=True) is None:
        return None
    # What is linear in the background's samples is made from every step.
    return primitives.forward(host, operands, problem.coefficient_names, linear=True)[1]


def born(hosts: Hosts, model: Model, changes: dict[str, Any], given: Given) -> Traces:
    """Born traces of changes of parameters, by name."""
    problem = hosts.problem
    at = _started(hosts, model, given)
    operands, perturbed = unify_axes((at.operands, tangents(problem, at, changes)))
    samples = primitives.born(at.host, operands, Changes(perturbed))
    return traces_of(_records(problem, operands), samples, operands.shots, at.lever)


def migrated(hosts: Hosts, model: Model, data: Any, given: Given) -> dict[str, Array]:
    """The transpose of `born`: images of parameters, by name."""
    problem = hosts.problem
    at = _started(hosts, model, given)
    lever = at.lever
    # The image passes through the coefficients as derivatives do on their way back: see `lever`.
    records = _records(problem, at.operands)
    residual = lever.up * samples_of(records, lever.enter(data), at.operands.shots)
    operands, residual = unify_axes((at.operands, residual))
    asked = Asked(problem.coefficient_names, exact=True, again=True)
    gradients = primitives.adjoint(at.host, operands, residual, asked)
    named, of_coefficients = unify_axes((at.named, gradients.coefficients))
    _, pull = jax.vjp(lambda m: coefficients(problem, m), named)
    (image,) = pull(of_coefficients)
    return lever.leave({n: x / lever.up for n, x in image.items()})


def adjoint(hosts: Hosts, model: Model, data: Any, wavelet: Any, shots: Any) -> Any:
    """The adjoint of modelling as a linear function of its source, applied to traces: wavelets, or
    the weights of extended sources."""
    problem, extended = hosts.problem, hosts.problem.survey.extended
    dtype = type_of((model, data), wavelet)
    which = shot_numbers(problem, shots)
    data = _validate.shaped("data", data, problem.trace_shape(which.shape[0]), dtype)

    def modelled(model: Model, wavelet: Any, source: Any, which: Any) -> Traces:
        if extended:
            given = Given(wavelet=wavelet, weights=source, shots=which)
        else:
            given = Given(wavelet=source, shots=which)
        return traces(hosts, model, given, linear=True)

    def applied(model: Model, data: Any, wavelet: Any, which: Any) -> Any:
        nothing = jnp.zeros((which.shape[0], *problem.grid.shape), dtype) if extended else None
        at = background(hosts, model, dtype, Given(wavelet, nothing, shots=which), linear=True)
        lever = at.lever
        residual = samples_of(problem.records, lever.enter(data), which)
        operands, residual = unify_axes((at.operands, residual))
        asked = Asked(wavelet=not extended, weights=extended)
        found = primitives.adjoint(at.host, operands, residual, asked)
        if extended:
            inside = [
                slice(low, low + n)
                for n, (low, _) in zip(problem.grid.shape, problem.widths, strict=True)
            ]
            return lever.leave(found.weights[(slice(None), *inside)])
        shape = jax.ShapeDtypeStruct((which.shape[0], *problem.survey.wavelet.shape[1:]), dtype)
        back = jax.linear_transpose(lambda w: source_samples(problem, w, which), shape)
        return lever.leave(back(found.wavelet)[0])

    if hosts.forward_mode:
        return applied(model, data, wavelet, which)
    return adjoint_of_source(modelled, applied)(model, data, wavelet, which)
