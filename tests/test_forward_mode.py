"""`F.forward_mode()`: forward mode equals Born modelling, reverse mode equals that of F, and second
derivatives agree however they are taken.

Equal means to the bit where both ask for the same runs. Else there are a few roundings of float64
between them.
"""

import functools
import operator
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from host_calls import BORN, adjoint, forward
from problems import Problem, call, difference, dot, norm, tiny
from registry import EQUATIONS, enclosed
from slow import slow

import ondax as ox

PROBLEMS = ["acoustic", slow("density")]
DOT = {"float64": 1e-13, "float32": 1e-5}


@functools.cache
def problem(equation: str = "acoustic", ndim: int = 1) -> Problem:
    return Problem(equation, ndim, 4)


@functools.cache
def propagator(equation: str = "acoustic", ndim: int = 1) -> ox.Propagator:
    return problem(equation, ndim).propagator()


def smooth(shape: tuple[int, ...], seed: int) -> jax.Array:
    """Noise along the last axis that rises from zero and returns to it, of no high frequencies."""
    noise = np.random.default_rng(seed).normal(size=shape)
    kernel = np.hanning(13)
    made = np.apply_along_axis(lambda row: np.convolve(row, kernel, "same"), -1, noise)
    return jnp.asarray(made * np.hanning(shape[-1]))


def directions(of: Problem) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
    """Of model, wavelet, sources and receivers: these move by decimetres."""
    _, wavelet, sources, receivers = of.inputs()
    rng = np.random.default_rng(3)
    ds, dr = (jnp.asarray(0.1 * rng.normal(size=p.shape)) for p in (sources, receivers))
    return of.perturbation(), 100.0 * smooth(wavelet.shape, 4), ds, dr


def plus(a: Any, b: Any, h: float = 1.0) -> Any:
    return jax.tree.map(lambda x, y: x + h * y, a, b)


def pushed(f: Callable[..., Any], at: Any, along: Any) -> Any:
    """The derivative, by forward mode. One program, for compiling takes the time."""
    return jax.jit(lambda at, along: jax.jvp(f, at, along)[1])(at, along)


def pulled(f: Callable[..., Any], at: Any, cotangent: Any) -> Any:
    """The cotangents of all arguments, by reverse mode."""
    return jax.jit(lambda at, cotangent: jax.vjp(f, *at)[1](cotangent))(at, cotangent)


