"""The scheme of an equation in its boundary, and its programs; made once a process, and derived
only where no earlier process has left what is needed of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from ..backends.devito.plans import Planned, Program
from ..boundaries.base import NONE, AbstractBoundary
from ..equations.base import AbstractWaveEquation
from ..scheme.plan import Plan
from ..scheme.symbols import Symbols
from ..scheme.system import System
from .reached import content, content_now


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
    from ..calculus.idle import without

    stated = equation.system(Symbols(ndim, equation.space_order, dtype), boundary)
    return boundary.surround(without(stated, left_out), crowded)


@cache
def plan(equation: AbstractWaveEquation, boundary: AbstractBoundary, ndim: int) -> Plan:
    """What is to be known of that scheme with all its ports."""

    def derive() -> Program:
        from ..calculus import program

        return program.Program(surrounded(equation, boundary, ndim, "float32"))

    return _planned(equation, boundary, f"{ndim} whole", derive).plan


def _planned(
    equation: AbstractWaveEquation,
    boundary: AbstractBoundary,
    what: str,
    derive: Callable[[], Program],
    recipe: Any = None,
) -> Planned:
    """What is derived of an equation in a boundary, under a name that says what of it."""

    def still_known() -> str | None:
        if not (_is_ours(equation) and _is_ours(boundary)):
            return None
        # Between two calls a program may have changed what an equation reaches.
        now = content_now(equation, boundary)
        return None if now is None or now != content(equation, boundary) else f"{now}\n{what}"

    return Planned(derive, still_known, recipe)


def _is_ours(of: object) -> bool:
    """Is an equation, or a boundary with all of its layers, of a class of ondax? What a class of a
    user's reaches cannot be followed for certain: a helper that it hands itself to may read
    anything of it. So its programs are derived in every process, and no plan of it can be out of
    date."""
    package = __name__.partition(".")[0]
    layers = (v for v in vars(of).values() if isinstance(v, AbstractBoundary))
    return type(of).__module__.partition(".")[0] == package and all(map(_is_ours, layers))


@cache
def crowded_axes(
    equation: AbstractWaveEquation, boundary: AbstractBoundary, shape: tuple[int, ...]
) -> frozenset[str]:
    """The axes along which layers are close to each other; see `AbstractBoundary.crowded`."""
    return boundary.crowded(plan(equation, boundary, len(shape)), shape)


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
) -> Planned:
    """What a step computes between the named ports, of a scheme or of the scheme together with its
    tangent."""

    def derive() -> Program:
        from ..calculus import program
        from ..calculus.idle import idle
        from ..calculus.linearize import linearize

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
        return program.Program(system, extended)

    what = ndim, dtype, inputs, outputs, linearized, extended
    arguments = (equation, boundary, *what, crowded)
    name = str((*what, sorted(crowded)))
    return _planned(equation, boundary, name, derive, (program, arguments))
