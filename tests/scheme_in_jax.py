"""A second evaluation of the forward schemes, in plain JAX, that JAX itself differentiates.

`SchemeInJAX` takes of a propagator what it states: the updates of a time step as symbols (memories
of perfectly matched layers among them), the profiles of its boundary, the ports of its survey, and
the maps from models to coefficients, from wavelets to samples, and from samples to traces. It
evaluates them on whole arrays. Derivatives with respect to anything come from `jax.jvp` and
`jax.vjp` through the loop over time: nothing here transposes, linearises or couples a scheme, keeps
a history, cuts memories to strips, or knows Devito's code generator.

    differences   dense banded matrices, of weights by Fornberg's recursion in exact rationals;
                  values outside the grid are zero, and those above a free surface mirror images
                  (odd ones vanish on the surface itself), folded into the matrix
    points        dense windows over the whole grid, of the Kaiser-windowed sinc of `oracle.py`;
                  near a free surface what a window finds above it is a combination of the rows
                  below, whose constant weights (`bends`, `extrapolation`) are the package's
    extended      weights in the nodes, each fed as a point source there
    time          `lax.scan` over all steps
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil, floor, prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from devito import Function, TimeFunction
from devito.finite_differences import Derivative
from jax import lax
from jaxtyping import Array, Float
from oracle import fornberg, kernel

import ondax as ox
from ondax.acquisition.interpolation import bends, extrapolation
from ondax.backends.domain import Domain
from ondax.face.modelling import source_samples
from ondax.face.records import traces_of as traces_of_samples
from ondax.scheme.symbols import EVEN, ODD
from ondax.scheme.system import Port, System, Update

RADIUS = {"sinc": 4, "linear": 1}  # cells


def stated_by(F: ox.Propagator) -> tuple[System, Domain]:
    """The scheme of a propagator with its boundary, and the domain that it is run on: padded shape
    and origin, profiles."""
    solver = F._hosts.of("float64").solver
    return solver.kernels.planned.program.system, solver.domain


def samples_of(F: ox.Propagator, wavelet: Float[Array, "..."]) -> Float[Array, "shot row step"]:
    """What the points of every port emit, from wavelets."""
    return source_samples(F._problem, wavelet, jnp.arange(F.survey.n_shots))


def traces_of(F: ox.Propagator, samples: Float[Array, "shot row sample"]) -> Float[Array, "..."]:
    """Traces, from what the points of every port have recorded."""
    return traces_of_samples(F._problem.records, samples, jnp.arange(F.survey.n_shots))


@cache
def difference_matrix(
    points: int, derivative: int, order: int, halves: tuple[bool, bool], image: int | None
) -> np.ndarray:
    """A derivative along one axis of unit spacing, (point, point).

    Args:
        points: along the axis.
        derivative: 1 or 2.
        order: of accuracy.
        halves: is what is differentiated, and is the derivative, half a cell beyond the nodes?
        image: of what is differentiated, above a free surface before the first node; None for zeros
            there.
    """
    before, after = halves
    shift = Fraction(int(after) - int(before), 2)
    reach = Fraction(order, 2)
    offsets = range(ceil(shift - reach), floor(shift + reach) + 1)
    matrix = np.zeros((points, points))
    for offset, weight in zip(offsets, fornberg([o - shift for o in offsets], derivative)):
        for row in range(points):
            column = row + offset
            sign = 1
            if column < 0 and image is not None:
                sign, column = image, -column - 1 if before else -column
            if 0 <= column < points:
                matrix[row, column] += sign * float(weight)
    if image == ODD and not before:
        matrix[:, 0] = 0.0
    return matrix


def along(matrix: Any, values: Array, axis: int) -> Array:
    """A matrix applied along one axis."""
    return jnp.moveaxis(jnp.tensordot(jnp.asarray(matrix), values, (1, axis)), 0, axis)


def windows(
    cells: Float[Array, " point"],
    rows: int,
    half: bool,
    kind: str,
    above: str | None = None,
    order: int = 2,
) -> Float[Array, "point row"]:
    """Weights of the rows of an axis in the windows of points.

    Args:
        cells: positions in cells from the first node.
        rows: points of the grid along the axis.
        half: they are half a cell beyond the nodes.
        kind: "sinc" or "linear".
        above: how what is read or fed continues above a free surface through the first node: "odd";
            "smooth", without a symmetry; or "lost", if the row on the surface is not known either;
            None without a surface.
        order: of the scheme, for "smooth".
    """

    def weights(places: np.ndarray) -> Array:
        return kernel(jnp.asarray(places) - cells[:, None], kind)

    lift = 0.5 if half else 0.0
    places = np.arange(rows) + lift
    found = weights(places)
    if above is None:
        return found
    if above == "odd":
        return found - weights(-places)
    near = (cells - lift < RADIUS[kind])[:, None]
    first, last = int(above == "lost"), min(2 * RADIUS[kind], rows)
    missing = lift - np.arange(1, RADIUS[kind] + 1)
    if above == "lost":
        missing = np.concatenate([[0.0], missing])
        found = found.at[:, 0].set(jnp.where(near[:, 0], 0.0, found[:, 0]))
    known = last - first
    bent = bends(order, half, known) if above == "smooth" else (0.0,) * known
    values, slope = extrapolation(tuple(places[first:last]), bent, tuple(missing))
    added = weights(missing) @ values - jnp.outer(found[:, first:last] @ np.array(bent), slope)
    return found.at[:, first:last].add(jnp.where(near, added, 0.0))


@dataclass(frozen=True)
class Value:
    """An expression on the grid.

    Attributes:
        array: it broadcasts to the grid.
        halves: by axis name, is it half a cell beyond the nodes? Axes on which it does not depend
            are missing.
        image: how it continues above a free surface; None where its parts do not say.
    """

    array: Any
    halves: Mapping[str, bool]
    image: int | None


class SchemeInJAX:
    """`traces = S(model, wavelet, sources, receivers)`, in float64.

    Args:
        F: a propagator; of extended sources, `sources` are weights.
    """

    def __init__(self, F: ox.Propagator) -> None:
        self.F = F
        self.system, self.domain = stated_by(F)
        self.symbols = self.system.symbols
        self.axes, self.depth = self.symbols.axes, self.symbols.axes[-1]
        self.surface = isinstance(F.boundary.face("z", "low"), ox.FreeSurface)
        self.images = {n: t.image for n, t in self.symbols.traits.items()}
        self.images |= {p.name: EVEN for p in self.symbols.profiles}
        self.numbers = {"dt": F.dt}
        self.numbers |= {f"h_{a}": h for a, h in zip(self.axes, self.domain.spacing, strict=True)}

    # ---------------------------------------------------------------- expressions

    def value(self, expr: Any, known: dict[Any, Any]) -> Value:
        """An expression, from arrays by name and time offset; `known` remembers derivatives."""
        if isinstance(expr, Derivative):  # a memory and the field it serves share some
            if id(expr) not in known:
                known[id(expr)] = expr, self.derivative(expr, known)
            return known[id(expr)][1]
        if isinstance(expr, Function):
            function = expr.function
            offset = 0
            if isinstance(expr, TimeFunction):
                offset = int((expr.indices[0] - function.indices[0]) / expr.time_dim.spacing)
            halves = {
                d.name: bool(index != d)
                for d, index in zip(function.dimensions, expr.indices, strict=True)
                if d.is_Space
            }
            return Value(known[function.name, offset], halves, self.images[function.name])
        if expr.is_Number:
            return Value(float(expr), {}, EVEN)
        if not expr.args:
            return Value(self.numbers[expr.name], {}, EVEN)
        if expr.is_Pow:
            base = self.value(expr.base, known)
            image = None if base.image is None else base.image ** int(abs(expr.exp))
            return Value(base.array ** int(expr.exp), base.halves, image)
        parts = [self.value(arg, known) for arg in expr.args]
        halves = {axis: half for part in parts for axis, half in part.halves.items()}
        assert all(part.halves.items() <= halves.items() for part in parts), expr
        images = [part.image for part in parts]
        if expr.is_Add:
            stated = {i for i in images if i is not None}
            image = stated.pop() if len(stated) == 1 else None
            return Value(sum(part.array for part in parts), halves, image)
        assert expr.is_Mul, expr
        image = None if None in images else prod(images)
        return Value(prod(part.array for part in parts), halves, image)

    def derivative(self, expr: Derivative, known: dict[Any, Any]) -> Value:
        inner = self.value(expr.expr, known)
        array, image = jnp.broadcast_to(inner.array, self.domain.shape), inner.image
        halves = dict(inner.halves)
        for d, n, order in zip(expr.dims, expr.deriv_order, expr.fd_order, strict=True):
            axis, mirrored = self.axes.index(d.name), self.surface and d.name == self.depth
            before, after = halves[d.name], bool(expr.x0.get(d, d) != d)
            assert not mirrored or image is not None, f"{expr} has no image"
            matrix = difference_matrix(
                self.domain.shape[axis], n, order, (before, after), image if mirrored else None
            )
            array = along(matrix / self.domain.spacing[axis] ** n, array, axis)
            halves[d.name] = after
            if d.name == self.depth and image is not None:
                image *= (-1) ** n
        return Value(array, halves, image)

    # ---------------------------------------------------------------- points

    def places(self, field: Any) -> dict[str, bool]:
        """Whether a field is half a cell beyond the nodes, by axis name."""
        return {d.name: bool(i != d) for d, i in zip(field.dimensions, field.indices) if d.is_Space}

    def spread(self, port: Port, field: Any, cells: list[Any]) -> list[Array]:
        """Windows of points for a field that a port feeds or reads, (point, row), by axis.

        Args:
            port: what is fed or read.
            field: one of its fields.
            cells: positions by axis, each (point,), in cells from the first node.
        """
        made = []
        for axis, rows, x in zip(self.axes, self.domain.shape, cells, strict=True):
            half, above = self.places(field)[axis], None
            if self.surface and axis == self.depth:
                odd = self.images[field.name] == ODD
                above = ("lost" if port.strains and not half else "odd") if odd else "smooth"
            kind, order = self.F.interpolation, self.symbols.space_order
            made.append(windows(jnp.asarray(x), rows, half, kind, above, order))
        return made

    def on_grid(self, port: Port, field: Any, positions: Float[Array, "point axis"]) -> Array:
        """The windows of points, (point, *grid)."""
        origin, spacing = (np.array(a) for a in (self.domain.origin, self.domain.spacing))
        cells = (positions - origin) / spacing
        total = jnp.ones((positions.shape[0],) + (1,) * len(self.axes))
        for i, w in enumerate(self.spread(port, field, list(cells.T))):
            total = total * w.reshape(*w.shape[:1], *(1,) * i, -1, *(1,) * (total.ndim - 2 - i))
        return total

    def extended(self, port: Port, field: Any, weights: Float[Array, "*grid"]) -> Array:
        """Weights in all nodes as a field gets them, (1, *grid)."""
        weights = jnp.pad(weights, self.F.boundary.widths(self.axes))
        if self.surface:  # half of the cell of a node on the surface is above it
            weights = weights.at[..., 0].multiply(0.5)
        nodes = [np.arange(n, dtype=float) for n in self.domain.shape]
        for axis, matrix in enumerate(self.spread(port, field, nodes)):
            weights = along(matrix.T, weights, axis)
        return weights[None]

    # ---------------------------------------------------------------- time

    def advanced(self, u: Update, known: dict[Any, Any], fed: Any) -> Array:
        """A field's new value, given what sources add to the right-hand side.

        Memories are of one of the two layers along an axis, in whose half of the grid they are
        computed: beyond the layer their profile is zero anyway.
        """
        half, image = self.places(u.field)[self.depth], self.images[u.field.name]
        if self.surface and not half:  # what is fed at the surface is fed into half a cell
            fed = fed * np.where(np.arange(self.domain.shape[-1]) == 0, 2.0, 1.0)
        mass, rhs, keep, take = (
            self.value(e, known).array for e in (u.mass, u.rhs, u.keep, u.take)
        )
        new = keep * known[u.field.name, 0] + take * (rhs + fed) / mass
        for axis, side in self.symbols.traits_of(u.field).region:
            i = self.axes.index(axis)
            cells = np.arange(n := self.domain.shape[i]).reshape(-1, *(1,) * (new.ndim - 1 - i))
            new = jnp.where((cells < n // 2) == (side == "low"), new, 0.0)
        if self.surface and image == ODD and not half:
            new = new.at[..., 0].set(0.0)
        return new

    def shot(self, fixed: Any, samples: Array, sources: Array, receivers: Array) -> Array:
        """What every receiver of every port reads at every step, (port, receiver, step).

        Args:
            fixed: coefficients and profiles by name and time offset.
            samples: (port and source, step).
            sources: positions (point, axis), or weights (*grid).
            receivers: positions (point, axis).
        """
        inputs, outputs = self.system.inputs, self.system.outputs
        spread = self.extended if self.F.survey.extended else self.on_grid
        entries = [(p.name, f.name, w * spread(p, f, sources)) for p in inputs for f, w in p.terms]
        exits = [[(f.name, w * self.on_grid(p, f, receivers)) for f, w in p.terms] for p in outputs]

        def step(state: Any, row: Array) -> tuple[Any, Array]:
            known = {**fixed, **state}
            by_port = dict(zip([p.name for p in inputs], jnp.split(row, len(inputs)), strict=True))
            for u in self.system.updates:
                fed = jnp.zeros(self.domain.shape)
                for port, field, weights in entries:
                    if field == u.field.name:
                        fed = fed + jnp.tensordot(by_port[port], weights, 1)
                known[u.field.name, 1] = self.advanced(u, known, fed)
            read = [
                sum(jnp.tensordot(w, known[field, 1], len(self.axes)) for field, w in terms)
                for terms in exits
            ]
            return {key: known[key[0], key[1] + 1] for key in state}, jnp.stack(read)

        rest = jnp.zeros(self.domain.shape)
        fields = self.system.fields
        state = {(f.name, -back): rest for f in fields for back in range(f.time_order)}
        return jnp.moveaxis(lax.scan(step, state, samples.T)[1], 0, -1)

    def recorded(self, read: Float[Array, "shot port point step"]) -> Float[Array, "shot row time"]:
        """Samples, from what was read at every step: late ports are interpolated half a step
        back."""
        half = Fraction(1, 2)
        cubic = fornberg([half, -half, -3 * half, -5 * half], 0)
        first = min(port.time for port in self.system.outputs)
        parts = []
        for i, port in enumerate(self.system.outputs):
            values = read[:, i]
            if port.time > first:
                steps = values.shape[-1]
                padded = jnp.pad(values, ((0, 0), (0, 0), (3, 0)))
                values = sum(
                    float(w) * padded[..., 3 - b : 3 - b + steps] for b, w in enumerate(cubic)
                )
            k = self.F.steps_per_sample
            parts.append(values[..., k - 1 :: k])
        return jnp.concatenate(parts, axis=1)

    def __call__(self, model: Any, wavelet: Array, sources: Array, receivers: Array) -> Array:
        """Traces of every shot."""
        names = [c.name for c in self.system.coefficients]
        fixed = dict(zip([(n, 0) for n in names], self.F.coefficients(model), strict=True))
        for p in self.symbols.profiles:
            axis = self.axes.index(p.dimensions[0].name)
            values = self.domain.profiles[p.name].reshape(-1, *(1,) * (len(self.axes) - 1 - axis))
            fixed[p.name, 0] = jnp.asarray(values)
        read = jax.vmap(self.shot, (None, 0, 0, 0))(
            fixed, samples_of(self.F, wavelet), sources, receivers
        )
        return traces_of(self.F, self.recorded(read))
