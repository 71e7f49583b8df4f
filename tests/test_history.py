"""The memo of wavefield histories: whatever it holds, the numbers are the same, and it stays within
its budget."""

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import MAX_VELOCITY, Problem, difference, norm
from slow import slow, slow_but
from systems import ORDER, Rig, mass_form, right_hand_form

import ondax as ox
from ondax.backends.devito import runs
from ondax.backends.devito.layout import history_layout
from ondax.histories.buffers import POOL, layout_bytes
from ondax.histories.store import STORE, HistoryStore
from ondax.scheme.symbols import Symbols

EXACT = 1e-13  # the same operations in the same order, save sums over stretches


@pytest.fixture(autouse=True)
def empty_memo() -> Iterator[None]:
    ox.release_memory()
    yield
    ox.release_memory()


@pytest.fixture
def forward_runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, bool]]:
    """Every piece of forward modelling: first step, one past the last, and whether it kept its
    history."""
    seen: list[tuple[int, int, bool]] = []
    original = runs.ForwardRun.advance

    def spy(self, first, last, into):
        seen.append((first, last, into is not None))
        return original(self, first, last, into)

    monkeypatch.setattr(runs.ForwardRun, "advance", spy)
    return seen


# ---------------------------------------------------------------- one gradient, however its history
# came about

SYSTEMS: dict[str, Callable[[ox.Settings], Rig]] = {
    "products": lambda s: Rig(right_hand_form(Symbols(1, ORDER, "float64")), True, s),
    "fields": lambda s: Rig(mass_form(Symbols(1, ORDER, "float64")), False, s),
}


def history_bytes(rig: Rig) -> int:
    kernels, domain = rig.solver.kernels, rig.solver.domain
    return layout_bytes(history_layout(kernels, rig.recording, domain, 0, rig.steps))


@functools.cache
def stored(name: str) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """Gradients, source gradient and Born data from a whole history."""
    rig = SYSTEMS[name](ox.Settings(threads=1))
    rig.forward()
    return (*rig.adjoint(rig.residual()), rig.born(rig.perturbation()))


# Of the whole history of 36 steps, which is 512 bytes a step: from "hardly anything" to "all but
# one byte". The plan turns them into stretches of 1, 1, 2, 5, 8 and 14 steps, most of which do not
# divide 36.
BUDGETS = [3700, slow(4200), 6000, slow(9000), 12000, slow(18000)]


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_checkpointed_histories(name: str, budget: int, forward_runs: list):
    rig = SYSTEMS[name](ox.Settings(threads=1, memory=budget))
    assert budget < history_bytes(rig)
    d = rig.forward()
    assert len(STORE) == 0
    forward_runs.clear()
    got = (*rig.adjoint(rig.residual()), rig.born(rig.perturbation()))
    assert len(STORE) == 0
    assert max(last - first for first, last, kept in forward_runs if kept) < rig.steps
    assert difference(got, stored(name)) < EXACT
    assert norm(d) > 0


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_budget_for_nothing_is_refused(name: str):
    rig = SYSTEMS[name](ox.Settings(threads=1, memory=1000))
    with pytest.raises(
        MemoryError, match=r"1000 bytes is too small: .* at least \d+ bytes.*Raise Settings\(memory"
    ) as caught:
        rig.adjoint(rig.residual())
    need = int(str(caught.value).split("at least ")[1].split()[0])
    enough = SYSTEMS[name](ox.Settings(threads=1, memory=need))
    assert difference(enough.adjoint(rig.residual()), stored(name)[:2]) < EXACT


@pytest.mark.parametrize("name", SYSTEMS)
def test_recomputed_history(name: str, forward_runs: list):
    rig = SYSTEMS[name](ox.Settings(threads=1))
    got = (*rig.adjoint(rig.residual()), rig.born(rig.perturbation()))  # no forward run before
    assert forward_runs == [(0, rig.steps, True)]
    assert difference(got, stored(name)) == 0.0


