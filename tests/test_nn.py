"""Wave operators as layers: gradients, adjoints, transforms, what is trained and what is not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from host_calls import adjoint, forward
from problems import difference, norm
from slow import slow, slow_but

import ondax as ox

SHAPE, NT, DT, SHOTS = (22, 19), 45, 0.003, 2
DOT = {"float32": 1e-5, "float64": 1e-12}  # of the design: exact but for rounding


SPONGE = ox.Sponge(width=5)


@dataclass(frozen=True)
class Physics:
    """An equation with a constant model, by what it is called."""

    equation: ox.AbstractWaveEquation
    values: tuple[float, ...]
    receiver: Any = None
    boundary: ox.AbstractBoundary = SPONGE


PHYSICS = {
    "acoustic": Physics(ox.Acoustic(4), (2000.0,)),
    "density": Physics(ox.AcousticDensity(4), (2000.0, 1500.0)),
    "surface": Physics(
        ox.Acoustic(4), (2000.0,), boundary=ox.Faces(ox.Sponge(5), top=ox.FreeSurface())
    ),
    "elastic": Physics(
        ox.Elastic(4), (2200.0, 1200.0, 1500.0), receiver=("velocity_x", "velocity_z")
    ),
}


class Setting:
    """A propagator and random things to feed to layers."""

    def __init__(
        self, name: str = "acoustic", dtype: str = "float64", extended: bool = False, ndim: int = 2
    ) -> None:
        physics = PHYSICS[name]
        self.shape = SHAPE if ndim == 2 else (12, 11, 13)
        self.dtype, self.rng = dtype, np.random.default_rng(3)
        self.names = physics.equation.required(ndim)
        ends = ((20.0,) * ndim, (90.0,) * ndim)
        points = np.array([[70.0] * (ndim - 1) + [50.0], [40.0] * (ndim - 1) + [63.0]])
        survey = ox.Survey(
            ox.Extended(SHOTS) if extended else points,
            ox.line(*ends, 4),
            1e3 * self.rng.normal(size=(SHOTS, 1, NT)) * np.hanning(NT),
            DT,
            receiver=physics.receiver,
        )
        grid = ox.Grid(self.shape, 10.0)
        self.F = ox.Propagator(
            physics.equation,
            grid,
            survey,
            2500.0,
            boundary=physics.boundary,
            min_points_per_wavelength=0.0,
        )
        mean = np.array(physics.values).reshape(-1, *(1,) * ndim)
        self.channels = jnp.asarray(
            mean * (1 + 0.02 * self.rng.uniform(-1, 1, (len(mean), *self.shape))), dtype
        )

    @property
    def model(self) -> dict[str, jax.Array]:
        return dict(zip(self.names, self.channels, strict=True))

    def perturbation(self) -> jax.Array:
        return 0.02 * self.channels * self.random(self.channels.shape)

    def random(self, shape: tuple[int, ...]) -> jax.Array:
        return jnp.asarray(self.rng.normal(size=shape), self.dtype)

    def weights(self) -> jax.Array:
        return self.random((SHOTS, *self.shape))

    def wavelet(self) -> jax.Array:
        return jnp.asarray(self.F.survey.wavelet, self.dtype)

    def data(self) -> jax.Array:
        kind = self.F.survey.receiver
        components = (len(kind),) if isinstance(kind, tuple) else ()
        return self.random((SHOTS, *components, 4, NT))


def layers(s: Setting) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Layers, everything trainable, with inputs."""
    if s.F.survey.extended:
        held = {"wavelet": s.wavelet(), "trainable": True}
        return {
            "ExtendedModelling": (ox.nn.ExtendedModelling(s.F, s.model, **held), (s.weights(),)),
            "ExtendedModelling of model": (ox.nn.ExtendedModelling(s.F), (s.weights(), s.channels)),
            "ExtendedAdjoint": (ox.nn.ExtendedAdjoint(s.F, s.model, **held), (s.data(),)),
            "ExtendedAdjoint of model": (ox.nn.ExtendedAdjoint(s.F), (s.data(), s.channels)),
        }
    coarse = (SHOTS, 15, 6, 5)
    return {
        "Modelling": (ox.nn.Modelling(s.F, wavelet=s.wavelet()), (s.channels,)),
        "LinearModelling": (ox.nn.LinearModelling(s.F, s.model, trainable=True), (s.wavelet(),)),
        "AdjointModelling": (ox.nn.AdjointModelling(s.F, s.model, trainable=True), (s.data(),)),
        "Born": (ox.nn.Born(s.F, s.model, trainable=True), (s.perturbation(),)),
        "Migration": (ox.nn.Migration(s.F, s.model, trainable=True), (s.data(),)),
        "WavefieldModelling": (ox.nn.WavefieldModelling(s.F, space=4, time=3), (s.channels,)),
        "WavefieldSource": (
            ox.nn.WavefieldSource(s.F, s.model, space=4, time=3, trainable=True),
            (s.random(coarse),),
        ),
        "WavefieldAdjoint": (
            ox.nn.WavefieldAdjoint(s.F, s.model, space=4, time=3, trainable=True),
            (s.data(),),
        ),
    }


