"""A small problem of least-squares migration, for the tests of its solvers and of its loop."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

import ondax as ox

N_SHOTS, NT, DT = 3, 71, 0.003


@cache
def propagator(
    equation: str = "acoustic", *, n_shots: int = N_SHOTS, moving: bool = False, **kinds
) -> ox.Propagator:
    """Three shots on a small grid; in 64 unknowns a parameter, so that dense matrices are cheap."""
    grid = ox.Grid(shape=(8, 8), spacing=20.0)
    receivers = ox.line((0.0, 30.0), (140.0, 30.0), 5)
    if moving:
        receivers = (
            0.9 * receivers + np.array([10.0, 0.0]) * np.arange(n_shots)[:, None, None] / n_shots
        )
    survey = ox.Survey(
        ox.line((15.0, 20.0), (125.0, 20.0), n_shots),
        receivers,
        ox.ricker(20.0, NT, DT),
        DT,
        **dict(kinds),
    )
    kind = {"acoustic": ox.Acoustic, "density": ox.AcousticDensity}[equation]
    return ox.Propagator(
        kind(space_order=4),
        grid,
        survey,
        max_velocity=2400.0,
        boundary=ox.Sponge(width=6),
        min_points_per_wavelength=1.0,
    )


def background(F: ox.Propagator, dtype: str = "float32"):
    x, z = np.meshgrid(np.linspace(0, 1, 8), np.linspace(0, 1, 8), indexing="ij")
    vp = jnp.asarray(2000.0 + 200.0 * z + 50.0 * x, dtype)
    return (
        vp
        if isinstance(F.equation, ox.Acoustic)
        else {"vp": vp, "rho": jnp.asarray(2000.0 + 200.0 * z, dtype)}
    )


def reflectivity(model, seed: int = 0):
    """A rough perturbation, 5 % of each parameter."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda m: jnp.asarray(0.05 * rng.normal(size=m.shape), m.dtype) * m, model)


def data(F: ox.Propagator, model):
    return F.jacobian(model).mv(reflectivity(model))


migrate = partial(ox.lsrtm, progress=False)
