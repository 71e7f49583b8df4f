"""The speeds of plane waves, from the symbols of an equation: what its principal part says, that is
the terms that count at high frequency.

In a uniform medium, a scheme's alternating motion (see `calculus.alternating`) is made of plane
waves. At a wavenumber k, the map G from amplitudes to amplitudes is a small matrix, one row for
each of a few fields, and its eigenvalues are `(omega dt / 2)^2`, with the damping left out. Here
the derivatives are taken as exact, and dt and 1 / k as so small that nothing but the principal part
is left. Then the speeds are `2 / (k dt)` times the roots of the eigenvalues. As the principal part
is homogeneous, of degree 2 in k, real exponentials serve instead of waves: their eigenvalues have
the other sign.

Where the principal part is of another degree, as of a plate or with a viscous force, the speed
changes with frequency. Then no speed is found, and the equation must state its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._devito import Derivative, TimeFunction
from ..boundaries.base import Edge
from ..calculus.alternating import Balance, alternating, carried
from ..scheme.symbols import AXIS_NAMES, Expr, Symbols
from ..scheme.terms import accesses, is_access, time_offset

DT = 1e-11  # s: shorter than the relaxation and the restoring forces of any medium
SAME_SPEED = 0.1  # another degree changes eigenvalues by a factor of two or more
STILL = 1e-5  # of the largest eigenvalue: what is below has no speed (that of 0.003 of the fastest)
SAME = 1e-9  # of coefficients of polynomials: less is rounding
SAMPLES = 8  # media that tell what depends on the direction

Directions = tuple[tuple[float, ...], ...]


@partial(jax.jit, static_argnums=0)
def principal_speeds(equation: Any, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
    """The slowest and the fastest speed in a model, m/s, of plane waves in the principal part of an
    equation, as if the medium were uniform around each point.

    If speeds depend on the direction, 16 directions (2-D) or 49 (3-D) are tried, otherwise one. Of
    the slower kinds of waves, the direction counts in which they are fastest: those of
    pseudo-acoustic media stand still in others.

    Where one or two kinds of waves exist, this costs some tens of operations for each point and
    direction. Where there are more, as in 3-D elastic media, the eigenvalues of a small matrix are
    found for each of them, in some microseconds.

    Args:
        equation: the wave equation; static.
        parameters: by name, arrays of the grid's shape.

    Raises:
        ValueError: speeds change with frequency, however high it is.
    """
    ndim = np.ndim(next(iter(parameters.values())))
    waves = _waves(equation, ndim)
    points = {n: jnp.reshape(v, (-1, *(1,) * ndim)) for n, v in parameters.items()}
    made = jax.vmap(equation.coefficients)(points)
    media = {n: jnp.reshape(v, (v.shape[0], -1))[:, 0] for n, v in made.items()}
    example = next(iter(media.values()))

    def along(known: tuple[Any, Any, Any], vector: Any) -> tuple[tuple[Any, Any, Any], None]:
        direction = dict(zip(AXIS_NAMES[ndim], vector, strict=True))
        rows = _matrix(waves.balances, media, direction)
        full = [[jnp.broadcast_to(jnp.asarray(g, zero.dtype), zero.shape) for g in r] for r in rows]
        least, largest = _extremes(full, waves.kinds)
        slower, slow, fast = known
        slow, fast = jnp.minimum(slow, jnp.min(largest)), jnp.maximum(fast, jnp.max(largest))
        return (jnp.maximum(slower, least), slow, fast), None

    zero = jnp.zeros_like(example)
    start = zero, jnp.asarray(jnp.inf, zero.dtype), jnp.asarray(0.0, zero.dtype)
    directions = jnp.asarray(waves.directions, zero.dtype)
    (slower, slow, fast), _ = jax.lax.scan(along, start, directions)
    slow = jnp.minimum(slow, jnp.min(jnp.where(slower == 0.0, jnp.inf, slower)))
    return 2.0 * jnp.sqrt(slow), 2.0 * jnp.sqrt(fast)  # the wavenumber is 1 / DT


def _extremes(matrix: Sequence[Sequence[Any]], kinds: int) -> tuple[Any, Any]:
    """The least and the largest of minus the eigenvalues of G, without those of what does not
    move; 0 for the least where there is one eigenvalue only.

    Args:
        matrix: its entries, arrays of points.
        kinds: how many eigenvalues may be other than zero.
    """
    size = range(len(matrix))
    trace = -sum(matrix[i][i] for i in size)
    if kinds <= 1:
        return jnp.zeros_like(trace), trace
    if kinds == 2:
        squares = sum(matrix[i][j] * matrix[j][i] for i in size for j in size)
        both = 0.5 * (trace**2 - squares)
        largest = 0.5 * (trace + jnp.sqrt(jnp.maximum(trace**2 - 4.0 * both, 0.0)))
        least = both / largest
    else:
        found = -jnp.linalg.eigvals(jnp.stack([jnp.stack(r, -1) for r in matrix], -2)).real
        largest = jnp.max(found, axis=-1)
        moving = found > STILL * largest[:, None]
        least = jnp.min(jnp.where(moving, found, jnp.inf), axis=-1)
    return jnp.where(least > STILL * largest, least, 0.0), largest


class _Waves(NamedTuple):
    """What is known of an equation's plane waves, whatever the model.

    Attributes:
        balances: of the alternating motion.
        kinds: of waves, at most.
        directions: unit vectors in which speeds may differ.
    """

    balances: tuple[Balance, ...]
    kinds: int
    directions: Directions


@cache
def _waves(equation: Any, ndim: int) -> _Waves:
    edge = Edge()
    system = equation.system(Symbols(ndim, equation.space_order, np.float64), edge)
    balances = alternating(edge.surround(system))
    names, directions = equation.required(ndim), _directions(ndim)
    rng = np.random.default_rng(0)
    media = {n: np.exp(rng.uniform(-0.7, 0.7, (SAMPLES, *(1,) * ndim))) for n in names}
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        made = jax.vmap(equation.coefficients)({n: jnp.asarray(v) for n, v in media.items()})
    values = {n: np.reshape(np.asarray(v), (SAMPLES, -1))[:, :1] for n, v in made.items()}
    by_axis = dict(zip(AXIS_NAMES[ndim], np.transpose(directions)[:, None], strict=True))
    with np.errstate(all="ignore"):
        rows = _matrix(balances, values, by_axis)
        longer = _matrix(balances, values, by_axis, 2.0 * DT)
    shape = (SAMPLES, len(directions))
    matrices = _stacked(rows, shape)
    _check_degree(equation, matrices, _stacked(longer, shape))
    good = matrices[np.all(np.isfinite(matrices), axis=(1, 2, 3))]
    if not good.size:
        return _Waves(balances, len(rows), directions)
    kinds, alike = 0, True
    for medium in good:
        # Of characteristic polynomials of eigenvalues of a size of one.
        size = max(float(np.abs(np.linalg.eigvals(medium)).max()), np.finfo(float).tiny)
        shapes = np.array([np.poly(m / size) for m in medium])
        alike = alike and bool(np.all(np.abs(shapes - shapes[0]) < SAME))
        kinds = max(kinds, int(np.flatnonzero(np.abs(shapes).max(0) > SAME)[-1]))
    return _Waves(balances, kinds, directions[:1] if alike else directions)


def _stacked(rows: Sequence[Sequence[Any]], shape: tuple[int, ...]) -> np.ndarray:
    """Matrices of shape (*shape, row, column), from their entries, arrays that broadcast."""
    entries = np.array([[np.broadcast_to(g, shape) for g in row] for row in rows], np.float64)
    return np.moveaxis(entries.reshape(len(rows), len(rows), *shape), (0, 1), (-2, -1))


def _check_degree(equation: Any, matrices: np.ndarray, longer: np.ndarray) -> None:
    """Check that eigenvalues stay where the wavelength and the time step become twice as long.

    Raises:
        ValueError: they do not.
    """
    both = np.stack([matrices, longer])
    before, after = both[:, np.all(np.isfinite(both), axis=(0, -2, -1))]
    before, after = (np.abs(np.linalg.eigvals(m)).max(-1, initial=0.0) for m in (before, after))
    if np.any(np.abs(after - before) > SAME_SPEED * before):
        name = type(equation).__name__
        raise ValueError(
            f"{name}: waves of ever higher frequency have no speed of their own in the symbols of "
            "its scheme, because its terms of highest order are not of second order in space and "
            "time together. Say what is slowest and fastest in a model, by a method of the "
            "equation, def speeds(self, parameters): return slowest, fastest"
        )


def _directions(ndim: int) -> Directions:
    """Unit vectors over half of the circle or sphere, 18 degrees at most from the next in 2-D."""
    most = {1: 1, 2: 3, 3: 2}[ndim]
    found = []
    for vector in product(range(-most, most + 1), repeat=ndim):
        last = next((c for c in reversed(vector) if c), 0)
        if last > 0 and math.gcd(*vector) == 1:
            found.append(tuple(c / math.hypot(*vector) for c in vector))
    return tuple(found)


def _matrix(
    balances: Sequence[Balance],
    media: Mapping[str, Any],
    direction: Mapping[str, Any],
    dt: float = DT,
) -> list[list[Any]]:
    """G for real exponentials that grow along a direction: its entries, by row.

    Args:
        balances: of the alternating motion.
        media: the coefficients by name, numbers or arrays.
        direction: a unit vector, by axis.
        dt: the time step, s; the wavenumber is 1 / dt.
    """
    per_metre = {axis: component / dt for axis, component in direction.items()}
    kept = carried(balances)
    columns = []
    for column in kept:
        amplitudes: dict[tuple[str, bool], Any] = {
            (name, False): float(name == column) for name in kept
        }
        for balance in balances:
            forces = _value(balance.forces, media, per_metre, dt, amplitudes)
            inertia, take = (
                _value(e, media, per_metre, dt, amplitudes) for e in (balance.inertia, balance.take)
            )
            amplitudes[balance.field.name, True] = -forces * (take / inertia)
        columns.append([amplitudes[name, True] for name in kept])
    return [list(row) for row in zip(*columns, strict=True)]


def _value(
    expr: Expr,
    media: Mapping[str, Any],
    per_metre: Mapping[str, Any],
    dt: float,
    amplitudes: Mapping[tuple[str, bool], Any],
) -> Any:
    """The amplitude of an expression, given the wavenumber along each axis."""
    if is_access(expr):
        name = expr.function.name
        if isinstance(expr, TimeFunction):
            return amplitudes[name, time_offset(expr) == 1]
        return media.get(name, 0.0)  # no layer absorbs
    if isinstance(expr, Derivative):
        if not any(isinstance(a, TimeFunction) for a in accesses(expr)):
            return 0.0  # of a uniform medium
        value = _value(expr.expr, media, per_metre, dt, amplitudes)
        for d, n in zip(expr.dims, expr.deriv_order, strict=True):
            value = value * per_metre[d.name] ** n
        return value
    if expr.is_Number:
        return float(expr)
    if expr.is_Symbol:
        return dt  # the time step; a spacing is as small
    parts = [_value(arg, media, per_metre, dt, amplitudes) for arg in expr.args]
    if expr.is_Add:
        return sum(parts[1:], start=parts[0])
    if expr.is_Mul:
        return math.prod(parts[1:], start=parts[0])
    if expr.is_Pow:
        return parts[0] ** int(expr.exp)
    return float(expr.evalf())
