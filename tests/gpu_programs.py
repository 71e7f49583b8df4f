"""Compiles programs for an H100 on a machine that has none, and prints what their steps do, in
JSON: `python tests/gpu_programs.py acoustic/sponge elastic/cpml ...`.

It takes JAX's compiler for NVIDIA GPUs, some 600 MB: the packages `jax-cuda12-pjrt` and
`jax-cuda12-plugin` in the version of jaxlib, `nvidia-cuda-nvcc-cu12` and `nvidia-nvjitlink-cu12`,
installed with JAX, or by `pip install --no-deps --target FOLDER` in a folder that the environment
variable `ONDAX_GPU_WHEELS` names. Ends with status 3, and a reason, where they are missing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

MISSING = 3  # exit status
PACKAGES = "jax-cuda12-pjrt, jax-cuda12-plugin, nvidia-cuda-nvcc-cu12"

# What the compiler asks a device for, where there is one.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84929347584
  shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 12 minor: 9 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def compiler_found() -> bool:
    """Makes JAX's compiler for GPUs ready, where it is installed."""
    folder = os.environ.get("ONDAX_GPU_WHEELS")
    if folder:
        sys.path.append(folder)
    roots = [Path(p) / "nvidia" / "cuda_nvcc" for p in sys.path]
    tools = next((r for r in roots if (r / "bin" / "ptxas").exists()), None)
    try:
        plugin = importlib.util.find_spec("jax_plugins.xla_cuda12")
    except ModuleNotFoundError:
        plugin = None
    if tools is None or plugin is None:
        return False
    os.environ["PATH"] += os.pathsep + str(tools / "bin")
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)
    # Nothing can be tried out, nor are there matrix products.
    flags = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_cuda_data_dir={tools}"
    return True


def for_gpu(function: Any, argument: Any) -> str:
    """The text of a program as optimised for an H100."""
    import jax
    from jax.experimental import topologies

    described = topologies.get_topology_desc(
        platform="cuda", topology_name="", target_config=H100, topology="1x1x1"
    )
    mesh = topologies.make_mesh(described, (1,), ("device",))
    there = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=there), argument
    )
    return jax.jit(function, out_shardings=there).lower(shapes).compile().as_text() or ""


def main() -> int:
    """Prints, for each problem named, its steps, and how long both compilations took."""
    if not compiler_found():
        print(f"JAX's compiler for GPUs is not installed: {PACKAGES}", file=sys.stderr)
        return MISSING
    from compiled_problems import problem, steps_of

    for name in sys.argv[1:]:
        begin = time.perf_counter()
        equation, boundary = name.split("/")
        found = steps_of(*problem(equation, boundary), for_gpu)
        steps = {run: step._asdict() for run, step in found.items()}
        print(json.dumps({"name": name, "seconds": time.perf_counter() - begin, "steps": steps}))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
