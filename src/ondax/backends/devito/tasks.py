"""One shot's work, prepared: its medium and its samples, scaled."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...histories.base import Recording
from ...histories.store import Content, same_bytes
from ...scheme.plan import Plan
from ..base import Experiment
from ..domain import Domain
from ..scaling import LARGE, Gains, exponent, scaled
from ..setups import Position, Setup, clipped, element
from ..workers import Shared
from .layout import with_halo
from .plans import Planned

LASTING = 32 << 20  # bytes of coefficients; setting up more of them is nothing beside their runs


class Medium(Shared):
    """The coefficients of one batch element, which all its shots share.

    Args:
        plan: of what is run.
        domain: that the coefficients are given on.
        values: of each coefficient, by name, on that domain.

    Attributes:
        content: what tells it from other media.
        sizes: the binary exponent of each coefficient that is not zero, by name.
    """

    def __init__(self, plan: Plan, domain: Domain, values: Mapping[str, np.ndarray]) -> None:
        self._plan, self._domain, self._values = plan, domain, values
        self._content = Content(list(values.values()))
        found = {name: exponent(v) for name, v in values.items()}
        self.sizes = {name: size for name, size in found.items() if size is not None}
        self._whole: dict[str, np.ndarray] = {}

    def __reduce__(self) -> Any:
        return Medium, (self._plan, self._domain, self._values)

    @property
    def content(self) -> Content:
        """See `Shared`."""
        return self._content

    @property
    def lasting(self) -> bool:
        """May it be used again? Nobody can write into its coefficients; and they are few enough for
        it to matter, and not to be missed."""
        values = self._values.values()
        return all(map(_fixed, values)) and sum(v.nbytes for v in values) <= LASTING

    def holds(self, values: Mapping[str, np.ndarray]) -> bool:
        """Are these its coefficients, to the bit?"""
        return all(same_bytes(v, values[name]) for name, v in self._values.items())

    def prepare(self, setup: Setup) -> None:
        """Make, once, what all shots share that are run on all of the domain."""
        if self._all_of_it(setup) and not self._whole:
            self._whole = self._with_halos(setup.domain, setup.start)

    def arrays(self, setup: Setup) -> dict[str, np.ndarray]:
        """The coefficients as kernels take them, on a shot's domain."""
        if self._all_of_it(setup):
            self.prepare(setup)
            return self._whole
        return self._with_halos(setup.domain, setup.start)

    def _all_of_it(self, setup: Setup) -> bool:
        """Is a shot run on all of the domain? In another process, it has a copy of that."""
        ours, its = self._domain, setup.domain
        return its is ours or (its.shape == ours.shape and its.key == ours.key)

    def _with_halos(self, domain: Domain, start: Position) -> dict[str, np.ndarray]:
        inside = part(start, domain.shape)
        return {
            c.name: with_halo(c, self._values[c.name][inside], domain, self._plan.ghosts)
            for c in self._plan.coefficients
        }


def _fixed(array: np.ndarray) -> bool:
    """Can nobody write into an array, nor into what it is a view of? So come those from JAX."""
    base = array.base
    if array.flags.writeable:
        return False
    return base is None or (isinstance(base, np.ndarray) and _fixed(base))


def part(start: Position, shape: Position) -> tuple[slice, ...]:
    """So many points from a first one."""
    return tuple(slice(first, first + n) for first, n in zip(start, shape, strict=True))


def live(ports: int, most: int, points: int) -> Any:
    """Which rows of arrays (port and point, ...), made for the most points of any shot, are those
    of a shot with fewer."""
    if points == most:
        return slice(None)
    return (np.arange(ports)[:, None] * most + np.arange(points)).ravel()