POINTS = [
    "Modelling",
    "LinearModelling",
    "AdjointModelling",
    "Born",
    "Migration",
    "WavefieldModelling",
    "WavefieldSource",
    "WavefieldAdjoint",
]
EXTENDED = [
    "ExtendedModelling",
    "ExtendedModelling of model",
    "ExtendedAdjoint",
    "ExtendedAdjoint of model",
]


def layer(
    name: str, physics: str = "acoustic", dtype: str = "float64"
) -> tuple[Setting, Any, tuple[Any, ...]]:
    s = Setting(physics, dtype, extended=name in EXTENDED)
    return s, *layers(s)[name]


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", slow_but(POINTS + EXTENDED, "Modelling", "ExtendedAdjoint"))
def test_gradients_in_every_input_and_leaf(x64: None, name: str):
    """Against centred differences, whose error relative to h = 1e-5 of an input is h^2, and
    rounding over h, 1e-11."""
    s, made, inputs = layer(name)
    out = made(*inputs)
    y = s.random(out.shape)
    params, static = eqx.partition((made, inputs), eqx.is_inexact_array)

    @jax.jit
    def value(params: Any) -> jax.Array:
        made, inputs = eqx.combine(params, static)
        return jnp.vdot(y, made(*inputs))

    gradient = jax.jit(jax.grad(value))(params)
    leaves, structure = jax.tree.flatten(params)
    for i, (leaf, found) in enumerate(zip(leaves, jax.tree.leaves(gradient), strict=True)):
        direction = s.random(leaf.shape) * float(jnp.abs(leaf).max())

        def along(h: float, i: int = i, direction: Any = direction) -> jax.Array:
            return value(
                jax.tree.unflatten(
                    structure, [a + h * direction if j == i else a for j, a in enumerate(leaves)]
                )
            )

        slope = float(along(1e-5) - along(-1e-5)) / 2e-5
        assert slope != 0.0
        # of a random direction's slope, times the root of its size
        scale = norm(found) * norm(direction)
        assert abs(slope - float(jnp.vdot(found, direction))) < 1e-6 * scale


@pytest.mark.parametrize("name", ["ExtendedModelling of model", slow("ExtendedAdjoint of model")])
@pytest.mark.parametrize("physics", ["acoustic", slow("density")])
def test_extended_layers_in_the_model(x64: None, name: str, physics: str):
    """The remainder of the linearisation falls as the square of the step."""
    s, made, (first, model) = layer(name, physics)
    y = s.random(made(first, model).shape)

    @jax.jit
    def value(model: jax.Array) -> jax.Array:
        return jnp.vdot(y, made(first, model))

    at, gradient = jax.jit(jax.value_and_grad(value))(model)
    direction = s.perturbation()
    steps = 0.1 * 0.5 ** np.arange(5)  # at 1 third order shows
    errors = [
        abs(float(value(model + h * direction) - at - h * jnp.vdot(gradient, direction)))
        for h in steps
    ]
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((slopes > 1.95) & (slopes < 2.05)), slopes


