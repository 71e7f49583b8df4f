"""Where Devito evaluates derivatives that stand inside others: where the calculus says, at every
order.

The independent check takes the equations of a kernel, has Devito expand them to stencils with
indices, as it does before it writes C, and carries them out on NumPy arrays of a ring of points,
where every shift is a roll. What comes out is compared with compositions of finite-difference
matrices made here.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from devito import Eq, Function
from devito.finite_differences import Derivative, finite_difference
from problems import difference, dot, norm
from slow import slow_but

import ondax as ox
from ondax.backends.devito.lower import Lowering
from ondax.backends.devito.scratch import check_places, places_agree
from ondax.calculus.program import Program
from ondax.equations.schemes import second_order_in_time, to_half, to_node
from ondax.scheme.symbols import Symbols
from ondax.scheme.system import Port, System
from ondax.scheme.terms import EquationError, location, point

ORDERS = range(2, 17, 2)
UNDAMPED = ox.Sponge(width=0)


def _laplace(u: Any, one: dict[Any, Any]) -> Any:
    return u.laplace


def _coefficient(u: Any, one: dict[Any, Any]) -> Any:
    return sum(to_node(b * to_half(u, d), d) for d, b in one.items())


def _sum(u: Any, one: dict[Any, Any]) -> Any:
    return sum(to_node(to_half(u, d) + b * to_half(u, d), d) for d, b in one.items()) / 2


def _number(u: Any, one: dict[Any, Any]) -> Any:
    return sum(to_node(2 * to_half(u, d), d) for d in one) / 2


def _bare(u: Any, one: dict[Any, Any]) -> Any:
    return sum(to_node(to_half(u, d), d) for d in one)


WAYS: dict[str, Callable[..., Any]] = {
    "laplace": _laplace,
    "coefficient": _coefficient,
    "sum": _sum,
    "number": _number,
    "bare": _bare,
}
"""Of writing div grad u; `one` are coefficients that are 1."""


class Way(ox.AbstractWaveEquation):
    """`(1/vp^2) u_tt = c div grad u`, where c is 1 but perturbed with the rest: so a product that
    holds two derivatives is kept."""

    parameter_names = ("vp", "c")
    way: str
    space_order: int

    def system(self, symbols: Symbols, boundary: Any) -> System:
        u, m, c = symbols.field("u"), symbols.coefficient("m"), symbols.coefficient("c")
        one = {d: symbols.coefficient(f"one_{d.name}", staggered=d) for d in symbols.dimensions}
        update = second_order_in_time(symbols, boundary, u, m, c * WAYS[self.way](u, one))
        ports = (Port("source", ((u, 1.0),)),), (Port("receiver", ((u, 1.0),)),)
        return System(symbols, (m, c, *one.values()), (update,), *ports)

    def coefficients(self, parameters: Any) -> dict[str, Any]:
        vp = parameters["vp"]
        names = {1: "z", 2: "xz"}[vp.ndim]
        return {
            "m": 1 / vp**2,
            "c": parameters["c"],
            **{f"one_{n}": jnp.ones_like(vp) for n in names},
        }

    def speeds(self, parameters: Any) -> tuple[Any, Any]:
        return parameters["vp"].min(), parameters["vp"].max()

    def largest_step(self, spacing: Any, max_velocity: float) -> float:
        return ox.AcousticDensity(self.space_order).largest_step(spacing, max_velocity)


# ---------------------------------------------------------------- on a ring of points

POINTS = 40  # more than twice the longest stencil


def matrix(order: int, derivative: int, shift: float) -> np.ndarray:
    """A derivative on the ring, from values to points `shift` cells beyond theirs."""
    reach = order // 2
    steps = (
        np.arange(-reach, reach + 1)
        if shift == 0.0
        else np.arange(-reach, reach) + int(2 * shift > 0)
    )
    offsets = [sympy.Rational(int(2 * (s - shift)), 2) for s in steps]
    w = map(float, sympy.finite_diff_weights(derivative, offsets, 0)[derivative][-1])
    return sum(c * np.roll(np.eye(POINTS), s, axis=1) for s, c in zip(steps, w, strict=True))


def carried_out(equations: list[Any], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Do what equations on one axis say, after Devito has made stencils of them, with spacing and
    time step 1.

    Arrays are called as their accesses are written, without space: "u(t + dt)". Sources and
    receivers are left out.
    """
    for equation in equations:
        if "_tap_" in str(equation):
            continue
        stencil = equation.evaluate
        expr, operands = stencil.rhs, []
        for i, access in enumerate(sorted(expr.find(Function), key=str)):
            name, shift = _split(access)
            operands.append((sympy.Symbol(f"v{i}"), np.roll(arrays[name], -shift)))
            expr = expr.xreplace({access: operands[-1][0]})
        expr = expr.xreplace({s: 1.0 for s in expr.free_symbols if str(s) in ("dt", "h_z")})
        symbols, values = zip(*operands, strict=True)
        arrays[_split(stencil.lhs)[0]] = sympy.lambdify(symbols, expr, "numpy")(*values)
    return arrays


