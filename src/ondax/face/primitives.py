"""The host operations as JAX primitives: forward modelling, Born modelling and its transpose, and
how that transpose changes with the background (curvature).

Born and adjoint are linear in what they take last, and each is the other's transpose; curvature is
its own. So gradients, `jax.linear_transpose`, `vmap`, `scan` and lineax all work on them. What a
primitive takes is a pytree, `Operands` and what is linear, whose leaves it is bound to and whose
structure is one of its parameters; so are results. Every leaf carries the same leading batch axes;
vmapping adds one, of length 1 where an operand is shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from ..backends.base import Asked, Gradients
from .callback_errors import FORWARD_REMEDY
from .loosely import strong, weak
from .operands import Changes, Operands
from .transport import register_host_primitive

Names = tuple[str, ...]


@runtime_checkable
class Host(Protocol):
    """What the primitives need of a propagator: static sizes, and the host functions. Hashed by
    identity.

    Sources and receivers are counted once for each port.
    """

    coefficient_names: Names
    shape: tuple[int, ...]
    steps: int
    samples: int
    dtype: Any
    n_sources: int
    n_receivers: int

    def linearized(self) -> Host:
        """The scheme together with its tangent."""
        ...

    def tangents(self) -> Mapping[str, str]:
        """The names that coefficients have in the tangent, by their own."""
        ...

    @property
    def state(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each field's part of the state between two steps, by name."""
        ...

    def entering(self, coefficient: Any) -> Any:
        """A coefficient, (*batch, *shape), laid on the devices that run it."""
        ...

    def forward(
        self, structure: Any, keep: Names, slopes: bool, linear: bool, final: bool
    ) -> Any: ...
    def born(self, structure: Any) -> Any: ...
    def adjoint(self, structure: Any, asked: Asked) -> Any: ...
    def curvature(self, structure: Any, asked: Asked) -> Any: ...


def _primitive(name: str) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = True
    return primitive


forward_p = _primitive("ondax_forward")
born_p = _primitive("ondax_born")
adjoint_p = _primitive("ondax_adjoint")
curvature_p = _primitive("ondax_curvature")


# ---------------------------------------------------------------- calls


def forward(
    host: Host,
    operands: Operands,
    keep: Names = (),
    slopes: bool = False,
    linear: bool = False,
    final: bool = False,
) -> list[Any]:
    """What receivers record, (shot, port and receiver, sample); with `slopes` also its derivatives
    by receiver position, (shot, port and receiver, axis, sample), per metre; with `final` also the
    state after the last step, by field name, (shot, level, *points).

    Args:
        host: the host model.
        operands: what the run depends on.
        keep: names of the coefficients whose gradients will be asked for.
        slopes: whether derivatives are wanted.
        linear: the source samples are no wavelets, but a cotangent: modelling is linear in them.
        final: whether the state after the last step is wanted.
    """
    leaves, structure = jax.tree.flatten(_entering(host, operands))
    asked = {"keep": keep, "slopes": slopes, "linear": linear, "final": final}
    found = forward_p.bind(*leaves, host=host, structure=structure, **asked)
    if not final:
        return found
    others, names = 2 if slopes else 1, sorted(host.state)
    return [*found[:others], dict(zip(names, found[others:], strict=True))]


def born(host: Host, operands: Operands, changes: Changes) -> Any:
    """How what receivers record changes, (shot, port and receiver, sample)."""
    leaves, structure = jax.tree.flatten((_entering(host, operands), changes))
    (samples,) = born_p.bind(*leaves, host=host, structure=structure)
    return samples


def adjoint(
    host: Host, operands: Operands, residual: Any, asked: Asked, final: Any = None
) -> Gradients:
    """The gradients of <residual, what receivers record>, plus <final, the state after the last
    step>.

    Args:
        host: the host model.
        operands: where they are taken.
        residual: (shot, port and receiver, sample).
        asked: which.
        final: (shot, level, *points) by field name; None for zero.
    """
    linear = (residual,) if final is None else (residual, final)
    leaves, structure = jax.tree.flatten((_entering(host, operands), *linear))
    results = adjoint_p.bind(*leaves, host=host, structure=structure, asked=asked)
    return jax.tree.unflatten(jax.tree.structure(_gradient_shapes(host, 0, asked)), results)


