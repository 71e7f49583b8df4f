"""The command line: `python -m ondax demo`, `python -m ondax doctor` and `python -m ondax info`."""

import argparse
import sys
import time
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
        "doctor",
        help="look at packages, compiler, cache of compiled kernels, threads and memory, try the "
        "compiler and gradients, and say what to mend; status 1 if something fails",
    )
    commands.add_parser("info", help="the same without trying anything")
    chosen = parser.parse_args(arguments)
    if chosen.command in ("doctor", "info"):
        from .doctor import examine

        return examine(trials=chosen.command == "doctor")
    if chosen.iterations < 1:
        parser.error(f"--iterations {chosen.iterations}: at least 1")
    if not chosen.output.resolve().parent.is_dir():
        parser.error(f"--output {chosen.output}: the folder does not exist")
    return _demo(chosen.output, chosen.iterations)


def _demo(output: Path, iterations: int) -> int:
    """Run the demonstration and print its results."""
    from .backends.devito.compiler import CompilerError
    from .demo import describe, run

    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s  {what}", flush=True)

    print(describe(), flush=True)
    try:
        report = run(output, iterations, tell)
    except (ImportError, ValueError, CompilerError) as error:
        print(error, file=sys.stderr)
        if isinstance(error, CompilerError):
            print("python -m ondax doctor tells more", file=sys.stderr)
        return 1
    print(f"\n{report}\n\npicture: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
