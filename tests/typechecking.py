"""The run-time type checker of the tests: beartype, for functions that are defined once."""

from collections.abc import Callable
from typing import TypeVar

from beartype import beartype

T = TypeVar("T", bound=Callable[..., object])


def checked(function: T) -> T:
    """Check the arguments and results of a function or class, unless it is defined inside a
    function.

    Such a function is made anew at every call of the outer one, in whichever thread that is. For
    each, beartype writes a checker within `warnings.catch_warnings`, which belongs to the whole
    process: two threads that do so at once can leave its record in place, and then a warning of
    ours that a test waits for never arrives.
    """
    return function if "<locals>" in function.__qualname__ else beartype(function)
