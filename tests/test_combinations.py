"""A seeded hunt for silent wrong answers: combinations of equation, dimension, order, boundary,
precision, sizes, entry, history and transform, each compared with a value that was found in another
way.

The draws are the same in every run. A new way to calculate something joins `QUANTITIES`, a new
independent value joins `VALUES`; both then meet everything else. Run one with `pytest -m slow
tests/test_combinations.py -k 017`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import difference, dot, norm
from registry import EQUATIONS

import ondax as ox

pytestmark = pytest.mark.slow

COUNT = 120
SEED = 20
MAX_VELOCITY = 2700.0
STEP = {"float64": 1e-13, "float32": 1e-5}  # how far sums in another order may be apart

# Each is a set of kernels to compile; everything else is free.
SCHEMES = [
    ("Acoustic", 1, 2, "sponge"),
    ("Acoustic", 1, 16, "cpml"),
    ("Acoustic", 2, 8, "cpml"),
    ("Acoustic", 2, 4, "surface"),
    ("Acoustic", 2, 2, "reflecting"),
    ("Acoustic", 3, 4, "cpml"),
    ("AcousticDensity", 1, 4, "surface"),
    ("AcousticDensity", 2, 8, "cpml"),
    ("AcousticDensity", 2, 4, "mixed"),
    ("AcousticDensity", 3, 2, "sponge"),
    ("Elastic", 2, 4, "surface"),
    ("Elastic", 2, 2, "cpml"),
    ("Elastic", 2, 8, "sponge"),
    ("Elastic", 3, 2, "surface"),
    ("VTI", 1, 4, "sponge"),
    ("VTI", 2, 4, "cpml"),
    ("VTI", 2, 8, "surface"),
    ("VTI", 3, 2, "sponge"),
    ("TTI", 2, 4, "joint"),
    ("TTI", 2, 4, "surface"),
    ("Viscoacoustic", 1, 4, "cpml"),
    ("Viscoacoustic", 2, 4, "surface"),
    ("Viscoacoustic", 2, 2, "cpml"),
    ("Viscoacoustic", 3, 2, "sponge"),
]

BOUNDARIES = {
    "sponge": ox.Sponge(5, reflection=1e-2),
    "reflecting": ox.Sponge(0),
    "cpml": ox.CPML(5, frequency=15.0),
    "joint": ox.JointPML(5),
    "surface": ox.Faces(ox.Sponge(5, reflection=1e-2), top=ox.FreeSurface()),
    "mixed": ox.Faces(ox.Sponge(4), top=ox.FreeSurface(), right=ox.CPML(6, frequency=15.0)),
}

ENTRIES = (
    "points",
    "near edges",
    "components",
    "weighted",
    "given wavelet",
    "given positions",
    "extended",
)


@dataclass(frozen=True)
class Draw:
    """One combination. `quantity` is what is calculated, `value` the other way to know it."""

    number: int
    equation: str
    ndim: int
    order: int
    boundary: str
    dtype: str
    entry: str
    quantity: str
    value: str
    shape: tuple[int, ...]
    ratio: float
    nt: int
    seed: int
    interpolation: str
    raw: bool = field(default=False)

    def __str__(self) -> str:
        where = f"{self.equation}-{self.ndim}d-order{self.order}-{self.boundary}-{self.dtype}"
        return f"{self.number:03d}-{where}-{self.entry}-{self.quantity}-{self.value}".replace(
            " ", "_"
        )

    # ---------------------------------------------------------------- the problem

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    @property
    def spacing(self) -> tuple[float, ...]:
        return (9.0, 11.0, 10.0)[: self.ndim]

    @property
    def smooth(self) -> bool:
        """Is the wavelet a pulse? Elsewhere it is noise, which hides nothing."""
        return self.value in ("sampled", "float64")

    @property
    def dt(self) -> float:
        largest = self.make().largest_step(self.spacing, MAX_VELOCITY)
        return self.ratio * largest

    def make(self) -> ox.AbstractWaveEquation:
        return EQUATIONS[self.equation].make(self.order)

    @cached_property
    def fractions(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the grid's extent: sources (2, 2, ndim) and receivers (2, 4, ndim)."""
        rng = self.rng
        low, high = (0.02, 0.98) if self.entry == "near edges" else (0.25, 0.75)
        return rng.uniform(low, high, (2, 2, self.ndim)), rng.uniform(low, high, (2, 4, self.ndim))

    def wavelet(self, *lead: int) -> np.ndarray:
        rng = self.rng
        if not self.smooth:
            return rng.normal(size=(*lead, self.nt))
        t = self.dt * np.arange(self.nt)
        # six points a wavelength at 2.5 times the peak
        frequency, periods = (
            0.06 * 1700.0 / max(self.spacing),
            1.2,
        )
        if self.value == "sampled":  # the pulse must begin and end within the record
            frequency, periods = 3.4 / t[-1], 1.7
        a = (np.pi * frequency * (t - periods / frequency)) ** 2
        return rng.normal(size=(*lead, 1)) * (1 - 2 * a) * np.exp(-a)

    def survey(self, scale: float = 1.0, origin: float = 0.0, keep: Any = None) -> ox.Survey:
        extent = np.array(self.spacing) * (np.array(self.shape) - 1)
        s, r = (f * extent + origin for f in self.fractions)
        source, receiver = EQUATIONS[self.equation].components
        kinds: dict[str, Any] = {}
        lead: tuple[int, ...] = (2, 2)
        if self.entry == "components" and isinstance(source, tuple):
            kinds = {"source": source, "receiver": receiver}
            lead = (2, len(source), 2)
        if self.entry == "weighted" and isinstance(source, tuple):
            weights = self.rng.normal(size=(2, 2))
            kinds = {
                "source": {source[0]: weights, source[2]: 0.5},
                "receiver": {receiver[0]: 2.0, receiver[1]: 1e-6},
            }
        if self.entry == "weighted" and not isinstance(source, tuple):
            kinds = {"receiver": {"receiver": self.rng.normal(size=(2, 4))}}
        w = scale * self.wavelet(*lead)
        if self.entry == "extended":
            shots: Any = ox.Extended(2)
            return ox.Survey(shots, r, w[:, :1], self.dt, **kinds)
        if keep is not None:  # one of the sources of each shot
            s, w = s[:, keep : keep + 1], w[..., keep : keep + 1, :]
            kinds = _kept(kinds, keep)
        return ox.Survey(s, r, w, self.dt, **kinds)

    def propagator(
        self, survey: ox.Survey | None = None, origin: float = 0.0, **options: Any
    ) -> ox.Propagator:
        settings = ox.Settings(
            **{k: options.pop(k) for k in ("memory", "threads", "store_every") if k in options}
        )
        if self.raw:
            options["time_dispersion"] = "raw"
        return ox.Propagator(
            self.make(),
            ox.Grid(self.shape, self.spacing, origin),
            self.survey(origin=origin) if survey is None else survey,
            MAX_VELOCITY,
            boundary=BOUNDARIES[self.boundary],
            interpolation=self.interpolation,
            settings=settings,
            min_points_per_wavelength=0.0,
            points_in_layer=True,
            **options,
        )

    def model(self, dtype: str | None = None) -> Any:
        made = EQUATIONS[self.equation].model(self.shape, dtype or self.dtype)
        return made if len(made) > 1 else next(iter(made.values()))

    def change(self, dtype: str | None = None) -> Any:
        """A direction in model space, a fiftieth of each parameter's size."""
        rng = np.random.default_rng(self.seed + 1)

        def drawn(m: Any) -> Any:
            size = 0.02 * float(jnp.abs(m).mean())
            return jnp.asarray(size * rng.normal(size=m.shape), m.dtype)

        return jax.tree.map(drawn, self.model(dtype))

    def call(self, F: ox.Propagator, dtype: str | None = None) -> dict[str, Any]:
        """What is given to F besides the model."""
        dtype = dtype or self.dtype
        if self.entry == "given wavelet":
            return {"wavelet": jnp.asarray(F.survey.wavelet, dtype)}
        if self.entry == "given positions":
            return {"sources": F.survey.sources, "receivers": F.survey.receivers}
        if self.entry == "extended":
            rng = np.random.default_rng(self.seed + 2)
            return {"weights": jnp.asarray(rng.normal(size=(2, *self.shape)), dtype)}
        return {}

    def data(self, F: ox.Propagator, dtype: str | None = None) -> Any:
        shape = jax.eval_shape(lambda m: F(m, **self.call(F, dtype)), self.model(dtype)).shape
        rng = np.random.default_rng(self.seed + 3)
        return jnp.asarray(rng.normal(size=shape), dtype or self.dtype)


