"""The adjoint's memories stepped at the beginning of the next step.

A transposed step ends with the memories that no one reads before the next step. Left there, they
make a pass over the grid of their own, as they read around a point what sources have just entered.
Put at the beginning of the next step, they are stepped in the pass that reads them, while its rows
are in cache: a fifth of the adjoint of a 3-D run in layers. It changes no value: the first step
finds zeros, and no one misses what the last one would have made.
"""

from __future__ import annotations

from dataclasses import replace

from ...scheme.symbols import Expr, Field, Spatial
from ...scheme.system import System
from ...scheme.terms import accesses, at_offset, map_accesses, time_offset


def lagged(system: System) -> tuple[System, frozenset[Field]]:
    """The system with the last memories in strips put first, a step later.

    Args:
        system: an adjoint scheme.

    Returns:
        The system, and the fields that have been put first: after a step they lack the update that
        belongs to it.
    """
    count = _last(system)
    if not count:
        return system, frozenset()
    others, last = system.updates[:-count], system.updates[-count:]
    moved = frozenset(u.field for u in last)

    def earlier(access: Spatial) -> Expr:
        """As the next step calls it."""
        return access if access.function in moved else _shifted(access, -1, system)

    def later(access: Spatial) -> Expr:
        """The old value of a field that has been stepped already is now its new one."""
        return _shifted(access, 1, system) if access.function in moved else access

    updates = (
        *(replace(u, rhs=map_accesses(u.rhs, earlier)) for u in last),
        *(replace(u, rhs=map_accesses(u.rhs, later)) for u in others),
    )
    return replace(system, updates=updates), moved


def _last(system: System) -> int:
    """How many updates at the end are of memories in strips that only read new values of the other
    fields, and have no part in what enters and leaves the scheme."""
    ports = {t.field for port in (*system.inputs, *system.outputs) for t in port.touches}
    fields = set(system.fields)
    count = 0
    for update in reversed(system.updates):
        if update.field in ports or not system.symbols.traits_of(update.field).region:
            break
        count += 1
    while count:
        moved = {u.field for u in system.updates[-count:]}
        bad = [
            n
            for n, u in enumerate(reversed(system.updates[-count:]))
            if any(a.function in fields - moved and time_offset(a) != 1 for a in accesses(u.rhs))
        ]
        if not bad:
            break
        count = bad[0]
    return count


def _shifted(access: Spatial, steps: int, system: System) -> Expr:
    if access.function not in system.fields:
        return access
    return at_offset(access.function, time_offset(access) + steps)
