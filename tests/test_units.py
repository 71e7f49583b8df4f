"""Results do not depend on the units of source and data."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from registry import EQUATIONS, SPONGE
from slow import slow, slow_but

import ondax as ox

GRID = ox.Grid((31, 25), 10.0)
SOURCES, RECEIVERS = [[80.0, 40.0], [220.0, 40.0]], ox.line((20.0, 40.0), (280.0, 40.0), 14)
WAVELET = ox.ricker(14.0, 150, 0.002)
SIZES = (1e-20, 1e-12, 1e12, 1e20)
# the same digits: the smallest samples of a trace still fit into float32
POWERS = (2.0**-20, 2.0**20)
ALIKE = 1e-4


def survey(size=1.0, sources=SOURCES, wavelet=WAVELET, **more):
    return ox.Survey(sources, RECEIVERS, size * wavelet, 0.002, **more)


def propagator(size=1.0, **more):
    return ox.Propagator(ox.Acoustic(4), GRID, survey(size, **more), 2600.0, boundary=ox.Sponge(10))


VP = jnp.full(GRID.shape, 2000.0)
TRUE = VP.at[12:18, 12:16].set(2200.0)
CHANGE = TRUE - VP


def gradient(F, observed, size, model, **more):
    """Of a misfit that does not depend on the units."""
    return jax.grad(lambda m: 0.5 * jnp.sum(((F(m, **more) - observed) / size) ** 2))(model)


def off(found, right):
    """The relative difference of two trees."""
    pairs = [
        (np.asarray(f, float), np.asarray(r, float))
        for f, r in zip(*map(jax.tree.leaves, (found, right)))
    ]
    return max(np.linalg.norm(f - r) / np.linalg.norm(r) for f, r in pairs)


def same_digits(found, right):
    """But where waves have yet to arrive: what runs ahead of them is too small for float32 in some
    units."""
    found, right = np.asarray(found), np.asarray(right)
    arrived = np.abs(right) > 1e-12 * np.abs(right).max()
    assert np.count_nonzero(arrived) > right.size / 2
    np.testing.assert_array_equal(found[arrived], right[arrived])


@pytest.mark.slow
@pytest.mark.parametrize("size", POWERS)
def test_the_digits_stay(size):
    F, G = propagator(), propagator(size)
    observed = F(TRUE)
    same_digits(G(TRUE) / size, observed)
    same_digits(gradient(G, size * observed, size, VP), gradient(F, observed, 1.0, VP))
    born = F.jacobian(VP).mv(CHANGE)
    same_digits(G.jacobian(VP).mv(CHANGE) / size, born)
    same_digits(G.jacobian(VP).T.mv(born / size), F.jacobian(VP).T.mv(born))
    same_digits(G.jacobian(VP).T.mv(born) / size, F.jacobian(VP).T.mv(born))
    same_digits(F.adjoint(VP, size * born) / size, F.adjoint(VP, born))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_second_derivatives(size):
    def curved(F, size):
        return ox.hvp(lambda d: 0.5 * jnp.sum((d / size) ** 2), F, VP, CHANGE)

    right = curved(propagator(), 1.0)
    assert off(curved(propagator(size), size), right) < ALIKE
    G = propagator(size).forward_mode()
    gradient = jax.grad(lambda m: 0.5 * jnp.sum((G(m) / size) ** 2))
    assert off(jax.jvp(gradient, (VP,), (CHANGE,))[1], right) < ALIKE
    assert off(jax.grad(lambda m: jnp.vdot(gradient(m), CHANGE))(VP), right) < ALIKE


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_wavelets_and_positions(size):
    def gradients(F, size):
        def misfit(wavelet, sources, receivers):
            return 0.5 * jnp.sum(
                (F(VP, wavelet=wavelet, sources=sources, receivers=receivers) / size) ** 2
            )

        s = F.survey
        w = jnp.asarray(s.wavelet, jnp.float32)
        of_wavelet, *others = jax.grad(misfit, (0, 1, 2))(
            w, *(jnp.asarray(p, jnp.float32) for p in (s.sources, s.receivers))
        )
        return size * of_wavelet, *others

    right = gradients(propagator(), 1.0)
    for F in (propagator(size), propagator(size).forward_mode()):
        assert off(gradients(F, size), right) < ALIKE


@pytest.mark.slow
@pytest.mark.parametrize(("of_wavelet", "of_weights"), [(1e-20, 1.0), (1.0, 1e20), (1e15, 1e-30)])
def test_extended_sources(of_wavelet, of_weights):
    extended = ox.Survey(ox.Extended(2), RECEIVERS, WAVELET, 0.002)
    F = ox.Propagator(ox.Acoustic(4), GRID, extended, 2600.0, boundary=ox.Sponge(10))
    weights = jnp.zeros((2, *GRID.shape)).at[:, 10, 5].set(1.0).at[1, 20, 7].set(2.0)
    wavelet, size = jnp.asarray(extended.wavelet, jnp.float32), of_wavelet * of_weights

    def traces(weights, wavelet, vp):
        return F(vp, weights=weights, wavelet=wavelet)

    plain = traces(weights, wavelet, VP)
    assert off(traces(of_weights * weights, of_wavelet * wavelet, VP) / size, plain) < ALIKE

    def slopes(weights, wavelet, size):
        return jax.grad(
            lambda *a: 0.5 * jnp.sum((traces(*a) / size - 2.0 * plain) ** 2), (0, 1, 2)
        )(weights, wavelet, VP)

    found, right = (
        slopes(of_weights * weights, of_wavelet * wavelet, size),
        slopes(weights, wavelet, 1.0),
    )
    assert off((of_weights * found[0], of_wavelet * found[1], found[2]), right) < ALIKE


@pytest.mark.slow
def test_shots_of_very_different_sizes():
    """Each as if it were alone, a silent one included; sums over shots are those of the strong
    ones."""
    sources, sizes = np.array([*SOURCES, [150.0, 40.0]]), np.array([1e-20, 1e12, 0.0])
    F = propagator(sources=sources, wavelet=sizes[:, None, None] * WAVELET)
    traces = F(TRUE)
    for shot in (0, 1):
        alone = propagator(sizes[shot], sources=sources[[shot]])(TRUE)
        np.testing.assert_array_equal(traces[shot], alone[0])
    assert not traces[2].any()
    strong = propagator(1e12, sources=sources[[1]])
    expected = gradient(strong, strong(TRUE), 1e12, VP)
    np.testing.assert_array_equal(gradient(F, traces, 1e12, VP), expected)
    weak = gradient(F, traces[:1], 1e-20, VP, shots=jnp.array([0]))
    assert (
        off(
            weak,
            gradient(
                propagator(sources=sources[[0]]), propagator(sources=sources[[0]])(TRUE), 1.0, VP
            ),
        )
        < ALIKE
    )


@pytest.mark.slow
def test_batches_of_models_and_wavelets_keep_their_own_sizes():
    F = propagator()
    sizes = jnp.array([1e-20, 1.0, 1e20])
    models = jnp.stack([VP, TRUE, VP + CHANGE / 2])
    wavelets = sizes[:, None, None, None] * jnp.asarray(F.survey.wavelet, jnp.float32)

    def slope(m, w, s):
        return jax.grad(lambda m: 0.5 * jnp.sum((F(m, wavelet=w) / s) ** 2))(m)

    together = jax.vmap(slope)(models, wavelets, sizes)
    for number in range(3):
        assert off(together[number], slope(models[number], wavelets[1], 1.0)) < ALIKE


def test_what_float32_cannot_hold_is_said():
    F = propagator(1e-20)
    observed = F(TRUE)
    raw = lambda m: 0.5 * jnp.sum((F(m) - observed) ** 2)  # noqa: E731
    with pytest.raises(
        Exception,
        match="gradients of the coefficient m are too small for float32.*multiply the misfit",
    ):
        jax.block_until_ready(jax.grad(raw)(VP))
    with pytest.raises(Exception, match="wavelets of the survey .* are too small for float32"):
        jax.block_until_ready(propagator(2e-37)(VP))
    with pytest.raises(Exception, match="Born traces are too small for float32"):
        jax.block_until_ready(propagator(1e-30).jacobian(VP).mv(1e-4 * CHANGE))
    with pytest.raises(Exception, match="gradients of the coefficient m are too large for float32"):
        jax.block_until_ready(
            propagator(1e20).jacobian(VP).T.mv(1e38 * observed / jnp.max(observed))
        )


@pytest.mark.slow
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", EQUATIONS)
def test_every_equation(name, ndim):
    """Traces, gradients, Born traces and images, for sources from 1e-20 to 1e20."""
    entry, shape = EQUATIONS[name], (17, 15) if ndim == 2 else (11, 9, 11)
    grid = ox.Grid(shape, 8.0)
    middle = np.array([8.0 * (n // 2) for n in shape])
    wavelet = ox.ricker(25.0, 130, 0.001)
    source, receiver = entry.components
    if isinstance(source, tuple):
        wavelet = np.broadcast_to(wavelet, (1, len(source), 1, wavelet.size))

    def made(size):
        points = middle + np.array([[20.0] + [0.0] * (ndim - 1), [0.0] * (ndim - 1) + [16.0]])
        s = ox.Survey(middle[None], points, size * wavelet, 0.001, source=source, receiver=receiver)
        return ox.Propagator(
            entry.make(entry.order),
            grid,
            s,
            3000.0,
            boundary=SPONGE,
            min_points_per_wavelength=0.0,
            points_in_layer=True,
        )

    model = entry.model(shape, "float32")
    true = {n: v * 1.02 for n, v in model.items()}
    change = {n: true[n] - model[n] for n in model}

    def found(size):
        F = made(size)
        observed = F(true)
        J = F.jacobian(model)
        born = J.mv(change)
        # Traces of several components have sizes of their own: each counts alike.
        size_of = jnp.max(jnp.abs(observed), axis=(0, -2, -1), keepdims=True)
        slope = jax.grad(lambda m: 0.5 * jnp.sum(((F(m) - observed) / size_of) ** 2))(model)
        return observed / size, slope, born / size, J.T.mv(born / size_of / size_of)

    plain = found(1.0)
    for size in SIZES:
        for now, before in zip(found(size), plain, strict=True):
            assert off(now, before) < ALIKE


# ---------------------------------------------------------------- inversions


def invert(size, optimizer, **more):
    F = propagator(size)
    return ox.fwi(F, F(TRUE), VP, optimizer=optimizer, iterations=3, progress=False, **more)


LBFGS = optax.lbfgs(optax.piecewise_constant_schedule(100.0, {1: 1e-2}))


@pytest.mark.parametrize("size", [1e-20, slow(1e20)])
@pytest.mark.parametrize(
    "optimizer",
    [optax.adam(10.0), slow(LBFGS)],
    ids=["adam", "lbfgs"],
)
def test_inversions(optimizer, size):
    plain, found = (invert(s, optimizer) for s in (1.0, size))
    assert float(jnp.abs(plain.model - VP).max()) > 5.0
    assert off(found.model - VP, plain.model - VP) < ALIKE
    np.testing.assert_allclose(found.history.misfit / size**2, plain.history.misfit, rtol=ALIKE)
    np.testing.assert_allclose(
        found.history.gradient_norm / size**2, plain.history.gradient_norm, rtol=ALIKE
    )


MISFITS = {
    "l1": lambda size: ox.misfits.l1,
    "huber": lambda size: partial(ox.misfits.huber, threshold=1e-4 * size),
    "correlation": lambda size: ox.misfits.global_correlation,
    "envelope": lambda size: ox.misfits.envelope,
    "traveltime": lambda size: partial(ox.misfits.traveltime, dt=0.002),
}


def smooth(g):
    return 0.5 * g + 0.25 * (jnp.roll(g, 1, 0) + jnp.roll(g, -1, 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", MISFITS)
def test_misfits_and_preconditioners(name):
    """In units a power of two smaller nothing changes but exponents, not even the rounding."""
    plain, found = (
        invert(s, optax.adam(10.0), misfit=MISFITS[name](s), batch_size=1, precondition=smooth)
        for s in (1.0, 2.0**-66)
    )
    assert off(found.model - VP, plain.model - VP) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MISFITS if name not in ("l1", "huber")])
def test_misfits_in_decimal_units(name):
    """Data in other units are rounded otherwise. The slopes of l1, and of huber beyond its
    threshold, are signs of
    residuals: before the first arrival they are signs of rounding errors, and no two roundings
        agree on them."""
    plain, found = (
        invert(s, optax.adam(10.0), misfit=MISFITS[name](s), batch_size=1, precondition=smooth)
        for s in (1.0, 1e-20)
    )
    assert off(found.model - VP, plain.model - VP) < ALIKE


def test_a_preconditioner_that_needs_units_is_refused_where_there_are_none():
    with pytest.raises(ValueError, match="does not grow in proportion"):
        invert(1e-20, optax.adam(10.0), precondition=lambda g: jnp.clip(g, -1.0, 1.0))


@pytest.mark.slow
def test_steps_of_sgd_are_those_of_the_misfit_in_its_units():
    F = propagator(1e-3)
    observed = F(TRUE)
    slope = jax.grad(lambda m: 0.5 * jnp.sum((F(m) - observed) ** 2))(VP)
    rate = 10.0 / float(jnp.max(jnp.abs(slope)))
    found = ox.fwi(F, observed, VP, optimizer=optax.sgd(rate), iterations=1, progress=False)
    assert off(found.model - VP, -rate * slope) < 1e-6 * 2000.0 / 10.0  # the rounding of a velocity
    with pytest.raises(
        FloatingPointError, match="the gradient in units of the data has a norm of .*too small"
    ):
        invert(1e-20, optax.sgd(rate))
    with pytest.raises(FloatingPointError, match="too far from 1 for a line search"):
        invert(
            1e-20,
            optax.chain(
                optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20, store_grad=True)
            ),
        )


@pytest.mark.slow
def test_misfits_of_the_users_see_traces_as_they_are():
    squares = lambda p, o: jnp.sum((p - o) ** 2)  # noqa: E731
    plain, found = (invert(s, optax.adam(10.0), misfit=squares) for s in (1.0, 1e-6))
    assert off(found.model - VP, plain.model - VP) < ALIKE
    with pytest.raises(
        Exception, match=r"too small for float32.*multiply the misfit by a constant"
    ):
        invert(1e-20, optax.adam(10.0), misfit=squares)
    fourth = lambda p, o: jnp.sum((p - o) ** 4)  # noqa: E731  its slopes are zero too
    with pytest.raises(
        FloatingPointError, match=r"misfit is 0 in float32, but .* in float64.*Divide the traces"
    ):
        invert(1e-20, optax.adam(10.0), misfit=fourth)
    sized = lambda p, o: jnp.sum(((p - o) / 1e-20) ** 2)  # noqa: E731
    assert off(invert(1e-20, optax.adam(10.0), misfit=sized).model - VP, plain.model - VP) < ALIKE


SOLVERS = {
    "cgls": "cgls",
    "LSMR": lx.LSMR(1e-6, 1e-6),
    "adam": optax.adam(20.0),
    "lbfgs": optax.lbfgs(optax.piecewise_constant_schedule(30.0, {1: 1 / 30})),
}


def migrate(size, of_data=1.0, **setting):
    F = propagator(size)
    data = of_data * F.jacobian(VP).mv(CHANGE)
    return ox.lsrtm(F, data, VP, iterations=3, progress=False, **setting)


@pytest.mark.parametrize(
    ("solver", "size"),
    slow_but(itertools.product(SOLVERS, (1e-20, 1e20)), ("cgls", 1e-20)),
)
def test_migration(solver, size):
    plain, found = (migrate(s, solver=SOLVERS[solver]) for s in (1.0, size))
    assert float(jnp.abs(plain.image).max()) > 5.0
    assert off(found.image, plain.image) < ALIKE
    np.testing.assert_allclose(found.history.data_residual, plain.history.data_residual, rtol=ALIKE)
    np.testing.assert_allclose(
        found.history.normal_residual / size**2, plain.history.normal_residual, rtol=10 * ALIKE
    )


@pytest.mark.slow
def test_migration_of_data_in_other_units_than_the_source_with_weights_and_damping():
    """The image is in proportion to the data; weights of traces and image cancel, and so does what
    they do to the damping."""
    F = propagator()
    structure = F.jacobian(VP).out_structure()
    plain = migrate(1.0, damping=1e-12)
    for size, of_data, of_left, of_right in (
        (1e-15, 1e12, 1e15, 1.0),
        (1e15, 1e-10, 1.0, 1e-20),
        (1.0, 1.0, 1e-20, 1e20),
    ):
        left = lx.DiagonalLinearOperator(jnp.full(structure.shape, of_left, structure.dtype))
        right = lx.DiagonalLinearOperator(jnp.full(GRID.shape, of_right))
        damping = 1e-12 * (size * of_left * of_right) ** 2
        found = migrate(size, of_data, left=left, right=right, damping=damping)
        assert off(found.image / of_data, plain.image) < ALIKE


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_illumination(size):
    plain, found = (ox.preconditioners.illumination(propagator(s), VP) for s in (1.0, size))
    assert off(size * found.diagonal, plain.diagonal) < ALIKE
    plain, found = (
        migrate(s, right=ox.preconditioners.illumination(propagator(s), VP)).image
        for s in (1.0, size)
    )
    assert off(found, plain) < ALIKE
