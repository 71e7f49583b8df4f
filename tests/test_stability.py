"""The largest stable step is that of the model at hand: found from the scheme's symbols, tight,
checked at the call."""

import re
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import EQUATIONS
from slow import slow
from sympy import Rational
from sympy.calculus.finite_diff import finite_diff_weights

import ondax as ox
from ondax.equations import stability as formulas
from ondax.stability import step_limit
from ondax.stability.stencils import differences, taps
from ondax.stability.step_limit import Motion
from ondax.stability.steps import Pace, StepCheck

H = 10.0
REFLECTING = ox.Sponge(width=0)


# ---------------------------------------------------------------- against matrices


def staggered(n: int, order: int) -> np.ndarray:
    """The first difference from nodes to the half points beyond, of what is zero outside the grid,
    times H."""
    half = order // 2
    zero: Any = 0
    weights = finite_diff_weights(1, [Rational(2 * k + 1, 2) for k in range(-half, half)], zero)[1][
        -1
    ]
    matrix = np.zeros((n, n))
    for k, w in zip(range(1 - half, half + 1), weights, strict=True):
        matrix += float(w) * np.eye(n, k=k)
    return matrix


def density_eigenvalue(vp: np.ndarray, rho: np.ndarray, order: int) -> float:
    """The largest eigenvalue of `-(rho vp^2) div((1/rho) grad)` on a 2-D grid that reflects, 1/s^2,
    from its matrix."""
    nx, nz = rho.shape
    gradients = np.kron(staggered(nx, order), np.eye(nz)), np.kron(np.eye(nx), staggered(nz, order))
    stiffness = np.zeros((nx * nz, nx * nz))
    for axis, gradient in enumerate(gradients):
        after = np.concatenate([rho, rho.take([-1], axis)], axis).take(
            range(1, rho.shape[axis] + 1), axis
        )
        stiffness += gradient.T @ ((2.0 / (rho + after)).reshape(-1, 1) * gradient)
    root = np.sqrt(rho * vp**2).reshape(-1, 1)
    return float(np.linalg.eigvalsh(root * stiffness * root.T)[-1]) / H**2


def rough(
    shape: tuple[int, int], seed: int, **ranges: tuple[float, float]
) -> dict[str, np.ndarray]:
    """Parameters that jump from cell to cell between the ends of their ranges."""
    rng = np.random.default_rng(seed)
    return {name: np.where(rng.random(shape) < 0.5, *ends) for name, ends in ranges.items()}


