"""The parts of the engine: points between grid points, kernels and their cache, threads,
floating-point state."""

import gc
import json
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import Problem, difference
from systems import ORDER, Rig, mass_form

import ondax as ox
from ondax.acquisition.interpolation import (
    HALF_WIDTH,
    lies_on_grid,
    place,
    window_slopes,
    window_weights,
)
from ondax.backends.devito import build as building
from ondax.backends.devito.compiler import CompilerError
from ondax.backends.devito.kernel import Kernel
from ondax.backends.devito.kernels import Kernels
from ondax.backends.devito.plans import Planned
from ondax.backends.workers import TreeSum, each
from ondax.calculus.program import Program
from ondax.histories.buffers import ALIGNMENT, Pool, row_length, zeros
from ondax.scheme.symbols import Symbols

KINDS = sorted(HALF_WIDTH)


def small_kernels(dtype: str = "float64") -> Kernels:
    """One-dimensional kernels, quick to build; their text is that of the rigs, so they share the
    cache."""
    return Kernels(Planned.of(Program(mass_form(Symbols(1, ORDER, dtype)))))


def plain_kernel(kernels: Kernels, parallel: bool = False) -> Kernel:
    return kernels.forward(None, parallel=parallel)


# ---------------------------------------------------------------- interpolation


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_derivatives_of_weights(kind: str):
    """Against central differences, whose error is h^2/6 times the third derivative (below pi^3 for
    a sinc): 1e-9."""
    offset = np.linspace(-4.37, 4.41, 1234)
    offset = offset[
        np.abs(offset - np.rint(offset)) > 1e-3
    ]  # the linear kernel has kinks at whole numbers
    h = 1e-5
    # A position that grows makes every offset (grid point minus position) fall.
    numerical = (window_weights(offset - h, kind) - window_weights(offset + h, kind)) / (2 * h)
    assert np.max(np.abs(window_slopes(offset, kind) - numerical)) < 1e-8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cells", [5.0, 4.0, 11.0])
def test_slopes_on_grid_points_are_those_towards_growing_coordinates(kind: str, cells: float):
    """Of what a window reads of a rough field: the difference quotient to one side, whose error is
    that of the step, 1e-6."""
    field = np.random.default_rng(0).normal(size=20)

    def read(at: float, shape) -> float:
        first, offset = place(np.array([at]), 20, kind, on_grid=False, half=False)
        return float(shape(offset, kind)[0] @ field[first[0] : first[0] + offset.shape[1]])

    onward = (read(cells + 1e-6, window_weights) - read(cells, window_weights)) / 1e-6
    assert abs(read(cells, window_slopes) - onward) < 2e-5


