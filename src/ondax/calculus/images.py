"""How fields, expressions and what ports touch continue above a free surface."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from .._devito import Derivative
from ..scheme.plan import Above
from ..scheme.symbols import EVEN, ODD, SURFACE_GAIN, Expr, Region, Spatial, Symbols, Traits
from ..scheme.system import Port, System
from ..scheme.terms import (
    EquationError,
    accesses,
    is_access,
    location,
)


@runtime_checkable
class Imaged(Protocol):
    """What knows how functions continue above a free surface, as `Symbols` does."""

    profiles: Any
    dimensions: Any

    def traits_of(self, function: Spatial) -> Traits: ...


def image_of(expr: Expr, symbols: Imaged) -> int | None:
    """How an expression continues above a free surface: EVEN or ODD; None where its parts do not
    say or do not agree."""
    if is_access(expr):
        return EVEN if expr.function in symbols.profiles else symbols.traits_of(expr.function).image
    if isinstance(expr, Derivative):
        image = image_of(expr.expr, symbols)
        depth = symbols.dimensions[-1]
        odd = sum(n for d, n in zip(expr.dims, expr.deriv_order, strict=True) if d == depth) % 2
        return -image if image is not None and odd else image
    if expr.is_Add:
        stated = {image_of(arg, symbols) for arg in expr.args} - {None}
        return stated.pop() if len(stated) == 1 else None
    product = EVEN
    for arg in expr.args:
        image = image_of(arg, symbols)
        if image is None:
            return None
        product *= image
    return product


def with_images(system: System, reverse: bool = False) -> System:
    """Declare that fields have mirror images above the topmost nodes, with the signs that they
    state.

    It changes the scheme's symbols in place (`ghosts`, a profile and, with `reverse`, the traits of
    fields), and returns the same system. The images themselves are made by what runs the scheme. A
    topmost node has half a cell, so what is fed to it counts twice.

    Args:
        system: the scheme.
        reverse: fields continue with the opposite of the signs that they state.
    """
    symbols = system.symbols
    symbols.ghosts = True
    symbols.profile(SURFACE_GAIN, symbols.dimensions[-1])
    for field in system.fields if reverse else ():
        traits = symbols.traits_of(field)
        if traits.image is not None:
            symbols.traits[field.name] = replace(traits, image=-traits.image)
    return system


def continued(port: Port, field: Spatial, symbols: Symbols, along: Any = None) -> Above:
    """How what a port reads or feeds continues above a free surface; see `Above.of`.

    Args:
        port: the port.
        field: the field that it reads or feeds, or whose derivative.
        symbols: of the scheme.
        along: the axis of the derivative; None for the field itself.
    """
    if not symbols.ghosts:
        return Above.NOTHING
    depth = symbols.dimensions[-1]
    half, image = location(field)[depth], symbols.traits_of(field).image
    return Above.of(port.strains, image, half, vertical=along is depth)


def image_kept(symbol: Spatial, expr: Expr, symbols: Symbols) -> int | None:
    """How what a history keeps continues above a free surface, in its halo; None where it has no
    image there.

    Args:
        symbol: what is stored.
        expr: its value.
        symbols: the scheme's.
    """
    if not symbols.ghosts or below_surface(symbols.traits_of(symbol).region, symbols):
        return None
    return image_of(expr, symbols)


def below_surface(region: Region, symbols: Symbols) -> bool:
    """Is a region away from the surface?"""
    return any(axis == symbols.axes[-1] for axis, _ in region)


def check_ports(system: System) -> None:
    """Refuse ports of vertical derivatives that are not known near a free surface.

    Raises:
        EquationError: names the port.
    """
    symbols = system.symbols
    for port in (*system.inputs, *system.outputs) if symbols.ghosts else ():
        for t in port.touches:
            image = symbols.traits_of(t.field).image
            if t.along is not symbols.dimensions[-1]:
                continue
            if image is None:
                raise EquationError(
                    f"port {port.name}: below a free surface, the vertical derivative of "
                    f"{t.field.name} is known only if the field says how it continues above it: "
                    "symbols.field(name, image=ODD) for what vanishes at the surface, else EVEN"
                )
            if port.strains and image == ODD:
                raise EquationError(
                    f"port {port.name}: strains=True, which says that {t.field.name} vanishes at a "
                    "free surface but what is fed does not, is not possible with a vertical "
                    "derivative of it"
                )


def check_images(expr: Expr, symbols: Symbols) -> None:
    """Refuse vertical derivatives of what does not say how it continues above the surface.

    Raises:
        EquationError: names the derivative.
    """
    depth = symbols.dimensions[-1]
    for derivative in expr.find(Derivative):
        if depth in derivative.dims and image_of(derivative.expr, symbols) is None:
            names = ", ".join(sorted({a.function.name for a in accesses(derivative.expr)}))
            raise EquationError(
                f"{derivative}: a free surface needs to know how {names} continue above it; "
                "declare their image, ODD for what "
                "vanishes at the surface, EVEN otherwise: symbols.field(name, image=ODD)"
            )
