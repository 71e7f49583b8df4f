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
from .callback_errors import THIRD
from .loosely import strong
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

    def tape(self, operands: Operands, keep: Names, exact: bool) -> Any:
        """The shapes and types of the history that a forward run gives; None for none."""
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
    def born(self, structure: Any, asked: Asked, final: bool) -> Any: ...
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
) -> tuple[list[Any], Any]:
    """What receivers record, (shot, port and receiver, sample); with `slopes` also its derivatives
    by receiver position, (shot, port and receiver, axis, sample), per metre; with `final` also the
    state after the last step, by field name, (shot, level, *points). And the history, where the
    backend gives one: what is then asked of the operands with it needs no forward run.

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
    shapes = _tape_shapes(host, operands, keep, linear, final)
    count = len(found) - len(jax.tree.leaves(shapes))
    tape = None if shapes is None else jax.tree.unflatten(jax.tree.structure(shapes), found[count:])
    others = 2 if slopes else 1
    state = [_by_field(host, found[others:count])] if final else []
    return [*found[:others], *state], tape


def _tape_shapes(host: Host, operands: Operands, keep: Names, linear: bool, final: bool) -> Any:
    """The shapes and types of the history that a forward run gives; None for none."""
    exact = linear or final or operands.initial is not None
    return host.tape(operands, keep, exact) if keep else None


JACOBIAN = Asked(exact=True, again=True)
"""How the transpose of a Jacobian is asked for images."""


def born(
    host: Host,
    operands: Operands,
    changes: Changes,
    asked: Asked = JACOBIAN,
    final: bool = False,
) -> Any:
    """How what receivers record changes, (shot, port and receiver, sample).

    Args:
        host: the host model.
        operands: the background.
        changes: of it.
        asked: how its transpose is asked for gradients; and whether the source samples of the
            background are no wavelets.
        final: also how the state after the last step changes, by field name, (shot, level,
            *points).
    """
    leaves, structure = jax.tree.flatten((_entering(host, operands), changes))
    found = born_p.bind(*leaves, host=host, structure=structure, asked=asked, final=final)
    return (found[0], _by_field(host, found[1:])) if final else found[0]


def _by_field(host: Host, leaves: Any) -> dict[str, Any]:
    """A state, from its leaves."""
    return dict(zip(sorted(host.state), leaves, strict=True))


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
    host: Host, operands: Operands, residual: Any, moves: Changes, asked: Asked
) -> Gradients:
    """How the gradients of <residual, what receivers record> that are asked for change as what the
    records depend on moves. Each of them must depend on some of the moves: see `_reached`."""
    leaves, structure = jax.tree.flatten((_entering(host, operands), residual, moves))
    results = curvature_p.bind(*leaves, host=host, structure=structure, asked=asked)
    return jax.tree.unflatten(jax.tree.structure(_gradient_shapes(host, 0, asked)), results)


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
        initial=_state_shapes(host, shots) if asked.initial else None,
    )


def _state_shapes(host: Host, shots: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {n: jax.ShapeDtypeStruct((shots, *s), host.dtype) for n, s in host.state.items()}


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
        coefficient.update(shape=(*batch, *s.shape), dtype=np.dtype(s.dtype), weak_type=False)
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
    operands = _operands(structure, leaves)
    if final:
        shapes.append(_state_shapes(host, operands.shots.shape[-1]))
    shapes.append(_tape_shapes(host, operands, keep, linear, final))
    return _types(host, structure, leaves, shapes)


@born_p.def_abstract_eval
def _born_types(*leaves: Any, host: Any, structure: Any, asked: Asked, final: bool) -> Any:
    host, operands = strong(host), _operands(structure, leaves)
    shapes: list[Any] = [_samples_shape(host, operands)]
    if final:
        shapes.append(_state_shapes(host, operands.shots.shape[-1]))
    return _types(host, structure, leaves, shapes)


@adjoint_p.def_abstract_eval
def _adjoint_types(*leaves: Any, host: Any, structure: Any, asked: Asked) -> Any:
    host = strong(host)
    shots = _operands(structure, leaves).shots.shape[-1]
    return _types(host, structure, leaves, _gradient_shapes(host, shots, asked))


@curvature_p.def_abstract_eval
def _curvature_types(*leaves: Any, host: Any, structure: Any, asked: Asked) -> Any:
    return _adjoint_types(*leaves, host=host, structure=structure, asked=asked)


for _p, _name in (
    (forward_p, "forward"),
    (born_p, "born"),
    (adjoint_p, "adjoint"),
    (curvature_p, "curvature"),
):
    register_host_primitive(
        _p,
        lambda host, _name=_name, **params: getattr(strong(host), _name)(**params),
        loosely="host",
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


def moving(tangents: Any) -> bool:
    """Is any of these tangents not zero?"""
    return any(not _is_zero(t) for t in jax.tree.leaves(tangents, is_leaf=_is_zero))


def _instantiated(tangents: Any) -> Any:
    return jax.tree.map(ad.instantiate_zeros, tangents, is_leaf=_is_zero)


def _some(tangents: Any) -> Any:
    """Tangents of one input; None if all are zero."""
    return _instantiated(tangents) if moving(tangents) else None


def changes_of(tangents: Operands | Changes) -> Changes:
    """Those of what records are linear in, or of what they depend on but for positions, that are
    not zero."""
    return Changes(
        {n: t for n, t in tangents.coefficients.items() if not _is_zero(t)},
        _some(tangents.wavelet),
        _some(tangents.weights),
        _some(tangents.at_sources) if isinstance(tangents, Changes) else None,
        _some(tangents.initial),
    )


def _sum(results: Any, parts: list[Any]) -> Any:
    """Results, and the sum of their tangents, of which there may be none."""
    found: list[Any] = [ad.Zero(jax.typeof(r).to_tangent_aval()) for r in results]
    for part in parts:
        found = [ad.add_tangents(a, b) for a, b in zip(found, part, strict=True)]
    return results, found


_ENDS = (
    "second derivatives of functions of the final fields are not available: those of functions of "
    "the traces alone are"
)


def refuse_positions(moved: Operands, moves: Changes, by_positions: bool) -> None:
    """Refuse second derivatives by positions.

    Args:
        moved: tangents of what first derivatives are taken at.
        moves: those of them that are not zero.
        by_positions: whether these first derivatives are some by positions.

    Raises:
        NotImplementedError: positions move, or these are derivatives by them, and something moves.
    """
    if moving((moved.sources, moved.receivers)) or (by_positions and moves.anything):
        raise NotImplementedError(
            "second derivatives by positions of sources or receivers, or by them and something "
            "else, are not available: keep positions fixed by jax.lax.stop_gradient, or take "
            "differences of first derivatives"
        )


def _reached(moves: Changes, asked: Asked) -> Asked:
    """Those of the gradients asked for that depend on what moves. Records are linear in wavelet
    and initial state, and in the weights, which multiply the wavelet."""
    by_all = bool(moves.coefficients)
    anything = by_all or any(x is not None for x in (moves.wavelet, moves.weights, moves.initial))
    return Asked(
        coefficients=asked.coefficients if anything else (),
        wavelet=asked.wavelet and (by_all or moves.weights is not None),
        weights=asked.weights and (by_all or moves.wavelet is not None),
        initial=asked.initial and by_all,
        linear=asked.linear,
    )


def _born_jvp(
    primals: Any, tangents: Any, *, host: Host, structure: Any, asked: Asked, final: bool
) -> Any:
    operands, changes = jax.tree.unflatten(structure, primals)
    moved, further = jax.tree.unflatten(structure, tangents)
    more, moves = changes_of(further), changes_of(moved)
    refuse_positions(moved, moves, changes.at_sources is not None)
    if final and moves.anything:
        raise NotImplementedError(_ENDS)
    results, parts = jax.tree.leaves(born(host, operands, changes, asked, final)), []
    if more.anything:
        parts.append(jax.tree.leaves(born(host, operands, more, asked, final)))
    if moves.anything:
        there = operands._replace(tape=None)  # it is that of this background only
        seconds = _born_in_background(host, there, changes, moves, asked)
        parts.extend([second] for second in seconds)
    return _sum(results, parts)


def _born_in_background(
    host: Host, operands: Operands, changes: Changes, moves: Changes, asked: Asked
) -> list[Any]:
    """How Born traces change with the background, as a sum of linear functions of the moves.

    With changes of coefficients, these are the Born traces of the linearised scheme. All other
    changes are fed as the inputs are which they change.
    """
    parts: list[Any] = []

    def fed(background: Operands, moves: Changes, linear: bool) -> None:
        if moves.anything:
            how = replace(asked, linear=linear, exact=asked.exact or linear)
            parts.append(born(host, background, moves, how))

    if changes.coefficients:
        both = _with_tangents(host, operands, changes.coefficients)
        rows = born(host.linearized(), both, moves, asked)
        parts.append(jnp.split(rows, 2, axis=-2)[1])
    still = None if operands.initial is None else jax.tree.map(jnp.zeros_like, operands.initial)
    rest, medium = operands._replace(initial=still), Changes(moves.coefficients)
    if changes.wavelet is not None:
        moves_it = medium._replace(weights=moves.weights)
        fed(rest._replace(wavelet=changes.wavelet), moves_it, linear=True)
    if changes.weights is not None:
        moves_it = medium._replace(wavelet=moves.wavelet)
        fed(rest._replace(weights=changes.weights), moves_it, linear=asked.linear)
    if changes.initial is not None:
        silent = operands._replace(wavelet=_silence(host, operands), initial=changes.initial)
        fed(silent, medium, linear=True)
    return parts


def _with_tangents(host: Host, operands: Operands, changes: dict[str, Any]) -> Operands:
    """What the linearised scheme takes, given how coefficients change."""
    names = host.tangents()
    doubled = {
        names[n]: changes[n] if n in changes else jnp.zeros_like(c)
        for n, c in operands.coefficients.items()
    }
    return operands._replace(coefficients={**operands.coefficients, **doubled})


def _silence(host: Host, operands: Operands) -> Any:
    """Source samples of zero."""
    shots = operands.shots
    shape = (*(1,) * (shots.ndim - 1), shots.shape[-1], host.n_sources, host.steps)
    return jnp.zeros(shape, host.dtype)


def _adjoint_jvp(primals: Any, tangents: Any, *, host: Host, structure: Any, asked: Asked) -> Any:
    operands, residual, *final = jax.tree.unflatten(structure, primals)
    moved, *further = jax.tree.unflatten(structure, tangents)
    moves = changes_of(moved)
    refuse_positions(moved, moves, asked.sources)
    results, parts = adjoint(host, operands, residual, asked, *final), []
    if moving(further):
        more, *at_end = _instantiated(further)
        parts.append(jax.tree.leaves(adjoint(host, operands, more, asked, *at_end)))
    reached = _reached(moves, asked)
    if reached.anything:
        if final:
            raise NotImplementedError(_ENDS)
        if moves.coefficients:
            host.linearized()  # says now where there is none, and not in the callback
        there = operands._replace(tape=None)  # it is that of this background only
        changed = curvature(host, there, residual, moves, reached)
        parts.append(_placed(changed, results))
    return _sum(jax.tree.leaves(results), parts)


def _placed(changed: Gradients, results: Gradients) -> list[Any]:
    """Changes of some gradients in the order of all of them, and zeros for the others."""

    def or_zeros(part: Any, whole: Any) -> Any:
        nothing = lambda r: ad.Zero(jax.typeof(r).to_tangent_aval())  # noqa: E731
        return part if jax.tree.leaves(part) else jax.tree.map(nothing, whole)

    return jax.tree.leaves([or_zeros(*pair) for pair in zip(changed, results, strict=True)])


def _curvature_jvp(primals: Any, tangents: Any, *, host: Host, structure: Any, asked: Asked) -> Any:
    operands, residual, moves = jax.tree.unflatten(structure, primals)
    moved, *background, further = jax.tree.unflatten(structure, tangents)
    if moving((changes_of(moved), moved.sources, moved.receivers, background)):
        raise NotImplementedError(THIRD)
    results = jax.tree.leaves(curvature(host, operands, residual, moves, asked))
    parts = []
    if moving(further):
        more = curvature(host, operands, residual, _instantiated(further), asked)
        parts.append(jax.tree.leaves(more))
    return _sum(results, parts)


ad.primitive_jvps[born_p] = _born_jvp
ad.primitive_jvps[adjoint_p] = _adjoint_jvp
ad.primitive_jvps[curvature_p] = _curvature_jvp


def _is_linear(x: Any) -> bool:
    return ad.is_undefined_primal(x)


def _linear(tree: Any) -> bool:
    """Is any of these?"""
    return any(map(_is_linear, jax.tree.leaves(tree, is_leaf=_is_linear)))


def _cotangents(leaves: Any, structure: Any, found: Any) -> list[Any]:
    """In the order of the leaves, what was found for those that are linear; None for the others.

    Args:
        leaves: of the primitive; linear ones are undefined.
        structure: of them.
        found: from the pytree of leaf numbers to pairs of such a number and a cotangent.
    """
    by_number = dict(found(jax.tree.unflatten(structure, list(range(len(leaves))))))

    def cotangent(n: int, x: Any) -> Any:
        return _shared(by_number[n], x.aval) if n in by_number else ad.Zero(x.aval)

    return [cotangent(n, x) if _is_linear(x) else None for n, x in enumerate(leaves)]


def _shared(cotangent: Any, of: Any) -> Any:
    """The sum over the batch axes that share what the cotangent is of, whose length is 1 there."""
    lengths = zip(cotangent.shape, of.shape, strict=True)
    axes = tuple(i for i, (whole, own) in enumerate(lengths) if own == 1 != whole)
    return jnp.sum(cotangent, axes, keepdims=True) if axes else cotangent


def _asked_by(host: Host, changes: Changes, asked: Asked) -> Asked:
    """The gradients by those changes that are linear, asked for as others are."""
    return replace(
        asked,
        coefficients=tuple(
            n for n in host.coefficient_names if _is_linear(changes.coefficients.get(n))
        ),
        wavelet=_linear(changes.wavelet),
        weights=_linear(changes.weights),
        sources=_linear(changes.at_sources),
        initial=_linear(changes.initial),
    )


def _of_changes(places: Changes, gradients: Gradients) -> list[tuple[Any, Any]]:
    """Numbers of leaves, and the gradients that are their cotangents."""
    pairs: list[tuple[Any, Any]] = []
    for place, gradient in zip(places, gradients, strict=True):
        if isinstance(gradient, dict):  # of what is not linear, or does not change, there are none
            pairs += [(place[n], g) for n, g in gradient.items() if place and n in place]
        elif gradient is not None:
            pairs.append((place, gradient))
    return pairs


def _transpose_born(
    cotangents: Any, *leaves: Any, host: Host, structure: Any, asked: Asked, final: bool
) -> Any:
    operands, changes = jax.tree.unflatten(structure, leaves)
    if not moving(cotangents):
        return _cotangents(leaves, structure, lambda numbers: [])
    residual = ad.instantiate_zeros(cotangents[0])
    state = _some(_by_field(host, cotangents[1:])) if final else None
    gradients = adjoint(host, operands, residual, _asked_by(host, changes, asked), state)
    return _cotangents(leaves, structure, lambda numbers: _of_changes(numbers[1], gradients))


def _known(cotangents: Any, host: Host, asked: Asked) -> Changes:
    """Cotangents of gradients, as the changes that they are; those that are zero left out."""
    shapes = _gradient_shapes(host, 0, asked)
    return changes_of(Changes(*jax.tree.unflatten(jax.tree.structure(shapes), cotangents)))


def _transpose_adjoint(
    cotangents: Any, *leaves: Any, host: Host, structure: Any, asked: Asked
) -> Any:
    operands, _, *final = jax.tree.unflatten(structure, leaves)
    known = _known(cotangents, host, asked)
    if not known.anything:
        return _cotangents(leaves, structure, lambda numbers: [])
    samples = born(host, operands, known, _as_asked(asked), bool(final))
    if not final:
        return _cotangents(leaves, structure, lambda numbers: [(numbers[1], samples)])
    samples, state = samples

    def found(numbers: Any) -> list[tuple[Any, Any]]:
        return [(numbers[1], samples), *((numbers[2][n], state[n]) for n in state)]

    return _cotangents(leaves, structure, found)


def _as_asked(asked: Asked) -> Asked:
    """How other gradients are asked for alike."""
    return Asked(exact=asked.exact, linear=asked.linear, again=asked.again)


def _transpose_curvature(
    cotangents: Any, *leaves: Any, host: Host, structure: Any, asked: Asked
) -> Any:
    """A Hessian is symmetric: its transpose is itself, between other inputs."""
    operands, residual, moves = jax.tree.unflatten(structure, leaves)
    known = _known(cotangents, host, asked)
    reached = _reached(known, _asked_by(host, moves, asked))
    if not reached.anything:
        return _cotangents(leaves, structure, lambda numbers: [])
    results = curvature(host, operands, residual, known, reached)
    return _cotangents(leaves, structure, lambda numbers: _of_changes(numbers[2], results))


ad.primitive_transposes[born_p] = _transpose_born
ad.primitive_transposes[adjoint_p] = _transpose_adjoint
ad.primitive_transposes[curvature_p] = _transpose_curvature