def test_slopes_of_a_sinc_at_grid_points():
    """On a grid point the slope is that of an odd function: 0 at the centre, (-1)^(n+1) window(n) /
    n at n."""
    n = np.arange(1.0, 4.0)
    slopes = window_slopes(np.concatenate([-n[::-1], [0.0], n]), "sinc")
    window = np.i0(6.31 * np.sqrt(1 - (n / 4) ** 2)) / np.i0(6.31)
    np.testing.assert_allclose(slopes[4:], -((-1.0) ** n) * window / n, rtol=1e-12)
    np.testing.assert_allclose(slopes, -slopes[::-1], atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_sum_to_one(kind: str):
    """A constant is interpolated well: exactly by linear weights, to the window's ripple by a
    Kaiser-windowed sinc.

    The window suppresses side lobes by about exp(-6.31): 2e-3.
    """
    cells = np.linspace(10, 11, 41)
    _, offset = place(cells, 30, kind, on_grid=False, half=False)
    sums = window_weights(offset, kind).sum(axis=1)
    assert np.max(np.abs(sums - 1)) < {"linear": 1e-14, "sinc": 2e-3}[kind]


def test_a_smooth_wave_is_interpolated():
    """At 4 points a wavelength, half of Nyquist, the windowed sinc errs by less than 0.5 % (Hicks,
    2002, figure 5)."""
    k = np.pi / 2
    cells = np.linspace(20.0, 22.0, 37)
    first, offset = place(cells, 50, "sinc", on_grid=False, half=False)
    points = first[:, None] + np.arange(offset.shape[1])
    for wave in (np.cos, np.sin):
        got = np.sum(window_weights(offset, "sinc") * wave(k * points), axis=1)
        assert np.max(np.abs(got - wave(k * cells))) < 5e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("half", [False, True])
def test_one_tap_equals_the_full_window_on_grid_points(kind: str, half: bool):
    cells = np.array([5.0, 11.0, 0.0, 19.0]) + 0.5 * half
    first, offset = place(cells, 20, kind, on_grid=True, half=half)
    full_first, full_offset = place(cells, 20, kind, on_grid=False, half=half)

    def spread(first, offset):
        line = np.zeros((4, 20))
        for row, start, weights in zip(line, first, window_weights(offset, kind), strict=True):
            row[start : start + weights.size] += weights
        return line

    assert offset.shape == (4, 1)
    np.testing.assert_allclose(spread(full_first, full_offset), spread(first, offset), atol=1e-16)


@pytest.mark.parametrize("kind", KINDS)
def test_windows_stay_inside_the_grid(kind: str):
    """Points of a window beyond the grid are dropped, and the others keep their own weights."""
    cells = np.array([-0.4, 0.3, 3.7, 8.6, 9.2])
    for points in (10, 5, 1):
        first, offset = place(
            np.minimum(cells, points - 0.5), points, kind, on_grid=False, half=False
        )
        assert first.min() >= 0
        assert (first + offset.shape[1]).max() <= points
        index = first[:, None] + np.arange(offset.shape[1])
        np.testing.assert_allclose(
            offset, index - np.minimum(cells, points - 0.5)[:, None], atol=1e-14
        )
    first, offset = place(np.array([0.3]), 10, "sinc", on_grid=False, half=False)
    # 4.7 cells and more away
    np.testing.assert_array_equal(window_weights(offset, "sinc")[0, 5:], 0.0)


def test_grid_points_are_recognised_to_the_rounding_of_double_precision():
    """Anything further off a node is a position between nodes, whatever the type of the
    wavefields."""
    cells, rounding = np.array([0.0, 7.0, 300.0]), 300 * np.finfo(np.float64).eps
    assert lies_on_grid(cells * (1 + 1e-15), rounding)
    assert not lies_on_grid(cells * (1 + 1e-7), rounding)


def test_one_tap_gives_the_same_traces(x64_everywhere: None):
    """Points on the grid get one tap; gradients in receiver positions need the whole window, which
    reads the same."""
    problem = Problem("acoustic", 1, 4, where="on")
    F, receivers = problem.propagator(), problem.receivers()
    plain = F(problem.model(), receivers=receivers)
    windowed = jax.vjp(lambda r: F(problem.model(), receivers=r), receivers)[0]
    assert difference(windowed, plain) < 1e-14


# ---------------------------------------------------------------- buffers and threads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 16), (1,), (0, 4), (5 << 20,)])
@pytest.mark.parametrize("halo", [0, 1, 8, 19])
def test_zeros_are_aligned(halo: int, shape: tuple[int, ...], dtype: str):
    array = zeros(shape, dtype, halo)
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    behind = array.ctypes.data + halo * array.itemsize
    assert behind % ALIGNMENT == 0 or not array.size
    assert not array.any()


def test_rows_are_aligned():
    assert [row_length(n, "float32") for n in (1, 16, 17)] == [16, 16, 32]
    assert [row_length(n, "float64") for n in (1, 8, 9)] == [8, 8, 16]


def test_inner_points_of_every_row_stand_aligned(kernel_call):
    """Then a vector of 64 bytes never straddles two cache lines."""
    _, seen = kernel_call
    inner = seen["arrays"]["p"]
    assert (inner.ctypes.data + ORDER * inner.itemsize) % ALIGNMENT == 0  # a halo of ORDER points
    assert all(stride % ALIGNMENT == 0 for stride in inner.strides[:-1])


def test_pool_hands_out_what_it_got_back():
    pool = Pool()
    first = pool.take("field", (4, 8), "float32")
    assert pool.take("field", (4, 8), "float32") is not first
    pool.give("field", first)
    assert pool.take("field", (4, 8), "float32", halo=2) is not first
    assert pool.take("gradient", (4, 8), "float32") is not first
    assert pool.take("field", (4, 8), "float64") is not first
    assert pool.take("field", (4, 8), "float32") is first
    pool.give("field", first)
    pool.clear()
    assert pool.take("field", (4, 8), "float32") is not first


def test_each_keeps_the_order_and_waits_for_all_before_it_raises():
    assert each([lambda i=i: i * i for i in range(7)], 3) == [i * i for i in range(7)]
    done = threading.Event()

    def fails() -> None:
        raise KeyError("first")

    def lasts() -> None:
        done.wait(0.2)
        done.set()

    with pytest.raises(KeyError, match="first"):
        each([fails, lasts], 2)
    assert done.is_set()


@given(st.permutations(range(7)), st.integers(1, 7))
def test_a_sum_by_a_tree_does_not_depend_on_who_is_first(order: list[int], count: int):
    """The sums of a pair, of pairs of pairs, and so on; the last ones may be alone."""
    texts = TreeSum(count, lambda a, b: f"({a}{b})")
    for i in order:
        if i < count:
            texts.put(i, str(i))
    expected = ["0", "(01)", "((01)2)", "((01)(23))", "(((01)(23))4)", "(((01)(23))(45))"]
    assert texts.total == [*expected, "(((01)(23))((45)6))"][count - 1]


@pytest.mark.slow
def test_gradients_of_groups_add_up_to_the_bit():
    """A gradient of four shots is the sum of those of the first two and of the last two."""
    survey = ox.Survey(
        ox.line((20.0, 30.0), (180.0, 30.0), 4),
        ox.line((0.0, 20.0), (200.0, 20.0), 21),
        ox.ricker(20.0, 100, 0.004),
        0.004,
    )
    F = ox.Propagator(
        ox.Acoustic(4), ox.Grid((21, 16), 10.0), survey, 2600.0, time_dispersion="raw"
    )
    model = jnp.full((21, 16), 2048.0)  # whose chain rule multiplies by a power of two

    def gradient(shots: list[int]) -> np.ndarray:
        whole = jax.grad(lambda m: jnp.sum(F(m, shots=shots) ** 2))(model)
        return np.asarray(whole)[1:-1, 1:-1]  # the edges are sums over the layer

    np.testing.assert_array_equal(gradient([0, 1, 2, 3]), gradient([0, 1]) + gradient([2, 3]))


@pytest.mark.parametrize("equation", ["acoustic", "density"])
def test_same_bits_for_one_and_two_threads(equation: str):
    """Two shots on one thread, or side by side: no sum depends on who is first."""
    problem = Problem(equation, 1, 4, dtype="float32")
    y = problem.cotangent()
    results = []
    for threads in (1, 2, 2):
        ox.release_memory()
        F = problem.propagator(settings=ox.Settings(threads=threads))
        d, pull = jax.vjp(F, problem.model())
        results.append(
            jax.tree.map(
                np.asarray, (d, pull(y), F.jacobian(problem.model()).mv(problem.perturbation()))
            )
        )
    for other in results[1:]:
        for a, b in zip(jax.tree.leaves(results[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)


def test_threads_sharing_a_shot_agree(x64_everywhere: None):
    """One shot on two threads runs another kernel, whose sums may associate otherwise."""
    problem = Problem("acoustic", 1, 4)
    one = jnp.array([0])
    y = problem.cotangent()[:1]
    results = []
    for threads in (1, 2):
        F = problem.propagator(settings=ox.Settings(threads=threads))
        d, pull = jax.vjp(lambda m, F=F: F(m, shots=one), problem.model())
        results.append((d, pull(y)[0]))
    assert difference(results[1], results[0]) < 1e-13


# ---------------------------------------------------------------- kernels


@pytest.fixture(scope="module")
def kernel_call():
    """A kernel and a set of valid arguments, taken from a run."""
    rig = Rig(mass_form(Symbols(1, ORDER, "float64")))
    kernel = rig.solver.kernels.forward(rig.recording, parallel=False)
    seen = {}
    original = type(kernel).__call__

    def spy(self, arrays, scalars, offsets=None):
        seen.update(arrays=dict(arrays), scalars=dict(scalars), offsets=dict(offsets or {}))
        return original(self, arrays, scalars, offsets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(kernel), "__call__", spy)
        rig.forward()
    return kernel, seen


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = zeros((array.nbytes + ALIGNMENT,), np.uint8)
    return raw[4 : 4 + array.nbytes].view(array.dtype).reshape(array.shape)


WRONG_ARRAYS = {
    "float32": lambda a: zeros(a.shape, np.float32),
    "integer": lambda a: zeros(a.shape, np.int64),
    "big endian": lambda a: a.astype(">f8"),
    "every other row": lambda a: zeros((2 * a.shape[0], *a.shape[1:]), a.dtype)[::2],
    "Fortran order": lambda a: np.asfortranarray(zeros((*a.shape, 2), a.dtype)),
    "unaligned": unaligned,
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_kernels_refuse_wrong_arrays(case: str, kernel_call):
    kernel, seen = kernel_call
    wrong = WRONG_ARRAYS[case](seen["arrays"]["p"])
    with pytest.raises(TypeError, match=r"kernel argument p\b.*(contiguous|aligned)"):
        kernel({**seen["arrays"], "p": wrong}, seen["scalars"], seen["offsets"])


def test_kernels_refuse_wrong_indices_and_missing_arguments(kernel_call):
    kernel, seen = kernel_call
    first = seen["arrays"]["source_first_z"]
    with pytest.raises(TypeError, match="source_first_z: need contiguous int32"):
        kernel(
            {**seen["arrays"], "source_first_z": first.astype(np.int64)},
            seen["scalars"],
            seen["offsets"],
        )
    with pytest.raises(TypeError, match="p is not aligned"):
        kernel(seen["arrays"], seen["scalars"], {**seen["offsets"], "p": 4})
    for what, name in (("arrays", "p"), ("scalars", "time_M")):
        fewer = {**seen, what: {k: v for k, v in seen[what].items() if k != name}}
        with pytest.raises(KeyError, match=name):
            kernel(fewer["arrays"], fewer["scalars"], fewer["offsets"])


def test_kernels_take_the_arrays_of_each_call(kernel_call):
    """Descriptions of arrays are kept from call to call: another array is described anew."""
    kernel, seen = kernel_call
    name, scalars, offsets = "receiver_samples", seen["scalars"], seen["offsets"]
    one, other = (zeros(seen["arrays"][name].shape, kernel.dtype) for _ in range(2))
    kernel({**seen["arrays"], name: one}, scalars, offsets)
    before = one.copy()
    assert before.any()
    kernel({**seen["arrays"], name: other}, scalars, offsets)
    assert other.any()
    np.testing.assert_array_equal(one, before)
    # One step of the next call: the last row stays as it is.
    first = scalars["time_m"]
    one.fill(0)
    kernel({**seen["arrays"], name: one}, {**scalars, "time_M": first}, offsets)
    assert np.flatnonzero(one.any(axis=1)).tolist() in ([], [first])


# ---------------------------------------------------------------- the caller's floating-point state


def denormals_live() -> bool:
    tiny, single = np.array([5e-310, 1e-320]), np.array([1e-40], np.float32)
    return bool(
        np.all(tiny * 1.0 != 0) and np.all(tiny / 2 != 0) and np.all(single * np.float32(1) != 0)
    )


def test_denormals_survive_through_jax():
    """Kernels flush denormals; the threads that call a propagator must not be left so.

    (Inside a callback they are flushed anyway, by XLA, and so they are in ondax's own workers,
    which inherit that.)
    """
    problem = Problem("acoustic", 1, 4, dtype="float32")
    F = problem.propagator(settings=ox.Settings(threads=2))

    def call_and_look(_: int) -> bool:
        d, pull = jax.vjp(F, problem.model())
        jax.block_until_ready(pull(d))
        return denormals_live()

    assert denormals_live()
    assert call_and_look(0)
    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(call_and_look, range(2)))
    assert denormals_live()


def test_kernels_leave_the_floating_point_state_alone(kernel_call):
    """Without JAX around them: neither loading a kernel nor running one, in a thread of their
    own."""
    kernel, seen = kernel_call

    def call_and_look(_: int) -> bool:
        loaded = plain_kernel(small_kernels())
        kernel(seen["arrays"], seen["scalars"], seen["offsets"])
        return loaded is not kernel and denormals_live()

    with ThreadPoolExecutor(1) as thread:
        assert all(thread.map(call_and_look, range(2)))


# ---------------------------------------------------------------- building and the cache on disk


def test_kernels_are_kept_where_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A warm start neither lowers equations nor compiles, and the key covers what matters."""
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path / "cache"))
    plain_kernel(small_kernels())
    (folder,) = (tmp_path / "cache").iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["kernel.c", "kernel.json", "kernel.so"]
    assert json.loads((folder / "kernel.json").read_text())["content"]["dtype"] == "float64"

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a warm start must not build")

    monkeypatch.setattr(building, "_generate", refuse)
    monkeypatch.setattr(building.Toolchain, "compile", refuse)
    plain_kernel(small_kernels())
    for kernels, parallel in ((small_kernels("float32"), False), (small_kernels(), True)):
        with pytest.raises(AssertionError, match="must not build"):
            plain_kernel(kernels, parallel)
    monkeypatch.setattr(building, "FORMAT", "other")
    with pytest.raises(AssertionError, match="must not build"):
        plain_kernel(small_kernels())


def test_another_compiler_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = building.toolchain()
    wrapper = tmp_path / "mycc"
    wrapper.write_text(f'#!/bin/sh\nexec {before.command[0]} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CC", str(wrapper))
    after = building.toolchain()
    identity = after.identity
    assert after.command == (str(wrapper),)
    assert identity != before.identity
    wrapper.write_text(f'#!/bin/sh\n# updated\nexec {before.command[0]} "$@"\n')
    assert building.toolchain().identity != identity


NO_COMPILER = {
    "empty PATH": {"PATH": "", "CC": None},
    "CC of another machine": {"CC": "/nonexistent/gcc-99"},
}


@pytest.mark.parametrize("case", NO_COMPILER)
def test_missing_compiler(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in NO_COMPILER[case].items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(
            name, value
        )
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path))
    with pytest.raises(
        CompilerError, match="no C compiler found.*install gcc or clang.*or set CC"
    ) as caught:
        plain_kernel(small_kernels())
    assert "\n" not in str(caught.value)
    if "CC" in case:
        assert "/nonexistent/gcc-99" in str(caught.value)


def test_a_compiler_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    compiler = tmp_path / "badcc"
    compiler.write_text("#!/bin/sh\necho 'I refuse' >&2\nexit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("ONDAX_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(CompilerError, match="badcc.*failed(.|\n)*I refuse"):
        plain_kernel(small_kernels())
    assert list((tmp_path / "cache").iterdir()) == []


def test_two_processes_may_build_at_once(tmp_path: Path):
    """Both build the same kernel into one cache, and both run it."""
    program = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, {tests!r})
        import numpy as np
        from systems import ORDER, Rig, float64_everywhere, mass_form
        from ondax.scheme import Symbols
        rig = Rig(mass_form(Symbols(1, ORDER, "float64")))
        sys.stdin.readline()
        print(float(np.sum(rig.forward(keep=False) ** 2)))
        """
    ).format(tests=str(Path(__file__).parent))
    env = {**os.environ, "ONDAX_CACHE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=env, text=True, stdin=-1, stdout=-1, stderr=-1
        )
        for _ in range(2)
    ]
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in started]
    assert [p.returncode for p in started] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert float(answers[0][0]) > 0
    assert len(list(tmp_path.iterdir())) == 1  # no scratch folder is left


def test_garbage_is_looked_for_as_before_once_all_kernels_are_derived():
    """Also where one program's kernel is begun before another's is done, and ends after it."""
    from ondax.backends.devito.kernels import _FewCollections

    usual, fewer = gc.get_threshold(), _FewCollections()
    fewer.__enter__()  # of one thread
    fewer.__enter__()  # of another
    fewer.__exit__()
    assert gc.get_threshold() != usual
    fewer.__exit__()
    assert gc.get_threshold() == usual