# ---------------------------------------------------------------- adjoints


PAIRS = {
    "LinearModelling": ("AdjointModelling", Setting.wavelet),
    "Born": ("Migration", Setting.perturbation),
    "WavefieldSource": ("WavefieldAdjoint", lambda s: s.random((SHOTS, 15, 6, 5))),
    "ExtendedModelling": ("ExtendedAdjoint", Setting.weights),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [slow("float32"), "float64"], indirect=True)
def test_adjoint_layers(dtype: str, name: str):
    adjoint, x = PAIRS[name]
    s = Setting("acoustic", dtype, extended=name in EXTENDED)
    made = layers(s)
    assert ox.dot_test(made[name][0], made[adjoint][0], x(s), s.data()) < DOT[dtype]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("physics", "ndim"),
    [("density", 2), ("surface", 2), ("elastic", 2), ("acoustic", 3)],
)
def test_extended_sources_of_any_equation(x64: None, physics: str, ndim: int):
    s = Setting(physics, extended=True, ndim=ndim)
    forward, adjoint = ox.nn.ExtendedModelling(s.F, s.model), ox.nn.ExtendedAdjoint(s.F, s.model)
    assert ox.dot_test(forward, adjoint, s.weights(), s.data()) < DOT["float64"]

    w, y, v = s.weights(), s.data(), s.perturbation()
    modelled = ox.nn.ExtendedModelling(s.F)
    value = jax.jit(lambda m: jnp.vdot(y, modelled(w, m)))
    # errors of 1e-8 and of rounding, 1e-12
    ahead, behind = (value(s.channels + h * v) for h in (1e-4, -1e-4))
    slope = float(ahead - behind) / 2e-4
    gradient = jax.grad(value)(s.channels)
    assert abs(slope - float(jnp.vdot(gradient, v))) < 1e-6 * norm(gradient) * norm(v)


@pytest.mark.parametrize("physics", ["acoustic", "surface"])
def test_an_extended_source_is_a_sum_of_points(x64: None, physics: str):
    """Weights at two nodes, against point sources there: a delta function has the weight of one
    over its cell."""
    s = Setting(physics, extended=True)
    nodes = [(7, 6), (12, 9)]
    weights = np.zeros((SHOTS, *SHAPE))
    for amount, node in zip((1.0, -0.5), nodes, strict=True):
        weights[(slice(None), *node)] = amount / 100.0
    got = s.F(s.model, weights=jnp.asarray(weights))
    positions = np.broadcast_to(10.0 * np.array(nodes), (SHOTS, 2, 2))
    wavelet = s.F.survey.wavelet * np.array([1.0, -0.5])[:, None]
    points = s.F.with_survey(ox.Survey(positions, s.F.survey.receivers, wavelet, DT))
    assert difference(got, points(s.model)) < 1e-12


def test_extended_sources_in_little_memory(x64: None):
    """Histories that do not fit are computed again, with the weights of their shot."""
    s = Setting(extended=True)
    tight = ox.Propagator(
        s.F.equation,
        s.F.grid,
        s.F.survey,
        2500.0,
        boundary=s.F.boundary,
        min_points_per_wavelength=0.0,
        settings=ox.Settings(memory=150_000),
    )
    w, y = s.weights(), s.data()
    gradients = [
        jax.grad(lambda m, w, F=F: jnp.vdot(y, F(m, weights=w)), (0, 1))(s.model, w)
        for F in (s.F, tight)
    ]
    assert difference(gradients[1], gradients[0]) < 1e-13


@pytest.mark.slow
def test_second_order_with_extended_sources(x64: None):
    """`F.jvp` and the Jacobian take weights, and agree."""
    s = Setting("density", extended=True)
    w, y = s.weights(), s.data()
    dm = dict(zip(s.names, s.perturbation(), strict=True))
    born = s.F.jacobian(s.model, weights=w)
    assert difference(s.F.jvp(s.model, dm, weights=w)[1], born.mv(dm)) < 1e-12
    assert ox.dot_test(born.mv, born.T.mv, dm, y) < DOT["float64"]


