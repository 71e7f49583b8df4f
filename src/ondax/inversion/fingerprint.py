"""Digests of what an inversion is made of, equal in every process: by them, a saved state is
matched to its problem.

A digest covers all that an object holds or reaches, however deep: arrays, attributes, defaults,
closures, and the globals that a function reads. Of functions of installed packages, it covers
name, code, defaults and closures, but not the globals that they read; of classes of installed
packages, the name only.
"""

import builtins
import copyreg
import dis
import functools
import hashlib
import sys
import sysconfig
import types
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.core import Tracer

from ..backends.settings import Settings
from ..histories.named import EXACT
from ..propagator import ATTRIBUTES, Propagator

Part = tuple[str, Any]  # how a part is reached, in words, and the part

PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    np.generic,
    np.dtype,
    slice,
    range,
    type(None),
    type(...),
)
AT_ONCE = 1 << 24  # bytes of an array that are copied at a time
CACHES = (weakref.WeakKeyDictionary, weakref.WeakValueDictionary)
NAMELESS = (type(functools.lru_cache(len)),)  # wrappers that are known by what they wrap
# Built-in functions whose results depend on more than code and arguments show.
UNSEEN = frozenset({"eval", "exec", "globals", "__import__", "open", "input"})
# Entries of a class's dictionary that say nothing of what its objects do.
HOUSEKEEPING = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__doc__",
        "__module__",
        "__qualname__",
        "__slots__",
        "__match_args__",
        "__annotations__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__parameters__",
        "__abstractmethods__",
        "_abc_impl",
        "__orig_bases__",
        "__dataclass_params__",
        "__dataclass_fields__",
        "__firstlineno__",
        "__static_attributes__",
        "__classdictcell__",
    }
)
# Packages that count as installed, wherever they lie: in a checkout, for example.
OURS = frozenset(
    {
        "ondax",
        "jax",
        "jaxlib",
        "numpy",
        "optax",
        "equinox",
        "lineax",
        "devito",
        "sympy",
        "jaxtyping",
    }
)


@final
class UnknownContent(TypeError):
    """Raised where the contents of something cannot be read, so that nobody can tell whether it is
    the same as before."""


def fingerprint(thing: Any) -> str:
    """The hexadecimal digest of all that an object holds or reaches.

    A function counts by its name, its code, its defaults, what it closes over and the globals it
    reads. So another step length inside an optimiser, or another value of a script's variable,
    gives another digest. An object counts by its type and attributes, and by the code of its class,
    unless an installed package defines that. Results kept by `functools.cached_property` do not
    count.

    Raises:
        UnknownContent: a part can be neither read nor named, such as an open file; the message says
            where it is.
    """
    return _Walk().digest(thing, "it").hex()


@final
@dataclass(frozen=True)
class Problem:
    """The problem that a saved state belongs to.

    Attributes:
        fingerprints: the digest of each part of the problem, by name; empty for a part that is
            trusted and cannot be compared.
        trusted: names of the parts that are not compared: the user vouches that they are the same.
        histories: how they are kept, where that was chosen by the machine's memory.
    """

    fingerprints: dict[str, str]
    trusted: frozenset[str] = frozenset()
    histories: dict[str, Any] | None = None

    @staticmethod
    def of(
        parts: Mapping[str, Callable[[], str]], trust: Collection[str], path: Path | None
    ) -> "Problem":
        """The problem made of named parts.

        Args:
            parts: for each part, a function that computes its fingerprint.
            trust: names of parts that are not to be compared.
            path: of the state file; if None, no fingerprint is computed.

        Raises:
            ValueError: a part that is not trusted cannot be compared; or a trusted name is none of
                the parts.
        """
        trusted = frozenset((trust,) if isinstance(trust, str) else trust)
        for name in sorted(trusted - set(parts)):
            raise ValueError(f"trust={trust!r}: {name!r} is none of {', '.join(map(repr, parts))}")
        if path is None:
            return Problem({}, trusted)
        found = {}
        for name, compute in parts.items():
            try:
                found[name] = compute()
            except UnknownContent as error:
                if name not in trusted:
                    raise ValueError(
                        f"save={str(path)!r}: the {name} cannot be compared with what a state was "
                        f"saved with: {error}. Have it hold or read something else; or pass "
                        f"trust=({name!r},), if you vouch that it is the same whenever the state "
                        "is taken up"
                    ) from error
                found[name] = ""
        return Problem(found, trusted)

    def differing(self, saved: Mapping[str, str]) -> list[str]:
        """Names of the parts that differ from what was saved and are not trusted.

        Args:
            saved: the fingerprints in the state file.
        """
        names = []
        for name, now in self.fingerprints.items():
            if name not in self.trusted and saved.get(name) != now:
                names.append(name)
        return names


