"""ondax against an independent implementation of the same scheme: traces, and every gradient.

The reference always runs in float64 on the very numbers the float32 run gets, so what is compared
with 1e-5 is the whole rounding error of ondax and not the difference of two. Both tolerances are
contracts, and both have room: a step adds a few units of rounding (6e-8, 1e-16) relative to the
field, and a leapfrog sums those of N steps coherently at worst into N^2 / 2 in a null mode of zero
frequency and N elsewhere. For N = 60 that bounds float64 at 1e-12; float32 reaches 1e-5 because
rounding errors have random signs, so that they add up like sqrt(N), not N: 1e-6.

The schemes are compared as they are: the traces are raw, with the time dispersion that both have.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Oracle, centred_second, quick_jit, staggered_first
from problems import EQUATIONS, Problem, call, difference
from slow import slow

import ondax as ox

TOLERANCE = {"float32": 1e-5, "float64": 1e-11}

PROBLEMS = [
    # every dimension, equation and kernel; points off the grid
    Problem("acoustic", 1, 4, interpolation="linear"),
    slow(Problem("acoustic", 2, 8)),
    slow(Problem("acoustic", 3, 4)),
    slow(Problem("density", 1, 4)),
    slow(Problem("density", 2, 4)),
    slow(Problem("density", 3, 2, interpolation="linear")),
    # the extreme orders
    slow(Problem("acoustic", 2, 2, interpolation="linear")),
    slow(Problem("acoustic", 1, 16)),
    slow(Problem("density", 1, 16)),
    # points on the grid, in windows that reach into the layer, and in the layer
    slow(Problem("acoustic", 2, 8, where="on")),
    slow(Problem("density", 2, 4, where="on")),
    slow(Problem("acoustic", 2, 8, where="edge")),
    slow(Problem("density", 3, 2, where="edge", interpolation="linear")),
    slow(Problem("acoustic", 3, 4, where="layer")),
    Problem("density", 2, 4, where="layer"),
    # the wavelet resampled: internal steps of dt / 2 and dt / 3
    slow(Problem("acoustic", 2, 8, ratio=1.7)),
    slow(Problem("acoustic", 1, 4, ratio=2.6, interpolation="linear")),
    slow(Problem("density", 2, 4, ratio=2.6)),
    # single precision
    Problem("acoustic", 1, 4, where="on", interpolation="linear", dtype="float32"),
    slow(Problem("acoustic", 2, 8, dtype="float32")),
    slow(Problem("acoustic", 2, 8, ratio=1.7, where="edge", dtype="float32")),
    slow(Problem("acoustic", 3, 4, dtype="float32")),
    slow(Problem("density", 1, 4, dtype="float32")),
    slow(Problem("density", 2, 4, where="layer", dtype="float32")),
    slow(Problem("density", 2, 4, ratio=2.6, dtype="float32")),
    slow(Problem("density", 3, 2, interpolation="linear", dtype="float32")),
]


@partial(quick_jit, static_argnums=0)
def everything(oracle: Oracle, inputs, cotangent, tangent):
    """Traces, gradients in all four inputs, and Born data of the reference."""
    d, pull = jax.vjp(oracle, *inputs)
    born = jax.jvp(lambda m: oracle(m, *inputs[1:]), inputs[:1], (tangent,))[1]
    return d, pull(cotangent), born


def reference(problem: Problem, inputs, cotangent, tangent):
    with jax.enable_x64(True):
        arguments = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64), (inputs, cotangent, tangent)
        )
        return jax.device_get(everything(problem.oracle, *arguments))


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_traces_and_gradients(problem: Problem):
    with jax.enable_x64(problem.dtype == "float64"):
        inputs, cotangent, tangent = problem.inputs(), problem.cotangent(), problem.perturbation()
        F = problem.propagator(time_dispersion="raw")
        assert F.steps_per_sample == problem.oracle.steps_per_sample
        d, pull = jax.vjp(call(F), *inputs)
        gradients = pull(cotangent)
        J = F.jacobian(inputs[0])
        born, image, adjoint = J.mv(tangent), J.T.mv(cotangent), F.adjoint(inputs[0], cotangent)
        assert {a.dtype.name for a in jax.tree.leaves((d, gradients, born, image, adjoint))} == {
            problem.dtype
        }
        got = jax.device_get((d, gradients, born, image, adjoint))
    d_ref, gradients_ref, born_ref = reference(problem, inputs, cotangent, tangent)
    d, gradients, born, image, adjoint = got

    errors = {
        "traces": difference(d, d_ref),
        "born": difference(born, born_ref),
        "image": difference(image, gradients_ref[0]),
        "adjoint": difference(adjoint, gradients_ref[1]),
    }
    names = ["model", "wavelet", "sources", "receivers"]
    if problem.where == "on":
        names = names[:2]  # on a grid point the kernels have a kink: see the next test
    for name, g, g_ref in zip(names, gradients, gradients_ref, strict=False):
        leaves = g.items() if isinstance(g, dict) else [("", g)]
        for leaf, value in leaves:
            errors[name + leaf] = difference(value, g_ref[leaf] if leaf else g_ref)
    wrong = {name: e for name, e in errors.items() if not e < TOLERANCE[problem.dtype]}
    assert not wrong, f"{wrong} of {errors}"


@pytest.mark.parametrize("interpolation", ["sinc", "linear"])
def test_position_gradients_on_grid_points(x64: None, interpolation: str):
    """Where the kernel has a kink, the derivative lies between those a millimetre to either side.

    The linear kernel's slope jumps from one cell's to its neighbour's; the sinc's by 0.003, four
    cells away.
    """
    problem = Problem("acoustic", 2, 8, where="on", interpolation=interpolation)
    F, (model, wavelet, sources, receivers) = problem.propagator(), problem.inputs()
    # One receiver of one shot moves along one axis; everything else stays put, so only its own kink
    # is crossed.
    y = problem.cotangent()

    def slope(receivers: jax.Array) -> float:
        g = jax.grad(lambda r: jnp.vdot(call(F)(model, wavelet, sources, r), y))(receivers)
        return float(g[0, 1, 0])

    here, low, high = (slope(receivers.at[0, 1, 0].add(move)) for move in (0.0, -1e-3, 1e-3))
    margin = 1e-3 * max(abs(low), abs(high))  # the curvature of the kernel over a millimetre of 9 m
    assert min(low, high) - margin <= here <= max(low, high) + margin, (low, here, high)


def test_minibatch_is_a_selection_of_shots(dtype: str):
    problem = Problem(dtype=dtype)
    F, model = problem.propagator(), problem.model()
    d = F(model)
    chosen = jax.jit(lambda m, i: F(m, shots=i))(model, jnp.array([1, 0, 1]))
    assert difference(chosen, d[np.array([1, 0, 1])]) == 0.0


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("order", range(2, 17, 2))
def test_internal_step_at_the_stability_limit(equation: str, order: int):
    """Just below and just above the limit, and above three times it: k = 1, 2, 4 (1e-8 clears
    rounding)."""
    shape, spacing = (20, 22), (9.0, 11.0)
    limit = Oracle(equation, order, shape, spacing, (0.0, 0.0), 1.0, 2, 2000.0, 4).stable_step
    for ratio, k in ((1 - 1e-8, 1), (1 + 1e-8, 2), (3 * (1 + 1e-8), 4)):
        survey = ox.Survey(
            np.array([[50.0, 60.0]]), np.array([[70.0, 80.0]]), np.ones(5), ratio * limit
        )
        F = ox.Propagator(
            EQUATIONS[equation](space_order=order),
            ox.Grid(shape=shape, spacing=spacing),
            survey,
            max_velocity=2000.0,
            boundary=ox.Sponge(width=4),
            min_points_per_wavelength=0.0,
        )
        assert F.steps_per_sample == k
        np.testing.assert_allclose(F.dt, ratio * limit / k, rtol=1e-14)


def test_reference_weights():
    """The reference's weights are the textbook ones (Fornberg, 1988, tables 1 and 2)."""
    assert [str(c) for c in centred_second(4)[1]] == ["-1/12", "4/3", "-5/2", "4/3", "-1/12"]
    assert [str(c) for c in staggered_first(4)[1]] == ["1/24", "-9/8", "9/8", "-1/24"]
    for order in range(2, 17, 2):  # and exact on every polynomial they should be
        for (offsets, weights), n, shift in (
            (centred_second(order), 2, 0),
            (staggered_first(order), 1, 0.5),
        ):
            for power in range(order + (1 if n == 2 else 0)):
                total = sum(
                    float(c) * (i - shift) ** power for i, c in zip(offsets, weights, strict=True)
                )
                np.testing.assert_allclose(
                    total, {1: 1.0, 2: 2.0}[n] * (power == n), atol=1e-13 * (order + 1) ** order
                )