@dataclass
class Task:
    """One shot of one batch element, scaled by powers of two so that its sources change the fields
    by about one in a step.

    The samples of point sources are divided by `2**(size + gain)`: the size is the binary exponent
    of the largest sample, and the gain that of the change that a sample of size one makes (see
    `Gains`). Of extended sources, samples are divided by `2**size` of their own, and weights by
    `2**(size + gain)` of theirs.

    Attributes:
        number: of the task.
        index: of the shot in results, (*batch, shot).
        setup: where the shot is.
        medium: that it is shot in.
        into: the rows of its sources, in arrays of all shots; see `live`.
        out: those of its receivers.
        source: samples, times `2**-of_samples`, (port and source, step).
        weights: of extended sources, times `2**-of_weights`.
        initial: the state before step 0, by field name, times `2**-power`; None for rest.
        by_position: samples are also fed by derivatives; see `Experiment`.
        threads: of its kernels; 0 for as many as the settings allow and its size is worth.
        key: of its history, once it is known.
        given: what else an adjoint or Born run of the shot takes.
        company: the keys of the media in use in this call, whose histories need room together; see
            `HistoryStore.acquire`. None in another process than the call's, which knows of its own
            shot only.
        needed: whether other shots of the call need the history of a key. None likewise.
    """

    number: int
    index: Position
    setup: Setup
    medium: Medium
    into: Any
    out: Any
    source: np.ndarray
    of_samples: int = 0
    weights: np.ndarray | None = None
    of_weights: int = 0
    initial: Mapping[str, np.ndarray] | None = None
    by_position: bool = False
    threads: int = 1
    key: tuple[Any, ...] | None = None
    given: Any = field(default=None, repr=False)
    company: frozenset[Hashable] | None = field(default=None, repr=False)
    needed: Callable[[Hashable], bool] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Without what another process finds out for itself."""
        return self.__dict__ | {"threads": 0, "key": None, "company": None, "needed": None}

    @property
    def cost(self) -> float:
        """See `Shot`."""
        return float(math.prod(self.setup.domain.shape)) * self.setup.clock.steps

    @property
    def mark(self) -> Hashable:
        """See `Shot`: what tells its history from those of other shots in the medium."""
        digest = hashlib.blake2b(digest_size=16)
        for values in (self.source, self.setup.sources, self.weights):
            if values is not None:
                digest.update(values.tobytes())
        return hash(self.medium.content), self.setup.start, digest.digest()

    @property
    def batch(self) -> Position:
        """The batch element."""
        return self.index[:-1]

    @property
    def moves(self) -> bool:
        """Does anything make a wavefield?"""
        started = self.initial is not None and any(v.any() for v in self.initial.values())
        return bool(self.source.any()) or started

    @property
    def power(self) -> int:
        """Wavefields, and what receivers record, are those of the run times two to this power."""
        return self.of_samples + self.of_weights

    def history_key(self, recording: Recording, kernels: Any) -> tuple[Any, ...]:
        """The key of its history in the store: everything that determines the history.

        The first three parts, namely what is kept, the kernels, and the medium by content, are the
        same for all shots in one medium. The last part is the shot's own: its domain, its clock,
        and the content of its samples, its source positions, its weights and its initial state.
        """
        if self.key is None or self.key[0] != recording:
            weights = () if self.weights is None else (self.weights,)
            initial = sorted((self.initial or {}).items())
            own = Content((self.source, self.setup.sources, *weights, *(v for _, v in initial)))
            clock, domain = self.setup.clock, self.setup.domain
            shot = (domain.key, clock.dt, clock.steps, tuple(n for n, _ in initial), own)
            self.key = (recording, kernels, self.medium.content, shot)
        return self.key


class Tasks:
    """What makes tasks of an experiment.

    Args:
        planned: what is run.
        domain: that coefficients are given on.
    """

    def __init__(self, planned: Planned, domain: Domain) -> None:
        self._planned, self._domain = planned, domain
        self._gains: dict[tuple[bool, float], Gains] = {}
        self._last: Medium | None = None

    def of(self, batch: Position, e: Experiment) -> Iterator[Task]:
        """One task for each shot of every batch element.

        Two elements share their medium only if every coefficient is shared between them: it has
        length 1 along each batch axis in which they differ. Equal values do not count.
        """
        coefficients = self._planned.plan.coefficients
        media: dict[Any, Medium] = {}
        number = 0
        for position in np.ndindex(*batch):
            given = {c.name: e.coefficients[c.name] for c in coefficients}
            shared = tuple(clipped(position, c.shape) for c in given.values())
            if shared not in media:
                media[shared] = self._medium({n: element(c, position) for n, c in given.items()})
            samples = element(e.source, position)
            for shot in range(e.setups.shots):
                setup, medium = e.setups.of(position, shot), media[shared]
                yield self._task(number, (*position, shot), e, setup, medium, samples)
                number += 1

    def _medium(self, values: Mapping[str, np.ndarray]) -> Medium:
        """The medium of these coefficients: the last one, if they are the same again, as they are
        in the adjoint run of a gradient."""
        last = self._last
        if last is not None and last.holds(values):
            return last
        medium = Medium(self._planned.plan, self._domain, values)
        self._last = medium if medium.lasting else None
        return medium

    def _task(
        self,
        number: int,
        index: Position,
        e: Experiment,
        setup: Setup,
        medium: Medium,
        samples: np.ndarray,
    ) -> Task:
        plan, (*position, shot) = self._planned.plan, index
        medium.prepare(setup)
        weights = None if e.weights is None else element(e.weights, tuple(position))[shot]
        sources = len(setup.sources) if weights is None else 1
        copies = 1 + plan.ndim if e.by_position else 1
        into = live(copies * len(plan.inputs), e.setups.sources, sources)
        out = live(len(plan.outputs), e.setups.receivers, len(setup.receivers))
        source = samples[min(shot, len(samples) - 1)][into, : setup.clock.steps]
        of_samples = exponent(source) or 0
        of_weights = 0 if weights is None else exponent(weights) or 0
        gain = self.gain(plan.inputs, setup, medium)
        initial = None
        if e.initial is not None:
            initial = {n: element(v, tuple(position))[shot] for n, v in e.initial.items()}
            of_state = exponent(*initial.values())
            if of_state is not None:  # the larger of what enters before the run and during it
                silent = not (source.any() and (weights is None or weights.any()))
                gain = max(-LARGE if silent else gain, of_state - of_samples - of_weights)
        if weights is None:
            of_samples += gain
        else:
            of_weights += gain
        power = of_samples + of_weights
        return Task(
            number=number,
            index=index,
            setup=setup,
            medium=medium,
            into=into,
            out=out,
            source=scaled(source, -of_samples),
            of_samples=of_samples,
            weights=None if weights is None else scaled(weights, -of_weights),
            of_weights=of_weights,
            initial=None if initial is None else {n: scaled(v, -power) for n, v in initial.items()},
            by_position=e.by_position,
        )

    def gain(self, ports: Sequence[Any], setup: Setup, medium: Medium, back: bool = False) -> int:
        """How much samples of size one change the fields that they are fed to, as a binary
        exponent; see `Gains`.

        Args:
            ports: inputs of the scheme.
            setup: of the shot.
            medium: that it is shot in.
            back: the scheme is the transposed one.
        """
        key = (back, setup.clock.dt)
        if key not in self._gains:
            plan = self._planned.transposed if back else self._planned.plan
            self._gains[key] = Gains(plan, setup.clock.dt)
        return self._gains[key].of(ports, medium.sizes)
