"""A digest of whatever describes an inversion, equal in every process, so that a saved state can be matched
to its problem."""

import dataclasses
import functools
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np


def fingerprint(thing: Any) -> str:
    """Hexadecimal digest of an object's contents: numbers, text, arrays, containers, dataclasses and Modules,
    and functions.

    A function counts by its name, its code and what it closes over, so another step length inside an
    optimiser, or another body of a lambda, gives another digest. What is none of these counts by its type
    only.
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, thing, frozenset())
    return digest.hexdigest()


def _feed(digest: Any, thing: Any, parents: frozenset[int]) -> None:
    digest.update(type(thing).__qualname__.encode())
    if id(thing) in parents:  # a cycle, e.g. a recursive function
        return
    parents = parents | {id(thing)}
    for part in _parts(thing):
        if isinstance(part, bytes):
            digest.update(len(part).to_bytes(8, "little") + part)
        else:
            _feed(digest, part, parents)


def _parts(thing: Any) -> list[Any]:
    """What an object consists of: bytes, or further objects."""
    if thing is None or isinstance(thing, (bool, int, float, complex, str, bytes, np.generic, np.dtype)):
        return [repr(thing).encode()]
    if isinstance(thing, (np.ndarray, jax.Array)):
        if jnp.issubdtype(thing.dtype, jax.dtypes.prng_key):
            thing = jax.random.key_data(thing)
        array = np.asarray(thing)
        return [str(array.dtype).encode(), repr(array.shape).encode(), array.tobytes()]
    if isinstance(thing, Mapping):
        return [part for key in sorted(thing, key=repr) for part in (key, thing[key])]
    if isinstance(thing, (set, frozenset)):
        return sorted(thing, key=repr)
    if isinstance(thing, (list, tuple)):
        return list(thing)
    if isinstance(thing, type):
        return [thing.__qualname__.encode()]
    if dataclasses.is_dataclass(thing):
        return [part for field in dataclasses.fields(thing) for part in (field.name, getattr(thing, field.name, None))]
    if isinstance(thing, functools.partial):
        return [thing.func, thing.args, thing.keywords]
    if isinstance(thing, types.MethodType):
        return [thing.__func__, thing.__self__]
    if isinstance(thing, types.FunctionType):
        return [thing.__qualname__, thing.__code__, thing.__defaults__, thing.__kwdefaults__, _closure(thing)]
    if isinstance(thing, types.CodeType):
        return [thing.co_code, thing.co_names, thing.co_consts]
    if hasattr(thing, "__wrapped__"):  # a jitted function
        return [thing.__wrapped__]
    return []


def _closure(function: types.FunctionType) -> list[Any]:
    def contents(cell):
        try:
            return cell.cell_contents
        except ValueError:  # not filled yet
            return None

    return [contents(cell) for cell in function.__closure__ or ()]


def operator_fingerprint(operator: lx.AbstractLinearOperator | None) -> str:
    """Digest of what a linear operator does to one random vector, which tells it from others whatever it is made of."""
    if operator is None:
        return fingerprint(None)
    random = np.random.default_rng(0)
    vector = jax.tree.map(
        lambda s: jnp.asarray(random.normal(size=s.shape), s.dtype),
        operator.in_structure(),
    )
    return fingerprint(jax.tree.leaves(operator.mv(vector)))
