"""Strips of absorbing layers are visited no more often than what is computed there demands."""

import pytest
from devito.finite_differences import Derivative

import ondax as ox
from ondax.backends.devito.lagged import lagged
from ondax.backends.devito.lower import Lowering
from ondax.calculus.check import checked
from ondax.calculus.layers import stretched
from ondax.calculus.program import Program
from ondax.calculus.regions import reach
from ondax.calculus.transpose import transpose
from ondax.scheme.symbols import Symbols
from ondax.scheme.system import Port, System, Update
from ondax.scheme.terms import EquationError, accesses, time_offset


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


def test_memories_at_the_end_of_an_adjoint_step_begin_the_next_one() -> None:
    """They then read what the step before has left, and the field reads what they have become."""
    before = transpose(layered(Symbols(2, 8)))
    after, late = lagged(before)
    (field,) = {f for f in before.fields if f not in late}
    assert [u.field for u in before.updates] == [field, *[u.field for u in after.updates[:-1]]]
    *memories, last = after.updates
    assert len(memories) == 8
    for update in memories:
        assert {time_offset(a) for a in accesses(update.rhs) if a.function is field} <= {0}
    assert {time_offset(a) for a in accesses(last.rhs) if a.function in late} == {1}


def test_an_adjoint_whose_steps_end_with_a_field_is_left_as_it_is() -> None:
    before = transpose(ox.Acoustic(space_order=8).system(Symbols(2, 8), ox.Sponge()))
    assert lagged(before) == (before, frozenset())


def test_strips_at_the_ends_of_rows_share_the_loop_over_rows() -> None:
    """So no loop over strips along another axis stands between them."""
    scheme = Lowering(Program(layered(Symbols(2, 8))))
    kept = scheme.program.coupling(("m",))
    for equations in (scheme.forward(kept), scheme.adjoint(kept)):
        names = [getattr(e.subdomain, "name", "") for e in equations]
        rows = [n for n, name in enumerate(names) if name.startswith("z")]
        assert rows
        assert not any(name.startswith("x") for name in names[: rows[-1]])


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
