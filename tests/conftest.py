"""A hostile environment: strict dtype promotion, shapes checked at run time, float64 only where a
test asks for it."""

import atexit
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # as in a script's background job: some tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

install_import_hook("ondax", "typechecking.checked")  # checks shapes and dtypes of public calls
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Most tests make propagators of the same few shapes: XLA compiles a program once for all of them,
# and for all workers, which inherit the environment.
if "ONDAX_TEST_PROGRAMS" not in os.environ:
    os.environ["ONDAX_TEST_PROGRAMS"] = tempfile.mkdtemp(prefix="programs-")
    atexit.register(shutil.rmtree, os.environ["ONDAX_TEST_PROGRAMS"], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ["ONDAX_TEST_PROGRAMS"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

from registry import OUTCOMES, conformance_test  # noqa: E402  (it imports ondax)

import ondax as ox  # noqa: E402  (behind the hook)
from ondax.engine import settings as engine_settings  # noqa: E402

# they share the machine
engine_settings.MEMORY_SHARE /= int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

# The gate must be reproducible and must not time a compiler: the same examples every run, and no
# deadline.
settings.register_profile("ondax", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("ondax")


OPTIMISED = ("engine", "demo", "readme", "physics")  # tested as users run them


# Run with `-m slow` only: each repeats, in another dimension, precision or method, what a quicker
# one has shown, and the gate has to end within minutes on two cores.
SLOW = [
    r"test_equations.*::test_2d\[(TTI|Viscoacoustic)\]",
    r"test_(oracle|adjoint).*\[(density-3d|.*order16|acoustic-3d.*(float32|linear|layer)|density-1d|density-2d.*float32)",
    r"test_adjoint.*::test_dot\[(density|acoustic-(1d|3d))",
    r"test_equations.*::test_(hessian\[AcousticDensity|3d_below_a_free_surface)",
    r"test_physics_media.*::test_(elastic_waves_in_space|components_together)",
    r"test_physics_boundaries.*::test_(waves_along_the_surface|perfectly_matched_layers_are_quiet\[vti)",
    r"test_physics.*::test_convergence_to_the_green_function\[3d-density",
    r"test_nn.*::test_transforms\[(Migration|ExtendedAdjoint)",
    r"test_nn.*::test_gradients.*\[(AdjointModelling|LinearModelling|Wavefield|ExtendedModelling\]|ExtendedAdjoint of)",
    r"test_nn.*::test_extended_layers_in_the_model\[density",
    r"test_nn.*::test_extended_sources_of_any_equation\[elastic",
    r"test_lsrtm.*::test_every_solver_finds_the_damped_solution\[(lbfgs|NormalCG-density|LSMR|cgls-acoustic)",
    r"test_lsrtm.*::test_resuming_gives_the_same_bits\[lbfgs",
    r"test_preconditioners.*::test_(they_compose_with_the_jacobian\[float32|illumination_balances)",
    r"test_fwi.*::test_a_killed_inversion_goes_on_to_the_same_bits\[lbfgs",
    r"test_unrolled_lsrtm.*::test_shipped_weights",
    r"test_properties.*::test_(adjoints|reciprocity|axes_are_alike|linear_and_causal)",
    r"test_oracle.*\[(acoustic-3d|acoustic-2d-order8-ratio1.7-sinc-off|density-2d-order4-ratio2.6|acoustic-1d-order4-ratio2.6)",
    r"test_equations.*::test_2d\[Elastic",
    r"test_unrolled_lsrtm.*::test_training_lowers_the_loss",
    r"test_nn.*::test_gradients_in_every_input_and_leaf\[(Born|ExtendedModelling of model)",
    r"test_preconditioners.*::test_probing_finds_the_diagonal",
    r"test_lsrtm_loop.*::test_resuming_gives_the_same_bits\[encodings",
    r"test_transforms.*::test_jacrev",
    r"test_oracle.*\[acoustic-2d-order2-ratio0.9-linear-off",
    r"test_physics_media.*::test_elastic_waves_in_the_plane$",
    r"test_nn.*::test_extended_sources_of_any_equation\[(acoustic-3|density-2)",
    r"test_nn.*::test_(migrated_images_in_the_background|second_order_with_extended_sources)",
    r"test_lsrtm_loop.*::test_(lineax_solvers_report|resuming_gives_the_same_bits\[batches)",
    r"test_adjoint.*::test_taylor_of_jacobian\[(density|acoustic)-3",
    r"test_adjoint.*::TestTransforms::test_(nested_vmap|jacobian_under_transforms|vmap|jit).*density",
    r"test_transforms.*::test_lineax_solvers\[density",
    r"test_preconditioners.*::test_illumination_sees_weights",
    r"test_adjoint.*::test_dot\[acoustic-2d-order8-.*-float32",
    r"test_adjoint.*::test_taylor_of_misfit\[density-(wavelet|sources|receivers)",
    r"test_adjoint.*::TestTransforms::test_(scan|checkpoint)\[density",
    r"test_oracle.*::test_traces_and_gradients\[(.*-sinc-on-float64|acoustic-1d-order4-ratio0.9-linear-on-float32)",
    r"test_physics.*::test_convergence_to_the_green_function\[(2d-density|3d-acoustic)",
    r"test_history.*::test_budgets\[density",
    r"test_history.*::test_checkpointed_histories\[.*-(4200|9000|18000)",
    r"test_nn.*::test_adjoint_layers\[float32",
    r"test_nn.*::test_extended_layers_in_the_model\[acoustic-ExtendedAdjoint",
    r"test_nn.*::test_transforms\[(Born|ExtendedModelling)",
    r"test_lsrtm_batches.*::test_(supershots_of_several_components|supershots_are_sums_of_shots\[plain)",
    r"test_equations.*::test_2d_below_a_free_surface\[(Acoustic|Elastic)",
    r"test_fwi.*::test_resuming_gives_the_same_bits\[lbfgs",
    r"test_lsrtm.*::test_it_stays_where_it_has_arrived",
    r"test_calculus.*::test_(dots|taylor)\[(mass-1d|right-hand-1d)-fields",
    r"test_readme.*::test_readme_code_runs",  # six minutes
    r"test_lsrtm.*::test_(marmousi_reflections|every_solver_finds_the_damped_solution\[(cgls-density|NormalCG))",
    r"test_properties.*::test_traces_agree_with_the_reference",
    r"test_physics_boundaries.*::test_perfectly_matched_layers_do_not_grow\[vti",
    r"test_lsrtm_batches.*::test_(gradients_of_batches_add_up|encoded_gradients_are_unbiased)",
    r"test_preconditioners.*::test_illumination_brings",
    r"test_transforms.*::test_(only_what_is_asked_for_is_computed\[eager|transforms\[(float32-density|float64))",
    r"test_transforms.*::test_linear_operators_transpose\[(float32-.*-density|float64)",
    r"test_physics_media.*::test_(anisotropic_arrivals\[0.5|elastic_waves_in_the_plane_without)",
    r"test_nn.*::test_(gradients_in_every_input_and_leaf\[Migration|extended_sources_of_any_equation\[surface)",
    r"test_calculus.*::test_(dots\[elastic-products|taylor\[elastic-fields)",
    r"test_oracle.*\[density-2d-order4-ratio0.9-sinc-off",
    r"test_units.*::test_the_digits_stay\[9",
    r"test_transport.*::test_never_hangs_on_several_devices\[sharded jit",
    r"test_calculus.*::test_dots\[(elastic-fields|elastic-float32|mass-2d-float32|second-order-fields)",
]


# Files of which one worker works longest come first, so that none is left with one of them at the
# end.
LONGEST = (
    "readme",
    "demo",
    "nn",
    "equations",
    "adjoint",
    "oracle",
    "transforms",
    "history",
    "lsrtm_loop",
    "fwi",
    "units",
)


def length(item: pytest.Item) -> int:
    name = item.path.stem.removeprefix("test_")
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=length)
    for item in items:
        if any(re.search(pattern, item.nodeid) for pattern in SLOW):
            item.add_marker(pytest.mark.slow)


# The README's table tells what the conformance tests have shown: `--record` writes that down.
recorded: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record",
        action="store_true",
        help="write the outcomes of this run's conformance tests to tests/outcomes.json",
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    test = conformance_test(report.nodeid)
    if test is not None and (report.when == "call" or not report.passed):
        recorded[test] = report.outcome  # of the body, or of what went wrong before or after it


def pytest_sessionfinish(session: pytest.Session) -> None:
    in_a_worker = hasattr(session.config, "workerinput")
    if session.config.getoption("record") and not in_a_worker:
        OUTCOMES.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


@pytest.fixture(autouse=True)
def quick_compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the compiler would take most of the time."""
    if not any(name in request.module.__name__ for name in OPTIMISED):
        monkeypatch.setenv("ONDAX_CFLAGS", "-O1")


@pytest.fixture(autouse=True, scope="module")
def no_histories_left() -> Iterator[None]:
    """What one module leaves in memory, no other needs."""
    yield
    ox.release_memory()


@pytest.fixture
def x64() -> Iterator[None]:
    """Turns float64 on for one test, as a user would inside a program that runs in float32."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test in each precision, with float64 on only where it is needed."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def kernel_runs(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every run of a kernel: a whole shot forward, Born or backward, as all histories fit into
    memory here."""
    from ondax.engine.kernel import Kernel  # after the import hook

    seen: list[object] = []
    original = Kernel.__call__

    def spy(self, *args):
        seen.append(self)
        return original(self, *args)

    monkeypatch.setattr(Kernel, "__call__", spy)
    return seen
