"""What the symbols of an equation depend on, as a text, without deriving them.

An equation of ours depends on our code, Devito and SymPy, its settings and its boundary. One of a
user's depends on all that its `system` can reach: its class and bases, helpers, constants,
closures. They are followed through their compiled code. Where they cannot be followed to the end,
nothing is known: the equation is derived in every process, and nothing stale is ever used.
"""

from __future__ import annotations

import builtins
import dataclasses
import dis
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import jax
import numpy as np

from ..boundaries.base import AbstractBoundary
from ..equations.base import AbstractWaveEquation

ROOMS = ("scheme", "calculus", "boundaries", "equations", "backends/devito", "face")
"""Where the way from an equation to its plan leads."""
OURS = "ondax"
LIBRARIES = ("devito", "sympy", "numpy", "jax", "equinox")
"""Packages whose functions do the same as long as their version stays; see UNSTEADY."""
STEADY = ("math", "itertools", "functools", "operator", "fractions", "dataclasses", "typing")
"""Modules of Python's own that do the same whenever they are called."""
UNSTEADY = frozenset(
    [
        "__dict__",
        "__globals__",
        "__subclasses__",
        "load",
        "loads",
        "loadtxt",
        "genfromtxt",
        "fromfile",
        "memmap",
        "random",
        "rand",
        "randn",
        "default_rng",
        "configuration",
        "config",
    ]
)
"""Names by which code of libraries reaches what is not written in it."""
HARMLESS = frozenset(
    [
        "abs",
        "all",
        "any",
        "bool",
        "dict",
        "divmod",
        "enumerate",
        "filter",
        "float",
        "frozenset",
        "hasattr",
        "int",
        "isinstance",
        "issubclass",
        "iter",
        "len",
        "list",
        "map",
        "max",
        "min",
        "next",
        "object",
        "pow",
        "print",
        "property",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "slice",
        "sorted",
        "str",
        "sum",
        "super",
        "tuple",
        "type",
        "zip",
        "ArithmeticError",
        "Exception",
        "NotImplementedError",
        "RuntimeError",
        "TypeError",
        "ValueError",
        "KeyError",
        "StopIteration",
    ]
)
"""Functions of Python that reach nothing but their arguments."""


PLUMBING = frozenset(
    [
        "__module__",
        "__qualname__",
        "__name__",
        "__doc__",
        "__dict__",
        "__weakref__",
        "__annotations__",
        "__slots__",
        "__abstractmethods__",
        "_abc_impl",
        "__abstractvars__",
        "__abstractclassvars__",
        "__dataclass_params__",
        "__dataclass_fields__",
        "__match_args__",
        "__parameters__",
        "__orig_bases__",
        "__init__",
        "__repr__",
        "__eq__",
        "__hash__",
        "__static_attributes__",
        "__firstlineno__",
        "__annotate_func__",
        "__annotations_cache__",
    ]
)
"""Members of classes that are made by the machinery of classes, or that make objects: the values of
objects are followed themselves."""


class _Unknown(Exception):
    """Something cannot be followed; the message says what."""


def content_now(equation: AbstractWaveEquation, boundary: AbstractBoundary) -> str | None:
    """A text that changes with all that the scheme of an equation in a boundary depends on; None if
    that is not known."""
    way = _Way()
    try:
        parts = [*_versions(), way.of_equation(equation), way.of(boundary)]
    except _Unknown:
        return None
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


content = cache(content_now)
"""The same, asked once a process."""


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


def _steady(module: str | None) -> bool:
    """Does all that a module defines stay as it is, as long as its version does?"""
    return (module or "").split(".")[0] in (OURS, *LIBRARIES, *STEADY)


