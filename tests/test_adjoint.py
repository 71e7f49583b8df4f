"""The operators against each other: dot tests, Taylor tests, and every JAX transform against a
plain loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Problem, call, difference, dot, norm
from slow import slow, slow_but

DOT = {"float32": 1e-5, "float64": 1e-12}

DIMENSIONS = [("acoustic", 1, 4), ("acoustic", 2, 8), ("acoustic", 3, 4),
              ("density", 1, 4), ("density", 2, 4), ("density", 3, 2)]  # fmt: skip
PLACES = [("off", "sinc", 0.9), ("edge", "linear", 0.9), ("layer", "sinc", 1.7)]
DOTS = [
    Problem(*dimension, ratio=ratio, interpolation=interpolation, where=where, dtype=dtype)
    for dimension, (where, interpolation, ratio), dtype in itertools.product(
        DIMENSIONS, PLACES, DOT
    )
]
QUICK_DOTS = [p for p in DOTS if (p.equation, p.ndim, p.dtype) == ("acoustic", 2, "float64")]


@pytest.mark.parametrize("problem", slow_but(DOTS, *QUICK_DOTS), ids=str)
def test_dot(problem: Problem):
    """<A x, y> = <x, A' y> for F in the wavelet and for its Jacobian in the model.

    Normalised by ||A x|| ||y||, which Cauchy and Schwarz say is the scale of the two numbers'
    rounding errors.
    """
    with jax.enable_x64(problem.dtype == "float64"):
        F, model, y = problem.propagator(), problem.model(), problem.cotangent()
        q = jnp.asarray(
            np.random.default_rng(3).normal(size=problem.wavelet().shape).astype(problem.dtype)
        )
        d, adjoint = F(model, wavelet=q), F.adjoint(model, y)
        assert norm(d) > 0
        assert abs(dot(d, y) - dot(q, adjoint)) < DOT[problem.dtype] * norm(d) * norm(y)

        J, x = F.jacobian(model), problem.perturbation()
        born, image = J.mv(x), J.T.mv(y)
        assert norm(born) > 0
        assert abs(dot(born, y) - dot(x, image)) < DOT[problem.dtype] * norm(born) * norm(y)
        assert difference(J.T.T.mv(x), born) == 0.0


def slopes(remainders: list[float]) -> np.ndarray:
    """Orders at which a remainder falls over successive halvings."""
    return np.diff(-np.log2(remainders))


HALVINGS = 0.5 ** np.arange(5)  # four halvings


def assert_second_order(remainders: list[float], rounding: float) -> None:
    """A remainder a h^2 + b h^3 has slopes 2 + b h / (a ln 4) on halving: steps are chosen so that
    the second term is below 0.05, and the last remainder must stand clear of rounding, or the slope
    would test nothing."""
    assert remainders[-1] > 100 * rounding, "the remainder has sunk into rounding"
    assert np.all(np.abs(slopes(remainders) - 2) < 0.05), slopes(remainders)


@pytest.mark.parametrize(
    ("equation", "ndim", "order"),
    slow_but(DIMENSIONS, ("acoustic", 1, 4), ("density", 2, 4)),
)
def test_taylor_of_jacobian(x64: None, equation: str, ndim: int, order: int):
    problem = Problem(equation, ndim, order)
    F, model, x = problem.propagator(), problem.model(), problem.perturbation()
    d, J = F(model), F.jacobian(model)
    directions = [x]
    if isinstance(x, dict):  # one parameter at a time
        directions = [
            {k: v if k == name else jnp.zeros_like(v) for k, v in x.items()} for name in x
        ]
    for direction in directions:
        # A hundredth of the direction, so a thousandth of the model, keeps the third order below
        # the second by 1e-2.
        direction = jax.tree.map(lambda a: a * 1e-2, direction)
        born = J.mv(direction)
        remainders = []
        for h in HALVINGS:
            moved = F(jax.tree.map(lambda m, a, h=h: m + h * a, model, direction))
            remainders.append(norm(moved - d - h * born))
        assert_second_order(remainders, 1e-14 * norm(d))


INPUTS = ["vp", "rho", "wavelet", "sources", "receivers"]


@pytest.mark.parametrize(
    ("equation", "which"),
    [("acoustic", which) for which in INPUTS]
    + slow_but([("density", which) for which in INPUTS], ("density", "vp"), ("density", "rho")),
)
def test_taylor_of_misfit(x64: None, equation: str, which: str):
    if equation == "acoustic" and which == "rho":
        pytest.skip("Acoustic has no density")
    problem = Problem(equation, 2, 8 if equation == "acoustic" else 4)
    F = problem.propagator()
    inputs = problem.inputs()
    observed = 1.1 * F(jax.tree.map(lambda a: 0.97 * a, problem.model())) + 1e-3
    names = ["model", "wavelet", "sources", "receivers"]
    index = names.index(which) if which in names else 0

    def misfit(*arguments: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum((call(F)(*arguments) - observed) ** 2)

    rng = np.random.default_rng(5)
    # Sizes: a thousandth of a parameter, a tenth of the wavelet (whose remainder is exactly
    # quadratic), a few cm.
    if which in ("vp", "rho"):
        x = jax.tree.map(lambda a: 1e-2 * a, problem.perturbation())
        if isinstance(x, dict):
            x = {k: v if k == which else jnp.zeros_like(v) for k, v in x.items()}
    elif which == "wavelet":
        x = 0.1 * problem.wavelet() * rng.normal(size=problem.wavelet().shape)
    else:
        x = 0.05 * jnp.asarray(rng.uniform(-1, 1, inputs[index].shape))
    value, gradient = jax.value_and_grad(misfit, argnums=index)(*inputs)
    slope = dot(gradient, x)
    remainders = []
    for h in HALVINGS:
        moved = jax.tree.map(lambda a, b, h=h: a + h * b, inputs[index], x)
        remainders.append(
            abs(float(misfit(*inputs[:index], moved, *inputs[index + 1 :]) - value) - h * slope)
        )
    assert_second_order(remainders, 1e-15 * float(value))


transformed = pytest.mark.parametrize(("equation", "order"), [("acoustic", 8), slow("density", 4)])
# jit fuses the pointwise algebra before the time loop and so rounds coefficients differently, by an
# ulp or two; batching reassociates sums over shots. Sixty steps and a misfit of order one carry
# 2e-16 to 1e-14; exact where nothing differs.
REASSOCIATION = 1e-12


def scalar(problem: Problem, F):
    """A misfit of all four inputs that is not quadratic, so cotangents depend on the data, of size
    one in them."""
    size = norm(F(problem.model())) / np.sqrt(problem.cotangent().size)
    return lambda *inputs: jnp.sum(jnp.sin(call(F)(*inputs) / size))


class TestTransforms:
    """Each transform against the plain call, on traces and on gradients of all four inputs."""

    def gradient(self, problem: Problem):
        return jax.value_and_grad(scalar(problem, problem.propagator()), argnums=(0, 1, 2, 3))

    @transformed
    def test_jit(self, x64: None, equation: str, order: int):
        problem = Problem(equation, 2, order)
        plain = self.gradient(problem)
        assert (
            difference(jax.jit(plain)(*problem.inputs()), plain(*problem.inputs())) < REASSOCIATION
        )

    @pytest.mark.parametrize(("equation", "order"), [("acoustic", 8), ("density", 4)])
    def test_propagator_is_a_static_pytree(self, x64: None, equation: str, order: int):
        problem = Problem(equation, 2, order)
        F, model = problem.propagator(), problem.model()
        assert not jax.tree.leaves(F)
        assert hash(F) == hash(F)
        assert difference(jax.jit(lambda f, m: f(m))(F, model), F(model)) == 0.0

    @transformed
    def test_checkpoint(self, x64: None, equation: str, order: int):
        problem = Problem(equation, 2, order)
        f = scalar(problem, problem.propagator())
        plain = jax.value_and_grad(f, argnums=(0, 1, 2, 3))(*problem.inputs())
        again = jax.value_and_grad(jax.checkpoint(f), argnums=(0, 1, 2, 3))
        assert difference(again(*problem.inputs()), plain) < REASSOCIATION
        assert difference(jax.jit(again)(*problem.inputs()), plain) < REASSOCIATION

    @transformed
    def test_scan(self, x64: None, equation: str, order: int):
        """Three steps of descent, carried by `lax.scan`, against a Python loop."""
        problem = Problem(equation, 2, order)
        F, model = problem.propagator(), problem.model()
        observed = F(jax.tree.map(lambda a: 0.98 * a, model))
        gradient = jax.grad(lambda m: 0.5 * jnp.sum((F(m) - observed) ** 2))
        rate = 1.0 / norm(gradient(model))

        def step(m, _):
            return jax.tree.map(lambda a, g: a - rate * g, m, gradient(m)), None

        looped = model
        for _ in range(3):
            looped = step(looped, None)[0]
        scanned = jax.jit(lambda m: jax.lax.scan(step, m, length=3)[0])(model)
        moved = jax.tree.map(jnp.subtract, looped, model)
        # cancellation: model / move = 1e2
        assert difference(jax.tree.map(jnp.subtract, scanned, model), moved) < 1e-11

    @transformed
    @pytest.mark.parametrize(
        "axes",
        [
            (0, None, None, None),
            (None, 0, None, None),
            (0, 0, None, None),
            (None, None, 0, 0),
            (0, 0, 0, 0),
        ],
    )
    def test_vmap(self, x64: None, equation: str, order: int, axes: tuple):
        problem = Problem(equation, 2, order)
        inputs = problem.inputs()
        three = [jax.tree.map(lambda a, s=s: a * s, inputs) for s in (1.0, 0.99, 0.98)]
        stacked = jax.tree.map(lambda *a: jnp.stack(a), *three)
        arguments = [
            s if axis == 0 else a for s, a, axis in zip(stacked, inputs, axes, strict=True)
        ]
        gradient = self.gradient(problem)
        looped = [
            gradient(*[t if axis == 0 else a for t, a, axis in zip(one, inputs, axes, strict=True)])
            for one in three
        ]
        looped = jax.tree.map(lambda *a: jnp.stack(a), *looped)
        batched = jax.vmap(gradient, in_axes=axes)
        for got in (batched(*arguments), jax.jit(batched)(*arguments)):
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(looped), strict=True):
                assert difference(a, b) < REASSOCIATION

    @transformed
    def test_nested_vmap(self, x64: None, equation: str, order: int):
        """Models outside, wavelets inside: (model, wavelet) pairs on a 2 x 3 table."""
        problem = Problem(equation, 2, order)
        model, wavelet, sources, receivers = problem.inputs()
        models = jax.tree.map(lambda a: jnp.stack([a, 0.97 * a]), model)
        wavelets = jnp.stack([wavelet, -0.5 * wavelet, wavelet[:, ::-1]])
        gradient = jax.value_and_grad(scalar(problem, problem.propagator()), argnums=(0, 1))
        inner = jax.vmap(gradient, in_axes=(None, 0, None, None))
        got = jax.vmap(inner, in_axes=(0, None, None, None))(models, wavelets, sources, receivers)
        for i, j in itertools.product(range(2), range(3)):
            one = gradient(
                jax.tree.map(lambda a, i=i: a[i], models), wavelets[j], sources, receivers
            )
            picked = jax.tree.map(lambda a, i=i, j=j: a[i, j], got)
            for a, b in zip(jax.tree.leaves(picked), jax.tree.leaves(one), strict=True):
                assert difference(a, b) < REASSOCIATION

    @transformed
    def test_vmap_over_shots(self, x64: None, equation: str, order: int):
        problem = Problem(equation, 2, order)
        F, model = problem.propagator(), problem.model()

        def shot(m, i):
            return F(m, shots=i[None])[0]

        d = jax.vmap(shot, in_axes=(None, 0))(model, jnp.arange(2))
        assert difference(d, F(model)) == 0.0
        total = jax.grad(
            lambda m: jnp.sum(jax.vmap(shot, in_axes=(None, 0))(m, jnp.arange(2)) ** 3)
        )(model)
        assert difference(total, jax.grad(lambda m: jnp.sum(F(m) ** 3))(model)) < REASSOCIATION

    @transformed
    def test_jacobian_under_transforms(self, x64: None, equation: str, order: int):
        problem = Problem(equation, 2, order)
        F, model, y = problem.propagator(), problem.model(), problem.cotangent()
        xs = [problem.perturbation(seed) for seed in (1, 2)]
        ys = jnp.stack([y, problem.cotangent(4)])
        J = F.jacobian(model)
        stacked = jax.tree.map(lambda *a: jnp.stack(a), *xs)
        for got, want in (
            (jax.vmap(J.mv)(stacked), [J.mv(x) for x in xs]),
            (
                jax.jit(lambda m, s: jax.vmap(F.jacobian(m).mv)(s))(model, stacked),
                [J.mv(x) for x in xs],
            ),
            (jax.vmap(J.T.mv)(ys), [J.T.mv(one) for one in ys]),
        ):
            assert difference(got, jax.tree.map(lambda *a: jnp.stack(a), *want)) < REASSOCIATION
        # J.mv is linear, and JAX's transpose of it is J.T.mv
        assert difference(jax.linear_transpose(J.mv, model)(y)[0], J.T.mv(y)) < REASSOCIATION
        # F's own pullback is J.T.mv
        assert difference(jax.vjp(F, model)[1](y)[0], J.T.mv(y)) < REASSOCIATION
        gauss_newton = jax.grad(lambda x: 0.5 * jnp.sum(J.mv(x) ** 2))(xs[0])
        assert difference(gauss_newton, J.T.mv(J.mv(xs[0]))) < REASSOCIATION


def test_gradient_of_a_minibatch(x64: None):
    """The gradient of chosen shots is their part of the whole gradient, with the choice traced."""
    problem = Problem("density", 2, 4)
    F, model, y = problem.propagator(), problem.model(), problem.cotangent()

    @jax.jit
    def gradient(m, i):
        return jax.grad(lambda m: jnp.vdot(F(m, shots=i), y[i]))(m)

    parts = jax.tree.map(jnp.add, gradient(model, jnp.array([0])), gradient(model, jnp.array([1])))
    assert difference(parts, gradient(model, jnp.array([0, 1]))) < REASSOCIATION
    twice = jax.tree.map(lambda a: 2 * a, gradient(model, jnp.array([1])))
    assert difference(gradient(model, jnp.array([1, 1])), twice) < REASSOCIATION


def test_position_gradients_move_with_the_moveout(x64: None):
    """Moving one receiver changes only its own traces: the gradient of the others' misfit in its
    position is zero."""
    problem = Problem()
    F, inputs = problem.propagator(), problem.inputs()
    g = jax.grad(lambda r: jnp.sum(call(F)(*inputs[:3], r)[0, 2] ** 2))(inputs[3])
    assert np.count_nonzero(np.asarray(g)) == problem.ndim
    assert np.all(np.asarray(g)[0, 2] != 0)