def air_in_rock(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    rho = np.full(shape, 2000.0)
    rho[shape[0] // 2 - 2 : shape[0] // 2 + 2, shape[1] // 2 - 2 : shape[1] // 2 + 2] = 1.2
    return {"vp": np.full(shape, 2000.0), "rho": rho}


@pytest.mark.parametrize("order", [slow(2), slow(4), 8])
def test_limit_is_the_matrix_own(order: int):
    """`limit` is a step that holds, 1 % below the largest at most: 2 / sqrt(the eigenvalue)."""
    shape = (22, 20)
    light_over_heavy = air_in_rock(shape)
    light_over_heavy["rho"] = np.where(np.arange(20) < 8, 1.2, 2000.0) * np.ones(shape)
    models = {
        "homogeneous": {"vp": np.full(shape, 1500.0), "rho": np.full(shape, 1000.0)},
        "light over heavy": light_over_heavy,
        "air in rock": air_in_rock(shape),
        "rough": rough(shape, 5, vp=(300.0, 6000.0), rho=(1.2, 5000.0)),
    }
    for name, model in models.items():
        true = 2.0 / np.sqrt(density_eigenvalue(model["vp"], model["rho"], order))
        given = {n: jnp.asarray(v, "float32") for n, v in model.items()}
        found = ox.stability.limit(ox.AcousticDensity(order), ox.Grid(shape, H), given, REFLECTING)
        print(order, name, found / true)
        assert 0.99 * true < found < (1.0 + 1e-5) * true  # the latter for float32


@pytest.mark.slow
@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_limit_of_homogeneous_media(name: str, ndim: int):
    """Without contrasts it is von Neumann's limit, for which the model needs to be large: here 48
    points of continued edges are. The formulas of staggered schemes keep 2 % for contrasts; those
    of transverse isotropy are for the worst direction."""
    if ndim == 1 and name in ("Elastic", "TTI"):
        pytest.skip("2-D and 3-D only")
    equation, grid = EQUATIONS[name].make(4), ox.Grid((8,) * ndim, (8.0, 10.0, 12.0)[:ndim])
    model = {n: jnp.full(grid.shape, np.mean(ends)) for n, ends in EQUATIONS[name].ranges.items()}
    model |= (
        {n: jnp.full(grid.shape, np.mean(ends)) for n, ends in EQUATIONS[name].in_3d}
        if ndim == 3
        else {}
    )
    found = ox.stability.limit(equation, grid, model)
    fastest = float(equation.speeds(model)[1])
    if name in ("VTI", "TTI"):
        assert found >= 0.99 * equation.largest_step(grid.spacing, fastest)
        return
    margin = formulas.CONTRAST_MARGIN if equation.contrasts else 1.0
    np.testing.assert_allclose(
        found, equation.largest_step(grid.spacing, fastest) / margin, rtol=0.01
    )


def test_differences_are_weighted_sums():
    """Against sums point by point, in one block and in many, with and without mirror images."""

    def direct(values: np.ndarray, axis: int, weights: Any, mirror: Any) -> np.ndarray:
        rows = np.moveaxis(values, axis, 0)
        out = np.zeros_like(rows)
        for i in range(len(rows)):
            for offset, weight in weights:
                at, sign = i + offset, 1
                if at < 0 and mirror is not None:
                    sign, at = mirror[0], -at - int(mirror[1])
                if 0 <= at < len(rows):
                    out[i] += sign * weight * rows[at]
        return np.moveaxis(out, 0, axis)

    rng = np.random.default_rng(0)
    kinds = [
        taps(1, 8, False, True),
        taps(1, 4, True, False),
        taps(2, 8, False, False),
        taps(1, 8, False, False),
    ]
    for shape in ((7,), (13, 9), (3, 5, 60), (2, 250, 200)):
        values = rng.standard_normal(shape)
        for axis in range(len(shape)):
            for weights in kinds:
                for mirror in (None, (1, False), (-1, True)):
                    made = differences(values, axis, weights, mirror)
                    np.testing.assert_allclose(
                        made, direct(values, axis, weights, mirror), rtol=0, atol=1e-12
                    )


# ---------------------------------------------------------------- what the default step holds for


def searched(
    order: int, contrast: float, seed: int, period: int = 24, trials: int = 4
) -> np.ndarray:
    """Densities along a line, of two values, that make the largest eigenvalue as large as a greedy
    search can."""
    rng = np.random.default_rng(seed)
    half = order // 2
    zero: Any = 0
    weights = finite_diff_weights(1, [Rational(2 * k + 1, 2) for k in range(-half, half)], zero)[1][
        -1
    ]
    gradient = sum(
        float(w) * np.roll(np.eye(period), k, 1)
        for k, w in zip(range(1 - half, half + 1), weights, strict=True)
    )

    def eigenvalue(rho: np.ndarray) -> float:
        flux = np.sqrt(2.0 / (rho + np.roll(rho, -1)))[:, None] * gradient * np.sqrt(rho)
        return float(np.linalg.norm(flux, 2)) ** 2

    best, worst = 0.0, np.ones(period)
    for _ in range(trials):
        rho = np.where(rng.random(period) < rng.uniform(0.1, 0.9), contrast, 1.0)
        reached, moved = eigenvalue(rho), True
        while moved:
            moved = False
            for i in rng.permutation(period):
                other = np.where(np.arange(period) == i, contrast + 1.0 - rho, rho)
                if (value := eigenvalue(other)) > reached + 1e-9:
                    rho, reached, moved = other, value, True
        if reached > best:
            best, worst = reached, rho
    return worst


@pytest.mark.parametrize("order", [2, 4, 8, 16])
@pytest.mark.slow
def test_contrasts_run_at_the_default(order: int):
    """Contrasts of 5 in density (and, which changes nothing, of any size in velocity), where a
    search finds them worst.

    In more dimensions nothing is worse: the stiffness is a sum over axes, each of lines that are as
    here at worst."""
    line = np.tile(searched(order, 5.0, order), 2)
    rho = 1000.0 * np.broadcast_to(line[:, None], (48, 48))
    vp = np.full(rho.shape, 4500.0)
    vp[:, :10] = 1500.0
    for equation, more in (
        (ox.AcousticDensity(order), {}),
        (ox.Viscoacoustic(order, frequency=15.0), {"Q": np.full(rho.shape, 1e6)}),
        (ox.Elastic(order), {"vs": np.zeros(rho.shape)}),
        (ox.Elastic(order), {"vs": 0.55 * vp}),
    ):
        model = {n: jnp.asarray(v, "float32") for n, v in {"vp": vp, "rho": rho, **more}.items()}
        fastest = float(equation.speeds(model)[1])
        found = ox.stability.limit(equation, ox.Grid(rho.shape, H), model, REFLECTING)
        print(type(equation).__name__, order, equation.largest_step((H, H), fastest) / found)
        assert equation.largest_step((H, H), fastest) < found


@pytest.mark.slow
@pytest.mark.parametrize("equation", [ox.VTI(2), ox.VTI(8), ox.TTI(4), ox.TTI(8)], ids=str)
def test_transverse_isotropy_needs_no_margin(equation: ox.AbstractWaveEquation):
    """Whatever the model, the formula holds."""
    shape = (16, 16)
    for seed in range(3):
        model = rough(
            shape,
            seed,
            vp=(1500.0, 4500.0),
            delta=(-0.45, 0.0),
            epsilon=(0.0, 0.0),
            theta=(0.0, np.pi / 2),
        )
        model = {n: jnp.asarray(model[n]) for n in equation.parameter_names}
        fastest = float(equation.speeds(model)[1])
        found = ox.stability.limit(equation, ox.Grid(shape, H), model, REFLECTING)
        assert equation.largest_step((H, H), fastest) < found


# ---------------------------------------------------------------- at the call

SHAPE = (22, 20)


@cache
def propagator() -> ox.Propagator:
    dt = 2.2e-3  # 0.96 of what the formula allows
    survey = ox.Survey([[50.0, 60.0]], [[120.0, 70.0], [160.0, 20.0]], np.hanning(64), dt)
    options: dict[str, Any] = {"min_points_per_wavelength": 0.0, "boundary": ox.Sponge(4)}
    return ox.Propagator(ox.AcousticDensity(4), ox.Grid(SHAPE, H), survey, 2600.0, **options)


def model(contrast: float = 1.0) -> dict[str, jax.Array]:
    rho = jnp.full(SHAPE, 2000.0).at[:, :8].set(2000.0 / contrast)
    return {"vp": jnp.full(SHAPE, 2600.0), "rho": rho}


def test_a_step_that_is_too_long_is_refused():
    """By name, place and the largest step that holds; inside jit and vmap, too; not another
    model."""
    F, light = propagator(), model(1500.0)
    limit = ox.stability.limit(F.equation, F.grid, light, F.boundary)
    assert limit < F.dt < F.equation.largest_step(F.grid.spacing, 2600.0)
    complaint = (
        r"(?s)step of 0\.0022 s is unstable.*\(x, z\) = \(.*, 80\) m: "
        r"rho varies by a factor of 1\.5e\+03; "
        r"the largest step that holds is ([\d.]+) s.*max_velocity=model"
    )
    with pytest.raises(ValueError, match=complaint) as refusal:
        F(light)
    found = re.search(complaint, str(refusal.value))
    assert found is not None
    np.testing.assert_allclose(float(found[1]), limit, rtol=2e-3)
    for call in (
        F,
        jax.jit(F),
        lambda m: F.jacobian(m).mv(m),
        lambda m: F.adjoint(m, jnp.ones((1, 2, 64))),
    ):
        with pytest.raises(Exception, match=complaint):
            jax.block_until_ready(call(light))
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), model(), light)
    with pytest.raises(Exception, match=complaint):
        jax.block_until_ready(jax.vmap(F)(stacked))
    assert np.all(np.isfinite(F(model())))


