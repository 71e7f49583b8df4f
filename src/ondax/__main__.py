"""The command line: `python -m ondax demo` and `python -m ondax info`."""

import argparse
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run a command, and return the exit status: 0 for success.

    Args:
        arguments: of the command line, without the program's name; None for those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ondax", description="Differentiable wave physics for JAX."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo", help="full-waveform inversion of the Overthrust model, in about a minute"
    )
    demo.add_argument(
        "--output", type=Path, default=Path("ondax-demo.png"), help="picture to write (%(default)s)"
    )
    demo.add_argument(
        "--iterations", type=int, default=100, help="iterations of the inversion (%(default)s)"
    )
    commands.add_parser(
        "info", help="versions, compiler, cache of compiled kernels, threads and memory"
    )
    chosen = parser.parse_args(arguments)
    if chosen.command == "info":
        return _info()
    if chosen.iterations < 1:
        parser.error(f"--iterations {chosen.iterations}: at least 1")
    if not chosen.output.resolve().parent.is_dir():
        parser.error(f"--output {chosen.output}: the folder does not exist")
    return _demo(chosen.output, chosen.iterations)


def _demo(output: Path, iterations: int) -> int:
    """Run the demonstration and print its results."""
    from .demo import describe, run

    print(describe())
    try:
        report = run(output, iterations)
    except (ImportError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{report}\n\npicture: {output}")
    return 0


def _info() -> int:
    """Print versions and settings, for reports of errors."""
    from .backends.devito import kernel_cache
    from .backends.devito.compiler import CompilerError, toolchain
    from .backends.settings import available_cores, machine_memory

    for name in ("ondax", "jax", "jaxlib", "devito", "equinox", "optax", "lineax", "numpy"):
        print(f"{name:<10} {_version(name)}")
    print(f"{'python':<10} {platform.python_version()} on {platform.system()} {platform.machine()}")
    try:
        tools = toolchain()
        print(f"{'compiler':<10} {' '.join(tools.command)} {' '.join(tools.flags)}")
    except CompilerError as error:
        print(f"{'compiler':<10} missing: {error}")
    folder = kernel_cache.readable()
    kernels = len(list(folder.glob("*/kernel.so")))
    print(f"{'cache':<10} {folder} ({kernels} kernels)")
    print(f"{'threads':<10} {available_cores()}")
    print(f"{'memory':<10} {machine_memory() / 2**30:.1f} GiB")
    return 0


def _version(name: str) -> str:
    """The version of an installed package, in words if there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
