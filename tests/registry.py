"""Every wave equation of the package, with models to test it on. A new equation joins the suite by
an entry here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

import ondax as ox


@dataclass(frozen=True)
class Entry:
    """An equation as `test_equations.py` tries it.

    Attributes:
        make: the equation, of an order of accuracy.
        ranges: lowest and highest value of each parameter.
        order: of accuracy; the lowest that it takes compiles fastest.
        components: kinds of sources and receivers, as for `ox.Survey`.
        in_3d: further parameters in 3-D.
        layers: whether it takes perfectly matched layers.
    """

    make: Callable[[int], ox.AbstractWaveEquation]
    ranges: dict[str, tuple[float, float]]
    order: int = 2
    components: tuple[Any, Any] = (None, None)
    in_3d: tuple[tuple[str, tuple[float, float]], ...] = ()
    layers: bool = True

    def model(self, shape: tuple[int, ...], dtype: str) -> dict[str, jnp.ndarray]:
        """Rough in every cell."""
        rng = np.random.default_rng(3)
        ranges = dict(self.ranges) | (dict(self.in_3d) if len(shape) == 3 else {})
        return {n: jnp.asarray(rng.uniform(*bounds, shape), dtype) for n, bounds in ranges.items()}


VP, RHO, THOMSEN = (
    (1700.0, 2100.0),
    (1000.0, 1800.0),
    {"epsilon": (0.12, 0.2), "delta": (-0.05, 0.1)},
)

EQUATIONS = {
    "Acoustic": Entry(ox.Acoustic, {"vp": VP}),
    "AcousticDensity": Entry(ox.AcousticDensity, {"vp": VP, "rho": RHO}),
    "Elastic": Entry(
        ox.Elastic,
        {"vp": VP, "vs": (800.0, 1200.0), "rho": RHO},
        components=(("explosive", "force_x", "moment_xz"), ("velocity_x", "pressure", "stress_xz")),
    ),
    "VTI": Entry(ox.VTI, {"vp": VP, **THOMSEN}),
    "TTI": Entry(
        ox.TTI,
        {"vp": VP, **THOMSEN, "theta": (0.2, 0.6)},
        order=4,
        in_3d=(("phi", (-0.5, 0.5)),),
        layers=False,
    ),
    "Viscoacoustic": Entry(
        lambda order: ox.Viscoacoustic(order, frequency=15.0),
        {"vp": VP, "rho": RHO, "Q": (20.0, 60.0)},
    ),
}

SPONGE = ox.Sponge(width=4, reflection=1e-2)
ENCLOSED = ox.CPML(width=4)


def mixed(name: str) -> ox.Faces:
    """A free surface, a perfectly matched layer if the equation takes one, and sponges."""
    return ox.Faces(
        SPONGE, top=ox.FreeSurface(), right=ENCLOSED if EQUATIONS[name].layers else None
    )


def support_table() -> str:
    """What `test_equations.py` exercises, as Markdown. `python tests/registry.py` prints it for the
    README."""
    rows = [
        "| equation | 2-D | 3-D | gradients, Born, adjoint in | Hessian | sponge | CPML | free "
        "surface |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in EQUATIONS.items():
        parameters = ", ".join(entry.ranges) + "".join(f", {n} (3-D)" for n, _ in entry.in_3d)
        rows.append(
            f"| `{name}` | yes | yes | {parameters} | yes | yes | "
            f"{'yes' if entry.layers else 'unstable'} | yes |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    print(support_table())
