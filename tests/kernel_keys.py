"""Prints the keys of kernels in every boundary: `python tests/kernel_keys.py NDIM [EQUATION]`, for
the tests of the cache."""

import sys

from registry import EQUATIONS, SPONGE, enclosed, mixed

from ondax.backends.devito.build import key_of
from ondax.backends.devito.compiler import toolchain
from ondax.backends.devito.lower import Lowering
from ondax.calculus.idle import idle, without
from ondax.calculus.program import Program
from ondax.scheme.symbols import Symbols


def keys(name: str, boundary: object, ndim: int) -> list[str]:
    """Of the kernels that run forward, Born and backward, in the order in which a gradient asks for
    them."""
    order = 4 if name == "TTI" else 2
    symbols = Symbols(ndim, order)
    stated = EQUATIONS[name].make(order).system(symbols, boundary)
    ends = ((ports[0].name,) for ports in (stated.inputs, stated.outputs))
    scheme = Lowering(Program(boundary.surround(without(stated, idle(stated, *ends)))))
    kept = scheme.program.coupling(tuple(c.name for c in scheme.system.coefficients))
    runs = (
        scheme.forward(),
        scheme.forward(kept),
        scheme.born(kept),
        scheme.adjoint(kept),
        scheme.adjoint(None),
    )
    return [key_of(equations, "float32", False, toolchain()) for equations in runs]


if __name__ == "__main__":
    for name in EQUATIONS:
        if name not in (sys.argv[2:] or EQUATIONS):
            continue
        for boundary in (SPONGE, enclosed(name), mixed(name)):
            print(name, type(boundary).__name__, *keys(name, boundary, int(sys.argv[1])))
