"""What JAX asks the host to compute: the fixture `asked` lists its calls, and these are the
parameters of those that nobody wants anything special of."""

from typing import Any

import pytest

from ondax.host import HostModel

FORWARD = {"keep": (), "slopes": False}
BORN = {"wanted": (), "source": False}
ADJOINT = {"wanted": (), "weights": False, "source": False, "slopes": False, "last_use": True}
PARAMETERS = {"forward": tuple(FORWARD), "born": tuple(BORN), "adjoint": tuple(ADJOINT)}


def spy_on_host_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Every call of a host function from now on, by name, with its static parameters."""
    seen: list[tuple[str, dict[str, Any]]] = []
    original = HostModel._call

    def spied(self: HostModel, key: Any, given: Any, run: Any) -> Any:
        function = original(self, key, given, run)
        name, _, *static = key

        def call(*operands: Any) -> Any:
            seen.append((name, dict(zip(PARAMETERS[name], static, strict=True))))
            return function(*operands)

        return call

    monkeypatch.setattr(HostModel, "_call", spied)
    return seen
