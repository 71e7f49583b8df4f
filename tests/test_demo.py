"""What a newcomer meets first: the shipped model, pictures, and the command line."""

import builtins
import sys
from pathlib import Path

import numpy as np
import pytest

import ondax as ox
from ondax.__main__ import main
from ondax.datasets import overthrust
from ondax.plotting import figure, gather, section

pytest.importorskip("matplotlib")


def test_overthrust_is_a_model_with_its_attribution():
    model = overthrust()
    assert model.vp.shape == model.vp_smooth.shape == (401, 187)
    assert model.spacing == 25.0
    assert model.vp.dtype == model.vp_smooth.dtype == np.float32
    assert 2300.0 < model.vp.min() < model.vp.max() <= 6000.0
    assert np.sqrt(np.mean((model.vp - model.vp_smooth) ** 2)) < 0.1 * model.vp.mean()
    assert "Aminzadeh" in model.attribution
    assert "CC BY 4.0" in model.attribution
    folder = Path(ox.__file__).parent / "datasets"
    assert "Aminzadeh" in (folder / "overthrust-LICENSE.md").read_text()
    assert (folder / "overthrust.npz").stat().st_size < 100_000


def test_overthrust_decimated():
    fine, coarse = overthrust(), overthrust(decimate=2)
    np.testing.assert_array_equal(coarse.vp, fine.vp[::2, ::2])
    assert coarse.spacing == 50.0
    with pytest.raises(ValueError, match="decimate=0 must be a whole number"):
        overthrust(decimate=0)


def test_section_is_in_kilometres_with_depth_downward():
    axes = figure(4.0, 3.0).subplots()
    values = np.arange(12.0).reshape(4, 3)
    image = section(axes, values, 100.0, origin=(1000.0, 0.0))
    np.testing.assert_allclose(image.get_extent(), (0.95, 1.35, 0.25, -0.05))
    np.testing.assert_array_equal(image.get_array(), values.T)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert image.get_clim() == (0.0, 11.0)
    low, high = section(figure(4.0, 3.0).subplots(), values, (100.0, 50.0), signed=True).get_clim()
    assert low == -high < 0


def test_gather_has_time_downward():
    axes = figure(4.0, 3.0).subplots()
    image = gather(axes, np.ones((5, 11)), 0.1, offsets=(0.0, 400.0), clip=2.0)
    np.testing.assert_allclose(image.get_extent(), (0.0, 0.4, 1.0, 0.0))
    assert image.get_clim() == (-2.0, 2.0)
    assert gather(figure(4.0, 3.0).subplots(), np.zeros((5, 11)), 0.1).get_clim() == (-1.0, 1.0)


def test_a_missing_matplotlib_is_named(monkeypatch, capsys, tmp_path):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'ondax\[plot\]'"):
        figure(1.0, 1.0)
    assert main(["demo", "--output", str(tmp_path / "a.png")]) == 1
    assert "needs matplotlib" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("iterations", "of_misfit", "of_model"),
    [(10, -75.0, -15.0), pytest.param(30, -90.0, -25.0, marks=pytest.mark.slow)],
)
@pytest.mark.slow
def test_demo_inverts_and_draws(iterations, of_misfit, of_model, tmp_path, capsys):
    """Fewer iterations than the default 100, and most of the promise kept already."""
    output = tmp_path / "demo.png"
    assert main(["demo", "--output", str(output), "--iterations", str(iterations)]) == 0
    assert output.read_bytes().startswith(b"\x89PNG")
    table = {
        line.split("  ")[0]: line.split()
        for line in capsys.readouterr().out.splitlines()
        if line.endswith(" %")
    }
    change = {name: float(words[-2]) for name, words in table.items()}
    assert change["misfit"] < of_misfit
    assert change["model error (m/s)"] < of_model


def test_a_missing_compiler_is_no_traceback(monkeypatch, capsys, tmp_path):
    def refuse(*_):
        raise ox.CompilerError("no C compiler found: install gcc")

    monkeypatch.setattr("ondax.demo.run", refuse)
    assert main(["demo", "--output", str(tmp_path / "a.png")]) == 1
    said = capsys.readouterr().err
    assert said == "no C compiler found: install gcc\npython -m ondax doctor tells more\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: command"),
        (["demo", "--iterations", "0"], "--iterations 0: at least 1"),
        (["demo", "--output", "/no/such/folder/a.png"], "the folder does not exist"),
    ],
)
def test_wrong_use_is_explained(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_picture_format_is_refused_before_the_work(tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path / "a.docx")]) == 1
    assert "its suffix must be one of" in capsys.readouterr().err