JAX_PROBLEMS = [Problem("acoustic", 1, 4), Problem("density", 1, 4)]


@functools.cache
def reference(problem: Problem):
    """Gradients in model and wavelet from stored histories; float64 must be on."""
    ox.release_memory()
    F = problem.propagator()
    return jax.vjp(lambda m, w: F(m, wavelet=w), problem.model(), problem.wavelet())[1](
        problem.cotangent()
    )


@pytest.mark.parametrize("problem", JAX_PROBLEMS, ids=str)
def test_evicted_between_forward_and_backward(
    problem: Problem, x64_everywhere: None, forward_runs: list
):
    wanted = reference(problem)
    F = problem.propagator()
    d, pull = jax.vjp(lambda m, w: F(m, wavelet=w), problem.model(), problem.wavelet())
    jax.block_until_ready(d)
    assert len(STORE) == 2
    ox.release_memory()
    assert len(STORE) == 0
    assert STORE.nbytes == 0
    forward_runs.clear()
    assert difference(pull(problem.cotangent()), wanted) == 0.0
    assert len(forward_runs) == 2
    assert difference(pull(2 * problem.cotangent()), jax.tree.map(lambda g: 2 * g, wanted)) < EXACT


# Two shots of 80 steps, each 384 bytes a step (or thrice that): neither, one or both histories fit.
@pytest.mark.parametrize("share", [0.3, 0.9, 1.1, 1.9, 2.1])
@pytest.mark.parametrize("problem", slow_but(JAX_PROBLEMS, JAX_PROBLEMS[0]), ids=str)
def test_budgets(
    problem: Problem, share: float, x64_everywhere: None, monkeypatch: pytest.MonkeyPatch
):
    """`share`: of one shot's history. The memo never holds more than the budget, and the gradient
    does not notice."""
    wanted = reference(problem)
    F = problem.propagator()
    F(problem.model())
    jax.vjp(F, problem.model())
    whole = STORE.nbytes // 2
    ox.release_memory()

    largest = 0
    original = HistoryStore.acquire

    def acquire(self, *args):
        nonlocal largest
        found = original(self, *args)
        largest = max(largest, self.nbytes)
        return found

    monkeypatch.setattr(HistoryStore, "acquire", acquire)
    budget = int(share * whole)
    F = problem.propagator(settings=ox.Settings(threads=2, memory=budget))
    gradient = jax.jit(lambda m, w, y: jax.vjp(lambda m, w: F(m, wavelet=w), m, w)[1](y))
    for _ in range(2):
        assert (
            difference(gradient(problem.model(), problem.wavelet(), problem.cotangent()), wanted)
            < EXACT
        )
        born = F.jacobian(problem.model()).mv(problem.perturbation())
        assert norm(born) > 0
        assert max(largest, STORE.nbytes) <= budget


@pytest.mark.slow
def test_stretches_below_a_free_surface(x64_everywhere: None):
    """The two fields before a stretch, which its kernel does not compute, have images above the
    surface too."""
    problem = Problem("density", 1, 4)
    survey = ox.Survey(problem.sources(), problem.receivers(), problem.wavelet(), problem.oracle.dt)
    surface = ox.Faces(ox.Sponge(problem.width), top=ox.FreeSurface())

    def linearised(settings: ox.Settings) -> tuple[Any, jax.Array]:
        F = ox.Propagator(
            ox.AcousticDensity(4),
            ox.Grid(problem.shape, problem.spacing, problem.origin),
            survey,
            max_velocity=MAX_VELOCITY,
            boundary=surface,
            settings=settings,
            min_points_per_wavelength=0.0,
        )
        gradient = jax.grad(lambda m: jnp.vdot(problem.cotangent(), F(m)))(problem.model())
        return gradient, F.jacobian(problem.model()).mv(problem.perturbation())

    whole = linearised(ox.Settings(threads=1))
    for memory in (15_000, 30_000, 60_000):
        assert difference(linearised(ox.Settings(threads=1, memory=memory)), whole) < EXACT


