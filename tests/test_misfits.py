"""Misfits: values that can be worked out by hand, gradients against finite differences, and dead
traces."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ondax import misfits
from ondax.wavelets import ricker

DT = 0.004
MISFITS = {
    "least_squares": misfits.least_squares,
    "l1": misfits.l1,
    "huber": partial(misfits.huber, threshold=0.3),
    "global_correlation": misfits.global_correlation,
    "envelope": misfits.envelope,
    "traveltime": partial(misfits.traveltime, dt=DT),
}
every_misfit = pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS)


def traces(shift: float = 0.0, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    """Ricker pulses on several traces, `shift` seconds late."""
    pulse = ricker(10.0, nt=120, dt=DT, delay=0.2 + shift)
    return pulse * np.linspace(0.5, 2.0, int(np.prod(shape))).reshape(*shape, 1)


@every_misfit
def test_is_smallest_for_equal_traces(misfit, dtype):
    observed = jnp.asarray(traces(), dtype)
    least = misfit(observed, observed)
    assert least.shape == ()
    assert least.dtype == dtype
    np.testing.assert_allclose(least, 0.0, atol=1e-5)
    for other in (traces(0.01), traces(-0.03), traces() + 0.3 * traces(0.1)):
        assert misfit(jnp.asarray(other, dtype), observed) > least


@every_misfit
def test_gradient(misfit, x64):
    noise = 0.05 * np.random.default_rng(1).normal(size=(2, 3, 120))
    observed, predicted = jnp.asarray(traces()), jnp.asarray(traces(0.013) + noise)
    check_grads(
        lambda p: misfit(p, observed),
        (predicted,),
        order=1,
        modes=("fwd", "rev"),
        eps=1e-7,
        rtol=1e-5,
    )


@every_misfit
@pytest.mark.parametrize("scale", [0.0, 1e-25, 1.0])
def test_is_finite_where_traces_are_dead(misfit, scale):
    alive = scale * jnp.asarray(traces(), jnp.float32)
    dead = jnp.zeros_like(alive)
    for predicted, observed in ((dead, alive), (alive, dead), (dead, dead), (alive, alive)):
        value, gradient = jax.value_and_grad(misfit)(predicted, observed)
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()


@every_misfit
def test_sums_over_traces(misfit, x64):
    observed, predicted = jnp.asarray(traces()), jnp.asarray(traces(0.02))
    one_by_one = sum(
        misfit(p, o) for p, o in zip(predicted.reshape(6, -1), observed.reshape(6, -1), strict=True)
    )
    np.testing.assert_allclose(misfit(predicted, observed), one_by_one, rtol=1e-10)


def test_values_worked_out_by_hand(x64):
    predicted, observed = jnp.asarray([[3.0, 0.0, 1.0]]), jnp.asarray([[1.0, 0.0, 1.5]])
    assert misfits.least_squares(predicted, observed) == 0.5 * (4.0 + 0.25)
    assert misfits.l1(predicted, observed) == 2.5
    assert misfits.huber(predicted, observed, threshold=1.0) == (2.0 - 0.5) + 0.5 * 0.25
    assert misfits.huber(predicted, observed, threshold=10.0) == misfits.least_squares(
        predicted, observed
    )
    cosine = (3.0 + 1.5) / np.sqrt(10.0 * 3.25)
    np.testing.assert_allclose(misfits.global_correlation(predicted, observed), 1.0 - cosine)


def test_global_correlation_ignores_amplitude_and_bounds_each_trace(x64):
    observed = jnp.asarray(traces())
    np.testing.assert_allclose(
        misfits.global_correlation(5.0 * observed, observed), 0.0, atol=1e-12
    )
    np.testing.assert_allclose(misfits.global_correlation(-observed, observed), 2.0 * 6)
    np.testing.assert_allclose(misfits.global_correlation(0.0 * observed, observed), 6.0)


def test_envelope_ignores_phase(x64):
    time = jnp.linspace(0.0, 400 * DT, 400, endpoint=False)
    bell = jnp.exp(-(((time - 0.8) / 0.15) ** 2))
    cosine, sine = bell * jnp.cos(150.0 * time), bell * jnp.sin(150.0 * time)
    assert misfits.envelope(cosine, sine) < 1e-6 * misfits.least_squares(cosine, sine)
    np.testing.assert_allclose(
        misfits.envelope(cosine, 0.0 * cosine), 0.5 * jnp.sum(bell**2), rtol=1e-6
    )


@pytest.mark.parametrize("shift", [0.0, 0.004, 0.0107, -0.0213, 0.1])
def test_traveltime_measures_the_shift(shift, x64):
    value = misfits.traveltime(jnp.asarray(traces(shift)), jnp.asarray(traces()), dt=DT)
    np.testing.assert_allclose(
        value, 6 * 0.5 * shift**2, atol=6 * 0.5 * (0.03 * DT) ** 2, rtol=0.03
    )


def test_traveltime_gradient_delays_an_early_pulse(x64):
    """A step against the gradient must reduce the time shift, whichever its sign."""
    observed = jnp.asarray(traces())
    for shift in (0.01, -0.01):
        predicted = jnp.asarray(traces(shift))
        gradient = jax.grad(lambda p: misfits.traveltime(p, observed, dt=DT))(predicted)
        step = 1e-2 / jnp.abs(gradient).max()
        assert misfits.traveltime(
            predicted - step * gradient, observed, dt=DT
        ) < misfits.traveltime(predicted, observed, dt=DT)


def test_bad_arguments():
    one = jnp.ones((1, 4))
    with pytest.raises(ValueError, match=r"threshold=-1\.0 must be positive"):
        misfits.huber(one, one, threshold=-1.0)
    with pytest.raises(ValueError, match=r"dt=0\.0 must be"):
        misfits.traveltime(one, one, dt=0.0)
