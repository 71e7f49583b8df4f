"""What hand-written Devito needs around the equations of one shot: grid, damping, points, calls,
and tests of its adjoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from devito import NODE, Dimension, Eq, Function, Grid, Operator, TimeFunction, configuration

from .cases import SPACING
from .devito_baseline import plain

configuration["log-level"] = "ERROR"

Array = np.ndarray[Any, np.dtype[Any]]
# "par-dynamic-work" that no loop reaches: rows stay on the core whose cache has them
STATIC = 10**9


class DevitoShot(ABC):
    """Forward run and gradient of half the energy of the traces, of the first shot of a case.

    Args:
        case: the problem.
        order: of the spatial derivatives.
        threads: 1 for plain C, more for OpenMP.
        dtype: of everything.
    """

    coefficient_names: ClassVar[tuple[str, ...]]  # of what the gradient is by, on the padded grid

    def __init__(self, case: Any, order: int, threads: int = 1, dtype: type = np.float32) -> None:
        self.case: Any = case
        self.order, self.threads, self.dtype = order, threads, dtype
        shape = case.padded_shape
        self.grid = Grid(shape=shape, extent=tuple((n - 1) * SPACING for n in shape), dtype=dtype)
        self.cell = SPACING ** len(shape)
        self.source = self.points("source", case.sources[:1])
        self.receivers = self.points("receiver", case.receivers)
        self.source_index = tuple(i + case.width for i in case.sources[0])
        inside = case.parameters(*np.indices(case.shape).astype(float))
        self.parameters = {
            name: np.pad(values, case.width, mode="edge") for name, values in inside.items()
        }
        self.kernel_gradient: dict[str, Array] = {}

    # ---------------------------------------------------------------- of each equation

    @abstractmethod
    def coefficients(self) -> dict[str, Array]:
        """The kernel's coefficients, of `self.parameters`."""

    @abstractmethod
    def set_coefficients(self, values: Mapping[str, Array]) -> None:
        """Fill what the compiled functions read."""

    @abstractmethod
    def forward(self) -> None:
        """Fill traces and history."""

    @abstractmethod
    def gradient(self) -> float:
        """Half the energy of the traces; the gradient by each coefficient is left in
        `kernel_gradient`."""

    @abstractmethod
    def by_parameters(self, kernel_gradient: Mapping[str, Array]) -> dict[str, Array]:
        """From the gradient by the coefficients to that by the parameters, on the padded grid."""

    @abstractmethod
    def adjoint_samples(self, data: Sequence[Array]) -> Array:
        """The adjoint of wavelet to traces, as laid out as `wavelet`, applied to data laid out as
        `traces`."""

    wavelet: Function
    traces: tuple[Function, ...]

    # ---------------------------------------------------------------- symbols

    def function(
        self, name: str, values: Any = None, staggered: Any = NODE, halo: int = 0
    ) -> Function:
        made = Function(name=name, grid=self.grid, space_order=halo, staggered=staggered)
        if values is not None:
            made.data[:] = values
        return made

    def field(
        self,
        name: str,
        time_order: int = 1,
        staggered: Any = NODE,
        save: Any = None,
        halo: int = -1,
    ) -> Any:
        halo = self.order if halo < 0 else halo
        return TimeFunction(
            name=name,
            grid=self.grid,
            time_order=time_order,
            space_order=halo,
            staggered=staggered,
            save=save,
        )

    def damping(self, *halves: float) -> Array:
        """Damping in 1/s on the padded grid, at the nodes or half a cell beyond along each axis."""
        profiles = (np.asarray(self.case.damping(axis, half)) for axis, half in enumerate(halves))
        total = np.zeros(())
        for profile in profiles:
            total = total[..., None] + profile
        return total

    def points(self, kind: str, points: list[list[int]]) -> dict[Any, Function]:
        """What to substitute for the grid's dimensions to stand at the points."""
        places = {}
        for axis, dimension in enumerate(self.grid.dimensions):
            place = Function(
                name=f"{kind}{axis}",
                dimensions=(Dimension(name=f"p_{kind}"),),
                shape=(len(points),),
                dtype=np.int32,
                space_order=0,
            )
            plain(place)[...] = [p[axis] + self.case.width for p in points]
            places[dimension] = place
        return places

    def samples(self, name: str, places: Mapping[Any, Function], rows: int) -> Function:
        """Samples at the points, one row a turn of the time loop."""
        index = next(iter(places.values()))
        return Function(
            name=name,
            dimensions=(self.grid.time_dim, *index.dimensions),
            shape=(rows, *index.shape),
            space_order=0,
            dtype=self.dtype,
        )

    # ---------------------------------------------------------------- calls

    def prepare(
        self, name: str, equations: Sequence[Eq], first: int, last: int
    ) -> Callable[[], None]:
        """The compiled function of a time loop with all its arguments, ready to be called."""
        parallel = self.threads > 1
        operator = Operator(
            list(equations),
            name=name,
            language="openmp" if parallel else "C",
            opt=("advanced", {"par-dynamic-work": STATIC} if parallel else {}),
        )
        options = {"nthreads": self.threads} if parallel else {}
        arguments = operator.arguments(
            dt=self.dtype(self.case.dt), time_m=first, time_M=last, **options
        )
        function = operator.cfunction
        values = [arguments[p.name] for p in operator.parameters]

        def call() -> None:
            if function(*values) != 0:
                # naming it also keeps its arrays alive
                raise RuntimeError(f"{operator.name} failed")

        return call

    # ---------------------------------------------------------------- results and tests

    def parameter_gradient(self) -> dict[str, Array]:
        """The gradient by the parameters of the unpadded grid."""
        self.gradient()
        double = {name: g.astype(np.float64) for name, g in self.kernel_gradient.items()}
        return {name: self._fold(g) for name, g in self.by_parameters(double).items()}

    def _fold(self, gradient: Array) -> Array:
        width = self.case.width
        for axis, n in enumerate(self.case.shape):  # the layer repeats the model's edges
            low, inside, high = np.split(gradient, [width, width + n], axis)
            first, middle, last = np.split(inside, [1, n - 1], axis)
            first = first + low.sum(axis, keepdims=True)
            last = last + high.sum(axis, keepdims=True)
            gradient = np.concatenate([first, middle, last], axis)
        return gradient

    def energy(self) -> float:
        return 0.5 * sum(float(np.vdot(plain(t), plain(t))) for t in self.traces)

    def dot_test(self) -> float:
        """|<F q, d> - <q, F' d>| / (|F q| |d|) for random d: that the adjoint is one."""
        self.forward()
        traces = np.stack([plain(t) for t in self.traces]).astype(np.float64)
        data = np.random.default_rng(0).standard_normal(traces.shape).astype(self.dtype)
        read = self.adjoint_samples(list(data)).astype(np.float64)
        mismatch = abs(
            np.vdot(traces, data) - np.vdot(plain(self.wavelet).astype(np.float64), read)
        )
        return float(mismatch / (np.linalg.norm(traces) * np.linalg.norm(data.astype(np.float64))))

    def gradient_test(self, step: float = 1e-6) -> float:
        """The largest relative error of a derivative along a random direction, coefficient by
        coefficient, in float64 against central differences, or of the float32 gradient against the
        float64 one."""
        twin = type(self)(self.case, self.order, dtype=np.float64)
        self.gradient()
        twin.gradient()
        exact, random, errors = dict(twin.kernel_gradient), np.random.default_rng(0), []
        base = twin.coefficients()
        for name in self.coefficient_names:
            direction = base[name] * random.standard_normal(base[name].shape)
            energies = []
            for sign in (1, -1):
                twin.set_coefficients({**base, name: base[name] + sign * step * direction})
                twin.forward()
                energies.append(twin.energy())
            difference, derivative = (
                (energies[0] - energies[1]) / (2 * step),
                np.vdot(exact[name], direction),
            )
            errors.append(abs(difference - derivative) / abs(derivative))
            rounding = np.linalg.norm(self.kernel_gradient[name] - exact[name]) / np.linalg.norm(
                exact[name]
            )
            errors.append(float(rounding))
        return float(max(errors))

    def actions(self) -> dict[str, Callable[[], Any]]:
        """What a worker offers."""

        def gradient_array() -> list[float]:
            return np.concatenate([g.ravel() for g in self.parameter_gradient().values()]).tolist()

        return {
            "forward": self.forward,
            "gradient": self.gradient,
            "gradient_array": gradient_array,
            "dot_test": self.dot_test,
            "gradient_test": self.gradient_test,
        }


def zero(functions: Sequence[Function]) -> None:
    for f in functions:
        plain(f)[...] = 0
