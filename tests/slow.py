"""Which cases run with `-m slow` only: those that repeat, in another dimension, precision or
method, what a quicker one has shown, as the gate has to end within minutes on two cores."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """One case of a parametrised test, with the mark."""
    return pytest.param(*values, marks=pytest.mark.slow)


def slow_but(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """All of the cases, with the mark on those that are not named as quick."""

    def marked(case: Any) -> Any:
        return slow(*case) if isinstance(case, tuple) else slow(case)

    return [case if case in quick else marked(case) for case in cases]
