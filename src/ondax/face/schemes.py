"""The scheme of an equation in its boundary, and its programs; made once a process."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from ..boundaries.base import NONE, AbstractBoundary
from ..calculus.check import checked
from ..calculus.idle import idle, without
from ..calculus.linearize import linearize
from ..calculus.program import Program
from ..equations.base import AbstractWaveEquation
from ..scheme.symbols import Symbols
from ..scheme.system import System


@cache
def surrounded(
    equation: AbstractWaveEquation,
    boundary: AbstractBoundary,
    ndim: int,
    dtype: str,
    crowded: frozenset[str] = NONE,
    left_out: frozenset[str] = NONE,
) -> System:
    """The scheme of an equation with its boundary (see `AbstractBoundary.surround`), without the
    fields that are left out."""
    stated = equation.system(Symbols(ndim, equation.space_order, dtype), boundary)
    system = without(stated, left_out)
    return boundary.surround(checked(system), crowded)


@cache
def crowded_axes(
    equation: AbstractWaveEquation, boundary: AbstractBoundary, shape: tuple[int, ...]
) -> frozenset[str]:
    """The axes along which layers are close to each other; see `AbstractBoundary.crowded`."""
    return boundary.crowded(surrounded(equation, boundary, len(shape), "float32"), shape)


@cache
def program(
    equation: AbstractWaveEquation,
    boundary: AbstractBoundary,
    ndim: int,
    dtype: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    linearized: bool,
    extended: bool,
    crowded: frozenset[str],
) -> Program:
    """What a step computes between the named ports, of a scheme or of the scheme together with its
    tangent."""
    left_out = idle(surrounded(equation, boundary, ndim, "float32"), inputs, outputs)
    system = surrounded(equation, boundary, ndim, dtype, crowded, left_out)
    ports = {p.name: p for p in (*system.inputs, *system.outputs)}
    system = replace(
        system,
        inputs=tuple(ports[n] for n in inputs),
        outputs=tuple(ports[n] for n in outputs),
    )
    if linearized:  # sources feed the scheme, not its tangent
        system = replace(linearize(system), inputs=system.inputs)
    return Program(system, extended)