def curvature(
    host: Host, operands: Operands, residual: Any, moves: dict[str, Any], asked: Asked
) -> dict[str, Any]:
    """How the gradients of <residual, what receivers record> in the coefficients asked for change
    as others move, by name."""
    leaves, structure = jax.tree.flatten((_entering(host, operands), residual, moves))
    results = curvature_p.bind(*leaves, host=host, structure=structure, asked=asked)
    return dict(zip(sorted(asked.coefficients), results, strict=True))


def _entering(host: Host, operands: Operands) -> Operands:
    """Operands whose coefficients lie on the devices that run them."""
    found = {n: host.entering(c) for n, c in operands.coefficients.items()}
    return operands._replace(coefficients=found)


# ---------------------------------------------------------------- shapes


def _gradient_shapes(host: Host, shots: int, asked: Asked) -> Gradients:
    def shape(wanted: bool, *sizes: int) -> Any:
        return jax.ShapeDtypeStruct(sizes, host.dtype) if wanted else None

    return Gradients(
        coefficients={name: shape(True, *host.shape) for name in asked.coefficients},
        wavelet=shape(asked.wavelet, shots, host.n_sources, host.steps),
        weights=shape(asked.weights, shots, *host.shape),
        at_sources=shape(asked.sources, shots, host.n_sources, len(host.shape), host.steps),
        initial={n: shape(True, shots, *s) for n, s in host.state.items()}
        if asked.initial
        else None,
    )


def _samples_shape(host: Host, operands: Operands) -> jax.ShapeDtypeStruct:
    """That of what receivers record."""
    shape = (operands.shots.shape[-1], host.n_receivers, operands.before + host.samples)
    return jax.ShapeDtypeStruct(shape, host.dtype)


def _operands(structure: Any, leaves: Any) -> Operands:
    tree = jax.tree.unflatten(structure, leaves)
    return tree if isinstance(tree, Operands) else tree[0]


def _types(host: Host, structure: Any, leaves: Any, shapes: Any) -> list[Any]:
    """The types of results, given the shapes of one batch element."""
    coefficient = leaves[0]
    axes = coefficient.ndim - len(host.shape)
    batch = tuple(max(x.shape[i] for x in leaves) for i in range(axes))
    # Updating an operand's type, rather than making one, lets the axes of shard_map survive.
    return [
        coefficient.update(shape=(*batch, *s.shape), dtype=np.dtype(host.dtype), weak_type=False)
        for s in jax.tree.leaves(shapes)
    ]


@forward_p.def_abstract_eval
def _forward_types(
    *leaves: Any,
    host: Any,
    structure: Any,
    keep: Names,
    slopes: bool,
    linear: bool,
    final: bool,
) -> Any:
    host = strong(host)
    shapes: list[Any] = [_samples_shape(host, _operands(structure, leaves))]
    if slopes:
        *rows, samples = shapes[0].shape
        shapes.append(jax.ShapeDtypeStruct((*rows, len(host.shape), samples), host.dtype))
    if final:
        shots = _operands(structure, leaves).shots.shape[-1]
        state = host.state.items()
        shapes.append({n: jax.ShapeDtypeStruct((shots, *s), host.dtype) for n, s in state})
    return _types(host, structure, leaves, shapes)


@born_p.def_abstract_eval
def _born_types(*leaves: Any, host: Any, structure: Any) -> Any:
    host = strong(host)
    samples = _samples_shape(host, _operands(structure, leaves))
    return _types(host, structure, leaves, samples)


@adjoint_p.def_abstract_eval
def _adjoint_types(*leaves: Any, host: Any, structure: Any, asked: Asked) -> Any:
    host = strong(host)
    shots = _operands(structure, leaves).shots.shape[-1]
    return _types(host, structure, leaves, _gradient_shapes(host, shots, asked))


@curvature_p.def_abstract_eval
def _curvature_types(*leaves: Any, host: Any, structure: Any, asked: Asked) -> Any:
    host = strong(host)
    shapes = _gradient_shapes(host, 0, Asked(asked.coefficients))
    return _types(host, structure, leaves, shapes)


for _p, _name in (
    (forward_p, "forward"),
    (born_p, "born"),
    (adjoint_p, "adjoint"),
    (curvature_p, "curvature"),
):
    register_host_primitive(
        _p,
        lambda host, _name=_name, **params: getattr(strong(host), _name)(**params),
        eagerly=weak,
    )


# ---------------------------------------------------------------- rules


