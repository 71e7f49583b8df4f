"""The two backends against each other: C kernels made by Devito, and programs of XLA.

Both compute the same sums in other orders, so they are apart by rounding: see `test_scheme_in_jax`
for how much of it a run of so many steps has.
"""

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Problem, difference
from registry import EQUATIONS
from slow import slow_but
from test_scheme_in_jax import BOUNDARIES, Case, complete

import ondax as ox

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}  # of two backends, each off by half of it

QUICK = [Case("Acoustic", "mixed")]
ALL = [
    *QUICK,
    *(
        Case(name, boundary)
        for name, entry in EQUATIONS.items()
        for boundary in BOUNDARIES
        if entry.layers or "layer" not in boundary
        if entry.flux or "flux" not in boundary
        if boundary != "mixed" or entry.layers
    ),
    *(Case(name, complete(name), dtype="float32") for name in EQUATIONS),
    *(Case(name, complete(name), ndim=1) for name in ("Acoustic", "Viscoacoustic")),
    *(Case(n, complete(n), ndim=3, order=4 if n == "TTI" else 2) for n in EQUATIONS),
    Case("Acoustic", complete("Acoustic"), time_dispersion="corrected"),
    Case("Elastic", complete("Elastic"), interpolation="linear"),
    *(Case(name, complete(name), extended=True) for name in ("Acoustic", "Elastic")),
    *(Case(name, complete(name), order=8) for name in ("Acoustic", "Elastic", "TTI")),
]
ALL = list(dict.fromkeys(ALL))


def model_of(case: Case) -> Any:
    model = EQUATIONS[case.name].model(case.shape, case.dtype)
    return model if len(model) > 1 else next(iter(model.values()))


@pytest.mark.filterwarnings("ignore::ondax.CoarseSampling", "ignore::ondax.GrowthInLayers")
@pytest.mark.parametrize("case", slow_but(ALL, *QUICK), ids=str)
def test_both_backends_agree(case: Case):
    with jax.enable_x64(case.dtype == "float64"):
        weights = np.random.default_rng(3).normal(size=(2, *case.shape)) if case.extended else None
        found = ox.testing.same_on_both(case.propagator(), model_of(case), weights=weights)
    worst = max(found, key=lambda name: found[name])
    assert found[worst] < TOLERANCE[case.dtype], found
    assert len(found) >= 6


def test_what_is_compared_can_differ():
    """An error of a thousandth in one backend is seen."""
    case = Case("Acoustic", "sponge", ndim=1)
    with jax.enable_x64(True):
        F, model = case.propagator(), model_of(case)
        other = ox.testing._everything(F.replace(settings=ox.Settings(backend="xla")), model, None)
        wrong = ox.testing._everything(F, 1.001 * model, None)
    assert ox.testing._apart(other["traces"], wrong["traces"]) > 1e-4


def test_what_settings_say_of_devices_and_disks_does_not_matter():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("x",))
    for settings in (ox.Settings(mesh=mesh), ox.Settings(history="disk", backend="devito")):
        F = small().replace(settings=settings)
        found = ox.testing.same_on_both(F, jnp.full(F.grid.shape, 2000.0))
        assert max(found.values()) < TOLERANCE["float32"], found


# ---------------------------------------------------------------- sizes


def two_shots(backend: str, second: float = 1.0) -> ox.Propagator:
    """In 1-D; the wavelet of the second is so many times as large."""
    sizes = np.array([1.0, second])[:, None, None]
    wavelet = sizes * ox.ricker(25.0, 31, 0.004, delay=0.04)
    survey = ox.Survey([[91.3], [211.3]], [[60.5], [270.2]], wavelet, 0.004)
    return ox.Propagator(
        ox.Acoustic(4),
        ox.Grid(41, 8.0),
        survey,
        2600.0,
        boundary=ox.Sponge(6),
        time_dispersion="raw",
        min_points_per_wavelength=0.0,
        settings=ox.Settings(backend=backend),
    )


