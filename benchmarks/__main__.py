"""`python -m benchmarks`: everything measured in one run, as a table with targets."""

from __future__ import annotations

import argparse
import os
import sys

from . import host
from .report import Row, table
from .suite import Suite


def main() -> int:
    """Run what was asked for and print the table. Returns 1 where a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    suite_names = (
        "A",
        "B",
        "C",
        "D",
        "E",
        "T",
        "lsrtm",
        "network",
        "layers",
        "building",
        "startup",
        "memory",
        "xla",
        "cluster",
    )
    more = ("gpu",)  # where there is one
    parser.add_argument(
        "--case",
        nargs="+",
        choices=(*suite_names, *more),
        default=suite_names,
        help="default: all but gpu",
    )
    parser.add_argument("--quick", action="store_true", help="three rounds in place of nine")
    parser.add_argument(
        "--deepwave-python",
        default=os.environ.get("DEEPWAVE_PYTHON", sys.executable),
        help="an interpreter that has deepwave; default: $DEEPWAVE_PYTHON, else this one",
    )
    options = parser.parse_args()
    suite = Suite(rounds=3 if options.quick else 9, deepwave_python=options.deepwave_python)
    measurements = {
        "A": suite.case_a,
        "B": suite.case_b,
        "C": suite.case_c,
        "D": suite.case_d,
        "E": suite.case_e,
        "T": suite.case_t,
        "lsrtm": suite.lsrtm,
        "layers": suite.layers,
        "network": suite.network,
        "building": suite.building,
        "startup": suite.startup,
        "memory": suite.memory,
        "xla": suite.xla,
        "cluster": suite.cluster,
        "gpu": suite.gpu,
    }
    print(host.description(), flush=True)
    rows: list[Row] = []
    for name in options.case:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows += measurements[name]()
        print(table(rows), flush=True)  # so far: a case that fails takes no other's figures with it
    print(", ".join(f"{name} {version}" for name, version in sorted(suite.versions.items())))
    for note in suite.notes:
        print(f"Note: {note}")
    targets = [row for row in rows if row.limit]
    missed = sum(row.missed for row in targets)
    print(f"{missed} of {len(targets)} targets missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
