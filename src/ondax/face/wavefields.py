"""Wavefields at one time, as a pytree: what a run starts from, and what it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _validate
from .host import HostModel
from .problem import Problem

MOST_NAMES = 6  # of fields in a message


@final
class Wavefields(eqx.Module):
    """The wavefields of some shots at one time: all that the scheme needs to go on.

    `F.with_final` returns the fields at the end of a record, `F.at_rest` makes them of a pressure
    or a displacement; `F(model, initial=fields)` starts from them. They are a pytree: JAX
    differentiates by them, and `jax.lax.scan` carries them.

    `fields["u"]` are the newest values of the field u on the model's grid.

    Attributes:
        values: by field name, `(shot, level, *points)`: the values at the time levels that the next
            step reads, the newest first, on the grid and the layers around it. Memories of layers
            are fields, too, on the strips where they live. A shot axis of length 1 stands for all
            shots.
        dt: the internal time step between two levels, s.
        inside: first point and number of points of the model's grid, along each axis.
    """

    values: dict[str, Float[Array, "shot level *points"]]
    dt: float = eqx.field(static=True)
    inside: tuple[tuple[int, int], ...] = eqx.field(static=True)

    def __getitem__(self, name: str) -> Float[Array, "shot *grid"]:
        """The newest values of a field on the model's grid; staggered fields live half a cell
        beyond its points.

        Raises:
            KeyError: there is no such field, or it lives in a layer only.
        """
        if name not in self.values:
            raise KeyError(f"{name!r}: these are the fields {', '.join(self.values)}")
        newest = self.values[name][:, 0]
        ends = [first + count for first, count in self.inside]
        if any(n < end for n, end in zip(newest.shape[1:], ends, strict=True)):
            raise KeyError(f"{name!r} lives in a layer around the grid only: see .values")
        within = tuple(slice(first, first + count) for first, count in self.inside)
        return newest[(slice(None), *within)]


def inside_of(problem: Problem) -> tuple[tuple[int, int], ...]:
    """Where the model's grid lies in the domain; see `Wavefields`."""
    pairs = zip(problem.widths, problem.grid.shape, strict=True)
    return tuple((low, count) for (low, _), count in pairs)


def wrapped(problem: Problem, values: Mapping[str, Any]) -> Wavefields:
    """The fields of a problem's shots."""
    return Wavefields(dict(values), problem.dt, inside_of(problem))


def check_runs(problem: Problem) -> None:
    """Check that runs of a problem may start from given fields, or hand theirs on.

    Raises:
        ValueError: they may not; says why, and the remedy.
    """
    if problem.warp is not None:
        raise ValueError(
            "initial and final fields are those of the scheme, whose time dispersion cannot be "
            "taken out of them as out of traces: F.replace(time_dispersion='raw'), with a smaller "
            "courant= where the error of the time step matters"
        )
    if problem.windows is not None:
        raise ValueError(
            f"aperture={problem.aperture:g}: shots that see parts of the grid have no fields on "
            "all of it; F.replace(aperture=None)"
        )


def check_start(problem: Problem) -> None:
    """Check that traces of a problem can begin with given fields.

    Raises:
        ValueError: they cannot; says why, and the remedy.
    """
    check_runs(problem)
    survey = problem.survey
    if survey.lead < 0:
        raise ValueError(
            f"initial=: the traces begin at {survey.start:g} s, before the wavelets, and so before "
            f"the run, at {survey.wavelet_start:g} s: give wavelets that begin as early (zeros)"
        )
    if any(problem.late):
        names = ", ".join(port.name for port in problem.receivers.ports)
        raise ValueError(
            f"initial=: {names} hold at times half a step apart, and are interpolated in time, for "
            "which values before the start would be needed: record one of them in a call"
        )


def state_of(fields: Any, host: HostModel, shots: int, dtype: Any) -> dict[str, Array]:
    """Given fields as operands, (shot, level, *points) by name.

    Raises:
        TypeError: they are no wavefields.
        ValueError: they do not fit.
    """
    problem, shapes = host.problem, host.solver.state
    if not isinstance(fields, Wavefields):
        raise TypeError(
            f"initial= is a {type(fields).__name__}: give the fields that F.with_final returned, "
            "or F.at_rest(model, {name: array})"
        )
    if fields.dt != problem.dt:
        given, own = _validate.told_apart(fields.dt, problem.dt)
        raise ValueError(
            f"initial= has levels {given} s apart, and this propagator steps by {own} s: make both "
            "with the same dt of the survey, courant and max_velocity"
        )
    if set(fields.values) != set(shapes) or fields.inside != inside_of(problem):
        raise ValueError(
            f"initial= has the fields {_named(fields.values)} around a grid of {fields.inside}, "
            f"and this propagator has {_named(shapes)} around {inside_of(problem)} (first point "
            "and number of points along each axis): make both with the same equation, grid and "
            "boundary"
        )
    found = {}
    for name, expected in shapes.items():
        values = fields.values[name]
        rows = shots if jnp.shape(values)[:1] != (1,) else 1
        values = _validate.shaped(f"initial field {name}", values, (rows, *expected), dtype)
        found[name] = jnp.broadcast_to(values, (shots, *expected))
    return found


