"""What the symbols of an equation depend on, as a text.

An equation of ours depends on our code, Devito and SymPy, its settings and its boundary: its text
is made without symbols. An equation of a user's may depend on anything that its `system` reaches.
So its text is what `system` says: the scheme itself, which takes Devito, but none of the algebra
that follows. The text is that of the first time in a process, and every later scheme is compared
with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np

from ..boundaries.base import AbstractBoundary
from ..equations.base import AbstractWaveEquation
from ..scheme.errors import EquationError
from ..scheme.symbols import Symbols
from ..scheme.system import System

ROOMS = ("scheme", "calculus", "boundaries", "equations", "backends/devito", "face")
"""Where the way from an equation to its plan leads."""
OURS = "ondax"
LIBRARIES = ("devito", "sympy", "numpy", "jax", "equinox")
"""Packages whose functions do the same as long as their version stays."""


class _Unknown(Exception):
    """The value of a setting has no text."""


@cache
def content(
    equation: AbstractWaveEquation, boundary: AbstractBoundary, ndim: int, dtype: str
) -> str | None:
    """A text that changes with all that the scheme of an equation in a boundary depends on; None if
    that is not known, as of a boundary of a user's."""
    if not is_ours(boundary):
        return None
    try:
        said = _of_equation(equation, boundary, ndim, dtype)
        parts = [*_versions(), f"{ndim} {dtype}", _text(boundary), said]
    except _Unknown:
        return None
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _of_equation(
    equation: AbstractWaveEquation, boundary: AbstractBoundary, ndim: int, dtype: str
) -> str:
    if is_ours(equation):
        return _text(equation)
    stated(equation, boundary, ndim, dtype)
    return _said[equation, boundary, ndim, dtype]


def is_ours(of: Any) -> bool:
    """Is an equation, or a boundary with all of its layers, of a class of ondax?"""
    layers = (v for v in vars(of).values() if isinstance(v, AbstractBoundary))
    return type(of).__module__.partition(".")[0] == OURS and all(map(is_ours, layers))


def stated(
    equation: AbstractWaveEquation, boundary: AbstractBoundary, ndim: int, dtype: str
) -> System:
    """The scheme that an equation states.

    Raises:
        EquationError: it stated another one before, in this process.
    """
    system = equation.system(Symbols(ndim, equation.space_order, np.dtype(dtype)), boundary)
    if not is_ours(equation):
        said = system.describe()
        if _said.setdefault((equation, boundary, ndim, dtype), said) != said:
            name = type(equation).__name__
            raise EquationError(
                f"{name}: its system() states another scheme than it did before in this process, "
                "so that something that it reads has changed. Compiled programs know an equation "
                f"by its class and its fields: make what changes a field of {name}, or define the "
                "class anew"
            )
    return system


_said: dict[tuple[AbstractWaveEquation, AbstractBoundary, int, str], str] = {}
"""The schemes of users' equations when they were first stated."""


@cache
def _versions() -> list[str]:
    """Of all that derives schemes."""
    return [_our_code(), sys.version, *(f"{name} {version(name)}" for name in LIBRARIES)]


def _our_code() -> str:
    """A digest of the rooms between an equation and its plan: between two versions of ondax no
    number tells them apart."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for file in sorted(_sources(files(OURS).joinpath(room)), key=lambda f: f.name):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _sources(folder: Traversable) -> Iterator[Traversable]:
    return (file for file in folder.iterdir() if file.name.endswith(".py"))


def _text(value: Any) -> str:
    """A text that tells a setting, an equation or a boundary from others.

    Raises:
        _Unknown: the value is of a kind that has none.
    """
    plain = bool | int | float | complex | str | bytes | np.generic
    if value is None or isinstance(value, plain):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} {[_text(v) for v in value]}"
    if isinstance(value, dict):
        return f"dict {[(_text(k), _text(v)) for k, v in value.items()]}"
    if dataclasses.is_dataclass(value) and is_ours(value):
        cls = type(value)
        settings = {f.name: _text(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return f"{cls.__module__}.{cls.__qualname__} {settings}"
    raise _Unknown(repr(value))