def test_the_step_of_a_model():
    """`max_velocity=model` takes it, passes the model itself, and keeps it for other surveys."""
    light = model(1500.0)
    limit = ox.stability.limit(ox.AcousticDensity(4), ox.Grid(SHAPE, H), light, ox.Sponge(4))
    dt = 4.0 * limit * (1.0 - 1e-9)
    survey = ox.Survey([[50.0, 60.0]], [[120.0, 70.0]], np.hanning(32), dt)
    options: dict[str, Any] = {"min_points_per_wavelength": 0.0, "boundary": ox.Sponge(4)}
    F = ox.Propagator(ox.AcousticDensity(4), ox.Grid(SHAPE, H), survey, light, **options)
    assert (F.max_velocity, F.largest_step, F.steps_per_sample) == (2600.0, limit, 4)
    other = F.with_survey(survey)
    assert (other.max_velocity, other.largest_step, other.dt) == (
        F.max_velocity,
        F.largest_step,
        F.dt,
    )
    assert np.all(np.isfinite(F(light)))
    with pytest.raises(ValueError, match=r"fastest wave speed, 3000 m/s"):
        F({**light, "vp": light["vp"] + 400.0})
    with pytest.raises(ValueError, match=r"not known yet"):
        jax.jit(
            lambda m: ox.Propagator(ox.AcousticDensity(4), ox.Grid(SHAPE, H), survey, m, **options)(
                m
            )
        )(light)
    with pytest.raises(ValueError, match=r"least rho is -1"):
        ox.stability.limit(
            ox.AcousticDensity(4),
            ox.Grid(SHAPE, H),
            {**light, "rho": light["rho"].at[3, 4].set(-1.0)},
        )
    with pytest.raises(ValueError, match=r"rho has shape"):
        ox.stability.limit(
            ox.AcousticDensity(4), ox.Grid(SHAPE, H), {**light, "rho": light["rho"][1:]}
        )


