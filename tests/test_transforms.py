"""Every operator under every transform, in both precisions; and what JAX asks the host to compute.

`test_adjoint.py` has the gradients in all inputs at once; here are the operators that it leaves
out, the precisions, and the promise that nothing is computed that nobody asked for.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
import pytest
from host_calls import BORN, adjoint, forward
from problems import Problem, difference, dot, norm, tiny
from slow import slow
from systems import float64_everywhere

import ondax as ox

# Batches and transforms change neither kernels nor the arithmetic in a shot; JAX may fuse the
# pointwise algebra around them otherwise, and sums over shots and models may associate otherwise:
# rounding errors of the dtype in some 50 steps, 6e-8 each, that need not cancel.
ROUNDING = {"float32": 1e-5, "float64": 1e-13}
EQUATIONS = ["acoustic", slow("density")]

Operator = Callable[[Any], Any]


@pytest.fixture(params=["float32", slow("float64")])
def dtype_everywhere(request: pytest.FixtureRequest) -> Iterator[str]:
    """Either precision, float64 for all threads."""
    with float64_everywhere() if request.param == "float64" else nullcontext():
        yield request.param


@functools.cache
def operators(equation: str, dtype: str) -> dict[str, tuple[Operator, list[Any]]]:
    """Each operator as a function of one argument, and three arguments for it."""
    problem = Problem(equation, 1, 4, dtype=dtype)
    F, model, x, y = (
        problem.propagator(),
        problem.model(),
        problem.perturbation(),
        problem.cotangent(),
    )
    J = F.jacobian(model)

    def scaled(tree: Any) -> list[Any]:
        return [
            jax.tree.map(lambda a, s=s: a * jnp.asarray(s, a.dtype), tree)
            for s in (1.0, 0.99, 0.98)
        ]

    return {
        "F": (F, scaled(model)),
        "F of wavelet": (lambda w: F(model, wavelet=w), scaled(problem.wavelet())),
        "F.adjoint": (lambda d: F.adjoint(model, d), scaled(y)),
        "F.adjoint of model": (lambda m: F.adjoint(m, y), scaled(model)),
        "J.mv": (lambda v: J.mv(v), scaled(x)),
        "J.T.mv": (lambda d: J.T.mv(d), scaled(y)),
        "J.mv of model": (lambda m: F.jacobian(m).mv(x), scaled(model)),
    }


@functools.cache
def values(equation: str, dtype: str, name: str) -> list[Any]:
    """The operator's values at its three arguments, by a plain loop."""
    f, arguments = operators(equation, dtype)[name]
    return [f(a) for a in arguments]


NAMES = ["F", "F of wavelet", "F.adjoint", "F.adjoint of model", "J.mv", "J.T.mv", "J.mv of model"]
LINEAR = ["F of wavelet", "F.adjoint", "J.mv", "J.T.mv"]


def stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *a: jnp.stack(a), *trees)


# These programs run for milliseconds and take seconds to optimise.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_transforms(equation: str, name: str, dtype_everywhere: str):
    """Each transform against a plain loop of eager calls; jitted as one program, for compiling
    takes the time."""
    dtype = dtype_everywhere
    f, arguments = operators(equation, dtype)[name]
    plain = values(equation, dtype, name)
    assert all(norm(v) > 0 for v in plain)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(plain))
    swapped = (
        stack([stack(arguments), stack(arguments[::-1])]),
        stack([stack(plain), stack(plain[::-1])]),
    )
    expected = {
        "jit": plain[0],
        "vmap": stack(plain),
        "nested vmap": swapped[1],
        "scan": stack(plain),
    }

    @functools.partial(jax.jit, compiler_options=QUICK)
    def transformed(first: Any, many: Any, table: Any) -> dict[str, Any]:
        return {
            "jit": f(first),
            "vmap": jax.vmap(f)(many),
            "nested vmap": jax.vmap(jax.vmap(f))(table),
            "scan": jax.lax.scan(lambda carry, a: (carry, f(a)), 0, many)[1],
        }

    got = transformed(arguments[0], stack(arguments), swapped[0])
    for transform, value in expected.items():
        assert difference(got[transform], value) < ROUNDING[dtype], transform