@pytest.mark.slow
def test_migrated_images_in_the_background(x64: None):
    """Both derivatives of <r, J(m) v>, by Born data and by the image, are one and the same."""
    s = Setting("density")
    y, v = s.data(), dict(zip(s.names, s.perturbation(), strict=True))

    def by_image(m: Any) -> jax.Array:
        image = s.F.jacobian(m).T.mv(y)
        return sum(jnp.vdot(image[n], v[n]) for n in s.names)

    by_born = jax.grad(lambda m: jnp.vdot(s.F.jacobian(m).mv(v), y))(s.model)
    assert difference(jax.grad(by_image)(s.model), by_born) < 1e-12
    direction = dict(zip(s.names, s.perturbation(), strict=True))
    _, along = jax.jvp(by_image, (s.model,), (direction,))  # forward mode too
    assert abs(
        float(along - sum(jnp.vdot(by_born[n], direction[n]) for n in s.names))
    ) < 1e-12 * norm(by_born) * norm(direction)


# ---------------------------------------------------------------- wavefields


def test_wavefields_are_what_receivers_would_record(x64: None):
    s = Setting()
    field = ox.nn.WavefieldModelling(s.F, space=4, time=3)(s.channels)
    x, z = np.meshgrid(np.arange(0, 22, 4) * 10.0, np.arange(0, 19, 4) * 10.0, indexing="ij")
    receivers = np.stack([x, z], axis=-1)
    assert field.shape == (SHOTS, 15, *receivers.shape[:-1])
    F = s.F.with_survey(ox.Survey(s.F.survey.sources, receivers[3], s.F.survey.wavelet, DT))
    assert difference(jnp.moveaxis(field[:, :, 3], 1, -1), F(s.model)[..., ::3]) < 1e-14


def test_a_wavefield_of_one_point_is_a_point_source(x64: None):
    """Every sample kept: the wavelet of a point, over its coarse cell."""
    s = Setting()
    wavefield = np.zeros((SHOTS, NT, 6, 5))
    wavefield[:, :, 2, 3] = s.F.survey.wavelet[:, 0] / 40.0**2
    point = s.F.with_survey(
        ox.Survey([[80.0, 120.0]] * SHOTS, s.F.survey.receivers, s.F.survey.wavelet, DT)
    )
    got = ox.nn.WavefieldSource(s.F, s.model, space=4)(jnp.asarray(wavefield))
    assert difference(got, point(s.model)) < 1e-13


# ---------------------------------------------------------------- transforms


@pytest.mark.parametrize("name", slow_but(POINTS + EXTENDED, "Modelling"))
def test_transforms(x64: None, name: str):
    """jit, vmap over a batch, scan and checkpoint change nothing."""
    _, made, inputs = layer(name)
    batch = jax.tree.map(lambda a: jnp.stack([a, 0.99 * a]), inputs)
    expected = jnp.stack([made(*jax.tree.map(lambda a, i=i: a[i], batch)) for i in (0, 1)])
    ways: dict[str, Callable[..., Any]] = {
        "jit": lambda *b: jnp.stack(
            [eqx.filter_jit(made)(*jax.tree.map(lambda a, i=i: a[i], b)) for i in (0, 1)]
        ),
        "vmap": jax.vmap(made),
        "scan": lambda *b: jax.lax.scan(lambda c, x: (c, made(*x)), None, b)[1],
    }
    for way, run in ways.items():
        assert difference(run(*batch), expected) < 1e-14, way

    def energy(made: Any, inputs: Any) -> jax.Array:
        return 0.5 * jnp.sum(made(*inputs) ** 2)

    arrays, static = eqx.partition((made, inputs), eqx.is_inexact_array)
    plain = jax.grad(lambda a: energy(*eqx.combine(a, static)))(arrays)
    again = jax.grad(jax.checkpoint(lambda a: energy(*eqx.combine(a, static))))(arrays)
    assert difference(again, plain) < 1e-14


