"""Sources and receivers of each component on and near the free surface of a solid, against what
they stand for.

Edges other than the surface reflect: what is compared has the same echoes.
"""

from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import ricker
from analytic_elastic import ricker_rate

import ondax as ox

VP, VS, RHO = 2000.0, 1100.0, 2000.0
MU = RHO * VS**2
LAM = RHO * VP**2 - 2 * MU
RATIO = LAM / (LAM + 2 * MU)
H, FREQUENCY, DELAY = 5.0, 5.0, 0.3
DEPTHS = H * np.array([0.0, 0.25, 0.5, 1.0, 2.0])
SHAPES = {2: (81, 41), 3: (27, 23, 21)}
STATIONS = {
    2: (np.array([130.0]), np.array([280.0, 10.0])),
    3: (np.array([42.0, 50.0]), np.array([95.0, 62.0, 10.0])),
}
"""The place whose depths are tried, without its depth, and a point away from it."""


class Station:
    """Strains and stresses at a place near the surface, from forces elsewhere; and what moments
    there send back.

    By reciprocity, the velocity that a couple of forces of moment M(t) causes at a point is the
    velocity gradient, at the place of the couple, that a force M(t) at the point causes. A moment
    tensor's wavelet is its moment's rate.

    Attributes:
        strain: of velocities, by pair of axes, (force, depth, time).
        stress: by component, (force, depth, time).
        moment: velocity along each axis at the other point, by component, (axis, depth, time).
    """

    def __init__(self, ndim: int, order: int) -> None:
        self.axes = {2: "xz", 3: "xyz"}[ndim]
        place, point = STATIONS[ndim]
        self.grid = ox.Grid(SHAPES[ndim], H)
        self.order, self.dt, duration = order, 1e-3, {2: 0.9, 3: 0.5}[ndim]
        self.t = self.dt * np.arange(round(duration / self.dt))
        places = np.array([[*place, z] for z in DEPTHS])
        pairs = list(combinations_with_replacement(range(ndim), 2))
        names = tuple(f"moment_{self.axes[i]}{self.axes[j]}" for i, j in pairs) + ("explosive",)
        wavelets = np.zeros((len(names), len(DEPTHS), len(names), 1, len(self.t)))
        for i in range(len(names)):
            wavelets[i, :, i] = ricker_rate(self.t, FREQUENCY, DELAY)
        velocities = tuple(f"velocity_{a}" for a in self.axes)
        moments = self.shoot(
            np.tile(places, (len(names), 1)),
            point[None],
            wavelets.reshape(-1, *wavelets.shape[2:]),
            names,
            velocities,
        )[:, :, 0]
        moments = moments.reshape(len(names), len(DEPTHS), ndim, -1).transpose(0, 2, 1, 3)
        self.moment = dict(zip(names, moments, strict=True))

        # Along z, differences downward only: there is nothing above the surface.
        around, end = 0.4 * H, 0.1 * H
        steps = [s * around * np.eye(ndim)[a] for a in range(ndim - 1) for s in (-1, 1)]
        steps += [s * end * np.eye(ndim)[-1] for s in range(3)]
        stencil = (places[:, None] + np.array(steps)).reshape(-1, ndim)
        forces = np.zeros((ndim, ndim, 1, len(self.t)))
        for i in range(ndim):
            forces[i, i] = ricker(self.t, FREQUENCY, DELAY)
        stresses = tuple(n.replace("moment", "stress") for n in names[:-1])
        records = self.shoot(
            np.tile(point, (ndim, 1)),
            stencil,
            forces,
            tuple(f"force_{a}" for a in self.axes),
            (*velocities, *stresses, "pressure"),
        ).reshape(ndim, -1, len(DEPTHS), len(steps), len(self.t))
        v = records[:, :ndim]
        gradient = [
            (v[..., 2 * a + 1, :] - v[..., 2 * a, :]) / (2 * around) for a in range(ndim - 1)
        ]
        gradient += [(-3 * v[..., -3, :] + 4 * v[..., -2, :] - v[..., -1, :]) / (2 * end)]
        self.strain = {
            self.axes[i] + self.axes[j]: 0.5 * (gradient[i][:, j] + gradient[j][:, i])
            for i, j in pairs
        }
        self.stress = dict(
            zip((*stresses, "pressure"), np.moveaxis(records[:, ndim:, :, -3], 1, 0), strict=True)
        )

    def shoot(self, sources, receivers, wavelet, source, receiver) -> np.ndarray:
        survey = ox.Survey(sources, receivers, wavelet, self.dt, source=source, receiver=receiver)
        boundary = ox.Faces(ox.Sponge(width=0), top=ox.FreeSurface())
        F = ox.Propagator(ox.Elastic(self.order), self.grid, survey, VP, boundary=boundary)
        medium = {"vp": VP, "vs": VS, "rho": RHO}
        return np.asarray(F({n: jnp.full(self.grid.shape, value) for n, value in medium.items()}))

    def couples(self, name: str) -> np.ndarray:
        """What a moment is to cause, from velocities."""
        kind = name.split("_")[-1]
        if kind == "explosive":
            return sum(self.strain[a + a] for a in self.axes)
        return self.strain[kind] * (1 if kind[0] == kind[1] else 2)

    def hooke(self, name: str) -> np.ndarray:
        """A stress, from velocities: the integral over time of its rate."""
        if name == "pressure":
            return -sum(self.hooke(f"stress_{a}{a}") for a in self.axes) / len(self.axes)
        kind = name.split("_")[-1]
        rate = 2 * MU * self.strain[kind]
        if kind[0] == kind[1]:
            rate = rate + LAM * sum(self.strain[a + a] for a in self.axes)
        return np.cumsum(rate, -1) * self.dt - 0.5 * self.dt * rate


