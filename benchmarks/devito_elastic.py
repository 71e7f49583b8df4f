"""Elastic baseline: velocity and stress on the staggered grid of Virieux (1986), 2-D, by hand in
Devito, adjoint and all.

As an expert would write it: built once, called without Operator.apply; damping and densities folded
into one factor for what a point keeps and one for what it gets; stresses overwritten in place.

The adjoint. The forward run is, with A = rho (1/dt +- gamma/2), B = 1/dt +- gamma/2, C the
stiffness, E v the strain rate and D = -E' the divergence,

    A+ v[n+1] = A- v[n] + D T[n],    B+ T[n+1] = B- T[n] + C E v[n+1] - q[n].

Written for s = -C a_T in place of the stresses' multiplier a_T, which C commutes with, its adjoint
has all factors outside of the derivatives, and is the same stencil again:

    B+ s[n] = B- s[n+1] + C E a[n+1],    A+ a[n] = A- a[n+1] + D s[n] - r[n+1].

Imaging: by lambda and mu, products of s and E v of the kept velocities, by trace and deviator, over
2 (lambda + mu) and 2 mu after the loop (so mu must not vanish); by rho, v[n+1] (D s[n] - r[n+1]) /
rho, by summation by parts in time.

The forms chosen were the fastest of those tried: damping from profiles of one axis (10 % slower),
two buffers in place of one (6 % slower), strain rates kept as well as velocities (6 % slower),
stresses kept (9 % slower), imaging of the stresses in the stencil's loop nest (5 % slower).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from devito import NODE, Buffer, Derivative, Eq, Inc
from devito import __version__ as version

from .devito_baseline import plain
from .devito_shot import Array, DevitoShot, zero
from .media_cases import ELASTIC_CASES
from .worker import Actions, serve


class DevitoElastic(DevitoShot):
    """See `DevitoShot`. Turn n of the loop makes step n + 1 of the forward run, and step n of the
    adjoint."""

    coefficient_names = ("lam", "mu", "mu_xz", "rho_x", "rho_z")

    def __init__(self, case: Any, order: int, threads: int = 1, dtype: type = np.float32) -> None:
        super().__init__(case, order, threads, dtype)
        x, z = self.grid.dimensions
        self.halves = {NODE: (0.0, 0.0), x: (0.5, 0.0), z: (0.0, 0.5), (x, z): (0.5, 0.5)}
        kept = {
            place: self.function(f"kept{i}", staggered=place) for i, place in enumerate(self.halves)
        }
        self.kept = kept
        # What the rates are multiplied by: the coefficient over the damped step.
        self.lam, self.lam2mu = self.function("lam"), self.function("lam2mu")
        self.mu_xz = self.function("mu_xz", staggered=(x, z))
        self.buoyancy = self.function("bx", staggered=x), self.function("bz", staggered=z)
        self.stress_step = self.function("stress_step")
        self.set_coefficients(self.coefficients())

        steps = case.steps
        self.velocity = tuple(
            self.field(n, staggered=d, save=steps + 1) for n, d in (("vx", x), ("vz", z))
        )
        self.stress = self._stresses("t")
        self.adjoint_velocity = tuple(
            self.field(n, staggered=d, save=Buffer(1)) for n, d in (("ax", x), ("az", z))
        )
        self.adjoint_stress = self._stresses("s")
        places = (NODE, NODE, (x, z), x, z)
        self.images = [
            self.function(f"image{i}", staggered=place) for i, place in enumerate(places)
        ]
        self.wavelet = self.samples("wavelet", self.source, steps + 1)
        self.read = self.samples("read", self.source, steps + 1)
        self.traces = tuple(self.samples(f"trace_{d}", self.receivers, steps + 1) for d in "xz")
        self.residuals = tuple(
            self.samples(f"residual_{d}", self.receivers, steps + 1) for d in "xz"
        )
        # A sample acts halfway through its turn, where the velocities are half a step behind the
        # stresses.
        plain(self.wavelet)[:steps, 0] = case.wavelet[1:]
        self._build()

    def _stresses(self, letter: str) -> tuple[Any, ...]:
        x, z = self.grid.dimensions
        places = (("xx", NODE), ("zz", NODE), ("xz", (x, z)))
        return tuple(self.field(letter + n, staggered=place, save=Buffer(1)) for n, place in places)

    def coefficients(self) -> dict[str, Array]:
        vp, vs, rho = (self.parameters[n] for n in ("vp", "vs", "rho"))
        mu = rho * vs**2
        return {
            "lam": rho * vp**2 - 2 * mu,
            "mu": mu,
            "mu_xz": 1 / half_points(half_points(1 / mu, 0), 1),
            "rho_x": half_points(rho, 0),
            "rho_z": half_points(rho, 1),
        }

    def set_coefficients(self, values: Mapping[str, Array]) -> None:
        x, z = self.grid.dimensions
        dt, steps = self.case.dt, {}
        for place, halves in self.halves.items():
            gamma = self.damping(*halves)
            steps[place] = 1 / (1 / dt + gamma / 2)
            plain(self.kept[place])[...] = (1 / dt - gamma / 2) * steps[place]
        plain(self.stress_step)[...] = steps[NODE]
        plain(self.lam)[...] = steps[NODE] * values["lam"]
        plain(self.lam2mu)[...] = steps[NODE] * (values["lam"] + 2 * values["mu"])
        plain(self.mu_xz)[...] = steps[x, z] * values["mu_xz"]
        plain(self.buoyancy[0])[...] = steps[x] / values["rho_x"]
        plain(self.buoyancy[1])[...] = steps[z] / values["rho_z"]
        self.values = {name: values[name].astype(self.dtype) for name in self.coefficient_names}

    def _build(self) -> None:
        x, z = self.grid.dimensions
        half = {d: d + d.spacing / 2 for d in (x, z)}
        vx, vz = self.velocity
        ax, az = self.adjoint_velocity
        sxx, szz, sxz = self.adjoint_stress

        def difference(f: Any, d: Any, to: Any) -> Any:
            return Derivative(f, (d, 1), x0={d: to})

        def strain(u: Any, w: Any) -> tuple[Any, Any, Any]:
            shear = difference(u, z, half[z]) + difference(w, x, half[x])
            return difference(u, x, x), difference(w, z, z), shear

        def divergence(xx: Any, zz: Any, xz: Any) -> tuple[Any, Any]:
            return (
                difference(xx, x, half[x]) + difference(xz, z, z),
                difference(xz, x, x) + difference(zz, z, half[z]),
            )

        def accelerate(fields: Any, following: Any, forces: Any) -> list[Eq]:
            terms = zip(fields, following, (x, z), self.buoyancy, forces, strict=True)
            return [
                Eq(new, self.kept[place] * old + b * force) for old, new, place, b, force in terms
            ]

        def load(fields: Any, following: Any, rates: Any) -> list[Eq]:
            (xx, zz, xz), (new_xx, new_zz, new_xz), (exx, ezz, exz) = fields, following, rates
            return [
                Eq(new_xx, self.kept[NODE] * xx + self.lam2mu * exx + self.lam * ezz),
                Eq(new_zz, self.kept[NODE] * zz + self.lam * exx + self.lam2mu * ezz),
                Eq(new_xz, self.kept[x, z] * xz + self.mu_xz * exz),
            ]

        # Points are at nodes; velocities there are the mean of two neighbours.
        ahead = self.receivers
        behind = [{**ahead, d: ahead[d] - 1} for d in (x, z)]

        source = [
            Inc(
                f.forward.subs(self.source),
                -self.stress_step.subs(self.source) * self.wavelet / self.cell,
            )
            for f in self.stress[:2]
        ]
        record = [
            Eq(trace, 0.5 * (v.forward.subs(ahead) + v.forward.subs(back)))
            for trace, v, back in zip(self.traces, (vx, vz), behind, strict=True)
        ]
        forward = [
            *accelerate((vx, vz), (vx.forward, vz.forward), divergence(*self.stress)),
            *load(self.stress, [f.forward for f in self.stress], strain(vx.forward, vz.forward)),
            *source,
            *record,
        ]
        self._forward = self.prepare("ElasticForward", forward, 0, self.case.steps - 1)

        new = [f.backward for f in self.adjoint_stress]
        forces = divergence(*new)
        step_back = [
            *load(self.adjoint_stress, new, strain(ax, az)),
            *accelerate((ax, az), (ax.backward, az.backward), forces),
        ]
        inject, image_inject = [], []
        for a, v, b, back, image, residual in zip(
            (ax, az), (vx, vz), self.buoyancy, behind, self.images[3:], self.residuals, strict=True
        ):
            for at in (ahead, back):
                inject.append(Inc(a.backward.subs(at), -0.5 * b.subs(at) * residual))
                image_inject.append(Inc(image.subs(at), -0.5 * v.forward.subs(at) * residual))
        exx, ezz, exz = strain(vx.forward, vz.forward)
        image_forces = [
            Inc(i, v.forward * f) for i, v, f in zip(self.images[3:], (vx, vz), forces, strict=True)
        ]
        image_stress = [
            Inc(self.images[0], (sxx.backward + szz.backward) * (exx + ezz)),
            Inc(self.images[1], (sxx.backward - szz.backward) * (exx - ezz)),
            Inc(self.images[2], sxz.backward * exz),
        ]
        backward = [*step_back, *image_forces, *inject, *image_inject, *image_stress]
        self._backward = self.prepare("ElasticBackward", backward, 0, self.case.steps - 1)
        read = Eq(self.read, (sxx.backward + szz.backward).subs(self.source) / self.cell)
        self._adjoint = self.prepare(
            "ElasticAdjoint", [*step_back, *inject, read], 0, self.case.steps - 1
        )

    def forward(self) -> None:
        zero(self.stress)
        self._forward()

    def gradient(self) -> float:
        self.forward()
        for residual, trace in zip(self.residuals, self.traces, strict=True):
            plain(residual)[...] = plain(trace)
        zero([*self.adjoint_stress, *self.adjoint_velocity, *self.images])
        self._backward()
        trace, deviator, shear, by_rho_x, by_rho_z = (plain(i) for i in self.images)
        c = self.values
        by_lam = trace / (2 * (c["lam"] + c["mu"]))
        self.kernel_gradient = {
            "lam": by_lam,
            "mu": by_lam + deviator / (2 * c["mu"]),
            "mu_xz": shear / c["mu_xz"],
            "rho_x": by_rho_x / c["rho_x"],
            "rho_z": by_rho_z / c["rho_z"],
        }
        return self.energy()

    def by_parameters(self, kernel_gradient: Mapping[str, Array]) -> dict[str, Array]:
        g = dict(kernel_gradient)
        vp, vs, rho = (self.parameters[n] for n in ("vp", "vs", "rho"))
        mu = rho * vs**2
        mu_xz = self.coefficients()["mu_xz"]
        by_compliance = half_points_transposed(
            half_points_transposed(-(mu_xz**2) * g["mu_xz"], 1), 0
        )
        by_mu = g["mu"] - 2 * g["lam"] - by_compliance / mu**2
        by_rho = half_points_transposed(g["rho_x"], 0) + half_points_transposed(g["rho_z"], 1)
        return {
            "vp": 2 * rho * vp * g["lam"],
            "vs": 2 * rho * vs * by_mu,
            "rho": by_rho + vp**2 * g["lam"] + vs**2 * by_mu,
        }

    def adjoint_samples(self, data: Sequence[Array]) -> Array:
        for residual, values in zip(self.residuals, data, strict=True):
            plain(residual)[...] = values
        zero([*self.adjoint_stress, *self.adjoint_velocity])
        self._adjoint()
        modulus = 2 * (self.values["lam"] + self.values["mu"])[self.source_index]
        # the stresses' multiplier; both fields of the explosion have the factor -1
        return -plain(self.read) / modulus


def half_points(values: Array, axis: int) -> Array:
    """The mean of neighbours along an axis, the last repeated."""
    last = values.shape[axis] - 1
    return 0.5 * (values + np.take(values, np.minimum(np.arange(last + 1) + 1, last), axis))


def half_points_transposed(values: Array, axis: int) -> Array:
    v = np.moveaxis(values, axis, 0)
    out = 0.5 * v
    out[1:] += 0.5 * v[:-1]
    out[-1] += 0.5 * v[-1]
    return np.moveaxis(out, 0, axis)


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    baseline = DevitoElastic(ELASTIC_CASES[options["case"]], options["order"], options["threads"])
    return {"devito": version}, baseline.actions()


if __name__ == "__main__":
    serve(start)