@final
class _Walk:
    """A walk over an object and all that it reaches, which visits each object once."""

    def __init__(self) -> None:
        # Digests by id; the objects are kept, so that no id is used again for another one.
        self._known: dict[int, tuple[Any, bytes]] = {}
        self._open: list[int] = []  # ids of the objects being walked, outermost first

    def digest(self, thing: Any, path: str) -> bytes:
        """The digest of an object.

        Args:
            thing: the object.
            path: how it is reached, in words, for the error message.

        Raises:
            UnknownContent: a part of it can be neither read nor named.
        """
        if isinstance(thing, PLAIN):
            return _hash(type(thing).__qualname__.encode(), repr(thing).encode())
        if id(thing) in self._known:
            return self._known[id(thing)][1]
        if id(thing) in self._open:
            # A cycle, such as a recursive function: it counts by how far up the object is open.
            up = len(self._open) - self._open.index(id(thing))
            return _hash(b"cycle", str(up).encode())
        self._open.append(id(thing))
        try:
            found = _hash(*self._contents(thing, path))
        except RecursionError:
            raise UnknownContent(f"{path} is nested too deeply") from None
        finally:
            self._open.pop()
        self._known[id(thing)] = (thing, found)
        return found

    def _contents(self, thing: Any, path: str) -> Iterator[bytes | np.ndarray]:
        """What the digest of an object is made of: its type, and digests of its parts."""
        yield type(thing).__qualname__.encode()
        if isinstance(thing, (np.ndarray, jax.Array)) and thing.dtype != object:
            yield from _of_array(thing, path)
        elif isinstance(thing, Mapping):
            yield from () if isinstance(thing, CACHES) else self._of_mapping(thing, path)
            if hasattr(thing, "__dict__"):
                yield from self._of_parts(_attributes(thing), path)
        elif isinstance(thing, (set, frozenset)):
            yield from sorted(self.digest(item, f"{path} > an item") for item in thing)
        else:
            yield from self._of_parts(_parts(thing, path), path)

    def _of_mapping(self, thing: Mapping, path: str) -> Iterator[bytes]:
        """The digests of keys and values, sorted, so that the order of entries does not count."""
        entries = (
            (self.digest(key, f"{path} > a key"), self.digest(value, f"{path}[{_short(key)}]"))
            for key, value in thing.items()
        )
        for key, value in sorted(entries):
            yield key
            yield value

    def _of_parts(self, parts: Iterator[Part], path: str) -> Iterator[bytes]:
        """The names and digests of parts."""
        for name, part in parts:
            yield name.encode()
            yield self.digest(part, f"{path} > {name}")


def _hash(*parts: bytes | np.ndarray) -> bytes:
    """A digest of several byte strings, which tells where each of them ends. An array counts as its
    bytes, of which no more than a few are copied at a time: those of a survey may be one wavelet,
    seen as that of each of ten thousand shots."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, bytes):
            digest.update(len(part).to_bytes(8, "little") + part)
            continue
        digest.update(part.nbytes.to_bytes(8, "little"))
        rows = part if part.ndim else part[None]
        step = max(1, AT_ONCE * len(rows) // max(1, part.nbytes))
        for first in range(0, len(rows), step):
            digest.update(rows[first : first + step].tobytes())
    return digest.digest()


def _short(key: Any) -> str:
    """A key of a mapping as a text of less than 41 characters."""
    text = repr(key)
    return text if len(text) < 40 else f"{text[:37]}..."


def _of_array(array: Any, path: str) -> Iterator[bytes | np.ndarray]:
    """Dtype, shape and values; of a key of JAX's random numbers, also its kind."""
    if isinstance(array, Tracer):
        raise UnknownContent(f"{path} is a traced value of JAX")
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        yield str(jax.random.key_impl(array)).encode()
        array = jax.random.key_data(array)
    values = np.asarray(array)
    yield from (str(values.dtype).encode(), repr(values.shape).encode(), values)