def test_histories_of_one_shape_and_different_halos(x64_everywhere: None):
    """Runs read zeros in the halo of a history: it must not take over memory where another
    history's fields were."""

    def gradient(order: int, points: int) -> jax.Array:
        F = ox.Propagator(
            ox.AcousticDensity(order),
            ox.Grid((points,), 10.0),
            ox.Survey([[20.0]], [[300.0]], np.random.default_rng(0).normal(size=60), 1.5e-3),
            max_velocity=2600.0,
            boundary=ox.Sponge(width=0),
            min_points_per_wavelength=0.0,
            settings=ox.Settings(threads=1),
        )
        model = {"vp": jnp.full(points, 2000.0), "rho": jnp.full(points, 1500.0)}
        return jax.grad(lambda m: jnp.sum(F(m) ** 2))(model)["rho"]

    wanted = gradient(8, 45)
    ox.release_memory()
    # with its halo of 4 points on each side, as long as 45 points with 8 on each side
    gradient(4, 53)
    assert difference(gradient(8, 45), wanted) == 0.0


# ---------------------------------------------------------------- every k-th step


class Smooth(Problem):
    """With wavelets that begin and end smoothly, of 26 internal steps a period at their peak
    frequency."""

    def wavelet(self) -> jax.Array:
        nt, dt = self.oracle.nt, self.oracle.dt
        return jnp.asarray(
            np.broadcast_to(ox.ricker(3.1 / ((nt - 1) * dt), nt, dt), (2, 2, nt)), self.dtype
        )


def test_sparse_histories_are_exact_and_small(x64_everywhere: None):
    problem = Smooth("acoustic", 1, 4)
    gradients, sizes = {}, {}
    for every in (1, 2):
        ox.release_memory()
        _, pull = jax.vjp(
            problem.propagator(settings=ox.Settings(store_every=every)), problem.model()
        )
        sizes[every] = STORE.nbytes
        gradients[every] = pull(problem.cotangent())[0]
    assert 0 < difference(gradients[2], gradients[1]) < 1e-6
    steps = problem.propagator().steps_per_sample * (problem.oracle.nt - 1)
    # Of second order, one array for three, one slot less for each end; the run goes on for 28
    # steps.
    assert sizes[2] < (steps + 28) / 2 / steps * sizes[1]


@pytest.mark.parametrize("ratio", [0.9, 1.8])
def test_sparse_histories_checkpointed(ratio: float, x64_everywhere: None):
    problem, every = Smooth("density", 1, 4, ratio=ratio), 2
    y = problem.cotangent()
    stored = jax.vjp(problem.propagator(settings=ox.Settings(store_every=every)), problem.model())
    wanted = stored[1](y)[0]
    whole = STORE.nbytes // 2
    for share in (0.5, 0.8):
        ox.release_memory()
        F = problem.propagator(
            settings=ox.Settings(store_every=every, threads=1, memory=int(share * whole))
        )
        assert difference(jax.vjp(F, problem.model())[1](y)[0], wanted) < EXACT
        assert len(STORE) == 0


def test_the_jacobian_is_exact_however_sparse(x64_everywhere: None):
    """`store_every` samples gradients only: J and J' stay each other's transpose."""
    problem = Smooth("acoustic", 1, 4)
    plain = problem.propagator().jacobian(problem.model())
    sparse = problem.propagator(settings=ox.Settings(store_every=2)).jacobian(problem.model())
    x = problem.perturbation()
    assert difference(sparse.mv(x), plain.mv(x)) < EXACT
    y = problem.cotangent()
    assert difference(sparse.T.mv(y), plain.T.mv(y)) < EXACT


# ---------------------------------------------------------------- how often the forward runs