def test_float64_in_one_thread():
    """`jax.enable_x64` holds for the thread that calls it, and for the calls it makes wherever JAX
    runs them."""
    with jax.enable_x64(True):
        problem = Problem("acoustic", 1, 4)
        F, model = problem.propagator(), problem.model()

        @jax.jit  # so much in one program that it runs in several threads
        def several(m, many):
            return F(m), jax.vmap(F)(many), jax.lax.scan(lambda carry, a: (carry, F(a)), 0, many)[1]

        one, batched, looped = several(model, jnp.stack([model, 0.99 * model, 0.98 * model]))
        assert one.dtype == jnp.float64
        assert difference(looped, batched) < ROUNDING["float64"]


@pytest.mark.parametrize("name", ["F", "J.T.mv"])
def test_more_transforms(name: str, x64_everywhere: None):
    """Other axes, maps in batches, branches, and batches of loops."""
    f, arguments = operators("acoustic", "float64")[name]
    plain = values("acoustic", "float64", name)

    def loop(many: Any) -> Any:
        return jax.lax.scan(lambda carry, a: (carry, f(a)), 0, many)[1]

    many = jnp.stack(arguments)
    got = jax.vmap(f, in_axes=-1, out_axes=-1)(jnp.stack(arguments, -1))
    assert difference(got, jnp.stack(plain, -1)) < ROUNDING["float64"]
    assert difference(jax.lax.map(f, many, batch_size=2), jnp.stack(plain)) < ROUNDING["float64"]
    assert difference(jax.vmap(loop)(many[None]), jnp.stack(plain)[None]) < ROUNDING["float64"]
    branch = jax.jit(lambda first: jax.lax.cond(first, lambda: f(many[0]), lambda: f(many[1])))
    assert difference(branch(True), plain[0]) < ROUNDING["float64"]
    assert difference(branch(False), plain[1]) < ROUNDING["float64"]


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("name", LINEAR)
def test_linear_operators_transpose(equation: str, name: str, dtype_everywhere: str):
    """Gradients through a linear operator, plain and under `jax.checkpoint`, pull back by its
    transpose."""
    dtype = dtype_everywhere
    f, arguments = operators(equation, dtype)[name]
    x, other = arguments[0], f(arguments[1])
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]  # of dot tests
    for g in (f, jax.checkpoint(f), jax.jit(f)):
        value, pull = jax.vjp(g, x)
        (pulled,) = pull(other)
        assert abs(dot(value, other) - dot(x, pulled)) < tolerance * norm(value) * norm(other)


@pytest.mark.slow
def test_jacrev(x64_everywhere: None):
    """The whole Jacobian of a tiny problem, by reverse mode under vmap, from J itself, and from its
    transpose."""
    F, model = tiny()
    J = F.jacobian(model)
    dense = J.as_matrix()
    assert dense.shape == (24, 13)
    assert norm(dense) > 0
    assert difference(jax.jacrev(F)(model).reshape(24, 13), dense) < 1e-13
    assert difference(jax.jit(jax.jacrev(F))(model).reshape(24, 13), dense) < 1e-13
    assert difference(J.T.as_matrix(), dense.T) == 0.0
    rows = jax.vmap(lambda y: J.T.mv(y.reshape(1, 2, 12)))(jnp.eye(24))
    assert difference(rows, dense) < 1e-13


# ---------------------------------------------------------------- what the host is asked for


def calls(asked: list[tuple[Any, ...]], run: Callable[[], Any]) -> list[tuple[Any, ...]]:
    asked.clear()
    jax.block_until_ready(run())
    return list(asked)


