"""Gradients by kernels of gcc and of clang, built with ondax's own flags, against kernels in which
nothing was optimised."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np, ondax as ox

jax.config.update("jax_enable_x64", True)
survey = ox.Survey(
    ox.line((50.0, 40.0), (250.0, 40.0), 2),
    ox.line((0.0, 60.0), (300.0, 60.0), 5),
    ox.ricker(12.0, 150, 0.002),
    0.002,
)
velocity = jnp.asarray(2000.0 + 100.0 * np.random.default_rng(1).uniform(-1, 1, (31, 26)))

def gradient(threads, shots):
    settings = ox.Settings(threads=threads)
    grid, layer = ox.Grid((31, 26), 10.0), ox.CPML(8)
    F = ox.Propagator(ox.Acoustic(4), grid, survey, 2600.0, boundary=layer, settings=settings)
    return jax.grad(lambda v: jnp.sum(F(v, shots=shots) ** 2))(velocity)

# Two threads share the only shot.
np.savez(sys.argv[1], shots=gradient(1, [0, 1]), shot=gradient(int(sys.argv[2]), [0]))
"""
# Of 150 steps with about 50 operations a point each, whose roundings of 1.1e-16 all go one way.
ROUNDING = 150 * 50 * 1.1e-16
# Another name of clang, or a path: "zig cc" is one, too.
COMPILERS = {"gcc": "gcc", "clang": os.environ.get("ONDAX_TEST_CLANG", "clang")}


def gradients(
    folder: Path, threads: int, compiler: str | None = None, flags: str | None = None
) -> dict[str, np.ndarray]:
    """What a process of its own calculates with kernels that it has built, each of them anew."""
    chosen = {"CC": compiler, "ONDAX_CFLAGS": flags, "ONDAX_CACHE_DIR": str(folder / "kernels")}
    kept = {n: v for n, v in os.environ.items() if n not in chosen}
    environment = kept | {n: v for n, v in chosen.items() if v is not None}
    command = [sys.executable, "-c", PROGRAM, str(folder / "found.npz"), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "found.npz"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """As the C code says: by one thread, without any optimisation."""
    return gradients(tmp_path_factory.mktemp("plain"), threads=1, flags="-O0")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILERS)
def test_gradients_do_not_depend_on_the_compiler(
    name: str, plain: dict[str, np.ndarray], tmp_path: Path
):
    """In a perfectly matched layer, too, whose kernels gcc compiles several times longer than
    clang."""
    compiler = COMPILERS[name]
    if shutil.which(shlex.split(compiler)[0]) is None:
        pytest.skip(f"{compiler} is not on this machine")
    for what, found in gradients(tmp_path, threads=2, compiler=compiler).items():
        assert np.linalg.norm(plain[what]) > 0
        assert np.linalg.norm(found - plain[what]) <= ROUNDING * np.linalg.norm(plain[what]), what