def _split(access: Any) -> tuple[str, int]:
    """What an access reads, and how many points beyond."""
    function = access.function
    time = [str(i) for d, i in zip(function.dimensions, access.indices, strict=True) if d.is_Time]
    (space,) = (n for n, d in enumerate(function.dimensions) if d.is_Space)
    shift = sympy.sympify(
        (access.indices[space] - function.indices[space]) / function.dimensions[space].spacing
    )
    assert float(shift).is_integer(), access
    return f"{access.name}({', '.join(time)})", int(shift)


@pytest.fixture(autouse=True)
def weights_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when kernels are built: Devito would round them to nine digits."""
    monkeypatch.setattr(finite_difference, "_PRECISION", 20)


QUICK = {("bare", 2), ("bare", 8), ("sum", 4)}


@pytest.mark.parametrize(
    ("way", "order"),
    slow_but(itertools.product(WAYS, ORDERS), *QUICK),
)
def test_stencils_are_where_the_calculus_says(way: str, order: int):
    """One step forward, of Born modelling and backward, with gradients."""
    symbols = Symbols(1, order, np.float64)
    scheme = Lowering(Program(Way(way=way, space_order=order).system(symbols, UNDAMPED)))
    kept = scheme.program.coupling(("m", "c"))
    rng = np.random.default_rng(order)
    u, before, a, later, m, c, dc, k = rng.uniform(0.5, 1.0, (8, POINTS))
    one = np.ones(POINTS)
    space = (
        matrix(order, 1, -0.5) @ matrix(order, 1, 0.5)
        if way != "laplace"
        else matrix(order, 2, 0.0)
    )
    given = {"gamma_z()": 0 * one, "one_z()": one, "m()": m, "c()": c}

    fields = {"u_pair(t)": u, "u_pair(t - dt)": before}
    assert norm(
        carried_out(scheme.forward(), given | fields)["u_pair(t + dt)"]
        - (2 * u - before + c / m * (space @ u))
    ) < (1e-12 * norm(u))
    history = {f"kept_u({t})": k for t in ("time - dt", "time", "time + dt", "time + 2*dt")}
    fields = {
        "born_u_pair(t)": u,
        "born_u_pair(t - dt)": before,
        "born_m()": 0 * one,
        "born_c()": dc,
    }
    born = carried_out(scheme.born(kept), given | fields | history)["born_u_pair(t + dt)"]
    assert norm(born - (2 * u - before + (c * (space @ u) + dc * (space @ k)) / m)) < 1e-12 * norm(
        u
    )

    fields = {"au_pair(t)": a, "au_pair(t + dt)": later, "grad_m()": 0 * one, "grad_c()": 0 * one}
    backward = carried_out(scheme.adjoint(kept), given | fields | history)
    assert norm(
        backward["au_pair(t - dt)"] - (2 * a - later + space.T @ (c * a) / m)
    ) < 1e-12 * norm(a)
    assert norm(backward["grad_c()"] - a * (space @ k)) < 1e-12 * norm(a)


def test_only_what_devito_places_right_is_left_to_it():
    """Compared with what Devito's own expansion refers to."""
    symbols = Symbols(2, 4)
    x, z = symbols.dimensions
    u, v = symbols.field("u"), symbols.field("v", staggered=z)
    b, c, gamma = (
        symbols.coefficient("b", staggered=z),
        symbols.coefficient("c"),
        symbols.profile("gamma", z),
    )
    at_nodes = Derivative(u, (x, 1), x0={x: x})
    half = to_half(u, z)
    operands = [
        half,
        2 * half,
        b * half,
        half + b * half,
        v + half,
        v + b * half,
        -v + b * half,
        to_half(c * at_nodes, z),
        at_nodes,
        c * at_nodes,
        to_node(v, z),
        c * to_node(b * half, z),
        b**2 * half,
        u,
        c * u,
        gamma * to_half(u, x),
    ]
    agreed = []
    for operand in operands:
        for d in (x, z):
            where = operand.evaluate.indices_ref.getters
            right = d in where and where[d] == point(d, location(operand)[d])
            if places_agree(operand, [d]):
                assert right, operand
                agreed.append((operand, d))
    assert (operands[2], z) in agreed
    assert all((operands[i], z) not in agreed for i in (0, 10))
    assert len(agreed) > len(operands)


