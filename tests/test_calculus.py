"""The calculus on systems that it was not written for: what it returns, what it refuses, and
whether it is exact."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import sympy
from devito.finite_differences import Derivative
from problems import difference, dot, norm
from registry import EQUATIONS
from slow import slow, slow_but
from systems import ORDER, Rig, between, elastic, mass_form, measured, right_hand_form, second_order

import ondax as ox
from ondax.calculus.check import checked
from ondax.calculus.idle import idle, without
from ondax.calculus.linearize import linearize
from ondax.calculus.transpose import transpose
from ondax.equations.schemes import to_half, to_node
from ondax.scheme.symbols import Symbols
from ondax.scheme.system import Port, System, Update
from ondax.scheme.terms import EquationError, accesses, map_accesses, replace_function

# ---------------------------------------------------------------- what it returns


def assert_same_scheme(system: System, other: System) -> None:
    """The same stencils in the same order; the fields of `other` may have other names."""
    own = dict(zip(other.fields, system.fields, strict=True))

    def renamed(expr):
        return map_accesses(
            expr, lambda a: replace_function(a, own[a.function]) if a.function in own else a
        )

    for update, twin in zip(checked(system).updates, other.updates, strict=True):
        assert (update.mass - twin.mass).expand() == 0, update.field
        difference = sympy.sympify(update.rhs - renamed(twin.rhs))
        assert getattr(difference, "evaluate", difference).expand() == 0, update.field
    for ports, twins in ((system.inputs, other.inputs), (system.outputs, other.outputs)):
        assert ports == tuple(
            Port(p.name, tuple((own[f], factor) for f, factor in p.terms), time=0.0) for p in twins
        )


def of_pressure(equation: ox.AbstractWaveEquation, symbols: Symbols) -> System:
    """A scheme between its first ports."""
    system = equation.system(symbols, ox.Sponge(width=4))
    ends = ((ports[0].name,) for ports in (system.inputs, system.outputs))
    return without(system, idle(system, *ends))


SYSTEMS: dict[str, Callable[[], System]] = {
    "mass": lambda: mass_form(Symbols(1, 4)),
    "right-hand": lambda: right_hand_form(Symbols(2, 4)),
    "elastic": lambda: elastic(Symbols(2, ORDER)),
    "acoustic": lambda: ox.Acoustic(space_order=4).system(Symbols(2, 4), ox.Sponge(width=4)),
    "density": lambda: of_pressure(ox.AcousticDensity(4), Symbols(2, 4)),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_transpose_is_an_involution(name: str):
    system = SYSTEMS[name]()
    assert_same_scheme(system, transpose(transpose(system)))


@pytest.mark.parametrize("name", ["acoustic", "density"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_self_adjoint_stencils_come_back(name: str, ndim: int):
    """The adjoint of a symmetric scheme is the scheme: no coefficient has slipped into one more
    derivative."""
    equation = {"acoustic": ox.Acoustic, "density": ox.AcousticDensity}[name](space_order=8)
    system = of_pressure(equation, Symbols(ndim, 8))
    adjoint = transpose(system)

    def differentiated(s: System) -> list[tuple[str, list[str]]]:
        found = [
            d
            for u in checked(s).updates
            for d in sympy.preorder_traversal(u.rhs)
            if isinstance(d, Derivative)
        ]
        return sorted(
            (str(d.dims), sorted(a.name.removeprefix("a") for a in accesses(d.expr))) for d in found
        )

    assert differentiated(adjoint) == differentiated(system)
    if ndim == 1:  # expanded, larger stencils only say it again, slowly
        assert_same_scheme(
            System(system.symbols, system.coefficients, system.updates, (), ()),
            System(system.symbols, system.coefficients, adjoint.updates, (), ()),
        )


def test_an_adjoint_runs_in_reverse_order_between_exchanged_ports():
    system = elastic(Symbols(2, ORDER))
    adjoint = transpose(system)
    assert [f.name for f in adjoint.fields] == ["a" + f.name for f in reversed(system.fields)]
    assert [(p.name, [f.name for f, _ in p.terms]) for p in adjoint.inputs] == [
        ("receiver", ["av_x", "av_z"])
    ]
    assert [(p.name, [f.name for f, _ in p.terms]) for p in adjoint.outputs] == [
        ("source", ["atxx", "atzz"])
    ]


def names_of(system: System) -> list[str]:
    return [f.name for f in (*system.fields, *system.coefficients)]


def test_linearize_doubles_a_system():
    system = right_hand_form(Symbols(1, ORDER))
    linear = linearize(system)
    assert names_of(linear) == ["v_z", "dv_z", "p", "dp", "b_z", "k_z", "db_z", "dk_z"]
    assert [p.name for p in linear.inputs] == ["source", "dsource"]
    assert [p.name for p in linear.outputs] == ["receiver", "dreceiver"]


def test_composed_systems_are_systems():
    """Each result is checked again, so it can be transformed again."""
    linear = linearize(elastic(Symbols(2, ORDER)))
    assert len(checked(transpose(linear)).fields) == 10
    assert len(checked(linearize(transpose(linear), prefix="e")).fields) == 20
    assert len(checked(transpose(linearize(linear, prefix="e"))).fields) == 20


REPEATED: dict[str, Callable[[System], System]] = {
    "linearize twice": lambda s: linearize(linearize(s)),
    "transpose twice": lambda s: transpose(transpose(s)),
    "linearize an adjoint": lambda s: linearize(transpose(s)),
}


@pytest.mark.parametrize("case", REPEATED)
def test_names_stay_apart_when_transforms_repeat(case: str):
    """Kernels know arrays by name, so two symbols of one name would be one array."""
    names = names_of(checked(REPEATED[case](mass_form(Symbols(1, ORDER)))))
    assert len(set(names)) == len(names), names


def test_two_symbols_of_one_name_are_refused():
    symbols = Symbols(1, ORDER)
    u, twin = symbols.field("u"), symbols.field("u", time_order=1)
    updates = (Update(u, 1 / symbols.dt, u), Update(twin, 1 / symbols.dt, twin))
    with pytest.raises(EquationError, match="u"):
        checked(System(symbols, (), updates, (), ()))


# ---------------------------------------------------------------- what it refuses


class Alphabet:
    """The symbols that the equations below are spelt with: 1-D, `u`, `w` and `c` at the nodes, `v`
    and `b` between."""

    def __init__(self) -> None:
        self.symbols = symbols = Symbols(1, 4)
        (self.z,) = symbols.dimensions
        self.h, self.dt = self.z.spacing, symbols.dt
        self.u, self.w = symbols.field("u"), symbols.field("w")
        self.v = symbols.field("v", staggered=self.z)
        self.c, self.b = symbols.coefficient("c"), symbols.coefficient("b", staggered=self.z)
        self.stranger = symbols.coefficient("stranger")
        self.gamma = symbols.profile("gamma", self.z)

    def system(self, *updates: Update) -> System:
        return System(
            self.symbols,
            (self.c, self.b),
            updates,
            (Port("source", ((updates[0].field, 1.0),)),),
            (),
        )


Rhs = Callable[[Alphabet], object]

REFUSED_RIGHT_HAND_SIDES: dict[str, tuple[Rhs, str]] = {
    # not linear in the fields
    "square": (
        lambda s: s.u + s.c * s.u * s.u,
        r"the term u\(t, z\)\*\*2 is not linear in the fields",
    ),
    "two fields": (
        lambda s: s.u * s.w + s.u,
        r"not linear in the fields: the term u\(t, z\)\*w\(t, z\)",
    ),
    "constant": (lambda s: s.u + 3, r"not linear in the fields: the term 3 "),
    "forcing": (lambda s: s.u + s.c, r"not linear in the fields: the term c\(z\)"),
    "hidden forcing": (lambda s: s.c * (s.u + 1), r"the term .*u\(t, z\).* is not linear"),
    "function": (lambda s: sympy.sin(s.u), r"the term sin\(u\(t, z\)\) is not linear"),
    "division": (lambda s: s.u.backward / s.u, r"1/u\(t, z\) is not linear"),
    # not polynomial in the coefficients
    "reciprocal": (lambda s: s.u / s.c, r"1/c\(z\) is not polynomial in the coefficients"),
    "root": (lambda s: sympy.sqrt(s.c) * s.u, r"sqrt\(c\(z\)\) is not polynomial"),
    "power": (lambda s: s.c ** sympy.Rational(5, 2) * s.u, r"c\(z\)\*\*\(5/2\) is not polynomial"),
    "exponential": (lambda s: sympy.exp(s.c) * s.u, r"exp\(c\(z\)\) is not polynomial"),
    "inside a derivative": (
        lambda s: to_node(s.b**-2 * to_half(s.u, s.z), s.z),
        r"b\(.*\)\*\*\(-2\) is not polynomial",
    ),
    # staggering
    "sum across points": (lambda s: s.u + s.v, r"inconsistent staggering .*v\(t, z \+ h_z/2\)"),
    "product across points": (lambda s: s.b * s.u, r"inconsistent staggering .*b\(z \+ h_z/2\)\*u"),
    "product inside a derivative": (
        lambda s: to_node(s.b * s.u, s.z),
        r"inconsistent staggering .*b\(z \+ h_z/2\)\*u",
    ),
    "derivative at the wrong points": (
        lambda s: to_half(s.u, s.z),
        r"inconsistent staggering .*update of u",
    ),
    "quarter point": (
        lambda s: Derivative(s.u, (s.z, 1), x0={s.z: s.z + s.h / 4}),
        r"z \+ h_z/4 is neither a node nor half a cell",
    ),
    # not explicit
    "its own next step": (lambda s: s.u.forward, r"u\(t \+ dt, z\), which is not known yet"),
    "a later field's next step": (
        lambda s: s.w.forward,
        r"w\(t \+ dt, z\), which is not known yet",
    ),
    # derivatives that have no transpose here
    "time derivative": (lambda s: s.u.dt, r"Derivative\(u\(t, z\), t\).*field\.forward"),
    "second time derivative": (
        lambda s: s.u.dt2,
        r"Derivative\(u\(t, z\), \(t, 2\)\).*field\.forward",
    ),
    "left derivative": (lambda s: s.u.dzl, r"only centred finite differences"),
    "right derivative": (lambda s: s.c * s.u.dzr, r"only centred finite differences"),
    # accesses
    "undeclared": (
        lambda s: s.stranger * s.u,
        r"stranger\(z\) is neither a field nor a coefficient",
    ),
    "two steps ahead": (lambda s: s.u.forward.forward, r"u\(t \+ 2\*dt, z\) reaches beyond"),
    "two steps back": (lambda s: s.u.backward.backward, r"u\(t - 2\*dt, z\) reaches beyond"),
    "shifted in space": (
        lambda s: s.u.subs({s.z: s.z + s.h}),
        r"u\(t, z \+ h_z\)|z \+ h_z is neither",
    ),
}


@pytest.mark.parametrize("case", REFUSED_RIGHT_HAND_SIDES)
def test_refused_right_hand_side(case: str):
    rhs, message = REFUSED_RIGHT_HAND_SIDES[case]
    s = Alphabet()
    # The other fields are advanced after u, so that they count as fields.
    system = s.system(
        Update(s.u, 1 / s.dt, rhs(s)), Update(s.w, 1 / s.dt, s.w), Update(s.v, 1 / s.dt, s.v)
    )
    for transform in (checked, transpose, linearize):
        with pytest.raises(EquationError, match=message) as caught:
            transform(system)
        assert "\n" not in str(caught.value)


REFUSED_MASSES: dict[str, tuple[Rhs, str]] = {
    "field": (lambda s: 1 + s.u, r"the mass of u, u\(t, z\) \+ 1, contains a field"),
    "derivative": (
        lambda s: 1 + Derivative(s.c, (s.z, 1)),
        r"the mass of u, .*Derivative.* contains a derivative",
    ),
    "reciprocal": (lambda s: 1 / s.c, r"1/c\(z\) is not polynomial"),
    "wrong points": (
        lambda s: s.b,
        r"inconsistent staggering .*b\(z \+ h_z/2\) lives at another point",
    ),
    "undeclared": (lambda s: s.stranger, r"stranger\(z\) is neither a field nor a coefficient"),
}


@pytest.mark.parametrize("case", REFUSED_MASSES)
def test_refused_mass(case: str):
    mass, message = REFUSED_MASSES[case]
    s = Alphabet()
    with pytest.raises(EquationError, match=message):
        checked(s.system(Update(s.u, mass(s), s.c * s.u)))


def test_a_field_updated_twice_is_refused():
    s = Alphabet()
    update = Update(s.u, 1 / s.dt, s.u)
    with pytest.raises(EquationError, match="u is updated twice|a field is updated twice"):
        checked(s.system(update, update))


def test_more_times_than_a_field_has_are_refused():
    """Kernels would find the newest value where that of the previous step is asked for."""
    s = Alphabet()
    q = s.symbols.field("q", time_order=1)
    system = s.system(Update(s.u, 1 / s.dt, s.u), Update(q, 1 / s.dt, q.backward + s.u))
    with pytest.raises(EquationError, match=r"q\(t - dt, z\).*first order.*time_order=2"):
        checked(system)


def test_a_port_of_an_unknown_field_is_refused():
    s = Alphabet()
    system = s.system(Update(s.u, 1 / s.dt, s.u))
    stray = System(
        s.symbols,
        system.coefficients,
        system.updates,
        system.inputs,
        (Port("receiver", ((s.w, 1.0),)),),
    )
    with pytest.raises(EquationError, match=r"port receiver refers to w\(t, z\)"):
        checked(stray)


def test_what_is_accepted():
    """Neighbours of the refused: powers, sums of coefficients, profiles, and fields advanced
    earlier in the step."""
    s = Alphabet()
    rhs = (1 + s.c) ** 2 * s.u + s.gamma * s.u.backward + to_node(s.b**3 * to_half(s.u, s.z), s.z)
    system = checked(s.system(Update(s.u, s.c / s.dt**2, rhs), Update(s.w, s.c, s.u.forward + s.w)))
    assert len(transpose(system).updates) == 2


# ---------------------------------------------------------------- whether it is exact

RIGS: dict[str, tuple[Callable[[Symbols], System], int, str, bool | None]] = {
    "mass-1d-fields": (mass_form, 1, "float64", False),
    "mass-2d": (mass_form, 2, "float64", None),
    "mass-2d-float32": (mass_form, 2, "float32", None),
    "right-hand-1d-products": (right_hand_form, 1, "float64", True),
    "right-hand-1d-fields": (right_hand_form, 1, "float64", False),
    "second-order-products": (second_order, 1, "float64", True),
    "second-order-fields": (second_order, 1, "float64", False),
    "measured-products": (measured, 1, "float64", True),
    "measured-fields": (measured, 1, "float64", False),
    "elastic-products": (elastic, 2, "float64", True),
    "elastic-fields": (elastic, 2, "float64", False),
    "elastic-float32": (elastic, 2, "float32", None),
}
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


@functools.cache
def rig(name: str) -> Rig:
    system, ndim, dtype, keep_products = RIGS[name]
    return Rig(system(Symbols(ndim, ORDER, dtype)), keep_products)


def assert_dots(r: Rig) -> None:
    """<A x, y> = <x, A' y>, for A the run as a function of its source and its tangent in source and
    coefficients.

    Normalised by ||A x|| ||y||, the scale of the rounding errors of both numbers.
    """
    tolerance = TOLERANCE[r.domain.dtype]
    traces, y = r.forward(), r.residual()
    gradients, at_source = r.adjoint(y)
    assert norm(traces) > 0
    assert abs(dot(traces, y) - dot(r.source, at_source)) < tolerance * norm(traces) * norm(y)
    for i, x in enumerate(
        r.perturbation()
    ):  # one coefficient at a time: none may hide behind a larger one
        only = [x if j == i else np.zeros_like(x) for j in range(len(r.names))]
        born = r.born(only)
        assert norm(born) > 0, r.names[i]
        assert abs(dot(born, y) - dot(x, gradients[i])) < tolerance * norm(born) * norm(y), r.names[
            i
        ]
    x, q = r.perturbation(), r.random("perturbed source", *r.source.shape)
    born = r.born(x, q)
    assert abs(dot(born, y) - dot(x, gradients) - dot(q, at_source)) < tolerance * norm(
        born
    ) * norm(y)


QUICK = (
    "mass-2d",
    "measured-fields",
    "right-hand-1d-products",
    "second-order-products",
)
FLOAT64 = [name for name, (_, _, dtype, _) in RIGS.items() if dtype == "float64"]


@pytest.mark.parametrize("name", slow_but(RIGS, *QUICK))
def test_dots(name: str):
    assert_dots(rig(name))


def assert_taylor(r: Rig) -> None:
    """The remainder of the tangent falls as h^2 over four halvings.

    Perturbations of 1e-3 keep the third order, relative to the second, below some 1e-2 (waves of 36
    steps have phase errors of 36e-3 at most), so slopes stay within 0.05 of 2; the last remainder
    must stand clear of rounding.
    """
    x = [1e-2 * a for a in r.perturbation()]
    traces, born = r.forward(), r.born(x)
    steps = 0.5 ** np.arange(5)
    moved = [r.forward([c + h * a for c, a in zip(r.coefficients, x, strict=True)]) for h in steps]
    remainders = [norm(m - traces - h * born) for m, h in zip(moved, steps, strict=True)]
    assert remainders[-1] > 100 * 1e-15 * norm(traces), "the remainder has sunk into rounding"
    slopes = -np.diff(np.log2(remainders))
    assert np.all(np.abs(slopes - 2) < 0.05), slopes


@pytest.mark.parametrize("name", slow_but(FLOAT64, *QUICK, "elastic-products"))
def test_taylor(name: str):
    assert_taylor(rig(name))


@pytest.mark.parametrize("system", ["right-hand-1d", "second-order", slow("elastic")])
def test_both_forms_of_history_agree(system: str):
    """Products, or the fields that they are made of: the same numbers, but for the order of a few
    operations."""
    products, fields = rig(f"{system}-products"), rig(f"{system}-fields")
    kept = [
        [q.at_next for q in r.solver.kernels.keeping(r.recording).kept] for r in (products, fields)
    ]
    assert not any(kept[0])
    assert all(kept[1])
    x, y = products.perturbation(), products.residual()
    assert difference(products.born(x), fields.born(x)) < 1e-13
    assert difference(products.adjoint(y), fields.adjoint(y)) < 1e-13


def test_fields_are_overwritten_where_that_is_safe():
    """A field of second order needs two times only, unless something else reads the older one, or
    at other points."""
    assert rig("second-order-products").solver.kernels.levels == {"u": 3, "w": 2}


def test_fields_of_first_order_are_overwritten_where_that_is_safe():
    """They need one time only, unless what comes later reads the old value: the pressure does that
    of what attenuation remembers, in the forward scheme."""
    elastic = rig("elastic-float32").solver.kernels
    for levels in (elastic.levels, elastic.levels_back):
        assert set(levels.values()) == {1}
    survey = ox.Survey([[50.0, 50.0]], [[90.0, 50.0]], ox.ricker(30.0, 100, 0.001), 0.001)
    F = ox.Propagator(
        EQUATIONS["Viscoacoustic"].make(4),
        ox.Grid((21, 21), 10.0),
        survey,
        3000.0,
        boundary=ox.Sponge(6),
    )
    attenuating = F._hosts.of("float32").solver.kernels
    assert attenuating.levels == {"g": 2, "p": 2}
    assert attenuating.levels_back == {"ag": 1, "ap": 2}


def test_the_calculus_keeps_the_smaller_history():
    for name, count in (("elastic-float32", 5), ("mass-2d", 3)):  # fields, products
        r = rig(name)
        assert len(r.solver.kernels.keeping(r.recording).kept) == count


# ---------------------------------------------------------------- compositions, run as systems of
# their own

PLAIN = "right-hand-1d-products"


@functools.cache
def linear_rig() -> Rig:
    """`linearize(S)`, from the source to the tangent's receivers: Born modelling, as a function of
    b, k, eb and ek."""
    return Rig(between(linearize(rig(PLAIN).system, prefix="e"), "source", "ereceiver"))


def test_linearize_is_born_modelling():
    """The engine's Born kernel and the linearised system are two derivations of the same
    numbers."""
    plain, linear = rig(PLAIN), linear_rig()
    tangents = linear.coefficients[2:]
    assert difference(linear.coefficients[:2], plain.coefficients) == 0.0
    assert difference(linear.forward(source=plain.source), plain.born(tangents)) < 1e-13
    y = plain.residual()
    gradients, _ = linear.adjoint(y)
    assert difference(gradients[2:], plain.adjoint(y)[0]) < 1e-13


def test_linearize_with_its_own_prefix_runs():
    """The engine's names of tangents and adjoints must not clash with those that `linearize` gives
    by default."""
    linear = Rig(between(linearize(rig(PLAIN).system), "source", "dreceiver"))
    assert norm(linear.born(linear.perturbation())) > 0


def test_linearize_can_be_differentiated():
    """Second derivatives: the tangent of Born modelling, and its adjoint."""
    assert_dots(linear_rig())
    assert_taylor(linear_rig())


def test_linearize_twice():
    """The tangent of the linearised system, as a system and by the engine's Born kernel."""
    linear = linear_rig()
    twice = Rig(
        between(
            linearize(linearize(rig(PLAIN).system, prefix="e"), prefix="f"), "source", "fereceiver"
        )
    )
    assert difference(twice.coefficients[:4], linear.coefficients) == 0.0
    born = linear.born(twice.coefficients[4:])
    assert difference(twice.forward(source=linear.source, keep=False), born) < 1e-13


def test_transpose_of_linearize_runs():
    """`transpose(linearize(S))`, run forward in its own time, is the adjoint of `linearize(S)`."""
    linear = linear_rig()
    transposed = Rig(transpose(linear.system), record_every=1)
    transposed.sources, transposed.receivers = linear.receivers, linear.sources
    y = linear.residual()
    steps = np.zeros((1, 3, linear.steps))
    steps[..., 1::2] = y
    got = transposed.forward(linear.coefficients, steps[..., ::-1], keep=False)[..., ::-1]
    assert difference(got, linear.adjoint(y)[1]) < 1e-13
    born = linear.forward()
    assert abs(dot(born, y) - dot(linear.source, got)) < 1e-12 * norm(born) * norm(y)