def line_model() -> jax.Array:
    return jnp.linspace(1800.0, 2300.0, 41)


@pytest.mark.parametrize("backend", ["devito", "xla"])
def test_final_fields_of_shots_of_different_size(backend: str, x64: None):
    """The second counts ten times as much as the first, and nothing else is asked of the run."""
    F, m = two_shots(backend, second=1000.0), line_model()
    random = np.random.default_rng(0)
    weights = jnp.asarray(random.normal(size=(2, 41)) / np.array([[1.0], [1e5]]))
    direction = jnp.asarray(random.normal(size=41))

    def misfit(m: jax.Array) -> jax.Array:
        return jnp.sum(weights * F.with_final(m)[1]["u"] ** 2)

    # Differences of second order, of a function that rounding disturbs by 1e-14 / 1e-3.
    by_differences = (misfit(m + 1e-3 * direction) - misfit(m - 1e-3 * direction)) / 2e-3
    slope = jnp.vdot(jax.grad(misfit)(m), direction)
    assert abs(slope - by_differences) < 1e-7 * abs(by_differences)


@pytest.mark.parametrize("backend", ["devito", "xla"])
def test_a_weak_shot_keeps_the_digits_of_what_does_not_depend_on_it(backend: str):
    """The gradient in a wavelet, whatever that is, and whatever else is asked for."""
    F, m = two_shots(backend), line_model()
    w = jnp.asarray(F.survey.wavelet, jnp.float32)
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2, 31)), jnp.float32)

    def f(m: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.vdot(F(m, wavelet=w), noise)

    expected = jax.grad(f, 1)(m, w)
    for size in (1e-20, 1e-34):
        of_model, found = jax.grad(f, (0, 1))(m, w.at[1].multiply(size))
        np.testing.assert_array_equal(found, expected)
        alone = jax.grad(f)(m, w.at[1].set(0.0))
        assert difference(of_model, alone) < TOLERANCE["float32"]


@pytest.mark.parametrize("backend", ["devito", "xla"])
def test_gradients_of_weak_data(backend: str):
    """The misfit is quadratic in their size, and its gradient far from the least float32."""
    F, m = two_shots(backend), line_model()
    w = jnp.asarray(F.survey.wavelet, jnp.float32)

    def gradient(size: float) -> jax.Array:
        return jax.grad(lambda m: 0.5 * jnp.sum(F(m, wavelet=size * w) ** 2))(m)

    whole = gradient(1.0)
    for power in (-20, -40):
        found = jnp.ldexp(gradient(2.0**power), -2 * power)
        assert difference(found, whole) < TOLERANCE["float32"]


@pytest.mark.parametrize("checks", [True, False])
def test_what_float32_cannot_hold_is_said(checks: bool):
    """As the C kernels do; but for which results, and whether they are too small or too large."""
    F, m = two_shots("xla"), line_model()
    F = F.replace(settings=ox.Settings(backend="xla", checks=checks))
    w = jnp.asarray(F.survey.wavelet, jnp.float32)
    data = jnp.ones((2, 2, 31), jnp.float32)
    cases: dict[str, Callable[[], Any]] = {
        "traces": lambda: F(m, wavelet=1e-37 * w),
        "Born traces": lambda: F.jacobian(m, wavelet=1e-30 * w).mv(jnp.full(41, 1e-12)),
        "gradient": lambda: jax.grad(lambda m: jnp.sum(F(m, wavelet=1e-22 * w) ** 2))(m),
        "image": lambda: F.jacobian(m, wavelet=1e10 * w).T.mv(1e37 * data),
        "adjoint wavelet": lambda: F.adjoint(m, 1.5e-38 * data),
    }
    for name, run in cases.items():
        if checks:
            with pytest.raises(Exception, match="too small or too large for their type"):
                raise AssertionError(f"{name}: {jax.block_until_ready(run())}")
        else:
            assert bool(jnp.any(jnp.isnan(run()))), name
    silent = jax.grad(lambda m: jnp.sum(F(m, wavelet=0.0 * w) ** 2))(m)
    assert not jnp.any(silent)


# ---------------------------------------------------------------- settings


def small(**settings: Any) -> ox.Propagator:
    survey = ox.Survey([[50.0, 40.0]], [[250.0, 60.0]], ox.ricker(15.0, 150, 0.002), 0.002)
    return ox.Propagator(
        ox.Acoustic(4),
        ox.Grid((31, 26), 10.0),
        survey,
        2600.0,
        boundary=ox.Sponge(8),
        settings=ox.Settings(**{"backend": "xla", **settings}),
    )


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"backend='cuda': choose one of 'auto', 'devito', 'xla'"):
        ox.Settings(backend="cuda")


