"""The compiled kernels of one case: the time inside each, and what its C code does at a point."""

from __future__ import annotations

import ctypes
import math
import time
from dataclasses import dataclass
from typing import Any

import ondax.backends.devito.build as building
from ondax.backends.devito import kernel_cache, plans
from ondax.backends.devito.kernel import Array, Kernel

from . import ondax_media
from .counting import Nest, nests
from .worker import Actions, serve

LINE = 64  # bytes: rows of arrays start at multiples of it


@dataclass
class Watched:
    """A kernel that notes how long its calls take.

    Args:
        kernel: to be watched from now on.
        code: its C code.
    """

    kernel: Kernel
    code: str
    seconds: float = math.inf
    addresses: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        function = self.kernel.function

        def timed(addresses: Any) -> int:
            begin = time.thread_time()  # what else the machine does, does not count
            result = function(addresses)
            self.seconds = min(self.seconds, time.thread_time() - begin)
            self.addresses = tuple(addresses)  # of the arguments, which outlive the call
            return result

        self.kernel.function = timed

    def described(self) -> dict[str, Any]:
        """The shortest call, and what it did, in plain values."""
        arguments = self.kernel.signature.arguments
        given = dict(zip(arguments, self.addresses, strict=True))
        scalars = {
            a.name: ctypes.c_int.from_address(at).value
            for a, at in given.items()
            if a.kind == "int"
        }
        begins = {
            a.name: Array.from_address(at).data for a, at in given.items() if a.kind == "array"
        }
        axes = [d for d in "xyz" if f"{d}_M" in scalars]
        all_nests = nests(self.code, scalars)
        references = set().union(*(nest.loads | nest.stores for nest in all_nests))
        kept = {r.array for r in references if r.kept}
        gradient = any(r.array.startswith("grad_") for r in references)
        return {
            "what": "adjoint" if gradient else "keeping" if kept else "forward",
            "seconds": self.seconds,
            "steps": scalars["time_M"] - scalars["time_m"] + 1,
            "points": math.prod(scalars[f"{d}_M"] - scalars[f"{d}_m"] + 1 for d in axes),
            "history": len(kept),
            "nests": [_described(nest, scalars, begins) for nest in all_nests],
        }


def _described(nest: Nest, scalars: dict[str, int], begins: dict[str, int]) -> dict[str, Any]:
    first = scalars[f"{nest.innermost}_m"]
    shifted = sum(
        (begins[r.array] + 4 * (first + r.shift(nest.innermost))) % LINE != 0 for r in nest.loads
    )
    return {
        "points": nest.points,
        "operations": len(nest.operations),
        "loads": len(nest.loads),
        "shifted": shifted,
        "stores": len(nest.stores),
        "read": sorted({(*r.slice, r.kept) for r in nest.loads}),
        "written": sorted({(*r.slice, r.kept) for r in nest.stores}),
    }


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    watched: list[Watched] = []
    original = building.build

    def build(*arguments: Any) -> tuple[str, Kernel]:
        key, kernel = original(*arguments)
        code = (kernel_cache.readable() / key / "kernel.c").read_text()
        watched.append(Watched(kernel, code))
        return key, kernel

    building.build = build
    plans._read = lambda key: None  # every kernel comes by `build`
    facts, actions = ondax_media.start(options)

    def kernels() -> list[dict[str, Any]]:
        for _ in range(options["rounds"]):
            actions["forward"]()
            actions["gradient"]()
        return [w.described() for w in watched]

    return facts, {"kernels": kernels}


if __name__ == "__main__":
    serve(start)
