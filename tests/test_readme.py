"""The README's Python, word for word, as one script."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from registry import OUTCOMES, conformance_test, support_table

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_readme_code_runs_and_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it saves a run
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 7
    scope: dict = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), scope)
    assert scope["d"].shape == (16, 151, 500)
    assert scope["image"].shape == scope["g"].shape == (301, 151)
    assert scope["q"].shape == (16, 1, 500)
    assert np.shape(scope["result"].history.misfit) == (3,)  # each of another batch of shots
    assert scope["loss"](scope["result"].model) < 0.9 * scope["value"]
    assert scope["source"].explained > 0.9
    assert scope["field"].model.shape == (301, 151)
    residual = np.asarray(scope["lsrtm"].history.data_residual)
    assert residual.shape == (3,)
    assert np.all(np.diff(residual) < 0.0)
    assert residual[0] < 1.0
    assert scope["lsrtm"].image.shape == (301, 151)
    for convolution in (scope["kernels"][0], scope["kernels"][2]):
        assert np.any(np.asarray(convolution.weight) != 0.0)
    assert scope["kernels"][1].model.trainable is None
    for name in ("vp", "loss"):
        assert np.any(np.asarray(scope["gradients"][name]) != 0.0)
    assert 1e-4 < scope["late"] < 0.5
    assert scope["dot"] < 1e-5  # float32: a hundred roundings
    assert (tmp_path / "run.npz").exists()


def test_the_table_is_what_the_tests_have_shown():
    table = support_table(json.loads(OUTCOMES.read_text()))
    assert table in README.read_text(), (
        "paste the output of `python tests/registry.py` into README.md"
    )


def test_every_conformance_test_has_been_run(request):
    """A new equation, or a new test, is in the record only once it has been run."""
    path = Path(__file__).with_name("test_equations.py")
    items = pytest.Module.from_parent(request.session, path=path).collect()
    collected = {conformance_test(item.nodeid) for item in items} - {None}
    assert set(json.loads(OUTCOMES.read_text())) == collected, (
        'run the conformance tests again: CONTRIBUTING.md, "Adding an equation", says how'
    )
