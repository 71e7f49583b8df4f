"""How much comes back from absorbing layers: `python -m benchmarks.echo`.

The echo of a layer is the relative difference (in the norm over all traces) between the traces of
case A and those of the same model continued by EXTEND cells beyond all edges, from where nothing
comes back within the record. Both are by the same package, with the same source, receivers and
steps, so nothing but the layer differs. The model is continued with the values at its edges, as it
is within the layers.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import numpy as np

from .cases import CASES, MAX_VELOCITY, SPACING
from .worker import Worker

CASE = CASES["A"]
# There and back at the largest velocity takes longer than the record.
EXTEND = int(MAX_VELOCITY * CASE.steps * CASE.dt / SPACING / 2) + 10
WIDTHS = (10, 15, 20, 30, 40, 60, 80, 120, 160)  # of deepwave's layer


def _traces(module: str, python: str, **options: Any) -> np.ndarray:
    with Worker(module, {"case": CASE.name, "threads": 1, **options}, python) as worker:
        return np.asarray(worker.run("traces")[1])


def _echo(traces: np.ndarray, undisturbed: np.ndarray) -> float:
    return float(np.linalg.norm(traces - undisturbed) / np.linalg.norm(undisturbed))


def main() -> None:
    """Print the echoes, and the narrowest layer of deepwave whose echo is no larger than that of
    ondax's default boundary."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.echo", description=__doc__)
    parser.add_argument(
        "--deepwave-python",
        default=os.environ.get("DEEPWAVE_PYTHON", sys.executable),
        help="an interpreter that has deepwave; default: $DEEPWAVE_PYTHON, else this one",
    )
    peer = parser.parse_args().deepwave_python
    print("| layer | echo |\n|---|---|")
    echoes = {}
    for name, options in (
        ("ondax, its default boundary", {"as_baselines": False}),
        ("ondax, the sponge of the cases (40)", {}),
    ):
        pair = (
            _traces("ondax_contender", sys.executable, extend=extend, **options)
            for extend in (0, EXTEND)
        )
        echoes[name] = _echo(*pair)
        print(f"| {name} | {echoes[name]:.1e} |", flush=True)
    undisturbed = _traces("deepwave_baseline", peer, extend=EXTEND)
    small_enough = []
    for width in WIDTHS:
        echo = _echo(_traces("deepwave_baseline", peer, width=width), undisturbed)
        print(f"| deepwave, {width} | {echo:.1e} |", flush=True)
        if echo <= echoes["ondax, its default boundary"]:
            small_enough.append(width)
    print(f"widths of deepwave's layer with no larger echo than ondax's default: {small_enough}")


if __name__ == "__main__":
    main()
