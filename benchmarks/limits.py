"""How near the kernels are to what the machine can do: `python -m benchmarks.limits --write`
measures both, and writes the tables of README.md.

No measure of the machine is taken from a data sheet: `machine.c` is compiled by ondax's own
toolchain and run on one core. What a kernel must do at least is counted in its C code. Every bound
is a time that no order of the same operations, loads and stores could undercut on this machine:

- operations, at the rate of fused multiplications and additions (two operations each);
- loads, from the nearest cache: aligned ones, and those shifted by some points along a row;
- stores, into the nearest cache;
- bytes from beyond each cache. Between two nests, and two steps, a cache of C bytes keeps C bytes
  at the most of what is read again, and delays C bytes of what is written. The history comes from
  memory, or goes there, whatever the caches are. Bytes are counted as read plus written, and go at
  the largest rate of any mix of the two that was measured.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondax.backends.devito.compiler import toolchain

from . import host
from .media_cases import ORDERS
from .worker import Worker

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- limits: written by benchmarks/limits.py -->", "<!-- end of limits -->"
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
WORK = ("read", "read, shifted", "write", "update", "copy", "streaming write")  # as in machine.c
FUSED = 6  # after those
SECONDS = 0.4  # of each measure
RUNS = (("A", 8), ("D", 8), *((case, order) for case in "ET" for order in ORDERS))
LARGEST = 2**28  # bytes of the arrays that lie in no cache


@dataclass(frozen=True)
class Level:
    """A cache or the memory.

    Attributes:
        name: "L1", "L2", "L3" or "DRAM".
        size: bytes that it holds; of the memory, those that were used.
        rates: bytes a second of one core, by the kind of work.
    """

    name: str
    size: int
    rates: Mapping[str, float]

    @property
    def best(self) -> float:
        return max(self.rates.values())


@dataclass(frozen=True)
class Machine:
    """What one core can do: levels from the nearest on, and operations a second."""

    levels: Sequence[Level]
    operations: float


def cache_sizes() -> dict[str, int]:
    """Bytes of the caches that a core reads data from, as the kernel of the system tells."""
    sizes = {}
    for index in sorted(CACHES.glob("index*")):
        if (index / "type").read_text().strip() != "Instruction":
            text = (index / "size").read_text().strip()
            factor = {"K": 2**10, "M": 2**20}[text[-1]]
            sizes[f"L{(index / 'level').read_text().strip()}"] = int(text[:-1]) * factor
    if not sizes:
        raise RuntimeError(f"{CACHES} tells no sizes of caches")
    return sizes


def measure_machine() -> Machine:
    """Compile `machine.c` and run it."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(Path(__file__).with_name("machine.c"), Path(folder) / "kernel.c")
        toolchain().compile(Path(folder), openmp=False)
        function = ctypes.CDLL(str(Path(folder) / "kernel.so")).kernel
    function.argtypes = ctypes.c_int, ctypes.c_long, ctypes.c_double
    function.restype = ctypes.c_double

    def rate(work: int, size: int) -> float:
        found = function(work, size // 4, SECONDS)
        if found < 0:
            raise MemoryError(f"no memory for two arrays of {size} bytes")
        return found

    levels, inner = [], 0
    for name, size in (*cache_sizes().items(), ("DRAM", LARGEST)):
        # A copy has two arrays. In a cache that other cores share, less than a half is ours.
        used = LARGEST if name == "DRAM" else min(size // 2, 4 * inner) if inner else size // 2
        rates = {
            w: rate(i, used // 2 if w == "copy" else used)
            for i, w in enumerate(WORK)
            if name == "DRAM" or w != "streaming write"  # which goes to memory always
        }
        levels.append(Level(name, size, rates))
        inner = size
    return Machine(levels, rate(FUSED, 2**12))


def bounds(kernel: Mapping[str, Any], machine: Machine) -> dict[str, float]:
    """Seconds that a step of a kernel takes at least, by what it is bound by."""
    nearest, *further = machine.levels
    total = {
        name: sum(nest["points"] * nest[name] for nest in kernel["nests"])
        for name in ("operations", "loads", "shifted", "stores")
    }
    aligned = total["loads"] - total["shifted"]
    found = {
        "operations": total["operations"] / machine.operations,
        "loads": 4 * aligned / nearest.rates["read"]
        + 4 * total["shifted"] / nearest.rates["read, shifted"],
        "stores": 4 * total["stores"] / nearest.rates["write"],
    }
    for cache, level in zip(machine.levels, further, strict=False):
        found[level.name] = _beyond(kernel, cache.size) / level.best
    return found


def _beyond(kernel: Mapping[str, Any], cache: int) -> float:
    """Bytes a step that come from beyond a cache of a size, or go there."""
    nests = kernel["nests"]
    each, once = 0.0, 0.0
    for kind in ("read", "written"):
        arrays = [[tuple(a) for a in nest[kind] if not a[2]] for nest in nests]
        sizes = [4 * n["points"] * len(a) for n, a in zip(nests, arrays, strict=True)]
        each += sum(max(0, size - cache) for size in sizes)
        once += max(0, 4 * kernel["points"] * len({a for some in arrays for a in some}) - cache)
    return max(each, once) + 4 * kernel["points"] * kernel["history"]


def machine_table(machine: Machine) -> str:
    lines = [("", "bytes", *WORK), ("---",) * (2 + len(WORK))]
    for level in machine.levels:
        size = f"{level.size // 2**10} KiB" if level.name != "DRAM" else ""
        rates = (f"{level.rates[w] / 1e9:.0f}" if w in level.rates else "" for w in WORK)
        lines.append((level.name, size, *rates))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


LIMITS = ("operations", "loads", "stores", "L2", "L3", "DRAM")
HEADER = (
    "kernel",
    "flops",
    "loads + stores",
    "nests",
    "history, bytes",
    *LIMITS,
    "at least",
    "took",
    "ratio",
)


def row(name: str, kernel: Mapping[str, Any], machine: Machine) -> tuple[str, ...]:
    """A line of the table: everything a point and step."""
    points, nests = kernel["points"], kernel["nests"]

    def each(key: str) -> float:
        return sum(nest["points"] * nest[key] for nest in nests) / points

    spent = 1e9 * kernel["seconds"] / kernel["steps"] / points
    limits = {name: 1e9 * least / points for name, least in bounds(kernel, machine).items()}
    what = max(limits, key=lambda name: limits[name])
    return (
        f"{name} {kernel['what']}",
        f"{each('operations'):.0f}",
        f"{each('loads'):.0f} ({each('shifted'):.0f}) + {each('stores'):.0f}",
        f"{len(nests)}",
        f"{4 * kernel['history']}",
        *(f"{limits[limit]:.2f}" if limit in limits else "" for limit in LIMITS),
        f"{limits[what]:.2f} ({what})",
        f"{spent:.2f}",
        f"{spent / limits[what]:.1f}",
    )


def kernels_table(machine: Machine, runs: Sequence[tuple[str, int]], rounds: int) -> str:
    lines = [HEADER, ("---",) * len(HEADER)]
    for case, order in runs:
        options = {"case": case, "order": order, "threads": 1, "rounds": rounds}
        with Worker("ondax_kernels", options) as worker:
            kernels = worker.run("kernels")[1]
        name = case if case in "AD" else f"{case}{order}"
        lines += [row(name, kernel, machine) for kernel in kernels]
        print(f"measured {name}", file=sys.stderr, flush=True)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _compiler() -> str:
    """The first line of what the C compiler tells of its version."""
    command = [*toolchain().command, "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return said.stdout.splitlines()[0]


def report(machine: Machine, kernels: str) -> str:
    """What stands between the marks of README.md."""
    return f"""{BEGIN}
Measured on one core of an {host.processor()} with {_compiler()}, in float32.

GB/s by one core, of bytes read and written together:

{machine_table(machine)}

{machine.operations / 1e9:.0f} GFLOP/s in fused multiplications and additions.

Each kernel, at one point in one step: what it does (loads: of these, shifted), the least time in
ns by each limit, the largest of them, and the ns that it took, by the clock of its thread:

{kernels}
{END}"""


def main() -> None:
    """Measure and print, or write into README.md what stands between the marks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    parser.add_argument("--rounds", type=int, default=5, help="calls of each kernel")
    parser.add_argument(
        "--case", nargs="+", choices=sorted({case for case, _ in RUNS}), help="default: all"
    )
    options = parser.parse_args()
    machine = measure_machine()
    runs = [run for run in RUNS if not options.case or run[0] in options.case]
    text = report(machine, kernels_table(machine, runs, options.rounds))
    if not options.write:
        print(text)
        return
    before, _, rest = README.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise RuntimeError(f"{README} lacks the marks {BEGIN} and {END}")
    README.write_text(before + text + after)


if __name__ == "__main__":
    main()
