"""Strips of absorbing layers are visited no more often than what is computed there demands."""

import pytest
from devito.finite_differences import Derivative

import ondax as ox
from ondax.backends.devito.lower import Lowering
from ondax.calculus.check import checked
from ondax.calculus.layers import stretched
from ondax.calculus.program import Program
from ondax.calculus.regions import reach
from ondax.scheme.symbols import Symbols
from ondax.scheme.system import Port, System, Update
from ondax.scheme.terms import EquationError, accesses


def layered(symbols: Symbols) -> System:
    layers = [(axis, side) for axis in symbols.axes for side in ("low", "high")]
    return stretched(ox.Acoustic(space_order=8).system(symbols, ox.CPML()), layers)


def test_each_strip_has_two_loops_forward_and_three_backward() -> None:
    """Forward: a memory that a derivative reads, then all else. Backward: the field, then each of
    its memories."""
    scheme = Lowering(Program(layered(Symbols(2, 8))))
    kept = scheme.program.coupling(("m",))
    for equations, loops in ((scheme.forward(kept), 2), (scheme.adjoint(kept), 3)):
        parts = {e.subdomain.name for e in equations if e.subdomain is not None}
        for strip in ("xlow", "xhigh", "zlow", "zhigh"):
            assert sum(name.startswith(strip) for name in parts) == loops, parts


def test_no_loop_over_a_strip_reads_around_a_point_what_it_computes() -> None:
    """Devito would run such loops as one, and read what is yet to be computed."""
    scheme = Lowering(Program(layered(Symbols(2, 8))))
    for equations in (scheme.forward(), scheme.adjoint()):
        written: dict[str, set[str]] = {}
        for e in equations:
            if e.subdomain is not None:
                written.setdefault(e.subdomain.name, set()).add(str(e.lhs))
        for e in equations:
            if e.subdomain is not None:
                around = {str(f) for d in e.rhs.find(Derivative) for f in accesses(d.expr)}
                assert not around & written[e.subdomain.name]


def test_a_layer_is_felt_as_far_as_derivatives_are_nested() -> None:
    symbols = Symbols(2, 8)
    assert reach(layered(symbols)) == 4
    symbols, boundary = Symbols(2, 8), ox.CPML()
    system = ox.AcousticDensity(space_order=8).system(symbols, boundary)
    assert reach(boundary.surround(system)) == 8


@pytest.mark.parametrize("what", ["keep", "take"])
def test_what_a_memory_keeps_and_takes_is_fixed(what: str) -> None:
    symbols = Symbols(1, 4)
    u, c = symbols.field("u", time_order=1), symbols.coefficient("c")
    update = Update(u, 1 / symbols.dt, u, **{what: c})
    with pytest.raises(EquationError, match=what):
        checked(System(symbols, (c,), (update,), (Port("in", ((u, 1.0),)),), ()))


def test_a_memory_has_a_fixed_mass() -> None:
    symbols = Symbols(1, 4)
    u, c = symbols.field("u", time_order=1), symbols.coefficient("c")
    keep = symbols.profile("keep", symbols.dimensions[0])
    with pytest.raises(EquationError, match="must be fixed"):
        checked(
            System(symbols, (c,), (Update(u, c, u, keep=keep),), (Port("in", ((u, 1.0),)),), ())
        )
