"""The isotropic elastic wave equation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp

from ..boundaries.base import AbstractBoundary
from ..scheme.symbols import EVEN, ODD, Symbols
from ..scheme.system import Port, System, Update
from . import stability
from .averages import half_points, harmonic_mean
from .base import AbstractWaveEquation
from .plausible import DENSITY, Plausible
from .schemes import slope, to_half, to_node
from .time_stepping import LEAPFROG, TimeStepping


@final
class Elastic(AbstractWaveEquation):
    """The isotropic elastic wave equation, `rho v_t = div(sigma) + f` and `sigma_t = lambda div(v)
    I + mu (grad(v) + grad(v)^T) - M`.

    Velocities and stresses are on the staggered grid of Virieux (1986) and Levander (1988). Where
    vs = 0 the medium is a fluid.

    Model: a dict of vp, vs, m/s, and rho, kg/m3, each of the grid's shape. Densities are averaged
    to the points of the velocities, and mu harmonically to those of the shear stresses (Moczo et
    al., 2002), so that fluids stay fluid.

    Sources: "explosive" (default), `w(t)` in each diagonal component of M, the moment rate in N m/s
    (per metre in 2-D); "moment_xx", "moment_xz", ..., one component of the symmetric M; "force_x",
    ..., a body force in N. Receivers: "velocity_z" (default), "velocity_x", ..., m/s; "pressure",
    minus the mean of the normal stresses (in 2-D, of the two in the plane), Pa; "stress_xx",
    "stress_xz", ..., Pa; and first derivatives of the velocities, 1/s: "divergence"; "curl_x",
    "curl_y", "curl_z", which in 2-D is "curl" alone, the y component dv_x/dz - dv_z/dx; and the
    strain rates "strain_xx", "strain_xz", ..., where strain_xz = (dv_x/dz + dv_z/dx) / 2. Depth is
    positive down, and extension and volume growth are positive. `ox.Fibre` is a receiver of the
    strain rate along any direction. Pressure and stresses that are recorded together with
    velocities are interpolated in time.

    At a free surface, the traction is zero. So sigma_zz, sigma_xz and sigma_yz continue above it
    with opposite sign (odd), and so do the sources "moment_xz" and "moment_yz", because the surface
    has no such shear strain. The other fields are not zero there. The scheme continues the
    velocities with the same sign (even), which conserves its energy; of sigma_xx, sigma_yy and
    sigma_xy it needs derivatives along the surface only. But for receivers and sources within four
    cells of the surface, values of these fields above it are extrapolated from those below. So is
    the part above the surface, and on it, of a source "moment_zz" or "explosive": this is a couple
    of forces, and by reciprocity radiates like the normal strain, which is not zero where sigma_zz
    is. All of this is accurate to second order in the spacing, so surface waves need 15 or more
    grid points per wavelength.

    Where many layers of different stiffness meet a face of the model, waves may grow in a `CPML`
    there, which is the default boundary; its docstring says why. A call with such a model gives the
    warning `ox.GrowthInLayers`; use `boundary=ox.Sponge()` for it.

    Attributes:
        space_order: even accuracy order in space, 2 to 16. With 2, traces are inaccurate. Removing
            time dispersion (see `Propagator`) makes this worse, as it hides a part of the error.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("vp", "vs", "rho")
    plausible: ClassVar[Mapping[str, Plausible]] = {"rho": DENSITY}
    time_stepping: ClassVar[TimeStepping | None] = LEAPFROG
    positive_parameters: ClassVar[tuple[str, ...]] = ("rho",)
    contrasts: ClassVar[Mapping[str, float] | None] = {"rho": stability.DENSITY_CONTRAST}
    stretchable: ClassVar[bool | None] = True
    space_order: int = eqx.field(static=True, default=8)

    def system(self, symbols: Symbols, boundary: AbstractBoundary) -> System:
        axes, depth = symbols.dimensions, symbols.dimensions[-1]
        pairs = list(combinations(axes, 2))
        lam, mu = symbols.coefficient("lam"), symbols.coefficient("mu")
        rho = {d: symbols.coefficient(f"rho_{d.name}", staggered=d) for d in axes}
        mu_at = {p: symbols.coefficient(f"mu_{p[0].name}{p[1].name}", staggered=p) for p in pairs}

        # Tractions are zero at a free surface, so they are odd there. With even velocities, the
        # scheme conserves energy, so its adjoint stays exact. Fields without a vertical derivative
        # need no image.
        v = {d: symbols.field(f"v_{d.name}", time_order=1, staggered=d, image=EVEN) for d in axes}
        normal = {
            d: symbols.field(f"s_{d.name}{d.name}", time_order=1, image=ODD if d == depth else None)
            for d in axes
        }
        shear = {
            p: symbols.field(
                f"s_{p[0].name}{p[1].name}",
                time_order=1,
                staggered=p,
                image=ODD if depth in p else None,
            )
            for p in pairs
        }

        def traction(d: Any, e: Any) -> Any:
            """The derivative along e of the stress sigma_de, at the points of v_d."""
            return (
                to_half(normal[d], d)
                if d == e
                else to_node(shear[(d, e) if (d, e) in shear else (e, d)], e)
            )

        updates = [
            Update.of(rho[d] * v[d].dt - sum(traction(d, e) for e in axes), v[d]) for d in axes
        ]
        strain = {d: to_node(v[d], d) for d in axes}
        divergence = sum(strain.values())
        for d in axes:
            rate = lam * divergence + 2 * mu * strain[d]
            updates.append(Update.of(normal[d].dt - rate, normal[d]))
        for d, e in pairs:
            rate = mu_at[d, e] * (to_half(v[d], e) + to_half(v[e], d))
            updates.append(Update.of(shear[d, e].dt - rate, shear[d, e]))

        stresses = {f"{d.name}{d.name}": f for d, f in normal.items()} | {
            f"{d.name}{e.name}": f for (d, e), f in shear.items()
        }
        inputs = [
            Port("explosive", tuple((f, -1.0) for f in normal.values()), time=0.5, strains=True)
        ]
        inputs += [Port(f"force_{d.name}", ((f, 1.0),)) for d, f in v.items()]
        inputs += [
            Port(f"moment_{n}", ((f, -1.0),), time=0.5, strains=f in normal.values())
            for n, f in stresses.items()
        ]
        outputs = [Port(f"velocity_{d.name}", ((v[d], 1.0),), time=-0.5) for d in reversed(axes)]
        outputs += [Port("pressure", tuple((f, -1.0 / len(axes)) for f in normal.values()))]
        outputs += [Port(f"stress_{n}", ((f, 1.0),)) for n, f in stresses.items()]
        outputs += [Port(n, terms, time=-0.5) for n, terms in _rates(v).items()]
        coefficients = (lam, mu, *rho.values(), *mu_at.values())
        return System(symbols, coefficients, tuple(updates), tuple(inputs), tuple(outputs))

    def coefficients(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        vp, vs, rho = (parameters[n] for n in self.parameter_names)
        mu = rho * vs**2
        names = {1: "z", 2: "xz", 3: "xyz"}[rho.ndim]
        made = {"lam": rho * vp**2 - 2.0 * mu, "mu": mu}
        made |= {f"rho_{n}": half_points(rho, axis) for axis, n in enumerate(names)}
        for a, b in combinations(range(rho.ndim), 2):
            made[f"mu_{names[a]}{names[b]}"] = harmonic_mean(mu, (a, b))
        return made

    def at_surface(self, coefficients: Mapping[str, Any]) -> dict[str, Any]:
        """The coefficients with the softer first row of a free surface.

        No vertical stress acts in the surface, so the medium is softer along it: `lambda` becomes
        `2 lambda mu / (lambda + 2 mu)` (Robertsson, 1996).
        """
        lam, mu = coefficients["lam"], coefficients["mu"]
        softer = 2.0 * lam * mu / (lam + 2.0 * mu)
        return {**coefficients, "lam": lam.at[..., 0].set(softer[..., 0])}

    def constraints(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        vp, vs = parameters["vp"], parameters["vs"]
        return {
            "vs": vs,
            "vp^2 - 4/3 vs^2 (the bulk modulus over the density)": vp**2 - 4.0 / 3.0 * vs**2,
        }

    def reflecting(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        vp, vs, rho = (parameters[n] for n in self.parameter_names)
        return {"vp": vp, "vs": vs, "rho vp": rho * vp, "rho vs": rho * vs}

    def speeds(self, parameters: Mapping[str, Any]) -> tuple[Any, Any]:
        vp, vs = parameters["vp"], parameters["vs"]
        return jnp.min(jnp.where(vs > 0.0, vs, vp)), jnp.max(vp)

    def largest_step(self, spacing: tuple[float, ...], max_velocity: float) -> float:
        return stability.staggered_step(self.space_order, spacing, max_velocity)


def _rates(v: Mapping[Any, Any]) -> dict[str, tuple[tuple[Any, float], ...]]:
    """The terms of receivers of first derivatives of the velocities, by name: divergence, curl and
    strain rates."""
    axes = {d.name: d for d in v}
    by_name = {n: v[d] for n, d in axes.items()}
    rates = {"divergence": tuple((slope(f, axes[n]), 1.0) for n, f in by_name.items())}
    for a, b, normal in (("y", "z", "x"), ("z", "x", "y"), ("x", "y", "z")):
        if a in axes and b in axes:  # the component along `normal` of a right-handed curl
            terms = (slope(by_name[b], axes[a]), 1.0), (slope(by_name[a], axes[b]), -1.0)
            rates["curl" if len(axes) == 2 else f"curl_{normal}"] = terms
    for n, f in by_name.items():
        rates[f"strain_{n}{n}"] = ((slope(f, axes[n]), 1.0),)
    for a, b in combinations(axes, 2):
        terms = (slope(by_name[a], axes[b]), 0.5), (slope(by_name[b], axes[a]), 0.5)
        rates[f"strain_{a}{b}"] = terms
    return rates