@pytest.mark.parametrize("jitted", [slow(False), True], ids=["eager", "jit"])
@pytest.mark.kernels
def test_only_what_is_asked_for_is_computed(asked: list, jitted: bool):
    # coefficients: compressibility (0), buoyancy (1)
    problem = Problem("density", 1, 4, dtype="float32")
    F = problem.propagator()
    model, wavelet, sources, receivers = problem.inputs()

    def misfit(vp, rho, w, s, r):
        return jnp.sum(F({"vp": vp, "rho": rho}, wavelet=w, sources=s, receivers=r) ** 2)

    inputs = (model["vp"], model["rho"], wavelet, sources, receivers)
    both = ("compressibility", "buoyancy_z")
    expected = {
        # of vp: the buoyancy does not depend on it
        (0,): [forward(both[0]), adjoint(both[0])],
        (1,): [forward(*both), adjoint(*both)],
        (2,): [forward(), adjoint(wavelet=True)],
        (3,): [forward(), adjoint(sources=True)],
        (4,): [forward(slopes=True)],
        (0, 2): [forward(both[0]), adjoint(both[0], wavelet=True)],
    }
    for argnums, wanted in expected.items():
        gradient = jax.grad(misfit, argnums=argnums)
        got = calls(asked, lambda g=gradient: (jax.jit(g) if jitted else g)(*inputs))
        assert got == wanted, argnums
    assert calls(asked, lambda: (jax.jit(misfit) if jitted else misfit)(*inputs)) == [forward()]


@pytest.mark.kernels
def test_an_fwi_step_asks_for_the_model_only(asked: list):
    problem = Problem("acoustic", 1, 4, dtype="float32")
    F = problem.propagator()
    wanted = [forward("m"), adjoint("m")]
    misfit = lambda m: jnp.sum(F(m) ** 2)  # noqa: E731
    for gradient in (
        jax.grad(misfit),
        jax.jit(jax.value_and_grad(misfit)),
        jax.grad(jax.jit(misfit)),
    ):
        assert calls(asked, lambda g=gradient: g(problem.model())) == wanted
    assert calls(
        asked,
        lambda: jax.grad(lambda m: jnp.sum(jax.lax.stop_gradient(F(m)) * m[0]))(problem.model()),
    ) in ([forward()], [forward("m")])
    batched = calls(asked, lambda: jax.vmap(jax.grad(misfit))(jnp.stack([problem.model()] * 3)))
    assert batched == wanted  # one call for the batch, not three


@pytest.mark.kernels
def test_born_without_a_forward_run(asked: list):
    """The transpose of a gradient's pullback is Born modelling, and asks for nothing but that."""
    problem = Problem("acoustic", 1, 4, dtype="float32")
    F, model, x = problem.propagator(), problem.model(), problem.perturbation()
    _, pull = jax.vjp(F, model)
    transposed = jax.linear_transpose(lambda d: pull(d)[0], problem.cotangent())
    assert [name for name, *_ in calls(asked, lambda: transposed(x))] == ["born"]
    assert difference(transposed(x)[0], F.jacobian(model).mv(x)) < ROUNDING["float32"]


@pytest.mark.kernels
def test_jacobian_products_do_not_model(asked: list):
    problem = Problem("density", 1, 4, dtype="float32")
    J = problem.propagator().jacobian(problem.model())
    assert calls(asked, lambda: J.mv(problem.perturbation())) == [BORN]
    image = adjoint("compressibility", "buoyancy_z", exact=True, again=True)
    assert calls(asked, lambda: J.T.mv(problem.cotangent())) == [image]


@pytest.mark.kernels
def test_checkpointed_gradients_ask_again_but_for_no_more(asked: list):
    problem = Problem("acoustic", 1, 4, dtype="float32")
    F = problem.propagator()
    got = calls(
        asked,
        lambda: jax.jit(jax.grad(jax.checkpoint(lambda m: jnp.sum(F(m) ** 2))))(problem.model()),
    )
    assert got[-1] == adjoint("m")
    assert [name for name, *_ in got[:-1]] in (["forward"], ["forward", "forward"])


# ---------------------------------------------------------------- beside networks


