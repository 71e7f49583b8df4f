"""Another boundary, a rigid face, written against the interface of boundaries alone: that it is
one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import difference, dot, norm
from slow import slow_but

import ondax as ox
from ondax.boundaries.base import NONE, AbstractLayer, Conditions, End, Fit, Profile
from ondax.calculus.images import with_images
from ondax.scheme.plan import Plan
from ondax.scheme.symbols import SURFACE_GAIN


@final
class RigidFace(AbstractLayer):
    """A rigid wall through the topmost nodes: there the vertical velocity vanishes, and pressure
    continues with the same sign."""

    rate: ClassVar[str | None] = None
    guides: ClassVar[bool] = False
    returns: ClassVar[bool] = True
    top_only: ClassVar[bool] = True
    width: int = eqx.field(static=True, default=0, init=False)

    def edges(self) -> ox.AbstractBoundary:
        return self

    def act(self, system: ox.System, ends: Collection[End], crowded: frozenset[str]) -> ox.System:
        return with_images(system, reverse=True)

    def crowded_between(
        self, plan: Plan, ends: Collection[End], shape: Sequence[int]
    ) -> frozenset[str]:
        return NONE

    def shaped(self, kind: str, cells: Profile, conditions: Conditions, values: Profile) -> Profile:
        return np.where(cells == 0.0, 2.0, 1.0) if kind == SURFACE_GAIN else values

    def changed_at_top(
        self,
        coefficients: Mapping[str, Any],
        at_surface: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        return dict(coefficients)

    def check_face(self, end: End, fit: Fit, boundary: ox.AbstractBoundary) -> None:
        assert end == ("z", "low")


H, NX, NZ = 10.0, 41, 26
MEDIA: dict[str, tuple[ox.AbstractWaveEquation, tuple[str, ...]]] = {
    "acoustic": (ox.Acoustic(4), ("vp",)),
    "density": (ox.AcousticDensity(4), ("vp", "rho")),
}


def below(name: str) -> dict[str, jax.Array]:
    """A rough model."""
    rng = np.random.default_rng(1)
    values = {"vp": rng.uniform(1800.0, 2500.0, (NX, NZ)), "rho": rng.uniform(1.0e3, 2e3, (NX, NZ))}
    return {n: jnp.asarray(values[n]) for n in MEDIA[name][1]}


def propagator(name: str, depth: int, sources: Any, boundary: ox.AbstractBoundary) -> ox.Propagator:
    """With so many nodes above z = 0."""
    grid = ox.Grid((NX, NZ + depth), H, origin=(0.0, -depth * H))
    receivers = np.stack([np.arange(60.0, 350.0, 40.0), np.full(8, 130.0)], axis=-1)
    survey = ox.Survey(sources, receivers, ox.ricker(15.0, 120, 0.002, delay=0.07), 0.002)
    options = {"min_points_per_wavelength": 1.0, "time_dispersion": "raw"}
    return ox.Propagator(MEDIA[name][0], grid, survey, 2600.0, boundary=boundary, **options)


@pytest.mark.parametrize("name", MEDIA)
def test_a_rigid_face_is_a_mirror(name: str, x64_everywhere: None):
    """Below it, waves are those of a model mirrored at z = 0 with a second source at the place of
    the image, in space, which has no face: the same numbers, in another order."""
    model = below(name)
    walled = ox.Faces(ox.Sponge(12), top=RigidFace())
    got = propagator(name, 0, [[[200.0, 90.0]]], walled)(model)
    mirrored = {n: jnp.concatenate([v[:, :0:-1], v], axis=1) for n, v in model.items()}
    pair = [[[200.0, 90.0], [200.0, -90.0]]]
    expected = propagator(name, NZ - 1, pair, ox.Sponge(12))(mirrored)
    assert norm(expected) > 0.0
    assert difference(got, expected) < 1e-12


@pytest.mark.parametrize("name", slow_but(MEDIA, "acoustic"))
@pytest.mark.slow
def test_its_adjoint_is_exact(name: str, x64_everywhere: None):
    model = below(name)
    F = propagator(name, 0, [[[200.0, 22.0]]], ox.Faces(ox.CPML(8), top=RigidFace()))
    J, rng = F.jacobian(model), np.random.default_rng(2)
    x = {n: jnp.asarray(rng.normal(size=v.shape)) * 1e-2 * v for n, v in model.items()}
    y = jnp.asarray(rng.normal(size=(1, 8, 120)))
    born, image = J.mv(x), J.T.mv(y)
    assert abs(dot(born, y) - dot(x, image)) < 1e-12 * norm(born) * norm(y)
    (gradient,) = jax.vjp(F, model)[1](y)
    assert difference(gradient, image) < 1e-12