def _batching_rule(primitive: Primitive) -> Any:
    """One host call for the whole batch; operands without a batch axis get one of length 1."""

    def rule(leaves: Any, axes: Any, **params: Any) -> Any:
        moved = [
            jnp.expand_dims(x, 0) if axis is None else jnp.moveaxis(x, axis, 0)
            for x, axis in zip(leaves, axes, strict=True)
        ]
        results = primitive.bind(*moved, **params)
        return results, [0] * len(results)

    return rule


for _p in (forward_p, born_p, adjoint_p, curvature_p):
    batching.primitive_batchers[_p] = _batching_rule(_p)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, ad.Zero)


def _moving(tangents: Any) -> bool:
    return any(not _is_zero(t) for t in jax.tree.leaves(tangents, is_leaf=_is_zero))


def _instantiated(tangents: Any) -> Any:
    return jax.tree.map(ad.instantiate_zeros, tangents, is_leaf=_is_zero)


def _only_coefficients_move(tangents: Operands) -> bool:
    return not _moving(tangents._replace(coefficients={}))


def _moves(tangents: Operands) -> dict[str, Any]:
    """The tangents of the coefficients that have one, by name."""
    return {n: t for n, t in tangents.coefficients.items() if not _is_zero(t)}


def _refuse_forward_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    raise NotImplementedError(FORWARD_REMEDY)


ad.primitive_jvps[forward_p] = _refuse_forward_jvp


def _sum(results: Any, parts: list[Any]) -> Any:
    """Results, and the sum of their tangents, of which there may be none."""
    found: list[Any] = [ad.Zero(jax.typeof(r).to_tangent_aval()) for r in results]
    for part in parts:
        found = [ad.add_tangents(a, b) for a, b in zip(found, part, strict=True)]
    return results, found


_SECOND = (
    "cannot be differentiated in its background model, wavelet or positions (second derivatives), "
    "it is linear in its other arguments only: see ox.hvp and F.jvp"
)


_ENDS = (
    "gradients of functions of the final fields cannot be differentiated again: functions of the "
    "traces alone can, in model and traces"
)


def _born_jvp(primals: Any, tangents: Any, *, host: Host, structure: Any) -> Any:
    operands, changes = jax.tree.unflatten(structure, primals)
    moved, further = jax.tree.unflatten(structure, tangents)
    results, parts = [born(host, operands, changes)], []
    if _moving(further):
        parts.append([born(host, operands, _instantiated(further))])
    if _moving(moved):
        if changes.wavelet is not None or not _only_coefficients_move(moved):
            raise NotImplementedError(
                "Born traces can be differentiated again in model and perturbation only"
            )
        parts.append([_born_in_background(host, operands, changes, _moves(moved))])
    return _sum(results, parts)


def _born_in_background(
    host: Host, operands: Operands, changes: Changes, moves: dict[str, Any]
) -> Any:
    """How Born traces change with the background: the Born traces of the linearised scheme."""
    names = host.tangents()
    doubled = {
        names[n]: changes.coefficients.get(n, jnp.zeros_like(c))
        for n, c in operands.coefficients.items()
    }
    both = operands._replace(coefficients={**operands.coefficients, **doubled})
    rows = born(host.linearized(), both, Changes(moves))
    return jnp.split(rows, 2, axis=-2)[1]


def _adjoint_jvp(primals: Any, tangents: Any, *, host: Host, structure: Any, asked: Asked) -> Any:
    operands, residual, *final = jax.tree.unflatten(structure, primals)
    if final:
        raise NotImplementedError(_ENDS)
    moved, further = jax.tree.unflatten(structure, tangents)
    results, parts = jax.tree.leaves(adjoint(host, operands, residual, asked)), []
    if not _is_zero(further):
        parts.append(jax.tree.leaves(adjoint(host, operands, further, asked)))
    if _moving(moved):
        beyond = asked.wavelet or asked.weights or asked.sources or asked.initial
        if beyond or not _only_coefficients_move(moved):
            raise NotImplementedError(
                "migrated images can be differentiated again in model and traces only"
            )
        changed = curvature(host, operands, residual, _moves(moved), Asked(asked.coefficients))
        parts.append(jax.tree.leaves(changed))
    return _sum(results, parts)


