"""Inputs of a hurried user: each works, or is refused in one line that names it and the remedy."""

import json
import subprocess
import sys
from pathlib import Path

import inputs
import pytest


@pytest.fixture(scope="module")
def outcomes() -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, str(Path(inputs.__file__))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", inputs.CASES)
def test_what_comes_of_it(case: str, outcomes: dict[str, list[str]]):
    _, expected = inputs.CASES[case]
    said = outcomes[case]
    if not expected:
        assert said == []
        return
    (line,) = said
    kind, _, part = expected.partition(": ")
    assert line.startswith(kind)
    assert part in line
    assert "\n" not in line


def test_the_version():
    import ondax as ox

    assert ox.__version__.split(".")[0].isdigit()
