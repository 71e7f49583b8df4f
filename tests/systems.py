"""First-order systems that keep the calculus honest: several fields, staggering, and coefficients in awkward places.

Units are natural ones: a grid spacing, density and wave speeds of about one, so that no field is lost in another's size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ondax.calculus import Coupling, couple
from ondax.engine import Discretisation, Experiment, Programs, Scheme, Settings, Solver, Wanted
from ondax.equations import Port, Sponge, Symbols, System, Update
from ondax.equations.schemes import first_order_in_time, to_half, to_node

SPONGE = Sponge(width=3, reflection=0.1)
FASTEST = 1.3  # of any wave below
ORDER = 2


def mass_form(symbols: Symbols) -> System:
    """`rho v_t = -grad p`, `kappa p_t = -div v`: every coefficient in a mass."""
    p = symbols.field("p", time_order=1)
    vs = [symbols.field(f"v_{d.name}", time_order=1, staggered=d) for d in symbols.dimensions]
    rhos = [symbols.coefficient(f"rho_{d.name}", staggered=d) for d in symbols.dimensions]
    kappa = symbols.coefficient("kappa")
    updates = [
        first_order_in_time(symbols, SPONGE, v, rho, -to_half(p, d))
        for v, rho, d in zip(vs, rhos, symbols.dimensions, strict=True)
    ]
    divergence = sum(to_node(v.forward, d) for v, d in zip(vs, symbols.dimensions, strict=True))
    updates.append(first_order_in_time(symbols, SPONGE, p, kappa, -divergence))
    return System(symbols, (*rhos, kappa), tuple(updates), (Port("source", ((p, 1.0),)),), (Port("receiver", ((p, 1.0),)),))


def right_hand_form(symbols: Symbols) -> System:
    """`v_t = -b^2 grad p`, `p_t = -div (k v)`: a coefficient squared, another inside a derivative and at half points."""
    p = symbols.field("p", time_order=1)
    vs = [symbols.field(f"v_{d.name}", time_order=1, staggered=d) for d in symbols.dimensions]
    bs = [symbols.coefficient(f"b_{d.name}", staggered=d) for d in symbols.dimensions]
    ks = [symbols.coefficient(f"k_{d.name}", staggered=d) for d in symbols.dimensions]
    updates = [
        first_order_in_time(symbols, SPONGE, v, 1, -(b**2) * to_half(p, d))
        for v, b, d in zip(vs, bs, symbols.dimensions, strict=True)
    ]
    divergence = sum(to_node(k * v.forward, d) for v, k, d in zip(vs, ks, symbols.dimensions, strict=True))
    updates.append(first_order_in_time(symbols, SPONGE, p, 1, -divergence))
    reads = ((vs[0], 0.5), (p, 1.0))  # of different staggering
    return System(symbols, (*bs, *ks), tuple(updates), (Port("source", ((p, 1.0),)),), (Port("receiver", reads),))


def elastic(symbols: Symbols) -> System:
    """The velocity-stress system of Virieux (1986), with an explosive source and receivers of both velocities."""
    x, z = symbols.dimensions
    vx, vz = (symbols.field(f"v_{d.name}", time_order=1, staggered=d) for d in (x, z))
    txx, tzz = (symbols.field(n, time_order=1) for n in ("txx", "tzz"))
    txz = symbols.field("txz", time_order=1, staggered=(x, z))
    bx, bz = (symbols.coefficient(f"b_{d.name}", staggered=d) for d in (x, z))
    lam, mu, mu_xz = symbols.coefficient("lam"), symbols.coefficient("mu"), symbols.coefficient("mu_xz", staggered=(x, z))
    exx, ezz = to_node(vx.forward, x), to_node(vz.forward, z)
    forces = (
        (vx, bx * (to_half(txx, x) + to_node(txz, z))),
        (vz, bz * (to_node(txz, x) + to_half(tzz, z))),
        (txx, (lam + 2 * mu) * exx + lam * ezz),
        (tzz, lam * exx + (lam + 2 * mu) * ezz),
        (txz, mu_xz * (to_half(vx.forward, z) + to_half(vz.forward, x))),
    )
    updates = tuple(first_order_in_time(symbols, SPONGE, f, 1, force) for f, force in forces)
    explosion = Port("source", ((txx, 1.0), (tzz, 1.0)))
    return System(symbols, (bx, bz, lam, mu, mu_xz), updates, (explosion,), (Port("receiver", ((vx, 1.0), (vz, -0.5))),))


class Scheme_(Scheme):
    """A scheme that keeps products, or fields, whichever the test says."""

    def __init__(self, system: System, products: bool) -> None:
        super().__init__(system)
        self.products = products

    def coupling(self, wanted: tuple[str, ...], every: int = 1) -> Coupling:
        assert every == 1
        key = (wanted, every)
        if key not in self._couplings:
            chosen = tuple(c for c in self.system.coefficients if c.name in wanted)
            self._couplings[key] = couple(self.system, chosen, self.adjoints, keep_products=self.products)
        return self._couplings[key]