def test_a_batch_through_extended_layers_has_gradients(x64: None):
    _, made, (weights, model) = layer("ExtendedModelling of model")
    batch = jnp.stack([weights, 0.5 * weights])

    def energy(w: Any, m: Any) -> jax.Array:
        return 0.5 * jnp.sum(jax.vmap(made, (0, None))(w, m) ** 2)

    g = jax.grad(energy, (0, 1))(batch, model)
    one = [jax.grad(lambda w, m: 0.5 * jnp.sum(made(w, m) ** 2), (0, 1))(w, model) for w in batch]
    assert difference(g[0], jnp.stack([a for a, _ in one])) < 1e-13
    assert difference(g[1], one[0][1] + one[1][1]) < 1e-13


# ---------------------------------------------------------------- in networks


def network(s: Setting, key: int = 0) -> eqx.nn.Sequential:
    """Convolution, extended modelling at a fixed model, convolution."""
    first, second = jax.random.split(jax.random.key(key))
    conv = {"padding": "SAME", "dtype": jnp.dtype(s.dtype)}
    return eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(SHOTS, SHOTS, 3, key=first, **conv),
            ox.nn.ExtendedModelling(s.F, s.model),
            eqx.nn.Conv2d(SHOTS, 1, 3, key=second, **conv),
        ]
    )


@pytest.mark.kernels
@pytest.mark.slow
def test_fixed_unless_asked(asked: list):
    """A network trains its convolutions, not the layer's model and wavelet, and no gradient of
    these is computed."""
    s = Setting(dtype="float32", extended=True)
    net, weights = network(s), s.weights()
    assert [
        leaf.shape
        for leaf in jax.tree.leaves(eqx.filter(net, eqx.is_inexact_array))
        if leaf.ndim != 3
    ] == [
        (SHOTS, SHOTS, 3, 3),
        (1, SHOTS, 3, 3),
    ]

    def loss(net: Any, w: Any) -> jax.Array:
        return jnp.sum(net(w) ** 2)

    for run in (eqx.filter_grad(loss), eqx.filter_jit(eqx.filter_grad(loss))):
        asked.clear()
        jax.block_until_ready(run(net, weights))
        # no history kept; of the adjoint: no coefficient, the weights, no wavelet, no positions
        assert asked == [forward(), adjoint(weights=True)]

    trainable = ox.nn.ExtendedModelling(s.F, s.model, trainable=True)
    asked.clear()
    jax.block_until_ready(eqx.filter_grad(lambda layer: jnp.sum(layer(weights) ** 2))(trainable))
    assert asked == [forward("m"), adjoint("m")]


@pytest.mark.kernels
def test_what_adjoint_layers_compute(asked: list):
    """The gradient of an adjoint layer in its traces is one forward run, no more."""
    s = Setting(dtype="float32", extended=True)
    adjoint, data = ox.nn.ExtendedAdjoint(s.F, s.model), s.data()
    jax.block_until_ready(jax.grad(lambda d: jnp.sum(adjoint(d) ** 2))(data))
    assert [name for name, *_ in asked] == ["adjoint", "forward"]


def test_fixed_arrays_do_not_recompile():
    """Two layers made alike are alike to jit."""
    s = Setting(dtype="float32", extended=True)
    traced = []

    @eqx.filter_jit
    def run(layer: Any, w: Any) -> jax.Array:
        traced.append(1)
        return layer(w)

    # the very first call counts too: it must not change what the propagator is to jit
    w = s.weights()
    first, second = (ox.nn.ExtendedModelling(s.F, s.model) for _ in range(2))
    assert jax.tree.leaves(first) == []
    assert np.array_equal(run(first, w), run(second, w))
    assert len(traced) == 1
    other = ox.nn.ExtendedModelling(s.F, jax.tree.map(lambda v: 1.01 * v, s.model))
    assert not np.array_equal(run(other, w), run(first, w))


