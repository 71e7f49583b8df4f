"""Several devices: four CPU devices, in a process of their own because JAX fixes their number when
it starts."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from slow import slow_but

SETUP = """
import functools
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
jax.config.update("jax_enable_x64", True)
from problems import Problem, difference
import ondax as ox

assert jax.device_count() == 4
problem = Problem("acoustic", 1, 4)
model, wavelet = problem.model(), problem.wavelet()
F = problem.propagator(settings=ox.Settings(threads=1))
mesh = jax.make_mesh((4,), ("shot",), axis_types=(jax.sharding.AxisType.Auto,))
# two a device; a survey of two shots, fired repeatedly
shots = jnp.array([0, 1, 1, 0, 0, 0, 1, 1], jnp.int32)
data = F(0.99 * model, shots=shots)

def sharded(in_specs=(P(), P("shot"), P("shot")), **options):
    return functools.partial(jax.shard_map, mesh=mesh, in_specs=in_specs, **options)

def misfit(m, i, d):
    return 0.5 * jnp.sum((F(m, shots=i) - d) ** 2)

value, gradient = jax.value_and_grad(misfit)(model, shots, data)
"""

BODIES = {
    # The model is replicated and the shots are shared out: JAX must sum the gradient over devices,
    # and once only.
    "shard_map": """
        @jax.jit
        @sharded(out_specs=P())
        def total(m, i, d):
            return jax.lax.psum(misfit(m, i, d), "shot")

        v, g = jax.value_and_grad(total)(model, shots, data)
        assert abs(v - value) < 1e-12 * value, (v, value)
        assert difference(g, gradient) < 1e-12

        # the gradient taken inside
        @jax.jit
        @sharded(out_specs=(P(), P()))
        def both(m, i, d):
            v, g = jax.value_and_grad(lambda m: jax.lax.psum(misfit(m, i, d), "shot"))(m)
            return v, g

        v, g = both(model, shots, data)
        assert abs(v - value) < 1e-12 * value
        assert difference(g, gradient) < 1e-12

        # without JAX's own bookkeeping
        @jax.jit
        @sharded(out_specs=P(), check_vma=False)
        def total(m, i, d):
            return jax.lax.psum(misfit(m, i, d), "shot")

        v, g = jax.value_and_grad(total)(model, shots, data)
        assert abs(v - value) < 1e-12 * value
        assert difference(g, gradient) < 1e-12
    """,
    "traces stay where they are made": """
        @jax.jit
        @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("shot")), out_specs=P("shot"))
        def model_shots(m, i):
            return F(m, shots=i)

        d = model_shots(model, shots)
        assert d.sharding.spec == P("shot"), d.sharding
        assert difference(d, F(model, shots=shots)) == 0.0
        # and with the gradient of the wavelet, which is sharded like the shots
        w = wavelet[shots]

        @jax.jit
        @sharded(out_specs=P())
        def total(m, i, w):
            return jax.lax.psum(jnp.sum(F(m, shots=i, wavelet=w) ** 2), "shot")

        got = jax.grad(total, argnums=(0, 2))(model, shots, w)

        def energy(m, w):
            return jnp.sum(F(m, shots=shots, wavelet=w) ** 2)

        want = jax.grad(energy, argnums=(0, 1))(model, w)
        assert difference(got[0], want[0]) < 1e-12 and difference(got[1], want[1]) < 1e-12
    """,
    "Jacobian in shard_map": """
        x, y = problem.perturbation(), data

        @jax.jit
        @sharded(in_specs=(P(), P(), P("shot"), P("shot")), out_specs=(P("shot"), P()))
        def products(m, x, i, y):
            J = F.jacobian(m, shots=i)
            return J.mv(x), jax.lax.psum(J.T.mv(y), "shot")

        J = F.jacobian(model, shots=shots)
        born, image = products(model, x, shots, y)
        assert difference(born, J.mv(x)) < 1e-12
        assert difference(image, J.T.mv(y)) < 1e-12, difference(image, J.T.mv(y))
    """,
    "auto-sharded jit": """
        models = jnp.stack([model * s for s in (1.0, 0.99, 0.98, 1.01)])
        sharded = jax.device_put(models, NamedSharding(mesh, P("shot")))
        batched = jax.vmap(jax.value_and_grad(lambda m: jnp.sum(F(m) ** 2)))
        got = jax.jit(batched)(sharded)
        want = [jax.value_and_grad(lambda m: jnp.sum(F(m) ** 2))(m) for m in models]
        assert difference(got, jax.tree.map(lambda *a: jnp.stack(a), *want)) < 1e-12
        placed = jax.device_put(shots, NamedSharding(mesh, P("shot")))
        assert difference(jax.jit(jax.grad(misfit))(model, placed, data), gradient) < 1e-12
    """,
}


@pytest.mark.parametrize(
    "case",
    slow_but(BODIES, "Jacobian in shard_map", "auto-sharded jit"),
)
def test_four_devices(case: str):
    program = SETUP + textwrap.dedent(BODIES[case])
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    flags = "--xla_force_host_platform_device_count=4"
    env = {**os.environ, "PYTHONPATH": path, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:]
