"""What XLA makes of a time step: kernels and bytes, which nobody sees in results."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_programs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled_problems import Step, problem, steps_of
from compiled_steps import Compiled
from registry import EQUATIONS
from slow import slow, slow_but
from test_scheme_in_jax import Case, complete

import ondax as ox
from ondax.backends.xla.form import ELSEWHERE
from ondax.face import traced

# ---------------------------------------------------------------- the reader

PROGRAM = """HloModule small

%fused (a: f32[100], b: f32[50,10], n: s32[]) -> f32[50,10] {
  %a = f32[100]{0} parameter(0)
  %b = f32[50,10]{1,0} parameter(1)
  %n = s32[] parameter(2)
  %zero = s32[] constant(0)
  %first = f32[10]{0} slice(%a), slice={[0:10]}
  %second = f32[10]{0} slice(%a), slice={[1:11]}
  %sum = f32[10]{0} add(%first, %second)
  %row = f32[1,10]{1,0} bitcast(%sum)
  ROOT %put = f32[50,10]{1,0} dynamic-update-slice(%b, %row, %n, %zero)
}

%body (state: (s32[], f32[100], /*index=2*/f32[50,10])) -> (s32[], f32[100], f32[50,10]) {
  %state = (s32[], f32[100]{0}, f32[50,10]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[100]{0} get-tuple-element(%state), index=1
  %y = f32[50,10]{1,0} get-tuple-element(%state), index=2
  %copy.1 = f32[100]{0} copy(%x)
  %fusion.1 = f32[50,10]{1,0} fusion(%copy.1, %y, %i), kind=kLoop, calls=%fused
  ROOT %out = (s32[], f32[100]{0}, f32[50,10]{1,0}) tuple(%i, %copy.1, %fusion.1)
}

%condition (s: (s32[], f32[100], f32[50,10])) -> pred[] {
  %s = (s32[], f32[100]{0}, f32[50,10]{1,0}) parameter(0)
  ROOT %go = pred[] constant(true)
}

ENTRY %main (s: (s32[], f32[100], f32[50,10])) -> (s32[], f32[100], f32[50,10]) {
  %s = (s32[], f32[100]{0}, f32[50,10]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[100]{0}, f32[50,10]{1,0}) while(%s), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"50"}}
}
"""


def test_the_reader_counts_what_is_touched():
    """Slices that are read, rows that are written in place, and copies, which are whole."""
    (loop,) = Compiled(PROGRAM).loops()
    copy, fusion = loop.kernels
    assert loop.trips == 50
    assert (copy.kind, copy.read, copy.written) == ("copy", 400, 400)
    assert (fusion.kind, fusion.read, fusion.written) == ("dynamic-update-slice", 80 + 4, 40)
    assert loop.copies(400) == 1
    assert loop.copies(401) == 0


# ---------------------------------------------------------------- on a processor

# Of a model of 101 x 101 points and 20 absorbing cells a side, order 8, as compiled by jaxlib
# 0.10.2: kernels, values read and written a point, and copies of fields, a step.
RECORDED = {
    "acoustic": {
        "forward": Step(3.5, 10.3, 0.0),
        "keeping": Step(6.5, 24.3, 1.0),
        "adjoint": Step(5.5, 12.3, 0.0),
    },
    "density": {
        "forward": Step(5.5, 23.0, 0.0),
        "keeping": Step(6.5, 25.0, 0.0),
        "adjoint": Step(10.5, 43.1, 0.5),
    },
    "elastic": {
        "forward": Step(11.5, 58.9, 0.0),
        "keeping": Step(13.5, 62.9, 0.0),
        "adjoint": Step(17.5, 101.6, 0.0),
    },
    "vti": {
        "forward": Step(5.5, 28.6, 0.0),
        "keeping": Step(7.5, 32.6, 0.0),
        "adjoint": Step(13.0, 71.4, 1.0),
    },
    "viscoacoustic": {
        "forward": Step(6.5, 37.3, 0.0),
        "keeping": Step(8.5, 41.3, 0.0),
        "adjoint": Step(15.0, 85.4, 0.5),
    },
    "tti": {
        "forward": Step(9.5, 52.3, 0.0),
        "keeping": Step(11.5, 56.3, 0.0),
        "adjoint": Step(26.0, 154.5, 1.0),
    },
}
MARGIN = 1.05  # releases of XLA choose a little differently
ROUNDING = 1e-6


def exceeds(found: Step, allowed: Step, margin: float) -> bool:
    return (
        found.kernels > margin * allowed.kernels + ROUNDING
        or found.values > margin * allowed.values + ROUNDING
        or found.copies > allowed.copies + ROUNDING
    )


def on_processor(function: Callable[[Any], Any], argument: Any) -> str:
    return jax.jit(function).lower(argument).compile().as_text() or ""


@pytest.mark.parametrize("equation", slow_but(list(RECORDED), "acoustic"))
def test_a_step_on_a_processor_does_no_more_than_it_did(equation: str):
    F, model = problem(equation, "sponge", shape=(101, 101), width=20, steps=40)
    found = steps_of(F, model, on_processor)
    worse = {
        run: (found[run], allowed)
        for run, allowed in RECORDED[equation].items()
        if exceeds(found[run], allowed, MARGIN)
    }
    assert not worse


def test_a_loop_that_copies_its_fields_is_seen():
    """One step a body: what changes places is copied."""

    def run(u: jax.Array) -> jax.Array:
        def step(carry, _):
            before, now = carry
            after = 2 * now - before + jnp.roll(now, 1) * jnp.roll(now, -1)
            return (now, after), now[0]

        return jax.lax.scan(step, (u, u), length=50)[1]

    (loop,) = Compiled(on_processor(run, jnp.ones(10_000, jnp.float32))).loops()
    assert loop.copies(40_000) > 0


# ---------------------------------------------------------------- for GPUs

# Of case A of the benchmarks, likewise: kernels and bytes of a point and step.
ON_GPU = {
    "acoustic/sponge": {"forward": (2.0, 17.0), "keeping": (2.5, 29.0), "adjoint": (2.5, 29.0)},
    # All that a step must read and write: 80 bytes, with its history 88, each 1.3 times.
    "elastic/sponge": {
        "forward": (3.0, 1.3 * 80),
        "keeping": (3.5, 1.3 * 88),
        "adjoint": (5.5, 160.0),
    },
    "density/sponge": {"forward": (2.5, 47.0), "keeping": (2.75, 55.0), "adjoint": (4.0, 77.0)},
    "vti/sponge": {"forward": (2.5, 64.0), "keeping": (3.0, 80.0), "adjoint": (4.5, 142.0)},
    "viscoacoustic/sponge": {
        "forward": (3.5, 81.0),
        "keeping": (4.0, 97.0),
        "adjoint": (6.25, 166.0),
    },
    "tti/sponge": {"forward": (5.5, 140.0), "keeping": (6.0, 156.0), "adjoint": (6.5, 292.0)},
    "elastic/cpml": {"forward": (4.25, 139.0), "keeping": (8.75, 192.0), "adjoint": (6.75, 216.0)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ON_GPU))
def test_a_step_compiled_for_a_gpu(name: str):
    """No GPU is needed, but JAX's compiler for them is: see `gpu_programs.py`."""
    done = subprocess.run(
        [sys.executable, gpu_programs.__file__, name],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    if done.returncode == gpu_programs.MISSING:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr[-2000:]
    steps = json.loads(done.stdout.splitlines()[-1])["steps"]
    worse = {
        run: (steps[run], allowed)
        for run, allowed in ON_GPU[name].items()
        if steps[run]["kernels"] > allowed[0] or 4 * steps[run]["values"] > allowed[1]
    }
    assert not worse


FORMS = [
    Case("Acoustic", "sponge", ndim=1),
    slow(Case("Acoustic", "mixed")),
    *(slow(Case(name, complete(name))) for name in EQUATIONS),
    *(slow(Case(name, complete(name), ndim=3, order=2)) for name in ("Acoustic", "Elastic")),
]


@pytest.mark.filterwarnings("ignore::ondax.CoarseSampling", "ignore::ondax.GrowthInLayers")
@pytest.mark.parametrize("case", FORMS, ids=str)
def test_both_forms_compute_the_same(case: Case, monkeypatch: pytest.MonkeyPatch):
    """The form for GPUs, run on a processor, against the other: they differ by the order of sums,
    as two backends do."""
    jax.config.update("jax_disable_most_optimizations", True)  # until the next test
    with jax.enable_x64(case.dtype == "float64"):
        model = EQUATIONS[case.name].model(case.shape, case.dtype)
        model = model if len(model) > 1 else next(iter(model.values()))

        def results() -> list[np.ndarray]:
            F = case.propagator().replace(settings=ox.Settings(backend="xla"))
            traces, pull = jax.vjp(F, model)
            return [np.asarray(x) for x in jax.tree.leaves((traces, pull(traces)))]

        here = results()
        asked = []
        monkeypatch.setattr(traced, "form_for", lambda p: asked.append(p) or ELSEWHERE)
        there = results()
    assert asked
    for a, b in zip(here, there, strict=True):
        assert np.linalg.norm(a - b) <= 1e-12 * np.linalg.norm(a)
