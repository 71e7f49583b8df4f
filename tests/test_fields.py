"""Fields that runs begin with, and those that they end with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import ENCLOSED, EQUATIONS, SPONGE, enclosed
from slow import slow

import ondax as ox

SHAPE, SPACING, DT, SAMPLES = (15, 14), (10.0, 10.0), 0.004, 33
MIDDLE, END = 12 * DT, (SAMPLES - 1) * DT


def propagator(
    name: str = "Acoustic", boundary: ox.AbstractBoundary = ENCLOSED, **survey: object
) -> ox.Propagator:
    """Two shots of a rough wavelet, which does not end before the record does; two steps a
    sample."""
    entry, rng = EQUATIONS[name], np.random.default_rng(0)
    made = ox.Survey(
        np.array([[50.0, 60.0], [70.0, 40.0]]),
        np.array([[30.0, 30.0], [90.0, 100.0], [62.0, 71.0]]),
        rng.standard_normal(SAMPLES),
        DT,
        **survey,
    )
    return ox.Propagator(
        entry.make(entry.order),
        ox.Grid(SHAPE, SPACING),
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
    F = propagator()
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
    with pytest.raises(ValueError, match="initial field u"):
        F(vp, initial=jax.tree.map(lambda x: x * np.float32(np.nan), fields))
    with pytest.raises(ValueError, match="before the wavelets"):
        F.with_survey(F.survey.replace(start=-DT))(vp, initial=fields)
    with pytest.raises(KeyError, match="lives in a layer"):
        fields["memory0"]
    with pytest.raises(KeyError, match="these are the fields"):
        fields["p"]


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
    for bad in ((0.0, 0.001), (MIDDLE, MIDDLE), (MIDDLE, 0.0), (-DT, END), (0.0, END + DT)):
        with pytest.raises(ValueError, match="give the times of two samples"):
            survey.between(*bad)
    with pytest.raises(ValueError, match="change the longer one"):
        part.replace(start=0.0)
    with pytest.raises(ValueError, match="a part of a longer one's time"):
        part.between(MIDDLE, END)
    with pytest.raises(ValueError, match="before the wavelets"):
        survey.replace(wavelet_start=DT).between(MIDDLE, END)
