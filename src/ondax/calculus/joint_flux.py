"""Memory variables of the flux that drives a scheme's fields, in layers that damp it as one vector.

With phi_d a memory of the flux f along axis d, and g_d the rate of the layers of that axis, the
forces are those of `f_d + phi_d`, where

    d/dt phi_d = -(alpha + g_d) phi_d + (eta sum of g_e over the other axes - g_d) f_d.

Between two steps the mean of phi_d acts. So a step takes energy out of the fields where eta = 0,
whatever the medium, the rates and the fields.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import sympy

from ..scheme.names import (
    JOINT_CROSS,
    JOINT_FAR,
    JOINT_GAIN,
    JOINT_KEEP,
    JOINT_REST,
    JOINT_TAKE,
    JOINT_WITHIN,
)
from ..scheme.symbols import Expr, Field, Region
from ..scheme.system import System, Update
from ..scheme.terms import EquationError, total
from .images import image_of
from .regions import strips


def damped(
    system: System, ends: Collection[tuple[str, str]], whole: Collection[str], along: bool
) -> System:
    """The scheme with memories of its flux in layers at some ends of axes.

    Each of the two layers of an axis has its own memories, which are stored in a strip only; see
    `stretched`. The flux along an axis has memories in the layers of that axis, and, if eta is not
    zero, in those of the other axes.

    Args:
        system: the scheme.
        ends: axis name, and "low" or "high", of each layer.
        whole: names of the axes along which one memory on the whole grid serves both layers.
        along: whether eta is not zero.

    Raises:
        EquationError: the scheme does not state its flux.
    """
    if system.flux is None:
        raise EquationError(
            "this scheme does not state the flux that a JointPML damps: System(..., flux=...)"
        )
    symbols = system.symbols
    memories: list[Update] = []
    forces: dict[Field, list[Expr]] = {}
    for dimension in symbols.dimensions:
        axis, flux = dimension.name, system.flux.along[dimension.name]
        places = _places(system, dimension, ends, whole, along)
        for number, (region, keep, take) in enumerate(places):
            image = image_of(flux, symbols)
            memory, mean = (
                symbols.field(f"{kind}_{axis}{number}", 1, image=image, region=region)
                for kind in ("flux_memory", "flux_change")
            )
            # The change is a field of its own, so that derivatives of it are taken once a step, in
            # the adjoint scheme too.
            memories += [
                Update(memory, sympy.S.One, flux, keep, take),
                Update(mean, sympy.S.One, (memory.forward + memory) / 2),
            ]
            for field, force in system.flux.forces(axis, mean.forward).items():
                forces.setdefault(field, []).append(force)
    updates = (replace(u, rhs=total((u.rhs, *forces.get(u.field, ())))) for u in system.updates)
    return replace(system, updates=(*memories, *updates))


def _places(
    system: System,
    dimension: Any,
    ends: Collection[tuple[str, str]],
    whole: Collection[str],
    along: bool,
) -> Iterator[tuple[Region, Expr, Expr]]:
    """The regions in which the flux along an axis has memories, with what these keep and take."""
    profile, axis = system.symbols.profile, dimension.name
    others = [d for d in system.symbols.dimensions if d is not dimension]
    layered = [d for d in others if any(d.name == name for name, _ in ends)]
    for region in strips(axis, ends, whole):
        take = profile(JOINT_TAKE, dimension)
        if along and layered:
            fed = total(profile(JOINT_CROSS, d) for d in layered)
            take = take + profile(JOINT_GAIN, dimension) * fed
        yield region, profile(JOINT_KEEP, dimension), take
    if not along:
        return
    own = any(axis == name for name, _ in ends)
    outside = 1 - profile(JOINT_WITHIN, dimension) if own else sympy.S.One
    for other in layered:
        for region in strips(other.name, ends, whole):
            yield region, profile(JOINT_REST, other), outside * profile(JOINT_FAR, other)