def test_what_is_still_misplaced_is_refused():
    symbols = Symbols(1, 4)
    (z,) = symbols.dimensions
    u = symbols.field("u")
    misplaced = to_node(to_half(u, z), z)
    with pytest.raises(EquationError, match="Derivative.*live at other points"):
        check_places(Eq(u.forward, misplaced))
    check_places(Eq(u.forward, to_node(symbols.coefficient("b", staggered=z) * to_half(u, z), z)))


# ---------------------------------------------------------------- traces


def propagator(way: str, order: int) -> ox.Propagator:
    rng = np.random.default_rng(3)
    survey = ox.Survey(
        rng.uniform(5, 160, (1, 2, 2)),
        rng.uniform(5, 160, (1, 3, 2)),
        rng.normal(size=(1, 2, 50)),
        2e-3,
    )
    return ox.Propagator(
        Way(way=way, space_order=order),
        ox.Grid((19, 17), 10.0),
        survey,
        max_velocity=2400.0,
        boundary=ox.Sponge(width=3),
        min_points_per_wavelength=0.0,
        time_dispersion="raw",
    )


def assert_same_scheme(way: str, order: int) -> None:
    """As with a coefficient between the derivatives, up to the edges; and its own adjoint."""
    F = propagator(way, order)
    rng = np.random.default_rng(4)
    model = {
        n: jnp.asarray(rng.uniform(*r, (19, 17)))
        for n, r in (("vp", (1900, 2100)), ("c", (0.9, 1.1)))
    }
    traces, pull = jax.vjp(F, model)
    assert difference(traces, propagator("coefficient", order)(model)) < 1e-11
    J, y = F.jacobian(model), jnp.asarray(rng.normal(size=traces.shape))
    dm = {n: 0.1 * v * jnp.asarray(rng.normal(size=v.shape)) for n, v in model.items()}
    assert abs(dot(J.mv(dm), y) - dot(dm, pull(y)[0])) < 1e-12 * norm(J.mv(dm)) * norm(y)
    w = jnp.asarray(F.survey.wavelet)
    assert ox.dot_test(lambda w: F(model, wavelet=w), lambda d: F.adjoint(model, d), w, y) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("way", ["sum", "number", "bare"])
def test_traces_do_not_depend_on_the_way(x64: None, way: str, order: int):
    assert_same_scheme(way, order)


class Strained(ox.AbstractWaveEquation):
    """Two waves driven by derivatives of the sum of their slopes, centred at the nodes: the
    transpose has a derivative directly inside another where the scheme has a sum, and where Devito
    is right about the place of both."""

    parameter_names = ("vp",)
    space_order: int = 4

    def system(self, symbols: Symbols, boundary: Any) -> System:
        (z,) = symbols.dimensions
        u, v, m = symbols.field("u"), symbols.field("v"), symbols.coefficient("m")
        along = Derivative(Derivative(u, (z, 1)) + 0.5 * Derivative(v, (z, 1)), (z, 1))
        updates = (
            second_order_in_time(symbols, boundary, u, m, along),
            second_order_in_time(
                symbols, boundary, v, m, v.laplace + 0.2 * Derivative(Derivative(u, (z, 1)), (z, 1))
            ),
        )
        ports = (Port("source", ((u, 1.0),)),), (Port("receiver", ((v, 1.0),)),)
        return System(symbols, (m,), updates, *ports)

    def coefficients(self, parameters: Any) -> dict[str, Any]:
        return {"m": 1 / parameters["vp"] ** 2}

    def speeds(self, parameters: Any) -> tuple[Any, Any]:
        return parameters["vp"].min(), parameters["vp"].max()

    def largest_step(self, spacing: Any, max_velocity: float) -> float:
        return 0.5 * ox.Acoustic(self.space_order).largest_step(spacing, max_velocity)


def test_slopes_end_with_the_grid(x64: None):
    """Without any layer: waves reach the edges, where a derivative read from an array differs from
    one that is not."""
    rng = np.random.default_rng(3)
    survey = ox.Survey(
        rng.uniform(0, 80, (1, 2, 1)),
        rng.uniform(0, 80, (1, 3, 1)),
        rng.normal(size=(1, 2, 60)),
        1e-3,
    )
    F = ox.Propagator(
        Strained(),
        ox.Grid((9,), 10.0),
        survey,
        2400.0,
        boundary=UNDAMPED,
        min_points_per_wavelength=0.0,
        time_dispersion="raw",
    )
    vp = jnp.asarray(rng.uniform(1900, 2100, 9))
    y = jnp.asarray(rng.normal(size=(1, 3, 60)))
    w = jnp.asarray(survey.wavelet)
    assert ox.dot_test(lambda w: F(vp, wavelet=w), lambda d: F.adjoint(vp, d), w, y) < 1e-12
