"""What every wave equation must pass, in every dimension and with every kind of boundary: see
`registry.py`.

The adjoints are exact: a dot test leaves a few roundings of its type, and the errors below are
contracts with room.
"""

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import difference, dot, norm
from registry import ENCLOSED, EQUATIONS, JOINT, SPONGE, enclosed, mixed
from slow import slow_but

import ondax as ox
from ondax.histories import revolve as checkpoint

DOT = {"float64": 1e-12, "float32": 1e-5}


class Case:
    """Two shots of two random sources into four receivers over a rough model, some of them near the
    edges."""

    def __init__(
        self,
        name: str,
        ndim: int,
        boundary: Any,
        dtype: str = "float64",
        single: bool = False,
        order: int | None = None,
        settings: ox.Settings | None = None,
    ) -> None:
        self.entry, self.dtype = EQUATIONS[name], dtype
        self.shape = {2: (15, 13), 3: (9, 10, 11)}[ndim]
        self.steps = {2: 50, 3: 22}[ndim]
        spacing = (9.0, 10.0, 11.0)[:ndim]
        rng = np.random.default_rng(5)
        extent = np.array(spacing) * (np.array(self.shape) - 1)
        sources, receivers = (
            rng.uniform(0.2, 0.8, (2, 2, ndim)),
            rng.uniform(0.03, 0.97, (2, 4, ndim)),
        )
        sources[0, 0, -1], receivers[:, 0, -1] = 0.12, 0.06  # within reach of a free surface
        source, receiver = (None, None) if single else self.entry.components
        components = (len(source),) if isinstance(source, tuple) else ()
        wavelet = rng.normal(size=(2, *components, 2, self.steps))
        survey = ox.Survey(
            sources * extent, receivers * extent, wavelet, 1.5e-3, source=source, receiver=receiver
        )
        self.F = ox.Propagator(
            self.entry.make(order or self.entry.order),
            ox.Grid(self.shape, spacing),
            survey,
            max_velocity=2600.0,
            boundary=boundary,
            settings=settings or ox.Settings(),
            min_points_per_wavelength=0.0,  # schemes are tested here, on white noise
        )

    @cached_property
    def model(self) -> Any:
        model = self.entry.model(self.shape, self.dtype)
        return model if len(model) > 1 else next(iter(model.values()))

    def direction(self, seed: int, only: str | None = None) -> Any:
        """Random, a tenth of each parameter's size; zero but for one parameter if asked."""
        rng = np.random.default_rng(seed)

        def change(path: Any, m: Any) -> Any:
            values = 0.1 * float(jnp.abs(m).mean()) * rng.normal(size=self.shape)
            chosen = only is None or not path or path[0].key == only
            return jnp.asarray(values * chosen, self.dtype)

        return jax.tree_util.tree_map_with_path(change, self.model)

    def data(self, seed: int) -> jax.Array:
        shape = jax.eval_shape(self.F, self.model).shape
        return jnp.asarray(np.random.default_rng(seed).normal(size=shape), self.dtype)