def _curvature_jvp(primals: Any, tangents: Any, *, host: Host, structure: Any, asked: Asked) -> Any:
    operands, residual, moves = jax.tree.unflatten(structure, primals)
    *background, further = jax.tree.unflatten(structure, tangents)
    if _moving(background):
        raise NotImplementedError(f"{curvature_p.name} {_SECOND}")
    results = jax.tree.leaves(curvature(host, operands, residual, moves, asked))
    parts = []
    if _moving(further):
        more = curvature(host, operands, residual, _instantiated(further), asked)
        parts.append(jax.tree.leaves(more))
    return _sum(results, parts)


ad.primitive_jvps[born_p] = _born_jvp
ad.primitive_jvps[adjoint_p] = _adjoint_jvp
ad.primitive_jvps[curvature_p] = _curvature_jvp


def _is_linear(x: Any) -> bool:
    return ad.is_undefined_primal(x)


def _cotangents(leaves: Any, structure: Any, found: Any) -> list[Any]:
    """In the order of the leaves, what was found for those that are linear; None for the others.

    Args:
        leaves: of the primitive; linear ones are undefined.
        structure: of them.
        found: from the pytree of leaf numbers to one of cotangents, of any structure.
    """
    by_number = found(jax.tree.unflatten(structure, list(range(len(leaves)))))
    return [
        by_number.get(n, ad.Zero(x.aval)) if _is_linear(x) else None for n, x in enumerate(leaves)
    ]


def _transpose_born(cotangents: Any, *leaves: Any, host: Host, structure: Any) -> Any:
    (cotangent,) = cotangents
    operands, changes = jax.tree.unflatten(structure, leaves)
    if _is_zero(cotangent):
        return _cotangents(leaves, structure, lambda numbers: {})
    linear = tuple(n for n in host.coefficient_names if _is_linear(changes.coefficients.get(n)))
    asked = Asked(linear, wavelet=_is_linear(changes.wavelet), exact=True, again=True)
    gradients = adjoint(host, operands, cotangent, asked)

    def found(numbers: Any) -> dict[int, Any]:
        _, places = numbers
        by_number = {places.coefficients[n]: gradients.coefficients[n] for n in linear}
        if asked.wavelet:
            by_number[places.wavelet] = gradients.wavelet
        return by_number

    return _cotangents(leaves, structure, found)


def _transpose_adjoint(
    cotangents: Any, *leaves: Any, host: Host, structure: Any, asked: Asked
) -> Any:
    operands, _, *final = jax.tree.unflatten(structure, leaves)
    if final:
        raise NotImplementedError(_ENDS)
    shapes = _gradient_shapes(host, 0, asked)
    by_part = jax.tree.unflatten(jax.tree.structure(shapes), cotangents)
    for part, what in (
        (by_part.at_sources, "source positions"),
        (by_part.weights, "the weights of extended sources"),
        (by_part.initial, "initial fields"),
    ):
        if _moving(part):
            raise NotImplementedError(f"gradients in {what} cannot be differentiated again")
    known = {n: ct for n, ct in by_part.coefficients.items() if not _is_zero(ct)}
    wavelet = None if _is_zero(by_part.wavelet) else by_part.wavelet
    if not known and wavelet is None:
        return _cotangents(leaves, structure, lambda numbers: {})
    samples = born(host, operands, Changes(known, wavelet))
    return _cotangents(leaves, structure, lambda numbers: {numbers[1]: samples})


def _transpose_curvature(
    cotangents: Any, *leaves: Any, host: Host, structure: Any, asked: Asked
) -> Any:
    """A Hessian is symmetric: its transpose is itself, between other coefficients."""
    operands, residual, moves = jax.tree.unflatten(structure, leaves)
    by_name = dict(zip(sorted(asked.coefficients), cotangents, strict=True))
    known = {n: ct for n, ct in by_name.items() if not _is_zero(ct)}
    if not known:
        return _cotangents(leaves, structure, lambda numbers: {})
    linear = tuple(n for n in host.coefficient_names if _is_linear(moves.get(n)))
    results = curvature(host, operands, residual, known, replace(asked, coefficients=linear))

    def found(numbers: Any) -> dict[int, Any]:
        places = numbers[2]
        return {places[n]: results[n] for n in linear}

    return _cotangents(leaves, structure, found)


ad.primitive_transposes[born_p] = _transpose_born
ad.primitive_transposes[adjoint_p] = _transpose_adjoint
ad.primitive_transposes[curvature_p] = _transpose_curvature
