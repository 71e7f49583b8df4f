"""A step computes what it needs in few loops, and nothing twice."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import sympy
from devito import Eq, Operator
from devito.finite_differences import Derivative
from devito.ir.iet import FindNodes, Iteration
from problems import difference
from slow import slow

import ondax as ox
from ondax._devito_settings import our_devito
from ondax.backends.devito import build
from ondax.backends.devito.build import _lowered
from ondax.backends.devito.fusion import FusedTooFar, check_loops, check_order, side_by_side
from ondax.backends.devito.lower import Lowering
from ondax.backends.devito.scratch import SCRATCH_PREFIX, without_number
from ondax.calculus.program import Program
from ondax.face import schemes
from ondax.scheme.symbols import Equation, Symbols

PARAMETERS = ("m", "mixed", "inverse", "excess", "axis_x", "axis_z")


@pytest.fixture(scope="module")
def tilted() -> Lowering:
    return Lowering(Program(ox.TTI(space_order=4).system(Symbols(2, 4), ox.Sponge())))


def loops_over_the_grid(equations: list[Equation]) -> int:
    """Loops over all x that do not stand in one another."""
    with our_devito():
        operator = Operator(equations)
    return sum(loop.dim.name == "x" for loop in FindNodes(Iteration).visit(operator))


@pytest.mark.slow
def test_a_tilted_medium_takes_three_loops(tilted: Lowering) -> None:
    """Products of fields with coefficients; the fluxes made of their slopes; divergences of these,
    with which fields are advanced and gradients summed. Derivatives of derivatives allow no
    fewer."""
    kept = tilted.program.coupling(PARAMETERS)
    for equations in (tilted.forward(kept), tilted.adjoint(kept)):
        assert loops_over_the_grid(equations) == 3


@pytest.mark.parametrize(
    ("equation", "at_two_times"),
    [
        (ox.Elastic(4), set()),
        # The pressure is advanced with the mean of the memory's old and new values.
        (ox.Viscoacoustic(4, frequency=10.0), {"g"}),
    ],
)
def test_fields_of_first_order_are_kept_at_one_time(
    equation: ox.AbstractWaveEquation, at_two_times: set[str]
) -> None:
    """Where no update but their own reads their old values, new ones are written over them; so in
    the memories of a layer, and in all adjoints."""
    symbols, boundary = Symbols(2, 4), ox.CPML()
    ends = [(axis, side) for axis in symbols.axes for side in ("low", "high")]
    system = boundary.act(equation.system(symbols, boundary), ends, frozenset())
    scheme = Lowering(Program(system))
    fields = [*scheme.system.fields, *scheme.transposed.fields]
    first = [f for f in fields if f.time_order == 1]
    assert len(first) > 10
    assert {f.name for f in first if scheme.levels(f) > 1} == at_two_times


def test_no_derivative_is_taken_in_two_loops(tilted: Lowering) -> None:
    """An equation stands apart from those before it that compute what it differentiates; no
    derivative may stand on both sides of such a step."""
    equations = tilted.adjoint(tilted.program.coupling(PARAMETERS))
    taken: dict[sympy.Expr, set[int]] = {}
    loop, written = 0, set()
    for equation in equations:
        derivatives = equation.rhs.find(Derivative)
        if {d.expr.function for d in derivatives} & written:
            loop, written = loop + 1, set()
        written.add(equation.lhs.function)
        for derivative in derivatives:
            taken.setdefault(derivative, set()).add(loop)
    assert taken
    assert all(len(loops) == 1 for loops in taken.values())


@pytest.mark.parametrize("boundary", [ox.Sponge(), slow(ox.JointPML())])
def test_no_scratch_is_a_multiple_of_another(boundary: ox.Sponge | ox.JointPML) -> None:
    symbols = Symbols(2, 4)
    system = ox.TTI(space_order=4).system(symbols, boundary)
    ends = [(axis, side) for axis in symbols.axes for side in ("low", "high")]
    scheme = Lowering(Program(boundary.act(system, ends, frozenset())))
    for equations in (scheme.forward(), scheme.adjoint(scheme.program.coupling(PARAMETERS))):
        computed = [
            without_number(e.rhs)[1]
            for e in equations
            if e.lhs.function.name.startswith(SCRATCH_PREFIX)
        ]
        assert computed
        assert len(set(computed)) == len(computed)


def test_multiples_are_told_however_they_are_written() -> None:
    symbols = Symbols(2, 4)
    u, v = symbols.field("u", time_order=2), symbols.field("v", time_order=2)
    a, b = symbols.coefficient("a"), symbols.coefficient("b")
    number, described = without_number(a * (u + v) * a + b**2 * u)
    other, same = without_number(-0.5 * a**2 * u - u * b * b / 2 - a * a * v / 2)
    assert described == same
    assert other / number == -0.5
    assert without_number(a * (u - v))[1] != without_number(a * (u + v))[1]


def test_what_is_read_before_it_is_computed_is_found() -> None:
    """Two equations in an order of their own, and the kernel of the same two in the other one."""
    symbols = Symbols(1, 4)
    u, work = symbols.field("u"), symbols.coefficient("work")
    equations = [Eq(work, 2 * u), Eq(u.forward, work.dz)]
    with our_devito():
        right, wrong = Operator(equations), Operator(equations[::-1])
    check_order(right, equations)
    with pytest.raises(FusedTooFar, match=r"reads work after \[0\] .* in place of \[1\]"):
        check_order(wrong, equations)


@pytest.mark.slow
def test_without_optimisations_kernels_are_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The last resort, where all else that Devito makes is refused."""
    seen: list[FusedTooFar] = []

    def check(operator: Any, equations: Any) -> None:
        check_order(operator, equations)
        if len(seen) % 3 < 2:
            seen.append(FusedTooFar("as if"))
            raise seen[-1]
        seen.append(FusedTooFar("the next kernel"))

    def gradient(backend: Any) -> Any:
        settings = ox.Settings(backend=backend)
        boundary = ox.CPML(7)  # of no other test, whose kernels this process may have
        F = ox.Propagator(
            ox.Acoustic(6), grid, survey, 2600.0, boundary=boundary, settings=settings
        )
        traces, pull = jax.vjp(F, model)
        return traces, pull(traces)[0]

    grid, model = ox.Grid((23,), 10.0), jnp.linspace(1800.0, 2300.0, 23)
    survey = ox.Survey([[50.0]], [[180.0]], ox.ricker(20.0, 160, 1e-3), 1e-3)
    with jax.enable_x64(True):
        model = model.astype(jnp.float64)
        monkeypatch.setattr(build, "check_order", check)
        monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path))  # kernels are made here, not found
        for found, right in zip(gradient("devito"), gradient("xla"), strict=True):
            assert difference(found, right) < 1e-12
    assert len(seen) >= 6


@pytest.mark.slow
def test_derivatives_are_not_taken_before_what_they_are_of() -> None:
    """Left to itself, Devito makes an adjoint of this scheme that does so: gradients were wrong by
    many orders of magnitude. If it is not refused any more, `check_order` of
    `backends/devito/fusion.py` can go."""
    equation = ox.Viscoacoustic(4, frequency=15.0)
    boundary = ox.Faces(ox.CPML(6), top=ox.FreeSurface())
    program = schemes.program(
        equation, boundary, 2, "float64", ("source",), ("receiver",), False, False, frozenset()
    ).program
    equations = Lowering(program).adjoint(None, inputs=True, weights=False)
    with our_devito(), side_by_side():
        alone = Operator(equations)
    with pytest.raises(FusedTooFar, match=r"reads work_\w+ after \[0, 1\]"):
        check_order(alone, equations)
    made = _lowered(equations, {})
    check_order(made, equations)
    check_loops(made)
