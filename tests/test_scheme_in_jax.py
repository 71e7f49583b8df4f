"""Every equation in every boundary against the same scheme evaluated in JAX, whose derivatives are
JAX's own: see `scheme_in_jax.py`.

The reference runs in float64 on the very numbers that the C path gets, so what is compared is the
whole rounding error of the C path. A step adds a few units of rounding, 1e-16 or 6e-8, relative to
the field, and a leapfrog of N steps sums them coherently at worst into N^2 / 2 (see
`test_oracle.py`): for N = 60 that is below 1e-12 in float64. In float32 they have random signs and
add up like sqrt(N), to 1e-6, which leaves a tenth of what is allowed. No equation needs more.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import quick_jit
from problems import difference
from registry import EQUATIONS
from scheme_in_jax import SchemeInJAX

import ondax as ox

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}

SPONGE, LAYERS = ox.Sponge(width=8, reflection=1e-2), ox.CPML(width=6)
BOUNDARIES = {
    "sponge": SPONGE,
    "layers": LAYERS,
    "surface": ox.Faces(SPONGE, top=ox.FreeSurface()),
    "surface and layers": ox.Faces(LAYERS, top=ox.FreeSurface()),
    "flux": ox.JointPML(6),
    "flux, eta": ox.JointPML(6, eta=0.7),
    "surface and flux": ox.Faces(ox.JointPML(6), top=ox.FreeSurface()),
    "mixed": ox.Faces(SPONGE, top=ox.FreeSurface(), right=LAYERS),
}


@dataclass(frozen=True)
class Case:
    """Two shots of two sources, of every component that the registry names, into receivers of
    which one is in the layer and one is close to the top.

    Attributes:
        name: of the equation.
        boundary: a key of `BOUNDARIES`.
        ndim: axes.
        order: of accuracy in space.
        dtype: of the C path; the reference computes in float64, from the same numbers.
        interpolation: of points.
        time_dispersion: as of a propagator.
        extended: sources are weights on the whole grid.
    """

    name: str
    boundary: str
    ndim: int = 2
    order: int = 4
    dtype: str = "float64"
    interpolation: str = "sinc"
    time_dispersion: str = "raw"
    extended: bool = False

    def __str__(self) -> str:
        more = [self.interpolation] * (self.interpolation != "sinc")
        more += [self.time_dispersion] * (self.time_dispersion != "raw")
        more += ["extended"] * self.extended
        parts = (self.name, self.boundary, f"{self.ndim}d", f"order{self.order}", self.dtype)
        return "-".join([*parts, *more]).replace(" ", "-")

    @property
    def shape(self) -> tuple[int, ...]:
        return {1: (41,), 2: (24, 20), 3: (9, 10, 11)}[self.ndim]

    def propagator(self) -> ox.Propagator:
        entry, ndim = EQUATIONS[self.name], self.ndim
        spacing, origin = (9.0, 10.0, 11.0)[:ndim], (-40.0, 20.0, 0.0)[:ndim]
        rng = np.random.default_rng(5)
        extent = np.array(spacing) * (np.array(self.shape) - 1)
        sources, receivers = rng.uniform(0.2, 0.8, (2, 2, ndim)), rng.uniform(0, 1, (2, 4, ndim))
        # Within a window's reach of the top, and in a layer: of the first axis, or in 1-D at the
        # bottom.
        sources[:, 0, -1], receivers[:, 0, -1] = 0.06, 0.03
        receivers[0, 1, 0] = 1.07
        sources, receivers = (
            np.asarray(origin + extent * p, "float32") for p in (sources, receivers)
        )
        source, receiver = entry.components
        equation = entry.make(self.order)
        nt = {1: 41, 2: 31, 3: 16}[ndim]  # twice as many internal steps, but one
        kinds = (len(source),) if isinstance(source, tuple) else ()
        wavelet = rng.normal(size=(2, *kinds, 1 if self.extended else 2, nt))
        survey = ox.Survey(
            ox.Extended(2) if self.extended else sources,
            receivers,
            np.asarray(wavelet, "float32"),
            1.3 * equation.largest_step(spacing, 2600.0),
            source=source,
            receiver=receiver,
        )
        return ox.Propagator(
            equation,
            ox.Grid(self.shape, spacing, origin),
            survey,
            max_velocity=2600.0,
            boundary=BOUNDARIES[self.boundary],
            interpolation=self.interpolation,
            min_points_per_wavelength=0.0,  # schemes are compared here, on white noise
            points_in_layer=True,
            time_dispersion=self.time_dispersion,
        )


class Problem:
    """A case with what is put into it, in the type of its C path, which must be on."""

    def __init__(self, case: Case) -> None:
        self.case, self.F, self.rng = case, case.propagator(), np.random.default_rng(11)
        model = EQUATIONS[case.name].model(case.shape, case.dtype)
        self.model = model if len(model) > 1 else next(iter(model.values()))
        survey, weights = self.F.survey, self.rng.normal(size=(2, *case.shape))
        self.sources = self.array(weights if case.extended else survey.sources)
        wavelet, receivers = self.array(survey.wavelet), self.array(survey.receivers)
        self.inputs = self.model, wavelet, self.sources, receivers

    def array(self, values: Any) -> jax.Array:
        return jnp.asarray(values, self.case.dtype)

    def direction(self) -> Any:
        """Random, a tenth of each parameter's size."""
        return jax.tree.map(
            lambda m: self.array(0.1 * np.abs(m).mean() * self.rng.normal(size=m.shape)), self.model
        )

    def __call__(self, model: Any, wavelet: Any, sources: Any, receivers: Any) -> jax.Array:
        """Traces of the C path."""
        of_sources = {"weights" if self.case.extended else "sources": sources}
        return self.F(model, wavelet=wavelet, receivers=receivers, **of_sources)


