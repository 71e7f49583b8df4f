"""Never hang: host calls on one core, from several Python threads, and where JAX was used before
ondax was imported.

Each case is a process of its own under a timeout, with inputs that are still being computed when
the call is made and arguments far above the 100 KiB from which on JAX's own copy of them can wait
for ever (for the thread that waits for it).
"""

import os
import subprocess
import sys
import textwrap

import pytest
from slow import slow, slow_but

TIMEOUT = 120  # seconds; a case takes about five, most of them for importing JAX and Devito

# A model of 200 x 200 float32 is 160 kB, and with its layer more; the run itself is a matter of
# milliseconds.
SETUP = """
import threading
import jax, jax.numpy as jnp, numpy as np

def pending(scale):
    '''A model that takes the device a while: its callback starts before it is there.'''
    a = jnp.full((400, 400), 1e-3, jnp.float32)
    for _ in range(20):
        a = jnp.tanh(a @ a) + 1e-3
    return 2000.0 + scale * jnp.abs(a[:200, :200])

{before}

import ondax as ox

survey = ox.Survey(
    sources=[[1000.0, 20.0], [500.0, 30.0]],
    receivers=ox.line((0.0, 40.0), (1990.0, 40.0), 20),
    wavelet=ox.ricker(10.0, 76, 0.004),
    dt=0.004,
)
grid = ox.Grid((200, 200), 10.0)
F = ox.Propagator(ox.Acoustic(space_order=4), grid, survey, 2600.0, boundary=ox.Sponge(width=5))
gradient = jax.jit(jax.value_and_grad(lambda m: jnp.sum(F(m) ** 2)))

{body}

# Set where it has an effect, and left alone where it has none.
assert jax.config.read("jax_cpu_enable_async_dispatch") is {asynchronous}
print("done")
"""

BEFORE = {
    "imported first": "",
    # The CPU client exists, with asynchronous dispatch, and work is under way.
    "JAX used before": "earlier = jax.jit(lambda x: x @ x)(jnp.ones((500, 500)))",
}

BODIES = {
    "two threads": """
        results = []
        def work(i):
            for j in range(3):
                value, g = gradient(pending(1.0 + i + j))
                results.append(float(value) + float(jnp.sum(g)))
        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(2)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert len(results) == 6 and np.all(np.isfinite(results))
    """,
    "programs in flight": """
        forward = jax.jit(lambda m: F(m))
        models = [pending(1.0 + i) for i in range(4)]
        flying = [forward(m) for m in models] + [gradient(m)[1] for m in models]
        chained = models[0]
        for _ in range(3):
            value, g = gradient(chained)
            chained = chained - 1e-3 * g / jnp.max(jnp.abs(g))
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in [*flying, chained])
    """,
    "vmap and J": """
        J = F.jacobian(pending(1.0))
        both = jax.jit(jax.vmap(lambda m: F(m)))(jnp.stack([pending(1.0), pending(2.0)]))
        image = jax.jit(lambda d: J.T.mv(d))(both[0] + J.mv(pending(1.0) * 1e-3))
        assert bool(jnp.all(jnp.isfinite(image)))
    """,
}

CASES = [  # the harder half of the table: before, body, cores
    ("imported first", "two threads", 1),
    slow("imported first", "programs in flight", 1),
    slow("JAX used before", "two threads", 1),
    slow("JAX used before", "two threads", None),
    ("JAX used before", "programs in flight", 1),
    ("JAX used before", "vmap and J", 1),
]


def run(program: str, env: dict[str, str], timeout: float) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"hung for {timeout} s")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "done"


@pytest.mark.parametrize(("before", "body", "cores"), CASES)
def test_never_hangs(before: str, body: str, cores: int | None):
    program = SETUP.format(
        before=BEFORE[before],
        body=textwrap.dedent(BODIES[body]),
        asynchronous=before != "imported first",
    )
    if cores and not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system cannot confine a process to one core")
    pin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" if cores else ""
    run(pin + program, dict(os.environ), TIMEOUT)


SEVERAL = """
import functools
from jax.sharding import NamedSharding, PartitionSpec as P
assert jax.device_count() == 4
mesh = jax.make_mesh((4,), ("shot",), axis_types=(jax.sharding.AxisType.Auto,))
shots = jnp.array([0, 1, 1, 0, 0, 1, 0, 1], jnp.int32)
wanted = jax.grad(lambda m: jnp.sum(F(m, shots=shots) ** 2))(pending(1.0))
{program}
for _ in range(2):
    everywhere = jax.device_put(pending(1.0), NamedSharding(mesh, P()))
    shared = jax.device_put(shots, NamedSharding(mesh, P("shot")))
    g = gradient(everywhere, shared)
    # Sums over shots in another order, in float32
    assert float(jnp.linalg.norm(g - wanted)) < 1e-5 * float(jnp.linalg.norm(wanted))
"""

SEVERAL_PROGRAMS = {
    "sharded jit": "gradient = jax.jit(jax.grad(lambda m, i: jnp.sum(F(m, shots=i) ** 2)))",
    "shard_map": """
        @jax.jit
        @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("shot")), out_specs=P())
        def total(m, i):
            return jax.lax.psum(jnp.sum(F(m, shots=i) ** 2), "shot")

        gradient = jax.jit(jax.grad(total))
    """,
}


@pytest.mark.parametrize("case", slow_but(SEVERAL_PROGRAMS, "shard_map"))
def test_never_hangs_on_several_devices(case: str):
    """Four CPU devices, more than there may be cores: each holds a thread of the pool."""
    body = SEVERAL.format(program=textwrap.dedent(SEVERAL_PROGRAMS[case]))
    program = SETUP.format(before="", body=body, asynchronous=False)
    env = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    run(program, env, timeout=45)