def test_ordinary_models_are_not_judged(monkeypatch: pytest.MonkeyPatch):
    """Where the formula is known to hold nothing is computed; elsewhere once for each model."""
    judged: list[float] = []
    judge = Motion.judge

    def counted(self: Motion, *args: Any) -> step_limit.Judgement:
        judged.append(1.0)
        return judge(self, *args)

    monkeypatch.setattr(Motion, "judge", counted)
    F = propagator()
    for contrast in (1.0, 4.9):
        F(model(contrast))
    assert judged == []
    for _ in range(2):
        F(model(6.0))
        jax.jit(F)(model(6.0))
    assert len(judged) == 1
    F(model(7.0))
    assert len(judged) == 2


# ---------------------------------------------------------------- a user's equation


class Lossy(ox.AbstractWaveEquation):
    """`(1/vp^2) u_tt + loss u_t = laplace(u) + stiffness u + source`, without a formula for its
    step."""

    parameter_names = ("vp", "loss", "stiffness")
    time_stepping = ox.LEAPFROG
    space_order: int = 4

    def system(self, symbols: Any, boundary: Any) -> ox.System:
        dt, u = symbols.dt, symbols.field("u")
        m, s, k = (symbols.coefficient(n) for n in ("m", "s", "k"))
        after, before = m / dt**2 + s / (2 * dt), m / dt**2 - s / (2 * dt)
        update = ox.Update(
            u, mass=after, rhs=u.laplace + (2 * m / dt**2 - k) * u - before * u.backward
        )
        return ox.System(
            symbols,
            (m, s, k),
            (update,),
            (ox.Port("source", ((u, 1.0),)),),
            (ox.Port("receiver", ((u, 1.0),)),),
        )

    def coefficients(self, parameters: Any) -> dict[str, Any]:
        return {
            "m": 1.0 / parameters["vp"] ** 2,
            "s": parameters["loss"],
            "k": parameters["stiffness"],
        }

    def speeds(self, parameters: Any) -> tuple[Any, Any]:
        return parameters["vp"].min(), parameters["vp"].max()


