"""Runs a part of the tests with the oldest versions that `pyproject.toml` allows: `python
tests/oldest.py`.

It makes an environment in a temporary folder, with every dependency pinned to its lower bound, and
tries what touches JAX, Devito and NumPy: derivatives, transforms, layers, inversions. Minutes, most
of them compiling.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRIED = ("test_checks.py", "test_fwi.py", "test_transforms.py", "test_history.py")


def oldest(project: dict) -> list[str]:
    """`name==lowest` for every dependency."""
    needed = project["dependencies"] + [
        d for d in project["optional-dependencies"]["test"] if not d.startswith("ondax")
    ]
    return [re.sub(r"\[.*?\]", "", d).replace(">=", "==") for d in needed]


def main() -> int:
    pins = oldest(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])
    print(*pins)
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = f"{scratch}/bin/python"
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *pins, "matplotlib", "-e", str(ROOT)],
            check=True,
        )
        files = [str(ROOT / "tests" / name) for name in TRIED if (ROOT / "tests" / name).exists()]
        return subprocess.run(
            [python, "-m", "pytest", "-p", "no:cacheprovider", *files], cwd=ROOT
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