@pytest.fixture(autouse=True)
def quick_compilers(quick_compilers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The equations are tested here, not the optimiser: most of the time would be the
    compiler's."""
    monkeypatch.setenv("ONDAX_CFLAGS", "-O0")


def assert_dots(case: Case) -> None:
    """Of Born modelling in the model, and of modelling in the wavelet, with the adjoints that
    `grad` runs."""
    F, model, y = case.F, case.model, case.data(1)
    w = jnp.asarray(np.random.default_rng(3).normal(size=F.survey.wavelet.shape), case.dtype)
    modelled, pull = jax.vjp(lambda m, w: F(m, wavelet=w), model, w)
    assert 0.0 < norm(modelled) < np.inf
    J, dm = F.jacobian(model), case.direction(2)
    _, of_wavelet = pull(y)
    assert abs(dot(modelled, y) - dot(w, of_wavelet)) < DOT[case.dtype] * norm(modelled) * norm(y)
    _, pull = jax.vjp(F, model)  # J has the survey's wavelet
    assert ox.dot_test(J.mv, lambda d: pull(d)[0], dm, y) < DOT[case.dtype]


def assert_public_adjoints(case: Case) -> None:
    """`J.T` and `F.adjoint` run kernels of their own."""
    F, model, y = case.F, case.model, case.data(1)
    J = F.jacobian(model)
    assert ox.dot_test(J.mv, J.T.mv, case.direction(2), y) < DOT[case.dtype]
    w = jnp.asarray(np.random.default_rng(3).normal(size=F.survey.wavelet.shape), case.dtype)
    assert (
        ox.dot_test(lambda w: F(model, wavelet=w), lambda d: F.adjoint(model, d), w, y)
        < DOT[case.dtype]
    )


def assert_taylor(case: Case) -> None:
    """`|F(m + h dm) - F(m) - h J dm|` falls as h^2, for each parameter by itself."""
    F, model = case.F, case.model
    J = F.jacobian(model)

    def modelled(m: Any) -> jax.Array:
        return jax.vjp(F, m)[0]  # the kernel that keeps a history is compiled already

    d = modelled(model)
    for name in model if isinstance(model, dict) else [None]:
        direction = case.direction(4, only=name)
        born = J.mv(direction)
        assert norm(born) > 0.0, name
        steps = 0.02 * 0.5 ** np.arange(5)
        errors = [
            norm(
                modelled(jax.tree.map(lambda m, v, h=h: m + h * v, model, direction)) - d - h * born
            )
            for h in steps
        ]
        slopes = np.log2(np.array(errors[:-1]) / errors[1:])
        assert np.all((slopes > 1.95) & (slopes < 2.05)), (name, slopes)


@pytest.mark.parametrize("name", slow_but(EQUATIONS, "AcousticDensity"))
def test_2d(x64: None, name: str):
    case = Case(name, 2, SPONGE)
    assert_dots(case)
    assert_taylor(case)
    assert_public_adjoints(case)


@pytest.mark.slow
@pytest.mark.parametrize("name", EQUATIONS)
def test_2d_below_a_free_surface(x64: None, name: str):
    case = Case(name, 2, mixed(name))
    assert_dots(case)
    assert_taylor(case)


@pytest.mark.parametrize("name", slow_but(EQUATIONS, "Acoustic"))
def test_2d_in_single_precision(name: str):
    assert_dots(Case(name, 2, SPONGE, "float32"))


@pytest.mark.parametrize("name", slow_but(EQUATIONS, "Acoustic"))
def test_2d_enclosed_by_perfectly_matched_layers(x64: None, name: str):
    if not EQUATIONS[name].layers:
        with pytest.raises(ValueError, match="unstable in perfectly matched layers"):
            Case(name, 2, ENCLOSED)
        return
    case = Case(name, 2, ENCLOSED)
    assert_dots(case)
    assert_taylor(case)


@pytest.mark.parametrize("name", slow_but(EQUATIONS, *set(EQUATIONS) - {"TTI"}))
def test_2d_enclosed_by_joint_layers(x64: None, name: str):
    if not EQUATIONS[name].flux:
        with pytest.raises(ValueError, match=r"does not state the flux.*use ox\.CPML\(\)"):
            Case(name, 2, JOINT)
        return
    case = Case(name, 2, JOINT)
    assert_dots(case)
    assert_taylor(case)
    assert_public_adjoints(case)


@pytest.mark.parametrize("name", slow_but(EQUATIONS, *set(EQUATIONS) - {"TTI"}))
def test_3d_enclosed_by_joint_layers(x64: None, name: str):
    if not EQUATIONS[name].flux:
        with pytest.raises(ValueError, match="does not state the flux"):
            Case(name, 3, JOINT)
        return
    case = Case(name, 3, JOINT)
    assert_dots(case)
    assert_taylor(case)


@pytest.mark.slow
def test_joint_layers_in_single_precision():
    assert_dots(Case("TTI", 2, JOINT, "float32"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "boundary",
    [
        ox.JointPML(width=4, eta=0.7),
        ox.Faces(ox.JointPML(width=4, eta=0.7), top=ox.FreeSurface()),
        ox.Faces(JOINT, top=ox.FreeSurface()),
        ox.Faces(JOINT, right=ox.JointPML(width=6, alpha=3.0), bottom=SPONGE),
    ],
    ids=str,
)
def test_joint_layers_of_other_kinds(x64: None, boundary: ox.AbstractBoundary):
    case = Case("TTI", 2, boundary)
    assert_dots(case)
    assert_taylor(case)


@pytest.mark.parametrize("name", slow_but(EQUATIONS, "Acoustic"))
def test_3d(x64: None, name: str):
    case = Case(name, 3, SPONGE)
    assert_dots(case)
    assert_taylor(case)


@pytest.mark.slow
@pytest.mark.parametrize("name", EQUATIONS)
def test_3d_below_a_free_surface(x64: None, name: str):
    case = Case(name, 3, mixed(name))
    assert_dots(case)
    assert_taylor(case)


BOUNDARIES = {
    "sponge": lambda name: SPONGE,
    "layers": enclosed,
    "surface": lambda name: ox.Faces(SPONGE, top=ox.FreeSurface()),
    "surface and layers": lambda name: ox.Faces(enclosed(name), top=ox.FreeSurface()),
}
STRETCHES = [
    (name, boundary, ndim, order)
    for name, entry in EQUATIONS.items()
    for boundary in BOUNDARIES
    for ndim, order in ((2, entry.order), (2, 8), (3, entry.order))
    if boundary == "surface" or (ndim, order) == (2, entry.order)
]


@pytest.mark.slow  # one case for the gate is in test_history.py
@pytest.mark.parametrize(("name", "boundary", "ndim", "order"), STRETCHES)
def test_stretches(
    x64: None, monkeypatch: pytest.MonkeyPatch, name: str, boundary: str, ndim: int, order: int
):
    """Gradients, Born data and images from a history cut into stretches are those of the whole
    history.

    The runs between checkpoints keep no history and have a kernel of their own, which may round
    differently.
    """

    def linearised(settings: ox.Settings) -> Any:
        case = Case(name, ndim, BOUNDARIES[boundary](name), order=order, settings=settings)
        F, model, y = case.F, case.model, case.data(1)
        J = F.jacobian(model)
        return jax.grad(lambda m: jnp.vdot(y, F(m)))(model), J.mv(case.direction(2)), J.T.mv(y)

    whole = linearised(ox.Settings(threads=1))
    cut: list[int] = []
    for stretches in (1, 2, 3, 7):

        def plan(steps: int, *budget: int, stretches: int = stretches) -> checkpoint.Plan:
            cut.append(stretches)
            return checkpoint.Plan(-(-steps // stretches), checkpoints=-(-stretches // 2))

        monkeypatch.setattr(checkpoint, "plan", plan)
        for got, expected in zip(linearised(ox.Settings(threads=1, memory=1)), whole, strict=True):
            assert difference(got, expected) < 1e-13, stretches
    assert sorted(set(cut)) == [1, 2, 3, 7]


@pytest.mark.parametrize("name", slow_but(EQUATIONS, "Acoustic"))
def test_hessian(x64: None, name: str):
    """Symmetric, equal to differences of gradients, and made of Born data's gradient in the
    background."""
    case = Case(name, 2, SPONGE, single=True)
    F, model = case.F, case.model
    observed = 0.9 * F(model) + case.data(6) * 0.1 * float(jnp.abs(F(model)).max())

    def misfit(traces: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum((traces - observed) ** 2)

    v, w = case.direction(7), case.direction(8)
    Hv, Hw = ox.hvp(misfit, F, model, v), ox.hvp(misfit, F, model, w)
    assert abs(dot(w, Hv) - dot(v, Hw)) < 1e-10 * norm(w) * norm(Hv)

    gradient = jax.grad(lambda m: misfit(F(m)))
    # centred differences: an error of h^2 relative to third derivatives, and of rounding over h,
    # 1e-12
    h = 1e-4
    ahead, behind = (gradient(jax.tree.map(lambda m, d, s=s: m + s * d, model, v)) for s in (h, -h))
    difference = jax.tree.map(lambda a, b: (a - b) / (2 * h), ahead, behind)
    for got, expected in zip(jax.tree.leaves(Hv), jax.tree.leaves(difference), strict=True):
        assert norm(got - expected) < 1e-6 * norm(expected)

    y = case.data(9)
    of_born = jax.grad(lambda m: jnp.vdot(F.jacobian(m).mv(v), y))(model)
    of_jvp = jax.grad(lambda m: jnp.vdot(F.jvp(m, v)[1], y))(model)
    assert norm(jax.tree.map(jnp.subtract, of_born, of_jvp)) < 1e-12 * norm(of_jvp)