def _kept(kinds: dict[str, Any], keep: int) -> dict[str, Any]:
    source = kinds.get("source")
    if isinstance(source, dict):
        source = {n: v[:, keep : keep + 1] if np.ndim(v) else v for n, v in source.items()}
        return {**kinds, "source": source}
    return kinds


# -------------------------------------------------------------------- what is calculated


def _traces(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    return F(d.model(dtype), **d.call(F, dtype))


def _loss(d: Draw, F: ox.Propagator, dtype: str) -> Callable[..., Any]:
    """Half the power of the traces, weighted such that no part of them cancels."""
    weight = jnp.abs(d.data(F, dtype))

    def loss(model: Any, **call: Any) -> Any:
        return 0.5 * jnp.sum(weight * F(model, **call) ** 2)

    return loss


def _gradient(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    call = d.call(F, dtype)
    return jax.grad(lambda m: _loss(d, F, dtype)(m, **call))(d.model(dtype))


def _jitted(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    call = d.call(F, dtype)
    return jax.jit(jax.grad(lambda m: _loss(d, F, dtype)(m, **call)))(d.model(dtype))


def _checkpointed(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    call = d.call(F, dtype)
    return jax.grad(jax.checkpoint(lambda m: _loss(d, F, dtype)(m, **call)))(d.model(dtype))


def _mapped(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    """The gradients of two models at once."""
    call, model = d.call(F, dtype), d.model(dtype)
    models = jax.tree.map(lambda m, c: jnp.stack([m, m + c]), model, d.change(dtype))
    return jax.vmap(jax.grad(lambda m: _loss(d, F, dtype)(m, **call)))(models)


def _scanned(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    """The gradient summed over a scan of single shots, whose numbers are traced."""
    call, model, weight = d.call(F, dtype), d.model(dtype), jnp.abs(d.data(F, dtype))

    def of_shot(total: Any, number: Any) -> Any:
        here = {k: jnp.asarray(v)[number][None] for k, v in call.items()}

        def loss(m: Any) -> Any:
            return 0.5 * jnp.sum(weight[number] * F(m, shots=number[None], **here)[0] ** 2)

        return jax.tree.map(jnp.add, total, jax.grad(loss)(model)), None

    zeros = jax.tree.map(jnp.zeros_like, model)
    return jax.lax.scan(of_shot, zeros, jnp.arange(2))[0]


def _in_wavelet(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    call = d.call(F, dtype) | {"wavelet": jnp.asarray(F.survey.wavelet, dtype)}
    loss, model = _loss(d, F, dtype), d.model(dtype)
    return jax.grad(lambda w: loss(model, **{**call, "wavelet": w}))(call["wavelet"])


def _in_positions(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    positions = tuple(jnp.asarray(p, dtype) for p in (F.survey.sources, F.survey.receivers))
    loss, model = _loss(d, F, dtype), d.model(dtype)
    return jax.grad(lambda p: loss(model, sources=p[0], receivers=p[1]))(positions)


def _jacobian(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    call = d.call(F, dtype)
    return F.jacobian(
        d.model(dtype), **{k: v for k, v in call.items() if k in ("wavelet", "weights")}
    )


def _born(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    return _jacobian(d, F, dtype).mv(d.change(dtype))


def _image(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    return _jacobian(d, F, dtype).T.mv(d.data(F, dtype))


def _jvp(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    call = d.call(F, dtype)
    call = {k: v for k, v in call.items() if k in ("wavelet", "weights")}
    return F.jvp(d.model(dtype), d.change(dtype), **call)[1]


def _adjoint(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    return F.adjoint(d.model(dtype), d.data(F, dtype))


def _hessian(d: Draw, F: ox.Propagator, dtype: str) -> Any:
    weight = jnp.abs(d.data(F, dtype))
    return ox.hvp(
        lambda traces: 0.5 * jnp.sum(weight * traces**2), F, d.model(dtype), d.change(dtype)
    )


QUANTITIES: dict[str, Callable[[Draw, ox.Propagator, str], Any]] = {
    "traces": _traces,
    "gradient": _gradient,
    "jitted gradient": _jitted,
    "checkpointed gradient": _checkpointed,
    "mapped gradients": _mapped,
    "scanned gradient": _scanned,
    "gradient in the wavelet": _in_wavelet,
    "gradient in positions": _in_positions,
    "born": _born,
    "image": _image,
    "jvp": _jvp,
    "adjoint": _adjoint,
    "hessian": _hessian,
}
GRADIENTS = tuple(n for n in QUANTITIES if "gradient" in n and " in " not in n)
DEGREE = {
    "traces": 1,
    "born": 1,
    "image": 1,
    "jvp": 1,
    "adjoint": 0,
    "gradient in the wavelet": 1,
}  # in the wavelet; else 2


# -------------------------------------------------------------------- the other way to know it


def _usual(d: Draw) -> Any:
    return QUANTITIES[d.quantity](d, d.propagator(), d.dtype)


def _budget(d: Draw) -> None:
    """Histories that do not fit: recomputed in stretches. A budget that is refused is raised to
    what is asked for."""
    memory = int(d.rng.integers(20_000, 400_000))
    try:
        other = QUANTITIES[d.quantity](d, d.propagator(memory=memory, threads=1), d.dtype)
    except Exception as error:
        least = re.search(r"needs at least (\d+) bytes", str(error))
        if least is None:
            raise
        other = QUANTITIES[d.quantity](d, d.propagator(memory=int(least[1]), threads=1), d.dtype)
    assert difference(other, _usual(d)) <= STEP[d.dtype]


def _threads(d: Draw) -> None:
    one, three = (QUANTITIES[d.quantity](d, d.propagator(threads=n), d.dtype) for n in (1, 3))
    assert norm(one) > 0
    jax.tree.map(np.testing.assert_array_equal, one, three)


def _units(d: Draw) -> None:
    """A source of another size, by a power of two: the same bits."""
    power = int(d.rng.integers(-60, 61)) if d.dtype == "float32" else int(d.rng.integers(-300, 301))
    degree = DEGREE.get(d.quantity, 2)
    if degree == 2:  # the square itself has to be a number of the type
        power //= 2
    scaled = d.propagator(d.survey(scale=2.0**power))
    other = QUANTITIES[d.quantity](d, scaled, d.dtype)
    other = jax.tree.map(lambda a: np.asarray(a, np.float64) * 2.0 ** (-power * degree), other)
    assert difference(other, _usual(d)) <= 10 * STEP[d.dtype]


def _precision(d: Draw) -> None:
    """float32 against float64."""
    single = QUANTITIES[d.quantity](d, d.propagator(), "float32")
    double = QUANTITIES[d.quantity](d, d.propagator(), "float64")
    # Inputs are rounded, too: 6e-8 of the velocities moves phases by that times omega t, some 20
    # here, and the gradient in positions divides by a cell; the rest is the rounding of the time
    # steps.
    assert difference(single, double) < 2e-4


def _quotient(d: Draw) -> None:
    """A difference quotient along a direction of what is differentiated."""
    F, call, h = d.propagator(), {}, 1e-4
    call = d.call(F)
    loss, model = _loss(d, F, d.dtype), d.model()
    if d.quantity in ("born", "jvp"):
        got, at, direction = QUANTITIES[d.quantity](d, F, d.dtype), model, d.change()
        function = lambda m: F(m, **call)  # noqa: E731
    elif d.quantity == "hessian":
        weight = jnp.abs(d.data(F))
        got, at, direction = _hessian(d, F, d.dtype), model, d.change()
        function = jax.grad(lambda m: 0.5 * jnp.sum(weight * F(m) ** 2))
    else:
        got, function, at, direction = _directional(d, F, loss, model, call)
    ahead, behind = (
        function(jax.tree.map(lambda a, b, s=s: a + s * b, at, direction)) for s in (h, -h)
    )
    quotient = jax.tree.map(lambda a, b: (np.asarray(a) - np.asarray(b)) / (2 * h), ahead, behind)
    # Third derivatives come in with h^2, rounding with 1e-16 / h of the value.
    size = norm(ahead) * 1e-11 / norm(quotient)
    assert difference(got, quotient) < 1e-5 + size


def _directional(d: Draw, F: ox.Propagator, loss: Any, model: Any, call: Any) -> tuple[Any, ...]:
    """A gradient's product with a direction, and the function of which it is the slope."""
    got = QUANTITIES[d.quantity](d, F, d.dtype)
    if d.quantity == "gradient in the wavelet":
        at = jnp.asarray(F.survey.wavelet)
        direction = jnp.asarray(d.rng.normal(size=at.shape))
        return dot(got, direction), lambda w: loss(model, **{**call, "wavelet": w}), at, direction
    if d.quantity == "gradient in positions":
        at = tuple(map(jnp.asarray, (F.survey.sources, F.survey.receivers)))
        direction = tuple(jnp.asarray(d.rng.normal(size=a.shape)) for a in at)
        return (
            dot(got, direction),
            lambda p: loss(model, sources=p[0], receivers=p[1]),
            at,
            direction,
        )
    if d.quantity == "mapped gradients":
        change = d.change()
        at = jax.tree.map(lambda m, c: jnp.stack([m, m + c]), model, change)
        direction = jax.tree.map(lambda c: jnp.stack([c, 0.3 * c]), change)

        def of_both(ms):
            return sum(loss(jax.tree.map(lambda m, i=i: m[i], ms), **call) for i in (0, 1))

        return dot(got, direction), of_both, at, direction
    direction = d.change()
    return dot(got, direction), lambda m: loss(m, **call), model, direction


def _origin(d: Draw) -> None:
    """The same survey elsewhere on the map."""
    other = QUANTITIES[d.quantity](d, d.propagator(origin=float(2**20)), d.dtype)
    # A position at 1e6 m has 1e-10 m in float64, 1e-11 of a cell.
    assert difference(other, _usual(d)) < (1e-9 if d.dtype == "float64" else 1e-5)


def _one_by_one(d: Draw) -> None:
    """Shots fired one by one, in reverse order."""
    F = d.propagator()
    call, model, weight = d.call(F), d.model(), jnp.abs(d.data(F))
    rows = []
    for number in (1, 0):
        here = {k: v[number : number + 1] for k, v in call.items()}
        shots = jnp.array([number])
        if d.quantity == "traces":
            rows.append(F(model, shots=shots, **here)[0])
        else:

            def single(m, n=number, s=shots, c=here):
                return 0.5 * jnp.sum(weight[n] * F(m, shots=s, **c)[0] ** 2)

            rows.append(jax.grad(single)(model))
    usual = QUANTITIES[d.quantity](d, F, d.dtype)
    if d.quantity == "traces":
        np.testing.assert_array_equal(usual, np.stack(rows[::-1]))
    else:
        assert difference(jax.tree.map(jnp.add, *rows), usual) <= STEP[d.dtype]


def _superposition(d: Draw) -> None:
    """Two sources at once are the sum of two shots."""
    parts = [QUANTITIES[d.quantity](d, d.propagator(d.survey(keep=k)), d.dtype) for k in (0, 1)]
    assert difference(jax.tree.map(jnp.add, *parts), _usual(d)) < 10 * STEP[d.dtype]


def _company(d: Draw) -> None:
    """Another survey and another model in the same process, before and between."""
    F, G = d.propagator(), d.propagator(d.survey(scale=-3.0))
    first = QUANTITIES[d.quantity](d, F, d.dtype)
    QUANTITIES[d.quantity](d, G, d.dtype)
    G(jax.tree.map(lambda a, b: a + b, d.model(), d.change()), **d.call(G))
    again = QUANTITIES[d.quantity](d, F, d.dtype)
    ox.release_memory()
    afresh = QUANTITIES[d.quantity](d, d.propagator(), d.dtype)
    assert norm(first) > 0
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jax.tree.map(np.testing.assert_array_equal, first, afresh)


def _larger(d: Draw) -> None:
    """A larger grid, before any echo of an edge can be heard."""
    points, margin = 70, 20
    boundary = d.boundary if d.boundary in ("sponge", "cpml", "joint", "reflecting") else "sponge"
    frequency = 0.06 * 1700.0 / max(d.spacing)
    # To an edge and back at the largest velocity, after the wavelet has begun.
    duration = 0.6 / frequency + 0.8 * points * min(d.spacing) / 2300.0
    t = d.dt * np.arange(int(duration / d.dt))
    a = (np.pi * frequency * (t - 1.2 / frequency)) ** 2
    w = (1 - 2 * a) * np.exp(-a)
    offsets = d.rng.uniform(-40.0, 40.0, (4, d.ndim))
    rough = EQUATIONS[d.equation].model((points,) * d.ndim, d.dtype)
    traces = []
    for more in (0, margin):
        model = {n: jnp.pad(v, more, mode="edge") for n, v in rough.items()}
        positions = offsets + np.array(d.spacing) * (points // 2 + more)
        survey = ox.Survey(positions[:1], positions[1:], w, d.dt)
        grid = ox.Grid((points + 2 * more,) * d.ndim, d.spacing)
        F = ox.Propagator(
            d.make(), grid, survey, MAX_VELOCITY,
            boundary=BOUNDARIES[boundary], min_points_per_wavelength=0.0,
        )  # fmt: skip
        traces.append(F(model if len(model) > 1 else next(iter(model.values()))))
    # The pulse is above 1e-4 of its peak a little before the time reckoned with.
    assert difference(*traces) < 1e-3


def _sampled(d: Draw) -> None:
    """A history sampled in time, where the wavelet allows it."""
    other = QUANTITIES[d.quantity](d, d.propagator(store_every=2), d.dtype)
    assert difference(other, _usual(d)) < (1e-6 if d.dtype == "float64" else 2e-5)


def _reciprocal(d: Draw) -> None:
    """Source and receiver change places: each feeds what the other reads."""
    s = d.survey(keep=0)
    back = ox.Survey(s.receivers[:, :1], s.sources[:, :1], s.wavelet, d.dt)
    here = ox.Survey(s.sources, s.receivers[:, :1], s.wavelet, d.dt)
    assert (
        difference(d.propagator(back)(d.model()), d.propagator(here)(d.model()))
        < 10 * STEP[d.dtype]
    )


def _transposed(d: Draw) -> None:
    """The dot test with the operator of which it is the transpose."""
    F = d.propagator()
    size = 1e-12 if d.dtype == "float64" else 1e-5
    y = d.data(F)
    if d.quantity in ("born", "image"):
        J = _jacobian(d, F, d.dtype)
        assert ox.dot_test(J.mv, J.T.mv, d.change(), y) < size
    else:
        call, model = d.call(F), d.model()
        name = "weights" if d.entry == "extended" else "wavelet"
        x = jnp.asarray(
            d.rng.normal(size=(2, *d.shape) if name == "weights" else F.survey.wavelet.shape),
            d.dtype,
        )
        call.pop("sources", None), call.pop("receivers", None)
        forward = lambda x: F(model, **{**call, name: x})  # noqa: E731
        assert ox.dot_test(forward, lambda y: F.adjoint(model, y), x, y) < size


ANY = tuple(QUANTITIES)
WITHOUT_POSITIONS = tuple(n for n in QUANTITIES if "positions" not in n)
DIFFERENTIATED = (
    *GRADIENTS,
    "gradient in the wavelet",
    "gradient in positions",
    "born",
    "jvp",
    "hessian",
)
VALUES: dict[str, tuple[Callable[[Draw], None], tuple[str, ...]]] = {
    "budget": (
        _budget,
        (
            *GRADIENTS,
            "born",
            "image",
            "hessian",
            "gradient in the wavelet",
            "gradient in positions",
        ),
    ),
    "threads": (_threads, ANY),
    "units": (_units, ANY),
    "float64": (_precision, ANY),
    "quotient": (_quotient, DIFFERENTIATED),
    "origin": (_origin, WITHOUT_POSITIONS),
    "one by one": (_one_by_one, ("traces", *(n for n in GRADIENTS if n != "mapped gradients"))),
    "superposition": (_superposition, ("traces", "born", "jvp", "image")),
    "company": (_company, ANY),
    "larger grid": (_larger, ("traces",)),
    "sampled": (_sampled, GRADIENTS),
    "reciprocity": (_reciprocal, ("traces",)),
    "transpose": (_transposed, ("born", "image", "adjoint")),
}


def allowed(d: Draw) -> bool:
    """Does the combination mean something?"""
    rules = [
        d.quantity in VALUES[d.value][1],
        d.value != "superposition" or d.entry in ("points", "near edges", "components", "weighted"),
        d.value != "quotient" or d.dtype == "float64",
        d.value != "float64" or d.dtype == "float32",
        d.value not in ("larger grid", "reciprocity") or d.entry == "points",
        d.value != "larger grid" or d.ndim == 2,
        # Perfectly matched layers, attenuation and elastic explosions read by velocities are not
        # symmetric.
        d.value != "reciprocity"
        or (d.boundary != "cpml" and d.equation in ("Acoustic", "AcousticDensity")),
        d.value != "reciprocity" or d.boundary in ("sponge", "reflecting"),
        d.value != "sampled" or d.equation != "Elastic" or d.entry != "components",
        d.quantity != "hessian" or d.entry in ("points", "near edges"),
        d.quantity not in ("adjoint", "born", "image", "jvp") or d.entry != "given positions",
        d.quantity != "gradient in positions" or (d.entry in ("points", "weighted", "components")),
        d.quantity != "gradient in the wavelet" or d.entry != "given positions",
        d.quantity != "adjoint" or d.entry != "given wavelet",
        # 1e6 m in a float32 position that JAX holds is a quarter of a metre.
        d.value != "origin" or d.entry != "given positions" or d.dtype == "float64",
        d.ndim < 3 or d.value not in ("budget", "company") or d.quantity != "hessian",
        d.entry != "extended" or d.quantity != "hessian",
    ]
    return all(rules)


def drawn() -> list[Draw]:
    rng = np.random.default_rng(SEED)
    found: list[Draw] = []
    for number in range(COUNT):
        tries = 0
        while True:  # every value in turn; where a scheme does not allow it, one that it allows
            turn = (
                number + number // len(SCHEMES) if tries < 200 else int(rng.integers(len(VALUES)))
            )
            d = _draw(rng, number, list(VALUES)[turn % len(VALUES)])
            tries += 1
            if allowed(d):
                break
        found.append(d)
    return found


def _draw(rng: np.random.Generator, number: int, value: str) -> Draw:
    equation, ndim, order, boundary = SCHEMES[number % len(SCHEMES)]
    least, most = {1: (24, 40), 2: (13, 22), 3: (8, 12)}[ndim]
    return Draw(
        number, equation, ndim, order, boundary,
        dtype=str(rng.choice(["float64", "float64", "float32"])),
        entry=str(rng.choice(ENTRIES)),
        quantity=str(rng.choice(VALUES[value][1])),
        value=value,
        shape=tuple(int(n) for n in rng.integers(max(least, order + 1), most + 1, ndim)),
        ratio=float(rng.uniform(0.4, 2.6)),
        nt=90 if value == "sampled" else int(rng.integers(24, 60)),
        seed=int(rng.integers(2**31)),
        interpolation=str(rng.choice(["sinc", "sinc", "linear"])),
        raw=bool(rng.uniform() < 0.25),
    )  # fmt: skip


@pytest.mark.parametrize("d", drawn(), ids=str)
def test_against_an_independent_value(d: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONDAX_CFLAGS", "-O0")
    with jax.enable_x64(d.dtype == "float64" or d.value == "float64"):
        VALUES[d.value][0](d)