def test_auto_takes_kernels_where_jax_runs_on_a_processor():
    assert ox.Settings().runs_on("cpu") == "devito"
    assert ox.Settings().runs_on("gpu") == "xla"
    assert ox.Settings().runs_on("tpu") == "xla"
    assert ox.Settings(backend="xla").runs_on("cpu") == "xla"
    assert ox.Settings(backend="devito").runs_on("gpu") == "devito"


# ---------------------------------------------------------------- transforms


def on_a_line() -> tuple[ox.Propagator, Any]:
    problem = Problem("acoustic", 1, 4)
    return problem.propagator(settings=ox.Settings(backend="xla")), problem.model()


def test_transforms():
    """Each transform, in one program, against a plain loop of eager calls of the C kernels."""
    with jax.enable_x64(True):
        F, model = on_a_line()
        reference = F.replace(settings=ox.Settings(backend="devito"))
        many = jnp.stack([model, 0.99 * model, 0.98 * model])

        def gradient(F: ox.Propagator, m: Any) -> Any:
            return jax.grad(lambda m: jnp.sum(F(m) ** 2))(m)

        @jax.jit
        def transformed(many: Any) -> Any:
            f = partial(gradient, F)
            looped = jax.lax.scan(lambda carry, m: (carry, f(m)), 0, many)[1]
            nested = jax.vmap(jax.vmap(f))(jnp.stack([many, many[::-1]]))
            return f(many[0]), jax.vmap(f)(many), nested[1, ::-1], looped

        plain = jnp.stack([gradient(reference, m) for m in many])
        one, *others = transformed(many)
        assert difference(one, plain[0]) < 1e-12
        for found in others:
            assert difference(found, plain) < 1e-12


def test_nothing_is_traced_again():
    F, model = on_a_line()
    traced = []

    @jax.jit
    def misfit(F: ox.Propagator, m: Any) -> Any:
        traced.append(m)
        return jnp.sum(F(m) ** 2)

    for factor in (1.0, 0.99, 0.98):
        misfit(F, factor * model)
    assert len(traced) == 1


# ---------------------------------------------------------------- how many wave solves


