"""Preconditioners: exact adjoints, exact inverses where they are promised, and what they do to
waves."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from problems import Problem, difference, norm
from slow import slow

import ondax as ox

pre = ox.preconditioners

DOT = {"float32": 1e-5, "float64": 1e-12}
INVERSE = {"float32": 1e-5, "float64": 1e-12}
GRID = ox.Grid(shape=(7, 21), spacing=(10.0, 5.0), origin=(100.0, 50.0))
NT, DT = 301, 0.004
SURVEY = ox.Survey(
    sources=[[0.0, 0.0], [400.0, 0.0]],
    receivers=ox.line((0.0, 0.0), (1000.0, 0.0), 5),
    wavelet=ox.ricker(15.0, NT, DT),
    dt=DT,
)
NEAR = SURVEY.replace(
    sources=[[110.0, 60.0], [140.0, 60.0]], receivers=ox.line((104.0, 92.0), (156.0, 92.0), 4)
)
LENGTHS = np.random.default_rng(0).uniform(0.0, 40.0, (2, *GRID.shape))
TWO_COMPONENTS = ox.Survey(
    SURVEY.sources,
    SURVEY.receivers,
    SURVEY.wavelet[0, 0],
    DT,
    receiver=("velocity_x", "velocity_z"),
)


def random(structure, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), structure)


def like(dtype, names=("vp", "rho")):
    return {n: jnp.zeros(GRID.shape, dtype) for n in names}


OPERATORS = {
    "top_mute": lambda dtype: pre.top_mute(GRID, 70.0, 30.0, like=like(dtype)),
    "depth_scaling": lambda dtype: pre.depth_scaling(GRID, 1.5, like=like(dtype)),
    "top_mute, columns": lambda dtype: pre.top_mute(
        GRID, np.linspace(60.0, 90.0, 7), 20.0, like=like(dtype)
    ),
    "source_taper": lambda dtype: pre.source_taper(GRID, NEAR, 30.0, like=like(dtype)),
    "receiver_taper": lambda dtype: pre.receiver_taper(
        GRID, NEAR, 30.0, inner=8.0, like=like(dtype)
    ),
    "smoothing": lambda dtype: pre.smoothing(GRID, 20.0, like=like(dtype)),
    "smoothing, axes": lambda dtype: pre.smoothing(GRID, (0.0, 30.0), like=like(dtype)),
    "smoothing, varying": lambda dtype: pre.smoothing(GRID, LENGTHS, like=like(dtype)),
    "mute_direct": lambda dtype: pre.mute_direct(SURVEY, 1500.0, 0.1, dtype=dtype),
    "mute_direct, components": lambda dtype: pre.mute_direct(
        TWO_COMPONENTS, 1500.0, 0.1, dtype=dtype
    ),
    "time_gain": lambda dtype: pre.time_gain(SURVEY, 1.5, dtype=dtype),
    "band_pass": lambda dtype: pre.band_pass(SURVEY, 5.0, 40.0, dtype=dtype),
    "low_pass": lambda dtype: pre.band_pass(TWO_COMPONENTS, 0.0, 40.0, shots=3, dtype=dtype),
    "half derivative": lambda dtype: pre.fractional_derivative(SURVEY, 0.5, dtype=dtype),
    "half integral": lambda dtype: pre.fractional_derivative(SURVEY, -0.5, dtype=dtype),
    "derivative": lambda dtype: pre.fractional_derivative(SURVEY, 1.0, shots=1, dtype=dtype),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_dot(name: str, dtype: str):
    operator = OPERATORS[name](dtype)
    assert operator.in_structure() == operator.out_structure()
    assert {leaf.dtype for leaf in jax.tree.leaves(operator.in_structure())} == {np.dtype(dtype)}
    x, y = random(operator.in_structure(), 1), random(operator.out_structure(), 2)
    assert ox.dot_test(operator.mv, operator.T.mv, x, y) < DOT[dtype]
    jitted = jax.jit(lambda v: operator.mv(v)), jax.jit(lambda v: operator.T.mv(v))
    assert ox.dot_test(*jitted, x, y) < DOT[dtype]


@pytest.mark.parametrize("dtype", [slow("float32"), "float64"], indirect=True)
def test_they_compose_with_the_jacobian(dtype: str):
    problem = Problem("density", 2, 4, dtype=dtype)
    F, model = problem.propagator(), problem.model()
    L = pre.band_pass(F.survey, 0.0, 0.4 / F.survey.dt, dtype=dtype) @ pre.time_gain(
        F.survey, 1.0, dtype=dtype
    )
    R = pre.depth_scaling(F.grid, 0.5, like=model) @ pre.top_mute(F.grid, 60.0, 50.0, like=model)
    A = L @ F.jacobian(model) @ R
    x, y = problem.perturbation(), problem.cotangent()
    assert ox.dot_test(A.mv, A.T.mv, x, y) < DOT[dtype]
    assert difference(A.mv(x), L.mv(F.jacobian(model).mv(R.mv(x)))) < INVERSE[dtype]


# ---------------------------------------------------------------- around points, above the seabed


def test_tapers_are_zero_at_their_points():
    for weights, points, inner, radius in (
        (pre.source_taper(GRID, NEAR, 30.0).diagonal, NEAR.sources, 0.0, 30.0),
        (pre.receiver_taper(GRID, NEAR, 25.0, inner=8.0).diagonal, NEAR.receivers, 8.0, 25.0),
    ):
        x, z = np.meshgrid(100.0 + 10.0 * np.arange(7), 50.0 + 5.0 * np.arange(21), indexing="ij")
        away = np.stack([x, z], -1)[:, :, None] - points.reshape(-1, 2)
        nearest = np.linalg.norm(away, axis=-1).min(axis=-1)
        assert np.all(weights[nearest <= inner] == 0.0)
        assert np.count_nonzero(nearest <= inner) >= 2
        assert np.all(weights[nearest >= radius] == 1.0)
        flank = (nearest > inner) & (nearest < radius)
        expected = np.sin(0.5 * np.pi * (nearest[flank] - inner) / (radius - inner)) ** 2
        np.testing.assert_allclose(weights[flank], expected, atol=1e-6)


def test_tapers_and_smoothing_in_other_dimensions():
    line = ox.Survey([[40.0]], [[70.0]], SURVEY.wavelet[0, 0], DT)
    weights = pre.source_taper(ox.Grid((10,), 10.0), line, 20.0).diagonal
    np.testing.assert_allclose(weights, [1, 1, 1, 0.5, 0, 0.5, 1, 1, 1, 1], atol=1e-6)
    volume = ox.Grid((5, 1, 6), 10.0)
    survey = ox.Survey([[20.0, 0.0, 30.0]], [[0.0, 0.0, 0.0]], SURVEY.wavelet[0, 0], DT)
    zeros = np.argwhere(np.asarray(pre.source_taper(volume, survey, 10.0).diagonal) == 0.0)
    np.testing.assert_array_equal(zeros, [[2, 0, 3]])
    point = jnp.zeros(volume.shape).at[2, 0, 3].set(1.0)
    flat = pre.smoothing(ox.Grid((5, 6), 10.0), 12.0).mv(point[:, 0])
    np.testing.assert_allclose(pre.smoothing(volume, 12.0).mv(point)[:, 0], flat, atol=1e-7)


def test_the_water_is_muted_to_the_seabed_of_each_column():
    samples = np.array([0, 1, 5, 5, 9, 20, 21])  # of water: none, in the first; no rock in the last
    vp = np.where(np.arange(21) < samples[:, None], 1500.0, 1900.0)
    vp[3, 12] = 1500.0  # slow rock below the seabed is no water
    depth = pre.seabed(GRID, vp, 1600.0)
    np.testing.assert_array_equal(depth, [-np.inf, 50.0, 70.0, 70.0, 90.0, 145.0, 150.0])
    weights = pre.top_mute(GRID, depth, 0.0).diagonal
    np.testing.assert_array_equal(weights, (np.arange(21) >= samples[:, None]).astype(np.float32))
    soft = pre.top_mute(GRID, depth, 20.0).diagonal
    assert np.all(soft[np.arange(21) < samples[:, None]] == 0.0)
    np.testing.assert_allclose(soft[2, 5:9], np.sin(np.pi / 8 * np.arange(1, 5)) ** 2, atol=1e-6)
    line = ox.Grid((21,), 5.0)
    assert pre.seabed(line, vp[2], 1600.0) == 20.0


# ---------------------------------------------------------------- smoothing


def test_smoothing_is_nearly_gaussian(x64: None):
    """Waves between the faces are multiplied by what the docstring says; constants, and sums, stay;
    a point becomes a bell of the length asked for."""
    grid = ox.Grid((61, 41), (10.0, 5.0))
    smooth = pre.smoothing(grid, (40.0, 10.0), like=jnp.zeros(grid.shape, jnp.float64)).mv
    x, z = np.arange(61)[:, None] + 0.5, np.arange(41)[None, :] + 0.5
    for p, q in ((3, 0), (0, 7), (8, 4)):
        wave = jnp.asarray(np.cos(np.pi * p * x / 61) * np.cos(np.pi * q * z / 41))
        k = 2.0 * np.sin(0.5 * np.pi * p / 61) / 10.0, 2.0 * np.sin(0.5 * np.pi * q / 41) / 5.0
        gain = (1 + (k[0] * 40.0) ** 2 / 8) ** -4 * (1 + (k[1] * 10.0) ** 2 / 8) ** -4
        np.testing.assert_allclose(smooth(wave), gain * wave, atol=1e-12)
    np.testing.assert_allclose(smooth(jnp.ones(grid.shape)), 1.0, rtol=1e-12)
    bell = smooth(jnp.zeros(grid.shape).at[30, 20].set(1.0))
    np.testing.assert_allclose(bell.sum(), 1.0, rtol=1e-12)
    assert np.all(bell > 0.0)
    # Tails that reach the faces, six lengths away, turn back: what they lack is below 1e-3.
    np.testing.assert_allclose(np.sum(bell * (10.0 * (x - 30.5)) ** 2), 40.0**2, rtol=5e-3)
    np.testing.assert_allclose(np.sum(bell * (5.0 * (z - 20.5)) ** 2), 10.0**2, rtol=5e-3)


def test_smoothing_with_lengths_of_zero_keeps_water_apart():
    wet = np.arange(21) < 6
    lengths = np.where(wet, 0.0, 25.0) * np.ones(GRID.shape)
    m = random(jax.ShapeDtypeStruct(GRID.shape, jnp.float32))
    for length in (lengths, np.stack([lengths, lengths])):
        found = pre.smoothing(GRID, length).mv(m)
        np.testing.assert_array_equal(found[:, wet], m[:, wet])
        other = pre.smoothing(GRID, length).mv(m.at[:, wet].add(100.0))
        np.testing.assert_array_equal(found[:, ~wet], other[:, ~wet])
        assert np.std(found[:, ~wet]) < 0.5 * np.std(m[:, ~wet])
    same = np.full(GRID.shape, 25.0)
    np.testing.assert_allclose(
        pre.smoothing(GRID, same).mv(m), pre.smoothing(GRID, 25.0).mv(m), atol=1e-6
    )


# ---------------------------------------------------------------- inverses


@pytest.mark.parametrize(
    "make",
    [
        lambda p, dtype: pre.depth_scaling(GRID, p, like=jnp.zeros(GRID.shape, dtype)),
        lambda p, dtype: pre.time_gain(SURVEY, p, dtype=dtype),
        lambda p, dtype: pre.fractional_derivative(SURVEY, p, dtype=dtype),
    ],
    ids=["depth_scaling", "time_gain", "fractional_derivative"],
)
@pytest.mark.parametrize("power", [0.5, 1.0, 1.7])
def test_opposite_powers_are_inverses(make, power: float, dtype: str):
    """On any trace, not on smooth ones only. An integral of order p adds up 301 samples: rounding
    grows by 301 ** p."""
    there, back = make(power, dtype), make(-power, dtype)
    x = random(there.in_structure())
    tolerance = INVERSE[dtype] * 301 ** (power - 0.5)
    assert difference((back @ there).mv(x), x) < tolerance
    assert difference(there.T.mv(back.T.mv(x)), x) < tolerance


def test_diagonal_operators_are_solved_by_lineax(x64: None):
    for name in ("depth_scaling", "time_gain"):
        operator = OPERATORS[name]("float64")
        x = random(operator.in_structure())
        assert difference(lx.linear_solve(operator, operator.mv(x)).value, x) < 1e-14


# ---------------------------------------------------------------- what they do


def test_top_mute():
    weights = pre.top_mute(GRID, 70.0, 30.0).diagonal
    z = np.linspace(50.0, 150.0, 21)
    assert np.all(weights[:, z <= 70.0] == 0.0)
    assert np.all(weights[:, z >= 100.0] == 1.0)
    np.testing.assert_allclose(weights[:, z == 85.0], 0.5, atol=1e-6)
    assert np.all(np.diff(weights, axis=1) >= 0.0)
    assert set(np.unique(pre.top_mute(GRID, 70.0, 0.0).diagonal)) == {0.0, 1.0}


def test_depth_scaling():
    weights = pre.depth_scaling(GRID, 2.0).diagonal[0]
    np.testing.assert_allclose(weights[1:], (np.arange(1, 21) / 20) ** 2, rtol=1e-6)
    assert weights[0] == weights[1]


def test_the_direct_wave_is_muted_and_the_reflection_is_not():
    """A layer over a half-space: the direct wave goes, but for the tail of 2-D waves, and the
    reflection stays."""
    grid = ox.Grid(shape=(81, 61), spacing=10.0)
    survey = ox.Survey(
        [[400.0, 20.0]], ox.line((0.0, 20.0), (800.0, 20.0), 9), ox.ricker(20.0, 351, 0.002), 0.002
    )
    F = ox.Propagator(ox.Acoustic(), grid, survey, max_velocity=2500.0, boundary=ox.Sponge(40))
    plain = jnp.full(grid.shape, 2000.0, jnp.float32)
    reflected = F(plain.at[:, 40:].set(2500.0)) - F(plain)
    mute = pre.mute_direct(survey, 1900.0, 0.02)
    # Behind a 2-D wavefront at time T, a wavelet of no area and no first moment leaves a tail like
    # (t - T) ** -2.5.
    assert norm(mute.mv(F(plain))) < 0.05 * norm(F(plain))
    assert difference(mute.mv(reflected)[0, 4], reflected[0, 4]) < 1e-3


def test_mutes_of_several_sources_wait_for_the_last():
    survey = ox.Survey([[[0.0, 0.0], [300.0, 0.0]]], [[0.0, 0.0]], np.eye(1, NT)[0], DT)
    weights = pre.mute_direct(survey, 1000.0, 0.0).diagonal[0, 0]
    assert np.flatnonzero(weights)[0] == round(0.3 / DT) + 1


@pytest.mark.parametrize(
    ("frequency", "gain"), [(1.25, 0.0), (5.0, 0.5), (14.0, 1.0), (40.0, 0.5), (120.0, 0.0)]
)
def test_band_pass_gains(frequency: float, gain: float, x64: None):
    """Tones in the middle of long traces; one at a corner loses half, and nothing is shifted in
    time."""
    nt = 4001
    t = np.arange(nt) * DT
    survey = ox.Survey(SURVEY.sources[:1], SURVEY.receivers[0][:1], ox.ricker(15.0, nt, DT), DT)
    tone = np.sin(2 * np.pi * frequency * t) * np.hanning(nt)
    passed = pre.band_pass(survey, 5.0, 40.0, dtype="float64").mv(jnp.asarray(tone)[None, None])[
        0, 0
    ]
    # the window's band is 1/8 Hz wide, over which the gain at 5 Hz, of slope 0.4 / Hz, varies by
    # less than 0.05
    assert norm(passed - gain * tone) < 0.05 * norm(tone)


def test_band_pass_does_not_wrap_around(x64: None):
    impulse = jnp.zeros((2, 5, NT)).at[..., -1].set(1.0)
    passed = pre.band_pass(SURVEY, 0.0, 40.0, dtype="float64").mv(impulse)
    assert norm(passed[..., : NT // 2]) < 1e-6 * norm(passed)  # 0.6 s away, at a bandwidth of 40 Hz


@pytest.mark.parametrize("order", [-0.5, 0.5, 1.0])
def test_fractional_derivative_in_frequency(order: float, x64: None):
    """(i w) ** order of a wavelet, up to what the docstring grants: half a sample's delay and a
    factor sinc ** order."""
    t = np.arange(NT) * DT
    a = (np.pi * 10.0 * (t - 0.5)) ** 2
    w = (1 - 2 * a) * np.exp(-a)
    got = pre.fractional_derivative(SURVEY, order, dtype="float64").mv(
        jnp.asarray(np.broadcast_to(w, (2, 5, NT)))
    )[0, 0]
    f = np.fft.rfftfreq(16 * NT, DT)
    with np.errstate(divide="ignore", invalid="ignore"):
        response = np.where(f > 0.0, (2j * np.pi * f) ** order, 0.0)
    exact = np.exp(-1j * np.pi * f * DT * order) * np.sinc(f * DT) ** order * response
    wanted = np.fft.irfft(exact * np.fft.rfft(w, 16 * NT))[:NT]
    # An integral of order 1/2 has a tail like t ** -2.5 for this wavelet, which wraps around in the
    # reference only.
    assert difference(got, wanted) < 1e-6


def test_fractional_derivative_is_causal(x64: None):
    impulse = jnp.zeros((2, 5, NT)).at[..., 100].set(1.0)
    D = pre.fractional_derivative(SURVEY, 0.5, dtype="float64")
    assert norm(D.mv(impulse)[..., :100]) < 1e-13 * norm(D.mv(impulse))
    assert norm(D.T.mv(impulse)[..., 101:]) < 1e-13 * norm(D.T.mv(impulse))


# ---------------------------------------------------------------- illumination


def small_propagator(dtype: str, equation: str = "acoustic") -> tuple[ox.Propagator, object]:
    grid = ox.Grid(shape=(17, 13), spacing=10.0)
    survey = ox.Survey(
        ox.line((20.0, 20.0), (140.0, 20.0), 3),
        ox.line((0.0, 30.0), (160.0, 30.0), 9),
        ox.ricker(30.0, 101, 0.002),
        0.002,
    )
    kind = {"acoustic": ox.Acoustic, "density": ox.AcousticDensity, "VTI": ox.VTI}[equation]
    F = ox.Propagator(
        kind(space_order=4),
        grid,
        survey,
        max_velocity=2200.0,
        boundary=ox.Sponge(width=8),
        min_points_per_wavelength=1.0,
    )
    values = {"vp": 2000.0, "rho": 1800.0, "epsilon": 0.1, "delta": 0.05}
    model = {n: jnp.full(grid.shape, values[n], dtype) for n in F.equation.parameter_names}
    return F, model["vp"] if equation == "acoustic" else model


@pytest.mark.slow
def test_probing_finds_the_diagonal_of_the_hessian(x64: None):
    """The mean of n probes scatters about the diagonal by the norm of the rest of the row over
    sqrt(n)."""
    F, model = small_propagator("float64")
    H = F.jacobian(model).as_matrix()
    H = H.T @ H
    probes = 64
    weights = pre.illumination(F, model, probes=probes, smoothing=0.0, water_level=1e-9).diagonal
    found = 1.0 / np.asarray(weights).ravel() ** 2
    exact = np.diag(H)
    scatter = np.sqrt((np.sum(H**2, axis=1) - exact**2) / probes)
    # Where the estimate is negative it was set to zero, which is nearer to the diagonal.
    assert np.all(np.abs(found - exact) < 5 * scatter + 1e-8 * exact.max())
    assert np.sqrt(np.mean(((found - exact) / scatter) ** 2)) < 1.5


@pytest.mark.slow
def test_illumination_brings_the_diagonal_to_one(x64: None):
    """Away from the sources' singularities: the spread falls by half, and the diagonal is about
    one."""
    F, model = small_propagator("float64")
    J = F.jacobian(model).as_matrix()
    R = pre.illumination(F, model, probes=16, smoothing=15.0, water_level=1e-3)
    before = np.sum(J**2, axis=0).reshape(F.grid.shape)[:, 5:]
    after = np.sum((J * np.asarray(R.diagonal).ravel()) ** 2, axis=0).reshape(F.grid.shape)[:, 5:]
    assert before.max() > 4 * before.min()
    assert after.std() / after.mean() < 0.5 * before.std() / before.mean()
    assert 0.5 < np.median(after) < 1.5


@pytest.mark.slow
def test_illumination_balances_parameters():
    """vp in m/s and Thomsen's epsilon differ by 10^3 in their columns' norms, preconditioned ones
    by less than 3."""
    F, model = small_propagator("float32", "VTI")
    R = pre.illumination(F, model, probes=2, smoothing=20.0)
    J = F.jacobian(model)

    def sizes(A):
        zero = jax.tree.map(jnp.zeros_like, model)
        return [
            norm(A.mv(zero | {n: random(jax.ShapeDtypeStruct(F.grid.shape, jnp.float32))}))
            for n in ("vp", "epsilon")
        ]

    (plain_vp, plain_epsilon), (vp, epsilon) = sizes(J), sizes(J @ R)
    assert plain_epsilon > 100 * plain_vp
    assert 1 / 3 < epsilon / vp < 3


@pytest.mark.slow
def test_illumination_sees_weights_of_the_traces():
    F, model = small_propagator("float32")
    weak = lx.DiagonalLinearOperator(jnp.full((3, 9, 101), 0.5, jnp.float32))
    kwargs = dict(probes=1, smoothing=20.0)
    plain, weighted = (
        pre.illumination(F, model, **kwargs),
        pre.illumination(F, model, left=weak, **kwargs),
    )
    assert difference(weighted.diagonal, 2.0 * plain.diagonal) < 1e-4


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: pre.top_mute(GRID, 20.0, 10.0),
            r"depth=20.0 must lie within the grid, from z = 50 to 150 m",
        ),
        (lambda: pre.top_mute(GRID, 60.0, -10.0), r"taper=-10.0 must be a length of at least 0 m"),
        (
            lambda: pre.top_mute(GRID, 60.0, 10.0, like=jnp.zeros((21, 7))),
            r"shape \(21, 7\), the grid has \(7, 21\)",
        ),
        (lambda: pre.top_mute(GRID, np.full(7, 20.0), 0.0), "depth=20 of a column must lie within"),
        (lambda: pre.top_mute(GRID, np.full(21, 70.0), 0.0), r"depth has shape \(21,\)"),
        (lambda: pre.seabed(GRID, np.ones((21, 7)), 1600.0), "transpose it"),
        (lambda: pre.seabed(GRID, np.ones((7, 21)), -1.0), "velocity=-1.0 must be a positive"),
        (lambda: pre.source_taper(GRID, NEAR, 0.0), "radius=0.0 must be a positive"),
        (lambda: pre.source_taper(GRID, NEAR, 10.0, inner=10.0), "inner=10.0 must be smaller"),
        (
            lambda: pre.source_taper(GRID, NEAR.replace(sources=ox.Extended(2)), 10.0),
            "fill the model",
        ),
        (lambda: pre.receiver_taper(ox.Grid((5,), 10.0), NEAR, 10.0), "has 2 axes, the grid has 1"),
        (lambda: pre.smoothing(GRID, -1.0), "its least is -1 m"),
        (lambda: pre.smoothing(GRID, (1.0, 2.0, 3.0)), r"length has shape \(3,\)"),
        (lambda: pre.depth_scaling(GRID, float("nan")), "power=nan"),
        (lambda: pre.mute_direct(SURVEY, 1.5, 0.1), "velocity=1.5 must be a speed in m/s"),
        (
            lambda: pre.mute_direct(SURVEY, 1500.0, -0.1),
            "taper=-0.1 must be a time of at least 0 s",
        ),
        (lambda: pre.mute_direct(SURVEY, 1500.0, 0.1, delay=-1.0), "delay=-1.0"),
        (lambda: pre.mute_direct(SURVEY, 1500.0, 0.1, delay=2.0), "mute every sample"),
        (lambda: pre.time_gain(SURVEY, float("inf")), "power=inf"),
        (lambda: pre.time_gain(SURVEY, 1.0, shots=0), "shots=0 must be a whole number at least 1"),
        (
            lambda: pre.band_pass(SURVEY, 5.0, 200.0),
            r"high <= 125 Hz, the Nyquist frequency of dt=0.004 s",
        ),
        (lambda: pre.band_pass(SURVEY, 20.0, 10.0), "low=20.0, high=10.0"),
        (lambda: pre.band_pass(SURVEY, 5.0, 20.0, order=0), "order=0"),
        (lambda: pre.fractional_derivative(SURVEY, 3.0), "order=3.0 must be a number from -2 to 2"),
        (lambda: pre.illumination(*small_propagator("float32"), probes=0), "probes=0"),
        (
            lambda: pre.illumination(*small_propagator("float32"), water_level=0.0),
            "water_level=0.0 must be a positive",
        ),
        (lambda: pre.illumination(*small_propagator("float32"), smoothing=-1.0), "smoothing=-1.0"),
        (
            lambda: pre.illumination(
                *small_propagator("float32"),
                left=lx.DiagonalLinearOperator(jnp.zeros((3, 9, 101), jnp.float32)),
            ),
            "do not depend on a parameter",
        ),
    ],
)
def test_bad_arguments(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()