class _Way:
    """What can be reached from an equation, as a text. All its methods raise `_Unknown` for what
    cannot be followed."""

    def __init__(self) -> None:
        # What has been met, by identity: the objects too, so that no other one gets that identity.
        self._met: dict[int, Any] = {}

    def of_equation(self, equation: AbstractWaveEquation) -> str:
        """Its settings, and what its `system` reaches."""
        cls = type(equation)
        parts = [f"{c.__module__}.{c.__qualname__}" for c in cls.__mro__]
        theirs = [c for c in cls.__mro__ if not _steady(c.__module__) and c is not object]
        self._met |= {id(c): c for c in theirs}
        followed: set[str] = set()
        names = {"system"} if theirs else set()
        while names:
            name = names.pop()
            followed.add(name)
            for c in theirs:
                if name in vars(c):
                    member = vars(c)[name]
                    parts.append(f"{c.__qualname__}.{name} = {self.of(member)}")
                    names |= _names_of(member) - followed
        if any(n in vars(c) for c in theirs for n in ("__getattr__", "__getattribute__")):
            raise _Unknown(cls.__qualname__)
        return f"{parts} {self._fields(equation)}"

    def of(self, value: Any) -> str:
        """A text that tells a value from others: a setting, a constant, a function, a class."""
        plain = bool | int | float | complex | str | bytes | np.generic | np.dtype
        if value is None or isinstance(value, plain):
            return f"{type(value).__name__} {value!r}"
        if isinstance(value, jax.Array | np.ndarray):
            array: Any = np.asarray(value)
            if array.dtype == object:
                raise _Unknown(repr(value))
            return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        if isinstance(value, ModuleType) and _steady(value.__name__):
            return value.__name__
        if _steady(getattr(value, "__module__", None)) and hasattr(value, "__qualname__"):
            return f"{value.__module__}.{value.__qualname__}"
        if id(value) in self._met:
            return f"met as number {list(self._met).index(id(value))}"
        self._met[id(value)] = value
        if isinstance(value, tuple | list):
            return f"{type(value).__name__} {[self.of(v) for v in value]}"
        if isinstance(value, set | frozenset):
            return f"set {sorted(self.of(v) for v in value)}"
        if isinstance(value, dict):
            return f"dict {[(self.of(k), self.of(v)) for k, v in value.items()]}"
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, BuiltinFunctionType) and value.__module__ == "builtins":
            return value.__qualname__
        if isinstance(value, property):
            return f"property {self.of(value.fget)}"
        if isinstance(value, classmethod | staticmethod):
            return f"{type(value).__name__} {self.of(value.__func__)}"
        if isinstance(value, type):
            return self._class(value)
        if dataclasses.is_dataclass(value):
            return f"{self.of(type(value))} {self._fields(value)}"
        raise _Unknown(repr(value))

    def _fields(self, value: Any) -> list[str]:
        """The fields of an equation, a boundary or another dataclass."""
        return [f"{f.name} = {self.of(getattr(value, f.name))}" for f in dataclasses.fields(value)]

    def _class(self, cls: type) -> str:
        """A class that is not an equation's: all that it and its bases say."""
        parts = [f"{c.__module__}.{c.__qualname__}" for c in cls.__mro__]
        for c in cls.__mro__:
            if c is not object and not _steady(c.__module__):
                own = {n: v for n, v in vars(c).items() if n not in PLUMBING}
                parts += [f"{n} = {self.of(v)}" for n, v in sorted(own.items())]
        return f"class {parts}"

    def _function(self, function: FunctionType) -> str:
        """A function: its code, defaults, closure, and the globals that it names."""
        names = _names_in(function.__code__)
        for module in _imported(function.__code__):
            if not _steady(module):
                raise _Unknown(f"{function.__qualname__} imports {module}")
        if found := names & UNSTEADY:
            raise _Unknown(f"{function.__qualname__} reaches {', '.join(sorted(found))}")
        try:
            cells = [cell.cell_contents for cell in function.__closure__ or ()]
        except ValueError:
            raise _Unknown(f"{function.__qualname__} has an empty closure") from None
        parts = [
            _code(function.__code__),
            self.of(function.__defaults__),
            self.of(function.__kwdefaults__),
            *map(self.of, cells),
        ]
        for name in sorted(names & function.__globals__.keys()):
            value = function.__globals__[name]
            if isinstance(value, ModuleType) and not _steady(value.__name__):
                # Of a module of the user's, what the code may name.
                value = {n: vars(value)[n] for n in sorted(names & vars(value).keys())}
            parts.append(f"{name} = {self.of(value)}")
        unknown = names & vars(builtins).keys() - function.__globals__.keys() - HARMLESS
        if unknown:
            raise _Unknown(f"{function.__qualname__} calls {', '.join(sorted(unknown))}")
        return f"function {parts}"


def _code(code: CodeType) -> str:
    """What compiled code does, without where it stands."""
    constants = [_constant(c) for c in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    done = (code.co_code + code.co_exceptiontable).hex()
    return f"code {done} {constants} {names} {code.co_argcount} {code.co_flags}"


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _code(value)
    # The order of sets differs between processes.
    return f"set {sorted(map(repr, value))}" if isinstance(value, frozenset) else repr(value)


def _imported(code: CodeType) -> set[str]:
    """The modules that code imports when it runs."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname == "IMPORT_NAME"}
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return found.union(*map(_imported, inner))


def _names_in(code: CodeType) -> set[str]:
    """The names of globals and attributes in code, that of inner functions included."""
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _names_of(member: Any) -> set[str]:
    """The names in a member of a class, if it is code."""
    member = getattr(member, "fget", None) or getattr(member, "__func__", member)
    code = getattr(member, "__code__", None)
    return set() if code is None else _names_in(code)