def equal(a: Any, b: Any) -> bool:
    """To the bit, and not all zero."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return norm(b) > 0.0 and all(np.array_equal(x, y) for x, y in pairs)


def misfit(traces: Any) -> Callable[[Any], jax.Array]:
    """Of traces like these. It is not quadratic, so that its own second derivative matters."""
    size, data = jnp.sqrt(jnp.mean(traces**2)), 0.8 * traces[..., ::-1]
    return lambda d: jnp.sum(jnp.sqrt(1.0 + ((d - data) / size) ** 2))


# ---------------------------------------------------------------- first derivatives


@pytest.mark.parametrize("equation", PROBLEMS)
@pytest.mark.kernels
def test_forward_mode_is_born_modelling(equation: str, x64_everywhere: None):
    of, F = problem(equation), propagator(equation)
    model, dm = of.model(), of.perturbation()
    G, born = F.forward_mode(), F.jacobian(model).mv(dm)
    traces, changes = jax.jvp(G, (model,), (dm,))
    assert difference(traces, F(model)) < 1e-14
    assert equal(changes, born)
    assert equal(pushed(G, (model,), (dm,)), born)
    traces, linear = jax.linearize(G, model)
    assert difference(traces, F(model)) < 1e-14
    assert difference(linear(dm), born) < 1e-14
    fused = jax.jit(F.jvp)(model, dm)[1]
    assert difference(fused, changes) < 1e-12  # the linearised scheme rounds otherwise


@pytest.mark.parametrize("equation", PROBLEMS)
def test_reverse_mode_is_that_of_the_propagator(equation: str, x64_everywhere: None):
    of, F = problem(equation), propagator(equation)
    f, g = call(F), call(F.forward_mode())
    inputs, y = of.inputs(), of.cotangent()
    for one, other in zip(pulled(g, inputs, y), pulled(f, inputs, y), strict=True):
        assert difference(one, other) < 1e-14
    changes = pushed(g, inputs, directions(of))
    error = abs(dot(changes, y) - dot(pulled(f, inputs, y), directions(of)))
    assert error < 1e-13 * norm(changes) * norm(y)


@pytest.mark.parametrize("which", [0, 1, 2, 3], ids=["model", "wavelet", "sources", "receivers"])
@pytest.mark.parametrize("equation", PROBLEMS)
def test_each_input_alone(equation: str, which: int, x64_everywhere: None):
    """A dot test with the gradient of F; and `|f(x + h dx) - f(x) - h df|` falls as h^2, or is
    rounding, of what is linear."""
    of, F = problem(equation), propagator(equation)
    inputs: Any = of.inputs()
    dx, y = directions(of)[which], of.cotangent()

    def alone(F: ox.Propagator) -> Callable[[Any], Any]:
        f: Any = call(F)
        return lambda x: f(*inputs[:which], x, *inputs[which + 1 :])

    x, f = inputs[which], alone(F)
    traces, changes = jax.jvp(alone(F.forward_mode()), (x,), (dx,))
    (gradient,) = pulled(f, (x,), y)
    assert norm(changes) > 0.0
    assert abs(dot(changes, y) - dot(dx, gradient)) < 1e-13 * norm(changes) * norm(y)
    rests = [norm(f(plus(x, dx, h)) - traces - h * changes) for h in 0.5 ** np.arange(4)]
    if which == 1:
        assert max(rests) < 1e-12 * norm(traces)
    else:
        slopes = np.log2(np.array(rests[:-1]) / np.array(rests[1:]))
        assert np.all((slopes > 1.9) & (slopes < 2.1)), slopes


@pytest.mark.kernels
def test_nothing_is_computed_that_nobody_asks_for(asked: list):
    of = Problem("density", 1, 4, dtype="float32")
    G = of.propagator().forward_mode()
    model, wavelet, sources, receivers = of.inputs()

    def modelled(vp: Any, rho: Any, w: Any, s: Any, r: Any) -> Any:
        return G({"vp": vp, "rho": rho}, wavelet=w, sources=s, receivers=r)

    inputs: Any = (model["vp"], model["rho"], wavelet, sources, receivers)
    kappa, buoyancy = "compressibility", "buoyancy_z"
    expected: dict[int, list[Any]] = {
        0: [forward(kappa), BORN],
        1: [forward(kappa, buoyancy), BORN],
        2: [forward(), BORN],
        3: [forward(), BORN],
        4: [forward(slopes=True)],
    }

    def calls(run: Callable[..., Any], *arguments: Any) -> list[Any]:
        asked.clear()
        jax.block_until_ready(jax.jit(run)(*arguments))
        return sorted(asked, key=lambda key: key[0] != "forward")  # XLA runs them in any order

    for n, wanted in expected.items():
        others: Any = functools.partial(modelled, *inputs[:n])
        alone = lambda x, f=others, n=n: f(x, *inputs[n + 1 :])  # noqa: E731
        assert calls(lambda x, a=alone: jax.jvp(a, (x,), (x,)), inputs[n]) == wanted, n
    loss = lambda vp, w: jnp.sum(modelled(vp, model["rho"], w, sources, receivers) ** 2)  # noqa: E731
    both = [forward(kappa), adjoint(kappa, wavelet=True)]
    assert calls(jax.grad(loss, (0, 1)), model["vp"], wavelet) == both


def test_batches_and_loops(x64_everywhere: None):
    """Tangents mapped over; a map inside of the derivative, with an operand that it shares; and a
    scan."""
    of, F = problem(), propagator()
    G, (model, wavelet, *_), dm, y = (
        F.forward_mode(),
        of.inputs(),
        of.perturbation(),
        of.cotangent(),
    )
    models, cotangents = jnp.stack([model, 0.99 * model]), jnp.stack([y, y[::-1]])
    born = [F.jacobian(m).mv(dm) for m in models]

    tangents = jnp.stack([dm, 2.0 * dm])
    mapped = jax.vmap(lambda v: pushed(G, (model,), (v,)))(tangents)
    assert difference(mapped, jnp.stack([born[0], 2.0 * born[0]])) < 1e-13

    def many(F: ox.Propagator) -> Callable[..., Any]:
        return lambda m, w: jax.vmap(lambda m: F(m, wavelet=w))(m)

    found = pushed(many(G), (models, wavelet), (jnp.stack([dm, dm]), jnp.zeros_like(wavelet)))
    assert difference(found, jnp.stack(born)) < 1e-13
    one, other = (pulled(many(f), (models, wavelet), cotangents) for f in (G, F))
    assert difference(one, other) < 1e-13

    def looped(models: Any) -> Any:
        return jax.lax.scan(lambda carry, m: (carry, G(m)), 0, models)[1]

    assert difference(pushed(looped, (models,), (jnp.stack([dm, dm]),)), jnp.stack(born)) < 1e-13


# ---------------------------------------------------------------- second derivatives


def inner(gradient: Callable[..., Any], along: Any) -> Callable[..., jax.Array]:
    """The slope along a direction."""

    def slope(*x: Any) -> jax.Array:
        parts = jax.tree.map(jnp.vdot, gradient(*x), along)
        return functools.reduce(operator.add, jax.tree.leaves(parts))

    return slope


def products(loss: Callable[..., Any], at: Any, along: Any) -> dict[str, Any]:
    """The Hessian's product with a direction, by each way that needs forward mode, or reverse mode
    twice."""
    every = tuple(range(len(at)))
    gradient = jax.grad(loss, every)

    @jax.jit
    def found(at: Any, along: Any) -> dict[str, Any]:
        return {
            "forward over reverse": jax.jvp(gradient, at, along)[1],
            "reverse over reverse": jax.grad(inner(gradient, along), every)(*at),
            "reverse over forward": jax.grad(lambda *x: jax.jvp(loss, x, along)[1], every)(*at),
        }

    return found(at, along)


def assert_differences(found: Any, loss: Callable[..., Any], at: Any, along: Any) -> None:
    """Of gradients: of second order in a step of 1e-4 of what moves waves by less than their
    length, so 1e-8 and room."""
    gradient, e = jax.jit(jax.grad(loss, tuple(range(len(at))))), 1e-4
    ends = [gradient(*plus(at, along, s * e)) for s in (1.0, -1.0)]
    for one, high, low in zip(found, *ends, strict=True):
        right = jax.tree.map(lambda a, b: (a - b) / (2.0 * e), high, low)
        assert difference(jax.tree.leaves(one), jax.tree.leaves(right)) < 1e-6


@pytest.mark.parametrize("equation", PROBLEMS)
def test_second_derivatives(equation: str, x64_everywhere: None):
    """All ways agree with `ox.hvp`.
    A lever that is no inverse of itself on the way back would be off by many powers of two."""
    of, F = problem(equation), propagator(equation)
    G, model, dm = F.forward_mode(), of.model(), of.perturbation()
    value = misfit(F(of.model()))
    right = ox.hvp(value, F, model, dm)
    assert difference(ox.hvp(value, G, model, dm), right) < 1e-12
    for way, (found,) in products(lambda m: value(G(m)), (model,), (dm,)).items():
        assert difference(found, right) < 1e-12, way
    curved = pushed(lambda m: pushed(lambda m: value(G(m)), (m,), (dm,)), (model,), (dm,))
    assert abs(curved - dot(right, dm)) < 1e-12 * norm(right) * norm(dm)


@pytest.mark.parametrize("equation", PROBLEMS)
def test_gradients_of_the_propagator_itself(equation: str, x64_everywhere: None):
    """They are made of primitives, which have both modes."""
    of, F = problem(equation), propagator(equation)
    model, dm, value = of.model(), of.perturbation(), misfit(F(of.model()))
    right = ox.hvp(value, F, model, dm)
    gradient = jax.grad(lambda m: value(F(m)))
    assert difference(pushed(gradient, (model,), (dm,)), right) < 1e-12
    twice = jax.jit(jax.grad(inner(gradient, dm)))
    assert difference(twice(model), right) < 1e-12


@pytest.mark.parametrize("equation", PROBLEMS)
def test_gauss_newton(equation: str, x64_everywhere: None):
    """`vjp` of `jvp`, as one program."""
    of, F = problem(equation), propagator(equation)
    G, J, dm = F.forward_mode(), F.jacobian(of.model()), of.perturbation()
    normal = jax.jit(lambda m, v: jax.vjp(G, m)[1](jax.jvp(G, (m,), (v,))[1])[0])
    assert difference(normal(of.model(), dm), J.T.mv(J.mv(dm))) < 1e-14


def test_a_misfit_summed_over_shots(x64_everywhere: None):
    """What is made of the sum is differentiated with it: its cotangent is none of the inside."""
    of, F = problem(), propagator()
    observed, model, dm = 0.9 * of.cotangent(), of.model(), of.perturbation()
    objective = ox.Objective(F, observed)

    def plain(m: Any) -> jax.Array:
        return jnp.log(0.5 * jnp.sum((F.forward_mode()(m) - observed) ** 2))

    (right,) = pushed(jax.grad(plain, (0,)), (model,), (dm,))
    found = jax.grad(inner(jax.grad(lambda m: jnp.log(objective(m))), dm))(model)
    assert difference(found, right) < 1e-12


def test_model_and_wavelet_together(x64_everywhere: None):
    """Mixed second derivatives, too."""
    of, F = problem(), propagator()
    (model, wavelet, *_), (dm, dw, *_) = of.inputs(), directions(of)
    value = misfit(F(of.model()))
    at, along = (model, wavelet), (dm, dw)

    def loss(F: ox.Propagator) -> Callable[..., Any]:
        return lambda m, w: value(F(m, wavelet=w))

    for found in products(loss(F.forward_mode()), at, along).values():
        assert_differences(found, loss(F), at, along)


@pytest.mark.slow
def test_dense_matrices(x64_everywhere: None):
    """`jacfwd`, and `hessian` both ways."""
    F, model = tiny()
    G = F.forward_mode()
    dense = jax.jit(jax.jacfwd(G))(model).reshape(-1, 13)
    assert difference(dense, F.jacobian(model).as_matrix()) < 1e-13
    value = misfit(F(model))
    loss = lambda m: value(G(m))  # noqa: E731
    found = jax.jit(jax.hessian(loss))(model)
    assert difference(found, found.T) < 1e-12
    rows = [ox.hvp(value, F, model, e) for e in jnp.eye(13)[:3]]
    assert difference(found[:3], jnp.stack(rows)) < 1e-12
    assert difference(jax.jit(jax.jacrev(jax.jacrev(loss)))(model), found) < 1e-12


def test_lineax_and_least_squares(x64_everywhere: None):
    """JAX's Jacobian of the twin as an operator, and a Gauss-Newton step with it."""
    of, F = problem(), propagator()
    G, model = F.forward_mode(), of.model()
    J = lx.JacobianLinearOperator(lambda m, _: G(m), model)
    dm, y, K = of.perturbation(), of.cotangent(), F.jacobian(model)
    assert equal(J.mv(dm), K.mv(dm))
    assert difference(J.T.mv(y), K.T.mv(y)) < 1e-14
    data = F(plus(model, dm, 0.02))
    rest = data - F(model)
    solver = lx.Normal(lx.CG(rtol=1e-3, atol=0.0, max_steps=12))
    step = lx.linear_solve(J, rest, solver, throw=False).value
    assert norm(data - F(model + step)) < 0.3 * norm(rest)