def _parts(thing: Any, path: str) -> Iterator[Part]:
    """The parts that an object consists of, by name.

    Raises:
        UnknownContent: its parts cannot be read.
    """
    match thing:
        case list() | tuple() | np.ndarray():
            for number, item in enumerate(thing):
                yield f"item {number}", item
            if hasattr(thing, "__dict__") and not isinstance(thing, np.ndarray):
                yield from _attributes(thing)
        case Propagator():  # whatever else it has is made of these
            for name in sorted(ATTRIBUTES):
                yield f"attribute {name}", getattr(thing, name)
        case lx.FunctionLinearOperator():  # its traced function has no parts to be compared
            yield "structure", thing.input_structure
            yield "tags", thing.tags
            yield "product", jax.tree.leaves(thing.mv(_random_vector(thing)))
        case Settings():  # threads and memory change nothing that is found
            yield "attribute store_every", thing.store_every or 1
            if thing.history not in EXACT:  # which of these changes nothing
                yield "attribute history", thing.history
        case types.FunctionType():
            yield from _of_function(thing, path)
        case types.CodeType():
            yield "code", thing.co_code
            yield "names", thing.co_names
            yield "constants", thing.co_consts
        case types.MethodType():
            yield "function", thing.__func__
            yield "object", thing.__self__
        case types.BuiltinFunctionType():
            yield "name", thing.__qualname__
            if not isinstance(thing.__self__, types.ModuleType):
                yield "object", thing.__self__
        case functools.partial():
            yield "function", thing.func
            yield "arguments", thing.args
            yield "keywords", thing.keywords
        case type():
            installed = _is_installed(thing.__module__)
            yield "name", (thing.__module__ if installed else "", thing.__qualname__)
            if not installed:
                for base in thing.__bases__:
                    yield "base", base
                yield from _items(thing.__dict__, "attribute", skip=HOUSEKEEPING)
        case types.ModuleType():
            yield "name", thing.__name__
        case property():
            for name in ("fget", "fset", "fdel"):
                yield name, getattr(thing, name)
        case staticmethod() | classmethod():
            yield "function", thing.__func__
        case weakref.ref():
            yield "object", thing()
        case functools.cached_property():
            yield "function", thing.func
        case jax.tree_util.PyTreeDef():
            node = thing.node_data()
            yield "node", None if node is None else (node[0], node[1])
            yield "children", thing.children()
        case types.GenericAlias() | types.UnionType():
            yield "name", repr(thing)
        case _:
            yield from _of_object(thing, path)


def _of_object(thing: Any, path: str) -> Iterator[Part]:
    """The parts of an object of any other type: its attributes, or what `pickle` would write.

    Raises:
        UnknownContent: its parts cannot be read.
    """
    kind = type(thing)
    # The type of `jax.jit(function)` has no public name.
    jitted = callable(thing) and kind.__name__ == "PjitFunction"
    if jitted or isinstance(thing, NAMELESS):
        yield "function", thing.__wrapped__
        return
    built_in = kind.__module__ in ("_thread", "builtins", "types")
    if built_in and hasattr(kind, "__get__"):  # descriptors, of slots for example
        yield "name", getattr(thing, "__qualname__", kind.__qualname__)
        return
    if kind.__module__ == "_thread":  # locks
        return
    yield "type", kind
    if not _is_installed(kind.__module__) or isinstance(thing, eqx.Module):
        yield from _attributes(thing)
        return
    reducer = copyreg.dispatch_table.get(kind)
    try:  # this fails for objects that hold more than attributes, such as open files
        reduced: Any = thing.__reduce_ex__(4) if reducer is None else reducer(thing)
    except Exception as error:
        raise UnknownContent(f"{path} is a {kind.__module__}.{kind.__qualname__}") from error
    if reducer is None and not _pickles_itself(kind):
        yield from _attributes(thing)
    elif isinstance(reduced, str):
        yield "name", reduced
    else:
        names = ("made by", "arguments", "state", "items", "entries")  # as `__reduce_ex__` has them
        for name, part in zip(names, reduced, strict=False):
            if part is not None and name in ("items", "entries"):  # iterators
                part = list(part)
            yield name, part


def _pickles_itself(kind: type) -> bool:
    """Whether a class defines how it is pickled."""
    names = ("__reduce__", "__reduce_ex__", "__getstate__")
    return any(getattr(kind, name, None) is not getattr(object, name, None) for name in names)


