"""The two networks of the JUDI4Flux page, in equinox: wave operators between a dense layer and
convolutions.

JUDI4Flux (Witte and Herrmann, 2020) made JUDI's operators layers of Flux networks in Julia. Here
both of its examples, jitted, every gradient checked against centred differences in float64:

1. `W (J x) + b`: Born modelling of a perturbation x, then a dense layer; gradients in x, W and b;
2. convolution -> modelling with an extended source -> convolution; gradients in the source x, the
   model m, and the kernels of both convolutions.

    python examples/judi4flux.py        # half a minute
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import ondax as ox

jax.config.update("jax_enable_x64", True)
KEYS = iter(jax.random.split(jax.random.key(0), 32))


def propagator(sources: np.ndarray | ox.Extended, quick: bool) -> tuple[ox.Propagator, jax.Array]:
    """A small two-layer model in m/s, and a propagator over it."""
    grid = ox.Grid(shape=(31, 26) if quick else (41, 31), spacing=10.0)
    (_, width), _ = grid.extent
    vp = jnp.full(grid.shape, 1500.0).at[:, 15:].set(1800.0)
    receivers = ox.line((20.0, 20.0), (width - 20.0, 20.0), 12)
    wavelet = ox.ricker(12.0, nt=140 if quick else 180, dt=0.002)
    survey = ox.Survey(sources, receivers, wavelet, 0.002)
    return ox.Propagator(ox.Acoustic(space_order=4), grid, survey, max_velocity=2200.0), vp


def check(loss, inputs: dict[str, jax.Array]) -> None:
    """The gradient in each input against a centred difference along a random direction."""
    gradient = jax.jit(jax.grad(loss))(inputs)  # all gradients by one backward pass
    value = jax.jit(loss)
    for name, at in inputs.items():
        direction = jax.random.normal(next(KEYS), at.shape) * jnp.abs(at).max()
        h = 1e-6  # errors of h^2 and of rounding over h
        ahead, behind = (value(inputs | {name: at + s * direction}) for s in (h, -h))
        slope = (ahead - behind) / (2 * h)
        exact = jnp.vdot(gradient[name], direction)
        error = float(jnp.abs(slope - exact) / jnp.abs(exact))
        print(
            f"  gradient in {name:9} {gradient[name].shape!s:20} differs by {error:.1e} from "
            "differences"
        )
        assert error < 1e-5, name


def born_and_dense(quick: bool) -> None:
    """Example 1: W (J x) + b."""
    F, vp = propagator(np.array([[200.0, 20.0]]), quick)
    smooth = jnp.full_like(vp, 1500.0)
    J = ox.nn.Born(F, smooth)  # a fixed layer: nothing of it is trained
    traces = eqx.filter_eval_shape(J, smooth[None])
    dense = eqx.nn.Linear(traces.size, 10, key=next(KEYS))
    target = jax.random.normal(next(KEYS), (10,))

    def loss(inputs: dict[str, jax.Array]) -> jax.Array:
        network = eqx.tree_at(
            lambda layer: (layer.weight, layer.bias), dense, (inputs["W"], inputs["b"])
        )
        return 0.5 * jnp.sum((network(J(inputs["x"]).ravel()) - target) ** 2)

    print("W (J x) + b")
    check(loss, {"x": (vp - smooth)[None], "W": dense.weight, "b": dense.bias})


def convolutions_around_a_propagator(quick: bool) -> None:
    """Example 2: conv -> F(., m) -> conv."""
    F, vp = propagator(ox.Extended(shots=1), quick)
    modelling = ox.nn.ExtendedModelling(F)  # (weights, model) -> traces
    first, second = (eqx.nn.Conv2d(1, 1, 3, padding="SAME", key=next(KEYS)) for _ in range(2))
    target = jax.random.normal(next(KEYS), (1, F.survey.n_receivers, F.survey.nt))

    def loss(inputs: dict[str, jax.Array]) -> jax.Array:
        before = eqx.tree_at(lambda layer: layer.weight, first, inputs["kernel 1"])
        after = eqx.tree_at(lambda layer: layer.weight, second, inputs["kernel 2"])
        traces = modelling(before(inputs["x"]), inputs["m"])
        return 0.5 * jnp.sum((after(traces) - target) ** 2)

    print("conv -> extended modelling -> conv")
    x = jax.random.normal(next(KEYS), (1, *F.grid.shape))
    check(loss, {"x": x, "m": vp[None], "kernel 1": first.weight, "kernel 2": second.weight})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points and samples")
    quick = parser.parse_args().quick
    born_and_dense(quick)
    convolutions_around_a_propagator(quick)


if __name__ == "__main__":
    main()
