"""Grids and shots on several devices: four of a CPU, against one of them, or against C kernels; see
`many_devices.py`.

All compute the same sums, each point by one device, so what is apart is rounding: sums over shots
and over what receivers read of two parts are made in another order, and XLA contracts products and
sums by what it finds in a program. See `test_scheme_in_jax` for how much that becomes.
"""

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from registry import EQUATIONS
from slow import slow_but

import ondax as ox

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
# A device scales its part of a step in 16 bits by a power of two of its own; see `test_backends`.
HALF = 1e-4


def on_four_devices(*arguments: str) -> dict[str, Any]:
    """What a process with four devices finds, by the name of a case."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), *sys.path])
    flags = "--xla_force_host_platform_device_count=4"
    env = {**os.environ, "PYTHONPATH": path, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(here / "many_devices.py"), *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def allowed(name: str) -> float:
    if name == "half":
        return HALF
    return TOLERANCE["float32" if "float32" in name else "float64"]


@pytest.mark.parametrize("group", slow_but(["quick", "checks", *EQUATIONS], "quick"))
def test_four_devices_give_the_results_of_one(group: str):
    found = on_four_devices(group)
    assert found
    assert not {name: x for name, x in found.items() if not x < allowed(name)}


# In a step, two for each field, or product of fields, that is differentiated along a cut axis. All
# loops of a program are counted, before XLA unrolls them. A gradient has three: traces, the same
# with a history, and the adjoint.
EXCHANGES = {
    "Acoustic x": (2, 8),
    "Acoustic xz": (4, 16),
    "Elastic x": (8, 28),
}


@pytest.mark.slow
def test_how_often_devices_exchange_rows():
    found = on_four_devices("exchanges")
    assert {name: tuple(x) for name, x in found.items()} == EXCHANGES


def test_settings_with_a_mesh_can_be_pickled():
    settings = ox.Settings(mesh=mesh("shots", "x"), memory=1e6)
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert copy.deepcopy(settings) == settings


# ---------------------------------------------------------------- what is refused


def mesh(*names: str) -> jax.sharding.Mesh:
    devices = np.array(jax.devices()[:1]).reshape((1,) * len(names))
    return jax.sharding.Mesh(devices, names)


def propagator(settings: ox.Settings) -> ox.Propagator:
    survey = ox.Survey([[50.0, 40.0]], [[250.0, 60.0]], ox.ricker(15.0, 150, 0.002), 0.002)
    grid, boundary = ox.Grid((31, 26), 10.0), ox.Sponge(8)
    return ox.Propagator(ox.Acoustic(4), grid, survey, 2600.0, boundary=boundary, settings=settings)


def test_a_mesh_is_run_by_xla():
    assert ox.Settings(mesh=mesh("x")).runs_on("cpu") == "xla"
    with pytest.raises(ValueError, match=r"backend='devito' with a mesh.*take backend='xla'"):
        ox.Settings(mesh=mesh("x"), backend="devito")


def test_meshes_that_cut_nothing_of_a_grid():
    with pytest.raises(ValueError, match=r"'data' is none of \('x', 'y', 'z', 'shots'\)"):
        ox.Settings(mesh=mesh("data", "x"))
    with pytest.raises(ValueError, match=r"cuts the axis 'y', which a grid of 2 axes"):
        propagator(ox.Settings(mesh=mesh("y")))
    number: Any = 4
    with pytest.raises(TypeError):
        ox.Settings(mesh=number)


def test_parts_thinner_than_a_stencil():
    """A mesh of as many devices need not exist for that."""
    from ondax.face import checks

    many = jax.sharding.AbstractMesh((16,), ("x",))
    with pytest.raises(ValueError, match=r"47 points along x into 16 parts of 3.*fewer devices"):
        checks.parts(many, ("x", "z"), (47, 42), 4)
    checks.parts(many, ("x", "z"), (47, 42), 3)


def test_a_mesh_inside_of_shard_map():
    F, spec = propagator(ox.Settings(mesh=mesh("x"))), jax.sharding.PartitionSpec()
    run = jax.shard_map(F, mesh=mesh("shots"), in_specs=spec, out_specs=spec)
    with pytest.raises(ValueError, match=r"inside of jax.shard_map over \('shots',\)"):
        jax.eval_shape(run, np.full((31, 26), 2000.0, np.float32))


def test_memory_is_that_of_one_device():
    alone = ox.Settings(backend="xla")
    assert ox.Settings(mesh=mesh("x")).memory_budget == alone.memory_budget
    assert ox.Settings(mesh=mesh("x"), memory=1e6).memory_budget == 1e6