@partial(quick_jit, static_argnums=0)
def everything(scheme: SchemeInJAX, inputs: Any, cotangent: Any, tangent: Any) -> Any:
    """Traces, Born traces, and gradients in all inputs, of the reference."""
    traces, pull = jax.vjp(scheme, *inputs)
    born = jax.jvp(lambda m: scheme(m, *inputs[1:]), inputs[:1], (tangent,))[1]
    return traces, born, pull(cotangent)


def in_double(operands: Any) -> Any:
    """The same numbers, for the reference."""
    return jax.tree.map(lambda a: jnp.asarray(a, "float64"), operands)


def errors(case: Case) -> dict[str, float]:
    """How far traces, Born traces and every gradient of the C path are from the reference's."""
    with jax.enable_x64(case.dtype == "float64"):
        problem = Problem(case)
        model, wavelet, sources, _ = problem.inputs
        traces, pull = jax.vjp(problem, *problem.inputs)
        cotangent = problem.array(problem.rng.normal(size=traces.shape))
        tangent = problem.direction()
        given = {"weights": sources} if case.extended else {}
        born = problem.F.jacobian(model, wavelet=wavelet, **given).mv(tangent)
        found = jax.device_get((traces, born, pull(cotangent)))
        operands = jax.device_get((problem.inputs, cotangent, tangent))
    with jax.enable_x64(True):
        scheme = SchemeInJAX(problem.F)
        expected = jax.device_get(everything(scheme, *in_double(operands)))
    made = {"traces": (found[0], expected[0]), "born": (found[1], expected[1])}
    names = "model", "wavelet", "weights" if case.extended else "sources", "receivers"
    for name, g, right in zip(names, found[2], expected[2], strict=True):
        parts = g if isinstance(g, dict) else {name: g}
        for part, value in parts.items():
            made[f"gradient in {part}"] = value, right[part] if isinstance(right, dict) else right
    return {name: difference(*pair) for name, pair in made.items()}


def complete(name: str) -> str:
    """The boundary with most in it that an equation takes."""
    return "surface and layers" if EQUATIONS[name].layers else "surface and flux"


# Sources and receivers near a free surface beside a layer try most of what there is: they are what
# the gate tries.
QUICK = [Case("Acoustic", "mixed")]
SLOW = [
    Case("Acoustic", complete("Acoustic"), extended=True),
    *(
        Case(name, boundary)
        for name, entry in EQUATIONS.items()
        for boundary in BOUNDARIES
        if (entry.layers or "layer" not in boundary) and boundary != "mixed"
        if entry.flux or "flux" not in boundary
    ),
    *(Case(name, complete(name), dtype="float32") for name in EQUATIONS),
    *(Case(name, "sponge", dtype="float32") for name in EQUATIONS),
    Case("Acoustic", complete("Acoustic"), time_dispersion="corrected"),
    Case("Elastic", complete("Elastic"), interpolation="linear"),
    *(Case(name, complete(name), order=8) for name in ("Acoustic", "Elastic", "TTI")),
    Case("Elastic", "mixed"),
    *(Case(name, complete(name), ndim=1) for name in ("Acoustic", "Viscoacoustic")),
    Case("Acoustic", complete("Acoustic"), ndim=3),
    Case("Elastic", complete("Elastic"), ndim=3, order=2),
    Case("TTI", complete("TTI"), ndim=3),
    # Feeds half points along the first axis.
    Case("Elastic", complete("Elastic"), extended=True),
]
SLOW = [case for case in SLOW if case not in QUICK]


@pytest.mark.filterwarnings("ignore::ondax.CoarseSampling", "ignore::ondax.GrowthInLayers")
@pytest.mark.parametrize(
    "case",
    [
        *QUICK,
        *(pytest.param(c, marks=pytest.mark.slow) for c in SLOW),
    ],
    ids=str,
)
def test_traces_born_and_gradients(case: Case):
    found = errors(case)
    wrong = {name: e for name, e in found.items() if not e < TOLERANCE[case.dtype]}
    assert not wrong, f"{wrong} of {found}"


@partial(quick_jit, static_argnums=0)
def curvature(scheme: SchemeInJAX, inputs: Any, observed: Any, direction: Any) -> Any:
    """The product of the Hessian of a least-squares misfit with a direction, of the reference."""

    def misfit(model: Any) -> Any:
        return 0.5 * jnp.sum((scheme(model, *inputs[1:]) - observed) ** 2)

    return jax.jvp(jax.grad(misfit), inputs[:1], (direction,))[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ondax.CoarseSampling", "ignore::ondax.GrowthInLayers")
@pytest.mark.parametrize("name", ["Acoustic", "Elastic"])
def test_hessian(x64: None, name: str):
    """Forward over reverse in the reference; a linearised scheme and its transpose in ours."""
    problem = Problem(Case(name, complete(name)))
    F, model, direction = problem.F, problem.model, problem.direction()
    traces = F(model)
    observed = jnp.asarray(problem.rng.normal(size=traces.shape)) * jnp.abs(traces).mean()
    found = ox.hvp(lambda d: 0.5 * jnp.sum((d - observed) ** 2), F, model, direction)
    expected = curvature(SchemeInJAX(F), problem.inputs, observed, direction)
    for value, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert difference(value, right) < TOLERANCE["float64"]
