"""Baseline 1: the same scheme written by hand in Devito, adjoint and all, called without
Operator.apply.

As an expert would write it: built once, the whole history kept in a buffer that is reused, damping
profiles of one axis each, one grid point for each of the sources and receivers, arguments prepared
once. The forms chosen here were the fastest of those tried (see README.md).

Two imaging conditions, equal by summation by parts:

- `gradient`: the textbook's, `grad -= u * v.dt2` in a loop nest of its own, after the residual's
  injection;
- `gradient_fused`: the adjoint's own equation gives `m * v.dt2 = laplace(v) + residual`, so Devito
  can take `grad -= u * laplace(v)` inside the stencil's loop nest; the residual's part is added at
  the receivers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from devito import Dimension, Eq, Function, Grid, Inc, Operator, TimeFunction, configuration
from devito import __version__ as version

from .cases import CASES, ORDER, SPACING, Case
from .worker import Actions, serve

configuration["log-level"] = "ERROR"


class DevitoBaseline:
    """One shot: `forward`, keeping its history; `backward` and `backward_fused`, adding to `grad`;
    `adjoint`, without.

    Args:
        case: the problem; only its first shot is run.
        threads: 1 for plain C, more for OpenMP.
    """

    def __init__(self, case: Case, threads: int = 1) -> None:
        self.case = case
        shape = case.padded_shape
        extent = tuple((n - 1) * SPACING for n in shape)
        self.grid = Grid(shape=shape, extent=extent, dtype=np.float32)
        self.dt = self.grid.stepping_dim.spacing
        self.m = Function(name="m", grid=self.grid, space_order=0)
        plain(self.m)[...] = 1 / self.padded_velocity() ** 2
        self.gamma = 0
        for axis, dimension in enumerate(self.grid.dimensions):
            values = case.damping(axis)
            profile = Function(
                name=f"gamma{axis}", dimensions=(dimension,), shape=(len(values),), space_order=0
            )
            plain(profile)[...] = values
            self.gamma += profile

        # Step n makes u[n + 1] and runs at loop index n + 1: u[-1] and u[0] are buffers 0 and 1,
        # always zero.
        self.first, self.last = 1, case.steps
        buffers = case.steps + 2
        self.u = TimeFunction(
            name="u", grid=self.grid, time_order=2, space_order=ORDER, save=buffers
        )
        self.v = TimeFunction(name="v", grid=self.grid, time_order=2, space_order=ORDER)
        self.grad = Function(name="grad", grid=self.grid, space_order=0)
        self.at_source = self._points("source", [case.sources[0]])
        self.at_receivers = self._points("receiver", case.receivers)
        self.q = self._samples("q", "source", 1)
        plain(self.q)[self.first : self.last + 1, 0] = case.wavelet[: case.steps]
        self.traces = self._samples("traces", "receiver", len(case.receivers))
        self.residual = self._samples("residual", "receiver", len(case.receivers))
        self.adjoint_source = self._samples("adjoint_source", "source", 1)
        self._build(threads)

    def padded_velocity(self) -> np.ndarray:
        velocity = self.case.velocity(*np.indices(self.case.shape, sparse=True))
        return np.pad(velocity, self.case.width, mode="edge")

    def _samples(self, name: str, kind: str, points: int) -> Function:
        dimensions = (self.grid.time_dim, self._point_dimension(kind))
        shape = (self.case.steps + 2, points)
        return Function(
            name=name, dimensions=dimensions, shape=shape, space_order=0, dtype=np.float32
        )

    def _point_dimension(self, kind: str) -> Dimension:
        return Dimension(name=f"p_{kind}")

    def _points(self, kind: str, points: list[list[int]]) -> dict[Dimension, Function]:
        """What to substitute for the grid's dimensions to stand at the points."""
        places = {}
        for axis, dimension in enumerate(self.grid.dimensions):
            place = Function(
                name=f"{kind}{axis}",
                dimensions=(self._point_dimension(kind),),
                shape=(len(points),),
                dtype=np.int32,
                space_order=0,
            )
            plain(place)[...] = [p[axis] + self.case.width for p in points]
            places[dimension] = place
        return places

    def _build(self, threads: int) -> None:
        u, v, m, gamma, dt = self.u, self.v, self.m, self.gamma, self.dt
        source, receivers, cell = self.at_source, self.at_receivers, SPACING ** len(self.case.shape)
        mass = m * (1 / dt**2 + gamma / (2 * dt))

        def update(field: TimeFunction, following: Any, previous: Any) -> Eq:
            inertia = m * (2 / dt**2 * field - (1 / dt**2 - gamma / (2 * dt)) * previous)
            return Eq(following, (field.laplace + inertia) / mass)

        forward = [
            update(u, u.forward, u.backward),
            Inc(u.forward.subs(source), self.q / mass.subs(source) / cell),
            Eq(self.traces, u.forward.subs(receivers)),
        ]
        step_back = update(v, v.backward, v.forward)
        inject = Inc(v.backward.subs(receivers), self.residual / mass.subs(receivers))
        time_terms = (v.forward - 2 * v + v.backward) / dt**2 + gamma * (v.backward - v.forward) / (
            2 * dt
        )
        image = Inc(self.grad, -u.forward * time_terms)
        image_fused = Inc(self.grad, -u.forward * v.laplace)
        image_residual = Inc(self.grad.subs(receivers), -u.forward.subs(receivers) * self.residual)
        read = Eq(self.adjoint_source, v.backward.subs(source) / cell)

        self.forward = self._prepare("Forward", forward, threads)
        self.adjoint = self._prepare("Adjoint", [step_back, inject, read], threads)
        self.backward = self._prepare("Backward", [step_back, inject, image], threads)
        self.backward_fused = self._prepare(
            "BackwardFused", [step_back, image_fused, inject, image_residual], threads
        )

    def _prepare(self, name: str, equations: list[Eq], threads: int) -> Callable[[], None]:
        """The compiled function with all its arguments, ready to be called."""
        parallel = threads > 1
        operator = Operator(equations, name=name, language="openmp" if parallel else "C")
        options = {"nthreads": threads} if parallel else {}
        bounds = {"time_m": self.first, "time_M": self.last}
        arguments = operator.arguments(dt=np.float32(self.case.dt), **bounds, **options)
        function = operator.cfunction
        values = [arguments[p.name] for p in operator.parameters]

        def call() -> None:
            if function(*values) != 0:
                raise RuntimeError(f"{name} failed")

        return call

    def gradient(self, fused: bool = False) -> float:
        """Half the energy of the traces; its gradient by m on the padded grid is left in `grad`."""
        traces, residual, grad, m = (
            plain(f) for f in (self.traces, self.residual, self.grad, self.m)
        )
        self.forward()
        residual[...] = traces
        self._reset()
        if fused:
            self.backward_fused()
            np.divide(grad, m, out=grad)
        else:
            self.backward()
        return 0.5 * float(np.vdot(traces, traces))

    def _reset(self) -> None:
        plain(self.v)[...] = 0
        plain(self.grad)[...] = 0

    def velocity_gradient(self, fused: bool) -> np.ndarray:
        """The gradient by the velocity of the unpadded grid."""
        self.gradient(fused)
        gradient, width = plain(self.grad) * (-2 / self.padded_velocity() ** 3), self.case.width
        for axis, n in enumerate(self.case.shape):  # the layer repeats the model's edges
            low, inside, high = np.split(gradient, [width, width + n], axis)
            first, middle, last = np.split(inside, [1, n - 1], axis)
            first = first + low.sum(axis, keepdims=True)
            last = last + high.sum(axis, keepdims=True)
            gradient = np.concatenate([first, middle, last], axis)
        return gradient

    def dot_test(self) -> float:
        """|<F q, d> - <q, F' d>| / (|F q| |d|) for random d: that the adjoint is one."""
        self.forward()
        traces, q = plain(self.traces).astype(np.float64), plain(self.q).astype(np.float64)
        d = np.random.default_rng(0).standard_normal(traces.shape).astype(np.float32)
        d[: self.first] = d[self.last + 1 :] = 0
        plain(self.residual)[...] = d
        self._reset()
        self.adjoint()
        read = plain(self.adjoint_source).astype(np.float64)
        return float(
            abs(np.vdot(traces, d) - np.vdot(q, read))
            / (np.linalg.norm(traces) * np.linalg.norm(d))
        )


def plain(function: Function) -> np.ndarray:
    """A function's memory, halo included, without the cost of Devito's own indexing."""
    return function.data_with_halo.view(np.ndarray)


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    baseline = DevitoBaseline(CASES[options["case"]], options["threads"])
    actions = {
        "forward": baseline.forward,
        "gradient": baseline.gradient,
        "gradient_fused": lambda: baseline.gradient(fused=True),
        "gradient_array": lambda: baseline.velocity_gradient(fused=False).ravel().tolist(),
        "gradient_fused_array": lambda: baseline.velocity_gradient(fused=True).ravel().tolist(),
        "dot_test": baseline.dot_test,
    }
    return {"devito": version}, actions


if __name__ == "__main__":
    serve(start)