def test_training_twice_gives_the_same_bits():
    s = Setting(dtype="float32", extended=True)
    weights, target = s.weights(), s.random((1, 4, NT))
    optimiser = optax.adam(1e-2)

    @eqx.filter_jit
    def step(net: Any, state: Any) -> Any:
        loss, gradient = eqx.filter_value_and_grad(lambda n: jnp.mean((n(weights) - target) ** 2))(
            net
        )
        updates, state = optimiser.update(gradient, state)
        return eqx.apply_updates(net, updates), state, loss

    runs = []
    for _ in range(2):
        net = network(s)
        state = optimiser.init(eqx.filter(net, eqx.is_inexact_array))
        losses = []
        for _ in range(4):
            with jax.numpy_dtype_promotion("standard"):  # optax's Adam wants it
                net, state, loss = step(net, state)
            losses.append(float(loss))
        runs.append((losses, jax.tree.leaves(eqx.filter(net, eqx.is_inexact_array))))
    assert runs[0][0] == runs[1][0]
    assert runs[0][0][-1] < runs[0][0][0]
    assert all(np.array_equal(a, b) for a, b in zip(runs[0][1], runs[1][1], strict=True))


def test_serialised(tmp_path: Any):
    """Trainable leaves travel; what is fixed belongs to the code that makes the network."""
    s = Setting(dtype="float32", extended=True)
    held = {"wavelet": s.wavelet(), "trainable": True}
    net = eqx.nn.Sequential([network(s)[0], ox.nn.ExtendedModelling(s.F, s.model, **held)])
    eqx.tree_serialise_leaves(tmp_path / "net.eqx", net)
    like = eqx.nn.Sequential(
        [
            network(s, 1)[0],
            ox.nn.ExtendedModelling(s.F, s.model, wavelet=0 * s.wavelet(), trainable=True),
        ]
    )
    loaded = eqx.tree_deserialise_leaves(tmp_path / "net.eqx", like)
    w = s.weights()
    assert np.array_equal(loaded(w), net(w))
    assert not np.array_equal(like(w), net(w))


# ---------------------------------------------------------------- refusals


def refusals() -> dict[str, tuple[Callable[[], Any], str]]:
    points, extended = Setting(dtype="float32"), Setting(dtype="float32", extended=True)
    m, w, d = points.model, extended.weights(), points.data()
    return {
        "extended, a layer of points": (
            lambda: ox.nn.Modelling(extended.F),
            "use ox.nn.ExtendedModelling",
        ),
        "points, an extended layer": (
            lambda: ox.nn.ExtendedModelling(points.F, m),
            r"ox.Survey\(ox.Extended",
        ),
        "no model": (
            lambda: ox.nn.ExtendedModelling(extended.F)(w),
            "either to the layer or with each call",
        ),
        "two models": (
            lambda: ox.nn.ExtendedModelling(extended.F, m)(w, points.channels),
            "either to the layer or with each call",
        ),
        "no channel": (
            lambda: ox.nn.Modelling(points.F)(m["vp"]),
            r"give \(parameter, \*grid\) = \(1, 22, 19\)",
        ),
        "no weights": (lambda: extended.F(m), r"F\(model, weights=w\)"),
        "weights of points": (lambda: points.F(m, weights=w), "sources are points"),
        "positions": (
            lambda: extended.F(m, weights=w, sources=jnp.zeros((2, 1, 2))),
            "have no positions",
        ),
        "shape of weights": (
            lambda: extended.F(m, weights=w[:, :-1]),
            r"weights has shape .*expected \(2, 22, 19\)",
        ),
        "wavelet of point adjoint": (
            lambda: points.F.adjoint(m, d, wavelet=points.wavelet()),
            "leave it out",
        ),
        "NaN": (lambda: jax.block_until_ready(extended.F(m, weights=w * jnp.nan)), "not finite"),
        "decimation": (lambda: ox.nn.WavefieldModelling(points.F, space=0), "space=0"),
        "wavefield": (
            lambda: ox.nn.WavefieldSource(points.F, m, space=4)(jnp.zeros((2, 7, 6, 5))),
            r"give \(shot, frame, \*coarse grid\) = \(2, 45, 6, 5\)",
        ),
        "no shot": (lambda: ox.Extended(0), "shots=0"),
    }


@pytest.mark.parametrize("what", refusals())
def test_refused(what: str):
    run, message = refusals()[what]
    with pytest.raises(Exception, match=message):
        run()