# ---------------------------------------------------------------- what the twin is


@pytest.mark.kernels
def test_a_twin_is_a_propagator(x64_everywhere: None):
    of, F = problem(), propagator()
    G, model, dm = F.forward_mode(), of.model(), of.perturbation()
    born = F.jacobian(model).mv(dm)
    assert type(G) is type(F)
    assert G == F.forward_mode() == G.forward_mode() != F
    assert hash(G) == hash(F.forward_mode())
    assert jax.tree.leaves(G) == []
    read = pickle.loads(pickle.dumps(G))
    assert equal(pushed(read, (model,), (dm,)), born)
    part = G.with_survey(F.survey[1:])
    assert equal(pushed(part, (model,), (dm,)), F.with_survey(F.survey[1:]).jacobian(model).mv(dm))
    assert pushed(G.replace(courant=0.9), (model,), (dm,)).shape == born.shape
    one = jnp.array([1])
    of_one = pushed(lambda m: G(m, shots=one), (model,), (dm,))
    assert equal(of_one, F.jacobian(model, shots=one).mv(dm))
    assert equal(G.jacobian(model).mv(dm), born)
    assert equal(G.jvp(model, dm), F.jvp(model, dm))


def test_its_adjoint(x64_everywhere: None):
    """The twin's is differentiated by its own rules: as that of F, and in forward mode."""
    of, F = problem(), propagator()
    G, at = F.forward_mode(), (of.model(), of.cotangent())
    along = (of.perturbation(), of.cotangent(5))
    y = smooth(F.survey.wavelet.shape, 6)
    for one, other in zip(pulled(G.adjoint, at, y), pulled(F.adjoint, at, y), strict=True):
        assert difference(one, other) < 1e-13
    changes = pushed(G.adjoint, at, along)
    error = abs(dot(changes, y) - dot(pulled(F.adjoint, at, y), along))
    assert error < 1e-13 * norm(changes) * norm(y)


