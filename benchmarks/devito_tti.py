"""Baselines of tilted transverse isotropy, 2-D, by hand in Devito, adjoint and all, with a scheme
that is blind to a checkerboard and with one that sees it; and Devito's own example, forward only.

With L p = laplace(p) - H p, H u = d_x(sin fu) + d_z(cos fu), fu = sin u_x + cos u_z, centred
differences on the nodes,

    m (p_tt + gamma p_t) = e2 L p + s H r + q,    m (r_tt + gamma r_t) = s L p + H r + q / s,
    e2 = 1 + 2 epsilon, s = sqrt(1 + 2 delta).

L and H are symmetric, so the adjoint applies them to b1 = e2 a + s c and b2 = s a + c for its
fields a, c:

    m (a_tt + ...) = L b1 + r,    m (c_tt + ...) = H b2.

Imaging: by e2, s and m from the products of a, c with L p, H r; by sin and cos from those of the
gradients of b1, b2 and of p, r. The forward run calculates all of these on its way, so it keeps
them: six fields a step. (From p, r alone e2 and s cannot be had otherwise than by calculating L p,
H r again: it is not enough to know their combinations where epsilon = delta.)

As an expert would write it: called without Operator.apply; mass, damping and coefficients folded
into one factor a term; sin fu and cos fu materialised, and b1, b2; fields of two times, the new one
over the oldest; products of a, c with the history where b1 and b2 are made, the others where sin fu
and cos fu are. The forms chosen were the fastest of those tried: Devito's own nesting of
derivatives (32 % slower forward), fu in place of its products (25 %), p and r alone kept (gradient
31 % slower, at order 4 49 %), p, r, L p and H r kept (5 to 10 %), b1 and b2 made with a, c (12 %).

Centred differences on the nodes do not see a field that changes its sign from node to node: H of
this H is zero for it, so r keeps it for ever, and gradients are for the most part products of that
mode. `SeeingTTI` is the same by hand for the scheme of `ox.TTI`, which sees it:

    H u = d_x(sin fu - u_x / 2) + d_z(cos fu - u_z / 2) + laplace(u) / 2,

that is, H and half of what second differences see beyond centred ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from devito import Buffer, Derivative, Eq, Inc
from devito import __version__ as version

from .cases import FREQUENCY, SPACING
from .devito_baseline import plain
from .devito_shot import Array, DevitoShot, zero
from .media_cases import TILTED_CASES
from .worker import Actions, serve


class DevitoTTI(DevitoShot):
    """See `DevitoShot`. Turn n of the loop makes step n + 1 of the forward run, and step n of the
    adjoint."""

    coefficient_names = ("m", "e2", "s", "sin", "cos")
    # The part of what second differences see beyond centred ones that is in H. A whole zero: terms
    # with it vanish from the equations.
    beyond: ClassVar[int | float] = 0

    def __init__(self, case: Any, order: int, threads: int = 1, dtype: type = np.float32) -> None:
        super().__init__(case, order, threads, dtype)
        steps = case.steps
        # What each term is multiplied by: the new field is `now * field - (now - 1) *
        # field.backward + ...`.
        self.now, self.by_m, self.e2_by_m, self.s_by_m, self.e2, self.s, self.sin, self.cos = (
            self.function(n) for n in ("now", "by_m", "e2_by_m", "s_by_m", "e2", "s", "sin", "cos")
        )
        self.inverse, self.r_by_m = self.function("inverse"), self.function("r_by_m")  # of q / s
        self.set_coefficients(self.coefficients())

        two = Buffer(2)
        self.p, self.r = (self.field(n, 2, save=two) for n in "pr")
        self.a, self.c = (self.field(n, 2, save=two, halo=0) for n in "ac")
        self.b1, self.b2 = (self.field(n, 1, save=Buffer(1)) for n in ("b1", "b2"))
        names = ("across", "along", "p_x", "p_z", "r_x", "r_z")
        self.history = [self.field(n, 1, save=steps + 1, halo=0) for n in names]
        self.images = [self.function(f"image{i}") for i in range(5)]
        self.wavelet = self.samples("wavelet", self.source, steps + 1)
        self.read = self.samples("read", self.source, steps + 1)
        self.read_c = self.samples("read_c", self.source, steps + 1)  # by 1 / s
        self.traces = (self.samples("trace", self.receivers, steps + 1),)
        self.residual = self.samples("residual", self.receivers, steps + 1)
        plain(self.wavelet)[:steps, 0] = case.wavelet[:-1]
        self._build()

    def coefficients(self) -> dict[str, Array]:
        vp, epsilon, delta, theta = (
            self.parameters[n] for n in ("vp", "epsilon", "delta", "theta")
        )
        return {
            "m": 1 / vp**2,
            "e2": 1 + 2 * epsilon,
            "s": np.sqrt(1 + 2 * delta),
            "sin": np.sin(theta),
            "cos": np.cos(theta),
        }

    def set_coefficients(self, values: Mapping[str, Array]) -> None:
        dt = self.case.dt
        step = 1 / (1 / dt**2 + self.damping(0.0, 0.0) / (2 * dt))
        plain(self.now)[...] = 2 * step / dt**2
        plain(self.by_m)[...] = step / values["m"]
        for f, name in ((self.e2_by_m, "e2"), (self.s_by_m, "s")):
            plain(f)[...] = step / values["m"] * values[name]
        plain(self.inverse)[...] = 1 / values["s"]
        plain(self.r_by_m)[...] = step / values["m"] / values["s"]
        for f, name in ((self.e2, "e2"), (self.s, "s"), (self.sin, "sin"), (self.cos, "cos")):
            plain(f)[...] = values[name]
        self.values = {name: values[name].astype(self.dtype) for name in self.coefficient_names}

    def _build(self) -> None:
        x, z = self.grid.dimensions
        p, r, a, c, b1, b2 = self.p, self.r, self.a, self.c, self.b1, self.b2
        across, along, p_x, p_z, r_x, r_z = self.history
        source, receivers, last = self.source, self.receivers, self.case.steps - 1

        def flux(name: str, u: Any) -> tuple[list[Eq], Any, Any, Any]:
            """Equations that fill the products of sin and cos with fu; L u and H u of them; fu."""
            x_part, z_part = (self.function(f"{name}_{d}", halo=self.order) for d in "xz")
            u_x, u_z = Derivative(u, (x, 1)), Derivative(u, (z, 1))
            slope = self.sin * u_x + self.cos * u_z
            fill = [
                Eq(x_part, self.sin * slope - self.beyond * u_x),
                Eq(z_part, self.cos * slope - self.beyond * u_z),
            ]
            centred = Derivative(x_part, (x, 1)) + Derivative(z_part, (z, 1))
            l_u = (1 - self.beyond) * u.laplace - centred
            return fill, l_u, centred + self.beyond * u.laplace, slope

        def carry(field: Any, before: Any) -> Any:
            return self.now * field - (self.now - 1) * before

        fill_p, l_p, _, _ = flux("flux_p", p)
        fill_r, _, h_r, _ = flux("flux_r", r)
        slopes = [Derivative(u, (d, 1)) for u in (p, r) for d in (x, z)]
        forward = [
            *(Eq(kept, slope) for kept, slope in zip((p_x, p_z, r_x, r_z), slopes, strict=True)),
            *fill_p,
            *fill_r,
            Eq(across, l_p),
            Eq(along, h_r),
            Eq(p.forward, carry(p, p.backward) + self.e2_by_m * l_p + self.s_by_m * h_r),
            Eq(r.forward, carry(r, r.backward) + self.s_by_m * l_p + self.by_m * h_r),
            *(
                Inc(f.forward.subs(source), by.subs(source) * self.wavelet / self.cell)
                for f, by in ((p, self.by_m), (r, self.r_by_m))
            ),
            Eq(self.traces[0], p.forward.subs(receivers)),
        ]
        self._forward = self.prepare("TiltedForward", forward, 0, last)

        # At the beginning of turn n, a and c are those of step n + 1.
        combine = [Eq(b1, self.e2 * a + self.s * c), Eq(b2, self.s * a + c)]
        l_kept, h_kept = across.forward, along.forward
        image_products = [
            Inc(self.images[0], a * l_kept),
            Inc(self.images[1], a * h_kept + c * l_kept),
            Inc(self.images[2], c * h_kept),
        ]
        fill_1, l_1, _, slope_1 = flux("flux_1", b1)
        fill_2, _, h_2, slope_2 = flux("flux_2", b2)
        (px, pz), (rx, rz) = (p_x.forward, p_z.forward), (r_x.forward, r_z.forward)
        slope_p, slope_r = self.sin * px + self.cos * pz, self.sin * rx + self.cos * rz
        image_axis = [
            Inc(
                image,
                Derivative(b1, (d, 1)) * slope_p
                + slope_1 * p_d
                - Derivative(b2, (d, 1)) * slope_r
                - slope_2 * r_d,
            )
            for image, d, p_d, r_d in ((self.images[3], x, px, rx), (self.images[4], z, pz, rz))
        ]
        step_back = [
            Eq(a.backward, carry(a, a.forward) + self.by_m * l_1),
            Eq(c.backward, carry(c, c.forward) + self.by_m * h_2),
        ]
        inject = Inc(a.backward.subs(receivers), self.by_m.subs(receivers) * self.residual)
        reads = [
            Eq(self.read_c, c.backward.subs(source) / self.cell),
            Eq(
                self.read,
                a.backward.subs(source) / self.cell + self.inverse.subs(source) * self.read_c,
            ),
        ]
        backward = [
            *combine,
            *image_products,
            *fill_1,
            *fill_2,
            *image_axis,
            *step_back,
            inject,
            *reads,
        ]
        self._backward = self.prepare("TiltedBackward", backward, 0, last)
        adjoint = [*combine, *fill_1, *fill_2, *step_back, inject, *reads]
        self._adjoint = self.prepare("TiltedAdjoint", adjoint, 0, last)

    def forward(self) -> None:
        zero([self.p, self.r])
        self._forward()

    def gradient(self) -> float:
        self.forward()
        plain(self.residual)[...] = plain(self.traces[0])
        zero([self.a, self.c, *self.images])
        self._backward()
        by_e2, by_s, products, by_sin, by_cos = (plain(i).copy() for i in self.images)
        c = self.values
        by_m = -(c["e2"] * by_e2 + c["s"] * by_s + products) / c["m"]
        # The source's part of m (p_tt + ...), which the products leave out.
        by_m[self.source_index] -= (
            np.vdot(plain(self.read), plain(self.wavelet)) / c["m"][self.source_index]
        )
        by_s[self.source_index] -= (
            np.vdot(plain(self.read_c), plain(self.wavelet)) / c["s"][self.source_index] ** 2
        )
        self.kernel_gradient = {"m": by_m, "e2": by_e2, "s": by_s, "sin": by_sin, "cos": by_cos}
        return self.energy()

    def by_parameters(self, kernel_gradient: Mapping[str, Array]) -> dict[str, Array]:
        g = kernel_gradient
        c = self.coefficients()
        return {
            "vp": -2 / self.parameters["vp"] ** 3 * g["m"],
            "epsilon": 2 * g["e2"],
            "delta": g["s"] / c["s"],
            "theta": c["cos"] * g["sin"] - c["sin"] * g["cos"],
        }

    def adjoint_samples(self, data: Sequence[Array]) -> Array:
        plain(self.residual)[...] = data[0]
        zero([self.a, self.c])
        self._adjoint()
        return plain(self.read).copy()


class SeeingTTI(DevitoTTI):
    """The scheme that sees the checkerboard; see above."""

    beyond = 0.5


def example_forward(case: Any, order: int) -> Callable[[], None]:
    """Devito's `examples.seismic.tti` on the same grid, with its own differences, layer, source and
    receivers; no history."""
    from examples.seismic import AcquisitionGeometry, SeismicModel
    from examples.seismic.tti import AnisotropicWaveSolver

    values = {
        k: v.astype(np.float32)
        for k, v in case.parameters(*np.indices(case.shape).astype(float)).items()
    }
    values["vp"] = values["vp"] / 1000  # km/s and ms
    spacing = (SPACING,) * len(case.shape)
    model = SeismicModel(
        origin=(0.0,) * len(case.shape),
        spacing=spacing,
        shape=case.shape,
        space_order=order,
        nbl=case.width,
        **values,
    )
    points = (np.asarray(p, np.float32) * SPACING for p in (case.receivers, case.sources[:1]))
    times = {"t0": 0.0, "tn": 1000 * case.dt * case.steps}
    geometry = AcquisitionGeometry(model, *points, **times, f0=FREQUENCY / 1000, src_type="Ricker")
    geometry.resample(1000 * case.dt)
    solver = AnisotropicWaveSolver(model, geometry, space_order=order)
    operator = solver.op_fwd(save=False)
    arguments = operator.arguments(dt=np.float32(1000 * case.dt), time_m=1, time_M=case.steps)
    function = operator.cfunction
    call_values = [arguments[p.name] for p in operator.parameters]

    def call() -> None:
        if function(*call_values) != 0:
            raise RuntimeError(f"{operator.name} failed")  # naming it also keeps its arrays alive

    return call


def start(options: dict[str, Any]) -> tuple[dict[str, Any], Actions]:
    case = TILTED_CASES[options["case"]]
    scheme = SeeingTTI if options.get("seeing") else DevitoTTI
    actions = scheme(case, options["order"], options["threads"]).actions()
    if options.get("example"):
        actions["example_forward"] = example_forward(case, options["order"])
    return {"devito": version}, actions


if __name__ == "__main__":
    serve(start)