def test_a_propagator_holds_nothing_to_train(x64_everywhere: None):
    """Inside a network it is a fixed layer: no leaves, safe to filter, to jit, and to close
    over."""
    problem = Problem("acoustic", 1, 4)
    F = problem.propagator()
    assert jax.tree.leaves(F) == []
    assert jax.tree.leaves(eqx.filter(F, eqx.is_array)) == []
    assert F == F
    assert {F: 1}[F] == 1

    class Network(eqx.Module):
        linear: eqx.nn.Linear
        propagator: ox.Propagator

        def __call__(self, latent):
            return self.propagator(2000.0 + 100.0 * jnp.tanh(self.linear(latent)))

    network = Network(
        eqx.nn.Linear(3, problem.shape[0], key=jax.random.key(0), dtype=jnp.float64), F
    )
    latent = jnp.array([0.1, -0.3, 0.2])
    observed = F(problem.model())

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(n):
        return jnp.sum((n(latent) - observed) ** 2)

    value, gradient = loss(network)
    assert [a.shape for a in jax.tree.leaves(gradient)] == [(41, 3), (41,)]
    # The gradient is that of the same network written out, with the propagator outside.
    arrays, static = eqx.partition(network.linear, eqx.is_array)
    want = jax.grad(
        lambda a: jnp.sum(
            (F(2000.0 + 100.0 * jnp.tanh(eqx.combine(a, static)(latent))) - observed) ** 2
        )
    )(arrays)
    assert difference(jax.tree.leaves(gradient), jax.tree.leaves(want)) < 1e-12
    # And a step along it goes down.
    optimiser = optax.sgd(1e-6 / norm(gradient))
    updates, _ = optimiser.update(gradient, optimiser.init(eqx.filter(network, eqx.is_array)))
    assert loss(eqx.apply_updates(network, updates))[0] < value


@pytest.mark.parametrize("equation", EQUATIONS)
def test_lineax_solvers(x64_everywhere: None, equation: str):
    """Least-squares migration under jit: conjugate gradients on the normal equations, and LSMR,
    reach one answer."""
    problem = Problem(equation, 1, 4)
    F, model = problem.propagator(), problem.model()
    x = problem.perturbation()
    size = jax.tree.map(lambda a: jnp.asarray(norm(a) / a.size**0.5), x)

    # A damped problem, so that the answer is unique and few iterations reach it.
    @jax.jit
    def solve(m, d):
        J = F.jacobian(m)
        flat, unflatten = jax.flatten_util.ravel_pytree(x)
        scale = jax.flatten_util.ravel_pytree(
            jax.tree.map(lambda a, s: jnp.full_like(a, s), x, size)
        )[0]
        weight = 0.3 * jnp.sqrt(jnp.mean(d**2) * d.size / flat.size)

        def forward(v):
            return J.mv(unflatten(scale * v)), weight * v

        stacked = lx.FunctionLinearOperator(forward, jax.ShapeDtypeStruct(flat.shape, flat.dtype))
        rhs = (d, jnp.zeros_like(flat))
        cg = lx.linear_solve(
            stacked, rhs, lx.Normal(lx.CG(rtol=1e-10, atol=1e-10)), throw=False
        ).value
        lsmr = lx.linear_solve(stacked, rhs, lx.LSMR(rtol=1e-12, atol=1e-12), throw=False).value
        return cg, lsmr, J.mv(unflatten(scale * cg))

    d = F.jacobian(model).mv(x)
    cg, lsmr, fitted = solve(model, d)
    assert difference(lsmr, cg) < 1e-6
    assert norm(fitted - d) < 0.7 * norm(d)


def test_lineax_takes_the_jacobian_itself(x64_everywhere: None):
    """As an operator: structures, transposes, composition."""
    problem = Problem("density", 1, 4)
    J = problem.propagator().jacobian(problem.model())
    x, y = problem.perturbation(), problem.cotangent()
    assert jax.tree.map(lambda s: (s.shape, s.dtype), J.in_structure()) == dict.fromkeys(
        ("vp", "rho"), ((41,), jnp.float64)
    )
    assert (J.out_structure().shape, J.out_structure().dtype) == (y.shape, y.dtype)
    assert J.T.in_structure() == J.out_structure()
    assert J.T.T is J
    normal = J.T @ J
    assert difference(normal.mv(x), J.T.mv(J.mv(x))) == 0.0
    doubled = 2.0 * J
    assert difference(doubled.mv(x), 2.0 * J.mv(x)) < 1e-15
    damped = lx.TaggedLinearOperator(
        normal + 1.0 * lx.IdentityLinearOperator(J.in_structure()), lx.positive_semidefinite_tag
    )
    scale = norm(normal.mv(x)) / norm(x)
    solution = lx.linear_solve(
        damped,
        jax.tree.map(lambda a: a / scale, normal.mv(x)),
        lx.CG(1e-6, 1e-6, max_steps=5),
        throw=False,
    )
    assert norm(solution.value) > 0