@cache
def station(ndim: int, order: int) -> Station:
    with jax.enable_x64(True):
        return Station(ndim, order)


CASES = [(2, 2), (2, 4), (2, 8), (3, 4)]


def size(traces: np.ndarray) -> np.ndarray:
    """By depth, of all forces (or axes) together."""
    return np.sqrt(np.sum(traces**2, (0, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(("ndim", "order"), CASES)
def test_sources(ndim: int, order: int):
    """Relative to the largest of all depths.

    A surface is seen to second order in the spacing. Strains along it are differences of velocities
    of one row, and agree for every depth but for the time step and the differences here. The others
    need a slope, which within a cell of the surface is known to the first order. Measured: 0.5 %
    along the surface, 2 % at 1 and 2 cells for normal strains, 8 % for shear strains (whose largest
    is at 2 cells), and 12 % within a cell.
    """
    s = station(ndim, order)
    for name, sent in s.moment.items():
        expected = s.couples(name)
        errors = size(sent - expected) / size(expected).max()
        print(ndim, order, name, np.round(errors, 4))
        kind = name.split("_")[-1]
        if "z" not in kind and kind != "explosive":
            assert np.all(errors < 0.01)
        else:
            assert np.all(errors < 0.15)
            assert np.all(
                errors[3:]
                < (0.1 if kind[0] != kind[1] and "z" in kind and kind != "explosive" else 0.02)
            )
        if kind[0] != kind[1] and kind[-1] == "z":
            assert np.all(sent[:, 0] == 0.0)  # no shear strain in the surface
        else:
            assert np.all(size(sent) > 0.3 * size(sent).max())


@pytest.mark.slow
@pytest.mark.parametrize(("ndim", "order"), CASES)
def test_a_vertical_couple_in_the_surface(ndim: int, order: int):
    """It does what `-lambda / (lambda + 2 mu)` times horizontal ones do, as the traction vanishes.
    Measured: 1 to 2 %."""
    s = station(ndim, order)
    expected = -RATIO * sum(s.moment[f"moment_{a}{a}"][:, 0] for a in s.axes[:-1])
    got = s.moment["moment_zz"][:, 0]
    print(ndim, order, np.linalg.norm(got - expected) / np.linalg.norm(expected))
    assert np.linalg.norm(got - expected) < 0.04 * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize(("ndim", "order"), CASES)
def test_receivers(ndim: int, order: int):
    """Relative to the stress along the surface, at the surface. Measured: 2 % for stress_xx, 5 %
    for stress_zz within a cell of the surface, where slopes of velocities are known to the first
    order, 2 % below."""
    s = station(ndim, order)
    scale = size(s.hooke("stress_xx"))[0]
    for name, read in s.stress.items():
        errors = size(read - s.hooke(name)) / scale
        print(ndim, order, name, np.round(errors, 4), np.round(size(read) / scale, 4))
        assert np.all(errors < 0.08)
        assert np.all(errors[3:] < 0.03)
        if name.endswith("z"):
            assert np.all(read[:, 0] == 0.0)
        else:
            assert size(read)[0] > 0.3 * size(read).max()
    # In the surface, sigma_zz = 0 leaves 4 mu (lambda + mu) / (lambda + 2 mu) times the strain, if
    # there is but one.
    if ndim == 2:
        rate = 4 * MU * (LAM + MU) / (LAM + 2 * MU) * s.strain["xx"][:, 0]
        expected = np.cumsum(rate, -1) * s.dt - 0.5 * s.dt * rate
        assert np.linalg.norm(s.stress["stress_xx"][:, 0] - expected) < 0.02 * np.linalg.norm(
            expected
        )


MOMENTS = ("moment_xx", "moment_zz", "moment_xz", "explosive")
STRESSES = ("stress_xx", "stress_zz", "stress_xz", "pressure")


def from_and_at(
    places: np.ndarray, finer: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What moments at places send to a point, and which stresses forces there cause at the places,
    each (place, component, time) at the same times, on a grid that is so many times finer."""
    dt, point = 1e-3 / finer, np.array([[280.0, 10.0]])
    t = dt * np.arange(round(0.9 / dt) + 1)
    grid = ox.Grid((80 * finer + 1, 40 * finer + 1), H / finer)
    boundary = ox.Faces(ox.CPML(20 * finer), top=ox.FreeSurface())
    medium = {n: jnp.full(grid.shape, v) for n, v in {"vp": VP, "vs": VS, "rho": RHO}.items()}

    def shoot(
        sources: np.ndarray,
        receivers: np.ndarray,
        source: tuple[str, ...],
        receiver: tuple[str, ...],
    ) -> Any:
        """(component fired, source, component, receiver, time)"""
        n = len(source)
        pulse = (
            ricker_rate(t, FREQUENCY, DELAY)
            if "explosive" in source
            else ricker(t, FREQUENCY, DELAY)
        )
        wavelets = np.zeros((n, len(sources), n, 1, len(t)))
        for i in range(n):
            wavelets[i, :, i] = pulse
        wavelets = wavelets.reshape(-1, *wavelets.shape[2:])
        survey = ox.Survey(
            np.tile(sources, (n, 1)), receivers, wavelets, dt, source=source, receiver=receiver
        )
        F = ox.Propagator(ox.Elastic(4), grid, survey, VP, boundary=boundary)
        d = np.asarray(F(medium))[..., ::finer]
        return d.reshape(n, len(sources), *d.shape[1:])

    sent = shoot(places, point, MOMENTS, ("velocity_x", "velocity_z"))[:, :, :, 0]
    read = shoot(point, places, ("force_x", "force_z"), STRESSES)[:, 0].transpose(1, 2, 0, 3)
    return dict(zip(MOMENTS, sent, strict=True)), dict(zip(STRESSES, read, strict=True))


@pytest.mark.slow
def test_against_a_finer_grid(x64: None):
    """Three times finer, a place within a cell of the surface is up to three cells below it.
    Relative to the largest of all depths, waves of 18 points per wavelength at the highest
    frequency. Vertical couples are seen to first order in the topmost half cell. Stresses are
    relative to the one along the surface: the others vanish there."""
    places = np.array([[130.0, z] for z in DEPTHS])
    for coarse, fine in zip(from_and_at(places, 1), from_and_at(places, 3), strict=True):
        sizes = {name: np.sqrt(np.sum(d**2, (1, 2))) for name, d in fine.items()}
        for name, d in coarse.items():
            largest = sizes["stress_xx" if name in STRESSES else name].max()
            errors = np.sqrt(np.sum((d - fine[name]) ** 2, (1, 2))) / largest
            print(name, np.round(errors, 4))
            assert np.all(errors[DEPTHS >= 0.5 * H] < 0.011)
            assert np.all(errors < (0.03 if name == "moment_zz" else 0.011))


@pytest.mark.slow
@pytest.mark.parametrize(("ndim", "order"), [(2, 4)])
def test_reciprocity(ndim: int, order: int):
    """Forces and velocities near the surface change places, to rounding: windows read with the
    weights that they feed."""
    with jax.enable_x64(True):
        s = station(ndim, order)
        axes = s.axes
        points = np.array([[130.0, 0.0], [151.3, 1.25], [170.0, 2.5], [203.1, 12.0]])
        wavelet = np.zeros((4 * ndim, ndim, 1, len(s.t)))
        for i in range(ndim):
            wavelet[i::ndim, i] = ricker(s.t, FREQUENCY, DELAY)
        forces, velocities = (tuple(f"{kind}_{a}" for a in axes) for kind in ("force", "velocity"))
        # (point and axis, axis, point, time)
        d = s.shoot(np.repeat(points, ndim, 0), points, wavelet, forces, velocities)
        d = d.reshape(4, ndim, ndim, 4, -1)
    there_and_back = d.transpose(3, 2, 1, 0, 4)
    assert np.abs(d - there_and_back).max() < 1e-11 * np.abs(d).max()
