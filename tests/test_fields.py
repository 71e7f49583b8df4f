"""Fields that runs begin with, and those that they end with."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import difference, dot, norm
from registry import ENCLOSED, EQUATIONS, SPONGE, enclosed
from slow import slow

import ondax as ox

SHAPE, SPACING, DT, SAMPLES = (15, 14), (10.0, 10.0), 0.004, 33
MIDDLE, END = 12 * DT, (SAMPLES - 1) * DT


def propagator(
    name: str = "Acoustic",
    boundary: ox.AbstractBoundary = ENCLOSED,
    shape: tuple[int, ...] = SHAPE,
    **survey: object,
) -> ox.Propagator:
    """Two shots of a rough wavelet, which does not end before the record does; two steps a
    sample."""
    entry, rng = EQUATIONS[name], np.random.default_rng(0)
    first = 2 - len(shape)
    made = ox.Survey(
        np.array([[50.0, 60.0], [70.0, 40.0]])[:, first:],
        np.array([[30.0, 30.0], [90.0, 100.0], [62.0, 71.0]])[:, first:],
        rng.standard_normal(SAMPLES),
        DT,
        **survey,
    )
    return ox.Propagator(
        entry.make(entry.order),
        ox.Grid(shape, SPACING[first:]),
        made,
        2600.0,
        boundary=boundary,
        time_dispersion="raw",
        min_points_per_wavelength=0.0,
    )


def halves(F: ox.Propagator) -> tuple[ox.Propagator, ox.Propagator]:
    cut = F.survey.between
    return F.with_survey(cut(0.0, MIDDLE)), F.with_survey(cut(MIDDLE, END))


def random_fields(like: ox.Wavefields, seed: int = 1) -> ox.Wavefields:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape), x.dtype), like)


def assert_same_bits(a: object, b: object) -> None:
    """Equal to the bit, but for what runs ahead of the waves: runs are scaled by powers of two, and
    what is too small for its type in one may not be in the other."""
    x, y = np.asarray(a), np.asarray(b)
    tiny = 1e-30 * np.max(np.abs(x))
    np.testing.assert_array_equal(np.abs(x) > tiny, np.abs(y) > tiny)
    np.testing.assert_array_equal(x[np.abs(x) > tiny], y[np.abs(x) > tiny])


# ---------------------------------------------------------------- runs handed on


def around(name: str) -> dict[str, ox.AbstractBoundary]:
    return {
        "sponge": SPONGE,
        "layers": enclosed(name),
        "surface": ox.Faces(enclosed(name), top=ox.FreeSurface()),
    }


RUNS = [(n, b) for n in EQUATIONS for b in ("sponge", "layers", "surface")]
QUICK = [("Acoustic", "layers")]


@pytest.mark.parametrize(("name", "where"), [r if r in QUICK else slow(*r) for r in RUNS])
def test_a_run_handed_on_is_one_run_to_the_bit(name: str, where: str, dtype: str):
    F = propagator(name, around(name)[where])
    assert F.steps_per_sample == 2
    model = EQUATIONS[name].model(SHAPE, dtype)
    model = model if len(model) > 1 else model["vp"]
    traces, fields = F.with_final(model)
    first, second = halves(F)
    before, middle = first.with_final(model)
    after, end = second.with_final(model, initial=middle)
    assert traces.dtype == dtype
    assert_same_bits(before, traces[..., :13])
    assert_same_bits(after, traces[..., 12:])
    assert np.max(np.abs(after)) > 0
    jax.tree.map(assert_same_bits, end, fields)


def test_segments_are_carried_by_scan():
    """One propagator runs any number of segments. Their wavelets are resampled each by itself, so
    one step is one sample here."""
    F = propagator(boundary=SPONGE)
    F = F.with_survey(F.survey.replace(dt=DT / 2))
    assert F.steps_per_sample == 1
    vp = EQUATIONS["Acoustic"].model(SHAPE, "float32")["vp"]
    given = jnp.asarray(F.survey.wavelet[0, 0], jnp.float32)
    whole, end = F.with_final(vp, wavelet=given)
    S = F.with_survey(F.survey.replace(wavelet=np.zeros(9), nt=9))
    pieces = jnp.stack([given[n : n + 9] for n in (0, 8, 16, 24)])
    rest = S.at_rest(vp, {"u": jnp.zeros((2, *SHAPE), jnp.float32)})

    def segment(fields: ox.Wavefields, wavelet: jax.Array) -> tuple[ox.Wavefields, jax.Array]:
        traces, fields = S.with_final(vp, wavelet=wavelet, initial=fields)
        return fields, traces[..., 1:]

    fields, traces = jax.lax.scan(segment, rest, pieces)
    joined = jnp.concatenate(list(traces), axis=-1)
    assert_same_bits(joined, whole[..., 1:])
    jax.tree.map(assert_same_bits, fields, end)


@pytest.mark.kernels
def test_fields_of_some_shots_and_shared_ones():
    F = propagator()
    vp = EQUATIONS["Acoustic"].model(SHAPE, "float32")["vp"]
    first, second = halves(F)
    _, fields = first.with_final(vp)
    of_one = jax.tree.map(lambda x: x[1:], fields)
    both = second(vp, initial=fields)
    np.testing.assert_array_equal(second(vp, initial=of_one, shots=[1]), both[1:])
    shared = second(vp, initial=of_one)
    np.testing.assert_array_equal(shared[1], both[1])
    assert np.any(shared[0] != both[0])


def test_vmap_and_jit():
    F = propagator(boundary=SPONGE)
    vp = EQUATIONS["Acoustic"].model(SHAPE, "float32")["vp"]
    _, second = halves(F)
    _, like = F.with_final(vp)
    many = [random_fields(like, seed) for seed in (1, 2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *many)
    run = jax.jit(jax.vmap(lambda fields: second.with_final(vp, initial=fields)))
    traces, ends = run(stacked)
    for n, fields in enumerate(many):
        alone, end = second.with_final(vp, initial=fields)
        np.testing.assert_array_equal(traces[n], alone)
        jax.tree.map(lambda a, b, n=n: np.testing.assert_array_equal(a[n], b), ends, end)


# ---------------------------------------------------------------- a start at rest


SPEED, DENSITY, MIDST = 2000.0, 1300.0, 500.0
PLACES = np.array([620.0, 520.0, 400.0])


def bell(x: np.ndarray) -> np.ndarray:
    return np.exp(-(((x - MIDST) / 40.0) ** 2))


def error_of_release(name: str, receiver: str | None, field: str, h: float) -> float:
    """How much traces of a bell that is set free differ from d'Alembert's solution, in which half
    of it goes each way."""
    n, dt = round(1000.0 / h) + 1, 0.4 * h / SPEED
    survey = ox.Survey(
        np.array([[MIDST]]), PLACES[:, None], np.zeros(round(0.16 / dt) + 1), dt, receiver=receiver
    )
    entry = EQUATIONS[name]
    F = ox.Propagator(
        entry.make(8),
        ox.Grid((n,), (h,)),
        survey,
        SPEED,
        boundary=ox.CPML(20),
        time_dispersion="raw",
    )
    known = {"vp": SPEED, "vs": 0.0, "rho": DENSITY}
    model = {p: jnp.full(n, known[p]) for p in entry.ranges}
    z = np.arange(n) * h
    values = {"s_zz": -bell(z), "v_z": bell(z + h / 2)}.get(field, bell(z))
    fields = F.at_rest(model if len(model) > 1 else model["vp"], {field: values})
    got = np.asarray(F(model if len(model) > 1 else model["vp"], initial=fields))[0]
    t, x = survey.times, PLACES[:, None]
    down, up = 0.5 * bell(x - SPEED * t), 0.5 * bell(x + SPEED * t)
    impedance = DENSITY * SPEED
    expected = {
        ("pressure", "v_z"): impedance * (down - up),
        ("velocity_z", "s_zz"): (down - up) / impedance,
    }.get((receiver or "", field), down + up)
    return float(np.max(np.abs(got - expected)) / np.max(np.abs(expected)))


@pytest.mark.parametrize(
    ("name", "receiver", "field"),
    [
        ("Acoustic", None, "u"),
        ("Elastic", "pressure", "s_zz"),
        ("Elastic", "velocity_z", "s_zz"),
        slow("AcousticDensity", None, "p"),
        slow("Elastic", "pressure", "v_z"),
        slow("Elastic", "velocity_z", "v_z"),
    ],
)
def test_a_field_set_free_goes_both_ways(x64: None, name: str, receiver: str, field: str):
    """Accurate to second order in the time step, so that half of it leaves a quarter of the error;
    half a step too late would be first order."""
    coarse, fine = (error_of_release(name, receiver, field, h) for h in (10.0, 5.0))
    assert fine < 0.003
    assert 3.5 < coarse / fine < 4.7


def test_a_start_at_rest_is_symmetrical_in_time(x64: None):
    """What is at rest now was, a step ago, as it will be in a step."""
    F = propagator()
    vp = EQUATIONS["Acoustic"].model(SHAPE, "float64")["vp"]
    p0 = np.pad(np.random.default_rng(0).standard_normal((7, 6)), 4)
    fields = F.at_rest(vp, {"u": p0})
    np.testing.assert_array_equal(fields["u"][0], p0)
    host = F._hosts.of_one_step(vp.dtype)
    one = F.with_survey(F.survey.replace(dt=F.dt, nt=2, wavelet=np.zeros(2)))
    assert one.dt == F.dt
    assert host.steps == 1
    _, after = one.with_final(vp, initial=fields)
    # Rounding of a few values of size one; the layers take part of what reaches them.
    inside = np.s_[:, :, 4:-4, 4:-4]
    np.testing.assert_allclose(
        after.values["u"][inside][:1, 0], fields.values["u"][inside][:, 1], atol=1e-13
    )


# ---------------------------------------------------------------- gradients


def pieces(F: ox.Propagator, name: str, dtype: str = "float64") -> tuple[object, ...]:
    """A model, wavelets, initial fields, and what a run makes of them."""
    model = EQUATIONS[name].model(F.grid.shape, dtype)
    model = model if len(model) > 1 else model["vp"]
    _, like = F.with_final(model)
    wavelet = np.random.default_rng(2).standard_normal(F.survey.wavelet.shape).astype(dtype)
    initial = random_fields(like)
    out = F.with_final(model, wavelet=wavelet, initial=initial)
    return model, jnp.asarray(wavelet), initial, out


def dot_error(F: ox.Propagator, name: str, dtype: str) -> float:
    """The worst error of <A x, y> = <x, A' y>, for modelling as a linear function of wavelets and
    initial fields, each alone, to traces and to final fields, each alone."""
    model, wavelet, initial, out = pieces(F, name, dtype)

    def modelled(wavelet: object, initial: object) -> object:
        return F.with_final(model, wavelet=wavelet, initial=initial)

    def none(tree: object) -> object:
        return jax.tree.map(jnp.zeros_like, tree)

    _, pull = jax.vjp(modelled, wavelet, initial)
    y = random_fields(out, 3)
    images = modelled(wavelet, none(initial)), modelled(none(wavelet), initial)
    errors = []
    for cotangent in ((y[0], none(y[1])), (none(y[0]), y[1])):
        back = pull(cotangent)
        for image, x, found in zip(images, (wavelet, initial), back, strict=True):
            a, b = dot(image, cotangent), dot(x, found)
            # Traces and fields are of different sizes, and so are the two sides.
            parts = sum(norm(i) * norm(c) for i, c in zip(image, cotangent, strict=True))
            errors.append(abs(a - b) / min(parts, norm(x) * norm(found)))
    return max(errors)


@pytest.mark.parametrize(
    ("name", "where", "shape"),
    [("Acoustic", "layers", (14,)), *(slow(*run, SHAPE) for run in RUNS)],
)
def test_dot(x64_everywhere: None, name: str, where: str, shape: tuple[int, ...]):
    F = propagator(name, around(name)[where], shape)
    F = F.with_survey(F.survey.replace(nt=9))
    assert dot_error(F, name, "float64") < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", list(EQUATIONS))
def test_dot_in_single_precision(name: str):
    F = propagator(name, enclosed(name))
    F = F.with_survey(F.survey.replace(nt=9))
    assert dot_error(F, name, "float32") < 1e-5


@pytest.mark.parametrize("steps", [1, slow(2), slow(3)])
def test_dot_of_runs_of_few_steps(x64_everywhere: None, steps: int):
    """Of the shortest runs, the final state holds some of the initial one."""
    F = propagator(boundary=SPONGE)
    F = F.with_survey(F.survey.replace(dt=F.dt, nt=steps + 1, wavelet=np.ones(steps + 1)))
    assert F._problem.steps == steps
    assert dot_error(F, "Acoustic", "float64") < 1e-12


def function_of_both(F: ox.Propagator, initial: object, out: object) -> object:
    """From a model to a quadratic function of traces and final fields of sizes of about one."""
    sizes = jax.tree.map(lambda x: jnp.max(jnp.abs(x)), out)
    targets = random_fields(out, 4)

    def value(model: object) -> jax.Array:
        found = F.with_final(model, initial=initial)
        parts = jax.tree.map(lambda x, s, t: jnp.sum((x / s - t) ** 2), found, sizes, targets)
        return sum(jax.tree.leaves(parts), start=jnp.zeros(()))

    return value


def slopes(value: object, model: object, perturbation: object) -> list[float]:
    """By which power of the step the error of the linear prediction falls, step after step."""
    at, gradient = jax.value_and_grad(value)(model)
    predicted, errors = dot(gradient, perturbation), []
    for h in 2.0 ** -np.arange(4.0, 10.0):
        moved = jax.tree.map(lambda m, p, h=h: m + h * p, model, perturbation)
        errors.append(abs(float(value(moved)) - float(at) - h * predicted))
    return [float(np.log2(a / b)) for a, b in itertools.pairwise(errors)]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        # Its gradients are summed by parts in time, which has something left at the start.
        ("AcousticDensity", "sponge"),
        slow("Acoustic", "surface"),
        *(slow(n, "layers") for n in EQUATIONS),
    ],
)
def test_taylor(x64_everywhere: None, name: str, where: str):
    F = propagator(name, around(name)[where])
    F = F.with_survey(F.survey.replace(nt=9))
    model, _, initial, out = pieces(F, name)
    value = function_of_both(F, initial, out)
    rng = np.random.default_rng(6)
    scale = {"vp": 100.0, "vs": 50.0, "rho": 100.0, "Q": 5.0}
    for parameter in model if isinstance(model, dict) else ("vp",):
        rough = jnp.asarray(rng.uniform(-1.0, 1.0, SHAPE)) * scale.get(parameter, 0.05)
        moved = rough
        if isinstance(model, dict):
            moved = {n: rough if n == parameter else jnp.zeros_like(v) for n, v in model.items()}
        found = slopes(value, model, moved)
        assert all(1.95 < s < 2.05 for s in found), (parameter, found)


def test_gradients_of_two_runs_are_those_of_one(x64_everywhere: None):
    F = propagator("AcousticDensity", SPONGE)
    model, wavelet, initial, _ = pieces(F, "AcousticDensity")
    first, second = halves(F)
    y = jnp.asarray(np.random.default_rng(7).standard_normal(F.survey.trace_shape(2)))

    def of_one(model: object, wavelet: object, initial: object) -> jax.Array:
        traces, end = F.with_final(model, wavelet=wavelet, initial=initial)
        return jnp.vdot(traces, y) + jnp.vdot(end.values["p"], end.values["p"])

    def of_two(model: object, wavelet: object, initial: object) -> jax.Array:
        before, middle = first.with_final(model, wavelet=wavelet, initial=initial)
        after, end = second.with_final(model, wavelet=wavelet, initial=middle)
        traces = jnp.concatenate([before, after[..., 1:]], axis=-1)
        return jnp.vdot(traces, y) + jnp.vdot(end.values["p"], end.values["p"])

    arguments = (model, wavelet, initial)
    one, two = (jax.jit(jax.grad(f, argnums=(0, 1, 2)))(*arguments) for f in (of_one, of_two))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        # Sums of some hundred steps in another order; those of coefficients cancel in part.
        assert difference(a, b) < 1e-11


@pytest.mark.parametrize("history", ["revolve", "sampled", slow("half"), slow("sampled half")])
def test_any_history(x64_everywhere: None, history: str):
    """Those that keep some steps keep all of runs that start or end with fields."""
    F = propagator("AcousticDensity", SPONGE)
    model, _, initial, out = pieces(F, "AcousticDensity")
    whole = jax.grad(function_of_both(F, initial, out))(model)
    other = F.replace(settings=ox.Settings(history=history, memory=400_000))
    found = jax.grad(function_of_both(other, initial, out))(model)
    # 11 bits of what changes in a step.
    assert difference(found, whole) < (1e-3 if "half" in history else 1e-13)


def test_born_and_migration_around_a_run_from_fields(x64_everywhere: None):
    F = propagator("AcousticDensity", SPONGE)
    F = F.with_survey(F.survey.replace(nt=9))
    model, _, initial, _ = pieces(F, "AcousticDensity")
    J = F.jacobian(model, initial=initial)
    x = {
        n: v * jnp.asarray(np.random.default_rng(8).standard_normal(SHAPE))
        for n, v in model.items()
    }
    born = J.mv(x)
    assert not np.any(born[..., 0])
    y = random_fields(born, 9)
    assert abs(dot(born, y) - dot(x, J.T.mv(y))) < 1e-12 * norm(born) * norm(y)
    h = 1e-5
    up, down = (
        F({n: v + s * h * x[n] for n, v in model.items()}, initial=initial) for s in (1, -1)
    )
    # Central differences: h^2 of the third derivative.
    assert difference((up - down) / (2 * h), born) < 1e-7


@pytest.mark.slow
def test_second_derivatives_around_a_run_from_fields(x64_everywhere: None):
    F = propagator("AcousticDensity", SPONGE)
    F = F.with_survey(F.survey.replace(nt=9))
    model, _, initial, _ = pieces(F, "AcousticDensity")
    x = {
        n: v * jnp.asarray(np.random.default_rng(8).standard_normal(SHAPE))
        for n, v in model.items()
    }
    traces, born = F.jvp(model, x, initial=initial)
    assert difference(born, F.jacobian(model, initial=initial).mv(x)) < 1e-12
    y = random_fields(traces, 9)

    def slope(h: float) -> object:
        moved = {n: v + h * x[n] for n, v in model.items()}
        return jax.grad(lambda m: jnp.vdot(F(m, initial=initial), y))(moved)

    h = 1e-5
    expected = jax.tree.map(lambda a, b: (a - b) / (2 * h), slope(h), slope(-h))
    found = jax.grad(lambda m: jnp.vdot(F.jvp(m, x, initial=initial)[1], y))(model)
    assert difference(found, expected) < 1e-7
    assert (
        difference(
            jax.grad(lambda m: jnp.vdot(F.jacobian(m, initial=initial).mv(x), y))(model), expected
        )
        < 1e-7
    )


@pytest.mark.slow
def test_extended_sources(x64_everywhere: None):
    """Weights, wavelets and initial fields, of traces and final fields."""
    F = propagator(boundary=ENCLOSED)
    s = F.survey
    F = F.with_survey(ox.Survey(ox.Extended(2), s.receivers, s.wavelet[0, 0, :9], s.dt))
    vp = EQUATIONS["Acoustic"].model(SHAPE, "float64")["vp"]
    rng = np.random.default_rng(10)
    weights = jnp.asarray(rng.standard_normal((2, *SHAPE)))
    wavelet = jnp.asarray(rng.standard_normal(F.survey.wavelet.shape))
    _, like = F.with_final(vp, weights=weights)
    initial, still = random_fields(like), jax.tree.map(jnp.zeros_like, like)
    for of_model in (False, True):  # with a history, or without

        def modelled(weights: object, wavelet: object, initial: object, vp: object) -> object:
            return F.with_final(vp, weights=weights, wavelet=wavelet, initial=initial)

        run = modelled if of_model else lambda *x: modelled(*x, vp)
        arguments = (weights, wavelet, initial, *([vp] if of_model else []))
        out, pull = jax.vjp(run, *arguments)
        y = random_fields(out, 11)
        back = pull(y)
        fired, started = (
            modelled(weights, wavelet, still, vp),
            modelled(0 * weights, wavelet, initial, vp),
        )
        for image, x, found in (
            (fired, weights, back[0]),
            (fired, wavelet, back[1]),
            (started, initial, back[2]),
        ):
            assert abs(dot(image, y) - dot(x, found)) < 1e-12 * norm(image) * norm(y)


def test_gradients_under_vmap(x64_everywhere: None):
    F = propagator(boundary=SPONGE)
    F = F.with_survey(F.survey.replace(nt=9))
    vp, _, initial, out = pieces(F, "Acoustic")
    y = random_fields(out, 12)

    def gradient(initial: object) -> object:
        return jax.grad(lambda i: dotted(F.with_final(vp, initial=i), y))(initial)

    def dotted(a: object, b: object) -> jax.Array:
        parts = jax.tree.map(lambda p, q: jnp.sum(p**2 * q), a, b)
        return sum(jax.tree.leaves(parts), start=jnp.zeros(()))

    many = [initial, random_fields(initial, 13)]
    together = jax.vmap(gradient)(jax.tree.map(lambda *x: jnp.stack(x), *many))
    for n, one in enumerate(many):
        assert difference(jax.tree.map(lambda x, n=n: x[n], together), gradient(one)) < 1e-13


def test_at_rest_is_differentiated_in_model_and_fields(x64_everywhere: None):
    F = propagator(boundary=SPONGE)
    F = F.with_survey(F.survey.replace(nt=9, wavelet=np.zeros(9)))
    vp = EQUATIONS["Acoustic"].model(SHAPE, "float64")["vp"]
    rng = np.random.default_rng(14)
    p0 = jnp.asarray(rng.standard_normal(SHAPE))
    y = jnp.asarray(rng.standard_normal(F.survey.trace_shape(1)))

    def value(vp: jax.Array, p0: jax.Array) -> jax.Array:
        return jnp.vdot(F(vp, initial=F.at_rest(vp, {"u": p0}), shots=[0]), y)

    of_vp, of_p0 = jax.grad(value, argnums=(0, 1))(vp, p0)
    size = abs(float(value(vp, p0)))
    assert abs(dot(of_p0, p0) - float(value(vp, p0))) < 1e-11 * size
    x = 100.0 * jnp.asarray(rng.standard_normal(SHAPE))
    h = 1e-4
    expected = float(value(vp + h * x, p0) - value(vp - h * x, p0)) / (2 * h)
    # Central differences: h^2 of the third derivative, and rounding over h.
    assert abs(dot(of_vp, x) - expected) < 1e-6 * abs(expected)


# ---------------------------------------------------------------- refusals


def test_what_cannot_be_is_refused_with_a_remedy():
    F = propagator()
    vp = EQUATIONS["Acoustic"].model(SHAPE, "float32")["vp"]
    _, second = halves(F)
    fields = F.at_rest(vp, {"u": np.ones(SHAPE, np.float32)})
    with pytest.raises(ValueError, match="the fields at that time"):
        second(vp)
    corrected = F.replace(time_dispersion="corrected")
    for refused in (
        lambda: corrected.with_final(vp),
        lambda: corrected(vp, initial=fields),
        lambda: corrected.at_rest(vp, {"u": np.ones(SHAPE)}),
        lambda: second.replace(time_dispersion="corrected"),
    ):
        with pytest.raises(ValueError, match="raw"):
            refused()
    wide = F.replace(grid=ox.Grid((40, 14), SPACING), aperture=5.0)
    with pytest.raises(ValueError, match="aperture"):
        wide.with_final(jnp.full((40, 14), 2000.0))
    with pytest.raises(ValueError, match=r"steps by 0\.001 s"):
        F.with_survey(F.survey.replace(dt=0.001))(vp, initial=fields)
    with pytest.raises(ValueError, match="same equation, grid and boundary"):
        F.replace(boundary=SPONGE)(vp, initial=fields)
    with pytest.raises(ValueError, match="initial field .* has shape"):
        F(vp, initial=jax.tree.map(lambda x: jnp.concatenate([x] * 3), fields))
    with pytest.raises(ValueError, match=r"this scheme has .*u"):
        F.at_rest(vp, {"p": np.ones(SHAPE)})
    with pytest.raises(ValueError, match="initial field .* not finite"):
        F(vp, initial=jax.tree.map(lambda x: x * np.float32(np.nan), fields))
    with pytest.raises(ValueError, match="before the wavelets"):
        F.with_survey(F.survey.replace(start=-DT))(vp, initial=fields)
    with pytest.raises(KeyError, match="lives in a layer"):
        fields["memory0"]
    with pytest.raises(KeyError, match="these are the fields"):
        fields["p"]


def test_gradients_of_fields_are_linear_in_cotangents(x64_everywhere: None):
    """So they can be differentiated in these; but not in the model again."""
    F = propagator(boundary=SPONGE)
    F = F.with_survey(F.survey.replace(nt=9))
    vp, _, initial, out = pieces(F, "Acoustic")

    def pulled(m, y):
        return jax.vjp(lambda m, fields: F.with_final(m, initial=fields), m, initial)[1](y)

    other = jax.tree.map(lambda x: x[..., ::-1], out)
    (of_model, of_fields), (more, _) = pulled(vp, out), pulled(vp, other)
    traces, fields = jax.grad(lambda y: 0.5 * jnp.sum(pulled(vp, y)[0] ** 2))(out)
    error = dot((traces, fields), other) - dot(of_model, more)
    assert abs(error) < 1e-12 * norm(of_model) * norm(more)
    assert norm(of_fields) > 0.0
    with pytest.raises(NotImplementedError, match="functions of the final fields"):
        jax.grad(lambda m: jnp.sum(pulled(m, out)[0] ** 2))(vp)


def test_values_half_a_step_apart_cannot_start():
    F = propagator("Elastic", SPONGE, receiver=("velocity_z", "pressure"))
    model = EQUATIONS["Elastic"].model(SHAPE, "float32")
    fields = F.at_rest(model, {"s_zz": np.ones(SHAPE, np.float32)})
    with pytest.raises(ValueError, match="half a step apart"):
        F(model, initial=fields)


def test_parts_of_a_survey():
    survey = propagator().survey
    part = survey.between(MIDDLE, END)
    assert part.nt == SAMPLES - 12
    assert part.start == pytest.approx(MIDDLE)
    np.testing.assert_allclose(part.times, survey.times[12:])
    assert part[1].cut == part.cut
    assert part.modelled == part.nt
    for bad in (
        (0.0, 0.001),
        (MIDDLE, MIDDLE),
        (MIDDLE, 0.0),
        (-DT, END),
        (0.0, END + DT),
        (0.0, np.nan),
    ):
        with pytest.raises(ValueError, match="give the times of two samples"):
            survey.between(*bad)
    with pytest.raises(ValueError, match="change the longer one"):
        part.replace(start=0.0)
    with pytest.raises(ValueError, match="a part of a longer one's time"):
        part.between(MIDDLE, END)
    with pytest.raises(ValueError, match="before the wavelets"):
        survey.replace(wavelet_start=DT).between(MIDDLE, END)