def _named(names: Mapping[str, Any]) -> str:
    some = sorted(names)
    more = f" and {len(some) - MOST_NAMES} more" if len(some) > MOST_NAMES else ""
    return ", ".join(some[:MOST_NAMES]) + more


def padded(given: Mapping[str, Any], host: HostModel, dtype: Any) -> tuple[int, dict[str, Array]]:
    """Arrays of the grid's shape, (*grid) or (shot, *grid), on the domain, zero in the layers:
    how many shots, and (shot, *domain) by name.

    Raises:
        TypeError: no dict.
        ValueError: names or shapes that do not fit.
    """
    problem, shapes = host.problem, host.solver.state
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f"fields={given!r}: give arrays of the grid's shape in a dict, by field")
    grid, widths = problem.grid.shape, problem.widths
    choices = [n for n, s in shapes.items() if s[1:] == host.shape]
    found = {}
    for name, values in given.items():
        if name not in choices:
            raise ValueError(
                f"fields={{{name!r}: ...}}: this scheme has {_named(dict.fromkeys(choices))}"
            )
        shape = jnp.shape(values)
        rows = shape[:1] if len(shape) == len(grid) + 1 else ()
        array = _validate.shaped(f"fields[{name!r}]", values, (*rows, *grid), dtype)
        array = array if rows else array[None]
        found[name] = jnp.pad(array, ((0, 0), *widths))
    counts = {len(x) for x in found.values()} - {1}
    if len(counts) > 1:
        raise ValueError(f"fields= have {sorted(counts)} shots: give all the same number")
    return (counts or {1}).pop(), found


def check_whole(problem: Problem, initial: Any) -> None:
    """Check that a run that begins within the time of a survey has something to begin with.

    Raises:
        ValueError: it has not.
    """
    survey = problem.survey
    if initial is None and survey.cut is not None and survey.cut.first > 0:
        raise ValueError(
            f"this survey is the part of a longer one's time from {survey.start:g} s on: give the "
            "fields at that time, F(model, initial=fields)"
        )


def standing(host: HostModel, given: Mapping[str, Array], shots: int) -> dict[str, Array]:
    """The state in which some fields have had their values for a while, and all others are zero.

    Args:
        host: of the problem.
        given: (shot, *domain) by name; a shot axis of length 1 is shared.
        shots: how many.
    """
    dtype = next(iter(given.values())).dtype
    state = {}
    for name, shape in host.state.items():
        values = given[name][:, None] if name in given else jnp.zeros((), dtype)
        state[name] = jnp.broadcast_to(values, (shots, *shape))
    return state


def resting(
    host: HostModel, start: Mapping[str, Array], after: Mapping[str, Array]
) -> dict[str, Array]:
    """The state at the beginning of a record, of fields given at that time whose second
    differences in time are those of the scheme, and whose rates of change are zero if the scheme
    has them, too.

    Accurate to second order in the time step, by the first terms of a Taylor series.

    Args:
        host: of the problem.
        start: the given fields, as if they stood still; see `standing`.
        after: what a step makes of it.
    """
    system = host.planned.program.system
    from ..calculus.state import early

    halves, memories = early(system), {u.field for u in system.updates if u.keep != 0}
    made = {}
    for field in system.fields:
        name = field.name
        if name not in start or field in memories:
            continue
        # What receivers read holds at the time of the record; the others are so much later.
        later = (-0.5 if field in halves else 0.0) - host.problem.recorded_at
        change = after[name][:, :1] - start[name][:, :1]
        if host.state[name][0] == 2:
            shares = [later**2 / 2.0, (later - 1.0) ** 2 / 2.0]
        else:
            shares = [later]
        parts = [start[name][:, :1] + share * change for share in shares]
        made[name] = jnp.concatenate(parts, axis=1)
    return {n: made.get(n, jnp.zeros_like(v)) for n, v in start.items()}
