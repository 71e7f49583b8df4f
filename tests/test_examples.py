"""Every example runs at a quick size, as a user runs it: in a folder of its own, where it writes
its picture."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from slow import slow

imread = pytest.importorskip("matplotlib.image").imread

EXAMPLES = Path(__file__).parents[1] / "examples"
PICTURES = {
    "custom_equation": "gpr.png",
    "elastic": "elastic.png",
    "field_line": "field_line.png",
    "fwi": "fwi.png",
    "judi4flux": None,  # it prints
    "lsrtm": "lsrtm.png",
    "modelling": "modelling.png",
    "network_fwi": "network_fwi.png",
    "overthrust_3d": "overthrust_3d.png",
    "photoacoustics": "photoacoustics.png",
    "rtm": "rtm.png",
    "unrolled_lsrtm": "unrolled_lsrtm.png",
}
# With warm kernels these take some ten seconds of two free cores each, the others about five.
EXPENSIVE = (
    "custom_equation",
    "elastic",
    "field_line",
    "judi4flux",
    "lsrtm",
    "network_fwi",
    "overthrust_3d",
    "photoacoustics",
    "rtm",
    "unrolled_lsrtm",
)


SEVERAL = ("jax_distributed",)  # by several processes: see tests/test_cluster_hazards.py


def test_all_are_listed():
    there = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    assert sorted([*PICTURES, *SEVERAL]) == there


@pytest.mark.parametrize("name", [slow(n) if n in EXPENSIVE else n for n in PICTURES])
def test_it_runs_and_draws(name: str, tmp_path: Path):
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), "--quick"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout
    if PICTURES[name] is not None:
        colours = imread(tmp_path / PICTURES[name])[..., :3]
        drawn = np.mean(colours.min(axis=-1) < 0.95)
        assert drawn > 0.2  # of the pixels; empty axes and their labels make up 0.06 at most
