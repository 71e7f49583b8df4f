"""How histories are kept as arrays, what they take of a device, and how many of them fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import numpy as np

from ...histories.base import Recording
from ...histories.half import Half
from ...histories.revolve import Revolve
from ..clock import Clock
from ..settings import Settings
from .boxes import shape_of
from .form import ON_CPU, Form
from .parts import Parts
from .runs import Runs
from .tape import Halves, Keep, Tape


class Room:
    """The memory of a device, and what runs take of it.

    Args:
        runs: of a form.
        parts: of what shots are run on.
        clock: steps.
        settings: memory.
        dtype: of fields.
    """

    def __init__(
        self,
        runs: Callable[[Form], Runs],
        parts: Parts,
        clock: Clock,
        settings: Settings,
        dtype: np.dtype,
    ) -> None:
        self._runs, self._parts, self._clock = runs, parts, clock
        self._settings, self._dtype = settings, dtype

    def keep(self, recording: Recording | None) -> Keep | None:
        """How a history is kept."""
        if recording is None:
            return None
        way = recording.history
        half, anew = isinstance(way, Half), isinstance(way, Revolve)
        return Keep(recording.coefficients, recording.every, recording.beyond, half, anew)

    def tape_bytes(self, keep: Keep, form: Form, steps: int | None = None) -> int:
        """What the history of a shot takes, of all steps or of so many, on one device."""
        runs, total = self._runs(form), 0
        steps = self._clock.steps + keep.beyond if steps is None else steps
        for track in runs.tracks(keep.coefficients):
            points = math.prod(b - a for a, b in runs.stepper.evaluator.home(track.quantity.symbol))
            values = len(track.offsets) if keep.every > 1 else 1
            size = 2 if keep.half else self._dtype.itemsize
            total += -(-steps // keep.every) * values * points * size
        return total

    def state_bytes(self, form: Form) -> int:
        """What the fields of a shot take, on one device."""
        levels = sum(self._runs(form).stepper.levels.values())
        return levels * self._parts.size * self._dtype.itemsize

    @cached_property
    def budget(self) -> int:
        """Bytes that histories may take: what the settings say, or half of the device's memory."""
        device = jax.devices()[0]
        known = None if device.platform == "cpu" else device.memory_stats()
        if self._settings.memory is None and known and "bytes_limit" in known:
            return known["bytes_limit"] // 2
        return self._settings.memory_budget

    def holds(self, shots: int, recording: Recording) -> bool:
        """Can the histories of so many shots be held from a forward run to its adjoint? Not where
        devices have parts of them: then each run makes its own."""
        keep = self.keep(recording)
        if (
            self._settings.mesh is not None
            or keep is None
            or keep.anew
            or not recording.history.keeps
        ):
            return False
        return shots * self.tape_bytes(keep, ON_CPU) <= self.budget

    def tape_shapes(self, shots: int, recording: Recording, started: bool) -> Tape:
        """The shapes and types of the histories of so many shots.

        Args:
            shots: how many.
            recording: what is kept.
            started: runs do not start at rest.
        """
        keep, runs = self.keep(recording), self._runs(ON_CPU)
        assert keep is not None
        slots = -(-(self._clock.steps + keep.beyond) // keep.every)
        kept, before = {}, {}
        for track in runs.tracks(keep.coefficients):
            lead = (slots, *((len(track.offsets),) if keep.every > 1 else ()), shots)
            points = shape_of(runs.stepper.evaluator.home(track.quantity.symbol))
            values: Any = jax.ShapeDtypeStruct((*lead, *points), self._dtype)
            if keep.half:
                halves = jax.ShapeDtypeStruct(values.shape, np.dtype(np.float16))
                values = Halves(halves, jax.ShapeDtypeStruct(lead, np.dtype(np.int32)))
            kept[track.name] = values
            quantity = track.quantity
            if started and keep.every == 1 and quantity.at_next and min(track.offsets) < 1:
                level = jax.ShapeDtypeStruct((shots, *points), self._dtype)
                before[track.name] = (level,) * runs.stepper.levels[quantity.field.name]
        return Tape(keep, kept, before)

    def together(self, shots: int, bytes_of_shot: int) -> int:
        """How many shots are run side by side."""
        return max(1, min(shots, self.budget // max(1, bytes_of_shot)))

    def made_anew(self, keep: Keep, form: Form) -> tuple[Keep, int | None]:
        """How a history is kept that is made for one run: whole, if that of a shot fits; else of
        every step, as it is, and a stretch of so many steps at a time."""
        if not keep.anew and self.tape_bytes(keep, form) <= self.budget:
            return keep, None
        keep = Keep(keep.coefficients, anew=True)
        steps, slot = self._clock.steps, max(1, self.tape_bytes(keep, form, 1))
        return keep, max(1, min(steps, round(math.sqrt(steps * self.state_bytes(form) / slot))))
