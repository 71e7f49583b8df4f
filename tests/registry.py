"""Every wave equation of the package, with models to test it on. A new equation joins the suite by
an entry here."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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
        layers: whether it takes perfectly matched layers of its derivatives.
        flux: whether it takes those of its flux.
    """

    make: Callable[[int], ox.AbstractWaveEquation]
    ranges: dict[str, tuple[float, float]]
    order: int = 2
    components: tuple[Any, Any] = (None, None)
    in_3d: tuple[tuple[str, tuple[float, float]], ...] = ()
    layers: bool = True
    flux: bool = False

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
        flux=True,
    ),
    "Viscoacoustic": Entry(
        lambda order: ox.Viscoacoustic(order, frequency=15.0),
        {"vp": VP, "rho": RHO, "Q": (20.0, 60.0)},
    ),
}

SPONGE = ox.Sponge(width=4, reflection=1e-2)
ENCLOSED = ox.CPML(width=4)
JOINT = ox.JointPML(width=4)


def enclosed(name: str, width: int = 4) -> ox.CPML | ox.JointPML:
    """The perfectly matched layers that an equation takes."""
    return ox.CPML(width) if EQUATIONS[name].layers else ox.JointPML(width)


def mixed(name: str) -> ox.Faces:
    """A free surface, a perfectly matched layer, and sponges."""
    return ox.Faces(SPONGE, top=ox.FreeSurface(), right=enclosed(name))


OUTCOMES = Path(__file__).with_name("outcomes.json")

# What stands behind a "yes" in each column of the README's table: all of these tests of
# `test_equations.py`.
COLUMNS = {
    "2-D": ("test_2d",),
    "3-D": ("test_3d",),
    "gradients, Born, adjoint in": ("test_2d", "test_2d_in_single_precision"),
    "Hessian": ("test_hessian",),
    "sponge": ("test_2d", "test_3d"),
    "CPML": ("test_2d_enclosed_by_perfectly_matched_layers",),
    "JointPML": ("test_2d_enclosed_by_joint_layers", "test_3d_enclosed_by_joint_layers"),
    "free surface": ("test_2d_below_a_free_surface", "test_3d_below_a_free_surface"),
}
CONFORMANCE = {test for tests in COLUMNS.values() for test in tests}


def conformance_test(node_id: str) -> str | None:
    """The part of a node id that `outcomes.json` lists, None for a test that it does not."""
    path, _, test = node_id.partition("::")
    listed = path.endswith("test_equations.py") and test.partition("[")[0] in CONFORMANCE
    return test if listed else None


def support_table(outcomes: dict[str, str]) -> str:
    """What has been tried, as Markdown, from the outcomes of the conformance tests.

    A cell says "yes" if every test of its column has passed for the equation, "no" if one has not,
    and "-" if one has not been run.
    """

    def verdict(name: str, tests: tuple[str, ...], passed: str = "yes") -> str:
        found = {outcomes.get(f"{test}[{name}]", "not run") for test in tests}
        if found == {"passed"}:
            return passed
        return "-" if "not run" in found else "no"

    rows = [["equation", *COLUMNS]]
    for name, entry in EQUATIONS.items():
        cells = {column: verdict(name, tests) for column, tests in COLUMNS.items()}
        tests = COLUMNS["gradients, Born, adjoint in"]
        parameters = [verdict(name, tests, passed=", ".join(entry.ranges))]
        parameters += [verdict(name, ("test_3d",), passed=f"{n} (3-D)") for n, _ in entry.in_3d]
        cells["gradients, Born, adjoint in"] = ", ".join(parameters)
        if not entry.layers:  # then the test is that such layers are refused
            cells["CPML"] = verdict(name, COLUMNS["CPML"], passed="unstable")
        if not entry.flux:
            cells["JointPML"] = verdict(name, COLUMNS["JointPML"], passed="no flux")
        rows.append([f"`{name}`", *cells.values()])
    head, *lines = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|---" * (1 + len(COLUMNS)) + "|", *lines])


if __name__ == "__main__":
    print(support_table(json.loads(OUTCOMES.read_text())))