@functools.cache
def surveyed(kind: str) -> ox.Propagator:
    """Two or three shots over a part of the plane."""
    grid, wavelet = ox.Grid((41, 16), 10.0), ox.ricker(15.0, 110, 0.002)
    sources = [[60.0, 20.0], [200.0, 40.0], [330.0, 30.0]]
    receivers: Any = [[[40.0, 30.0], [90.0, 30.0]], [[180.0, 30.0]], [[310.0, 20.0], [350.0, 20.0]]]
    how: dict[str, Any] = {"boundary": ox.Sponge(5), "min_points_per_wavelength": 0.0}
    if kind == "aperture":
        how["aperture"] = 90.0
    if kind == "sampled":
        how["settings"] = ox.Settings(store_every=3)
    if kind == "extended":
        survey = ox.Survey(ox.Extended(2), receivers[0], wavelet, 0.002)
    else:
        survey = ox.Survey(sources, receivers, wavelet, 0.002)
    return ox.Propagator(ox.Acoustic(4), grid, survey, 2300.0, **how)


def medium(F: ox.Propagator) -> tuple[jax.Array, jax.Array]:
    """A model, and a direction."""
    x, z = np.ogrid[: F.grid.shape[0], : F.grid.shape[1]]
    model = 2000.0 + 8.0 * z + 40.0 * np.sin(0.2 * x + 0.1 * z)
    rng = np.random.default_rng(2)
    return jnp.asarray(model), jnp.asarray(100.0 * rng.normal(size=F.grid.shape))


