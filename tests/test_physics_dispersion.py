"""Traces against Green's functions over long paths, whatever the time step; and what follows for
inversion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import green
from problems import difference

import ondax as ox

SPEED, DT = 1500.0, 0.004
DISTANCES = np.array([1000.0, 2500.0, 5000.0])
SPACING = {
    5.0: 20.0,
    8.0: 12.5,
    12.0: 8.0,
}  # 5.8, 5.8 and 6 points per wavelength at the highest frequency


def along_x(
    frequency: float, ndim: int, spacing: float, half_width: float, max_velocity: float, **options
) -> ox.Propagator:
    """Water, with receivers on a line from the source; what its sides send back arrives at 6
    degrees and more."""
    across = round(half_width / spacing)
    points = np.zeros((3, ndim))
    points[:, 0] = DISTANCES
    grid = ox.Grid(
        (round(5600.0 / spacing) + 1, *(2 * across + 1,) * (ndim - 1)),
        spacing,
        origin=(-300.0, *(-across * spacing,) * (ndim - 1)),
    )
    survey = ox.Survey(np.zeros((1, ndim)), points, ox.ricker(frequency, 951, DT), DT)
    return ox.Propagator(ox.Acoustic(), grid, survey, max_velocity, boundary=ox.CPML(20), **options)


def errors(F: ox.Propagator, dtype: str) -> np.ndarray:
    """Relative errors of the traces at 1, 2.5 and 5 km."""
    traces = np.asarray(F(jnp.full(F.grid.shape, SPEED, dtype)), np.float64)[0]
    wavelet = F.survey.wavelet[0, 0]
    exact = np.stack([green(wavelet, DT, float(r), SPEED, F.grid.ndim) for r in DISTANCES])
    return np.linalg.norm(traces - exact, axis=-1) / np.linalg.norm(exact, axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("max_velocity", [1500.0, 4800.0])
@pytest.mark.parametrize("frequency", [5.0, 8.0, 12.0])
def test_in_the_plane(frequency: float, max_velocity: float, dtype: str):
    F = along_x(frequency, 2, SPACING[frequency], 500.0, max_velocity)
    assert 5 * F.highest_frequency * F.grid.spacing[0] < SPEED
    assert np.all(errors(F, dtype) < 5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("frequency", [5.0, 8.0, 12.0])
def test_in_the_plane_at_five_points_per_wavelength(frequency: float):
    """Nothing is left but what the grid makes, which is known beforehand: below 0.5 % over 17
    wavelengths."""
    F = along_x(frequency, 2, 10.0, 500.0, SPEED)
    spacing = SPEED / (5 * F.highest_frequency)
    F = along_x(frequency, 2, spacing, 500.0, SPEED)
    expected = np.array([F.spatial_error(SPEED, float(r)) for r in DISTANCES])
    found = errors(F, "float32")
    assert np.all(found < np.maximum(expected, 2e-3))
    assert np.all(found[DISTANCES * frequency / SPEED < 17] < 5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("max_velocity", [1500.0, 2600.0])
@pytest.mark.parametrize("frequency", [5.0, 8.0, 12.0])
def test_in_space(frequency: float, max_velocity: float):
    F = along_x(frequency, 3, SPACING[frequency], 500.0, max_velocity)
    assert np.all(errors(F, "float32") < 5e-3)


# ---------------------------------------------------------------- what follows


def small(courant: float = 1.0, **options) -> ox.Propagator:
    """Two shots through 121 x 81 points."""
    survey = ox.Survey(
        [[[300.0, 100.0]], [[900.0, 100.0]]],
        ox.line((100.0, 150.0), (1100.0, 150.0), 11),
        ox.ricker(10.0, 301, 0.003),
        0.003,
    )
    grid = ox.Grid((121, 81), 10.0)
    return ox.Propagator(
        ox.Acoustic(), grid, survey, 2600.0, boundary=ox.CPML(20), courant=courant, **options
    )


@pytest.mark.slow
def test_gradients_with_exact_data(x64: None):
    """A misfit with data that have no time dispersion, of a step 12 times smaller: raw, its
    gradient is half wrong."""
    rng = np.random.default_rng(0)
    v = jnp.full((121, 81), 1800.0).at[:, 40:].set(2300.0)
    true = v.at[50:70, 30:60].add(60.0 * jnp.asarray(rng.uniform(0.5, 1.0, (20, 30))))
    observed = small(1 / 12)(true)

    def gradient(F: ox.Propagator) -> jax.Array:
        return jax.grad(lambda m: 0.5 * jnp.sum((F(m) - observed) ** 2))(v)

    exact = gradient(small(1 / 12))
    assert difference(gradient(small()), exact) < 0.01
    assert difference(gradient(small(time_dispersion="raw")), exact) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["Acoustic", "AcousticDensity", "Elastic", "VTI", "TTI", "Viscoacoustic"]
)
def test_no_equation_depends_on_its_step(x64: None, name: str):
    """Traces of the largest step and of half of it differ by what the boundary's damping and
    attenuation see of a step."""
    equation = ox.Viscoacoustic(frequency=10.0) if name == "Viscoacoustic" else getattr(ox, name)()
    values = {
        "vp": 2000.0,
        "vs": 1150.0,
        "rho": 1500.0,
        "epsilon": 0.15,
        "delta": 0.08,
        "theta": 0.3,
        "Q": 20.0,
    }
    model = {
        n: jnp.full((121, 81), values[n]).at[:, 45:].multiply(1.1) for n in equation.parameter_names
    }
    boundary = ox.Sponge(width=30) if name == "TTI" else ox.CPML(20)
    receiver = ("velocity_x", "velocity_z", "pressure") if name == "Elastic" else None
    survey = ox.Survey(
        [[300.0, 200.0]],
        ox.line((500.0, 150.0), (1100.0, 150.0), 7),
        ox.ricker(10.0, 301, 0.003),
        0.003,
        receiver=receiver,
    )

    def traces(**options) -> jax.Array:
        F = ox.Propagator(
            equation, ox.Grid((121, 81), 10.0), survey, 2700.0, boundary=boundary, **options
        )
        return F(model)

    large, fine, raw = traces(), traces(courant=0.5), traces(time_dispersion="raw")
    bound = 2e-3 if name == "Viscoacoustic" else 2e-4
    for one, other, before in zip(
        *(np.moveaxis(np.atleast_3d(t), 1, 0) for t in (large, fine, raw)), strict=True
    ):
        assert difference(one, other) < bound
        assert difference(before, other) > 10 * bound or name == "Viscoacoustic"