def _attributes(thing: Any) -> Iterator[Part]:
    """The attributes in an object's dictionary and slots, without results that cached properties
    keep there."""
    kind = type(thing)
    attributes = getattr(thing, "__dict__", {})
    cached = set()
    for name in attributes:
        if isinstance(getattr(kind, name, None), functools.cached_property):
            cached.add(name)
    yield from _items(attributes, "attribute", skip=cached)
    for name in _slots(kind):
        if hasattr(thing, name):
            yield f"attribute {name}", getattr(thing, name)


def _slots(kind: type) -> list[str]:
    """The names of the slots of a class and its bases, each once, without special ones."""
    found: list[str] = []
    for base in kind.__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if not name.startswith("__") and name not in found:
                found.append(name)
    return found


def _items(mapping: Mapping[str, Any], what: str, skip: Collection[str] = ()) -> Iterator[Part]:
    """The entries of a dictionary, in the order of their names; `what` precedes each name."""
    for name in sorted(map(str, mapping)):
        if name not in skip:
            yield f"{what} {name}", mapping[name]


# ---------------------------------------------------------------- functions


def _of_function(function: types.FunctionType, path: str) -> Iterator[Part]:
    """The parts of a function; if it is the user's, with the globals that it reads."""
    yield "name", function.__qualname__
    yield "code", function.__code__
    yield "defaults", function.__defaults__
    yield "defaults", function.__kwdefaults__
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"variable {name}", cell.cell_contents
        except ValueError:  # not filled yet
            yield f"variable {name}", None
    yield from _items(function.__dict__, "attribute")
    if not _is_installed(function.__module__):
        yield from _globals_read(function, path)


def _globals_read(function: types.FunctionType, path: str) -> Iterator[Part]:
    """The globals that a function reads. Where one is a module of the user's, also what the
    function may read from that.

    Raises:
        UnknownContent: the function calls a built-in function such as `open`, whose result cannot
            be known.
    """
    read, attributes, imported = _names(function.__code__)
    for name in sorted(read):
        if name in function.__globals__:
            value = function.__globals__[name]
            yield f"global {name}", value
            if isinstance(value, types.ModuleType):
                yield from _read_from(value, attributes)
        elif name in UNSEEN and hasattr(builtins, name):
            raise UnknownContent(f"{path} calls {name}(), and what that gives it is not to be seen")
    package = function.__globals__.get("__package__") or ""
    for name in sorted(imported):
        module = sys.modules.get(name) or sys.modules.get(f"{package}.{name}")
        if module is not None:
            yield f"module {name}", module
            yield from _read_from(module, attributes)


def _read_from(module: types.ModuleType, attributes: Collection[str]) -> Iterator[Part]:
    """Those of the named attributes that a module has, if the module is the user's."""
    if not _is_installed(module.__name__):
        for name in sorted(attributes):
            if name in vars(module):
                yield f"{module.__name__}.{name}", vars(module)[name]


def _names(code: types.CodeType) -> tuple[set[str], set[str], set[str]]:
    """The names of the globals that code reads, of the attributes that it reads from any object,
    and of the modules that it imports; those of nested functions included."""
    read, attributes, imported = set(), set(), set()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            read.add(str(step.argval))
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"):
            attributes.add(str(step.argval))
        elif step.opname == "IMPORT_NAME":
            imported.add(str(step.argval))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            for known, more in zip((read, attributes, imported), _names(constant), strict=True):
                known |= more
    return read, attributes, imported


@functools.cache
def _is_installed(module: str | None) -> bool:
    """Whether a module is part of Python, of an installed package, or of those in `OURS`."""
    if module is None or module == "__main__":
        return False
    top = module.partition(".")[0]
    if top in OURS or top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:  # built in, or made up: in a notebook, say
        return top in sys.builtin_module_names
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    return (
        any(file.startswith(folder) for folder in folders)
        or "site-packages" in file
        or "dist-packages" in file
    )


def operator_fingerprint(linear: lx.AbstractLinearOperator | None) -> str:
    """The digest of what a linear operator makes of one random vector: it tells operators apart,
    whatever they are made of."""
    if linear is None:
        return fingerprint(None)
    return fingerprint(jax.tree.leaves(linear.mv(_random_vector(linear))))


def _random_vector(linear: lx.AbstractLinearOperator) -> Any:
    """A vector that the operator takes, always the same."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda s: jnp.asarray(random.normal(size=s.shape), s.dtype), linear.in_structure()
    )