def loops(function: Any, *arguments: Any) -> int:
    """Loops over time in a compiled program."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    assert text is not None
    return text.count(" while(")


@pytest.mark.parametrize("backend", ["devito", "xla"])
def test_programs_go_with_their_propagators(backend: str):
    def live() -> int:
        gc.collect()
        return len(jax.devices()[0].client.live_executables())

    counted = []
    propagator = small(backend=backend)
    model = jnp.full(propagator.grid.shape, 2000.0)
    for _ in range(4):
        propagator = propagator.with_survey(propagator.survey)  # as the stages of inversions do
        jax.block_until_ready(jax.grad(lambda m, of=propagator: jnp.sum(of(m) ** 2))(model))
        counted.append(live())
    assert counted[3] == counted[2]  # those of one propagator are there, and no others


def test_a_gradient_takes_two_solves():
    F = small(checks=False)
    model = jnp.full((31, 26), 2000.0)

    def gradient(m: Any) -> Any:
        return jax.grad(lambda m: jnp.sum(F(m) ** 2))(m)

    recomputing = small(checks=False, memory=10)
    assert loops(gradient, model) == loops(F, model) + 1
    anew = jax.grad(lambda m: jnp.sum(recomputing(m) ** 2))
    assert loops(anew, model) > loops(gradient, model)


def test_a_jacobian_holds_its_history():
    """So each of its products is one solve."""
    F = small(checks=False)
    model = jnp.full((31, 26), 2000.0)
    J = jax.jit(F.jacobian)(model)
    assert J.tape is not None
    assert loops(lambda v: J.mv(v), model) == 1
    assert loops(lambda d: J.T.mv(d), jnp.ones((1, 1, 150))) == 1
    assert ox.dot_test(J.mv, J.T.mv, model, jnp.ones((1, 1, 150))) < 1e-5


# ---------------------------------------------------------------- never silent


def test_a_model_that_is_too_fast_is_refused_in_jit():
    F = small()
    with pytest.raises(jax.errors.JaxRuntimeError, match="exceeds max_velocity"):
        jax.block_until_ready(jax.jit(F)(jnp.full((31, 26), 3000.0)))


def test_without_checks_a_model_that_is_too_fast_gives_nan():
    F = small(checks=False)
    traces = jax.jit(F)(jnp.full((31, 26), 3000.0))
    assert bool(jnp.all(jnp.isnan(traces)))
    assert bool(jnp.all(jnp.isfinite(jax.jit(F)(jnp.full((31, 26), 2000.0)))))


def test_a_process_that_forbids_to_promote_ranks():
    F, model = small(), jnp.full((31, 26), 2000.0)
    w = jnp.asarray(F.survey.wavelet, jnp.float32)

    def gradient() -> Any:
        return jax.grad(lambda m, w: jnp.sum(F(m, wavelet=w) ** 2), (0, 1))(model, w)

    with jax.numpy_rank_promotion("raise"):
        found = gradient()
    for x, expected in zip(found, gradient(), strict=True):
        np.testing.assert_array_equal(x, expected)


UNASKED = {
    "a shot below": {"shots": [-1]},
    "a shot too many": {"shots": [0, 1]},
    "a receiver outside": {"receivers": [[[5000.0, 60.0]]]},
    "a receiver nowhere": {"receivers": [[[jnp.nan, 60.0]]]},
    "a source outside": {"sources": [[[50.0, -90.0]]]},
}


@pytest.mark.parametrize("case", UNASKED)
def test_without_checks_what_is_not_there_gives_nan(case: str):
    F, model = small(checks=False), jnp.full((31, 26), 2000.0)
    ((name, given),) = UNASKED[case].items()
    dtype = jnp.int32 if name == "shots" else jnp.float32
    traces = jax.jit(lambda x: F(model, **{name: x}))(jnp.array(given, dtype))
    assert bool(jnp.all(jnp.isnan(traces)))


def test_without_checks_parameters_out_of_range_give_nan():
    F = small(checks=False).replace(equation=ox.AcousticDensity(4))
    vp = jnp.full((31, 26), 2000.0)
    for density, right in ((1000.0, True), (-1000.0, False)):
        traces = jax.jit(F)({"vp": vp, "rho": jnp.full((31, 26), density)})
        assert bool(jnp.all(jnp.isfinite(traces))) is right
        assert bool(jnp.all(jnp.isnan(traces))) is not right


@pytest.mark.parametrize("checks", [True, False])
def test_numbers_that_are_not_finite(checks: bool):
    F = small(checks=checks)
    model, data = jnp.full((31, 26), 2000.0), jnp.full((1, 1, 150), jnp.nan)

    def image() -> Any:
        return jax.block_until_ready(jax.jit(lambda d: F.jacobian(model).T.mv(d))(data))

    if checks:
        with pytest.raises(jax.errors.JaxRuntimeError, match="not finite"):
            image()
    else:
        assert bool(jnp.all(jnp.isnan(image())))


def test_a_wavelet_that_is_too_rough_for_the_steps_kept_is_refused():
    """As the C kernels refuse it: its gradient would be wrong."""
    F = small(store_every=2)
    rough = jnp.asarray(np.random.default_rng(2).normal(size=(1, 1, 150)), jnp.float32)
    model = jnp.full((31, 26), 2000.0)
    with pytest.raises(ValueError, match="store_every=2: the wavelets have frequencies too high"):
        jax.grad(lambda m: jnp.sum(F(m, wavelet=rough) ** 2))(model)
    assert bool(jnp.all(jnp.isfinite(F(model, wavelet=rough))))  # without a gradient


# ---------------------------------------------------------------- histories


@pytest.mark.parametrize(
    ("history", "every", "allowed"),
    # "half" has 11 bits a value: 2^-12 of it at most, of random signs.
    [("sampled", 2, 1e-6), ("half", None, 1e-4), ("revolve", None, 1e-12)],
)
def test_histories(history: str, every: int | None, allowed: float):
    with jax.enable_x64(True):
        z = np.linspace(0.0, 1.0, 26)
        model = jnp.asarray(2000.0 + 300.0 * z * np.ones((31, 1)))

        def gradient(settings: ox.Settings) -> Any:
            F = small().replace(settings=replace(settings, backend="xla"))
            traces, pull = jax.vjp(F, model)
            return np.asarray(pull(traces)[0])

        whole = gradient(ox.Settings(history="whole"))
        other = gradient(ox.Settings(history=history, store_every=every))
    assert history == "revolve" or np.any(whole != other)
    assert np.linalg.norm(whole - other) < allowed * np.linalg.norm(whole)


@pytest.mark.slow
def test_a_shot_at_a_time():
    """With memory for one shot only, shots are run one after another: traces, and how moving
    sources and receivers changes them."""
    with jax.enable_x64(True):
        sources = jnp.array([[50.0, 40.0], [120.0, 60.0], [203.0, 75.0]])[:, None]
        receivers = jnp.broadcast_to(jnp.array([[250.0, 60.0], [260.0, 90.0]]), (3, 2, 2))
        survey = ox.Survey(sources, receivers, ox.ricker(15.0, 110, 0.002), 0.002)
        model = jnp.full((31, 26), 2000.0)

        def found(**settings: Any) -> list[np.ndarray]:
            F = small(**settings).replace(survey=survey).forward_mode()
            both = jax.jvp(lambda s, r: F(model, sources=s, receivers=r), where, along)
            return [np.asarray(x) for x in both]

        where = sources, receivers
        along = jnp.full_like(sources, 0.1), jnp.full_like(receivers, -0.2)
        for less, more in zip(found(memory=1), found(), strict=True):
            assert difference(less, more) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("memory", [200_000, 1_000])
def test_little_memory_changes_nothing(memory: int):
    """A history that does not fit is computed anew from saved states, a stretch at a time: in
    gradients, in Born modelling, and in runs from fields to fields."""
    with jax.enable_x64(True):
        model = jnp.full((31, 26), 2000.0)
        noise = jnp.asarray(np.random.default_rng(1).normal(size=(31, 26)))

        def found(**settings: Any) -> dict[str, Any]:
            F = small(**settings).replace(time_dispersion="raw")

            def between(model: Any, start: Any) -> Any:
                traces, fields = F.with_final(model, initial=F.at_rest(model, {"u": start}))
                return jnp.sum(traces**2) + sum(jnp.sum(x**2) for x in jax.tree.leaves(fields))

            traces, pull = jax.vjp(F, model)
            made = {
                "gradient": pull(traces)[0],
                "born": F.jacobian(model).mv(noise),
                "between": jax.grad(between, (0, 1))(model, noise),
            }
            return jax.tree.map(np.asarray, made)

        whole, little = found(), found(memory=memory)
    assert difference(little["gradient"], whole["gradient"]) < 1e-12
    assert difference(little["born"], whole["born"]) < 1e-12
    for less, more in zip(little["between"], whole["between"], strict=True):
        assert difference(less, more) < 1e-12
