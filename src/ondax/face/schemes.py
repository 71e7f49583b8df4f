"""The scheme of an equation in its boundary, and its programs; made once a process."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from ..backends.devito.emit import Scheme
from ..backends.devito.programs import Programs
from ..boundaries.base import AbstractBoundary
from ..calculus.layers import stretched
from ..calculus.linearize import linearize
from ..calculus.regions import reach
from ..equations.base import AbstractWaveEquation
from ..scheme.symbols import AXIS_NAMES, Symbols
from ..scheme.system import System

NOWHERE: frozenset[str] = frozenset()


@cache
def surrounded(
    equation: AbstractWaveEquation,
    boundary: AbstractBoundary,
    ndim: int,
    dtype: str,
    whole: frozenset[str] = NOWHERE,
) -> System:
    """The scheme with its boundary; `whole` are the axes with few points between two layers: see
    `stretched`."""
    system = equation.system(Symbols(ndim, equation.space_order, dtype), boundary)
    ends = ((axis, side) for axis in AXIS_NAMES[ndim] for side in ("low", "high"))
    return stretched(system, [end for end in ends if boundary.face(*end).stretches], whole)


def axes_between_layers(
    equation: AbstractWaveEquation, boundary: AbstractBoundary, shape: tuple[int, ...]
) -> frozenset[str]:
    """The axes on which what two perfectly matched layers are felt by overlaps: with few points
    between them."""
    axes = AXIS_NAMES[len(shape)]
    enclosed = [
        (axis, points)
        for axis, points in zip(axes, shape, strict=True)
        if all(boundary.face(axis, side).stretches for side in ("low", "high"))
    ]
    if not enclosed:
        return NOWHERE
    felt = reach(surrounded(equation, boundary, len(shape), "float32"))
    return frozenset(axis for axis, points in enclosed if points < 2 * felt)


@cache
def programs(
    equation: AbstractWaveEquation,
    boundary: AbstractBoundary,
    ndim: int,
    dtype: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    linearized: bool,
    extended: bool,
    whole: frozenset[str],
) -> Programs:
    """The kernels between the named ports, of a scheme or of the scheme together with its
    tangent."""
    system = surrounded(equation, boundary, ndim, dtype, whole)
    ports = {p.name: p for p in (*system.inputs, *system.outputs)}
    system = replace(
        system,
        inputs=tuple(ports[n] for n in inputs),
        outputs=tuple(ports[n] for n in outputs),
    )
    if linearized:  # sources feed the scheme, not its tangent
        system = replace(linearize(system), inputs=system.inputs)
    return Programs(Scheme(system, boundary.free_surface, extended, compact=not whole), dtype)
