"""Speeds and time steps of equations that state neither: found from their symbols."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import systems
from registry import EQUATIONS
from slow import slow, slow_but
from test_stability import REFLECTING, H, loudness

import ondax as ox
from ondax.equations import stability as formulas
from ondax.stability.steps import StepCheck
from ondax.stability.uniform import uniform_medium


class Bare(ox.AbstractWaveEquation):
    """A shipped equation without its formulas, as a user would write it. Where two parameters set
    the speed, its medium for a velocity is stated in one line."""

    parameter_names: ClassVar[tuple[str, ...]] = ()
    space_order: int
    inner: ox.AbstractWaveEquation
    medium: tuple[tuple[str, float], ...] = ()

    def system(self, symbols: Any, boundary: Any) -> ox.System:
        return self.inner.system(symbols, boundary)

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return self.inner.coefficients(parameters)

    def required(self, ndim: int) -> tuple[str, ...]:
        return self.inner.required(ndim)

    def extreme(self, max_velocity: float) -> Mapping[str, float] | None:
        return {"vp": max_velocity, **dict(self.medium)} if self.medium else None


MEDIA: dict[str, dict[str, float]] = {
    "Elastic": {"vs": 900.0, "rho": 2000.0},
    "VTI": {"epsilon": 0.0, "delta": 0.0},
    "TTI": {"epsilon": 0.0, "delta": 0.0, "theta": 0.4},
    "Viscoacoustic": {"rho": 1000.0, "Q": 1e9},
}
PHI = {"phi": 0.3}


def bare(name: str, order: int, ndim: int = 2) -> Bare:
    medium = MEDIA.get(name, {}) | (PHI if name == "TTI" and ndim == 3 else {})
    return Bare(order, EQUATIONS[name].make(order), tuple(medium.items()))


# ---------------------------------------------------------------- speeds


@pytest.mark.parametrize("name", slow_but(EQUATIONS, "AcousticDensity", "VTI"))
@pytest.mark.parametrize("ndim", [2, slow(3)])
def test_speeds_are_those_of_the_formulas(name: str, ndim: int):
    """In rough models. The fastest of anisotropic media is found in 16 or 49 directions only. The
    slowest is the formula's where it is of the same kind: not for VTI and TTI, whose slow waves the
    formula leaves out, and not with attenuation, which the principal part does not know."""
    order = max(EQUATIONS[name].order, 2)
    model = EQUATIONS[name].model((7, 6, 5)[:ndim], "float32")
    slowest, fastest = map(float, bare(name, order, ndim).speeds(model))
    slow_formula, fast_formula = map(float, EQUATIONS[name].make(order).speeds(model))
    few_directions = 5e-3 if name == "TTI" else 1e-5
    assert fast_formula * (1.0 - few_directions) <= fastest <= fast_formula * (1.0 + 1e-5)
    if name in ("VTI", "TTI"):
        assert 0.0 < slowest < slow_formula
    else:
        attenuated = 1.1 if name == "Viscoacoustic" else 1.0 + 1e-5
        assert slow_formula * (1.0 - 1e-5) <= slowest <= slow_formula * attenuated


def test_speeds_of_fluids_and_contrasts():
    """Where no shear wave exists, the slowest is the other; a contrast of density from one point to
    the next is none of speed."""
    vp = jnp.full((6, 5), 1500.0).at[:, 2:].set(3000.0)
    vs = jnp.where(vp > 2000.0, 1600.0, 0.0)
    rho = jnp.where(vp > 2000.0, 2500.0, 1.2)
    slowest, fastest = jax.jit(bare("Elastic", 2).speeds)({"vp": vp, "vs": vs, "rho": rho})
    np.testing.assert_allclose([slowest, fastest], [1500.0, 3000.0], rtol=1e-5)


# ---------------------------------------------------------------- steps in uniform media


@pytest.mark.parametrize("order", [4, slow(2), slow(8), slow(16)])
@pytest.mark.parametrize("ndim", [2, slow(1), slow(3)])
@pytest.mark.parametrize("name", slow_but(EQUATIONS, "AcousticDensity", "VTI"))
def test_limits_are_those_derived_by_hand(name: str, order: int, ndim: int):
    """Within 1 %, and never above."""
    if (ndim == 1 and name in ("Elastic", "TTI")) or (order == 2 and name == "TTI"):
        pytest.skip("the equation needs more axes, or a higher order")
    spacing, velocity = (9.0, 12.0, 10.0)[:ndim], 2700.0
    equation = EQUATIONS[name].make(order)
    # The formulas of staggered schemes have room for contrasts.
    room = formulas.CONTRAST_MARGIN if equation.contrasts else 1.0
    by_hand = equation.largest_step(spacing, velocity) / room
    grid = ox.Grid((20,) * ndim, spacing)
    found = ox.stability.limit(bare(name, order, ndim), grid, velocity)
    assert 0.99 * by_hand <= found <= by_hand


class Radar(ox.AbstractWaveEquation):
    """One parameter sets the speed, as its inverse root; the other is a loss."""

    parameter_names = ("permittivity", "conductivity")
    positive_parameters = ("permittivity",)
    space_order: int = 4

    def system(self, symbols: Any, boundary: Any) -> ox.System:
        E = symbols.field("E")
        eps, sigma = symbols.coefficient("eps"), symbols.coefficient("sigma")
        update = ox.Update.of(eps * E.dt2 + sigma * E.dt - E.laplace / (4e-7 * math.pi), E)
        ports = ox.Port("source", ((E, 1.0),)), ox.Port("receiver", ((E, 1.0),))
        return ox.System(symbols, (eps, sigma), (update,), ports[:1], ports[1:])

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "eps": 8.8541878128e-12 * parameters["permittivity"],
            "sigma": parameters["conductivity"],
        }


def test_the_parameter_that_sets_the_speed_is_solved_for():
    light = 299792458.0
    medium = uniform_medium(Radar(), 2, light / 3.0)
    np.testing.assert_allclose(medium["permittivity"], 9.0, rtol=1e-8)
    assert medium["conductivity"] == 0.0
    np.testing.assert_allclose(
        ox.stability.limit(Radar(), ox.Grid((30, 30), 0.02), light / 3.0),
        ox.Acoustic(4).largest_step((0.02, 0.02), light / 3.0),
        rtol=2e-3,
    )


def test_where_more_than_one_does_the_equation_has_to_say():
    def complaint(equation: ox.AbstractWaveEquation) -> str:
        with pytest.raises(ValueError, match=r".") as refusal:
            ox.stability.limit(equation, ox.Grid((20, 20), H), 2000.0)
        return str(refusal.value)

    class Slow(Bare):
        def extreme(self, max_velocity: float) -> Mapping[str, float] | None:
            return {"vp": 0.5 * max_velocity, "epsilon": 0.0, "delta": 0.0}

    class Short(Bare):
        def extreme(self, max_velocity: float) -> Mapping[str, float] | None:
            return {"vp": max_velocity}

    told = complaint(Bare(2, ox.VTI(2)))
    assert "vp, epsilon, delta set the speed" in told
    assert "def extreme(self, max_velocity)" in told
    assert "max_velocity=model" in told
    assert "travel at 1000 m/s: give one of 2000 m/s" in complaint(Slow(2, ox.VTI(2)))
    assert "Short.extreme gives vp: give vp, epsilon, delta" in complaint(Short(2, ox.VTI(2)))


class Dispersive(ox.AbstractWaveEquation):
    """Waves whose speed grows with frequency: of a plate, or with a viscous force."""

    parameter_names = ("vp",)
    viscous: bool = False
    space_order: int = 4

    def system(self, symbols: Any, boundary: Any) -> ox.System:
        u, m = symbols.field("u"), symbols.coefficient("m")
        if self.viscous:
            past = (u - u.backward) / symbols.dt
            rhs = u.laplace + 1e-3 * past.laplace
        else:
            rhs = -u.laplace.laplace
        mass = m / symbols.dt**2
        port = ox.Port("port", ((u, 1.0),))
        update = ox.Update(u, mass, rhs + mass * (2 * u - u.backward))
        return ox.System(symbols, (m,), (update,), (port,), (port,))

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {"m": 1.0 / parameters["vp"] ** 2}


@pytest.mark.parametrize("viscous", [False, True])
def test_waves_without_a_speed_of_their_own_are_refused(viscous: bool):
    equation, grid = Dispersive(viscous=viscous), ox.Grid((20, 20), H)
    for velocity in (2000.0, jnp.full(grid.shape, 2000.0)):
        with pytest.raises(ValueError, match=r"Dispersive: .* no speed.* def speeds\(self"):
            ox.stability.limit(equation, grid, velocity)

    class Stated(Dispersive):
        def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
            return parameters["vp"].min(), parameters["vp"].max()

    assert ox.stability.limit(Stated(viscous=viscous), grid, 2000.0) > 0.0


# ---------------------------------------------------------------- against 20,000 steps


def forms() -> dict[str, tuple[Callable[[Any], ox.System], tuple[int, ...]]]:
    return {
        "mass": (systems.mass_form, (13, 12)),
        "right hand": (systems.right_hand_form, (13, 12)),
        "elastic": (systems.elastic, (13, 12)),
        "second order": (systems.second_order, (31,)),
        "measured": (systems.measured, (31,)),
    }


def stated(name: str) -> tuple[ox.AbstractWaveEquation, dict[str, jax.Array]]:
    """One of `systems` as an equation whose parameters are the coefficients, and a rough model."""
    form, shape = forms()[name]
    scheme = form(ox.Symbols(len(shape), systems.ORDER, "float64"))
    names = tuple(c.name for c in scheme.coefficients)

    class Stated(ox.AbstractWaveEquation):
        parameter_names = names
        space_order: int = systems.ORDER

        def system(self, symbols: Any, boundary: Any) -> ox.System:
            return form(symbols)

        def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
            return dict(parameters)

        def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
            if name != "second order":
                return super().speeds(parameters)
            # With viscous losses, speeds grow with frequency; these are of low ones.
            of_u = 1.0 / jnp.sqrt(parameters["m"])
            return of_u.min(), of_u.max()

    rng = np.random.default_rng(2)
    ranges = {n: systems.RANGES[n.split("_")[0]] for n in names}
    return Stated(), {n: jnp.asarray(rng.uniform(*r, shape)) for n, r in ranges.items()}


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", forms())
def test_limits_of_other_systems_hold_and_are_tight(monkeypatch: pytest.MonkeyPatch, name: str):
    """Over 20,000 steps: at 0.99 of the limit nothing grows; at 1.03 it does. Several fields,
    staggered, with losses; for none of them a step is stated."""
    equation, model = stated(name)
    shape = next(iter(model.values())).shape
    limit = ox.stability.limit(equation, ox.Grid(shape, H), model, REFLECTING)
    both_sides(monkeypatch, equation, model, limit)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("shape", [(61,), (26, 22)], ids=str)
def test_limits_of_uniform_media_hold_and_are_tight(
    monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, ...]
):
    """The same, of the step that propagators take at a velocity. A small grid does not hold the
    fastest motion of an unbounded medium: it allows up to 1 % more, as does the margin."""
    if len(shape) == 1 and name in ("Elastic", "TTI"):
        pytest.skip("the equation needs more axes")
    equation, velocity = bare(name, 4), 2000.0
    medium = uniform_medium(equation, len(shape), velocity)
    model = {n: jnp.full(shape, v) for n, v in medium.items()}
    limit = ox.stability.limit(equation, ox.Grid(shape, H), velocity)
    check = StepCheck(equation, ox.Grid(shape, H), REFLECTING, limit)
    made = {n: np.asarray(v) for n, v in equation.coefficients(model).items()}
    check(made, velocity, [])  # the step that was derived passes the check of the model
    both_sides(monkeypatch, equation, model, limit)


def both_sides(
    monkeypatch: pytest.MonkeyPatch,
    equation: ox.AbstractWaveEquation,
    model: dict[str, jax.Array],
    limit: float,
) -> None:
    early, late = loudness(equation, model, REFLECTING, 0.99 * limit)
    print(type(equation).__name__, limit, early, late)
    assert 0.0 < late <= 2.0 * early
    with monkeypatch.context() as unchecked:
        unchecked.setattr(StepCheck, "known_to_hold", lambda *_: True)
        _, beyond = loudness(equation, model, REFLECTING, 1.03 * limit)
    assert beyond > 1e3 * early
