"""The command of the benchmarks, where it ends at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_where_there_is_no_gpu_the_benchmark_says_so():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--case", "gpu", "--quick"],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing was measured on a GPU" in done.stdout
    assert "JAX's default backend is 'cpu', not a GPU" in done.stdout


@pytest.mark.slow
def test_the_plan_of_a_large_survey_and_one_shot_of_it():
    """On a grid eight times as coarse, with an eighth of its frequency."""
    root = Path(__file__).parent.parent
    for options, said in (([], "core hours"), (["--run", "8", "--memory", "1e8"], "GiB at most")):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scale", *options],
            cwd=root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
