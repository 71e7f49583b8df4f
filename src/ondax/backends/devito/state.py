"""The state of a shot between two steps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...scheme.plan import Variable
from ...scheme.symbols import Field
from ..states import States
from .layout import interior, reflect
from .shot import Shot, State


class ShotStates(States):
    """The states of shots."""

    def set(self, shot: Shot, state: State) -> None:
        """Set the fields of a shot, which are at rest, to a state before step 0. Fields that it
        does not name stay at rest."""
        for field, count in self._program.state.items():
            for level in range(count if field.name in state else 0):
                values = state[field.name][level]
                self._fill(field, shot.fields[field.name], -level, values * self.free(field))

    def get(self, shot: Shot, steps: int) -> dict[str, np.ndarray]:
        """A copy of the state of a shot that has made so many steps."""
        found = {}
        for field, count in self._program.state.items():
            array = shot.fields[field.name]
            inside = interior(self._stored(field), self._box(field).shape)
            at = [array[((steps - level) % len(array), *inside)] for level in range(count)]
            found[field.name] = np.stack(at)
        return found

    def unsettled(self, shot: Shot, cotangents: State, level: int, time: int) -> bool:
        """Set the fields of `Ends.settling` to cotangents of one level of the state, at a time; are
        there any?"""
        ends, found = self._program.ends, False
        for field, count in self._program.state.items():
            if level < count:
                values = cotangents[field.name][level]
                array = shot.fields[ends.settled[self._program.adjoints[field]].name]
                inside = interior(self._stored(field), self._box(field).shape)
                array[(time % len(array), *inside)] = values * (
                    self.free(field) / self.shares(field)
                )
                found = found or bool(values.any())
        return found

    def settle(self, shot: Shot, time: int) -> None:
        """Add what `Ends.settling` has made at a time of the adjoint's steps to its fields."""
        for adjoint, settled in self._program.ends.settled.items():
            fields, added = shot.fields[adjoint.name], shot.fields[settled.name]
            fields[(time - 1) % len(fields)] += added[(time + 1) % len(added)]

    def started(self, shot: Shot) -> dict[str, np.ndarray]:
        """The cotangents of the initial state, of which `Ends.starting` has made most."""
        ends, found = self._program.ends, {}
        for field, count in self._program.state.items():
            symbols = [ends.newest[field], *([ends.before[field]] if count == 2 else [])]
            inside = interior(self._stored(field), self._box(field).shape)
            levels = np.stack([shot.fields[s.name][(0, *inside)] for s in symbols])
            factor = self.remembering(field)
            if factor is not None:
                multiplier = shot.fields[self._program.adjoints[field].name][-1]
                levels[0] += factor * multiplier[inside]
            found[field.name] = levels * (self.free(field) * self.shares(field))
        return found

    @property
    def settling(self) -> tuple[Variable, ...]:
        """The fields of `Ends.settling`."""
        return self._all(self._program.ends.settling.fields)

    @property
    def starting(self) -> tuple[Variable, ...]:
        """The fields of `Ends.starting`."""
        return self._all(self._program.ends.starting.fields)

    def _all(self, fields: Iterable[Field]) -> tuple[Variable, ...]:
        return tuple(map(self._stored, fields))

    def _fill(self, field: Field, array: np.ndarray, time: int, values: np.ndarray) -> None:
        slot = array[time % len(array)]
        slot[interior(self._stored(field), self._box(field).shape)] = values
        reflect(self._stored(field), slot, self._image(field))
