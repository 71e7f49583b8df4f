"""What JAX asks the host to compute: the fixture `asked` lists its calls, and these are they."""

from typing import Any

import pytest

from ondax.backends.base import Asked
from ondax.face.host import HostModel


def forward(*keep: str, slopes: bool = False) -> tuple[Any, ...]:
    """Modelling, with histories for the named coefficients, or derivatives by receiver position."""
    return ("forward", keep, slopes, False, False)


BORN = ("born", False, False)


def adjoint(*coefficients: str, **more: bool) -> tuple[Any, ...]:
    """The gradients in the named coefficients, and more."""
    return ("adjoint", Asked(coefficients, **more))


def spy_on_host_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Every call of a host function from now on, by name, with its static parameters."""
    seen: list[tuple[Any, ...]] = []
    original = HostModel._call

    def spied(self: HostModel, key: Any, structure: Any, run: Any) -> Any:
        function = original(self, key, structure, run)

        def call(*operands: Any) -> Any:
            seen.append(key)
            return function(*operands)

        return call

    monkeypatch.setattr(HostModel, "_call", spied)
    return seen
