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
from ..scheme.system import System
from .content import content, is_ours, stated


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

    system = stated(equation, boundary, ndim, dtype)
    return boundary.surround(without(system, left_out), crowded)


@cache
def plan(equation: AbstractWaveEquation, boundary: AbstractBoundary, ndim: int) -> Plan:
    """What is to be known of that scheme with all its ports."""

    def derive() -> Program:
        from ..calculus import program

        return program.Program(surrounded(equation, boundary, ndim, "float32"))

    return _planned(equation, boundary, ndim, "float32", "whole", derive).plan


def check_unchanged(equation: AbstractWaveEquation, boundary: AbstractBoundary, ndim: int) -> None:
    """Check that an equation of a user's states the scheme that it has stated before.

    Raises:
        EquationError: it does not.
    """
    if not is_ours(equation):
        stated(equation, boundary, ndim, "float32")


def _planned(
    equation: AbstractWaveEquation,
    boundary: AbstractBoundary,
    ndim: int,
    dtype: str,
    what: str,
    derive: Callable[[], Program],
    recipe: Any = None,
) -> Planned:
    """What is derived of an equation in a boundary, under a name that says what of it."""

    def known() -> str | None:
        found = content(equation, boundary, ndim, dtype)
        return found and f"{found}\n{what}"

    return Planned(derive, known, recipe)


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

    what = inputs, outputs, linearized, extended
    name = str((*what, sorted(crowded)))
    recipe = program, (equation, boundary, ndim, dtype, *what, crowded)
    return _planned(equation, boundary, ndim, dtype, name, derive, recipe)