@pytest.mark.parametrize("kind", ["ragged", "aperture", "sampled"])
def test_field_surveys(kind: str, x64_everywhere: None):
    F = surveyed(kind)
    G, (model, dm) = F.forward_mode(), medium(F)
    assert equal(pushed(G, (model,), (dm,)), F.jacobian(model).mv(dm))
    value = misfit(F(model))
    right = jax.grad(lambda m: value(F(m)))(model)
    assert difference(jax.grad(lambda m: value(G(m)))(model), right) < 1e-14


@pytest.mark.slow
def test_extended_sources(x64_everywhere: None):
    """In model, weights and wavelet, the last two of which multiply each other."""
    F = surveyed("extended")
    G, (model, dm) = F.forward_mode(), medium(F)
    rng = np.random.default_rng(8)
    weights, dq = (jnp.asarray(rng.normal(size=(2, *F.grid.shape))) for _ in range(2))
    wavelet = jnp.broadcast_to(jnp.asarray(F.survey.wavelet), (2, 1, 110))
    at, along = (model, weights, wavelet), (dm, dq, smooth(wavelet.shape, 9))

    def modelled(F: ox.Propagator) -> Callable[..., Any]:
        return lambda m, q, w: F(m, weights=q, wavelet=w)

    f, g = modelled(F), modelled(G)
    traces, changes = jax.jvp(g, at, along)
    y = jnp.asarray(rng.normal(size=traces.shape))
    one, other = pulled(g, at, y), pulled(f, at, y)
    for a, b in zip(one, other, strict=True):
        assert difference(a, b) < 1e-14
    for n in range(3):  # each alone, and all
        along_one = tuple(x if k == n else jnp.zeros_like(x) for k, x in enumerate(along))
        alone = pushed(g, at, along_one)
        error = abs(dot(alone, y) - dot(along_one[n], other[n]))
        assert error < 1e-13 * norm(alone) * norm(y)
    assert abs(dot(changes, y) - dot(along, other)) < 1e-13 * norm(changes) * norm(y)
    value = misfit(traces)
    found = products(lambda *x: value(g(*x)), at, along)
    for way, product in found.items():
        assert difference(product, found["forward over reverse"]) < 1e-12, way
    assert_differences(found["forward over reverse"], lambda *x: value(f(*x)), at, along)


