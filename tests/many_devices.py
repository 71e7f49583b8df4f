"""Runs named groups of cases on four virtual devices, against one device or C kernels, and prints
the differences as JSON: `test_devices.py` starts it in a process of its own, because JAX fixes the
number of devices when it starts."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from registry import EQUATIONS
from test_scheme_in_jax import BOUNDARIES, Case, complete

import ondax as ox

MESHES = {
    "x": ((4,), ("x",)),
    "z": ((4,), ("z",)),
    "xz": ((2, 2), ("x", "z")),
    "xy": ((2, 2), ("x", "y")),
    "yz": ((2, 2), ("y", "z")),
    "shots": ((2,), ("shots",)),
    "shots and x": ((2, 2), ("shots", "x")),
    "shots and z": ((2, 2), ("shots", "z")),
}


def mesh_of(name: str) -> jax.sharding.Mesh:
    shape, names = MESHES[name]
    devices = np.array(jax.devices()[: int(np.prod(shape))]).reshape(shape)
    return jax.sharding.Mesh(devices, names)


@dataclass(frozen=True)
class Shared:
    """A case on a mesh.

    Attributes:
        case: what is run.
        mesh: a key of `MESHES`.
        settings: others, of both.
        jit: whether all is one program.
    """

    case: Case
    mesh: str
    settings: dict[str, Any] = field(default_factory=dict)
    jit: bool = True

    def __str__(self) -> str:
        return " ".join([str(self.case), self.mesh, *map(str, self.settings.values())])


def everything(F: ox.Propagator, model: Any, inputs: dict[str, Any], jit: bool) -> dict[str, Any]:
    """Traces, Born traces, and the gradients of a random function of the traces, by name."""
    random = np.random.default_rng(5)
    dtype = jax.tree.leaves(model)[0].dtype
    given = {"weights": inputs["weights"]} if "weights" in inputs else {}
    tangent = jax.tree.map(
        lambda m: jnp.asarray(0.1 * np.mean(np.abs(m)) * random.normal(size=m.shape), dtype), model
    )

    def compute(model: Any, inputs: dict[str, Any], noise: Any) -> Any:
        traces, pull = jax.vjp(lambda m, i: F(m, **i), model, inputs)
        born = F.jacobian(model, **given).mv(tangent)
        return traces, born, pull(noise)

    shape = jax.eval_shape(lambda m, i: F(m, **i), model, inputs).shape
    noise = jnp.asarray(random.normal(size=shape), dtype)
    run = jax.jit(compute) if jit else compute
    traces, born, (of_model, of_inputs) = run(model, inputs, noise)
    of_model = of_model if isinstance(of_model, dict) else {"model": of_model}
    found = {"traces": traces, "born": born, **of_model, **of_inputs}
    return {name: np.asarray(x, np.float64) for name, x in found.items()}


def apart(found: Any, expected: Any) -> float:
    size = float(np.linalg.norm(expected))
    difference = float(np.linalg.norm(np.asarray(found) - np.asarray(expected)))
    return difference / (size if size > 0.0 else 1.0)


def difference(shared: Shared) -> float:
    """The largest of all results, from those of C kernels, which are compiled faster."""
    case = shared.case
    with jax.enable_x64(case.dtype == "float64"):
        F = case.propagator()
        one = F.replace(settings=ox.Settings(backend="devito", **shared.settings))
        on_mesh = ox.Settings(backend="xla", mesh=mesh_of(shared.mesh), **shared.settings)
        many = F.replace(settings=on_mesh)
        model = EQUATIONS[case.name].model(case.shape, case.dtype)
        model = model if len(model) > 1 else next(iter(model.values()))
        survey = F.survey
        inputs = {
            "wavelet": jnp.asarray(survey.wavelet, case.dtype),
            "receivers": jnp.asarray(survey.points[1].padded(), case.dtype),
        }
        if case.extended:
            weights = np.random.default_rng(3).normal(size=(2, *case.shape))
            inputs["weights"] = jnp.asarray(weights, case.dtype)
        else:
            inputs["sources"] = jnp.asarray(survey.points[0].padded(), case.dtype)
        wanted = everything(one, model, inputs, shared.jit)
        found = everything(many, model, inputs, shared.jit)
    apart_by = {name: apart(found[name], x) for name, x in wanted.items()}
    assert all(np.linalg.norm(x) > 0.0 for x in wanted.values()), apart_by
    return max(apart_by.values())


# ---------------------------------------------------------------- what no case of the matrix has


def small(
    mesh: str | None, boundary: Any = None, order: int = 4, aperture: Any = None, **settings: Any
) -> ox.Propagator:
    """Three shots over 31 x 26 points. With layers of 8 points, 47 along x: four devices have 12,
    12, 12 and 11. There and on 2 x 2 devices, sources and receivers lie on seams (x = 40 m, 160 m,
    280 m; z = 130 m) and at each distance from them that a window or a stencil reaches."""
    sources = [[40.0, 40.0], [153.0, 135.0], [285.0, 2.0]]
    receivers = [[30.0 + 10.0 * n, 3.0 * n] for n in range(12)] + [[131.5, 122.0], [160.0, 130.0]]
    if aperture is not None:  # two shots that see other parts
        sources, receivers = sources[:2], [receivers[:6], receivers[-6:]]
    survey = ox.Survey(sources, receivers, ox.ricker(15.0, 100, 0.002), 0.002)
    return ox.Propagator(
        ox.Acoustic(order),
        ox.Grid((31, 26), 10.0),
        survey,
        2600.0,
        boundary=boundary or ox.CPML(8),
        aperture=aperture,
        settings=ox.Settings(
            backend="xla", mesh=None if mesh is None else mesh_of(mesh), **settings
        ),
    )


def velocity() -> Any:
    random = np.random.default_rng(7)
    return jnp.asarray(2000.0 + 20.0 * np.arange(26) + 50.0 * random.random((31, 26)))


def of_gradient(mesh: str | None, **options: Any) -> Any:
    """Traces and the gradient of their energy, in model and wavelet."""
    F = small(mesh, **options)

    def energy(model: Any, wavelet: Any) -> Any:
        traces = F(model, wavelet=wavelet)
        return jnp.sum(traces**2), traces

    run = jax.jit(jax.grad(energy, argnums=(0, 1), has_aux=True))
    (of_model, of_wavelet), traces = run(velocity(), jnp.asarray(F.survey.wavelet))
    return traces, of_model, of_wavelet


def largest(found: Any, expected: Any) -> float:
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(apart(a, b) for a, b in pairs)


def against_one(name: str, mesh: str, **options: Any) -> tuple[str, Callable[[], float]]:
    return name, lambda: largest(of_gradient(mesh, **options), of_gradient(None, **options))


def ends() -> float:
    """Fields that runs begin with, and those that they end with, and gradients in both."""

    def run(mesh: str | None) -> Any:
        F, model = small(mesh).replace(time_dispersion="raw"), velocity()
        start = jax.eval_shape(F.with_final, model)[1]
        random = np.random.default_rng(1)
        start = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), x.dtype), start)

        def last(model: Any, start: Any) -> Any:
            traces, end = F.with_final(model, initial=start)
            energy = sum(jnp.sum(x**2) for x in jax.tree.leaves(end))
            return energy + jnp.sum(traces**2), (traces, end)

        return jax.jit(jax.grad(last, argnums=(0, 1), has_aux=True))(model, start)

    return largest(run("xz"), run(None))


def eagerly() -> float:
    """Outside of `jax.jit`, second derivatives too."""

    def run(mesh: str | None) -> Any:
        F, model = small(mesh), velocity()
        direction = jnp.ones_like(model)
        data = F(0.99 * model)
        J = F.jacobian(model)

        def misfit(F: Any, model: Any) -> Any:
            return 0.5 * jnp.sum((F(model) - data) ** 2)

        hessian = ox.hvp(lambda traces: 0.5 * jnp.sum((traces - data) ** 2), F, model, direction)
        image = jax.jit(lambda d: J.T.mv(d))(data)  # the background is a constant of this program
        return jax.grad(lambda m: misfit(F, m))(model), hessian, image

    return largest(run("shots and x"), run(None))


def tangents() -> float:
    """Forward mode, in positions and fields that runs begin with; and in the weights of extended
    sources, there with second derivatives."""
    random = np.random.default_rng(2)

    def like(tree: Any, size: float = 1.0) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(size * random.normal(size=x.shape)), tree)

    plain = small(None).replace(time_dispersion="raw")
    survey, model = plain.survey, velocity()
    fields = jax.eval_shape(plain.with_final, model)[1]
    positions = {
        "sources": jnp.asarray(survey.points[0].padded()),
        "receivers": jnp.asarray(survey.points[1].padded()),
    }
    given = {"wavelet": jnp.asarray(survey.wavelet), "initial": like(fields), **positions}
    moves = like({**given, "initial": fields})
    change, weights, more = like(model, 30.0), *like((jnp.zeros((3, 31, 26)),) * 2)
    extended = ox.Survey(ox.Extended(3), survey.receivers, survey.wavelet, survey.dt)

    def run(mesh: str | None) -> Any:
        F = small(mesh).replace(time_dispersion="raw").forward_mode()
        E = F.with_survey(extended)

        def misfit(model: Any, weights: Any) -> Any:
            return jnp.sum(E(model, weights=weights) ** 2)

        @jax.jit
        def compute(inputs: Any, along: Any) -> Any:
            points = jax.jvp(lambda m, i: F.with_final(m, **i), (model, given), (change, moves))
            return points, jax.jvp(jax.grad(misfit, argnums=(0, 1)), inputs, along)

        return compute((model, weights), (change, more))

    return largest(run("xz"), run(None))


def batches() -> float:
    """`vmap` over models."""

    def run(mesh: str | None) -> Any:
        F = small(mesh)
        models = jnp.stack([velocity(), 0.97 * velocity()])
        return jax.jit(jax.vmap(jax.grad(lambda m: jnp.sum(F(m) ** 2))))(models)

    return largest(run("x"), run(None))


def gradients_stay_in_parts() -> float:
    """What is even is handed over in parts: a model and its gradient are nowhere whole."""
    F = small("x")
    even = F.replace(grid=ox.Grid((32, 26), 10.0))
    model = jnp.full((32, 26), 2000.0)
    where = jax.sharding.NamedSharding(mesh_of("x"), jax.sharding.PartitionSpec("x", None))
    gradient = jax.jit(jax.grad(lambda m: jnp.sum(even(m) ** 2)))(jax.device_put(model, where))
    assert gradient.sharding.is_equivalent_to(where, 2), gradient.sharding
    one = even.replace(settings=ox.Settings(backend="xla"))
    return apart(gradient, jax.grad(lambda m: jnp.sum(one(m) ** 2))(model))


def with_halos() -> float:
    """The form of programs for other processors than CPUs."""
    from ondax.backends.xla import form

    expected = of_gradient(None, boundary=ox.Faces(ox.CPML(8), top=ox.FreeSurface()))
    kept, form.ON_CPU = form.ON_CPU, form.ELSEWHERE
    try:
        found = of_gradient("xz", boundary=ox.Faces(ox.CPML(8), top=ox.FreeSurface()))
    finally:
        form.ON_CPU = kept
    return largest(found, expected)


def of_shots(way: str) -> float:
    """Shots shared out without a mesh in the settings; the model is on all devices."""
    F, model, numbers = small(None), velocity(), jnp.asarray([0, 1, 2, 1], np.int32)

    def misfit(model: Any, shots: Any) -> Any:
        return jnp.sum(F(model, shots=shots) ** 2)

    expected = jax.jit(jax.grad(misfit))(model, numbers)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("shots",))
    spec = jax.sharding.PartitionSpec
    if way == "shard_map":
        total = jax.shard_map(
            lambda m, s: jax.lax.psum(misfit(m, s), "shots"),
            mesh=mesh,
            in_specs=(spec(), spec("shots")),
            out_specs=spec(),
        )
        return apart(jax.jit(jax.grad(total))(model, numbers), expected)
    placed = jax.device_put(numbers, jax.sharding.NamedSharding(mesh, spec("shots")))
    everywhere = jax.device_put(model, jax.sharding.NamedSharding(mesh, spec()))
    traces = jax.jit(lambda m, s: F(m, shots=s))(everywhere, placed)
    assert traces.sharding.spec[0] == "shots", traces.sharding
    return apart(jax.jit(jax.grad(misfit))(everywhere, placed), expected)


SURFACE = ox.Faces(ox.CPML(8), top=ox.FreeSurface())
CHECKS: dict[str, Callable[[], float]] = dict(
    [
        against_one("seams, xz", "xz", boundary=SURFACE),
        against_one("seams, x, order 8", "x", order=8),
        against_one("revolve", "x", history="revolve"),
        against_one("little memory", "shots and x", memory=50_000),
        against_one("sampled", "xz", history="sampled", store_every=2),
        against_one("aperture", "xz", aperture=100.0),
        against_one("unchecked", "shots", checks=False),
        ("ends", ends),
        ("tangents", tangents),
        ("eagerly", eagerly),
        ("batches", batches),
        ("parts", gradients_stay_in_parts),
        ("halos", with_halos),
        ("shard_map", lambda: of_shots("shard_map")),
        ("jit", lambda: of_shots("jit")),
        # Each device scales its part of a step by a power of its own: 2^-12 of it at most, twice.
        against_one("half", "x", history="half"),
    ]
)


# ---------------------------------------------------------------- exchanges


def exchanges(name: str, mesh: str) -> tuple[int, int]:
    """Permutations between devices in a step of a forward run, and in all three loops of a
    gradient."""
    entry = EQUATIONS[name]
    source, receiver = entry.components
    kinds = (len(source),) if isinstance(source, tuple) else ()
    wavelet = np.ones((1, *kinds, 1, 81))
    step: Any = entry.make(4).largest_step((10.0, 10.0), 2600.0)
    survey = ox.Survey(
        [[300.0, 200.0]], [[200.0, 150.0]], wavelet, 0.9 * step, source=source, receiver=receiver
    )
    F = ox.Propagator(
        entry.make(4),
        ox.Grid((96, 48), 10.0),
        survey,
        2600.0,
        boundary=ox.CPML(8) if entry.layers else ox.JointPML(8),
        min_points_per_wavelength=0.0,
        settings=ox.Settings(mesh=mesh_of(mesh), checks=False),
    )
    model = entry.model((96, 48), "float32")
    model = model if len(model) > 1 else next(iter(model.values()))

    def count(run: Callable[..., Any]) -> int:
        return jax.jit(run).lower(model).as_text().count("stablehlo.collective_permute")

    return count(F), count(jax.grad(lambda m: jnp.sum(F(m) ** 2)))


# ---------------------------------------------------------------- the process


def by_name(shared: list[Shared]) -> dict[str, Callable[[], float]]:
    return {str(s): lambda s=s: difference(s) for s in shared}


LAYERED = [name for name, entry in EQUATIONS.items() if entry.layers]
GROUPS: dict[str, dict[str, Callable[[], Any]]] = {
    "quick": {"seams, xz": CHECKS["seams, xz"]},
    "checks": CHECKS,
    "exchanges": {
        f"{name} {mesh}": lambda name=name, mesh=mesh: exchanges(name, mesh)
        for name, mesh in (("Acoustic", "x"), ("Acoustic", "xz"), ("Elastic", "x"))
    },
    **{
        name: by_name(
            [
                *(
                    Shared(Case(name, boundary), "xz")
                    for boundary in BOUNDARIES
                    if EQUATIONS[name].layers or "layer" not in boundary
                    if EQUATIONS[name].flux or "flux" not in boundary
                    if boundary != "mixed" or EQUATIONS[name].layers
                ),
                Shared(Case(name, complete(name)), "z"),
                Shared(Case(name, complete(name), dtype="float32"), "xz"),
                Shared(Case(name, complete(name)), "shots and z"),
                Shared(Case(name, complete(name), extended=True), "xz"),
                Shared(Case(name, complete(name), order=8), "x"),
                Shared(Case(name, complete(name), ndim=3, order=4), "yz"),
                Shared(Case(name, complete(name), ndim=3, order=4), "xy"),
            ]
        )
        for name in EQUATIONS
    },
}


def main() -> None:
    """Run the groups that the arguments name, or one case of a group, as in `checks/jit`."""
    jax.config.update("jax_enable_x64", True)
    found = {}
    for argument in sys.argv[1:]:
        group, _, one = argument.partition("/")
        for name, run in GROUPS[group].items():
            if one in ("", name):
                found[name] = run()
                print(name, found[name], file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