def test_an_equation_without_a_formula():
    """Its limit is that of the symbols: the formula's, whatever the loss; with a restoring force,
    shorter. Until a model is known, it is that of a uniform medium."""
    grid, order = ox.Grid(SHAPE, H), 4
    survey = ox.Survey([[50.0, 60.0]], [[120.0, 70.0]], np.hanning(32), 1e-3)
    full = {
        n: jnp.full(SHAPE, v) for n, v in {"vp": 2000.0, "loss": 1e-4, "stiffness": 0.0}.items()
    }
    formula = ox.Acoustic(order).largest_step(grid.spacing, 2000.0)
    for fastest in (2000.0, full):
        F = ox.Propagator(
            Lossy(), grid, survey, fastest, boundary=ox.Sponge(4), min_points_per_wavelength=0.0
        )
        np.testing.assert_allclose(F.largest_step, formula, rtol=0.01)
    # A restoring force of its own: m u_tt = (laplace - k) u, so that the eigenvalues of the
    # Laplacian and k add.
    stiff = {**full, "stiffness": jnp.full(SHAPE, 0.03)}
    expected = 2.0 / np.sqrt((2.0 / formula) ** 2 + 0.03 * 2000.0**2)
    found = ox.stability.limit(Lossy(), grid, stiff, REFLECTING)
    # 22 x 20 points reach 1 % less than infinitely many
    np.testing.assert_allclose(found, expected, rtol=0.02)
    check = StepCheck(Lossy(), grid, ox.Sponge(4), 1.2 * formula)
    values = {
        "m": np.full((30, 28), 1 / 2000.0**2),
        "s": np.zeros((30, 28)),
        "k": np.zeros((30, 28)),
    }
    with pytest.raises(ValueError, match=r"its vp, loss, stiffness ask for a shorter one"):
        check(values, 2000.0, [])


# ---------------------------------------------------------------- a search for failures

STEPS = 20_000
LAYER = 6
SURROUNDINGS = {
    "edges": REFLECTING,
    "sponge": ox.Sponge(LAYER, reflection=1e-2),
    "surface": ox.Faces(REFLECTING, top=ox.FreeSurface()),
    "cpml": ox.CPML(
        frequency=15.0
    ),  # as wide as by default: in one of 6 cells, one of 4 such media grew slowly
}
EXTREMES = {
    "vp": (300.0, 6000.0),
    "rho": (1.2, 5000.0),
    "Q": (2.0, 1000.0),
    "ratio": (0.0, 0.7),
    "delta": (-0.45, 0.4),
    "excess": (0.0, 0.6),
    "theta": (-1.5, 1.5),
    "phi": (-3.0, 3.0),
}