@pytest.mark.slow
def test_initial_fields(x64_everywhere: None):
    F = surveyed("ragged").replace(time_dispersion="raw")
    F = F.with_survey(F.survey[:2])
    G, (model, dm) = F.forward_mode(), medium(F)
    rng = np.random.default_rng(8)
    first, second = (
        F.at_rest(model, {"u": jnp.asarray(rng.normal(size=F.grid.shape))}) for _ in range(2)
    )

    def modelled(F: ox.Propagator) -> Callable[..., Any]:
        return lambda m, fields: F(m, initial=fields)

    at, along = (model, first), (dm, second)
    changes = pushed(modelled(G), at, along)
    y = jnp.asarray(rng.normal(size=changes.shape))
    other = pulled(modelled(F), at, y)
    assert difference(pulled(modelled(G), at, y), other) < 1e-14
    assert abs(dot(changes, y) - dot(along, other)) < 1e-13 * norm(changes) * norm(y)
    alone = pushed(lambda fields: modelled(G)(model, fields), (first,), (second,))
    assert difference(alone + F.jacobian(model, initial=first).mv(dm), changes) < 1e-13
    value = misfit(modelled(F)(*at))
    found = products(lambda *x: value(modelled(G)(*x)), at, along)
    for way, product in found.items():
        assert difference(product, found["forward over reverse"]) < 1e-12, way
    loss = lambda *x: value(modelled(F)(*x))  # noqa: E731
    assert_differences(found["forward over reverse"], loss, at, along)


def from_start_to_end(of: Problem, F: ox.Propagator) -> Callable[..., Any]:
    """A run from a pressure to its final fields, in all inputs."""
    name = "u" if of.equation == "acoustic" else "p"

    def run(m: Any, p: Any, w: Any, s: Any, r: Any) -> Any:
        start = F.at_rest(m, {name: p})
        return F.with_final(m, wavelet=w, sources=s, receivers=r, initial=start)

    return run


@pytest.mark.parametrize("alone", [None, *(slow(n) for n in range(5))])
@pytest.mark.parametrize("equation", PROBLEMS)
def test_start_and_end(equation: str, alone: int | None, x64_everywhere: None):
    """The gradients of F, and a dot test with them; of all inputs or of one."""
    of, rng = problem(equation), np.random.default_rng(8)
    F = of.propagator(time_dispersion="raw")
    f, g = from_start_to_end(of, F), from_start_to_end(of, F.forward_mode())
    first, second = (jnp.asarray(rng.normal(size=of.shape)) for _ in range(2))
    dm, *others = directions(of)
    at, along = (of.model(), first, *of.inputs()[1:]), [dm, second, *others]
    y = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), jax.eval_shape(f, *at))
    gradients = pulled(f, at, y)
    if alone is None:
        found = pulled(g, at, y)
        assert difference(jax.tree.leaves(found), jax.tree.leaves(gradients)) < 1e-14
        changes = pushed(g, at, tuple(along))
    else:
        one = lambda x: g(*at[:alone], x, *at[alone + 1 :])  # noqa: E731
        changes = pushed(one, (at[alone],), (along[alone],))
        along, gradients = along[alone], gradients[alone]
    error = abs(dot(changes, y) - dot(along, gradients))
    assert error < 1e-13 * norm(changes) * norm(y)


# ---------------------------------------------------------------- Jacobians in the wavelet


