"""The states of runs between two steps, as arrays without halos: see `calculus.state`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calculus.planning import formula, variable
from ..calculus.program import Program
from ..scheme.plan import Plan, Variable, value
from ..scheme.symbols import ODD, Expr, Field
from .boxes import Box, box
from .domain import Domain


class States:
    """The states of a program's runs on one domain.

    Args:
        program: what is run.
        plan: of it.
        domain: where.
        dt: time step, s.
    """

    def __init__(self, program: Program, plan: Plan, domain: Domain, dt: float) -> None:
        self._dt, self._plan, self._program = dt, plan, program
        self._symbols, self._domain = program.symbols, domain
        self._updates = {u.field: u for u in program.system.updates}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each field's state, by name."""
        return {f.name: (n, *self._box(f).shape) for f, n in self._program.state.items()}

    def place(self, field: Field) -> Box:
        """The part of the domain on which a state has a field's values."""
        return self._box(field)

    def free(self, field: Field) -> Any:
        """Where the values of a field may be chosen, 1, and where they are always zero, 0: on a
        free surface that the field vanishes on; and where a memory takes nothing up, outside of
        its layer. It broadcasts with the values."""
        found = np.ones((1,) * len(self._domain.shape), self._domain.dtype)
        update = self._updates[field]
        if update.keep != 0:
            found = (self.profile(update.take, field) != 0.0).astype(found.dtype)
        if self._image(field) == ODD and not self._stored(field).halves[-1]:
            found = np.broadcast_to(found, self._box(field).shape).copy()
            found[..., 0] = 0.0
        return found

    def free_of(self, name: str) -> Any:
        """Likewise, of a field by name."""
        return next(self.free(f) for f in self._updates if f.name == name)

    def profile(self, expr: Expr, field: Field) -> np.ndarray:
        """The values of an expression of profiles and numbers at the points of a field; they
        broadcast with its own."""
        stored, axes = self._box(field), self._plan.axes
        values: dict[str, Any] = {"dt": self._dt}
        for profile in self._plan.profiles:
            (along,) = profile.axes
            axis = axes.index(along)
            start, count = stored.starts[axis], stored.shape[axis]
            row = self._domain.profiles[profile.name][start : start + count]
            values[profile.name] = row.reshape([-1 if n == axis else 1 for n in range(len(axes))])
        made = np.asarray(value(formula(expr, self._symbols.dt), values), self._domain.dtype)
        return made.reshape(made.shape or (1,) * len(axes))

    def shares(self, field: Field) -> np.ndarray:
        """How much of a cell belongs to each point of a field; it broadcasts with its values. The
        adjoint scheme is the transpose for sums in which points count by that."""
        column = self._plan.cell_shares(self._stored(field), self._domain.shape[-1])
        stored = self._box(field)
        return column[stored.starts[-1] : stored.starts[-1] + stored.shape[-1]]

    def remembering(self, field: Field) -> np.ndarray | None:
        """The factor of the adjoint field, at step 0, in what the cotangent of a memory gets from
        what that step keeps of it; None for other fields. The field of the adjoint is the
        multiplier times `take / mass`."""
        update = self._updates[field]
        if update.keep == 0:
            return None
        keep, take, mass = (self.profile(e, field) for e in (update.keep, update.take, update.mass))
        numbers = np.broadcast_arrays(keep * mass, take)
        return np.divide(*numbers, out=np.zeros_like(numbers[0]), where=numbers[1] != 0.0)

    def _stored(self, field: Field) -> Variable:
        return variable(field, self._symbols)

    def _box(self, field: Field) -> Box:
        return box(self._stored(field), self._domain)

    def _image(self, field: Field) -> int | None:
        """How the field continues above a free surface that it reaches."""
        traits, top = self._symbols.traits_of(field), self._symbols.axes[-1]
        reaches = self._symbols.ghosts and all(axis != top for axis, _ in traits.region)
        return traits.image if reaches else None
