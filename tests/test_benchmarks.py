"""The command of the benchmarks, where it ends at once."""

import os
import subprocess
import sys
from pathlib import Path


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
