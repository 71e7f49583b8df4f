"""Boxes of a few points, down to one, between absorbing layers: modelling, Born modelling and their
adjoints are exact.

What the layers at the two ends of an axis remember is felt at common points there, unlike on grids
of any size that has waves in it: see `whole` in `calculus.stretched`.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from problems import difference, dot, norm
from registry import EQUATIONS, enclosed

import ondax as ox
from ondax.backends.devito import build, fusion, lower
from ondax.face import schemes

DOT = 1e-12


@pytest.fixture(autouse=True)
def quick_compilers(quick_compilers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schemes are tested here, not the optimiser: most of the time would be the compiler's."""
    monkeypatch.setenv("ONDAX_CFLAGS", "-O0")


class Box:
    """Two random sources and three receivers anywhere in a rough box.

    Args:
        name: of the equation, in the registry.
        order: of its space derivatives.
        shape: points along each axis.
        boundary: around it.
        seed: of everything.
    """

    def __init__(
        self, name: str, order: int, shape: tuple[int, ...], boundary: Any, seed: int = 0
    ) -> None:
        entry, ndim = EQUATIONS[name], len(shape)
        self.rng = np.random.default_rng(seed)
        extent = 9.0 * (np.array(shape) - 1)
        # Enough steps for waves to cross the box and its layers.
        wavelet = self.rng.normal(size=(1, 2, 36))
        points = self.rng.uniform(size=(1, 5, ndim)) * extent
        # On a single point between like boundaries, an explosion moves nothing: only rounding would
        # be compared.
        receiver = "pressure" if name == "Elastic" and shape[-1] == 1 else None
        survey = ox.Survey(points[:, :2], points[:, 2:], wavelet, 1.2e-3, receiver=receiver)
        self.F = ox.Propagator(
            entry.make(order),
            ox.Grid(shape, 9.0),
            survey,
            max_velocity=2600.0,
            boundary=boundary,
            min_points_per_wavelength=0.0,
        )
        model = entry.model(shape, "float64")
        self.model = model if len(model) > 1 else next(iter(model.values()))

    def assert_exact(self) -> None:
        """The adjoint of modelling in the wavelet, and that of Born modelling, which gradients
        run."""
        F, model, w = self.F, self.model, jnp.asarray(self.F.survey.wavelet)
        traces, pull = jax.vjp(lambda m, w: F(m, wavelet=w), model, w)
        y = jnp.asarray(self.rng.normal(size=traces.shape))
        gradient, of_wavelet = pull(y)
        assert 0.0 < norm(traces) < np.inf
        assert abs(dot(traces, y) - dot(w, of_wavelet)) < DOT * norm(traces) * norm(y)
        dm = jax.tree.map(lambda m: 0.1 * m * jnp.asarray(self.rng.normal(size=m.shape)), model)
        born = F.jacobian(model, wavelet=w).mv(dm)
        assert abs(dot(born, y) - dot(dm, gradient)) < DOT * norm(born) * norm(y)


@pytest.mark.parametrize("points", [1, 3])
def test_a_line_of_few_points(x64: None, points: int):
    """Without one memory for both layers, the dot tests are off by 1e-2."""
    Box("Acoustic", 8, (points,), ox.CPML(width=8)).assert_exact()


@pytest.mark.slow  # a minute each
@pytest.mark.parametrize("boundary", [ox.JointPML(width=5), ox.JointPML(width=5, eta=0.7)], ids=str)
def test_a_few_points_between_joint_layers(x64: None, boundary: ox.AbstractBoundary):
    Box("TTI", 4, (3, 2), boundary).assert_exact()


def test_a_grid_has_a_point():
    ox.Grid((1, 1, 1), 10.0)
    with pytest.raises(ValueError, match="at least 1"):
        ox.Grid((0, 3), 10.0)


@pytest.mark.parametrize(
    ("shape", "boundary", "expected"),
    [
        ((8, 7), ox.CPML(4), {"z"}),
        ((7, 8), ox.CPML(4), {"x"}),
        ((1, 1), ox.CPML(4), {"x", "z"}),
        ((1, 1), ox.Sponge(4), set()),
        ((1, 5), ox.Faces(ox.CPML(4), right=ox.Sponge(4)), {"z"}),  # a single layer meets no other
    ],
)
def test_which_axes_are_thin(shape: tuple[int, ...], boundary: Any, expected: set[str]):
    """Of order 8, where the layers are felt four points beyond their ends."""
    assert schemes.crowded_axes(ox.Acoustic(8), boundary, shape) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Acoustic", "AcousticDensity"])
def test_one_memory_for_both_layers_changes_nothing(
    name: str, x64: None, monkeypatch: pytest.MonkeyPatch
):
    """On a grid wide enough for either."""

    def results() -> tuple[Any, ...]:
        box = Box(name, 4, (23,), ox.CPML(width=6))
        traces, pull = jax.vjp(box.F, box.model)
        return traces, pull(jnp.ones_like(traces))[0]

    confined = results()
    monkeypatch.setattr(schemes, "crowded_axes", lambda *_: frozenset("z"))
    for got, expected in zip(results(), confined, strict=True):
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            assert difference(a, b) < 1e-12


@pytest.mark.slow
def test_loops_that_devito_fuses_too_far_are_kept_apart(
    x64: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Given these equations in the order in which they are derived, Devito fuses a loop that
    computes an array with one that reads the next point of it: traces would be off by a few per
    cent. If no kernel is refused any more, Devito has been mended, and `check_loops` and `in_order`
    of `backends/devito/fusion.py` can go."""
    refused = []

    def check(operator: Any) -> None:
        try:
            check_loops(operator)
        except fusion.FusedTooFar as error:
            refused.append(error)
            raise

    check_loops = fusion.check_loops
    monkeypatch.setattr(build, "check_loops", check)
    monkeypatch.setattr(lower, "by_levels", lambda equations, symbols: equations)
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path))  # kernels are made here, not found
    Box("VTI", 2, (1, 9), ox.CPML(width=9)).assert_exact()
    assert refused


def _boundaries(draw: st.DrawFn, name: str, shape: tuple[int, ...], order: int) -> Any:
    absorbing = enclosed(name, draw(st.integers(1, 10)))
    kinds = ["alike", "mixed"] + (["surface"] if shape[-1] > order else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "alike":
        return absorbing
    if kind == "surface":
        return ox.Faces(absorbing, top=ox.FreeSurface())
    return ox.Faces(absorbing, bottom=ox.Sponge(width=draw(st.integers(0, 8))))


@st.composite
def boxes(draw: st.DrawFn, name: str, ndim: int) -> Box:
    order = draw(st.sampled_from([n for n in range(2, 17, 2) if n >= EQUATIONS[name].order]))
    shape = draw(st.tuples(*[st.integers(1, 12)] * ndim))
    return Box(name, order, shape, _boundaries(draw, name, shape, order), draw(st.integers(0, 99)))


@pytest.mark.slow
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", EQUATIONS)
def test_boxes_of_few_points(x64: None, name: str, ndim: int):
    """Each order and each set of thin axes costs a compilation, in space of minutes."""

    @settings(
        max_examples={1: 8, 2: 4, 3: 1}[ndim],
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(boxes(name, ndim))
    def exact(box: Box) -> None:
        box.assert_exact()

    exact()
