"""A wave equation as a user writes it down: `ox.Update.of` makes of it what one would state by
hand."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from problems import difference
from slow import slow

import ondax as ox
from ondax.calculus.check import checked
from ondax.scheme.system import Flux

ORDER = 4
SPONGE, ENCLOSED = ox.Sponge(4, reflection=1e-2), ox.CPML(4)
BOUNDARIES = {
    "sponge": SPONGE,
    "layers": ENCLOSED,
    "surface": ox.Faces(SPONGE, top=ox.FreeSurface(), right=ENCLOSED),
}


class Letters:
    """Fields and coefficients of a line, half a cell off the nodes or at them."""

    def __init__(self) -> None:
        self.symbols = s = ox.Symbols(1, ORDER, "float64")
        (z,) = s.dimensions
        self.dt, self.z = s.dt, z
        self.u, self.w = s.field("u", image=ox.ODD), s.field("w")
        self.p, self.r = s.field("p", time_order=1, image=ox.ODD), s.field("r", time_order=1)
        self.v = s.field("v", time_order=1, staggered=z, image=ox.EVEN)
        self.m, self.k = s.coefficient("m"), s.coefficient("k")
        self.b = s.coefficient("b", staggered=z)

    def system(self, *updates: ox.Update) -> ox.System:
        flux = Flux({"z": self.u.dz}, lambda axis, flux: {self.u: flux.dz})
        return ox.System(self.symbols, (self.m, self.k, self.b), updates, (), (), flux)


def assert_same(found: ox.Update, mass: Any, rhs: Any) -> None:
    """As expressions, however they are written."""
    assert sympy.expand(found.mass - mass) == 0
    assert sympy.expand(found.rhs - rhs) == 0


# ---------------------------------------------------------------- one equation


def second_order(s: Letters) -> dict[str, tuple[Any, Any, Any]]:
    """Equations of u, each with the factors of u_tt and of u_t, and with the rest."""
    u, m, k, rest = s.u, s.m, s.k, s.u.laplace
    return {
        "plain": (m * u.dt2 - rest, m, 0),
        "lossy": (m * u.dt2 + k * u.dt - rest, m, k),
        "bracketed": (m * (u.dt2 + k * u.dt) - rest, m, m * k),
        "inside": ((m * u).dt2 + (k * u.dt + m * u).dt - rest, m + k, m),
        "twice": (2 * u.dt.dt + m * u.dt2 - rest, 2 + m, 0),
    }


@pytest.mark.parametrize("case", second_order(Letters()))
def test_second_order_in_time(case: str):
    """Centred differences, solved for the next value."""
    s = Letters()
    expression, inertia, loss = second_order(s)[case]
    u, dt = s.u, s.dt
    mass = inertia / dt**2 + loss / (2 * dt)
    rhs = u.laplace + inertia * (2 * u - u.backward) / dt**2 + loss * u.backward / (2 * dt)
    assert_same(ox.Update.of(expression, u), mass, rhs)


def test_first_order_in_time():
    """From one step to the next; the field itself is averaged, which is centred."""
    s = Letters()
    found = ox.Update.of(s.b * s.v.dt + 3 * s.v - s.p.dz, s.v)
    assert_same(found, s.b / s.dt + sympy.S(3) / 2, s.p.dz + (s.b / s.dt - sympy.S(3) / 2) * s.v)


def test_an_equation_with_two_sides():
    s = Letters()
    assert ox.Update.of(sympy.Eq(s.m * s.u.dt2, s.u.laplace), s.u) == ox.Update.of(
        s.m * s.u.dt2 - s.u.laplace, s.u
    )


REFUSED = {
    "no derivative in time": (lambda s: s.u.laplace, "u", "has no derivative of u in time"),
    "third": (lambda s: s.u.dt2.dt, "u", "order 3 in time"),
    "first of a second": (lambda s: s.u.dt, "u", r"symbols\.field\('u', time_order=1\)"),
    "second of a first": (lambda s: s.p.dt.dt, "p", r"symbols\.field\('p', time_order=2\)"),
    "negative": (lambda s: s.u.laplace - s.m * s.u.dt2, "u", "multiply it by -1"),
    "implicit": (
        lambda s: s.u.dt2 - s.k * s.u.dt.laplace,
        "u",
        r"\(u - u.backward\) / symbols\.dt",
    ),
    "diffusion": (lambda s: s.p.dt - s.p.laplace, "p", "would be implicit"),
    "of another": (lambda s: s.u.dt2 - s.p.dt, "u", "derivative of p in time"),
    "at the next step": (lambda s: s.u.dt2 - s.u.forward, "u", "write u, without a time"),
    "at the step before": (lambda s: s.u.dt2 - s.u.backward.dz, "u", "write u, without a time"),
    "of a first at the next step": (
        lambda s: s.p.dt + 3 * s.p.forward,
        "p",
        "write p, without a time",
    ),
    "shifted": (lambda s: s.u.forward.dt2, "u", "differentiates"),
    "one-sided": (lambda s: s.u.dt2 + s.k * s.u.dtl, "u", "chooses how"),
    "square": (lambda s: s.u.dt2 + s.u.dt**2, "u", "is not linear"),
    "product": (lambda s: s.w * s.u.dt2, "u", "is not linear"),
    "square of a first": (lambda s: s.p.dt + s.p**2, "p", "is not linear in p"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_discretised_says_so(case: str):
    expression, field, complaint = REFUSED[case]
    s = Letters()
    with pytest.raises(ox.EquationError, match=complaint):
        ox.Update.of(expression(s), getattr(s, field))


@pytest.mark.parametrize(
    ("stray", "complaint"),
    [
        (lambda s: sympy.I * s.k, "holds I, which is no finite real number"),
        (lambda s: sympy.oo * s.k, "holds oo"),
        (lambda s: s.z * s.k, "holds the symbol z, .* make a coefficient"),
        (lambda s: s.symbols.grid.time_dim * s.k, "holds the symbol time"),
        (lambda s: sympy.Symbol("alpha") * s.k, "holds the symbol alpha, .* give a number"),
    ],
)
def test_what_kernels_do_not_know_is_refused(stray: Callable[[Any], Any], complaint: str):
    s = Letters()
    update = ox.Update.of(s.m * s.u.dt2 + stray(s) * s.u.dt - s.u.laplace, s.u)
    with pytest.raises(ox.EquationError, match=f"the update of u {complaint}"):
        checked(s.system(update))


@pytest.mark.parametrize("name", ["dt", "float", "for", "x", "time", "two words", "2nd", "ß"])
def test_names_that_kernels_cannot_have_are_refused(name: str):
    symbols = ox.Symbols(2, ORDER)
    for make in (symbols.field, symbols.coefficient):
        with pytest.raises(ValueError, match=f"the name '{name}'"):
            make(name)


def test_exchanged_arguments():
    s = Letters()
    with pytest.raises(TypeError, match=r"Update\.of\(expression, field\)"):
        ox.Update.of(s.u, s.u.dt2)


# ---------------------------------------------------------------- when fields are read


def reads(system: ox.System, field: str, of: str) -> set[str]:
    """The accesses of one field in the update of another."""
    (update,) = (u for u in system.updates if u.field.name == field)
    return {str(a) for a in update.rhs.atoms(type(update.field)) if a.function.name == of}


def test_velocity_and_pressure():
    """What an earlier update has advanced is read at the next step, whether one says so or not."""
    for written in ("p.dz", "forward"):
        s = Letters()
        divergence = s.v.dz if written == "p.dz" else s.v.forward.dz
        system = s.system(
            ox.Update.of(s.b * s.v.dt + s.p.dz, s.v), ox.Update.of(s.m * s.p.dt + divergence, s.p)
        )
        assert reads(system, "v", "p") == {str(s.p)}
        assert reads(system, "p", "v") == {str(s.v.forward)}
        again = s.system(*system.updates)
        assert again.describe() == system.describe()


def test_memories_are_averaged():
    """A memory variable that holds when the pressure does acts by its mean over a step; so does one
    that holds half a step off a field of second order."""
    s = Letters()
    strain = s.v.dz
    system = s.system(
        ox.Update.of(s.b * s.v.dt + s.p.dz, s.v),
        ox.Update.of(s.r.dt + s.k * (s.r - strain), s.r),
        ox.Update.of(s.m * s.p.dt + strain + s.r, s.p),
    )
    assert reads(system, "r", "v") == {str(s.v.forward)}
    assert reads(system, "p", "r") == {str(s.r), str(s.r.forward)}
    s = Letters()
    system = s.system(
        ox.Update.of(s.r.dt + s.k * (s.r - s.u.laplace), s.r),
        ox.Update.of(s.m * s.u.dt2 - s.u.laplace + s.r, s.u),
    )
    assert reads(system, "u", "r") == {str(s.r), str(s.r.forward)}
    s = Letters()
    system = s.system(
        ox.Update.of(s.m * s.u.dt2 - s.u.laplace + s.r, s.u),
        ox.Update.of(s.r.dt + s.k * (s.r - s.u.laplace), s.r),
    )
    assert reads(system, "u", "r") == {str(s.r)}
    assert reads(system, "r", "u") == {str(s.u), str(s.u.forward)}


def test_what_is_not_centred_is_refused():
    """A memory that is updated too late, and a time that is written wrongly."""
    s = Letters()
    velocity = ox.Update.of(s.b * s.v.dt + s.p.dz, s.v)
    pressure = ox.Update.of(s.m * s.p.dt + s.v.dz + s.r, s.p)
    memory = ox.Update.of(s.r.dt + s.k * (s.r - s.v.dz), s.r)
    with pytest.raises(
        ox.EquationError, match=r"of \w is not centred in time.*earlier in the step"
    ):
        s.system(velocity, pressure, memory)
    mean = ox.Update.of(s.m * s.p.dt + (s.v.forward + s.v).dz / 2, s.p)
    with pytest.raises(ox.EquationError, match=r"of p is not centred in time: .*of v holds"):
        s.system(velocity, mean)


@pytest.mark.parametrize(
    "of_velocity",
    [
        # The middle of the step lies between the times of the terms, but at none of them.
        lambda v: v.forward.dz + v.dz2,
        lambda v: 2 * v.forward.dz + v.dz,
        lambda v: (3 * v.forward + v).dz / 4,
        lambda v: v.forward.dz + v,
    ],
)
def test_every_term_is_centred(of_velocity: Callable[[Any], Any]):
    s = Letters()
    velocity = ox.Update.of(s.b * s.v.dt + s.p.dz, s.v)
    with pytest.raises(ox.EquationError, match=r"of p is not centred in time: .*of v holds"):
        s.system(velocity, ox.Update.of(s.m * s.p.dt + of_velocity(s.v), s.p))


@pytest.mark.parametrize(
    "of_memory",
    [
        lambda r, dt: (r.forward + r) / 2,
        lambda r, dt: (r.forward + r).dz / 2 + (r.forward - r) / dt,
        lambda r, dt: (1 / dt + 3) * r.forward - (1 / dt - 3) * r,
    ],
)
def test_means_and_differences_are_centred(of_memory: Callable[[Any, Any], Any]):
    s = Letters()
    memory = ox.Update.of(s.r.dt + s.k * (s.r - s.v.dz), s.r)
    pressure = ox.Update.of(s.m * s.p.dt + s.v.dz + of_memory(s.r, s.symbols.dt), s.p)
    system = s.system(ox.Update.of(s.b * s.v.dt + s.p.dz, s.v), memory, pressure)
    assert reads(system, "p", "r") == {str(s.r), str(s.r.forward)}


def test_ports_act_when_forces_and_fields_hold():
    """Of velocity and pressure, the step ends with the pressure; of a field of second order and its
    memory, with the field."""
    s = Letters()

    def times(*updates: ox.Update, of: Sequence[Any]) -> list[tuple[float, float]]:
        ports = tuple(ox.Port(f.name, ((f, 1.0),)) for f in of)
        made = replace(s.system(*updates), inputs=ports, outputs=ports)
        return [(i.time, o.time) for i, o in zip(made.inputs, made.outputs, strict=True)]

    v, p, u, r = s.v, s.p, s.u, s.r
    velocity = ox.Update.of(s.b * v.dt + p.dz, v)
    pressure = ox.Update.of(s.m * p.dt + v.dz, p)
    assert times(velocity, pressure, of=(v, p)) == [(0.0, -0.5), (0.5, 0.0)]
    assert times(pressure, velocity, of=(v, p)) == [(0.5, 0.0), (0.0, -0.5)]
    memory = ox.Update.of(r.dt + s.k * (r - u.laplace), r)
    of_u = ox.Update.of(s.m * u.dt2 - u.laplace + r, u)
    assert times(memory, of_u, of=(u, r)) == [(0.0, 0.0), (0.0, -0.5)]
    by_hand = ox.Update(p, s.m, s.m * p - v.forward.dz)
    assert times(velocity, by_hand, of=(p,)) == [(0.0, 0.0)]
    mixed = ox.Port("both", ((v, 1.0), (p, 1.0)))
    with pytest.raises(ox.EquationError, match=r"port both feeds fields that hold at different"):
        replace(s.system(velocity, pressure), inputs=(mixed,))
    stated = ox.Port("both", ((v, 1.0), (p, 1.0)), time=0.25)
    assert replace(s.system(velocity, pressure), inputs=(stated,)).inputs[0].time == 0.25


# ---------------------------------------------------------------- damping


@pytest.mark.parametrize("boundary", [*BOUNDARIES.values(), ox.JointPML(4)], ids=str)
def test_boundaries_add_their_damping(boundary: ox.AbstractBoundary):
    """To the letter what `schemes` makes, whoever states the damping, and once only."""

    def described(way: str) -> str:
        s = Letters()
        u, v, p = s.u, s.v, s.p
        damping = [boundary.damping(s.symbols, f) for f in (u, v, p)]
        forces = u.laplace, p.dz, s.k * v.forward.dz
        if way == "schemes":
            updates = (
                ox.schemes.second_order_in_time(s.symbols, boundary, u, s.m, forces[0]),
                ox.schemes.first_order_in_time(s.symbols, boundary, v, s.b, forces[1]),
                ox.schemes.first_order_in_time(s.symbols, boundary, p, 1, forces[2]),
            )
        else:
            updates = (
                ox.Update.of(s.m * u.dt2 - forces[0], u),
                ox.Update.of(s.b * v.dt - forces[1], v),
                ox.Update.of(p.dt - forces[2], p),
            )
        system = s.system(*updates)
        if way == "checked before":
            system = checked(system)
        damped = boundary.surround(system)
        assert not any(u.pde for u in damped.updates)
        assert (damping[0] != 0) == (boundary is not ENCLOSED)
        return checked(damped).describe()

    assert described("of") == described("schemes") == described("checked before")


def test_damping_that_is_stated_is_not_added():
    s = Letters()
    gamma = SPONGE.damping(s.symbols, s.u)
    stated = s.system(ox.Update.of(s.m * (s.u.dt2 + gamma * s.u.dt) - s.u.laplace, s.u))
    left = s.system(ox.Update.of(s.m * s.u.dt2 - s.u.laplace, s.u))
    (one,), (other,) = (SPONGE.surround(system).updates for system in (stated, left))
    assert sympy.expand(one.mass - other.mass) == 0
    assert sympy.expand(one.rhs - other.rhs) == 0
    assert one.mass.has(gamma)


# ---------------------------------------------------------------- whole equations


class Base(ox.AbstractWaveEquation):
    """Two fields, two losses: u of second order with a loss and a restoring force, driven by a
    memory g of first order that relaxes to the curvature of u."""

    parameter_names = ("vp", "loss", "strength", "rate")
    stretchable = True
    space_order: int = ORDER

    def coefficients(self, parameters: Any) -> dict[str, Any]:
        vp = parameters["vp"]
        return {"m": 1.0 / vp**2, **{n: parameters[n] for n in ("loss", "strength", "rate")}}

    def speeds(self, parameters: Any) -> tuple[Any, Any]:
        return parameters["vp"].min(), parameters["vp"].max()

    def largest_step(self, spacing: Any, max_velocity: float) -> float:
        return 0.9 * ox.Acoustic(self.space_order).largest_step(spacing, max_velocity)

    def made(self, symbols: Any, *updates: Any) -> ox.System:
        m, *others = (symbols.coefficient(n) for n in ("m", "loss", "strength", "rate"))
        u, g = symbols.field("u", image=ox.ODD), symbols.field("g", time_order=1, image=ox.ODD)
        return ox.System(
            symbols,
            (m, *others),
            self.updates(symbols, u, g, m, *others),
            (ox.Port("source", ((u, 1.0),)),),
            (ox.Port("receiver", ((u, 1.0), (g, 0.2)), time=0.0),),
        )


class Literal(Base):
    def system(self, symbols: Any, boundary: Any) -> ox.System:
        return self.made(symbols)

    def updates(self, symbols: Any, u: Any, g: Any, m: Any, loss: Any, strength: Any, rate: Any):
        return (
            ox.Update.of(g.dt + rate * (g - u.laplace), g),
            ox.Update.of(m * u.dt2 + loss * u.dt + strength * g - u.laplace, u),
        )


class ByHand(Base):
    time_stepping = ox.LEAPFROG
    boundary: ox.AbstractBoundary = SPONGE

    def system(self, symbols: Any, boundary: Any) -> ox.System:
        self = ByHand(boundary=boundary)
        return self.made(symbols)

    def updates(self, symbols: Any, u: Any, g: Any, m: Any, loss: Any, strength: Any, rate: Any):
        dt = symbols.dt
        gamma = self.boundary.damping(symbols, u)
        half = (self.boundary.damping(symbols, g) + rate) / 2
        lost = (m * gamma + loss) / (2 * dt)
        forces = u.laplace - strength * (g.forward + g) / 2
        memory = ox.Update(g, 1 / dt + half, (1 / dt - half) * g + rate * u.laplace)
        rhs = forces + 2 * m / dt**2 * u - (m / dt**2 - lost) * u.backward
        return memory, ox.Update(u, m / dt**2 + lost, rhs)


SHAPE, H = (22, 20), 10.0
RANGES = {"vp": (1800.0, 2400.0), "loss": (0.0, 2e-5), "strength": (0.0, 0.1), "rate": (50.0, 90.0)}


def shot(equation: ox.AbstractWaveEquation, boundary: str, dt: float = 2e-3) -> ox.Propagator:
    survey = ox.Survey(
        [[55.0, 62.0]], [[123.0, 71.0], [205.0, 21.0], [40.0, 150.0]], np.hanning(60), dt
    )
    options: dict[str, Any] = {"min_points_per_wavelength": 0.0}
    return ox.Propagator(
        equation, ox.Grid(SHAPE, H), survey, 2600.0, boundary=BOUNDARIES[boundary], **options
    )


def medium(seed: int = 3, dtype: str = "float64") -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.uniform(*ends, SHAPE), dtype) for n, ends in RANGES.items()}


@pytest.mark.usefixtures("x64", "quick_compilers")
@pytest.mark.parametrize("boundary", ["sponge", slow("layers"), slow("surface")])
def test_literal_and_explicit_form_agree(boundary: str):
    """To rounding, 60 steps of which a leapfrog sums to 60^2 / 2 times 1e-16 at worst."""
    F, G = (shot(equation, boundary) for equation in (Literal(), ByHand()))
    assert F.time_dispersion == "corrected"
    assert difference(F(medium()), G(medium())) < 1e-12


@pytest.mark.usefixtures("x64", "quick_compilers")
@pytest.mark.parametrize("boundary", ["sponge", slow("surface")])
def test_derived_operators_are_exact(boundary: str):
    """Dot and Taylor tests in all parameters at once, with damping, losses and two fields."""
    F, model = shot(Literal(), boundary), medium()
    rng = np.random.default_rng(5)
    change = {n: 0.05 * (v - np.mean(ends)) for (n, v), ends in zip(model.items(), RANGES.values())}
    d, J = F(model), F.jacobian(model)
    residual = jnp.asarray(rng.normal(size=d.shape))
    assert ox.dot_test(J.mv, J.T.mv, change, residual) < 1e-12
    first = J.mv(change)
    errors = []
    for n in range(4):
        moved = F(jax.tree.map(lambda m, c, h=0.5**n: m + h * c, model, change))
        errors.append(float(jnp.linalg.norm(moved - d - 0.5**n * first)))
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((slopes > 1.95) & (slopes < 2.05)), slopes


# ---------------------------------------------------------------- time dispersion declares itself


def test_only_equations_of_centred_updates_declare_themselves():
    class Half(Literal):
        def updates(
            self, symbols: Any, u: Any, g: Any, m: Any, loss: Any, strength: Any, rate: Any
        ):
            _, wave = super().updates(symbols, u, g, m, loss, strength, rate)
            return ox.Update(g, 1 / symbols.dt, g / symbols.dt + rate * u), wave

    class Raw(Literal):
        time_stepping = ox.TimeStepping(lambda angles: angles, cut=3.0)

    with pytest.warns(UserWarning, match=r"Half does not declare.*ox\.Update\.of"):
        assert shot(Half(), "sponge").time_dispersion == "raw"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F = shot(Raw(), "sponge")
    assert F._problem.dispersion.stepping is Raw.time_stepping
    assert shot(Literal(), "sponge")._problem.dispersion.stepping is ox.LEAPFROG