def extreme(
    names: tuple[str, ...], shape: tuple[int, ...], kind: str, seed: int
) -> dict[str, jax.Array]:
    """Parameters at the extremes of what is allowed: rough in every cell, of two values, or in
    layers."""
    rng = np.random.default_rng(seed)

    def drawn(low: float, high: float) -> np.ndarray:
        if kind == "uniform":
            return rng.uniform(low, high, shape)
        where = rng.random(shape if kind == "two values" else shape[-1]) < 0.5
        return np.broadcast_to(np.where(where, low, high), shape)

    drawings = {name: drawn(*ends) for name, ends in EXTREMES.items()}
    drawings["vs"] = drawings["ratio"] * drawings["vp"]
    drawings["epsilon"] = drawings["delta"] + drawings["excess"]
    return {name: jnp.asarray(drawings[name], "float64") for name in names}


def loudness(
    equation: ox.AbstractWaveEquation,
    model: dict[str, jax.Array],
    boundary: ox.AbstractBoundary,
    step: float,
) -> tuple[float, float]:
    """The loudest sample in the second and in the last fifth of `STEPS` steps, after a kick at
    every point of the grid."""
    shape = next(iter(model.values())).shape
    rng = np.random.default_rng(1)
    kick = np.zeros(STEPS + 1)
    kick[1:4] = 1.0, -2.0, 1.0  # without moments, so that what nothing pulls back does not drift
    receivers = rng.uniform(0.0, 1.0, (30, len(shape))) * [(n - 1) * H for n in shape]
    survey = ox.Survey(ox.Extended(shots=1), receivers, kick, step)
    pace: Any = Pace(float(equation.speeds(model)[1]), step * (1.0 + 1e-9))
    options: dict[str, Any] = {
        "boundary": boundary,
        "min_points_per_wavelength": 0.0,
        "time_dispersion": "raw",
    }
    F = ox.Propagator(equation, ox.Grid(shape, H), survey, pace, **options)
    assert F.steps_per_sample == 1
    weights = rng.standard_normal((1, *shape))
    try:
        traces = np.abs(np.asarray(F(model, weights=jnp.asarray(weights))))[0].max(0)
    except Exception as error:
        if "grew beyond all bounds" not in str(error):
            raise
        return 0.0, np.inf
    fifth = len(traces) // 5
    return float(traces[fifth : 2 * fifth].max()), float(traces[-fifth:].max())


def searches() -> list[Any]:
    cases = []
    for name, entry in EQUATIONS.items():
        for order in (max(entry.order, 2), 8):
            for where in SURROUNDINGS:
                # In solids that vary as strongly as these, a perfectly matched layer grows by
                # itself, whatever the step.
                unfit = not entry.layers or name == "Elastic"
                if where == "cpml" and (unfit or order == 8):
                    continue
                cases.append((name, order, where, (26, 22)))
    return [
        *cases,
        ("AcousticDensity", 4, "edges", (12, 11, 10)),
        ("AcousticDensity", 4, "cpml", (12, 11, 10)),
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "order", "where", "shape"), searches(), ids=str)
def test_limit_holds_and_is_tight(
    monkeypatch: pytest.MonkeyPatch, name: str, order: int, where: str, shape: tuple[int, ...]
):
    """Over 20,000 steps: at 0.99 of the limit nothing grows; at 1.03 it does, unless the fastest
    motion is in a layer, which slows it."""
    equation, boundary = EQUATIONS[name].make(order), SURROUNDINGS[where]
    for kind in ("two values", "uniform", "layers"):
        model = extreme(equation.required(len(shape)), shape, kind, order)
        limit = ox.stability.limit(equation, ox.Grid(shape, H), model, boundary)
        early, late = loudness(equation, model, boundary, 0.99 * limit)
        print(name, order, where, kind, limit, early, late)
        assert 0.0 < late <= 2.0 * early
        with pytest.raises(Exception, match="is unstable for this model"):
            loudness(equation, model, boundary, 1.03 * limit)
        if where in ("edges", "surface"):
            with monkeypatch.context() as unchecked:
                unchecked.setattr(StepCheck, "known_to_hold", lambda *_: True)
                _, beyond = loudness(equation, model, boundary, 1.03 * limit)
            assert beyond > 1e3 * early