@pytest.mark.parametrize("equation", PROBLEMS)
def test_jacobians_in_the_wavelet(equation: str, x64_everywhere: None):
    """Born traces and images are linear in the wavelet, so their derivatives are they themselves,
    of the tangent; in reverse mode both are the transposes of each other's."""
    of, F = problem(equation), propagator(equation)
    (model, wavelet, *_), y = of.inputs(), of.cotangent()
    dm, dw, *_ = directions(of)
    born = lambda w: F.jacobian(model, wavelet=w).mv(dm)  # noqa: E731
    image = lambda w: F.jacobian(model, wavelet=w).T.mv(y)  # noqa: E731
    for f in (born, image):
        assert difference(pushed(f, (wavelet,), (dw,)), f(dw)) < 1e-13
    (of_born,), (of_image,) = pulled(born, (wavelet,), y), pulled(image, (wavelet,), dm)
    assert abs(dot(of_born, dw) - dot(born(dw), y)) < 1e-13 * norm(born(dw)) * norm(y)
    assert difference(of_image, of_born) < 1e-13
    # with the perturbation and the model at once
    at, along = (model, dm, wavelet), (dm, of.perturbation(7), dw)
    all_of = lambda m, v, w: F.jacobian(m, wavelet=w).mv(v)  # noqa: E731
    changes = jax.jit(lambda *x: pushed(all_of, at, x))(*along)
    gradients = pulled(all_of, at, y)
    assert abs(dot(changes, y) - dot(along, gradients)) < 1e-12 * norm(changes) * norm(y)
    traces = all_of(*at)
    rests = [
        norm(all_of(*plus(at, along, h)) - traces - h * changes) for h in 0.5 ** np.arange(4, 8)
    ]
    slopes = np.log2(np.array(rests[:-1]) / np.array(rests[1:]))
    assert np.all((slopes > 1.9) & (slopes < 2.1)), slopes


@pytest.mark.slow
def test_jacobians_in_what_extended_sources_fire(x64_everywhere: None):
    F = surveyed("extended")
    model, dm = medium(F)
    rng = np.random.default_rng(8)
    weights, dq = (jnp.asarray(rng.normal(size=(2, *F.grid.shape))) for _ in range(2))
    wavelet = jnp.broadcast_to(jnp.asarray(F.survey.wavelet), (2, 1, 110))
    dw = smooth(wavelet.shape, 9)
    y = jnp.asarray(rng.normal(size=(2, 2, 110)))
    born = lambda q, w: F.jacobian(model, weights=q, wavelet=w).mv(dm)  # noqa: E731
    image = lambda q, w: F.jacobian(model, weights=q, wavelet=w).T.mv(y)  # noqa: E731
    at, along = (weights, wavelet), (dq, dw)
    for f in (born, image):
        right = f(dq, wavelet) + f(weights, dw)
        assert difference(pushed(f, at, along), right) < 1e-13
    gradients = pulled(born, at, y)
    assert difference(pulled(image, at, dm), gradients) < 1e-13
    changes = pushed(born, at, along)
    assert abs(dot(changes, y) - dot(along, gradients)) < 1e-13 * norm(changes) * norm(y)


def test_wavelets_are_checked_and_tangents_are_not(x64_everywhere: None):
    """Random samples are no wavelet, for which there is a warning; as a tangent they are fine, and
    the history may be one of a few steps."""
    F = surveyed("sampled")
    G, (model, dm) = F.forward_mode(), medium(F)
    wavelet = jnp.broadcast_to(jnp.asarray(F.survey.wavelet), (3, 1, 110))
    noise = jnp.asarray(np.random.default_rng(1).normal(size=wavelet.shape))
    made = lambda w: (F.jacobian(model, wavelet=w).mv(dm), G(model, wavelet=w))  # noqa: E731
    changes = pushed(made, (wavelet,), (noise,))
    y = jax.tree.map(lambda d: d[..., ::-1], changes)
    (gradient,) = pulled(made, (wavelet,), y)
    assert abs(dot(changes, y) - dot(gradient, noise)) < 1e-13 * norm(changes) * norm(y)


@pytest.mark.slow
def test_tangents_are_sources_of_any_frequency(x64_everywhere: None):
    """Mixed second derivatives fire them: with histories of every step, whatever the settings."""
    F = surveyed("sampled")
    G, (model, _) = F.forward_mode(), medium(F)
    wavelet = jnp.broadcast_to(jnp.asarray(F.survey.wavelet), (3, 1, 110))
    noise = jnp.asarray(np.random.default_rng(1).normal(size=wavelet.shape))
    value = misfit(F(model))
    loss = lambda m, w: value(G(m, wavelet=w))  # noqa: E731
    found = products(loss, (model, wavelet), (jnp.zeros_like(model), noise))
    assert difference(found["reverse over forward"], found["reverse over reverse"]) < 1e-12


