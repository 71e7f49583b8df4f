"""Compiled kernels of one program, made when first needed and kept for the life of the process."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from threading import Thread
from typing import Any

from ... import _forks
from ..._waiting import waiting
from ...histories.base import Recording
from ...scheme.plan import Keeping, Kept, Variable
from .compiled import known
from .compiler import processor, toolchain
from .kernel import Kernel
from .names import SCRATCH_PREFIX
from .plans import Planned
from .slots import Slots, slots_of


class Kernels:
    """The kernels of a program.

    Args:
        planned: what they compute.
        late: see `Lowering`.

    Attributes:
        scratch: the arrays that kernels compute and use within a step, by name, of all kernels so
            far.
    """

    def __init__(self, planned: Planned, late: bool = True) -> None:
        self.planned, self._late = planned, late
        self.scratch: dict[str, Variable] = {}
        self._kernels: dict[tuple[Any, ...], Kernel] = {}
        self._slots: dict[Recording, list[tuple[Kept, Slots]]] = {}
        self._locks: dict[tuple[Any, ...], Any] = defaultdict(_forks.lock)
        self._lock = _forks.lock()
        self._known_lowering: Any = None

    def _lowering(self) -> Any:
        """What makes equations of the program. Used by one thread at a time, within the lock."""
        from .lower import Lowering

        if self._known_lowering is None:
            self._known_lowering = Lowering(self.planned.program, self._late)
        return self._known_lowering

    @cached_property
    def levels(self) -> Mapping[str, int]:
        """At how many times each field is kept while running, by name."""
        return self.planned.piece("levels", self._levels_of_fields)

    @cached_property
    def levels_back(self) -> Mapping[str, int]:
        """The same of the fields of the adjoint."""
        return self.planned.piece(f"levels back {self._late}", self._levels_of_adjoints)

    def _levels_of_fields(self) -> dict[str, int]:
        with self._lock:
            lowering = self._lowering()
            return {f.name: lowering.levels(f) for f in lowering.system.fields}

    def _levels_of_adjoints(self) -> dict[str, int]:
        with self._lock:
            lowering = self._lowering()
            return {f.name: lowering.levels(f) for f in lowering.transposed.fields}

    def keeping(self, recording: Recording) -> Keeping:
        """What a step keeps."""
        return self.planned.keeping(recording.coefficients)

    def slots(self, recording: Recording) -> list[tuple[Kept, Slots]]:
        """What a history holds, and where."""
        if recording not in self._slots:
            keeping = self.keeping(recording)
            found = [(k, slots_of(k, keeping.window, recording.every)) for k in keeping.kept]
            self._slots[recording] = found
        return self._slots[recording]

    def worth_sampling(self, recording: Recording | None) -> Recording | None:
        """The recording, or that of every step where a sampled one would hold as much: the gradient
        of a step may read two values of a field in a row."""
        if recording is None or recording.every == 1:
            return recording
        low, high = self.keeping(recording).window
        if high - low + 1 < recording.every:
            return recording
        return Recording(recording.coefficients, recording.history.every_step())

    def forward(self, recording: Recording | None, parallel: bool) -> Kernel:
        """The forward kernel, which keeps a history or, without a recording, none."""

        def equations() -> list[Any]:
            kept = None if recording is None else self._coupling(recording)
            return self._lowering().forward(kept)

        def then() -> None:
            # Whoever keeps a history is likely to want a gradient: its kernel is derived while the
            # compiler is busy with this one.
            if recording is not None and not self.planned.plan.extended:
                self.adjoint(recording, inputs=False, weights=False, parallel=parallel)

        return self._kernel(("forward", _names(recording)), equations, parallel, then)

    def reading(self) -> Kernel:
        """The kernel of what receivers read of a state that no step has made."""

        def equations() -> list[Any]:
            return self._lowering().reading()

        return self._kernel(("reading", None), equations, parallel=False)

    def born(self, recording: Recording, parallel: bool) -> Kernel:
        """The kernel of Born modelling."""

        def equations() -> list[Any]:
            return self._lowering().born(self._coupling(recording))

        return self._kernel(("born", _names(recording)), equations, parallel)

    def adjoint(
        self, recording: Recording | None, inputs: bool, weights: bool, parallel: bool
    ) -> Kernel:
        """The kernel of the adjoint; see `Lowering.adjoint`."""

        def equations() -> list[Any]:
            kept = None if recording is None else self._coupling(recording)
            return self._lowering().adjoint(kept, inputs, weights)

        return self._kernel(("adjoint", _names(recording), inputs, weights), equations, parallel)

    def _coupling(self, recording: Recording) -> Any:
        return self.planned.program.coupling(recording.coefficients)

    @cached_property
    def prompt(self) -> Kernels:
        """The kernels of which a step of the adjoint is complete when it ends."""
        return Kernels(self.planned, late=False) if self._lags() else self

    def _lags(self) -> bool:
        with self._lock:
            return self._lowering().lags

    def settling(self, inputs: bool, weights: bool, parallel: bool) -> Kernel:
        """The kernel of what cotangents of a state add to a step; see `Lowering.settling`."""

        def equations() -> list[Any]:
            return self._lowering().settling(inputs, weights)

        return self._kernel(("settling", inputs, weights), equations, parallel)

    def starting(self, recording: Recording | None, parallel: bool) -> Kernel:
        """The kernel of the cotangents of initial states; see `Lowering.starting`."""

        def equations() -> list[Any]:
            return self._lowering().starting(
                None if recording is None else self._coupling(recording)
            )

        return self._kernel(("starting", _names(recording)), equations, parallel)

    def any_start(self, recording: Recording | None) -> bool:
        """Are gradients of coefficients right whatever the run started from? Else they need what
        `starting` adds."""
        return recording is None or self.planned.piece(
            f"any start {' '.join(recording.coefficients)}", lambda: self._any_start(recording)
        )

    def _any_start(self, recording: Recording) -> bool:
        from ...calculus.state import of_step_before

        terms = self._coupling(recording).gradients.values()
        adjoints = self.planned.program.adjoints.values()
        return not any(of_step_before(term, adjoints) != 0 for term in terms)

    def _kernel(
        self,
        which: tuple[Any, ...],
        equations: Callable[[], list[Any]],
        parallel: bool,
        then: Callable[[], object] | None = None,
    ) -> Kernel:
        """A kernel, if need be built now.

        Args:
            which: of the kernels of this program.
            equations: derives its equations.
            parallel: with OpenMP inside the kernel.
            then: what to do while the compiler is busy, if it is to be compiled.
        """
        key = (*which, parallel)
        kernel = self._kernels.get(key)
        if kernel is not None:
            return kernel
        with self._lock:
            lock = self._locks[key]
        with lock:
            if key not in self._kernels:
                self._kernels[key] = self._found(key) or self._built(key, equations, then)
            return self._kernels[key]

    def _found(self, key: tuple[Any, ...]) -> Kernel | None:
        """A kernel that has been built before, by its plan; None if there is none."""
        note = self.planned.kept(self._name(key))
        if note is None:
            return None
        kernel = known(note.library)
        if kernel is not None:
            self.scratch |= note.scratch
        return kernel

    def _built(
        self,
        key: tuple[Any, ...],
        equations: Callable[[], list[Any]],
        then: Callable[[], object] | None,
    ) -> Kernel:
        from ...calculus.planning import variable
        from .build import build

        meanwhile = None if then is None else partial(_aside, then)
        what = f"{key[0]} kernel{' with a history' if key[1] else ''}"
        with waiting(f"building the {what}, once for later runs"), _FEW_COLLECTIONS:
            with self._lock:
                derived = equations()
                functions = dict(self._lowering().scratch.functions)
            symbols = self.planned.program.symbols
            library, kernel = build(derived, symbols.dtype.name, key[-1], meanwhile)
        scratch = {n: variable(functions[n], symbols) for n in kernel.named(SCRATCH_PREFIX)}
        self.scratch |= scratch
        self.planned.keep(self._name(key), _Note(library, scratch))
        return kernel

    def _name(self, key: tuple[Any, ...]) -> str:
        """The name of a kernel's plan, which changes with the compiler and the processor too."""
        return f"kernel {key} {self._late} {toolchain().identity} {processor()}"


