"""The host operations as JAX primitives: forward modelling, Born modelling and its transpose, and
how that transpose changes with the background (curvature).

Born and adjoint are linear in their last operands and each is the other's transpose, and curvature
is its own, so that gradients, `jax.linear_transpose`, `vmap`, `scan` and lineax all work on them.
Every operand and result carries the same leading batch axes; vmapping adds one, of length 1 where
an operand is shared.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from .callback_errors import FORWARD_REMEDY
from .transport import register_host_primitive


@dataclass(frozen=True)
class Operands:
    """Which operands a primitive takes, in this order: model coefficients, bounds to check, shot
    numbers, then those given here.

    Attributes:
        wavelet: source samples (shot, port and source, step); else the survey's.
        weights: of extended sources, (shot, *grid); a survey of such sources has no others.
        sources: source positions (shot, source, axis, 2), pairs that sum to them; else the
            survey's.
        receivers: receiver positions (shot, receiver, axis, 2), likewise; else the survey's.
        single: which of the positions came in single precision; no operands.
    """

    wavelet: bool = False
    weights: bool = False
    sources: bool = False
    receivers: bool = False
    single: tuple[str, ...] = ()

    @property
    def present(self) -> tuple[bool, bool, bool, bool]:
        """Which operands there are, in order."""
        return self.wavelet, self.weights, self.sources, self.receivers


@runtime_checkable
class Host(Protocol):
    """What the primitives need of a propagator: static sizes, and the host functions. Hashed by
    identity.

    Sources and receivers are counted once for each port.
    """

    coefficient_names: tuple[str, ...]
    shape: tuple[int, ...]
    steps: int
    samples: int
    dtype: Any
    n_sources: int
    n_receivers: int

    @property
    def linearized(self) -> Host: ...
    def forward(self, operands: Operands, keep: tuple[int, ...], slopes: bool) -> Any: ...
    def born(self, operands: Operands, wanted: tuple[int, ...], source: bool) -> Any: ...
    def adjoint(
        self,
        operands: Operands,
        wanted: tuple[int, ...],
        weights: bool,
        source: bool,
        slopes: bool,
        last_use: bool,
    ) -> Any: ...
    def curvature(
        self, operands: Operands, wanted: tuple[int, ...], moved: tuple[int, ...]
    ) -> Any: ...


def _primitive(name: str) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = True
    return primitive


forward_p = _primitive("ondax_forward")
born_p = _primitive("ondax_born")
adjoint_p = _primitive("ondax_adjoint")
curvature_p = _primitive("ondax_curvature")


def _batch(host: Host, coefficient: Any) -> tuple[int, ...]:
    return coefficient.shape[: coefficient.ndim - len(host.shape)]


def _full_batch(host: Host, operands: tuple[Any, ...], batch_axes: int) -> tuple[int, ...]:
    """The common batch: operands have length 1 along axes that they share."""
    return tuple(max(x.shape[i] for x in operands) for i in range(batch_axes))


def _results(
    host: Host, operands: tuple[Any, ...], shapes: list[tuple[int, ...]]
) -> list[ShapedArray]:
    batch = _full_batch(host, operands, len(_batch(host, operands[0])))
    model = operands[0]
    # Updating an operand's type, rather than making one, lets the axes of shard_map survive.
    return [
        model.update(shape=(*batch, *shape), dtype=np.dtype(host.dtype), weak_type=False)
        for shape in shapes
    ]


def _shots(host: Host, operands: tuple[Any, ...]) -> int:
    return operands[len(host.coefficient_names) + 1].shape[-1]


class LooselyHeld:
    """A host that nobody is kept from dropping, as a parameter of eager calls: their callers hold
    it."""

    def __init__(self, host: Host) -> None:
        self._host, self._id = weakref.ref(host), id(host)

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, LooselyHeld) and self.host is other.host is not None
        )

    @property
    def host(self) -> Any:
        return self._host()


def _weak(params: dict[str, Any]) -> dict[str, Any]:
    return {**params, "host": LooselyHeld(_strong(params["host"]))}


def _strong(host: Any) -> Host:
    return host.host if isinstance(host, LooselyHeld) else host


@forward_p.def_abstract_eval
def _forward_types(
    *operands: Any, host: Host | LooselyHeld, given: Operands, keep: tuple[int, ...], slopes: bool
) -> Any:
    host = _strong(host)
    shots = _shots(host, operands)
    shapes: list[tuple[int, ...]] = [(shots, host.n_receivers, host.samples)]
    if slopes:
        shapes.append((shots, host.n_receivers, len(host.shape), host.samples))
    return _results(host, operands, shapes)


@born_p.def_abstract_eval
def _born_types(
    *operands: Any, host: Host | LooselyHeld, given: Operands, wanted: tuple[int, ...], source: bool
) -> Any:
    host = _strong(host)
    return _results(host, operands, [(_shots(host, operands), host.n_receivers, host.samples)])


@adjoint_p.def_abstract_eval
def _adjoint_types(
    *operands: Any,
    host: Host | LooselyHeld,
    given: Operands,
    wanted: tuple[int, ...],
    weights: bool,
    source: bool,
    slopes: bool,
    last_use: bool,
) -> Any:
    host = _strong(host)
    shots = _shots(host, operands)
    shapes: list[tuple[int, ...]] = [host.shape] * len(wanted)
    if weights:
        shapes.append((shots, *host.shape))
    if source:
        shapes.append((shots, host.n_sources, host.steps))
    if slopes:
        shapes.append((shots, host.n_sources, len(host.shape), host.steps))
    return _results(host, operands, shapes)


@curvature_p.def_abstract_eval
def _curvature_types(
    *operands: Any, host: Host | LooselyHeld, given: Operands, wanted: Any, moved: Any
) -> Any:
    host = _strong(host)
    return _results(host, operands, [host.shape] * len(wanted))


register_host_primitive(
    forward_p,
    lambda host, given, keep, slopes: _strong(host).forward(given, keep, slopes),
    eagerly=_weak,
)
register_host_primitive(
    born_p,
    lambda host, given, wanted, source: _strong(host).born(given, wanted, source),
    eagerly=_weak,
)
register_host_primitive(
    adjoint_p, lambda host, given, **asked: _strong(host).adjoint(given, **asked), eagerly=_weak
)
register_host_primitive(
    curvature_p,
    lambda host, given, wanted, moved: _strong(host).curvature(given, wanted, moved),
    eagerly=_weak,
)


def _batching_rule(primitive: Primitive) -> Any:
    """One host call for the whole batch; operands without a batch axis get one of length 1."""

    def rule(operands: Any, axes: Any, **params: Any) -> Any:
        moved = [
            jnp.expand_dims(x, 0) if axis is None else jnp.moveaxis(x, axis, 0)
            for x, axis in zip(operands, axes, strict=True)
        ]
        results = primitive.bind(*moved, **params)
        return results, [0] * len(results)

    return rule


for _p in (forward_p, born_p, adjoint_p, curvature_p):
    batching.primitive_batchers[_p] = _batching_rule(_p)


def _linear_jvp(primitive: Primitive, count: Any, background: Any = None) -> Any:
    """A primitive that is linear in its last operands: the tangent is the primitive itself, and
    what `background` adds for tangents of the others."""

    def rule(primals: Any, tangents: Any, **params: Any) -> Any:
        n = count(params)
        results = primitive.bind(*primals, **params)
        found: list[Any] = [ad.Zero(jax.typeof(r).to_tangent_aval()) for r in results]
        if any(not isinstance(t, ad.Zero) for t in tangents[-n:]):
            linear = [ad.instantiate_zeros(t) for t in tangents[-n:]]
            found = primitive.bind(*primals[:-n], *linear, **params)
        if any(not isinstance(t, ad.Zero) for t in tangents[:-n]):
            if background is None:
                raise NotImplementedError(
                    f"{primitive.name} cannot be differentiated in its background model, wavelet "
                    "or positions (second "
                    "derivatives), it is linear in its other arguments only: see ox.hvp and F.jvp"
                )
            found = [
                ad.add_tangents(a, b)
                for a, b in zip(found, background(primals, tangents, **params), strict=True)
            ]
        return results, found

    return rule


def _born_in_background(
    primals: Any,
    tangents: Any,
    *,
    host: Host,
    given: Operands,
    wanted: tuple[int, ...],
    source: bool,
) -> Any:
    """How Born traces change with the background: the Born traces of the linearised scheme."""
    count, n = len(host.coefficient_names), _born_inputs({"wanted": wanted, "source": source})
    if source or any(not isinstance(t, ad.Zero) for t in tangents[count:-n]):
        raise NotImplementedError(
            "Born traces can be differentiated again in model and perturbation only"
        )
    perturbed = dict(zip(wanted, primals[-n:], strict=True))
    coefficients = primals[:count]
    perturbations = [
        perturbed[i] if i in perturbed else jnp.zeros_like(c) for i, c in enumerate(coefficients)
    ]
    moved = tuple(i for i in range(count) if not isinstance(tangents[i], ad.Zero))
    (rows,) = born_p.bind(
        *coefficients,
        *perturbations,
        *primals[count:-n],
        *(tangents[i] for i in moved),
        host=host.linearized,
        given=given,
        wanted=moved,
        source=False,
    )
    return [jnp.split(rows, 2, axis=-2)[1]]


def _born_inputs(params: Any) -> int:
    return len(params["wanted"]) + params["source"]


def _adjoint_in_background(
    primals: Any, tangents: Any, *, host: Host, given: Operands, **asked: Any
) -> Any:
    """How migrated images change with the background: the curvature of modelling, weighted by the
    residual."""
    count, wanted = len(host.coefficient_names), asked["wanted"]
    beyond = any(not isinstance(t, ad.Zero) for t in tangents[count:-1])
    if beyond or asked["weights"] or asked["source"] or asked["slopes"]:
        raise NotImplementedError(
            "migrated images can be differentiated again in model and traces only"
        )
    moved = tuple(i for i in range(count) if not isinstance(tangents[i], ad.Zero))
    return curvature_p.bind(
        *primals, *(tangents[i] for i in moved), host=host, given=given, wanted=wanted, moved=moved
    )


ad.primitive_jvps[born_p] = _linear_jvp(born_p, _born_inputs, _born_in_background)
ad.primitive_jvps[adjoint_p] = _linear_jvp(adjoint_p, lambda params: 1, _adjoint_in_background)


def _refuse_forward_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    raise NotImplementedError(FORWARD_REMEDY)


ad.primitive_jvps[forward_p] = _refuse_forward_jvp


def _transpose_born(
    cotangents: Any, *operands: Any, host: Host, given: Operands, wanted: Any, source: bool
) -> Any:
    (cotangent,) = cotangents
    count = len(wanted) + source
    background, linear = operands[:-count], operands[-count:]
    asked = [ad.is_undefined_primal(x) for x in linear]
    if isinstance(cotangent, ad.Zero):
        zeros = [ad.Zero(x.aval) if ask else None for x, ask in zip(linear, asked, strict=True)]
        return [None] * len(background) + zeros
    chosen = tuple(w for w, ask in zip(wanted, asked, strict=False) if ask)
    results = iter(
        adjoint_p.bind(
            *background,
            cotangent,
            host=host,
            given=given,
            wanted=chosen,
            weights=False,
            source=bool(source and asked[-1]),
            slopes=False,
            last_use=False,
        )
    )
    return [None] * len(background) + [next(results) if ask else None for ask in asked]


def _transpose_adjoint(
    cotangents: Any,
    *operands: Any,
    host: Host,
    given: Operands,
    wanted: Any,
    weights: bool,
    source: bool,
    slopes: bool,
    last_use: bool,
) -> Any:
    background, residual = operands[:-1], operands[-1]
    if slopes and not isinstance(cotangents[-1], ad.Zero):
        raise NotImplementedError("gradients in source positions cannot be differentiated again")
    cotangents = list(cotangents[: len(wanted) + weights + source])
    if weights and not isinstance(cotangents.pop(len(wanted)), ad.Zero):
        raise NotImplementedError(
            "gradients in the weights of extended sources cannot be differentiated again"
        )
    if all(isinstance(ct, ad.Zero) for ct in cotangents):
        return [None] * len(background) + [ad.Zero(residual.aval)]
    keep = [i for i, ct in enumerate(cotangents[: len(wanted)]) if not isinstance(ct, ad.Zero)]
    with_source = bool(source and not isinstance(cotangents[-1], ad.Zero))
    linear = [cotangents[i] for i in keep] + ([cotangents[-1]] if with_source else [])
    (result,) = born_p.bind(
        *background,
        *linear,
        host=host,
        given=given,
        wanted=tuple(wanted[i] for i in keep),
        source=with_source,
    )
    return [None] * len(background) + [result]


def _transpose_curvature(
    cotangents: Any, *operands: Any, host: Host, given: Operands, wanted: Any, moved: Any
) -> Any:
    """A Hessian is symmetric: its transpose is itself, between other coefficients."""
    background, perturbations = operands[: -len(moved)], operands[-len(moved) :]
    keep = tuple(n for n, ct in enumerate(cotangents) if not isinstance(ct, ad.Zero))
    asked = tuple(i for i, p in zip(moved, perturbations, strict=True) if ad.is_undefined_primal(p))
    if not keep:
        found = {
            i: ad.Zero(p.aval) for i, p in zip(moved, perturbations, strict=True) if i in asked
        }
    else:
        results = curvature_p.bind(
            *background,
            *(cotangents[n] for n in keep),
            host=host,
            given=given,
            wanted=asked,
            moved=tuple(wanted[n] for n in keep),
        )
        found = dict(zip(asked, results, strict=True))
    return [None] * len(background) + [found.get(i) for i in moved]


ad.primitive_jvps[curvature_p] = _linear_jvp(curvature_p, lambda params: len(params["moved"]))
ad.primitive_transposes[curvature_p] = _transpose_curvature
ad.primitive_transposes[born_p] = _transpose_born
ad.primitive_transposes[adjoint_p] = _transpose_adjoint
