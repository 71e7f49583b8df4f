"""The forward-mode rule of modelling: what receivers record, and how it changes.

It is a rule of the primitive, so JAX makes reverse mode of it by transposition. `rules` does not
use it: there, a gradient is one `jax.custom_vjp`, which rules out forward mode. Propagators made by
`F.forward_mode()` bind the primitive without that.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from ..backends.base import Asked
from .host import HostModel
from .operands import Operands
from .primitives import born, changes_of, forward, forward_p, moving, refuse_positions
from .rules import power_above


def recorded(host: HostModel, operands: Operands, linear: bool = False, final: bool = False) -> Any:
    """What receivers record, and the state after the last step if it is wanted, differentiable in
    forward mode, too; see `rules.differentiable`."""
    found, _ = forward(host, operands, linear=linear, final=final)
    return tuple(found) if final else found[0]


def _forward_jvp(
    primals: Any,
    tangents: Any,
    *,
    host: HostModel,
    structure: Any,
    keep: tuple[str, ...],
    slopes: bool,
    linear: bool,
    final: bool,
) -> Any:
    operands = jax.tree.unflatten(structure, primals)
    moved = jax.tree.unflatten(structure, tangents)
    changes, elsewhere = changes_of(moved), moving(moved.receivers)
    if slopes:
        refuse_positions(moved, changes, by_positions=True)
    if moving(moved.sources):
        changes = changes._replace(at_sources=_fed_elsewhere(host, operands, moved.sources))
    kept = tuple(n for n in host.coefficient_names if n in keep or n in changes.coefficients)
    found, tape = forward(host, operands, kept, slopes or elsewhere, linear, final)
    by_position = found.pop(1) if slopes or elsewhere else None
    results = jax.tree.leaves(found)
    changed = [_zero(r) for r in results]
    if changes.anything:
        exact = linear or final or operands.initial is not None
        how = Asked(exact=exact, linear=linear)
        there = operands._replace(tape=tape)
        changed = jax.tree.leaves(born(host, there, changes, how, final))
    if elsewhere:
        changed[0] = ad.add_tangents(
            changed[0], _read_elsewhere(host, by_position, moved.receivers)
        )
    if slopes:
        results.insert(1, by_position)
        changed.insert(1, _zero(by_position))
    if keep != kept:
        _, tape = forward(host, operands, keep, linear=linear, final=final)
    held = jax.tree.leaves(tape if keep else None)  # a constant: see `Operands.tape`
    return [*results, *held], [*changed, *map(_zero, held)]


def _zero(result: Any) -> Any:
    return ad.Zero(jax.typeof(result).to_tangent_aval())


def _fed_elsewhere(host: HostModel, operands: Operands, moved: Any) -> Any:
    """What sources feed by the derivatives of where they enter, (shot, port and source, axis,
    step)."""
    samples = operands.wavelet
    if samples is None:
        samples = host.source_of(operands.shots, jnp)
    ports = host.n_sources // (host.points[0] * host.sources.places)
    metres = host.sources.of_ports(_sum_of_pairs(moved), ports, jnp)
    return _times(samples[..., None, :], metres[..., None])


def _read_elsewhere(host: HostModel, slopes: Any, moved: Any) -> Any:
    """How what is read changes with the positions of receivers, (shot, port and receiver,
    sample)."""
    ports = host.n_receivers // (host.points[1] * host.receivers.places)
    metres = host.receivers.of_ports(_sum_of_pairs(moved), ports, jnp)
    return jnp.sum(_times(slopes, metres[..., None]), axis=-2)


def _times(fixed: Any, moved: Any) -> Any:
    """The product. Its transpose multiplies cotangents by numbers of about one, and then by a power
    of two: the sum over time comes before what might make its terms too small, or too large."""
    size = jax.lax.stop_gradient(power_above(fixed))
    return (fixed / size) * (size * moved)


def _sum_of_pairs(moved: Any) -> Any:
    """(shot, point, axis), from the tangent of pairs that sum to positions."""
    return jnp.sum(ad.instantiate_zeros(moved.pairs), axis=-1)


ad.primitive_jvps[forward_p] = _forward_jvp