@dataclass(frozen=True)
class _Note:
    """The plan of a kernel.

    Attributes:
        library: its key in the cache.
        scratch: see `Kernels.scratch`.
    """

    library: str
    scratch: dict[str, Variable]


def _aside(action: Callable[[], object]) -> None:
    """Do something in a thread of its own. What it fails at is met again where it is needed."""

    def attempt() -> None:
        with suppress(Exception):
            action()

    with suppress(RuntimeError):  # no thread can be started: it is done when it is needed
        Thread(target=attempt, name="ondax-kernel", daemon=True).start()


def _names(recording: Recording | None) -> tuple[str, ...] | None:
    """What of a recording a kernel depends on: the coefficients."""
    return None if recording is None else recording.coefficients


class _FewCollections:
    """Within it, Python looks for garbage less often: deriving a kernel makes millions of symbolic
    expressions, nearly all of which live on, and looking through them takes a sixth of the time.

    The threshold is the process's, and kernels of several programs may be derived at once: the
    first one in changes it, and the last one out puts it back.
    """

    def __init__(self) -> None:
        self._lock, self._inside = _forks.lock(), 0
        self._usual = gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._usual = gc.get_threshold()
                gc.set_threshold(50_000, 20, 50)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                gc.set_threshold(*self._usual)


_FEW_COLLECTIONS = _FewCollections()


@cache
def kernels_of(planned: Planned) -> Kernels:
    """The kernels of a program, as long as the process lives."""
    return Kernels(planned)
