"""How much JAX compiles: an eager gradient a few programs, and nothing again in later calls of any
entry."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import lineax as lx
import optax
import pytest

import ondax as ox

PROGRAM = """
import functools, json, sys
import jax, jax.numpy as jnp, numpy as np, optax, ondax as ox

compiled, traced = [0], [0]
def count(event, seconds, **_):
    compiled[0] += event == "/jax/core/compile/backend_compile_duration"
    traced[0] += event == "/jax/core/compile/jaxpr_trace_duration"
jax.monitoring.register_event_duration_secs_listener(count)

survey = ox.Survey(
    ox.line((50.0, 40.0), (250.0, 40.0), 2),
    ox.line((0.0, 60.0), (300.0, 60.0), 5),
    ox.ricker(12.0, 150, 0.002),
    0.002,
)
grid = ox.Grid((31, 26), 10.0)
def make(survey=survey, **options):
    return ox.Propagator(ox.Acoustic(4), grid, survey, 2600.0, boundary=ox.Sponge(8), **options)
F, E = make(), make(survey.replace(sources=ox.Extended(2)))
models = [jnp.asarray(np.full((31, 26), 2000.0 + i, np.float32)) for i in range(20)]
data = jnp.asarray(np.ones((2, 5, 150), np.float32))
weights = jnp.asarray(np.ones((2, 31, 26), np.float32))
wavelet = jnp.asarray(survey.wavelet, jnp.float32)
loss = lambda v: jnp.sum(F(v))
layers = (
    ox.nn.Modelling(F),
    ox.nn.Born(F, models[0]),
    ox.nn.Migration(F, models[0]),
    ox.nn.ExtendedModelling(E, models[0]),
)
ENTRIES = {
    "F": F,
    "gradient": lambda v: jax.grad(loss)(v),
    "jitted gradient": jax.jit(jax.grad(loss)),
    "wavelet": lambda v: F(v, wavelet=wavelet),
    "positions": lambda v: F(v, receivers=survey.receivers),
    "shots": lambda v: F(v, shots=[1]),
    "weights": lambda v: E(v, weights=weights),
    "adjoint": lambda v: F.adjoint(v, data),
    "extended adjoint": lambda v: E.adjoint(v, data),
    "Born": lambda v: F.jacobian(v).mv(v),
    "RTM": lambda v: F.jacobian(v).T.mv(data),
    "jvp": lambda v: F.jvp(v, v),
    "hvp": lambda v: ox.hvp(jnp.sum, F, v, v),
    "vmap": lambda v: jax.vmap(F)(v[None]),
    "modelling layer": lambda v: layers[0](v[None]),
    "Born layer": lambda v: layers[1](v[None]),
    "migration layer": lambda v: layers[2](data),
    "extended layer": lambda v: layers[3](weights),
}
found = {}
for name, entry in ENTRIES.items():
    jax.clear_caches()
    compiled[0] = 0
    jax.block_until_ready(entry(models[0]))
    first = compiled[0]
    jax.block_until_ready(entry(models[1]))  # eager vjps of jitted parts settle in the second call
    compiled[0] = traced[0] = 0
    for v in models:
        jax.block_until_ready(entry(v))
    found[name] = first, compiled[0], traced[0]
steps = []
start = F, data, models[0]
inversions = {
    "fwi": functools.partial(ox.fwi, *start, optimizer=optax.adam(1.0), progress=False),
    "lsrtm": functools.partial(ox.lsrtm, *start, progress=False),
}
for name, run in inversions.items():
    counts = []
    run(iterations=8, callback=lambda *_: counts.append(compiled[0]))
    found[name] = 0, counts[-1] - counts[1], 0
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def counts() -> dict[str, tuple[int, int, int]]:
    """By entry: programs of the first call, and of twenty later ones; tracings of those."""
    environment = {n: v for n, v in os.environ.items() if n != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_is_compiled_again(counts: dict[str, tuple[int, int, int]]):
    assert {name: again for name, (_, again, _) in counts.items() if again} == {}


def test_a_first_call_compiles_a_handful(counts: dict[str, tuple[int, int, int]]):
    """Of ours, a gradient's are: coefficients, run, traces, and the way back through each. Where
    every operation around the kernels was a program of its own, these were 27 and 52."""
    print({name: first for name, (first, *_) in counts.items()})
    assert counts["F"][0] <= 3
    assert counts["gradient"][0] <= 10
    assert counts["jitted gradient"][0] <= 2


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """JAX warns of constants in compiled functions, and the warning is an error here."""
    before = jax.config.jax_captured_constants_warn_bytes
    jax.config.update("jax_captured_constants_warn_bytes", 4000)  # traces take 50,000 bytes
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*constants.*")
        yield
    jax.config.update("jax_captured_constants_warn_bytes", before)


LOOPS = {
    "adam": lambda F, d, v: ox.fwi(
        F, d, v, optimizer=optax.adam(1.0), iterations=1, progress=False
    ),
    "lbfgs": lambda F, d, v: ox.fwi(
        F, d, v, optimizer=optax.lbfgs(), iterations=1, bounds=(1500.0, 2600.0), progress=False
    ),
    "batches": lambda F, d, v: ox.fwi(
        F, d, v, optimizer=optax.sgd(1.0), iterations=1, batch_size=1, progress=False
    ),
    "cgls": lambda F, d, v: ox.lsrtm(F, d, v, iterations=1, progress=False),
    "LSMR": lambda F, d, v: ox.lsrtm(
        F, d, v, iterations=1, progress=False, solver=lx.LSMR(1e-3, 1e-3)
    ),
    "optax": lambda F, d, v: ox.lsrtm(
        F, d, v, iterations=1, progress=False, solver=optax.adam(1.0)
    ),
    "illumination": lambda F, d, v: ox.preconditioners.illumination(F, v, probes=1),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_traces_and_models_are_arguments_of_what_is_compiled(loop: str, captured: None):
    survey = ox.Survey(
        ox.line((50.0, 40.0), (250.0, 40.0), 2),
        ox.line((0.0, 60.0), (300.0, 60.0), 41),
        ox.ricker(12.0, 150, 0.002),
        0.002,
    )
    F = ox.Propagator(
        ox.Acoustic(4),
        ox.Grid((31, 36), 10.0),
        survey,
        2600.0,
        boundary=ox.Sponge(8),
        time_dispersion="raw",
    )
    LOOPS[loop](F, jnp.ones((2, 41, 150)), jnp.full((31, 36), 2000.0))


def test_constants_would_be_noticed(captured: None):
    traces = jnp.ones((2, 41, 150))
    with pytest.raises(UserWarning, match="constants"):
        jax.jit(lambda x: jnp.sum(x * traces))(1.0)
