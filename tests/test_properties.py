"""Laws that hold for every grid, order and position, on examples drawn by hypothesis.

The operators are few (an equation, a dimension, an order and a precision each cost a compilation);
everything else is
free: odd and even sizes, unequal spacings, origins, sponges, positions on and off the grid, with
    float64's 1e-11.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from oracle import Oracle, quick_jit
from problems import EQUATIONS, difference, dot, norm

import ondax as ox

pytestmark = pytest.mark.usefixtures("x64")
# The fixture switches float64 on for all examples alike. Shrinking a failure would compile hundreds
# of shapes.
few = settings(
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)

ORDERS = {
    ("acoustic", 1): (2, 4, 16),
    ("acoustic", 2): (2, 8),
    ("density", 1): (4, 16),
    ("density", 2): (4,),
}
MAX_VELOCITY = 3000.0


@dataclass(frozen=True)
class Setting:
    """One shot with two sources and three receivers, positions as fractions (0 to 1) of the grid's
    extent."""

    equation: str
    order: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    ratio: float
    width: int
    interpolation: str
    fractions: np.ndarray  # (5, ndim): the sources, then the receivers
    seed: int

    def oracle(self) -> Oracle:
        trial = Oracle(
            self.equation,
            self.order,
            self.shape,
            self.spacing,
            self.origin,
            1.0,
            25,
            MAX_VELOCITY,
            self.width,
            interpolation=self.interpolation,
        )
        return replace(trial, dt=self.ratio * trial.stable_step)

    def arrays(self) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        """Model, wavelet, sources, receivers."""
        rng = np.random.default_rng(self.seed)
        vp = jnp.asarray(rng.uniform(1000, MAX_VELOCITY, self.shape))
        rho = jnp.asarray(rng.uniform(1000, 3000, self.shape))
        model = vp if self.equation == "acoustic" else {"vp": vp, "rho": rho}
        extent = (np.array(self.shape) - 1) * self.spacing
        positions = jnp.asarray(self.origin + extent * self.fractions)[None]
        return model, jnp.asarray(rng.normal(size=(1, 2, 25))), positions[:, :2], positions[:, 2:]

    def propagator(self, **options) -> ox.Propagator:
        o, (_, wavelet, sources, receivers) = self.oracle(), self.arrays()
        return ox.Propagator(
            EQUATIONS[self.equation](space_order=self.order),
            ox.Grid(shape=self.shape, spacing=self.spacing, origin=self.origin),
            ox.Survey(np.asarray(sources), np.asarray(receivers), np.asarray(wavelet), o.dt),
            max_velocity=MAX_VELOCITY,
            boundary=ox.Sponge(width=o.width, reflection=o.reflection, power=o.power),
            interpolation=self.interpolation,
            min_points_per_wavelength=0.0,  # the wavelets are noise
            **options,
        )


@st.composite
def settings_of_every_kind(draw: st.DrawFn) -> Setting:
    equation, ndim = draw(st.sampled_from(sorted(ORDERS)))
    order = draw(st.sampled_from(ORDERS[equation, ndim]))
    per_axis = lambda element: st.tuples(*[element] * ndim)  # noqa: E731
    shape = draw(per_axis(st.integers(9, 24)))
    # Eighths of the extent fall on grid points of some sizes and between those of others; the ends
    # are included.
    fraction = st.one_of(st.integers(0, 8).map(lambda i: i / 8), st.floats(0, 1, width=32))
    fractions = np.array(draw(st.lists(per_axis(fraction), min_size=5, max_size=5)))
    return Setting(
        equation, order, shape,
        spacing=draw(per_axis(st.floats(5, 20, width=32))),
        origin=draw(per_axis(st.floats(-1e3, 1e3, width=32))),
        # Never a whole number: there the last digit of the limit decides the internal step.
        ratio=draw(st.integers(0, 2)) + draw(st.floats(0.25, 0.9375, width=32)),
        width=draw(st.integers(0, 8)),
        interpolation=draw(st.sampled_from(["sinc", "linear"])),
        fractions=fractions,
        seed=draw(st.integers(0, 99)),
    )  # fmt: skip


@pytest.mark.slow
@few
@given(settings_of_every_kind())
def test_traces_agree_with_the_reference(x64: None, setting: Setting):
    """As the scheme makes them, time dispersion included, which the reference has too."""
    F, arrays = setting.propagator(time_dispersion="raw"), setting.arrays()
    assert F.steps_per_sample == setting.oracle().steps_per_sample
    assert difference(F(arrays[0]), quick_jit(setting.oracle())(*arrays)) < 1e-11


@pytest.mark.slow
@few
@given(settings_of_every_kind())
def test_adjoints(x64: None, setting: Setting):
    F, (model, wavelet, _, _) = setting.propagator(), setting.arrays()
    rng = np.random.default_rng(0)
    d = F(model)
    y = jnp.asarray(rng.normal(size=d.shape))
    assert abs(dot(d, y) - dot(wavelet, F.adjoint(model, y))) < 1e-12 * norm(d) * norm(y)
    J = F.jacobian(model)
    x = jax.tree.map(lambda a: 100 * jnp.asarray(rng.normal(size=a.shape)), model)
    born = J.mv(x)
    assert abs(dot(born, y) - dot(x, J.T.mv(y))) < 1e-12 * norm(born) * norm(y)


@pytest.mark.slow
@few
@given(settings_of_every_kind())
def test_reciprocity(x64: None, setting: Setting):
    """Source and receiver exchanged, the trace is the same: each scheme's space operator and mass
    are symmetric."""
    F, (model, wavelet, sources, receivers) = setting.propagator(), setting.arrays()
    # The survey's numbers of sources and receivers stay: all receivers in one place, and both
    # sources in another.
    one, other = sources[:, :1], receivers[:, :1]
    there = F(
        model,
        wavelet=wavelet,
        sources=jnp.tile(one, (1, 2, 1)),
        receivers=jnp.tile(other, (1, 3, 1)),
    )
    back = F(
        model,
        wavelet=wavelet,
        sources=jnp.tile(other, (1, 2, 1)),
        receivers=jnp.tile(one, (1, 3, 1)),
    )
    assert difference(back, there) < 1e-11


@pytest.mark.slow
@few
@given(settings_of_every_kind())
def test_axes_are_alike(x64: None, setting: Setting):
    """Reversing the order of the axes of everything changes nothing."""
    flipped = replace(
        setting,
        shape=setting.shape[::-1],
        spacing=setting.spacing[::-1],
        origin=setting.origin[::-1],
        fractions=setting.fractions[:, ::-1],
    )
    model = setting.arrays()[0]
    d = setting.propagator()(model)
    assert difference(flipped.propagator()(jax.tree.map(jnp.transpose, model)), d) < 1e-11


@pytest.mark.slow
@few
@given(settings_of_every_kind(), st.integers(1, 8), st.floats(-2, 2))
def test_linear_and_causal_in_the_wavelet(x64: None, setting: Setting, late: int, scale: float):
    """F(w + a w') = F(w) + a F(w'), where w' is w delayed by whole samples, and F(w') is F(w)
    delayed as much.

    The delay law holds to rounding only in raw traces, where dt is the internal step: resampling a
    record cut off at its end spreads over all of it, and so does taking time dispersion out of
    noise.
    """
    F, (model, wavelet, _, _) = setting.propagator(), setting.arrays()
    delayed = jnp.pad(wavelet, ((0, 0), (0, 0), (late, 0)))[..., : wavelet.shape[-1]]
    d, d_late = F(model), F(model, wavelet=delayed)
    both = F(model, wavelet=wavelet + scale * delayed)
    assert norm(both - d - scale * d_late) < 1e-11 * (norm(d) + abs(scale) * norm(d_late))
    if F.steps_per_sample == 1:
        raw = setting.propagator(time_dispersion="raw")
        d, d_late = raw(model), raw(model, wavelet=delayed)
        shifted = jnp.pad(d, ((0, 0), (0, 0), (late, 0)))[..., : d.shape[-1]]
        assert difference(d_late, shifted) < 1e-11