# ---------------------------------------------------------------- what is refused


def test_what_is_refused_with_a_way_out(x64_everywhere: None):
    of, F = problem(), propagator()
    G, (model, _, sources, receivers) = F.forward_mode(), of.inputs()
    dm, value = of.perturbation(), misfit(F(of.model()))
    with pytest.raises(TypeError, match=r"F\.forward_mode\(\)"):
        jax.jvp(F, (model,), (dm,))
    raw = F.replace(time_dispersion="raw").forward_mode()
    ended = lambda m: jnp.sum(raw.with_final(m)[1]["u"] ** 2)  # noqa: E731
    with pytest.raises(NotImplementedError, match="functions of the final fields"):
        pushed(jax.grad(ended), (model,), (dm,))
    by_positions = {
        "sources": lambda m, p: value(G(m, sources=p)),
        "receivers": lambda m, p: value(G(m, receivers=p)),
    }
    for name, loss in by_positions.items():
        places = sources if name == "sources" else receivers
        for first, second in ((0, 1), (1, 0), (1, 1)):
            mixed = jax.jacrev(jax.grad(loss, first), second)
            with pytest.raises(NotImplementedError, match="second derivatives by positions"):
                mixed(model, places)
    thirds = (
        lambda m: ox.hvp(value, F, m, dm),
        lambda m: pushed(lambda m: pushed(G, (m,), (dm,)), (m,), (dm,)),
    )
    for twice in thirds:
        with pytest.raises(NotImplementedError, match="third derivatives"):
            pushed(twice, (model,), (dm,))


# ---------------------------------------------------------------- every equation


CASES = [(name, dtype) for name in EQUATIONS for dtype in ("float64", "float32")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), CASES)
@pytest.mark.parametrize("layers", [False, True])
def test_every_equation(name: str, dtype: str, layers: bool, request: pytest.FixtureRequest):
    """Several components, several sources a shot, in all parameters, and in all other inputs."""
    if dtype == "float64":
        request.getfixturevalue("x64_everywhere")
    from test_equations import Case

    case = Case(name, 2, enclosed(name) if layers else ox.Sponge(4, reflection=1e-2), dtype)
    F, model, dm, y = case.F, case.model, case.direction(2), case.data(1)
    G = F.forward_mode()
    assert (
        difference(pushed(G, (model,), (dm,)), F.jacobian(model).mv(dm))
        < {
            "float64": 1e-14,
            "float32": 1e-6,
        }[dtype]
    )
    survey, rng = F.survey, np.random.default_rng(6)
    others = [jnp.asarray(x, dtype) for x in (survey.wavelet, survey.sources, survey.receivers)]
    at = (model, *others)
    along = (dm, *(jnp.asarray(0.1 * rng.normal(size=x.shape), dtype) for x in others))
    f, g = call(F), call(G)
    right = pulled(f, at, y)
    rounding = {"float64": 1e-14, "float32": 1e-5}[dtype]
    for one, other in zip(pulled(g, at, y), right, strict=True):
        assert difference(one, other) < rounding
    for n in range(4):
        zeros = [jax.tree.map(jnp.zeros_like, x) for x in at]
        alone = pushed(g, at, (*zeros[:n], along[n], *zeros[n + 1 :]))
        error = abs(dot(alone, y) - dot(along[n], right[n]))
        assert error < DOT[dtype] * norm(alone) * norm(y), n
    value = misfit(F(model))
    curved = ox.hvp(value, F, model, dm)
    for way, (found,) in products(lambda m: value(G(m)), (model,), (dm,)).items():
        assert difference(found, curved) < {"float64": 1e-11, "float32": 1e-3}[dtype], way
    born = lambda w: F.jacobian(model, wavelet=w).mv(dm)  # noqa: E731
    (of_wavelet,) = pulled(born, (others[0],), y)
    changes = pushed(born, (others[0],), (along[1],))
    error = abs(dot(changes, y) - dot(of_wavelet, along[1]))
    assert error < DOT[dtype] * norm(changes) * norm(y)