def test_a_gradient_runs_each_shot_forward_once(forward_runs: list):
    problem = Problem("acoustic", 1, 4, dtype="float32")
    F = problem.propagator()
    gradient = jax.jit(jax.value_and_grad(lambda m: jnp.sum(F(m) ** 2)))
    gradient(problem.model())
    assert [kept for *_, kept in forward_runs] == [True, True]  # two shots


def test_modelling_keeps_nothing(forward_runs: list):
    problem = Problem("acoustic", 1, 4, dtype="float32")
    problem.propagator()(problem.model())
    assert [kept for *_, kept in forward_runs] == [False, False]
    assert STORE.nbytes == 0


def test_one_background_serves_every_jacobian_product(forward_runs: list):
    """Ten iterations of LS-RTM: one forward run a shot, in all; eager, jitted or batched."""
    problem = Problem("acoustic", 1, 4, dtype="float32")
    F, model = problem.propagator(), problem.model()
    J = F.jacobian(model)
    x, y = problem.perturbation(), problem.cotangent()
    for _ in range(3):
        J.mv(x)
        J.T.mv(y)
    jax.jit(lambda v: J.mv(v))(x)
    jax.jit(lambda m, v: F.jacobian(m).T.mv(v))(model, y)
    jax.vmap(J.T.mv)(jnp.stack([y, 2 * y]))
    jax.vjp(F, model)[1](y)
    assert len([1 for *_, kept in forward_runs if kept]) == 2
    assert len(STORE) == 2


def test_the_memo_does_not_grow_in_a_loop():
    """FWI: a new model in every step. The buffers of used histories are taken over."""
    problem = Problem("acoustic", 1, 4, dtype="float32")
    # with more, the pool's size depends on who overlaps
    F = problem.propagator(settings=ox.Settings(threads=1))
    gradient = jax.jit(jax.grad(lambda m: jnp.sum(F(m) ** 2)))
    held = []
    for i in range(12):
        jax.block_until_ready(gradient(problem.model() * (1 + 0.001 * i)))
        pooled = POOL.nbytes
        held.append((STORE.nbytes, len(STORE), pooled))
    assert set(held[2:]) == {held[2]}
    assert held[2][0] <= 2 * held[0][0]


def test_a_line_search_does_not_grow_the_memo():
    """Of forward runs with gradient whose backward never comes, a few are kept, in a quarter of the
    budget."""
    problem = Problem("acoustic", 1, 4, dtype="float32")
    ox.release_memory()
    jax.vjp(problem.propagator(), problem.model())
    size, shots = STORE.nbytes, len(STORE)
    ox.release_memory()
    F = problem.propagator(settings=ox.Settings(memory=12 * size))
    for i in range(10):
        jax.vjp(F, problem.model() * (1 + 0.001 * i))
        assert STORE.nbytes <= 4 * size
    assert len(STORE) == 4 * shots  # and it makes use of that quarter


# ---------------------------------------------------------------- what a history is found by


