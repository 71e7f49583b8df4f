"""A medium is used again for the same coefficients, and for no others."""

import numpy as np
import pytest
from systems import ORDER, Rig, mass_form

from ondax.backends.devito import tasks
from ondax.backends.devito.tasks import Medium, Tasks
from ondax.scheme.symbols import Symbols


def make_rig() -> Rig:
    return Rig(mass_form(Symbols(2, ORDER, "float32")))


def fixed(array: np.ndarray) -> np.ndarray:
    """A copy that nobody can write into, as those that come from JAX."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def medium_of(made: Tasks, rig: Rig, values: list[np.ndarray]) -> Medium:
    (task,) = made.of((), rig._experiment(values, None))
    return task.medium


@pytest.fixture
def rig() -> Rig:
    return make_rig()


@pytest.fixture
def made(rig: Rig) -> Tasks:
    return Tasks(rig.solver.kernels.planned, rig.domain)


def test_the_same_coefficients_are_the_same_medium(rig: Rig, made: Tasks):
    first, second = ([fixed(c) for c in rig.coefficients] for _ in range(2))
    assert medium_of(made, rig, second) is medium_of(made, rig, first)


@pytest.mark.parametrize("change", [0.0, -0.0, np.nan, 1e-3])
def test_a_medium_that_differs_in_one_value_is_another(change: float, rig: Rig, made: Tasks):
    values = [c.copy() for c in rig.coefficients]
    values[-1][-1, -1] = 0.0
    before = medium_of(made, rig, [fixed(c) for c in values])
    values[-1][-1, -1] = change
    again = medium_of(made, rig, [fixed(c) for c in values])
    assert (again is before) == (str(change) == "0.0")


def test_coefficients_that_may_change_are_not_remembered(rig: Rig, made: Tasks):
    values = [c.copy() for c in rig.coefficients]
    assert medium_of(made, rig, values) is not medium_of(made, rig, values)
    views = [c.view() for c in values]
    for view in views:
        view.flags.writeable = False  # but what it is a view of can be written into
    assert medium_of(made, rig, views) is not medium_of(made, rig, views)


def test_large_coefficients_are_not_remembered(
    rig: Rig, made: Tasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks, "LASTING", sum(c.nbytes for c in rig.coefficients) - 1)
    values = [fixed(c) for c in rig.coefficients]
    assert medium_of(made, rig, values) is not medium_of(made, rig, values)


@pytest.mark.parametrize("writeable", [True, False])
def test_traces_follow_the_coefficients(writeable: bool, rig: Rig):
    """To the bit those of an engine that has seen no other model."""
    values = [c.copy() for c in rig.coefficients]
    first = rig.forward([c if writeable else fixed(c) for c in values], keep=False)
    values[0][5:9, 4:8] *= np.float32(1.05)
    second = rig.forward([c if writeable else fixed(c) for c in values], keep=False)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(second, make_rig().forward(values, keep=False))