@pytest.mark.parametrize(
    "changed",
    ["model", "wavelet", "sources", "dt", "spacing", "interpolation", "boundary", "order"],
)
def test_a_history_is_not_mistaken_for_another(changed: str, x64_everywhere: None):
    """Fill the memo with the history of a neighbouring experiment, which differs a little in one
    respect."""
    problem = Problem("acoustic", 1, 4)
    model, wavelet, sources, receivers = problem.inputs()

    def propagator(**changes) -> ox.Propagator:
        options = {
            "spacing": 8.0,
            "dt": 0.9 * problem.oracle.dt,
            "width": 6,
            "interpolation": "sinc",
            "order": 4,
        } | changes
        survey = ox.Survey(sources, receivers, wavelet, options["dt"])
        return ox.Propagator(
            ox.Acoustic(space_order=options["order"]),
            ox.Grid(problem.shape, options["spacing"], problem.origin),
            survey,
            max_velocity=problem.oracle.max_velocity,
            boundary=ox.Sponge(width=6, reflection=options.get("reflection", 1e-3)),
            interpolation=options["interpolation"],
            min_points_per_wavelength=1.0,
        )

    def pull(F, m=model, w=wavelet, s=sources):
        return jax.vjp(lambda m: F(m, wavelet=w, sources=s), m)[1](problem.cotangent())[0]

    F = propagator()
    other = {
        "model": lambda: pull(F, m=model.at[17].multiply(1 + 1e-9)),
        "wavelet": lambda: pull(F, w=wavelet.at[0, 0, 5].add(1e-9)),
        "sources": lambda: pull(F, s=sources + 1e-9),
        "dt": lambda: pull(propagator(dt=0.9 * problem.oracle.dt * (1 + 1e-9))),
        "spacing": lambda: pull(propagator(spacing=8.0 + 1e-9)),
        "interpolation": lambda: pull(propagator(interpolation="linear")),
        "boundary": lambda: pull(propagator(reflection=1.001e-3)),
        "order": lambda: pull(propagator(order=2)),
    }[changed]
    fresh = pull(F)
    ox.release_memory()
    neighbour = other()
    assert len(STORE) == 2
    assert difference(neighbour, fresh) > 1e-13  # so a mistake would show
    assert difference(pull(F), fresh) == 0.0


def test_contents_outlive_the_callback(x64_everywhere: None):
    """The memo compares with arrays that JAX lent to a callback long ago: they must still hold what
    they held.

    Where a history is at hand, another kernel computes the traces, which are this gradient's
    residual: rounding.
    """
    problem = Problem("acoustic", 1, 4)
    F = problem.propagator()
    gradient = jax.jit(jax.grad(lambda m: jnp.sum(F(m) ** 2)))
    models = [problem.model() * (1 + 1e-3 * i) for i in range(6)]
    fresh = []
    for m in models:
        ox.release_memory()
        fresh.append(gradient(m))
    forward = jax.jit(lambda m: jax.vjp(F, m)[0])
    for m in models:
        forward(m)
    for i in (5, 0, 3, 0, 5, 1):
        assert difference(gradient(models[i]), fresh[i]) < EXACT


def test_a_history_outlives_its_scheme():
    """A new scheme may be made at the address of one that was dropped: that must not make it the
    same."""
    first = Rig(right_hand_form(Symbols(1, ORDER, "float64")), True, ox.Settings(threads=1))
    first.forward()
    y, address = first.residual(), id(first.solver.kernels)
    del first
    kept = []
    for _ in range(200):
        rig = Rig(right_hand_form(Symbols(1, ORDER, "float64")), True, ox.Settings(threads=1))
        if id(rig.solver.kernels) == address:
            break
        kept.append(rig)
    # The history in the memo is that of a scheme no longer there; this one happens to be the same,
    # so spoil it.
    for entry in STORE._entries.values():
        for array in entry.arrays.values():
            array[...] = np.nan
    assert all(np.all(np.isfinite(g)) for g in rig.adjoint(y)[0])


def test_python_threads_share_the_memo(x64_everywhere: None):
    """Two threads on one propagator and one background, while a third evicts: everyone gets the
    same gradient."""
    problem = Problem("acoustic", 1, 4)
    wanted = reference(problem)[0]
    F = problem.propagator()
    _, pull = jax.vjp(F, problem.model())
    results, stop = [], threading.Event()

    def work() -> None:
        for _ in range(15):
            results.append(difference(pull(problem.cotangent())[0], wanted))

    def evict() -> None:
        while not stop.wait(0.002):
            ox.release_memory()

    threads = [threading.Thread(target=work) for _ in range(2)]
    evictor = threading.Thread(target=evict)
    for t in (*threads, evictor):
        t.start()
    for t in threads:
        t.join(120)
    stop.set()
    evictor.join()
    assert len(results) == 30
    assert max(results) < EXACT
